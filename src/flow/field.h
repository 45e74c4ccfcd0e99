/* field.h: the inner interface of floor 7: any vector field can be integrated, so that tests use fields whose
 * log-determinant is known. */
#ifndef TBG_FLOW_FIELD_H
#define TBG_FLOW_FIELD_H
#include "tbg/flow.h"

/* v, and divergence if not NULL, of n configurations. which: [n] number of the sample in the caller's batch.
 * t: [n]; x, v: concatenated. */
typedef struct {
    int (*evaluate)(void *self, int n, const int *which, const double *t, const double *x, double *v,
                    double *divergence);
    void *self;
} tbg_field;

/* Explicit Runge-Kutta method. error: b - b_hat, or NULL. fsal: the last stage is the first of the next step.
 */
typedef struct {
    int stages, fsal, order;
    const double *c;         /* [stages] */
    const double (*a)[7];    /* [stages][7] */
    const double *b, *error; /* [stages] */
    const double *dense;     /* [stages] fourth-order interpolation within a step, or NULL */
} tbg_tableau;
extern const tbg_tableau tbg_dopri5, tbg_rk4;

/* Clenshaw-Curtis rules on [0, 1]: nodes (1 - cos(pi k / m)) / 2, k = 0 .. m; those of m are among those of 2
 * m. m even. */
enum { TBG_CLENSHAW_FIRST = 12 }; /* m of the first rule */
double tbg_clenshaw_node(int m, int k);
void tbg_clenshaw_weights(int m, double *weight); /* [m + 1] */
/* Integral of the values f[0], f[stride], .. f[m stride], and an estimate of its error, from the rule of m/2,
 * too. weight: [m + 1]; half: [m/2 + 1], of m/2. */
void tbg_clenshaw_sum(int m, int stride, const double *f, const double *weight, const double *half,
                      double *integral, double *error);

/* A field is asked for at most max(n, TBG_FLOW_LEAST_BATCH) evaluations at once, samples repeated. */
enum { TBG_FLOW_LEAST_BATCH = 32 };
/* Push n samples along the field, from t = 0 to 1 (backward 0) or from 1 to 0 (backward 1). n_atoms: [n];
 * from, to: concatenated; log_prior and log_q of the results are left alone. graded_d is used as it is. */
int tbg_flow_push(const tbg_field *field, const tbg_flow_options *options, int backward, int n,
                  const int *n_atoms, const double *from, double *to, tbg_flow_result *result);
#endif
