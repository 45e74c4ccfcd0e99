/* cpu_tangent_simd.c: forward mode: what all directions share of an edge, and one direction through the
 * network.
 *
 * Owns: the shared quantities of one layer (share_layer) and the single tangent. Refuses: blocks of
 * directions (cpu_divergence_simd.c). The scalars that an edge gives off, its coordinate weight s, attention
 * and harmonic gate, depend on the first activation y1 = silu(pre1) through vectors that no direction
 * changes: ds = q . dy1, d gate = p . dy1, d (harmonic gate) = qh . dy1. So a direction needs one product
 * with W2 per edge and none with W3: y1_dot = d1 (A_i_dot + B_j_dot + wr r_dot + ve r0_dot),  m_dot = gate d2
 * (W2 y1_dot) + a2 (p . y1_dot). */
#include "network/cpu_vector.h"
#include <math.h>
#include <string.h>

/* After layer_edges into sheet 0: pre1 becomes d1, pre2 gate * d2, pre3 q; a2, p, qh are filled. */
void share_layer(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int need_messages) {
    const int hp = net->hp, nv = hp / VW, tile = net->tile;
    const size_t row = (size_t)hp;
    const tbg_cpu_layer *layer = &net->layer[l];
    const tbg_cpu_layer_t *layer_t = &net->layer_t[l];
    const float *w = net->w, *wa = w + layer->wa, *wg = w + layer->wg, *zero = w + net->zero;
    const float *wc = w + layer->wc;
    float *t1 = work->t1, *t3 = work->t3, *t4 = work->t4;
    int next_harmonic = 0;
    for (int e0 = 0; e0 < work->n_edges; e0 += tile) {
        const int M = work->n_edges - e0 < tile ? work->n_edges - e0 : tile;
        const size_t first = (size_t)e0 * row, size = (size_t)M * row;
        float *pre1 = work->pre1 + first, *pre2 = work->pre2 + first, *pre3 = work->pre3 + first;
        float *a2 = work->a2 + first;
        const float *gate = work->gate + e0, *s = work->s + e0;
        /* t1 = gate ds/dpre3; a2; t3 = d2 */
        for (int m = 0; m < M; m++) {
            float f = gate[m] * (net->spec.tanh ? 1.0f - s[m] * s[m] : 1.0f);
            for (int c = 0; c < nv; c++) {
                size_t k = (size_t)m * row + (size_t)c * VW;
                vf v = load(pre3 + k), sigma = vsigmoid(v);
                store(t1 + k, f * load(wc + c * VW) * (sigma + v * sigma * (1.0f - sigma)));
            }
        }
        silu_slope(size, pre2, a2, t3);
        gemm_packed(M, nv, hp, t1, row, net->wt + layer_t->w3, zero, t4, row);
        if (net->spec.attention)
            row_dots(M, nv, t4, a2, row, work->z);
        for (int m = 0; m < M; m++) {
            float z = net->spec.attention ? work->z[m] * (1.0f - gate[m]) : 0;
            for (int c = 0; c < nv; c++) {
                size_t k = (size_t)m * row + (size_t)c * VW;
                store(t4 + k, (load(t4 + k) + z * load(wa + c * VW)) * load(t3 + k));
            }
        }
        gemm_packed(M, nv, hp, t4, row, net->wt + layer_t->w2, zero, pre3, row);
        int rows = 0, first_harmonic = next_harmonic;
        for (; next_harmonic < work->n_harmonic && work->harmonic[next_harmonic] < e0 + M;
             next_harmonic++, rows++) {
            size_t m = (size_t)(work->harmonic[next_harmonic] - e0);
            float z = 0;
            if (net->spec.attention) {
                vf sum = {0};
                for (int c = 0; c < nv; c++)
                    sum += load(wg + c * VW) * load(a2 + m * row + c * VW);
                for (int r = 0; r < VW; r++)
                    z += sum[r];
                z *= gate[m] * (1.0f - gate[m]);
            }
            for (int c = 0; c < nv; c++)
                store(t1 + (size_t)rows * row + c * VW,
                      (gate[m] * load(wg + c * VW) + z * load(wa + c * VW)) * load(t3 + m * row + c * VW));
        }
        if (rows)
            gemm_packed(rows, nv, hp, t1, row, net->wt + layer_t->w2, zero,
                        work->qh + (size_t)first_harmonic * row, row);
        if (need_messages) {
            float *p = work->p + first;
            if (net->spec.attention) {
                for (int m = 0; m < M; m++) {
                    float f = gate[m] * (1.0f - gate[m]);
                    for (int c = 0; c < nv; c++) {
                        size_t k = (size_t)m * row + (size_t)c * VW;
                        store(t1 + k, f * load(wa + c * VW) * load(t3 + k));
                    }
                }
                gemm_packed(M, nv, hp, t1, row, net->wt + layer_t->w2, zero, p, row);
            } else
                memset(p, 0, sizeof(float) * size);
            for (int m = 0; m < M; m++)
                for (int c = 0; c < nv; c++) {
                    size_t k = (size_t)m * row + (size_t)c * VW;
                    store(pre2 + k, gate[m] * load(t3 + k));
                }
        }
        for (size_t k = 0; k < size; k += VW) {
            vf v = load(pre1 + k), sigma = vsigmoid(v);
            store(pre1 + k, sigma + v * sigma * (1.0f - sigma));
        }
    }
}

