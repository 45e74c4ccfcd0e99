/* minimize.h: L-BFGS over any function, for tests and for tbg_minimize. */
#ifndef TBG_DYNAMICS_MINIMIZE_H
#define TBG_DYNAMICS_MINIMIZE_H
#include "tbg/dynamics.h"

/* energy and gradient at x; a non-finite energy is allowed and means "not there". Nonzero return ends the
 * search. */
typedef int tbg_objective(const void *state, const double *x, double *energy, double *gradient);

/* n_points points of 3 coordinates each; none moves more than max_move per step. */
int tbg_minimize_objective(tbg_objective *objective, const void *state, int n_points, double *x,
                           double max_move, double tolerance, int max_steps, tbg_minimum *minimum);
#endif
