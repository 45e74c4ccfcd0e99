/* cpu_opening_simd.c: the first two layers of the exact divergence, where tangents are still of rank one.
 *
 * Owns: h after the first layer, and the second layer. Refuses: the rest (cpu_divergence_simd.c,
 * cpu_closing_simd.c). In the first layer direction (a, alpha) reaches node i != a through r_ia alone:
 * h_i_dot = c_ia,alpha eta_ia with the factor c = -(x_i - x_a)_alpha / r. So in the second layer the three
 * directions of an atom share a product: sum_i_dot = sum_j M_ij (c_ia W1a eta_ia + c_ja W1b eta_ja + r_ij_dot
 * wr),  M_ij y = gate d2 (W2 d1 y) + a2 (p . d1 y), the first term with the operator sum_j M_ij (one matrix a
 * node), the last with a vector M_ij wr an edge. Only node a's own h_a_dot needs all three. */
#include "network/cpu_divergence.h"
#include <string.h>

/* out = W5 (slope (W4b in)) of layer 0; node of a row: its receiver, or row / 3. */
static void node_rows(const tbg_cpu_net *net, tbg_cpu_work *work, int M, int thirds, const float *in,
                      float *out) {
    const int hp = net->hp, nv = hp / VW;
    const size_t row = (size_t)hp;
    const float *zero = net->w + net->zero;
    for (int m0 = 0; m0 < M; m0 += net->tile) {
        const int rows = M - m0 < net->tile ? M - m0 : net->tile;
        const size_t first = (size_t)m0 * row;
        gemm_packed_part(rows, nv, hp, 2 * hp, hp, in + first, row, net->w + net->layer[0].w4, zero, work->t1,
                         row);
        for (int m = 0; m < rows; m++) {
            const size_t node = (size_t)(thirds ? (m0 + m) / 3 : work->receiver[m0 + m]);
            for (int c = 0; c < nv; c++) {
                float *x = work->t1 + (size_t)m * row + c * VW;
                store(x, load(x) * load(work->dnode + node * row + c * VW));
            }
        }
        gemm_packed(rows, nv, hp, work->t1, row, net->w + net->layer[0].w5, zero, out + first, row);
    }
}

/* After first_edges: eta of every pair (shelf 0) and of the displaced atom itself (own), and h_dot of all
 * blocks. */
void opening_first(const tbg_cpu_net *net, tbg_cpu_work *work) {
    const int nv = net->hp / VW, n = work->n;
    const size_t row = (size_t)net->hp, E = (size_t)work->capacity;
    float *sum = work->own_mu, *eta = work->last_shelves[0];
    memset(sum, 0, sizeof(float) * 3 * (size_t)n * row);
    for (int e = 0; e < work->n_edges; e++)
        for (int alpha = 0; alpha < 3; alpha++) {
            float *s = sum + (size_t)(3 * work->receiver[e] + alpha) * row;
            float u = work->unit[(size_t)alpha * E + (size_t)e];
            for (int c = 0; c < nv; c++)
                store(s + c * VW, load(s + c * VW) + u * load(work->pre3 + (size_t)e * row + c * VW));
        }
    node_rows(net, work, work->n_edges, 0, work->pre3, eta);
    node_rows(net, work, 3 * n, 1, sum, work->own);
    for (int a = 0; a < n; a++) {
        const int a0 = a / (D / 3) * (D / 3), atoms = n - a0 < D / 3 ? n - a0 : D / 3;
        float *h_dot = work->h_dot + (size_t)(a0 / (D / 3)) * (size_t)n * D * row;
        for (int i = 0; i < n; i++)
            for (int alpha = 0; alpha < 3; alpha++) {
                float *h = h_dot + ((size_t)i * 3 * (size_t)atoms + (size_t)(3 * (a - a0) + alpha)) * row;
                if (i == a) {
                    memcpy(h, work->own + (size_t)(3 * a + alpha) * row, sizeof(float) * row);
                    continue;
                }
                const size_t e = edge_of(n, i, a);
                const float f = -work->unit[(size_t)alpha * E + e];
                for (int c = 0; c < nv; c++)
                    store(h + c * VW, f * load(eta + e * row + c * VW));
            }
    }
}

/* out = M_e y for the rows y of edges e0 .. e0 + M - 1. On entry t3 holds y times d1. */
static void edge_operator(const tbg_cpu_net *net, tbg_cpu_work *work, int e0, int M, float *out) {
    const int hp = net->hp, nv = hp / VW;
    const size_t row = (size_t)hp, first = (size_t)e0 * row;
    row_dots(M, nv, work->t3, work->p + first, row, work->z);
    gemm_packed(M, nv, hp, work->t3, row, net->w + net->layer[1].w2, net->w + net->zero, work->t1, row);
    for (int m = 0; m < M; m++)
        for (int c = 0; c < nv; c++) {
            size_t k = (size_t)m * row + (size_t)c * VW;
            store(out + first + k, load(work->pre2 + first + k) * load(work->t1 + k) +
                                       work->z[m] * load(work->a2 + first + k));
        }
}

