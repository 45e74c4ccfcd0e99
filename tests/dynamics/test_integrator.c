/* test_integrator.c: the Langevin step against analytic distributions, and its random numbers against their
 * addresses. */
#include "tbg_test.h"
#include "base/simd.h"
#include "dynamics/integrator.h"
#include "tbg/random.h"
#include "toy.h"

#include <stdlib.h>
#include <string.h>

/* Box-Muller of integrator_simd.c in double, from the documented address. */
static void normals_at_address(uint64_t seed, int lane, uint64_t counter, double out[4]) {
    uint32_t w[4];
    tbg_random_words(seed, TBG_STREAM(TBG_STREAM_LANGEVIN, lane), counter, w);
    for (int i = 0; i < 4; i += 2) {
        double u = ((double)(w[i] >> 1) + 0.5) * 0x1p-31, r = sqrt(-2 * log(u));
        double y = (double)(int32_t)(w[i + 1] << 2) * M_PI_4 * 0x1p-31, c = cos(y), s = sin(y);
        if (w[i + 1] >> 31)
            c = -c;
        int exchange = w[i + 1] >> 30 & 1;
        out[i] = r * (exchange ? s : c);
        out[i + 1] = r * (exchange ? c : s);
    }
}

static void normals_are_those_of_their_address(void **state) {
    (void)state;
    double worst = 0;
    for (int k = 0; k < 2000; k++) {
        float got[4][TBG_LANES];
        uint64_t seed = 0x123456789abcdefULL * (uint64_t)(k % 3), counter = (uint64_t)k * 0x10000001ULL;
        tbg_step_kernels()->normals(seed, k % 5, counter, got[0]);
        for (int l = 0; l < TBG_LANES; l++) {
            double want[4];
            normals_at_address(seed, k % 5 * TBG_LANES + l, counter, want);
            for (int i = 0; i < 4; i++)
                /* near u = 1 the radius is small and u has steps of 6e-8 in float: absolute error up to 3e-4
                 * there */
                if (fabs(want[i]) > 0.05 || hypot(want[i / 2 * 2], want[i / 2 * 2 + 1]) > 0.05) {
                    double e = fabs((double)got[i][l] - want[i]);
                    worst = e > worst || !(e == e) ? e : worst;
                }
        }
    }
    assert_true(worst < 3e-6);
}

static void normals_are_normal(void **state) {
    (void)state;
    enum { BLOCKS = 40000 };
    double n = 4.0 * BLOCKS * TBG_LANES, sum[5] = {0}, lag = 0, last = 0, cross = 0;
    double beyond[4] = {0}; /* |z| > 1, 2, 3, 4 */
    float z[4][TBG_LANES];
    for (uint64_t c = 0; c < BLOCKS; c++) {
        tbg_step_kernels()->normals(7, 3, c, z[0]);
        for (int i = 0; i < 4; i++)
            for (int l = 0; l < TBG_LANES; l++) {
                double a = (double)z[i][l];
                sum[1] += a;
                sum[2] += a * a;
                sum[3] += a * a * a;
                sum[4] += a * a * a * a;
                for (int t = 0; t < 4; t++)
                    beyond[t] += fabs(a) > t + 1;
                lag += a * last;
                last = a;
                cross += (double)z[i][l] * (double)z[(i + 1) % 4][l];
            }
    }
    assert_true(fabs(sum[1] / n) < 5 / sqrt(n));
    assert_true(fabs(sum[2] / n - 1) < 5 * sqrt(2 / n));
    assert_true(fabs(sum[3] / n) < 5 * sqrt(15 / n));
    assert_true(fabs(sum[4] / n - 3) < 5 * sqrt(96 / n));
    assert_true(fabs(lag / n) < 5 / sqrt(n));
    assert_true(fabs(cross / n) < 5 / sqrt(n));
    for (int t = 0; t < 4; t++) {
        double p = erfc((t + 1) / M_SQRT2);
        assert_true(fabs(beyond[t] - n * p) < 5 * sqrt(n * p));
    }
}

