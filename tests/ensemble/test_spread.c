/* test_spread.c: errors and intervals by resampling against closed forms and against repeated draws. */
#include "tbg_test.h"
#include "ensemble/spread.h"
#include "ensemble/synthetic.h"
#include "tbg/random.h"

#define NEAR(got, want, relative)                                                                            \
    do {                                                                                                     \
        double got_ = (got), want_ = (want);                                                                 \
        if (!(fabs(got_ / want_ - 1) <= (relative)))                                                         \
            fail_msg("%s = %.17g, want %.17g", #got, got_, want_);                                           \
    } while (0)

static void quantiles(void **state) {
    (void)state;
    double x[41];
    for (int i = 0; i < 41; i++)
        x[i] = (i * 17) % 41; /* 0 ... 40 in another order */
    tbg_spread s = tbg_spread_of(41, x);
    NEAR(s.low, 1, 1e-12);
    NEAR(s.high, 39, 1e-12);
    NEAR(s.error, sqrt(41.0 * 42 / 12), 1e-12);
    double with[] = {NAN, 1, INFINITY, 3};
    s = tbg_spread_of(4, with);
    NEAR(s.error, sqrt(2), 1e-12);
    s = tbg_spread_of(1, with);
    assert_true(isnan(s.error) && isnan(s.low));
    /* Wilson's interval of 0 and of 5 in 10, as tables have it. */
    s = tbg_spread_share(0, 10);
    assert_true(s.error == 0 && s.low == 0);
    assert_true(fabs(s.high - 0.2775) < 1e-3);
    s = tbg_spread_share(5, 10);
    assert_true(fabs(s.low - 0.2366) < 1e-3 && fabs(s.high - 0.7634) < 1e-3);
    s = tbg_spread_share(0, 0);
    assert_true(isnan(s.error));
}

/* Lognormal weights with sigma 0.5: ESS/n = (mean w)^2 / mean w^2 is a smooth function of two means, so the
 * delta method gives its error; NLL is a plain mean. */
static void weights(void **state) {
    (void)state;
    enum { N = 4000 };
    tbg_molecule *m;
    assert_ok(tbg_molecule_from_sequence("ACE-A-NME", &m));
    tbg_ensemble *e;
    assert_ok(tbg_ensemble_create(m, N, &e));
    double z[N], w1 = 0, w2 = 0, nll = 0, v = 0, vn = 0;
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, 1), 0, N, z);
    for (long i = 0; i < N; i++) {
        synthetic_positions(m, i % 3 ? -1.2 : 1, e->positions + i * m->n_atoms * 3);
        e->log_q[i] = 3 - 0.5 * z[i];
        e->reduced_energy[i] = -3; /* log w = 0.5 z */
        double w = exp(0.5 * z[i]);
        w1 += w / N;
        w2 += w * w / N;
        nll -= e->log_q[i] / N;
    }
    for (long i = 0; i < N; i++) {
        double w = exp(0.5 * z[i]), influence = 2 * w1 / w2 * (w - w1) - w1 * w1 / w2 / w2 * (w * w - w2);
        v += influence * influence / N / N;
        vn += pow(-e->log_q[i] - nll, 2) / N / N;
    }
    tbg_ensemble_weigh(e);
    tbg_ensemble_summary s;
    assert_ok(tbg_ensemble_summarise(e, 1000, &s));
    NEAR(s.ess_raw.value, w1 * w1 / w2, 1e-12);
    NEAR(s.ess_raw_spread.error, sqrt(v), 0.1); /* known to 1 / sqrt(2000) = 2.2 %, and the second order */
    NEAR(s.nll_spread.error, sqrt(vn), 0.1);
    assert_true(s.ess_raw.error == s.ess_raw_spread.error);
    assert_true(fabs((s.nll_spread.low + s.nll_spread.high) / 2 - s.nll_mean) < 0.3 * s.nll_spread.error);
    NEAR(s.nll_spread.high - s.nll_spread.low, 2 * 1.96 * sqrt(vn), 0.1);
    assert_true(s.ess_clipped_spread.low < s.ess_clipped && s.ess_clipped < s.ess_clipped_spread.high);
    assert_true(s.pareto_k_spread.low < s.pareto_k && s.pareto_k < s.pareto_k_spread.high);
    assert_true(s.valid_spread.error == 0 && s.valid_spread.high > 0.99999 && s.valid_spread.low < 1);
    /* No dependence on threads or time. */
    tbg_ensemble_summary again;
    assert_ok(tbg_ensemble_summarise(e, 1000, &again));
    assert_memory_equal(&s.pareto_k_spread, &again.pareto_k_spread, sizeof s.pareto_k_spread);
    tbg_ensemble_free(e);
    tbg_molecule_free(m);
}

