/* cuda_run.h: what a block does of a job: which configurations it takes, and in what order their parts are
 * computed. width: H where the tensor cores are used, a constant for the device's compiler; 0: the plain
 * path. parts: of the factors there (cuda_tile.h). The share of a block depends on the number of blocks only,
 * so results repeat on the same device. */
#ifndef TBG_NETWORK_CUDA_RUN_H
#define TBG_NETWORK_CUDA_RUN_H
#include "network/cuda_node.h"
#include "network/cuda_tangent.h"

/* v of `count` configurations from `first` on and, of a single one for D directions from x0_dot, v_dot (in
 * next_dot). own: see tangent_edges; next_dot is then the tangent of the last positions. */
TBG_BLOCK_INLINE void run_forward(const tbg_cuda_job *J, const tbg_cuda_room *R, int first, int count, int D,
                                  int own, char *shared, const int width, const int parts) {
    const int rows = place_first(J, first, count).rows, H = J->H;
    TBG_EACH_PLACE(J, p, first, count)
    plain_begin(J, R, p);
    TBG_EACH(k, D * rows * H)
    R->h_dot[k] = 0;
    TBG_EACH(k, D * rows * 3)
    R->x_dot[k] = R->x0_dot[k];
    TBG_SYNC();
    TBG_UNROLL_1
    for (int l = 0; l < J->L; l++) {
        if (width) {
            node_project(J, R, rows, l, D, shared, width, parts);
            if (parts == 2 && D)
                tangent_edges(J, R, first, l, D, own, shared, width);
            else
                tile_edges(J, R, first, count, l, shared, width, parts);
            if (l + 1 < J->L)
                node_update(J, R, rows, l, D, shared, width, parts);
        } else {
            plain_project(J, R, &J->layer[l], rows, l, D);
            plain_edges(J, R, first, rows, l, D);
            if (l + 1 < J->L)
                plain_nodes(J, R, &J->layer[l], rows, l, D);
        }
        TBG_EACH(k, D * rows * 3)
        R->x_dot[k] = R->next_dot[k];
        TBG_SYNC();
    }
    TBG_EACH_PLACE(J, p, first, count)
    plain_finish(p.N, R->x + 3 * ((size_t)J->L * rows + p.row), R->x + 3 * p.row, R->v + 3 * p.row);
    TBG_UNROLL_1
    for (int k = 0; k < D && own < 0; k++)
        plain_finish(rows, R->x_dot + (size_t)k * rows * 3, R->x0_dot + (size_t)k * rows * 3,
                     R->next_dot + (size_t)k * rows * 3);
}

/* The tensor path has the gradient of the parameters only, g, and none with respect to input positions. */
TBG_BLOCK_INLINE void run_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int first, int count,
                                  float *g, char *shared, const int width) {
    const int rows = place_first(J, first, count).rows, H = J->H;
    TBG_EACH_PLACE(J, p, first, count)
    plain_reverse_begin(J, R, p);
    TBG_UNROLL_1
    for (int l = J->L - 1; l >= 0; l--) {
        if (width)
            node_project(J, R, rows, l, 0, shared, width, 1);
        else
            plain_project(J, R, &J->layer[l], rows, l, 0);
        if (l + 1 < J->L && width)
            node_update_reverse(J, R, rows, l, g, shared, width);
        else if (l + 1 < J->L)
            plain_nodes_reverse(J, R, &J->layer[l], rows, l, g);
        TBG_EACH(k, 3 * rows)
        R->dnext[k] = R->dx[k];
        TBG_EACH(k, rows * H)
        R->dpa[k] = R->dpb[k] = 0;
        TBG_SYNC();
        if (width) {
            tile_edges_reverse(J, R, first, count, l, g, shared, width);
            node_project_reverse(J, R, rows, l, g, shared, width);
        } else {
            plain_edges_reverse(J, R, first, rows, l, g);
            plain_project_reverse(J, R, &J->layer[l], rows, l, g);
        }
    }
    if (g)
        plain_embed_reverse(J, R, rows, g);
}

