/* cuda_node.h: what a layer does with nodes, through the tensor cores: the counterparts of cuda_plain.h's
 * plain_project, plain_nodes and their reverse, with the same arrays. Rows are nodes, or nodes of several
 * directions one after the other, in tiles of 64; factors have the parts of cuda_tile.h, in reverse one.
 * Calls, not inlined, of one code for all widths: the kernels have no registers to spare. */
#ifndef TBG_NETWORK_CUDA_NODE_H
#define TBG_NETWORK_CUDA_NODE_H
#include "network/cuda_reverse.h"

/* Rows r0, r0 + 1, ... of x [rows][H] into a tile; those past the last are 0. Part of a phase. */
TBG_BLOCK_INLINE void node_tile(int rows, int r0, const float *x, tbg_half *tile, int H, int parts) {
    TBG_EACH(f, TILE * H) {
        const int row = f / H, c = f % H;
        tile_put(tile, row * (H + 8) + c, TILE * (H + 8), r0 + row < rows ? x[(size_t)(r0 + row) * H + c] : 0,
                 parts);
    }
}

/* y[r][o] = (bias[o]) + (y[r][o] if more) + sum_k x[r][k] w(o, k), which lies at w[o w_stride + k]; turned:
 * at w[k w_stride + o]. x, y: [rows][H]. Its own phases. */
TBG_BLOCK_F void node_multiply(const tile_memory *S, int rows, const float *w, int w_stride, int turned,
                               const float *x, const float *bias, int more, float *y, int H, int parts) {
    TBG_EACH(f, H * H)
    tile_put(S->w2, f / H * (H + 8) + f % H, H * (H + 8), w[(size_t)(f / H) * w_stride + f % H], parts);
    TBG_UNROLL_1
    for (int r0 = 0; r0 < rows; r0 += TILE) {
        tile_registers z;
        node_tile(rows, r0, x, S->a, H, parts);
        TBG_SYNC();
        tile_product(z, H, S->a, S->w2, turned, parts);
        TILE_ELEMENTS(H / 8) {
            const int r = r0 + TILE_ROW, o = TILE_COLUMN;
            if (r < rows) {
                float *to = y + (size_t)r * H + o;
                *to = z[w][l][p][q] + (bias ? bias[o] : 0) + (more ? *to : 0);
            }
        }
        TBG_SYNC();
    }
}

/* g[o][k] += sum over rows of dy[r][o] x[r][k], rows of g stride apart. Its own phases. */
TBG_BLOCK_F void node_outer(const tile_memory *S, int rows, const float *dy, const float *x, float *g,
                            int stride, int H) {
    tile_gradient sum;
    tile_gradient_each(sum, H, NULL, 0);
    TBG_UNROLL_1
    for (int r0 = 0; r0 < rows; r0 += TILE) {
        node_tile(rows, r0, dy, S->c, H, 1);
        node_tile(rows, r0, x, S->a, H, 1);
        TBG_SYNC();
        tile_outer(sum, H, S->c, S->a);
        TBG_SYNC();
    }
    tile_gradient_each(sum, H, g, stride);
}

/* Node parts of the first edge matrix. */
TBG_BLOCK_F void node_project(const tbg_cuda_job *J, const tbg_cuda_room *R, int N, int layer, int D,
                              char *shared, int H, int parts) {
    const tile_memory memory = tile_carve(shared, H, parts), *S = &memory;
    const float *w1 = J->w + J->layer[layer].w1, *h = R->h + (size_t)layer * N * H;
    const int stride = 2 * H + 1 + J->K;
    node_multiply(S, N, w1, stride, 0, h, NULL, 0, R->pa, H, parts);
    node_multiply(S, N, w1 + H, stride, 0, h, NULL, 0, R->pb, H, parts);
    if (D) {
        node_multiply(S, D * N, w1, stride, 0, R->h_dot, NULL, 0, R->pa_dot, H, parts);
        node_multiply(S, D * N, w1 + H, stride, 0, R->h_dot, NULL, 0, R->pb_dot, H, parts);
    }
}

