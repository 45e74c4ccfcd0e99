/* test_simulate_command.c: tbg simulate as a user runs it: a run, SIGTERM and --resume, refusals and exit
 * codes. */
#include "tbg_test.h"
#include "tbg/file.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

/* Runs a shell command in the folder; its exit code. %s and so on as printf. */
static int shell(const char *format, ...) {
    char command[1024], whole[1400];
    va_list a;
    va_start(a, format);
    vsnprintf(command, sizeof command, format, a);
    va_end(a);
    snprintf(whole, sizeof whole, "cd %s && { %s ; } 2>err >out", folder, command);
    int status = system(whole);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/tbg-simulate-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return chdir("/tmp") || shell("rm -rf %s", folder) < 0;
}

#define RUN                                                                                                  \
    TBG_PROGRAM                                                                                              \
    " simulate A-NME -f amber99sbildn-obc --runs 2 --replicas 2 --max-temperature 400 -q --threads 1 "

static void a_run_and_its_json(void **state) {
    (void)state;
    assert_int_equal(shell(RUN "--time 0.003 --equilibrate 0.001 --save-every 0.5 --json -o a.nc"), 0);
    char path[128];
    snprintf(path, sizeof path, "%s/out", folder);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "frames")), 12);
    assert_true(json_is_true(json_object_get(root, "complete")));
    json_decref(root);
    assert_int_equal(
        shell("test -s a.nc -a -s a.pdb -a -s a.json -a ! -e a.nc.checkpoint -a ! -e a.nc.frames"), 0);
    /* what is there is not overwritten unasked */
    assert_int_equal(shell(RUN "--time 0.003 --save-every 0.5 -o a.nc"), 2);
    assert_int_equal(shell(RUN "--time 0.002 --equilibrate 0 --save-every 0.5 -o a.nc --overwrite"), 0);
}

static void term_saves_and_resume_equals_no_stop(void **state) {
    (void)state;
    assert_int_equal(shell(RUN "--time 0.1 --equilibrate 0.005 --save-every 0.25 -o whole.nc"), 0);
    assert_int_equal(
        shell(RUN "--time 0.1 --equilibrate 0.005 --save-every 0.25 -o parts.nc & p=$!;"
                  "while ! test -e parts.nc.frames; do sleep 0.02; done; sleep 0.2; kill -TERM $p; wait $p"),
        1);
    assert_int_equal(shell("test -e parts.nc.checkpoint"), 0);
    assert_int_equal(shell(RUN "--time 0.1 --equilibrate 0.005 --save-every 0.25 -o parts.nc"), 2);
    assert_int_equal(shell(RUN "--time 0.1 --equilibrate 0.005 --save-every 0.25 -o parts.nc --resume"), 0);
    assert_int_equal(shell("cmp whole.nc parts.nc && cmp whole.json parts.json"), 0);
}

static void a_longer_time_goes_on(void **state) {
    (void)state;
#define LONGER RUN "--save-every 0.5 --equilibrate 0.001 "
    assert_int_equal(shell(LONGER "--time 0.006 -o once.nc"), 0);
    assert_int_equal(shell(LONGER "--time 0.002 -o twice.nc"), 0);
    assert_int_equal(shell(LONGER "--time 0.006 -o twice.nc 2>said; test $? = 2 && grep -q -e --resume said"),
                     0);
    assert_int_equal(
        shell(LONGER
              "--time 0.006 -o twice.nc --resume 2>said && grep -q 'resumed 0.002 ns into production' said"),
        0);
    assert_int_equal(
        shell("cmp once.nc twice.nc && cmp once.json twice.json && cmp once.nc.state twice.nc.state"), 0);
    assert_int_equal(shell("touch -d '2001-01-01' twice.nc"), 0);
    assert_int_equal(
        shell(LONGER "--time 0.006 -o twice.nc --resume 2>said && grep -q 'complete already: 0.006 ns' said"),
        0);
    assert_int_equal(shell("test ! twice.nc -nt once.nc"), 0);
    assert_int_equal(shell(LONGER "--time 0.008 --seed 9 -o twice.nc --resume"), 2);
    assert_int_equal(shell("rm twice.nc.state"), 0);
    assert_int_equal(shell(LONGER "--time 0.008 -o twice.nc --resume"), 2);
    assert_int_equal(shell(LONGER "--time 0.002 -o once.nc --resume --overwrite"), 0);
    assert_int_equal(shell("test $(stat -c %%s once.nc) -lt $(stat -c %%s twice.nc)"), 0);
}

