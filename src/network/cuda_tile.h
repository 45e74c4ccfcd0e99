/* cuda_tile.h: the edges of one configuration and layer in tiles of 64, through the tensor cores: messages
 * and positions forward, and the gradient of the parameters in reverse. For widths H of 64 and 128, 4 H
 * threads.
 *
 * Factors are bf16, sums single precision. Nothing of an edge is written to global memory: the reverse pass
 * computes a tile's forward again. Edge e = i (N - 1) + jj of receiver i; tiles span receivers, not
 * configurations. The gradients of W2 and W3 stay in registers over all tiles of a configuration; sums by
 * receiver and by channel run over rows in their order, and each has one owner: no atomics, the same bits
 * every time. */
#ifndef TBG_NETWORK_CUDA_TILE_H
#define TBG_NETWORK_CUDA_TILE_H
#include "network/cuda_mma.h"
#include "network/cuda_room.h"

enum { TILE = 64, TILE_MOST_WARPS = 16, TILE_FLOATS = 22 };

/* Shared memory. Rows past the last edge have i = -1 and contribute zeros. */
typedef struct {
    tbg_half *w2, *w3;           /* [H][stride] as stored, [out][in] */
    tbg_half *a, *m, *c, *d;     /* [64][stride] y1; messages; dz3, then dz1; y3, then dz2 */
    float *part, *part2;         /* [64][H / 8] sums over a thread's channels */
    float *vector, *unit;        /* [64][3] x_i - x_j; of the input positions */
    float *r, *root, *along;     /* [64] squared distance; its root; harmonic force along dnext */
    float *att, *s, *g, *q;      /* [64] */
    float *dq, *dg, *da, *share; /* [64]; share = da / att */
    float *rho, *pull;           /* [64]; [64][3] gradient at x_i - x_j */
    int *i, *j;                  /* [64] */
} tile_memory;

#ifdef __CUDACC__
static __host__ __device__
#else
static inline
#endif
    size_t
    tile_shared_size(int H) {
    return ((size_t)2 * H + 4 * TILE) * (H + 8) * 2 + (size_t)2 * TILE * (H / 8) * 4 +
           (size_t)(TILE_FLOATS + 2) * TILE * 4;
}

TBG_BLOCK_INLINE tile_memory tile_carve(char *shared, int H) {
    tile_memory S;
    const int stride = H + 8;
    S.w2 = (tbg_half *)shared;
    S.w3 = S.w2 + H * stride;
    S.a = S.w3 + H * stride;
    S.m = S.a + TILE * stride;
    S.c = S.m + TILE * stride;
    S.d = S.c + TILE * stride;
    S.part = (float *)(S.d + TILE * stride);
    S.part2 = S.part + TILE * (H / 8);
    float *f = S.part2 + TILE * (H / 8);
    S.vector = f;
    S.unit = f + 3 * TILE;
    S.pull = f + 6 * TILE;
    S.r = f + 9 * TILE;
    S.root = f + 10 * TILE;
    S.along = f + 11 * TILE;
    S.att = f + 12 * TILE;
    S.s = f + 13 * TILE;
    S.g = f + 14 * TILE;
    S.q = f + 15 * TILE;
    S.dq = f + 16 * TILE;
    S.dg = f + 17 * TILE;
    S.da = f + 18 * TILE;
    S.share = f + 19 * TILE;
    S.rho = f + 20 * TILE;
    S.i = (int *)(f + TILE_FLOATS * TILE);
    S.j = S.i + TILE;
    return S;
}

/* Registers of a product of 64 x H: each warp has 16 x 32 of it. */
typedef float tile_registers[TBG_WARPS(TILE_MOST_WARPS)][TBG_LANES][4][4];

/* For every element of such a product: its row, its column, and [w][l][p][q]. */
#define TILE_ELEMENTS(warps)                                                                                 \
    TBG_EACH_WARP(w, warp, warps)                                                                            \
    TBG_EACH_LANE(l, lane)                                                                                   \
    TBG_UNROLL for (int p = 0; p < 4; p++) TBG_UNROLL for (int q = 0; q < 4; q++)
