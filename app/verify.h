/* verify.h: what the parts of `tbg verify` share: comparisons with a printed row each. */
#ifndef TBG_APP_VERIFY_H
#define TBG_APP_VERIFY_H
#include "tbg/file.h"
#include <stddef.h>

/* The verdict on one file. */
typedef struct {
    int failed, rows;
} verify_report;

/* Error of an element: |got - want| / max(|want|, floor). Non-finite numbers are an infinite error. */
typedef struct {
    double error, got, want, tolerance;
    char where[112];
} verify_worst;
/* Fold n elements into *worst. rank, shape: for the message; name: put before the index, or NULL. */
void verify_fold(verify_worst *worst, const char *name, size_t n, int rank, const int64_t *shape,
                 const double *got, const double *want, double floor);
/* Print the row of a quantity and note whether it is within tolerance. */
void verify_row(verify_report *report, const char *quantity, const char *by, const verify_worst *worst,
                double tolerance);

/* Both take over `tensors` and return a status: TBG_INPUT if the file cannot be used. */
int verify_network(tbg_tensors *tensors, int threads, verify_report *report);
int verify_energy(tbg_tensors *tensors, int threads, verify_report *report);
#endif
