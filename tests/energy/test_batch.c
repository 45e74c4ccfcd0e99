/* test_batch.c: the batched kernels and the engine "native" against the oracle and the laws any energy obeys,
 * on every instruction set that this machine has. */
#include "base/memory.h"
#include "base/simd.h"
#include "energy/batch_layout.h"
#include "energy/reference.h"
#include "random_system.h"
#include "vectors.h"

#include <math.h>

enum { COMPONENTS = TBG_E_N * TBG_LANES };

typedef struct {
    tbg_batch_system *system;
    size_t size; /* coordinates of one configuration */
    float *x, *f;
    double *xd, *fd, energy[TBG_LANES], components[COMPONENTS];
    void *workspace;
} block;

static block block_make(const tbg_system *s) {
    block b = {.size = 3 * (size_t)s->n_atoms};
    assert_ok(tbg_batch_system_create(s, &b.system));
    b.x = TBG_NEW(float, b.size *TBG_LANES);
    b.f = TBG_NEW(float, b.size *TBG_LANES);
    b.xd = TBG_NEW(double, b.size *TBG_LANES);
    b.fd = TBG_NEW(double, b.size *TBG_LANES);
    b.workspace = tbg_alloc(tbg_batch_workspace_size(b.system), 1);
    return b;
}

static void block_free(block *b) {
    tbg_batch_system_free(b->system);
    free(b->x);
    free(b->f);
    free(b->xd);
    free(b->fd);
    free(b->workspace);
}

static void block_set(block *b, int lane, const double *positions) {
    double centre[3] = {0};
    for (size_t k = 0; k < b->size; k++)
        centre[k % 3] += positions[k] / (double)(b->size / 3);
    for (size_t k = 0; k < b->size; k++) {
        b->xd[k * TBG_LANES + lane] = positions[k] - centre[k % 3];
        b->x[k * TBG_LANES + lane] = (float)(positions[k] - centre[k % 3]);
    }
}

/* Runs `test` under every instruction set of this build and machine; tables are chosen when a system is made.
 */
static void on_every_set(void (*test)(void)) {
    int best = tbg_simd_level();
    for (int level = 0; level <= best; level++) {
        setenv("TBG_SIMD", tbg_simd_name(level), 1);
        assert_int_equal(tbg_simd_level(), level);
        test();
    }
    unsetenv("TBG_SIMD");
}

static double largest(size_t n, const double *v) {
    double m = 0;
    for (size_t k = 0; k < n; k++)
        m = fmax(m, fabs(v[k]));
    return m;
}

/* Observed over all frames and sets: float energies 8e-4 kJ/mol, float forces 1.5e-5 of the largest (0.024
 * kJ/mol/nm in minimised frames, whose large forces cancel: hence the floor of 1000 on the scale), double
 * 8e-12 kJ/mol, 1e-9 kJ/mol/nm. */
