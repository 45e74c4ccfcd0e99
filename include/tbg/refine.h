/* refine.h: Markov chains that turn proposals of a flow into frames of equal weight: independence moves,
 * which take proposals by their weights, between stretches of dynamics. Asymptotically exact, however poor
 * the proposals: what weights cannot fix, sampling can.
 *
 * The target is pi(x) ~ exp(-u(x)) on the valid configurations (right bonds, right handedness), u = U/kT. One
 * cycle of a chain at x:
 *   1. move: x and K fresh proposals y_1 .. y_K of density q compete; one is taken with probability
 *      proportional to w = exp(-u)/q (iterated sampling-importance-resampling; K = 1 is Barker's rule);
 *   2. dynamics of fresh velocities, reversible with respect to exp(-u) up to the integrator's time step;
 * what ends outside the valid configurations goes back to where it started, so that their border is exact;
 *   3. q of the new x, by the reverse flow. x is a frame.
 * Every proposal is used by one move of one chain.
 *
 * Levels (S > 1) put further replicas between q and pi: level l has the density q^(1-b) pi^b ~ q w^b with
 * b = ((l + 1)/S)^2. Proposals compete at the lowest level by w^b; dynamics is a Metropolis move there, taken
 * with probability min(1, (w/w')^(1-b)); neighbours exchange with min(1, (w_l/w_l+1)^(b_l+1 - b_l)). Only the
 * last level, b = 1, gives frames. Levels help where few proposals have a weight that counts.
 *
 * Smoothed models (tbg/anneal.h): q is a density of y = x + noise, and a proposal is y with the annealing
 * that made x of it, weight Z^/q(y), Z^ its estimate of Z(y). All of the above then holds with states (x, y,
 * annealing) and w = Z^/q: q w is exp(-u(x)) times the distribution of y and annealing given x, so x has the
 * density pi. Dynamics moves x, and 3. draws y and the annealing anew given x (tbg_anneal_smooth,
 * tbg_anneal_reverse), which together is reversible for q w; a state that dynamics goes back to keeps its
 * own.
 *
 * Every random number has an address (seed, chain, cycle): results do not depend on threads, and a run that
 * was saved and loaded equals one that was not interrupted. */
#ifndef TBG_REFINE_H
#define TBG_REFINE_H
#include "tbg/denoise.h"
#include "tbg/energy.h"
#include "tbg/ensemble.h"
#include "tbg/flow.h"

typedef struct {
    int chains;         /* 0: from the number of proposals, see tbg_refine_chains */
    int proposals;      /* K per move */
    int levels;         /* S, 1: the target only */
    double time;        /* ps of dynamics per cycle */
    double level_time;  /* ps per cycle at the levels below the last */
    double timestep;    /* ps */
    double friction;    /* 1/ps */
    double temperature; /* K */
    int within; /* 1: chains keep to the combination of marks that they began in: proposals and dynamics that
                   leave it are not taken. Populations then come from the bridge alone, and frames have its
                   weights. */
    uint64_t seed;
    int threads; /* 0: all; never changes results */
} tbg_refine_options;
/* forcefield: chooses the time step as tbg_simulation_defaults does; or NULL. */
void tbg_refine_defaults(const char *forcefield, tbg_refine_options *options);
int tbg_refine_check(const tbg_refine_options *options);
/* Chains for n proposals where options->chains is 0: multiples of 16 (lanes of the dynamics) as long as every
 * chain has 50 cycles, fewer than 16 where it would not have 20. */
int tbg_refine_chains(const tbg_refine_options *options, long n);

/* ---- what is sampled: the molecule of a flow (below), or a toy of the tests ---- */
typedef struct {
    size_t size; /* numbers in a state */
    int n_marks; /* two-state indicators, at most TBG_TORSIONS_MOST */
    char mark_names[TBG_TORSIONS_MOST][16];
    void *self;
    /* Move n states (of chains 0 .. n - 1) by dynamics reversible with respect to exp(-u). level: 0 .. levels
     * - 1, the last being the target; cycle: from 1; part of the addresses of random numbers. */
    int (*dynamics)(void *self, int level, int64_t cycle, int n, double *states);
    /* u and log q of n states (replicas level * chains + chain). u of +Inf or NaN: not a valid configuration.
     * cycle: part of the addresses of random numbers, where log q needs any (smoothed models). */
    int (*weigh)(void *self, int64_t cycle, int n, const double *states, double *u, double *log_q);
    /* Bit k: indicator k. */
    uint32_t (*mark)(void *self, const double *state);
} tbg_refine_target;

