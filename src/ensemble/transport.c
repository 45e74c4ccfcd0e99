/* transport.c: exact optimal transport: weighted sets of numbers by their quantile functions, equal-size sets
 * of points by an assignment. Given costs: shortest augmenting paths (Jonker and Volgenant 1987: column
 * reduction, augmenting row reduction, paths), exact and cubic. Points in space: the auction, whose time
 * grows more like the square; costs are recomputed row by row, so that 10,000 points need no matrix. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "base/progress.h"
#include "ensemble/auction.h"
#include "ensemble/spread.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- on the line ---- */

typedef struct {
    double x, w;
} weighted;

static int compare_weighted(const void *a, const void *b) {
    double x = ((const weighted *)a)->x, y = ((const weighted *)b)->x;
    return (x > y) - (x < y);
}

static weighted *sorted(long n, const double *x, const double *w) {
    weighted *s = TBG_NEW(weighted, n);
    double sum = 0;
    for (long i = 0; i < n; i++)
        sum += w ? w[i] : 1;
    for (long i = 0; s && i < n; i++)
        s[i] = (weighted){x[i], (w ? w[i] : 1) / sum};
    if (s)
        qsort(s, (size_t)n, sizeof *s, compare_weighted);
    return s;
}

int tbg_wasserstein_line(long n, const double *x, const double *wx, long m, const double *y, const double *wy,
                         double *w1, double *w2) {
    *w1 = *w2 = NAN;
    if (n < 1 || m < 1)
        return TBG_OK;
    weighted *a = sorted(n, x, wx), *b = sorted(m, y, wy);
    int status = a && b ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        /* Walk along both quantile functions, moving the smaller of the two remaining masses. */
        double linear = 0, square = 0;
        for (long i = 0, j = 0; i < n && j < m;) {
            double mass = a[i].w < b[j].w ? a[i].w : b[j].w, distance = fabs(a[i].x - b[j].x);
            linear += mass * distance;
            square += mass * distance * distance;
            a[i].w -= mass;
            b[j].w -= mass;
            if (a[i].w <= 0)
                i++;
            if (b[j].w <= 0)
                j++;
        }
        *w1 = linear;
        *w2 = sqrt(square);
    }
    free(a);
    free(b);
    return status;
}

void tbg_resample(long n, const double *weight, long m, uint64_t seed, long *index) {
    double sum = 0, start, done = 0;
    for (long i = 0; i < n; i++)
        sum += weight[i];
    tbg_random_uniform(seed, TBG_STREAM(TBG_STREAM_BOOTSTRAP, 1ull << 40), 0, 1, &start);
    long i = 0;
    done = n ? weight[0] / sum : 0;
    for (long k = 0; k < m; k++) {
        double at = (start + (double)k) / (double)m;
        while (i < n - 1 && done < at)
            done += weight[++i] / sum;
        index[k] = i;
    }
}

/* ---- assignment ---- */

typedef struct {
    int n, dimension, wrapped;
    const double *matrix; /* [n][n], or NULL and then */
    const double *x, *y;  /* [n][dimension]; [dimension][n] */
} costs;

__attribute__((optimize("O3"))) static void cost_row(const costs *c, int i, double *restrict row) {
    int n = c->n;
    if (c->matrix) {
        memcpy(row, c->matrix + (size_t)i * (size_t)n, (size_t)n * sizeof *row);
        return;
    }
    for (int d = 0; d < c->dimension; d++) {
        double x = c->x[(size_t)i * (size_t)c->dimension + (size_t)d];
        const double *restrict y = c->y + (size_t)d * (size_t)n;
        if (c->wrapped)
            for (int j = 0; j < n; j++) {
                double a = fabs(x - y[j]), b = 2 * M_PI - a, s = a < b ? a : b;
                row[j] = (d ? row[j] : 0) + s * s;
            }
        else
            for (int j = 0; j < n; j++) {
                double a = x - y[j];
                row[j] = (d ? row[j] : 0) + a * a;
            }
    }
}

static void point_costs(const void *context, int i, double *row) {
    cost_row(context, i, row);
}

typedef struct {
    double *v, *row, *distance, *closed; /* [n] column duals; scratch */
    int *row_of, *column_of, *from, *done, *free;
} solver;

/* Each free row takes its best column, whose dual sinks by the lead over the second best; the row that lost
 * the column goes on. Returns the number of rows still free. */
