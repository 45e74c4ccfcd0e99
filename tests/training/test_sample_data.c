/* test_sample_data.c: the committed sample set (data/sample): its files are what their list, their force
 * field and their sequences say; training runs on the folder; an altered file is found. */
#include "tbg_test.h"
#include "base/progress.h"
#include "tbg/energy.h"
#include "tbg/file.h"
#include "training/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAMPLE TBG_SOURCE_DIR "/data/sample"
static const char *const peptides[] = {"CA", "GG", "GH"};
enum { PEPTIDES = 3, FRAMES = 240, PER_RUN = 120 };
static const int stationary[] = {FRAMES, FRAMES - 10, FRAMES - 51}; /* frames, as tbg simulate found */
static char folder[256];

static int set_up(void **state) {
    (void)state;
    char command[600];
    tbg_progress_silence(1);
    snprintf(folder, sizeof folder, "/tmp/tbg-test-sample-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "cp " SAMPLE "/*.nc " SAMPLE "/SHA256SUMS %s && chmod +w %s/*", folder,
             folder);
    return system(command);
}

static int tear_down(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Energies, chemistry and order of the frames of every file. */
static void files_are_what_they_say(void **state) {
    (void)state;
    for (int k = 0; k < PEPTIDES; k++) {
        char path[500];
        int listed;
        tbg_trajectory *t;
        tbg_molecule *stored, *built;
        tbg_system *field;
        tbg_engine *engine;
        snprintf(path, sizeof path, SAMPLE "/%s.nc", peptides[k]);
        assert_ok(tbg_file_verify(path, &listed));
        assert_int_equal(listed, 1);
        assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
        assert_int_equal(t->n_frames, FRAMES);
        assert_true(!strcmp(t->forcefield, "amber14-obc1") && t->temperature == 310);
        assert_ok(tbg_molecule_parse_pdb(t->topology_pdb, strlen(t->topology_pdb), path, &stored));
        assert_ok(tbg_molecule_from_sequence(peptides[k], &built));
        assert_true(stored->n_atoms == built->n_atoms && t->n_atoms == built->n_atoms);
        for (int i = 0; i < built->n_atoms; i++)
            assert_string_equal(stored->atoms[i].name, built->atoms[i].name);
        assert_ok(tbg_system_create(stored, t->forcefield, -1, &field));
        assert_ok(tbg_engine_create("reference", stored, field, 1, &engine));
        const double *run = tbg_trajectory_extra(t, "run"),
                     *energy = tbg_trajectory_extra(t, "potential_energy");
        assert_true(run && energy);
        double *x = malloc(3 * (size_t)t->n_atoms * sizeof *x), mean[2] = {0}, u;
        for (int i = 0; i < FRAMES; i++) {
            for (int j = 0; j < 3 * t->n_atoms; j++)
                x[j] = (double)t->positions[(size_t)i * 3 * (size_t)t->n_atoms + (size_t)j];
            assert_ok(tbg_engine_evaluate(engine, 1, x, &u, NULL, NULL));
            if (!(fabs(u - energy[i]) < 0.02)) /* kJ/mol: coordinates in single precision */
                fail_msg("%s, frame %d: %g kJ/mol, the file says %g", peptides[k], i, u, energy[i]);
            assert_true(run[i] == i / PER_RUN);
            mean[i / PER_RUN] += u / PER_RUN;
        }
        assert_true(fabs(mean[0] - mean[1]) < 10); /* two runs in the same equilibrium; kT is 2.6 kJ/mol */
        free(x);
        tbg_engine_free(engine);
        tbg_system_free(field);
        tbg_molecule_free(built);
        tbg_molecule_free(stored);
        tbg_trajectory_free(t);
    }
}

static tbg_training_config *configure(const char *directory, const char *backend) {
    char text[2000];
    tbg_training_config *c = NULL;
    snprintf(
        text, sizeof text,
        "network: {preset: tbg-full, hidden: 16, layers: 2, edge_features: [d0, bonded, rate],\n"
        "  harmonic_term: yes, time_u: yes, graded_d: 0.02, scale: unit-variance}\n"
        "data: {directory: %s, validation: {fraction: 0.1, gap: 2}}\n"
        "training: {batch: 12, iterations: 60, optimizer: adamw, learning_rate: 3e-3, ema: 0.9, clip: 1,\n"
        "  time_sampling: u, log_every: 10, validate_every: 30, validation_batch: 24, backend: %s}\n",
        directory, backend);
    assert_ok(tbg_training_config_parse(text, strlen(text), "sample.yaml", &c));
    return c;
}

/* Sixty iterations on the folder: all peptides take part, the loss falls below that of the zero field. */
static void training_runs_on_it(void **state) {
    (void)state;
    char directory[300];
    tbg_training_config *c = configure(SAMPLE, "cpu");
    tbg_data data, held;
    char forcefield[32] = "";
    double temperature = 0;
    assert_int_equal(c->n_sets, PEPTIDES);
    assert_ok(tbg_data_load(c, &data, &held, forcefield, &temperature));
    assert_true(data.n == PEPTIDES && held.n == PEPTIDES);
    assert_true(temperature == 310 && !strcmp(forcefield, "amber14-obc1"));
    for (int k = 0; k < PEPTIDES; k++) {
        const int held_out = stationary[k] / 10;
        assert_string_equal(data.molecules[k].sequence, peptides[k]);
        assert_int_equal(held.molecules[k].n_frames, held_out);
        assert_int_equal(data.molecules[k].n_frames, stationary[k] - held_out - 2);
    }
    tbg_data_free(&data);
    tbg_data_free(&held);
    snprintf(directory, sizeof directory, "%s/run", folder);
    tbg_training_options options = {.directory = directory, .threads = 2};
    tbg_trainer *trainer;
    tbg_training_result r;
    assert_ok(tbg_trainer_create(c, &options, &trainer));
    assert_ok(tbg_trainer_run(trainer, &r));
    assert_true(r.end == TBG_RUN_FINISHED && r.iteration == 60 && r.molecules == 60 * 12 && r.skipped == 0);
    if (!(r.loss < 1.7 && r.loss > 0.3 && r.validation_loss < 1.8 && r.validation_loss > 0.3))
        fail_msg("loss %g, validation %g; the zero field has 2", r.loss, r.validation_loss);
    tbg_trainer_free(trainer);
    tbg_training_config_free(c);
}

static void flip(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(byte ^ 1, f);
    fclose(f);
}

/* One bit of a coordinate, or of the list: refused with both files named, before anything else. */
static void an_altered_file_is_found(void **state) {
    (void)state;
    char path[300], list[300], forcefield[32] = "";
    double temperature = 0;
    tbg_training_config *c = configure(folder, "reference");
    tbg_data data, held;
    snprintf(path, sizeof path, "%s/GG.nc", folder);
    snprintf(list, sizeof list, "%s/SHA256SUMS", folder);
    assert_ok(tbg_data_load(c, &data, &held, forcefield, &temperature));
    tbg_data_free(&data);
    tbg_data_free(&held);
    for (int k = 0; k < 2; k++) {
        const char *changed = k ? list : path;
        long at = k ? 64 + 2 + 5 + 1 + 10 : 40000; /* the second line of the list is that of GG */
        flip(changed, at);
        int status = tbg_data_load(c, &data, &held, forcefield, &temperature);
        assert_int_equal(status, TBG_INPUT);
        assert_true(strstr(tbg_message(), "GG.nc") && strstr(tbg_message(), "SHA256SUMS"));
        tbg_data_free(&data);
        tbg_data_free(&held);
        flip(changed, at);
    }
    unlink(list); /* without a list nothing is compared */
    flip(path, 40000);
    assert_ok(tbg_data_load(c, &data, &held, forcefield, &temperature));
    tbg_data_free(&data);
    tbg_data_free(&held);
    tbg_training_config_free(c);
}

/* Frames of a flattened run are taken in proportion to their weights: here every third counts. */
static void weighted_frames_are_drawn(void **state) {
    (void)state;
    static const char *const names[] = {"log_weight"};
    char path[300], text[900], forcefield[32] = "";
    double temperature = 0;
    tbg_trajectory *t;
    tbg_trajectory_writer *w;
    assert_ok(tbg_trajectory_read(SAMPLE "/GG.nc", 0, 1, 0, &t));
    size_t size = 3 * (size_t)t->n_atoms;
    double *x = malloc(size * sizeof *x);
    snprintf(path, sizeof path, "%s/weighted.nc", folder);
    tbg_trajectory_header header = {.n_atoms = t->n_atoms,
                                    .topology_pdb = t->topology_pdb,
                                    .forcefield = t->forcefield,
                                    .temperature = t->temperature,
                                    .n_extra = 1,
                                    .extra_names = names};
    assert_ok(tbg_trajectory_create(path, &header, 0, NULL, &w));
    for (int i = 0; i < FRAMES; i++) {
        double log_weight = i % 3 == 1 ? 7 : -60;
        for (size_t j = 0; j < size; j++)
            x[j] = (double)t->positions[(size_t)i * size + j];
        assert_ok(tbg_trajectory_append(w, 1, x, NULL, &log_weight));
    }
    assert_ok(tbg_trajectory_close(w));
    snprintf(text, sizeof text,
             "network: {preset: tbg, hidden: 8, layers: 2}\n"
             "data: {sets: [{molecule: GG, trajectory: %s}], validation: {fraction: 0.1, gap: 2}}\n"
             "training: {batch: 4, iterations: 2, backend: reference}\n",
             path);
    tbg_training_config *c = NULL;
    tbg_data data, held;
    assert_ok(tbg_training_config_parse(text, strlen(text), "weighted.yaml", &c));
    assert_ok(tbg_data_load(c, &data, &held, forcefield, &temperature));
    assert_true(data.n_frames == FRAMES - 24 - 2 && held.n_frames == 24);
    for (int k = 0; k < data.n_frames; k++) /* three times each, in order */
        for (size_t j = 0; j < size; j++)
            assert_true(fabsf(data.molecules[0].positions[(size_t)k * size + j] -
                              t->positions[(size_t)(k / 3 * 3 + 1) * size + j]) < 1e-6f);
    tbg_data_free(&data);
    tbg_data_free(&held);
    tbg_training_config_free(c);
    tbg_trajectory_free(t);
    free(x);
    unlink(path); /* the folder is a data set below */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_what_they_say), cmocka_unit_test(weighted_frames_are_drawn),
        cmocka_unit_test(training_runs_on_it), cmocka_unit_test(an_altered_file_is_found)};
    return cmocka_run_group_tests_name("sample data", tests, set_up, tear_down);
}
