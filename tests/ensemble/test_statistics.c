/* test_statistics.c: weights, histograms, transport, eigenvectors, TICA against other implementations.
 *
 * Where a number stands without derivation it was computed with numpy 2.4.6, scipy 1.17.1, ArviZ 0.23.4
 * (psislw), POT 0.9.7 (emd2, emd2_1d) and deeptime 0.4.5 (TICA) from the same closed-form inputs; the
 * formulas are beside them. */
#include "tbg_test.h"
#include "ensemble/close.h"
#include <stdlib.h>
#include <string.h>
#include "tbg/ensemble.h"
#include "tbg/random.h"

enum { MOST = 20000 };
static double l[MOST], scratch[MOST];

/* Golden-ratio sequence in (0, 1). */
static double u(int i) {
    return fmod((i + 0.5) * (sqrt(5.0) - 1) / 2, 1);
}

static void pareto(int n, double k) { /* w = U^-k: a generalised Pareto tail of shape k */
    for (int i = 0; i < n; i++)
        l[i] = -k * log(u(i));
}

static void logistic(int n, double s) {
    for (int i = 0; i < n; i++)
        l[i] = s * log(u(i) / (1 - u(i)));
}

static void effective_sizes(void **state) {
    (void)state;
    double hand[] = {log(1), -INFINITY, log(2), NAN, log(3)};
    CLOSE(tbg_effective_size(5, hand), 36.0 / 14, 1e-14);
    CLOSE(tbg_log_sum_exp(5, hand), log(6), 1e-14);
    double shifted[] = {1000, 1000 + log(2), 1000 + log(3), INFINITY};
    CLOSE(tbg_effective_size(4, shifted), 36.0 / 14, 1e-12);
    CLOSE(tbg_log_sum_exp(4, shifted), 1000 + log(6), 1e-14);
    double none[] = {-INFINITY, NAN};
    assert_true(tbg_effective_size(2, none) == 0 && tbg_effective_size(0, none) == 0);
    assert_true(tbg_effective_size_clipped(2, none, scratch) == 0);
    assert_true(tbg_log_sum_exp(2, none) == -INFINITY);
    CLOSE(tbg_effective_size_clipped(1, hand, scratch), 1, 1e-15); /* one sample cannot be dropped */
    static const struct {
        int n;
        double k, ess, clipped; /* clipped: l[l <= quantile(l, 0.998)] */
    } cases[] = {{1000, 0.3, 847.1484688055449, 869.8135074085586},
                 {1000, 0.8, 99.69684295316722, 200.95718375413},
                 {20000, 0.5, 6594.2290506368445, 11754.91703958645},
                 {200, 1.5, 1.2938319413182933, 10.133075012648654}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pareto(cases[i].n, cases[i].k);
        CLOSE(tbg_effective_size(cases[i].n, l), cases[i].ess, 1e-10);
        CLOSE(tbg_effective_size_clipped(cases[i].n, l, scratch), cases[i].clipped, 1e-10);
    }
}

static void pareto_k(void **state) {
    (void)state;
    static const struct {
        int n;
        double k, want;
    } cases[] = {{1000, 0.3, 0.27647280866595975},
                 {1000, 0.8, 0.7057732853373819},
                 {20000, 0.5, 0.5065573916031824},
                 {200, 1.5, 1.2973131945127963}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pareto(cases[i].n, cases[i].k);
        CLOSE(tbg_pareto_k(cases[i].n, l, scratch), cases[i].want, 1e-9);
    }
    logistic(1000, 0.5);
    CLOSE(tbg_pareto_k(1000, l, scratch), 0.53094525212314, 1e-9);
    logistic(3000, 2);
    CLOSE(tbg_pareto_k(3000, l, scratch), 1.8634919974929407, 1e-9);
    for (int i = 0; i < 3000; i++) /* neither a shift nor excluded samples nor the order matter */
        scratch[i] = l[2999 - i] - 12345;
    memcpy(l, scratch, sizeof l);
    l[3000] = -INFINITY;
    l[3001] = NAN;
    CLOSE(tbg_pareto_k(3002, l, scratch), 1.8634919974929407, 1e-9);
    assert_true(tbg_pareto_k(4, l, scratch) == INFINITY);
    double same[50] = {0}, two[50] = {0};
    two[7] = 800; /* one weight is everything */
    assert_true(tbg_pareto_k(50, same, scratch) == 0);
    assert_true(tbg_pareto_k(50, two, scratch) == INFINITY);
}