static int reduce_rows(const costs *c, solver *s, int n_free) {
    int n = c->n, kept = 0;
    long budget = 8L * n; /* tiny leads could go on for long; the paths below finish the rest */
    for (int k = 0; k < n_free;) {
        int i = s->free[k++];
        for (;;) {
            cost_row(c, i, s->row);
            double best = INFINITY, second = INFINITY;
            int at = -1;
            for (int j = 0; j < n; j++) {
                double r = s->row[j] - s->v[j];
                if (r < second) {
                    if (r < best) {
                        second = best;
                        best = r;
                        at = j;
                    } else
                        second = r;
                }
            }
            int loser = s->row_of[at];
            if (n > 1)
                s->v[at] -= second - best;
            s->row_of[at] = i;
            s->column_of[i] = at;
            if (loser < 0)
                break;
            s->column_of[loser] = -1;
            if (!(second - best > 0) || --budget < 0) {
                s->free[kept++] = loser; /* kept < k always: row k - 1 has been placed */
                break;
            }
            i = loser;
        }
    }
    return kept;
}

/* Relax all columns through row i, reached at cost `base`; returns the least distance of an open column. */
__attribute__((optimize("O3"))) static double relax(int n, const double *restrict row,
                                                    const double *restrict v, double base, int i,
                                                    const double *restrict closed, double *restrict distance,
                                                    int *restrict from) {
    double least = INFINITY;
    for (int j = 0; j < n; j++) {
        double through = base + (row[j] - v[j]);
        /* A closed column cannot get nearer, up to rounding, which must not change its path. */
        int better = through + closed[j] < distance[j];
        distance[j] = better ? through : distance[j];
        from[j] = better ? i : from[j];
        double open = distance[j] + closed[j];
        least = open < least ? open : least;
    }
    return least;
}

static void augment(const costs *c, solver *s, int start) {
    int n = c->n, i = start, n_done = 0, sink;
    double base = 0, reached;
    for (int j = 0; j < n; j++) {
        s->distance[j] = INFINITY;
        s->closed[j] = 0;
        s->from[j] = -1;
    }
    for (;;) {
        cost_row(c, i, s->row);
        if (i != start) {
            int own = s->column_of[i];
            base = s->distance[own] - (s->row[own] - s->v[own]);
        }
        reached = relax(n, s->row, s->v, base, i, s->closed, s->distance, s->from);
        int at = -1;
        for (int j = 0; j < n && at < 0; j++)
            if (s->distance[j] + s->closed[j] == reached)
                at = j;
        if (s->row_of[at] < 0) {
            sink = at;
            break;
        }
        s->closed[at] = INFINITY;
        s->done[n_done++] = at;
        i = s->row_of[at];
    }
    for (int k = 0; k < n_done; k++)
        s->v[s->done[k]] += s->distance[s->done[k]] - reached;
    for (int j = sink;;) {
        int row = s->from[j], next = s->column_of[row];
        s->row_of[j] = row;
        s->column_of[row] = j;
        if (row == start)
            break;
        j = next;
    }
}

static int solve(const costs *c, int *column, double *total) {
    int n = c->n;
    *total = 0;
    if (n < 1)
        return TBG_OK;
    double *real = tbg_alloc(4 * (size_t)n, sizeof *real);
    int *whole = tbg_alloc(5 * (size_t)n, sizeof *whole);
    if (!real || !whole) {
        free(real);
        free(whole);
        return TBG_FAILED;
    }
    solver s = {real,      real + n,      real + 2 * n,  real + 3 * n, whole,
                whole + n, whole + 2 * n, whole + 3 * n, whole + 4 * n};
    for (int j = 0; j < n; j++) {
        s.v[j] = INFINITY;
        s.row_of[j] = s.column_of[j] = -1;
    }
    for (int i = 0; i < n; i++) { /* column reduction */
        cost_row(c, i, s.row);
        for (int j = 0; j < n; j++)
            if (s.row[j] < s.v[j]) {
                s.v[j] = s.row[j];
                s.from[j] = i;
            }
    }
    for (int j = n - 1; j >= 0; j--)
        if (s.column_of[s.from[j]] < 0) {
            s.row_of[j] = s.from[j];
            s.column_of[s.from[j]] = j;
        }
    int n_free = 0, status = TBG_OK;
    for (int i = 0; i < n; i++)
        if (s.column_of[i] < 0)
            s.free[n_free++] = i;
    for (int pass = 0; pass < 3 && n_free; pass++)
        n_free = reduce_rows(c, &s, n_free);
    for (int k = 0; k < n_free && status == TBG_OK; k++) {
        augment(c, &s, s.free[k]);
        if (tbg_interrupted())
            status = tbg_fail(TBG_FAILED, "interrupted");
    }
    for (int i = 0; status == TBG_OK && i < n; i++) {
        cost_row(c, i, s.row);
        *total += s.row[s.column_of[i]];
        if (column)
            column[i] = s.column_of[i];
    }
    free(real);
    free(whole);
    return status;
}

