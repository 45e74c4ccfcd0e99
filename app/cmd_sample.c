/* cmd_sample.c: tbg sample: model and molecule to a weighted ensemble.
 *
 * Work is done in chunks; each finished chunk is saved (sample_store.c), Ctrl-C writes the ensemble of what
 * is there, and --resume goes on. A sample depends on its number and the seed only, so neither chunks nor
 * threads matter. */
#include "app.h"
#include "subject.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "results.h"
#include "sample.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    subject_settings on;
    const char *what, *directory;
    int64_t n, seed, batch, check;
    int no_weights, resume, json;
    int refine, within;
    int64_t chains, proposals, levels;
    double time, level_time;
} settings;

typedef struct {
    subject on;
    tbg_flow_options flow;
    tbg_denoise_options denoise;
    tbg_checker *checker;
    sample_denoising denoising; /* where the flow ends above no noise */
    /* of the present chunk, sample by sample */
    long first;
    double *positions;    /* [n][3 n_atoms] nm, as they came, or with the noise taken off */
    double *log_ratio;    /* [n] what turns log q of the flow's sample into that of the positions */
    double *anneal_error; /* [n] its estimated error, nats */
    char *text;           /* settings that decide the result */
    char warnings[TBG_WARNINGS_SIZE];
    sample_table table;
    long done;
    tbg_ensemble_info info; /* of the samples, once they are written */
    int taken;              /* from an ensemble that was finished before */
} work;

static void release(work *w) {
    tbg_checker_free(w->checker);
    sample_denoising_close(&w->denoising);
    subject_close(&w->on);
    sample_table_free(&w->table);
    free(w->text);
}

/* ---- preparation ---- */

/* What the flow hands over of the chunk, before any density is found: only valid configurations get one, the
 * others' divergences would be for nothing. */
static int arrive(void *context, int n, const int *sample, const double *const *x, unsigned char *wanted) {
    work *w = context;
    size_t n3 = 3 * (size_t)w->on.molecule->n_atoms;
    long last = 0;
    double *checked = TBG_NEW(double, n3);
    if (!checked)
        return TBG_FAILED;
    for (int q = 0; q < n; q++) {
        for (size_t k = 0; k < n3; k++)
            w->positions[(size_t)sample[q] * n3 + k] = x[q][k] / w->on.model->spec.scale;
        last = sample[q] + 1;
    }
    int status =
        sample_denoise(&w->denoising, (uint64_t)w->first, last, w->positions, w->log_ratio, w->anneal_error);
    for (int q = 0; q < n && !status && wanted; q++) {
        memcpy(checked, w->positions + (size_t)sample[q] * n3, n3 * sizeof *checked);
        int verdict = tbg_check(w->checker, checked);
        wanted[q] = verdict == TBG_VALID || verdict == TBG_MIRRORED;
    }
    free(checked);
    return status;
}

static int prepare(const settings *o, work *w) {
    const subject_request request = subject_ask(&o->on, o->what, !o->no_weights, "cannot be sampled with");
    TBG_TRY(subject_load(&request, &w->on));
    TBG_TRY(subject_prepare(&request, &w->on));
    TBG_TRY(tbg_checker_create(w->on.molecule, &w->checker));
    tbg_checker_set_mirror(w->checker, !w->on.model->spec.virtual_sites);
    TBG_TRY(subject_denoising(&o->on, w->on.model, !o->no_weights, &w->denoise, &w->flow));
    TBG_TRY(sample_denoising_open(&w->on, &w->denoise, (int)o->on.threads, (uint64_t)o->seed, &w->denoising));
    w->flow.wanted = arrive;
    w->flow.context = w;
    subject_warn(&w->on, "sample", sizeof w->warnings, w->warnings);
    TBG_TRY(sample_settings(w->on.model, w->on.molecule, w->on.forcefield, w->on.temperature,
                            w->on.engine ? tbg_engine_name(w->on.engine) : "none",
                            tbg_session_backend(w->on.session), (uint64_t)o->seed, &w->flow, &w->denoising,
                            &w->text));
    return sample_table_create((long)o->n, w->on.molecule->n_atoms, &w->table);
}