static void wrong_usage_is_refused(void **state) {
    (void)state;
    assert_int_equal(shell(RUN "-o x.nc"), 2); /* no time */
    assert_int_equal(shell(RUN "--time 1"), 2);
    assert_int_equal(shell(RUN "--time -1 -o x.nc"), 2);
    assert_int_equal(shell(RUN "--time 1 --timestep 0 -o x.nc"), 2);
    assert_int_equal(shell(TBG_PROGRAM " simulate XX -f amber14-obc1 --time 1 -o x.nc"), 2);
    assert_int_equal(shell(TBG_PROGRAM " simulate AA -f nonsense --time 1 -o x.nc"), 2);
    assert_int_equal(shell(RUN "--time 0.001 -o missing-folder/x.nc"), 2);
    assert_int_equal(shell(RUN "--time 0.001 --flatten psi -o x.nc 2>said; test $? = 2 && grep -q psi said"),
                     0);
    assert_int_equal(shell(RUN "--time 0.001 --flatten phi --flatten-time -1 -o x.nc"), 2);
    assert_int_equal(shell(RUN "--time 0.001 --flatten phi --flatten-cap 1000 -o x.nc"), 2);
    assert_int_equal(shell(RUN "--time 0.001 --flatten phi --friction 0 -o x.nc"), 2);
    assert_int_equal(shell("test -e x.nc"), 1);
}

/* A flattened run: its weights are in the file, what reads it knows them. */
static void a_flattened_run(void **state) {
    (void)state;
#define FLAT                                                                                                 \
    TBG_PROGRAM " simulate ACE-ALA-NME -f amber99sbildn-obc --runs 2 --replicas 8 -q --threads 1 "           \
                "--flatten phi --flatten-time 2 --equilibrate 0 --save-every 0.1 "
    assert_int_equal(shell(FLAT "--time 0.004 -o flat.nc 2>said && grep -q 'flatten 1 phi torsion' said"), 0);
    assert_int_equal(shell(TBG_PROGRAM " info flat.nc | grep -q log_weight"), 0);
    assert_int_equal(shell(FLAT "--time 0.005 -o flat.nc --resume && grep -q '\"frames\": 100' flat.json"),
                     0);
    assert_int_equal(shell(FLAT "--time 0.005 -o flat.nc --resume --flatten none 2>said;"
                                "test $? = 2 && grep -q flatten said"),
                     0);
    assert_int_equal(
        shell(TBG_PROGRAM
              " reference flat.nc -b 0 -n 20 -o ref.nc 2>/dev/null | grep -q '20 draws from 100'"),
        0);
    assert_int_equal(shell("grep -q effective_frames ref.json"), 0);
    assert_int_equal(shell(TBG_PROGRAM " reference flat.nc flat.nc -b 0 -n 20 -o two.nc 2>said;"
                                       "test $? = 2 && grep -q log_weight said && test ! -e two.nc"),
                     0);
    assert_int_equal(shell(TBG_PROGRAM " density ACE-ALA-NME flat.nc --model " TBG_SOURCE_DIR
                                       "/models/ad-improved.safetensors 2>said;"
                                       "test $? = 2 && grep -q log_weight said"),
                     0);
    assert_int_equal(shell(TBG_PROGRAM " simulate ACE-PRO-NME -f amber99sbildn-obc --runs 1 --time 0.001 -q "
                                       "--equilibrate 0 --save-every 0.5 --flatten phi --flatten-time 1 "
                                       "-o ring.nc 2>said && grep -q 'nothing to flatten' said"),
                     0);
    assert_int_equal(shell(TBG_PROGRAM " info ring.nc --json | grep -q log_weight"), 1);
}

