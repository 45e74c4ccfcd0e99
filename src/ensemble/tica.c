/* tica.c: features of a configuration and their slowest linear combinations (time-lagged independent
 * components, reversible estimate, kinetic-map scaling: unit variance times eigenvalue). */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Directions whose variance is below this part of the largest are left out: bond geometry makes features
 * dependent. */
#define RANK_TOLERANCE 1e-6

struct tbg_featurizer {
    int n_heavy, n_torsions, n_features;
    int *heavy;
    tbg_torsion *torsions;
};

int tbg_featurizer_create(const tbg_molecule *molecule, tbg_featurizer **out) {
    *out = NULL;
    tbg_featurizer *f = TBG_NEW(tbg_featurizer, 1);
    if (!f)
        return TBG_FAILED;
    f->heavy = TBG_NEW(int, molecule->n_atoms);
    int status = f->heavy ? tbg_backbone_torsions(molecule, &f->n_torsions, &f->torsions) : TBG_FAILED;
    if (status != TBG_OK) {
        tbg_featurizer_free(f);
        return status;
    }
    for (int i = 0; i < molecule->n_atoms; i++) {
        int element = molecule->atoms[i].element;
        if (element == 6 || element == 7 || element == 16)
            f->heavy[f->n_heavy++] = i;
    }
    f->n_features = f->n_heavy * (f->n_heavy - 1) / 2 + 2 * f->n_torsions;
    *out = f;
    return TBG_OK;
}

void tbg_featurizer_free(tbg_featurizer *f) {
    if (!f)
        return;
    free(f->heavy);
    free(f->torsions);
    free(f);
}

int tbg_featurizer_size(const tbg_featurizer *f) {
    return f->n_features;
}

void tbg_featurize(const tbg_featurizer *f, const double *positions, double *features) {
    for (int a = 0; a < f->n_heavy; a++)
        for (int b = a + 1; b < f->n_heavy; b++) {
            const double *x = positions + 3 * f->heavy[a], *y = positions + 3 * f->heavy[b];
            *features++ = sqrt((x[0] - y[0]) * (x[0] - y[0]) + (x[1] - y[1]) * (x[1] - y[1]) +
                               (x[2] - y[2]) * (x[2] - y[2]));
        }
    for (int t = 0; t < f->n_torsions; t++) {
        double angle = tbg_dihedral(positions, f->torsions[t].atoms);
        *features++ = sin(angle);
        *features++ = cos(angle);
    }
}

/* c[i][j] += sum over a block of rows of x_i y_j, for j <= i; rows: [m][n] each. */
__attribute__((optimize("O3"))) static void accumulate(int n, int m, const double *x, const double *y,
                                                       double *c) {
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < n; i++) {
        double *restrict line = c + (size_t)i * (size_t)n;
        for (int k = 0; k < m; k++) {
            double a = x[(size_t)k * n + i];
            const double *restrict row = y + (size_t)k * n;
            for (int j = 0; j < n; j++)
                line[j] += a * row[j];
        }
    }
}

enum { BLOCK = 64 };

/* Symmetrised covariances at lag 0 and `lag` over all pairs (t, t + lag) inside a part. */
static int covariances(int n_parts, const long *part, int n, const double *features, long lag, double *mean,
                       double *c0, double *ct) {
    double *x = tbg_alloc((size_t)BLOCK * 2, (size_t)n * sizeof *x), *y = x ? x + (size_t)BLOCK * n : NULL;
    if (!x)
        return TBG_FAILED;
    double pairs = 0;
    memset(mean, 0, (size_t)n * sizeof *mean);
    for (int pass = 0; pass < 2; pass++)
        for (int p = 0; p < n_parts; p++)
            for (long t = part[p]; t + lag < part[p + 1]; t += BLOCK) {
                long m = part[p + 1] - lag - t < BLOCK ? part[p + 1] - lag - t : BLOCK;
                const double *early = features + (size_t)t * n, *late = features + (size_t)(t + lag) * n;
                if (pass == 0) {
                    for (long k = 0; k < m; k++)
                        for (int i = 0; i < n; i++)
                            mean[i] += 0.5 * (early[k * n + i] + late[k * n + i]);
                    pairs += (double)m;
                    continue;
                }
                for (long k = 0; k < m; k++)
                    for (int i = 0; i < n; i++) {
                        x[k * n + i] = early[k * n + i] - mean[i] / pairs;
                        y[k * n + i] = late[k * n + i] - mean[i] / pairs;
                    }
                accumulate(n, (int)m, x, x, c0);
                accumulate(n, (int)m, y, y, c0);
                accumulate(n, (int)m, x, y, ct);
            }
    for (int i = 0; i < n; i++) {
        mean[i] /= pairs;
        for (int j = 0; j <= i; j++) {
            size_t ij = (size_t)i * n + j, ji = (size_t)j * n + i;
            c0[ij] = c0[ji] = c0[ij] / (2 * pairs);
            ct[ij] = ct[ji] = (ct[ij] + ct[ji]) / (2 * pairs);
        }
    }
    free(x);
    return TBG_OK;
}