/* ---- one chunk ---- */

/* There and back for the first m samples of the chunk. */
static int look_back(work *w, long first, long m, const tbg_conditioning *const *list, const double *latent,
                     const double *x, const tbg_flow_result *forward) {
    size_t n3 = 3 * (size_t)w->on.molecule->n_atoms;
    double *back = TBG_NEW(double, (size_t)m *n3), scale = w->on.model->spec.scale;
    tbg_flow_result *result = TBG_NEW(tbg_flow_result, m);
    int status = back && result ? tbg_flow_density(w->on.session, &w->flow, (int)m, list, x, back, result)
                                : TBG_FAILED;
    for (long i = 0; i < m && !status; i++) {
        if (forward[i].status || result[i].status)
            continue;
        double sum = 0;
        for (size_t k = 0; k < n3; k++) {
            double e = (back[(size_t)i * n3 + k] - latent[(size_t)i * n3 + k]) / scale;
            sum += e * e;
        }
        w->table.back_position[first + i] = sum / (double)n3;
        w->table.back_log_q[first + i] = forward[i].log_q - result[i].log_q; /* NaN: density not wanted */
    }
    free(back);
    free(result);
    return status;
}

/* Without densities the flow asks nothing: hand over what it has made. */
static int hand_over(work *w, int n, const double *x, const tbg_flow_result *result) {
    size_t n3 = 3 * (size_t)w->on.molecule->n_atoms;
    int *sample = TBG_NEW(int, n), m = 0;
    const double **at = TBG_NEW(const double *, n);
    int status = sample && at ? TBG_OK : TBG_FAILED;
    for (int i = 0; i < n && !status; i++)
        if (result[i].status == TBG_FLOW_OK) {
            sample[m] = i;
            at[m++] = x + (size_t)i * n3;
        }
    if (!status)
        status = arrive(w, m, sample, at, NULL);
    free(sample);
    free(at);
    return status;
}

static int energies(work *w, tbg_ensemble *e) {
    TBG_TRY(tbg_engine_evaluate(w->on.engine, e->n, e->positions, e->reduced_energy, NULL, NULL));
    for (long i = 0; i < e->n; i++)
        e->reduced_energy[i] /= TBG_BOLTZMANN * w->on.temperature;
    return TBG_OK;
}

static int chunk(const settings *o, work *w, long first, long n) {
    size_t n3 = 3 * (size_t)w->on.molecule->n_atoms;
    sample_table *t = &w->table;
    const tbg_conditioning **list = TBG_NEW(const tbg_conditioning *, n);
    double *latent = TBG_NEW(double, (size_t)n *n3), *x = TBG_NEW(double, (size_t)n *n3);
    tbg_flow_result *result = TBG_NEW(tbg_flow_result, n);
    tbg_ensemble *e = NULL;
    double start = tbg_seconds(), flow_seconds = 0, energy_seconds = 0;
    w->positions = TBG_NEW(double, (size_t)n *n3);
    w->log_ratio = TBG_NEW(double, n);
    w->anneal_error = TBG_NEW(double, n);
    int status = list && latent && x && result && w->positions && w->log_ratio && w->anneal_error
                     ? tbg_ensemble_create(w->on.molecule, n, &e)
                     : TBG_FAILED;
    for (long i = 0; i < n && !status; i++) {
        list[i] = w->on.conditioning;
        w->log_ratio[i] = 0;
        w->anneal_error[i] = NAN;
    }
    if (!status) {
        w->first = first;
        for (size_t k = 0; k < (size_t)n * n3; k++)
            w->positions[k] = NAN;
        status = tbg_flow_sample(w->on.session, &w->flow, (int)n, list, (uint64_t)o->seed, (uint64_t)first,
                                 latent, x, result);
    }
    if (!status && !w->flow.weights)
        status = hand_over(w, (int)n, x, result);
    flow_seconds = tbg_seconds() - start; /* the look back is a check, not part of the work */
    if (!status && first < o->check)
        status =
            look_back(w, first, o->check - first < n ? (long)o->check - first : n, list, latent, x, result);
    if (!status) {
        double scale = w->on.model->spec.scale, per_nm = 3.0 * (w->on.molecule->n_atoms - 1) * log(scale);
        memcpy(e->positions, w->positions, (size_t)n * n3 * sizeof(double));
        for (long i = 0; i < n; i++)
            e->log_q[i] = result[i].log_q + per_nm + w->log_ratio[i];
        start = tbg_seconds();
        status = tbg_ensemble_check(e, !w->on.model->spec.virtual_sites);
        if (!status && w->on.engine)
            status = energies(w, e);
        energy_seconds = tbg_seconds() - start;
    }
    if (!status) {
        memcpy(t->positions + (size_t)first * n3, e->positions, (size_t)n * n3 * sizeof(double));
        for (long i = 0; i < n; i++) {
            t->log_q[first + i] = e->log_q[i];
            t->reduced_energy[first + i] = e->reduced_energy[i];
            t->verdict[first + i] = e->verdict[i];
            t->error[first + i] = result[i].error;
            t->anneal_error[first + i] = w->anneal_error[i];
            t->velocities[first + i] = result[i].velocities;
            t->divergences[first + i] = result[i].divergences;
        }
        status = sample_store_write(o->directory, w->text, t, first, n, flow_seconds, energy_seconds);
    }
    if (!status) {
        memset(t->have + first, 1, (size_t)n);
        t->seconds_flow += flow_seconds;
        t->seconds_energy += energy_seconds;
        w->done += n;
    }
    tbg_ensemble_free(e);
    free(w->positions);
    free(w->log_ratio);
    free(w->anneal_error);
    free(list);
    free(latent);
    free(x);
    free(result);
    return status;
}

