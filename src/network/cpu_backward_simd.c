/* cpu_backward_simd.c: reverse mode of the layers: gradients of parameters and of positions.
 *
 * Owns: the reverse of cpu_forward_simd.c, layer by layer, edge tile by edge tile. Refuses: the loss,
 * unpacking of gradients (cpu.c). Stored by the forward pass: h, sums, pre4 of every layer; pre1, pre2, pre3,
 * gate, s, g of every layer (keep) or of one, computed again. Parameters accumulate, activations are
 * assigned. */
#include "network/cpu_vector.h"
#include <math.h>
#include <string.h>

INLINE void times(size_t n, const float *factor, float *x) {
    for (size_t c = 0; c < n; c += VW)
        store(x + c, load(x + c) * load(factor + c));
}

/* dy = ds wc silu'(pre3) times gate (in place of pre3's row in y); dwc += ds silu(pre3); db3 += dy without
 * gate. */
INLINE void coordinate_reverse(int M, int nv, const float *pre3, const float *ds, const float *gate,
                               const float *wc, float *y, float *dwc, float *db3) {
    for (int c = 0; c < nv; c++) {
        vf weight = load(wc + c * VW), sum_w = load(dwc + c * VW), sum_b = load(db3 + c * VW);
        for (int m = 0; m < M; m++) {
            size_t k = ((size_t)m * (size_t)nv + (size_t)c) * VW;
            vf v = load(pre3 + k), sigma = vsigmoid(v), a = v * sigma;
            vf d = ds[m] * weight * (sigma + a * (1.0f - sigma));
            sum_w += ds[m] * a;
            sum_b += d;
            store(y + k, d * gate[m]);
        }
        store(dwc + c * VW, sum_w);
        store(db3 + c * VW, sum_b);
    }
}

/* From dx' to ds (before tanh: of wc . a3) and dg. */
static void coordinate_slopes(const tbg_cpu_net *net, tbg_cpu_work *work, const float *s) {
    const int n = work->n;
    const size_t E = (size_t)work->capacity;
    for (int i = 0; i < n; i++) {
        const float gx = (float)work->dx[i], gy = (float)work->dx[n + i], gz = (float)work->dx[2 * n + i];
        const int tanh_on = net->spec.tanh;
        for (int e = i * (n - 1); e < (i + 1) * (n - 1); e++) {
            float along = gx * work->d[e] + gy * work->d[E + (size_t)e] + gz * work->d[2 * E + (size_t)e];
            work->ds[e] = net->range * work->scale[e] * along * (tanh_on ? 1.0f - s[e] * s[e] : 1.0f);
        }
    }
    for (int k = 0; k < work->n_harmonic; k++) {
        size_t e = (size_t)work->harmonic[k];
        int i = work->receiver[e];
        work->dg[e] = (float)work->dx[i] * work->push[e] + (float)work->dx[n + i] * work->push[E + e] +
                      (float)work->dx[2 * n + i] * work->push[2 * E + e];
    }
}

/* dx: from that of x(l + 1) to that of x(l), given dr2 of the edges. */
static void geometry_reverse(const tbg_cpu_net *net, tbg_cpu_work *work, const float *s) {
    const int n = work->n;
    const size_t E = (size_t)work->capacity;
    float *dr2 = work->dr2;
    /* Per edge: gradient at x_i - x_j, written over ds, z and dr2 as three components. */
    for (int i = 0; i < n; i++) {
        const float gx = (float)work->dx[i], gy = (float)work->dx[n + i], gz = (float)work->dx[2 * n + i];
        for (int e = i * (n - 1); e < (i + 1) * (n - 1); e++) {
            float dx = work->d[e], dy = work->d[E + (size_t)e], dz = work->d[2 * E + (size_t)e];
            float scale = work->scale[e], f = net->range * s[e];
            float root = sqrtf(work->r2[e] + 1e-8f);
            /* u = d scale, scale = 1/(root + 1): d scale / d r2 = -scale^2 / (2 root) */
            float along = gx * dx + gy * dy + gz * dz;
            float k = 2.0f * dr2[e] - f * along * scale * scale / root;
            work->ds[e] = f * scale * gx + k * dx;
            work->z[e] = f * scale * gy + k * dy;
            dr2[e] = f * scale * gz + k * dz;
        }
    }
    double *restrict ax = work->dx, *restrict ay = ax + n, *restrict az = ay + n;
    for (int i = 0, e = 0; i < n; i++) {
        double sx = 0, sy = 0, sz = 0;
        for (int j = 0; j < n; j++) {
            if (j == i)
                continue;
            double x = work->ds[e], y = work->z[e], z = dr2[e];
            sx += x;
            sy += y;
            sz += z;
            ax[j] -= x;
            ay[j] -= y;
            az[j] -= z;
            e++;
        }
        ax[i] += sx;
        ay[i] += sy;
        az[i] += sz;
    }
}

/* Messages of layer l. In: dx' in work->dx, dha (second half: gradient at the summed messages). Out: dab;
 * dr2. */
