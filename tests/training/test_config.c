/* test_config.c: the YAML file of a run: defaults, every refusal with its line, directories, hostile input.
 */
#include "tbg_test.h"
#include "training/internal.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[256];

static const char *const good = "network: {preset: ad-full}\n"                      /* 1 */
                                "data:\n"                                           /* 2 */
                                "  sets:\n"                                         /* 3 */
                                "    - {molecule: ACE-ALA-NME, trajectory: x.nc}\n" /* 4 */
                                "training:\n"                                       /* 5 */
                                "  batch: 256\n"                                    /* 6 */
                                "  iterations: 100\n";                              /* 7 */

static int parse(const char *text, tbg_training_config **c) {
    return tbg_training_config_parse(text, strlen(text), "run.yaml", c);
}

static void defaults(void **state) {
    (void)state;
    tbg_training_config *c = NULL;
    assert_ok(parse(good, &c));
    assert_true(c->network.hidden == 64 && c->network.layers == 5 && c->network.scale == 10 &&
                !c->scale_from_data);
    assert_true(c->n_sets == 1 && c->sets[0].stride == 1 && c->sets[0].weight == 1 && c->batch == 256);
    assert_true(c->optimizer == TBG_OPTIMIZER_ADAM && c->rate == TBG_RATE_CONSTANT && c->ema == 0 &&
                c->clip == 0);
    assert_true(c->time_sampling == TBG_TIME_UNIFORM && c->path_noise == 0 && !c->align && !c->transport);
    assert_true(c->beta1 == 0.9 && c->beta2 == 0.999);
    tbg_training_config_free(c);
    char text[1000];
    snprintf(text, sizeof text, "%s  optimizer: soap\n", good);
    assert_ok(parse(text, &c));
    assert_true(c->optimizer == TBG_OPTIMIZER_SOAP && c->refresh_bases == 10 && c->beta1 == 0.95 &&
                c->beta2 == 0.95 && c->epsilon == 1e-8);
    tbg_training_config_free(c);
    snprintf(text, sizeof text, "%s  optimizer: soap\n  betas: [0.8, 0.99]\n", good);
    assert_ok(parse(text, &c));
    assert_true(c->beta1 == 0.8 && c->beta2 == 0.99);
    tbg_training_config_free(c);
}