/* out = sum_k d feature_k / d r0 we_k: what the input distance changes in pre1. */
void slope_row(const tbg_cpu_net *net, const tbg_cpu_work *work, int l, size_t e, float factor_r,
               float *out) {
    const int nv = net->hp / VW, ke = net->ke;
    const float *we = net->we_rows + (size_t)l * (size_t)ke * (size_t)net->hp;
    const float *slope = work->feature_slope + e * (size_t)ke;
    for (int c = 0; c < nv; c++)
        store(out + c * VW, factor_r * load(we + c * VW));
    for (int k = 1; k < ke; k++)
        if (slope[k] != 0)
            for (int c = 0; c < nv; c++)
                store(out + c * VW, load(out + c * VW) + slope[k] * load(we + k * net->hp + c * VW));
}

/* ---- one direction ---- */

/* One layer. x_dot: [N][3] of the layer, h_dot and sum_dot in work; next: that of the next layer. */
static void tangent_layer(const tbg_cpu_net *net, tbg_cpu_work *work, int l, const double *x0_dot,
                          const double *x_dot, double *next) {
    const int hp = net->hp, nv = hp / VW, n = work->n, tile = net->tile, last = l == net->layers - 1;
    const size_t row = (size_t)hp, E = (size_t)work->capacity;
    const tbg_cpu_layer *layer = &net->layer[l];
    const float *wr = net->we_rows + (size_t)l * (size_t)net->ke * row;
    float *ve = work->t2, *rows = work->t3;
    memcpy(next, x_dot, sizeof(double) * 3 * (size_t)n);
    memset(work->sum_dot, 0, sizeof(float) * (size_t)n * row);
    gemm_packed(n, 2 * nv, hp, work->h_dot, row, net->w + layer->w1, net->w + net->zero, work->ab_dot,
                2 * row);
    for (int e0 = 0; e0 < work->n_edges; e0 += tile) {
        const int M = work->n_edges - e0 < tile ? work->n_edges - e0 : tile;
        for (int m = 0; m < M; m++) {
            const size_t e = (size_t)(e0 + m);
            const int i = work->receiver[e], j = work->sender[e];
            const float *a = work->ab_dot + (size_t)i * 2 * row,
                        *b = work->ab_dot + (size_t)j * 2 * row + row;
            double dd[3], d0[3], r_dot = 0, r0_dot = 0, d[3], u[3];
            for (int k = 0; k < 3; k++) {
                dd[k] = x_dot[3 * i + k] - x_dot[3 * j + k];
                d0[k] = x0_dot[3 * i + k] - x0_dot[3 * j + k];
                d[k] = (double)work->d[(size_t)k * E + e];
                u[k] = (double)work->unit[(size_t)k * E + e];
                r_dot += 2 * d[k] * dd[k];
                r0_dot += u[k] * d0[k];
            }
            slope_row(net, work, l, e, 0, ve);
            vf sum = {0};
            for (int c = 0; c < nv; c++) {
                vf v = load(a + c * VW) + load(b + c * VW) + (float)r_dot * load(wr + c * VW) +
                       (float)r0_dot * load(ve + c * VW);
                v *= load(work->pre1 + e * row + c * VW);
                store(rows + (size_t)m * row + c * VW, v);
                sum += v * load(work->pre3 + e * row + c * VW);
            }
            double s_dot = 0, range = (double)net->range, s = (double)work->s[e],
                   scale = (double)work->scale[e];
            for (int r = 0; r < VW; r++)
                s_dot += (double)sum[r];
            double shrink = scale * scale * r_dot / (2 * sqrt((double)work->r2[e] + 1e-8));
            for (int k = 0; k < 3; k++)
                next[3 * i + k] += range * (s * (dd[k] * scale - d[k] * shrink) + d[k] * scale * s_dot);
            int h = work->harmonic_of[e];
            if (h >= 0) {
                vf product = {0};
                for (int c = 0; c < nv; c++)
                    product +=
                        load(rows + (size_t)m * row + c * VW) * load(work->qh + (size_t)h * row + c * VW);
                double g_dot = 0, rho_r = (double)work->push_rho[e] * (double)work->inverse_r[e];
                for (int r = 0; r < VW; r++)
                    g_dot += (double)product[r];
                for (int k = 0; k < 3; k++)
                    next[3 * i + k] +=
                        g_dot * (double)work->push[(size_t)k * E + e] +
                        (double)work->g[e] *
                            (u[k] * r0_dot * ((double)work->push_slope[e] - rho_r) + rho_r * d0[k]);
            }
        }
        if (last)
            continue;
        row_dots(M, nv, rows, work->p + (size_t)e0 * row, row, work->z);
        gemm_packed(M, nv, hp, rows, row, net->w + layer->w2, net->w + net->zero, work->t1, row);
        for (int m = 0; m < M; m++) {
            float *sum = work->sum_dot + (size_t)work->receiver[e0 + m] * row;
            for (int c = 0; c < nv; c++) {
                size_t k = (size_t)m * row + (size_t)c * VW, at = (size_t)e0 * row + k;
                store(sum + c * VW, load(sum + c * VW) + load(work->pre2 + at) * load(work->t1 + k) +
                                        work->z[m] * load(work->a2 + at));
            }
        }
    }
}

