/* whole.h: figures of all frames of a reference, computed or kept beside a thinned one; for floor 9 only. */
#ifndef TBG_ENSEMBLE_WHOLE_H
#define TBG_ENSEMBLE_WHOLE_H
#include "ensemble/spread.h"

enum { TBG_QUANTILES = 100 }; /* of each of TBG_BLOCKS blocks of energies in time */

/* dF of every phi from all frames of r; its error from the inefficiency of the indicator, or the scatter
 * between runs where that is larger; of weighted frames what tbg_reference_unweight found. dF, inefficiency:
 * [TBG_TORSIONS_MOST]. */
int tbg_reference_dF(const tbg_reference *r, const tbg_molecule *molecule, int *n_dF, tbg_dF *dF,
                     double *inefficiency);
/* weighted.c: r->weighted, dF and inefficiency from the frames' weights, then draws in place of the frames.
 * weight: [r->n]. */
int tbg_reference_unweight(tbg_reference *r, const tbg_molecule *molecule, const double *weight);
/* Dihedral angle of a frame. */
double tbg_reference_angle(const tbg_reference *r, long i, const int atoms[4]);
/* 1 for frames whose dihedral angle is between 0 and 2, else 0. side: [r->n]. */
void tbg_reference_side(const tbg_reference *r, const int atoms[4], double *side);
/* The same from what is kept: population of 0 < phi < 2, inefficiency, frames. */
tbg_dF tbg_reference_dF_of(const char *name, double p, double inefficiency, long n);
/* TICA of evenly spaced frames. lag, actual: ps; shorter than asked for where the runs are short. */
int tbg_reference_tica(const tbg_reference *r, const tbg_featurizer *f, double lag, double *actual,
                       tbg_tica *tica);
/* DATA.json of DATA.nc. */
int tbg_whole_path(const char *trajectory, char *path, size_t size);
/* *out: NULL if there is no such file or it is another kind. */
int tbg_whole_read(const char *trajectory, const tbg_molecule *molecule, tbg_whole **out);
void tbg_whole_free(tbg_whole *w);
#endif
