/* test_align.c: best rotation and assignment against exhaustive search and known answers; couplings of a
 * batch. */
#include "tbg_test.h"
#include "training/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 12 };

static void cloud(uint64_t stream, double *x) {
    tbg_random_normal(5, TBG_STREAM(TBG_STREAM_TEST, stream), 0, 3 * N, x);
    for (int d = 0; d < 3; d++) {
        double mean = 0;
        for (int i = 0; i < N; i++)
            mean += x[3 * i + d] / N;
        for (int i = 0; i < N; i++)
            x[3 * i + d] -= mean;
    }
}

static void rotate(const double q[4], const double *x, double *y) {
    double s = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    double w = q[0] / s, v[3] = {q[1] / s, q[2] / s, q[3] / s};
    for (int i = 0; i < N; i++) {
        const double *p = x + 3 * i;
        double c[3] = {v[1] * p[2] - v[2] * p[1] + w * p[0], v[2] * p[0] - v[0] * p[2] + w * p[1],
                       v[0] * p[1] - v[1] * p[0] + w * p[2]};
        y[3 * i] = p[0] + 2 * (v[1] * c[2] - v[2] * c[1]);
        y[3 * i + 1] = p[1] + 2 * (v[2] * c[0] - v[0] * c[2]);
        y[3 * i + 2] = p[2] + 2 * (v[0] * c[1] - v[1] * c[0]);
    }
}

static double distance2(const double *x, const double *y) {
    double sum = 0;
    for (int i = 0; i < 3 * N; i++)
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sum;
}

static void finds_the_rotation(void **state) {
    (void)state;
    double x[3 * N], y[3 * N], z[3 * N], q[4];
    for (uint64_t k = 0; k < 20; k++) {
        cloud(k, x);
        tbg_random_normal(6, TBG_STREAM(TBG_STREAM_TEST, k), 0, 4, q);
        rotate(q, x, y);
        tbg_align(N, x, y);
        assert_true(distance2(x, y) < 1e-20);
        cloud(100 + k, y); /* different clouds: no random rotation does better, lengths stay */
        cloud(k, z);
        double best = tbg_aligned_distance2(N, z, y);
        tbg_align(N, x, y);
        assert_true(compare_error(distance2(x, y), best, 0) < 1e-10);
        for (uint64_t j = 0; j < 200; j++) {
            double tried[3 * N];
            tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, j), 0, 4, q);
            rotate(q, z, tried);
            assert_true(distance2(tried, y) >= best - 1e-9);
        }
    }
}

static void does_not_mirror(void **state) {
    (void)state;
    double x[3 * N], y[3 * N];
    cloud(1, x);
    for (int i = 0; i < 3 * N; i++)
        y[i] = -x[i];
    tbg_align(N, x, y);
    assert_true(distance2(x, y) > 1);
}

static void assignment_is_best(void **state) {
    (void)state;
    enum { M = 6 };
    double cost[M * M];
    for (uint64_t k = 0; k < 30; k++) {
        int got[M], p[M] = {0, 1, 2, 3, 4, 5}, c[M] = {0};
        tbg_random_normal(8, TBG_STREAM(TBG_STREAM_TEST, k), 0, M * M, cost);
        assert_ok(tbg_assign(M, cost, got));
        double sum = 0, best = INFINITY;
        int used[M] = {0};
        for (int i = 0; i < M; i++) {
            assert_true(got[i] >= 0 && got[i] < M && !used[got[i]]++);
            sum += cost[i * M + got[i]];
        }
        for (int i = 0;;) { /* Heap's algorithm over all permutations */
            double s = 0;
            for (int j = 0; j < M; j++)
                s += cost[j * M + p[j]];
            best = fmin(best, s);
            while (i < M && c[i] >= i)
                c[i++] = 0;
            if (i == M)
                break;
            int from = i % 2 ? c[i] : 0, swap = p[from];
            p[from] = p[i];
            p[i] = swap;
            c[i]++;
            i = 0;
        }
        assert_true(fabs(sum - best) < 1e-12);
    }
    cost[3] = NAN;
    for (int i = 0; i < M * M; i++)
        cost[i] = NAN;
    int got[M];
    assert_int_equal(tbg_assign(M, cost, got), TBG_FAILED);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(finds_the_rotation),
                                       cmocka_unit_test(does_not_mirror),
                                       cmocka_unit_test(assignment_is_best)};
    return cmocka_run_group_tests_name("align", tests, NULL, NULL);
}
