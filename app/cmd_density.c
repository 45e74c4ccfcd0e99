/* cmd_density.c: tbg density: what a model thinks of given conformations: log q of each frame.
 *
 * Frames of dynamics show how good a model is where the truth lies: its mean -log q (NLL), the
 * Kullback-Leibler divergence from the data and the effective sample size that sampling would have if the
 * data covered everything. Ctrl-C writes the frames that are done.
 *
 * A smoothed model gives no density of positions x, only of y = x + noise. The density of the x that `tbg
 * sample` makes of it is the mean over y given x of q(y) exp(-u(x)) / Z^, Z^ from annealing backwards
 * (tbg/anneal.h); log q is the logarithm of one draw: in the mean a lower bound, and so NLL and KL are upper
 * bounds. Weights and ESS are those of y with its annealing, as in sampling. */
#include "app.h"
#include "sample.h"
#include "subject.h"
#include "base/memory.h"
#include "base/progress.h"
#include "tbg/energy.h"
#include "tbg/ensemble.h"
#include "tbg/file.h"
#include "tbg/flow.h"
#include "tbg/status.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    subject_settings on;
    const char *what, *frames, *output;
    int64_t n, first, seed;
    int no_energies, json;
} settings;

enum { LOG_Q, LOG_WEIGHT, REDUCED_ENERGY, ERROR, ANNEAL_ERROR, COLUMNS }; /* the last: smoothed models */
static const char *const column_name[COLUMNS] = {"log_q", "log_weight", "reduced_energy", "log_q_error",
                                                 "anneal_error"};
static const char *const column_unit[COLUMNS] = {"1", "1", "kT", "1", "1"};

typedef struct {
    subject on;
    tbg_flow_options flow;
    sample_denoising denoising; /* of a smoothed model */
    int64_t n, done;            /* frames chosen, evaluated */
    double *positions, *column; /* [n][n_atoms][3] nm; [n][COLUMNS] */
    double velocities, divergences;
} work;

static void release(work *w) {
    sample_denoising_close(&w->denoising);
    subject_close(&w->on);
    free(w->positions);
    free(w->column);
}

/* ---- preparation ---- */

/* Averages over frames of a flattened run would be of no ensemble. */
static int check_unweighted(const char *path) {
    size_t length = strlen(path);
    if (length < 3 || strcmp(path + length - 3, ".nc"))
        return TBG_OK;
    tbg_trajectory *t;
    double *weight;
    TBG_TRY(tbg_trajectory_read(path, 0, 1, 0, &t));
    int status = tbg_trajectory_weights(t, path, &weight);
    tbg_trajectory_free(t);
    if (status == TBG_OK && weight)
        status = tbg_fail(TBG_INPUT,
                          "%s: frames have weights (log_weight, tbg simulate --flatten); tbg reference draws "
                          "frames of equal weight from it",
                          path);
    free(weight);
    return status;
}

/* o->n frames evenly spread from o->first on (0: all) stay, in order. */
static int choose_frames(const settings *o, work *w) {
    int64_t all;
    TBG_TRY(check_unweighted(o->frames));
    TBG_TRY(tbg_frames_read(o->frames, w->on.molecule->n_atoms, &all, &w->positions));
    if (o->first >= all)
        return tbg_fail(TBG_INPUT, "%s has %lld frames; --first %lld leaves none", o->frames, (long long)all,
                        (long long)o->first);
    int64_t left = all - o->first;
    size_t n3 = 3 * (size_t)w->on.molecule->n_atoms;
    w->n = o->n && o->n < left ? o->n : left;
    for (int64_t k = 0; k < w->n; k++) {
        int64_t from = o->first + (int64_t)((double)k * (double)left / (double)w->n);
        memmove(w->positions + (size_t)k * n3, w->positions + (size_t)from * n3, n3 * sizeof(double));
    }
    w->column = TBG_NEW(double, (size_t)w->n *COLUMNS);
    return w->column ? TBG_OK : TBG_FAILED;
}

static int prepare(const settings *o, work *w) {
    char warnings[TBG_WARNINGS_SIZE];
    if (o->output)
        TBG_TRY(app_check_output("-o", o->output));
    const subject_request request = subject_ask(&o->on, o->what, !o->no_energies, "does not fit");
    TBG_TRY(subject_load(&request, &w->on));
    tbg_denoise_options denoise;
    TBG_TRY(subject_denoising(&o->on, w->on.model, 1, &denoise, &w->flow));
    if (o->no_energies && denoise.smoothing > 0)
        return tbg_fail(TBG_INPUT,
                        "%s is smoothed: log q of positions takes the force field; not with --no-energies",
                        o->on.model);
    TBG_TRY(choose_frames(o, w));
    TBG_TRY(subject_prepare(&request, &w->on));
    TBG_TRY(sample_denoising_open(&w->on, &denoise, (int)o->on.threads, (uint64_t)o->seed, &w->denoising));
    subject_warn(&w->on, "density", sizeof warnings, warnings);
    return TBG_OK;
}

