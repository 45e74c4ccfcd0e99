/* ensemble.h: from samples to a weighted ensemble, and how far it is from a reference.
 *
 * Conventions: reduced energy u = U/kT. log_q is the natural logarithm of the model's density of the
 * positions in nm on the mean-free subspace (3 (n_atoms - 1) dimensions), the prior's constant included; a
 * flow that works in scaled coordinates (scale per nm) adds 3 (n_atoms - 1) ln(scale). log w = -u - log_q.
 * Angles in rad, free energies in kT. */
#ifndef TBG_ENSEMBLE_H
#define TBG_ENSEMBLE_H
#include <stdint.h>
#include "tbg/molecule.h"

/* ---- the ensemble ---- */

#define TBG_WARNINGS_SIZE 2048
#define TBG_TORSIONS_MOST 32

/* Frames of Markov chains (tbg_refine) instead of independent samples. */
typedef struct {
    double inefficiency; /* frames that are worth one independent frame; 0: no chains, samples with their own
                            weights */
    int converged;
    int n_errors;
    double dF_error[TBG_TORSIONS_MOST]; /* of each phi, as the chains know it; NAN: unknown */
    char advice[900];
} tbg_ensemble_chains;

/* How it was made; what the sampler does not know stays 0, NAN or "". */
typedef struct {
    char model[256], backend[64], forcefield[32], engine[32], sequence[64];
    double temperature; /* K */
    uint64_t seed;
    double smoothing; /* nm: noise that was taken off the flow's samples (tbg/denoise.h) */
    int branches; /* by so many branches down to annealed_from, nm, and by the force field; 0: all by it */
    double annealed_from;
    double anneal_error; /* its random error in a log weight, nats, rms */
    double seconds_flow, seconds_energy;
    double evaluations;               /* velocities per sample */
    double forward_backward_position; /* rms of x0 - back(forth(x0)), nm */
    double forward_backward_log_q;    /* rms of the difference of both log_q, nats */
    long forward_backward_n;          /* samples it was measured on */
    char warnings[TBG_WARNINGS_SIZE]; /* what the model was not trained for, one a line, each ended by a
                                         newline */
    tbg_ensemble_chains chains;
} tbg_ensemble_info;

typedef struct {
    long n;                 /* generated samples, bad ones included */
    int n_atoms, weighted;  /* weighted 0: log_q and energies are unknown, valid samples weigh the same */
    double *positions;      /* [n][n_atoms][3] nm */
    double *log_q;          /* [n] */
    double *reduced_energy; /* [n] U/kT */
    double *log_weight;     /* [n] -Inf: excluded */
    unsigned char *verdict; /* [n] TBG_VALID ... TBG_NOT_FINITE */
    const tbg_molecule *molecule; /* must outlive the ensemble, unless it owns it */
    tbg_molecule *owned;          /* set by tbg_ensemble_read */
    tbg_ensemble_info info;
} tbg_ensemble;

/* Arrays zeroed, log_q and reduced_energy NAN, weighted 1. */
int tbg_ensemble_create(const tbg_molecule *molecule, long n, tbg_ensemble **out);
void tbg_ensemble_free(tbg_ensemble *e);
/* Verdict of every sample (tbg_check: relabels and mirrors positions in place, so call it before the
 * energies). mirror: tbg_checker_set_mirror; 0 for samples of a model with virtual sites. */
int tbg_ensemble_check(tbg_ensemble *e, int mirror);
/* A sample counts: it is valid or was mirrored and, in a weighted ensemble, has finite u and log_q. */
int tbg_ensemble_is_valid(const tbg_ensemble *e, long i);
/* Fill log_weight from the other arrays. */
void tbg_ensemble_weigh(tbg_ensemble *e);

/* Samples in the layout that everything below works on: those that count, in order. */
typedef struct {
    long n;
    long *index;    /* [n] in the ensemble */
    double *weight; /* [n] normalised to sum 1 */
} tbg_selection;
int tbg_ensemble_select(const tbg_ensemble *e, tbg_selection *out);
void tbg_selection_free(tbg_selection *s);

/* ---- figures ---- */

typedef struct {
    double value, error; /* one standard error; NAN where there is none */
} tbg_estimate;
/* Of a figure, by resampling: one standard error, and where 95 % of the resamplings lie; NAN: unknown. */
typedef struct {
    double error, low, high;
} tbg_spread;

