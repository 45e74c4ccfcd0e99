/* test_sample.c: `tbg sample` as a command: files, independence of chunks and threads, interrupt and resume,
 * refusals. */
#include "tbg/ensemble.h"
#include "tbg/file.h"
#include "tbg/network.h"
#include "tbg/random.h"
#include "tbg_test.h"
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/tbg-test-sample-XXXXXX";
static char model_path[256];

/* A small improved network for alanine dipeptide, random but for its harmonic gates. */
static void write_model_of(const char *path, const char *molecules, double smoothing, const char *training) {
    tbg_network_spec spec;
    tbg_model *m;
    assert_ok(tbg_network_preset("improved-ad", &spec));
    spec.hidden = 8;
    spec.layers = 1;
    spec.scale = 6;
    spec.smoothing = smoothing;
    assert_ok(tbg_model_create(&spec, 4, &m));
    for (int l = 0; l < spec.layers; l++) {
        char name[64];
        snprintf(name, sizeof name, "egnn.gcl_%d.harmonic_gate.bias", l);
        const tbg_parameter *p = tbg_model_tensor(m, name);
        assert_non_null(p);
        m->values[p->offset] = 0.1f;
    }
    m->forcefield = strdup("amber99sbildn-obc");
    m->molecules = strdup(molecules);
    m->temperature = 300;
    m->training_json = training ? strdup(training) : NULL;
    assert_ok(tbg_model_write(m, path));
    tbg_model_free(m);
}
static void write_model(const char *path, const char *molecules) {
    write_model_of(path, molecules, 0, NULL);
}

static int sample(const char *arguments, const char *directory) {
    char command[2048];
    snprintf(command, sizeof command, "%s sample %s -o %s/%s >%s/out.txt 2>%s/err.txt", TBG_PROGRAM,
             arguments, folder, directory, folder, folder);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int printed(const char *file, const char *words) {
    char path[512], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_ok(tbg_file_read(path, 1 << 24, &text, &size));
    int found = strstr(text, words) != NULL;
    if (!found)
        fprintf(stderr, "%s has no '%s':\n%s\n", file, words, text);
    free(text);
    return found;
}

static tbg_ensemble *ensemble(const char *directory) {
    char path[512];
    tbg_ensemble *e;
    snprintf(path, sizeof path, "%s/%s", folder, directory);
    assert_ok(tbg_ensemble_read(path, &e));
    return e;
}

static void same(const char *a, const char *b, long n) {
    tbg_ensemble *x = ensemble(a), *y = ensemble(b);
    assert_int_equal(x->n, n);
    assert_int_equal(y->n, n);
    size_t n3 = 3 * (size_t)x->n_atoms * (size_t)n;
    assert_memory_equal(x->positions, y->positions, n3 * sizeof(double));
    assert_memory_equal(x->log_q, y->log_q, (size_t)n * sizeof(double));
    assert_memory_equal(x->reduced_energy, y->reduced_energy, (size_t)n * sizeof(double));
    assert_memory_equal(x->log_weight, y->log_weight, (size_t)n * sizeof(double));
    assert_memory_equal(x->verdict, y->verdict, (size_t)n);
    tbg_ensemble_free(x);
    tbg_ensemble_free(y);
}

static int exists(const char *directory, const char *file) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", folder, directory, file);
    return access(path, F_OK) == 0;
}

static char common[512];

/* What the last command said before it started: seconds per sample, samples, seconds of all; NaN if it did
 * not. */
static void read_estimate(double *each, double *n, double *all) {
    char path[512], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/err.txt", folder);
    assert_ok(tbg_file_read(path, 1 << 24, &text, &size));
    const char *line = strstr(text, "estimate: ");
    *each = *n = *all = NAN;
    if (line && sscanf(line, "estimate: %lf s per sample; %lf samples take about %lf s", each, n, all) != 3)
        fail_msg("%s", line);
    free(text);
}

