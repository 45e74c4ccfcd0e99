/* config.c: the YAML file of a training run. Strict: unknown keys, unknown words and numbers out of range are
 * refused with file and line, and so are options that contradict each other. */
#include "base/memory.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *word;
    int value;
} choice;

static int choose(const tbg_yaml *node, const char *file, const char *key, const choice *choices,
                  int *value) {
    const tbg_yaml *child = tbg_yaml_get(node, key);
    if (!child)
        return TBG_OK;
    const char *text = tbg_yaml_text(child);
    char words[256] = "";
    for (const choice *c = choices; c->word; c++) {
        if (text && !strcmp(text, c->word)) {
            *value = c->value;
            return TBG_OK;
        }
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", c == choices ? "" : ", ",
                 c->word);
    }
    return tbg_fail(TBG_INPUT, "%s:%d: '%s' is one of %s, not '%s'", file, tbg_yaml_line(child), key, words,
                    text ? text : "(a list)");
}

static int is_number(const char *text) {
    char *end;
    strtod(text, &end);
    return *text && !*end;
}

static int read_edges(const tbg_yaml *node, const char *file, int *bits) {
    const tbg_yaml *list = tbg_yaml_get(node, "edge_features");
    if (!list)
        return TBG_OK;
    if (tbg_yaml_text(list) || tbg_yaml_key(list, 0))
        return tbg_fail(TBG_INPUT, "%s:%d: 'edge_features' is a list of d0, bonded, rate, radial, shell",
                        file, tbg_yaml_line(list));
    *bits = 0;
    for (int i = 0; i < tbg_yaml_size(list); i++) {
        const char *word = tbg_yaml_text(tbg_yaml_item(list, i));
        int k = 0;
        while (tbg_edge_word(k) && (!word || strcmp(word, tbg_edge_word(k))))
            k++;
        if (!tbg_edge_word(k))
            return tbg_fail(TBG_INPUT, "%s:%d: unknown edge feature '%s' (d0, bonded, rate, radial, shell)",
                            file, tbg_yaml_line(tbg_yaml_item(list, i)), word ? word : "(a list)");
        *bits |= 1 << k;
    }
    return TBG_OK;
}

static int read_network(const tbg_yaml *node, tbg_training_config *c) {
    static const char *const keys[] = {
        "preset",    "hidden",       "layers", "features", "edge_features", "harmonic_term", "time_u", "tanh",
        "attention", "coords_range", "scale",  "graded_d", "virtual_sites", "smoothing",     NULL};
    TBG_TRY(tbg_yaml_only(node, keys));
    tbg_network_spec *s = &c->network;
    char preset[64] = "tbg-full", features[64] = "";
    TBG_TRY(tbg_yaml_string(node, "preset", preset, sizeof preset));
    if (tbg_network_preset(preset, s) != TBG_OK)
        return tbg_fail_in(TBG_INPUT, "%s:%d", c->name, tbg_yaml_line(tbg_yaml_get(node, "preset")));
    int64_t hidden = s->hidden, layers = s->layers;
    TBG_TRY(tbg_yaml_int64(node, "hidden", 1, 4096, &hidden));
    TBG_TRY(tbg_yaml_int64(node, "layers", 1, 256, &layers));
    s->hidden = (int)hidden;
    s->layers = (int)layers;
    TBG_TRY(tbg_yaml_string(node, "features", features, sizeof features));
    if (*features) {
        static const int sizes[] = {0, 5, 13, 76, 9, 21}; /* by tbg_feature_set */
        if (tbg_feature_set_parse(features, &s->features) != TBG_OK)
            return tbg_fail_in(TBG_INPUT, "%s:%d", c->name, tbg_yaml_line(tbg_yaml_get(node, "features")));
        if (s->features == TBG_FEATURES_RAW)
            return tbg_fail(TBG_INPUT, "%s:%d: raw features are for vector files only", c->name,
                            tbg_yaml_line(tbg_yaml_get(node, "features")));
        s->n_features = sizes[s->features];
    }
    TBG_TRY(read_edges(node, c->name, &s->edge_features));
    TBG_TRY(tbg_yaml_bool(node, "harmonic_term", &s->harmonic_term));
    TBG_TRY(tbg_yaml_bool(node, "virtual_sites", &s->virtual_sites));
    TBG_TRY(tbg_yaml_bool(node, "time_u", &s->time_u));
    TBG_TRY(tbg_yaml_bool(node, "tanh", &s->tanh));
    TBG_TRY(tbg_yaml_bool(node, "attention", &s->attention));
    TBG_TRY(tbg_yaml_double(node, "coords_range", 1e-6, 1e6, &s->coords_range));
    TBG_TRY(tbg_yaml_double(node, "graded_d", 0, 1, &s->graded_d));
    TBG_TRY(tbg_yaml_double(node, "smoothing", 0, 1, &s->smoothing));
    const tbg_yaml *scale = tbg_yaml_get(node, "scale");
    const char *text = scale ? tbg_yaml_text(scale) : NULL;
    if (scale && text && !strcmp(text, "unit-variance"))
        s->scale = 0;
    else if (scale && (!text || !is_number(text)))
        return tbg_fail(TBG_INPUT, "%s:%d: 'scale' is a number (scaled units per nm) or 'unit-variance'",
                        c->name, tbg_yaml_line(scale));
    else
        TBG_TRY(tbg_yaml_double(node, "scale", 1e-6, 1e6, &s->scale));
    c->scale_from_data = !(s->scale > 0);
    tbg_network_spec checked = *s;
    if (c->scale_from_data)
        checked.scale = 1;
    if (tbg_network_spec_check(&checked) != TBG_OK)
        return tbg_fail_in(TBG_INPUT, "%s:%d", c->name, tbg_yaml_line(node));
    return TBG_OK;
}

