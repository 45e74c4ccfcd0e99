/* cpu_closing_simd.c: the last two layers of the exact divergence, by reverse mode.
 *
 * Owns: the layer before the last. Refuses: everything before it (cpu_divergence_simd.c).
 * The last layer looks at direction (a, alpha) through covectors at the h of every neighbour j of a that
 * depend on alpha by a factor only: f_alpha b_aj. Taken back through the layer before (its node update and
 * its messages), one covector serves three directions, so that an edge costs a third of the products of
 * forward mode. Positions go forward as before: they need dots with q only. Per edge (j, k) and covector mu
 * at the summed messages of j, mu . m_dot_jk = R . pre1_dot_jk,  R = d1 (W2^T (gate d2 mu) + (a2 . mu) p). */
#include "network/cpu_divergence.h"
#include <string.h>

/* A covector at the h of node j, for the three directions of atom a0 + atom: factor[alpha] each; alpha >= 0:
 * for that direction only. */
typedef struct {
    const float *h, *mu;
    float factor[3];
    int atom, alpha;
} covector;

enum { MOST_COVECTORS = TBG_CPU_BLOCK };

/* Through h(l + 1) = h + W5 silu(W4 [h, sum]): beta becomes the covector at h, mu that at the sum. node: of
 * each row, or row / 3. */
static void nodes_reverse(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int M, const int *edges,
                          int thirds, float *beta, float *mu) {
    const int hp = net->hp, nv = hp / VW, most = D * work->n < net->tile ? D * work->n : net->tile;
    const size_t row = (size_t)hp;
    const float *zero = net->w + net->zero;
    float *both = work->ab_dot, *rho = work->rows;
    for (int m0 = 0; m0 < M; m0 += most) {
        const int rows = M - m0 < most ? M - m0 : most;
        float *b = beta + (size_t)m0 * row;
        gemm_packed(rows, nv, hp, b, row, net->wt + net->layer_t[l].w5, zero, rho, row);
        for (int m = 0; m < rows; m++) {
            int node = thirds ? (m0 + m) / 3 : work->sender[edges ? edges[m0 + m] : m0 + m];
            for (int c = 0; c < nv; c++) {
                float *r = rho + (size_t)m * row + c * VW;
                store(r, load(r) * load(work->dnode + (size_t)node * row + c * VW));
            }
        }
        gemm_packed(rows, 2 * nv, hp, rho, row, net->wt + net->layer_t[l].w4, zero, both, 2 * row);
        for (int m = 0; m < rows; m++)
            for (int c = 0; c < nv; c++) {
                const float *x = both + (size_t)m * 2 * row + c * VW;
                store(b + (size_t)m * row + c * VW, load(b + (size_t)m * row + c * VW) + load(x));
                store(mu + (size_t)(m0 + m) * row + c * VW, load(x + row));
            }
    }
}

/* Gradient of the trace at A_a of the last layer, taken to h_a: [3 N][HP]. */
static void own_rows(const tbg_cpu_net *net, tbg_cpu_work *work, const tbg_cpu_work *last, int l) {
    const int hp = net->hp, nv = hp / VW, n = work->n;
    const size_t row = (size_t)hp, E = (size_t)work->capacity;
    float *sum = work->own_mu;
    memset(sum, 0, sizeof(float) * 3 * (size_t)n * row);
    for (int e = 0; e < work->n_edges; e++) {
        const int a = work->receiver[e], h = work->harmonic_of[e];
        for (int alpha = 0; alpha < 3; alpha++) {
            float *s = sum + (size_t)(3 * a + alpha) * row;
            float f = net->range * last->scale[e] * last->d[(size_t)alpha * E + (size_t)e];
            for (int c = 0; c < nv; c++)
                store(s + c * VW, load(s + c * VW) + f * load(last->pre3 + (size_t)e * row + c * VW));
            for (int c = 0; h >= 0 && c < nv; c++)
                store(s + c * VW, load(s + c * VW) + work->push[(size_t)alpha * E + (size_t)e] *
                                                         load(last->qh + (size_t)h * row + c * VW));
        }
    }
    gemm_packed_part(3 * n, nv, hp, 2 * hp, 0, sum, row, net->wt + net->layer_t[l].w1, net->w + net->zero,
                     work->own, row);
}

