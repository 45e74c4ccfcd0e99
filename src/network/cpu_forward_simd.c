/* cpu_forward_simd.c: the layers of the network for one molecule, in single precision with positions in
 * double.
 *
 * Owns: geometry, messages and node update of one layer, and their order. Refuses: preparation of inputs
 * (cpu.c), derivatives. Edges of several receivers share a tile, so every product has full register blocks
 * whatever the molecule's size. */
#include "network/cpu_vector.h"
#include <math.h>
#include <string.h>

/* Differences from double positions, so that no digits are lost to a common offset; the rest in float. */
void layer_geometry(const tbg_cpu_net *net, tbg_cpu_work *work, int l) {
    const int n = work->n, E = work->capacity, ke = net->ke;
    const double *x = work->x + (size_t)l * 3 * (size_t)n, *y = x + n, *z = y + n;
    float *dx = work->d, *dy = dx + E, *dz = dy + E;
    for (int i = 0, e = 0; i < n; i++)
        for (int part = 0; part < 2; part++) {
            int from = part ? i + 1 : 0, to = part ? n : i;
            double xi = x[i], yi = y[i], zi = z[i];
            float *restrict ex = dx + e, *restrict ey = dy + e, *restrict ez = dz + e;
            for (int j = 0; j < to - from; j++) {
                ex[j] = (float)(xi - x[from + j]);
                ey[j] = (float)(yi - y[from + j]);
                ez[j] = (float)(zi - z[from + j]);
            }
            e += to - from;
        }
    float *restrict r2 = work->r2, *restrict scale = work->scale;
    const int edges = work->n_edges;
    for (int e = 0; e < edges; e++) {
        float r = dx[e] * dx[e] + dy[e] * dy[e] + dz[e] * dz[e];
        r2[e] = r;
        scale[e] = 1.0f / (sqrtf(r + 1e-8f) + 1.0f);
    }
    for (int e = 0; e < edges; e++)
        work->features[(size_t)e * (size_t)ke] = r2[e];
}

/* z[m] = sum_c w[c] silu(x[m][c]) + z0; the activations go to y unless it is NULL. Rows up to the next
 * multiple of VW are read (and ignored). */
INLINE void silu_dot(int M, int vectors, const float *x, float *y, const float *w, float z0, float *z) {
    for (int m = 0; m < M; m += VW) {
        vf sum[VW];
        int rows = M - m < VW ? M - m : VW;
        for (int r = rows; r < VW; r++)
            sum[r] = (vf){0};
        for (int r = 0; r < rows; r++) {
            size_t row = (size_t)(m + r) * (size_t)vectors * VW;
            vf s = {0};
            for (int c = 0; c < vectors; c++) {
                vf v = load(x + row + c * VW);
                v *= vsigmoid(v);
                if (y)
                    store(y + row + c * VW, v);
                s += v * load(w + c * VW);
            }
            sum[r] = s;
        }
        vf total = lane_sums(sum) + z0;
        if (rows == VW)
            store(z + m, total);
        else
            for (int r = 0; r < rows; r++)
                z[m + r] = total[r];
    }
}

void layer_edges(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int store_layer, int need_messages) {
    const int hp = net->hp, nv = hp / VW, ke = net->ke, tile = net->tile;
    const tbg_cpu_layer *layer = &net->layer[l];
    const float *w = net->w, *scalars = w + layer->scalars;
    const int keep = store_layer >= 0;
    const size_t edges = (size_t)work->capacity, at = keep ? (size_t)store_layer * edges : 0;
    float *gate = work->gate + at, *s = work->s + at, *g = work->g + at;
    float *ha = work->ha + (size_t)l * (size_t)work->n * 2 * (size_t)hp;
    for (int i = 0; need_messages && i < work->n; i++)
        memset(ha + (size_t)i * 2 * (size_t)hp + hp, 0, sizeof(float) * (size_t)hp);
    int next_harmonic = 0;
    for (int e0 = 0; e0 < work->n_edges; e0 += tile) {
        const int M = work->n_edges - e0 < tile ? work->n_edges - e0 : tile;
        const size_t first = (at + (size_t)e0) * (size_t)hp;
        float *pre1 = keep ? work->pre1 + first : work->t1, *a1 = work->t1;
        float *pre2 = keep ? work->pre2 + first : work->t2, *a2 = work->t2;
        float *pre3 = keep ? work->pre3 + first : work->t3;
        for (int m = 0; m < M; m++) {
            const float *a = work->ab + (size_t)work->receiver[e0 + m] * 2 * (size_t)hp;
            const float *b = work->ab + (size_t)work->sender[e0 + m] * 2 * (size_t)hp + hp;
            for (int c = 0; c < nv; c++)
                store(pre1 + (size_t)m * (size_t)hp + c * VW, load(a + c * VW) + load(b + c * VW));
        }
        gemm_packed(M, nv, ke, work->features + (size_t)e0 * (size_t)ke, (size_t)ke, w + layer->we, NULL,
                    pre1, (size_t)hp);
        silu_array((size_t)M * (size_t)hp, pre1, a1);
        gemm_packed(M, nv, hp, a1, (size_t)hp, w + layer->w2, w + layer->b2, pre2, (size_t)hp);
        if (net->spec.attention) {
            silu_dot(M, nv, pre2, a2, w + layer->wa, scalars[0], gate + e0);
            for (int m = 0; m < M; m += VW)
                store(gate + e0 + m, vsigmoid(load(gate + e0 + m)));
        } else {
            silu_array((size_t)M * (size_t)hp, pre2, a2);
            for (int m = 0; m < M; m++)
                gate[e0 + m] = 1.0f;
        }
        for (int m = 0; m < M; m++) {
            float *sum = ha + (size_t)work->receiver[e0 + m] * 2 * (size_t)hp + hp;
            float factor = gate[e0 + m];
            for (int c = 0; c < nv; c++) {
                vf v = load(a2 + (size_t)m * (size_t)hp + c * VW) * factor;
                store(a2 + (size_t)m * (size_t)hp + c * VW, v);
                if (need_messages)
                    store(sum + c * VW, load(sum + c * VW) + v);
            }
        }
        for (; next_harmonic < work->n_harmonic && work->harmonic[next_harmonic] < e0 + M; next_harmonic++) {
            int e = work->harmonic[next_harmonic];
            const float *m = a2 + (size_t)(e - e0) * (size_t)hp;
            vf sum = {0};
            for (int c = 0; c < nv; c++)
                sum += load(m + c * VW) * load(w + layer->wg + c * VW);
            float total = scalars[1];
            for (int r = 0; r < VW; r++)
                total += sum[r];
            g[e] = total;
        }
        gemm_packed(M, nv, hp, a2, (size_t)hp, w + layer->w3, w + layer->b3, pre3, (size_t)hp);
        silu_dot(M, nv, pre3, NULL, w + layer->wc, 0.0f, s + e0);
        if (net->spec.tanh)
            for (int m = 0; m < M; m += VW)
                store(s + e0 + m, vtanh(load(s + e0 + m)));
    }
}