static void bootstrap(void **state) {
    (void)state;
    enum { N = 2000, REPLICAS = 400 };
    static double weight[N], replica[REPLICAS * 2 * 3], again[REPLICAS * 2 * 3], effective[REPLICAS];
    static short bins[2 * N];
    double h[6];
    for (int i = 0; i < N; i++) {
        weight[i] = 1.0 / N;
        bins[i] = u(i) < 0.3;                       /* a proportion */
        bins[N + i] = (short)(u(i) < 0.3 ? -1 : 2); /* and its complement, in another bin */
    }
    assert_ok(tbg_bootstrap_histograms(N, weight, 2, bins, 3, REPLICAS, 5, h, replica, effective));
    CLOSE(h[1], 0.3, 2e-3);
    CLOSE(h[5], 1 - h[1], 1e-12);
    assert_true(h[2] == 0 && h[3] == 0 && h[4] == 0);
    double mean = 0, square = 0;
    for (int r = 0; r < REPLICAS; r++) {
        mean += replica[r * 6 + 1] / REPLICAS;
        CLOSE(replica[r * 6 + 1] + replica[r * 6 + 5], 1, 1e-12); /* series are resampled together */
        CLOSE(effective[r], N, 1e-9);
    }
    for (int r = 0; r < REPLICAS; r++)
        square += pow(replica[r * 6 + 1] - mean, 2) / (REPLICAS - 1);
    /* sqrt(p q / n), known to 1 / sqrt(2 REPLICAS) = 3.5 % */
    assert_true(fabs(sqrt(square) / sqrt(0.21 / N) - 1) < 0.14);
    assert_true(fabs(mean - 0.3) < 4 * sqrt(0.21 / N / REPLICAS) + 1e-3);
    assert_ok(tbg_bootstrap_histograms(N, weight, 2, bins, 3, REPLICAS, 5, h, again, NULL));
    assert_memory_equal(replica, again, sizeof again);
    assert_ok(tbg_bootstrap_histograms(N, weight, 2, bins, 3, REPLICAS, 6, h, again, NULL));
    assert_true(memcmp(replica, again, sizeof again) != 0);
    /* Unequal weights: 1 and 3. */
    double w[2] = {0.25, 0.75};
    short b[2] = {0, 1};
    assert_ok(tbg_bootstrap_histograms(2, w, 1, b, 2, 50, 5, h, again, effective));
    assert_true(h[0] == 0.25 && h[1] == 0.75);
    for (int r = 0; r < 50; r++) {
        double p = again[2 * r];
        assert_true(p == 0 || p == 0.25 || p == 1);
        CLOSE(effective[r], p == 0.25 ? 1.6 : 2, 1e-12);
    }
    b[1] = 2;
    assert_int_equal(tbg_bootstrap_histograms(2, w, 1, b, 2, 0, 5, h, NULL, NULL), TBG_FAILED);
    tbg_estimate dF = tbg_dF_of_p(0.2, 0.01);
    CLOSE(dF.value, log(4), 1e-14);
    CLOSE(dF.error, 0.01 / 0.16, 1e-14);
    assert_true(tbg_dF_of_p(0, 0).value == INFINITY && tbg_dF_of_p(1, 0).value == -INFINITY);
}

