/* update.h: an optimiser's step where the weights are: on the device of a session that has one. The training
 * floor owns the optimiser and its arrays; between tbg_session_place and tbg_session_fetch those of the
 * session are the true ones. Backends without a device have none of this: there the training floor steps on
 * its own. */
#ifndef TBG_NETWORK_UPDATE_H
#define TBG_NETWORK_UPDATE_H
#include "network/adam.h"
#include "tbg/network.h"

typedef struct {
    int (*rotated)[2]; /* [n_tensors] length of the side of the rows and of the columns, 0: not rotated; NULL:
                          Adam */
    float *m, *v, *ema; /* [n_parameters]; ema: NULL: none */
    float *bases;       /* of each rotated side its covariance and its basis, [length][length] each: tensor by
                           tensor,       rows first */
    size_t n_bases;
} tbg_optimizer_arrays;

/* 1: the session has a device of its own that can make a step. */
int tbg_session_steps(const tbg_session *session);
/* As tbg_network_loss, but the gradient stays on the device; squares: [n_tensors] of the model, its sums of
 * squares. */
int tbg_session_gradient(tbg_session *session, int n, const tbg_conditioning *const *molecule,
                         const double *t, const double *x, const double *target, const double *weight,
                         double *loss, double *squares);
/* gradient: [n_parameters], that of the last tbg_session_gradient. */
int tbg_session_fetch_gradient(tbg_session *session, float *gradient);
/* Copy an optimiser to the device; weights are those of the last tbg_session_refresh. */
int tbg_session_place(tbg_session *session, const tbg_optimizer_arrays *arrays);
/* A step of Adam, AdamW or SOAP with the gradient that is there. refine: 1: bases turn after it. A tensor
 * with rotated sides whose bases are all zero gets Adam's step, and no bases. */
int tbg_session_step(tbg_session *session, const tbg_adam_constants *constants, int refine);
/* Copy weights, [n_parameters], and the optimiser back. */
int tbg_session_fetch(tbg_session *session, float *weights, const tbg_optimizer_arrays *arrays);
#endif
