/* test_density.c: `tbg density` as a command: it finds the log q that `tbg sample` wrote, whatever the frames
 * are read from, and refuses by name. */
#include "tbg/ensemble.h"
#include "tbg/file.h"
#include "tbg/flow.h"
#include "tbg/network.h"
#include "tbg_test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static char folder[] = "/tmp/tbg-test-density-XXXXXX";

static void write_model(const char *name, double smoothing) {
    tbg_network_spec spec;
    tbg_model *m;
    char path[256];
    assert_ok(tbg_network_preset("improved-ad", &spec));
    spec.hidden = 8;
    spec.layers = 1;
    spec.scale = 6;
    spec.smoothing = smoothing;
    assert_ok(tbg_model_create(&spec, 4, &m));
    const tbg_parameter *p = tbg_model_tensor(m, "egnn.gcl_0.harmonic_gate.bias");
    assert_non_null(p);
    m->values[p->offset] = 0.01f; /* small: outside of training the clamp of rho makes the divergence jump */
    m->forcefield = strdup("amber99sbildn-obc");
    m->temperature = 300;
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    assert_ok(tbg_model_write(m, path));
    tbg_model_free(m);
}

/* %s of the format: the folder. */
static int tbg_run(const char *arguments) {
    char command[2048];
    snprintf(command, sizeof command, "cd %s && OMP_WAIT_POLICY=passive %s %s >out.txt 2>err.txt", folder,
             TBG_PROGRAM, arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *text_of(const char *file) {
    char path[512], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_ok(tbg_file_read(path, 1 << 24, &text, &size));
    return text;
}

static int printed(const char *file, const char *words) {
    char *text = text_of(file);
    int found = strstr(text, words) != NULL;
    if (!found)
        fprintf(stderr, "%s has no '%s':\n%s\n", file, words, text);
    free(text);
    return found;
}

static double figure(const char *name) {
    char *text = text_of("out.txt"), key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(text, key);
    double x = at ? strtod(at + strlen(key), NULL) : NAN;
    free(text);
    return x;
}

/* log q of the samples that `tbg sample` drew, in nm: the command finds it for valid ones only, and those of
 * a random network are not. */
static void log_q_of_samples(int n, double *log_q) {
    char path[256];
    tbg_model *model;
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_conditioning *c;
    tbg_session *session;
    tbg_flow_options o;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(tbg_model_read(path, &model));
    assert_ok(tbg_molecule_from_sequence("ACE-A-NME", &molecule));
    assert_ok(tbg_system_create(molecule, "amber99sbildn-obc", -1, &system));
    assert_ok(tbg_conditioning_create(&model->spec, molecule, system, 300, &c));
    assert_ok(tbg_session_create(model, NULL, molecule->n_atoms, 0, &session));
    tbg_flow_defaults(&o);
    o.solver_tolerance = 1e-7;
    o.tolerance = 1e-4;
    const tbg_conditioning **list = calloc((size_t)n, sizeof *list);
    double *x = calloc((size_t)n * 3 * (size_t)molecule->n_atoms, sizeof *x);
    tbg_flow_result *result = calloc((size_t)n, sizeof *result);
    for (int i = 0; i < n; i++)
        list[i] = c;
    assert_ok(tbg_flow_sample(session, &o, n, list, 0, 0, NULL, x, result));
    for (int i = 0; i < n; i++)
        log_q[i] = result[i].log_q + 3 * (molecule->n_atoms - 1) * log(model->spec.scale);
    free(list);
    free(x);
    free(result);
    tbg_session_free(session);
    tbg_conditioning_free(c);
    tbg_system_free(system);
    tbg_molecule_free(molecule);
    tbg_model_free(model);
}

static void finds_what_sample_wrote(void **state) {
    (void)state;
    enum { N = 12 };
    char path[512];
    tbg_ensemble *e;
    tbg_trajectory *t;
    assert_int_equal(tbg_run("sample ACE-A-NME --model model.safetensors -n 12 --solver-tolerance 1e-7 "
                             "--tolerance 1e-4 -o e"),
                     0);
    if (tbg_run("density ACE-A-NME e/ensemble.nc --model model.safetensors --solver-tolerance 1e-7 "
                "--tolerance 1e-4 --json -o "
                "d.nc"))
        fail_msg("density failed%s", printed("err.txt", "-") ? "" : "");
    snprintf(path, sizeof path, "%s/e", folder);
    assert_ok(tbg_ensemble_read(path, &e));
    snprintf(path, sizeof path, "%s/d.nc", folder);
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
    const double *log_q = tbg_trajectory_extra(t, "log_q"),
                 *energy = tbg_trajectory_extra(t, "reduced_energy"),
                 *weight = tbg_trajectory_extra(t, "log_weight");
    assert_int_equal(t->n_frames, N);
    assert_true(log_q && energy && weight && t->temperature == 300 && t->topology_pdb);
    double sum = 0, plus[N], minus[N], drawn[N];
    log_q_of_samples(N, drawn);
    for (int i = 0; i < N; i++) {
        /* Positions pass through single precision on disk. */
        assert_true(fabs(log_q[i] - drawn[i]) < 2e-3);
        assert_true(fabs(energy[i] - e->reduced_energy[i]) < 1e-3 * fabs(energy[i]));
        assert_true(weight[i] == -energy[i] - log_q[i]);
        sum -= log_q[i] / N;
        plus[i] = weight[i];
        minus[i] = -weight[i];
    }
    double nll = sum + 63 * log(10);
    assert_int_equal((int)figure("n_frames"), N);
    assert_true(printed("err.txt",
                        "tbg density: warning: ")); /* the model file does not say what it was trained on */
    assert_true(fabs(figure("nll_mean") - nll) < 1e-6);
    assert_true(fabs(figure("nll_published") - (nll - 31.5 * log(2 * M_PI))) < 1e-6);
    double mean = 0;
    for (int i = 0; i < N; i++)
        mean += plus[i] / N;
    double inverse_z = tbg_log_sum_exp(N, minus) - log(N);
    assert_true(fabs(figure("kl_from_data") - (mean + inverse_z)) < 1e-6 * (1 + fabs(mean)));
    double ess = exp(-inverse_z - tbg_log_sum_exp(N, plus) + log(N));
    assert_true(fabs(figure("ess_from_data") - ess) <= 1e-6 * ess);
    /* Every third frame alone gives the same numbers. */
    assert_int_equal(tbg_run("density ACE-A-NME e/ensemble.nc --model model.safetensors --solver-tolerance "
                             "1e-7 --tolerance 1e-4 -n 4 "
                             "--no-energies --threads 1 -o some.nc"),
                     0);
    assert_true(printed("out.txt", "NLL, published convention"));
    tbg_trajectory *some;
    snprintf(path, sizeof path, "%s/some.nc", folder);
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &some));
    assert_int_equal(some->n_frames, 4);
    for (int i = 0; i < 4; i++)
        assert_true(tbg_trajectory_extra(some, "log_q")[i] == log_q[3 * i]);
    tbg_trajectory_free(some);
    tbg_trajectory_free(t);
    tbg_ensemble_free(e);
}

