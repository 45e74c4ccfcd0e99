/* test_group.c: the code that CUDA runs, with the threads of a group taking turns on the host: energies and
 * forces against the oracle on the shared vectors, steps against the processor's integrator, exchanges
 * against exchange.c. */
#include "../energy/random_system.h"
#include "../energy/vectors.h"
#include "dynamics/exchange.h"
#include "dynamics/group_step.h"
#include "dynamics/source.h"
#include "energy/reference.h"

#include <math.h>

static double largest(size_t n, const double *v) {
    double m = 0;
    for (size_t k = 0; k < n; k++)
        m = fmax(m, fabs(v[k]));
    return m;
}

typedef struct {
    tbg_group_system *system;
    double energy[TBG_GROUP][TBG_E_N], parts[TBG_E_N];
    float *memory32;
    double *memory64;
    gf_group f;
    gd_group d;
} bench;

static bench bench_make(const tbg_system *s) {
    bench b = {0};
    assert_ok(tbg_group_system_create(s, &b.system));
    size_t n = tbg_group_dynamics_reals(&b.system->layout);
    b.memory32 =
        malloc(n * sizeof(float)); /* exactly as much as on the device: sanitizers see a step beyond */
    b.memory64 = malloc(n * sizeof(double));
    b.f = (gf_group){.s = &b.system->layout, .ints = b.system->ints, .r = b.system->r32};
    b.d = (gd_group){.s = &b.system->layout, .ints = b.system->ints, .r = b.system->r64};
    gf_carve(&b.f, b.memory32);
    gd_carve(&b.d, b.memory64);
    return b;
}

static void bench_free(bench *b) {
    tbg_group_system_free(b->system);
    free(b->memory32);
    free(b->memory64);
}

/* Evaluate in float or double; f: [3n]. */
static void bench_run(bench *b, int precision, const double *x, double *f) {
    int n = 3 * b->system->layout.n_atoms;
    double centre[3] = {0};
    for (int k = 0; k < n; k++)
        centre[k % 3] += 3 * x[k] / n;
    b->f.energy = b->d.energy = b->energy;
    for (int k = 0; k < n; k++) {
        b->f.x[k] = (float)(x[k] - centre[k % 3]);
        b->d.x[k] = x[k] - centre[k % 3];
    }
    if (precision)
        gd_evaluate(&b->d, 1, 1, b->parts);
    else
        gf_evaluate(&b->f, 1, 1, b->parts);
    for (int k = 0; k < n; k++)
        f[k] = precision ? b->d.f[k] : (double)b->f.f[k];
}

/* Observed, float: 4e-4 kJ/mol, 2.4e-5 of the largest force; double: 1e-11 kJ/mol, 5e-13. */
static void compare(const char *what, const tbg_system *s, const double *x, double e_float, double f_float) {
    bench b = bench_make(s);
    size_t n = 3 * (size_t)s->n_atoms;
    double *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got), part[TBG_E_N];
    assert_ok(tbg_reference_evaluate(s, x, part, want));
    double scale = fmax(largest(n, want), 1000), worst[2][2] = {{0}};
    for (int precision = 0; precision < 2; precision++) {
        bench_run(&b, precision, x, got);
        double tolerance = precision ? 1e-9 * fmax(1, scale / 1e4) : e_float;
        for (int c = 0; c < TBG_E_N; c++) {
            worst[precision][0] = fmax(worst[precision][0], fabs(b.parts[c] - part[c]));
            if (!(fabs(b.parts[c] - part[c]) <= tolerance))
                fail_msg("%s, component %d, %s: %.9g, reference %.9g", what, c,
                         precision ? "double" : "float", b.parts[c], part[c]);
        }
        for (size_t k = 0; k < n; k++) {
            worst[precision][1] = fmax(worst[precision][1], fabs(got[k] - want[k]) / scale);
            if (!(fabs(got[k] - want[k]) <= scale * (precision ? 1e-11 : f_float)))
                fail_msg("%s, force %zu, %s: %.9g, reference %.9g", what, k, precision ? "double" : "float",
                         got[k], want[k]);
        }
    }
    if (getenv("TBG_SHOW_ERRORS"))
        printf("%s: float %.2g kJ/mol, %.2g; double %.2g kJ/mol, %.2g\n", what, worst[0][0], worst[0][1],
               worst[1][0], worst[1][1]);
    free(want);
    free(got);
    bench_free(&b);
}