enum { ATOMS = 5 };
static const double masses[ATOMS] = {1.008, 12.01, 14.007, 15.999, 32.06};
static const double springs[ATOMS] = {2000, 50000, 800, 10000, 300};

static tbg_lanes *oscillators(int n_lanes, double timestep, double friction, uint64_t seed, int threads) {
    static const toy_springs s = {ATOMS, springs};
    tbg_force_source source = toy_springs_source(&s);
    tbg_lanes *lanes;
    assert_ok(tbg_lanes_create(&source, masses, n_lanes, timestep, friction, seed, threads, &lanes));
    double zero[3 * ATOMS] = {0};
    for (int l = 0; l < n_lanes; l++) {
        lanes->temperature[l] = 200 + 100 * (l % 4);
        tbg_lanes_set_positions(lanes, l, zero);
        tbg_lanes_draw_velocities(lanes, l, 0);
    }
    tbg_lanes_fill(lanes);
    return lanes;
}

/* Positions of an oscillator under the middle scheme have exactly the variance kT/k, at any stable timestep;
 * the stored velocities (after the thermostat, one drift of dt/2 behind) have kT/m (1 + O((w dt)^2)). */
static void oscillators_have_their_distribution(void **state) {
    (void)state;
    enum { LANES = 32, SAMPLES = 2500 };
    tbg_lanes *s = oscillators(LANES, 0.004, 20, 11, 2);
    double x2[4][ATOMS] = {{0}}, v2[4][ATOMS] = {{0}}, x4[4][ATOMS] = {{0}};
    tbg_lanes_advance(s, 500);
    for (int k = 0; k < SAMPLES; k++) {
        tbg_lanes_advance(s, 20);
        for (int l = 0; l < LANES; l++)
            for (int j = 0; j < 3 * ATOMS; j++) {
                size_t at =
                    ((size_t)(l / TBG_LANES) * 3 * ATOMS + (size_t)j) * TBG_LANES + (size_t)l % TBG_LANES;
                double x = (double)s->x[at], v = (double)s->v[at];
                x2[l % 4][j / 3] += x * x;
                x4[l % 4][j / 3] += x * x * x * x;
                v2[l % 4][j / 3] += v * v;
            }
    }
    double n = 3.0 * SAMPLES * LANES / 4;
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < ATOMS; i++) {
            double kT = TBG_BOLTZMANN * (200 + 100 * t), wdt2 = springs[i] / masses[i] * 0.004 * 0.004;
            /* slow modes decorrelate in w^2/friction: count independent samples */
            double rate = springs[i] / masses[i] / 20;
            rate = rate < 20 ? rate : 20;
            double independent = n * (0.08 * rate < 1 ? 0.08 * rate : 1);
            double position = x2[t][i] / n / (kT / springs[i]), velocity = v2[t][i] / n / (kT / masses[i]);
            double kurtosis = x4[t][i] / n / pow(kT / springs[i], 2) / 3;
            if (!(fabs(position - 1) < 5 * sqrt(2 / independent)))
                fail_msg("atom %d at %d: <x^2> k/kT = %g +- %g", i, t, position, sqrt(2 / independent));
            assert_true(fabs(kurtosis - 1) < 5 * sqrt(96 / 9.0 / independent));
            if (!(fabs(velocity - 1) < 5 * sqrt(2 / independent) + wdt2 / 3))
                fail_msg("atom %d at %d: <v^2> m/kT = %g +- %g", i, t, velocity, sqrt(2 / independent));
        }
    tbg_lanes_free(s);
}