/* From the velocities in R->v to their gradient there: of the loss, which is put down, or that given. */
TBG_BLOCK_INLINE void run_gradient_of_v(const tbg_cuda_job *J, const tbg_cuda_room *R, tbg_cuda_place p) {
    const int n3 = 3 * p.N, heard = 3 * J->heard[p.b];
    const size_t at = 3 * (size_t)J->first[p.b];
    double *v = R->v + 3 * p.row;
    if (J->target) {
        TBG_EACH(z, 1) {
            double loss = 0;
            for (int k = 0; k < heard; k++) {
                const double e = v[k] - J->target[at + k];
                loss += e * e / heard;
            }
            J->loss[p.b] = loss;
        }
        TBG_SYNC();
        TBG_EACH(k, n3)
        v[k] = k < heard ? 2 * J->weight[p.b] * (v[k] - J->target[at + k]) / heard : 0;
    } else {
        TBG_EACH(k, n3)
        v[k] = J->dv[at + k];
    }
    TBG_SYNC();
}

TBG_BLOCK_INLINE void run_group(const tbg_cuda_job *J, const tbg_cuda_room *R, int first, int count, float *g,
                                char *shared, const int width, const int parts) {
    const int n3 = 3 * place_first(J, first, count).rows;
    const size_t at = 3 * (size_t)J->first[first];
    run_forward(J, R, first, count, 0, -1, shared, width, parts);
    if (J->v)
        TBG_EACH(k, n3)
    J->v[at + k] = R->v[k];
    TBG_SYNC();
    if (J->kind != TBG_CUDA_REVERSE)
        return;
    TBG_EACH_PLACE(J, p, first, count)
    run_gradient_of_v(J, R, p);
    if (!g && !J->dx)
        return;
    run_reverse(J, R, first, count, g, shared, width);
    if (J->dx)
        TBG_EACH(k, n3)
    J->dx[at + k] = R->dx[k] + R->dx0[k];
    TBG_SYNC();
}

/* Directions from, from + 1, ... of configuration b, or its given one. Of the former the diagonal's sum is
 * wanted. Moving all atoms moves nothing, so that the mean that is taken off velocities has no part in the
 * trace, and a direction's own component of the last layer will do: the tensor path has only that. */
TBG_BLOCK_INLINE void run_directions(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int from,
                                     char *shared, const int width, const int parts) {
    const int n3 = 3 * J->atoms[b], one = J->kind == TBG_CUDA_TANGENT;
    const int D = one ? 1 : n3 - from < TBG_CUDA_BLOCK ? n3 - from : TBG_CUDA_BLOCK;
    const size_t at = 3 * (size_t)J->first[b];
    if (D <= 0)
        return;
    TBG_EACH(k, D * n3)
    R->x0_dot[k] = one ? J->x_dot[at + k] : k % n3 == from + k / n3;
    TBG_SYNC();
    const int own = width && !one ? from : -1;
    run_forward(J, R, b, 1, D, own, shared, width, parts);
    if (one)
        TBG_EACH(k, n3)
    J->v_dot[at + k] = R->next_dot[k];
    else TBG_EACH(k, D) J->diagonal[at + from + k] = R->next_dot[(size_t)k * n3 + from + k] - (own >= 0);
    if (J->v && !from)
        TBG_EACH(k, n3)
    J->v[at + k] = R->v[k];
    TBG_SYNC();
}

TBG_BLOCK_INLINE void run_block(const tbg_cuda_job *J, const tbg_cuda_room *room, int block, char *shared,
                                const int width, const int parts) {
    if (J->kind == TBG_CUDA_VELOCITY || J->kind == TBG_CUDA_REVERSE) {
        const int from = (int)((long long)J->n * block / J->n_blocks),
                  to = (int)((long long)J->n * (block + 1) / J->n_blocks);
        float *g = J->slots ? J->slots + (size_t)block * J->n_parameters : NULL;
        TBG_UNROLL_1
        for (int b = from; b < to; b += J->group)
            run_group(J, room, b, b + J->group < to ? J->group : to - b, g, shared, width, parts);
        return;
    }
    const int pieces =
        J->kind == TBG_CUDA_TANGENT ? 1 : (3 * J->most_atoms + TBG_CUDA_BLOCK - 1) / TBG_CUDA_BLOCK;
    TBG_UNROLL_1
    for (long long task = block; task < (long long)J->n * pieces; task += J->n_blocks)
        run_directions(J, room, (int)(task / pieces), (int)(task % pieces) * TBG_CUDA_BLOCK, shared, width,
                       parts);
}
#endif
