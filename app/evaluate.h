/* evaluate.h: what `tbg evaluate` and `tbg report` share. */
#ifndef TBG_APP_EVALUATE_H
#define TBG_APP_EVALUATE_H
#include <stdint.h>
#include "tbg/ensemble.h"

typedef struct {
    const char *directory, *reference; /* reference: paths with commas, or NULL */
    double burn_in, lag;               /* ps */
    int64_t transport, energies, bootstrap, threads;
    int errors; /* of the distances too */
} app_evaluation;
#define APP_EVALUATION_DEFAULTS                                                                              \
    { .lag = 500, .transport = 4000, .energies = 10000, .bootstrap = 200 }

int app_evaluation_check(const app_evaluation *o);
/* Read the ensemble, summarise it and, if there is a reference, read that and evaluate. Also after a failure
 * the caller frees *ensemble and *reference (both start as NULL). */
int app_evaluate(const app_evaluation *o, tbg_ensemble **ensemble, tbg_ensemble_summary *summary,
                 tbg_reference **reference, tbg_evaluation *evaluation);
#endif