/* ---- the work ---- */

/* What the flow's density is asked of, in nm: the frames themselves, or y given them and the annealing back
 * to them. */
static int smooth(const work *w, int64_t first, int n, const double *nm, double *y,
                  tbg_anneal_result *annealed) {
    const int atoms = w->on.molecule->n_atoms;
    memcpy(y, nm, (size_t)n * 3 * (size_t)atoms * sizeof *y);
    if (!w->denoising.denoiser)
        return TBG_OK;
    uint64_t *number = TBG_NEW(uint64_t, n);
    int status = number ? TBG_OK : TBG_FAILED;
    for (int i = 0; i < n && !status; i++)
        number[i] = (uint64_t)(first + i);
    if (!status) {
        status =
            tbg_denoise_given(w->denoising.denoiser, tbg_denoiser_options(w->denoising.denoiser)->anneal.seed,
                              n, number, nm, y, annealed);
    }
    free(number);
    return status;
}

static int evaluate(work *w, int64_t first, int n) {
    size_t n3 = 3 * (size_t)w->on.molecule->n_atoms;
    double scale = w->on.model->spec.scale, per_nm = 3.0 * (w->on.molecule->n_atoms - 1) * log(scale);
    const double *nm = w->positions + (size_t)first * n3;
    double *x = TBG_NEW(double, 2 * (size_t)n * n3), *energy = TBG_NEW(double, n);
    tbg_flow_result *result = TBG_NEW(tbg_flow_result, n);
    tbg_anneal_result *annealed = TBG_NEW(tbg_anneal_result, n);
    const tbg_conditioning **list = TBG_NEW(const tbg_conditioning *, n);
    int status =
        x && energy && result && annealed && list ? smooth(w, first, n, nm, x, annealed) : TBG_FAILED;
    for (size_t k = 0; k < (size_t)n * n3 && !status; k++)
        x[k] *= scale;
    for (int i = 0; i < n && !status; i++)
        list[i] = w->on.conditioning;
    if (!status)
        status = tbg_flow_density(w->on.session, &w->flow, n, list, x, x + (size_t)n * n3, result);
    if (!status && w->on.engine)
        status = tbg_engine_evaluate(w->on.engine, n, nm, energy, NULL, NULL);
    for (int i = 0; i < n && !status; i++) {
        double *c = w->column + (size_t)(first + i) * COLUMNS;
        c[LOG_Q] = result[i].log_q + per_nm;
        c[ERROR] = result[i].error;
        if (w->denoising.denoiser) {
            c[LOG_Q] -= annealed[i].log_z + annealed[i].u;
            c[ANNEAL_ERROR] = annealed[i].error;
        }
        c[REDUCED_ENERGY] = w->on.engine ? energy[i] / (TBG_BOLTZMANN * w->on.temperature) : NAN;
        c[LOG_WEIGHT] = -c[REDUCED_ENERGY] - c[LOG_Q];
        w->velocities += result[i].velocities;
        w->divergences += result[i].divergences;
    }
    free(x);
    free(energy);
    free(result);
    free(annealed);
    free(list);
    return status;
}

/* The first frames tell the speed; then some seconds' worth at once. */
static int run(const settings *o, work *w) {
    int batch = 4 * subject_threads(&o->on), least = batch;
    tbg_progress progress;
    tbg_progress_start(&progress, "log q", "frames", (double)w->n);
    int status = TBG_OK;
    while (w->done < w->n && !status) {
        int n = w->n - w->done < batch ? (int)(w->n - w->done) : batch;
        double start = tbg_seconds();
        status = tbg_interrupted() ? tbg_fail(TBG_FAILED, "interrupted") : evaluate(w, w->done, n);
        if (status)
            break;
        w->done += n;
        batch = (int)fmin(fmax(3 * n / (tbg_seconds() - start), least), 2000);
        tbg_progress_update(&progress, (double)w->done, NULL);
    }
    tbg_progress_end(&progress, (double)w->done);
    return status;
}

/* ---- results ---- */

typedef struct {
    int64_t finite;
    double nll, nll_error, nll_published; /* Angstrom */
    double energy, kl, ess;               /* NAN without energies */
    double rms_error;                     /* estimated, of log q */
    int64_t inaccurate;                   /* frames above the tolerance */
    double anneal_error;                  /* the random one of the annealing, rms; NAN: not smoothed */
} figures;