/* One of the two states of a phi torsion: what its free energy rests on. */
typedef struct {
    long n;             /* samples that count (frames of a reference) */
    double n_effective; /* Kish sample size within the state (of a reference: n over the inefficiency) */
    double weight;      /* share of the ensemble */
    double pareto_k;    /* of the weights within the state; NAN below TBG_STATE_TAIL samples */
} tbg_state;
/* A state worth fewer independent samples, or with weights of a heavier tail, gives no free energy. Sets of
 * 30 to 3,000 weights drawn from lognormal (sigma 1 to 3) and Pareto (0.5 to 0.9) distributions, whose mean
 * is known, had errors of ln(mean) of 0.8 (rms) where they were worth 3 to 6, 0.55 at 10 to 20, 0.4 at 20 to
 * 30; and fewer than 25 samples have no tail to see k-hat in (5 values). */
#define TBG_STATE_LEAST 20
#define TBG_STATE_TAIL 25
#define TBG_STATE_K 0.7

enum { TBG_STATE_ELSEWHERE = 0, TBG_STATE_INSIDE = 1 }; /* inside: 0 < phi < 2 */
typedef struct {
    char name[16];
    tbg_estimate dF; /* -ln(P(0 < phi < 2) / P(else)); its error is the bootstrap's where reliable; otherwise
                        it has the whole shift that weighting made added in quadrature: weights that rest on a
                        few samples do not establish it */
    double bootstrap_error;
    double low, high;   /* 95 % of the bootstrap where reliable, otherwise 1.96 errors on either side */
    int lost;           /* bootstrap replicas in which one side was empty */
    int reliable;       /* weighted, and both states have the samples and the tails */
    int out_of_reach;   /* proline: its ring keeps phi out of 0 < phi < 2, so that none there is no remark */
    tbg_state state[2]; /* TBG_STATE_ELSEWHERE, TBG_STATE_INSIDE */
} tbg_dF;
/* The worse state of an unreliable dF in words ("the state 0 < phi < 2 is worth 5 independent samples (107
 * drawn)"), "" where there is no remark to make. */
void tbg_dF_remark(const tbg_dF *d, char *text, size_t size);

typedef struct {
    long n_generated, n_valid, n_topology, n_mirrored, n_chirality, n_not_finite;
    int weighted;
    tbg_estimate ess_raw; /* Kish, per valid sample */
    double ess_raw_per_generated;
    double ess_clipped,
        ess_clipped_per_generated;   /* without the largest 0.2 % of log w; the same denominators */
    double n_effective;              /* raw Kish sample size */
    double pareto_k, pareto_k_limit; /* NAN for frames of chains */
    double inefficiency;             /* of the info; > 0: frames of chains, n_effective = n / inefficiency */
    int n_dF;
    tbg_dF dF[TBG_TORSIONS_MOST];
    double nll_mean;      /* mean of -log_q, Angstrom, over samples that count */
    double nll_published; /* the same without the prior's constant (the published convention) */
    double energy_mean, energy_mean_weighted;                                   /* U/kT */
    tbg_spread valid_spread;                                                    /* of n_valid / n_generated */
    tbg_spread ess_raw_spread, ess_clipped_spread, pareto_k_spread, nll_spread; /* per valid; nll_mean */
    char advice[1600];
} tbg_ensemble_summary;
/* replicas: of the bootstrap; 0: 200. */
int tbg_ensemble_summarise(const tbg_ensemble *e, int replicas, tbg_ensemble_summary *out);
/* {"n_generated": ..., ...} with info; numbers that are not finite become null. Freed by the caller. */
int tbg_ensemble_summary_json(const tbg_ensemble *e, const tbg_ensemble_summary *summary, char **text);

/* DIR/topology.pdb, DIR/ensemble.nc, DIR/summary.json. The folder is made. */
int tbg_ensemble_write(const tbg_ensemble *e, const tbg_ensemble_summary *summary, const char *directory);
int tbg_ensemble_read(const char *directory, tbg_ensemble **out);

/* ---- weights ---- */

double tbg_log_sum_exp(long n, const double *x); /* -Inf for n = 0 */
/* Kish sample size (sum w)^2 / sum w^2 of n log weights; those of -Inf count for nothing. */
double tbg_effective_size(long n, const double *log_weight);
/* The same after the largest n - 1 - floor(0.998 (n - 1)) of the finite log weights were dropped (those above
 * the 99.8 % quantile). scratch: [n]. */
double tbg_effective_size_clipped(long n, const double *log_weight, double *scratch);
/* Pareto k-hat of the weights' tail (Vehtari et al., JMLR 2024; fit of Zhang and Stephens 2009 with the weak
 * prior). +Inf if the tail has fewer than 5 different values. scratch: [n]. */