static void groups_match_the_reference(void **state) {
    (void)state;
    for (int m = 0; m < N_VECTORS; m++) {
        vector_set v = load_vector(vector_names[m]);
        for (long k = 0; k < v.n; k++)
            compare(vector_names[m], v.system, v.positions + (size_t)k * 3 * (size_t)v.system->n_atoms, 0.003,
                    5e-5);
        free_vector(&v);
    }
}

/* Branches that the shipped force fields do not reach. Random terms have energies of 1e5 and more: double
 * only is judged closely. */
static void groups_match_on_random_systems(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        double x[3 * RANDOM_ATOMS];
        tbg_system *s = random_system(seed, (int)(seed % 3), seed % 2 ? 0.3 : 0);
        random_positions(seed, 0.5, x);
        compare("random system", s, x, INFINITY, 1e-5);
        tbg_system_free(s);
    }
}

/* A conformation without a finite energy says so. */
static void overlaps_show(void **state) {
    (void)state;
    vector_set v = load_vector("AC");
    bench b = bench_make(v.system);
    size_t n = 3 * (size_t)v.system->n_atoms;
    double *f = malloc(n * sizeof *f), *x = malloc(n * sizeof *x);
    for (int precision = 0; precision < 2; precision++) {
        memcpy(x, v.positions, n * sizeof *x);
        x[5] = NAN;
        bench_run(&b, precision, x, f);
        assert_false(isfinite(b.parts[TBG_E_NONBONDED]));
        memcpy(x, v.positions, n * sizeof *x);
        memcpy(x + 3, x, 3 * sizeof *x);
        bench_run(&b, precision, x, f);
        assert_false(isfinite(b.parts[TBG_E_BOND] + b.parts[TBG_E_GB] + b.parts[TBG_E_NONBONDED]));
    }
    free(f);
    free(x);
    bench_free(&b);
    free_vector(&v);
}

/* 100 steps from the same state with the same seed: the noise is the same numbers, so that positions agree to
 * what rounding has grown to, which is far below the distance gone. */