/* ---- all chunks ---- */

/* The next run of samples that are not there yet, at most `most`; 0: none. */
static long next_gap(const sample_table *t, long *first, long most) {
    while (*first < t->n && t->have[*first])
        ++*first;
    long n = 0;
    while (n < most && *first + n < t->n && !t->have[*first + n])
        n++;
    return n;
}

static void note(const work *w, char *text, size_t size) {
    long valid = 0, have = 0;
    const sample_table *t = &w->table;
    for (long i = 0; i < t->n; i++)
        if (t->have[i]) {
            have++;
            valid += t->verdict[i] == TBG_VALID || t->verdict[i] == TBG_MIRRORED;
        }
    snprintf(text, size, "%.1f %% valid", have ? 100.0 * (double)valid / (double)have : 0);
}

static void introduce(const settings *o, const work *w) {
    char sequence[1024];
    const subject *on = &w->on;
    tbg_molecule_sequence(on->molecule, sequence, sizeof sequence);
    fprintf(stderr, "tbg sample: %s, %d atoms, %s at %g K, energies by %s\n", sequence, on->molecule->n_atoms,
            on->forcefield, on->temperature, on->engine ? tbg_engine_name(on->engine) : "none");
    fprintf(stderr, "tbg sample: model %s, %zu parameters, on %s, %d thread%s; %s solver, %g nats\n",
            o->on.model, on->model->n_parameters, tbg_session_backend(on->session), subject_threads(&o->on),
            subject_threads(&o->on) == 1 ? "" : "s", tbg_solver_name(w->flow.solver), w->flow.tolerance);
    if (w->denoise.branches)
        fprintf(
            stderr,
            "tbg sample: the flow ends at %g nm of noise; %d branches of %d steps lead to %g nm, the force "
            "field takes off the rest\n",
            w->denoise.smoothing, w->denoise.branches, w->denoise.steps, w->denoise.anneal.smoothing);
    fprintf(stderr, "tbg sample: %lld samples, seed %lld, into %s\n", (long long)o->n, (long long)o->seed,
            o->directory);
}

/* What is to come, from the machine's speed with this molecule. Samples that turn out not to be valid take
 * less. */
