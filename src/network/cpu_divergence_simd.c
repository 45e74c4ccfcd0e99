/* cpu_divergence_simd.c: the exact trace of dv/dx by forward mode, blocks of directions over a shared primal.
 *
 * Owns: the first, middle and last layers of a block. Refuses: what directions share (cpu_tangent_simd.c).
 * Three layers or more: the last two go by cpu_closing_simd.c; four or more: the second by
 * cpu_opening_simd.c. Layer by layer: the primal once, then every block of eight atoms' x, y, z (rows of one
 * product: the directions of an edge). First layer: only edges of the displaced atom change, all through r,
 * so that an edge has one vector for every direction. Last layer: only the displaced atom's own row is needed
 * and no messages, so that products with W1 are taken once per edge (of q), not per direction. The mean that
 * is subtracted from v has no trace: a common translation changes nothing. */
#include "network/cpu_divergence.h"
#include <string.h>

enum { ATOMS = TBG_CPU_BLOCK / 3 };

/* How the x(l + 1) of the receiver moves with one component of d = x_i - x_j (and nothing else), sign +-1. */
INLINE void add_pair(const tbg_cpu_net *net, const tbg_cpu_work *work, size_t e, int alpha, float sign,
                     float *x_dot, size_t step) {
    const size_t E = (size_t)work->capacity;
    float d[3] = {work->d[e], work->d[E + e], work->d[2 * E + e]};
    float scale = work->scale[e], r_dot = 2 * sign * d[alpha], s = work->s[e];
    float r0_dot = sign * work->unit[(size_t)alpha * E + e];
    float shrink = scale * scale * r_dot / (2 * sqrtf(work->r2[e] + 1e-8f));
    float s_dot = work->sigma[e] * r0_dot;
    for (int k = 0; k < 3; k++) {
        float dd = k == alpha ? sign : 0;
        x_dot[(size_t)k * step] += net->range * (s * (dd * scale - d[k] * shrink) + d[k] * scale * s_dot);
    }
}

/* First layer, all edges: pre3 becomes kappa = d m / d r, sigma = d s / d r, gamma = d g / d r. */
static void first_edges(const tbg_cpu_net *net, tbg_cpu_work *work) {
    const int hp = net->hp, nv = hp / VW, tile = net->tile;
    const size_t row = (size_t)hp;
    float *rows = work->t3;
    for (int e0 = 0; e0 < work->n_edges; e0 += tile) {
        const int M = work->n_edges - e0 < tile ? work->n_edges - e0 : tile;
        const size_t first = (size_t)e0 * row;
        for (int m = 0; m < M; m++) {
            float *y = rows + (size_t)m * row;
            slope_row(net, work, 0, (size_t)(e0 + m), 2 * sqrtf(work->r2[e0 + m]), y);
            for (int c = 0; c < nv; c++)
                store(y + c * VW, load(y + c * VW) * load(work->pre1 + first + (size_t)m * row + c * VW));
        }
        row_dots(M, nv, rows, work->pre3 + first, row, work->sigma + e0);
        row_dots(M, nv, rows, work->p + first, row, work->z);
        for (int m = 0; m < M; m++) {
            int h = work->harmonic_of[e0 + m];
            if (h >= 0)
                row_dots(1, nv, rows + (size_t)m * row, work->qh + (size_t)h * row, 0, work->gamma + e0 + m);
        }
        gemm_packed(M, nv, hp, rows, row, net->w + net->layer[0].w2, net->w + net->zero, work->t1, row);
        for (int m = 0; m < M; m++)
            for (int c = 0; c < nv; c++) {
                size_t k = (size_t)m * row + (size_t)c * VW;
                store(work->pre3 + first + k, load(work->pre2 + first + k) * load(work->t1 + k) +
                                                  work->z[m] * load(work->a2 + first + k));
            }
    }
}

