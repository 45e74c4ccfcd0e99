/* internal.h: what the files of the training floor share. Index letters: b sample of a batch, m molecule of
 * the data set, f frame of a molecule, k iteration. */
#ifndef TBG_TRAINING_INTERNAL_H
#define TBG_TRAINING_INTERNAL_H
#include "network/update.h"
#include "tbg/random.h"
#include "tbg/training.h"
#include <jansson.h>

/* ---- config.c, config_data.c ---- */
json_t *tbg_training_config_json(const tbg_training_config *config); /* resolved values, without text */
int tbg_config_sets(const tbg_yaml *node, const char *configuration, int *n, tbg_training_set **sets);
void tbg_config_sets_free(int n, tbg_training_set *sets);

/* ---- data.c ---- */
typedef struct {
    char *path;
    int64_t frames; /* used for training */
    int64_t held_out;
    uint64_t checksum; /* FNV-1a, 64 bits, of the whole file */
} tbg_data_file;

typedef struct {
    char sequence[256];
    tbg_molecule *molecule;
    tbg_system *system; /* NULL where the specification needs none */
    tbg_conditioning *conditioning;
    int *group;   /* [n_atoms] tbg_interchangeable */
    int borrowed; /* 1: molecule and system belong to the training data */
    int n_atoms, n_files;
    tbg_data_file *files;
    int64_t n_frames;
    float *positions;   /* [n_frames][n_atoms][3] nm */
    double *cumulative; /* [n_frames] running sum of the resampling weights, or NULL: all equal */
    double bias;        /* r of the resampling, 0: none */
    double weight;
} tbg_data_molecule;

typedef struct {
    int n, max_atoms;
    int64_t n_frames; /* of all molecules */
    double total_weight;
    tbg_data_molecule *molecules;
} tbg_data;

/* Load training data and validation data (validation->n = 0: none). The force field and temperature that the
 * configuration leaves open are taken from the files and stored in forcefield [32] and *temperature. */
int tbg_data_load(const tbg_training_config *config, tbg_data *training, tbg_data *validation,
                  char *forcefield, double *temperature);
void tbg_data_free(tbg_data *data);
/* 1 / standard deviation of the mean-free coordinates: mean over molecules of the variance, at most 10,000
 * evenly spaced frames each. */
double tbg_data_unit_scale(const tbg_data *data);
/* Conditioning of every molecule, once the scale is known. */
int tbg_data_condition(tbg_data *data, const tbg_network_spec *spec, const char *forcefield,
                       double temperature);
json_t *tbg_data_json(const tbg_data *data);
/* r of the resampling weight r vonMises(phi | 1, kappa 10) + 1 that makes 0 < phi < 2 as heavy as the rest,
 * never below 0. phi: [n] rad. */
double tbg_bias_balance(int64_t n, const double *phi);
double tbg_bias_density(double phi); /* vonMises(phi | 1, kappa 10) */

/* ---- batch.c ---- */
typedef struct {
    int composition, time_sampling, time_stratified, align, transport;
    int handed; /* 1: the field does not commute with the reflection */
    double time_mixture, path_noise, graded_d, scale;
    double smoothing; /* scaled units */
    uint64_t seed;
} tbg_batch_recipe;

typedef struct {
    int n;                             /* samples */
    size_t n_atoms;                    /* of all samples */
    int *index;                        /* [n] molecule */
    int64_t *frame;                    /* [n] */
    size_t *offset;                    /* [n + 1] first atom */
    const tbg_conditioning **molecule; /* [n] */
    double *t, *weight, *loss;         /* [n] */
    double *x0, *x1;                   /* [n_atoms][3] scaled */
    double *x, *target;                /* [n_atoms][3] scaled */
} tbg_training_batch;

int tbg_training_batch_create(int n, int max_atoms, tbg_training_batch *batch);
void tbg_training_batch_free(tbg_training_batch *batch);
/* Fill batch number `address` (the iteration, or TBG_VALIDATION_ADDRESS + i). Depends on nothing else. */
#define TBG_VALIDATION_ADDRESS (1ULL << 55)
int tbg_training_batch_fill(const tbg_batch_recipe *recipe, const tbg_data *data, uint64_t address,
                            int threads, tbg_training_batch *batch);
