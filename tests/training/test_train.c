/* test_train.c: whole runs on a made-up data set with the reference backend: resuming, threads, files,
 * refusals. */
#include "tbg_test.h"
#include "base/progress.h"
#include "training/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[256];
enum { FRAMES = 60 };

static const char *in(const char *name) {
    static char path[8][512];
    static int next;
    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* FRAMES shaken copies of a molecule's start geometry. */
static void write_data(const char *file, const char *sequence, int with_topology) {
    tbg_molecule *m = NULL;
    tbg_trajectory_writer *w = NULL;
    char *pdb = NULL;
    assert_ok(tbg_molecule_from_sequence(sequence, &m));
    if (with_topology)
        assert_ok(tbg_molecule_format_pdb(m, NULL, &pdb));
    size_t n = 3 * (size_t)m->n_atoms;
    double *x = malloc(FRAMES * n * sizeof *x);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), 0, FRAMES * n, x);
    for (size_t i = 0; i < FRAMES * n; i++)
        x[i] = 0.01 * x[i] + (&m->positions[0][0])[i % n];
    tbg_trajectory_header header = {.n_atoms = m->n_atoms,
                                    .title = "test",
                                    .topology_pdb = pdb,
                                    .forcefield = "amber99sbildn-obc",
                                    .temperature = 300};
    assert_ok(tbg_trajectory_create(file, &header, 0, NULL, &w));
    assert_ok(tbg_trajectory_append(w, FRAMES, x, NULL, NULL));
    assert_ok(tbg_trajectory_close(w));
    free(x);
    free(pdb);
    tbg_molecule_free(m);
}

