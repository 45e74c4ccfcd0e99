/* align.c: couplings of prior and data that shorten the paths: the best rotation of one cloud of points onto
 * another (quaternion form of Horn, J. Opt. Soc. Am. A 4, 629, 1987), and the assignment of least total cost
 * (shortest augmenting paths with potentials). Valid for a field that commutes with whatever moves the prior:
 * the orbit of x0 is still that of a normal random point, and loss and density know orbits only. The field
 * of SPEC 2.1 commutes with rotations, the reflection (not if it has virtual sites), and permutations of
 * atoms it cannot tell apart. */
#include "base/memory.h"
#include "training/internal.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Largest eigenvalue and its eigenvector of a symmetric 4x4 matrix, by Jacobi rotations. */
static double largest_eigenvector(double a[4][4], double q[4]) {
    double v[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    for (int sweep = 0; sweep < 50; sweep++) {
        double off = 0, all = 0;
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                all += a[i][j] * a[i][j];
                off += i != j ? a[i][j] * a[i][j] : 0;
            }
        if (!(off > 1e-30 * all))
            break;
        for (int p = 0; p < 3; p++)
            for (int r = p + 1; r < 4; r++) {
                if (a[p][r] == 0)
                    continue;
                double theta = (a[r][r] - a[p][p]) / (2 * a[p][r]);
                double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < 4; k++) {
                    double x = a[k][p], y = a[k][r];
                    a[k][p] = c * x - s * y;
                    a[k][r] = s * x + c * y;
                }
                for (int k = 0; k < 4; k++) {
                    double x = a[p][k], y = a[r][k];
                    a[p][k] = c * x - s * y;
                    a[r][k] = s * x + c * y;
                    x = v[k][p];
                    y = v[k][r];
                    v[k][p] = c * x - s * y;
                    v[k][r] = s * x + c * y;
                }
            }
    }
    int best = 0;
    for (int i = 1; i < 4; i++)
        if (a[i][i] > a[best][best])
            best = i;
    for (int i = 0; i < 4; i++)
        q[i] = v[i][best];
    return a[best][best];
}

/* Returns the largest sum_i (R x_i) . y_i; q: the rotation. */
static double best_rotation(int n, const double *x, const double *y, double q[4]) {
    double s[3][3] = {{0}};
    for (int i = 0; i < n; i++)
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++)
                s[a][b] += x[3 * i + a] * y[3 * i + b];
    double k[4][4] = {
        {s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]},
        {s[1][2] - s[2][1], s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]},
        {s[2][0] - s[0][2], s[0][1] + s[1][0], -s[0][0] + s[1][1] - s[2][2], s[1][2] + s[2][1]},
        {s[0][1] - s[1][0], s[2][0] + s[0][2], s[1][2] + s[2][1], -s[0][0] - s[1][1] + s[2][2]},
    };
    return largest_eigenvector(k, q);
}

static double squares(int n, const double *x) {
    double sum = 0;
    for (int i = 0; i < 3 * n; i++)
        sum += x[i] * x[i];
    return sum;
}

double tbg_aligned_distance2(int n, const double *x, const double *y) {
    double q[4];
    return squares(n, x) + squares(n, y) - 2 * best_rotation(n, x, y, q);
}

static void turn(int n, double *x, const double q[4]) {
    double w = q[0], a = q[1], b = q[2], c = q[3];
    double r[3][3] = {{w * w + a * a - b * b - c * c, 2 * (a * b - w * c), 2 * (a * c + w * b)},
                      {2 * (a * b + w * c), w * w - a * a + b * b - c * c, 2 * (b * c - w * a)},
                      {2 * (a * c - w * b), 2 * (b * c + w * a), w * w - a * a - b * b + c * c}};
    for (int i = 0; i < n; i++) {
        double p[3] = {x[3 * i], x[3 * i + 1], x[3 * i + 2]};
        for (int d = 0; d < 3; d++)
            x[3 * i + d] = r[d][0] * p[0] + r[d][1] * p[1] + r[d][2] * p[2];
    }
}

void tbg_align(int n, double *x, const double *y) {
    double q[4];
    best_rotation(n, x, y, q);
    turn(n, x, q);
}

