/* network.c: rates of the fast CPU network on one thread, in processor time, so that other processes on the
 * machine disturb little. Sizes: alanine dipeptide and a mean dipeptide; fresh improved field on a made-up
 * chain.
 *
 * Usage: bench_network [ATOMS HIDDEN LAYERS]; TBG_SIMD=avx2 or base for the other instruction sets. */
#include "network/kernels.h"
#include "tbg/network.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Useful operations: of one velocity; of one divergence by the algorithm of cpu_divergence_simd.c. */
static double velocity_operations(const tbg_network_spec *s, int n) {
    double H = s->hidden, N = n, E = N * (N - 1), k = 1 + tbg_edge_feature_count(s) + 1 + s->attention;
    return s->layers * (E * (4 * H * H + 2 * H * k) + N * 4 * H * H) + (s->layers - 1) * N * 6 * H * H;
}

static int fail(void) {
    fprintf(stderr, "bench_network: %s\n", tbg_message());
    return 1;
}

static int one(int n, int hidden, int layers) {
    enum { B = 32, DIVERGENCES = 2, REPEATS = 5 };
    const size_t n3 = 3 * (size_t)n;
    tbg_network_spec spec;
    tbg_model *model;
    tbg_conditioning *chain;
    tbg_session *session;
    if (tbg_network_preset("improved-ad", &spec))
        return fail();
    spec.features = TBG_FEATURES_RAW;
    spec.hidden = hidden;
    spec.layers = layers;
    spec.scale = 7;
    double *features = calloc((size_t)n * (size_t)spec.n_features, sizeof *features);
    for (int i = 0; i < n; i++)
        features[i * spec.n_features + i % spec.n_features] = 1;
    if (tbg_model_create(&spec, 1, &model) ||
        tbg_conditioning_from_features(n, spec.n_features, features, &chain) ||
        tbg_session_create(model, "cpu", n, 1, &session))
        return fail();
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            int apart = abs(i - j), ij = i * n + j;
            chain->bond_class[ij] = (unsigned char)(apart >= 1 && apart <= 3 ? apart : 0);
            chain->pair_mean[ij] = apart == 1 || apart == 2 ? 0.8 * apart : 0;
            chain->pair_width[ij] = apart == 1 || apart == 2 ? 0.05 : 0;
        }
    const tbg_conditioning *molecule[B];
    double t[B], weight[B], loss[B], best[3] = {1e9, 1e9, 1e9};
    double *x = calloc(B * n3, sizeof *x), *target = calloc(B * n3, sizeof *x),
           *v = calloc(B * n3, sizeof *x);
    float *gradient = calloc(model->n_parameters, sizeof *gradient);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 0), 0, B * n3, x);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), 0, B * n3, target);
    for (int b = 0; b < B; b++) {
        molecule[b] = chain;
        t[b] = (b + 0.5) / B;
        weight[b] = 1.0 / B;
    }
    for (int k = 0; k < REPEATS; k++) {
        double a = processor_seconds();
        if (tbg_network_velocity(session, B, molecule, t, x, v))
            return fail();
        double b = processor_seconds();
        if (tbg_network_loss(session, B, molecule, t, x, target, weight, loss, gradient))
            return fail();
        double c = processor_seconds();
        if (tbg_network_divergence(session, DIVERGENCES, molecule, t, x, v, loss))
            return fail();
        double d = processor_seconds();
        double each[3] = {(b - a) / B, (c - b) / B, (d - c) / DIVERGENCES};
        for (int q = 0; q < 3; q++)
            best[q] = each[q] < best[q] ? each[q] : best[q];
    }
    double peak = tbg_network_gemm_gflops(1), work = 1e-9 * velocity_operations(&spec, n);
    printf("%-11s %3d atoms H %3d L %d: %7.1f trained/s (%5.1f Gflop/s, %2.0f %%), %7.1f velocities/s "
           "(%5.1f, %2.0f %%), "
           "%7.2f divergences/s (%.1f velocities each); peak %.1f Gflop/s\n",
           tbg_session_backend(session), n, hidden, layers, 1 / best[1], 3 * work / best[1],
           300 * work / best[1] / peak, 1 / best[0], work / best[0], 100 * work / best[0] / peak, 1 / best[2],
           best[2] / best[0], peak);
    free(features);
    free(x);
    free(target);
    free(v);
    free(gradient);
    tbg_session_free(session);
    tbg_conditioning_free(chain);
    tbg_model_free(model);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4)
        return one(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]));
    static const int sizes[][3] = {{22, 32, 4}, {22, 64, 5}, {22, 128, 5}, {35, 64, 5}, {35, 128, 9}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        if (one(sizes[k][0], sizes[k][1], sizes[k][2]))
            return 1;
    return 0;
}