static void check_vectors(void) {
    for (int m = 0; m < N_VECTORS; m++) {
        vector_set v = load_vector(vector_names[m]);
        block b = block_make(v.system);
        double *want = malloc(b.size * sizeof *want), energy_only[TBG_LANES];
        for (int l = 0; l < TBG_LANES; l++)
            block_set(&b, l, v.positions + (size_t)(l % v.n) * b.size);
        for (int precision = 0; precision < 2; precision++) {
            if (precision) {
                tbg_batch_evaluate_double(b.system, b.xd, b.fd, b.energy, b.components, b.workspace);
                tbg_batch_evaluate_double(b.system, b.xd, NULL, energy_only, NULL, b.workspace);
            } else {
                tbg_batch_evaluate(b.system, b.x, NULL, energy_only, NULL, b.workspace);
                tbg_batch_evaluate(b.system, b.x, b.f, b.energy, b.components, b.workspace);
            }
            for (int l = 0; l < TBG_LANES; l++) {
                double part[TBG_E_N], sum = 0, tolerance = precision ? 1e-9 : 0.003;
                assert_ok(
                    tbg_reference_evaluate(v.system, v.positions + (size_t)(l % v.n) * b.size, part, want));
                for (int c = 0; c < TBG_E_N; c++) {
                    double got = b.components[c * TBG_LANES + l];
                    if (!(fabs(got - part[c]) <= tolerance))
                        fail_msg("%s frame %ld component %d: %.9g, reference %.9g", vector_names[m], l % v.n,
                                 c, got, part[c]);
                    sum += part[c];
                }
                assert_true(fabs(b.energy[l] - sum) <= tolerance);
                assert_true(fabs(energy_only[l] - sum) <= tolerance);
                double scale = fmax(largest(b.size, want), 1000), net[3] = {0};
                for (size_t k = 0; k < b.size; k++) {
                    double got = precision ? b.fd[k * TBG_LANES + l] : (double)b.f[k * TBG_LANES + l];
                    net[k % 3] += got;
                    if (!(fabs(got - want[k]) <= scale * (precision ? 1e-11 : 5e-5)))
                        fail_msg("%s frame %ld force %zu: %.9g, reference %.9g", vector_names[m], l % v.n, k,
                                 got, want[k]);
                }
                assert_true(largest(3, net) <= scale * (precision ? 1e-11 : 5e-5));
            }
        }
        free(want);
        block_free(&b);
        free_vector(&v);
    }
}

/* Terms and branches that the shipped force fields do not use: phases other than 0 and pi, periodicities up
 * to 6, cutoffs inside the molecule, spheres within spheres, no generalised Born. */
static void check_random_systems(void) {
    static const struct {
        int gb;
        double cutoff;
    } kinds[] = {
        {TBG_GB_NONE, 0}, {TBG_GB_NONE, 0.3}, {TBG_GB_OBC1, 0}, {TBG_GB_OBC1, 0.3}, {TBG_GB_OBC2, 0}};
    double x[TBG_LANES][3 * RANDOM_ATOMS], want[3 * RANDOM_ATOMS];
    for (int t = 0; t < 15; t++) {
        tbg_system *s = random_system((uint64_t)t, kinds[t % 5].gb, kinds[t % 5].cutoff);
        block b = block_make(s);
        for (int l = 0; l < TBG_LANES; l++) {
            random_positions((uint64_t)(100 * t + l), 0.3 + 0.05 * l, x[l]);
            block_set(&b, l, x[l]);
        }
        tbg_batch_evaluate(b.system, b.x, b.f, b.energy, b.components, b.workspace);
        double single[COMPONENTS];
        memcpy(single, b.components, sizeof single);
        tbg_batch_evaluate_double(b.system, b.xd, b.fd, b.energy, b.components, b.workspace);
        for (int l = 0; l < TBG_LANES; l++) {
            double part[TBG_E_N];
            assert_ok(tbg_reference_evaluate(s, x[l], part, want));
            for (int c = 0; c < TBG_E_N; c++) {
                /* Nonbonded energies near contact are huge and as sharp as r^-12. */
                assert_true(compare_error(b.components[c * TBG_LANES + l], part[c], 1) <= 1e-10);
                if (!(compare_error(single[c * TBG_LANES + l], part[c], 10) <= 1e-4))
                    fail_msg("system %d lane %d component %d: %.9g, reference %.9g", t, l, c,
                             single[c * TBG_LANES + l], part[c]);
            }
            for (size_t k = 0; k < b.size; k++) {
                assert_true(compare_error(b.fd[k * TBG_LANES + l], want[k], largest(b.size, want)) <= 1e-10);
                assert_true(compare_error(b.f[k * TBG_LANES + l], want[k], largest(b.size, want)) <= 1e-4);
            }
        }
        /* forces only: the same forces */
        float *f = TBG_NEW(float, b.size *TBG_LANES);
        memcpy(f, b.f, b.size * TBG_LANES * sizeof *f);
        tbg_batch_evaluate(b.system, b.x, b.f, NULL, NULL, b.workspace);
        for (size_t k = 0; k < b.size * TBG_LANES; k++)
            assert_true(compare_error(b.f[k], f[k], 100) <= 1e-4);
        free(f);
        /* energy only: the same energies */
        double energy[TBG_LANES];
        tbg_batch_evaluate_double(b.system, b.xd, NULL, energy, NULL, b.workspace);
        for (int l = 0; l < TBG_LANES; l++)
            assert_true(compare_error(energy[l], b.energy[l], 1) <= 1e-12);
        block_free(&b);
        tbg_system_free(s);
    }
}