static int announce(const settings *o, const work *w) {
    const int threads = subject_threads(&o->on);
    const double left = (double)(w->table.n - w->done), looks = w->done ? 0 : fmin((double)o->check, left);
    tbg_flow_speed speed;
    double seconds = 0, annealing;
    if (!(left > 0))
        return TBG_OK;
    TBG_TRY(tbg_flow_measure(w->on.session, w->on.conditioning, threads, w->flow.weights, 0.1, &speed));
    if (w->on.engine)
        TBG_TRY(subject_energy_seconds(&w->on, threads, &seconds));
    TBG_TRY(sample_denoising_seconds(&w->denoising, w->on.molecule, &annealing));
    seconds += annealing;
    const double flow = tbg_flow_seconds(&w->flow, &speed);
    char text[32];
    app_duration(left * (flow + seconds) + looks * flow, text, sizeof text);
    fprintf(stderr, "tbg sample: estimate: %.3g s per sample; %.0f samples take about %s\n", flow + seconds,
            left, text);
    return TBG_OK;
}

/* The first chunk is small and tells how long the rest takes; chunks then last some seconds, so that little
 * is lost when the program is ended. */
static int run(const settings *o, work *w) {
    long first = 0, n, least = 4 * subject_threads(&o->on);
    long batch = o->batch ? (long)o->batch : least;
    tbg_progress progress;
    double already = (double)w->done, begin = tbg_seconds();
    int shown = 0;
    TBG_TRY(announce(o, w));
    while ((n = next_gap(&w->table, &first, batch))) {
        if (tbg_interrupted())
            return tbg_fail(TBG_FAILED, "interrupted");
        double start = tbg_seconds();
        int status = chunk(o, w, first, n);
        if (status) {
            if (shown)
                tbg_progress_end(&progress, (double)w->done - already);
            return status;
        }
        double each = (tbg_seconds() - start) / (double)n, left = (double)(w->table.n - w->done);
        if (!shown) {
            char text[32];
            app_duration(left * each, text, sizeof text);
            if (left > 0)
                fprintf(stderr, "tbg sample: %.3g s per sample; the other %.0f samples take about %s\n", each,
                        left, text);
            tbg_progress_start(&progress, "sampling", "samples", (double)w->table.n - already);
            progress.start = begin;
            shown = 1;
        }
        if (!o->batch)
            batch = (long)fmin(fmax(5 / each, (double)least), 2000);
        char text[64];
        note(w, text, sizeof text);
        tbg_progress_update(&progress, (double)w->done - already, text);
    }
    if (shown)
        tbg_progress_end(&progress, (double)w->done - already);
    return TBG_OK;
}

/* ---- results ---- */

static int gather(const settings *o, work *w, tbg_ensemble **out) {
    const sample_table *t = &w->table;
    tbg_ensemble *e;
    TBG_TRY(tbg_ensemble_create(w->on.molecule, w->done, &e));
    size_t n3 = 3 * (size_t)t->n_atoms;
    double squares = 0, log_q = 0, velocities = 0, annealing = 0;
    long k = 0, looked = 0, compared = 0, annealed = 0;
    for (long i = 0; i < t->n; i++) {
        if (!t->have[i])
            continue;
        memcpy(e->positions + (size_t)k * n3, t->positions + (size_t)i * n3, n3 * sizeof(double));
        e->log_q[k] = t->log_q[i];
        e->reduced_energy[k] = t->reduced_energy[i];
        e->verdict[k++] = (unsigned char)t->verdict[i];
        velocities += t->velocities[i];
        if (isfinite(t->anneal_error[i])) {
            annealing += t->anneal_error[i] * t->anneal_error[i];
            annealed++;
        }
        if (!isnan(t->back_position[i])) {
            squares += t->back_position[i];
            if (!isnan(t->back_log_q[i])) {
                log_q += t->back_log_q[i] * t->back_log_q[i];
                compared++;
            }
            looked++;
        }
    }
    e->weighted = !o->no_weights;
    tbg_ensemble_info *info = &e->info;
    snprintf(info->model, sizeof info->model, "%s", tbg_path_name(o->on.model));
    snprintf(info->backend, sizeof info->backend, "%s", tbg_session_backend(w->on.session));
    snprintf(info->forcefield, sizeof info->forcefield, "%s", w->on.forcefield);
    snprintf(info->engine, sizeof info->engine, "%s", w->on.engine ? tbg_engine_name(w->on.engine) : "");
    info->temperature = w->on.temperature;
    memcpy(info->warnings, w->warnings, sizeof info->warnings);
    info->seed = (uint64_t)o->seed;
    info->seconds_flow = t->seconds_flow;
    info->seconds_energy = t->seconds_energy;
    info->evaluations = w->done ? velocities / (double)w->done : NAN;
    info->smoothing = w->denoise.smoothing;
    info->branches = w->denoise.branches;
    info->annealed_from = w->denoise.anneal.smoothing;
    info->anneal_error = annealed ? sqrt(annealing / (double)annealed) : NAN;
    info->forward_backward_n = looked;
    info->forward_backward_position = looked ? sqrt(squares / (double)looked) : NAN;
    info->forward_backward_log_q = compared && e->weighted ? sqrt(log_q / (double)compared) : NAN;
    tbg_ensemble_weigh(e);
    w->info = *info;
    *out = e;
    return TBG_OK;
}

