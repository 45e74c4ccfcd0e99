/* train.c: a training run from configuration to finished model: creation, the loop, files, resuming. Owns the
 * order in which things happen; numbers come from batch.c, the network floor and optimizer.c. */
#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "tbg/schedule.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_CONSECUTIVE_SKIPS 50
#define MAX_SKIPS 1000
#define BINS 8

struct tbg_trainer {
    const tbg_training_config *config;
    tbg_training_options options;
    char *checkpoint, *last, *best, *log;
    tbg_data data, validation;
    char forcefield[32];
    double temperature;
    tbg_model *model;
    tbg_session *session;
    tbg_optimizer optimizer;
    tbg_batch_recipe recipe;
    tbg_training_batch batch, validation_batch;
    tbg_ahead *ahead;       /* where a device computes, so that the processor is free; else NULL */
    float *gradient, *kept; /* [n_parameters] */
    int placed;             /* weights and optimiser are on the session's device */
    double *squares;        /* [n_tensors] of the gradient there */
    tbg_training_state state;
    json_t *description, *initial_story; /* the latter: of the model that fine-tuning starts from, or NULL */
    int64_t iterations;
    double iterations_per_epoch;
    int threads;
    double network_seconds, run_seconds; /* of this run */
    int64_t run_molecules;
    double bins[BINS]; /* last validation loss by time */
    double raw_loss;
};

static char *join(const char *folder, const char *name) {
    char *path = tbg_alloc(strlen(folder) + strlen(name) + 2, 1);
    return path ? strcat(strcat(strcpy(path, folder), "/"), name) : NULL;
}

void tbg_trainer_free(tbg_trainer *t) {
    if (!t)
        return;
    tbg_session_free(t->session);
    tbg_model_free(t->model);
    tbg_optimizer_free(&t->optimizer);
    tbg_ahead_free(t->ahead); /* before what it reads */
    tbg_training_batch_free(&t->batch);
    tbg_training_batch_free(&t->validation_batch);
    tbg_data_free(&t->validation);
    tbg_data_free(&t->data);
    json_decref(t->description);
    json_decref(t->initial_story);
    free(t->gradient);
    free(t->kept);
    free(t->squares);
    free(t->checkpoint);
    free(t->last);
    free(t->best);
    free(t->log);
    free(t);
}

const tbg_model *tbg_trainer_model(const tbg_trainer *t) {
    return t->model;
}

static char *sequences(const tbg_data *data) {
    size_t size = 1;
    for (int i = 0; i < data->n; i++)
        size += strlen(data->molecules[i].sequence) + 1;
    char *text = tbg_alloc(size, 1);
    for (int i = 0; text && i < data->n; i++)
        strcat(strcat(text, i ? "," : ""), data->molecules[i].sequence);
    return text;
}

/* The model of `initial:`, grown where the configuration asks for a larger one. */
static int initial_model(const tbg_training_config *c, tbg_model **out) {
    tbg_model *model;
    TBG_TRY(tbg_model_read(c->initial, &model));
    int hidden = c->network.hidden ? c->network.hidden : model->spec.hidden;
    int layers = c->network.layers ? c->network.layers : model->spec.layers;
    if (hidden == model->spec.hidden && layers == model->spec.layers) {
        *out = model;
        return TBG_OK;
    }
    int status = tbg_model_grow(model, hidden, layers, c->seed, out);
    tbg_model_free(model);
    return status ? tbg_fail_in(status, "%s: 'initial' %s", c->name, c->initial) : TBG_OK;
}