static int read_validation(const tbg_yaml *node, tbg_training_config *c) {
    static const char *const keys[] = {"fraction",  "gap",        "sets",   "directory",
                                       "sequences", "split_file", "split",  "missing",
                                       "burn_in",   "stride",     "frames", NULL};
    TBG_TRY(tbg_yaml_only(node, keys));
    TBG_TRY(tbg_yaml_double(node, "fraction", 0, 0.9, &c->validation_fraction));
    TBG_TRY(tbg_yaml_int64(node, "gap", 0, INT64_MAX / 4, &c->validation_gap));
    if (tbg_yaml_get(node, "sets") || tbg_yaml_get(node, "directory")) {
        if (tbg_yaml_get(node, "fraction"))
            return tbg_fail(
                TBG_INPUT,
                "%s:%d: validation is either a 'fraction' of the training files or files of its own", c->name,
                tbg_yaml_line(node));
        return tbg_config_sets(node, c->name, &c->n_validation_sets, &c->validation_sets);
    }
    if (!tbg_yaml_get(node, "fraction"))
        return tbg_fail(TBG_INPUT, "%s:%d: validation needs 'fraction', 'sets' or 'directory'", c->name,
                        tbg_yaml_line(node));
    return TBG_OK;
}

static int read_data(const tbg_yaml *node, tbg_training_config *c) {
    static const char *const keys[] = {"forcefield", "temperature", "sets",        "directory",
                                       "sequences",  "split_file",  "split",       "missing",
                                       "burn_in",    "stride",      "frames",      "weight",
                                       "validation", "phi_bias",    "composition", NULL};
    static const choice compositions[] = {{"every", TBG_COMPOSE_EVERY}, {"random", TBG_COMPOSE_RANDOM}, {0}};
    TBG_TRY(tbg_yaml_only(node, keys));
    TBG_TRY(tbg_yaml_string(node, "forcefield", c->forcefield, sizeof c->forcefield));
    TBG_TRY(tbg_yaml_double(node, "temperature", 1, 10000, &c->temperature));
    TBG_TRY(choose(node, c->name, "composition", compositions, &c->composition));
    const tbg_yaml *bias = tbg_yaml_get(node, "phi_bias");
    const char *text = bias ? tbg_yaml_text(bias) : NULL;
    if (bias && text && !strcmp(text, "balance"))
        c->bias = TBG_BIAS_BALANCE;
    else if (bias && text && is_number(text)) {
        TBG_TRY(tbg_yaml_double(node, "phi_bias", 0, 1e6, &c->bias_strength));
        c->bias = TBG_BIAS_FIXED;
    } else if (bias && (!text || strcmp(text, "none")))
        return tbg_fail(TBG_INPUT, "%s:%d: 'phi_bias' is none, balance or a number", c->name,
                        tbg_yaml_line(bias));
    TBG_TRY(tbg_config_sets(node, c->name, &c->n_sets, &c->sets));
    for (int i = 0; i < c->n_sets; i++)
        if (c->sets[i].weight != 1 && c->composition != TBG_COMPOSE_RANDOM)
            return tbg_fail(TBG_INPUT, "%s:%d: 'weight' needs 'composition: random'", c->name,
                            c->sets[i].line);
    const tbg_yaml *validation = tbg_yaml_get(node, "validation");
    return validation ? read_validation(validation, c) : TBG_OK;
}

