/* tbg build as a user runs it: exit codes, messages, the same bytes every time, valid minimised structures.
 */
#include "tbg_test.h"
#include "tbg/dynamics.h"
#include "tbg/energy.h"
#include "tbg/file.h"
#include "tbg/molecule.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/tbg-build-XXXXXX";

/* Run the program with these arguments in the shell; its messages go to folder/messages. */
static int run(const char *arguments) {
    char command[2048];
    snprintf(command, sizeof command, "cd %s && '%s' %s >output 2>messages", folder, TBG_PROGRAM, arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *contents(const char *name) {
    char path[256], *data;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(tbg_file_read(path, 1 << 20, &data, NULL));
    return data;
}

static void says(const char *word) {
    char *text = contents("messages");
    if (!strstr(text, word))
        fail_msg("'%s' expected in: %s", word, text);
    free(text);
}

static void same_bytes(void **state) {
    (void)state;
    assert_int_equal(run("build AC -o a.pdb"), 0);
    assert_int_equal(run("build ALA-CYS --output=b.pdb"), 0);
    char *a = contents("a.pdb"), *b = contents("b.pdb");
    assert_string_equal(a, b);
    free(a);
    free(b);
}

/* The minimised file is valid, and lower in energy than the ideal geometry. */
static void minimises(void **state) {
    (void)state;
    static const char *const NAMES[] = {"ACE-ALA-NME", "GG", "PW", "IT"};
    for (int i = 0; i < 4; i++) {
        double energies[2];
        char command[128], path[256];
        for (int raw = 0; raw < 2; raw++) {
            snprintf(command, sizeof command, "build %s -o x.pdb%s", NAMES[i], raw ? " --no-minimize" : "");
            assert_int_equal(run(command), 0);
            snprintf(path, sizeof path, "%s/x.pdb", folder);
            tbg_molecule *m;
            tbg_checker *c;
            tbg_system *s;
            tbg_engine *e;
            assert_ok(tbg_molecule_read_pdb(path, &m));
            assert_ok(tbg_checker_create(m, &c));
            assert_int_equal(tbg_check(c, (double *)m->positions), TBG_VALID);
            assert_ok(tbg_system_create(m, "amber14-obc1", -1, &s));
            assert_ok(tbg_engine_create("reference", m, s, 1, &e));
            assert_ok(tbg_engine_evaluate(e, 1, (double *)m->positions, &energies[raw], NULL, NULL));
            tbg_engine_free(e);
            tbg_system_free(s);
            tbg_checker_free(c);
            tbg_molecule_free(m);
        }
        assert_true(energies[0] < energies[1] - 5);
    }
}

static void refuses(void **state) {
    (void)state;
    assert_int_equal(run("build"), 2);
    assert_int_equal(run("build AC"), 2);
    says("--output");
    assert_int_equal(run("build AXC -o no.pdb"), 2);
    says("position 2");
    assert_int_equal(run("build CYX-A -o no.pdb"), 2);
    says("disulfide");
    assert_int_equal(run("build AC -o no.pdb --forcefield nope"), 2);
    says("unknown force field 'nope'");
    assert_int_equal(run("build AC -o no.pdb --forcefield gfn2-xtb"), 2);
    says("classical");
    assert_int_equal(run("build AC -o no/such/folder/no.pdb"), 1);
    char path[256];
    snprintf(path, sizeof path, "%s/no.pdb", folder);
    assert_true(access(path, F_OK) != 0);
    assert_int_equal(run("build ALA -o ala.pdb --no-minimize"), 0);
    says("three one-letter codes");
    assert_int_equal(run("build --help"), 0);
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bytes), cmocka_unit_test(minimises),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