/* Means over data from p, w = exp(-U/kT) / q, Z the normaliser of exp(-U/kT): 1/Z = E_p[1/w], KL(p || q) =
 * E_p[log w] - log Z, ESS of samples from q = (E_q w)^2 / E_q w^2 = Z / E_p[w]. They see nothing of what the
 * model makes outside the data. */
static figures summarise(const settings *o, const work *w) {
    figures f = {.kl = NAN, .ess = NAN, .energy = NAN};
    double annealing = 0, annealed = 0;
    double dimensions = 3.0 * (w->on.molecule->n_atoms - 1), sum = 0, squares = 0, error = 0, log_w = 0,
           energy = 0;
    double *plus = TBG_NEW(double, w->done), *minus = TBG_NEW(double, w->done);
    long m = 0;
    for (int64_t i = 0; i < w->done; i++) {
        const double *c = w->column + (size_t)i * COLUMNS;
        if (!isfinite(c[LOG_Q]))
            continue;
        f.finite++;
        sum -= c[LOG_Q];
        squares += c[LOG_Q] * c[LOG_Q];
        error += c[ERROR] * c[ERROR];
        f.inaccurate += c[ERROR] > o->on.tolerance;
        if (w->denoising.denoiser && isfinite(c[ANNEAL_ERROR])) {
            annealing += c[ANNEAL_ERROR] * c[ANNEAL_ERROR];
            annealed++;
        }
        if (isfinite(c[LOG_WEIGHT]) && plus && minus) {
            log_w += c[LOG_WEIGHT];
            energy += c[REDUCED_ENERGY];
            plus[m] = c[LOG_WEIGHT];
            minus[m++] = -c[LOG_WEIGHT];
        }
    }
    double n = (double)f.finite;
    f.nll = n ? sum / n + dimensions * log(10) : NAN;
    f.nll_published = f.nll - dimensions / 2 * log(2 * M_PI);
    f.nll_error = n > 1 ? sqrt(fmax(0, squares / n - sum * sum / n / n) / (n - 1)) : NAN;
    f.rms_error = n ? sqrt(error / n) : NAN;
    f.anneal_error = annealed > 0 ? sqrt(annealing / annealed) : NAN;
    if (m) {
        double inverse_z = tbg_log_sum_exp(m, minus) - log((double)m);
        f.energy = energy / (double)m;
        f.kl = log_w / (double)m + inverse_z;
        f.ess = exp(-inverse_z - (tbg_log_sum_exp(m, plus) - log((double)m)));
    }
    free(plus);
    free(minus);
    return f;
}

