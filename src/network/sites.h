/* sites.h: virtual sites of a molecule, which tell left from right; for this floor only. */
#ifndef TBG_NETWORK_SITES_H
#define TBG_NETWORK_SITES_H
#include "tbg/network.h"

/* Find the sites of a molecule and make conditioning->extended from the otherwise finished conditioning.
 * scale: scaled units per nm. */
int tbg_sites_create(const tbg_molecule *molecule, double scale, tbg_conditioning *conditioning);

/* All below: x, x_dot: [n_atoms][3]; all, all_dot: [n_atoms + n_sites][3], atoms first. */

/* all: assigned. */
void tbg_sites_place(const tbg_conditioning *c, const double *x, double *all);
/* Directional derivative of the same. */
void tbg_sites_tangent(const tbg_conditioning *c, const double *x, const double *x_dot, double *all_dot);
/* Transposed: what a gradient with respect to atoms and sites is with respect to the atoms. dx: assigned. */
void tbg_sites_transposed(const tbg_conditioning *c, const double *x, const double *dall, double *dx);
#endif
