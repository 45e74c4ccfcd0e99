/* test_exchange.c: replica exchange keeps every temperature's distribution; the ladder; the statistics. */
#include "tbg_test.h"
#include "dynamics/exchange.h"
#include "dynamics/statistics.h"
#include "tbg/random.h"
#include "toy.h"

#include <stdlib.h>
#include <string.h>

static const double masses[3] = {1, 12, 16}, springs[3] = {500, 700, 900};

static tbg_lanes *lanes_for(const tbg_exchange *e, uint64_t seed) {
    static const toy_springs s = {3, springs};
    tbg_force_source source = toy_springs_source(&s);
    tbg_lanes *lanes;
    assert_ok(tbg_lanes_create(&source, masses, e->n_runs * e->n_replicas, 0.005, 5, seed, 1, &lanes));
    for (int l = 0; l < lanes->n_lanes; l++) {
        lanes->temperature[l] = e->temperatures[e->level[l]];
        tbg_lanes_draw_velocities(lanes, l, 0);
    }
    tbg_lanes_fill(lanes);
    return lanes;
}

/* Energies drawn exactly from a two-level system at every temperature: exchanges accept as often as the four
 * cases say, and leave the distribution at every temperature as it was (which a wrong criterion does not). */
static void two_level_system_is_exact(void **state) {
    (void)state;
    enum { ROUNDS = 40000, RUNS = 4, K = 3 };
    const double gap = 4; /* kJ/mol */
    tbg_exchange e;
    assert_ok(tbg_exchange_create(RUNS, K, 300, 900, 17, &e));
    assert_true(fabs(e.temperatures[1] - sqrt(300.0 * 900)) < 1e-9 && e.temperatures[2] == 900);
    tbg_lanes *lanes = lanes_for(&e, 1);
    double excited[K], seen[K] = {0};
    for (int k = 0; k < K; k++)
        excited[k] = 1 / (1 + exp(gap / (TBG_BOLTZMANN * e.temperatures[k])));
    for (int i = 0; i < ROUNDS; i++) {
        double u[RUNS * K];
        tbg_random_uniform(3, TBG_STREAM(TBG_STREAM_TEST, 1), (uint64_t)i * RUNS * K, RUNS * K, u);
        for (int l = 0; l < RUNS * K; l++)
            lanes->energy[l] = u[l] < excited[e.level[l]] ? gap : 0;
        tbg_exchange_round(&e, lanes);
        for (int l = 0; l < RUNS * K; l++)
            seen[e.level[l]] += lanes->energy[l] > 0;
        memset(lanes->v, 0,
               sizeof(float) * 9 * TBG_LANES); /* scaled for ever they would leave the range of float */
    }
    double n = (double)ROUNDS * RUNS;
    for (int k = 0; k < K; k++)
        if (!(fabs(seen[k] / n - excited[k]) < 5 * sqrt(excited[k] * (1 - excited[k]) / n)))
            fail_msg("level %d: excited %g, Boltzmann %g", k, seen[k] / n, excited[k]);
    for (int k = 0; k + 1 < K; k++) {
        double a = excited[k], b = excited[k + 1];
        double difference = gap * (1 / e.temperatures[k] - 1 / e.temperatures[k + 1]) / TBG_BOLTZMANN;
        double want = 1 - (1 - a) * b * (1 - exp(-difference)), attempts = 0, accepts = 0;
        for (int r = 0; r < RUNS; r++) {
            attempts += (double)e.attempts[r * (K - 1) + k];
            accepts += (double)e.accepts[r * (K - 1) + k];
        }
        assert_true(attempts == n / 2);
        assert_true(fabs(accepts / attempts - want) < 5 * sqrt(want * (1 - want) / attempts));
    }
    tbg_lanes_free(lanes);
    tbg_exchange_free(&e);
}

/* Dynamics and exchange together on oscillators: <x^2> = kT/k at every temperature. */
static void oscillators_stay_at_their_temperatures(void **state) {
    (void)state;
    enum { RUNS = 8, K = 4, ROUNDS = 6000 };
    tbg_exchange e;
    assert_ok(tbg_exchange_create(RUNS, K, 300, 700, 5, &e));
    tbg_lanes *lanes = lanes_for(&e, 2);
    double square[K] = {0}, kinetic[K] = {0};
    for (int i = 0; i < ROUNDS; i++) {
        tbg_lanes_advance(lanes, 20);
        tbg_lanes_energies(lanes);
        tbg_exchange_round(&e, lanes);
        for (int l = 0; l < RUNS * K && i >= 100; l++) {
            square[e.level[l]] += lanes->energy[l];
            kinetic[e.level[l]] += tbg_lanes_kinetic(lanes, l);
        }
    }
    double n = (double)(ROUNDS - 100) * RUNS;
    for (int k = 0; k < K;
         k++) { /* each is 9/2 kT on average, with variance 9/2 (kT)^2; correlated over a few rounds */
        double kT = TBG_BOLTZMANN * e.temperatures[k], error = 5 * sqrt(4.5 / (n / 6)) / 4.5;
        if (!(fabs(square[k] / n / (4.5 * kT) - 1) < error))
            fail_msg("level %d: potential %g of 1 +- %g", k, square[k] / n / (4.5 * kT), error);
        if (!(fabs(kinetic[k] / n / (4.5 * kT) - 1) < error + 0.01))
            fail_msg("level %d: kinetic %g of 1 +- %g", k, kinetic[k] / n / (4.5 * kT), error);
    }
    assert_true(e.round_trips[0] > 0 && e.round_trips[7] > 0);
    tbg_lanes_free(lanes);
    tbg_exchange_free(&e);
}

