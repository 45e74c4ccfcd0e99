/* model.c: the parameter table of a network specification, presets, initialisation, model files.
 *
 * Owns tbg_model. A model file is a safetensors file: tensors under their published names (float32), the
 * specification and provenance as metadata. Refuses specifications out of range, files whose table differs in
 * a name or shape, and values that are not finite. */
#include "base/memory.h"
#include "network/kernels.h"
#include "tbg/status.h"
#include "tbg/random.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_FORMAT "tbg-model-1"
#define MODEL_FORMAT_SMOOTH "tbg-model-3" /* what earlier readers would take for a flow of the positions */
#define MODEL_FORMAT_SITES "tbg-model-2"  /* with virtual sites, which older builds do not know */

/* ---- specification ---- */

int tbg_network_preset(const char *name, tbg_network_spec *spec) {
    static const struct {
        const char *name;
        tbg_feature_set features;
        int n_features, hidden, layers;
        double scale;
    } published[] = {
        {"bg-backbone", TBG_FEATURES_AD_BACKBONE, 9, 64, 5, 10},
        {"ad-full", TBG_FEATURES_AD_FULL, 21, 64, 5, 10},
        {"tbg", TBG_FEATURES_ELEMENT, 5, 128, 9, 30},
        {"tbg-backbone", TBG_FEATURES_BACKBONE, 13, 128, 9, 30},
        {"tbg-full", TBG_FEATURES_FULL, 76, 128, 9, 30},
        {"improved-ad", TBG_FEATURES_AD_FULL, 21, 64, 5, 0},
    };
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (!strcmp(name, published[i].name)) {
            *spec = (tbg_network_spec){.hidden = published[i].hidden,
                                       .layers = published[i].layers,
                                       .features = published[i].features,
                                       .n_features = published[i].n_features,
                                       .edge_features = TBG_EDGE_D0,
                                       .tanh = 1,
                                       .attention = 1,
                                       .coords_range = 15,
                                       .scale = published[i].scale};
            if (!strcmp(name, "improved-ad")) {
                spec->edge_features = TBG_EDGE_D0 | TBG_EDGE_BONDED | TBG_EDGE_RATE;
                spec->harmonic_term = 1;
                spec->time_u = 1;
                spec->graded_d = 0.02;
            }
            return TBG_OK;
        }
    return tbg_fail(TBG_INPUT,
                    "unknown network '%s'; known: bg-backbone, ad-full, tbg, tbg-backbone, tbg-full, "
                    "improved-ad",
                    name);
}

int tbg_network_spec_check(const tbg_network_spec *spec) {
    if (spec->hidden < 1 || spec->hidden > 4096)
        return tbg_fail(TBG_INPUT, "network: hidden is %d; it must be 1 to 4096", spec->hidden);
    if (spec->layers < 1 || spec->layers > 64)
        return tbg_fail(TBG_INPUT, "network: layers is %d; it must be 1 to 64", spec->layers);
    if (spec->n_features < 1 || spec->n_features > 4096)
        return tbg_fail(TBG_INPUT, "network: n_features is %d; it must be 1 to 4096", spec->n_features);
    if ((int)spec->features < TBG_FEATURES_RAW || spec->features > TBG_FEATURES_AD_FULL)
        return tbg_fail(TBG_INPUT, "network: unknown feature set %d", (int)spec->features);
    int width = tbg_feature_set_width(spec->features);
    if (width && width != spec->n_features)
        return tbg_fail(TBG_INPUT, "network: feature set '%s' has %d features, not %d",
                        tbg_feature_set_name(spec->features), width, spec->n_features);
    if (spec->edge_features &
        ~(TBG_EDGE_D0 | TBG_EDGE_BONDED | TBG_EDGE_RATE | TBG_EDGE_RADIAL | TBG_EDGE_SHELL))
        return tbg_fail(TBG_INPUT, "network: unknown edge feature bits %d", spec->edge_features);
    if ((spec->time_u | spec->harmonic_term | spec->virtual_sites | spec->tanh | spec->attention) & ~1)
        return tbg_fail(TBG_INPUT,
                        "network: time_u, harmonic_term, virtual_sites, tanh and attention must be 0 or 1");
    if (!(spec->coords_range > 0 && spec->coords_range <= 1e6))
        return tbg_fail(TBG_INPUT, "network: coords_range is %g; it must be positive", spec->coords_range);
    if (!(spec->scale >= 0 && spec->scale <= 1e6)) /* 0: not set yet */
        return tbg_fail(TBG_INPUT, "network: scale is %g; it must be positive (1/nm)", spec->scale);
    if (!(spec->graded_d >= 0 && spec->graded_d <= 1))
        return tbg_fail(TBG_INPUT, "network: graded_d is %g; it must be 0 to 1", spec->graded_d);
    if (!(spec->smoothing >= 0 && spec->smoothing <= 1))
        return tbg_fail(TBG_INPUT, "network: smoothing is %g nm; it must be 0 to 1", spec->smoothing);
    return TBG_OK;
}