/* Whatever happens in one lane, the others keep every bit; and a lane's result does not depend on its place.
 */
static void check_lanes(void) {
    vector_set v = load_vector("TV");
    block b = block_make(v.system);
    for (int l = 0; l < TBG_LANES; l++)
        block_set(&b, l, v.positions + (size_t)(l % v.n) * b.size);
    size_t all = b.size * TBG_LANES;
    float *f = TBG_NEW(float, all);
    double *fd = TBG_NEW(double, all), energy[TBG_LANES], energyd[TBG_LANES];
    tbg_batch_evaluate(b.system, b.x, f, energy, NULL, b.workspace);
    tbg_batch_evaluate_double(b.system, b.xd, fd, energyd, NULL, b.workspace);
    for (int l = 0; l < TBG_LANES; l++) { /* equal input, equal bits, in any lane */
        assert_memory_equal(&energy[l], &energy[l % v.n], sizeof(double));
        assert_memory_equal(&energyd[l], &energyd[l % v.n], sizeof(double));
        for (size_t k = 0; k < b.size; k++)
            assert_memory_equal(&f[k * TBG_LANES + l], &f[k * TBG_LANES + l % v.n], sizeof(float));
    }
    for (int bad = 0; bad < 5; bad++) {
        int lane = 3 + 2 * bad;
        double *x = malloc(b.size * sizeof *x);
        memcpy(x, v.positions, b.size * sizeof *x);
        if (bad == 0) /* two atoms in one place */
            memcpy(x + 3, x + 30, 3 * sizeof *x);
        else if (bad == 1)
            memset(x, 0, b.size * sizeof *x);
        else if (bad == 2)
            x[7] = NAN;
        else if (bad == 3)
            x[7] = 1e200; /* its square overflows */
        else
            for (size_t k = 0; k < b.size; k++)
                x[k] *= 0.01; /* everything overlaps, nothing coincides */
        block_set(&b, lane, x);
        tbg_batch_evaluate(b.system, b.x, b.f, b.energy, NULL, b.workspace);
        if (bad < 4)
            assert_false(isfinite(b.energy[lane]));
        else
            assert_true(!(b.energy[lane] < 1e6));
        for (int l = 0; l < TBG_LANES; l++)
            for (size_t k = 0; k < b.size && l != lane; k++) {
                assert_memory_equal(&b.energy[l], &energy[l], sizeof(double));
                assert_memory_equal(&b.f[k * TBG_LANES + l], &f[k * TBG_LANES + l], sizeof(float));
            }
        tbg_batch_evaluate_double(b.system, b.xd, b.fd, b.energy, NULL, b.workspace);
        if (bad < 4)
            assert_false(isfinite(b.energy[lane]));
        for (int l = 0; l < TBG_LANES; l++)
            for (size_t k = 0; k < b.size && l != lane; k++) {
                assert_memory_equal(&b.energy[l], &energyd[l], sizeof(double));
                assert_memory_equal(&b.fd[k * TBG_LANES + l], &fd[k * TBG_LANES + l], sizeof(double));
            }
        block_set(&b, lane, v.positions + (size_t)(lane % v.n) * b.size);
        free(x);
    }
    free(f);
    free(fd);
    block_free(&b);
    free_vector(&v);
}

static void vectors_on_every_set(void **state) {
    (void)state;
    on_every_set(check_vectors);
}
static void random_systems_on_every_set(void **state) {
    (void)state;
    on_every_set(check_random_systems);
}
static void lanes_on_every_set(void **state) {
    (void)state;
    on_every_set(check_lanes);
}

