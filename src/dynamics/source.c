/* source.c: forces of a system for the integrator. Until the batched engine is there: the reference, lane by lane. */
#include "dynamics/source.h"
#include "base/memory.h"
#include "energy/reference.h"
#include "tbg/status.h"

#include <stdlib.h>

struct tbg_source_owner {
    const tbg_system *system;
};

static void evaluate(const void *state, const float *x, float *f, double *energy, void *workspace) {
    const tbg_system *system = state;
    size_t n = 3 * (size_t)system->n_atoms;
    double *position = workspace, *force = position + n;
    for (int l = 0; l < TBG_LANES; l++) {
        double components[TBG_E_N] = {0};
        for (size_t j = 0; j < n; j++)
            position[j] = (double)x[j * TBG_LANES + (size_t)l];
        (void)tbg_reference_evaluate(system, position, components, f ? force : NULL);
        if (energy) {
            energy[l] = 0;
            for (int c = 0; c < TBG_E_N; c++)
                energy[l] += components[c];
        }
        for (size_t j = 0; j < n && f; j++)
            f[j * TBG_LANES + (size_t)l] = (float)force[j];
    }
}

int tbg_force_source_create(const tbg_system *system, tbg_force_source *source, tbg_source_owner **owned) {
    *owned = TBG_NEW(tbg_source_owner, 1);
    if (!*owned)
        return TBG_FAILED;
    (*owned)->system = system;
    *source = (tbg_force_source){system->n_atoms, 6 * (size_t)system->n_atoms * sizeof(double), system, evaluate};
    return TBG_OK;
}

void tbg_force_source_free(tbg_source_owner *owned) {
    free(owned);
}