static void print_summary(const settings *o, const work *w, const tbg_ensemble *e,
                          const tbg_ensemble_summary *s) {
    const sample_table *t = &w->table;
    double divergences = 0, worst = 0;
    long inaccurate = 0;
    for (long i = 0; i < t->n; i++)
        if (t->have[i] && isfinite(t->error[i])) {
            divergences += t->divergences[i];
            worst = fmax(worst, t->error[i]);
            inaccurate += t->error[i] > o->on.tolerance;
        }
    FILE *out = o->json ? stderr : stdout;
    fprintf(out,
            "%ld samples, %ld valid (%.1f %%; %ld mirrored); wrong topology %ld, wrong chirality %ld, not "
            "finite %ld\n",
            s->n_generated, s->n_valid,
            s->n_generated ? 100.0 * (double)s->n_valid / (double)s->n_generated : 0, s->n_mirrored,
            s->n_topology, s->n_chirality, s->n_not_finite);
    if (e->weighted && s->n_valid)
        fprintf(out, "ESS %.2f %% of valid samples (clipped %.2f %%), Pareto k %.2f\n",
                100 * s->ess_raw.value, 100 * s->ess_clipped, s->pareto_k);
    fprintf(out, "seconds: flow %.1f, checks and energies %.1f; %.0f velocities%s", t->seconds_flow,
            t->seconds_energy, e->info.evaluations, e->weighted ? "" : " a sample\n");
    if (e->weighted) {
        fprintf(out, " and %.0f divergences a sample\n", divergences / (double)(w->done ? w->done : 1));
        fprintf(out, "log q: estimated error %.2g nats at most", worst);
        if (inaccurate)
            fprintf(out, ", above the tolerance of %g in %ld samples", o->on.tolerance, inaccurate);
        fputc('\n', out);
    }
    if (e->info.branches)
        fprintf(out, "noise of %g nm taken off by %d branches to %g nm, there ", e->info.smoothing,
                e->info.branches, e->info.annealed_from);
    else if (e->info.smoothing > 0)
        fprintf(out, "noise of %g nm taken off ", e->info.smoothing);
    if (e->info.smoothing > 0)
        fprintf(out, "by the force field: %.2g nats of random error in a log weight (rms)\n",
                e->info.anneal_error);
    if (e->info.forward_backward_n) {
        fprintf(out, "there and back (%ld samples): %.2g nm", e->info.forward_backward_n,
                e->info.forward_backward_position);
        if (e->weighted)
            fprintf(out, ", log q %.2g nats", e->info.forward_backward_log_q);
        fputc('\n', out);
    }
    if (*s->advice)
        fprintf(out, "%s\n", s->advice);
    fprintf(out, "%s: topology.pdb, ensemble.nc, summary.json, report.html\n", o->directory);
}