static int list_covectors(const tbg_cpu_net *net, const tbg_cpu_work *work, const tbg_cpu_work *last, int j,
                          int a0, int atoms, covector *list) {
    const size_t row = (size_t)net->hp, E = (size_t)work->capacity;
    int count = 0;
    for (int k = 0; k < atoms; k++) {
        const int a = a0 + k;
        if (a == j) {
            for (int alpha = 0; alpha < 3; alpha++) {
                size_t at = (size_t)(3 * a + alpha) * row;
                list[count++] = (covector){
                    work->own + at, work->own_mu + at, {alpha == 0, alpha == 1, alpha == 2}, k, alpha};
            }
            continue;
        }
        const size_t e = edge_of(work->n, a, j);
        covector v = {last->pre2 + e * row, last->a2 + e * row, {0}, k, -1};
        for (int alpha = 0; alpha < 3; alpha++)
            v.factor[alpha] = net->range * last->scale[e] * last->d[(size_t)alpha * E + e];
        list[count++] = v;
        const int h = work->harmonic_of[e];
        if (h < 0)
            continue;
        v.h = last->p + (size_t)h * row;
        v.mu = last->pre1 + (size_t)h * row;
        for (int alpha = 0; alpha < 3; alpha++)
            v.factor[alpha] = work->push[(size_t)alpha * E + e];
        list[count++] = v;
    }
    return count;
}

/* Sums over channels of one atom's three directions: s[alpha] = q . pre_alpha (as lanes), and the return
 * value sum_alpha R_alpha . pre_alpha with R_alpha = sum of f[r][alpha] R[r] over `count` rows. */
INLINE vf three_directions(const int count, int nv, const float *a, const float *b, size_t step,
                           const float *r_dot, const float *wr, const float *q, const float *const *R,
                           const float (*f)[3], vf *s) {
    vf t = {0}, s0 = {0}, s1 = {0}, s2 = {0};
    for (int c = 0; c < nv; c++) {
        const vf w = load(wr + c * VW), qc = load(q + c * VW);
        vf x = load(a + c * VW) + load(b + c * VW) + r_dot[0] * w;
        vf y = load(a + step + c * VW) + load(b + step + c * VW) + r_dot[1] * w;
        vf z = load(a + 2 * step + c * VW) + load(b + 2 * step + c * VW) + r_dot[2] * w;
        s0 += qc * x;
        s1 += qc * y;
        s2 += qc * z;
#pragma GCC unroll 3
        for (int r = 0; r < count; r++)
            t += load(R[r] + c * VW) * (f[r][0] * x + f[r][1] * y + f[r][2] * z);
    }
    s[0] = s0;
    s[1] = s1;
    s[2] = s2;
    return t;
}

/* One edge (j, k) of the layer before the last. R: rows of the covectors, d1 included. Returns its part of
 * the trace. */
