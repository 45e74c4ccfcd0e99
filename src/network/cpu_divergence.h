/* cpu_divergence.h: small pieces that the rooms of the exact divergence share. Included by cpu_*_simd.c only.
 */
#ifndef TBG_NETWORK_CPU_DIVERGENCE_H
#define TBG_NETWORK_CPU_DIVERGENCE_H
#include "network/cpu_vector.h"
#include <math.h>

enum { D = TBG_CPU_BLOCK, DP = TBG_CPU_BLOCK_PADDED };

INLINE size_t edge_of(int n, int i, int j) {
    return (size_t)(i * (n - 1) + (j > i ? j - 1 : j));
}

/* The harmonic term's share: gate g times the change of push with the input positions. */
INLINE void add_push(const tbg_cpu_work *work, size_t e, int alpha, float sign, float g, float g_dot,
                     float *x_dot, size_t step) {
    const size_t E = (size_t)work->capacity;
    float u_alpha = work->unit[(size_t)alpha * E + e], r0_dot = sign * u_alpha;
    float rho_r = work->push_rho[e] * work->inverse_r[e];
    for (int k = 0; k < 3; k++) {
        float u = work->unit[(size_t)k * E + e], d0 = k == alpha ? sign : 0;
        x_dot[(size_t)k * step] += g_dot * work->push[(size_t)k * E + e] +
                                   g * (u * r0_dot * (work->push_slope[e] - rho_r) + rho_r * d0);
    }
}

INLINE float dot(int nv, const float *a, const float *b) {
    vf s = {0};
    for (int c = 0; c < nv; c++)
        s += load(a + c * VW) * load(b + c * VW);
    float sum = 0;
    for (int r = 0; r < VW; r++)
        sum += s[r];
    return sum;
}

/* x(l + 1) of receiver i: what edge e = (i, j) adds to its tangents, `atoms` atoms' directions from a0. x_i,
 * x_j: tangents of the layer; r_dot, s_dot, g_dot of the directions (g_dot read for harmonic edges only).
 * move: [3][padded]. */
INLINE void move_edge(const tbg_cpu_net *net, const tbg_cpu_work *work, size_t e, int i, int j, int a0,
                      int atoms, const float *xi, const float *xj, const float *r_dot, const float *s_dot,
                      const float *g_dot, float *move) {
    const size_t E = (size_t)work->capacity;
    const float dx = work->d[e], dy = work->d[E + e], dz = work->d[2 * E + e];
    float scale = work->scale[e], s = work->s[e] * net->range;
    float k_r = -s * scale * scale / (2 * sqrtf(work->r2[e] + 1e-8f)), k_s = net->range * scale,
          k_d = s * scale;
    for (int d = 0; d < DP; d += VW) {
        vf along = k_r * load(r_dot + d) + k_s * load(s_dot + d);
        store(move + d, load(move + d) + k_d * (load(xi + d) - load(xj + d)) + dx * along);
        store(move + DP + d,
              load(move + DP + d) + k_d * (load(xi + DP + d) - load(xj + DP + d)) + dy * along);
        store(move + 2 * DP + d,
              load(move + 2 * DP + d) + k_d * (load(xi + 2 * DP + d) - load(xj + 2 * DP + d)) + dz * along);
    }
    if (work->harmonic_of[e] < 0)
        return;
    for (int k = 0; k < 3 * atoms; k++)
        for (int x = 0; x < 3; x++)
            move[x * DP + k] += g_dot[k] * work->push[(size_t)x * E + e];
    for (int alpha = 0; alpha < 3; alpha++) {
        if (i >= a0 && i < a0 + atoms)
            add_push(work, e, alpha, 1, work->g[e], 0, move + 3 * (i - a0) + alpha, DP);
        if (j >= a0 && j < a0 + atoms)
            add_push(work, e, alpha, -1, work->g[e], 0, move + 3 * (j - a0) + alpha, DP);
    }
}

#define last_edges TBG_SIMD_NAME(tbg_cpu_last_edges)
#define last_block TBG_SIMD_NAME(tbg_cpu_last_block)
#define closing_layers TBG_SIMD_NAME(tbg_cpu_closing_layers)
/* Last layer: pre3 becomes q d1, qh likewise; with_h: pre2 and p those times W1b^T. */
void last_edges(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int with_h);
/* Trace of one block: sum over its directions (a, alpha) of d x_a,alpha(L) / d x_a,alpha(0) - 1; with_h 0:
 * without what goes through the h of the last layer. */
double last_block(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int a0, int atoms, const float *x_dot,
                  const float *h_dot, int with_h);
/* The last two layers, from the tangents at the input of the first of them; at least three layers in all. */
double closing_layers(const tbg_cpu_net *net, tbg_cpu_work *work);
#define opening_first TBG_SIMD_NAME(tbg_cpu_opening_first)
#define opening_second TBG_SIMD_NAME(tbg_cpu_opening_second)
#define opening_block TBG_SIMD_NAME(tbg_cpu_opening_block)
/* Four layers or more: h_dot after the first layer; what all blocks share in the second; one block there. */
void opening_first(const tbg_cpu_net *net, tbg_cpu_work *work);
void opening_second(const tbg_cpu_net *net, tbg_cpu_work *work);
void opening_block(const tbg_cpu_net *net, tbg_cpu_work *work, int a0, int atoms, float *x_dot, float *h_dot);
#endif