static int build_model(tbg_trainer *t) {
    const tbg_training_config *c = t->config;
    if (c->initial) {
        TBG_TRY(initial_model(c, &t->model));
        t->initial_story = t->model->training_json ? json_loads(t->model->training_json, 0, NULL) : NULL;
    } else {
        tbg_network_spec spec = c->network;
        if (c->scale_from_data)
            spec.scale = tbg_data_unit_scale(&t->data);
        if (!isfinite(spec.scale))
            return tbg_fail(TBG_INPUT, "%s: the data have no finite standard deviation", c->name);
        TBG_TRY(tbg_model_create(&spec, c->seed, &t->model));
    }
    if (t->model->spec.graded_d == 0 && c->time_sampling == TBG_TIME_GRADED)
        return tbg_fail(TBG_INPUT, "%s: 'time_sampling: u' needs a network with graded_d > 0", c->name);
    free(t->model->forcefield);
    free(t->model->molecules);
    t->model->forcefield = *t->forcefield ? tbg_strdup(t->forcefield) : NULL;
    t->model->temperature = t->temperature;
    t->model->molecules = sequences(&t->data);
    if (!t->model->molecules || (*t->forcefield && !t->model->forcefield))
        return TBG_FAILED;
    TBG_TRY(tbg_data_condition(&t->data, &t->model->spec, t->forcefield, t->temperature));
    for (int i = 0; i < t->validation.n; i++)
        if (t->validation.molecules[i].borrowed)
            t->validation.molecules[i].system = t->data.molecules[i].system;
    return tbg_data_condition(&t->validation, &t->model->spec, t->forcefield, t->temperature);
}

static int describe(tbg_trainer *t) {
    json_t *config = tbg_training_config_json(t->config);
    if (config)
        json_object_set_new(config, "iterations", json_integer((json_int_t)t->iterations));
    if (config && t->config->initial) /* models are passed on: without the folders of this machine */
        json_object_set_new(config, "initial", json_string(tbg_path_name(t->config->initial)));
    t->description =
        json_pack("{s:o, s:o, s:s, s:f, s:o, s:o, s:I, s:s, s:i, s:s, s:s}", "config", config, "network",
                  tbg_spec_json(&t->model->spec), "forcefield", t->forcefield, "temperature", t->temperature,
                  "data", tbg_data_json(&t->data), "validation", tbg_data_json(&t->validation), "parameters",
                  (json_int_t)t->model->n_parameters, "backend", tbg_session_backend(t->session), "threads",
                  t->threads, "version", TBG_VERSION, "configuration_file", tbg_path_name(t->config->name));
    return t->description ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
}

static int restore(tbg_trainer *t) {
    json_t *then = NULL;
    TBG_TRY(tbg_checkpoint_describe(t->checkpoint, &then));
    int status = tbg_checkpoint_compare(t->checkpoint, then, t->description);
    json_decref(then);
    if (status != TBG_OK)
        return status;
    TBG_TRY(tbg_checkpoint_read(t->checkpoint, t->model, &t->optimizer, &t->state, &then));
    json_decref(then);
    TBG_TRY(tbg_session_refresh(t->session));
    return tbg_log_trim(t->log, t->state.iteration);
}