static int write_results(const settings *o, work *w) {
    tbg_ensemble *e;
    tbg_ensemble_summary *s = TBG_NEW(tbg_ensemble_summary, 1);
    if (!s)
        return TBG_FAILED;
    int status = gather(o, w, &e);
    if (status) {
        free(s);
        return status;
    }
    status = results_write(e, s, o->directory);
    if (!status)
        print_summary(o, w, e, s);
    char *json = NULL;
    if (!status && o->json && !o->refine && !(status = tbg_ensemble_summary_json(e, s, &json)))
        puts(json);
    free(json);
    tbg_ensemble_free(e);
    free(s);
    return status;
}

/* ---- the command ---- */

static int refuse(const char *why) {
    fprintf(stderr, "tbg sample: %s\n", why);
    return 2;
}

static int check_settings(const settings *o) {
    const char *why = subject_refused(&o->on);
    if (why)
        return refuse(why);
    if (!o->directory)
        return refuse("-o DIR is needed");
    if (o->n < 1 || o->n > 100000000)
        return refuse("-n must be 1 to 100,000,000");
    if (o->seed < 0)
        return refuse("--seed must not be negative");
    if (o->batch < 0 || o->batch > 1000000)
        return refuse("--batch must be 0 (chosen by speed) to 1,000,000");
    if (o->refine && o->no_weights)
        return refuse("--refine needs weights: not with --no-weights");
    if (o->chains < 0 || o->chains > 4096 || o->proposals < 1 || o->proposals > 10000 || o->levels < 1 ||
        o->levels > 16)
        return refuse(
            "--refine-chains 0 to 4096, --refine-proposals 1 to 10,000 and --refine-levels 1 to 16 are "
            "possible");
    return 0;
}

static sample_refine_request refinement(const settings *o, work *w) {
    sample_refine_request q = {.directory = o->directory,
                               .model = tbg_path_name(o->on.model),
                               .settings = w->text,
                               .molecule = w->on.molecule,
                               .system = w->on.system,
                               .conditioning = w->on.conditioning,
                               .session = w->on.session,
                               .flow = &w->flow,
                               .engine = w->on.engine,
                               .denoising = &w->denoising,
                               .resume = o->resume,
                               .json = o->json};
    tbg_refine_defaults(w->on.forcefield, &q.options);
    q.options.chains = (int)o->chains;
    q.options.proposals = (int)o->proposals;
    q.options.levels = (int)o->levels;
    q.options.within = o->within;
    q.options.time = o->time;
    q.options.level_time = o->level_time;
    q.options.temperature = w->on.temperature;
    q.options.seed = (uint64_t)o->seed;
    q.options.threads = (int)o->on.threads;
    return q;
}

/* With --json --refine the summary is printed when all is in it. */
static int print_json(const char *directory) {
    char path[4096], *text;
    TBG_TRY(tbg_path_join(directory, "summary.json", path, sizeof path));
    TBG_TRY(tbg_file_read(path, (size_t)1 << 24, &text, NULL));
    puts(text);
    free(text);
    return TBG_OK;
}

static int finish(const settings *o, work *w, int status) {
    int interrupted = status && tbg_interrupted();
    if (status && !interrupted)
        return app_fail("sample", status);
    if (interrupted && !w->done)
        return refuse("interrupted before the first sample was finished") - 1;
    status = w->taken ? TBG_OK : write_results(o, w);
    if (status)
        return app_fail("sample", status);
    if (interrupted) {
        fprintf(stderr,
                "tbg sample: interrupted: wrote the %ld of %ld samples that are done; the same command with "
                "--resume goes on\n",
                w->done, w->table.n);
        return 1;
    }
    if (o->refine) {
        sample_refine_request q = refinement(o, w);
        status = sample_refine(&q, &w->table, &w->info);
        if (status && tbg_interrupted())
            return 1;
        if (!status && o->json)
            status = print_json(o->directory);
    }
    if (!status)
        status = sample_store_remove(o->directory);
    return status ? app_fail("sample", status) : 0;
}

