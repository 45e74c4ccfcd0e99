/* test_evaluate.c: `tbg evaluate` of one and of several ensembles: which reference, table, Markdown, JSON, a
 * folder that is missing. */
#include "tbg_test.h"
#include "ensemble/synthetic.h"
#include "file/temporary.h"
#include <jansson.h>
#include <sys/stat.h>
#include <sys/wait.h>

static tbg_molecule *molecule;

static void write_ensemble(const char *sequence, const char *name, long n) {
    tbg_molecule *m;
    tbg_ensemble *e;
    tbg_ensemble_summary s;
    if (!sequence) {
        e = synthetic_ensemble(molecule, n);
        m = NULL;
    } else {
        assert_ok(tbg_molecule_from_sequence(sequence, &m));
        assert_ok(tbg_ensemble_create(m, n, &e));
        for (long i = 0; i < n; i++) {
            memcpy(e->positions + i * m->n_atoms * 3, m->positions, (size_t)m->n_atoms * 3 * sizeof(double));
            e->reduced_energy[i] = e->log_q[i] = 0.01 * (double)i;
        }
        tbg_ensemble_weigh(e);
    }
    e->info.seconds_flow = 0.5 * (double)n;
    assert_ok(tbg_ensemble_summarise(e, 10, &s));
    assert_ok(tbg_ensemble_write(e, &s, temporary_path(name)));
    tbg_ensemble_free(e);
    tbg_molecule_free(m);
}

static int setup(void **state) {
    if (temporary_setup(state) || tbg_molecule_from_sequence("ACE-A-NME", &molecule))
        return -1;
    mkdir(temporary_path("references"), 0777);
    synthetic_trajectory(molecule, temporary_path("references/ACE-ALA-NME.nc"), 2, 0, 200);
    write_ensemble(NULL, "a", 200);
    write_ensemble(NULL, "b", 400);
    write_ensemble("AG", "c", 50);
    return 0;
}

static int teardown(void **state) {
    tbg_molecule_free(molecule);
    return temporary_teardown(state);
}

/* Exit code; what was printed (freed by the caller). */
static int evaluate(const char *arguments, char **out, char **err) {
    char command[2048];
    snprintf(command, sizeof command, "cd %s && %s evaluate %s --bootstrap 20 >out.txt 2>err.txt",
             temporary_folder, TBG_PROGRAM, arguments);
    int status = system(command);
    assert_ok(tbg_file_read(temporary_path("out.txt"), 1 << 20, out, NULL));
    assert_ok(tbg_file_read(temporary_path("err.txt"), 1 << 20, err, NULL));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void one(void **state) {
    (void)state;
    char *out, *err;
    if (evaluate("a -r references/ACE-ALA-NME.nc --json", &out, &err))
        fail_msg("%s", err);
    json_t *j = json_loads(out, JSON_REJECT_DUPLICATES, NULL), *interval;
    assert_true(json_is_object(j));
    static const char *const keys[] = {
        "ess_raw",   "ess_clipped", "pareto_k",          "nll_mean", "energy_w1_proposal",
        "energy_w2", "torus_w2",    "torus_w2_proposal", "tica_w2",  "valid"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        double value = json_number_value(json_object_get(j, keys[k]));
        interval = json_object_get(json_object_get(j, "intervals"), keys[k]);
        char error[64];
        snprintf(error, sizeof error, "%s_error", keys[k]);
        if (!json_is_number(json_object_get(j, error)) || json_array_size(interval) != 2)
            fail_msg("%s has no error and interval", keys[k]);
        assert_true(json_number_value(json_array_get(interval, 0)) <= value + 1e-9);
    }
    assert_true(fabs(json_number_value(json_object_get(j, "seconds_per_sample")) - 0.5) < 1e-9);
    json_decref(j);
    free(out);
    free(err);
    /* The same from a folder of references. */
    assert_int_equal(evaluate("a -r references", &out, &err), 0);
    assert_non_null(strstr(out, "dF phi1"));
    assert_non_null(strstr(out, "60 samples worth 60, weight 10 %"));
    free(out);
    free(err);
}

static void several(void **state) {
    (void)state;
    char *out, *err;
    if (evaluate("a b -r references --json", &out, &err))
        fail_msg("%s", err);
    json_t *j = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_array_size(j), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(j, 1), "n_generated")), 400);
    assert_string_equal(json_string_value(json_object_get(json_array_get(j, 1), "directory")), "b");
    json_decref(j);
    free(out);
    free(err);
    /* Their NLL differ: log_q is 25 less 0.01 i and two shifts, so 1 apart, and the mean lies between. */
    assert_int_equal(evaluate("a b -r references --markdown", &out, &err), 0);
    double nll[3], error;
    int rows = 0, pipes = -1;
    for (char *line = strtok(out, "\n"); line && rows < 3; line = strtok(NULL, "\n")) {
        int n = 0;
        for (char *c = line; *c; c++)
            n += *c == '|';
        assert_true(*line != '|' || pipes < 0 || n == pipes);
        pipes = n;
        if (strncmp(line, "| ACE", 5) && strncmp(line, "| mean", 6))
            continue;
        char *at = line;
        for (int k = 0; k < 8; k++)
            at = strchr(at + 1, '|');
        nll[rows++] = strtod(at + 1, &at);
        if (rows == 3) {
            error = strtod(strstr(at, "\u00b1") + 2, NULL);
            assert_true(fabs(error - sqrt(0.5)) < 0.051); /* two values one apart */
        }
    }
    assert_int_equal(rows, 3);
    assert_true(fabs(fabs(nll[0] - nll[1]) - 1) < 0.11 && fabs(nll[2] - (nll[0] + nll[1]) / 2) < 0.11);
    free(out);
    free(err);
}

/* What cannot be used is named, the others are shown. */
static void missing(void **state) {
    (void)state;
    char *out, *err;
    assert_int_equal(evaluate("a c nowhere -r references", &out, &err), 2);
    assert_non_null(strstr(err, "AG.nc nor ALA-GLY.nc"));
    assert_non_null(strstr(err, "nowhere"));
    assert_non_null(strstr(out, "ACE-A-NME"));
    assert_non_null(strstr(out, "failed"));
    free(out);
    free(err);
    assert_int_equal(evaluate("a", &out, &err), 2);
    free(out);
    free(err);
    assert_int_equal(evaluate("c -r references", &out, &err), 2);
    free(out);
    free(err);
    assert_int_equal(evaluate("a -r references --json --markdown", &out, &err), 2);
    free(out);
    free(err);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one), cmocka_unit_test(several),
                                       cmocka_unit_test(missing)};
    return cmocka_run_group_tests_name("evaluate", tests, setup, teardown);
}
