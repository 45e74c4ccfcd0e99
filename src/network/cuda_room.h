/* cuda_room.h: scratch memory of one block, carved from one piece. Shapes: N atoms of the group of
 * configurations that the block takes together, one after the other, P pairs, molecule by molecule, D
 * directions. Rows of the plain path, whose groups are of one, are the edges of one receiver. */
#ifndef TBG_NETWORK_CUDA_ROOM_H
#define TBG_NETWORK_CUDA_ROOM_H
#include "network/cuda.h"
#include "network/cuda_block.h"

typedef struct {
    double *x;                                          /* [L+1][N][3] */
    double *v, *dx, *dx0, *dnext;                       /* [N][3] */
    double *x0_dot, *x_dot, *next_dot;                  /* [D][N][3] */
    float *input;                                       /* [N][F] */
    float *h, *sum;                                     /* [L+1][N][H], [L][N][H] */
    float *pa, *pb;                                     /* [N][H] W1a h_i, W1b h_j */
    float *unit, *r0, *rho, *drho, *e, *de;             /* of pairs: [P][3], [P], [P], [P], [P][K], [P][K] */
    float *z1, *y1, *z2, *y2, *m, *z3, *y3;             /* [N][H] a row */
    float *d, *u, *root, *below;                        /* [N][3], [N][3], [N], [N] */
    float *att, *q, *s, *g;                             /* [N] */
    float *z4, *y4, *dh, *dsum, *dpa, *dpb, *d1, *d2;   /* [N][H] */
    float *dq, *da, *dg, *dr, *dr0;                     /* [N] */
    float *pull;                                        /* [N][3] */
    float *h_dot, *sum_dot, *pa_dot, *pb_dot, *t1, *t2; /* [D][N][H] */
    float *row_dot;                                     /* [D][N][2]: r, input distance */
    float *a_dot, *s_dot, *g_dot;                       /* [D][N] */
} tbg_cuda_room;

/* A configuration in the room of its group. */
typedef struct {
    int b, N;      /* its number in the batch; its atoms */
    int row, pair; /* atoms and pairs before it */
    int rows;      /* atoms of the group */
} tbg_cuda_place;

TBG_BLOCK_INLINE tbg_cuda_place place_first(const tbg_cuda_job *J, int first, int count) {
    const int last = first + count - 1;
    return (tbg_cuda_place){first, J->atoms[first], 0, 0, J->first[last] + J->atoms[last] - J->first[first]};
}

TBG_BLOCK_INLINE void place_next(const tbg_cuda_job *J, tbg_cuda_place *p) {
    p->row += p->N;
    p->pair += p->N * p->N;
    p->b++;
    p->N = p->b < J->n ? J->atoms[p->b] : 0;
}

/* For every configuration p of a group. */
#define TBG_EACH_PLACE(J, p, first, count)                                                                   \
    TBG_UNROLL_1                                                                                             \
    for (tbg_cuda_place p = place_first(J, first, count); p.b < (first) + (count); place_next(J, &p))

#ifdef __CUDACC__
static __host__ __device__
#else
static inline
#endif
    size_t
    tbg_cuda_carve(const tbg_cuda_job *job, char *base, tbg_cuda_room *R) {
    const size_t N = (size_t)job->most_atoms * (size_t)job->group, H = (size_t)job->H, L = (size_t)job->L,
                 P = N * (size_t)job->most_atoms, K = (size_t)job->K, D = (size_t)job->most_directions,
                 back = job->kind == TBG_CUDA_REVERSE;
    size_t used = 0;
#define TAKE(type, name, count)                                                                              \
    do {                                                                                                     \
        R->name = (type *)(base + used);                                                                     \
        used += (sizeof(type) * (count) + 127) / 128 * 128;                                                  \
    } while (0)
    TAKE(double, x, (L + 1) * N * 3);
    TAKE(double, v, N * 3);
    TAKE(double, dx, back *N * 3);
    TAKE(double, dx0, back *N * 3);
    TAKE(double, dnext, back *N * 3);
    TAKE(double, x0_dot, D *N * 3);
    TAKE(double, x_dot, D *N * 3);
    TAKE(double, next_dot, D *N * 3);
    TAKE(float, input, N *(size_t)job->F);
    TAKE(float, h, (L + 1) * N * H);
    TAKE(float, sum, L *N *H);
    TAKE(float, pa, N *H);
    TAKE(float, pb, N *H);
    TAKE(float, unit, P * 3);
    TAKE(float, r0, P);
    TAKE(float, rho, P);
    TAKE(float, drho, P);
    TAKE(float, e, P *K);
    TAKE(float, de, P *K);
    TAKE(float, z1, N *H);
    TAKE(float, y1, N *H);
    TAKE(float, z2, N *H);
    TAKE(float, y2, N *H);
    TAKE(float, m, N *H);
    TAKE(float, z3, N *H);
    TAKE(float, y3, N *H);
    TAKE(float, d, N * 3);
    TAKE(float, u, N * 3);
    TAKE(float, root, N);
    TAKE(float, below, N);
    TAKE(float, att, N);
    TAKE(float, q, N);
    TAKE(float, s, N);
    TAKE(float, g, N);
    TAKE(float, z4, N *H);
    TAKE(float, y4, N *H);
    TAKE(float, dh, back *N *H);
    TAKE(float, dsum, back *N *H);
    TAKE(float, dpa, back *N *H);
    TAKE(float, dpb, back *N *H);
    TAKE(float, d1, back *N *H);
    TAKE(float, d2, back *N *H);
    TAKE(float, dq, N);
    TAKE(float, da, N);
    TAKE(float, dg, N);
    TAKE(float, dr, N);
    TAKE(float, dr0, N);
    TAKE(float, pull, N * 3);
    TAKE(float, h_dot, D *N *H);
    TAKE(float, sum_dot, D *N *H);
    TAKE(float, pa_dot, D *N *H);
    TAKE(float, pb_dot, D *N *H);
    TAKE(float, t1, D *N *H);
    TAKE(float, t2, D *N *H);
    TAKE(float, row_dot, D *N * 2);
    TAKE(float, a_dot, D *N);
    TAKE(float, s_dot, D *N);
    TAKE(float, g_dot, D *N);
#undef TAKE
    return used;
}
#endif
