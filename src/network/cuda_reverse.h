/* cuda_reverse.h: the gradient of the parameters through the edges of one configuration and layer, in the
 * tiles of cuda_tile.h with factors of one part; a tile's forward is computed again.
 *
 * The gradients of W2 and W3 stay in registers over all tiles of the group; sums by receiver and by
 * channel run over rows in their order, and each has one owner: no atomics, the same bits every time. */
#ifndef TBG_NETWORK_CUDA_REVERSE_H
#define TBG_NETWORK_CUDA_REVERSE_H
#include "network/cuda_tile.h"

/* g[c] += sum over rows of scale[row] y[row][c] (scale may be NULL). */
TBG_BLOCK_INLINE void tile_column(const float *scale, const tbg_half *y, int stride, int c, float *g) {
    float sum = 0;
    for (int row = 0; row < TILE; row++)
        sum += (scale ? scale[row] : 1) * mma_float(y[row * stride + c]);
    g[c] += sum;
}

/* Registers of an H x H gradient: each warp has H/4 x 32 of it. */
typedef float tile_gradient[TBG_WARPS(TILE_MOST_WARPS)][2][TBG_LANES][4][4];

/* sum += dz^T y over the tile's rows. */
TBG_BLOCK_INLINE void tile_outer(tile_gradient sum, int H, const tbg_half *dz, const tbg_half *y) {
    TBG_EACH_WARP(w, warp, H / 8) {
        TBG_UNROLL
        for (int block = 0; block < 2; block++)
            if (block < H / 64)
                mma_tile(sum[w][block], TILE, dz, 1, (warp & 3) * (H / 4) + 16 * block, y, 1,
                         (warp >> 2) * 32, H + 8);
    }
}

/* g += sum, rows of g stride apart; sum = 0 where g is NULL. */
TBG_BLOCK_INLINE void tile_gradient_each(tile_gradient sum, int H, float *g, int stride) {
    TBG_EACH_WARP(w, warp, H / 8)
    TBG_EACH_LANE(l, lane)
    TBG_UNROLL
    for (int block = 0; block < 2; block++)
        TBG_UNROLL
    for (int p = 0; p < 4; p++)
        TBG_UNROLL
    for (int q = 0; q < 4; q++) {
        const int row = (warp & 3) * (H / 4) + 16 * block + (lane >> 2) + (q >> 1) * 8, column = TILE_COLUMN;
        if (g && block < H / 64)
            g[(size_t)row * stride + column] += sum[w][block][l][p][q];
        if (!g)
            sum[w][block][l][p][q] = 0;
    }
}