static void inefficiency(void **state) {
    (void)state;
    enum { T = 3000 };
    static double a[T];
    for (int t = 0; t < T; t++)
        a[t] = sin(0.013 * t) + 0.5 * sin(12.9898 * (t + 1)) > 0.2;
    double g;
    assert_ok(tbg_statistical_inefficiency(1, (long[]){0, T}, a, &g));
    CLOSE(g, 101.97043627031647, 1e-9); /* the definition's double sum in numpy */
    assert_ok(tbg_statistical_inefficiency(2, (long[]){0, 1000, T}, a, &g));
    CLOSE(g, 103.32168172549001, 1e-9);
    for (int t = 0; t < T; t++)
        a[t] = 1;
    assert_ok(tbg_statistical_inefficiency(1, (long[]){0, T}, a, &g));
    assert_true(g == 1);
    /* Autoregression x' = r x + noise has g = (1 + r) / (1 - r). */
    enum { N = 1 << 17 };
    double *x = malloc(N * sizeof *x), *z = malloc(N * sizeof *z);
    tbg_random_normal(3, TBG_STREAM(TBG_STREAM_TEST, 0), 0, N, z);
    x[0] = z[0];
    for (int i = 1; i < N; i++)
        x[i] = 0.8 * x[i - 1] + 0.6 * z[i];
    assert_ok(tbg_statistical_inefficiency(1, (long[]){0, N}, x, &g));
    assert_true(fabs(g / 9 - 1) < 0.1);
    free(x);
    free(z);
}

static void line(void **state) {
    (void)state;
    double x[50], wx[50], y[37], wy[37], w1, w2;
    for (int i = 0; i < 50; i++) {
        x[i] = sin(1.3 * i + 0.2) * 3;
        wx[i] = 1 + pow(cos(0.7 * i), 2);
    }
    for (int i = 0; i < 37; i++) {
        y[i] = sin(2.1 * i) * 2 + 0.5 + 0.1 * i / 37;
        wy[i] = 1 + pow(sin(0.4 * i), 2);
    }
    assert_ok(tbg_wasserstein_line(50, x, wx, 37, y, wy, &w1, &w2));
    CLOSE(w1, 0.8638353229155843, 1e-12);
    CLOSE(w2, 1.0290088123155265, 1e-12);
    assert_ok(tbg_wasserstein_line(50, x, wx, 50, x, wx, &w1, &w2));
    assert_true(w1 < 1e-12 && w2 < 1e-7);
    double moved[50];
    for (int i = 0; i < 50; i++)
        moved[i] = x[i] - 2.5;
    assert_ok(tbg_wasserstein_line(50, x, NULL, 50, moved, NULL, &w1, &w2));
    CLOSE(w1, 2.5, 1e-12);
    CLOSE(w2, 2.5, 1e-12);
    /* 3/4 at 0 and 1/4 at 4 against all at 0. */
    assert_ok(tbg_wasserstein_line(2, (double[]){4, 0}, (double[]){1, 3}, 1, (double[]){0}, NULL, &w1, &w2));
    CLOSE(w1, 1, 1e-14);
    CLOSE(w2, 2, 1e-14);
    assert_ok(tbg_wasserstein_line(0, x, NULL, 3, y, NULL, &w1, &w2));
    assert_true(isnan(w1) && isnan(w2));
}

/* Least total over all permutations. */
static double brute(int n, const double *c, int row, unsigned used) {
    double best = INFINITY;
    if (row == n)
        return 0;
    for (int j = 0; j < n; j++)
        if (!(used >> j & 1))
            best = fmin(best, c[row * n + j] + brute(n, c, row + 1, used | 1u << j));
    return best;
}