static int set_up(void **state) {
    (void)state;
    tbg_progress_silence(1);
    snprintf(folder, sizeof folder, "/tmp/tbg-test-train-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_data(in("AD.nc"), "ACE-ALA-NME", 1);
    write_data(in("GG.nc"), "GG", 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *const base_text =
    "network: {preset: tbg, hidden: 8, layers: 2, scale: unit-variance, graded_d: 0.02, time_u: true}\n"
    "data:\n"
    "  sets:\n"
    "    - {molecule: ACE-ALA-NME, trajectory: FOLDER/AD.nc, burn_in: 5}\n"
    "    - {molecule: GG, trajectory: FOLDER/GG*.nc}\n"
    "  validation: {fraction: 0.2, gap: 3}\n"
    "training:\n"
    "  batch: 4\n"
    "  iterations: 20\n"
    "  optimizer: adamw\n"
    "  learning_rate: 5e-3\n"
    "  schedule: cosine\n"
    "  warmup: 0.1\n"
    "  ema: 0.9\n"
    "  clip: 1\n"
    "  path_noise: 0.01\n"
    "  time_sampling: u\n"
    "  seed: 3\n"
    "  log_every: 4\n"
    "  validate_every: 5\n"
    "  validation_batch: 6\n"
    "  backend: reference\n";

static tbg_training_config *configure(const char *text) {
    char *filled = calloc(strlen(text) + 2000, 1);
    for (char *to = filled; *text;)
        if (!strncmp(text, "FOLDER", 6)) {
            to = stpcpy(to, folder);
            text += 6;
        } else
            *to++ = *text++;
    tbg_training_config *c = NULL;
    assert_ok(tbg_training_config_parse(filled, strlen(filled), "test.yaml", &c));
    free(filled);
    return c;
}

static const char *backend; /* NULL: the configuration's */

static tbg_training_result run(const tbg_training_config *c, const char *directory, int resume,
                               int64_t iterations, int threads, float **weights) {
    tbg_trainer *t = NULL;
    tbg_training_result r;
    tbg_training_options o = {.directory = directory,
                              .resume = resume,
                              .iterations = iterations,
                              .threads = threads,
                              .backend = backend};
    assert_ok(tbg_trainer_create(c, &o, &t));
    assert_ok(tbg_trainer_run(t, &r));
    if (weights) {
        const tbg_model *m = tbg_trainer_model(t);
        *weights = malloc(m->n_parameters * sizeof **weights);
        memcpy(*weights, m->values, m->n_parameters * sizeof **weights);
    }
    tbg_trainer_free(t);
    return r;
}

static void same_tensors(const char *a, const char *b) {
    tbg_tensors *x = NULL, *y = NULL;
    assert_ok(tbg_tensors_read(a, &x));
    assert_ok(tbg_tensors_read(b, &y));
    assert_int_equal(x->n, y->n);
    for (int i = 0; i < x->n; i++) {
        const tbg_tensor *other = tbg_tensors_find(y, x->tensors[i].name);
        assert_non_null(other);
        assert_int_equal(x->tensors[i].n, other->n);
        assert_memory_equal(x->tensors[i].data, other->data, other->n * 4);
    }
    tbg_tensors_free(x);
    tbg_tensors_free(y);
}

/* base_text with the first `from` replaced. */
static char *changed(const char *from, const char *to) {
    static char text[4000];
    const char *at = strstr(base_text, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - base_text), base_text, to, at + strlen(from));
    return text;
}

/* A run cut by its clock: the iterations option would change the cosine, so stop it by time and go on until
 * done. Pieces run on one thread, the whole on two. */
static void resumed_equals_uninterrupted_with(const char *config) {
    tbg_training_config *c = configure(config);
    char command[600];
    snprintf(command, sizeof command, "rm -rf %s/whole %s/parts", folder, folder);
    assert_int_equal(system(command), 0);
    tbg_training_result whole = run(c, in("whole"), 0, 0, 2, NULL), part;
    assert_int_equal(whole.end, TBG_RUN_FINISHED);
    assert_int_equal(whole.iteration, 20);
    assert_true(whole.best_loss <= whole.validation_loss && whole.best_loss < 10);
    int pieces = 0;
    do {
        tbg_trainer *t = NULL;
        char parts[512];
        strcpy(parts, in("parts"));
        tbg_training_options o = {
            .directory = parts, .resume = 1, .minutes = 1e-9, .threads = 1, .backend = backend};
        assert_ok(tbg_trainer_create(c, &o, &t));
        assert_ok(tbg_trainer_run(t, &part));
        tbg_trainer_free(t);
        pieces++;
    } while (part.end == TBG_RUN_OUT_OF_TIME && pieces < 50);
    assert_int_equal(part.end, TBG_RUN_FINISHED);
    assert_int_equal(pieces, 20); /* one iteration a piece */
    same_tensors(in("whole/checkpoint.safetensors"), in("parts/checkpoint.safetensors"));
    same_tensors(in("whole/last.safetensors"), in("parts/last.safetensors"));
    same_tensors(in("whole/best.safetensors"), in("parts/best.safetensors"));
    /* The logs agree but for times: 4 5 8 10 12 15 16 20. */
    char *text[2];
    size_t size;
    assert_ok(tbg_file_read(in("whole/log.jsonl"), 1 << 20, &text[0], &size));
    assert_ok(tbg_file_read(in("parts/log.jsonl"), 1 << 20, &text[1], &size));
    const char *at[2] = {text[0], text[1]};
    int lines = 0;
    for (; *at[0]; lines++) {
        json_t *line[2];
        for (int k = 0; k < 2; k++) {
            const char *end = strchr(at[k], '\n');
            assert_non_null(end);
            line[k] = json_loadb(at[k], (size_t)(end - at[k]), 0, NULL);
            assert_non_null(line[k]);
            json_object_del(line[k], "seconds");
            json_object_del(line[k], "molecules_per_s");
            at[k] = end + 1;
        }
        assert_true(json_equal(line[0], line[1]));
        json_decref(line[0]);
        json_decref(line[1]);
    }
    assert_int_equal(lines, 8);
    assert_int_equal(*at[1], 0);
    free(text[0]);
    free(text[1]);
    tbg_training_config_free(c);
}

static void resumed_equals_uninterrupted(void **state) {
    (void)state;
    resumed_equals_uninterrupted_with(base_text);
}

/* Bases are refreshed at steps 1, 3, 6, ...: also in the middle of pieces' state. */
static void resumed_soap_equals_uninterrupted(void **state) {
    (void)state;
    resumed_equals_uninterrupted_with(
        changed("  optimizer: adamw\n", "  optimizer: soap\n  refresh_bases: 3\n"));
    /* The optimiser of a run stays. */
    tbg_trainer *t = NULL;
    tbg_training_config *c = configure(base_text);
    char whole[512];
    tbg_training_options o = {.directory = strcpy(whole, in("whole")), .resume = 1};
    assert_int_equal(tbg_trainer_create(c, &o, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "optimizer"));
    tbg_training_config_free(c);
    c = configure(changed("  optimizer: adamw\n", "  optimizer: soap\n  refresh_bases: 4\n"));
    assert_int_equal(tbg_trainer_create(c, &o, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "refresh_bases"));
    tbg_training_config_free(c);
}

/* Steps on the (emulated) device; the first of SOAP is the processor's. */
static void resumed_on_a_device(void **state) {
    (void)state;
    backend = "cuda-emulation";
    resumed_equals_uninterrupted_with(base_text);
    resumed_equals_uninterrupted_with(
        changed("  optimizer: adamw\n", "  optimizer: soap\n  refresh_bases: 3\n"));
    backend = NULL;
}

/* The model file tells its story and can be loaded; training has changed the weights and lowered the loss. */
static void model_file(void **state) {
    (void)state;
    tbg_training_config *c = configure(base_text);
    float *raw = NULL;
    run(c, in("story"), 0, 0, 2, &raw);
    tbg_model *m = NULL, *start = NULL;
    assert_ok(tbg_model_read(in("story/last.safetensors"), &m));
    assert_string_equal(m->forcefield, "amber99sbildn-obc");
    assert_true(m->temperature == 300);
    assert_string_equal(m->molecules, "ACE-A-NME,GG");
    assert_true(m->spec.scale > 1 && m->spec.graded_d == 0.02);
    json_t *story = json_loads(m->training_json, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(story, "molecules_seen")), 80);
    const json_t *data = json_object_get(story, "data"),
                 *files = json_object_get(json_array_get(data, 0), "files");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(files, 0), "held_out")), 11);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(files, 0), "frames")), 55 - 11 - 3);
    assert_int_equal(strlen(json_string_value(json_object_get(json_array_get(files, 0), "fnv1a64"))), 16);
    assert_true(memcmp(raw, m->values, m->n_parameters * sizeof *raw)); /* the file holds the EMA */
    assert_ok(tbg_model_create(&m->spec, 3, &start));
    assert_true(memcmp(start->values, m->values, m->n_parameters * sizeof *raw));
    json_decref(story);
    tbg_model_free(start);
    tbg_model_free(m);
    free(raw);
    tbg_training_config_free(c);
}