static void files_and_chunks(void **state) {
    (void)state;
    char arguments[800];
    snprintf(arguments, sizeof arguments, "%s -n 7 --batch 2 --threads 1", common);
    if (sample(arguments, "a") != 0)
        fail_msg("sample failed%s", printed("err.txt", "-") ? "" : "");
    assert_true(exists("a", "topology.pdb") && exists("a", "ensemble.nc") && exists("a", "summary.json") &&
                exists("a", "report.html"));
    assert_false(exists("a", "partial"));
    snprintf(arguments, sizeof arguments, "%s -n 7 --threads 2 --json", common);
    assert_int_equal(sample(arguments, "b"), 0);
    assert_true(printed("out.txt", "n_generated"));
    same("a", "b", 7);
    /* It says beforehand how long it takes: in proportion to the samples, and the looks back on top. */
    double each, n, all;
    read_estimate(&each, &n, &all);
    assert_true(each > 0 && n == 7 && all > 6.5 * each && all < 14.5 * each);
    snprintf(arguments, sizeof arguments, "%s -n 40 --check 0", common);
    assert_int_equal(sample(arguments, "b"), 0);
    read_estimate(&each, &n, &all);
    assert_true(each > 0 && n == 40 && fabs(all - 40 * each) < 0.06 * all);
    tbg_ensemble *e = ensemble("a");
    assert_int_equal(e->n_atoms, 22);
    assert_true(e->weighted);
    for (long i = 0; i < e->n; i++) { /* a density is found for valid samples only */
        int valid = e->verdict[i] == TBG_VALID || e->verdict[i] == TBG_MIRRORED;
        assert_true((isfinite(e->log_q[i]) != 0) == valid && !isnan(e->reduced_energy[i]));
    }
    assert_true(e->info.forward_backward_n >= 4 && e->info.forward_backward_position < 1e-3);
    assert_true(e->info.temperature == 300 && e->info.seed == 3);
    tbg_ensemble_free(e);
    /* Another seed, another ensemble. */
    snprintf(arguments, sizeof arguments, "%s -n 7 --seed 4", common);
    assert_int_equal(sample(arguments, "b"), 0);
    tbg_ensemble *x = ensemble("a"), *y = ensemble("b");
    assert_true(x->positions[0] != y->positions[0]);
    tbg_ensemble_free(x);
    tbg_ensemble_free(y);
    snprintf(arguments, sizeof arguments, "%s -n 5 --no-weights", common);
    assert_int_equal(sample(arguments, "b"), 0);
    x = ensemble("b");
    assert_false(x->weighted);
    tbg_ensemble_free(x);
}

/* A trained, smoothed model: its samples are valid and have densities, which the look back finds again; the
 * annealing depends on chunks and threads as little as the rest, and without weights positions are the same.
 */
static void weighs_what_is_valid(void **state) {
    (void)state;
    char arguments[800];
    snprintf(arguments, sizeof arguments,
             "ACE-ALA-NME --model %s/models/ad-improved.safetensors -n 4 --seed 1 --tolerance 0.3 --check 2",
             TBG_SOURCE_DIR);
    assert_int_equal(sample(arguments, "v"), 0);
    tbg_ensemble *e = ensemble("v");
    int valid = 0;
    for (long i = 0; i < e->n; i++) {
        int good = e->verdict[i] == TBG_VALID || e->verdict[i] == TBG_MIRRORED;
        valid += good;
        assert_true((isfinite(e->log_q[i]) != 0) == good);
    }
    assert_true(valid >= 3);
    assert_true(e->info.forward_backward_n == 2 && e->info.forward_backward_log_q < 0.3);
    assert_true(e->info.smoothing == 0.025 && e->info.anneal_error > 0.02 && e->info.anneal_error < 1);
    snprintf(arguments, sizeof arguments,
             "ACE-ALA-NME --model %s/models/ad-improved.safetensors -n 4 --seed 1 --tolerance 0.3 --check 2 "
             "--batch 3 --threads 1",
             TBG_SOURCE_DIR);
    assert_int_equal(sample(arguments, "w"), 0);
    same("v", "w", 4);
    snprintf(arguments, sizeof arguments,
             "ACE-ALA-NME --model %s/models/ad-improved.safetensors -n 4 --seed 1 "
             "--no-weights",
             TBG_SOURCE_DIR);
    assert_int_equal(sample(arguments, "w"), 0);
    tbg_ensemble *unweighted = ensemble("w");
    for (long k = 0; k < 4 * 66; k++)
        assert_true(unweighted->positions[k] == e->positions[k]);
    tbg_ensemble_free(unweighted);
    tbg_ensemble_free(e);
    snprintf(arguments, sizeof arguments,
             "ACE-ALA-NME --model %s/models/ad-improved.safetensors -n 4 --anneal-stages -1", TBG_SOURCE_DIR);
    assert_int_equal(sample(arguments, "w"), 2);
}

/* ---- branches ---- */

#define CRUDE "--branch-steps 3 --smoothing 0.03 --anneal-stages 2 --anneal-replicas 2 --anneal-steps 2 "

