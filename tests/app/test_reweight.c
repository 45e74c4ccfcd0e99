/* test_reweight.c: `tbg reweight`: weights of another force field and temperature against the reference
 * energies; what is excluded stays excluded; refusals. */
#include "tbg/energy.h"
#include "tbg/ensemble.h"
#include "tbg/random.h"
#include "tbg_test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 40 };
static char folder[] = "/tmp/tbg-test-reweight-XXXXXX";

static int run(const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "cd %s && %s reweight %s >out 2>err", folder, TBG_PROGRAM, arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int says(const char *words) {
    char command[1024];
    snprintf(command, sizeof command, "grep -q -- '%s' %s/err", words, folder);
    return !system(command);
}

/* Alanine dipeptide with noise, made-up densities, energies of amber99sbildn-obc at 300 K; sample 3 is wrong.
 */
static void make(const char *name, int weighted) {
    tbg_molecule *m;
    tbg_ensemble *e;
    tbg_ensemble_summary s;
    char path[256];
    assert_ok(tbg_molecule_from_sequence("ACE-ALA-NME", &m));
    assert_ok(tbg_ensemble_create(m, N, &e));
    size_t n3 = 3 * (size_t)m->n_atoms;
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), 0, N * n3, e->positions);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 2), 0, N, e->log_q);
    for (size_t k = 0; k < N * n3; k++)
        e->positions[k] = m->positions[k % n3 / 3][k % 3] + 0.003 * e->positions[k];
    for (int i = 0; i < N; i++)
        e->reduced_energy[i] = -20;
    e->verdict[3] = TBG_TOPOLOGY;
    e->weighted = weighted;
    strcpy(e->info.forcefield, "amber99sbildn-obc");
    strcpy(e->info.engine, "native");
    strcpy(e->info.sequence, "ACE-A-NME");
    e->info.temperature = 300;
    tbg_ensemble_weigh(e);
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(tbg_ensemble_write(e, &s, path));
    tbg_ensemble_free(e);
    tbg_molecule_free(m);
}

static void check(const char *name, const char *from, const char *forcefield, double temperature) {
    tbg_ensemble *e, *old;
    tbg_system *system;
    tbg_engine *engine;
    char path[256];
    double energy[N];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(tbg_ensemble_read(path, &e));
    snprintf(path, sizeof path, "%s/%s", folder, from);
    assert_ok(tbg_ensemble_read(path, &old));
    assert_string_equal(e->info.forcefield, forcefield);
    assert_true(e->info.temperature == temperature);
    assert_ok(tbg_system_create(e->molecule, forcefield, -1, &system));
    assert_ok(tbg_engine_create("reference", e->molecule, system, 1, &engine));
    assert_ok(tbg_engine_evaluate(engine, N, old->positions, energy, NULL, NULL));
    assert_int_equal(e->n, N);
    for (int i = 0; i < N; i++) {
        double u = energy[i] / (TBG_BOLTZMANN * temperature);
        assert_true(e->log_q[i] == old->log_q[i]);
        if (i == 3) {
            assert_false(tbg_ensemble_is_valid(e, i));
            assert_true(e->log_weight[i] == -INFINITY);
        } else
            assert_true(fabs(e->log_weight[i] - (-u - e->log_q[i])) < 1e-6);
    }
    snprintf(path, sizeof path, "%s/%s/report.html", folder, name);
    assert_int_equal(access(path, R_OK), 0);
    tbg_engine_free(engine);
    tbg_system_free(system);
    tbg_ensemble_free(e);
    tbg_ensemble_free(old);
}

static void other_energies(void **state) {
    (void)state;
    make("a", 1);
    assert_int_equal(run("a -o same"), 0);
    check("same", "a", "amber99sbildn-obc", 300);
    assert_int_equal(run("a -o warm -T 330"), 0);
    check("warm", "a", "amber99sbildn-obc", 330);
    assert_int_equal(run("warm -o other -f amber14-obc1 -T 310 --threads 3"), 0);
    check("other", "a", "amber14-obc1", 310);
}

static void refusals(void **state) {
    (void)state;
    make("a", 1);
    make("plain", 0);
    assert_int_equal(run("a"), 2);
    assert_int_equal(run("a -o a"), 2);
    assert_int_equal(run("nowhere -o b"), 2);
    assert_true(says("nowhere"));
    assert_int_equal(run("plain -o b"), 2);
    assert_true(says("no densities"));
    assert_int_equal(run("a -o b -f amber12"), 2);
    assert_true(says("amber12"));
    assert_int_equal(run("a -o b -T -3"), 2);
    assert_int_equal(run("a -o b -e abacus"), 2);
    assert_true(says("abacus"));
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(other_energies), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