/* Without friction the energy at full steps oscillates with an amplitude proportional to dt^2. */
static double energy_error(double timestep, int64_t steps) {
    tbg_lanes *s = oscillators(TBG_LANES, timestep, 0, 5, 1);
    double first = 0, worst = 0;
    for (int64_t k = 0; k < steps; k++) {
        /* kinetic energy at the positions' time: mean of the half-step velocities around it, squared */
        size_t n = (size_t)3 * ATOMS * TBG_LANES;
        float before[3 * ATOMS * TBG_LANES];
        memcpy(before, s->v, sizeof before);
        tbg_lanes_energies(s);
        double potential = s->energy[1], kinetic = 0;
        tbg_lanes_advance(s, 1);
        for (size_t j = 1; j < n; j += TBG_LANES) {
            double v = ((double)before[j] + (double)s->v[j]) / 2;
            kinetic += masses[j / TBG_LANES / 3] * v * v / 2;
        }
        if (k == 0)
            first = potential + kinetic;
        else if (fabs(potential + kinetic - first) > worst)
            worst = fabs(potential + kinetic - first);
    }
    tbg_lanes_free(s);
    return worst / first;
}

static void energy_is_conserved_to_second_order(void **state) {
    (void)state;
    double coarse = energy_error(0.004, 2500), fine = energy_error(0.002, 5000),
           finer = energy_error(0.001, 10000);
    assert_true(coarse < 0.1);
    assert_true(coarse / fine > 3 && coarse / fine < 5);
    assert_true(fine / finer > 3 && fine / finer < 5);
}

static void threads_and_calls_do_not_matter(void **state) {
    (void)state;
    tbg_lanes *one = oscillators(40, 0.002, 1, 3, 1), *two = oscillators(40, 0.002, 1, 3, 2),
              *other = oscillators(40, 0.002, 1, 4, 2);
    size_t bytes = sizeof(float) * (size_t)one->n_blocks * 3 * ATOMS * TBG_LANES;
    tbg_lanes_advance(one, 100);
    for (int k = 0; k < 10; k++)
        tbg_lanes_advance(two, 10);
    tbg_lanes_advance(other, 100);
    assert_memory_equal(one->x, two->x, bytes);
    assert_memory_equal(one->v, two->v, bytes);
    assert_true(memcmp(one->x, other->x, bytes));
    tbg_lanes_free(one);
    tbg_lanes_free(two);
    tbg_lanes_free(other);
}

static void instruction_sets_agree(void **state) {
    (void)state;
    float want[4 * TBG_LANES];
    tbg_step_kernels()->normals(1, 2, 3, want);
    const char *const sets[] = {"base", "avx2"};
    for (int i = 0; i < 2; i++) {
        setenv("TBG_SIMD", sets[i], 1);
        float got[4 * TBG_LANES];
        tbg_step_kernels()->normals(1, 2, 3, got);
        for (int k = 0; k < 4 * TBG_LANES; k++)
            assert_true(fabsf(got[k] - want[k]) < 3e-6f);
    }
    unsetenv("TBG_SIMD");
}

static void lanes_start_at_temperature_without_drift(void **state) {
    (void)state;
    tbg_lanes *s = oscillators(64, 0.001, 1, 9, 2);
    double ratio = 0;
    for (int l = 0; l < 64; l++) {
        double momentum = 0;
        for (int i = 0; i < ATOMS; i++) {
            size_t at =
                ((size_t)(l / TBG_LANES) * 3 * ATOMS + 3 * (size_t)i) * TBG_LANES + (size_t)l % TBG_LANES;
            momentum += masses[i] * (double)s->v[at];
        }
        assert_true(fabs(momentum) < 1e-4);
        ratio += tbg_lanes_kinetic(s, l) / (0.5 * (3 * ATOMS - 3) * TBG_BOLTZMANN * s->temperature[l]) / 64;
    }
    assert_true(fabs(ratio - 1) < 5 * sqrt(2.0 / (64 * (3 * ATOMS - 3))));
    tbg_lanes_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normals_are_those_of_their_address),
        cmocka_unit_test(normals_are_normal),
        cmocka_unit_test(oscillators_have_their_distribution),
        cmocka_unit_test(energy_is_conserved_to_second_order),
        cmocka_unit_test(threads_and_calls_do_not_matter),
        cmocka_unit_test(instruction_sets_agree),
        cmocka_unit_test(lanes_start_at_temperature_without_drift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