static double figure(const json_t *j, const char *name) {
    return json_number_value(json_object_get(j, name));
}
static json_t *summary(const char *directory) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s/summary.json", folder, directory);
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    return j;
}

/* Their numbers are in the summary and change the samples; chunks and threads do not matter. */
static void branches(void **state) {
    (void)state;
    char arguments[800];
    snprintf(arguments, sizeof arguments, "%s -n 5 --branches 2 " CRUDE "--batch 2", common);
    assert_int_equal(sample(arguments, "br"), 0);
    assert_true(printed("err.txt", "2 branches of 3 steps lead to 0.025 nm"));
    assert_true(printed("out.txt", "noise of 0.03 nm taken off by 2 branches to 0.025 nm"));
    json_t *j = summary("br");
    assert_int_equal(json_integer_value(json_object_get(j, "branches")), 2);
    assert_true(figure(j, "smoothing_nm") == 0.03 && figure(j, "annealed_from_nm") == 0.025);
    json_decref(j);
    tbg_ensemble *e = ensemble("br"), *one;
    assert_true(e->info.branches == 2 && e->info.smoothing == 0.03 && e->info.annealed_from == 0.025);
    for (long i = 0; i < e->n; i++) { /* weights are finite or none */
        int valid = e->verdict[i] == TBG_VALID || e->verdict[i] == TBG_MIRRORED;
        assert_false(isnan(e->log_weight[i]) || isnan(e->reduced_energy[i]));
        assert_true(e->log_weight[i] < INFINITY && (isfinite(e->log_weight[i]) != 0) == valid);
        for (int k = 0; k < 66; k++)
            assert_true(isfinite(e->positions[66 * i + k]));
    }
    snprintf(arguments, sizeof arguments, "%s -n 5 --branches 2 " CRUDE "--threads 2", common);
    assert_int_equal(sample(arguments, "br2"), 0);
    same("br", "br2", 5);
    snprintf(arguments, sizeof arguments, "%s -n 5 --branches 1 --anneal-from 0.02 " CRUDE, common);
    assert_int_equal(sample(arguments, "br2"), 0);
    one = ensemble("br2");
    assert_true(one->info.branches == 1 && one->info.annealed_from == 0.02);
    assert_true(one->positions[0] != e->positions[0]);
    tbg_ensemble_free(one);
    tbg_ensemble_free(e);
    /* Noise without branches: the flow ends early, the force field takes it off. */
    snprintf(arguments, sizeof arguments, "%s -n 2 " CRUDE, common);
    assert_int_equal(sample(arguments, "br2"), 0);
    j = summary("br2");
    assert_int_equal(json_integer_value(json_object_get(j, "branches")), 0);
    assert_true(figure(j, "smoothing_nm") == 0.03 && figure(j, "annealed_from_nm") == 0.03);
    json_decref(j);
}

/* The shipped model makes something valid by branches, too, and its weights are finite. */
static void branches_of_a_trained_model(void **state) {
    (void)state;
    char arguments[800];
    snprintf(arguments, sizeof arguments,
             "ACE-ALA-NME --model %s/models/ad-improved.safetensors -n 3 --seed 1 --tolerance 0.3 --check 0 "
             "--branches 3 --branch-steps 40 --smoothing 0.04",
             TBG_SOURCE_DIR);
    assert_int_equal(sample(arguments, "bv"), 0);
    tbg_ensemble *e = ensemble("bv");
    int valid = 0;
    for (long i = 0; i < e->n; i++)
        if (e->verdict[i] == TBG_VALID || e->verdict[i] == TBG_MIRRORED) {
            valid++;
            assert_true(isfinite(e->log_q[i]) && isfinite(e->log_weight[i]));
            assert_true(fabs(e->log_q[i] + e->reduced_energy[i] + e->log_weight[i]) < 1e-6);
        }
    assert_true(valid >= 1);
    assert_true(e->info.anneal_error > 0.02 && e->info.anneal_error < 2);
    assert_true(fabs(e->info.annealed_from - 0.03) < 1e-12);
    tbg_ensemble_free(e);
}

