/* network_common.h: what bench_network and bench_cuda measure: a fresh improved field on a made-up chain, a
 * batch of random configurations, and the useful operations of a velocity. */
#ifndef TBG_BENCH_NETWORK_COMMON_H
#define TBG_BENCH_NETWORK_COMMON_H
#include "network/kernels.h"
#include "tbg/network.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double bench_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of one velocity: the edge and node products; forward once and twice that in reverse make a gradient. */
static inline double bench_operations(const tbg_network_spec *s, int n) {
    double H = s->hidden, N = n, E = N * (N - 1), k = 1 + tbg_edge_feature_count(s) + 1 + s->attention;
    return s->layers * (E * (4 * H * H + 2 * H * k) + N * 4 * H * H) + (s->layers - 1) * N * 6 * H * H;
}

static inline int bench_fail(const char *program) {
    fprintf(stderr, "%s: %s\n", program, tbg_message());
    return 1;
}

typedef struct {
    tbg_model *model;
    tbg_conditioning *chain;
    int n; /* configurations */
    const tbg_conditioning **molecule;
    double *t, *weight, *loss, *x, *target, *v;
    float *gradient;
} bench_case;

static inline void bench_case_free(bench_case *c) {
    free(c->molecule);
    free(c->t);
    free(c->weight);
    free(c->loss);
    free(c->x);
    free(c->target);
    free(c->v);
    free(c->gradient);
    tbg_conditioning_free(c->chain);
    tbg_model_free(c->model);
}

static inline int bench_case_create(int atoms, int hidden, int layers, int batch, bench_case *c) {
    const size_t B = (size_t)batch, n3 = 3 * (size_t)atoms;
    tbg_network_spec spec;
    *c = (bench_case){.n = batch};
    TBG_TRY(tbg_network_preset("improved-ad", &spec));
    spec.features = TBG_FEATURES_RAW;
    spec.hidden = hidden;
    spec.layers = layers;
    spec.scale = 7;
    double *features = calloc((size_t)atoms * (size_t)spec.n_features, sizeof *features);
    for (int i = 0; i < atoms; i++)
        features[i * spec.n_features + i % spec.n_features] = 1;
    TBG_TRY(tbg_model_create(&spec, 1, &c->model));
    TBG_TRY(tbg_conditioning_from_features(atoms, spec.n_features, features, &c->chain));
    free(features);
    for (int i = 0; i < atoms; i++)
        for (int j = 0; j < atoms; j++) {
            int apart = abs(i - j), ij = i * atoms + j;
            c->chain->bond_class[ij] = (unsigned char)(apart >= 1 && apart <= 3 ? apart : 0);
            c->chain->pair_mean[ij] = apart == 1 || apart == 2 ? 0.8 * apart : 0;
            c->chain->pair_width[ij] = apart == 1 || apart == 2 ? 0.05 : 0;
        }
    c->molecule = calloc(B, sizeof *c->molecule);
    c->t = calloc(B, sizeof *c->t);
    c->weight = calloc(B, sizeof *c->t);
    c->loss = calloc(B, sizeof *c->t);
    c->x = calloc(B * n3, sizeof *c->x);
    c->target = calloc(B * n3, sizeof *c->x);
    c->v = calloc(B * n3, sizeof *c->x);
    c->gradient = calloc(c->model->n_parameters, sizeof *c->gradient);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 0), 0, B * n3, c->x);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), 0, B * n3, c->target);
    for (size_t b = 0; b < B; b++) {
        c->molecule[b] = c->chain;
        c->t[b] = ((double)b + 0.5) / batch;
        c->weight[b] = 1.0 / batch;
    }
    return TBG_OK;
}

enum { BENCH_VELOCITY, BENCH_GRADIENT, BENCH_DIVERGENCE, BENCH_KINDS };

/* Seconds of each kind of call, the best of `repeats`: n velocities, n gradients, `divergences` divergences.
 */
static inline int bench_calls(tbg_session *s, const bench_case *c, int divergences, int repeats,
                              clockid_t clock, double best[BENCH_KINDS]) {
    for (int kind = 0; kind < BENCH_KINDS; kind++)
        best[kind] = 1e9;
    for (int k = 0; k < repeats; k++)
        for (int kind = 0; kind < BENCH_KINDS; kind++) {
            double start = bench_seconds(clock);
            if (kind == BENCH_VELOCITY)
                TBG_TRY(tbg_network_velocity(s, c->n, c->molecule, c->t, c->x, c->v));
            else if (kind == BENCH_GRADIENT)
                TBG_TRY(tbg_network_loss(s, c->n, c->molecule, c->t, c->x, c->target, c->weight, c->loss,
                                         c->gradient));
            else
                TBG_TRY(tbg_network_divergence(s, divergences, c->molecule, c->t, c->x, c->v, c->loss));
            double seconds = bench_seconds(clock) - start;
            best[kind] = seconds < best[kind] ? seconds : best[kind];
        }
    return TBG_OK;
}
#endif
