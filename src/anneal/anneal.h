/* anneal/anneal.h: what the two halves of the annealing share. */
#ifndef TBG_SRC_ANNEAL_H
#define TBG_SRC_ANNEAL_H
#include "tbg/anneal.h"

/* tbg_anneal of configurations with any numbers, [n]. */
int tbg_anneal_numbered(tbg_engine *engine, int n_atoms, const tbg_anneal_options *options, long n,
                        const uint64_t *number, const double *y, double *x, tbg_anneal_result *result);

/* ---- mean.c ---- */
typedef struct {
    double log;          /* ln of the mean of n weights; -Inf: all are 0 */
    double error;        /* its standard error, relative to the mean; NAN for one */
    double largest, sum; /* ln of the largest weight; sum of all over that */
} tbg_mean_weight;
/* log_w: [n]; what is not finite is the weight 0. */
tbg_mean_weight tbg_mean_of_weights(size_t n, const double *log_w);
/* The weight that `uniform`, in [0, 1), falls on; m: their mean. 0 where all are 0. */
size_t tbg_choose_by_weight(const tbg_mean_weight *m, size_t n, const double *log_w, double uniform);

/* ---- triangular_simd.c ---- */
typedef struct tbg_triangular {
    /* Lower Cholesky factor L of the lower triangle of a [n][n], damping added to its diagonal; 0: not
     * positive definite. */
    int (*factorise)(size_t n, const double *a, double damping, double *L);
    /* L^-1 b and L^-T b for K right-hand sides at once, in place. b: [n][K] */
    void (*solve_lower)(size_t n, const double *L, size_t K, double *b);
    void (*solve_upper)(size_t n, const double *L, size_t K, double *b);
} tbg_triangular;

typedef struct {
    tbg_engine *engine;
    const tbg_anneal_options *o;
    int threads;
    size_t n3;                             /* coordinates of a configuration */
    double beta;                           /* 1/kT */
    double precision;                      /* 1/s^2 */
    double *batch, *batch_u, *batch_force; /* the engine's arguments: [room] configurations */
    size_t room;
    const tbg_triangular *algebra;
} tbg_annealer;

/* Reduced energies and their negative gradients of the first m configurations of the batch. */
int tbg_anneal_evaluate(tbg_annealer *A, size_t m);

/* One configuration in its harmonic approximation. */
typedef struct {
    const double *y;
    double *centre; /* [n3] x* */
    double *factor; /* [n3][n3] lower triangle: L of H = L L^T */
    double log_det; /* ln |L| */
    int newton, done, failed, pending;
    /* of the minimisation */
    double *gradient, *step, *hessian; /* of V; [n3], [n3], [n3][n3] */
    double v, damping;
} tbg_harmonic;

/* Minimise V of m configurations at once, from y; centre, factor and log_det are assigned. */
int tbg_harmonic_find(tbg_annealer *A, int m, tbg_harmonic *h);
#endif