/* Models that say they were trained with priors independent of the data get branches, others none. */
static void branches_by_default(void **state) {
    (void)state;
    static const struct {
        const char *training;
        int branches;
    } cases[] = {{NULL, 0},
                 {"{\"config\":{\"align\":false,\"transport\":false}}", 64},
                 {"{\"config\":{\"align\":true,\"transport\":false}}", 0},
                 {"{\"config\":{\"align\":false,\"transport\":true}}", 0},
                 {"{\"config\":{\"align\":false}}", 0},
                 {"{\"steps\":3}", 0}};
    char path[512], arguments[800];
    snprintf(path, sizeof path, "%s/default.safetensors", folder);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        write_model_of(path, "ACE-A-NME", 0.01, cases[c].training);
        snprintf(arguments, sizeof arguments,
                 "ACE-A-NME --model %s -n 1 --check 0 --tolerance 50 --solver fixed --steps 8 --threads 1 "
                 "--branch-steps 2 --anneal-stages 1 --anneal-replicas 1",
                 path);
        assert_int_equal(sample(arguments, "bd"), 0);
        json_t *j = summary("bd");
        assert_int_equal(json_integer_value(json_object_get(j, "branches")), cases[c].branches);
        assert_true(figure(j, "smoothing_nm") == (cases[c].branches ? 0.12 : 0.01));
        assert_true(fabs(figure(j, "annealed_from_nm") - (cases[c].branches ? 0.012 : 0.01)) < 1e-12);
        json_decref(j);
        if (cases[c].branches) { /* unless it is told otherwise, or weights are not wanted */
            char other[1000];
            snprintf(other, sizeof other, "%s --branches 0", arguments);
            assert_int_equal(sample(other, "bd"), 0);
            snprintf(other, sizeof other, "%s --no-weights", arguments);
            tbg_ensemble *e = ensemble("bd");
            assert_true(e->info.branches == 0 && e->info.smoothing == 0.01);
            tbg_ensemble_free(e);
            assert_int_equal(sample(other, "bd"), 0);
            e = ensemble("bd");
            assert_true(e->info.branches == 0 && !e->weighted);
            tbg_ensemble_free(e);
        }
    }
    unlink(path);
}

/* An unfinished run goes on with its own branches only. */
static void branches_resume(void **state) {
    (void)state;
    char arguments[800], path[512], chunk[600];
    snprintf(path, sizeof path, "%s/bc", folder);
    pid_t child = fork();
    if (!child) {
        freopen("/dev/null", "w", stdout);
        freopen("/dev/null", "w", stderr);
        execl(TBG_PROGRAM, "tbg", "sample", "ACE-A-NME", "--model", model_path, "--seed", "3", "-n", "2000",
              "--tolerance", "50", "--solver", "fixed", "--steps", "8", "--batch", "2", "--threads", "1",
              "--branches", "2", "--branch-steps", "3", "--smoothing", "0.03", "--anneal-stages", "2",
              "--anneal-replicas", "2", "--anneal-steps", "2", "-o", path, NULL);
        _exit(127);
    }
    snprintf(chunk, sizeof chunk, "%s/bc/partial/chunk-0000000002.safetensors", folder);
    for (int k = 0; k < 3000 && access(chunk, F_OK); k++)
        usleep(10000);
    kill(child, SIGINT);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    const char *const others[] = {
        "--branches 3 " CRUDE, "--branches 0 " CRUDE, "--branches 2 " CRUDE "--branch-steps 4",
        "--branches 2 " CRUDE "--smoothing 0.031", "--branches 2 " CRUDE "--anneal-from 0.02"};
    for (int k = 0; k < 5; k++) {
        snprintf(arguments, sizeof arguments, "%s -n 4 --resume %s", common, others[k]);
        assert_int_equal(sample(arguments, "bc"), 2);
        assert_true(printed("err.txt", "other settings"));
        if (k < 3) /* by name: the first piece that differs */
            assert_true(printed("err.txt", k == 1 ? "annealing" : "branches of 3 steps"));
    }
    snprintf(arguments, sizeof arguments, "%s -n 4 --resume --branches 2 " CRUDE, common);
    assert_int_equal(sample(arguments, "bc"), 0);
    snprintf(arguments, sizeof arguments, "%s -n 4 --branches 2 " CRUDE, common);
    assert_int_equal(sample(arguments, "bd"), 0);
    same("bc", "bd", 4);
}

