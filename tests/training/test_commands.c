/* test_commands.c: tbg train and tbg info as a user calls them: exit codes, files, resuming after SIGTERM. */
#include "tbg_test.h"
#include "tbg/file.h"
#include "tbg/molecule.h"
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[256];

/* Runs "tbg ARGUMENTS" with FOLDER's files; returns the exit code. stdout goes to FOLDER/out, stderr to
 * FOLDER/err. */
static int tbg(const char *format, ...) {
    char command[3000], arguments[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(command, sizeof command, "cd %s && exec %s %s >out 2>err", folder, TBG_PROGRAM, arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int says(const char *file, const char *what) {
    char path[512], *text = NULL;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_ok(tbg_file_read(path, 1 << 24, &text, &size));
    int found = strstr(text, what) != NULL;
    if (!found)
        fprintf(stderr, "%s: no '%s' in: %s\n", file, what, text);
    free(text);
    return found;
}

static void write_text(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(tbg_file_write(path, text, strlen(text)));
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tbg-test-commands-XXXXXX");
    assert_non_null(mkdtemp(folder));
    tbg_molecule *m = NULL;
    tbg_trajectory_writer *w = NULL;
    char path[512], *pdb = NULL;
    enum { FRAMES = 30 };
    assert_ok(tbg_molecule_from_sequence("GG", &m));
    assert_ok(tbg_molecule_format_pdb(m, NULL, &pdb));
    size_t n = 3 * (size_t)m->n_atoms;
    double *x = malloc(FRAMES * n * sizeof *x);
    for (size_t i = 0; i < FRAMES * n; i++)
        x[i] = (&m->positions[0][0])[i % n] + 1e-3 * sin((double)i);
    tbg_trajectory_header header = {
        .n_atoms = m->n_atoms, .topology_pdb = pdb, .forcefield = "amber14-obc1", .temperature = 310};
    snprintf(path, sizeof path, "%s/GG.nc", folder);
    assert_ok(tbg_trajectory_create(path, &header, 0, NULL, &w));
    assert_ok(tbg_trajectory_append(w, FRAMES, x, NULL, NULL));
    assert_ok(tbg_trajectory_close(w));
    write_text("run.yaml",
               "network: {preset: tbg-full, hidden: 8, layers: 2, edge_features: [d0, bonded, rate],\n"
               "  harmonic_term: yes, time_u: yes, graded_d: 0.02, scale: unit-variance}\n"
               "data: {directory: ., phi_bias: balance, validation: {fraction: 0.2}}\n"
               "training: {batch: 4, iterations: 1000000, ema: 0.99, time_sampling: u, log_every: 5,\n"
               "  validate_every: 10, validation_batch: 8, backend: cpu, threads: 2}\n");
    free(x);
    free(pdb);
    tbg_molecule_free(m);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void usage(void **state) {
    (void)state;
    assert_int_equal(tbg("train --help"), 0);
    assert_int_equal(tbg("train run.yaml"), 2);
    assert_true(says("err", "-o DIR"));
    assert_int_equal(tbg("train none.yaml -o a"), 2);
    assert_int_equal(tbg("train run.yaml -o a --minutes -1"), 2);
    assert_int_equal(tbg("train run.yaml -o a --backend gpu"), 2);
    assert_int_equal(tbg("train run.yaml -o a --dry-run"), 0);
    assert_true(says("out", "\"parameters\""));
    assert_int_equal(tbg("info a"), 2); /* a dry run leaves nothing behind */
}

static void train_stop_resume(void **state) {
    (void)state;
    assert_int_equal(tbg("train run.yaml -o run --iterations 20"), 0);
    assert_true(says("err", "finished at iteration 20 of 20"));
    assert_int_equal(tbg("train run.yaml -o run"), 2);
    assert_true(says("err", "--resume"));
    pid_t child = fork();
    if (!child) {
        if (chdir(folder) || !freopen("err", "w", stderr))
            _exit(99);
        execl(TBG_PROGRAM, "tbg", "train", "run.yaml", "-o", "run", "--resume", (char *)NULL);
        _exit(98);
    }
    /* Wait until it trains (new log lines), then end it politely. */
    char path[512], *text = NULL;
    size_t size = 0, before = 0;
    snprintf(path, sizeof path, "%s/run/log.jsonl", folder);
    for (int i = 0; i < 600; i++, usleep(100000)) {
        assert_ok(tbg_file_read(path, 1 << 24, &text, &size));
        free(text);
        if (i == 0)
            before = size;
        else if (size > before)
            break;
    }
    assert_true(size > before);
    assert_int_equal(kill(child, SIGTERM), 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(says("err", "interrupted at iteration"));
    assert_true(says("err", "--resume goes on from here"));
}

static void info(void **state) {
    (void)state;
    json_t *o;
    char path[512];
    snprintf(path, sizeof path, "%s/out", folder);
    static const char *const calls[] = {"info --json", "info --json run/last.safetensors",
                                        "info --json GG.nc", "info --json run/checkpoint.safetensors"};
    static const char *const keys[] = {"simd_used", "network", "frames", "metadata"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(tbg("%s", calls[i]), 0);
        assert_non_null(o = json_load_file(path, 0, NULL));
        assert_non_null(json_object_get(o, keys[i]));
        if (i == 2)
            assert_string_equal(json_string_value(json_object_get(o, "molecule")), "GG");
        json_decref(o);
    }
    assert_int_equal(tbg("info run/best.safetensors"), 0);
    assert_true(says("out", "edge_features"));
    assert_int_equal(tbg("info run.yaml"), 2);
    assert_int_equal(tbg("info none.nc"), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(usage), cmocka_unit_test(train_stop_resume),
                                       cmocka_unit_test(info)};
    return cmocka_run_group_tests_name("commands", tests, set_up, tear_down);
}
