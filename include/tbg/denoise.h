/* clang-format off */
/* denoise.h: from a noisy configuration of a flow to the molecule: by many branches of a random process that
 * the same network drives, then by the force field (tbg/anneal.h), with an unbiased estimate of the weight.
 *
 * Stopped at a time t < 1 (tbg_flow_last_time), a flow trained by flow matching has the density q(y) of
 * molecules with normal noise of S per coordinate. A sample y ~ q with x ~ pi(x | y) has the weight Z(y) / q(y):
 *
 *   pi(x, y) = exp(-u(x)) N(y; x, S^2),   Z(y) = int exp(-u(x)) N(x; y, S^2) dx          (tbg/anneal.h)
 *
 * S may be large here: what the field knows of the way from S down to the annealing's smaller s is used, but
 * not its density, which is what a flow is worst at. Levels S = S_0 > S_1 > .. > S_K = s. Noise is added by r,
 * and taken off by the normal distribution p that undoes it where the molecule is known (Ho, Jain, Abbeel
 * 2020):
 *
 *   r(y_k | y_k+1) = N(y_k+1, S_k^2 - S_k+1^2)
 *   p(y_k+1 | y_k) = N(rho y_k + (1 - rho) D(y_k), v_k)
 *   rho = a_k+1^2 / a_k^2,   a_k^2 = S_k^2 - trained^2
 *   D   = x + (1 - t) v(t, x) at x = t y, the network's mean of the molecule
 *   v_k = rho (1 - rho) a_k^2 + (1 - rho)^2 a_k^2 m_k
 *
 * m_k: the mean over coordinates of dD/dy (by the divergence, of a few pilot samples), the molecule's mean
 * variance given y over a_k^2. For any field, any levels and any variances
 *
 *   Z(y) = E[ prod_k r(y_k | y_k+1) / p(y_k+1 | y_k)  Z_s(y_K) ],
 *
 * so the mean over M branches, each with its own annealing at the end, is an unbiased estimate; one branch is
 * kept with probability proportional to its part, and gives x. Branches of configurations that are not
 * accepted count 0: the target is exp(-u) on what is. Only the spread of the weights depends on the field; it
 * falls with M.
 *
 * The field must be that of priors drawn independently of the data (`align: no`): priors moved onto the data
 * shift x / t outwards, which costs nothing in exactness but all that branches win.
 *
 * With no branches, S is s and this is the annealing. */
/* clang-format on */
#ifndef TBG_DENOISE_H
#define TBG_DENOISE_H
#include "tbg/anneal.h"
#include "tbg/flow.h"

enum { TBG_BRANCHES_MOST = 256, TBG_BRANCH_STEPS_MOST = 10000 };
typedef struct {
    double smoothing;          /* S, nm: of the flow's configurations; at least the model's */
    int branches;              /* M; 0: none, annealing->smoothing must be S */
    int steps;                 /* K */
    tbg_anneal_options anneal; /* its smoothing, s: above the model's and below S with branches */
} tbg_denoise_options;
/* Of branches: 0.12 nm, 64 branches of 20 steps, annealing from 0.03 nm with half the usual replicas and
 * stages. */
void tbg_denoise_defaults(tbg_denoise_options *options);

typedef struct tbg_denoiser tbg_denoiser;
/* accept: whether a configuration, [n_atoms][3] nm, belongs to the target; it may be called by several
 * threads at once; NULL: all do. session and conditioning are not used without branches, and may then be
 * NULL. All arguments must outlive the denoiser but the options. errors: TBG_INPUT: options; TBG_FAILED: the
 * pilot. */
int tbg_denoiser_create(tbg_session *session, const tbg_conditioning *conditioning, tbg_engine *engine,
                        int n_atoms, const tbg_denoise_options *options,
                        int (*accept)(void *context, const double *x), void *context, tbg_denoiser **out);
void tbg_denoiser_free(tbg_denoiser *denoiser);
const tbg_denoise_options *tbg_denoiser_options(const tbg_denoiser *denoiser);

/* y: [n][n_atoms][3] nm. Configuration i has the number first + i, which with the seed decides its random
 * numbers. x: [n][n_atoms][3] nm, assigned, mean removed; may be y. result: [n]: log_z: ln of the estimate of
 * Z(y); error: relative standard error of that estimate, from the branches, or from the annealing's replicas
 * where there are fewer than two; u: of x. Where nothing is accepted log_z is -Inf and x one of the branches.
 */
int tbg_denoise(tbg_denoiser *denoiser, uint64_t seed, long n, uint64_t first, const double *y, double *x,
                tbg_anneal_result *result);
/* The other way round, for x of density exp(-u): y: assigned, drawn from N(x, S^2), and the estimate of Z(y)
 * has x in one of its branches, whose path is the noise that led to y (conditional importance sampling: see
 * tbg_anneal_reverse, which this is without branches). number: [n]. */
int tbg_denoise_given(tbg_denoiser *denoiser, uint64_t seed, long n, const uint64_t *number, const double *x,
                      double *y, tbg_anneal_result *result);
#endif
