/* group.h: a system's tables for kernels in which a group of threads works on one conformation (CUDA, and its
 * emulation on the host in tests). Made from the batched engine's tables (batch_layout.h), so both compute
 * the same terms.
 *
 * A table is one array of ints and one of reals (double, and float with the same offsets), with every offset
 * in the plain struct below: it is copied to a device as it is, many systems one behind the other.
 *
 * Bonded terms write the forces on their atoms into slots of a scratch array; then every atom adds up its
 * slots in a fixed order. No atomics: the same bits every time. Terms come in two stages so that the scratch
 * stays small. */
#ifndef TBG_ENERGY_GROUP_H
#define TBG_ENERGY_GROUP_H
#include "tbg/energy.h"

#include <stddef.h>
#include <stdint.h>

enum {
    TBG_GROUP = 32,
    TBG_GROUP_PARTS = 4
};                             /* threads per conformation; threads that share an atom's pairs */
enum { TBG_GROUP_STAGES = 2 }; /* bonds, 1-4 pairs, angles; torsions */

/* Reals of an atom: those of TBG_ATOM_* first, then these. */
enum {
    TBG_GROUP_O,
    TBG_GROUP_SR,
    TBG_GROUP_SR2,
    TBG_GROUP_HALF_SR3,
    TBG_GROUP_INV_O,
    TBG_GROUP_INV_RADIUS,
    TBG_GROUP_RADIUS,
    TBG_GROUP_AREA,
    TBG_GROUP_SELF,
    TBG_GROUP_HALF_SIGMA, /* sigma / 2 */
    TBG_GROUP_ROOT24,     /* sqrt(24 epsilon) */
    TBG_GROUP_CHARGE,
    TBG_GROUP_INV_ROOT_MASS, /* 1/sqrt(mass) */
    TBG_GROUP_INV_MASS,
    TBG_GROUP_ATOM_REALS
};
enum {
    TBG_GROUP_CUTOFF2,
    TBG_GROUP_SHIFT,
    TBG_GROUP_ALPHA,
    TBG_GROUP_BETA,
    TBG_GROUP_GAMMA,
    TBG_GROUP_COULOMB,
    TBG_GROUP_GB_COULOMB, /* -k (1/solute - 1/solvent) */
    TBG_GROUP_SCALARS
};

/* Offsets are from the system's first int and first real. */
typedef struct {
    int32_t n_atoms, gb, cut; /* gb, cut: 0 or 1 */
    int32_t n_bonds, n_pairs14, n_angles, n_cosines, n_waves;
    int32_t i_bond, i_pair14, i_angle, i_cosine, i_wave; /* ints: [n][2], [n][2], [n][3], [n][4], [n][4] */
    int32_t i_row;   /* ints [TBG_GROUP_STAGES][n_atoms + 1]: an atom's first entry */
    int32_t i_entry; /* ints: 2 slot + (1 if the slot's force is to be subtracted) */
    int32_t i_plain; /* ints [n_atoms][words]: bit j of row i: the pair interacts by the plain rule */
    int32_t words;
    int32_t r_bond, r_pair14, r_angle, r_cosine,
        r_wave; /* reals: [n][2], [n][3] (12 a, 6 b, kqq), [n][2], [n][5], [n][13] */
    int32_t r_atom,
        r_scalar; /* reals: [TBG_GROUP_ATOM_REALS][n_atoms] (atoms next to each other), [TBG_GROUP_SCALARS] */
    int32_t scratch; /* reals of scratch a conformation needs, 8-byte aligned */
    int32_t n_ints, n_reals;
    int64_t ints, reals; /* set by who puts systems together: where this one starts */
} tbg_group_layout;

typedef struct {
    tbg_group_layout layout;
    int32_t *ints;
    double *r64;
    float *r32;
} tbg_group_system;

/* errors: as tbg_batch_system_create. */
int tbg_group_system_create(const tbg_system *system, tbg_group_system **out);
void tbg_group_system_free(tbg_group_system *s);

/* Reals of shared memory per conformation: x, f (and v in dynamics: kept by the caller behind these). */
static inline size_t tbg_group_reals(const tbg_group_layout *s) {
    return (size_t)s->scratch + 10 * (size_t)s->n_atoms;
}
#endif