/* Replace the first `from` in `good`, expect a refusal that names line and word. */
static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *names;
    } cases[] = {
        {"batch: 256", "batch: 256\n  bacth: 3", "run.yaml:7"},
        {"batch: 256", "batch: 0", "run.yaml:6"},
        {"batch: 256", "batch: 1.5", "run.yaml:6"},
        {"batch: 256", "batch: many", "run.yaml:6"},
        {"batch: 256\n", "", "batch"},
        {"iterations: 100", "seed: 1", "iterations"},
        {"iterations: 100", "iterations: 100\n  epochs: 3", "iterations"},
        {"iterations: 100", "iterations: 100\n  optimizer: sgd", "run.yaml:8"},
        {"iterations: 100", "iterations: 100\n  optimizer: soap\n  refresh_bases: 0", "run.yaml:9"},
        {"iterations: 100", "iterations: 100\n  optimizer: adamw\n  refresh_bases: 5", "soap"},
        {"iterations: 100", "iterations: 100\n  learning_rate: .nan", "run.yaml:8"},
        {"iterations: 100", "iterations: 100\n  learning_rate: -1", "run.yaml:8"},
        {"iterations: 100", "iterations: 100\n  ema: 1", "run.yaml:8"},
        {"iterations: 100", "iterations: 100\n  betas: [0.9]", "betas"},
        {"iterations: 100", "iterations: 100\n  betas: [0.9, 1.0]", "betas"},
        {"iterations: 100", "iterations: 100\n  schedule: steps", "steps"},
        {"iterations: 100", "iterations: 100\n  steps: [{epoch: 1, learning_rate: 1.0e-4}]", "steps"},
        {"iterations: 100",
         "iterations: 100\n  schedule: steps\n  steps:\n  - {epoch: 2, learning_rate: 1.0e-4}\n  - {epoch: "
         "1, "
         "learning_rate: 1.0e-4}",
         "run.yaml:11"},
        {"iterations: 100", "iterations: 100\n  schedule: steps\n  steps: [{learning_rate: 1.0e-4}]",
         "epoch"},
        {"iterations: 100", "iterations: 100\n  time_sampling: u", "graded_d"},
        {"iterations: 100", "iterations: 100\n  final_learning_rate: 1.0e-5", "cosine"},
        {"iterations: 100", "iterations: 100\n  backend: gpu", "reference"},
        {"iterations: 100", "iterations: 100\n  align: maybe", "run.yaml:8"},
        {"preset: ad-full", "preset: ad-ful", "run.yaml:1"},
        {"preset: ad-full", "preset: ad-full, depth: 3", "depth"},
        {"preset: ad-full", "preset: ad-full, smoothing: -0.1", "smoothing"},
        {"preset: ad-full", "preset: ad-full, scale: big", "unit-variance"},
        {"preset: ad-full", "preset: ad-full, scale: -1", "scale"},
        {"preset: ad-full", "preset: ad-full, features: atoms", "atoms"},
        {"preset: ad-full", "preset: ad-full, features: raw", "raw"},
        {"preset: ad-full", "preset: ad-full, edge_features: [d0, d1]", "d1"},
        {"preset: ad-full", "preset: ad-full, edge_features: d0", "list"},
        {"preset: ad-full", "preset: ad-full, hidden: 1e9", "hidden"},
        {"network:", "initial: m.safetensors\nnetwork:", "preset"},
        {"network: {preset: ad-full}", "initial: m.safetensors\nnetwork: {layers: 65}", "run.yaml:2"},
        {"network: {preset: ad-full}\n", "", "network"},
        {"trajectory: x.nc", "trajectory: x.nc, weight: 2", "random"},
        {"trajectory: x.nc", "trajectory: x.nc, stride: 0", "stride"},
        {"trajectory: x.nc", "trajectry: x.nc", "trajectry"},
        {", trajectory: x.nc", "", "trajectory"},
        {"molecule: ACE-ALA-NME", "molecule: [A, B]", "molecule"},
        {"- {molecule: ACE-ALA-NME, trajectory: x.nc}", "x.nc", "list"},
        {"  sets:\n", "  phi_bias: strong\n  sets:\n", "phi_bias"},
        {"  sets:\n", "  split: train\n  sets:\n", "directory"},
        {"  sets:\n", "  directory: /nonexistent-folder\n  sets:\n", "nonexistent-folder"},
        {"  sets:\n", "  validation: {gap: 3}\n  sets:\n", "fraction"},
        {"  sets:\n", "  validation: {fraction: 0.95}\n  sets:\n", "fraction"},
        {"  sets:\n", "  validation: {fraction: 0.1, sets: [{trajectory: y.nc}]}\n  sets:\n", "either"},
        {"  sets:\n", "  forcefield: [a]\n  sets:\n", "forcefield"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char text[4000];
        const char *at = strstr(good, cases[k].from);
        tbg_training_config *c = NULL;
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, cases[k].to,
                 at + strlen(cases[k].from));
        int status = parse(text, &c);
        if (status != TBG_INPUT || c || !strstr(tbg_message(), cases[k].names))
            fail_msg("'%s': status %d, '%s' does not name '%s'", cases[k].to, status, tbg_message(),
                     cases[k].names);
    }
}

/* Cut anywhere, and with any one byte changed: no crash, and no success without a configuration. */
static void damaged(void **state) {
    (void)state;
    size_t size = strlen(good);
    char *text = malloc(size);
    for (size_t cut = 0; cut < size; cut++) {
        tbg_training_config *c = NULL;
        memcpy(text, good, size);
        assert_true((tbg_training_config_parse(text, cut, "run.yaml", &c) == TBG_OK) == (c != NULL));
        tbg_training_config_free(c);
        for (int k = 0; k < 6; k++) {
            c = NULL;
            memcpy(text, good, size);
            text[cut] = "\0[{:\xff\n"[k];
            assert_true((tbg_training_config_parse(text, size, "run.yaml", &c) == TBG_OK) == (c != NULL));
            tbg_training_config_free(c);
        }
    }
    free(text);
}

static int parse_data(const char *data, tbg_training_config **c) {
    char text[4000];
    snprintf(text, sizeof text,
             "network: {preset: tbg}\ndata: {directory: %s%s}\ntraining: {batch: 2, epochs: 1}\n", folder,
             data);
    return parse(text, c);
}

