/* statistics.c: see statistics.h. */
#include "dynamics/statistics.h"

#include <math.h>

double tbg_statistics_inefficiency(int64_t n, const double *a) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; i++)
        mean += a[i];
    mean /= n > 0 ? (double)n : 1;
    for (int64_t i = 0; i < n; i++)
        variance += (a[i] - mean) * (a[i] - mean);
    variance /= n > 0 ? (double)n : 1;
    if (!(variance > 0))
        return n > 1 ? (double)n : 1;
    double g = 1;
    int64_t stride = 1;
    for (int64_t lag = 1; lag < n; lag += stride) {
        double c = 0;
        for (int64_t i = 0; i + lag < n; i++)
            c += (a[i] - mean) * (a[i + lag] - mean);
        c /= (double)(n - lag) * variance;
        if (c <= 0)
            break;
        g += 2 * c * (1 - (double)lag / (double)n) * (double)stride;
        if (lag >= 32 * stride)
            stride *= 2;
    }
    return g < 1 ? 1 : g;
}

static double mean_of(int64_t n, const double *a) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i];
    return sum / (double)n;
}

/* Does the mean before `start` differ from that of the rest by more than so many standard errors, as the rest
 * fluctuates? */
static int differs(int64_t n, const double *a, int64_t start, double samples, double errors) {
    double before = mean_of(start, a), mean = mean_of(n - start, a + start), variance = 0;
    for (int64_t i = start; i < n; i++)
        variance += (a[i] - mean) * (a[i] - mean) / (double)(n - start);
    double part = (double)start * samples / (double)(n - start); /* independent samples before start */
    return fabs(before - mean) > errors * sqrt(variance * (1 / part + 1 / samples));
}

int64_t tbg_statistics_equilibration(int64_t n, const double *a) {
    return tbg_statistics_stationary(n, a, 2);
}

int64_t tbg_statistics_stationary(int64_t n, const double *a, double errors) {
    int64_t chosen = 0;
    double best = 0;
    if (n < 8)
        return 0;
    for (int64_t at = 0; at <= n * 3 / 4;) {
        double samples = (double)(n - at) / tbg_statistics_inefficiency(n - at, a + at);
        if (samples > best) {
            best = samples;
            chosen = at;
        }
        int64_t step = at / 4, least = n / 256 + 1;
        at += step > least ? step : least;
    }
    return chosen && differs(n, a, chosen, best, errors) ? chosen : 0;
}

void tbg_statistics_population(int64_t n, const double *inside, tbg_population *out) {
    double p = 0;
    for (int64_t i = 0; i < n; i++)
        p += inside[i];
    p /= n > 0 ? (double)n : 1;
    *out = (tbg_population){.p = p, .value = NAN, .error = NAN, .p_error = NAN};
    out->effective = n > 0 ? (double)n / tbg_statistics_inefficiency(n, inside) : 0;
    if (p > 0 && p < 1) {
        out->p_error = sqrt(p * (1 - p) / out->effective);
        out->value = -log(p / (1 - p));
        out->error = out->p_error / (p * (1 - p));
    }
}

void tbg_statistics_mean(int64_t n, const double *series, const double *weight, double *scratch, double *mean,
                         double *error, double *total) {
    double sum = 0, square = 0;
    *mean = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = weight ? weight[i] : 1;
        sum += w;
        *mean += w * series[i];
    }
    *mean /= sum;
    *total = sum;
    for (int64_t i = 0; i < n; i++) {
        scratch[i] = (weight ? weight[i] : 1) * (series[i] - *mean) / sum;
        square += scratch[i] * scratch[i];
    }
    *error = sqrt(square * tbg_statistics_inefficiency(n, scratch));
}

void tbg_statistics_weighted(int64_t n, const double *inside, const double *weight, double *scratch,
                             tbg_population *out, double *total) {
    double p, error;
    tbg_statistics_mean(n, inside, weight, scratch, &p, &error, total);
    *out = (tbg_population){.p = p, .value = NAN, .error = NAN, .p_error = NAN};
    if (p > 0 && p < 1) {
        out->p_error = error;
        out->effective = p * (1 - p) / (error * error);
        out->value = -log(p / (1 - p));
        out->error = error / (p * (1 - p));
    }
}

/* Upper tail of the chi-square distribution: the regularised incomplete gamma function Q(k/2, x/2), by its
 * series below the mean and its continued fraction above. */
static double chi2_tail(double x, int k) {
    double a = k / 2.0, y = x / 2;
    if (!(y > 0))
        return 1;
    double front = exp(-y + a * log(y) - lgamma(a));
    if (y < a + 1) {
        double term = 1 / a, sum = term;
        for (int i = 1; i < 1000; i++) {
            term *= y / (a + i);
            sum += term;
        }
        return 1 - sum * front;
    }
    double fraction = 0; /* evaluated from its far end */
    for (int i = 200; i >= 1; i--)
        fraction = i * (i - a) / (y + 2 * i + 1 - a - fraction);
    return front / (y + 1 - a - fraction);
}

void tbg_statistics_agreement(int n, const tbg_population *each, double *chi2, double *p_value) {
    double weight = 0, mean = 0;
    *chi2 = 0;
    *p_value = 1;
    if (n < 2)
        return;
    for (int r = 0; r < n; r++) {
        if (!isfinite(each[r].value) || !(each[r].error > 0)) {
            *chi2 = NAN;
            *p_value = 0;
            return;
        }
        double w = 1 / (each[r].error * each[r].error);
        weight += w;
        mean += w * each[r].value;
    }
    mean /= weight;
    for (int r = 0; r < n; r++)
        *chi2 += pow((each[r].value - mean) / each[r].error, 2);
    *p_value = chi2_tail(*chi2, n - 1);
}
