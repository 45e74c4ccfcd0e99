/* branch.h: the random process between two levels of noise (tbg/denoise.h), and its ratio of densities. */
#ifndef TBG_SRC_DENOISE_BRANCH_H
#define TBG_SRC_DENOISE_BRANCH_H
#include "tbg/flow.h"

typedef struct {
    tbg_session *session;
    const tbg_conditioning *conditioning;
    int n_atoms, steps;
    double scale;
    double *noise;    /* [steps + 1] a_k, scaled units, falling */
    double *variance; /* [steps] v_k */
} tbg_branching;

/* from, to: nm. seed: of the pilot samples. */
int tbg_branching_create(tbg_session *session, const tbg_conditioning *conditioning, double from, double to,
                         int steps, uint64_t seed, tbg_branching *out);
void tbg_branching_free(tbg_branching *branching);
/* n configurations of numbers `number`, [n][n_atoms][3] scaled units, mean 0, in place: from y_0 to y_K;
 * log_ratio, [n]: sum of ln r - ln p along the path. */
int tbg_branching_forward(const tbg_branching *b, uint64_t seed, long n, const uint64_t *number, double *y,
                          double *log_ratio);
/* From y_K to y_0 by added noise; log_ratio: of that path, as above. */
int tbg_branching_backward(const tbg_branching *b, uint64_t seed, long n, const uint64_t *number, double *y,
                           double *log_ratio);
#endif