#define TILE_ROW ((warp & 3) * 16 + (lane >> 2) + (q >> 1) * 8)
#define TILE_COLUMN ((warp >> 2) * 32 + p * 8 + (lane & 3) * 2 + (q & 1))
/* For every pair of rows that a thread has part of; `half` is 0 or 1. */
#define TILE_HALVES(warps)                                                                                   \
    TBG_EACH_WARP(w, warp, warps)                                                                            \
    TBG_EACH_LANE(l, lane)                                                                                   \
    TBG_UNROLL for (int half = 0; half < 2; half++)
#define TILE_HALF_ROW ((warp & 3) * 16 + (lane >> 2) + half * 8)
#define TILE_HALF_SLOT ((warp >> 2) * 4 + (lane & 3))

TBG_BLOCK_INLINE float tile_row_sum(const float *part, int r, int slots) {
    float sum = 0;
    for (int k = 0; k < slots; k++)
        sum += part[r * slots + k];
    return sum;
}

/* part[row][slot]: sum of weight silu(z) over a thread's channels, for tile_row_sum; 0 without weights. */
TBG_BLOCK_INLINE void tile_row_parts(tile_registers z, int slots, const float *weight, float *part) {
    TILE_HALVES(slots) {
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) sum +=
                weight ? mma_silu(z[w][l][p][q]) * weight[TILE_COLUMN] : 0;
        part[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
}

TBG_BLOCK_INLINE void tile_product(tile_registers sum, int H, const tbg_half *A, const tbg_half *B,
                                   int turned) {
    TBG_EACH_WARP(w, warp, H / 8) {
        TBG_UNROLL
        for (int l = 0; l < TBG_LANES; l++)
            TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL
        for (int q = 0; q < 4; q++)
            sum[w][l][p][q] = 0;
        mma_tile(sum[w], H, A, 0, (warp & 3) * 16, B, turned, (warp >> 2) * 32, H + 8);
    }
}

TBG_BLOCK_INLINE void tile_weights(const tbg_cuda_job *J, const tbg_cuda_layer *o, const tile_memory *S,
                                   int H) {
    TBG_EACH(f, H * H) {
        const int at = f / H * (H + 8) + f % H;
        S->w2[at] = J->half[o->w2 + f];
        S->w3[at] = J->half[o->w3 + f];
    }
    TBG_SYNC();
}

/* z1 of a row's channel. */
TBG_BLOCK_INLINE float tile_z1(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                               const tile_memory *S, int N, int H, int row, int c) {
    const int i = S->i[row], j = S->j[row];
    const float *tail = J->wt + o->w1 + 2 * H * H + c, *e = R->e + (size_t)(i * N + j) * J->K;
    float z = J->w[o->b1 + c] + R->pa[i * H + c] + R->pb[j * H + c] + tail[0] * S->r[row];
    for (int k = 0; k < J->K; k++)
        z += tail[(1 + k) * H] * e[k];
    return z;
}

/* Forward of the tile that begins at edge e0. z2, z3: left in registers; y1 in a, messages in m. */
TBG_BLOCK_INLINE void tile_forward(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                   const tile_memory *S, int b, int N, int l_layer, int e0, int H,
                                   tile_registers z2, tile_registers z3) {
    const int stride = H + 8, slots = H / 8;
    TBG_EACH(row, TILE) {
        const int e = e0 + row, real = e < N * (N - 1);
        const int i = real ? e / (N - 1) : -1, jj = real ? e % (N - 1) : 0, j = real ? jj + (jj >= i) : 0;
        const int at = real ? i * N + j : 0;
        S->i[row] = i;
        S->j[row] = j;
        const double *x = R->x + (size_t)l_layer * N * 3;
        double r = 0;
        for (int k = 0; k < 3; k++) {
            const double d = real ? x[3 * i + k] - x[3 * j + k] : 0;
            S->vector[3 * row + k] = (float)d;
            S->unit[3 * row + k] = R->unit[3 * at + k];
            r += d * d;
        }
        S->r[row] = (float)r;
        S->root[row] = sqrtf((float)r + 1e-8f);
        S->rho[row] = real ? R->rho[at] : 0;
    }
    TBG_SYNC();
    TBG_EACH(f, TILE * H) {
        const int row = f / H, c = f % H;
        S->a[row * stride + c] = S->i[row] < 0 ? 0 : mma_half(mma_silu(tile_z1(J, R, o, S, N, H, row, c)));
    }
    TBG_SYNC();
    tile_product(z2, H, S->a, S->w2, 0);
    TILE_ELEMENTS(slots) z2[w][l][p][q] += J->w[o->b2 + TILE_COLUMN];
    tile_row_parts(z2, slots, J->attention ? J->w + o->wa : NULL, S->part);
    TBG_SYNC();
    TBG_EACH(row, TILE) {
        const float z = J->attention ? tile_row_sum(S->part, row, slots) + J->w[o->ba] : 0;
        S->att[row] = S->i[row] < 0 ? 0 : J->attention ? mma_sigmoid(z) : 1;
    }
    TBG_SYNC();
    TILE_HALVES(slots) {
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                const float m = mma_silu(z2[w][l][p][q]) * S->att[TILE_ROW];
                S->m[TILE_ROW * stride + TILE_COLUMN] = mma_half(m);
                if (J->harmonic)
                    sum += m * J->w[o->wg + TILE_COLUMN];
            }
        S->part2[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
    TBG_SYNC();
    tile_product(z3, H, S->m, S->w3, 0);
    TILE_ELEMENTS(slots) z3[w][l][p][q] += J->w[o->b3 + TILE_COLUMN];
    tile_row_parts(z3, slots, J->w + o->wc, S->part);
    TBG_SYNC();
    TBG_EACH(row, TILE) {
        const int real = S->i[row] >= 0;
        const float q = real ? tile_row_sum(S->part, row, slots) : 0;
        S->q[row] = q;
        S->s[row] = J->tanh ? tanhf(q) * J->range : q;
        S->g[row] =
            real && J->harmonic && S->rho[row] != 0 ? tile_row_sum(S->part2, row, slots) + J->w[o->bg] : 0;
    }
    TBG_SYNC();
    (void)b;
}

/* Rows [from, to) of the tile that receiver i has. */
#define TILE_SEGMENT(i, from, to)                                                                            \
    const int from = (i) * (N - 1) > e0 ? (i) * (N - 1) - e0 : 0;                                            \
    const int to = ((i) + 1) * (N - 1) < e0 + TILE ? ((i) + 1) * (N - 1) - e0 : TILE

TBG_BLOCK_INLINE void tile_edges(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int N, int layer,
                                 char *shared, const int H) {
    const tbg_cuda_layer *o = &J->layer[layer];
    const tile_memory memory = tile_carve(shared, H), *S = &memory;
    const int stride = H + 8, edges = N * (N - 1);
    const double *x = R->x + (size_t)layer * N * 3;
    double *next = R->x + (size_t)(layer + 1) * N * 3;
    float *sum = R->sum + (size_t)layer * N * H;
    tile_weights(J, o, S, H);
    TBG_EACH(f, N * H)
    sum[f] = 0;
    TBG_EACH(f, 3 * N)
    next[f] = x[f];
    TBG_SYNC();
    TBG_UNROLL_1
    for (int e0 = 0; e0 < edges; e0 += TILE) {
        tile_registers z2, z3;
        tile_forward(J, R, o, S, b, N, layer, e0, H, z2, z3);
        const int first = e0 / (N - 1), last = (e0 + TILE < edges ? e0 + TILE : edges) - 1;
        const int receivers = last / (N - 1) - first + 1;
        TBG_EACH(f, receivers * H) {
            const int i = first + f / H, c = f % H;
            TILE_SEGMENT(i, from, to);
            float total = 0;
            for (int row = from; row < to; row++)
                total += mma_float(S->m[row * stride + c]);
            sum[i * H + c] += total;
        }
        TBG_EACH(f, receivers * 3) {
            const int i = first + f / 3, k = f % 3;
            TILE_SEGMENT(i, from, to);
            float total = 0;
            for (int row = from; row < to; row++)
                total += S->vector[3 * row + k] / (S->root[row] + 1) * S->s[row] +
                         S->g[row] * S->rho[row] * S->unit[3 * row + k];
            next[3 * i + k] += (double)total;
        }
        TBG_SYNC();
    }
}

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
        for (int block = 0; block < H / 64; block++)
            mma_tile(sum[w][block], TILE, dz, 1, (warp & 3) * (H / 4) + 16 * block, y, 1, (warp >> 2) * 32,
                     H + 8);
    }
}

