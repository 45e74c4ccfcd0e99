/* checkpoint.c: the state of a run as one safetensors file: raw weights, EMA, moments, SOAP's bases; counters
 * and description as JSON in the metadata. Written beside the target and renamed. Refuses to go on with
 * another network, recipe or data. */
#include "base/memory.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "tbg-checkpoint-1"

static json_t *state_json(const tbg_training_state *s, int64_t steps) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "iteration",
                     (json_int_t)s->iteration, "steps", (json_int_t)steps, "molecules",
                     (json_int_t)s->molecules, "skipped", (json_int_t)s->skipped, "consecutive_skipped",
                     (json_int_t)s->consecutive_skipped, "loss_n", (json_int_t)s->loss_n, "best_iteration",
                     (json_int_t)s->best_iteration, "loss_sum", tbg_json_real(s->loss_sum), "gradient_sum",
                     tbg_json_real(s->gradient_sum), "window_seconds", tbg_json_real(s->window_seconds),
                     "seconds", tbg_json_real(s->seconds), "best_loss", tbg_json_real(s->best_loss),
                     "validation_loss", tbg_json_real(s->validation_loss), "last_loss",
                     tbg_json_real(s->last_loss));
}

int tbg_checkpoint_write(const char *path, const tbg_model *model, const tbg_optimizer *o,
                         const tbg_training_state *state, const json_t *description,
                         const char *config_text) {
    size_t n_soap = 0;
    float *soap = o->soap ? tbg_soap_state(o->soap, &n_soap) : NULL;
    const float *data[5] = {model->values, o->m, o->v, o->ema, n_soap ? soap : NULL};
    static const char *const names[5] = {"weights", "adam.m", "adam.v", "ema", "soap"};
    tbg_tensor tensors[5];
    int n = 0;
    memset(tensors, 0, sizeof tensors);
    for (int i = 0; i < 5; i++) {
        size_t size = i == 4 ? n_soap : o->n;
        if (data[i])
            tensors[n++] = (tbg_tensor){.name = (char *)(uintptr_t)names[i],
                                        .dtype = TBG_F32,
                                        .rank = 1,
                                        .shape = {(int64_t)size},
                                        .n = size,
                                        .data = data[i]};
    }
    json_t *counters = state_json(state, o->steps);
    char *counters_text = counters ? json_dumps(counters, JSON_COMPACT) : NULL;
    char *description_text = json_dumps(description, JSON_COMPACT | JSON_SORT_KEYS);
    const char *keys[] = {"format", "state", "description", "config", "version"};
    const char *values[] = {FORMAT, counters_text, description_text, config_text, TBG_VERSION};
    int status = counters_text && description_text ? tbg_tensors_write(path, n, tensors, 5, keys, values)
                                                   : tbg_fail(TBG_FAILED, "out of memory");
    json_decref(counters);
    free(counters_text);
    free(description_text);
    return status;
}

static int open_checkpoint(const char *path, tbg_tensors **file, json_t **state, json_t **description) {
    TBG_TRY(tbg_tensors_read(path, file));
    const char *format = tbg_tensors_metadata(*file, "format"), *s = tbg_tensors_metadata(*file, "state"),
               *d = tbg_tensors_metadata(*file, "description");
    *state = s ? json_loads(s, 0, NULL) : NULL;
    *description = d ? json_loads(d, 0, NULL) : NULL;
    if (format && !strcmp(format, FORMAT) && json_is_object(*state) && json_is_object(*description))
        return TBG_OK;
    json_decref(*state);
    json_decref(*description);
    tbg_tensors_free(*file);
    return tbg_fail(TBG_INPUT, "%s: not a training checkpoint of this program", path);
}

static int copy(const tbg_tensors *file, const char *name, size_t n, float *to) {
    const tbg_tensor *t = tbg_tensors_find(file, name);
    if (!t || t->dtype != TBG_F32 || t->n != n)
        return tbg_fail(TBG_INPUT, "%s: tensor '%s' is missing or has the wrong size", file->path, name);
    memcpy(to, t->data, n * sizeof *to);
    return TBG_OK;
}

static int count(const json_t *o, const char *key, int64_t *value) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return tbg_fail(TBG_INPUT, "checkpoint state lacks '%s'", key);
    *value = json_integer_value(v);
    return TBG_OK;
}

