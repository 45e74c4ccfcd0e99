/* mean.c: the mean of weights given by their logarithms, and a choice by them: of replicas, and of branches.
 */
#include "anneal/anneal.h"

#include <math.h>

tbg_mean_weight tbg_mean_of_weights(size_t n, const double *log_w) {
    tbg_mean_weight m = {.log = -INFINITY, .error = NAN, .largest = -INFINITY};
    double squares = 0;
    for (size_t k = 0; k < n; k++)
        if (isfinite(log_w[k]))
            m.largest = fmax(m.largest, log_w[k]);
    for (size_t k = 0; k < n; k++)
        if (isfinite(log_w[k])) {
            double w = exp(log_w[k] - m.largest);
            m.sum += w;
            squares += w * w;
        }
    if (!(m.sum > 0))
        return m;
    m.log = m.largest + log(m.sum / (double)n);
    if (n > 1)
        m.error = sqrt(fmax(0, (double)n * squares / (m.sum * m.sum) - 1) / ((double)n - 1));
    return m;
}

size_t tbg_choose_by_weight(const tbg_mean_weight *m, size_t n, const double *log_w, double uniform) {
    size_t chosen = 0;
    double so_far = 0;
    for (size_t k = 0; k < n; k++)
        if (isfinite(log_w[k])) {
            chosen = k;
            if ((so_far += exp(log_w[k] - m->largest)) > uniform * m->sum)
                break;
        }
    return chosen;
}