TBG_BLOCK_INLINE void tile_gradient_each(tile_gradient sum, int H, float *g) {
    TBG_EACH_WARP(w, warp, H / 8)
    TBG_EACH_LANE(l, lane)
    TBG_UNROLL
    for (int block = 0; block < H / 64; block++)
        TBG_UNROLL
    for (int p = 0; p < 4; p++)
        TBG_UNROLL
    for (int q = 0; q < 4; q++) {
        const int row = (warp & 3) * (H / 4) + 16 * block + (lane >> 2) + (q >> 1) * 8, column = TILE_COLUMN;
        if (g)
            g[row * H + column] += sum[w][block][l][p][q];
        else
            sum[w][block][l][p][q] = 0;
    }
}

/* Reverse of one tile: accumulates into dpa, dpb, dx, g, and dw2, dw3 in registers. */
TBG_BLOCK_INLINE void tile_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                   const tile_memory *S, int b, int N, int layer, int e0, int H, float *g,
                                   tile_gradient dw2, tile_gradient dw3) {
    const int stride = H + 8, slots = H / 8, K = J->K;
    tile_registers z2, z;
    tile_forward(J, R, o, S, b, N, layer, e0, H, z2, z);
    TBG_EACH(row, TILE) {
        const int i = S->i[row];
        float ds = 0, along = 0, pull = 0;
        for (int k = 0; k < 3 && i >= 0; k++) {
            const float d = (float)R->dnext[3 * i + k];
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
    tile_product(z, H, S->c, S->w3, 1);
    TILE_HALVES(slots) {
        const int i = S->i[TILE_HALF_ROW];
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                const int c = TILE_COLUMN;
                if (i >= 0)
                    z[w][l][p][q] += R->dsum[i * H + c];
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
    tile_product(z, H, S->d, S->w2, 1);
    TILE_HALVES(slots) {
        const int row = TILE_HALF_ROW, real = S->i[row] >= 0;
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                const int c = TILE_COLUMN;
                const float dz = real ? z[w][l][p][q] * mma_slope(tile_z1(J, R, o, S, N, H, row, c)) : 0;
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
            S->pull[3 * row + k] =
                i < 0 ? 0 : (float)R->dnext[3 * i + k] * s + 2 * dr * S->vector[3 * row + k];
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
                           (k == 1 ? S->r[row] : R->e[(size_t)(i * N + S->j[row]) * K + k - 2]);
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
            R->dpb[S->j[row] * H + c] += mma_float(S->c[row * stride + c]);
        }
        TBG_EACH(c, H) {
            float sum = 0;
            for (int row = from; row < to; row++)
                sum += mma_float(S->c[row * stride + c]);
            R->dpa[i * H + c] += sum;
        }
        TBG_EACH(f, (to - from) * 3) {
            const int row = from + f / 3, k = f % 3;
            R->dx[3 * S->j[row] + k] -= (double)S->pull[3 * row + k];
        }
        TBG_EACH(k, 3) {
            double sum = 0;
            for (int row = from; row < to; row++)
                sum += (double)S->pull[3 * row + k];
            R->dx[3 * i + k] += sum;
        }
        TBG_SYNC();
    }
}

TBG_BLOCK_INLINE void tile_edges_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int N,
                                         int layer, float *g, char *shared, const int H) {
    const tbg_cuda_layer *o = &J->layer[layer];
    const tile_memory memory = tile_carve(shared, H), *S = &memory;
    tile_gradient dw2, dw3;
    tile_weights(J, o, S, H);
    tile_gradient_each(dw2, H, NULL);
    tile_gradient_each(dw3, H, NULL);
    TBG_UNROLL_1
    for (int e0 = 0; e0 < N * (N - 1); e0 += TILE)
        tile_reverse(J, R, o, S, b, N, layer, e0, H, g, dw2, dw3);
    tile_gradient_each(dw2, H, g + o->w2);
    tile_gradient_each(dw3, H, g + o->w3);
    TBG_SYNC();
}
#endif