static float closing_edge(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int j, int k, int a0, int atoms,
                          const covector *list, int count, const float *R, const float *x_dot, float *move) {
    const int hp = net->hp, nv = hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)hp, E = (size_t)work->capacity, e = edge_of(n, j, k), step = 2 * row;
    const float *wr = net->we_rows + (size_t)l * (size_t)net->ke * row;
    const float *a = work->ab_dot + (size_t)j * (size_t)dirs * step;
    const float *b = work->ab_dot + (size_t)k * (size_t)dirs * step + row;
    float r_dot[DP] __attribute__((aligned(64))), s_dot[DP] __attribute__((aligned(64)));
    float g_dot[DP] __attribute__((aligned(64)));
    float *q = work->t2, *ve = work->t2 + row, *qh = work->t2 + 2 * row;
    const float *xj = x_dot + (size_t)(3 * j) * DP, *xk = x_dot + (size_t)(3 * k) * DP;
    const int h = work->harmonic_of[e];
    vf s_sum[DP], t = {0}, g_sum[DP];
    for (int c = 0; c < nv; c++)
        store(q + c * VW, load(work->pre3 + e * row + c * VW) * load(work->pre1 + e * row + c * VW));
    for (int d = 0; d < DP; d += VW)
        store(r_dot + d, 2.0f * (work->d[e] * (load(xj + d) - load(xk + d)) +
                                 work->d[E + e] * (load(xj + DP + d) - load(xk + DP + d)) +
                                 work->d[2 * E + e] * (load(xj + 2 * DP + d) - load(xk + 2 * DP + d))));
    for (int r = 0; r < count;) {
        const int atom = list[r].atom, d = 3 * atom;
        const float *rows[3];
        float f[3][3];
        int same = 0;
        for (; r < count && list[r].atom == atom; r++, same++) {
            rows[same] = R + (size_t)r * row;
            memcpy(f[same], list[r].factor, sizeof f[same]);
        }
        const float *ad = a + (size_t)d * step, *bd = b + (size_t)d * step;
        if (same == 1)
            t += three_directions(1, nv, ad, bd, step, r_dot + d, wr, q, rows, (const float(*)[3])f,
                                  s_sum + d);
        else if (same == 2)
            t += three_directions(2, nv, ad, bd, step, r_dot + d, wr, q, rows, (const float(*)[3])f,
                                  s_sum + d);
        else
            t += three_directions(3, nv, ad, bd, step, r_dot + d, wr, q, rows, (const float(*)[3])f,
                                  s_sum + d);
    }
    for (int d = dirs; d < DP; d++)
        s_sum[d] = g_sum[d] = (vf){0};
    if (h >= 0) {
        for (int c = 0; c < nv; c++)
            store(qh + c * VW,
                  load(work->qh + (size_t)h * row + c * VW) * load(work->pre1 + e * row + c * VW));
        for (int d = 0; d < dirs; d += 3)
            three_directions(0, nv, a + (size_t)d * step, b + (size_t)d * step, step, r_dot + d, wr, qh, NULL,
                             NULL, g_sum + d);
    }
    for (int d = 0; d < DP; d += VW) {
        store(s_dot + d, lane_sums(s_sum + d));
        if (h >= 0)
            store(g_dot + d, lane_sums(g_sum + d));
    }
    float trace = 0;
    for (int r = 0; r < VW; r++)
        trace += t[r];
    /* The input distance changes for the two atoms' own directions only. */
    if (net->ke > 1)
        for (int side = 0; side < 2; side++) {
            const int atom = (side ? k : j) - a0;
            if (atom < 0 || atom >= atoms)
                continue;
            slope_row(net, work, l, e, 0, ve);
            float q_ve = dot(nv, q, ve), qh_ve = h >= 0 ? dot(nv, qh, ve) : 0, u[3];
            for (int alpha = 0; alpha < 3; alpha++) {
                u[alpha] = (side ? -1.0f : 1.0f) * work->unit[(size_t)alpha * E + e];
                s_dot[3 * atom + alpha] += u[alpha] * q_ve;
                if (h >= 0)
                    g_dot[3 * atom + alpha] += u[alpha] * qh_ve;
            }
            for (int r = 0; r < count; r++)
                if (list[r].atom == atom)
                    trace += dot(nv, R + (size_t)r * row, ve) *
                             (u[0] * list[r].factor[0] + u[1] * list[r].factor[1] + u[2] * list[r].factor[2]);
        }
    move_edge(net, work, e, j, k, a0, atoms, xj, xk, r_dot, s_dot, g_dot, move);
    return trace;
}

/* Rows R of the covectors of j for edges (j, k), k from k0; returns how many edges fitted. */
static int covector_rows(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int j, int k0,
                         const covector *list, int count, float *R) {
    const int hp = net->hp, nv = hp / VW, n = work->n;
    const size_t row = (size_t)hp;
    float *y = work->rows, z[128];
    int rows = 0, k = k0;
    for (; k < n && rows + count <= net->tile; k++) {
        if (k == j)
            continue;
        const size_t e = edge_of(n, j, k);
        for (int r = 0; r < count; r++) {
            vf sum = {0};
            for (int c = 0; c < nv; c++) {
                vf mu = load(list[r].mu + c * VW);
                store(y + (size_t)(rows + r) * row + c * VW, mu * load(work->pre2 + e * row + c * VW));
                sum += mu * load(work->a2 + e * row + c * VW);
            }
            float total = 0;
            for (int q = 0; q < VW; q++)
                total += sum[q];
            z[rows + r] = total;
        }
        rows += count;
    }
    gemm_packed(rows, nv, hp, y, row, net->wt + net->layer_t[l].w2, net->w + net->zero, R, row);
    rows = 0;
    for (int q = k0; q < k; q++) {
        if (q == j)
            continue;
        const size_t e = edge_of(n, j, q) * row;
        for (int r = 0; r < count; r++, rows++)
            for (int c = 0; c < nv; c++) {
                float *x = R + (size_t)rows * row + c * VW;
                store(x, (load(x) + z[rows] * load(work->p + e + c * VW)) * load(work->pre1 + e + c * VW));
            }
    }
    return k - k0;
}