static int set_up(tbg_trainer *t) {
    const tbg_training_config *c = t->config;
    const tbg_training_options *o = &t->options;
    t->threads = o->threads > 0 ? o->threads : c->threads > 0 ? c->threads : omp_get_max_threads();
    t->checkpoint = join(o->directory, "checkpoint.safetensors");
    t->last = join(o->directory, "last.safetensors");
    t->best = join(o->directory, "best.safetensors");
    t->log = join(o->directory, "log.jsonl");
    if (!t->checkpoint || !t->last || !t->best || !t->log)
        return TBG_FAILED;
    int there = access(t->checkpoint, F_OK) == 0;
    if (!o->resume && (there || access(t->last, F_OK) == 0))
        return tbg_fail(TBG_INPUT,
                        "%s holds a training run already: --resume goes on with it, or choose another folder",
                        o->directory);
    TBG_TRY(tbg_data_load(c, &t->data, &t->validation, t->forcefield, &t->temperature));
    t->iterations_per_epoch = (double)t->data.n_frames / (double)c->batch;
    t->iterations = o->iterations   ? o->iterations
                    : c->epochs > 0 ? (int64_t)ceil(c->epochs * t->iterations_per_epoch)
                                    : c->iterations;
    TBG_TRY(build_model(t));
    int max_atoms = t->data.max_atoms > t->validation.max_atoms ? t->data.max_atoms : t->validation.max_atoms;
    const char *backend = o->backend ? o->backend : *c->backend ? c->backend : NULL;
    TBG_TRY(tbg_session_create(t->model, backend, max_atoms, t->threads, &t->session));
    TBG_TRY(tbg_optimizer_create(t->model->n_parameters, t->model->values, c->ema > 0, &t->optimizer));
    if (c->optimizer == TBG_OPTIMIZER_SOAP)
        TBG_TRY(tbg_optimizer_use_soap(&t->optimizer, t->model->n_tensors, t->model->tensors,
                                       c->refresh_bases, t->threads));
    TBG_TRY(tbg_training_batch_create((int)c->batch, t->data.max_atoms, &t->batch));
    if (t->validation.n)
        TBG_TRY(tbg_training_batch_create((int)c->validation_batch, t->validation.max_atoms,
                                          &t->validation_batch));
    t->gradient = TBG_NEW(float, t->model->n_parameters);
    t->kept = TBG_NEW(float, t->model->n_parameters);
    t->squares = TBG_NEW(double, t->model->n_tensors);
    if (!t->gradient || !t->kept || !t->squares)
        return TBG_FAILED;
    t->recipe = (tbg_batch_recipe){.composition = c->composition,
                                   .time_sampling = c->time_sampling,
                                   .time_stratified = c->time_stratified,
                                   .align = c->align,
                                   .transport = c->transport,
                                   .time_mixture = c->time_mixture,
                                   .path_noise = c->path_noise,
                                   .graded_d = t->model->spec.graded_d,
                                   .handed = t->model->spec.virtual_sites,
                                   .scale = t->model->spec.scale,
                                   .smoothing = t->model->spec.scale * t->model->spec.smoothing,
                                   .seed = c->seed};
    if (!strncmp(tbg_session_backend(t->session), "cuda", 4))
        TBG_TRY(tbg_ahead_create(&t->recipe, &t->data, (int)c->batch, t->threads, &t->ahead));
    t->state.best_loss = t->state.validation_loss = t->state.last_loss = t->raw_loss = NAN;
    TBG_TRY(describe(t));
    if (there)
        TBG_TRY(restore(t));
    return tbg_make_directory(o->directory);
}

int tbg_trainer_create(const tbg_training_config *config, const tbg_training_options *options,
                       tbg_trainer **out) {
    *out = NULL;
    tbg_trainer *t = TBG_NEW(tbg_trainer, 1);
    if (!t)
        return TBG_FAILED;
    t->config = config;
    t->options = *options;
    int status = set_up(t);
    if (status != TBG_OK) {
        tbg_trainer_free(t);
        return status;
    }
    *out = t;
    return TBG_OK;
}

int tbg_trainer_describe(const tbg_trainer *t, char **text) {
    json_t *o = json_copy(t->description);
    json_object_set_new(o, "resumed_at", json_integer((json_int_t)t->state.iteration));
    *text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    return *text ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
}

/* ---- files ---- */

static json_t *losses(const tbg_trainer *t) {
    const tbg_training_state *s = &t->state;
    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:f}", "iteration", (json_int_t)s->iteration,
                     "steps", (json_int_t)t->optimizer.steps, "molecules_seen", (json_int_t)s->molecules,
                     "skipped_steps", (json_int_t)s->skipped, "loss", tbg_json_real(s->last_loss),
                     "validation_loss", tbg_json_real(s->validation_loss), "best_validation_loss",
                     tbg_json_real(s->best_loss), "best_iteration", (json_int_t)s->best_iteration, "seconds",
                     s->seconds);
}