/* Instruction sets agree as their precision lets them. */
static void sets_agree(void **state) {
    (void)state;
    vector_set v = load_vector("WY");
    int best = tbg_simd_level();
    double energy[3][TBG_LANES];
    for (int level = 0; level <= best; level++) {
        setenv("TBG_SIMD", tbg_simd_name(level), 1);
        block b = block_make(v.system);
        for (int l = 0; l < TBG_LANES; l++)
            block_set(&b, l, v.positions + (size_t)(l % v.n) * b.size);
        tbg_batch_evaluate_double(b.system, b.xd, b.fd, energy[level], NULL, b.workspace);
        for (int l = 0; l < TBG_LANES; l++)
            assert_true(fabs(energy[level][l] - energy[0][l]) <= 1e-10 * fabs(energy[0][l]));
        block_free(&b);
    }
    unsetenv("TBG_SIMD");
    free_vector(&v);
}

/* ---- the engine ---- */

static void engine_agrees_with_oracle(void **state) {
    (void)state;
    for (int m = 0; m < N_VECTORS; m++) {
        vector_set v = load_vector(vector_names[m]);
        size_t size = 3 * (size_t)v.system->n_atoms;
        tbg_engine *engine;
        assert_ok(tbg_engine_create("native", NULL, v.system, 1, &engine));
        double *f = malloc((size_t)v.n * size * sizeof *f), *e = malloc((size_t)v.n * sizeof *e);
        double *c = malloc((size_t)v.n * TBG_E_N * sizeof *c);
        assert_ok(tbg_engine_evaluate(engine, v.n, v.positions, e, f, c));
        /* what OpenMM computed; the smallest frames' forces are judged on 1 % of the largest. Observed 3e-13,
         * 5e-11 */
        assert_true(compare_arrays("energies", (size_t)v.n, e, v.energies, 1e-3, 1e-11) <= 1e-11);
        assert_true(compare_arrays("components", (size_t)v.n * TBG_E_N, c, v.components, 1e-3, 1e-10) <=
                    1e-10);
        for (long k = 0; k < v.n; k++)
            assert_true(compare_arrays("forces", size, f + k * size, v.forces + k * size, 1e-2, 1e-9) <=
                        1e-9);
        tbg_engine_free(engine);
        free(f);
        free(e);
        free(c);
        free_vector(&v);
    }
}

/* Any number of configurations, any number of threads, any place in space. */
static void tails_and_threads(void **state) {
    (void)state;
    vector_set v = load_vector("alanine_dipeptide");
    size_t size = 3 * (size_t)v.system->n_atoms;
    enum { MOST = 70 };
    double *x = malloc(MOST * size * sizeof *x),
           *f[2] = {malloc(MOST * size * sizeof **f), malloc(MOST * size * sizeof **f)};
    double e[2][MOST], c[2][MOST * TBG_E_N];
    for (long k = 0; k < MOST; k++)
        for (size_t q = 0; q < size; q++)
            x[k * size + q] =
                v.positions[(size_t)(k % v.n) * size + q] + 1e-3 * sin((double)(k * 7 + (long)q * 3));
    tbg_engine *one, *many;
    assert_ok(tbg_engine_create("native", NULL, v.system, 1, &one));
    assert_ok(tbg_engine_create("native", NULL, v.system, 3, &many));
    assert_ok(tbg_engine_evaluate(one, MOST, x, e[0], f[0], c[0]));
    static const long counts[] = {1, 2, 15, 16, 17, 31, 33, 64, MOST};
    for (size_t t = 0; t < sizeof counts / sizeof *counts; t++) {
        long n = counts[t];
        for (long k = 0; k < MOST; k++)
            e[1][k] = -7;
        f[1][(size_t)n * size - 1] = 0;
        if ((size_t)n * size < MOST * size)
            f[1][(size_t)n * size] = -7;
        assert_ok(tbg_engine_evaluate(t % 2 ? one : many, n, x, e[1], f[1], c[1]));
        assert_memory_equal(e[0], e[1], (size_t)n * sizeof(double));
        assert_memory_equal(f[0], f[1], (size_t)n * size * sizeof(double));
        assert_memory_equal(c[0], c[1], (size_t)n * TBG_E_N * sizeof(double));
        for (long k = n; k < MOST; k++)
            assert_true(e[1][k] == -7);
        assert_true(n == MOST || f[1][(size_t)n * size] == -7);
    }
    for (size_t q = 0; q < MOST * size; q++)
        x[q] += q % 3 == 0 ? -85.25 : 1000.5; /* exact in double to 1e-13 */
    assert_ok(tbg_engine_evaluate(many, MOST, x, e[1], NULL, NULL));
    for (long k = 0; k < MOST; k++)
        assert_true(fabs(e[1][k] - e[0][k]) <= 1e-7);
    tbg_engine_free(one);
    tbg_engine_free(many);
    free(x);
    free(f[0]);
    free(f[1]);
    free_vector(&v);
}

