/* cuda_engine.c: the engine "cuda": double precision on a CUDA device (src/dynamics/cuda.h). A conformation's
 * result does not depend on the others. */
#include "dynamics/cuda.h"
#include "energy/engine.h"
#include "tbg/status.h"

static int evaluate(struct tbg_engine *engine, long n, const double *positions, double *energies,
                    double *forces, double *components) {
    return tbg_cuda_energies_evaluate(engine->state, n, positions, energies, forces, components);
}

static void release(struct tbg_engine *engine) {
    tbg_cuda_energies_free(engine->state);
}

int tbg_engine_cuda_create(struct tbg_engine *engine) {
    tbg_cuda_energies *e;
    TBG_TRY(tbg_cuda_energies_create(engine->system, &e));
    engine->state = e;
    engine->evaluate = evaluate;
    engine->release = release;
    engine->batch = 4096; /* some thirty conformations on each of a device's multiprocessors */
    return TBG_OK;
}
