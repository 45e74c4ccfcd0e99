/* sample_refine.c: the second half of `tbg sample --refine`: chains that take the finished samples as
 * proposals (include/tbg/refine.h), their checkpoint DIR/partial/refine.safetensors, and DIR/refined. */
#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "results.h"
#include "sample.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECKPOINT_SECONDS 60

int sample_refine_check(const sample_refine_request *q, long n) {
    tbg_refine_target target;
    TBG_TRY(tbg_refine_molecule_create(q->molecule, q->system, q->conditioning, q->session, q->flow,
                                       q->engine, q->denoising->denoiser, &q->options, n, &target));
    tbg_refine_molecule_free(&target);
    long least = (long)tbg_refine_chains(&q->options, n) * q->options.proposals;
    return n >= least
               ? TBG_OK
               : tbg_fail(TBG_INPUT, "-n %ld is too few to refine: one cycle of the chains takes %ld samples",
                          n, least);
}

/* ---- proposals of an ensemble that is finished ---- */

static int same(const char *path, const char *what, const char *there, const char *here) {
    return strcmp(there, here)
               ? tbg_fail(TBG_INPUT, "%s: %s is '%s' there, '%s' here", path, what, there, here)
               : TBG_OK;
}

/* ln weight of sample i, made anew. */
static int weight_anew(const sample_refine_request *q, uint64_t seed, long i, double *log_w, double *error) {
    const int atoms = q->molecule->n_atoms;
    const double scale = tbg_session_model(q->session)->spec.scale;
    double *x = TBG_NEW(double, 3 * (size_t)atoms), log_ratio = NAN, energy = NAN;
    tbg_flow_options flow = *q->flow;
    tbg_flow_result result;
    flow.wanted = NULL;
    int status =
        x ? tbg_flow_sample(q->session, &flow, 1, &q->conditioning, seed, (uint64_t)i, NULL, x, &result)
          : TBG_FAILED;
    for (int k = 0; k < 3 * atoms && !status; k++)
        x[k] /= scale;
    if (!status)
        status = sample_denoise(q->denoising, (uint64_t)i, 1, x, &log_ratio, error);
    if (!status)
        status = tbg_engine_evaluate(q->engine, 1, x, &energy, NULL, NULL);
    *log_w = -energy / (TBG_BOLTZMANN * q->options.temperature) - result.log_q -
             3.0 * (atoms - 1) * log(scale) - log_ratio;
    free(x);
    return status;
}

/* The same of a smoothed model, where positions have no density that could be looked up: a few samples are
 * made again. Other settings of the annealing may have made others of them, whose weights differ by its
 * random error. */
static int check_weights(const sample_refine_request *q, const tbg_ensemble *e, const char *path) {
    enum { SOME = 5 };
    double off = 0, allowed = 1 + q->flow->tolerance;
    int n = 0;
    for (long i = 0; i < e->n && n < SOME; i++) {
        double log_w, error;
        if (!tbg_ensemble_is_valid(e, i))
            continue;
        TBG_TRY(weight_anew(q, e->info.seed, i, &log_w, &error));
        off += fabs(log_w + e->reduced_energy[i] + e->log_q[i]) / SOME;
        allowed += isfinite(error) ? 2 * error / SOME : 0;
        n++;
    }
    return off < allowed
               ? TBG_OK
               : tbg_fail(TBG_INPUT, "%s: ln weights are off by %.3g nats: another model made it", path, off);
}

/* The model may have the same name and be another: a few samples must have the density that the file states.
 */
static int check_density(const sample_refine_request *q, const tbg_ensemble *e, const char *path) {
    enum { SOME = 5 };
    if (q->denoising->denoiser)
        return check_weights(q, e, path);
    size_t n3 = 3 * (size_t)e->n_atoms;
    double *x = tbg_alloc(2 * SOME, n3 * sizeof(double)), stated[SOME], off = 0,
           scale = tbg_session_model(q->session)->spec.scale;
    const tbg_conditioning *list[SOME];
    tbg_flow_result result[SOME];
    int n = 0;
    for (long i = 0; i < e->n && n < SOME && x; i++)
        if (tbg_ensemble_is_valid(e, i)) {
            for (size_t k = 0; k < n3; k++)
                x[(size_t)n * n3 + k] = e->positions[(size_t)i * n3 + k] * scale;
            list[n] = q->conditioning;
            stated[n++] = e->log_q[i];
        }
    int status = x ? tbg_flow_density(q->session, q->flow, n, list, x, x + SOME * n3, result) : TBG_FAILED;
    free(x);
    TBG_TRY(status);
    for (int i = 0; i < n; i++)
        off += fabs(result[i].log_q + 3.0 * (e->n_atoms - 1) * log(scale) - stated[i]) / n;
    return off < 1 + q->flow->tolerance
               ? TBG_OK
               : tbg_fail(TBG_INPUT, "%s: log q is off by %.3g nats: another model made it", path, off);
}