static void fine_tuning(void **state) {
    (void)state;
    tbg_training_config *c = configure(base_text);
    float *raw = NULL;
    run(c, in("base"), 0, 2, 1, NULL);
    tbg_model *before = NULL;
    assert_ok(tbg_model_read(in("base/last.safetensors"), &before));
    tbg_training_config_free(c);
    c = configure("initial: FOLDER/base/last.safetensors\n"
                  "data: {sets: [{trajectory: FOLDER/AD.nc}]}\n"
                  "training: {batch: 2, iterations: 1, learning_rate: 0, backend: reference}\n");
    tbg_training_result r = run(c, in("tuned"), 0, 0, 1, &raw);
    assert_true(isnan(r.validation_loss) && isfinite(r.loss));
    assert_memory_equal(raw, before->values, before->n_parameters * sizeof *raw); /* rate 0 moves nothing */
    free(raw);
    tbg_training_config_free(c);
    /* Grown: another network with the same loss. */
    c = configure("initial: FOLDER/base/last.safetensors\n"
                  "network: {hidden: 12, layers: 3}\n"
                  "data: {sets: [{trajectory: FOLDER/AD.nc}]}\n"
                  "training: {batch: 2, iterations: 1, learning_rate: 0, backend: reference}\n");
    tbg_training_result g = run(c, in("grown"), 0, 0, 1, NULL);
    assert_true(compare_error(g.loss, r.loss, 1) < 1e-12);
    tbg_model *after = NULL;
    assert_ok(tbg_model_read(in("grown/last.safetensors"), &after));
    assert_true(after->spec.hidden == 12 && after->spec.layers == 3 &&
                after->n_parameters > before->n_parameters);
    tbg_model_free(after);
    tbg_model_free(before);
    tbg_training_config_free(c);
    c = configure("initial: FOLDER/base/last.safetensors\n"
                  "network: {hidden: 7}\n"
                  "data: {sets: [{trajectory: FOLDER/AD.nc}]}\n"
                  "training: {batch: 2, iterations: 1, backend: reference}\n");
    char shrunk[512];
    tbg_training_options o = {.directory = strcpy(shrunk, in("shrunk"))};
    tbg_trainer *t = NULL;
    assert_int_equal(tbg_trainer_create(c, &o, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "8 channels"));
    tbg_training_config_free(c);
}