double tbg_pareto_k(long n, const double *log_weight, double *scratch);
/* Shape and scale of a generalised Pareto distribution; x: [n] ascending, > 0. */
void tbg_pareto_fit(long n, const double *x, double *k, double *sigma);

/* ---- histograms and their errors ---- */

/* Weighted histograms of series of bin numbers (negative: no bin) and of `replicas` bootstrap resamplings of
 * the samples, all series resampled together. bins: [n_series][n]; histogram: [n_series][n_bins], sums to <=
 * 1; replica: [replicas][n_series][n_bins]. effective: [replicas] Kish size, or NULL. */
int tbg_bootstrap_histograms(long n, const double *weight, int n_series, const short *bins, int n_bins,
                             int replicas, uint64_t seed, double *histogram, double *replica,
                             double *effective);
/* dF from P(0 < phi < 2) and its standard error. */
tbg_estimate tbg_dF_of_p(double p, double p_error);
/* Statistical inefficiency 1 + 2 sum (1 - t/N) C(t) of a time series in parts (independent runs), summed
 * until C(t) turns negative after t > 3 (Chodera et al. 2007). part: [n_parts + 1] first frames and n.
 * Inefficiency 1 for a constant series. */
int tbg_statistical_inefficiency(int n_parts, const long *part, const double *x, double *g);

/* ---- optimal transport ---- */

/* W1 and W2 of two weighted sets of numbers (weights positive, normalised here). */
int tbg_wasserstein_line(long n, const double *x, const double *wx, long m, const double *y, const double *wy,
                         double *w1, double *w2);
/* Least-cost assignment of n rows to n columns by shortest augmenting paths. cost: [n][n]; column: [n] of
 * each row; *total: summed cost. */
int tbg_transport_assign(int n, const double *cost, int *column, double *total);
/* W2 of two equal-size sets of n points in `dimension` coordinates; wrapped: coordinates are angles. */
int tbg_wasserstein_points(int n, int dimension, int wrapped, const double *x, const double *y, double *w2);
/* The same and its standard error, to first order in the change of either distribution (central limit theorem
 * of optimal transport, del Barrio and Loubes 2019: the dual potentials are the influence functions of W2^2):
 * all [n_all] are the samples that x was drawn from, weight: [n_all] (NULL: equal); y: frames in order of
 * time, whose part comes from contiguous blocks. */
int tbg_wasserstein_points_error(int n, int dimension, int wrapped, const double *x, const double *y,
                                 long n_all, const double *all, const double *weight, double *w2,
                                 double *error);
/* m draws with replacement by systematic resampling. index: [m] ascending. */
void tbg_resample(long n, const double *weight, long m, uint64_t seed, long *index);

/* ---- time-lagged independent components ---- */

/* Eigenvalues (descending) and eigenvectors (rows of `vectors`) of a symmetric matrix. a: [n][n], destroyed.
 */
int tbg_eigen_symmetric(int n, double *a, double *values, double *vectors);

typedef struct {
    int n_features, n_components; /* <= 2 */
    double values[2];             /* eigenvalues */
    double *mean;                 /* [n_features] */
    double *vectors; /* [n_components][n_features], unit variance times eigenvalue (kinetic map) */
} tbg_tica;
/* Reversible TICA. features: [n][n_features] in parts (see above); lag in frames. */
int tbg_tica_fit(int n_parts, const long *part, int n_features, const double *features, long lag,
                 tbg_tica *out);
void tbg_tica_free(tbg_tica *t);
void tbg_tica_project(const tbg_tica *t, long n, const double *features,
                      double *projection); /* [n][n_components] */

/* Pairwise distances of C, N, S atoms (nm), then sin and cos of phi, psi, omega. */
/* positions: [n_atoms][3] of one configuration; features: [tbg_featurizer_size]. */
typedef struct tbg_featurizer tbg_featurizer;
int tbg_featurizer_create(const tbg_molecule *molecule, tbg_featurizer **out);
void tbg_featurizer_free(tbg_featurizer *f);
int tbg_featurizer_size(const tbg_featurizer *f);
void tbg_featurize(const tbg_featurizer *f, const double *positions, double *features);

/* ---- against a reference ---- */

/* What all frames of a reference gave, of which only some are kept (tbg_reference_store). */
typedef struct {
    long n; /* frames */
    int n_dF;
    tbg_dF dF[TBG_TORSIONS_MOST];
    double inefficiency[TBG_TORSIONS_MOST]; /* frames */
    double *energy; /* U/kT: 100 quantiles of each of twenty blocks in time; or NULL */
    char forcefield[32];
    double temperature;
    double tica_lag; /* ps */
    tbg_tica tica;   /* n_components 0: none */
} tbg_whole;

