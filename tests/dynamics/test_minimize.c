/* test_minimize.c: the minimiser on known functions, from clashes and from nonsense; start structures. */
#include "tbg_test.h"
#include "dynamics/minimize.h"
#include "dynamics/starts.h"
#include "energy/reference.h"
#include "tbg/random.h"

#include <stdlib.h>
#include <string.h>

static int valley(const void *state, const double *x, double *energy, double *g) {
    (void)state; /* a curved, badly scaled valley with its minimum at (1, 1, 0) */
    double a = x[1] - x[0] * x[0], b = 1 - x[0];
    *energy = 100 * a * a + b * b + 5 * x[2] * x[2];
    g[0] = -400 * a * x[0] - 2 * b;
    g[1] = 200 * a;
    g[2] = 10 * x[2];
    return TBG_OK;
}

static void finds_the_end_of_a_curved_valley(void **state) {
    (void)state;
    double x[3] = {-1.2, 1, 3};
    tbg_minimum m;
    assert_ok(tbg_minimize_objective(valley, NULL, 1, x, 0.5, 1e-9, 1000, &m));
    assert_true(m.converged && m.steps < 200 && m.rms_force <= 1e-9);
    assert_true(fabs(x[0] - 1) < 1e-8 && fabs(x[1] - 1) < 1e-8 && fabs(x[2]) < 1e-8);
}

static void stops_where_told(void **state) {
    (void)state;
    double x[3] = {-1.2, 1, 3}, bad[3] = {0, NAN, 0};
    tbg_minimum m;
    assert_ok(tbg_minimize_objective(valley, NULL, 1, x, 0.5, 1e-9, 3, &m));
    assert_true(!m.converged && m.steps == 3);
    assert_int_equal(tbg_minimize_objective(valley, NULL, 1, bad, 0.5, 1e-9, 3, &m), TBG_INPUT);
    assert_int_equal(tbg_minimize_objective(valley, NULL, 1, x, 0.5, 0, 3, &m), TBG_INPUT);
}

static void load(const char *what, const char *forcefield, tbg_molecule **molecule, tbg_system **system) {
    assert_ok(tbg_molecule_load(what, molecule));
    assert_ok(tbg_system_create(*molecule, forcefield, -1, system));
}

static double rms_force(const tbg_system *system, const double *x) {
    double components[TBG_E_N], sum = 0;
    size_t n = 3 * (size_t)system->n_atoms;
    double *f = malloc(n * sizeof *f);
    assert_ok(tbg_reference_evaluate(system, x, components, f));
    for (size_t i = 0; i < n; i++)
        sum += f[i] * f[i];
    free(f);
    return sqrt(sum / (double)n);
}

static void molecules_relax_from_clashes(void **state) {
    (void)state;
    const char *const what[] = {"ACE-ALA-NME", "WY", "KR"};
    for (int k = 0; k < 3; k++) {
        tbg_molecule *molecule;
        tbg_system *system;
        load(what[k], k ? "amber14-obc1" : "amber99sbildn-obc", &molecule, &system);
        size_t n = 3 * (size_t)molecule->n_atoms;
        double *x = malloc(n * sizeof *x), *z = malloc(n * sizeof *z);
        for (int noise = 0; noise < 2; noise++) {
            tbg_minimum m;
            memcpy(x, molecule->positions, n * sizeof *x);
            tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, k), 0, n, z);
            for (size_t i = 0; i < n && noise; i++)
                x[i] += 0.03 * z[i];
            assert_ok(tbg_minimize(system, x, 1.0, 0, &m));
            assert_true(m.converged && fabs(m.rms_force - rms_force(system, x)) < 1e-9);
            assert_true(m.rms_force <= 1.0 && m.energy < 500);
        }
        /* two atoms in one place: no energy there, still a minimum nearby */
        memcpy(x, molecule->positions, n * sizeof *x);
        memcpy(x + n - 3, x, 3 * sizeof *x);
        tbg_minimum m;
        assert_ok(tbg_minimize(system, x, 10, 3000, &m));
        assert_true(isfinite(m.energy));
        free(x);
        free(z);
        tbg_system_free(system);
        tbg_molecule_free(molecule);
    }
}