/* with_h 0: positions only. */
static void first_block(const tbg_cpu_net *net, tbg_cpu_work *work, int a0, int atoms, float *x_dot,
                        float *h_dot, int with_h) {
    const int hp = net->hp, nv = hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)hp;
    memset(x_dot, 0, sizeof(float) * (size_t)n * 3 * DP);
    if (with_h)
        memset(work->sum_dot, 0, sizeof(float) * (size_t)n * (size_t)dirs * row);
    for (int a = a0; a < a0 + atoms; a++)
        for (int alpha = 0; alpha < 3; alpha++) {
            const int d = 3 * (a - a0) + alpha;
            x_dot[(3 * a + alpha) * DP + d] += 1;
            float *own = work->sum_dot + ((size_t)a * (size_t)dirs + (size_t)d) * row;
            for (int i = 0; i < n; i++) {
                if (i == a)
                    continue;
                const size_t in = edge_of(n, i, a), out = edge_of(n, a, i), E = (size_t)work->capacity;
                float c_in = -work->unit[(size_t)alpha * E + in], c_out = work->unit[(size_t)alpha * E + out];
                float *sum = work->sum_dot + ((size_t)i * (size_t)dirs + (size_t)d) * row;
                const float *kappa_in = work->pre3 + in * row, *kappa_out = work->pre3 + out * row;
                for (int c = 0; with_h && c < nv; c++) {
                    store(sum + c * VW, c_in * load(kappa_in + c * VW));
                    store(own + c * VW, load(own + c * VW) + c_out * load(kappa_out + c * VW));
                }
                add_pair(net, work, in, alpha, -1, x_dot + 3 * i * DP + d, DP);
                add_pair(net, work, out, alpha, 1, x_dot + 3 * a * DP + d, DP);
                if (work->harmonic_of[in] >= 0)
                    add_push(work, in, alpha, -1, work->g[in], c_in * work->gamma[in], x_dot + 3 * i * DP + d,
                             DP);
                if (work->harmonic_of[out] >= 0)
                    add_push(work, out, alpha, 1, work->g[out], c_out * work->gamma[out],
                             x_dot + 3 * a * DP + d, DP);
            }
        }
    if (with_h)
        tangent_nodes(net, work, 0, dirs, h_dot, 1, work->rows);
}

/* Rows y1_dot of one edge for `count` directions from d, without the part of the input distance, and their
 * dots with q and p as vectors of partial sums. */
INLINE void build_rows(const int count, int nv, const float *a, const float *b, size_t ab_step,
                       const float *r_dot, const float *wr, const float *d1, const float *q, const float *p,
                       float *y, vf *s_sum, vf *p_sum) {
    vf s[4], z[4];
#pragma GCC unroll 4
    for (int d = 0; d < count; d++)
        s[d] = z[d] = (vf){0};
    for (int c = 0; c < nv; c++) {
        vf w = load(wr + c * VW), f = load(d1 + c * VW), qc = load(q + c * VW), pc = load(p + c * VW);
#pragma GCC unroll 4
        for (int d = 0; d < count; d++) {
            vf v = load(a + (size_t)d * ab_step + c * VW) + load(b + (size_t)d * ab_step + c * VW);
            v = (v + r_dot[d] * w) * f;
            store(y + (size_t)(d * nv + c) * VW, v);
            s[d] += v * qc;
            z[d] += v * pc;
        }
    }
#pragma GCC unroll 4
    for (int d = 0; d < count; d++) {
        s_sum[d] = s[d];
        p_sum[d] = z[d];
    }
}