/* ---- ahead.c ---- */
typedef struct tbg_ahead tbg_ahead;
/* recipe and data must outlive it; n: samples of a batch. */
int tbg_ahead_create(const tbg_batch_recipe *recipe, const tbg_data *data, int n, int threads,
                     tbg_ahead **out);
void tbg_ahead_free(tbg_ahead *ahead);
/* Begin to fill batch `address` beside whatever the caller does next. */
void tbg_ahead_start(tbg_ahead *ahead, uint64_t address);
/* The same as tbg_training_batch_fill into `batch` (whose arrays may be exchanged), sooner where it was
 * begun. */
int tbg_ahead_take(tbg_ahead *ahead, uint64_t address, tbg_training_batch *batch);

/* Element i of a pseudo-random permutation of 0 .. n - 1; stream names the permutation. */
uint64_t tbg_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t i);

/* ---- align.c ---- */
/* Rotate x (mean-free, [n][3], in place) so that |x - y|^2 is smallest. Proper rotations only. */
void tbg_align(int n, double *x, const double *y);
/* The same with all that the field commutes with: rotations, the reflection (if reflect is 1), and
 * permutations of the atoms of a group (group[i] < n names atom i's). Alternates the best of either until
 * nothing changes, at most `rounds` times: a descent, not a global search. scratch: [n][n + 3]. TBG_FAILED:
 * not finite, or memory. */
#define TBG_GROUP_MOST 64 /* further atoms of a group stay in place */
int tbg_align_full(int n, double *x, const double *y, const int *group, int reflect, int rounds,
                   double *scratch);
/* group[i]: the first atom that i can change places with while the network sees the same molecule (equal
 * features, equal bond classes and pair widths to all others); i itself if there is none. */
void tbg_interchangeable(const tbg_conditioning *molecule, int *group);
/* Smallest |R x - y|^2 over rotations R, without applying it. */
double tbg_aligned_distance2(int n, const double *x, const double *y);
/* Assignment of least total cost: row i gets column assignment[i]. cost: [n][n]. */
int tbg_assign(int n, const double *cost, int *assignment);

/* ---- optimizer.c ---- */
typedef struct tbg_soap tbg_soap;
typedef struct {
    size_t n;
    tbg_soap *soap;     /* NULL: Adam; owned */
    float *m, *v, *ema; /* [n]; ema NULL: none */
    double *partial;    /* [blocks] */
    int64_t steps;      /* updates so far; steps without a finite gradient don't count */
} tbg_optimizer;

typedef struct {
    double learning_rate, beta1, beta2, epsilon, weight_decay, ema;
    int decoupled;         /* AdamW */
    double gradient_scale; /* from clipping */
} tbg_optimizer_step;

int tbg_optimizer_create(size_t n, const float *weights, int ema, tbg_optimizer *o);
/* Make a fresh optimiser SOAP. tensors: cover [0, n); every: steps between refreshed bases, 0: AdamW. */
int tbg_optimizer_use_soap(tbg_optimizer *o, int n_tensors, const tbg_parameter *tensors, int every,
                           int threads);
void tbg_optimizer_free(tbg_optimizer *o);
/* Euclidean norm; not finite if any entry isn't. */
double tbg_optimizer_norm(tbg_optimizer *o, const float *gradient, int threads);
void tbg_optimizer_update(tbg_optimizer *o, const tbg_optimizer_step *step, float *weights,
                          const float *gradient, int threads);
/* Constants of the next step, which is counted. */
tbg_adam_constants tbg_optimizer_next(tbg_optimizer *o, const tbg_optimizer_step *step);
/* The same by the session's device (update.h): counts the step. Fails where the optimiser is not placed. */
int tbg_optimizer_update_on(tbg_optimizer *o, const tbg_optimizer_step *step, tbg_session *session);
/* Whether a step with these sums of squares, [n_tensors], can be made there: no basis must be found first. */
int tbg_optimizer_ready(const tbg_optimizer *o, int n_tensors, const double *squares);
/* Its arrays as the device takes them; they stay the optimiser's. */
tbg_optimizer_arrays tbg_optimizer_arrays_of(const tbg_optimizer *o);
/* EMA decay of update number `steps` (1, 2, ...): min(decay, steps / (steps + 9)), so that the average
 * forgets the initial weights at once. */