/* The operator sum_j M_ij of node i, packed like W2. */
static const float *node_operator(const tbg_cpu_net *net, tbg_cpu_work *work, int i) {
    const int hp = net->hp, nv = hp / VW, edges = work->n - 1;
    const size_t row = (size_t)hp, first = (size_t)i * (size_t)edges * row;
    const float *w2 = net->w + net->layer[1].w2;
    float *g = work->operator, * h = g + row * row, *packed = h + row * row, *dp = work->t1;
    memset(g, 0, sizeof(float) * 2 * row * row);
    gemm_outer(edges, nv, hp, work->pre1 + first, row, work->pre2 + first, row, g, row);
    for (int m0 = 0; m0 < edges; m0 += net->tile) {
        const int rows = edges - m0 < net->tile ? edges - m0 : net->tile;
        const size_t at = first + (size_t)m0 * row;
        for (size_t k = 0; k < (size_t)rows * row; k += VW)
            store(dp + k, load(work->pre1 + at + k) * load(work->p + at + k));
        gemm_outer(rows, nv, hp, dp, row, work->a2 + at, row, h, row);
    }
    size_t to = 0;
    for (int c = 0, size; c < nv; c += size) {
        size = nv - c >= PANEL ? PANEL : nv - c >= 2 ? 2 : 1;
        for (int k = 0; k < hp; k++)
            for (int q = 0; q < size; q++, to += VW) {
                size_t at = (size_t)k * row + (size_t)(c + q) * VW;
                store(packed + to, load(w2 + to) * load(g + at) + load(h + at));
            }
    }
    return packed;
}

/* After primal_layer(1): W1 of the pairs and of the atoms' own tangents; shelf 1: M wr, shelf 2: M ve of
 * every edge; shelf 3 and own_mu: the operator's share. */
void opening_second(const tbg_cpu_net *net, tbg_cpu_work *work) {
    const int hp = net->hp, nv = hp / VW, n = work->n;
    const size_t row = (size_t)hp;
    const float *w1 = net->w + net->layer[1].w1, *zero = net->w + net->zero;
    const float *wr = net->we_rows + (size_t)net->ke * row;
    gemm_packed(work->n_edges, 2 * nv, hp, work->last_shelves[0], row, w1, zero, work->pair_ab, 2 * row);
    gemm_packed(3 * n, 2 * nv, hp, work->own, row, w1, zero, work->own_ab, 2 * row);
    for (int e0 = 0; e0 < work->n_edges; e0 += net->tile) {
        const int M = work->n_edges - e0 < net->tile ? work->n_edges - e0 : net->tile;
        for (int m = 0; m < M; m++)
            for (int c = 0; c < nv; c++)
                store(work->t3 + (size_t)m * row + c * VW,
                      load(wr + c * VW) * load(work->pre1 + (size_t)(e0 + m) * row + c * VW));
        edge_operator(net, work, e0, M, work->last_shelves[1]);
        if (net->ke == 1)
            continue;
        for (int m = 0; m < M; m++) {
            float *y = work->t3 + (size_t)m * row;
            slope_row(net, work, 1, (size_t)(e0 + m), 0, y);
            for (int c = 0; c < nv; c++)
                store(y + c * VW, load(y + c * VW) * load(work->pre1 + (size_t)(e0 + m) * row + c * VW));
        }
        edge_operator(net, work, e0, M, work->last_shelves[2]);
    }
    for (int i = 0; i < n; i++) {
        const float *operator= node_operator(net, work, i);
        const size_t first = (size_t)i * (size_t)(n - 1) * row;
        gemm_packed(n - 1, nv, hp, work->pair_ab + 2 * first, 2 * row, operator, zero,
                    work->last_shelves[3] + first, row);
        gemm_packed(3, nv, hp, work->own_ab + (size_t)(3 * i) * 2 * row, 2 * row, operator, zero,
                    work->own_mu + (size_t)(3 * i) * row, row);
    }
}

/* Dots of a row y = d1 b with q and p, y stored. */
INLINE void row_of(int nv, const float *d1, const float *b, const float *q, const float *p, float *y, vf *sq,
                   vf *sp) {
    vf s = {0}, z = {0};
    for (int c = 0; c < nv; c++) {
        vf v = load(d1 + c * VW) * load(b + c * VW);
        store(y + c * VW, v);
        s += v * load(q + c * VW);
        z += v * load(p + c * VW);
    }
    *sq = s;
    *sp = z;
}