static int read_steps(const tbg_yaml *list, tbg_training_config *c) {
    static const char *const keys[] = {"epoch", "iteration", "learning_rate", NULL};
    int n = tbg_yaml_size(list);
    if (tbg_yaml_text(list) || n < 1 || n > 10000 || tbg_yaml_key(list, 0))
        return tbg_fail(TBG_INPUT, "%s:%d: 'steps' is a list of {epoch or iteration, learning_rate}", c->name,
                        tbg_yaml_line(list));
    c->steps = TBG_NEW(tbg_rate_step, n);
    if (!c->steps)
        return TBG_FAILED;
    c->n_steps = n;
    for (int i = 0; i < n; i++) {
        const tbg_yaml *item = tbg_yaml_item(list, i);
        tbg_rate_step *step = &c->steps[i];
        TBG_TRY(tbg_yaml_only(item, keys));
        step->epochs = tbg_yaml_get(item, "epoch") != NULL;
        step->learning_rate = -1;
        TBG_TRY(tbg_yaml_double(item, step->epochs ? "epoch" : "iteration", 0, 1e15, &step->at));
        TBG_TRY(tbg_yaml_double(item, "learning_rate", 0, 1, &step->learning_rate));
        int both = tbg_yaml_get(item, "epoch") && tbg_yaml_get(item, "iteration");
        if (both || step->learning_rate < 0 || (!step->epochs && !tbg_yaml_get(item, "iteration")))
            return tbg_fail(TBG_INPUT,
                            "%s:%d: a step needs 'learning_rate' and either 'epoch' or 'iteration'", c->name,
                            tbg_yaml_line(item));
        if (i && (step->epochs != step[-1].epochs || step->at <= step[-1].at))
            return tbg_fail(TBG_INPUT,
                            "%s:%d: steps come in rising order, all in epochs or all in iterations", c->name,
                            tbg_yaml_line(item));
    }
    return TBG_OK;
}

