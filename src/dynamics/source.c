/* source.c: forces of a system for the integrator: the native batched engine. */
#include "dynamics/source.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <stdlib.h>

struct tbg_source_owner {
    tbg_batch_system *system;
};

static void evaluate(const void *state, const float *x, float *f, double *energy, void *workspace) {
    tbg_batch_evaluate(state, x, f, energy, NULL, workspace);
}

int tbg_force_source_create(const tbg_system *system, tbg_force_source *source, tbg_source_owner **owned) {
    *owned = TBG_NEW(tbg_source_owner, 1);
    if (!*owned)
        return TBG_FAILED;
    int status = tbg_batch_system_create(system, &(*owned)->system);
    if (status != TBG_OK) {
        free(*owned);
        *owned = NULL;
        return status;
    }
    *source = (tbg_force_source){system->n_atoms, tbg_batch_workspace_size((*owned)->system),
                                 (*owned)->system, evaluate};
    return TBG_OK;
}

void tbg_force_source_free(tbg_source_owner *owned) {
    if (owned)
        tbg_batch_system_free(owned->system);
    free(owned);
}
