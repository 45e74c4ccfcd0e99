/* vector_file.c: reads network vector files. Refuses files whose metadata, shapes or values cannot be used.
 */
#include "network/vector_file.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int metadata_integer(const tbg_tensors *f, const char *key, long least, long most, int *value) {
    const char *text = tbg_tensors_metadata(f, key);
    char *end;
    long number = text ? strtol(text, &end, 10) : 0;
    if (!text || end == text || *end || number < least || number > most)
        return tbg_fail(TBG_INPUT, "%s: metadata '%s' is %s; a whole number from %ld to %ld is needed",
                        f->path, key, text ? text : "missing", least, most);
    *value = (int)number;
    return TBG_OK;
}

static int metadata_truth(const tbg_tensors *f, const char *key, int *value) {
    const char *text = tbg_tensors_metadata(f, key);
    *value = text && !strcmp(text, "True");
    return text && (*value || !strcmp(text, "False"))
               ? TBG_OK
               : tbg_fail(TBG_INPUT, "%s: metadata '%s' must be True or False", f->path, key);
}

/* As tbg_tensors_doubles, but all values must be finite. */
static int read_finite(const tbg_tensors *f, const char *name, int rank, int64_t a, int64_t b, int64_t c,
                       double **out) {
    const int64_t shape[3] = {a, b, c};
    TBG_TRY(tbg_tensors_doubles(f, name, rank, shape, out));
    const tbg_tensor *t = tbg_tensors_find(f, name);
    for (size_t i = 0; i < t->n; i++)
        if (!isfinite((*out)[i]))
            return tbg_fail(TBG_INPUT, "%s: tensor '%s': element %zu is not finite", f->path, name, i);
    return TBG_OK;
}

static int read_scalar(const tbg_tensors *f, const char *name, double *value) {
    double *one = NULL;
    int status = read_finite(f, name, 1, 1, 0, 0, &one);
    if (!status)
        *value = one[0];
    free(one);
    return status;
}

static int read_model(tbg_vector_file *v) {
    const tbg_tensors *f = v->file;
    tbg_network_spec spec = {.features = TBG_FEATURES_RAW, .edge_features = TBG_EDGE_D0, .scale = 1};
    int range;
    TBG_TRY(metadata_integer(f, "hidden", 1, 4096, &spec.hidden));
    TBG_TRY(metadata_integer(f, "layers", 1, 64, &spec.layers));
    TBG_TRY(metadata_integer(f, "features", 1, 4096, &spec.n_features));
    TBG_TRY(metadata_integer(f, "coords_range", 1, 1000000, &range));
    TBG_TRY(metadata_integer(f, "n_atoms", 1, 4096, &v->n_atoms));
    TBG_TRY(metadata_integer(f, "flow_steps", 0, 100000, &v->flow_steps));
    TBG_TRY(metadata_truth(f, "tanh", &spec.tanh));
    TBG_TRY(metadata_truth(f, "attention", &spec.attention));
    spec.coords_range = range;
    /* The file must hold the largest tensor of each layer before a table of that size is made. */
    const tbg_tensor *w = tbg_tensors_find(f, "param.egnn.embedding.weight");
    char last[64];
    snprintf(last, sizeof last, "param.egnn.gcl_%d.edge_mlp.0.weight", spec.layers - 1);
    const tbg_tensor *e = tbg_tensors_find(f, last);
    if (!w || !e || w->rank != 2 || w->shape[0] != spec.hidden || w->shape[1] != spec.n_features + 1 ||
        e->rank != 2 || e->shape[0] != spec.hidden || e->shape[1] != 2 * (int64_t)spec.hidden + 2)
        return tbg_fail(TBG_INPUT,
                        "%s: the weights do not fit the metadata (%d layers, %d channels, %d features)",
                        f->path, spec.layers, spec.hidden, spec.n_features);
    TBG_TRY(tbg_model_create(&spec, 0, &v->model));
    return tbg_model_take_tensors(v->model, f, "param.");
}

static int read_gradient(tbg_vector_file *v) {
    v->gradient = TBG_NEW(double, v->model->n_parameters);
    if (!v->gradient)
        return TBG_FAILED;
    for (int k = 0; k < v->model->n_tensors; k++) {
        const tbg_parameter *p = &v->model->tensors[k];
        char name[96];
        double *g = NULL;
        snprintf(name, sizeof name, "grad.%s", p->name);
        int status = read_finite(v->file, name, p->rank, p->rows, p->columns, 0, &g);
        if (!status)
            memcpy(v->gradient + p->offset, g, (size_t)p->rows * (size_t)p->columns * sizeof *g);
        free(g);
        TBG_TRY(status);
    }
    return TBG_OK;
}

static int fill(tbg_vector_file *v) {
    const tbg_tensors *f = v->file;
    TBG_TRY(read_model(v));
    double *features = NULL;
    int status = read_finite(f, "node_features", 2, v->n_atoms, v->model->spec.n_features, 0, &features);
    if (!status)
        status =
            tbg_conditioning_from_features(v->n_atoms, v->model->spec.n_features, features, &v->conditioning);
    free(features);
    TBG_TRY(status);
    TBG_TRY(read_finite(f, "t", 1, -1, 0, 0, &v->t));
    size_t samples = tbg_tensors_find(f, "t")->n;
    if (samples < 1 || samples > 1000000)
        return tbg_fail(TBG_INPUT, "%s: %zu samples", f->path, samples);
    v->n_samples = (int)samples;
    TBG_TRY(read_finite(f, "x", 3, v->n_samples, v->n_atoms, 3, &v->x));
    TBG_TRY(read_finite(f, "velocity", 3, v->n_samples, v->n_atoms, 3, &v->velocity));
    TBG_TRY(read_finite(f, "target", 3, v->n_samples, v->n_atoms, 3, &v->target));
    TBG_TRY(read_finite(f, "divergence", 1, v->n_samples, 0, 0, &v->divergence));
    TBG_TRY(read_scalar(f, "loss", &v->loss));
    TBG_TRY(read_gradient(v));
    if (!v->flow_steps)
        return TBG_OK;
    TBG_TRY(read_finite(f, "latent", 3, 1, v->n_atoms, 3, &v->latent));
    TBG_TRY(read_finite(f, "sample", 3, 1, v->n_atoms, 3, &v->sample));
    return read_scalar(f, "log_det", &v->log_det);
}

int tbg_vector_file_from(tbg_tensors *tensors, tbg_vector_file **out) {
    tbg_vector_file *v = TBG_NEW(tbg_vector_file, 1);
    if (!v) {
        tbg_tensors_free(tensors);
        return TBG_FAILED;
    }
    v->file = tensors;
    int status = fill(v);
    if (status) {
        tbg_vector_file_free(v);
        return status;
    }
    *out = v;
    return TBG_OK;
}

int tbg_vector_file_read(const char *path, tbg_vector_file **out) {
    tbg_tensors *tensors;
    TBG_TRY(tbg_tensors_read(path, &tensors));
    return tbg_vector_file_from(tensors, out);
}

void tbg_vector_file_free(tbg_vector_file *v) {
    if (!v)
        return;
    tbg_model_free(v->model);
    tbg_conditioning_free(v->conditioning);
    tbg_tensors_free(v->file);
    free(v->t);
    free(v->x);
    free(v->velocity);
    free(v->divergence);
    free(v->target);
    free(v->gradient);
    free(v->latent);
    free(v->sample);
    free(v);
}