void tbg_interchangeable(const tbg_conditioning *m, int *group) {
    int n = m->n_atoms;
    size_t features = (size_t)m->n_features;
    for (int i = 0; i < n; i++) {
        group[i] = i;
        for (int j = 0; j < i && group[i] == i; j++) {
            int same = group[j] == j &&
                       !memcmp(m->node_features + (size_t)i * features,
                               m->node_features + (size_t)j * features, features * sizeof *m->node_features);
            for (int k = 0; same && k < n; k++) {
                size_t a = (size_t)i * (size_t)n + (size_t)k, b = (size_t)j * (size_t)n + (size_t)k;
                if (k == i || k == j)
                    continue;
                same = (!m->bond_class || m->bond_class[a] == m->bond_class[b]) &&
                       (!m->pair_mean || m->pair_mean[a] == m->pair_mean[b]) &&
                       (!m->pair_width || m->pair_width[a] == m->pair_width[b]);
            }
            if (same)
                group[i] = j;
        }
    }
}

/* The atoms of a group in the order that brings x nearest to y; *changed counts the groups that moved. */
static int permute_groups(int n, double *x, const double *y, const int *group, double *scratch,
                          int *changed) {
    double *cost = scratch, *old = scratch + (size_t)n * (size_t)n;
    int status = TBG_OK;
    for (int first = 0; status == TBG_OK && first < n; first++) {
        int m = 0, moved = 0;
        if (group[first] != first)
            continue;
        int member[TBG_GROUP_MOST], to[TBG_GROUP_MOST];
        for (int i = first; i < n && m < TBG_GROUP_MOST; i++)
            if (group[i] == first)
                member[m++] = i;
        if (m < 2)
            continue;
        for (int a = 0; a < m; a++) {
            memcpy(old + 3 * a, x + 3 * member[a], 3 * sizeof *x);
            for (int b = 0; b < m; b++) {
                const double *p = x + 3 * member[a], *r = y + 3 * member[b];
                cost[a * m + b] = -(p[0] * r[0] + p[1] * r[1] + p[2] * r[2]);
            }
        }
        status = tbg_assign(m, cost, to);
        for (int a = 0; status == TBG_OK && a < m; a++) {
            memcpy(x + 3 * member[to[a]], old + 3 * a, 3 * sizeof *x);
            moved |= to[a] != a;
        }
        *changed += moved;
    }
    return status;
}

int tbg_align_full(int n, double *x, const double *y, const int *group, int reflect, int rounds,
                   double *scratch) {
    for (int round = 0; round < rounds; round++) {
        double q[4], mirrored[4], proper = best_rotation(n, x, y, q);
        int mirror = 0;
        if (reflect) {
            for (int k = 0; k < 3 * n; k++)
                x[k] = -x[k];
            mirror = !(best_rotation(n, x, y, mirrored) < proper);
            for (int k = 0; k < 3 * n && !mirror; k++)
                x[k] = -x[k];
        }
        turn(n, x, mirror ? mirrored : q);
        int changed = 0;
        if (group)
            TBG_TRY(permute_groups(n, x, y, group, scratch, &changed));
        if (!changed)
            break;
    }
    return TBG_OK;
}

int tbg_assign(int n, const double *cost, int *assignment) {
    /* Rows are added one by one; u and v are the dual potentials, index 0 is a virtual column. */
    double *u = TBG_NEW(double, n + 1), *v = TBG_NEW(double, n + 1), *least = TBG_NEW(double, n + 1);
    int *row = TBG_NEW(int, n + 1), *way = TBG_NEW(int, n + 1);
    char *used = TBG_NEW(char, n + 1);
    int status = u && v && least && row && way && used ? TBG_OK : TBG_FAILED;
    for (int i = 1; status == TBG_OK && i <= n; i++) {
        int column = 0;
        row[0] = i;
        for (int j = 0; j <= n; j++) {
            least[j] = INFINITY;
            used[j] = 0;
        }
        do {
            int from = row[column], next = -1;
            double step = INFINITY;
            used[column] = 1;
            for (int j = 1; j <= n; j++) {
                if (used[j])
                    continue;
                double reduced = cost[(size_t)(from - 1) * (size_t)n + (size_t)(j - 1)] - u[from] - v[j];
                if (reduced < least[j]) {
                    least[j] = reduced;
                    way[j] = column;
                }
                if (least[j] < step) {
                    step = least[j];
                    next = j;
                }
            }
            if (next < 0) { /* only with costs that are not finite */
                status = tbg_fail(TBG_FAILED, "optimal transport: costs are not finite");
                break;
            }
            for (int j = 0; j <= n; j++)
                if (used[j]) {
                    u[row[j]] += step;
                    v[j] -= step;
                } else
                    least[j] -= step;
            column = next;
        } while (row[column]);
        while (status == TBG_OK && column) {
            row[column] = row[way[column]];
            column = way[column];
        }
    }
    for (int j = 1; status == TBG_OK && j <= n; j++)
        assignment[row[j] - 1] = j - 1;
    free(u);
    free(v);
    free(least);
    free(row);
    free(way);
    free(used);
    return status;
}
