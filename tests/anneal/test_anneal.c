/* test_anneal.c: taking a smoothed flow's noise off: known integrals, stated errors, addresses, hostile
 * input. */
#include "tbg_test.h"
#include "energy/engine.h"
#include "tbg/anneal.h"
#include "tbg/random.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double temperature = 300;

/* Two atoms on a spring, nothing else. */
static const double length = 0.12, stiffness = 30000;

static tbg_engine *spring(void) {
    static double one[2] = {1, 1}, none[2];
    static tbg_bond_term bond = {0, 1, 0.12, 30000};
    static tbg_system system = {.n_atoms = 2,
                                .forcefield = "spring",
                                .mass = one,
                                .n_bonds = 1,
                                .bonds = &bond,
                                .charge = none,
                                .sigma = none,
                                .epsilon = none,
                                .degrees_of_freedom = 6};
    tbg_engine *engine;
    assert_ok(tbg_engine_create("reference", NULL, &system, 1, &engine));
    return engine;
}

/* Z and <r> for y at distance D: the difference vector is normal around D with variance 2 s^2 per component,
 * its length r has the density r^2 exp(-(r^2 + D^2)/4s^2) sinh(rD/2s^2)/(rD/2s^2) 4 pi/(4 pi s^2)^(3/2). */
static double spring_integral(double D, double s, double *mean) {
    double beta = 1 / (TBG_BOLTZMANN * temperature), v = 2 * s * s, z = 0, first = 0, dr = 1e-5;
    for (double r = dr / 2; r < 0.6; r += dr) {
        double a = r * D / v;
        double shell = 4 * M_PI * r * r / pow(2 * M_PI * v, 1.5) *
                       (exp(-(r - D) * (r - D) / (2 * v)) - exp(-(r + D) * (r + D) / (2 * v))) / (2 * a);
        double w = shell * exp(-0.5 * beta * stiffness * (r - length) * (r - length)) * dr;
        z += w;
        first += r * w;
    }
    *mean = first / z;
    return z;
}

/* The mean of the estimates is Z, and x has the conditional distribution, however crude the settings. */
static void integral_of_a_spring(void **state) {
    (void)state;
    enum { N = 5000 };
    static const struct {
        int replicas, stages, steps, newton;
        double step;
    } settings[] = {{16, 16, 4, 12, 0.4}, {1, 1, 1, 12, 0.7}, {3, 4, 3, 1, 0.9}, {2, 3, 2, 2, 0.3}};
    const double s = 0.03, D = 0.16;
    double *y = calloc(N, 6 * sizeof *y), *x = malloc(N * 6 * sizeof *x), mean;
    tbg_anneal_result *result = malloc(N * sizeof *result);
    double exact = spring_integral(D, s, &mean);
    tbg_engine *engine = spring();
    for (int i = 0; i < N; i++) {
        y[6 * i + 1] = D / 2;
        y[6 * i + 4] = -D / 2;
    }
    for (int k = 0; k < 4; k++) {
        tbg_anneal_options o;
        tbg_anneal_defaults(&o);
        o.smoothing = s;
        o.temperature = temperature;
        o.replicas = settings[k].replicas;
        o.stages = settings[k].stages;
        o.steps = settings[k].steps;
        o.newton = settings[k].newton;
        o.step = settings[k].step;
        o.threads = 1;
        int n = k ? N : N / 16; /* the first has little scatter and much work */
        assert_ok(tbg_anneal(engine, 2, &o, n, 0, y, x, result));
        double sum = 0, squares = 0, distance = 0, distances = 0, acceptance = 0;
        for (int i = 0; i < n; i++) {
            double z = exp(result[i].log_z) / exact, *a = x + 6 * i;
            double r = sqrt(pow(a[0] - a[3], 2) + pow(a[1] - a[4], 2) + pow(a[2] - a[5], 2));
            sum += z / n;
            squares += z * z / n;
            distance += z * r;
            distances += z * z * (r - mean) * (r - mean);
            acceptance += result[i].acceptance / n;
            assert_true(fabs(a[0] + a[3]) < 1e-12 && fabs(a[1] + a[4]) < 1e-12);
        }
        assert_true(acceptance > 0.7 && acceptance < 1);
        double error = sqrt((squares - sum * sum) / n);
        if (!(error < 0.04 && fabs(sum - 1) < 4.5 * error))
            fail_msg("settings %d: Z is %g +- %g times the exact value", k, sum, error);
        double off = distance / (n * sum) - mean, allowed = 4.5 * sqrt(distances) / (n * sum);
        if (!(fabs(off) < allowed && allowed < 3e-3))
            fail_msg("settings %d: mean distance off by %g nm, standard error %g", k, off, allowed / 4.5);
    }
    tbg_engine_free(engine);
    free(y);
    free(x);
    free(result);
}

/* ---- a peptide ---- */

typedef struct {
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_engine *engine;
    int n3;
    tbg_anneal_options o;
} peptide;

static peptide make_peptide(int threads) {
    peptide p;
    assert_ok(tbg_molecule_from_sequence("ACE-A-NME", &p.molecule));
    assert_ok(tbg_system_create(p.molecule, "amber99sbildn-obc", -1, &p.system));
    assert_ok(tbg_engine_create("native", p.molecule, p.system, threads, &p.engine));
    p.n3 = 3 * p.molecule->n_atoms;
    tbg_anneal_defaults(&p.o);
    p.o.temperature = temperature;
    p.o.threads = threads;
    return p;
}