static void directories(void **state) {
    (void)state;
    char path[600];
    snprintf(folder, sizeof folder, "/tmp/tbg-test-config-XXXXXX");
    assert_non_null(mkdtemp(folder));
    static const char *const names[] = {"GG.nc", "AC.nc", "KS.nc", "notes.txt", ".hidden.nc", "half.nc.tmp"};
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_ok(tbg_file_write(path, "x", 1));
    }
    tbg_training_config *c = NULL;
    assert_ok(parse_data(", burn_in: 7, frames: 90", &c));
    assert_int_equal(c->n_sets, 3);
    assert_string_equal(c->sets[0].molecule, "AC"); /* sorted */
    assert_string_equal(c->sets[2].molecule, "KS");
    assert_true(c->sets[1].burn_in == 7 && c->sets[1].frames == 90);
    tbg_training_config_free(c);
    assert_ok(parse_data(", sequences: [KS, AC]", &c));
    assert_true(c->n_sets == 2 && !strcmp(c->sets[0].molecule, "KS"));
    tbg_training_config_free(c);
    assert_int_equal(parse_data(", sequences: [KS, WW]", &c), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "WW.nc"));
    assert_ok(parse_data(", sequences: [KS, WW], missing: skip", &c));
    assert_int_equal(c->n_sets, 1);
    tbg_training_config_free(c);
    assert_int_equal(parse_data(", sequences: [../GG]", &c), TBG_INPUT);
    assert_int_equal(parse_data(", sequences: []", &c), TBG_INPUT);
    snprintf(path, sizeof path, "%s/split.json", folder);
    const char *split = "{\"train\": [\"GG\", \"KS\"], \"val\": [3]}";
    assert_ok(tbg_file_write(path, split, strlen(split)));
    snprintf(path, sizeof path, ", split_file: %s/split.json", folder);
    assert_ok(parse_data(path, &c));
    assert_true(c->n_sets == 2 && !strcmp(c->sets[1].molecule, "KS"));
    tbg_training_config_free(c);
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, ", split_file: %s/split.json, split: %s", folder, k ? "val" : "nothing");
        assert_int_equal(parse_data(path, &c), TBG_INPUT);
    }
    snprintf(path, sizeof path, ", split_file: %s/GG.nc", folder);
    assert_int_equal(parse_data(path, &c), TBG_INPUT);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    assert_int_equal(system(path), 0);
}

/* The shipped configurations are read up to their data, which are not shipped. */
static void shipped(void **state) {
    (void)state;
    static const char *const names[] = {"ad-bg-backbone", "ad-full", "ad-improved"};
    for (int i = 0; i < 3; i++) {
        char path[600];
        tbg_training_config *c = NULL;
        snprintf(path, sizeof path, TBG_SOURCE_DIR "/configs/%s.yaml", names[i]);
        assert_ok(tbg_training_config_read(path, &c));
        assert_true(c->scale_from_data == (i == 2) && c->network.hidden == (i == 2 ? 32 : 64));
        assert_true(i == 2 || (c->n_steps == 1 && c->epochs == 1000 && c->path_noise == 0.01));
        tbg_training_config_free(c);
    }
    static const char *const more[] = {"tbg",
                                       "tbg-backbone",
                                       "tbg-full",
                                       "tbg-improved",
                                       "tbg-improved-large",
                                       "tbg-improved-small",
                                       "tbg-dipeptides",
                                       "ad-branches",
                                       "tbg-full-biased",
                                       "tbg-full-10x-less",
                                       "tbg-full-100x-less"};
    for (int i = 0; i < 11; i++) { /* everything but the trajectories is in order */
        char path[600];
        tbg_training_config *c = NULL;
        snprintf(path, sizeof path, TBG_SOURCE_DIR "/configs/%s.yaml", more[i]);
        int status = tbg_training_config_read(path, &c);
        if (status != TBG_OK && !strstr(tbg_message(), "not there") && !strstr(tbg_message(), "no data"))
            fail_msg("%s", tbg_message());
        tbg_training_config_free(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(refusals),
                                       cmocka_unit_test(damaged), cmocka_unit_test(directories),
                                       cmocka_unit_test(shipped)};
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
