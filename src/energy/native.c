/* native.c: the engine "native": configurations go through the batched kernels in blocks of TBG_LANES, blocks
 * are shared out over threads. Computes in double (energies that reweight samples deserve it; dynamics takes
 * the float kernels directly). What a block computes depends neither on the number of threads nor on its
 * other lanes. */
#include "base/memory.h"
#include "energy/batch_layout.h"
#include "energy/engine.h"
#include "tbg/status.h"

#include <omp.h>
#include <stdlib.h>

typedef struct {
    tbg_batch_system *system;
    size_t coordinates; /* doubles in a block */
    char *scratch;      /* per thread: x, f, workspace */
} native_state;

/* Lane l of a block holds configuration first + l; the lanes beyond the last repeat it. Coordinates count
 * from the centroid, which keeps their digits whatever frame the caller uses. */
static void gather(const double *positions, int n_atoms, int used, double *x) {
    size_t size = 3 * (size_t)n_atoms;
    for (int l = 0; l < TBG_LANES; l++) {
        const double *p = positions + (size_t)(l < used ? l : used - 1) * size;
        double centre[3] = {0};
        for (size_t k = 0; k < size; k++)
            centre[k % 3] += p[k];
        for (size_t k = 0; k < size; k++)
            x[k * TBG_LANES + l] = p[k] - centre[k % 3] / n_atoms;
    }
}

static void evaluate_piece(const struct tbg_engine *engine, char *scratch, int used, const double *positions,
                           double *energies, double *forces, double *components) {
    const native_state *state = engine->state;
    double *x = (double *)scratch, *f = x + state->coordinates;
    double energy[TBG_LANES], parts[TBG_E_N * TBG_LANES];
    size_t size = 3 * (size_t)engine->n_atoms;
    gather(positions, engine->n_atoms, used, x);
    tbg_batch_evaluate_double(state->system, x, forces ? f : NULL, energy, parts, f + state->coordinates);
    for (int l = 0; l < used; l++) {
        energies[l] = energy[l];
        for (size_t k = 0; forces && k < size; k++)
            forces[l * size + k] = f[k * TBG_LANES + l];
        for (int c = 0; components && c < TBG_E_N; c++)
            components[l * TBG_E_N + c] = parts[c * TBG_LANES + l];
    }
}

static int evaluate(struct tbg_engine *engine, long n, const double *positions, double *energies,
                    double *forces, double *components) {
    const native_state *state = engine->state;
    size_t size = 3 * (size_t)engine->n_atoms;
    long blocks = (n + TBG_LANES - 1) / TBG_LANES;
#pragma omp parallel for schedule(dynamic) num_threads(engine->threads) if (blocks > 1)
    for (long b = 0; b < blocks; b++) {
        long first = b * TBG_LANES;
        int used = n - first < TBG_LANES ? (int)(n - first) : TBG_LANES;
        evaluate_piece(engine, state->scratch + (size_t)omp_get_thread_num() * engine->scratch_size, used,
                       positions + first * size, energies + first, forces ? forces + first * size : NULL,
                       components ? components + first * TBG_E_N : NULL);
    }
    return TBG_OK;
}

static void release(struct tbg_engine *engine) {
    native_state *state = engine->state;
    tbg_batch_system_free(state->system);
    free(state->scratch);
    free(state);
}

int tbg_engine_native_create(struct tbg_engine *engine) {
    native_state *state = TBG_NEW(native_state, 1);
    if (!state)
        return TBG_FAILED;
    int status = tbg_batch_system_create(engine->system, &state->system);
    if (status == TBG_OK) {
        state->coordinates = 3 * (size_t)engine->n_atoms * TBG_LANES;
        engine->scratch_size =
            2 * state->coordinates * sizeof(double) + tbg_batch_workspace_size(state->system);
        state->scratch = tbg_alloc((size_t)engine->threads, engine->scratch_size);
        status = state->scratch ? TBG_OK : TBG_FAILED;
    }
    if (status != TBG_OK) {
        tbg_batch_system_free(state->system);
        free(state);
        return status;
    }
    engine->state = state;
    engine->evaluate = evaluate;
    engine->piece = TBG_LANES;
    engine->evaluate_piece = evaluate_piece;
    engine->release = release;
    return TBG_OK;
}
