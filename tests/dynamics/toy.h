/* toy.h: analytic force sources for the tests of the integrator and the exchange. */
#ifndef TBG_TESTS_TOY_H
#define TBG_TESTS_TOY_H
#include "dynamics/integrator.h"

/* Independent harmonic springs to the origin: U = sum k/2 x^2, k per atom. */
typedef struct {
    int n_atoms;
    const double *k; /* [n_atoms] kJ/mol/nm^2 */
} toy_springs;

static inline void toy_springs_evaluate(const void *state, const float *x, float *f, double *energy,
                                        void *workspace) {
    const toy_springs *s = state;
    (void)workspace;
    for (int l = 0; l < TBG_LANES && energy; l++)
        energy[l] = 0;
    for (int j = 0; j < 3 * s->n_atoms; j++)
        for (int l = 0; l < TBG_LANES; l++) {
            float at = x[j * TBG_LANES + l];
            if (f)
                f[j * TBG_LANES + l] = (float)-s->k[j / 3] * at;
            if (energy)
                energy[l] += s->k[j / 3] / 2 * (double)at * (double)at;
        }
}

static inline tbg_force_source toy_springs_source(const toy_springs *s) {
    return (tbg_force_source){s->n_atoms, 0, s, toy_springs_evaluate};
}
#endif
