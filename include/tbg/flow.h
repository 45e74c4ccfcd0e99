/* flow.h: the continuous normalizing flow of a vector field: sampling, and the density of given
 * configurations (SPEC 2.2, 2.3).
 *
 * dx/dt = v(t, x), t from 0 (prior) to 1 (molecule); log q(x1) = log p0(x0) - int_0^1 div v dt. Positions are
 * in scaled units and have mean 0; densities are those on the mean-free subspace of 3(N-1) dimensions, in
 * scaled units: in nm add 3(N-1) ln(scale).
 *
 * Every sample has its own step sizes and its own error: results depend neither on the batch nor on the
 * threads. */
#ifndef TBG_FLOW_H
#define TBG_FLOW_H
#include "tbg/network.h"

typedef enum {
    TBG_SOLVER_ADAPTIVE = 0,  /* Dormand-Prince 5(4) in graded time, per-sample error control; log-det by
                                 quadrature */
    TBG_SOLVER_FIXED = 1,     /* the same with fixed steps */
    TBG_SOLVER_PUBLISHED = 2, /* adaptive Dormand-Prince 5(4) in t, divergence at every stage: the published
                                 recipe, but with each sample's own step size; tolerance 1e-4 there */
    TBG_SOLVER_RK4 = 3 /* `steps` steps of the classical Runge-Kutta method in t, divergence at every stage */
} tbg_solver;
const char *tbg_solver_name(tbg_solver solver); /* "adaptive", "fixed", "published", "rk4" */
int tbg_solver_parse(const char *name, tbg_solver *solver);

typedef struct {
    tbg_solver solver;
    double solver_tolerance; /* absolute and relative, scaled units; adaptive solvers */
    int steps;               /* fixed, rk4: steps from 0 to 1 */
    double tolerance;        /* nats: estimated error of log q above which the nodes are doubled */
    int most_refinements;    /* doublings: 13 nodes, 25, 49, 97, .. at most */
    int most_steps;          /* per sample; more: the sample is given up */
    double graded_d;  /* graded time of the solver and the quadrature; < 0: the model's, or 0.01 where that is
                         0 */
    double last_time; /* where the flow ends, above 0, at most 1 (the usual): below 1 its configurations are x
                         / t of that time, the molecule with normal noise of (1 - t) / t on each coordinate,
                         scaled units (see tbg_flow_last_time) */
    int weights;      /* 1: log q; 0: positions only, no divergence is evaluated */
    /* Asked once about the n samples that have arrived, before their log q is found (adaptive and
     * fixed solvers; not by tbg_flow_density). sample: [n] numbers in the batch; x: [n] their positions
     * [n_atoms][3]; wanted: [n], 1 on entry; set to 0: nobody wants it, and its divergences are saved. A
     * status other than TBG_OK ends the push. NULL: all are wanted. */
    int (*wanted)(void *context, int n, const int *sample, const double *const *x, unsigned char *wanted);
    void *context;
} tbg_flow_options;
void tbg_flow_defaults(tbg_flow_options *options);
int tbg_flow_check(const tbg_flow_options *options);
/* The last time at which x / t of the path x = (1 - t) x0 + t (x1 + trained n) is the molecule with normal
 * noise of `smoothing` per coordinate, (1 - t)^2 / t^2 = scale^2 (smoothing^2 - trained^2): any flow trained
 * by flow matching with a normal prior is, stopped there, a smoothed one (tbg/anneal.h). trained, smoothing:
 * nm; scale: scaled units per nm. 1 where smoothing is at most trained. With aligned priors the noise is only
 * nearly normal, which weights do not mind. */
double tbg_flow_last_time(double scale, double trained, double smoothing);

enum { TBG_FLOW_OK = 0, TBG_FLOW_NOT_FINITE = 1, TBG_FLOW_STEP_LIMIT = 2 };
typedef struct {
    double log_q;     /* of the configuration at t = 1; NaN without weights, when not wanted or when failed */
    double log_prior; /* of the latent point */
    double log_det;   /* log |det dx1/dx0| = int_0^t div v dt - 3(N-1) ln t, t the last time */
    double error;     /* estimated error of log_det, nats: of the quadrature, or 0 where it has no estimate */
    int velocities, divergences; /* evaluations spent */
    int status;                  /* TBG_FLOW_*; positions of failed samples are NaN */
} tbg_flow_result;

/* Latent point of sample `index`: 3N normal numbers at (seed, PRIOR stream of index), mean removed. z:
 * [n_atoms][3]. */
void tbg_prior_sample(uint64_t seed, uint64_t index, int n_atoms, double *z);
/* -|z|^2/2 - 3(N-1)/2 ln(2 pi). */
double tbg_prior_log_density(int n_atoms, const double *z);
/* Subtract the mean over atoms. x: [n_atoms][3]. */
void tbg_remove_mean(int n_atoms, double *x);

/* Samples first .. first + n - 1. molecule: [n]; latent: [sum n_atoms][3] or NULL; x: [sum n_atoms][3];
 * result: [n]. errors: of the network; TBG_FAILED "interrupted". A sample that fails is marked and never
 * stops the others. */
int tbg_flow_sample(tbg_session *session, const tbg_flow_options *options, int n,
                    const tbg_conditioning *const *molecule, uint64_t seed, uint64_t first, double *latent,
                    double *x, tbg_flow_result *result);
/* Latent points given: z to x. */
int tbg_flow_forward(tbg_session *session, const tbg_flow_options *options, int n,
                     const tbg_conditioning *const *molecule, const double *z, double *x,
                     tbg_flow_result *result);
/* Density of given configurations (their mean is removed first): x to z. */
int tbg_flow_density(tbg_session *session, const tbg_flow_options *options, int n,
                     const tbg_conditioning *const *molecule, const double *x, double *z,
                     tbg_flow_result *result);

/* There and back: how far the density of the samples x, and the latent points found for them, are from what
 * sampling said. z, forward: of those n samples. Failed samples are left out. */
typedef struct {
    int n;                           /* compared */
    double largest, rms;             /* |z - z_back| per component, scaled units */
    double log_q_largest, log_q_rms; /* nats; 0 without weights */
} tbg_flow_consistency;
int tbg_flow_check_consistency(tbg_session *session, const tbg_flow_options *options, int n,
                               const tbg_conditioning *const *molecule, const double *z, const double *x,
                               const tbg_flow_result *forward, tbg_flow_consistency *out);

/* ---- how long it will take, before it starts ---- */

/* Evaluations by a session, per second. */
typedef struct {
    double velocities, divergences;
} tbg_flow_speed;
/* Measured at prior points of the molecule, about `seconds` for each of the two but at least one call: what
 * is best of several short ones. threads: evaluations at once at least. divergences 0: they are not measured,
 * and 0. TBG_FAILED "interrupted". */
int tbg_flow_measure(tbg_session *session, const tbg_conditioning *molecule, int threads, int divergences,
                     double seconds, tbg_flow_speed *out);
/* Evaluations that a valid sample of a trained field typically takes with these options (docs/flow.md).
 * velocities: those beside the ones that divergences bring. */
void tbg_flow_typical(const tbg_flow_options *options, double *velocities, double *divergences);
/* Seconds that such a sample takes, without its energy. */
double tbg_flow_seconds(const tbg_flow_options *options, const tbg_flow_speed *speed);
#endif