/* ---- the table ---- */

int tbg_network_time_features(const tbg_network_spec *spec) {
    return spec->time_u ? 2 : 1;
}

typedef struct {
    tbg_parameter *out; /* NULL: only count */
    int n;
    size_t offset;
} table;

static void add(table *t, int layer, const char *name, int rows, int columns, int rank) {
    if (t->out) {
        tbg_parameter *p = &t->out[t->n];
        if (layer < 0)
            snprintf(p->name, sizeof p->name, "egnn.%s", name);
        else
            snprintf(p->name, sizeof p->name, "egnn.gcl_%d.%s", layer, name);
        p->rows = rows;
        p->columns = columns;
        p->rank = rank;
        p->offset = t->offset;
    }
    t->n++;
    t->offset += (size_t)rows * (size_t)columns;
}

static void fill(table *t, const tbg_network_spec *spec) {
    int h = spec->hidden, f = spec->n_features + tbg_network_time_features(spec);
    add(t, -1, "embedding.weight", h, f, 2);
    add(t, -1, "embedding.bias", h, 1, 1);
    for (int l = 0; l < spec->layers; l++) {
        add(t, l, "edge_mlp.0.weight", h, 2 * h + 1 + tbg_edge_feature_count(spec), 2);
        add(t, l, "edge_mlp.0.bias", h, 1, 1);
        add(t, l, "edge_mlp.2.weight", h, h, 2);
        add(t, l, "edge_mlp.2.bias", h, 1, 1);
        if (spec->attention) {
            add(t, l, "att_mlp.0.weight", 1, h, 2);
            add(t, l, "att_mlp.0.bias", 1, 1, 1);
        }
        add(t, l, "coord_mlp.0.weight", h, h, 2);
        add(t, l, "coord_mlp.0.bias", h, 1, 1);
        add(t, l, "coord_mlp.2.weight", 1, h, 2);
        if (spec->harmonic_term) {
            add(t, l, "harmonic_gate.weight", 1, h, 2);
            add(t, l, "harmonic_gate.bias", 1, 1, 1);
        }
        add(t, l, "node_mlp.0.weight", h, 2 * h, 2);
        add(t, l, "node_mlp.0.bias", h, 1, 1);
        add(t, l, "node_mlp.2.weight", h, h, 2);
        add(t, l, "node_mlp.2.bias", h, 1, 1);
    }
    /* v does not use the output embedding; it is kept so that published weights load and counts match. */
    add(t, -1, "embedding_out.weight", f, h, 2);
    add(t, -1, "embedding_out.bias", f, 1, 1);
}

static int create_table(const tbg_network_spec *spec, tbg_model **out) {
    TBG_TRY(tbg_network_spec_check(spec));
    table count = {0};
    fill(&count, spec);
    tbg_model *m = TBG_NEW(tbg_model, 1);
    if (!m)
        return TBG_FAILED;
    m->spec = *spec;
    m->n_tensors = count.n;
    m->n_parameters = count.offset;
    m->tensors = TBG_NEW(tbg_parameter, count.n);
    m->values = TBG_NEW(float, count.offset);
    if (!m->tensors || !m->values) {
        tbg_model_free(m);
        return TBG_FAILED;
    }
    fill(&(table){.out = m->tensors}, spec);
    *out = m;
    return TBG_OK;
}

static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

int tbg_model_create(const tbg_network_spec *spec, uint64_t seed, tbg_model **out) {
    tbg_model *m;
    TBG_TRY(create_table(spec, &m));
    double *u = NULL;
    size_t room = 0;
    int columns = 1;
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        size_t n = (size_t)p->rows * (size_t)p->columns;
        if (p->rank == 2)
            columns = p->columns; /* a bias has the fan-in of the weight before it */
        double bound = 1 / sqrt(columns);
        if (ends_with(p->name, "coord_mlp.2.weight"))
            bound = 0.001 * sqrt(6.0 / (p->columns + p->rows)); /* Xavier, gain 0.001: v starts near 0 */
        if (strstr(p->name, ".harmonic_gate."))
            continue; /* starts at 0 */
        if (n > room) {
            double *more = tbg_realloc(u, n, sizeof *u);
            if (!more) {
                free(u);
                tbg_model_free(m);
                return TBG_FAILED;
            }
            u = more;
            room = n;
        }
        tbg_random_uniform(seed, TBG_STREAM(TBG_STREAM_WEIGHTS, k), 0, n, u);
        for (size_t i = 0; i < n; i++)
            m->values[p->offset + i] = (float)(bound * (2 * u[i] - 1));
    }
    free(u);
    *out = m;
    return TBG_OK;
}

