/* test_reference.c: the oracle against OpenMM's vectors and against the laws any energy obeys. */
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
                double error = compare_error(part[e], v.components[c * TBG_E_N + e], 1.0);
                if (getenv("TBG_SHOW"))
                    printf("%s %ld %s %.12g %.12g %.2g\n", vector_names[m], c,
                           tbg_energy_component_name(v.system, e), part[e], v.components[c * TBG_E_N + e],
                           error);
                else if (!(error <= 1e-11))
                    fail_msg("%s frame %ld %s: %.12g, OpenMM %.12g", vector_names[m], c,
                             tbg_energy_component_name(v.system, e), part[e], v.components[c * TBG_E_N + e]);
                sum += part[e];
            }
            assert_true(compare_error(sum, v.energies[c], 1.0) <= 1e-11);
            double worst = compare_arrays(vector_names[m], size, forces, v.forces + c * size, 1e-2, 1e-9);
            if (getenv("TBG_SHOW"))
                printf("%s %ld forces %.2g\n", vector_names[m], c, worst);
            assert_true(worst <= 1e-9);
        }
        free(forces);
        free_vector(&v);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_openmm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