static int read_training(const tbg_yaml *node, tbg_training_config *c) {
    static const char *const keys[] = {"batch",
                                       "iterations",
                                       "epochs",
                                       "optimizer",
                                       "learning_rate",
                                       "final_learning_rate",
                                       "schedule",
                                       "warmup",
                                       "steps",
                                       "betas",
                                       "epsilon",
                                       "weight_decay",
                                       "clip",
                                       "ema",
                                       "path_noise",
                                       "time_sampling",
                                       "time_mixture",
                                       "time_stratified",
                                       "align",
                                       "transport",
                                       "seed",
                                       "threads",
                                       "backend",
                                       "checkpoint_minutes",
                                       "validate_every",
                                       "validation_batch",
                                       "log_every",
                                       "refresh_bases",
                                       NULL};
    static const choice optimizers[] = {
        {"adam", TBG_OPTIMIZER_ADAM}, {"adamw", TBG_OPTIMIZER_ADAMW}, {"soap", TBG_OPTIMIZER_SOAP}, {0}};
    static const choice schedules[] = {
        {"constant", TBG_RATE_CONSTANT}, {"steps", TBG_RATE_STEPS}, {"cosine", TBG_RATE_COSINE}, {0}};
    static const choice times[] = {{"t", TBG_TIME_UNIFORM}, {"u", TBG_TIME_GRADED}, {0}};
    static const choice alignments[] = {{"no", TBG_ALIGN_NONE},    {"false", TBG_ALIGN_NONE},
                                        {"yes", TBG_ALIGN_ROTATE}, {"true", TBG_ALIGN_ROTATE},
                                        {"full", TBG_ALIGN_FULL},  {0}};
    static const choice backends[] = {{"auto", 0}, {"reference", 1}, {"cpu", 2}, {"cuda", 3}, {0}};
    TBG_TRY(tbg_yaml_only(node, keys));
    TBG_TRY(tbg_yaml_int64(node, "batch", 1, 1000000, &c->batch));
    TBG_TRY(tbg_yaml_int64(node, "iterations", 1, INT64_C(1) << 40, &c->iterations));
    TBG_TRY(tbg_yaml_double(node, "epochs", 1e-6, 1e9, &c->epochs));
    if (!tbg_yaml_get(node, "batch") || !tbg_yaml_get(node, "iterations") == !tbg_yaml_get(node, "epochs"))
        return tbg_fail(TBG_INPUT, "%s:%d: training needs 'batch' and either 'iterations' or 'epochs'",
                        c->name, tbg_yaml_line(node));
    TBG_TRY(choose(node, c->name, "optimizer", optimizers, &c->optimizer));
    TBG_TRY(choose(node, c->name, "schedule", schedules, &c->rate));
    TBG_TRY(tbg_yaml_double(node, "learning_rate", 0, 1, &c->learning_rate));
    TBG_TRY(tbg_yaml_double(node, "final_learning_rate", 0, 1, &c->final_learning_rate));
    TBG_TRY(tbg_yaml_double(node, "warmup", 0, 1e12, &c->warmup));
    const tbg_yaml *steps = tbg_yaml_get(node, "steps"), *betas = tbg_yaml_get(node, "betas");
    if (!steps != (c->rate != TBG_RATE_STEPS))
        return tbg_fail(TBG_INPUT, "%s:%d: 'schedule: steps' and the list 'steps' go together", c->name,
                        tbg_yaml_line(steps ? steps : node));
    if (tbg_yaml_get(node, "warmup") && c->rate == TBG_RATE_STEPS)
        return tbg_fail(TBG_INPUT, "%s:%d: 'warmup' is for the schedules constant and cosine", c->name,
                        tbg_yaml_line(tbg_yaml_get(node, "warmup")));
    if (tbg_yaml_get(node, "final_learning_rate") && c->rate != TBG_RATE_COSINE)
        return tbg_fail(TBG_INPUT, "%s:%d: 'final_learning_rate' is for the schedule cosine", c->name,
                        tbg_yaml_line(tbg_yaml_get(node, "final_learning_rate")));
    if (steps)
        TBG_TRY(read_steps(steps, c));
    if (c->optimizer == TBG_OPTIMIZER_SOAP) {
        int64_t refresh = c->refresh_bases;
        TBG_TRY(tbg_yaml_int64(node, "refresh_bases", 1, 1000000, &refresh));
        c->refresh_bases = (int)refresh;
        c->beta1 = c->beta2 = 0.95;
    } else if (tbg_yaml_get(node, "refresh_bases"))
        return tbg_fail(TBG_INPUT, "%s:%d: 'refresh_bases' is for the optimizer soap", c->name,
                        tbg_yaml_line(tbg_yaml_get(node, "refresh_bases")));
    if (betas) {
        double b[2];
        for (int i = 0; i < 2; i++) {
            const char *text = tbg_yaml_size(betas) == 2 && !tbg_yaml_text(betas) && !tbg_yaml_key(betas, 0)
                                   ? tbg_yaml_text(tbg_yaml_item(betas, i))
                                   : NULL;
            b[i] = text && is_number(text) ? strtod(text, NULL) : -1;
            if (!(b[i] >= 0 && b[i] < 1))
                return tbg_fail(TBG_INPUT, "%s:%d: 'betas' is a list of two numbers from 0 to below 1",
                                c->name, tbg_yaml_line(betas));
        }
        c->beta1 = b[0];
        c->beta2 = b[1];
    }
    TBG_TRY(tbg_yaml_double(node, "epsilon", 1e-30, 1, &c->epsilon));
    TBG_TRY(tbg_yaml_double(node, "weight_decay", 0, 1e3, &c->weight_decay));
    TBG_TRY(tbg_yaml_double(node, "clip", 0, 1e12, &c->clip));
    TBG_TRY(tbg_yaml_double(node, "ema", 0, 1 - 1e-9, &c->ema));
    TBG_TRY(tbg_yaml_double(node, "path_noise", 0, 10, &c->path_noise));
    TBG_TRY(choose(node, c->name, "time_sampling", times, &c->time_sampling));
    TBG_TRY(tbg_yaml_double(node, "time_mixture", 0, 1, &c->time_mixture));
    TBG_TRY(tbg_yaml_bool(node, "time_stratified", &c->time_stratified));
    TBG_TRY(choose(node, c->name, "align", alignments, &c->align));
    TBG_TRY(tbg_yaml_bool(node, "transport", &c->transport));
    int64_t seed = (int64_t)c->seed, threads = c->threads;
    TBG_TRY(tbg_yaml_int64(node, "seed", 0, INT64_MAX, &seed));
    TBG_TRY(tbg_yaml_int64(node, "threads", 0, 4096, &threads));
    c->seed = (uint64_t)seed;
    c->threads = (int)threads;
    int backend = 0;
    TBG_TRY(choose(node, c->name, "backend", backends, &backend));
    strcpy(c->backend, backend ? backends[backend].word : "");
    TBG_TRY(tbg_yaml_double(node, "checkpoint_minutes", 0.01, 1e6, &c->checkpoint_minutes));
    TBG_TRY(tbg_yaml_int64(node, "validate_every", 0, INT64_C(1) << 40, &c->validate_every));
    TBG_TRY(tbg_yaml_int64(node, "validation_batch", 1, 1000000, &c->validation_batch));
    TBG_TRY(tbg_yaml_int64(node, "log_every", 1, INT64_C(1) << 40, &c->log_every));
    if (c->network.graded_d == 0 && c->time_sampling == TBG_TIME_GRADED && !c->initial)
        return tbg_fail(TBG_INPUT, "%s:%d: 'time_sampling: u' needs a network with graded_d > 0", c->name,
                        tbg_yaml_line(tbg_yaml_get(node, "time_sampling")));
    return TBG_OK;
}

