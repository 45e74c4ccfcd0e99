/* cuda.c: time of a gradient, a velocity and a divergence on a CUDA device, beside the plain path;
 * wall-clock, transfers included. Operations: useful ones only.
 *
 * Usage: bench_cuda [ATOMS HIDDEN LAYERS BATCH]. Prints one line a quantity; "no CUDA device" where there is
 * none. */
#include "network_common.h"
#include "network/cuda.h"

enum { DIVERGENCES = 64 };

static int measure(int n, int hidden, int layers, int batch) {
    bench_case c;
    tbg_session *s;
    double best[BENCH_KINDS];
    TBG_TRY(bench_case_create(n, hidden, layers, batch > DIVERGENCES ? batch : DIVERGENCES, &c));
    TBG_TRY(tbg_session_create(c.model, "cuda", n, 1, &s));
    /* the first calls allocate; the best are reported */
    TBG_TRY(bench_calls(s, &c, DIVERGENCES, 5, CLOCK_MONOTONIC, best));
    const double one = bench_operations(&c.model->spec, n), velocity = best[BENCH_VELOCITY],
                 gradient = best[BENCH_GRADIENT], divergence = best[BENCH_DIVERGENCE];
    printf("%s, %d atoms, H %d, L %d\n", tbg_session_backend(s), n, hidden, layers);
    printf("gradient    %6d configurations %10.3f ms %12.1f a second %10.1f Gflop/s\n", c.n, 1e3 * gradient,
           c.n / gradient, 3e-9 * one * c.n / gradient);
    printf("velocity    %6d configurations %10.3f ms %12.1f a second %10.1f Gflop/s\n", c.n, 1e3 * velocity,
           c.n / velocity, 1e-9 * one * c.n / velocity);
    printf("divergence  %6d configurations %10.3f ms %12.1f a second\n", DIVERGENCES, 1e3 * divergence,
           DIVERGENCES / divergence);
    tbg_session_free(s);
    bench_case_free(&c);
    return TBG_OK;
}

static int one(int n, int hidden, int layers, int batch) {
    int status = measure(n, hidden, layers, batch);
    setenv("TBG_CUDA_PLAIN", "1", 1);
    if (status == TBG_OK)
        status = measure(n, hidden, layers, batch < 256 ? batch : 256);
    unsetenv("TBG_CUDA_PLAIN");
    return status == TBG_OK ? 0 : bench_fail("bench_cuda");
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
