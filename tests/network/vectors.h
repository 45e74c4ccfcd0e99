/* vectors.h: a network vector file of shared/vectors as a model, a conditioning and doubles; and made-up
 * models. */
#ifndef TBG_TESTS_VECTORS_H
#define TBG_TESTS_VECTORS_H
#include "network/vector_file.h"
#include "tbg/random.h"
#include "tbg_test.h"
#include <stdlib.h>
#include <string.h>

static const char *const vector_names[] = {"egnn_tiny", "egnn_tiny_no_attention_no_tanh",
                                           "egnn_alanine_dipeptide", "egnn_dipeptide_full"};

static inline tbg_vector_file *read_vectors(const char *name) {
    char path[1024];
    tbg_vector_file *file;
    snprintf(path, sizeof path, TBG_SHARED_DIR "/vectors/%s.safetensors", name);
    assert_ok(tbg_vector_file_read(path, &file));
    return file;
}

/* Normal numbers for tests; `index` tells uses apart. */
static inline void random_normal(uint64_t index, size_t n, double *out) {
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, index), 0, n, out);
}

static inline double *random_array(uint64_t index, size_t n) {
    double *out = malloc(n * sizeof *out);
    random_normal(index, n, out);
    return out;
}

/* A chain of n atoms with random features, 1-2, 1-3 and 1-4 pairs along it. */
static inline tbg_conditioning *made_up_chain(int n, int n_features, uint64_t index) {
    tbg_conditioning *c;
    double *f = random_array(index, (size_t)n * (size_t)n_features);
    assert_ok(tbg_conditioning_from_features(n, n_features, f, &c));
    free(f);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            int apart = abs(i - j), ij = i * n + j;
            c->bond_class[ij] = (unsigned char)(apart >= 1 && apart <= 3 ? apart : 0);
            if (apart == 1 || apart == 2) {
                c->pair_mean[ij] = 0.6 * apart + 0.02 * (i + j);
                c->pair_width[ij] = 0.05 * apart;
            }
        }
    return c;
}

/* A field that is not small: every parameter random. */
static inline tbg_model *made_up_model(const tbg_network_spec *spec, uint64_t index) {
    tbg_model *m;
    assert_ok(tbg_model_create(spec, index, &m));
    double *z = random_array(1000 + index, m->n_parameters);
    for (size_t i = 0; i < m->n_parameters; i++)
        m->values[i] = (float)(m->values[i] + 0.25 * z[i]);
    free(z);
    return m;
}

static inline tbg_network_spec improved_spec(void) {
    tbg_network_spec s;
    assert_ok(tbg_network_preset("improved-ad", &s));
    s.hidden = 9;
    s.layers = 3;
    s.features = TBG_FEATURES_RAW;
    s.n_features = 4;
    s.scale = 5;
    s.edge_features |= TBG_EDGE_RADIAL | TBG_EDGE_SHELL;
    return s;
}
#endif