static double real(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int read_state(const json_t *o, tbg_training_state *s, int64_t *steps) {
    TBG_TRY(count(o, "iteration", &s->iteration));
    TBG_TRY(count(o, "steps", steps));
    TBG_TRY(count(o, "molecules", &s->molecules));
    TBG_TRY(count(o, "skipped", &s->skipped));
    TBG_TRY(count(o, "consecutive_skipped", &s->consecutive_skipped));
    TBG_TRY(count(o, "loss_n", &s->loss_n));
    TBG_TRY(count(o, "best_iteration", &s->best_iteration));
    s->loss_sum = real(o, "loss_sum");
    s->gradient_sum = real(o, "gradient_sum");
    s->window_seconds = real(o, "window_seconds");
    s->seconds = real(o, "seconds");
    s->best_loss = real(o, "best_loss");
    s->validation_loss = real(o, "validation_loss");
    s->last_loss = real(o, "last_loss");
    return TBG_OK;
}

int tbg_checkpoint_read(const char *path, tbg_model *model, tbg_optimizer *o, tbg_training_state *state,
                        json_t **description) {
    tbg_tensors *file = NULL;
    json_t *counters = NULL;
    TBG_TRY(open_checkpoint(path, &file, &counters, description));
    int status = read_state(counters, state, &o->steps);
    if (status != TBG_OK)
        tbg_fail_in(status, "%s", path);
    if (status == TBG_OK)
        status = copy(file, "weights", model->n_parameters, model->values);
    if (status == TBG_OK)
        status = copy(file, "adam.m", o->n, o->m);
    if (status == TBG_OK)
        status = copy(file, "adam.v", o->n, o->v);
    if (status == TBG_OK && o->ema)
        status = copy(file, "ema", o->n, o->ema);
    size_t n_soap = 0;
    float *soap = o->soap ? tbg_soap_state(o->soap, &n_soap) : NULL;
    if (status == TBG_OK && n_soap)
        status = copy(file, "soap", n_soap, soap);
    json_decref(counters);
    tbg_tensors_free(file);
    if (status != TBG_OK) {
        json_decref(*description);
        *description = NULL;
    }
    return status;
}

int tbg_checkpoint_describe(const char *path, json_t **description) {
    tbg_tensors *file = NULL;
    json_t *counters = NULL;
    TBG_TRY(open_checkpoint(path, &file, &counters, description));
    json_decref(counters);
    tbg_tensors_free(file);
    return TBG_OK;
}

/* What may change between the runs of one training. */
static int may_change(const char *key) {
    static const char *const free_keys[] = {"iterations",     "epochs",
                                            "threads",        "checkpoint_minutes",
                                            "validate_every", "validation_batch",
                                            "log_every",      "path",
                                            "initial",        NULL};
    for (const char *const *k = free_keys; *k; k++)
        if (!strcmp(*k, key))
            return 1;
    return 0;
}

static int differ(const char *path, const char *where, const json_t *then, const json_t *now) {
    char *a = json_dumps(then, JSON_ENCODE_ANY | JSON_COMPACT),
         *b = json_dumps(now, JSON_ENCODE_ANY | JSON_COMPACT);
    tbg_fail(TBG_INPUT,
             "%s was made with %s = %.80s, now it is %.80s: go on with the same configuration and data, or "
             "train into another folder",
             path, where, a ? a : "nothing", b ? b : "nothing");
    free(a);
    free(b);
    return TBG_INPUT;
}

static int compare(const char *path, const char *where, const json_t *then, const json_t *now) {
    char inner[256];
    if (json_is_object(then) && json_is_object(now)) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)now, key, value) {
            if (may_change(key))
                continue;
            snprintf(inner, sizeof inner, "%s%s%s", where, *where ? "." : "", key);
            TBG_TRY(compare(path, inner, json_object_get(then, key), value));
        }
        return TBG_OK;
    }
    if (json_is_array(then) && json_is_array(now) && json_array_size(then) == json_array_size(now)) {
        for (size_t i = 0; i < json_array_size(now); i++) {
            snprintf(inner, sizeof inner, "%s[%zu]", where, i);
            TBG_TRY(compare(path, inner, json_array_get(then, i), json_array_get(now, i)));
        }
        return TBG_OK;
    }
    if (!then || !json_equal((json_t *)(uintptr_t)then, (json_t *)(uintptr_t)now))
        return differ(path, where, then, now);
    return TBG_OK;
}

int tbg_checkpoint_compare(const char *path, const json_t *then, const json_t *now) {
    static const char *const parts[] = {"data",       "validation",  "config", "network",
                                        "forcefield", "temperature", NULL};
    for (const char *const *part = parts; *part; part++)
        TBG_TRY(compare(path, *part, json_object_get(then, *part), json_object_get(now, *part)));
    return TBG_OK;
}
