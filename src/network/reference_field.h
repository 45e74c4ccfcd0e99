/* reference_field.h: what the reference's field (reference_field.c: one configuration) and its sessions
 * (reference.c: batches, sums, threads) share.
 *
 * Shapes: N atoms, H channels, F node inputs (features and time), K edge features, D directions of a block.
 * Weights are kept twice: `w` as stored, [out][in], and `wt` transposed, [in][out], at the same offsets. */
#ifndef TBG_NETWORK_REFERENCE_FIELD_H
#define TBG_NETWORK_REFERENCE_FIELD_H
#include "network/kernels.h"
#include "network/layer_tensors.h"

#define TBG_REFERENCE_BLOCK 16 /* directions of one divergence task */

/* Offsets of a layer's tensors; [out][in] as stored. */
typedef struct {
#define TBG_FIELD(field, name) size_t field;
    TBG_LAYER_TENSORS(TBG_FIELD)
#undef TBG_FIELD
} tbg_reference_layer;

/* Scratch of one thread. */
typedef struct {
    double *input;                             /* [N][F] */
    double *h;                                 /* [L+1][N][H] */
    double *x;                                 /* [L+1][N][3] */
    double *sum;                               /* [L][N][H] messages summed over senders */
    double *pa, *pb;                           /* [N][H] W1a h_i, W1b h_j */
    double *z1, *z2, *z3, *z4;                 /* [H] before SiLU */
    double *y1, *y2, *y3, *y4;                 /* [H] after */
    double *m;                                 /* [H] message */
    double *h_dot, *sum_dot, *pa_dot, *pb_dot; /* [TBG_REFERENCE_BLOCK][N][H] */
    double *x0_dot, *x_dot, *next_dot;         /* [TBG_REFERENCE_BLOCK][N][3] input, layer, next layer */
    double *t1, *t2;                           /* [TBG_REFERENCE_BLOCK][H] */
    double *dh, *dsum, *dpa, *dpb;             /* [N][H] */
    double *dx, *dx0, *dnext, *v;              /* [N][3] */
    double *d1, *d2, *d3;                      /* [H] */
    double *gradient;                          /* [n_parameters], made when first needed */
    char *block;
} tbg_reference_room;

typedef struct {
    const tbg_model *model;
    int max_atoms, threads;
    int H, L, F, K;
    tbg_reference_layer *layers;
    size_t embedding_w, embedding_b;
    double *w, *wt;            /* [n_parameters] */
    tbg_reference_room *rooms; /* [threads] */
    double *total;             /* [n_parameters], made when first needed */
} tbg_reference;

/* Forward of one configuration; v: [N][3]. With nd > 0 directions in W->x0_dot; their tangents go to
 * W->next_dot. */
void tbg_reference_forward(const tbg_reference *R, tbg_reference_room *W, const tbg_conditioning *c, double t,
                           const double *x, int nd, double *v);
/* Reverse of that for the same configuration, which must have been the last: dv [N][3]; dx: assigned or NULL;
 * g: accumulated or NULL. */
void tbg_reference_reverse(const tbg_reference *R, tbg_reference_room *W, const tbg_conditioning *c, double t,
                           const double *x, const double *dv, double *dx, double *g);
#endif