static void resumes(void **state) {
    (void)state;
    char arguments[800], path[512];
    snprintf(path, sizeof path, "%s/c", folder);
    enum { N = 300 };
    pid_t child = fork();
    if (!child) {
        freopen("/dev/null", "w", stdout);
        freopen("/dev/null", "w", stderr);
        execl(TBG_PROGRAM, "tbg", "sample", "ACE-A-NME", "--model", model_path, "--seed", "3", "-n", "300",
              "--tolerance", "50", "--solver", "fixed", "--steps", "8", "--batch", "2", "--threads", "1",
              "-o", path, NULL);
        _exit(127);
    }
    /* Wait for a few chunks, then interrupt. */
    char chunk[600];
    snprintf(chunk, sizeof chunk, "%s/c/partial/chunk-0000000004.safetensors", folder);
    for (int k = 0; k < 3000 && access(chunk, F_OK); k++)
        usleep(10000);
    kill(child, SIGINT);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0)
        return; /* too quick to be interrupted */
    assert_int_equal(WEXITSTATUS(status), 1);
    tbg_ensemble *e = ensemble("c");
    assert_true(e->n >= 6 && e->n < N);
    tbg_ensemble_free(e);
    /* Neither a new run nor other settings may touch what is there. */
    snprintf(arguments, sizeof arguments, "%s -n 300", common);
    assert_int_equal(sample(arguments, "c"), 2);
    assert_true(printed("err.txt", "--resume"));
    snprintf(arguments, sizeof arguments, "%s -n 300 --resume --steps 9", common);
    assert_int_equal(sample(arguments, "c"), 2);
    assert_true(printed("err.txt", "other settings"));
    assert_true(exists("c", "partial"));
    /* A damaged chunk is refused by name. */
    snprintf(arguments, sizeof arguments, "%s -n 8 --resume", common);
    char *data;
    size_t size;
    assert_ok(tbg_file_read(chunk, 1 << 24, &data, &size));
    assert_ok(tbg_file_write(chunk, data, size / 2));
    assert_int_equal(sample(arguments, "c"), 2);
    assert_true(printed("err.txt", "chunk-0000000004"));
    assert_ok(tbg_file_write(chunk, data, size));
    free(data);
    /* One that is missing is made again; the result is that of a run in one go. */
    assert_int_equal(unlink(chunk), 0);
    assert_int_equal(sample(arguments, "c"), 0);
    assert_false(exists("c", "partial"));
    double each, n, all;
    read_estimate(&each, &n, &all);              /* of what was missing */
    assert_true(each > 0 && (n == 2 || n == 4)); /* a chunk, or two if it had not come further */
    snprintf(arguments, sizeof arguments, "%s -n 8", common);
    assert_int_equal(sample(arguments, "d"), 0);
    same("c", "d", 8);
    read_estimate(&each, &n, &all);
    assert_true(each > 0 && n == 8);
}

static void refuses(void **state) {
    (void)state;
    char arguments[800];
#define REFUSED(format, words, ...)                                                                          \
    snprintf(arguments, sizeof arguments, format, __VA_ARGS__);                                              \
    assert_int_equal(sample(arguments, "e"), 2);                                                             \
    assert_true(printed("err.txt", words))
    REFUSED("AC --model %s -n 3", "ACE-ALA-NME", model_path);
    REFUSED("ACE-A-NME --model %s/none.safetensors -n 3", "none.safetensors", folder);
    REFUSED("%s -n 0", "-n must", common);
    REFUSED("%s --seed -1", "--seed", common);
    REFUSED("%s --solver euler", "euler", common);
    REFUSED("%s --tolerance 0", "tolerance", common);
    REFUSED("%s --engine abacus", "abacus", common);
    REFUSED("%s --backend abacus", "abacus", common);
    REFUSED("%s --temperature -3", "temperature", common);
    REFUSED("%s --branches -2", "--branches", common);
    REFUSED("%s --branches 257", "256", common);
    REFUSED("%s --branches 4294967298", "--branches", common);
    REFUSED("%s --branches two", "--branches", common);
    REFUSED("%s --branches 2 --branch-steps -2", "--branch-steps", common);
    REFUSED("%s --branches 2 --branch-steps 0", "0 steps", common);
    REFUSED("%s --branches 2 --branch-steps 10001", "10000", common);
    REFUSED("%s --smoothing -0.01", "--smoothing -0.01", common);
    REFUSED("%s --smoothing 11", "--smoothing 11", common);
    REFUSED("%s --smoothing inf", "--smoothing", common);
    REFUSED("%s --branches 2 --smoothing 0.02", "0.02 to 0.025 nm", common); /* annealing from above it */
    REFUSED("%s --branches 2 --anneal-from 0.2", "0.12 to 0.2 nm", common);
    REFUSED("%s --branches 2 --anneal-from 0", "0 nm", common);
    REFUSED("%s --branches 2 --anneal-steps -1", "--anneal-steps", common);
    REFUSED("%s --branches 2 --anneal-steps 1001", "1000", common);
    REFUSED("%s --branches 2 --anneal-replicas 4294967297", "--anneal-replicas", common);
    REFUSED("ACE-ALA-NME --model %s/models/ad-improved.safetensors -n 1 --smoothing 0.02", "0.025",
            TBG_SOURCE_DIR);
    assert_false(exists("e", "partial"));
}

