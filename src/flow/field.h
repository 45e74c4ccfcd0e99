/* field.h: the inner interface of floor 7: any vector field can be integrated, so that tests use fields whose
 * log-determinant is known. */
#ifndef TBG_FLOW_FIELD_H
#define TBG_FLOW_FIELD_H
#include "tbg/flow.h"

/* v, and divergence if not NULL, of n configurations. which: [n] number of the sample in the caller's batch. t: [n];
 * x, v: concatenated. */
typedef struct {
    int (*evaluate)(void *self, int n, const int *which, const double *t, const double *x, double *v,
                    double *divergence);
    void *self;
} tbg_field;

/* Explicit Runge-Kutta method. error: b - b_hat, or NULL. fsal: the last stage is the first of the next step. */
typedef struct {
    int stages, fsal, order;
    const double *c;       /* [stages] */
    const double (*a)[7];  /* [stages][7] */
    const double *b, *error; /* [stages] */
} tbg_tableau;
extern const tbg_tableau tbg_dopri5, tbg_rk4;

/* Gauss-Kronrod 7-15 on [-1, 1]: nodes ascending; odd ones are the Gauss nodes. */
enum { TBG_KRONROD = 15 };
extern const double tbg_kronrod_node[TBG_KRONROD], tbg_kronrod_weight[TBG_KRONROD], tbg_gauss_weight[7];
/* Integral over an interval of length `length` of f at its nodes, and an estimate of its error. */
void tbg_kronrod_sum(const double *f, double length, double *integral, double *error);

/* Push n samples along the field, from t = 0 to 1 (backward 0) or from 1 to 0 (backward 1). n_atoms: [n]; from, to:
 * concatenated; log_prior and log_q of the results are left alone. graded_d is used as it is. */
int tbg_flow_push(const tbg_field *field, const tbg_flow_options *options, int backward, int n, const int *n_atoms,
                  const double *from, double *to, tbg_flow_result *result);
#endif
