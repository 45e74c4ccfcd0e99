/* cuda_tangent.h: tangents of the edges of one configuration and layer, for several directions at once, in
 * the tiles of cuda_tile.h with factors of two parts. A tile's forward is computed once; what its tangents
 * need of it stays: the slope of the first activation in shared memory, the rest in registers, in the places
 * of the products that they meet. Then each direction is a tile of its own through the same two products. */
#ifndef TBG_NETWORK_CUDA_TANGENT_H
#define TBG_NETWORK_CUDA_TANGENT_H
#include "network/cuda_tile.h"

/* A tile's forward: y2 and slope of the second activation; slope of the third times the weight of q. */
typedef struct {
    tile_registers y2, slope2, slope3;
} tangent_forward;

/* Direction k through the tile that begins at edge e0: into sum_dot and next_dot. */
TBG_BLOCK_INLINE void tangent_tile(const tbg_cuda_job *J, const tbg_cuda_room *R, const tile_memory *S, int N,
                                   int layer, int e0, int k, const int H, tangent_forward *forward) {
    const tbg_cuda_layer *o = &J->layer[layer];
    const int stride = H + 8, slots = H / 8, low = TILE * stride, K = J->K;
    const size_t at = (size_t)k * N;
    const double *x_dot = R->x_dot + 3 * at, *x0_dot = R->x0_dot + 3 * at;
    const float *pa_dot = R->pa_dot + at * H, *pb_dot = R->pb_dot + at * H, *tail = J->wt + o->w1 + 2 * H * H;
    float *r_dot = S->dq, *r0_dot = S->dg, *a_dot = S->da;
    tile_registers z;
    TBG_EACH(row, TILE) {
        const int i = S->i[row], j = S->j[row];
        float r = 0, r0 = 0;
        for (int a = 0; a < 3 && i >= 0; a++) {
            r += 2 * S->vector[3 * row + a] * (float)(x_dot[3 * i + a] - x_dot[3 * j + a]);
            r0 += S->unit[3 * row + a] * (float)(x0_dot[3 * i + a] - x0_dot[3 * j + a]);
        }
        r_dot[row] = r;
        r0_dot[row] = r0;
    }
    TBG_SYNC();
    TBG_EACH(f, TILE * H) {
        const int row = f / H, c = f % H, i = S->i[row], j = S->j[row];
        float z1 = 0;
        if (i >= 0) {
            z1 = pa_dot[i * H + c] + pb_dot[j * H + c] + tail[c] * r_dot[row];
            if (r0_dot[row] !=
                0) { /* few edges of a direction of one atom; H, and with it a warp, is of one row */
                const float *de = R->de + (size_t)(i * N + j) * K;
                float slope = 0;
                for (int q = 0; q < K; q++)
                    slope += de[q] * tail[(1 + q) * H + c];
                z1 += slope * r0_dot[row];
            }
        }
        tile_put(S->a, row * stride + c, low, S->slope[f] * z1, 2);
    }
    TBG_SYNC();
    tile_product(z, H, S->a, S->w2, 0, 2);
    TILE_HALVES(slots) {
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                z[w][l][p][q] *= forward->slope2[w][l][p][q];
                if (J->attention)
                    sum += z[w][l][p][q] * J->w[o->wa + TILE_COLUMN];
            }
        S->part[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
    TBG_SYNC();
    TBG_EACH(row, TILE) {
        const float att = S->att[row];
        a_dot[row] = J->attention ? att * (1 - att) * tile_row_sum(S->part, row, slots) : 0;
    }
    TBG_SYNC();
    TILE_HALVES(slots) {
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) {
                const int row = TILE_ROW, c = TILE_COLUMN;
                const float m = z[w][l][p][q] * S->att[row] + forward->y2[w][l][p][q] * a_dot[row];
                tile_put(S->m, row * stride + c, low, m, 2);
                if (J->harmonic)
                    sum += m * J->w[o->wg + c];
            }
        S->part2[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
    TBG_SYNC();
    tile_product(z, H, S->m, S->w3, 0, 2);
    TILE_HALVES(slots) {
        float sum = 0;
        TBG_UNROLL
        for (int p = 0; p < 4; p++)
            TBG_UNROLL for (int q = 2 * half; q < 2 * half + 2; q++) sum +=
                z[w][l][p][q] * forward->slope3[w][l][p][q];
        S->part[TILE_HALF_ROW * slots + TILE_HALF_SLOT] = sum;
    }
    TBG_SYNC();
    TBG_EACH(row, TILE) { /* what the edge adds to the tangent of its receiver's next position */
        const int i = S->i[row], j = S->j[row];
        if (i < 0)
            continue;
        const int p = i * N + j;
        const float q_dot = tile_row_sum(S->part, row, slots), tq = J->tanh ? tanhf(S->q[row]) : 0;
        const float s_dot = J->tanh ? q_dot * (1 - tq * tq) * J->range : q_dot;
        const float root = S->root[row], below = root + 1, below_dot = r_dot[row] / (2 * root);
        const float rho = S->rho[row], g = S->g[row], r0 = R->r0[p];
        const float g_dot = J->harmonic ? tile_row_sum(S->part2, row, slots) : 0;
        const float pushed = g_dot * rho + g * (J->harmonic ? R->drho[p] : 0) * r0_dot[row];
        for (int a = 0; a < 3; a++) {
            const float v = S->vector[3 * row + a], n = S->unit[3 * row + a];
            const float u_dot =
                (float)(x_dot[3 * i + a] - x_dot[3 * j + a]) / below - v * below_dot / (below * below);
            const float n_dot =
                r0 > 0 ? ((float)(x0_dot[3 * i + a] - x0_dot[3 * j + a]) - n * r0_dot[row]) / r0 : 0;
            S->pull[3 * row + a] = u_dot * S->s[row] + v / below * s_dot + pushed * n + g * rho * n_dot;
        }
    }
    TBG_SYNC();
    TILE_RECEIVERS(first, receivers);
    TBG_EACH(f, receivers * 3) {
        const int i = first + f / 3, a = f % 3;
        TILE_SEGMENT(i, from, to);
        double total = 0;
        for (int row = from; row < to; row++)
            total += (double)S->pull[3 * row + a];
        R->next_dot[3 * (at + (size_t)i) + a] += total;
    }
    if (layer + 1 < J->L)
        tile_messages(S, N, e0, H, R->sum_dot + at * H, 2);
    TBG_SYNC();
}

/* The edges of a configuration alone: as tile_edges, and the tangents of D directions. own: direction k is
 * that of coordinate own + k, and of the last layer only its own component is wanted (cuda_run.h says why
 * that will do); else -1. */
TBG_BLOCK_INLINE void tangent_edges(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int layer, int D,
                                    int own, char *shared, const int H) {
    const tile_memory memory = tile_carve(shared, H, 2), *S = &memory;
    const tbg_cuda_layer *o = &J->layer[layer];
    const tbg_cuda_place P = place_first(J, b, 1);
    const int N = P.N, edges = N * (N - 1);
    TBG_EACH(f, D * N * H)
    R->sum_dot[f] = 0;
    TBG_EACH(f, D * N * 3)
    R->next_dot[f] = R->x_dot[f];
    tile_begin(J, R, S, N, layer, H, 2);
    TBG_UNROLL_1
    for (int e0 = 0; e0 < edges; e0 += TILE) {
        tangent_forward forward;
        tile_registers z2, z3;
        tile_step(J, R, S, &P, layer, e0, H, z2, z3, 2);
        TILE_ELEMENTS(H / 8) {
            const float z = z2[w][l][p][q], s = plain_sigmoid(z);
            forward.y2[w][l][p][q] = z * s;
            forward.slope2[w][l][p][q] = s * (1 + z * (1 - s));
            forward.slope3[w][l][p][q] = J->w[o->wc + TILE_COLUMN] * plain_slope(z3[w][l][p][q]);
        }
        TILE_RECEIVERS(first, receivers);
        TBG_UNROLL_1
        for (int k = 0; k < D; k++) {
            const int atom = (own + k) / 3;
            if (own < 0 || layer + 1 < J->L || (atom >= first && atom < first + receivers))
                tangent_tile(J, R, S, N, layer, e0, k, H, &forward);
        }
    }
}
#endif