static tbg_trajectory *frames_of(const char *name) {
    char path[256];
    tbg_trajectory *t;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
    return t;
}

/* Frames of dynamics. With next to no smoothing the estimate is the density itself: y is x, Z is exp(-u). */
static void smoothed(void **state) {
    (void)state;
    enum { N = 6 };
    assert_int_equal(
        tbg_run("simulate ACE-A-NME -f amber99sbildn-obc --time 0.0015 --equilibrate 0.0005 --save-every "
                "0.25 --runs 1 -q -o md.nc"),
        0);
#define DENSITY "density ACE-A-NME md.nc --tolerance 0.001 "
    assert_int_equal(tbg_run(DENSITY "-m model.safetensors -o plain.nc"), 0);
    assert_int_equal(tbg_run(DENSITY "-m little.safetensors -o little.nc"), 0);
    assert_int_equal(tbg_run(DENSITY "-m smooth.safetensors -o a.nc --threads 1 --anneal-replicas 4"), 0);
    assert_true(printed("out.txt", "0.01 nm") && printed("out.txt", "lower bound") &&
                printed("out.txt", "anneal_error"));
    assert_int_equal(tbg_run(DENSITY "-m smooth.safetensors -o b.nc --threads 2 --anneal-replicas 4 --json"),
                     0);
    assert_true(figure("smoothing_nm") == 0.01 && figure("anneal_error_rms") > 0.01 &&
                figure("anneal_error_rms") < 2);
    assert_int_equal(tbg_run(DENSITY "-m smooth.safetensors -o c.nc --seed 5 --anneal-replicas 4"), 0);
    tbg_trajectory *plain = frames_of("plain.nc"), *little = frames_of("little.nc"), *a = frames_of("a.nc"),
                   *b = frames_of("b.nc"), *c = frames_of("c.nc");
    assert_int_equal(plain->n_frames, N);
    assert_true(!tbg_trajectory_extra(plain, "anneal_error") && tbg_trajectory_extra(a, "anneal_error"));
    for (int i = 0; i < N; i++) {
        double want = tbg_trajectory_extra(plain, "log_q")[i], got = tbg_trajectory_extra(little, "log_q")[i];
        if (!(fabs(got - want) < 0.05))
            fail_msg("frame %d: log q %g, without smoothing %g", i, got, want);
        double one = tbg_trajectory_extra(a, "log_q")[i];
        assert_true(one == tbg_trajectory_extra(b, "log_q")[i]);
        assert_true(fabs(one - tbg_trajectory_extra(c, "log_q")[i]) > 1e-3);
        assert_true(tbg_trajectory_extra(a, "log_weight")[i] ==
                    -tbg_trajectory_extra(a, "reduced_energy")[i] - one);
    }
    /* Branches: of frames that were never noisy, and of a model without noise of its own. */
#define BRANCHES "--branches 2 --branch-steps 3 --smoothing 0.03 --anneal-stages 2 --anneal-replicas 2 "
    static const char *const models[] = {"smooth", "model"};
    for (int k = 0; k < 2; k++) {
        char arguments[512];
        for (int threads = 1; threads < 3; threads++) {
            snprintf(arguments, sizeof arguments,
                     DENSITY "-m %s.safetensors " BRANCHES "--json --threads %d -o b%d.nc", models[k],
                     threads, threads);
            assert_int_equal(tbg_run(arguments), 0);
            assert_true(figure("smoothing_nm") == 0.03 && isfinite(figure("nll_mean")));
        }
        tbg_trajectory *x = frames_of("b1.nc"), *y = frames_of("b2.nc");
        for (int i = 0; i < N; i++) {
            double one = tbg_trajectory_extra(x, "log_q")[i];
            assert_true(isfinite(one) && one == tbg_trajectory_extra(y, "log_q")[i]);
        }
        tbg_trajectory_free(x);
        tbg_trajectory_free(y);
    }
    tbg_trajectory_free(plain);
    tbg_trajectory_free(little);
    tbg_trajectory_free(a);
    tbg_trajectory_free(b);
    tbg_trajectory_free(c);
}