void tbg_model_free(tbg_model *model) {
    if (!model)
        return;
    free(model->tensors);
    free(model->values);
    free(model->forcefield);
    free(model->training_json);
    free(model->molecules);
    free(model);
}

static int copy_text(const char *from, char **to) {
    *to = from ? tbg_strdup(from) : NULL;
    return from && !*to ? TBG_FAILED : TBG_OK;
}

int tbg_model_copy_story(const tbg_model *from, tbg_model *to) {
    to->temperature = from->temperature;
    TBG_TRY(copy_text(from->forcefield, &to->forcefield));
    TBG_TRY(copy_text(from->training_json, &to->training_json));
    return copy_text(from->molecules, &to->molecules);
}

int tbg_model_clone(const tbg_model *model, tbg_model **out) {
    tbg_model *m;
    TBG_TRY(create_table(&model->spec, &m));
    memcpy(m->values, model->values, m->n_parameters * sizeof *m->values);
    int status = tbg_model_copy_story(model, m);
    if (status) {
        tbg_model_free(m);
        return status;
    }
    *out = m;
    return TBG_OK;
}

const tbg_parameter *tbg_model_tensor(const tbg_model *model, const char *name) {
    for (int k = 0; k < model->n_tensors; k++)
        if (!strcmp(model->tensors[k].name, name))
            return &model->tensors[k];
    return NULL;
}

/* ---- files ---- */

int tbg_model_write(const tbg_model *model, const char *path) {
    const tbg_network_spec *s = &model->spec;
    char number[12][40];
    const char *keys[20], *values[20];
    int n = 0, k = 0;
#define PUT(key, format, value)                                                                              \
    do {                                                                                                     \
        snprintf(number[k], sizeof number[k], format, value);                                                \
        keys[n] = key;                                                                                       \
        values[n++] = number[k++];                                                                           \
    } while (0)
    PUT("hidden", "%d", s->hidden);
    PUT("layers", "%d", s->layers);
    PUT("n_features", "%d", s->n_features);
    PUT("edge_features", "%d", s->edge_features);
    PUT("coords_range", "%.17g", s->coords_range);
    PUT("scale", "%.17g", s->scale);
    PUT("graded_d", "%.17g", s->graded_d);
    PUT("temperature", "%.17g", model->temperature);
    if (s->smoothing > 0)
        PUT("smoothing", "%.17g", s->smoothing);
#undef PUT
#define SAY(key, text)                                                                                       \
    do {                                                                                                     \
        keys[n] = key;                                                                                       \
        values[n++] = text;                                                                                  \
    } while (0)
    SAY("format", s->smoothing > 0   ? MODEL_FORMAT_SMOOTH
                  : s->virtual_sites ? MODEL_FORMAT_SITES
                                     : MODEL_FORMAT);
    if (s->smoothing > 0)
        SAY("virtual_sites", s->virtual_sites ? "1" : "0");
    SAY("features", tbg_feature_set_name(s->features));
    SAY("time_u", s->time_u ? "1" : "0");
    SAY("harmonic_term", s->harmonic_term ? "1" : "0");
    SAY("tanh", s->tanh ? "1" : "0");
    SAY("attention", s->attention ? "1" : "0");
    if (model->forcefield)
        SAY("forcefield", model->forcefield);
    if (model->training_json)
        SAY("training", model->training_json);
    if (model->molecules)
        SAY("molecules", model->molecules);
#undef SAY
    tbg_tensor *tensors = TBG_NEW(tbg_tensor, model->n_tensors);
    if (!tensors)
        return TBG_FAILED;
    for (int i = 0; i < model->n_tensors; i++) {
        tbg_parameter *p = &model->tensors[i];
        tensors[i] = (tbg_tensor){.name = p->name,
                                  .dtype = TBG_F32,
                                  .rank = p->rank,
                                  .shape = {p->rows, p->columns},
                                  .n = (size_t)p->rows * (size_t)p->columns,
                                  .data = model->values + p->offset};
    }
    int status = tbg_tensors_write(path, model->n_tensors, tensors, n, keys, values);
    free(tensors);
    return status;
}

static int need(const tbg_tensors *file, const char *key, const char **text) {
    *text = tbg_tensors_metadata(file, key);
    return *text ? TBG_OK
                 : tbg_fail(TBG_INPUT, "%s: metadata '%s' is missing; not a model of tbg", file->path, key);
}

static int need_number(const tbg_tensors *file, const char *key, double *value) {
    const char *text;
    TBG_TRY(need(file, key, &text));
    char *end;
    *value = strtod(text, &end);
    if (!*text || *end || !isfinite(*value))
        return tbg_fail(TBG_INPUT, "%s: metadata '%s' is '%s', not a number", file->path, key, text);
    return TBG_OK;
}