/* A data set: everything of the list, what is there stays, what is broken off goes on; refusals. */
static void lists(void **state) {
    (void)state;
#define LIST                                                                                                 \
    TBG_PROGRAM " simulate -f amber99sbildn-obc --runs 1 -q --threads 1 --time 0.002 --equilibrate 0 "       \
                "--save-every 0.5 "
    assert_int_equal(shell("echo '{\"a\": [\"G-NME\", \"A-NME\"], \"b\": [\"../x\"], \"c\": 3}' > list.json"),
                     0);
    assert_int_equal(shell(LIST "--list list.json:a -o set"), 0);
    assert_int_equal(shell("test -s set/G-NME.nc -a -s set/A-NME.nc -a -s set/A-NME.json"), 0);
    assert_int_equal(shell("sha256sum set/*.nc > sums; touch -d '2001-01-01' set/A-NME.nc; rm set/G-NME.nc"),
                     0);
    assert_int_equal(shell(LIST "--list list.json:a -o set"), 0);
    assert_int_equal(shell("sha256sum -c sums && test ! set/A-NME.nc -nt list.json"), 0);
    /* two molecules at a time: the same bits */
    assert_int_equal(shell(LIST "--list list.json:a -o two --threads 2 --replicas 2"), 0);
    assert_int_equal(shell(LIST "--list list.json:a -o one --replicas 2"), 0);
    assert_int_equal(shell("cmp one/G-NME.nc two/G-NME.nc && cmp one/A-NME.nc two/A-NME.nc"), 0);
    assert_int_equal(shell(LIST "--list list.json:a -o four --threads 2 --json >said && "
                                "test $(grep -c '\"complete\": true' said) = 2"),
                     0);
    assert_int_equal(shell("echo '{\"a\": [\"A-NME\", \"AXA\", \"G-NME\"]}' > bad.json"), 0);
    assert_int_equal(shell(LIST "--list bad.json:a -o three --threads 2 2>said"), 2);
    assert_int_equal(shell("grep -q 'AXA: .*position 2' said"), 0);
    /* longer: only when asked for */
    assert_int_equal(shell(LIST "--list list.json:a -o set --time 0.003"), 0);
    assert_int_equal(shell("sha256sum -c sums"), 0);
    assert_int_equal(shell(LIST "--list list.json:a -o set --time 0.003 --resume"), 0);
    assert_int_equal(
        shell("grep -q '\"frames\": 6' set/A-NME.json && grep -q '\"frames\": 6' set/G-NME.json"), 0);
    assert_int_equal(shell(LIST "--list list.json:b -o set"), 2);
    assert_int_equal(shell(LIST "--list list.json:c -o set"), 2);
    assert_int_equal(shell(LIST "--list list.json -o set"), 2);
    assert_int_equal(shell(LIST "--list list.json:a A-NME -o set"), 2);
    assert_int_equal(shell(LIST "-o set"), 2);
    assert_int_equal(shell(LIST "A-NME --device gpu -o x.nc"), 2);
    /* where there is no device it says so before any work */
    assert_int_equal(shell(LIST "A-NME --device cuda -o x.nc 2>said; s=$?; test $s = 0 || "
                                "{ test $s = 1 && grep -q CUDA said && test ! -e x.nc.frames; }"),
                     0);
}

/* tools/make_dataset.sh: makes, keeps, notices a changed file. */
static void the_data_set_script(void **state) {
    (void)state;
#define SCRIPT                                                                                               \
    "TBG=" TBG_PROGRAM " SPLITS=list.json OUT=data " TBG_SOURCE_DIR                                          \
    "/tools/make_dataset.sh a --device cpu -q --threads 1 "                                                  \
    "--forcefield amber99sbildn-obc --time 0.002 --equilibrate 0 --save-every 0.5 --runs 1 --replicas 2 "
    assert_int_equal(shell("echo '{\"a\": [\"G-NME\", \"A-NME\"]}' > list.json"), 0);
    assert_int_equal(shell(SCRIPT), 0);
    assert_int_equal(shell("test $(wc -l < data/SHA256SUMS) = 2 && cd data && sha256sum -c SHA256SUMS"), 0);
    assert_int_equal(shell(SCRIPT), 0);
    assert_int_equal(shell("test $(wc -l < data/SHA256SUMS) = 2 && sleep 1"), 0);
    assert_int_equal(shell(SCRIPT "--time 0.003 --resume"), 0); /* longer: the list follows */
    assert_int_equal(shell("grep -q '\"frames\": 6' data/A-NME.json"), 0);
    assert_int_equal(shell("test $(wc -l < data/SHA256SUMS) = 2 && cd data && sha256sum -c SHA256SUMS"), 0);
    assert_int_equal(shell("echo x >> data/A-NME.nc"), 0);
    assert_int_equal(shell(SCRIPT), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_and_its_json),
        cmocka_unit_test(a_longer_time_goes_on),
        cmocka_unit_test(term_saves_and_resume_equals_no_stop),
        cmocka_unit_test(wrong_usage_is_refused),
        cmocka_unit_test(a_flattened_run),
        cmocka_unit_test(lists),
        cmocka_unit_test(the_data_set_script),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
