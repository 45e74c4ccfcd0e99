/* sample.h: what the parts of `tbg sample` share. */
#ifndef TBG_APP_SAMPLE_H
#define TBG_APP_SAMPLE_H
#include "subject.h"
#include "tbg/denoise.h"
#include "tbg/energy.h"
#include "tbg/ensemble.h"
#include "tbg/flow.h"
#include "tbg/refine.h"

/* Per-sample results, indexed by sample number. */
typedef struct {
    long n;
    int n_atoms;
    unsigned char *have; /* [n] done */
    double *positions;   /* [n][n_atoms][3] nm, after the check */
    double *log_q;       /* [n] in nm; NaN without weights */
    double *reduced_energy;
    double *error;                       /* [n] estimated error of log_q, nats */
    double *anneal_error;                /* [n] and of the annealing, random; NaN: not smoothed */
    double *verdict;                     /* [n] TBG_VALID ... */
    double *velocities, *divergences;    /* [n] evaluations */
    double *back_position, *back_log_q;  /* [n] there and back: mean square per component, nm^2; difference of
                                            log_q,  nats; NaN where not looked at */
    double seconds_flow, seconds_energy; /* of all runs together */
} sample_table;
int sample_table_create(long n, int n_atoms, sample_table *t);
void sample_table_free(sample_table *t);

/* ---- taking noise off (sample_denoise.c) ---- */

typedef struct {
    tbg_denoiser *denoiser; /* NULL: there is no noise, and nothing below does anything */
    tbg_engine *engine;
    tbg_checker *checker; /* says what branches count */
    int n_atoms;
} sample_denoising;
/* options: of subject_denoising; seed: of the random numbers. on: must outlive it. */
int sample_denoising_open(const subject *on, const tbg_denoise_options *options, int threads, uint64_t seed,
                          sample_denoising *d);
void sample_denoising_close(sample_denoising *d);
/* Samples first .. first + n - 1: positions [n][n_atoms][3] nm, in place; log_ratio, [n]: what turns the
 * flow's log q into one whose exp(-u) / q is the weight; error, [n]: its estimated standard error, nats. */
int sample_denoise(const sample_denoising *d, uint64_t first, long n, double *positions, double *log_ratio,
                   double *error);
/* What one sample costs, measured. */
int sample_denoising_seconds(const sample_denoising *d, const tbg_molecule *molecule, double *seconds);

/* ---- finished chunks on disk: DIR/partial/chunk-FIRST.safetensors (sample_store.c) ---- */

/* 1 if the folder holds an unfinished run. */
int sample_store_exists(const char *directory);
/* Save samples first .. first + n - 1. settings: text that must be the same to resume. */
int sample_store_write(const char *directory, const char *settings, const sample_table *t, long first, long n,
                       double seconds_flow, double seconds_energy);
/* Read what is there into the table (samples beyond its size are ignored); *n: samples found. TBG_INPUT,
 * naming what differs, if it was made with other settings. */
int sample_store_read(const char *directory, const char *settings, sample_table *t, long *n);
int sample_store_remove(const char *directory);

/* ---- the refinement (sample_refine.c) ---- */

typedef struct {
    const char *directory, *model, *settings; /* model: the name of its file */
    const tbg_molecule *molecule;
    const tbg_system *system;
    const tbg_conditioning *conditioning;
    tbg_session *session;
    const tbg_flow_options *flow;
    tbg_engine *engine;
    const sample_denoising *denoising;
    tbg_refine_options options;
    int resume, json;
} sample_refine_request;
/* Whatever would refuse the chains after n samples were drawn, before that. */
int sample_refine_check(const sample_refine_request *q, long n);
/* The samples of a finished ensemble in the folder as if just drawn; *n: how many, 0 if there is none.
 * TBG_INPUT, naming the difference, if it is of another kind. */
int sample_refine_take(const sample_refine_request *q, sample_table *t, tbg_ensemble_info *info, long *n);
/* Run the chains on the table's samples, all of which are there, and write DIR/refined. When interrupted,
 * what is done is written and saved, and TBG_FAILED returned. */
int sample_refine(const sample_refine_request *q, const sample_table *t, const tbg_ensemble_info *info);

/* Settings that decide the result, as text. */
int sample_settings(const tbg_model *model, const tbg_molecule *molecule, const char *forcefield,
                    double temperature, const char *engine, const char *backend, uint64_t seed,
                    const tbg_flow_options *flow, const sample_denoising *denoising, char **text);
#endif