/* x(l + 1) from s and the harmonic term. */
void move_atoms(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int store_layer) {
    const int n = work->n;
    const size_t E = (size_t)work->capacity, at = store_layer >= 0 ? (size_t)store_layer * E : 0;
    const float *s = work->s + at, *g = work->g + at, *d = work->d, *scale = work->scale;
    const double *x = work->x + (size_t)l * 3 * (size_t)n;
    double *y = work->x + (size_t)(l + 1) * 3 * (size_t)n;
    int next = 0;
    for (int i = 0; i < n; i++) {
        int e0 = i * (n - 1), e1 = e0 + n - 1;
        float sx = 0, sy = 0, sz = 0;
#pragma omp simd reduction(+ : sx, sy, sz)
        for (int e = e0; e < e1; e++) {
            float f = s[e] * scale[e];
            sx += f * d[e];
            sy += f * d[E + (size_t)e];
            sz += f * d[2 * E + (size_t)e];
        }
        double move[3] = {(double)sx * net->range, (double)sy * net->range, (double)sz * net->range};
        for (; next < work->n_harmonic && work->harmonic[next] < e1; next++) {
            size_t e = (size_t)work->harmonic[next];
            for (size_t k = 0; k < 3; k++)
                move[k] += (double)(g[e] * work->push[k * E + e]);
        }
        for (int k = 0; k < 3; k++)
            y[k * n + i] = x[k * n + i] + move[k];
    }
}

/* h(l + 1) = h + W5 silu(W4 [h, sum_j m_ij] + b4) + b5 */
void update_nodes(const tbg_cpu_net *net, tbg_cpu_work *work, int l) {
    const int hp = net->hp, nv = hp / VW, n = work->n;
    const tbg_cpu_layer *layer = &net->layer[l];
    const float *ha = work->ha + (size_t)l * (size_t)n * 2 * (size_t)hp;
    float *next = work->ha + (size_t)(l + 1) * (size_t)n * 2 * (size_t)hp;
    float *pre4 = work->pre4 + (size_t)l * (size_t)n * (size_t)hp;
    gemm_packed(n, nv, 2 * hp, ha, 2 * (size_t)hp, net->w + layer->w4, net->w + layer->b4, pre4, (size_t)hp);
    silu_array((size_t)n * (size_t)hp, pre4, work->node);
    gemm_packed(n, nv, hp, work->node, (size_t)hp, net->w + layer->w5, net->w + layer->b5, next,
                2 * (size_t)hp);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < nv; c++) {
            size_t k = (size_t)i * 2 * (size_t)hp + (size_t)c * VW;
            store(next + k, load(next + k) + load(ha + k));
        }
}

void embed_nodes(const tbg_cpu_net *net, tbg_cpu_work *work) {
    const int hp = net->hp, nv = hp / VW, n = work->n;
    for (int i = 0; i < n; i++) {
        float *h = work->ha + (size_t)i * 2 * (size_t)hp;
        memcpy(h, net->w + net->embedding_bias, sizeof(float) * (size_t)hp);
        for (int k = 0; k < net->n_in; k++) {
            float f = (float)work->inputs[(size_t)i * (size_t)net->n_in + (size_t)k];
            const float *row = net->w + net->embedding + (size_t)k * (size_t)hp;
            if (f != 0)
                for (int c = 0; c < nv; c++)
                    store(h + c * VW, load(h + c * VW) + f * load(row + c * VW));
        }
    }
}

void forward_pass(const tbg_cpu_net *net, tbg_cpu_work *work, int store_all) {
    const int hp = net->hp, nv = hp / VW, n = work->n;
    embed_nodes(net, work);
    for (int l = 0; l < net->layers; l++) {
        const tbg_cpu_layer *layer = &net->layer[l];
        const int last = l == net->layers - 1, slot = store_all ? (work->keep ? l : 0) : -1;
        gemm_packed(n, 2 * nv, hp, work->ha + (size_t)l * (size_t)n * 2 * (size_t)hp, 2 * (size_t)hp,
                    net->w + layer->w1, net->w + layer->b1, work->ab, 2 * (size_t)hp);
        layer_geometry(net, work, l);
        layer_edges(net, work, l, slot, !last);
        move_atoms(net, work, l, slot);
        if (!last)
            update_nodes(net, work, l);
    }
}
