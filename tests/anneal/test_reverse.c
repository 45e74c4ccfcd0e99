/* test_reverse.c: annealing backwards from a given x against annealing forwards, on a toy whose Z is known:
 * the two distributions of the estimate differ by the factor estimate / Z, and the mean of q exp(-u) /
 * estimate is the density of what forward annealing makes. */
#include "tbg_test.h"
#include "anneal/toy.h"

#include <stdlib.h>

typedef struct {
    double sum, squares, n;
} mean;
static void add(mean *m, double x) {
    m->sum += x;
    m->squares += x * x;
    m->n++;
}
static double value(mean m) {
    return m.sum / m.n;
}
static double error(mean m) {
    return sqrt(fmax(m.squares / m.n - value(m) * value(m), 0) / m.n);
}
static double errors_apart(mean a, mean b) {
    double e = hypot(error(a), error(b)); /* 0: where neither saw anything, or one was about to */
    return fabs(value(a) - value(b)) / fmax(e, 1 / fmin(a.n, b.n));
}

enum { N = 8000 };

/* For every function h of the estimate Z^: E_reverse[h] = E_forward[Z^ h] / Z. Here with h = Z/(Z^ + Z),
 * bounded like Z^ h, and with h = 1 for Z^ below several thresholds (h Z^ is bounded, too). The forward
 * estimate in the place of the reverse one is many errors off: the test can tell. */
static void same_up_to_the_estimate(void **state) {
    (void)state;
    const int replicas[] = {1, 1, 1, 3, 2, 16}, stages[] = {1, 2, 5, 2, 1, 10}, steps[] = {1, 2, 3, 1, 4, 3};
    const double distance[] = {0.16, 0.17, 0.13};
    tbg_engine engine = toy_engine();
    double worst = 0, least_power = INFINITY;
    toy_set s = toy_make_set(N);
    for (int c = 0; c < 18; c++) {
        tbg_anneal_options o = toy_anneal(replicas[c % 6], stages[c % 6], steps[c % 6]);
        double d = distance[c / 6], z = toy_z(d), below[3] = {0.3 * z, z, 3 * z};
        const long n = o.replicas > 3 ? N / 8 : N;
        mean forward[4] = {0}, reverse[4] = {0}, wrong = {0}, plain = {0};
        o.seed = 100 + (uint64_t)c;
        for (long i = 0; i < n; i++)
            toy_place((uint64_t)i, d, s.y + 6 * i);
        assert_ok(tbg_anneal(&engine, 2, &o, n, 0, s.y, s.x, s.result));
        for (long i = 0; i < n; i++) {
            double e = exp(s.result[i].log_z);
            add(&plain, e);
            add(&forward[3], e / (e + z));
            add(&wrong, z / (e + z));
            for (int k = 0; k < 3; k++)
                add(&forward[k], e < below[k] ? e / z : 0);
        }
        for (long i = 0; i < n; i++)
            toy_draw((uint64_t)(N * c + i), s.y + 6 * i, s.x + 6 * i);
        assert_ok(tbg_anneal_reverse(&engine, 2, &o, n, s.number, s.x, s.y, s.result));
        for (long i = 0; i < n; i++) {
            double e = exp(s.result[i].log_z);
            add(&reverse[3], z / (e + z));
            for (int k = 0; k < 3; k++)
                add(&reverse[k], e < below[k]);
            assert_true(fabs(s.result[i].u - toy_energy(toy_distance(s.x + 6 * i), NULL)) < 1e-6);
        }
        for (int k = 0; k < 4; k++) {
            worst = fmax(worst, errors_apart(forward[k], reverse[k]));
            if (!(errors_apart(forward[k], reverse[k]) < 4.2 &&
                  error(reverse[k]) < 0.5 / sqrt((double)n) + 1e-9))
                fail_msg("d %g, K %d, S %d, function %d: forward %g +- %g, reverse %g +- %g", d, o.replicas,
                         o.stages, k, value(forward[k]), error(forward[k]), value(reverse[k]),
                         error(reverse[k]));
        }
        if (o.replicas < 3)
            least_power = fmin(least_power, errors_apart(wrong, reverse[3]));
        if (o.replicas * o.stages > 100 && d < 0.15 && /* elsewhere the weights have a heavy tail */
            !(fabs(value(plain) / z - 1) < 4 * error(plain) / z && error(plain) / z < 0.01))
            fail_msg("d %g: mean estimate %g +- %g of Z", d, value(plain) / z, error(plain) / z);
    }
    print_message("    at most %.1f errors apart; forward estimates in their place at least %.1f\n", worst,
                  least_power);
    assert_true(least_power > 8);
    toy_drop_set(s);
}

/* The density of x made by a flow of density q (a shell of y's) and by annealing that is too short to be
 * exact: by counting, and as the mean of q(y) exp(-u(x)) / estimate over y given x, x spread over the same
 * intervals of r. */
