/* weights.c: how good a set of importance weights is: Kish sample size, raw and clipped, and Pareto k-hat.
 * Works on log weights, in which -Inf (or NaN) means excluded. */
#include "tbg/ensemble.h"
#include "base/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A weight counts if its logarithm is finite: +Inf would come from an energy of -Inf, which is no energy. */
static long keep_finite(long n, const double *x, double *out) {
    long kept = 0;
    for (long i = 0; i < n; i++)
        if (isfinite(x[i]))
            out[kept++] = x[i];
    return kept;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double tbg_log_sum_exp(long n, const double *x) {
    double largest = -INFINITY, sum = 0;
    for (long i = 0; i < n; i++)
        if (isfinite(x[i]) && x[i] > largest)
            largest = x[i];
    for (long i = 0; i < n; i++)
        if (isfinite(x[i]))
            sum += exp(x[i] - largest);
    return sum > 0 ? largest + log(sum) : -INFINITY;
}

double tbg_effective_size(long n, const double *log_weight) {
    double largest = -INFINITY, sum = 0, square = 0;
    for (long i = 0; i < n; i++)
        if (isfinite(log_weight[i]) && log_weight[i] > largest)
            largest = log_weight[i];
    for (long i = 0; i < n; i++)
        if (isfinite(log_weight[i])) {
            double w = exp(log_weight[i] - largest);
            sum += w;
            square += w * w;
        }
    return square > 0 ? sum * sum / square : 0;
}

double tbg_effective_size_clipped(long n, const double *log_weight, double *scratch) {
    long kept = keep_finite(n, log_weight, scratch);
    if (!kept)
        return 0;
    qsort(scratch, (size_t)kept, sizeof *scratch, compare_doubles);
    return tbg_effective_size((kept - 1) * 998 / 1000 + 1, scratch);
}

/* Zhang and Stephens 2009: posterior mean over a grid of theta = -k/sigma under an empirical prior, then the
 * maximum likelihood k for it. The weak prior of Vehtari et al. pulls k towards 1/2 as if by ten
 * observations. */
void tbg_pareto_fit(long n, const double *x, double *k, double *sigma) {
    enum { PRIOR = 3, MOST = 4096 };
    long m = 30 + (long)sqrt((double)n);
    if (m > MOST)
        m = MOST;
    double theta[MOST], likelihood[MOST], largest = -INFINITY, sum = 0, mean = 0;
    double quartile = x[(long)floor((double)n / 4 + 0.5) - 1];
    for (long j = 0; j < m; j++) {
        theta[j] = 1 / x[n - 1] + (1 - sqrt((double)m / ((double)j + 0.5))) / (PRIOR * quartile);
        double shape = 0;
        for (long i = 0; i < n; i++)
            shape += log1p(-theta[j] * x[i]);
        shape /= (double)n;
        likelihood[j] = (double)n * (log(-theta[j] / shape) - shape - 1);
        if (likelihood[j] > largest)
            largest = likelihood[j];
    }
    for (long j = 0; j < m; j++) {
        double p = exp(likelihood[j] - largest);
        sum += p;
        mean += p * theta[j];
    }
    mean /= sum;
    double shape = 0;
    for (long i = 0; i < n; i++)
        shape += log1p(-mean * x[i]);
    shape /= (double)n;
    *sigma = -shape / mean;
    *k = ((double)n * shape + 10 * 0.5) / ((double)n + 10);
}

double tbg_pareto_k(long n, const double *log_weight, double *scratch) {
    long kept = keep_finite(n, log_weight, scratch);
    if (kept < 5)
        return INFINITY;
    qsort(scratch, (size_t)kept, sizeof *scratch, compare_doubles);
    double largest = scratch[kept - 1];
    double fifth = 0.2 * (double)kept, root = 3 * sqrt((double)kept);
    long tail = (long)ceil(fifth < root ? fifth : root);
    double cutoff = scratch[kept - tail - 1] - largest;
    if (cutoff > -1e-9)
        return 0; /* weights that are equal, up to rounding, have no tail */
    if (cutoff < log(DBL_MIN))
        cutoff = log(DBL_MIN);
    long first = kept - tail;
    while (first < kept && !(scratch[first] - largest > cutoff))
        first++;
    if (kept - first < 5)
        return INFINITY;
    double edge = exp(cutoff), k, sigma;
    for (long i = first; i < kept; i++)
        scratch[i - first] = exp(scratch[i] - largest) - edge;
    tbg_pareto_fit(kept - first, scratch, &k, &sigma);
    return isfinite(k) ? k : INFINITY;
}
