/* statistics.h: how sure one can be of averages over correlated frames. */
#ifndef TBG_DYNAMICS_STATISTICS_H
#define TBG_DYNAMICS_STATISTICS_H
#include <stdint.h>

/* Statistical inefficiency g = 1 + 2 sum of the autocorrelation (up to its first zero): n/g frames count as
 * independent. At least 1; n if all values are equal (nothing is known about a series that never changed).
 * Lags are taken ever more sparsely, so the cost is about n log n. */
double tbg_statistics_inefficiency(int64_t n, const double *series);

/* First frame of the stationary part (Chodera, J. Chem. Theory Comput. 12, 1799 (2016)): the start that
 * leaves the most independent samples, (n - start) / g of the rest, tried ever more sparsely up to three
 * quarters of the series; 0 if the mean before it is within two standard errors of the mean after it, since
 * in short series the first criterion alone drops much by chance. What it leaves of a slow transient shifts
 * the mean by about its standard error. 0 for n < 8. */
int64_t tbg_statistics_equilibration(int64_t n, const double *series);
/* The same with another number of standard errors. */
int64_t tbg_statistics_stationary(int64_t n, const double *series, double errors);

/* Free-energy difference of one state against all else, in kT: -ln(p / (1 - p)). */
typedef struct {
    double p, p_error;
    double value, error; /* NaN if p is 0 or 1 */
    double effective;    /* independent samples */
} tbg_population;
/* inside: [n] 0 or 1. */
void tbg_statistics_population(int64_t n, const double *inside, tbg_population *out);

/* The same of weighted frames (weight: [n] > 0): sum w inside / sum w, whose error comes from the statistical
 * inefficiency of w (inside - p). effective: independent unweighted samples that would know p as well, which
 * may be more than n. scratch: [n]. *total: sum of the weights. */
void tbg_statistics_weighted(int64_t n, const double *inside, const double *weight, double *scratch,
                             tbg_population *out, double *total);
/* Mean of weighted values and its standard error, in the same way. weight: or NULL. */
void tbg_statistics_mean(int64_t n, const double *series, const double *weight, double *scratch, double *mean,
                         double *error, double *total);

/* Do independent estimates agree within their errors? chi-square of the values about their weighted mean.
 * *p_value: probability of a larger chi-square if they do; values without a number make it 0. n < 2: 1. */
void tbg_statistics_agreement(int n, const tbg_population *each, double *chi2, double *p_value);
#endif