static void edges_reverse(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int slot, float *gradient,
                          int want_input) {
    const int hp = net->hp, nv = hp / VW, ke = net->ke, tile = net->tile;
    const size_t row = (size_t)hp, at = (size_t)slot * (size_t)work->capacity;
    const tbg_cpu_layer *layer = &net->layer[l];
    const tbg_cpu_layer_t *layer_t = &net->layer_t[l];
    const float *w = net->w, *we = net->we_rows + (size_t)l * (size_t)ke * row;
    const float *gate = work->gate + at, *s = work->s + at, *g = work->g + at;
    (void)g;
    float *t1 = work->t1, *t2 = work->t2, *t3 = work->t3, *t4 = work->t4;
    float dba = 0, dbg = 0;
    int next_harmonic = 0;
    coordinate_slopes(net, work, s);
    memset(work->dab, 0, sizeof(float) * (size_t)work->n * 2 * row);
    for (int e0 = 0; e0 < work->n_edges; e0 += tile) {
        const int M = work->n_edges - e0 < tile ? work->n_edges - e0 : tile;
        const size_t first = (at + (size_t)e0) * row, size = (size_t)M * row;
        const float *pre1 = work->pre1 + first, *pre2 = work->pre2 + first, *pre3 = work->pre3 + first;
        /* t1 = gate * d pre3, t2 = silu(pre2), t3 = its slope, t4 = gate * d m */
        coordinate_reverse(M, nv, pre3, work->ds + e0, gate + e0, w + layer->wc, t1, gradient + layer->wc,
                           gradient + layer->b3);
        silu_slope(size, pre2, t2, t3);
        gemm_outer(M, nv, hp, t2, row, t1, row, gradient + layer->w3, row);
        for (int m = 0; m < M; m++) {
            const float *sum = work->dha + (size_t)work->receiver[e0 + m] * 2 * row + row;
            for (int c = 0; c < nv; c++)
                store(t4 + (size_t)m * row + c * VW, load(sum + c * VW) * gate[e0 + m]);
        }
        for (; next_harmonic < work->n_harmonic && work->harmonic[next_harmonic] < e0 + M; next_harmonic++) {
            int e = work->harmonic[next_harmonic], m = e - e0;
            float f = work->dg[e] * gate[e];
            dbg += work->dg[e];
            for (int c = 0; c < nv; c++) {
                size_t k = (size_t)m * row + (size_t)c * VW;
                store(t4 + k, load(t4 + k) + f * load(w + layer->wg + c * VW));
                float *dwg = gradient + layer->wg + c * VW;
                store(dwg, load(dwg) + f * load(t2 + k));
            }
        }
        gemm_packed(M, nv, hp, t1, row, net->wt + layer_t->w3, NULL, t4, row);
        /* Through the gate: d pre2 = (gate dm + dz wa) slope, dz = (gate dm . a2) (1 - gate). */
        if (net->spec.attention) {
            row_dots(M, nv, t4, t2, row, work->z);
            for (int m = 0; m < M; m++) {
                work->z[m] *= 1.0f - gate[e0 + m];
                dba += work->z[m];
            }
            for (int c = 0; c < nv; c++) {
                vf wa = load(w + layer->wa + c * VW), dwa = load(gradient + layer->wa + c * VW);
                vf db2 = load(gradient + layer->b2 + c * VW);
                for (int m = 0; m < M; m++) {
                    size_t k = (size_t)m * row + (size_t)c * VW;
                    dwa += work->z[m] * load(t2 + k);
                    vf d = (load(t4 + k) + work->z[m] * wa) * load(t3 + k);
                    store(t4 + k, d);
                    db2 += d;
                }
                store(gradient + layer->wa + c * VW, dwa);
                store(gradient + layer->b2 + c * VW, db2);
            }
        } else {
            times(size, t3, t4);
            column_sum(M, nv, t4, row, gradient + layer->b2);
        }
        /* t4 = d pre2; t1 = silu(pre1), t2 = its slope, t3 = d pre1 */
        silu_slope(size, pre1, t1, t2);
        gemm_outer(M, nv, hp, t1, row, t4, row, gradient + layer->w2, row);
        memset(t3, 0, sizeof(float) * size);
        gemm_packed(M, nv, hp, t4, row, net->wt + layer_t->w2, NULL, t3, row);
        for (int m = 0; m < M; m++) {
            float *da = work->dab + (size_t)work->receiver[e0 + m] * 2 * row;
            float *db = work->dab + (size_t)work->sender[e0 + m] * 2 * row + row;
            for (int c = 0; c < nv; c++) {
                size_t k = (size_t)m * row + (size_t)c * VW;
                vf d = load(t3 + k) * load(t2 + k);
                store(t3 + k, d);
                store(da + c * VW, load(da + c * VW) + d);
                store(db + c * VW, load(db + c * VW) + d);
            }
        }
        gemm_outer(M, nv, ke, work->features + (size_t)e0 * (size_t)ke, (size_t)ke, t3, row,
                   gradient + layer->we, row);
        row_dots(M, nv, t3, we, 0, work->dr2 + e0);
        for (int k = 1; want_input && k < ke; k++) {
            row_dots(M, nv, t3, we + (size_t)k * row, 0, work->z);
            for (int m = 0; m < M; m++)
                work->dfeatures[(size_t)(e0 + m) * (size_t)ke + (size_t)k] += work->z[m];
        }
    }
    gradient[layer->scalars] += dba;
    gradient[layer->scalars + 1] += dbg;
}

