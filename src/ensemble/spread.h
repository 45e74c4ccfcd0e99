/* spread.h: standard errors and intervals by resampling; for floor 9 only. */
#ifndef TBG_ENSEMBLE_SPREAD_H
#define TBG_ENSEMBLE_SPREAD_H
#include "tbg/ensemble.h"

#define TBG_BLOCKS 20 /* of the reference: frames are correlated, blocks of a twentieth hardly */

/* Standard deviation and 2.5 % and 97.5 % quantiles of the finite values, which are sorted in place. */
tbg_spread tbg_spread_of(int n, double *values);
tbg_spread tbg_spread_normal(double value, double error); /* value +- 1.96 errors */
tbg_spread tbg_spread_share(long k, long n);              /* k of n: binomial error, Wilson's interval */

/* The spreads of *out that the weights give. */
int tbg_spread_weights(const tbg_ensemble *e, const tbg_selection *s, int replicas,
                       tbg_ensemble_summary *out);
/* Of W1 and W2 between energies u (weight: NULL for equal ones) and those of the reference, in order of time.
 */
int tbg_spread_energies(long n, const double *u, const double *weight, long m, const double *reference,
                        int replicas, uint64_t seed, tbg_spread *w1, tbg_spread *w2);
#endif
