/* test_reference.c: the oracle against OpenMM's vectors and against the laws that any energy obeys. */
#include "energy/reference.h"
#include "vectors.h"

/* Observed on all 13 molecules: components 3e-13 relative (to 1 kJ/mol at least), forces 5e-11 (relative, to
 * 1 % of the largest at least). */
static void agrees_with_openmm(void **state) {
    (void)state;
    for (int m = 0; m < N_VECTORS; m++) {
        vector_set v = load_vector(vector_names[m]);
        size_t size = 3 * (size_t)v.system->n_atoms;
        double *forces = malloc(size * sizeof *forces);
        for (long c = 0; c < v.n; c++) {
            double part[TBG_E_N], sum = 0;
            assert_ok(tbg_reference_evaluate(v.system, v.positions + c * size, part, forces));
            for (int e = 0; e < TBG_E_N; e++) {
                double want = v.components[c * TBG_E_N + e];
                if (!(compare_error(part[e], want, 1.0) <= 1e-11))
                    fail_msg("%s frame %ld %s: %.12g, OpenMM %.12g", vector_names[m], c,
                             tbg_energy_component_name(v.system, e), part[e], want);
                sum += part[e];
            }
            assert_true(compare_error(sum, v.energies[c], 1.0) <= 1e-11);
            assert_true(compare_arrays(vector_names[m], size, forces, v.forces + c * size, 1e-2, 1e-9) <=
                        1e-9);
        }
        free(forces);
        free_vector(&v);
    }
}

/* A system that has only one kind of term; shares everything with `whole`. */
static tbg_system only(const tbg_system *whole, int component) {
    tbg_system s = *whole;
    if (component != TBG_E_BOND)
        s.n_bonds = 0;
    if (component != TBG_E_ANGLE)
        s.n_angles = 0;
    if (component != TBG_E_TORSION)
        s.n_torsions = 0;
    if (component != TBG_E_NONBONDED)
        s.n_pairs = s.n_pairs14 = 0;
    if (component != TBG_E_GB)
        s.gb = TBG_GB_NONE;
    return s;
}

static double energy_of(const tbg_system *s, const double *x) {
    double part[TBG_E_N], sum = 0;
    assert_ok(tbg_reference_evaluate(s, x, part, NULL));
    for (int e = 0; e < TBG_E_N; e++)
        sum += part[e];
    return sum;
}

static void forces_are_slopes(void **state) {
    (void)state;
    const char *const names[] = {"AC", "GP", "alanine_dipeptide"};
    for (int m = 0; m < 3; m++) {
        vector_set v = load_vector(names[m]);
        size_t size = 3 * (size_t)v.system->n_atoms;
        double *forces = malloc(size * sizeof *forces), *slopes = malloc(size * sizeof *slopes);
        double *x = malloc(size * sizeof *x);
        for (int cut = 0; cut < 2; cut++)
            for (int e = 0; e < TBG_E_N; e++) {
                tbg_system s = only(v.system, e);
                if (cut) /* many pairs beyond it; none within 1e-5 of it in these frames */
                    s.cutoff = 0.45;
                double part[TBG_E_N];
                long frame = 2 + m % 2;
                memcpy(x, v.positions + frame * size, size * sizeof *x);
                for (size_t i = 0; i < size;
                     i++) { /* fourth-order central difference; origin near the atoms */
                    static const double weight[4] = {1. / 12, -8. / 12, 8. / 12, -1. / 12};
                    double h = 2e-5, at = x[i], slope = 0;
                    for (int k = 0; k < 4; k++) {
                        x[i] = at + h * (k < 2 ? k - 2 : k - 1);
                        slope += weight[k] * energy_of(&s, x);
                    }
                    x[i] = at;
                    slopes[i] = -slope / h;
                }
                assert_ok(tbg_reference_evaluate(&s, x, part, forces));
                assert_true(compare_arrays(tbg_energy_component_names[e], size, forces, slopes, 0.1, 1e-6) <=
                            1e-6);
                assert_true(part[e] != 0);
            }
        free(forces);
        free(slopes);
        free(x);
        free_vector(&v);
    }
}