static void opening_edge(const tbg_cpu_net *net, tbg_cpu_work *work, int i, int j, int a0, int atoms,
                         const float *x_dot, float *move) {
    const int hp = net->hp, nv = hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)hp, E = (size_t)work->capacity, e = edge_of(n, i, j);
    const float *wr = net->we_rows + (size_t)net->ke * row;
    const float *d1 = work->pre1 + e * row, *q = work->pre3 + e * row, *p = work->p + e * row;
    const float *f = work->pre2 + e * row, *a2 = work->a2 + e * row, *v = work->last_shelves[1] + e * row;
    const float *w = work->last_shelves[2] + e * row;
    float r_dot[DP] __attribute__((aligned(64))), s_dot[DP] __attribute__((aligned(64)));
    float g_dot[DP] __attribute__((aligned(64))), b_q[DP] __attribute__((aligned(64)));
    float b_p[DP] __attribute__((aligned(64))), a_q[DP] __attribute__((aligned(64)));
    const float *xi = x_dot + (size_t)(3 * i) * DP, *xj = x_dot + (size_t)(3 * j) * DP;
    float *y = work->rows, *out = work->t1, *dq = work->t2, *dqh = work->t2 + row, *ve = work->t2 + 2 * row;
    const int h = work->harmonic_of[e];
    vf s_sum[DP], p_sum[DP], a_sum[DP];
    for (int d = 0; d < DP; d++)
        s_sum[d] = p_sum[d] = a_sum[d] = (vf){0};
    for (int d = 0; d < DP; d += VW)
        store(r_dot + d, 2.0f * (work->d[e] * (load(xi + d) - load(xj + d)) +
                                 work->d[E + e] * (load(xi + DP + d) - load(xj + DP + d)) +
                                 work->d[2 * E + e] * (load(xi + 2 * DP + d) - load(xj + 2 * DP + d))));
    for (int c = 0; c < nv; c++)
        store(dq + c * VW, load(d1 + c * VW) * load(q + c * VW));
    /* Rows of B: one an atom, three of j itself; dots of A's rows with q d1: one an atom, three of i itself.
     * Slot 3 k + alpha of the arrays belongs to direction alpha of atom a0 + k; slot 3 k alone where one
     * serves three. */
    int rows = 0, slot[DP];
    for (int k = 0; k < atoms; k++) {
        const int a = a0 + k, b_rows = a == j ? 3 : 1, a_rows = a == i ? 3 : 1;
        const float *b =
            a == j ? work->own_ab + (size_t)(3 * a) * 2 * row : work->pair_ab + edge_of(n, j, a) * 2 * row;
        const float *aa =
            a == i ? work->own_ab + (size_t)(3 * a) * 2 * row : work->pair_ab + edge_of(n, i, a) * 2 * row;
        for (int alpha = 0; alpha < b_rows; alpha++, rows++) {
            slot[rows] = 3 * k + alpha;
            row_of(nv, d1, b + (size_t)alpha * 2 * row + row, q, p, y + (size_t)rows * row,
                   &s_sum[slot[rows]], &p_sum[slot[rows]]);
        }
        for (int alpha = 0; alpha < a_rows; alpha++) {
            vf s = {0};
            for (int c = 0; c < nv; c++)
                s += load(aa + (size_t)alpha * 2 * row + c * VW) * load(dq + c * VW);
            a_sum[3 * k + alpha] = s;
        }
    }
    for (int d = 0; d < DP; d += VW) {
        store(b_q + d, lane_sums(s_sum + d));
        store(b_p + d, lane_sums(p_sum + d));
        store(a_q + d, lane_sums(a_sum + d));
    }
    gemm_packed(rows, nv, hp, y, row, net->w + net->layer[1].w2, net->w + net->zero, out, row);
    const float q_wr = dot(nv, dq, wr);
    float qh_wr = 0;
    if (h >= 0) {
        for (int c = 0; c < nv; c++)
            store(dqh + c * VW, load(work->qh + (size_t)h * row + c * VW) * load(d1 + c * VW));
        qh_wr = dot(nv, dqh, wr);
    }
    float *sum = work->sum_dot + (size_t)i * (size_t)dirs * row;
    for (int k = 0, r = 0; k < atoms; k++) {
        const int a = a0 + k, own_i = a == i, own_j = a == j, first = r, d = 3 * k;
        const float *aa =
            own_i ? work->own_ab + (size_t)(3 * a) * 2 * row : work->pair_ab + edge_of(n, i, a) * 2 * row;
        const float *b =
            own_j ? work->own_ab + (size_t)(3 * a) * 2 * row : work->pair_ab + edge_of(n, j, a) * 2 * row;
        float ci[3] = {1, 1, 1}, cj[3] = {1, 1, 1};
        for (int alpha = 0; alpha < 3; alpha++) {
            if (!own_i)
                ci[alpha] = -work->unit[(size_t)alpha * E + edge_of(n, i, a)];
            if (!own_j)
                cj[alpha] = -work->unit[(size_t)alpha * E + edge_of(n, j, a)];
            s_dot[d + alpha] = ci[alpha] * a_q[own_i ? d + alpha : d] +
                               cj[alpha] * b_q[own_j ? d + alpha : d] + r_dot[d + alpha] * q_wr;
        }
        if (h >= 0) {
            float ga = 0, gb = 0;
            for (int alpha = 0; alpha < 3; alpha++) {
                if (own_i || !alpha)
                    ga = dot(nv, dqh, aa + (own_i ? (size_t)alpha * 2 * row : 0));
                if (own_j || !alpha)
                    gb = dot(nv, dqh, b + (own_j ? (size_t)alpha * 2 * row : 0) + row);
                g_dot[d + alpha] = ci[alpha] * ga + cj[alpha] * gb + r_dot[d + alpha] * qh_wr;
            }
        }
        r += own_j ? 3 : 1;
        float *s = sum + (size_t)d * row;
        if (own_j)
            for (int alpha = 0; alpha < 3; alpha++)
                for (int c = 0; c < nv; c++) {
                    float *x = s + (size_t)alpha * row + c * VW;
                    store(x, load(x) + load(f + c * VW) * load(out + (size_t)(first + alpha) * row + c * VW) +
                                 b_p[d + alpha] * load(a2 + c * VW) + r_dot[d + alpha] * load(v + c * VW));
                }
        else
            for (int c = 0; c < nv; c++) {
                const vf m =
                    load(f + c * VW) * load(out + (size_t)first * row + c * VW) + b_p[d] * load(a2 + c * VW);
                const vf vc = load(v + c * VW);
                store(s + c * VW, load(s + c * VW) + cj[0] * m + r_dot[d] * vc);
                store(s + row + c * VW, load(s + row + c * VW) + cj[1] * m + r_dot[d + 1] * vc);
                store(s + 2 * row + c * VW, load(s + 2 * row + c * VW) + cj[2] * m + r_dot[d + 2] * vc);
            }
    }
    /* The input distance changes for the two atoms' own directions only. */
    if (net->ke > 1)
        for (int side = 0; side < 2; side++) {
            const int atom = (side ? j : i) - a0;
            if (atom < 0 || atom >= atoms)
                continue;
            slope_row(net, work, 1, e, 0, ve);
            const float q_ve = dot(nv, dq, ve), qh_ve = h >= 0 ? dot(nv, dqh, ve) : 0;
            for (int alpha = 0; alpha < 3; alpha++) {
                const float u = (side ? -1.0f : 1.0f) * work->unit[(size_t)alpha * E + e];
                float *s = sum + (size_t)(3 * atom + alpha) * row;
                s_dot[3 * atom + alpha] += u * q_ve;
                g_dot[3 * atom + alpha] += h >= 0 ? u * qh_ve : 0;
                for (int c = 0; c < nv; c++)
                    store(s + c * VW, load(s + c * VW) + u * load(w + c * VW));
            }
        }
    for (int d = dirs; d < DP; d++)
        s_dot[d] = g_dot[d] = 0;
    move_edge(net, work, e, i, j, a0, atoms, xi, xj, r_dot, s_dot, g_dot, move);
}