static void velocities_are_scaled_and_trips_counted(void **state) {
    (void)state;
    tbg_exchange e;
    assert_ok(tbg_exchange_create(1, 2, 300, 1200, 5, &e));
    tbg_lanes *lanes = lanes_for(&e, 2);
    double before[2] = {tbg_lanes_kinetic(lanes, 0), tbg_lanes_kinetic(lanes, 1)};
    lanes->energy[0] = 100; /* the cold one is higher: always accepted */
    lanes->energy[1] = 0;
    tbg_exchange_round(&e, lanes);
    assert_int_equal(e.level[0], 1);
    assert_int_equal(tbg_exchange_lane(&e, 0, 0), 1);
    assert_true(lanes->temperature[0] == 1200 && lanes->temperature[1] == 300);
    assert_true(fabs(tbg_lanes_kinetic(lanes, 0) / before[0] - 4) < 1e-5);
    assert_true(fabs(tbg_lanes_kinetic(lanes, 1) / before[1] - 0.25) < 1e-6);
    assert_true(e.round_trips[0] == 0);
    tbg_exchange_round(&e, lanes); /* odd round: no pair */
    lanes->energy[0] = -100;       /* now the hot one is lower: back, which is one round trip of lane 0 */
    lanes->energy[1] = 100;
    tbg_exchange_round(&e, lanes);
    assert_int_equal(e.level[0], 0);
    assert_true(e.round_trips[0] == 1);
    lanes->energy[0] = -1e4; /* never accepted */
    lanes->energy[1] = 1e4;
    tbg_exchange_round(&e, lanes);
    tbg_exchange_round(&e, lanes);
    assert_int_equal(e.level[0], 0);
    tbg_lanes_free(lanes);
    tbg_exchange_free(&e);
}

/* The predicted acceptance is that of Gaussian energies; the ladder is the shortest that reaches the rate. */
static void ladder_reaches_its_rate(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        double c = 3 + 10 * i, rate = 0.1 + 0.04 * i;
        int n = tbg_exchange_replicas(c, 300, 600, rate);
        assert_true(tbg_exchange_acceptance(c, pow(2, 1.0 / (n - 1))) >= rate);
        assert_true(n == 2 || tbg_exchange_acceptance(c, pow(2, 1.0 / (n - 2))) < rate);
    }
    /* harmonic energies: Gamma(c) kT; large c is nearly Gaussian */
    const double c = 60, ratio = 1.12;
    double mean = 0;
    enum { N = 4000 };
    for (uint64_t i = 0; i < N; i++) {
        double z[240], u[2] = {0, 0};
        tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 2), i * 240, 240, z);
        for (int k = 0; k < 240; k++)
            u[k / 120] += z[k] * z[k] / 2;
        double exponent = (1 - 1 / ratio) * (u[0] - u[1] * ratio);
        mean += fmin(1, exp(exponent)) / N;
    }
    assert_true(fabs(mean - tbg_exchange_acceptance(c, ratio)) < 0.03);
}

static void inefficiency_of_a_known_process(void **state) {
    (void)state;
    enum { N = 200000 };
    double *a = malloc(N * sizeof *a);
    const double rho[] = {0, 0.5, 0.9, 0.98};
    for (int k = 0; k < 4; k++) {
        tbg_random_normal(5, TBG_STREAM(TBG_STREAM_TEST, 3 + k), 0, N, a);
        for (int i = 1; i < N; i++)
            a[i] = rho[k] * a[i - 1] + sqrt(1 - rho[k] * rho[k]) * a[i];
        double want = (1 + rho[k]) / (1 - rho[k]), got = tbg_statistics_inefficiency(N, a);
        if (!(fabs(got / want - 1) < 0.15))
            fail_msg("rho %g: %g, want %g", rho[k], got, want);
    }
    for (int i = 0; i < N; i++)
        a[i] = 1;
    assert_true(tbg_statistics_inefficiency(N, a) == N);
    free(a);
}

static double transient(int fades, double length, int j) {
    return length == 0 ? 0 : fades ? 8 * exp(-j * log(16) / length) : j < length ? 5 : 0;
}

/* Correlated noise with a known transient that fades or that ends with a step: it is dropped, and not much
 * more. */
