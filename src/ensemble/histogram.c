/* histogram.c: weighted histograms with bootstrap errors, the free-energy difference of a torsion,
 * statistical inefficiency of time series. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int tbg_bootstrap_histograms(long n, const double *weight, int n_series, const short *bins, int n_bins,
                             int replicas, uint64_t seed, double *histogram, double *replica,
                             double *effective) {
    size_t size = (size_t)n_series * (size_t)n_bins;
    memset(histogram, 0, size * sizeof *histogram);
    if (replicas > 0 && replica)
        memset(replica, 0, (size_t)replicas * size * sizeof *replica);
    for (int s = 0; s < n_series; s++)
        for (long i = 0; i < n; i++) {
            int bin = bins[(size_t)s * (size_t)n + (size_t)i];
            if (bin >= n_bins)
                return tbg_fail(TBG_FAILED, "histogram: bin %d of %d", bin, n_bins);
            if (bin >= 0)
                histogram[s * n_bins + bin] += weight[i];
        }
        /* Number i of resampling r has the address (BOOTSTRAP r, i): the result does not depend on threads.
         */
#pragma omp parallel for schedule(dynamic)
    for (int r = 0; r < replicas; r++) {
        double *h = replica ? replica + (size_t)r * size : NULL, sum = 0, square = 0;
        for (long i = 0; i < n; i++) {
            size_t k = tbg_random_below(seed, TBG_STREAM(TBG_STREAM_BOOTSTRAP, (uint64_t)r), (uint64_t)i,
                                        (uint64_t)n);
            double w = weight[k];
            sum += w;
            square += w * w;
            for (int s = 0; h && s < n_series; s++) {
                int bin = bins[(size_t)s * (size_t)n + k];
                if (bin >= 0)
                    h[s * n_bins + bin] += w;
            }
        }
        for (size_t b = 0; h && sum > 0 && b < size; b++)
            h[b] /= sum;
        if (effective)
            effective[r] = square > 0 ? sum * sum / square : 0;
    }
    return TBG_OK;
}

tbg_estimate tbg_dF_of_p(double p, double p_error) {
    tbg_estimate dF = {-log(p / (1 - p)), p_error / (p * (1 - p))};
    if (!(p > 0 && p < 1))
        dF = (tbg_estimate){p >= 1 ? -INFINITY : p <= 0 ? INFINITY : NAN, NAN};
    return dF;
}

/* In-place radix-2 transform of n = 2^k complex numbers. */
static void fourier(size_t n, double *re, double *im, int direction) {
    for (size_t i = 1, j = 0; i < n; i++) {
        size_t bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            double t = re[i];
            re[i] = re[j];
            re[j] = t;
            t = im[i];
            im[i] = im[j];
            im[j] = t;
        }
    }
    for (size_t half = 1; half < n; half *= 2) {
        double step = direction * M_PI / (double)half;
        for (size_t k = 0; k < half; k++) {
            double c = cos(step * (double)k), s = sin(step * (double)k);
            for (size_t a = k; a < n; a += 2 * half) {
                size_t b = a + half;
                double tr = c * re[b] - s * im[b], ti = c * im[b] + s * re[b];
                re[b] = re[a] - tr;
                im[b] = im[a] - ti;
                re[a] += tr;
                im[a] += ti;
            }
        }
    }
}

int tbg_statistical_inefficiency(int n_parts, const long *part, const double *x, double *g) {
    long n = part[n_parts], longest = 0;
    double mean = 0, variance = 0;
    *g = 1;
    for (long i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (long i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (int p = 0; p < n_parts; p++)
        if (part[p + 1] - part[p] > longest)
            longest = part[p + 1] - part[p];
    if (!(variance > 1e-24 * mean * mean) || longest < 3) /* constant, up to rounding */
        return TBG_OK;
    size_t padded = 1;
    while (padded < 2 * (size_t)longest)
        padded *= 2;
    double *re = TBG_NEW(double, padded), *im = TBG_NEW(double, padded), *sum = TBG_NEW(double, longest);
    int status = re && im && sum ? TBG_OK : TBG_FAILED;
    for (int p = 0; status == TBG_OK && p < n_parts; p++) {
        long length = part[p + 1] - part[p];
        memset(re, 0, padded * sizeof *re);
        memset(im, 0, padded * sizeof *im);
        for (long i = 0; i < length; i++)
            re[i] = x[part[p] + i] - mean;
        fourier(padded, re, im, 1);
        for (size_t i = 0; i < padded; i++) {
            re[i] = re[i] * re[i] + im[i] * im[i];
            im[i] = 0;
        }
        fourier(padded, re, im, -1);
        for (long t = 0; t < length; t++)
            sum[t] += re[t] / (double)padded;
    }
    for (long t = 1; status == TBG_OK && t < longest - 1; t++) {
        double pairs = 0;
        for (int p = 0; p < n_parts; p++)
            if (part[p + 1] - part[p] > t)
                pairs += (double)(part[p + 1] - part[p] - t);
        double c = sum[t] / (pairs * variance);
        if (c <= 0 && t > 3)
            break;
        *g += 2 * c * (1 - (double)t / (double)longest);
    }
    if (*g < 1)
        *g = 1;
    free(re);
    free(im);
    free(sum);
    return status;
}