static void density_of_what_is_made(void **state) {
    (void)state;
    enum { BINS = 8 };
    const double centre = 0.172, width = 0.006, low = 0.136, step = 0.007;
    double worst = 0;
    tbg_engine engine = toy_engine();
    toy_set s = toy_make_set(3 * N);
    for (int c = 0; c < 2; c++) {
        tbg_anneal_options o = c ? toy_anneal(2, 4, 2) : toy_anneal(4, 2, 2);
        mean counted[BINS] = {0}, found[BINS] = {0};
        for (long i = 0; i < s.n; i++) {
            double z;
            tbg_random_normal(23, TBG_STREAM(TBG_STREAM_TEST, i), 0, 1, &z);
            toy_place((uint64_t)i, centre + width * z, s.y + 6 * i);
        }
        assert_ok(tbg_anneal(&engine, 2, &o, s.n, 0, s.y, s.x, s.result));
        for (long i = 0; i < s.n; i++)
            for (int b = 0; b < BINS; b++) {
                double r = toy_distance(s.x + 6 * i);
                add(&counted[b], r >= low + b * step && r < low + (b + 1) * step);
            }
        for (long i = 0; i < s.n; i++) {
            double u;
            tbg_random_uniform(24, TBG_STREAM(TBG_STREAM_TEST, i), 0, 1, &u);
            toy_place((uint64_t)(s.n + i), low + step * ((double)(i % BINS) + u), s.x + 6 * i);
        }
        tbg_anneal_smooth(2, &o, s.n, s.number, s.x, s.y);
        assert_ok(tbg_anneal_reverse(&engine, 2, &o, s.n, s.number, s.x, s.y, s.result));
        for (long i = 0; i < s.n; i++) {
            double R = toy_distance(s.y + 6 * i), r = toy_distance(s.x + 6 * i),
                   q = exp(-0.5 * pow((R - centre) / width, 2)) / (width * sqrt(2 * M_PI)) /
                       (4 * M_PI * R * R);
            for (int d = 0; d < 3; d++)
                assert_true(fabs(s.y[6 * i + d] + s.y[6 * i + 3 + d]) < 1e-12);
            /* q is a density of x1 - x2; that of the mean-free coordinates, as Z needs it, is larger by a
             * factor that the volume of x has in return. */
            add(&found[i % BINS], step * 4 * M_PI * r * r * q * exp(-s.result[i].u - s.result[i].log_z));
        }
        for (int b = 0; b < BINS; b++) {
            worst = fmax(worst, errors_apart(counted[b], found[b]));
            if (!(errors_apart(counted[b], found[b]) < 4 && error(found[b]) < 0.02))
                fail_msg("K %d, r from %g: counted %g +- %g, found %g +- %g", o.replicas, low + b * step,
                         value(counted[b]), error(counted[b]), value(found[b]), error(found[b]));
        }
        assert_true(value(counted[4]) > 0.2); /* there is something to see */
    }
    print_message("    at most %.1f errors apart\n", worst);
    toy_drop_set(s);
}

/* Neither threads nor the neighbours in a call matter; where centres are does not; hostile positions stop
 * nobody. */
static void one_by_one(void **state) {
    (void)state;
    enum { M = 37 };
    tbg_engine engine = toy_engine();
    tbg_anneal_options o = toy_anneal(4, 3, 2);
    toy_set s = toy_make_set(M);
    double x[6], y[6], old[6 * M];
    tbg_anneal_result all[M], one;
    for (long i = 0; i < M; i++)
        toy_place((uint64_t)i, 0.15, s.x + 6 * i);
    memcpy(old, s.x, sizeof old);
    tbg_anneal_smooth(2, &o, M, s.number, s.x, s.y);
    assert_ok(tbg_anneal_reverse(&engine, 2, &o, M, s.number, s.x, s.y, all));
    assert_memory_equal(s.x, old, sizeof old);
    o.threads = 2;
    for (long i = 0; i < M; i += 9) {
        tbg_anneal_smooth(2, &o, 1, s.number + i, s.x + 6 * i, y);
        assert_memory_equal(y, s.y + 6 * i, sizeof y);
        assert_ok(tbg_anneal_reverse(&engine, 2, &o, 1, s.number + i, s.x + 6 * i, y, &one));
        assert_memory_equal(&one, &all[i], sizeof one);
        for (int k = 0; k < 6; k++)
            x[k] = s.x[6 * i + k] + (k % 3 ? 3 : -2);
        assert_ok(tbg_anneal_reverse(&engine, 2, &o, 1, s.number + i, x, y, &one));
        assert_true(fabs(one.log_z - all[i].log_z) < 1e-6);
        uint64_t other = s.number[i] + 1;
        assert_ok(tbg_anneal_reverse(&engine, 2, &o, 1, &other, s.x + 6 * i, y, &one));
        assert_true(one.log_z != all[i].log_z);
    }
    const double bad[] = {NAN, INFINITY, 1e300};
    for (int k = 0; k < 3; k++) {
        memcpy(s.x, old, sizeof old);
        s.x[6 * k + 2] = bad[k];   /* x */
        s.y[6 * (k + 5)] = bad[k]; /* y */
    }
    assert_ok(tbg_anneal_reverse(&engine, 2, &o, M, s.number, s.x, s.y, s.result));
    for (long i = 0; i < M; i++) {
        int spoilt = (i >= 5 && i < 8) || i == 2;
        assert_true(spoilt ? s.result[i].log_z == -INFINITY : s.result[i].log_z == all[i].log_z);
    }
    o.stages = 0;
    assert_int_equal(tbg_anneal_reverse(&engine, 2, &o, M, s.number, s.x, s.y, s.result), TBG_INPUT);
    toy_drop_set(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_up_to_the_estimate),
                                       cmocka_unit_test(density_of_what_is_made),
                                       cmocka_unit_test(one_by_one)};
    return cmocka_run_group_tests_name("annealing backwards", tests, NULL, NULL);
}