/* Equilibrium trajectories of the same molecule, unweighted. */
typedef struct {
    long n;
    int n_atoms, n_parts;
    long *part;             /* [n_parts + 1] first frame of each run, and n */
    float *positions;       /* [n][n_atoms][3] nm */
    double interval;        /* ps between frames, 0 if unknown */
    double *reduced_energy; /* [n_energy] U/kT of frames energy_frame, or NULL */
    long n_energy, *energy_frame;
    char *forcefield;   /* of the first file, or NULL */
    double temperature; /* of the first file, 0 if unknown */
    tbg_whole *whole;   /* kept beside a thinned trajectory, or NULL */
    /* Of a trajectory with weights the frames here are draws in proportion to them (as many as there were),
     * and time counts draws. dF comes from the weights: */
    int weighted, n_dF;
    double effective_frames; /* Kish */
    tbg_dF dF[TBG_TORSIONS_MOST];
    double inefficiency[TBG_TORSIONS_MOST]; /* frames; below 1: the bias made them worth more than independent
                                               ones */
} tbg_reference;
/* burn_in: ps dropped at the start of every run (frames if a file has no times); NAN: of each run what the
 * file's diagnostics by tbg simulate call not stationary. A trajectory with weights (tbg_trajectory_weights)
 * must be the only one. */
int tbg_reference_read(int n_paths, const char *const *paths, const tbg_molecule *molecule, double burn_in,
                       tbg_reference **out);
void tbg_reference_free(tbg_reference *r);
/* Choose `most` frames evenly, compute their energies; where energies of all frames were kept for this force
 * field and temperature, take those. threads: 0 for all. */
int tbg_reference_energies(tbg_reference *r, const tbg_molecule *molecule, const char *forcefield,
                           double temperature, long most, int threads);

/* Keep n frames, evenly spaced, as an AMBER NetCDF file DATA.nc, and what all of them give as DATA.json: dF
 * with errors, histograms of torsions (72 bins, 36 x 36) and energies (if reduced_energy is there for all),
 * TICA. lag: ps. */
int tbg_reference_store(const tbg_reference *r, const tbg_molecule *molecule, long n, double lag,
                        const char *trajectory);
/* How many frames make a file of at most so many bytes. */
long tbg_reference_frames_within(const tbg_reference *r, const tbg_molecule *molecule, long bytes);

/* Which phi and psi make a Ramachandran plot: those of one residue, or, where no residue has both (uncapped
 * dipeptides), the k-th phi with the k-th psi. pair: [most][2] indices into torsions; returns their number.
 */
int tbg_ramachandran_pairs(int n, const tbg_torsion *torsions, int (*pair)[2], int most);

/* Figures of an evaluation that have spreads. */
enum {
    TBG_ENERGY_W1_PROPOSAL,
    TBG_ENERGY_W2_PROPOSAL,
    TBG_ENERGY_W1,
    TBG_ENERGY_W2,
    TBG_TORUS_W2_PROPOSAL,
    TBG_TORUS_W2,
    TBG_TICA_W2_PROPOSAL,
    TBG_TICA_W2,
    TBG_SPREADS
};
typedef struct {
    long n_transport; /* points in the two-dimensional transports */
    tbg_spread spread[TBG_SPREADS];
    double energy_w1_proposal, energy_w2_proposal, energy_w1, energy_w2, energy_w1_reference,
        energy_w2_reference;
    double torus_w2_proposal, torus_w2,
        torus_w2_reference; /* rad; _reference: its first half against its second */
    double tica_w2_proposal, tica_w2, tica_w2_reference, tica_values[2], tica_lag; /* lag: ps */
    int n_dF;
    tbg_dF dF_reference[TBG_TORSIONS_MOST];
    double dF_difference[TBG_TORSIONS_MOST]; /* weighted - reference, kT */
    double dF_proposal[TBG_TORSIONS_MOST];
    double inefficiency[TBG_TORSIONS_MOST]; /* frames */
    long n_reference, n_whole;              /* frames; those that dF and energies come from */
    char note[600];                         /* what could not be computed and why */
} tbg_evaluation;
/* n_transport: 0 for 4,000. lag: ps, 0 for 500. replicas: resamplings for the energies' errors, 0: no errors
 * of distances. */
int tbg_ensemble_evaluate(const tbg_ensemble *e, const tbg_ensemble_summary *summary,
                          const tbg_reference *reference, long n_transport, double lag, int replicas,
                          tbg_evaluation *out);
int tbg_evaluation_json(const tbg_evaluation *v, const tbg_ensemble *e, const tbg_ensemble_summary *summary,
                        char **text);
#endif