/* h_dot(l + 1) for n_rows directions of every atom: h_dot, sum_dot: [N][n_rows][HP]; slopes of silu at pre4
 * in dnode. scratch: [n_rows][HP]. h_zero: h_dot is zero on entry. */
void tangent_nodes(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int n_rows, float *h_dot, int h_zero,
                   float *scratch) {
    const int hp = net->hp, nv = hp / VW;
    const size_t row = (size_t)hp, block = (size_t)n_rows * row;
    const tbg_cpu_layer *layer = &net->layer[l];
    const float *w4 = net->w + layer->w4, *zero = net->w + net->zero;
    for (int i = 0; i < work->n; i++) {
        float *h = h_dot + (size_t)i * block;
        const float *slope = work->dnode + (size_t)i * row;
        gemm_packed_part(n_rows, nv, hp, 2 * hp, hp, work->sum_dot + (size_t)i * block, row, w4, zero,
                         scratch, row);
        if (!h_zero)
            gemm_packed_part(n_rows, nv, hp, 2 * hp, 0, h, row, w4, NULL, scratch, row);
        for (int m = 0; m < n_rows; m++)
            for (int c = 0; c < nv; c++) {
                float *p = scratch + (size_t)m * row + c * VW;
                store(p, load(p) * load(slope + c * VW));
            }
        gemm_packed(n_rows, nv, hp, scratch, row, net->w + layer->w5, h_zero ? zero : NULL, h, row);
    }
}

/* Primal of layer l with what the tangents share; x(l + 1), h(l + 1); dnode: slopes at pre4. */
void primal_layer(const tbg_cpu_net *net, tbg_cpu_work *work, int l) {
    const int hp = net->hp, nv = hp / VW, n = work->n, last = l == net->layers - 1;
    const tbg_cpu_layer *layer = &net->layer[l];
    gemm_packed(n, 2 * nv, hp, work->ha + (size_t)l * (size_t)n * 2 * (size_t)hp, 2 * (size_t)hp,
                net->w + layer->w1, net->w + layer->b1, work->ab, 2 * (size_t)hp);
    layer_geometry(net, work, l);
    layer_edges(net, work, l, 0, !last);
    move_atoms(net, work, l, 0);
    if (!last) {
        update_nodes(net, work, l);
        silu_slope((size_t)n * (size_t)hp, work->pre4 + (size_t)l * (size_t)n * (size_t)hp, work->node,
                   work->dnode);
    }
    share_layer(net, work, l, !last);
}

void tangent_pass(const tbg_cpu_net *net, tbg_cpu_work *work, const double *x_dot, double *v_dot) {
    const int n = work->n;
    const size_t nodes = (size_t)n * (size_t)net->hp;
    double *here = work->v_dot;
    embed_nodes(net, work);
    memcpy(v_dot, x_dot, sizeof(double) * 3 * (size_t)n);
    memset(work->h_dot, 0, sizeof(float) * nodes);
    for (int l = 0; l < net->layers; l++) {
        primal_layer(net, work, l);
        memcpy(here, v_dot, sizeof(double) * 3 * (size_t)n);
        tangent_layer(net, work, l, x_dot, here, v_dot);
        if (l < net->layers - 1)
            tangent_nodes(net, work, l, 1, work->h_dot, 0, work->rows);
    }
    for (int q = 0; q < 3 * n; q++)
        v_dot[q] -= x_dot[q];
}