/* Harmonic term's dependence on the input positions: push = rho(r) u, u the unit vector. dx_input
 * accumulates. */
static void harmonic_input_reverse(tbg_cpu_work *work, const float *g) {
    const int n = work->n;
    const size_t E = (size_t)work->capacity;
    for (int k = 0; k < work->n_harmonic; k++) {
        size_t e = (size_t)work->harmonic[k];
        int i = work->receiver[e], j = work->sender[e];
        double along = 0, u[3], gx[3];
        for (int a = 0; a < 3; a++) {
            u[a] = (double)work->unit[(size_t)a * E + e];
            gx[a] = work->dx[a * n + i];
            along += gx[a] * u[a];
        }
        double rho_r = (double)work->push_rho[e] * (double)work->inverse_r[e];
        for (int a = 0; a < 3; a++) {
            double d = (double)g[e] * (along * u[a] * ((double)work->push_slope[e] - rho_r) + rho_r * gx[a]);
            work->dx_input[a * n + i] += d;
            work->dx_input[a * n + j] -= d;
        }
    }
}

void backward_pass(const tbg_cpu_net *net, tbg_cpu_work *work, float *gradient, int want_input) {
    const int hp = net->hp, nv = hp / VW, n = work->n;
    const size_t row = (size_t)hp, nodes = (size_t)n * row;
    float *dh = work->dh, *dha = work->dha;
    for (int l = net->layers - 1; l >= 0; l--) {
        const tbg_cpu_layer *layer = &net->layer[l];
        const tbg_cpu_layer_t *layer_t = &net->layer_t[l];
        const int last = l == net->layers - 1, slot = work->keep ? l : 0;
        const float *ha = work->ha + (size_t)l * 2 * nodes;
        if (!last) {
            const float *pre4 = work->pre4 + (size_t)l * nodes;
            silu_slope(nodes, pre4, work->node, work->dnode);
            column_sum(n, nv, dh, row, gradient + layer->b5);
            gemm_outer(n, nv, hp, work->node, row, dh, row, gradient + layer->w5, row);
            memset(work->node, 0, sizeof(float) * nodes);
            gemm_packed(n, nv, hp, dh, row, net->wt + layer_t->w5, NULL, work->node, row);
            times(nodes, work->dnode, work->node);
            column_sum(n, nv, work->node, row, gradient + layer->b4);
            gemm_outer(n, nv, 2 * hp, ha, 2 * row, work->node, row, gradient + layer->w4, row);
            for (int i = 0; i < n; i++) {
                memcpy(dha + (size_t)i * 2 * row, dh + (size_t)i * row, sizeof(float) * row);
                memset(dha + (size_t)i * 2 * row + row, 0, sizeof(float) * row);
            }
            gemm_packed(n, 2 * nv, hp, work->node, row, net->wt + layer_t->w4, NULL, dha, 2 * row);
        } else
            memset(dha, 0, sizeof(float) * 2 * nodes);
        layer_geometry(net, work, l);
        if (!work->keep && !last) { /* the last layer's activations are still there */
            gemm_packed(n, 2 * nv, hp, ha, 2 * row, net->w + layer->w1, net->w + layer->b1, work->ab,
                        2 * row);
            layer_edges(net, work, l, 0, 0);
        }
        edges_reverse(net, work, l, slot, gradient, want_input);
        if (want_input)
            harmonic_input_reverse(work, work->g + (size_t)slot * (size_t)work->capacity);
        geometry_reverse(net, work, work->s + (size_t)slot * (size_t)work->capacity);
        column_sum(n, nv, work->dab, 2 * row, gradient + layer->b1);
        gemm_outer(n, 2 * nv, hp, ha, 2 * row, work->dab, 2 * row, gradient + layer->w1, 2 * row);
        for (int i = 0; i < n; i++)
            memcpy(dh + (size_t)i * row, dha + (size_t)i * 2 * row, sizeof(float) * row);
        gemm_packed(n, nv, 2 * hp, work->dab, 2 * row, net->wt + layer_t->w1, NULL, dh, row);
    }
    column_sum(n, nv, dh, row, gradient + net->embedding_bias);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < net->n_in; k++) {
            float f = (float)work->inputs[(size_t)i * (size_t)net->n_in + (size_t)k];
            float *d = gradient + net->embedding + (size_t)k * row;
            if (f != 0)
                for (int c = 0; c < nv; c++)
                    store(d + c * VW, load(d + c * VW) + f * load(dh + (size_t)i * row + c * VW));
        }
}
