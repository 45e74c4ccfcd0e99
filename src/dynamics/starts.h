/* starts.h: distinct start structures for independent runs. */
#ifndef TBG_DYNAMICS_STARTS_H
#define TBG_DYNAMICS_STARTS_H
#include "tbg/dynamics.h"

/* Turn every bond of low barrier (acyclic, one end with four neighbours) by a random angle and minimise.
 * Accepted only if bond lengths, the handedness of every centre and cis/trans of every other bond are as
 * before; tried `tries` times, else the given positions stay. *moved: whether they were replaced. positions:
 * [n_atoms][3] nm, minimised, in and out. index: distinguishes runs. */
int tbg_start_scatter(const tbg_molecule *molecule, const tbg_system *system, uint64_t seed, int index,
                      int tries, double *positions, int *moved);
/* Turn the atoms on the far side of bond b-c (away from b) about it by `angle`. side: [n_atoms] scratch.
 * Returns 0 and leaves all as it is if the bond is part of a ring. */
int tbg_start_turn(const tbg_molecule *molecule, int b, int c, double angle, unsigned char *side,
                   double *positions);
/* *ring: 1 if the bond b-c is part of a ring. */
int tbg_start_in_ring(const tbg_molecule *molecule, int b, int c, int *ring);
/* What dynamics should not change, looked up once for many frames. */
typedef struct {
    int n_centres, n_omega;
    int (*centres)[4]; /* an atom with four neighbours and three of them */
    int (*omega)[4];   /* peptide bonds */
} tbg_chemistry;
int tbg_chemistry_create(const tbg_molecule *molecule, tbg_chemistry *out);
void tbg_chemistry_free(tbg_chemistry *chemistry);
/* Centres of x with the other handedness than in `reference`; peptide bonds that are cis here and trans
 * there, or the other way round. positions: [n_atoms][3]. */
int tbg_chemistry_inverted(const tbg_chemistry *chemistry, const double *x, const double *reference);
int tbg_chemistry_turned(const tbg_chemistry *chemistry, const double *x, const double *reference);
/* 1 if a has the bonds, the handedness and the cis/trans bonds of b. */
int tbg_start_same_chemistry(const tbg_molecule *molecule, const double *a, const double *b);
#endif