/* Rotation by an arbitrary quaternion, then translation. */
static void move(const double *x, size_t n, double *y, int translate) {
    const double q[4] = {0.36, -0.48, 0.64, 0.48}, t[3] = {1.5, -0.7, 2.2};
    double w = q[0], a = q[1], b = q[2], c = q[3];
    const double R[3][3] = {{1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b)},
                            {2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a)},
                            {2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)}};
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++)
            y[3 * i + k] =
                R[k][0] * x[3 * i] + R[k][1] * x[3 * i + 1] + R[k][2] * x[3 * i + 2] + (translate ? t[k] : 0);
}

static void symmetries(void **state) {
    (void)state;
    for (int m = 0; m < N_VECTORS; m += 4) {
        vector_set v = load_vector(vector_names[m]);
        size_t n = (size_t)v.system->n_atoms, size = 3 * n;
        double *f = malloc(size * sizeof *f), *g = malloc(size * sizeof *g),
               *turned = malloc(size * sizeof *g);
        double *y = malloc(size * sizeof *y), part[TBG_E_N], moved[TBG_E_N];
        for (int e = 0; e < TBG_E_N; e++) {
            tbg_system s = only(v.system, e);
            const double *x = v.positions + 5 * size;
            assert_ok(tbg_reference_evaluate(&s, x, part, f));
            move(x, n, y, 1);
            assert_ok(tbg_reference_evaluate(&s, y, moved, g));
            move(f, n, turned, 0);
            assert_true(compare_arrays("energy", TBG_E_N, moved, part, 1e-9, 1e-10) <= 1e-10);
            assert_true(compare_arrays("rotated forces", size, g, turned, 1e-2, 1e-9) <= 1e-9);
            double largest = 0, net[3] = {0}, torque[3] = {0};
            for (size_t i = 0; i < n; i++)
                for (int k = 0; k < 3; k++) {
                    int a = (k + 1) % 3, b = (k + 2) % 3;
                    net[k] += f[3 * i + k];
                    torque[k] += (x[3 * i + a] - x[a]) * f[3 * i + b] - (x[3 * i + b] - x[b]) * f[3 * i + a];
                    largest = fmax(largest, fabs(f[3 * i + k]));
                }
            for (int k = 0; k < 3; k++) {
                assert_true(fabs(net[k]) <= 1e-11 * largest);
                assert_true(fabs(torque[k]) <= 1e-11 * largest);
            }
            /* the mirror image has the same energy: no term knows handedness, except torsions with a phase
             * that is neither 0 nor pi, which these force fields do not have */
            for (size_t i = 0; i < n; i++) {
                memcpy(y + 3 * i, x + 3 * i, 3 * sizeof *y);
                y[3 * i + 2] *= -1;
            }
            assert_ok(tbg_reference_evaluate(&s, y, moved, NULL));
            assert_true(compare_error(moved[e], part[e], 1) <= 1e-9); /* phases are pi to 12 digits */
        }
        free(f);
        free(g);
        free(turned);
        free(y);
        free_vector(&v);
    }
}

static void order_of_terms_does_not_matter(void **state) {
    (void)state;
    vector_set v = load_vector("WY");
    tbg_system s = *v.system;
    double part[TBG_E_N], reversed[TBG_E_N];
    size_t size = 3 * (size_t)s.n_atoms;
    double *f = malloc(size * sizeof *f), *g = malloc(size * sizeof *g);
    assert_ok(tbg_reference_evaluate(&s, v.positions, part, f));
#define REVERSE(type, array, n)                                                                              \
    for (int i = 0, j = (n)-1; i < j; i++, j--) {                                                            \
        type swap = (array)[i];                                                                              \
        (array)[i] = (array)[j];                                                                             \
        (array)[j] = swap;                                                                                   \
    }
    REVERSE(tbg_bond_term, s.bonds, s.n_bonds)
    REVERSE(tbg_angle_term, s.angles, s.n_angles)
    REVERSE(tbg_torsion_term, s.torsions, s.n_torsions)
    REVERSE(tbg_pair_term, s.pairs14, s.n_pairs14)
    for (int t = 0; t < s.n_torsions; t++) { /* a torsion read backwards is the same torsion */
        tbg_torsion_term q = s.torsions[t];
        s.torsions[t] = (tbg_torsion_term){q.l, q.k, q.j, q.i, q.periodicity, q.phase, q.barrier};
    }
    assert_ok(tbg_reference_evaluate(&s, v.positions, reversed, g));
    assert_true(compare_arrays("energy", TBG_E_N, reversed, part, 1e-9, 1e-12) <= 1e-12);
    assert_true(compare_arrays("forces", size, g, f, 1e-2, 1e-10) <= 1e-10);
    free(f);
    free(g);
    free_vector(&v);
}

