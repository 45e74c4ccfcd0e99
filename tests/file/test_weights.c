/* test_weights.c: weights of frames, draws in proportion to them, weights that are no numbers. */
#include "tbg_test.h"
#include "file/temporary.h"
#include "tbg/file.h"

#include <math.h>

enum { ATOMS = 2, FRAMES = 40 };

/* Frame f stands at x = f; log_weight: [FRAMES]. with_log_q: as tbg sample writes it. */
static const char *write_file(const double *log_weight, int with_log_q) {
    static const char *const names[] = {"log_weight", "potential_energy", "log_q"};
    tbg_trajectory_header header = {.n_atoms = ATOMS, .n_extra = with_log_q ? 3 : 2, .extra_names = names};
    const char *path = temporary_path("w.nc");
    tbg_trajectory_writer *w;
    assert_ok(tbg_trajectory_create(path, &header, 0, NULL, &w));
    for (int f = 0; f < FRAMES; f++) {
        double x[3 * ATOMS] = {f, 0, 0, 0, f, 1}, extra[3] = {log_weight[f], 10.0 * f, 1}, time = f;
        assert_ok(tbg_trajectory_append(w, 1, x, &time, extra));
    }
    assert_ok(tbg_trajectory_close(w));
    return path;
}

static tbg_trajectory *read_file(const char *path) {
    tbg_trajectory *t;
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
    return t;
}

static void frames_are_drawn_by_weight(void **state) {
    (void)state;
    double log_weight[FRAMES], *weight;
    for (int f = 0; f < FRAMES; f++) /* 4, 1, 1, 2, over and over; one without any */
        log_weight[f] = 300 + (f == 6 ? -INFINITY : f % 4 == 0 ? log(4) : f % 4 == 3 ? log(2) : 0);
    const char *path = write_file(log_weight, 0);
    tbg_trajectory *t = read_file(path);
    assert_ok(tbg_trajectory_weights(t, path, &weight));
    assert_non_null(weight);
    for (int f = 0; f < FRAMES; f++)
        assert_true(fabs(weight[f] - (f == 6 ? 0 : f % 4 == 0 ? 1 : f % 4 == 3 ? 0.5 : 0.25)) < 1e-12);
    int drawn, times[FRAMES] = {0};
    assert_ok(tbg_trajectory_unweight(t, path, &drawn));
    assert_true(drawn && t->n_frames == FRAMES);
    const double *energy = tbg_trajectory_extra(t, "potential_energy");
    for (int k = 0; k < FRAMES; k++) {
        int f = (int)lround(t->positions[k * 3 * ATOMS]);
        times[f]++;
        assert_true(energy[k] == 10.0 * f && t->time[k] == f); /* everything of a frame stays together */
        assert_true(!k || energy[k] >= energy[k - 1]);
    }
    double sum = 0;
    for (int f = 0; f < FRAMES; f++)
        sum += weight[f];
    for (int f = 0; f < FRAMES; f++) /* systematic: never off by one */
        assert_true(fabs(times[f] - FRAMES * weight[f] / sum) < 1 && (f != 6 || !times[f]));
    free(weight);
    /* done once, it stays done */
    assert_ok(tbg_trajectory_weights(t, path, &weight));
    assert_null(weight);
    assert_ok(tbg_trajectory_unweight(t, path, &drawn));
    assert_false(drawn);
    tbg_trajectory_free(t);
}

static void frames_without_weights_stay(void **state) {
    (void)state;
    double log_weight[FRAMES] = {0}, *weight;
    tbg_trajectory *t = read_file(write_file(log_weight, 0)); /* all alike */
    assert_ok(tbg_trajectory_weights(t, "w.nc", &weight));
    assert_null(weight);
    tbg_trajectory_free(t);
    log_weight[3] = 2;
    t = read_file(write_file(log_weight, 1)); /* generated samples: their weights are another matter */
    assert_ok(tbg_trajectory_weights(t, "w.nc", &weight));
    assert_null(weight);
    tbg_trajectory_free(t);
    int64_t index[8];
    tbg_weights_draw(1, (double[]){0.3}, 8, index);
    for (int k = 0; k < 8; k++)
        assert_int_equal(index[k], 0);
    tbg_weights_draw(3, (double[]){0, 5, 0}, 8, index);
    for (int k = 0; k < 8; k++)
        assert_int_equal(index[k], 1);
    tbg_weights_draw(0, NULL, 0, index);
}

static void weights_that_are_none(void **state) {
    (void)state;
    static const double bad[] = {NAN, INFINITY};
    double log_weight[FRAMES], *weight;
    for (int k = 0; k < 3; k++) {
        for (int f = 0; f < FRAMES; f++)
            log_weight[f] = k == 2 ? -INFINITY : 0.1 * f;
        if (k < 2)
            log_weight[7] = bad[k];
        tbg_trajectory *t = read_file(write_file(log_weight, 0));
        assert_int_equal(tbg_trajectory_weights(t, "w.nc", &weight), TBG_INPUT);
        assert_non_null(strstr(tbg_message(), "w.nc"));
        assert_null(weight);
        assert_int_equal(tbg_trajectory_unweight(t, "w.nc", NULL), TBG_INPUT);
        tbg_trajectory_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_drawn_by_weight),
        cmocka_unit_test(frames_without_weights_stay),
        cmocka_unit_test(weights_that_are_none),
    };
    return cmocka_run_group_tests(tests, temporary_setup, temporary_teardown);
}
