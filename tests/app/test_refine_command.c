/* test_refine_command.c: `tbg sample --refine` with the shipped model: files, threads, going on from finished
 * samples, refusals. Few samples: whether chains are right is tested in tests/refine. */
#include "tbg_test.h"
#include "file/temporary.h"
#include "tbg/ensemble.h"
#include "tbg/file.h"
#include "tbg/network.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMON                                                                                               \
    "ACE-ALA-NME --model " TBG_SOURCE_DIR                                                                    \
    "/models/ad-improved.safetensors --seed 3 --tolerance 50 --check 0 --solver fixed --steps 8 "
#define CHAINS "--refine --refine-chains 2 --refine-proposals 2 --refine-time 0.2 "

static int sample(const char *arguments, const char *directory) {
    char command[2048];
    snprintf(command, sizeof command, "%s sample %s -o %s/%s >%s/out.txt 2>%s/err.txt", TBG_PROGRAM,
             arguments, temporary_folder, directory, temporary_folder, temporary_folder);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int printed(const char *file, const char *words) {
    char *text;
    size_t size;
    assert_ok(tbg_file_read(temporary_path(file), 1 << 24, &text, &size));
    int found = strstr(text, words) != NULL;
    if (!found)
        fprintf(stderr, "%s has no '%s':\n%s\n", file, words, text);
    free(text);
    return found;
}

static void same(const char *a, const char *b) {
    tbg_ensemble *x, *y;
    assert_ok(tbg_ensemble_read(temporary_path(a), &x));
    assert_ok(tbg_ensemble_read(temporary_path(b), &y));
    assert_int_equal(x->n, y->n);
    assert_memory_equal(x->positions, y->positions, (size_t)x->n * 66 * sizeof(double));
    assert_memory_equal(x->log_q, y->log_q, (size_t)x->n * sizeof(double));
    assert_memory_equal(x->log_weight, y->log_weight, (size_t)x->n * sizeof(double));
    tbg_ensemble_free(x);
    tbg_ensemble_free(y);
}

static void files_and_threads(void **state) {
    (void)state;
    tbg_ensemble *e;
    tbg_ensemble_summary s;
    assert_int_equal(sample(COMMON CHAINS "-n 8 --threads 1 --json", "a"), 0);
    assert_true(printed("out.txt", "\"refine\""));
    assert_int_equal(sample(COMMON "-n 8 --threads 2", "b"),
                     0); /* the samples are what they are without it */
    same("a", "b");
    /* The finished samples are the proposals. */
    assert_int_equal(sample(COMMON CHAINS "-n 8 --resume --threads 2", "b"), 0);
    same("a", "b");
    assert_int_equal(sample(COMMON CHAINS "-n 8 --threads 2", "c"), 0);
    same("a/refined", "c/refined");
    assert_int_equal(sample(COMMON CHAINS "-n 8 --resume --refine-within --refine-chains 4 --threads 2", "b"),
                     0);
    assert_true(printed("b/summary.json", "acceptance ratios"));
    assert_true(access(temporary_path("a/partial"), F_OK) != 0);
    assert_ok(tbg_ensemble_read(temporary_path("a/refined"), &e));
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_true(e->n >= 2 && e->n <= 4 && s.n_valid == e->n && s.inefficiency >= 1 &&
                e->info.temperature == 300);
    for (long i = 0; i < e->n; i++)
        assert_true(e->log_weight[i] == 0 && isfinite(e->reduced_energy[i]) && isfinite(e->log_q[i]));
    const tbg_ensemble_chains *c = &e->info.chains;
    assert_true(c->inefficiency >= 1 && !c->converged && c->n_errors == 1 && !s.dF[0].reliable);
    assert_non_null(strstr(c->advice, "Not converged"));
    assert_non_null(strstr(s.advice, "Not converged"));
    tbg_ensemble_free(e);
    const char *const files[] = {"a/summary.json", "a/refined/summary.json"};
    for (int i = 0; i < 2; i++) {
        json_error_t error;
        json_t *j = json_load_file(temporary_path(files[i]), 0, &error), *r = json_object_get(j, "refine");
        assert_true(json_is_object(r) && json_object_get(j, "n_generated"));
        assert_int_equal(json_integer_value(json_object_get(r, "chains")), 2);
        assert_int_equal(json_integer_value(json_object_get(r, "cycles")), 2);
        assert_int_equal(json_integer_value(json_object_get(r, "proposals_used")), 8);
        assert_true(json_is_false(json_object_get(r, "converged"))); /* and says so */
        assert_non_null(strstr(json_string_value(json_object_get(r, "advice")), "Not converged"));
        assert_true(json_is_object(json_object_get(json_object_get(r, "dF"), "phi1")));
        json_decref(j);
    }
    assert_true(access(temporary_path("a/refined/topology.pdb"), R_OK) == 0 &&
                access(temporary_path("a/refined/report.html"), R_OK) == 0);
}

/* The shipped model as if it were that of smoothed positions: a poor one, but one. factor: of some
 * parameters. */
static void write_smoothed(const char *name, double smoothing, float factor) {
    tbg_model *m;
    assert_ok(tbg_model_read(TBG_SOURCE_DIR "/models/ad-improved.safetensors", &m));
    m->spec.smoothing = smoothing;
    for (size_t k = 0; k < m->n_parameters; k++)
        m->values[k] *= factor;
    assert_ok(tbg_model_write(m, temporary_path(name)));
    tbg_model_free(m);
}

static int sample_smoothed(const char *model, const char *arguments, const char *directory) {
    char all[1024];
    snprintf(all, sizeof all,
             "ACE-ALA-NME --model %s --seed 3 --tolerance 50 --check 0 --solver fixed --steps 8 "
             "--anneal-replicas 2 %s",
             temporary_path(model), arguments);
    return sample(all, directory);
}

/* Chains over samples of a smoothed model: threads, finished samples, another model of the same name. */
static void smoothed(void **state) {
    (void)state;
    assert_int_equal(mkdir(temporary_path("other"), 0755), 0);
    write_smoothed("m.safetensors", 0.005, 1);
    write_smoothed("other/m.safetensors", 0.005, 1.2F);
    assert_int_equal(sample_smoothed("m.safetensors", CHAINS "-n 4 --anneal-stages 3 --threads 1", "s"), 0);
    assert_true(printed("s/refined/summary.json", "Not converged"));
    assert_int_equal(sample_smoothed("m.safetensors", CHAINS "-n 4 --anneal-stages 3 --threads 2", "t"), 0);
    same("s", "t");
    same("s/refined", "t/refined");
    assert_int_equal(sample_smoothed("other/m.safetensors", CHAINS "-n 4 --anneal-stages 3 --resume", "t"),
                     2);
    assert_true(printed("err.txt", "another model"));
    /* Other annealing does not make it another model. */
    assert_int_equal(
        sample_smoothed("m.safetensors", CHAINS "-n 4 --anneal-stages 20 --resume --refine-levels 2", "t"),
        0);
    tbg_ensemble *e;
    assert_ok(tbg_ensemble_read(temporary_path("s/refined"), &e));
    for (long i = 0; i < e->n; i++)
        assert_true(isfinite(e->log_q[i]) && isfinite(e->reduced_energy[i]) && e->log_weight[i] == 0);
    tbg_ensemble_free(e);
}

/* Chains over samples that branches made. */
static void branched(void **state) {
    (void)state;
#define BRANCHES "--branches 2 --branch-steps 8 --smoothing 0.03 --anneal-stages 3 "
    write_smoothed("b.safetensors", 0.005, 1);
    assert_int_equal(sample_smoothed("b.safetensors", CHAINS BRANCHES "-n 4 --threads 1", "f"), 0);
    assert_true(printed("f/refined/summary.json", "Not converged"));
    assert_int_equal(sample_smoothed("b.safetensors", CHAINS BRANCHES "-n 4 --threads 2", "g"), 0);
    same("f", "g");
    same("f/refined", "g/refined");
    /* The finished samples as proposals: their weights are found again. */
    assert_int_equal(sample_smoothed("b.safetensors", CHAINS BRANCHES "-n 4 --resume --refine-levels 2", "g"),
                     0);
    same("f", "g");
    tbg_ensemble *e;
    assert_ok(tbg_ensemble_read(temporary_path("f/refined"), &e));
    assert_true(e->n >= 1);
    for (long i = 0; i < e->n; i++)
        assert_true(isfinite(e->log_q[i]) && isfinite(e->reduced_energy[i]) && e->log_weight[i] == 0);
    tbg_ensemble_free(e);
}

static void refuses(void **state) {
    (void)state;
#define REFUSED(arguments, directory, words)                                                                 \
    assert_int_equal(sample(COMMON arguments, directory), 2);                                                \
    assert_true(printed("err.txt", words))
    REFUSED("--refine --no-weights -n 8", "x", "--no-weights");
    REFUSED("--refine --refine-levels 17 -n 8", "x", "--refine-levels");
    REFUSED("--refine --refine-time 0 -n 8", "x", "ps");
    REFUSED("--refine --refine-time nan -n 8", "x", "number");
    REFUSED(CHAINS "-n 3", "x", "too few");
    assert_true(access(temporary_path("x"), F_OK) != 0); /* before any work */
    REFUSED(CHAINS "-n 7 --resume", "a", "-n 8");
    REFUSED(CHAINS "-n 8 --resume --seed 4", "a", "seed 3");
    REFUSED(CHAINS "-n 8 --resume --temperature 310", "a", "310");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_and_threads), cmocka_unit_test(smoothed),
                                       cmocka_unit_test(branched), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests_name("refine command", tests, temporary_setup, temporary_teardown);
}