static void steps_match_the_integrator(void **state) {
    (void)state;
    enum { STEPS = 100, LANES = 3 };
    vector_set v = load_vector("LT");
    size_t n = 3 * (size_t)v.system->n_atoms;
    tbg_force_source source;
    tbg_source_owner *owner;
    tbg_lanes *lanes;
    double *before = malloc(n * sizeof *before), *after = malloc(n * sizeof *after);
    float *x = malloc(n * sizeof *x), *w = malloc(n * sizeof *w);
    for (int friction = 0; friction < 2; friction++) {
        assert_ok(tbg_force_source_create(v.system, &source, &owner));
        assert_ok(tbg_lanes_create(&source, v.system->mass, LANES, 0.0005, friction, 42, 1, &lanes));
        bench b = bench_make(v.system);
        b.f.energy = b.energy;
        double keep = exp(-friction * 0.0005);
        tbg_group_constants k = {0.00025f, 0.0005f, (float)keep, (float)((1 - keep * keep) * TBG_BOLTZMANN),
                                 friction > 0};
        for (int l = 0; l < LANES; l++) {
            lanes->temperature[l] = 310 + 50 * l;
            tbg_lanes_set_positions(lanes, l, v.positions + (size_t)(l + 1) * n);
            tbg_lanes_draw_velocities(lanes, l, 0);
        }
        tbg_lanes_center(lanes);
        lanes->step = 5000000000; /* counters beyond 32 bits */
        tbg_lanes_fill(lanes);
        float *start_x = malloc(n * TBG_LANES * sizeof(float)),
              *start_v = malloc(n * TBG_LANES * sizeof(float));
        memcpy(start_x, lanes->x, n * TBG_LANES * sizeof(float));
        memcpy(start_v, lanes->v, n * TBG_LANES * sizeof(float));
        tbg_lanes_advance(lanes, STEPS);
        tbg_lanes_center(lanes);
        tbg_lanes_energies(lanes);
        for (int l = 0; l < LANES; l++) {
            tbg_group_lane lane = {.number = l, .seed = 42};
            double energy = 0, moved = 0, apart = 0, apart_v = 0, speed = 0;
            for (size_t j = 0; j < n; j++) {
                x[j] = start_x[j * TBG_LANES + (size_t)l];
                w[j] = start_v[j * TBG_LANES + (size_t)l];
                before[j] = (double)x[j];
            }
            /* in two calls, as with exchanges between them */
            tbg_group_advance(&b.f, b.memory32, &k, &lane, 310 + 50 * (float)l, 5000000000, 40, 0, x, w, NULL,
                              b.parts);
            tbg_group_advance(&b.f, b.memory32, &k, &lane, 310 + 50 * (float)l, 5000000040, STEPS - 40, 1, x,
                              w, &energy, b.parts);
            tbg_lanes_get_positions(lanes, l, after);
            for (size_t j = 0; j < n; j++) {
                moved = fmax(moved, fabs(after[j] - before[j]));
                apart = fmax(apart, fabs(after[j] - (double)x[j]));
                double u = (double)lanes->v[j * TBG_LANES + (size_t)l];
                speed = fmax(speed, fabs(u));
                apart_v = fmax(apart_v, fabs(u - (double)w[j]));
            }
            if (getenv("TBG_SHOW_ERRORS"))
                printf("friction %d, lane %d: moved %.3g nm, apart %.3g; speed %.3g nm/ps, apart %.3g; "
                       "energy %.9g %.9g\n",
                       friction, l, moved, apart, speed, apart_v, lanes->energy[l], energy);
            assert_true(moved > 0.01);
            assert_true(apart < 1e-6);
            assert_true(apart_v < 2e-4 * speed);
            assert_true(fabs(lanes->energy[l] - energy) < 0.005);
        }
        free(start_x);
        free(start_v);
        bench_free(&b);
        tbg_lanes_free(lanes);
        tbg_force_source_free(owner);
    }
    free(before);
    free(after);
    free(x);
    free(w);
    free_vector(&v);
}

/* No thread needs what another does in the same phase: with the turns reversed, the same bits. */
static void the_order_of_threads_does_not_matter(void **state) {
    (void)state;
    vector_set v = load_vector("WY");
    size_t n = 3 * (size_t)v.system->n_atoms;
    bench b = bench_make(v.system);
    double f[2][3 * 64], parts[2][TBG_E_N], keep = exp(-0.0005), energy[2];
    float x[2][3 * 64], w[2][3 * 64] = {{0}};
    tbg_group_constants k = {0.00025f, 0.0005f, (float)keep, (float)((1 - keep * keep) * TBG_BOLTZMANN), 1};
    tbg_group_lane lane = {.number = 3, .seed = 8};
    assert_true(n <= sizeof x[0] / sizeof(float));
    for (int precision = 0; precision < 2; precision++) {
        for (int back = 0; back < 2; back++) {
            tbg_group_backwards = back;
            bench_run(&b, precision, v.positions + n, f[back]);
            memcpy(parts[back], b.parts, sizeof parts[back]);
        }
        assert_memory_equal(f[0], f[1], n * sizeof(double));
        assert_memory_equal(parts[0], parts[1], sizeof parts[0]);
    }
    for (int back = 0; back < 2; back++) {
        tbg_group_backwards = back;
        for (size_t j = 0; j < n; j++)
            x[back][j] = (float)v.positions[n + j];
        tbg_group_advance(&b.f, b.memory32, &k, &lane, 310, 0, 5, 1, x[back], w[back], &energy[back],
                          b.parts);
    }
    tbg_group_backwards = 0;
    assert_memory_equal(x[0], x[1], n * sizeof(float));
    assert_memory_equal(w[0], w[1], n * sizeof(float));
    assert_true(energy[0] == energy[1]);
    bench_free(&b);
    free_vector(&v);
}