static void assignment(void **state) {
    (void)state;
    enum { N = 60 };
    static double c[N * N];
    int column[N], seen[N] = {0};
    double total, sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            c[i * N + j] = fmod(floor(1e6 * fabs(sin(12.9898 * (i + 1) + 78.233 * (j + 1)))), 1000);
    assert_ok(tbg_transport_assign(N, c, column, &total));
    CLOSE(total, 1504, 1e-12);
    for (int i = 0; i < N; i++) {
        sum += c[i * N + column[i]];
        assert_int_equal(seen[column[i]]++, 0);
    }
    CLOSE(sum, total, 1e-12);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            c[i * N + j] = (i * 7 + j * 13 + i * j) % 5; /* many ties */
    assert_ok(tbg_transport_assign(N, c, column, &total));
    CLOSE(total, 48, 1e-12);
    for (int trial = 0; trial < 200; trial++) {
        int n = 1 + trial % 7;
        for (int i = 0; i < n * n; i++)
            c[i] = trial % 3 ? u(i + 50 * trial) - 0.5 : floor(4 * u(i + 50 * trial));
        assert_ok(tbg_transport_assign(n, c, NULL, &total));
        CLOSE(total + 10, brute(n, c, 0, 0) + 10, 1e-12);
    }
    for (int i = 0; i < N * N; i++)
        c[i] = 0;
    assert_ok(tbg_transport_assign(N, c, column, &total));
    assert_true(total == 0);
    c[5] = NAN;
    assert_int_equal(tbg_transport_assign(N, c, column, &total), TBG_INPUT);
    assert_ok(tbg_transport_assign(0, c, column, &total));
}

static void points(double *p, int n, double a, double b) {
    for (int i = 0; i < n; i++) {
        p[2 * i] = 2 * M_PI * fmod((i + 0.5) * a, 1) - M_PI;
        p[2 * i + 1] = 2 * M_PI * pow(fmod((i + 0.5) * b, 1), 2) - M_PI;
    }
}

static void torus(void **state) {
    (void)state;
    enum { N = 300 };
    static double p[2 * N], q[2 * N];
    double w2;
    points(p, N, (sqrt(5.0) - 1) / 2, sqrt(2.0));
    points(q, N, sqrt(3.0), sqrt(5.0) + 0.1);
    assert_ok(tbg_wasserstein_points(N, 2, 1, p, q, &w2));
    CLOSE(w2, 0.2129443284267601, 1e-12);
    assert_ok(tbg_wasserstein_points(N, 2, 0, p, q, &w2));
    CLOSE(w2, 0.24253005605051278, 1e-12);
    for (int i = 0; i < N; i++) { /* a turn of all phi by 0.3 across the cut */
        q[2 * i] = p[2 * ((i * 7) % N)] + 0.3;
        if (q[2 * i] > M_PI)
            q[2 * i] -= 2 * M_PI;
        q[2 * i + 1] = p[2 * ((i * 7) % N) + 1];
    }
    assert_ok(tbg_wasserstein_points(N, 2, 1, p, q, &w2));
    assert_true(w2 > 0 && w2 < 0.3 + 1e-12);
    assert_ok(tbg_wasserstein_points(N, 2, 1, p, p, &w2));
    assert_true(w2 < 1e-7);
    p[3] = INFINITY;
    assert_int_equal(tbg_wasserstein_points(N, 2, 1, p, q, &w2), TBG_INPUT);
}

static void resample(void **state) {
    (void)state;
    double w[5] = {0, 0.2, 0.5, 0, 0.3};
    long index[1000];
    int count[5] = {0};
    tbg_resample(5, w, 1000, 9, index);
    for (int i = 0; i < 1000; i++)
        count[index[i]]++;
    assert_true(count[0] <= 1 && count[3] <= 1 && abs(count[1] - 200) <= 1 && abs(count[2] - 500) <= 1 &&
                abs(count[4] - 300) <= 1); /* systematic: within one draw */
}

