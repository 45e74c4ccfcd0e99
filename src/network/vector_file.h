/* vector_file.h: a network vector file (shared/vectors/README.md) as model, conditioning and doubles; used by
 * `tbg verify` and by tests. */
#ifndef TBG_NETWORK_VECTOR_FILE_H
#define TBG_NETWORK_VECTOR_FILE_H
#include "tbg/network.h"

typedef struct {
    tbg_model *model;
    tbg_conditioning *conditioning;
    tbg_tensors *file;
    int n_atoms, n_samples, flow_steps;
    double *t, *x, *velocity, *divergence, *target; /* [B], [B][N][3], [B][N][3], [B], [B][N][3] */
    double loss;
    double *gradient;                 /* [n_parameters], in the order of the model's table */
    double *latent, *sample, log_det; /* [N][3]; NULL without flow_steps */
} tbg_vector_file;
/* errors: TBG_INPUT with file and tensor named. */
int tbg_vector_file_read(const char *path, tbg_vector_file **out);
int tbg_vector_file_from(tbg_tensors *tensors,
                         tbg_vector_file **out); /* takes over `tensors`, also on failure */
void tbg_vector_file_free(tbg_vector_file *file);
#endif