static void normals_are_the_processors(void **state) {
    (void)state;
    double worst = 0;
    for (int k = 0; k < 2000; k++) {
        float want[4][TBG_LANES], got[4];
        uint64_t seed = 0x123456789abcdefULL * (uint64_t)(k % 3), counter = (uint64_t)k * 0x10000001ULL;
        tbg_step_kernels()->normals(seed, k % 5, counter, want[0]);
        for (int l = 0; l < TBG_LANES; l++) {
            tbg_group_normals(seed, k % 5 * TBG_LANES + l, counter, got);
            for (int i = 0; i < 4; i++) {
                double e = fabs((double)got[i] - (double)want[i][l]);
                worst = e > worst || !(e == e) ? e : worst;
            }
        }
    }
    assert_true(worst < 4e-4); /* near u = 1, where a float has steps of 6e-8; see test_integrator.c */
}

/* The same energies, the same random numbers: the same temperatures, counters and velocities, bit for bit. */
static void exchanges_match(void **state) {
    (void)state;
    enum { RUNS = 3, REPLICAS = 5, N = RUNS * REPLICAS, ROUNDS = 400, PAIRS = RUNS * (REPLICAS - 1) };
    static const double mass[1] = {12};
    tbg_force_source source = {.n_atoms = 1};
    tbg_lanes *lanes;
    tbg_exchange e;
    assert_ok(tbg_lanes_create(&source, mass, N, 0.001, 1, 9, 1, &lanes));
    assert_ok(tbg_exchange_create(RUNS, REPLICAS, 300, 600, 9, &e));
    int32_t level[N], end[N];
    int64_t attempts[PAIRS] = {1}, accepts[PAIRS] = {1}, trips[RUNS] = {1};
    double energy[N], factor[N], speed[N];
    tbg_group_exchange x = {e.temperatures, energy, level, end, factor, attempts, accepts, trips};
    tbg_group_run runs[RUNS];
    for (int r = 0; r < RUNS; r++)
        runs[r] = (tbg_group_run){r * REPLICAS, REPLICAS, r, r * (REPLICAS - 1), 0, 9};
    for (int l = 0; l < N; l++) {
        level[l] = e.level[l];
        lanes->temperature[l] = e.temperatures[level[l]];
        tbg_lanes_draw_velocities(lanes, l, 0);
        lanes->v[(size_t)(l / TBG_LANES * 3 * TBG_LANES + l % TBG_LANES)] = 1;
        speed[l] = 1;
    }
    for (int r = 0; r < RUNS; r++)
        tbg_group_reset_run(&x, &runs[r], r);
    for (int round = 0; round < ROUNDS; round++) {
        for (int l = 0; l < N; l++) {
            double z;
            tbg_random_normal(3, TBG_STREAM(TBG_STREAM_TEST, l), (uint64_t)round, 1, &z);
            energy[l] = lanes->energy[l] = 5 * z + 0.02 * e.temperatures[level[l]];
            factor[l] = 1;
        }
        tbg_exchange_round(&e, lanes);
        for (int r = 0; r < RUNS; r++)
            tbg_group_exchange_run(&x, &runs[r], r, round);
        for (int l = 0; l < N; l++)
            speed[l] = (double)((float)speed[l] * (float)factor[l]);
    }
    for (int l = 0; l < N; l++) {
        assert_int_equal(level[l], e.level[l]);
        assert_int_equal(end[l], e.end[l]);
        assert_true(speed[l] == (double)lanes->v[(size_t)(l / TBG_LANES * 3 * TBG_LANES + l % TBG_LANES)]);
    }
    for (int p = 0; p < PAIRS; p++) {
        assert_int_equal(attempts[p], e.attempts[p]);
        assert_int_equal(accepts[p], e.accepts[p]);
        assert_true(accepts[p] > 0 && accepts[p] < attempts[p]);
    }
    for (int r = 0; r < RUNS; r++)
        assert_int_equal(trips[r], e.round_trips[r]);
    tbg_exchange_free(&e);
    tbg_lanes_free(lanes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_match_the_reference),
        cmocka_unit_test(groups_match_on_random_systems),
        cmocka_unit_test(overlaps_show),
        cmocka_unit_test(the_order_of_threads_does_not_matter),
        cmocka_unit_test(normals_are_the_processors),
        cmocka_unit_test(steps_match_the_integrator),
        cmocka_unit_test(exchanges_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