static void refuses(void **state) {
    (void)state;
#define REFUSED(arguments, words)                                                                            \
    assert_int_equal(tbg_run("density " arguments), 2);                                                      \
    assert_true(printed("err.txt", words))
    REFUSED("ACE-A-NME none.nc --model model.safetensors", "none.nc");
    REFUSED("ACE-A-NME model.safetensors --model model.safetensors", "model.safetensors");
    REFUSED("AC e/ensemble.nc --model model.safetensors", "atoms");
    REFUSED("ACE-A-NME e/ensemble.nc --model model.safetensors --first 12", "--first");
    REFUSED("ACE-A-NME e/ensemble.nc --model model.safetensors -n -1", "-n");
    REFUSED("ACE-A-NME e/ensemble.nc --model model.safetensors -o none/out.nc", "none");
    REFUSED("ACE-A-NME e/ensemble.nc --model model.safetensors --tolerance 0", "tolerance");
    REFUSED("ACE-A-NME e/ensemble.nc --model model.safetensors --temperature -1", "temperature");
    REFUSED("ACE-A-NME e/ensemble.nc --model smooth.safetensors --no-energies", "--no-energies");
    REFUSED("ACE-A-NME e/ensemble.nc --model smooth.safetensors --anneal-stages -1", "--anneal-stages");
    REFUSED("ACE-A-NME e/ensemble.nc --model smooth.safetensors --anneal-replicas 4294967297",
            "--anneal-replicas");
    REFUSED("ACE-A-NME e/ensemble.nc --model smooth.safetensors --seed -1", "--seed");
    REFUSED("ACE-A-NME e/ensemble.nc --model smooth.safetensors --smoothing 0.005", "0.005");
    REFUSED("ACE-A-NME e/ensemble.nc --model smooth.safetensors --branches 300", "--branches");
    REFUSED("ACE-A-NME e/ensemble.nc --model smooth.safetensors --branches 2 --anneal-from 0.01", "0.01 nm");
    REFUSED("ACE-A-NME e/ensemble.nc --model model.safetensors --branches 2 --no-energies", "--no-energies");
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    write_model("model", 0);
    write_model("little", 2e-6);
    write_model("smooth", 0.01);
    return 0;
}

static int clean_up(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(finds_what_sample_wrote), cmocka_unit_test(smoothed),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests_name("density command", tests, set_up, clean_up);
}