static void set_defaults(tbg_training_config *c) {
    c->learning_rate = 5e-4;
    c->beta1 = 0.9;
    c->beta2 = 0.999;
    c->epsilon = 1e-8;
    c->refresh_bases = 10;
    c->checkpoint_minutes = 5;
    c->validate_every = 1000;
    c->validation_batch = 256;
    c->log_every = 100;
}

/* What may be said of the network of an initial model: that it is to grow. */
static int read_growth(const tbg_yaml *node, tbg_training_config *c) {
    static const char *const keys[] = {"hidden", "layers", NULL};
    int64_t hidden = 0, layers = 0;
    if (tbg_yaml_only(node, keys) != TBG_OK)
        return tbg_fail_in(TBG_INPUT, "beside 'initial', which holds a network");
    TBG_TRY(tbg_yaml_int64(node, "hidden", 1, 4096, &hidden));
    TBG_TRY(tbg_yaml_int64(node, "layers", 1, 64, &layers));
    c->network.hidden = (int)hidden;
    c->network.layers = (int)layers;
    return TBG_OK;
}

static int read_root(const tbg_yaml *root, tbg_training_config *c) {
    static const char *const keys[] = {"initial", "network", "data", "training", NULL};
    TBG_TRY(tbg_yaml_only(root, keys));
    const tbg_yaml *initial = tbg_yaml_get(root, "initial"), *network = tbg_yaml_get(root, "network");
    if (!tbg_yaml_get(root, "data") || !tbg_yaml_get(root, "training") || (!initial && !network))
        return tbg_fail(
            TBG_INPUT,
            "%s: needs 'data', 'training' and 'network' or 'initial: MODEL' (which holds a network)",
            c->name);
    if (initial) {
        const char *path = tbg_yaml_text(initial);
        if (!path || !*path)
            return tbg_fail(TBG_INPUT, "%s:%d: 'initial' is a model file", c->name, tbg_yaml_line(initial));
        c->initial = tbg_strdup(path);
        if (!c->initial)
            return TBG_FAILED;
        if (network)
            TBG_TRY(read_growth(network, c));
    } else
        TBG_TRY(read_network(network, c));
    TBG_TRY(read_data(tbg_yaml_get(root, "data"), c));
    return read_training(tbg_yaml_get(root, "training"), c);
}

int tbg_training_config_parse(const char *text, size_t size, const char *name, tbg_training_config **out) {
    tbg_yaml *root = NULL;
    *out = NULL;
    TBG_TRY(tbg_yaml_parse(text, size, name, &root));
    tbg_training_config *c = TBG_NEW(tbg_training_config, 1);
    int status = c ? TBG_OK : TBG_FAILED;
    if (c) {
        set_defaults(c);
        c->name = tbg_strdup(name);
        c->text = tbg_alloc(size + 1, 1);
        if (!c->name || !c->text)
            status = TBG_FAILED;
        else {
            memcpy(c->text, text, size);
            status = read_root(root, c);
        }
    }
    tbg_yaml_free(root);
    if (status != TBG_OK) {
        tbg_training_config_free(c);
        return status;
    }
    *out = c;
    return TBG_OK;
}