/* Reverse of one tile: accumulates into dpa, dpb, dx, g, and dw2, dw3 in registers. */
TBG_BLOCK_INLINE void tile_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                   const tile_memory *S, const tbg_cuda_place *P, int layer, int e0, int H,
                                   float *g, tile_gradient dw2, tile_gradient dw3) {
    const int stride = H + 8, slots = H / 8, K = J->K, N = P->N;
    const double *dnext = R->dnext + 3 * P->row;
    const float *dsum = R->dsum + P->row * H;
    tile_registers z2, z;
    tile_forward(J, R, o, S, P, layer, e0, H, z2, z, 1);
    TBG_EACH(row, TILE) {
        const int i = S->i[row];
        float ds = 0, along = 0, pull = 0;
        for (int k = 0; k < 3 && i >= 0; k++) {
            const float d = (float)dnext[3 * i + k];
            ds += d * S->vector[3 * row + k];
            along += d * S->unit[3 * row + k];
        }
        const float below = S->root[row] + 1, tq = J->tanh ? tanhf(S->q[row]) : 0;
        pull = ds * S->s[row]; /* du . (x_i - x_j) */
        S->along[row] = pull / (below * below * 2 * S->root[row]);
        S->dq[row] = ds / below * (J->tanh ? (1 - tq * tq) * J->range : 1);
        S->dg[row] = S->rho[row] * along;
    }
    TBG_SYNC();
    TILE_ELEMENTS(slots) {
        const int row = TILE_ROW, c = TILE_COLUMN;
        const float z3 = z[w][l][p][q], s = mma_sigmoid(z3);
        S->d[row * stride + c] = mma_half(z3 * s);
        S->c[row * stride + c] = mma_half(S->dq[row] * J->w[o->wc + c] * (s + z3 * s * (1 - s)));
    }
    TBG_SYNC();
    TBG_EACH(f, 3 * H) {
        const int which = f / H, c = f % H;
        if (which == 0)
            tile_column(S->dq, S->d, stride, c, g + o->wc);
        else if (which == 1)
            tile_column(NULL, S->c, stride, c, g + o->b3);
        else if (J->harmonic)
            tile_column(S->dg, S->m, stride, c, g + o->wg);
    }
    tile_outer(dw3, H, S->c, S->m);
    tile_product(z, H, S->c, S->w3, 1, 1);
    TILE_HALVES(slots) {
        const int i = S->i[TILE_HALF_ROW];
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                const int c = TILE_COLUMN;
                if (i >= 0)
                    z[w][l][p][q] += dsum[i * H + c];
                if (J->harmonic)
                    z[w][l][p][q] += S->dg[TILE_ROW] * J->w[o->wg + c];
                sum += z[w][l][p][q] * mma_silu(z2[w][l][p][q]);
            }
        S->part[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
    TBG_SYNC();
    TBG_EACH(row, TILE) {
        const float att = S->att[row], dot = tile_row_sum(S->part, row, slots);
        S->share[row] = J->attention && S->i[row] >= 0 ? dot * (1 - att) : 0;
        S->da[row] = S->share[row] * att;
    }
    TBG_SYNC();
    TILE_ELEMENTS(slots) {
        const int row = TILE_ROW, c = TILE_COLUMN;
        float dy = z[w][l][p][q] * S->att[row];
        if (J->attention)
            dy += S->da[row] * J->w[o->wa + c];
        S->d[row * stride + c] = mma_half(dy * mma_slope(z2[w][l][p][q]));
    }
    TBG_SYNC();
    TBG_EACH(f, 2 * H + 2) {
        const int which = f / H, c = f % H;
        if (which == 0)
            tile_column(NULL, S->d, stride, c, g + o->b2);
        else if (which == 1) {
            if (J->attention)
                tile_column(S->share, S->m, stride, c, g + o->wa);
        } else if (c ? J->harmonic : J->attention) { /* two biases of one element */
            float sum = 0;
            for (int row = 0; row < TILE; row++)
                sum += c ? S->dg[row] : S->da[row];
            g[c ? o->bg : o->ba] += sum;
        }
    }
    tile_outer(dw2, H, S->d, S->a);
    tile_product(z, H, S->d, S->w2, 1, 1);
    TILE_HALVES(slots) {
        const int row = TILE_HALF_ROW, real = S->i[row] >= 0;
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                const int c = TILE_COLUMN;
                const float dz = real ? z[w][l][p][q] * mma_slope(tile_z1(J, R, o, S, P, H, row, c)) : 0;
                S->c[row * stride + c] = mma_half(dz);
                sum += dz * J->wt[o->w1 + 2 * H * H + c];
            }
        S->part[row * slots + TILE_HALF_SLOT] = sum;
    }
    TBG_SYNC();
    TBG_EACH(row, TILE) {
        const int i = S->i[row];
        const float dr = tile_row_sum(S->part, row, slots) - S->along[row],
                    s = S->s[row] / (S->root[row] + 1);
        for (int k = 0; k < 3; k++)
            S->pull[3 * row + k] = i < 0 ? 0 : (float)dnext[3 * i + k] * s + 2 * dr * S->vector[3 * row + k];
    }
    TBG_EACH(f, H * (2 + K)) {
        const int k = f / H, c = f % H;
        if (k == 0)
            tile_column(NULL, S->c, stride, c, g + o->b1);
        else {
            float sum = 0;
            for (int row = 0; row < TILE; row++) {
                const int i = S->i[row];
                if (i >= 0)
                    sum += mma_float(S->c[row * stride + c]) *
                           (k == 1 ? S->r[row] : R->e[(size_t)(P->pair + i * N + S->j[row]) * K + k - 2]);
            }
            g[o->w1 + c * (2 * H + 1 + K) + 2 * H + k - 1] += sum;
        }
    }
    TBG_SYNC();
    const int edges = N * (N - 1), first = e0 / (N - 1), last = (e0 + TILE < edges ? e0 + TILE : edges) - 1;
    TBG_UNROLL_1
    for (int i = first; i <= last / (N - 1); i++) { /* senders differ within a receiver's rows */
        TILE_SEGMENT(i, from, to);
        TBG_EACH(f, (to - from) * H) {
            const int row = from + f / H, c = f % H;
            R->dpb[(P->row + S->j[row]) * H + c] += mma_float(S->c[row * stride + c]);
        }
        TBG_EACH(c, H) {
            float sum = 0;
            for (int row = from; row < to; row++)
                sum += mma_float(S->c[row * stride + c]);
            R->dpa[(P->row + i) * H + c] += sum;
        }
        TBG_EACH(f, (to - from) * 3) {
            const int row = from + f / 3, k = f % 3;
            R->dx[3 * (P->row + S->j[row]) + k] -= (double)S->pull[3 * row + k];
        }
        TBG_EACH(k, 3) {
            double sum = 0;
            for (int row = from; row < to; row++)
                sum += (double)S->pull[3 * row + k];
            R->dx[3 * (P->row + i) + k] += sum;
        }
        TBG_SYNC();
    }
}

/* The edges of `count` configurations from `first` on. */
TBG_BLOCK_INLINE void tile_edges_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int first, int count,
                                         int layer, float *g, char *shared, const int H) {
    const tbg_cuda_layer *o = &J->layer[layer];
    const tile_memory memory = tile_carve(shared, H, 1), *S = &memory;
    tile_gradient dw2, dw3;
    tile_weights(J, o, S, H, 1);
    tile_gradient_each(dw2, H, NULL, 0);
    tile_gradient_each(dw3, H, NULL, 0);
    TBG_EACH_PLACE(J, P, first, count) {
        TBG_UNROLL_1
        for (int e0 = 0; e0 < P.N * (P.N - 1); e0 += TILE)
            tile_reverse(J, R, o, S, &P, layer, e0, H, g, dw2, dw3);
    }
    tile_gradient_each(dw2, H, g + o->w2, H);
    tile_gradient_each(dw3, H, g + o->w3, H);
    TBG_SYNC();
}
#endif