/* Independent draws from q in order; those without a finite u and log_q have weight 0. */
typedef struct {
    long n;
    const double *states, *log_q, *u; /* [n][size], [n], [n] */
} tbg_refine_proposals;

/* States nm [n_atoms][3]; marks are 0 < phi < 2 of each phi. Energies by `engine` (which must compute
 * `system`, the force field of the dynamics), log q in nm. A state is valid if tbg_check finds nothing to
 * relabel or mirror. annealing, annealer: of a smoothed model the settings and an engine of the same force
 * field, else NULL; -u - log q is then the ln weight Z^/q, log q being ln q(y) - ln Z^ - u(x) with y and
 * annealing drawn anew; of the settings the seed is not used. All arguments must outlive the target. errors:
 * TBG_INPUT: a force field without native dynamics; a smoothed model without annealing. */
int tbg_refine_molecule_create(const tbg_molecule *molecule, const tbg_system *system,
                               const tbg_conditioning *conditioning, tbg_session *session,
                               const tbg_flow_options *flow, tbg_engine *engine, tbg_denoiser *denoiser,
                               const tbg_refine_options *options, long n_proposals, tbg_refine_target *out);
void tbg_refine_molecule_free(tbg_refine_target *target);

/* ---- running ---- */

typedef struct tbg_refine tbg_refine;
/* Chains start from proposals: the combinations of marks among the valid ones in turn, in each of them by
 * weight, so that a state that is rare or missed by the weights is there from the start (and leaves if it is
 * rare). target, proposals: must outlive it.
 * errors: TBG_INPUT: too few proposals for one cycle; none that is valid. */
int tbg_refine_create(const tbg_refine_target *target, const tbg_refine_proposals *proposals,
                      const tbg_refine_options *options, tbg_refine **out);
void tbg_refine_free(tbg_refine *refine);
long tbg_refine_cycles(const tbg_refine *refine, long *done); /* as many as the proposals last for */
int tbg_refine_advance(tbg_refine *refine);                   /* one cycle */
/* All that is done so far, to go on later. settings: text that must be the same then. */
int tbg_refine_save(const tbg_refine *refine, const char *settings, const char *path);
/* errors: TBG_INPUT: damaged, or of other settings. */
int tbg_refine_load(tbg_refine *refine, const char *settings, const char *path);

/* ---- figures ---- */

typedef struct {
    char name[16];
    double p; /* within: from the bridge, and so is dF. Else of the mark, mean over chains and cycles after
                 burn-in */
    tbg_estimate dF;                /* -ln(p / (1 - p)); error: the larger of that from effective samples and
                                       that from the spread between chains */
    double inefficiency, effective; /* cycles per independent one; NAN if never in or never out */
    long visits[2]; /* of chains to 0: elsewhere, 1: the mark, by other proposals than the starts, each once;
                       or by dynamics */
    tbg_estimate bridge;     /* dF by acceptance ratios between q and pi, state by state; error: jackknife
                                over chains */
    double bridge_effective; /* samples that carry its weakest step; below about 10 it cannot be trusted */
} tbg_refine_mark;

typedef struct {
    int chains, levels, proposals; /* proposals: K */
    int within, states;            /* states: combinations of marks that occur among proposals */
    long cycles, burn_in, bridge_burn_in, used, n_proposals, frames;
    double acceptance; /* of moves: a new proposal was taken */
    double from_start; /* fraction of frames that still descend from where their chain began */
    double turnover;   /* proposals that came to the last level, per chain */
    double dynamics_acceptance[16], exchange_acceptance[16]; /* by level; exchange with the next */
    double rejected; /* fraction of stretches of dynamics that ended outside the valid configurations */
    double u_mean, u_error, u_inefficiency, u_effective;
    int n_marks;
    tbg_refine_mark marks[TBG_TORSIONS_MOST];
    double seconds_dynamics, seconds_density;
    int converged;
    char advice[900];
} tbg_refine_summary;
int tbg_refine_summarise(const tbg_refine *refine, tbg_refine_summary *out);
int tbg_refine_json(const tbg_refine_summary *summary, char **text); /* one object; freed by the caller */

/* The frames after burn-in, chain after chain, each in the order of cycles. info: of the proposals. */
int tbg_refine_ensemble(const tbg_refine *refine, const tbg_refine_summary *summary,
                        const tbg_molecule *molecule, const tbg_ensemble_info *info, tbg_ensemble **out);
#endif