static void middle_edge(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int i, int j, int a0, int atoms,
                        const float *x_dot, float *move) {
    const int hp = net->hp, nv = hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)hp, E = (size_t)work->capacity, e = edge_of(n, i, j);
    const float *wr = net->we_rows + (size_t)l * (size_t)net->ke * row;
    const float *d1 = work->pre1 + e * row, *q = work->pre3 + e * row, *p = work->p + e * row;
    const float *a = work->ab_dot + (size_t)i * (size_t)dirs * 2 * row;
    const float *b = work->ab_dot + (size_t)j * (size_t)dirs * 2 * row + row;
    float r_dot[DP] __attribute__((aligned(64))), s_dot[DP] __attribute__((aligned(64)));
    float p_dot[DP] __attribute__((aligned(64))), g_dot[DP] __attribute__((aligned(64)));
    float *y = work->rows;
    vf s_sum[DP], p_sum[DP];
    const float *xi = x_dot + (size_t)(3 * i) * DP, *xj = x_dot + (size_t)(3 * j) * DP;
    float dx = work->d[e], dy = work->d[E + e], dz = work->d[2 * E + e];
    for (int d = 0; d < DP; d += VW)
        store(r_dot + d,
              2.0f * (dx * (load(xi + d) - load(xj + d)) + dy * (load(xi + DP + d) - load(xj + DP + d)) +
                      dz * (load(xi + 2 * DP + d) - load(xj + 2 * DP + d))));
    int d = 0;
    for (; d + 4 <= dirs; d += 4)
        build_rows(4, nv, a + (size_t)d * 2 * row, b + (size_t)d * 2 * row, 2 * row, r_dot + d, wr, d1, q, p,
                   y + (size_t)d * row, s_sum + d, p_sum + d);
    for (; d < dirs; d++)
        build_rows(1, nv, a + (size_t)d * 2 * row, b + (size_t)d * 2 * row, 2 * row, r_dot + d, wr, d1, q, p,
                   y + (size_t)d * row, s_sum + d, p_sum + d);
    for (; d < DP; d++)
        s_sum[d] = p_sum[d] = (vf){0};
    for (d = 0; d < DP; d += VW) {
        store(s_dot + d, lane_sums(s_sum + d));
        store(p_dot + d, lane_sums(p_sum + d));
    }
    /* The input distance changes for the two atoms' own directions only. */
    const int touches_i = i >= a0 && i < a0 + atoms, touches_j = j >= a0 && j < a0 + atoms;
    if ((touches_i || touches_j) && net->ke > 1) {
        float *ve = work->t2, q_ve[2];
        slope_row(net, work, l, e, 0, ve);
        for (int c = 0; c < nv; c++)
            store(ve + c * VW, load(ve + c * VW) * load(d1 + c * VW));
        row_dots(1, nv, ve, q, 0, q_ve);
        row_dots(1, nv, ve, p, 0, q_ve + 1);
        for (int side = 0; side < 2; side++) {
            int atom = side ? j : i;
            if (!(side ? touches_j : touches_i))
                continue;
            for (int alpha = 0; alpha < 3; alpha++) {
                int k = 3 * (atom - a0) + alpha;
                float f = (side ? -1.0f : 1.0f) * work->unit[(size_t)alpha * E + e];
                s_dot[k] += f * q_ve[0];
                p_dot[k] += f * q_ve[1];
                for (int c = 0; c < nv; c++) {
                    float *r = y + (size_t)k * row + c * VW;
                    store(r, load(r) + f * load(ve + c * VW));
                }
            }
        }
    }
    gemm_weighed(dirs, nv, hp, y, net->w + net->layer[l].w2, work->pre2 + e * row, work->a2 + e * row, p_dot,
                 work->sum_dot + (size_t)i * (size_t)dirs * row, row);
    int h = work->harmonic_of[e];
    if (h >= 0)
        row_dots(dirs, nv, y, work->qh + (size_t)h * row, 0, g_dot);
    move_edge(net, work, e, i, j, a0, atoms, xi, xj, r_dot, s_dot, g_dot, move);
}

