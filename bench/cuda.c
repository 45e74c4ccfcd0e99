/* cuda.c: time of a gradient, a velocity and a divergence on a CUDA device, beside the plain path; wall-clock, transfers
 * included. Operations: useful ones only: the edge and node products, forward once and twice that in reverse.
 *
 * Usage: bench_cuda [ATOMS HIDDEN LAYERS BATCH]. Prints one line a quantity; "no CUDA device" where there is none. */
#include "network/cuda.h"
#include "network/kernels.h"
#include "tbg/network.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double velocity_operations(const tbg_network_spec *s, int n) {
    double H = s->hidden, N = n, E = N * (N - 1), k = 1 + tbg_edge_feature_count(s) + 1 + s->attention;
    return s->layers * (E * (4 * H * H + 2 * H * k) + N * 4 * H * H) + (s->layers - 1) * N * 6 * H * H;
}

static int fail(void) {
    fprintf(stderr, "bench_cuda: %s\n", tbg_message());
    return 1;
}

static int measure(const tbg_model *model, const tbg_conditioning *chain, int batch, int divergences) {
    const int n = chain->n_atoms;
    const size_t n3 = 3 * (size_t)n, B = (size_t)batch;
    const tbg_conditioning **molecule = malloc(B * sizeof *molecule);
    double *t = malloc(B * sizeof *t), *weight = malloc(B * sizeof *t), *loss = malloc(B * sizeof *t),
           *x = malloc(B * n3 * sizeof *x), *target = malloc(B * n3 * sizeof *x), *v = malloc(B * n3 * sizeof *x);
    float *gradient = malloc(model->n_parameters * sizeof *gradient);
    tbg_session *s;
    if (tbg_session_create(model, "cuda", n, 1, &s))
        return fail();
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), 0, B * n3, x);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 2), 0, B * n3, target);
    for (size_t b = 0; b < B; b++) {
        molecule[b] = chain;
        t[b] = ((double)b + 0.5) / batch;
        weight[b] = 1.0 / batch;
    }
    double best[3] = {1e9, 1e9, 1e9};
    for (int repeat = 0; repeat < 6; repeat++) { /* the first one allocates; the best is reported */
        double at = seconds();
        if (tbg_network_loss(s, batch, molecule, t, x, target, weight, loss, gradient))
            return fail();
        best[0] = seconds() - at < best[0] ? seconds() - at : best[0];
        at = seconds();
        if (tbg_network_velocity(s, batch, molecule, t, x, v))
            return fail();
        best[1] = seconds() - at < best[1] ? seconds() - at : best[1];
        if (repeat >= 2)
            continue;
        at = seconds();
        if (tbg_network_divergence(s, divergences, molecule, t, x, v, loss))
            return fail();
        best[2] = seconds() - at < best[2] ? seconds() - at : best[2];
    }
    const double one = velocity_operations(&model->spec, n);
    printf("%s, %d atoms, H %d, L %d\n", tbg_session_backend(s), n, model->spec.hidden, model->spec.layers);
    printf("gradient    %6d configurations %10.3f ms %10.1f Gflop/s\n", batch, 1e3 * best[0],
           3e-9 * one * batch / best[0]);
    printf("velocity    %6d configurations %10.3f ms %10.1f Gflop/s\n", batch, 1e3 * best[1],
           1e-9 * one * batch / best[1]);
    printf("divergence  %6d configurations %10.3f ms %10.1f a second\n", divergences, 1e3 * best[2],
           divergences / best[2]);
    tbg_session_free(s);
    free(molecule);
    free(t);
    free(weight);
    free(loss);
    free(x);
    free(target);
    free(v);
    free(gradient);
    return 0;
}

static int one(int n, int hidden, int layers, int batch) {
    tbg_network_spec spec;
    tbg_model *model;
    tbg_conditioning *chain;
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
        tbg_conditioning_from_features(n, spec.n_features, features, &chain))
        return fail();
    free(features);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            int apart = abs(i - j), ij = i * n + j;
            chain->bond_class[ij] = (unsigned char)(apart >= 1 && apart <= 3 ? apart : 0);
            chain->pair_mean[ij] = apart == 1 || apart == 2 ? 0.8 * apart : 0;
            chain->pair_width[ij] = apart == 1 || apart == 2 ? 0.05 : 0;
        }
    int bad = measure(model, chain, batch, 16);
    setenv("TBG_CUDA_PLAIN", "1", 1);
    bad |= measure(model, chain, batch < 256 ? batch : 256, 16);
    unsetenv("TBG_CUDA_PLAIN");
    tbg_conditioning_free(chain);
    tbg_model_free(model);
    return bad;
}

int main(int argc, char **argv) {
    if (!tbg_cuda_present()) {
        printf("no CUDA device\n");
        return 0;
    }
    if (argc > 4)
        return one(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    return one(22, 64, 5, 2048) || one(36, 128, 9, 1024);
}