/* Central differences along random directions, Richardson-extrapolated. */
static void forces_are_gradients(void **state) {
    (void)state;
    double x[3 * RANDOM_ATOMS], y[5 * 3 * RANDOM_ATOMS], e[5], f[5 * 3 * RANDOM_ATOMS], g[3 * RANDOM_ATOMS];
    size_t size = 3 * RANDOM_ATOMS;
    for (int t = 0; t < 12; t++) {
        tbg_system *s =
            random_system(50 + (uint64_t)t, t % 3, t & 1 ? 5.0 : 0); /* nobody crosses the cutoff */
        tbg_engine *engine;
        assert_ok(tbg_engine_create("native", NULL, s, 1, &engine));
        random_positions(900 + (uint64_t)t, 0.8, x);
        tbg_random_normal(5, (uint64_t)t, 0, size, g);
        static const double steps[5] = {0, 1, -1, 2, -2};
        double h = 1e-6, slope = 0, norm = 0;
        for (int k = 0; k < 5; k++)
            for (size_t q = 0; q < size; q++)
                y[k * size + q] = x[q] + steps[k] * h * g[q];
        assert_ok(tbg_engine_evaluate(engine, 5, y, e, f, NULL));
        for (size_t q = 0; q < size; q++) {
            slope -= f[q] * g[q];
            norm += f[q] * f[q];
        }
        double difference = (8 * (e[1] - e[2]) - (e[3] - e[4])) / (12 * h);
        assert_true(fabs(difference - slope) <= 1e-6 * sqrt(norm));
        tbg_engine_free(engine);
        tbg_system_free(s);
    }
}

static void bad_systems_are_refused(void **state) {
    (void)state;
    tbg_batch_system *b;
    for (int t = 0; t < 7; t++) {
        tbg_system *s = random_system(3, TBG_GB_OBC1, 0);
        if (t == 0)
            s->bonds[1].i = RANDOM_ATOMS;
        else if (t == 1)
            s->angles[2].k = s->angles[2].i;
        else if (t == 2)
            s->torsions[4].periodicity = 7;
        else if (t == 3)
            s->torsions[4].l = -1;
        else if (t == 4)
            s->pairs14[0] = (tbg_pair_term){s->pairs[2][1], s->pairs[2][0], 1, 0.1, 0.1};
        else if (t == 5)
            s->gb_radius[3] = 0.005;
        else
            s->charge[3] = NAN;
        assert_int_equal(tbg_batch_system_create(s, &b), TBG_INPUT);
        assert_null(b);
        assert_true(strlen(tbg_message()) > 10);
        tbg_system_free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_on_every_set),      cmocka_unit_test(random_systems_on_every_set),
        cmocka_unit_test(lanes_on_every_set),        cmocka_unit_test(sets_agree),
        cmocka_unit_test(engine_agrees_with_oracle), cmocka_unit_test(tails_and_threads),
        cmocka_unit_test(forces_are_gradients),      cmocka_unit_test(bad_systems_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