void opening_block(const tbg_cpu_net *net, tbg_cpu_work *work, int a0, int atoms, float *x_dot,
                   float *h_dot) {
    const int nv = net->hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)net->hp, E = (size_t)work->capacity;
    memset(work->moves, 0, sizeof(float) * (size_t)n * 3 * DP);
    for (int i = 0; i < n; i++) {
        for (int d = 0; d < dirs; d++) {
            const int a = a0 + d / 3, alpha = d % 3;
            float *s = work->sum_dot + ((size_t)i * (size_t)dirs + (size_t)d) * row;
            const size_t e = a == i ? 0 : edge_of(n, i, a);
            const float *from =
                a == i ? work->own_mu + (size_t)(3 * a + alpha) * row : work->last_shelves[3] + e * row;
            const float factor = a == i ? 1.0f : -work->unit[(size_t)alpha * E + e];
            for (int c = 0; c < nv; c++)
                store(s + c * VW, factor * load(from + c * VW));
        }
        for (int j = 0; j < n; j++)
            if (j != i)
                opening_edge(net, work, i, j, a0, atoms, x_dot, work->moves + (size_t)(3 * i) * DP);
    }
    for (size_t k = 0; k < (size_t)n * 3 * DP; k += VW)
        store(x_dot + k, load(x_dot + k) + load(work->moves + k));
    tangent_nodes(net, work, 1, dirs, h_dot, 0, work->rows);
}