double tbg_ema_decay(double decay, int64_t steps);
double tbg_learning_rate(const tbg_training_config *config, int64_t iteration, int64_t iterations,
                         double iterations_per_epoch);

/* optimizer_simd.c */
typedef struct {
    void (*update)(size_t n, const tbg_adam_constants *c, float *w, float *m, float *v, float *ema,
                   const float *g);
    double (*sum_squares)(size_t n, const float *g);
} tbg_optimizer_kernels;

/* ---- soap.c ---- */
/* At most `threads` threads work on a step. */
int tbg_soap_create(int n_tensors, const tbg_parameter *tensors, int every, int threads, tbg_soap **out);
void tbg_soap_free(tbg_soap *soap);
/* One step with the moments, average and step number (already counted) of o. */
void tbg_soap_update(tbg_soap *soap, tbg_optimizer *o, const tbg_adam_constants *c, float *weights,
                     const float *gradient, int threads);
/* Covariances and bases of all tensors, [*n], for checkpoints. */
float *tbg_soap_state(const tbg_soap *soap, size_t *n);
/* [n_tensors] lengths of the sides that are rotated; steps between refreshed bases. */
int (*tbg_soap_rotated(const tbg_soap *soap))[2];
int tbg_soap_every(const tbg_soap *soap);
/* Whether a tensor is to be rotated and has not been given bases yet. */
int tbg_soap_wants_bases(const tbg_soap *soap, int tensor);
/* Basis vectors of the rows (side 0) or columns (1) of a tensor as rows [n][n], and its covariance (NULL: not
 * wanted); NULL where that side is not rotated. All zero before the first gradient. */
const float *tbg_soap_basis(const tbg_soap *soap, int tensor, int side, const float **covariance);

/* soap_simd.c */
enum { TBG_SOAP_PANEL = 32 };
typedef struct {
    /* c [m][n] = alpha a b + beta c (c is not read where beta = 0); element (i, j) of a is
     * a[i a_row + j a_column], of b likewise. panel: [k][TBG_SOAP_PANEL] scratch */
    void (*multiply)(int m, int n, int k, float alpha, const float *a, size_t a_row, size_t a_column,
                     const float *b, size_t b_row, size_t b_column, float beta, float *c, float *panel);
    void (*average)(size_t n, float weight, const float *g, float *m); /* m += weight (g - m) */
    /* v: second moment of g, updated; m: first moment, replaced by Adam's direction */
    void (*direction)(size_t n, const tbg_adam_constants *c, const float *g, float *v, float *m);
    void (*apply)(size_t n, const tbg_adam_constants *c, const float *d, float *w, float *ema);
    double (*dot)(size_t n, const double *x, const double *y);
    void (*add)(size_t n, double factor, const double *x, double *y);   /* y += factor x */
    void (*rotate)(size_t n, double c, double s, double *x, double *y); /* x, y = c x - s y, s x + c y */
} tbg_soap_kernels;

/* ---- checkpoint.c ---- */
typedef struct {
    int64_t iteration, molecules, skipped, consecutive_skipped;
    int64_t loss_n, best_iteration;
    double loss_sum, gradient_sum, window_seconds;         /* since the last log line */
    double seconds, best_loss, validation_loss, last_loss; /* NaN: none */
} tbg_training_state;

/* description: what a resumed run must agree with, and everything else worth keeping. */
int tbg_checkpoint_write(const char *path, const tbg_model *model, const tbg_optimizer *o,
                         const tbg_training_state *state, const json_t *description, const char *config_text);
/* Read into a model and optimiser of the right size. *description: new reference. */
int tbg_checkpoint_read(const char *path, tbg_model *model, tbg_optimizer *o, tbg_training_state *state,
                        json_t **description);
/* Only the description (the scale and network are needed before the model exists). */
int tbg_checkpoint_describe(const char *path, json_t **description);
/* Compare what must be equal for resuming; TBG_INPUT names the first difference. */
int tbg_checkpoint_compare(const char *path, const json_t *then, const json_t *now);

/* ---- log.c ---- */
/* Remove lines of iterations after `iteration` (written after the checkpoint that a run goes on from). */
int tbg_log_trim(const char *path, int64_t iteration);
int tbg_log_append(const char *path, json_t *line); /* steals the reference */

json_t *tbg_spec_json(const tbg_network_spec *spec);
json_t *tbg_json_real(double value); /* null where not finite */
#endif
