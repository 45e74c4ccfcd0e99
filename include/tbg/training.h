/* training.h: flow matching (SPEC 2.2) from a YAML file: data sets, batches, optimiser, schedule, EMA,
 * checkpoints.
 *
 * A run is a folder with log.jsonl (one JSON object a line), checkpoint.safetensors (everything needed to go
 * on), last.safetensors (model file, EMA weights) and best.safetensors (the same, at the lowest validation
 * loss). All random numbers have addresses (seed, stream, iteration), so a resumed run equals an
 * uninterrupted one bit for bit on the same hardware, and no result depends on the number of threads. */
#ifndef TBG_TRAINING_H
#define TBG_TRAINING_H
#include "tbg/network.h"
#include <stdint.h>

/* ---- configuration ---- */

/* One molecule with the trajectories to learn it from. */
typedef struct {
    char *molecule;   /* sequence or PDB file; NULL: the topology stored in the trajectory */
    char *trajectory; /* file or pattern */
    int64_t burn_in;  /* frames left out at the start of every file */
    int64_t stride;   /* every stride-th frame */
    int64_t frames;   /* at most so many frames of every file, 0: all */
    double weight;    /* share of the batches; composition "random" only */
    int line;         /* of the configuration, for messages */
} tbg_training_set;

enum { TBG_OPTIMIZER_ADAM, TBG_OPTIMIZER_ADAMW, TBG_OPTIMIZER_SOAP };
enum { TBG_RATE_CONSTANT, TBG_RATE_STEPS, TBG_RATE_COSINE };
enum { TBG_TIME_UNIFORM, TBG_TIME_GRADED }; /* uniform in t, uniform in u of graded time */
enum { TBG_COMPOSE_EVERY, TBG_COMPOSE_RANDOM };
/* Nothing; proper rotations; rotations, the reflection and permutations of atoms the network cannot tell
 * apart. */
enum { TBG_ALIGN_NONE, TBG_ALIGN_ROTATE, TBG_ALIGN_FULL };
enum { TBG_BIAS_NONE, TBG_BIAS_BALANCE, TBG_BIAS_FIXED };

typedef struct {
    double at; /* iteration, or epoch where `epochs` is set */
    int epochs;
    double learning_rate;
} tbg_rate_step;

typedef struct {
    char *name, *text; /* file name and its whole text, kept in checkpoints and models */

    /* network: */
    tbg_network_spec network;
    int scale_from_data; /* 1: scale = 1 / one global standard deviation of the mean-free training coordinates
                          */
    char *initial;       /* model file to start from, or NULL; its specification then is the network, but that
                            hidden and layers of `network`, where not 0, are what it is to grow to */

    /* data: */
    int n_sets, n_validation_sets;
    tbg_training_set *sets, *validation_sets;
    double validation_fraction; /* last part of every training file, where there are no validation sets */
    int64_t validation_gap;     /* frames dropped in front of it */
    char forcefield[32];        /* "": the one the trajectories name */
    double temperature;         /* K, 0: the one the trajectories name */
    int bias;                   /* TBG_BIAS_*: resampling with r vonMises(phi | 1, kappa 10) + 1 */
    double bias_strength;       /* r for TBG_BIAS_FIXED */
    int composition;            /* TBG_COMPOSE_* */

    /* training: */
    int64_t batch, iterations;
    double epochs; /* > 0: iterations follow from it */
    int optimizer;
    int refresh_bases; /* SOAP: steps between refreshed eigenbases */
    double learning_rate, final_learning_rate,
        warmup; /* warmup: fraction of iterations if < 1, else iterations */
    int rate;   /* TBG_RATE_* */
    int n_steps;
    tbg_rate_step *steps;
    double beta1, beta2, epsilon, weight_decay;
    double clip;         /* largest global gradient norm, 0: none */
    double ema;          /* decay, 0: none */
    double path_noise;   /* published: 0.01 */
    int time_sampling;   /* TBG_TIME_* */
    double time_mixture; /* this fraction of the samples draws t the other way */
    int time_stratified; /* 1: one shifted grid of times per batch instead of independent ones */
    int align;           /* TBG_ALIGN_*: move the prior onto the data by what the field commutes with */
    int transport;       /* assign priors to data within a batch (optimal transport) */
    uint64_t seed;
    int threads;
    char backend[16];
    double checkpoint_minutes;
    int64_t validate_every, validation_batch, log_every;
} tbg_training_config;

/* Read a configuration. Unknown keys and values out of range are refused with file and line. Relative data
 * paths are looked up in the working directory, then beside the configuration. */
int tbg_training_config_read(const char *path, tbg_training_config **out);
int tbg_training_config_parse(const char *text, size_t size, const char *name, tbg_training_config **out);
void tbg_training_config_free(tbg_training_config *config);

/* ---- a run ---- */
typedef struct {
    const char *directory;
    int resume;          /* go on from directory/checkpoint.safetensors if it is there */
    double minutes;      /* stop after so many minutes with a checkpoint, 0: no limit */
    int threads;         /* 0: the configuration's */
    const char *backend; /* NULL: the configuration's */
    int64_t iterations;  /* 0: the configuration's */
} tbg_training_options;

typedef enum { TBG_RUN_FINISHED, TBG_RUN_OUT_OF_TIME, TBG_RUN_INTERRUPTED } tbg_training_end;

typedef struct {
    tbg_training_end end;
    int64_t iteration, iterations, molecules, skipped;
    double loss;            /* mean since the last log line but one */
    double validation_loss; /* last one; NaN: none */
    double best_loss;       /* lowest validation loss; NaN: none */
    int64_t best_iteration;
    double seconds;         /* all runs together */
    double network_share;   /* fraction of this run's time spent in the network */
    double molecules_per_s; /* this run */
} tbg_training_result;

typedef struct tbg_trainer tbg_trainer;

/* Loads and checks all data, builds or restores the model. Refuses (TBG_INPUT) a folder that holds a
 * checkpoint unless resuming, and resuming with a configuration or data other than the checkpoint's, naming
 * what differs. */
int tbg_trainer_create(const tbg_training_config *config, const tbg_training_options *options,
                       tbg_trainer **out);
void tbg_trainer_free(tbg_trainer *trainer);
/* The resolved run as JSON text (config, data, network, parameters, backend, ...), freed by the caller. */
int tbg_trainer_describe(const tbg_trainer *trainer, char **json);
/* Train until the iterations are done, the time is up or tbg_interrupted(); writes the folder's files.
 * TBG_FAILED after too many steps without a finite loss. */
int tbg_trainer_run(tbg_trainer *trainer, tbg_training_result *result);
/* The raw weights as they stand; owned by the trainer. */
const tbg_model *tbg_trainer_model(const tbg_trainer *trainer);

/* ---- what a model was trained for ---- */

/* What of a molecule, force field or temperature lies outside what the model was trained for: one line each,
 * ended by a newline, "" if nothing does (what the network cannot represent at all is refused by
 * tbg_conditioning_create). text: [size]; lines that do not fit are left out. *transfer: number of training
 * molecules if the molecule is none of them, else 0. Returns the text's length. */
int tbg_scope_warnings(const tbg_model *model, const tbg_molecule *molecule, const char *forcefield,
                       double temperature, size_t size, char *text, int *transfer);
/* {"molecules": n, "residues_least": 2, "residues_most": 2, "caps": [], "residues_n_terminal": "A R ...",
 * ...}, freed by the caller. */
int tbg_scope_json(const tbg_model *model, char **text);
#endif