/* Without --model: the first of the shipped models that was trained for such molecules. */
static void chooses(void **state) {
    (void)state;
    char path[512], arguments[800];
    const char *list = "# of two\nother.safetensors\nmodel.safetensors\n";
    snprintf(path, sizeof path, "%s/shipped.txt", folder);
    assert_ok(tbg_file_write(path, list, strlen(list)));
    snprintf(path, sizeof path, "%s/other.safetensors", folder);
    write_model(path, "AC,GGW");
    assert_int_equal(setenv("TBG_MODELS", folder, 1), 0);
    assert_int_equal(sample("ACE-A-NME -n 1 --threads 1 --tolerance 50", "g"), 0);
    assert_true(printed("err.txt", "model.safetensors") &&
                printed("g/summary.json", "\"model.safetensors\""));
    write_model(path, "ACE-A-NME,AC");
    assert_int_equal(sample("ACE-A-NME -n 1 --threads 1 --tolerance 50", "h"), 0);
    assert_true(printed("err.txt", "other.safetensors"));
    REFUSED("GG -n %d", "trained on ACE-A-NME only", 1);
    assert_int_equal(setenv("TBG_MODELS", "/nonexistent", 1), 0);
    REFUSED("ACE-A-NME -n %d", "TBG_MODELS", 1);
    unsetenv("TBG_MODELS");
    unlink(path);
}

static void warns(void **state) {
    (void)state;
    char arguments[800], path[512];
    snprintf(arguments, sizeof arguments, "%s -n 1", common);
    assert_int_equal(sample(arguments, "f"), 0);
    char *text;
    size_t size;
    snprintf(path, sizeof path, "%s/err.txt", folder);
    assert_ok(tbg_file_read(path, 1 << 20, &text, &size));
    assert_null(strstr(text, "warning"));
    free(text);
    snprintf(arguments, sizeof arguments, "%s -n 1 --temperature 320 --forcefield amber14-obc1", common);
    int code = sample(arguments, "f");
    assert_true(printed("err.txt", code ? "amber14-obc1" : "320 K"));
    snprintf(path, sizeof path, "%s/other.safetensors", folder);
    write_model(path, "AC,GGW");
    snprintf(arguments, sizeof arguments, "ACE-A-NME --model %s -n 1", path);
    assert_int_equal(sample(arguments, "f"), 0);
    assert_true(printed("err.txt", "not among the 2 molecules"));
    assert_true(printed("err.txt", "warning: the cap ACE occurs in none"));
    /* They stay with the ensemble. */
    assert_true(printed("f/summary.json", "the cap ACE occurs in none"));
    assert_true(printed("f/report.html", "the cap ACE occurs in none"));
    tbg_ensemble *e = ensemble("f");
    assert_non_null(strstr(e->info.warnings, "the cap ACE occurs in none of the training molecules\n"));
    tbg_ensemble_free(e);
    write_model(path, "ACE-G-NME");
    assert_int_equal(sample(arguments, "f"), 0);
    assert_true(printed("err.txt", "trained on ACE-G-NME only"));
    unlink(path);
}

static int start(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(model_path, sizeof model_path, "%s/model.safetensors", folder);
    snprintf(common, sizeof common,
             "ACE-A-NME --model %s --seed 3 --tolerance 50 --solver fixed --steps 8 --threads 1", model_path);
    write_model(model_path, "ACE-A-NME");
    return 0;
}
static int stop(void **state) {
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_and_chunks),
                                       cmocka_unit_test(weighs_what_is_valid),
                                       cmocka_unit_test(branches),
                                       cmocka_unit_test(branches_of_a_trained_model),
                                       cmocka_unit_test(branches_by_default),
                                       cmocka_unit_test(branches_resume),
                                       cmocka_unit_test(resumes),
                                       cmocka_unit_test(refuses),
                                       cmocka_unit_test(chooses),
                                       cmocka_unit_test(warns)};
    return cmocka_run_group_tests_name("sample", tests, start, stop);
}