static void free_peptide(peptide *p) {
    tbg_engine_free(p->engine);
    tbg_system_free(p->system);
    tbg_molecule_free(p->molecule);
}

static void noisy(const peptide *p, int n, double s, double *y) {
    tbg_random_normal(3, TBG_STREAM(TBG_STREAM_TEST, 1), 0, (size_t)(n * p->n3), y);
    for (int i = 0; i < n * p->n3; i++)
        y[i] = (&p->molecule->positions[0][0])[i % p->n3] + s * y[i];
}

/* The error stated for one estimate is the scatter of many, and more stages lower it. */
static void stated_error_is_the_scatter(void **state) {
    (void)state;
    enum { N = 96 };
    peptide p = make_peptide(0);
    double *y = malloc(sizeof(double) * N * (size_t)p.n3), *x = malloc(sizeof(double) * N * (size_t)p.n3);
    double scatter[2];
    tbg_anneal_result *result = malloc(N * sizeof *result);
    noisy(&p, 1, 0.02, y);
    for (int i = 1; i < N; i++)
        memcpy(y + i * p.n3, y, sizeof(double) * (size_t)p.n3);
    for (int k = 0; k < 2; k++) {
        p.o.stages = k ? 32 : 8;
        assert_ok(tbg_anneal(p.engine, p.molecule->n_atoms, &p.o, N, 0, y, x, result));
        double mean = 0, squares = 0, stated = 0;
        for (int i = 0; i < N; i++) {
            assert_true(result[i].newton < p.o.newton);
            mean += result[i].log_z / N;
            squares += result[i].log_z * result[i].log_z / N;
            stated += result[i].error * result[i].error / N;
        }
        scatter[k] = sqrt(squares - mean * mean);
        if (!(scatter[k] / sqrt(stated) > 0.7 && scatter[k] / sqrt(stated) < 1.4))
            fail_msg("%d stages: scatter %g, stated %g nats", p.o.stages, scatter[k], sqrt(stated));
    }
    assert_true(scatter[0] < 0.4 && scatter[1] < 0.8 * scatter[0]);
    free(y);
    free(x);
    free(result);
    free_peptide(&p);
}

/* A configuration's result depends on its number and the seed: not on threads, on calls, or on its
 * neighbours, one of which is not finite and one has two atoms at one place. The energy is that of the
 * positions. */
static void addresses_and_hostile_neighbours(void **state) {
    (void)state;
    enum { N = 37 };
    peptide p = make_peptide(2), one = make_peptide(1);
    size_t n3 = (size_t)p.n3, all = N * n3;
    double *y = malloc(all * sizeof *y), *x = malloc(all * sizeof *x), *again = malloc(all * sizeof *x), u[N];
    tbg_anneal_result a[N], b[N];
    p.o.stages = one.o.stages = 4;
    p.engine->batch = 100 * p.o.replicas; /* all at once; the other in blocks of 16 */
    noisy(&p, N, 0.02, y);
    assert_ok(tbg_anneal(p.engine, p.molecule->n_atoms, &p.o, N, 100, y, x, a));
    assert_ok(tbg_engine_evaluate(p.engine, N, x, u, NULL, NULL));
    for (int i = 0; i < N; i++) {
        assert_true(isfinite(a[i].log_z) && a[i].acceptance > 0.5);
        assert_true(fabs(u[i] / (TBG_BOLTZMANN * temperature) - a[i].u) < 1e-3);
    }
    y[5 * n3 + 7] = NAN;
    memcpy(y + 20 * n3, y + 20 * n3 + 3, 3 * sizeof *y);
    assert_ok(tbg_anneal(one.engine, one.molecule->n_atoms, &one.o, 20, 100, y, again, b));
    assert_ok(tbg_anneal(one.engine, one.molecule->n_atoms, &one.o, N - 20, 120, y + 20 * n3, again + 20 * n3,
                         b + 20));
    assert_true(b[5].log_z == -INFINITY && isnan(b[5].u));
    for (int i = 0; i < N; i++)
        if (i != 5 && i != 20) {
            assert_true(a[i].log_z == b[i].log_z && a[i].u == b[i].u && a[i].error == b[i].error);
            assert_memory_equal(x + (size_t)i * n3, again + (size_t)i * n3, n3 * sizeof *x);
        }
    p.o.seed = 2;
    assert_ok(tbg_anneal(p.engine, p.molecule->n_atoms, &p.o, 1, 100, y, again, b));
    assert_true(b[0].log_z != a[0].log_z && fabs(b[0].log_z - a[0].log_z) < 3);
    free(y);
    free(x);
    free(again);
    free_peptide(&p);
    free_peptide(&one);
}

static void options_refused(void **state) {
    (void)state;
    tbg_anneal_options good, o;
    tbg_anneal_defaults(&good);
    assert_ok(tbg_anneal_check(&good));
#define REFUSED(field, value)                                                                                \
    o = good;                                                                                                \
    o.field = value;                                                                                         \
    assert_int_equal(tbg_anneal_check(&o), TBG_INPUT)
    REFUSED(smoothing, 0);
    REFUSED(smoothing, NAN);
    REFUSED(temperature, -1);
    REFUSED(replicas, 0);
    REFUSED(replicas, 1 << 20);
    REFUSED(stages, 0);
    REFUSED(steps, 0);
    REFUSED(step, 2);
    REFUSED(newton, 0);
#undef REFUSED
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integral_of_a_spring),
        cmocka_unit_test(stated_error_is_the_scatter),
        cmocka_unit_test(addresses_and_hostile_neighbours),
        cmocka_unit_test(options_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
