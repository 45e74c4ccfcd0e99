/* cmd_info.c: tbg info: what this build and machine can do; what a model, checkpoint or trajectory holds.
 * Collects one JSON object and prints it as such or as indented text. */
#include "app.h"
#include "base/simd.h"
#include "tbg/file.h"
#include "tbg/network.h"
#include "tbg/status.h"
#include "tbg/system.h"
#include "tbg/training.h"

#include <jansson.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef TBG_HAVE_OPENMM
#define WITH_OPENMM 1
#else
#define WITH_OPENMM 0
#endif
#ifdef TBG_HAVE_XTB
#define WITH_XTB 1
#else
#define WITH_XTB 0
#endif
#ifdef TBG_HAVE_CUDA
#define WITH_CUDA 1
#else
#define WITH_CUDA 0
#endif
#ifdef TBG_HAVE_OPENBLAS
#define WITH_OPENBLAS 1
#else
#define WITH_OPENBLAS 0
#endif

static json_t *describe_build(void) {
    json_t *sets = json_array(), *forcefields = json_array();
    json_array_append_new(sets, json_string("base"));
#ifdef TBG_HAVE_SIMD_AVX2
    json_array_append_new(sets, json_string("avx2"));
#endif
#ifdef TBG_HAVE_SIMD_AVX512
    json_array_append_new(sets, json_string("avx512"));
#endif
    for (const char *const *name = tbg_forcefield_names(); *name; name++)
        json_array_append_new(forcefields, json_string(*name));
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE);
    return json_pack("{s:s, s:s, s:{s:b, s:b, s:b, s:b}, s:o, s:s, s:i, s:i, s:f, s:o}", "version",
                     TBG_VERSION, "compiler", __VERSION__, "with", "openmm", WITH_OPENMM, "xtb", WITH_XTB,
                     "cuda", WITH_CUDA, "openblas", WITH_OPENBLAS, "simd_built", sets, "simd_used",
                     tbg_simd_name(tbg_simd_level()), "cores", (int)sysconf(_SC_NPROCESSORS_ONLN), "threads",
                     omp_get_max_threads(), "memory_gib", round(memory / (1 << 30) * 10) / 10, "forcefields",
                     forcefields);
}

static json_t *edge_names(int bits) {
    json_t *list = json_array();
    for (int i = 0; tbg_edge_word(i); i++)
        if (bits >> i & 1)
            json_array_append_new(list, json_string(tbg_edge_word(i)));
    return list;
}

static json_t *describe_model(const tbg_model *m) {
    const tbg_network_spec *s = &m->spec;
    json_t *network = json_pack(
        "{s:i, s:i, s:s, s:i, s:o, s:b, s:b, s:b, s:b, s:f, s:f, s:f, s:f, s:b}", "hidden", s->hidden,
        "layers", s->layers, "features", tbg_feature_set_name(s->features), "n_features", s->n_features,
        "edge_features", edge_names(s->edge_features), "harmonic_term", s->harmonic_term, "time_u", s->time_u,
        "tanh", s->tanh, "attention", s->attention, "coords_range", s->coords_range, "scale_per_nm", s->scale,
        "graded_d", s->graded_d, "smoothing_nm", s->smoothing, "virtual_sites", s->virtual_sites);
    char *scope_text = NULL;
    json_t *scope = tbg_scope_json(m, &scope_text) == TBG_OK ? json_loads(scope_text, 0, NULL) : NULL;
    free(scope_text);
    json_t *training = m->training_json ? json_loads(m->training_json, 0, NULL) : NULL;
    return json_pack("{s:s, s:I, s:o, s:s?, s:f, s:s?, s:o, s:o}", "kind", "model", "parameters",
                     (json_int_t)m->n_parameters, "network", network, "forcefield", m->forcefield,
                     "temperature", m->temperature, "molecules", m->molecules, "training",
                     training ? training : json_null(), "trained_for", scope ? scope : json_null());
}

/* Any other safetensors file: tensors and metadata; JSON inside the metadata is shown as JSON. */
static json_t *describe_tensors(const tbg_tensors *file) {
    static const char *const types[] = {"f64", "f32", "i64", "i32", "u8", "bf16", "f16"};
    json_t *tensors = json_object(), *metadata = json_object();
    for (int i = 0; i < file->n; i++) {
        const tbg_tensor *t = &file->tensors[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->rank; d++)
            json_array_append_new(shape, json_integer(t->shape[d]));
        json_object_set_new(tensors, t->name,
                            json_pack("{s:s, s:o}", "type", types[t->dtype], "shape", shape));
    }
    for (int i = 0; i < file->n_metadata; i++) {
        json_t *inner = json_loads(file->values[i], 0, NULL);
        json_object_set_new(metadata, file->keys[i], inner ? inner : json_string(file->values[i]));
    }
    const char *format = tbg_tensors_metadata(file, "format");
    return json_pack("{s:s, s:o, s:o}", "kind",
                     format && !strncmp(format, "tbg-checkpoint", 14) ? "checkpoint" : "tensors", "tensors",
                     tensors, "metadata", metadata);
}

