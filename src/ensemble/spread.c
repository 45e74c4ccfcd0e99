/* spread.c: standard errors and 95 % intervals by resampling: of the figures of the weights (samples drawn
 * with replacement), of energy distances (samples, and contiguous blocks of the reference's frames, which are
 * correlated). Distances of points have errors of their own (transport.c). */
#include "ensemble/spread.h"
#include "base/memory.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(int n, const double *sorted, double p) {
    double at = p * (n - 1);
    int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

tbg_spread tbg_spread_of(int n, double *values) {
    int kept = 0;
    double mean = 0, square = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(values[i]))
            values[kept++] = values[i];
    if (kept < 2)
        return (tbg_spread){NAN, NAN, NAN};
    for (int i = 0; i < kept; i++)
        mean += values[i] / kept;
    for (int i = 0; i < kept; i++)
        square += (values[i] - mean) * (values[i] - mean);
    qsort(values, (size_t)kept, sizeof *values, compare_doubles);
    return (tbg_spread){sqrt(square / (kept - 1)), quantile(kept, values, 0.025),
                        quantile(kept, values, 0.975)};
}

tbg_spread tbg_spread_normal(double value, double error) {
    return isfinite(error) ? (tbg_spread){error, value - 1.96 * error, value + 1.96 * error}
                           : (tbg_spread){NAN, NAN, NAN};
}

tbg_spread tbg_spread_share(long k, long n) {
    if (n < 1)
        return (tbg_spread){NAN, NAN, NAN};
    /* Wilson's interval: right at 0 and 1 too, where the binomial error is 0. */
    double p = (double)k / (double)n, z = 1.96, zz = z * z / (double)n;
    double middle = (p + zz / 2) / (1 + zz),
           half = z / (1 + zz) * sqrt(p * (1 - p) / (double)n + zz / (double)n / 4);
    return (tbg_spread){sqrt(p * (1 - p) / (double)n), fmax(0, middle - half), fmin(1, middle + half)};
}

/* ---- figures of the weights ---- */

int tbg_spread_weights(const tbg_ensemble *e, const tbg_selection *s, int replicas,
                       tbg_ensemble_summary *out) {
    enum { ESS, CLIPPED, K, NLL, N };
    double *values = tbg_alloc((size_t)replicas * N, sizeof *values), n = (double)s->n;
    int failed = !values;
#pragma omp parallel
    {
        double *l = TBG_NEW(double, s->n), *scratch = TBG_NEW(double, s->n);
        if (!l || !scratch) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic)
        for (int r = 0; r < replicas; r++) {
            if (failed)
                continue;
            double nll = 0;
            for (long i = 0; i < s->n;
                 i++) { /* the addresses of tbg_bootstrap_histograms: the same resamplings */
                long k =
                    s->index[tbg_random_below(e->info.seed, TBG_STREAM(TBG_STREAM_BOOTSTRAP, (uint64_t)r),
                                              (uint64_t)i, (uint64_t)s->n)];
                l[i] = e->log_weight[k];
                nll -= e->log_q[k] / n;
            }
            values[ESS * replicas + r] = tbg_effective_size(s->n, l) / n;
            values[CLIPPED * replicas + r] = tbg_effective_size_clipped(s->n, l, scratch) / n;
            values[K * replicas + r] = tbg_pareto_k(s->n, l, scratch);
            values[NLL * replicas + r] = nll;
        }
        free(l);
        free(scratch);
    }
    if (!failed) {
        out->ess_raw_spread = tbg_spread_of(replicas, values + ESS * replicas);
        out->ess_clipped_spread = tbg_spread_of(replicas, values + CLIPPED * replicas);
        out->pareto_k_spread = tbg_spread_of(replicas, values + K * replicas);
        tbg_spread nll = tbg_spread_of(replicas, values + NLL * replicas);
        double shift = 3.0 * (e->n_atoms - 1) * log(10.0); /* per nm to per Angstrom */
        out->nll_spread = (tbg_spread){nll.error, nll.low + shift, nll.high + shift};
        out->ess_raw.error = out->ess_raw_spread.error;
    }
    free(values);
    return failed ? TBG_FAILED : TBG_OK;
}

/* ---- energies ---- */

/* Multiplicities of n samples drawn with replacement, times their weights (NULL: equal). */
static void draw_samples(long n, const double *weight, uint64_t seed, int replica, double *out) {
    memset(out, 0, (size_t)n * sizeof *out);
    for (long i = 0; i < n; i++)
        out[tbg_random_below(seed, TBG_STREAM(TBG_STREAM_BOOTSTRAP, (2ull << 40) + (uint64_t)replica),
                             (uint64_t)i, (uint64_t)n)] += 1;
    for (long i = 0; weight && i < n; i++)
        out[i] *= weight[i];
}

static void draw_blocks(long n, uint64_t seed, int replica, double *out) {
    long blocks = n < TBG_BLOCKS ? n : TBG_BLOCKS;
    memset(out, 0, (size_t)n * sizeof *out);
    for (long b = 0; b < blocks; b++) {
        long k =
            (long)tbg_random_below(seed, TBG_STREAM(TBG_STREAM_BOOTSTRAP, (3ull << 40) + (uint64_t)replica),
                                   (uint64_t)b, (uint64_t)blocks);
        for (long i = k * n / blocks; i < (k + 1) * n / blocks; i++)
            out[i] += 1;
    }
}

int tbg_spread_energies(long n, const double *u, const double *weight, long m, const double *reference,
                        int replicas, uint64_t seed, tbg_spread *w1, tbg_spread *w2) {
    double *values = tbg_alloc(2 * (size_t)replicas, sizeof *values);
    int failed = !values;
#pragma omp parallel
    {
        double *a = TBG_NEW(double, n), *b = TBG_NEW(double, m);
        if (!a || !b) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic)
        for (int r = 0; r < replicas; r++) {
            if (failed)
                continue;
            draw_samples(n, weight, seed, r, a);
            draw_blocks(m, seed, r, b);
            if (tbg_wasserstein_line(n, u, a, m, reference, b, &values[r], &values[replicas + r]) != TBG_OK) {
#pragma omp atomic write
                failed = 1;
            }
        }
        free(a);
        free(b);
    }
    if (!failed) {
        *w1 = tbg_spread_of(replicas, values);
        *w2 = tbg_spread_of(replicas, values + replicas);
    }
    free(values);
    return failed ? tbg_fail(TBG_FAILED, "out of memory") : TBG_OK;
}
