/* cuda_tile.h: the edges of one configuration and layer in tiles of 64, through the tensor cores: messages
 * and positions forward. cuda_reverse.h and cuda_tangent.h go on from a tile's forward, cuda_node.h has the
 * products of nodes. For widths H of 32, 64 and 128, 4 H threads; cuda_reverse.h for the latter two.
 *
 * Factors have one or two parts. One: bf16; what a gradient or a proposal needs. Two: x = high + low, both
 * bf16, and x y = high high + high low + low high, which leaves 2^-16 of it: what velocities and densities
 * need. Sums are single precision.
 *
 * Edge e = i (N - 1) + jj of receiver i; tiles span receivers, not configurations. Nothing of an edge is
 * written to global memory. Sums by receiver run over rows in their order, and each has one owner: no
 * atomics, the same bits every time. */
#ifndef TBG_NETWORK_CUDA_TILE_H
#define TBG_NETWORK_CUDA_TILE_H
#include "network/cuda_mma.h"
#include "network/cuda_plain.h"

enum { TILE = 64, TILE_MOST_WARPS = 16, TILE_FLOATS = 22 };

/* Shared memory. Rows past the last edge have i = -1 and contribute zeros. The low parts of a matrix lie
 * behind its high ones. */
typedef struct {
    tbg_half *w2, *w3;           /* [parts][H][stride] as stored, [out][in] */
    tbg_half *a, *m, *c, *d;     /* [parts][64][stride] y1; messages; dz3, then dz1; y3, then dz2; two parts:
                                    m is a, there is no c and no d */
    float *slope;                /* [64][H] of the first activation; one part: NULL */
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
    tile_shared_size(int H, int parts) {
    const size_t halves = parts == 2 ? 4 * (size_t)H + 2 * TILE : 2 * (size_t)H + 4 * TILE;
    return halves * (H + 8) * 2 + (parts == 2 ? (size_t)TILE * H * 4 : 0) + (size_t)2 * TILE * (H / 8) * 4 +
           (size_t)(TILE_FLOATS + 2) * TILE * 4;
}

TBG_BLOCK_INLINE tile_memory tile_carve(char *shared, int H, const int parts) {
    tile_memory S;
    const int stride = H + 8;
    S.w2 = (tbg_half *)shared;
    S.w3 = S.w2 + parts * H * stride;
    S.a = S.w3 + parts * H * stride;
    S.m = parts == 2 ? S.a : S.a + TILE * stride;
    S.c = S.m + TILE * stride;
    S.d = S.c + TILE * stride;
    S.part = (float *)(parts == 2 ? S.d : S.d + TILE * stride);
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
    S.slope = parts == 2 ? (float *)(S.j + TILE) : NULL;
    return S;
}

/* Element `at` of a matrix whose low part lies `low` further on. */
TBG_BLOCK_INLINE void tile_put(tbg_half *A, int at, int low, float value, const int parts) {
    A[at] = mma_half(value);
    if (parts == 2)
        A[at + low] = mma_half(value - mma_float(A[at]));
}

TBG_BLOCK_INLINE float tile_get(const tbg_half *A, int at, int low, const int parts) {
    return parts == 2 ? mma_float(A[at]) + mma_float(A[at + low]) : mma_float(A[at]);
}

TBG_BLOCK_INLINE float tile_sigmoid(float z, const int parts) {
    return parts == 2 ? plain_sigmoid(z) : mma_sigmoid(z);
}

TBG_BLOCK_INLINE float tile_silu(float z, const int parts) {
    return z * tile_sigmoid(z, parts);
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
TBG_BLOCK_INLINE void tile_row_parts(tile_registers z, int slots, const float *weight, float *part,
                                     const int parts) {
    TILE_HALVES(slots) {
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) sum +=
                weight ? tile_silu(z[w][l][p][q], parts) * weight[TILE_COLUMN] : 0;
        part[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
}

/* sum = A B^T, or A B (turned), of a tile A and a matrix B of H x H. */
TBG_BLOCK_INLINE void tile_product(tile_registers sum, int H, const tbg_half *A, const tbg_half *B,
                                   int turned, const int parts) {
    const int stride = H + 8;
    TBG_EACH_WARP(w, warp, H / 8) {
        const int row = (warp & 3) * 16, column = (warp >> 2) * 32;
        TBG_UNROLL
        for (int l = 0; l < TBG_LANES; l++)
            TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL
        for (int q = 0; q < 4; q++)
            sum[w][l][p][q] = 0;
        TBG_UNROLL_1
        for (int term = parts == 2 ? 2 : 0; term >= 0; term--) /* high high last */
            mma_tile(sum[w], H, A + (term == 2 ? TILE * stride : 0), 0, row, B + (term == 1 ? H * stride : 0),
                     turned, column, stride);
    }
}

TBG_BLOCK_INLINE void tile_weights(const tbg_cuda_job *J, const tbg_cuda_layer *o, const tile_memory *S,
                                   int H, const int parts) {
    const int low = H * (H + 8);
    TBG_EACH(f, H * H) {
        const int at = f / H * (H + 8) + f % H;
        if (parts == 2) {
            tile_put(S->w2, at, low, J->w[o->w2 + f], 2);
            tile_put(S->w3, at, low, J->w[o->w3 + f], 2);
        } else {
            S->w2[at] = J->half[o->w2 + f];
            S->w3[at] = J->half[o->w3 + f];
        }
    }
    TBG_SYNC();
}

/* z1 of a row's channel. */
TBG_BLOCK_INLINE float tile_z1(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                               const tile_memory *S, const tbg_cuda_place *p, int H, int row, int c) {
    const int i = S->i[row], j = S->j[row];
    const float *tail = J->wt + o->w1 + 2 * H * H + c, *e = R->e + (size_t)(p->pair + i * p->N + j) * J->K;
    float z =
        J->w[o->b1 + c] + R->pa[(p->row + i) * H + c] + R->pb[(p->row + j) * H + c] + tail[0] * S->r[row];
    for (int k = 0; k < J->K; k++)
        z += tail[(1 + k) * H] * e[k];
    return z;
}

/* Forward of the tile that begins at edge e0. z2, z3: left in registers; y1 in a, messages in m. */
TBG_BLOCK_INLINE void tile_forward(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                   const tile_memory *S, const tbg_cuda_place *P, int layer, int e0, int H,
                                   tile_registers z2, tile_registers z3, const int parts) {
    const int stride = H + 8, slots = H / 8, low = TILE * stride, N = P->N;
    TBG_EACH(row, TILE) {
        const int e = e0 + row, real = e < N * (N - 1);
        const int i = real ? e / (N - 1) : -1, jj = real ? e % (N - 1) : 0, j = real ? jj + (jj >= i) : 0;
        const size_t at = (size_t)(P->pair + (real ? i * N + j : 0));
        S->i[row] = i;
        S->j[row] = j;
        const double *x = R->x + 3 * ((size_t)layer * P->rows + P->row);
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
        const float z = S->i[row] < 0 ? 0 : tile_z1(J, R, o, S, P, H, row, c); /* silu(0) = 0 */
        tile_put(S->a, row * stride + c, low, tile_silu(z, parts), parts);
        if (parts == 2)
            S->slope[f] = S->i[row] < 0 ? 0 : plain_slope(z);
    }
    TBG_SYNC();
    tile_product(z2, H, S->a, S->w2, 0, parts);
    TILE_ELEMENTS(slots) z2[w][l][p][q] += J->w[o->b2 + TILE_COLUMN];
    tile_row_parts(z2, slots, J->attention ? J->w + o->wa : NULL, S->part, parts);
    TBG_SYNC();
    TBG_EACH(row, TILE) {
        const float z = J->attention ? tile_row_sum(S->part, row, slots) + J->w[o->ba] : 0;
        S->att[row] = S->i[row] < 0 ? 0 : J->attention ? tile_sigmoid(z, parts) : 1;
    }
    TBG_SYNC();
    TILE_HALVES(slots) {
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                const float m = tile_silu(z2[w][l][p][q], parts) * S->att[TILE_ROW];
                tile_put(S->m, TILE_ROW * stride + TILE_COLUMN, low, m, parts);
                if (J->harmonic)
                    sum += m * J->w[o->wg + TILE_COLUMN];
            }
        S->part2[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
    TBG_SYNC();
    tile_product(z3, H, S->m, S->w3, 0, parts);
    TILE_ELEMENTS(slots) z3[w][l][p][q] += J->w[o->b3 + TILE_COLUMN];
    tile_row_parts(z3, slots, J->w + o->wc, S->part, parts);
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
}

/* Rows [from, to) of the tile that receiver i has. */
#define TILE_SEGMENT(i, from, to)                                                                            \
    const int from = (i) * (N - 1) > e0 ? (i) * (N - 1) - e0 : 0;                                            \
    const int to = ((i) + 1) * (N - 1) < e0 + TILE ? ((i) + 1) * (N - 1) - e0 : TILE

/* Receivers that the tile has rows of: `first` and how many. */
#define TILE_RECEIVERS(first, receivers)                                                                     \
    const int first = e0 / (N - 1);                                                                          \
    const int receivers = ((e0 + TILE < N * (N - 1) ? e0 + TILE : N * (N - 1)) - 1) / (N - 1) - first + 1

/* The messages of the tile's rows, or their tangents, into the sums of their receivers. Part of a phase. */
TBG_BLOCK_INLINE void tile_messages(const tile_memory *S, int N, int e0, int H, float *sum, const int parts) {
    const int stride = H + 8;
    TILE_RECEIVERS(first, receivers);
    TBG_EACH(f, receivers * H) {
        const int i = first + f / H, c = f % H;
        TILE_SEGMENT(i, from, to);
        float total = 0;
        for (int row = from; row < to; row++)
            total += tile_get(S->m, row * stride + c, TILE * stride, parts);
        sum[i * H + c] += total;
    }
}

/* The tile's rows into the message sums and next positions of their receivers. */
TBG_BLOCK_INLINE void tile_sums(const tile_memory *S, int N, int e0, int H, float *sum, double *next,
                                const int parts) {
    TILE_RECEIVERS(first, receivers);
    tile_messages(S, N, e0, H, sum, parts);
    TBG_EACH(f, receivers * 3) {
        const int i = first + f / 3, k = f % 3;
        TILE_SEGMENT(i, from, to);
        double total = 0;
        for (int row = from; row < to; row++)
            total += (double)(S->vector[3 * row + k] / (S->root[row] + 1) * S->s[row] +
                              S->g[row] * S->rho[row] * S->unit[3 * row + k]);
        next[3 * i + k] += total;
    }
    TBG_SYNC();
}

/* Of all atoms of a group: message sums empty, next positions those of the layer; and its weights in shared
 * memory. */
TBG_BLOCK_INLINE void tile_begin(const tbg_cuda_job *J, const tbg_cuda_room *R, const tile_memory *S,
                                 int rows, int layer, int H, const int parts) {
    const double *x = R->x + (size_t)layer * rows * 3;
    double *next = R->x + (size_t)(layer + 1) * rows * 3;
    float *sum = R->sum + (size_t)layer * rows * H;
    TBG_EACH(f, rows * H)
    sum[f] = 0;
    TBG_EACH(f, 3 * rows)
    next[f] = x[f];
    tile_weights(J, &J->layer[layer], S, H, parts);
}

/* A tile's forward and what it adds to message sums and next positions. */
TBG_BLOCK_INLINE void tile_step(const tbg_cuda_job *J, const tbg_cuda_room *R, const tile_memory *S,
                                const tbg_cuda_place *P, int layer, int e0, int H, tile_registers z2,
                                tile_registers z3, const int parts) {
    tile_forward(J, R, &J->layer[layer], S, P, layer, e0, H, z2, z3, parts);
    tile_sums(S, P->N, e0, H, R->sum + ((size_t)layer * P->rows + P->row) * H,
              R->x + 3 * ((size_t)(layer + 1) * P->rows + P->row), parts);
}

/* The edges of `count` configurations from `first` on. */
TBG_BLOCK_INLINE void tile_edges(const tbg_cuda_job *J, const tbg_cuda_room *R, int first, int count,
                                 int layer, char *shared, const int H, const int parts) {
    const tile_memory memory = tile_carve(shared, H, parts), *S = &memory;
    tile_begin(J, R, S, place_first(J, first, count).rows, layer, H, parts);
    TBG_EACH_PLACE(J, P, first, count) {
        TBG_UNROLL_1
        for (int e0 = 0; e0 < P.N * (P.N - 1); e0 += TILE) {
            tile_registers z2, z3;
            tile_step(J, R, S, &P, layer, e0, H, z2, z3, parts);
        }
    }
}
#endif