int cmd_sample(int argc, char **argv) {
    tbg_refine_options refine;
    tbg_refine_defaults(NULL, &refine);
    settings o = {.n = 1000,
                  .check = -1,
                  .chains = refine.chains,
                  .proposals = refine.proposals,
                  .levels = refine.levels,
                  .time = refine.time,
                  .level_time = refine.level_time};
    subject_defaults(&o.on);
    const app_option options[] = {
        {"model", 'm', APP_STRING, &o.on.model, "FILE",
         "model file; default: the shipped one for such molecules"},
        {"output", 'o', APP_STRING, &o.directory, "DIR", "folder for the ensemble (needed)"},
        {"number", 'n', APP_INT, &o.n, "N", "samples"},
        {"seed", 's', APP_INT, &o.seed, "S", "random seed; sample i depends on the seed and i only"},
        {"no-weights", 0, APP_FLAG, &o.no_weights, NULL,
         "positions only: no log q, no energies, much faster"},
        SUBJECT_OPTIONS(&o.on, "weights"),
        {"check", 0, APP_INT, &o.check, "N", "samples that are also traced back; -1: 2 % (4 to 64)"},
        {"batch", 0, APP_INT, &o.batch, "N", "samples at once; 0: some seconds' worth"},
        {"refine", 0, APP_FLAG, &o.refine, NULL,
         "then let Markov chains take the samples as proposals, with dynamics between: frames of equal "
         "weight in "
         "DIR/refined"},
        {"refine-chains", 0, APP_INT, &o.chains, "C", "chains; 0: from -n"},
        {"refine-proposals", 0, APP_INT, &o.proposals, "K", "samples that compete in each move of a chain"},
        {"refine-time", 0, APP_DOUBLE, &o.time, "PS", "dynamics between moves"},
        {"refine-levels", 0, APP_INT, &o.levels, "S",
         "densities from the model's to the molecule's; more than 1 where few samples have weight"},
        {"refine-within", 0, APP_FLAG, &o.within, NULL,
         "chains keep to the states of phi they began in; populations by acceptance ratios alone"},
        {"refine-level-time", 0, APP_DOUBLE, &o.level_time, "PS", "dynamics at the levels below the last"},
        {"resume", 0, APP_FLAG, &o.resume, NULL,
         "go on with an interrupted run; with --refine also from finished samples in DIR"},
        {"json", 0, APP_FLAG, &o.json, NULL, "print the summary as one JSON object"},
        {0}};
    int n = app_parse(
        "sample",
        "Samples a weighted equilibrium ensemble of a molecule with a trained model: topology.pdb,\n"
        "ensemble.nc (positions, log_q, reduced_energy, log_weight, valid), summary.json, report.html.\n"
        "With --refine also DIR/refined, the same files: frames of Markov chains, correct also where the "
        "weights are "
        "not.",
        options, argc, argv, &o.what, 1, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (check_settings(&o))
        return 2;
    if (o.check < 0)
        o.check = (int64_t)fmin(fmax((double)o.n / 50, 4), 64);
    work w = {0};
    tbg_flow_defaults(&w.flow);
    w.flow.weights = !o.no_weights;
    char model[PATH_MAX];
    int status = subject_choose("sample", o.what, &o.on, model, sizeof model);
    if (!status)
        status = subject_flow(&o.on, &w.flow);
    if (!status && !o.resume && sample_store_exists(o.directory))
        status = tbg_fail(TBG_INPUT,
                          "%s holds an unfinished run: --resume goes on with it; remove its folder 'partial' "
                          "to begin anew",
                          o.directory);
    if (!status)
        status = prepare(&o, &w);
    if (!status && o.refine) {
        sample_refine_request q = refinement(&o, &w);
        status = sample_refine_check(&q, (long)o.n);
    }
    if (!status)
        status = tbg_make_directory(o.directory);
    if (!status && o.resume) {
        status = sample_store_read(o.directory, w.text, &w.table, &w.done);
        if (!status && !w.done && o.refine) {
            sample_refine_request q = refinement(&o, &w);
            status = sample_refine_take(&q, &w.table, &w.info, &w.done);
            w.taken = w.done > 0;
        }
        if (!status)
            fprintf(stderr, "tbg sample: going on with %ld samples done\n", w.done);
    }
    int code;
    if (status)
        code = app_fail("sample", status);
    else {
        introduce(&o, &w);
        code = finish(&o, &w, run(&o, &w));
    }
    release(&w);
    return code;
}
