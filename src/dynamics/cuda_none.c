/* cuda_none.c: the device functions of a build without CUDA. */
#ifndef TBG_HAVE_CUDA_DYNAMICS
#include "dynamics/cuda.h"
#include "tbg/status.h"

static int none(void) {
    return tbg_fail(TBG_FAILED, "this build has no CUDA: install nvcc (CUDA 12 or later) and rebuild");
}

int tbg_cuda_device(char *name, size_t size) {
    if (name && size)
        *name = 0;
    return none();
}

int tbg_cuda_energies_create(const tbg_system *system, tbg_cuda_energies **out) {
    (void)system;
    *out = NULL;
    return none();
}

void tbg_cuda_energies_free(tbg_cuda_energies *e) {
    (void)e;
}

int tbg_cuda_energies_evaluate(tbg_cuda_energies *e, long n, const double *positions, double *energies,
                               double *forces, double *components) {
    (void)e, (void)n, (void)positions, (void)energies, (void)forces, (void)components;
    return none();
}

int tbg_cuda_dynamics_create(int n_members, const tbg_cuda_member *members, tbg_cuda_dynamics **out) {
    (void)n_members, (void)members;
    *out = NULL;
    return none();
}

void tbg_cuda_dynamics_free(tbg_cuda_dynamics *d) {
    (void)d;
}

int tbg_cuda_dynamics_launch(tbg_cuda_dynamics *d, int64_t pieces, int64_t piece_steps, int reset) {
    (void)d, (void)pieces, (void)piece_steps, (void)reset;
    return none();
}

int tbg_cuda_dynamics_collect(tbg_cuda_dynamics *d) {
    (void)d;
    return none();
}
#else
typedef int tbg_cuda_is_there; /* a translation unit may not be empty */
#endif