static void refusals(void **state) {
    (void)state;
    tbg_training_config *c = configure(base_text), *other = NULL;
    tbg_trainer *t = NULL;
    run(c, in("taken"), 0, 1, 1, NULL);
    char taken[512]; /* in() hands out few buffers in turn */
    strcpy(taken, in("taken"));
    tbg_training_options o = {.directory = taken};
    assert_int_equal(tbg_trainer_create(c, &o, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "--resume"));
    o.resume = 1;
    /* Another recipe, another network, other data. */
    static const struct {
        const char *from, *to, *message;
    } changes[] = {{"seed: 3", "seed: 4", "seed"},
                   {"hidden: 8", "hidden: 9", "network.hidden"},
                   {"burn_in: 5", "burn_in: 6", "files[0]"},
                   {"learning_rate: 5e-3", "learning_rate: 5e-4", "learning_rate"},
                   {"GG, trajectory: FOLDER/GG", "AA, trajectory: FOLDER/GG", "atom"},
                   {"FOLDER/AD.nc", "FOLDER/none.nc", "none.nc"},
                   {"ACE-ALA-NME", "ACE-GLY-NME", "atom"},
                   {"data:\n", "data:\n  forcefield: amber14-obc1\n", "force field"},
                   {"data:\n", "data:\n  temperature: 310\n", "300 K"},
                   {"burn_in: 5", "burn_in: 60", "AD.nc"},
                   {"gap: 3", "gap: 50", "too few"}};
    for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
        other = configure(changed(changes[k].from, changes[k].to));
        assert_int_equal(tbg_trainer_create(other, &o, &t), TBG_INPUT);
        if (!strstr(tbg_message(), changes[k].message))
            fail_msg("'%s' does not name '%s'", tbg_message(), changes[k].message);
        assert_null(t);
        tbg_training_config_free(other);
    }
    /* Corrupt checkpoints. */
    char *bytes;
    size_t size;
    assert_ok(tbg_file_read(in("taken/checkpoint.safetensors"), 1 << 24, &bytes, &size));
    size_t cuts[] = {0, 7, 100, size / 2, size - 1};
    for (int k = 0; k < 5; k++) {
        assert_ok(tbg_file_write(in("taken/checkpoint.safetensors"), bytes, cuts[k]));
        assert_int_equal(tbg_trainer_create(c, &o, &t), TBG_INPUT);
    }
    free(bytes);
    assert_ok(
        tbg_file_read(in("taken/last.safetensors"), 1 << 24, &bytes, &size)); /* a model is no checkpoint */
    assert_ok(tbg_file_write(in("taken/checkpoint.safetensors"), bytes, size));
    assert_int_equal(tbg_trainer_create(c, &o, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "not a training checkpoint"));
    free(bytes);
    tbg_training_config_free(c);
}

