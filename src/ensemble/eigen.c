/* eigen.c: all eigenvalues and eigenvectors of a symmetric matrix: Householder reduction to tridiagonal form,
 * then QL iterations with implicit shifts (Golub and Van Loan, chapter 8). For some hundred dimensions. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* a -> tridiagonal (diagonal d, below it e[0..n-2]); row i of q becomes column i of the transformation. */
static void tridiagonal(int n, double *a, double *d, double *e, double *q, double *v, double *w) {
    memset(q, 0, (size_t)n * (size_t)n * sizeof *q);
    for (int i = 0; i < n; i++)
        q[(size_t)i * n + i] = 1;
    for (int k = 0; k + 2 < n; k++) {
        double norm = 0;
        for (int i = k + 1; i < n; i++)
            norm = hypot(norm, a[(size_t)i * n + k]);
        double first = a[(size_t)(k + 1) * n + k], alpha = first > 0 ? -norm : norm;
        e[k] = alpha;
        double length = 0;
        for (int i = k + 1; i < n; i++) {
            v[i] = a[(size_t)i * n + k] - (i == k + 1 ? alpha : 0);
            length = hypot(length, v[i]);
        }
        if (!(length > 0)) {
            e[k] = first;
            continue;
        }
        for (int i = k + 1; i < n; i++)
            v[i] /= length;
        /* A <- H A H with H = 1 - 2 v v^T: A - v w^T - w v^T, w = 2 (A v - (v A v) v). */
        double inner = 0;
        for (int i = k + 1; i < n; i++) {
            double sum = 0;
            for (int j = k + 1; j < n; j++)
                sum += a[(size_t)i * n + j] * v[j];
            w[i] = sum;
            inner += sum * v[i];
        }
        for (int i = k + 1; i < n; i++)
            w[i] = 2 * (w[i] - inner * v[i]);
        for (int i = k + 1; i < n; i++)
            for (int j = k + 1; j < n; j++)
                a[(size_t)i * n + j] -= v[i] * w[j] + w[i] * v[j];
        /* Q <- Q H; q holds Q transposed, so H acts on its rows. */
        memset(w, 0, (size_t)n * sizeof *w);
        for (int i = k + 1; i < n; i++)
            for (int j = 0; j < n; j++)
                w[j] += v[i] * q[(size_t)i * n + j];
        for (int i = k + 1; i < n; i++)
            for (int j = 0; j < n; j++)
                q[(size_t)i * n + j] -= 2 * v[i] * w[j];
    }
    for (int i = 0; i < n; i++)
        d[i] = a[(size_t)i * n + i];
    if (n > 1)
        e[n - 2] = a[(size_t)(n - 1) * n + n - 2];
    e[n - 1] = 0;
}

static int iterate(int n, double *d, double *e, double *z) {
    for (int l = 0; l < n; l++)
        for (int round = 0;; round++) {
            int m = l;
            while (m < n - 1 && fabs(e[m]) > 1e-16 * (fabs(d[m]) + fabs(d[m + 1])))
                m++;
            if (m == l)
                break;
            if (round == 60)
                return tbg_fail(TBG_FAILED, "eigenvalues do not converge");
            double g = (d[l + 1] - d[l]) / (2 * e[l]), r = hypot(g, 1);
            g = d[m] - d[l] + e[l] / (g + copysign(r, g));
            double s = 1, c = 1, p = 0;
            int i = m - 1;
            for (; i >= l; i--) {
                double f = s * e[i], b = c * e[i];
                r = hypot(f, g);
                e[i + 1] = r;
                if (r == 0) { /* the matrix splits here */
                    d[i + 1] -= p;
                    e[m] = 0;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                double *one = z + (size_t)i * n, *two = one + n;
                for (int k = 0; k < n; k++) {
                    double t = two[k];
                    two[k] = s * one[k] + c * t;
                    one[k] = c * one[k] - s * t;
                }
            }
            if (r == 0 && i >= l)
                continue;
            d[l] -= p;
            e[l] = g;
            e[m] = 0;
        }
    return TBG_OK;
}

int tbg_eigen_symmetric(int n, double *a, double *values, double *vectors) {
    for (size_t i = 0; i < (size_t)n * (size_t)n; i++)
        if (!isfinite(a[i]))
            return tbg_fail(TBG_FAILED, "eigenvalues of a matrix that is not finite");
    double *scratch = tbg_alloc(3 * (size_t)n, sizeof *scratch), *row = NULL;
    if (!scratch || !(row = TBG_NEW(double, n))) {
        free(scratch);
        return TBG_FAILED;
    }
    tridiagonal(n, a, values, scratch, vectors, scratch + n, scratch + 2 * n);
    int status = iterate(n, values, scratch, vectors);
    for (int i = 0; i < n && status == TBG_OK; i++) { /* descending */
        int best = i;
        for (int j = i + 1; j < n; j++)
            if (values[j] > values[best])
                best = j;
        if (best == i)
            continue;
        double value = values[i], *one = vectors + (size_t)i * n, *two = vectors + (size_t)best * n;
        values[i] = values[best];
        values[best] = value;
        memcpy(row, one, (size_t)n * sizeof *row);
        memcpy(one, two, (size_t)n * sizeof *row);
        memcpy(two, row, (size_t)n * sizeof *row);
    }
    free(row);
    free(scratch);
    return status;
}