int sample_refine_take(const sample_refine_request *q, sample_table *t, tbg_ensemble_info *info, long *n) {
    char path[4096], sequence[64];
    *n = 0;
    TBG_TRY(tbg_path_join(q->directory, "ensemble.nc", path, sizeof path));
    if (access(path, F_OK))
        return TBG_OK;
    tbg_ensemble *e;
    TBG_TRY(tbg_ensemble_read(q->directory, &e));
    int status = TBG_OK;
    tbg_molecule_sequence(q->molecule, sequence, sizeof sequence);
    if (e->n != t->n || e->n_atoms != t->n_atoms)
        status = tbg_fail(TBG_INPUT, "%s holds %ld samples of %d atoms, not %ld of %d: give -n %ld", path,
                          e->n, e->n_atoms, t->n, t->n_atoms, e->n);
    else if (!e->weighted)
        status = tbg_fail(TBG_INPUT, "%s was sampled without weights; --refine needs them", path);
    else if (e->info.temperature != q->options.temperature || e->info.seed != q->options.seed)
        status = tbg_fail(TBG_INPUT, "%s was made with seed %llu at %g K, not with %llu at %g K", path,
                          (unsigned long long)e->info.seed, e->info.temperature,
                          (unsigned long long)q->options.seed, q->options.temperature);
    if (!status)
        status = same(path, "the molecule", e->info.sequence, sequence);
    if (!status)
        status = same(path, "the model", e->info.model, q->model);
    if (!status)
        status = same(path, "the force field", e->info.forcefield, q->system->forcefield);
    if (!status)
        status = check_density(q, e, path);
    if (!status) {
        memcpy(t->positions, e->positions, 3 * (size_t)t->n * (size_t)t->n_atoms * sizeof(double));
        for (long i = 0; i < t->n; i++) {
            t->have[i] = 1;
            t->log_q[i] = e->log_q[i];
            t->reduced_energy[i] = e->reduced_energy[i];
            t->verdict[i] = e->verdict[i];
        }
        *info = e->info;
        *n = t->n;
    }
    tbg_ensemble_free(e);
    return status;
}

/* ---- results ---- */