static int write_frames(const settings *o, const work *w) {
    char *pdb = NULL;
    const int columns = w->denoising.denoiser ? COLUMNS : ANNEAL_ERROR;
    double *column = TBG_NEW(double, (size_t)w->done *(size_t)columns);
    if (!column)
        return TBG_FAILED;
    for (int64_t i = 0; i < w->done; i++)
        memcpy(column + i * columns, w->column + i * COLUMNS, (size_t)columns * sizeof *column);
    tbg_trajectory_header header = {.n_atoms = w->on.molecule->n_atoms,
                                    .title = "tbg density",
                                    .forcefield = w->on.forcefield,
                                    .temperature = w->on.temperature,
                                    .n_extra = columns,
                                    .extra_names = column_name,
                                    .extra_units = column_unit};
    tbg_trajectory_writer *writer = NULL;
    int status = tbg_molecule_format_pdb(w->on.molecule, w->positions, &pdb);
    header.topology_pdb = pdb;
    if (!status)
        status = tbg_trajectory_create(o->output, &header, 0, NULL, &writer);
    free(pdb);
    size_t n3 = 3 * (size_t)w->on.molecule->n_atoms;
    for (int64_t i = 0; i < w->done && !status; i += 1000)
        status = tbg_trajectory_append(writer, (int)fmin(1000, (double)(w->done - i)),
                                       w->positions + (size_t)i * n3, NULL, column + i * columns);
    free(column);
    if (status && writer)
        tbg_trajectory_abort(writer);
    return status ? status : tbg_trajectory_close(writer);
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static void print(const settings *o, const work *w, const figures *f) {
    double n = (double)(w->done ? w->done : 1);
    if (o->json) {
        json_t *root = json_pack(
            "{ss sI sI sI so so so so so so so so so}", "model", o->on.model, "n_frames", (json_int_t)w->done,
            "n_finite", (json_int_t)f->finite, "n_inaccurate", (json_int_t)f->inaccurate, "nll_mean",
            number(f->nll), "nll_error", number(f->nll_error), "nll_published", number(f->nll_published),
            "energy_mean", number(f->energy), "kl_from_data", number(f->kl), "ess_from_data", number(f->ess),
            "log_q_error_rms", number(f->rms_error), "velocities_per_frame", number(w->velocities / n),
            "divergences_per_frame", number(w->divergences / n));
        if (root && w->denoising.denoiser) {
            json_object_set_new(root, "smoothing_nm",
                                json_real(tbg_denoiser_options(w->denoising.denoiser)->smoothing));
            json_object_set_new(root, "anneal_error_rms", number(f->anneal_error));
        }
        char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
        if (text)
            puts(text);
        free(text);
        json_decref(root);
        return;
    }
    printf("%lld frames of %s, %lld with a density; %.0f velocities and %.0f divergences each\n",
           (long long)w->done, o->frames, (long long)f->finite, w->velocities / n, w->divergences / n);
    printf("NLL, Angstrom                %.3f +- %.2g (frames taken as independent)\n", f->nll, f->nll_error);
    printf("NLL, published convention    %.3f (without the prior's constant)\n", f->nll_published);
    printf("log q: estimated error       %.2g nats rms", f->rms_error);
    if (f->inaccurate)
        printf(", above the tolerance of %g in %lld frames", o->on.tolerance, (long long)f->inaccurate);
    putchar('\n');
    if (w->denoising.denoiser)
        printf("annealing: random error      %.2g nats rms\n"
               "(smoothed by %g nm: log q is one draw of an estimate, in the mean a lower bound, NLL and KL "
               "upper ones)\n",
               f->anneal_error, tbg_denoiser_options(w->denoising.denoiser)->smoothing);
    if (w->on.engine) {
        printf("mean U/kT                    %.2f\n", f->energy);
        printf("KL from data to model        %.3f nats\n", f->kl);
        printf("ESS if the data are all      %.2f %%\n", 100 * f->ess);
        printf("(the last two see nothing that the model makes outside the data, and rest on its frames' "
               "tails)\n");
    }
    if (o->output)
        printf("%s: positions, log_q, log_weight, reduced_energy, log_q_error%s\n", o->output,
               w->denoising.denoiser ? ", anneal_error" : "");
}

/* ---- the command ---- */

static int refuse(const char *why) {
    fprintf(stderr, "tbg density: %s\n", why);
    return 2;
}

static int check_settings(const settings *o) {
    const char *why = subject_refused(&o->on);
    if (why)
        return refuse(why);
    if (o->n < 0 || o->n > 100000000)
        return refuse("-n must be 0 (all) to 100,000,000");
    if (o->first < 0)
        return refuse("--first must not be negative");
    if (o->seed < 0)
        return refuse("--seed must not be negative");
    return 0;
}

int cmd_density(int argc, char **argv) {
    settings o = {0};
    subject_defaults(&o.on);
    const app_option options[] = {
        {"model", 'm', APP_STRING, &o.on.model, "FILE",
         "model file; default: the shipped one for such molecules"},
        {"output", 'o', APP_STRING, &o.output, "OUT.nc", "frames with log_q, log_weight, reduced_energy"},
        {"number", 'n', APP_INT, &o.n, "N", "frames, evenly spread; 0: all"},
        {"first", 0, APP_INT, &o.first, "K", "leave out the first K frames"},
        {"no-energies", 0, APP_FLAG, &o.no_energies, NULL, "log q only; not of a smoothed model"},
        SUBJECT_OPTIONS(&o.on, "energies"),
        {"seed", 's', APP_INT, &o.seed, "S", "of a smoothed model: random seed of noise and annealing"},
        {"json", 0, APP_FLAG, &o.json, NULL, "print the figures as one JSON object"},
        {0}};
    const char *what[2];
    int n = app_parse(
        "density",
        "The model's log density of given conformations (a trajectory .nc, or a .safetensors with positions\n"
        "in nm), atoms in the molecule's order: mean NLL, and how far the model is from the data. Of a "
        "smoothed\n"
        "model log q is estimated with the force field, in the mean a lower bound.",
        options, argc, argv, what, 2, 2);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (check_settings(&o))
        return 2;
    o.what = what[0];
    o.frames = what[1];
    work w = {0};
    tbg_flow_defaults(&w.flow);
    char model[PATH_MAX];
    int status = subject_choose("density", o.what, &o.on, model, sizeof model);
    if (!status)
        status = subject_flow(&o.on, &w.flow);
    if (!status)
        status = prepare(&o, &w);
    if (!status)
        status = run(&o, &w);
    int interrupted = status && tbg_interrupted() && w.done;
    if (interrupted) {
        fprintf(stderr, "tbg density: interrupted after %lld of %lld frames\n", (long long)w.done,
                (long long)w.n);
        status = TBG_OK;
    }
    if (!status && o.output)
        status = write_frames(&o, &w);
    if (!status) {
        figures f = summarise(&o, &w);
        print(&o, &w, &f);
    }
    int code = status ? app_fail("density", status) : interrupted;
    release(&w);
    return code;
}