int tbg_transport_assign(int n, const double *cost, int *column, double *total) {
    for (size_t i = 0; i < (size_t)n * (size_t)n; i++)
        if (!isfinite(cost[i]))
            return tbg_fail(TBG_INPUT, "assignment: cost of row %zu, column %zu is not finite", i / (size_t)n,
                            i % (size_t)n);
    costs c = {.n = n, .matrix = cost};
    return solve(&c, column, total);
}

/* Standard error of the mean of g over points that are in order of time: from contiguous blocks. */
static double block_variance(int n, const double *g) {
    int blocks = n / 2 < TBG_BLOCKS ? n / 2 : TBG_BLOCKS;
    double mean = 0, square = 0;
    if (blocks < 2)
        return 0;
    for (int i = 0; i < n; i++)
        mean += g[i] / n;
    for (int b = 0; b < blocks; b++) {
        int first = (int)((long)b * n / blocks), end = (int)((long)(b + 1) * n / blocks);
        double sum = 0;
        for (int i = first; i < end; i++)
            sum += g[i] - mean;
        square += pow(sum / (end - first), 2);
    }
    return square / blocks / (blocks - 1);
}

/* Variance of W2^2 as far as it comes from the samples: sum w^2 (f - mean f)^2, f(x) = min over j of cost(x,
 * y_j) + price_j for every sample, drawn or not. */
static int sample_variance(const costs *c, long n, const double *all, const double *weight,
                           const double *price, double *variance) {
    double *f = TBG_NEW(double, n), mean = 0, sum = 0;
    int failed = !f;
    if (failed)
        return TBG_FAILED;
#pragma omp parallel
    {
        double *row = TBG_NEW(double, c->n);
        if (!row) {
#pragma omp atomic write
            failed = 1;
        }
        costs mine = *c;
        mine.x = all;
#pragma omp for
        for (long i = 0; i < n; i++) {
            if (failed || (weight && !(weight[i] > 0)))
                continue;
            mine.x = all + (size_t)i * (size_t)c->dimension;
            cost_row(&mine, 0, row);
            double least = INFINITY;
            for (int j = 0; j < c->n; j++)
                least = fmin(least, row[j] + price[j]);
            f[i] = least;
        }
        free(row);
    }
    for (long i = 0; i < n; i++) {
        double w = weight ? weight[i] : 1.0 / (double)n;
        sum += w;
        mean += w * f[i];
    }
    mean /= sum;
    *variance = 0;
    for (long i = 0; i < n; i++)
        *variance += pow((weight ? weight[i] : 1.0 / (double)n) / sum * (f[i] - mean), 2);
    free(f);
    return failed ? tbg_fail(TBG_FAILED, "out of memory") : TBG_OK;
}

int tbg_wasserstein_points_error(int n, int dimension, int wrapped, const double *x, const double *y,
                                 long n_all, const double *all, const double *weight, double *w2,
                                 double *error) {
    *w2 = *error = NAN;
    if (n < 1 || dimension < 1)
        return TBG_OK;
    double *turned = tbg_alloc((size_t)n, (size_t)(dimension + 1) * sizeof *turned), total;
    if (!turned)
        return TBG_FAILED;
    int status = TBG_OK;
    for (int i = 0; i < n && status == TBG_OK; i++)
        for (int d = 0; d < dimension; d++) {
            size_t at = (size_t)i * (size_t)dimension + (size_t)d;
            turned[(size_t)d * (size_t)n + (size_t)i] = y[at];
            if (!isfinite(x[at]) || !isfinite(y[at]))
                status = tbg_fail(TBG_INPUT, "optimal transport: point %d is not finite", i);
        }
    costs c = {.n = n, .dimension = dimension, .wrapped = wrapped, .x = x, .y = turned};
    double *price = turned + (size_t)n * (size_t)dimension, variance = 0;
    if (status == TBG_OK)
        status = tbg_auction(n, point_costs, &c, &total, price);
    if (status == TBG_OK)
        *w2 = sqrt(total / n);
    if (status == TBG_OK && n_all > 1) {
        status = sample_variance(&c, n_all, all, weight, price, &variance);
        variance += block_variance(n, price);
        if (status == TBG_OK && total > 0)
            *error = sqrt(variance) / (2 * *w2);
    }
    free(turned);
    return status;
}

int tbg_wasserstein_points(int n, int dimension, int wrapped, const double *x, const double *y, double *w2) {
    double error;
    return tbg_wasserstein_points_error(n, dimension, wrapped, x, y, 0, NULL, NULL, w2, &error);
}
