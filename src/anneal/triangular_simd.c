/* triangular_simd.c: Cholesky factor and triangular solves for the replicas of one configuration, a hundred
 * unknowns and some sixteen right-hand sides. Every sum has a fixed order. */
#include "anneal/anneal.h"
#include "base/simd.h"

#include <math.h>

enum { LANES = 8, WIDE = 2 * LANES };
typedef double vector __attribute__((vector_size(LANES * sizeof(double)), aligned(8), may_alias));

static inline vector load(const double *p) {
    return *(const vector *)p;
}

static double dot(size_t n, const double *p, const double *q) {
    vector sum = {0};
    size_t k = 0;
    for (; k + LANES <= n; k += LANES)
        sum += load(p + k) * load(q + k);
    double all = 0;
    for (int l = 0; l < LANES; l++)
        all += sum[l];
    for (; k < n; k++)
        all += p[k] * q[k];
    return all;
}

static int factorise(size_t n, const double *a, double damping, double *L) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double *p = L + i * n, *q = L + j * n;
            double left = a[i * n + j] + (i == j ? damping : 0) - dot(j, p, q);
            if (i > j)
                p[j] = left / q[j];
            else if (left > 0)
                p[i] = sqrt(left);
            else
                return 0;
        }
    return 1;
}

/* x_i = (b_i - sum_j l_j x_j) / l_i over the rows `from` to `to` that are done; step: elements of L between
 * their l_j. */
static inline __attribute__((always_inline)) void row(size_t i, size_t from, size_t to, const double *l,
                                                      size_t step, double inverse, size_t K, double *b) {
    double *x = b + i * K;
    size_t k = 0;
    for (; k + WIDE <= K; k += WIDE) {
        vector s = load(x + k), t = load(x + k + LANES);
        for (size_t j = from; j < to; j++) {
            double f = l[j * step];
            s -= f * load(b + j * K + k);
            t -= f * load(b + j * K + k + LANES);
        }
        *(vector *)(x + k) = inverse * s;
        *(vector *)(x + k + LANES) = inverse * t;
    }
    for (; k < K; k++) {
        double s = x[k];
        for (size_t j = from; j < to; j++)
            s -= l[j * step] * b[j * K + k];
        x[k] = inverse * s;
    }
}

static void solve_lower(size_t n, const double *L, size_t K, double *b) {
    for (size_t i = 0; i < n; i++)
        row(i, 0, i, L + i * n, 1, 1 / L[i * n + i], K, b);
}

static void solve_upper(size_t n, const double *L, size_t K, double *b) {
    for (size_t i = n; i-- > 0;)
        row(i, i + 1, n, L + i, n, 1 / L[i * n + i], K, b);
}

const tbg_triangular TBG_SIMD_NAME(tbg_triangular) = {factorise, solve_lower, solve_upper};