static void middle_block(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int a0, int atoms, float *x_dot,
                         float *h_dot) {
    const int hp = net->hp, nv = hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)hp;
    gemm_packed(n * dirs, 2 * nv, hp, h_dot, row, net->w + net->layer[l].w1, net->w + net->zero, work->ab_dot,
                2 * row);
    memset(work->sum_dot, 0, sizeof(float) * (size_t)n * (size_t)dirs * row);
    float *moves = work->moves;
    memset(moves, 0, sizeof(float) * (size_t)n * 3 * DP);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (j != i)
                middle_edge(net, work, l, i, j, a0, atoms, x_dot, moves + (size_t)(3 * i) * DP);
    for (size_t k = 0; k < (size_t)n * 3 * DP; k += VW)
        store(x_dot + k, load(x_dot + k) + load(moves + k));
    tangent_nodes(net, work, l, dirs, h_dot, 0, work->rows);
}

void last_edges(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int with_h) {
    const int hp = net->hp, nv = hp / VW, E = work->n_edges;
    const size_t row = (size_t)hp;
    for (size_t k = 0; k < (size_t)E * row; k += VW)
        store(work->pre3 + k, load(work->pre3 + k) * load(work->pre1 + k));
    for (int h = 0; h < work->n_harmonic; h++)
        for (int c = 0; c < nv; c++) {
            float *v = work->qh + (size_t)h * row + c * VW;
            store(v, load(v) * load(work->pre1 + (size_t)work->harmonic[h] * row + c * VW));
        }
    if (!with_h)
        return;
    const float *w1t = net->wt + net->layer_t[l].w1, *zero = net->w + net->zero;
    gemm_packed_part(E, nv, hp, 2 * hp, hp, work->pre3, row, w1t, zero, work->pre2, row);
    gemm_packed_part(work->n_harmonic, nv, hp, 2 * hp, hp, work->qh, row, w1t, zero, work->p, row);
}

double last_block(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int a0, int atoms, const float *x_dot,
                  const float *h_dot, int with_h) {
    const int hp = net->hp, nv = hp / VW, n = work->n, dirs = 3 * atoms;
    const size_t row = (size_t)hp, E = (size_t)work->capacity;
    const float *wr = net->we_rows + (size_t)l * (size_t)net->ke * row;
    float *own = work->rows, *ve = work->t2; /* own: gradient of the trace at A_a, one row a direction */
    double trace = 0;
    memset(own, 0, sizeof(float) * (size_t)dirs * row);
    for (int a = a0; a < a0 + atoms; a++) {
        for (int alpha = 0; alpha < 3; alpha++) {
            int d = 3 * (a - a0) + alpha;
            trace += (double)x_dot[(3 * a + alpha) * DP + d] - 1;
        }
        for (int j = 0; j < n; j++) {
            if (j == a)
                continue;
            const size_t e = edge_of(n, a, j);
            const float *q = work->pre3 + e * row, *b = work->pre2 + e * row;
            const int h = work->harmonic_of[e];
            const float *qh = work->qh + (size_t)(h < 0 ? 0 : h) * row,
                        *bh = work->p + (size_t)(h < 0 ? 0 : h) * row;
            slope_row(net, work, l, e, 0, ve);
            const float q_wr = dot(nv, q, wr), q_ve = dot(nv, q, ve);
            const float qh_wr = h < 0 ? 0 : dot(nv, qh, wr), qh_ve = h < 0 ? 0 : dot(nv, qh, ve);
            const float dist[3] = {work->d[e], work->d[E + e], work->d[2 * E + e]};
            const float scale = work->scale[e], s = work->s[e];
            const float shrink = scale * scale / (2 * sqrtf(work->r2[e] + 1e-8f));
            for (int alpha = 0; alpha < 3; alpha++) {
                const int d = 3 * (a - a0) + alpha;
                const float *hj = h_dot + ((size_t)j * (size_t)dirs + (size_t)d) * row;
                float dd[3], r_dot = 0, r0_dot = work->unit[(size_t)alpha * E + e];
                for (int k = 0; k < 3; k++) {
                    dd[k] = x_dot[(3 * a + k) * DP + d] - x_dot[(3 * j + k) * DP + d];
                    r_dot += 2 * dist[k] * dd[k];
                }
                float f = net->range * scale * dist[alpha], s_dot = q_wr * r_dot + q_ve * r0_dot;
                if (with_h)
                    s_dot += dot(nv, b, hj);
                trace +=
                    (double)(net->range * s * (dd[alpha] * scale - dist[alpha] * shrink * r_dot) + f * s_dot);
                for (int c = 0; with_h && c < nv; c++) {
                    float *o = own + (size_t)d * row + c * VW;
                    store(o, load(o) + f * load(q + c * VW));
                }
                if (h < 0)
                    continue;
                float push = work->push[(size_t)alpha * E + e], g_dot = qh_wr * r_dot + qh_ve * r0_dot;
                float rho_r = work->push_rho[e] * work->inverse_r[e];
                if (with_h)
                    g_dot += dot(nv, bh, hj);
                trace += (double)(g_dot * push +
                                  work->g[e] * (r0_dot * r0_dot * (work->push_slope[e] - rho_r) + rho_r));
                for (int c = 0; with_h && c < nv; c++) {
                    float *o = own + (size_t)d * row + c * VW;
                    store(o, load(o) + push * load(qh + c * VW));
                }
            }
        }
    }
    if (!with_h)
        return trace;
    gemm_packed_part(dirs, nv, hp, 2 * hp, 0, own, row, net->wt + net->layer_t[l].w1, net->w + net->zero,
                     work->ab_dot, row);
    for (int a = a0; a < a0 + atoms; a++)
        for (int d = 3 * (a - a0); d < 3 * (a - a0) + 3; d++)
            trace += (double)dot(nv, work->ab_dot + (size_t)d * row,
                                 h_dot + ((size_t)a * (size_t)dirs + (size_t)d) * row);
    return trace;
}