/* Put "refine": {...} into a summary.json. */
static int add_to_summary(const char *directory, const char *text) {
    char path[4096];
    json_error_t error;
    TBG_TRY(tbg_path_join(directory, "summary.json", path, sizeof path));
    json_t *summary = json_load_file(path, 0, &error), *refine = json_loads(text, 0, NULL);
    char *all = NULL;
    if (json_is_object(summary) && refine && !json_object_set(summary, "refine", refine))
        all = json_dumps(summary, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    int status = all ? tbg_file_write(path, all, strlen(all))
                     : tbg_fail(TBG_FAILED, "%s: cannot be extended: %s", path, error.text);
    free(all);
    json_decref(summary);
    json_decref(refine);
    return status;
}

static void print(FILE *out, const tbg_refine_summary *s, const char *directory) {
    fprintf(out,
            "refined: %d chains of %ld cycles (burn-in %ld), %ld of %ld proposals used, %.1f %% of moves "
            "took a new "
            "one, %.1f per chain\n",
            s->chains, s->cycles, s->burn_in, s->used, s->n_proposals, 100 * s->acceptance, s->turnover);
    for (int l = 0; l + 1 < s->levels; l++)
        fprintf(out, "  level %d: dynamics taken %.0f %%, exchanges %.0f %%\n", l + 1,
                100 * s->dynamics_acceptance[l], 100 * s->exchange_acceptance[l]);
    fprintf(out, "  energy %.2f +- %.2f kT, one independent frame in %.1f cycles\n", s->u_mean, s->u_error,
            s->u_inefficiency);
    for (int k = 0; k < s->n_marks; k++) {
        const tbg_refine_mark *m = &s->marks[k];
        if (s->within)
            fprintf(out,
                    "  dF(%s) %.2f +- %.2f kT by acceptance ratios in %d states (%.0f samples carry it)\n",
                    m->name, m->dF.value, m->dF.error, s->states, m->bridge_effective);
        else
            fprintf(out,
                    "  dF(%s) %.2f +- %.2f kT (%.0f independent frames, %ld visits); from both sides %.2f +- "
                    "%.2f kT "
                    "(%.0f samples carry it)\n",
                    m->name, m->dF.value, m->dF.error, m->effective, m->visits[1], m->bridge.value,
                    m->bridge.error, m->bridge_effective);
    }
    fprintf(
        out,
        "  seconds: dynamics %.1f, densities %.1f\n%s\n%s/refined: topology.pdb, ensemble.nc, summary.json, "
        "report.html\n",
        s->seconds_dynamics, s->seconds_density, s->advice, directory);
}

static int write_results(const sample_refine_request *q, const tbg_refine *r, const tbg_ensemble_info *info) {
    char directory[4096];
    tbg_refine_summary s;
    tbg_ensemble *e = NULL;
    char *text = NULL;
    tbg_ensemble_summary *figures = TBG_NEW(tbg_ensemble_summary, 1);
    int status = figures ? tbg_path_join(q->directory, "refined", directory, sizeof directory) : TBG_FAILED;
    if (!status)
        status = tbg_refine_summarise(r, &s);
    if (!status)
        status = tbg_refine_ensemble(r, &s, q->molecule, info, &e);
    if (!status)
        status = results_write(e, figures, directory);
    if (!status)
        status = tbg_refine_json(&s, &text);
    if (!status)
        status = add_to_summary(directory, text);
    if (!status)
        status = add_to_summary(q->directory, text);
    if (!status)
        print(q->json ? stderr : stdout, &s, q->directory);
    free(text);
    free(figures);
    tbg_ensemble_free(e);
    return status;
}

/* ---- the stage ---- */

/* To the last cycle, to an interruption or to a failure. */
static int run(const sample_refine_request *q, tbg_refine *r, const char *checkpoint) {
    long done, cycles = tbg_refine_cycles(r, &done), already = done;
    tbg_progress progress;
    double saved = tbg_seconds();
    int status = TBG_OK;
    tbg_progress_start(&progress, "refining", "cycles", (double)(cycles - already));
    while (done < cycles && !status) {
        status = tbg_interrupted() ? tbg_fail(TBG_FAILED, "interrupted") : tbg_refine_advance(r);
        tbg_refine_cycles(r, &done);
        tbg_progress_update(&progress, (double)(done - already), NULL);
        if (!status && tbg_seconds() - saved > CHECKPOINT_SECONDS) {
            status = tbg_refine_save(r, q->settings, checkpoint);
            saved = tbg_seconds();
        }
    }
    tbg_progress_end(&progress, (double)(done - already));
    if (status && tbg_interrupted() && done > 0)
        TBG_TRY(tbg_refine_save(r, q->settings, checkpoint));
    return status;
}

int sample_refine(const sample_refine_request *q, const sample_table *t, const tbg_ensemble_info *info) {
    tbg_refine_target target = {0};
    tbg_refine *r = NULL;
    char folder[4000], checkpoint[4096];
    size_t n3 = 3 * (size_t)t->n_atoms;
    double *u = TBG_NEW(double, t->n);
    int status = u ? tbg_path_join(q->directory, "partial", folder, sizeof folder) : TBG_FAILED;
    if (!status)
        status = tbg_path_join(folder, "refine.safetensors", checkpoint, sizeof checkpoint);
    if (!status)
        status = tbg_make_directory(folder);
    for (long i = 0; i < t->n && !status; i++) {
        int valid = t->verdict[i] == TBG_VALID || t->verdict[i] == TBG_MIRRORED;
        for (size_t k = 0; k < n3 && valid; k++)
            valid = isfinite(t->positions[(size_t)i * n3 + k]);
        u[i] = valid ? t->reduced_energy[i] : INFINITY;
    }
    if (!status)
        status = tbg_refine_molecule_create(q->molecule, q->system, q->conditioning, q->session, q->flow,
                                            q->engine, q->denoising->denoiser, &q->options, t->n, &target);
    const tbg_refine_proposals proposals = {t->n, t->positions, t->log_q, u};
    if (!status)
        status = tbg_refine_create(&target, &proposals, &q->options, &r);
    if (!status && q->resume && !access(checkpoint, F_OK))
        status = tbg_refine_load(r, q->settings, checkpoint);
    long done = 0, cycles = 0;
    if (!status) {
        cycles = tbg_refine_cycles(r, &done);
        fprintf(stderr,
                "tbg sample: refining: %d chains, %ld cycles of %d proposals and %g ps (%g fs a step), %d "
                "level%s%s\n",
                tbg_refine_chains(&q->options, t->n), cycles, q->options.proposals, q->options.time,
                1000 * q->options.timestep, q->options.levels, q->options.levels > 1 ? "s" : "",
                done ? "; going on" : "");
        status = run(q, r, checkpoint);
        tbg_refine_cycles(r, &done);
    }
    int interrupted = status && tbg_interrupted();
    if (r && done > 0 && (!status || interrupted)) {
        int written = write_results(q, r, info);
        status = written ? written : status;
    }
    if (interrupted)
        fprintf(
            stderr,
            "tbg sample: interrupted: %ld of %ld cycles are done; the same command with --resume goes on\n",
            done, cycles);
    if (!status)
        unlink(checkpoint);
    tbg_refine_free(r);
    tbg_refine_molecule_free(&target);
    free(u);
    return status;
}
