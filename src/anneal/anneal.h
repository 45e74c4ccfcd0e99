/* anneal/anneal.h: what the two halves of the annealing share. */
#ifndef TBG_SRC_ANNEAL_H
#define TBG_SRC_ANNEAL_H
#include "tbg/anneal.h"

typedef struct {
    tbg_engine *engine;
    const tbg_anneal_options *o;
    int threads;
    size_t n3;                             /* coordinates of a configuration */
    double beta;                           /* 1/kT */
    double precision;                      /* 1/s^2 */
    double *batch, *batch_u, *batch_force; /* the engine's arguments: [room] configurations */
    size_t room;
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
/* L^-1 b and L^-T b for K right-hand sides at once, in place. b: [n][K] */
void tbg_solve_lower(size_t n, const double *L, int K, double *b);
void tbg_solve_upper(size_t n, const double *L, int K, double *b);
#endif
