/* anneal.h: from a smoothed configuration back to the force field's.
 *
 * A smoothed flow (tbg_network_spec.smoothing = s > 0) has the density q(y) of y = x + s n, n normal, x the
 * molecule. Stiff modes, of widths below s, are what flows are worst at and what force fields know best: so x
 * comes from the force field. With the target extended by the noise,
 *   pi(x, y) = exp(-u(x)) N(y; x, s^2),   whose marginal in x is the Boltzmann distribution,
 *   Z(y) = int exp(-u(x)) N(x; y, s^2) dx,
 * a sample y ~ q with x ~ pi(x | y) has the weight Z(y) / q(y). Both come without bias:
 *   1. V(x) = u(x) + |x - y|^2 / 2 s^2 is minimised from y by damped Newton steps, H its Hessian there (x*);
 *   2. K replicas start from the normal distribution of mean x* and covariance 1/H, x = x* + L^-T z with H =
 * L L^T, and are annealed (Neal, Stat. Comput. 11, 125 (2001)) over the densities exp(-|z|^2/2 - lambda phi),
 * phi = V - |z|^2/2 the anharmonic rest, lambda from 0 to 1, by Hamiltonian moves in z, collecting ln w_k = -
 * sum (lambda_l+1 - lambda_l) phi(z_l);
 *   3. Z is s^-n / |L| times the mean of w_k; one replica is kept with probability w_k / sum w.
 * Exact for any minimum, any H and any number of replicas, stages and steps: E[Z] = Z; only the spread of the
 * weights depends on them. */
#ifndef TBG_ANNEAL_H
#define TBG_ANNEAL_H
#include "tbg/energy.h"
#include <stdint.h>

typedef struct {
    double smoothing;   /* nm, > 0 */
    double temperature; /* K */
    int replicas;       /* K per configuration */
    int stages;         /* values of lambda after 0 */
    int steps;          /* leapfrog steps of a Hamiltonian move; one move a stage */
    double step;        /* their length; the harmonic frequency is 1, so below 2 */
    int newton;         /* most steps of the minimisation */
    uint64_t seed;
    int threads; /* of what the engine does not do; 0: all; never changes results */
} tbg_anneal_options;
void tbg_anneal_defaults(tbg_anneal_options *options);
int tbg_anneal_check(const tbg_anneal_options *options);

typedef struct {
    double log_z;      /* ln of the estimate of Z(y), x in nm; -Inf where no replica had a finite energy */
    double u;          /* reduced energy U/kT of the x that was kept */
    double error;      /* estimated standard error of log_z, from the replicas; NAN for one */
    double acceptance; /* of the Hamiltonian moves */
    int newton;        /* steps of the minimisation; the most there may be: it did not arrive */
} tbg_anneal_result;

/* engine: of the force field of x. y: [n][n_atoms][3] nm; configuration i has the number first + i, which
 * with the seed alone decides its random numbers. x: [n][n_atoms][3] nm, assigned; mean removed; may be y.
 * result: [n]. A configuration that is not finite gives log_z -Inf. errors: TBG_INPUT: options; TBG_FAILED:
 * "interrupted". */
int tbg_anneal(tbg_engine *engine, int n_atoms, const tbg_anneal_options *options, long n, uint64_t first,
               const double *y, double *x, tbg_anneal_result *result);

/* The same the other way round. For x of density exp(-u), with y drawn by tbg_anneal_smooth, the estimate of
 * Z(y) has x among its replicas: replica 0 is x's own path, run backwards (the moves are reversible: from x
 * at lambda = 1, move, weight, next lambda, ..), the others are fresh. Paths, momenta and y have then exactly
 * the distribution that they have in annealed samples (y, x) weighted by their estimates, given x (Andrieu,
 * Doucet and Holenstein, J. R. Stat. Soc. B 72, 269 (2010)): among these a chain that goes from sample to
 * sample by their weights may draw all but x anew. With f(x) the density of the x that q and tbg_anneal make,
 * E[q(y) exp(-u(x)) / estimate] = f(x), for any number of replicas, stages and steps. */
/* y = x + s n, mean removed: y given x. number: [n], decides with the seed the random numbers of each
 * configuration. */
void tbg_anneal_smooth(int n_atoms, const tbg_anneal_options *options, long n, const uint64_t *number,
                       const double *x, double *y);
/* x, y: [n][n_atoms][3] nm; where their centres are does not matter. result: [n]; u: of x. log_z is -Inf
 * where x or y is not finite. errors: as tbg_anneal's. */
int tbg_anneal_reverse(tbg_engine *engine, int n_atoms, const tbg_anneal_options *options, long n,
                       const uint64_t *number, const double *x, const double *y, tbg_anneal_result *result);
#endif