double divergence_pass(const tbg_cpu_net *net, tbg_cpu_work *work) {
    const int n = work->n, L = net->layers, opening = L > 3;
    const size_t x_block = (size_t)n * 3 * DP, h_block = (size_t)n * D * (size_t)net->hp;
    double trace = 0;
    embed_nodes(net, work);
    for (int l = 0; l < L; l++) {
        const int last = l == L - 1;
        if (L > 2 && l == L - 2)
            return closing_layers(net, work);
        primal_layer(net, work, l);
        if (last)
            last_edges(net, work, l, l > 0);
        else if (l == 0)
            first_edges(net, work);
        if (opening && l == 0)
            opening_first(net, work);
        else if (opening && l == 1)
            opening_second(net, work);
        for (int a0 = 0, block = 0; a0 < n; a0 += ATOMS, block++) {
            const int atoms = n - a0 < ATOMS ? n - a0 : ATOMS;
            float *x_dot = work->x_dot + (size_t)block * x_block,
                  *h_dot = work->h_dot + (size_t)block * h_block;
            if (last && !l) {
                memset(x_dot, 0, sizeof(float) * x_block);
                for (int k = 0; k < 3 * atoms; k++)
                    x_dot[(3 * a0 + k) * DP + k] = 1;
            }
            if (last)
                trace += last_block(net, work, l, a0, atoms, x_dot, h_dot, l > 0);
            else if (l == 0)
                first_block(net, work, a0, atoms, x_dot, h_dot, !opening);
            else if (opening && l == 1)
                opening_block(net, work, a0, atoms, x_dot, h_dot);
            else
                middle_block(net, work, l, a0, atoms, x_dot, h_dot);
        }
    }
    return trace;
}

const tbg_cpu_table TBG_SIMD_NAME(tbg_cpu_table_simd) = {
#if defined(TBG_ARCH_avx512)
    .name = "cpu/avx512",
#elif defined(TBG_ARCH_avx2)
    .name = "cpu/avx2",
#else
    .name = "cpu/base",
#endif
    .width = VW,
    .panel = PANEL,
    .forward = forward_pass,
    .backward = backward_pass,
    .divergence = divergence_pass,
    .tangent = tangent_pass,
    .gemm_rate = measure_gemm,
};
