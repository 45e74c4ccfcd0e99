/* evaluate.h: what `tbg evaluate` and `tbg report` share. */
#ifndef TBG_APP_EVALUATE_H
#define TBG_APP_EVALUATE_H
#include <math.h>
#include <stdint.h>
#include "tbg/ensemble.h"

typedef struct {
    const char *directory, *reference; /* reference: paths with commas, a folder of SEQUENCE.nc, or NULL */
    double burn_in, lag;               /* ps; burn_in: NAN: what tbg simulate found */
    int64_t transport, energies, bootstrap, threads;
    int errors; /* of the distances too */
} app_evaluation;
#define APP_EVALUATION_DEFAULTS                                                                              \
    { .burn_in = NAN, .lag = 500, .transport = 4000, .energies = 10000, .bootstrap = 200 }

int app_evaluation_check(const app_evaluation *o);
/* Read the ensemble, summarise it and, if there is a reference, read that and evaluate. Also after a failure
 * the caller frees *ensemble and *reference (both start as NULL). */
int app_evaluate(const app_evaluation *o, tbg_ensemble **ensemble, tbg_ensemble_summary *summary,
                 tbg_reference **reference, tbg_evaluation *evaluation);

/* ---- many peptides (evaluate_table.c) ---- */
typedef struct app_table app_table;
app_table *app_table_create(int room); /* NULL: out of memory */
void app_table_free(app_table *t);
void app_table_add(app_table *t, const tbg_ensemble *e, const tbg_ensemble_summary *s,
                   const tbg_evaluation *v); /* v: NULL without reference */
void app_table_add_failed(app_table *t, const char *directory);
void app_table_print(const app_table *t, int markdown);
/* Mean and standard deviation of column c over the rows that have it; returns their number. */
int app_table_mean(const app_table *t, int c, double *mean, double *deviation);
#endif