/* C(t) v = lambda C(0) v by whitening. values, vectors, small, rotated: scratch. */
static int solve(int n, double *c0, double *ct, double *values, double *vectors, double *small,
                 double *rotated, tbg_tica *out) {
    TBG_TRY(tbg_eigen_symmetric(n, c0, values, vectors));
    int rank = 0;
    while (rank < n && values[rank] > RANK_TOLERANCE * values[0] && values[rank] > 0)
        rank++;
    if (!rank)
        return tbg_fail(TBG_FAILED, "TICA: the features do not vary");
    for (int r = 0; r < rank; r++)
        for (int i = 0; i < n; i++)
            vectors[(size_t)r * n + i] /= sqrt(values[r]);
    /* small = W Ct W^T, W = vectors [rank][n]; c0 is free: c0 = W Ct. */
    memset(c0, 0, (size_t)n * (size_t)n * sizeof *c0);
    for (int r = 0; r < rank; r++)
        for (int i = 0; i < n; i++) {
            double w = vectors[(size_t)r * n + i];
            for (int j = 0; j < n; j++)
                c0[(size_t)r * n + j] += w * ct[(size_t)i * n + j];
        }
    for (int r = 0; r < rank; r++)
        for (int q = 0; q < rank; q++) {
            double sum = 0;
            for (int j = 0; j < n; j++)
                sum += c0[(size_t)r * n + j] * vectors[(size_t)q * n + j];
            small[(size_t)r * rank + q] = sum;
        }
    TBG_TRY(tbg_eigen_symmetric(rank, small, values, rotated));
    out->n_components = rank < 2 ? rank : 2;
    for (int k = 0; k < out->n_components; k++) {
        out->values[k] = values[k];
        double *v = out->vectors + (size_t)k * n, largest = 0, sign = 1;
        for (int r = 0; r < rank; r++)
            for (int i = 0; i < n; i++)
                v[i] += rotated[(size_t)k * rank + r] * vectors[(size_t)r * n + i];
        for (int i = 0; i < n; i++)
            if (fabs(v[i]) > largest) { /* a sign that does not depend on the solver */
                largest = fabs(v[i]);
                sign = v[i] < 0 ? -1 : 1;
            }
        for (int i = 0; i < n; i++)
            v[i] *= sign * values[k];
    }
    return TBG_OK;
}

int tbg_tica_fit(int n_parts, const long *part, int n_features, const double *features, long lag,
                 tbg_tica *out) {
    *out = (tbg_tica){.n_features = n_features};
    int n = n_features, pairs = 0;
    for (int p = 0; p < n_parts; p++)
        pairs |= part[p + 1] - part[p] > lag;
    if (n < 1 || lag < 1 || !pairs)
        return tbg_fail(TBG_INPUT, "TICA: no two frames are %ld frames apart", lag);
    size_t square = (size_t)n * (size_t)n;
    double *all = tbg_alloc(5 * square + (size_t)n, sizeof *all);
    out->mean = TBG_NEW(double, n);
    out->vectors = TBG_NEW(double, 2 * (size_t)n);
    int status = all && out->mean && out->vectors ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK)
        status = covariances(n_parts, part, n, features, lag, out->mean, all, all + square);
    if (status == TBG_OK)
        status = solve(n, all, all + square, all + 5 * square, all + 2 * square, all + 3 * square,
                       all + 4 * square, out);
    free(all);
    if (status != TBG_OK)
        tbg_tica_free(out);
    return status;
}

void tbg_tica_free(tbg_tica *t) {
    free(t->mean);
    free(t->vectors);
    t->mean = t->vectors = NULL;
}

void tbg_tica_project(const tbg_tica *t, long n, const double *features, double *projection) {
    for (long s = 0; s < n; s++)
        for (int k = 0; k < t->n_components; k++) {
            double sum = 0;
            for (int i = 0; i < t->n_features; i++)
                sum += (features[(size_t)s * t->n_features + i] - t->mean[i]) *
                       t->vectors[(size_t)k * t->n_features + i];
            projection[s * t->n_components + k] = sum;
        }
}