static int describe_safetensors(const char *path, json_t **out) {
    tbg_model *model = NULL;
    tbg_tensors *file = NULL;
    TBG_TRY(tbg_tensors_read(path, &file));
    int checkpoint = tbg_tensors_find(file, "adam.m") != NULL;
    int is_model = !checkpoint && tbg_tensors_find(file, "egnn.embedding.weight") != NULL;
    int status = TBG_OK;
    if (is_model && (status = tbg_model_read(path, &model)) == TBG_OK)
        *out = describe_model(model);
    else if (!is_model)
        *out = describe_tensors(file);
    tbg_model_free(model);
    tbg_tensors_free(file);
    return status;
}

static int describe_trajectory(const char *path, json_t **out) {
    tbg_trajectory *t = NULL;
    TBG_TRY(tbg_trajectory_read(path, 0, 1, 0, &t));
    json_t *extra = json_array();
    for (int i = 0; i < t->n_extra; i++)
        json_array_append_new(extra, json_string(t->extra_names[i]));
    json_t *metadata = t->metadata_json ? json_loads(t->metadata_json, 0, NULL) : NULL,
           *sequence = json_null();
    tbg_molecule *m = NULL;
    char text[256];
    if (t->topology_pdb &&
        tbg_molecule_parse_pdb(t->topology_pdb, strlen(t->topology_pdb), path, &m) == TBG_OK) {
        tbg_molecule_sequence(m, text, sizeof text);
        sequence = json_string(text);
    }
    tbg_molecule_free(m);
    *out = json_pack("{s:s, s:s?, s:o, s:i, s:I, s:s?, s:f, s:o, s:o}", "kind", "trajectory", "title",
                     t->title, "molecule", sequence, "atoms", t->n_atoms, "frames", (json_int_t)t->n_frames,
                     "forcefield", t->forcefield, "temperature", t->temperature, "extra_variables", extra,
                     "metadata", metadata ? metadata : json_null());
    if (*out && t->time && t->n_frames) {
        json_object_set_new(*out, "first_time_ps", json_real(t->time[0]));
        json_object_set_new(*out, "last_time_ps", json_real(t->time[t->n_frames - 1]));
    }
    tbg_trajectory_free(t);
    return TBG_OK;
}

static void print_text(const json_t *o, int depth) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)o, key, value) {
        if (json_is_object(value)) {
            printf("%*s%s\n", 2 * depth, "", key);
            print_text(value, depth + 1);
            continue;
        }
        char *text =
            json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
        const char *shown = text ? text : json_is_string(value) ? json_string_value(value) : "?";
        int length = (int)strlen(shown), cut = length > 160; /* long lists and texts: --json has them whole */
        if (json_is_null(value))
            shown = "-", length = 1;
        const char *end = memchr(shown, '\n', (size_t)length);
        if (end && end - shown < length)
            length = (int)(end - shown), cut = 1;
        printf("%*s%-*s %.*s%s\n", 2 * depth, "", 24 - 2 * depth > 1 ? 24 - 2 * depth : 1, key,
               cut && length > 160 ? 160 : length, shown, cut ? " ..." : "");
        free(text);
    }
}

int cmd_info(int argc, char **argv) {
    const char *path = NULL;
    int json = 0;
    app_option options[] = {{"json", 0, APP_FLAG, &json, NULL, "print one JSON object"}, {0}};
    int n = app_parse(
        "info",
        "Without an argument: version, what was built in, and the machine. With a model, checkpoint, vector "
        "file (.safetensors) or trajectory (.nc): what it holds.",
        options, argc, argv, &path, 0, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    json_t *o = NULL;
    int status = TBG_OK;
    size_t length = path ? strlen(path) : 0;
    if (!path)
        o = describe_build();
    else if (length > 3 && !strcmp(path + length - 3, ".nc"))
        status = describe_trajectory(path, &o);
    else
        status = describe_safetensors(path, &o);
    if (status == TBG_OK && !o)
        status = tbg_fail(TBG_FAILED, "%s: holds text that is not UTF-8", path ? path : "build");
    if (status != TBG_OK)
        return app_fail("info", status);
    if (json) {
        char *text = json_dumps(o, JSON_INDENT(2));
        puts(text ? text : "{}");
        free(text);
    } else
        print_text(o, 0);
    json_decref(o);
    return 0;
}
