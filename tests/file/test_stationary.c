/* test_stationary.c: frames that the diagnostics of tbg simulate call not stationary are left out, of the
 * runs that were diagnosed only; diagnostics that say something else or nothing leave the file as it is. */
#include "tbg_test.h"
#include "file/stationary.h"
#include "file/temporary.h"

#include <stdlib.h>

enum { RUNS = 3, PER_RUN = 10, FRAMES = RUNS * PER_RUN };

/* Frame f of the file stands at x = f. runs: in how many runs the frames come. */
static const char *write_file(const char *metadata, int runs) {
    static const char *const names[] = {"run", "log_weight"};
    tbg_trajectory_header header = {
        .n_atoms = 1, .n_extra = runs ? 2 : 0, .extra_names = names, .metadata_json = metadata};
    const char *path = temporary_path("s.nc");
    tbg_trajectory_writer *w;
    assert_ok(tbg_trajectory_create(path, &header, 0, NULL, &w));
    for (int f = 0; f < FRAMES; f++) {
        double x[3] = {f, 0, 0}, extra[2] = {runs ? f * runs / FRAMES : 0, 100 + f}, time = 5 * f;
        assert_ok(tbg_trajectory_append(w, 1, x, &time, runs ? extra : NULL));
    }
    assert_ok(tbg_trajectory_close(w));
    return path;
}

/* The numbers of the frames that are read must be those of `want`, which ends with -1. */
static void reads(const char *path, int first, int stride, int limit, int dropped, const int *want) {
    tbg_trajectory *t;
    int64_t n;
    assert_ok(tbg_trajectory_read_stationary(path, first, stride, limit, &n, &t));
    assert_int_equal(n, dropped);
    const double *weight = tbg_trajectory_extra(t, "log_weight");
    int k = 0;
    for (; want[k] >= 0; k++) { /* everything of a frame stays together */
        assert_true(k < t->n_frames && fabsf(t->positions[3 * k] - (float)want[k]) < 1e-4f);
        assert_true(t->time[k] == 5 * want[k] && (!weight || weight[k] == 100 + want[k]));
    }
    assert_int_equal(t->n_frames, k);
    tbg_trajectory_free(t);
}

#define RUN(drop) "{\"frames_to_drop\": " drop "}"
#define DIAGNOSTICS(frames, per_run, list)                                                                   \
    "{\"frames\": " frames ", \"frames_per_run\": " per_run ", \"equilibration\": {\"runs\": [" list "]}}"
static const char *const usual = DIAGNOSTICS("30", "10", RUN("0") "," RUN("8") "," RUN("3"));

static void are_left_out(void **state) {
    (void)state;
    const char *path = write_file(usual, RUNS);
    reads(path, 0, 1, 0, 11,
          (const int[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 18, 19, 23, 24, 25, 26, 27, 28, 29, -1});
    /* What is asked for besides: frames at the start of the file, then every other of the rest, then so many.
     */
    reads(path, 7, 1, 0, 11, (const int[]){7, 8, 9, 18, 19, 23, 24, 25, 26, 27, 28, 29, -1});
    reads(path, 12, 1, 0, 9, (const int[]){18, 19, 23, 24, 25, 26, 27, 28, 29, -1});
    reads(path, 7, 3, 0, 11, (const int[]){7, 18, 24, 27, -1});
    reads(path, 7, 3, 2, 11, (const int[]){7, 18, -1});
    reads(path, 40, 1, 0, 0, (const int[]){-1});
    tbg_trajectory *t;
    assert_int_equal(tbg_trajectory_read_stationary(path, 0, 0, 0, NULL, &t), TBG_INPUT);
    assert_int_equal(tbg_trajectory_read_stationary(path, -1, 1, 0, NULL, &t), TBG_INPUT);
    assert_int_equal(tbg_trajectory_read_stationary("none.nc", 0, 1, 0, NULL, &t), TBG_INPUT);
    path = write_file(DIAGNOSTICS("30", "30", RUN("28")), 0); /* a single run needs no number */
    reads(path, 0, 1, 0, 28, (const int[]){28, 29, -1});
}

static void only_where_they_are_these(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int runs;
    } other[] = {{NULL, RUNS},
                 {"", RUNS},
                 {"{", RUNS},
                 {"[1, 2]", RUNS},
                 {"{\"equilibration\": 3}", RUNS},
                 {DIAGNOSTICS("30", "10", ""), RUNS},
                 {DIAGNOSTICS("30", "10", RUN("0") "," RUN("0") "," RUN("0")), RUNS},
                 {DIAGNOSTICS("60", "20", RUN("0") "," RUN("8") "," RUN("3")), RUNS}, /* thinned since */
                 {DIAGNOSTICS("30", "15", RUN("4") "," RUN("8")), RUNS},              /* other runs */
                 {DIAGNOSTICS("30", "10", RUN("0") "," RUN("8") "," RUN("3")), 2},
                 {DIAGNOSTICS("30", "10", RUN("0") "," RUN("8") "," RUN("3")), 0},
                 {DIAGNOSTICS("30", "10", RUN("0") "," RUN("8")), RUNS},
                 {DIAGNOSTICS("30", "10", RUN("0") "," RUN("10") "," RUN("3")), RUNS}, /* nothing of a run */
                 {DIAGNOSTICS("30", "10", RUN("-1") "," RUN("8") "," RUN("3")), RUNS},
                 {DIAGNOSTICS("30", "10", RUN("1.5") "," RUN("8") "," RUN("3")), RUNS},
                 {DIAGNOSTICS("30", "10", RUN("null") "," RUN("8") "," RUN("3")), RUNS},
                 {DIAGNOSTICS("30", "10", "7, 8, 9"), RUNS},
                 {DIAGNOSTICS("-30", "-10", RUN("0") "," RUN("8") "," RUN("3")), RUNS},
                 {DIAGNOSTICS("30", "0", RUN("0") "," RUN("8") "," RUN("3")), RUNS},
                 {DIAGNOSTICS("9223372036854775807", "3074457345618258602",
                              RUN("1") "," RUN("8") "," RUN("3074457345618258601")),
                  RUNS}};
    int all[FRAMES + 1];
    for (int f = 0; f <= FRAMES; f++)
        all[f] = f < FRAMES ? f : -1;
    for (size_t k = 0; k < sizeof other / sizeof *other; k++) {
        const char *path = write_file(other[k].text, other[k].runs);
        reads(path, 0, 1, 0, 0, all);
        reads(path, 13, 8, 2, 0, (const int[]){13, 21, -1});
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(are_left_out),
                                       cmocka_unit_test(only_where_they_are_these)};
    return cmocka_run_group_tests_name("stationary", tests, temporary_setup, temporary_teardown);
}