/* The weights to ship (EMA if there is one) with the story of how they came about. */
static int write_model(tbg_trainer *t, const char *path) {
    tbg_model *m = t->model;
    json_t *story = json_copy(t->description), *now = losses(t);
    json_object_update(story, now);
    json_decref(now);
    json_object_set_new(story, "weights", json_string(t->optimizer.ema ? "ema" : "raw"));
    if (t->initial_story)
        json_object_set(story, "initial_training", t->initial_story);
    json_object_set_new(story, "configuration_text", json_string(t->config->text));
    free(m->training_json);
    m->training_json = json_dumps(story, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(story);
    if (!m->training_json)
        return tbg_fail(TBG_FAILED, "out of memory");
    float *raw = m->values;
    if (t->optimizer.ema)
        m->values = t->optimizer.ema;
    int status = tbg_model_write(m, path);
    m->values = raw;
    return status;
}

/* Weights and optimiser as they are on the session's device, if they are there; they stay there as well. */
static int fetch(tbg_trainer *t) {
    if (!t->placed)
        return TBG_OK;
    const tbg_optimizer_arrays arrays = tbg_optimizer_arrays_of(&t->optimizer);
    return tbg_session_fetch(t->session, t->model->values, &arrays);
}

static int save(tbg_trainer *t) {
    TBG_TRY(fetch(t));
    TBG_TRY(tbg_checkpoint_write(t->checkpoint, t->model, &t->optimizer, &t->state, t->description,
                                 t->config->text));
    return write_model(t, t->last);
}

/* ---- validation ---- */

static int mean_loss(tbg_trainer *t, double *mean, double *bins) {
    tbg_training_batch *b = &t->validation_batch;
    TBG_TRY(tbg_session_refresh(t->session));
    TBG_TRY(tbg_network_loss(t->session, b->n, b->molecule, b->t, b->x, b->target, b->weight, b->loss, NULL));
    double sum = 0, in_bin[BINS] = {0};
    int count[BINS] = {0};
    for (int i = 0; i < b->n; i++) {
        double u =
            t->recipe.time_sampling == TBG_TIME_GRADED ? tbg_u_of_time(t->recipe.graded_d, b->t[i]) : b->t[i];
        int k = (int)(u * BINS);
        k = k < 0 ? 0 : k >= BINS ? BINS - 1 : k;
        in_bin[k] += b->loss[i];
        count[k]++;
        sum += b->loss[i];
    }
    *mean = sum / b->n;
    for (int k = 0; bins && k < BINS; k++)
        bins[k] = count[k] ? in_bin[k] / count[k] : NAN;
    return TBG_OK;
}

/* Always the same frames, noise and times: addresses of their own, without path noise differing between
 * calls. */
static int validate(tbg_trainer *t) {
    size_t bytes = t->model->n_parameters * sizeof(float);
    tbg_batch_recipe recipe = t->recipe;
    recipe.time_stratified = 1;
    TBG_TRY(fetch(t));
    TBG_TRY(tbg_training_batch_fill(&recipe, &t->validation, TBG_VALIDATION_ADDRESS, t->threads,
                                    &t->validation_batch));
    TBG_TRY(mean_loss(t, &t->raw_loss, t->bins));
    t->state.validation_loss = t->raw_loss;
    if (t->optimizer.ema) {
        memcpy(t->kept, t->model->values, bytes);
        memcpy(t->model->values, t->optimizer.ema, bytes);
        int status = mean_loss(t, &t->state.validation_loss, t->bins);
        memcpy(t->model->values, t->kept, bytes);
        TBG_TRY(tbg_session_refresh(t->session));
        TBG_TRY(status);
    }
    if (isfinite(t->state.validation_loss) && !(t->state.validation_loss >= t->state.best_loss)) {
        t->state.best_loss = t->state.validation_loss;
        t->state.best_iteration = t->state.iteration;
        TBG_TRY(write_model(t, t->best));
    }
    return TBG_OK;
}

static int write_log(tbg_trainer *t, int validated, double rate, double window) {
    tbg_training_state *s = &t->state;
    double n = (double)s->loss_n;
    s->last_loss = s->loss_n ? s->loss_sum / n : NAN;
    json_t *line = json_pack("{s:I, s:I, s:o, s:o, s:f, s:o, s:f, s:I}", "iteration",
                             (json_int_t)s->iteration, "molecules", (json_int_t)s->molecules, "loss",
                             tbg_json_real(s->last_loss), "gradient_norm", tbg_json_real(s->gradient_sum / n),
                             "learning_rate", rate, "molecules_per_s", tbg_json_real(n * t->batch.n / window),
                             "seconds", s->seconds, "skipped", (json_int_t)s->skipped);
    if (line && validated) {
        json_t *bins = json_array(), *edges = json_array();
        for (int k = 0; k < BINS; k++)
            json_array_append_new(bins, tbg_json_real(t->bins[k]));
        for (int k = 0; k <= BINS; k++)
            json_array_append_new(edges, json_real(k == 0 ? 0
                                                   : t->recipe.time_sampling == TBG_TIME_GRADED
                                                       ? tbg_time_of_u(t->recipe.graded_d, (double)k / BINS)
                                                       : (double)k / BINS));
        json_object_set_new(line, "validation_loss", tbg_json_real(s->validation_loss));
        json_object_set_new(line, "validation_loss_raw", tbg_json_real(t->raw_loss));
        json_object_set_new(line, "validation_by_time", bins);
        json_object_set_new(line, "time_edges", edges);
    }
    s->loss_sum = s->gradient_sum = s->window_seconds = 0;
    s->loss_n = 0;
    return tbg_log_append(t->log, line);
}

/* ---- the loop ---- */

/* Losses of the batch and their gradient, on the device where the session has one; its norm. */
static int find_gradient(tbg_trainer *t, double *norm) {
    tbg_training_batch *b = &t->batch;
    if (!tbg_session_steps(t->session)) {
        TBG_TRY(tbg_network_loss(t->session, b->n, b->molecule, b->t, b->x, b->target, b->weight, b->loss,
                                 t->gradient));
        *norm = tbg_optimizer_norm(&t->optimizer, t->gradient, t->threads);
        return TBG_OK;
    }
    TBG_TRY(tbg_session_gradient(t->session, b->n, b->molecule, b->t, b->x, b->target, b->weight, b->loss,
                                 t->squares));
    double sum = 0;
    for (int i = 0; i < t->model->n_tensors; i++)
        sum += t->squares[i];
    *norm = sqrt(sum);
    return TBG_OK;
}

/* The optimiser's step: on the device, but for steps that find first bases (SOAP), which are made here. */
static int use_gradient(tbg_trainer *t, const tbg_optimizer_step *update) {
    if (tbg_session_steps(t->session)) {
        if (tbg_optimizer_ready(&t->optimizer, t->model->n_tensors, t->squares)) {
            if (!t->placed) {
                const tbg_optimizer_arrays arrays = tbg_optimizer_arrays_of(&t->optimizer);
                TBG_TRY(tbg_session_place(t->session, &arrays));
                t->placed = 1;
            }
            return tbg_optimizer_update_on(&t->optimizer, update, t->session);
        }
        TBG_TRY(fetch(t));
        t->placed = 0;
        TBG_TRY(tbg_session_fetch_gradient(t->session, t->gradient));
    }
    tbg_optimizer_update(&t->optimizer, update, t->model->values, t->gradient, t->threads);
    double before = tbg_seconds();
    TBG_TRY(tbg_session_refresh(t->session));
    t->network_seconds += tbg_seconds() - before;
    return TBG_OK;
}

static int step(tbg_trainer *t, double *rate) {
    const tbg_training_config *c = t->config;
    tbg_training_state *s = &t->state;
    tbg_training_batch *b = &t->batch;
    uint64_t address = (uint64_t)s->iteration;
    if (t->ahead) {
        TBG_TRY(tbg_ahead_take(t->ahead, address, b));
        tbg_ahead_start(t->ahead, address + 1);
    } else
        TBG_TRY(tbg_training_batch_fill(&t->recipe, &t->data, address, t->threads, b));
    double before = tbg_seconds();
    double norm;
    TBG_TRY(find_gradient(t, &norm));
    t->network_seconds += tbg_seconds() - before;
    double loss = 0;
    for (int i = 0; i < b->n; i++)
        loss += b->loss[i];
    loss /= b->n;
    *rate = tbg_learning_rate(c, s->iteration, t->iterations, t->iterations_per_epoch);
    s->iteration++;
    s->molecules += b->n;
    t->run_molecules += b->n;
    if (!isfinite(loss) || !isfinite(norm)) {
        s->skipped++;
        s->consecutive_skipped++;
        if (s->consecutive_skipped >= MAX_CONSECUTIVE_SKIPS || s->skipped >= MAX_SKIPS)
            return tbg_fail(
                TBG_FAILED,
                "training diverged: %lld of %lld steps without a finite loss or gradient (%lld in a row, "
                "last "
                "at iteration %lld); lower the learning rate, clip gradients, or look at the data",
                (long long)s->skipped, (long long)s->iteration, (long long)s->consecutive_skipped,
                (long long)s->iteration);
        return TBG_OK;
    }
    s->consecutive_skipped = 0;
    s->loss_sum += loss;
    s->gradient_sum += norm;
    s->loss_n++;
    tbg_optimizer_step update = {.learning_rate = *rate,
                                 .beta1 = c->beta1,
                                 .beta2 = c->beta2,
                                 .epsilon = c->epsilon,
                                 .weight_decay = c->weight_decay,
                                 .ema = c->ema,
                                 .decoupled = c->optimizer != TBG_OPTIMIZER_ADAM,
                                 .gradient_scale = c->clip > 0 && norm > c->clip ? c->clip / norm : 1};
    return use_gradient(t, &update);
}

static int loop(tbg_trainer *t, tbg_training_end *end) {
    const tbg_training_config *c = t->config;
    tbg_training_state *s = &t->state;
    tbg_progress progress;
    char note[128];
    double start = tbg_seconds(), saved = start, paused = 0, before_run = s->seconds, rate = 0;
    double window_start = start - s->window_seconds, first = (double)s->iteration;
    tbg_progress_start(&progress, "training", "iterations", (double)t->iterations - first);
    *end = TBG_RUN_FINISHED;
    while (s->iteration < t->iterations) {
        TBG_TRY(step(t, &rate));
        double now = tbg_seconds();
        s->seconds = before_run + (now - start);
        t->run_seconds = now - start - paused;
        s->window_seconds = now - window_start;
        int last = s->iteration == t->iterations;
        int validated =
            t->validation.n && c->validate_every && (last || s->iteration % c->validate_every == 0);
        if (validated) {
            TBG_TRY(validate(t));
            double pause = tbg_seconds() - now;
            paused += pause;
            window_start += pause;
        }
        if (validated || last || s->iteration % c->log_every == 0) {
            TBG_TRY(write_log(t, validated, rate, s->window_seconds));
            window_start = tbg_seconds();
        }
        snprintf(note, sizeof note, "loss %.4g, validation %.4g, rate %.2g",
                 s->loss_n ? s->loss_sum / (double)s->loss_n : s->last_loss, s->validation_loss, rate);
        tbg_progress_update(&progress, (double)s->iteration - first, note);
        if (tbg_interrupted())
            *end = TBG_RUN_INTERRUPTED;
        else if (t->options.minutes > 0 && tbg_seconds() - start >= 60 * t->options.minutes && !last)
            *end = TBG_RUN_OUT_OF_TIME;
        if (*end != TBG_RUN_FINISHED)
            break;
        if (tbg_seconds() - saved >= 60 * c->checkpoint_minutes) {
            TBG_TRY(save(t));
            saved = tbg_seconds();
        }
    }
    tbg_progress_end(&progress, (double)s->iteration - first);
    return TBG_OK;
}

int tbg_trainer_run(tbg_trainer *t, tbg_training_result *r) {
    tbg_training_end end = TBG_RUN_FINISHED;
    int status = loop(t, &end);
    if (status == TBG_OK)
        status = save(t);
    const tbg_training_state *s = &t->state;
    *r = (tbg_training_result){
        .end = end,
        .iteration = s->iteration,
        .iterations = t->iterations,
        .molecules = s->molecules,
        .skipped = s->skipped,
        .loss = s->last_loss,
        .validation_loss = s->validation_loss,
        .best_loss = s->best_loss,
        .best_iteration = s->best_iteration,
        .seconds = s->seconds,
        .network_share = t->run_seconds > 0 ? t->network_seconds / t->run_seconds : NAN,
        .molecules_per_s = t->run_seconds > 0 ? (double)t->run_molecules / t->run_seconds : NAN,
    };
    return status;
}