int tbg_training_config_read(const char *path, tbg_training_config **out) {
    char *text = NULL;
    size_t size = 0;
    *out = NULL;
    TBG_TRY(tbg_file_read(path, 1 << 24, &text, &size));
    int status = tbg_training_config_parse(text, size, path, out);
    free(text);
    return status;
}

void tbg_training_config_free(tbg_training_config *c) {
    if (!c)
        return;
    tbg_config_sets_free(c->n_sets, c->sets);
    tbg_config_sets_free(c->n_validation_sets, c->validation_sets);
    free(c->steps);
    free(c->initial);
    free(c->name);
    free(c->text);
    free(c);
}

json_t *tbg_json_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *tbg_spec_json(const tbg_network_spec *s) {
    json_t *edges = json_array();
    for (int k = 0; tbg_edge_word(k); k++)
        if (s->edge_features >> k & 1)
            json_array_append_new(edges, json_string(tbg_edge_word(k)));
    return json_pack("{s:i, s:i, s:s, s:i, s:o, s:b, s:b, s:b, s:b, s:f, s:f, s:f, s:f, s:b}", "hidden",
                     s->hidden, "layers", s->layers, "features", tbg_feature_set_name(s->features),
                     "n_features", s->n_features, "edge_features", edges, "harmonic_term", s->harmonic_term,
                     "time_u", s->time_u, "tanh", s->tanh, "attention", s->attention, "coords_range",
                     s->coords_range, "graded_d", s->graded_d, "scale", s->scale, "smoothing", s->smoothing,
                     "virtual_sites", s->virtual_sites);
}

json_t *tbg_training_config_json(const tbg_training_config *c) {
    static const char *const rates[] = {"constant", "steps", "cosine"};
    static const char *const optimizers[] = {"adam", "adamw", "soap"};
    json_t *steps = json_array();
    for (int i = 0; i < c->n_steps; i++)
        json_array_append_new(steps, json_pack("{s:f, s:f}", c->steps[i].epochs ? "epoch" : "iteration",
                                               c->steps[i].at, "learning_rate", c->steps[i].learning_rate));
    json_t *bias = c->bias == TBG_BIAS_FIXED ? json_real(c->bias_strength)
                                             : json_string(c->bias == TBG_BIAS_BALANCE ? "balance" : "none");
    json_t *o = json_pack("{s:s?, s:I, s:I, s:f, s:s, s:s, s:f, s:f, s:f, s:o, s:f, s:f, s:f, s:f, s:f, s:f}",
                          "initial", c->initial, "batch", (json_int_t)c->batch, "iterations",
                          (json_int_t)c->iterations, "epochs", c->epochs, "optimizer",
                          optimizers[c->optimizer], "schedule", rates[c->rate], "learning_rate",
                          c->learning_rate, "final_learning_rate", c->final_learning_rate, "warmup",
                          c->warmup, "steps", steps, "beta1", c->beta1, "beta2", c->beta2, "epsilon",
                          c->epsilon, "weight_decay", c->weight_decay, "clip", c->clip, "ema", c->ema);
    json_t *more = json_pack(
        "{s:f, s:s, s:f, s:b, s:o, s:b, s:I, s:s, s:o, s:f, s:I, s:i, s:f, s:I, s:I, s:I}", "path_noise",
        c->path_noise, "time_sampling", c->time_sampling == TBG_TIME_GRADED ? "u" : "t", "time_mixture",
        c->time_mixture, "time_stratified", c->time_stratified, "align",
        c->align == TBG_ALIGN_FULL ? json_string("full") : json_boolean(c->align), "transport", c->transport,
        "seed", (json_int_t)c->seed, "composition", c->composition == TBG_COMPOSE_RANDOM ? "random" : "every",
        "phi_bias", bias, "validation_fraction", c->validation_fraction, "validation_gap",
        (json_int_t)c->validation_gap, "threads", c->threads, "checkpoint_minutes", c->checkpoint_minutes,
        "validate_every", (json_int_t)c->validate_every, "validation_batch", (json_int_t)c->validation_batch,
        "log_every", (json_int_t)c->log_every);
    if (o && more)
        json_object_update(o, more);
    if (o && c->optimizer == TBG_OPTIMIZER_SOAP) /* not elsewhere: older checkpoints lack it */
        json_object_set_new(o, "refresh_bases", json_integer(c->refresh_bases));
    json_decref(more);
    return o;
}
