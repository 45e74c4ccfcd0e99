/* sample_denoise.c: samples of a flow that ends above no noise become positions of the force field
 * (tbg/denoise.h). */
#include "base/memory.h"
#include "base/progress.h"
#include "sample.h"
#include "subject.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int accept(void *context, const double *x) {
    const sample_denoising *d = context;
    double *copy = TBG_NEW(double, 3 * (size_t)d->n_atoms); /* checking relabels and mirrors */
    int verdict = -1, finite = copy != NULL;
    for (int k = 0; k < 3 * d->n_atoms && finite; k++)
        finite = isfinite(copy[k] = x[k]);
    if (finite)
        verdict = tbg_check(d->checker, copy);
    free(copy);
    return finite && (verdict == TBG_VALID || verdict == TBG_MIRRORED);
}

/* To the energies' own force field where our dynamics has it, otherwise to the model's. */
int sample_denoising_open(const subject *on, const tbg_denoise_options *options, int threads, uint64_t seed,
                          sample_denoising *d) {
    *d = (sample_denoising){0};
    if (!(options->smoothing > 0))
        return TBG_OK;
    int own = strcmp(on->system->forcefield, "gfn2-xtb") != 0;
    const tbg_system *system = own ? on->system : on->model_system;
    if (!strcmp(system->forcefield, "gfn2-xtb"))
        return tbg_fail(TBG_INPUT,
                        "a smoothed model needs a classical force field to take its noise off, not gfn2-xtb");
    tbg_denoise_options o = *options;
    o.anneal.temperature = own || !(on->model->temperature > 0) ? on->temperature : on->model->temperature;
    o.anneal.seed = seed;
    o.anneal.threads = threads;
    d->n_atoms = on->molecule->n_atoms;
    TBG_TRY(tbg_checker_create(on->molecule, &d->checker));
    tbg_checker_set_mirror(d->checker, !on->model->spec.virtual_sites);
    TBG_TRY(tbg_engine_create("native", on->molecule, system, threads, &d->engine));
    return tbg_denoiser_create(on->session, on->conditioning, d->engine, d->n_atoms, &o, accept, d,
                               &d->denoiser);
}

void sample_denoising_close(sample_denoising *d) {
    tbg_denoiser_free(d->denoiser);
    tbg_engine_free(d->engine);
    tbg_checker_free(d->checker);
    *d = (sample_denoising){0};
}

int sample_denoise(const sample_denoising *d, uint64_t first, long n, double *positions, double *log_ratio,
                   double *error) {
    if (!d->denoiser)
        return TBG_OK;
    tbg_anneal_result *result = TBG_NEW(tbg_anneal_result, n);
    const uint64_t seed = tbg_denoiser_options(d->denoiser)->anneal.seed;
    int status = result ? tbg_denoise(d->denoiser, seed, n, first, positions, positions, result) : TBG_FAILED;
    for (long i = 0; i < n && !status; i++) {
        log_ratio[i] = -result[i].u - result[i].log_z; /* exp(-u) / q becomes Z / q */
        error[i] = result[i].error;
    }
    free(result);
    return status;
}

int sample_denoising_seconds(const sample_denoising *d, const tbg_molecule *molecule, double *seconds) {
    *seconds = 0;
    if (!d->denoiser)
        return TBG_OK;
    const int tried = tbg_denoiser_options(d->denoiser)->branches ? 2 : 16; /* full blocks of the annealing */
    size_t n3 = 3 * (size_t)d->n_atoms;
    double *x = TBG_NEW(double, (size_t)tried *n3), other[32];
    int status = x ? TBG_OK : TBG_FAILED;
    for (int i = 0; i < tried && !status; i++)
        memcpy(x + (size_t)i * n3, molecule->positions, n3 * sizeof *x);
    double start = tbg_seconds();
    if (!status)
        status = sample_denoise(d, 0, tried, x, other, other + 16);
    *seconds = (tbg_seconds() - start) / tried;
    free(x);
    return status;
}