static double closing_block(const tbg_cpu_net *net, tbg_cpu_work *work, const tbg_cpu_work *last, int l,
                            int a0, int atoms, float *x_dot, const float *h_dot) {
    const int hp = net->hp, nv = hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)hp;
    covector list[MOST_COVECTORS];
    double trace = 0;
    gemm_packed(n * dirs, 2 * nv, hp, h_dot, row, net->w + net->layer[l].w1, net->w + net->zero, work->ab_dot,
                2 * row);
    memset(work->moves, 0, sizeof(float) * (size_t)n * 3 * DP);
    for (int j = 0; j < n; j++) {
        const int count = list_covectors(net, work, last, j, a0, atoms, list);
        for (int r = 0; r < count; r++)
            for (int alpha = 0; alpha < 3; alpha++)
                if (list[r].alpha < 0 || list[r].alpha == alpha)
                    trace +=
                        (double)(list[r].factor[alpha] *
                                 dot(nv, list[r].h,
                                     h_dot + ((size_t)j * (size_t)dirs + (size_t)(3 * list[r].atom + alpha)) *
                                                 row));
        for (int k0 = 0; k0 < n;) {
            const int edges = covector_rows(net, work, l, j, k0, list, count, work->t1);
            const float *R = work->t1;
            for (int k = k0; k < k0 + edges; k++) {
                if (k == j)
                    continue;
                trace += (double)closing_edge(net, work, l, j, k, a0, atoms, list, count, R, x_dot,
                                              work->moves + (size_t)(3 * j) * DP);
                R += (size_t)count * row;
            }
            k0 += edges;
        }
    }
    for (size_t k = 0; k < (size_t)n * 3 * DP; k += VW)
        store(x_dot + k, load(x_dot + k) + load(work->moves + k));
    return trace;
}

double closing_layers(const tbg_cpu_net *net, tbg_cpu_work *work) {
    const int n = work->n, l = net->layers - 2, atoms_most = TBG_CPU_BLOCK / 3;
    const size_t E = (size_t)work->capacity, x_block = (size_t)n * 3 * DP;
    const size_t h_block = (size_t)n * D * (size_t)net->hp;
    double trace = 0;
    primal_layer(net, work, l);
    tbg_cpu_work last = *work; /* the same room with other shelves for what a layer leaves on its edges */
    last.pre1 = work->last_shelves[0];
    last.pre2 = work->last_shelves[1];
    last.pre3 = work->last_shelves[2];
    last.a2 = work->last_shelves[3];
    last.p = work->last_shelves[4];
    last.qh = work->last_shelves[5];
    last.gate = work->last_scalars;
    last.s = work->last_scalars + E;
    last.g = work->last_scalars + 2 * E;
    last.d = work->last_scalars + 3 * E;
    last.r2 = work->last_scalars + 6 * E;
    last.scale = work->last_scalars + 7 * E;
    primal_layer(net, &last, l + 1);
    last_edges(net, &last, l + 1, 1);
    own_rows(net, work, &last, l + 1);
    nodes_reverse(net, work, l, work->n_edges, NULL, 0, last.pre2, last.a2);
    nodes_reverse(net, work, l, work->n_harmonic, work->harmonic, 0, last.p, last.pre1);
    nodes_reverse(net, work, l, 3 * n, NULL, 1, work->own, work->own_mu);
    for (int a0 = 0, block = 0; a0 < n; a0 += atoms_most, block++) {
        const int atoms = n - a0 < atoms_most ? n - a0 : atoms_most;
        float *x_dot = work->x_dot + (size_t)block * x_block;
        trace += closing_block(net, work, &last, l, a0, atoms, x_dot, work->h_dot + (size_t)block * h_block);
        trace += last_block(net, &last, l + 1, a0, atoms, x_dot, NULL, 0);
    }
    return trace;
}
