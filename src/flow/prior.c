/* prior.c: the mean-free standard normal prior. */
#include "tbg/flow.h"
#include "tbg/random.h"

#include <math.h>

void tbg_remove_mean(int n_atoms, double *x) {
    for (int a = 0; a < 3; a++) {
        double mean = 0;
        for (int i = 0; i < n_atoms; i++)
            mean += x[3 * i + a];
        mean /= n_atoms;
        for (int i = 0; i < n_atoms; i++)
            x[3 * i + a] -= mean;
    }
}

void tbg_prior_sample(uint64_t seed, uint64_t index, int n_atoms, double *z) {
    tbg_random_normal(seed, TBG_STREAM(TBG_STREAM_PRIOR, index), 0, 3 * (size_t)n_atoms, z);
    tbg_remove_mean(n_atoms, z);
}

double tbg_prior_log_density(int n_atoms, const double *z) {
    double sum = 0;
    for (int k = 0; k < 3 * n_atoms; k++)
        sum += z[k] * z[k];
    return -0.5 * sum - 1.5 * (n_atoms - 1) * log(2 * M_PI);
}