static void eigen(void **state) {
    (void)state;
    enum { N = 40 };
    static double a[N * N], kept[N * N], values[N], vectors[N * N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            kept[i * N + j] = sin(i * 1.7 + j * 0.3) + sin(j * 1.7 + i * 0.3) + (i == j ? cos(i) : 0);
    memcpy(a, kept, sizeof a);
    assert_ok(tbg_eigen_symmetric(N, a, values, vectors));
    CLOSE(values[0], 20.887940030634905, 1e-12);
    CLOSE(values[1], 20.107259735515893, 1e-12);
    CLOSE(values[20] + 1, 0.017526224692375997 + 1, 1e-12);
    CLOSE(values[39], -20.42473083833386, 1e-12);
    for (int r = 0; r < N; r++)
        for (int i = 0; i < N; i++) {
            double residual = -values[r] * vectors[r * N + i], dot = -(r == i);
            for (int j = 0; j < N; j++) {
                residual += kept[i * N + j] * vectors[r * N + j];
                dot += vectors[r * N + j] * vectors[i * N + j];
            }
            assert_true(fabs(residual) < 1e-12 && fabs(dot) < 1e-12);
        }
    double one[1] = {-3}, two[4] = {2, 0, 0, 2}, zero[9] = {0};
    assert_ok(tbg_eigen_symmetric(1, one, values, vectors));
    assert_true(values[0] == -3 && fabs(vectors[0]) == 1);
    assert_ok(tbg_eigen_symmetric(2, two, values, vectors));
    assert_true(values[0] == 2 && values[1] == 2);
    assert_ok(tbg_eigen_symmetric(3, zero, values, vectors));
    assert_true(values[0] == 0 && values[2] == 0);
    zero[4] = NAN;
    assert_int_equal(tbg_eigen_symmetric(3, zero, values, vectors), TBG_FAILED);
}

static double noise(int t, int k) {
    return sin(12.9898 * (t + 1) * (k + 1) + k) * 0.3;
}

static void tica(void **state) {
    (void)state;
    enum { T = 3000, F = 5 };
    static double x[T * F], projection[T * 2];
    for (int t = 0; t < T; t++) {
        double s1 = sin(0.011 * t) > 0.1 ? 1 : -1, s2 = sin(0.05 * t + 0.3), *f = x + t * F;
        f[0] = s1 + noise(t, 0);
        f[1] = s2 + 0.5 * s1 + noise(t, 1);
        f[2] = noise(t, 2) + 0.2 * s2;
        f[3] = noise(t, 3);
        f[4] = 2 * noise(t, 3) + 1; /* depends on the one before */
    }
    tbg_tica fit;
    long part[] = {0, 1200, T};
    assert_ok(tbg_tica_fit(2, part, F, x, 10, &fit));
    assert_int_equal(fit.n_components, 2);
    CLOSE(fit.values[0], 0.9663512908222525, 1e-9); /* pairs across the parts would change it */
    CLOSE(fit.values[1], 0.8762846934933748, 1e-9);
    tbg_tica_project(&fit, T, x, projection);
    static const int rows[] = {0, 777, 2999};
    static const double want[3][2] = {{0.012465538295, -0.546257026901},
                                      {-0.377535927635, 1.25294594791},
                                      {-1.434253224528, 0.857839480134}};
    for (int k = 0; k < 2; k++) {
        double sign = projection[2 * 2999 + k] * want[2][k] < 0 ? -1 : 1; /* an eigenvector's sign is free */
        for (int r = 0; r < 3; r++)
            assert_true(fabs(sign * projection[2 * rows[r] + k] - want[r][k]) < 1e-9);
    }
    tbg_tica_free(&fit);
    assert_int_equal(tbg_tica_fit(2, part, F, x, 1800, &fit), TBG_INPUT);
    memset(x, 0, sizeof x);
    assert_int_equal(tbg_tica_fit(2, part, F, x, 10, &fit), TBG_FAILED);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(effective_sizes),
                                       cmocka_unit_test(pareto_k),
                                       cmocka_unit_test(bootstrap),
                                       cmocka_unit_test(inefficiency),
                                       cmocka_unit_test(line),
                                       cmocka_unit_test(assignment),
                                       cmocka_unit_test(torus),
                                       cmocka_unit_test(resample),
                                       cmocka_unit_test(eigen),
                                       cmocka_unit_test(tica)};
    return cmocka_run_group_tests_name("statistics", tests, NULL, NULL);
}