static void equilibration_of_series_with_a_transient(void **state) {
    (void)state;
    enum { N = 4000, SERIES = 40 };
    double *a = malloc(N * sizeof *a);
    const double rho = 0.8, length[] = {0, 100, 400, 1000};
    for (int kind = 0; kind < 2; kind++)
        for (int k = 0; k < 4; k++) {
            double dropped = 0, longest = 0, left = 0, bias = 0;
            for (int i = 0; i < SERIES; i++) {
                tbg_random_normal(5, TBG_STREAM(TBG_STREAM_TEST, 50 + i), 0, N, a);
                for (int j = 1; j < N; j++)
                    a[j] = rho * a[j - 1] + sqrt(1 - rho * rho) * a[j];
                for (int j = 0; j < N; j++)
                    a[j] += transient(kind, length[k], j);
                int start = (int)tbg_statistics_equilibration(N, a);
                double mean = 0, rest = 0;
                for (int j = start; j < N; j++) {
                    mean += a[j] / (N - start);
                    rest += transient(kind, length[k], j) / (N - start);
                }
                bias += mean / SERIES;
                dropped += (double)start / SERIES;
                longest = fmax(longest, start);
                left = fmax(left, rest);
            }
            /* undropped, the longest would be off by 1.2 and 0.7; the standard error of a mean is 3 / sqrt(N)
             */
            if (!(left < (kind ? 3 : 1) * 3 / sqrt(N) && fabs(bias) < 2 * 3 / sqrt(N)))
                fail_msg("kind %d, transient %g: the rest is off by up to %g, mean %g", kind, length[k], left,
                         bias);
            if (!(dropped <= 2 * length[k] + 0.05 * N && longest < N / 2))
                fail_msg("kind %d, transient %g: dropped %g on average, at most %g", kind, length[k], dropped,
                         longest);
        }
    /* short and stationary: chance alone seldom drops anything */
    int any = 0;
    for (int i = 0; i < 200; i++) {
        tbg_random_normal(6, TBG_STREAM(TBG_STREAM_TEST, 50 + i), 0, 400, a);
        for (int j = 1; j < 400; j++)
            a[j] = 0.3 * a[j - 1] + a[j];
        any += tbg_statistics_equilibration(400, a) > 0;
    }
    assert_true(any < 40);
    /* an indicator that starts in a state it leaves for good at 1500, then visits in short spells */
    for (int j = 0; j < N; j++)
        a[j] = j < 1500 || tbg_random_below(1, TBG_STREAM(TBG_STREAM_TEST, 8), (uint64_t)j / 5, 10) == 0;
    int64_t start = tbg_statistics_equilibration(N, a);
    assert_true(start >= 1450 && start < 2200);
    /* one that never changes tells nothing; nor do very short ones */
    for (int j = 0; j < N; j++)
        a[j] = 1;
    assert_true(tbg_statistics_equilibration(N, a) == 0);
    for (int n = 0; n < 60; n++)
        assert_true(tbg_statistics_equilibration(n, a) == 0);
    for (int j = 0; j < 60; j++)
        a[j] = exp(-j);
    for (int n = 0; n < 60; n++) {
        start = tbg_statistics_equilibration(n, a);
        assert_true(start >= 0 && start <= n * 3 / 4);
    }
    free(a);
}

static void populations_and_agreement(void **state) {
    (void)state;
    double inside[1000];
    for (int i = 0; i < 1000; i++)
        inside[i] = tbg_random_below(1, TBG_STREAM(TBG_STREAM_TEST, 9), (uint64_t)i, 4) == 0;
    tbg_population p;
    tbg_statistics_population(1000, inside, &p);
    assert_true(fabs(p.value - log(3)) < 5 * p.error && p.error > 0.04 && p.error < 0.15);
    assert_true(fabs(p.value + log(p.p / (1 - p.p))) < 1e-12);
    double chi2, value;
    /* two values d apart with error 1 each: chi2 = d^2/2; 5 % of 1 degree of freedom is 3.8415 */
    tbg_population two[3] = {
        {.value = 0, .error = 1}, {.value = sqrt(2 * 3.841458821), .error = 1}, {.value = 0}};
    tbg_statistics_agreement(2, two, &chi2, &value);
    assert_true(fabs(chi2 - 3.841458821) < 1e-9 && fabs(value - 0.05) < 1e-6);
    /* three values: 2 degrees of freedom, exp(-chi2/2) */
    two[2] = (tbg_population){.value = 1, .error = 2};
    tbg_statistics_agreement(3, two, &chi2, &value);
    assert_true(fabs(value - exp(-chi2 / 2)) < 1e-9);
    two[1].value = 0.1;
    tbg_statistics_agreement(3, two, &chi2, &value);
    assert_true(fabs(value - exp(-chi2 / 2)) < 1e-9);
    memset(inside, 0, sizeof inside); /* never visited: nothing is known, and that is not agreement */
    tbg_statistics_population(1000, inside, &two[1]);
    assert_true(isnan(two[1].value) && two[1].effective == 1);
    tbg_statistics_agreement(3, two, &chi2, &value);
    assert_true(value == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_level_system_is_exact),
        cmocka_unit_test(oscillators_stay_at_their_temperatures),
        cmocka_unit_test(velocities_are_scaled_and_trips_counted),
        cmocka_unit_test(ladder_reaches_its_rate),
        cmocka_unit_test(inefficiency_of_a_known_process),
        cmocka_unit_test(equilibration_of_series_with_a_transient),
        cmocka_unit_test(populations_and_agreement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
