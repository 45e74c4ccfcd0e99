/* sample_anneal.c: samples of a smoothed model become positions of the force field (tbg/anneal.h). */
#include "base/memory.h"
#include "base/progress.h"
#include "sample.h"
#include "subject.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* To the energies' own force field where our dynamics has it, otherwise to the model's. */
int sample_annealing_open(const subject *on, int threads, uint64_t seed, int64_t stages, int64_t replicas,
                          sample_annealing *a) {
    *a = (sample_annealing){0};
    if (!(on->model->spec.smoothing > 0))
        return TBG_OK;
    if (stages < 0 || stages > 100000 || replicas < 0 || replicas > 1024)
        return tbg_fail(TBG_INPUT,
                        "--anneal-stages must be 0 (the usual ones) to 100,000, --anneal-replicas 0 to 1024");
    int own = strcmp(on->system->forcefield, "gfn2-xtb") != 0;
    const tbg_system *system = own ? on->system : on->model_system;
    if (!strcmp(system->forcefield, "gfn2-xtb"))
        return tbg_fail(TBG_INPUT,
                        "a smoothed model needs a classical force field to take its noise off, not gfn2-xtb");
    tbg_anneal_options *o = &a->options;
    tbg_anneal_defaults(o);
    o->smoothing = on->model->spec.smoothing;
    o->temperature = own || !(on->model->temperature > 0) ? on->temperature : on->model->temperature;
    o->seed = seed;
    o->threads = threads;
    if (stages)
        o->stages = (int)stages;
    if (replicas)
        o->replicas = (int)replicas;
    TBG_TRY(tbg_anneal_check(o));
    a->n_atoms = on->molecule->n_atoms;
    return tbg_engine_create("native", on->molecule, system, threads, &a->engine);
}

void sample_annealing_close(sample_annealing *a) {
    tbg_engine_free(a->engine);
    *a = (sample_annealing){0};
}

int sample_anneal(const sample_annealing *a, uint64_t first, long n, double *positions, double *log_ratio,
                  double *error) {
    if (!a->engine)
        return TBG_OK;
    tbg_anneal_result *result = TBG_NEW(tbg_anneal_result, n);
    int status = result
                     ? tbg_anneal(a->engine, a->n_atoms, &a->options, n, first, positions, positions, result)
                     : TBG_FAILED;
    for (long i = 0; i < n && !status; i++) {
        log_ratio[i] = -result[i].u - result[i].log_z; /* exp(-u) / q becomes Z / q */
        error[i] = result[i].error;
    }
    free(result);
    return status;
}

int sample_annealing_seconds(const sample_annealing *a, const tbg_molecule *molecule, double *seconds) {
    enum { TRIED = 16 }; /* a full block */
    *seconds = 0;
    if (!a->engine)
        return TBG_OK;
    size_t n3 = 3 * (size_t)a->n_atoms;
    double *x = TBG_NEW(double, TRIED *n3), other[2 * TRIED];
    int status = x ? TBG_OK : TBG_FAILED;
    for (int i = 0; i < TRIED && !status; i++)
        memcpy(x + (size_t)i * n3, molecule->positions, n3 * sizeof *x);
    double start = tbg_seconds();
    if (!status)
        status = sample_anneal(a, 0, TRIED, x, other, other + TRIED);
    *seconds = (tbg_seconds() - start) / TRIED;
    free(x);
    return status;
}
