/* network.c: rates of the fast CPU network on one thread, in processor time, so that other processes on the
 * machine disturb little. Sizes: alanine dipeptide and a mean dipeptide; fresh improved field on a made-up
 * chain.
 *
 * Usage: bench_network [ATOMS HIDDEN LAYERS]; TBG_SIMD=avx2 or base for the other instruction sets. */
#include "network_common.h"

static int one(int n, int hidden, int layers) {
    enum { B = 32, DIVERGENCES = 2, REPEATS = 5 };
    bench_case c;
    tbg_session *session;
    double s[BENCH_KINDS];
    if (bench_case_create(n, hidden, layers, B, &c) || tbg_session_create(c.model, "cpu", n, 1, &session) ||
        bench_calls(session, &c, DIVERGENCES, REPEATS, CLOCK_PROCESS_CPUTIME_ID, s))
        return bench_fail("bench_network");
    double velocity = s[BENCH_VELOCITY] / B, gradient = s[BENCH_GRADIENT] / B,
           divergence = s[BENCH_DIVERGENCE] / DIVERGENCES;
    double peak = tbg_network_gemm_gflops(1), work = 1e-9 * bench_operations(&c.model->spec, n);
    printf("%-11s %3d atoms H %3d L %d: %7.1f trained/s (%5.1f Gflop/s, %2.0f %%), %7.1f velocities/s "
           "(%5.1f, %2.0f %%), "
           "%7.2f divergences/s (%.1f velocities each); peak %.1f Gflop/s\n",
           tbg_session_backend(session), n, hidden, layers, 1 / gradient, 3 * work / gradient,
           300 * work / gradient / peak, 1 / velocity, work / velocity, 100 * work / velocity / peak,
           1 / divergence, divergence / velocity, peak);
    tbg_session_free(session);
    bench_case_free(&c);
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