static void bonds_turn_and_rings_do_not(void **state) {
    (void)state;
    tbg_molecule *molecule;
    assert_ok(tbg_molecule_load("ACE-PHE-PRO-NME", &molecule));
    size_t n = 3 * (size_t)molecule->n_atoms;
    double *x = malloc(n * sizeof *x);
    unsigned char *side = malloc((size_t)molecule->n_atoms);
    memcpy(x, molecule->positions, n * sizeof *x);
    int count;
    tbg_torsion *torsions;
    assert_ok(tbg_backbone_torsions(molecule, &count, &torsions));
    int turned = 0, rings = 0;
    for (int t = 0; t < count; t++) {
        const int *a = torsions[t].atoms;
        int proline = !strcmp(molecule->residues[torsions[t].residue].name, "PRO");
        double before = tbg_dihedral(x, a);
        int ok = tbg_start_turn(molecule, a[1], a[2], 0.7, side, x);
        double change = tbg_dihedral(x, a) - before;
        change -= 2 * M_PI * round(change / (2 * M_PI));
        if (proline && !strncmp(torsions[t].name, "phi", 3)) {
            assert_true(!ok && change == 0);
            rings++;
        } else {
            assert_true(ok && fabs(change - 0.7) < 1e-9);
            turned++;
        }
    }
    assert_true(rings == 1 && turned >= 4);
    free(torsions);
    /* turned omegas by 0.7: still the same chemistry; mirrored: not; a long bond: not */
    assert_true(tbg_start_same_chemistry(molecule, x, (const double *)molecule->positions));
    tbg_chemistry c;
    const double *reference = (const double *)molecule->positions;
    assert_ok(tbg_chemistry_create(molecule, &c));
    assert_int_equal(c.n_omega, 3);
    assert_true(c.n_centres == 2 /* caps */ + 2 /* PHE CA CB */ + 4 /* PRO CA CB CG CD */);
    assert_int_equal(tbg_chemistry_inverted(&c, x, reference), 0);
    assert_int_equal(tbg_chemistry_turned(&c, x, reference), 0);
    assert_int_equal(tbg_start_turn(molecule, c.omega[1][1], c.omega[1][2], 2, side, x), 1);
    assert_int_equal(tbg_chemistry_turned(&c, x, reference), 1);
    assert_int_equal(tbg_start_turn(molecule, c.omega[1][1], c.omega[1][2], -2, side, x), 1);
    x[0] += 0.1;
    assert_true(!tbg_start_same_chemistry(molecule, x, (const double *)molecule->positions));
    x[0] -= 0.1;
    for (size_t i = 0; i < n; i += 3)
        x[i] = -x[i];
    assert_true(!tbg_start_same_chemistry(molecule, x, (const double *)molecule->positions));
    assert_int_equal(tbg_chemistry_inverted(&c, x, reference), c.n_centres);
    tbg_chemistry_free(&c);
    free(x);
    free(side);
    tbg_molecule_free(molecule);
}

static void starts_differ_and_are_sound(void **state) {
    (void)state;
    tbg_molecule *molecule;
    tbg_system *system;
    load("RF", "amber14-obc1", &molecule, &system);
    size_t n = 3 * (size_t)molecule->n_atoms;
    double *first = malloc(n * sizeof *first), *x = malloc(n * sizeof *x), *again = malloc(n * sizeof *x);
    memcpy(first, molecule->positions, n * sizeof *x);
    assert_ok(tbg_minimize(system, first, 10, 0, NULL));
    int moved, count, moves = 0;
    tbg_torsion *torsions;
    assert_ok(tbg_backbone_torsions(molecule, &count, &torsions));
    for (int index = 1; index < 5; index++) {
        memcpy(x, first, n * sizeof *x);
        memcpy(again, first, n * sizeof *x);
        assert_ok(tbg_start_scatter(molecule, system, 3, index, 10, x, &moved));
        assert_ok(tbg_start_scatter(molecule, system, 3, index, 10, again, &moved));
        assert_memory_equal(x, again, n * sizeof *x);
        assert_true(tbg_start_same_chemistry(molecule, x, first));
        moves += moved && memcmp(x, first, n * sizeof *x);
        if (moved)
            assert_true(rms_force(system, x) < 50);
    }
    assert_true(moves >= 3);
    free(torsions);
    free(first);
    free(x);
    free(again);
    tbg_system_free(system);
    tbg_molecule_free(molecule);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_end_of_a_curved_valley), cmocka_unit_test(stops_where_told),
        cmocka_unit_test(molecules_relax_from_clashes),     cmocka_unit_test(bonds_turn_and_rings_do_not),
        cmocka_unit_test(starts_differ_and_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