/* W1 between two sets apart by much is the difference of means: errors as of means. */
static void energies(void **state) {
    (void)state;
    enum { N = 2000, M = 4000 };
    static double u[N], r[M], w[N];
    double mean = 0, square = 0, w_mean = 0, w_square = 0, sum = 0;
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, 2), 0, N, u);
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, 3), 0, M, r);
    for (int i = 0; i < N; i++)
        sum += w[i] = 1 + (i % 4);
    for (int i = 0; i < N; i++) {
        u[i] += 100;
        mean += u[i] / N;
        w_mean += w[i] * u[i] / sum;
    }
    for (int i = 0; i < N; i++) {
        square += pow(u[i] - mean, 2) / N;
        w_square += pow(w[i] / sum * (u[i] - w_mean), 2);
    }
    tbg_spread w1, w2;
    assert_ok(tbg_spread_energies(N, u, NULL, M, r, 800, 5, &w1, &w2));
    NEAR(w1.error, sqrt(square / N + 1.0 / M),
         0.15); /* twenty blocks know their variance to a sixth, a third of all */
    assert_ok(tbg_spread_energies(N, u, w, M, r, 800, 5, &w1, &w2));
    NEAR(w1.error, sqrt(w_square + 1.0 / M), 0.15);
    /* Correlated frames: every value a hundred times over is worth a hundredth. */
    for (int i = 0; i < M; i++)
        r[i] = i % 100 ? r[i - 1] : 10 * r[i];
    assert_ok(tbg_spread_energies(N, u, NULL, M, r, 800, 5, &w1, &w2));
    NEAR(w1.error, sqrt(100.0 / (M / 100)), 0.45); /* independent frames would give a tenth */
}

/* Mass p against q at two places d apart: W2^2 = |p - q| d^2, whose error is that of the shares. */
static void two_places(void **state) {
    (void)state;
    enum { N = 400, ALL = 2000 };
    static double x[N], y[N], all[ALL], w[ALL];
    double w2, error;
    for (int i = 0; i < N; i++) {
        x[i] = i % 10 < 5 ? 2 : 0;
        y[i] = i % 10 < 2 ? 2 : 0; /* alike in every block: no error from there */
    }
    for (int i = 0; i < ALL; i++)
        all[i] = i % 10 < 5 ? 2 : 0;
    assert_ok(tbg_wasserstein_points_error(N, 1, 0, x, y, ALL, all, NULL, &w2, &error));
    NEAR(w2, sqrt(0.3 * 4), 1e-9);
    NEAR(error, 4 * sqrt(0.25 / ALL) / (2 * w2), 1e-6);
    /* Half of the weight on few samples. */
    double p = 0, v = 0;
    for (int i = 0; i < ALL; i++)
        w[i] = i % 10 < 5 ? (i < 100 ? 0.5 / 50 : 0) : 0.5 / 1000;
    for (int i = 0; i < ALL; i++)
        p += w[i] * all[i] / 2;
    for (int i = 0; i < ALL; i++)
        v += pow(w[i] * (all[i] / 2 - p), 2);
    assert_ok(tbg_wasserstein_points_error(N, 1, 0, x, y, ALL, all, w, &w2, &error));
    NEAR(error, 4 * sqrt(v) / (2 * w2), 1e-6);
    assert_ok(tbg_wasserstein_points_error(N, 1, 0, x, x, ALL, all, w, &w2, &error));
    assert_true(w2 == 0 && isnan(error));
}

/* The stated error against the scatter of repeated draws, in the plane. */
static void repeated(void **state) {
    (void)state;
    enum { N = 200, TRIALS = 80 };
    static double x[2 * N], y[2 * N];
    double w2, error, mean = 0, square = 0, stated = 0, values[TRIALS];
    for (int t = 0; t < TRIALS; t++) {
        tbg_random_normal(9, TBG_STREAM(TBG_STREAM_TEST, 2 * t), 0, 2 * N, x);
        tbg_random_normal(9, TBG_STREAM(TBG_STREAM_TEST, 2 * t + 1), 0, 2 * N, y);
        for (int i = 0; i < N; i++) {
            x[2 * i] = 1.5 * x[2 * i] + 1;
            x[2 * i + 1] -= i % 4 == 0 ? 2 : 0;
        }
        assert_ok(tbg_wasserstein_points_error(N, 2, 0, x, y, N, x, NULL, &w2, &error));
        values[t] = w2;
        mean += w2 / TRIALS;
        stated += error / TRIALS;
    }
    for (int t = 0; t < TRIALS; t++)
        square += pow(values[t] - mean, 2) / (TRIALS - 1);
    NEAR(stated, sqrt(square), 0.3); /* the scatter is known to 1 / sqrt(160) = 8 %, the blocks to a sixth */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantiles), cmocka_unit_test(weights),
                                       cmocka_unit_test(energies), cmocka_unit_test(two_places),
                                       cmocka_unit_test(repeated)};
    return cmocka_run_group_tests_name("spread", tests, NULL, NULL);
}