/* h of the next layer, and its tangents. */
TBG_BLOCK_F void node_update(const tbg_cuda_job *J, const tbg_cuda_room *R, int N, int layer, int D,
                             char *shared, int H, int parts) {
    const tile_memory memory = tile_carve(shared, H, parts), *S = &memory;
    const tbg_cuda_layer *o = &J->layer[layer];
    const int NH = N * H;
    const float *h = R->h + (size_t)layer * NH, *w4 = J->w + o->w4, *w5 = J->w + o->w5;
    float *next = R->h + (size_t)(layer + 1) * NH;
    node_multiply(S, N, w4, 2 * H, 0, h, J->w + o->b4, 0, R->z4, H, parts);
    node_multiply(S, N, w4 + H, 2 * H, 0, R->sum + (size_t)layer * NH, NULL, 1, R->z4, H, parts);
    TBG_EACH(f, NH) {
        R->y4[f] = plain_silu(R->z4[f]);
        next[f] = h[f];
    }
    TBG_SYNC();
    node_multiply(S, N, w5, H, 0, R->y4, J->w + o->b5, 1, next, H, parts);
    if (!D)
        return;
    node_multiply(S, D * N, w4, 2 * H, 0, R->h_dot, NULL, 0, R->t1, H, parts);
    node_multiply(S, D * N, w4 + H, 2 * H, 0, R->sum_dot, NULL, 1, R->t1, H, parts);
    TBG_EACH(f, D * NH)
    R->t1[f] *= plain_slope(R->z4[f % NH]);
    TBG_SYNC();
    node_multiply(S, D * N, w5, H, 0, R->t1, NULL, 1, R->h_dot, H, parts);
}

/* Reverse of node_update: dh becomes the gradient at h of layer l (this path only); dsum: assigned. */
TBG_BLOCK_F void node_update_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int N, int layer,
                                     float *g, char *shared, int H) {
    const tile_memory memory = tile_carve(shared, H, 1), *S = &memory;
    const tbg_cuda_layer *o = &J->layer[layer];
    const int NH = N * H;
    const float *h = R->h + (size_t)layer * NH, *sum = R->sum + (size_t)layer * NH, *w4 = J->w + o->w4;
    node_multiply(S, N, w4, 2 * H, 0, h, J->w + o->b4, 0, R->z4, H, 1);
    node_multiply(S, N, w4 + H, 2 * H, 0, sum, NULL, 1, R->z4, H, 1);
    node_multiply(S, N, J->w + o->w5, H, 1, R->dh, NULL, 0, R->d1, H, 1); /* dy4 */
    TBG_EACH(f, NH) {
        R->y4[f] = plain_silu(R->z4[f]);
        R->d1[f] *= plain_slope(R->z4[f]); /* dz4 */
    }
    TBG_SYNC();
    if (g) {
        node_outer(S, N, R->dh, R->y4, g + o->w5, H, H);
        node_outer(S, N, R->d1, h, g + o->w4, 2 * H, H);
        node_outer(S, N, R->d1, sum, g + o->w4 + H, 2 * H, H);
        plain_columns(N, -1, H, NULL, R->dh, g + o->b5);
        plain_columns(N, -1, H, NULL, R->d1, g + o->b4);
        TBG_SYNC();
    }
    node_multiply(S, N, w4, 2 * H, 1, R->d1, NULL, 1, R->dh, H, 1);
    node_multiply(S, N, w4 + H, 2 * H, 1, R->d1, NULL, 0, R->dsum, H, 1);
}

/* Node parts of the first edge matrix, in reverse: into dh and g. */
TBG_BLOCK_F void node_project_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int N, int layer,
                                      float *g, char *shared, int H) {
    const tile_memory memory = tile_carve(shared, H, 1), *S = &memory;
    const int w1 = J->layer[layer].w1, stride = 2 * H + 1 + J->K;
    const float *h = R->h + (size_t)layer * N * H;
    if (g) {
        node_outer(S, N, R->dpa, h, g + w1, stride, H);
        node_outer(S, N, R->dpb, h, g + w1 + H, stride, H);
    }
    node_multiply(S, N, J->w + w1, stride, 1, R->dpa, NULL, 1, R->dh, H, 1);
    node_multiply(S, N, J->w + w1 + H, stride, 1, R->dpb, NULL, 1, R->dh, H, 1);
}
#endif
