/* random_system.h: a small system with every kind of term and branch that a force field could bring, from
 * random numbers. */
#ifndef TBG_TESTS_ENERGY_RANDOM_SYSTEM_H
#define TBG_TESTS_ENERGY_RANDOM_SYSTEM_H
#include "tbg/random.h"
#include "tbg/system.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM_ATOMS = 14, RANDOM_TERMS = 20 };

static inline double uniform_of(uint64_t seed, uint64_t *counter, double low, double high) {
    double u;
    tbg_random_uniform(seed, 7, (*counter)++, 1, &u);
    return low + (high - low) * u;
}

/* gb: TBG_GB_*. cutoff: nm, 0 none. Freed by tbg_system_free. */
static inline tbg_system *random_system(uint64_t seed, int gb, double cutoff) {
    uint64_t c = 0;
#define U(low, high) uniform_of(seed, &c, low, high)
    int n = RANDOM_ATOMS;
    tbg_system *s = calloc(1, sizeof *s);
    s->n_atoms = n;
    strcpy(s->forcefield, "random");
    s->mass = calloc((size_t)n, sizeof(double));
    s->charge = calloc((size_t)n, sizeof(double));
    s->sigma = calloc((size_t)n, sizeof(double));
    s->epsilon = calloc((size_t)n, sizeof(double));
    s->gb_radius = calloc((size_t)n, sizeof(double));
    s->gb_screen = calloc((size_t)n, sizeof(double));
    for (int i = 0; i < n; i++) {
        s->mass[i] = 12;
        s->charge[i] = U(-1, 1);
        s->sigma[i] = U(0.1, 0.3);
        s->epsilon[i] = i % 5 == 0 ? 0 : U(0.01, 1);
        s->gb_radius[i] = U(0.08, 0.2);
        s->gb_screen[i] = i % 4 == 0 ? U(1, 2) : U(0.3, 1); /* above 1: spheres that swallow others */
    }
    s->n_bonds = s->n_angles = RANDOM_TERMS;
    s->n_torsions = 3 * RANDOM_TERMS;
    s->bonds = calloc((size_t)s->n_bonds, sizeof *s->bonds);
    s->angles = calloc((size_t)s->n_angles, sizeof *s->angles);
    s->torsions = calloc((size_t)s->n_torsions, sizeof *s->torsions);
    for (int t = 0; t < s->n_bonds; t++) {
        int i = (int)U(0, n), j = (i + 1 + (int)U(0, n - 1)) % n;
        s->bonds[t] = (tbg_bond_term){i, j, U(0.1, 0.2), U(1e3, 1e5)};
        int k = (i + 1) % n == j ? (i + 2) % n : (i + 1) % n;
        s->angles[t] = (tbg_angle_term){i, j, k, U(0, 3.14), U(10, 500)};
    }
    for (int t = 0; t < s->n_torsions;
         t++) { /* a third repeats the four atoms before, some the other way round */
        int i = (int)U(0, n), step = 1 + (int)U(0, 3);
        tbg_torsion_term q = {i, (i + step) % n, (i + 2 * step) % n, (i + 3 * step) % n, 1 + (int)U(0, 6),
                              0, U(-20, 20)};
        if (t % 3 == 2) {
            tbg_torsion_term *b = &s->torsions[t - 1];
            q.i = t % 2 ? b->i : b->l, q.j = t % 2 ? b->j : b->k, q.k = t % 2 ? b->k : b->j,
            q.l = t % 2 ? b->l : b->i;
        }
        q.phase = t % 4 == 0 ? U(-3.2, 3.2) : t % 4 == 1 ? 0 : 3.141592653589793;
        s->torsions[t] = q;
    }
    s->pairs = calloc((size_t)n * n, sizeof *s->pairs);
    s->pairs14 = calloc((size_t)n * n, sizeof *s->pairs14);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            double u = U(0, 1);
            if (u < 0.6) {
                s->pairs[s->n_pairs][0] = i;
                s->pairs[s->n_pairs++][1] = j;
            } else if (u < 0.8)
                s->pairs14[s->n_pairs14++] =
                    (tbg_pair_term){u < 0.7 ? i : j, u < 0.7 ? j : i, U(-1, 1), U(0.1, 0.3), U(0, 1)};
        }
    s->coulomb = 138.935457644;
    s->cutoff = cutoff;
    s->gb = gb;
    s->gb_coulomb = 138.935485;
    s->gb_solute = 1;
    s->gb_solvent = 78.5;
    s->gb_alpha = gb == TBG_GB_OBC2 ? 1 : 0.8;
    s->gb_beta = gb == TBG_GB_OBC2 ? 0.8 : 0;
    s->gb_gamma = gb == TBG_GB_OBC2 ? 4.85 : 2.909125;
    s->gb_offset = 0.009;
    s->gb_surface = 28.3919551;
    s->gb_probe = 0.14;
    s->degrees_of_freedom = 3 * n;
    return s;
#undef U
}

/* [RANDOM_ATOMS][3] in a box of `size` nm, no two atoms closer than 0.04 nm. */
static inline void random_positions(uint64_t seed, double size, double *x) {
    uint64_t c = 1000;
    for (int i = 0; i < RANDOM_ATOMS; i++)
        for (int again = 1; again;) {
            for (int a = 0; a < 3; a++)
                x[3 * i + a] = uniform_of(seed, &c, 0, size);
            again = 0;
            for (int j = 0; j < i; j++) {
                double r2 = 0;
                for (int a = 0; a < 3; a++)
                    r2 += pow(x[3 * i + a] - x[3 * j + a], 2);
                again |= r2 < 0.04 * 0.04;
            }
        }
}
#endif