static int need_integer(const tbg_tensors *file, const char *key, int *value) {
    double x;
    TBG_TRY(need_number(file, key, &x));
    if (x != floor(x) || fabs(x) > 1e9)
        return tbg_fail(TBG_INPUT, "%s: metadata '%s' is not a whole number", file->path, key);
    *value = (int)x;
    return TBG_OK;
}

static int read_spec(const tbg_tensors *file, tbg_network_spec *s, double *temperature) {
    const char *text;
    TBG_TRY(need(file, "format", &text));
    int sites = !strcmp(text, MODEL_FORMAT_SITES), smooth = !strcmp(text, MODEL_FORMAT_SMOOTH);
    if (!sites && !smooth && strcmp(text, MODEL_FORMAT))
        return tbg_fail(TBG_INPUT,
                        "%s: format is '%s'; this build reads " MODEL_FORMAT ", " MODEL_FORMAT_SITES
                        " and " MODEL_FORMAT_SMOOTH,
                        file->path, text);
    *s = (tbg_network_spec){.virtual_sites = sites};
    if (smooth) {
        TBG_TRY(need_integer(file, "virtual_sites", &s->virtual_sites));
        TBG_TRY(need_number(file, "smoothing", &s->smoothing));
    }
    TBG_TRY(need_integer(file, "hidden", &s->hidden));
    TBG_TRY(need_integer(file, "layers", &s->layers));
    TBG_TRY(need_integer(file, "n_features", &s->n_features));
    TBG_TRY(need_integer(file, "edge_features", &s->edge_features));
    TBG_TRY(need_integer(file, "time_u", &s->time_u));
    TBG_TRY(need_integer(file, "harmonic_term", &s->harmonic_term));
    TBG_TRY(need_integer(file, "tanh", &s->tanh));
    TBG_TRY(need_integer(file, "attention", &s->attention));
    TBG_TRY(need_number(file, "coords_range", &s->coords_range));
    TBG_TRY(need_number(file, "scale", &s->scale));
    TBG_TRY(need_number(file, "graded_d", &s->graded_d));
    TBG_TRY(need_number(file, "temperature", temperature));
    if (!(*temperature >= 0 && *temperature < 1e5))
        return tbg_fail(TBG_INPUT, "%s: temperature %g K is out of range", file->path, *temperature);
    TBG_TRY(need(file, "features", &text));
    if (tbg_feature_set_parse(text, &s->features) || tbg_network_spec_check(s))
        return tbg_fail_in(TBG_INPUT, "%s", file->path);
    return TBG_OK;
}

/* Copy the tensors named prefix + table name into the model. Every tensor of the table must be there. */
int tbg_model_take_tensors(tbg_model *m, const tbg_tensors *file, const char *prefix) {
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        char name[128];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        double *values;
        const int64_t shape[2] = {p->rows, p->columns};
        TBG_TRY(tbg_tensors_doubles(file, name, p->rank, shape, &values));
        size_t n = (size_t)p->rows * (size_t)p->columns, i = 0;
        for (; i < n && fabs(values[i]) < 1e30; i++)
            m->values[p->offset + i] = (float)values[i];
        free(values);
        if (i < n)
            return tbg_fail(TBG_INPUT, "%s: tensor '%s': element %zu is not a usable number", file->path,
                            name, i);
    }
    return TBG_OK;
}

int tbg_model_read(const char *path, tbg_model **out) {
    tbg_tensors *file;
    TBG_TRY(tbg_tensors_read(path, &file));
    tbg_network_spec spec;
    double temperature;
    tbg_model *m = NULL;
    int status = read_spec(file, &spec, &temperature);
    /* A few bytes of metadata can ask for a huge table: the file must hold what the table needs. */
    if (!status) {
        table count = {0};
        fill(&count, &spec);
        size_t held = 0;
        for (int i = 0; i < file->n; i++)
            held += file->tensors[i].n;
        if (count.n != file->n || count.offset != held)
            status = tbg_fail(TBG_INPUT,
                              "%s: holds %d tensors with %zu numbers; its specification needs %d with %zu",
                              path, file->n, held, count.n, count.offset);
    }
    if (!status)
        status = create_table(&spec, &m);
    if (!status)
        status = tbg_model_take_tensors(m, file, "");
    if (!status) {
        m->temperature = temperature;
        status = copy_text(tbg_tensors_metadata(file, "forcefield"), &m->forcefield);
    }
    if (!status)
        status = copy_text(tbg_tensors_metadata(file, "training"), &m->training_json);
    if (!status)
        status = copy_text(tbg_tensors_metadata(file, "molecules"), &m->molecules);
    tbg_tensors_free(file);
    if (status) {
        tbg_model_free(m);
        return status;
    }
    *out = m;
    return TBG_OK;
}