/* Weights that overflow: steps are skipped and the run ends with a message instead of writing NaN weights. */
static void divergence_is_noticed(void **state) {
    (void)state;
    tbg_training_config *c =
        configure("network: {preset: tbg, hidden: 8, layers: 2, scale: 10, tanh: false}\n"
                  "data: {sets: [{trajectory: FOLDER/AD.nc}]}\n"
                  "training: {batch: 1, iterations: 1, backend: reference}\n");
    run(c, in("sane"), 0, 1, 1, NULL);
    tbg_training_config_free(c);
    tbg_model *m = NULL;
    assert_ok(tbg_model_read(in("sane/last.safetensors"), &m));
    for (size_t i = 0; i < m->n_parameters; i++)
        m->values[i] = 1e20f * (i % 2 ? 1 : -1);
    assert_ok(tbg_model_write(m, in("wild.safetensors")));
    tbg_model_free(m);
    c = configure("initial: FOLDER/wild.safetensors\n"
                  "data: {sets: [{trajectory: FOLDER/AD.nc}]}\n"
                  "training: {batch: 1, iterations: 1000, clip: 1, backend: reference}\n");
    tbg_trainer *t = NULL;
    tbg_training_result r;
    char wild[512];
    tbg_training_options o = {.directory = strcpy(wild, in("wild")), .threads = 1};
    assert_ok(tbg_trainer_create(c, &o, &t));
    assert_int_equal(tbg_trainer_run(t, &r), TBG_FAILED);
    assert_non_null(strstr(tbg_message(), "diverged"));
    assert_int_equal(r.skipped, 50);
    const tbg_model *left = tbg_trainer_model(t);
    for (size_t i = 0; i < left->n_parameters; i++)
        assert_true(isfinite(left->values[i]));
    tbg_trainer_free(t);
    tbg_training_config_free(c);
}

/* A few hundred steps on nearly rigid data lower the loss well below the untrained field's. */
static void learns(void **state) {
    (void)state;
    tbg_training_config *c = configure(
        "network: {preset: tbg, hidden: 8, layers: 2, scale: unit-variance}\n"
        "data: {sets: [{molecule: GG, trajectory: FOLDER/GG.nc}], validation: {fraction: 0.2}}\n"
        "training: {batch: 8, iterations: 120, learning_rate: 5e-3, ema: 0.9, clip: 1, validate_every: 60,\n"
        "  validation_batch: 64, align: true, transport: true, time_stratified: true, backend: reference}\n");
    tbg_training_result r = run(c, in("learns"), 0, 0, 2, NULL);
    char *text;
    size_t size;
    assert_ok(tbg_file_read(in("learns/log.jsonl"), 1 << 20, &text, &size));
    assert_true(r.validation_loss < 1.6); /* the zero field has 1 (prior) + 1 (data) less the coupling */
    assert_true(isfinite(r.best_loss) && r.network_share > 0.5);
    free(text);
    tbg_training_config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(resumed_equals_uninterrupted),
                                       cmocka_unit_test(resumed_soap_equals_uninterrupted),
                                       cmocka_unit_test(resumed_on_a_device),
                                       cmocka_unit_test(model_file),
                                       cmocka_unit_test(fine_tuning),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(divergence_is_noticed),
                                       cmocka_unit_test(learns)};
    return cmocka_run_group_tests_name("train", tests, set_up, tear_down);
}