/* A butane-like chain: the sign convention and the formula, without a force field. */
static void torsion_known_answer(void **state) {
    (void)state;
    tbg_torsion_term term = {0, 1, 2, 3, 3, 0.4, 2.5};
    tbg_system s = {.n_atoms = 4, .n_torsions = 1, .torsions = &term};
    for (int degrees = -170; degrees <= 180; degrees += 35) {
        double phi = degrees * 3.14159265358979323846 / 180;
        /* looking down from +z (atom 1 above atom 2), atom 3 turned clockwise by phi from atom 0 */
        double x[12] = {1, 0, 0.5, 0, 0, 0, 0, 0, -1, cos(phi), -sin(phi), -1.5};
        int atoms[4] = {0, 1, 2, 3};
        assert_true(fabs(remainder(tbg_dihedral(x, atoms) - phi, 6.283185307179586)) < 1e-12);
        assert_true(compare_error(energy_of(&s, x), 2.5 * (1 + cos(3 * phi - 0.4)), 1) < 1e-12);
    }
}

static void overlapping_atoms(void **state) {
    (void)state;
    for (int m = 0; m < N_VECTORS; m += 12) {
        vector_set v = load_vector(vector_names[m]);
        size_t size = 3 * (size_t)v.system->n_atoms;
        double *x = calloc(size, sizeof *x), *f = malloc(size * sizeof *f), part[TBG_E_N];
        assert_ok(tbg_reference_evaluate(v.system, x, part, f)); /* all atoms at the origin */
        assert_false(isfinite(part[TBG_E_NONBONDED]));
        memcpy(x, v.positions, size * sizeof *x);
        memcpy(x + 3 * v.system->pairs[0][0], x + 3 * v.system->pairs[0][1], 3 * sizeof *x);
        assert_ok(tbg_reference_evaluate(v.system, x, part, f));
        assert_false(isfinite(part[TBG_E_NONBONDED]));
        memcpy(x, v.positions, size * sizeof *x);
        for (int k = 0; k < 3; k++) { /* exactly straight angle: finite energy, finite forces */
            const tbg_angle_term *a = &v.system->angles[0];
            x[3 * a->i + k] = x[3 * a->j + k] + (k == 0) * 0.1;
            x[3 * a->k + k] = x[3 * a->j + k] - (k == 0) * 0.1;
        }
        assert_ok(tbg_reference_evaluate(v.system, x, part, f));
        assert_true(isfinite(part[TBG_E_ANGLE]));
        for (int i = 0; i < 3; i++) {
            const double bad[3] = {NAN, INFINITY, 1e300};
            memcpy(x, v.positions, size * sizeof *x);
            x[7] = bad[i];
            assert_ok(tbg_reference_evaluate(v.system, x, part, f));
            assert_false(isfinite(part[TBG_E_BOND]));
        }
        free(x);
        free(f);
        free_vector(&v);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_openmm),   cmocka_unit_test(forces_are_slopes),
        cmocka_unit_test(symmetries),           cmocka_unit_test(order_of_terms_does_not_matter),
        cmocka_unit_test(torsion_known_answer), cmocka_unit_test(overlapping_atoms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
