/* sample_settings.c: the settings that decide a result, as text. */
#include "base/hash.h"
#include "sample.h"
#include "tbg/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sample_settings(const tbg_model *model, const tbg_molecule *molecule, const char *forcefield,
                    double temperature, const char *engine, const char *backend, uint64_t seed,
                    const tbg_flow_options *flow, const sample_denoising *denoising, char **text) {
    char sequence[1024], noise[512] = "";
    const tbg_denoise_options *d = denoising->denoiser ? tbg_denoiser_options(denoising->denoiser) : NULL;
    tbg_molecule_sequence(molecule, sequence, sizeof sequence);
    uint64_t h = tbg_hash(TBG_HASH_START, model->values, model->n_parameters * sizeof(float));
    h = tbg_hash(h, &model->spec.scale, sizeof model->spec.scale);
    h = tbg_hash(h, &model->spec.graded_d, sizeof model->spec.graded_d);
    if (model->spec.virtual_sites)
        h = tbg_hash(h, &model->spec.virtual_sites, sizeof model->spec.virtual_sites);
    if (d) {
        const tbg_anneal_options *a = &d->anneal;
        int n = snprintf(noise, sizeof noise,
                         ", annealing %.17g nm %.17g K, %d replicas, %d stages of %d steps of %.17g, %d",
                         a->smoothing, a->temperature, a->replicas, a->stages, a->steps, a->step, a->newton);
        if (d->branches)
            snprintf(noise + n, sizeof noise - (size_t)n, ", from %.17g nm by %d branches of %d steps",
                     d->smoothing, d->branches, d->steps);
        else if (flow->last_time < 1)
            snprintf(noise + n, sizeof noise - (size_t)n, ", flow to %.17g", flow->last_time);
    }
    for (int i = 0; i < molecule->n_atoms; i++) /* their order matters, positions do not */
        h = tbg_hash(h, molecule->atoms[i].name, strlen(molecule->atoms[i].name) + 1);
    int n = asprintf(text,
                     "molecule %s, force field %s, %.17g K, seed %" PRIu64 ", model %016" PRIx64
                     ", %s, energies by %s, "
                     "solver %s %.17g %d, log q %d %.17g %d, d %.17g%s",
                     sequence, forcefield, temperature, seed, h, backend, engine,
                     tbg_solver_name(flow->solver), flow->solver_tolerance, flow->steps, flow->weights,
                     flow->tolerance, flow->most_refinements, flow->graded_d, noise);
    return n < 0 ? tbg_fail(TBG_FAILED, "out of memory") : TBG_OK;
}
