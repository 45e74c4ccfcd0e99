/* test_device_steps.c: optimiser steps of the CUDA backend's device, emulated on the host, against the
 * processor's: the block's arithmetic with made-up gradients of full rank, and a session's. */
#include "training/device_steps.h"

enum { WARM = 20, STEPS = 9 }; /* the first on the processor: after one gradient most directions have none */

/* The emulated device's memory is the host's: arrays as they are. every: of SOAP's bases, -1: Adam. */
static void made_up(int every, int ema, int decoupled) {
    tbg_optimizer here, there;
    float *w = malloc(N * sizeof *w), *other = malloc(N * sizeof *w), *wt = malloc(N * sizeof *w),
          *g = malloc(N * sizeof *g);
    double *wide_g = malloc(N * sizeof *wide_g);
    unsigned short *half = malloc(N * sizeof *half);
    normal(1, N, 1, w);
    memcpy(other, w, N * sizeof *w);
    assert_ok(tbg_optimizer_create(N, w, ema, &here));
    assert_ok(tbg_optimizer_create(N, w, ema, &there));
    if (every >= 0) {
        assert_ok(tbg_optimizer_use_soap(&here, TENSORS, shapes, every, 1));
        assert_ok(tbg_optimizer_use_soap(&there, TENSORS, shapes, every, 1));
    }
    const tbg_optimizer_arrays arrays = tbg_optimizer_arrays_of(&there);
    tbg_cuda_tensor table[TENSORS];
    tbg_cuda_update_room room;
    tbg_cuda_tensor_table(TENSORS, shapes, arrays.rotated, table, &room);
    assert_int_equal(room.bases, arrays.n_bases);
    double squares[TENSORS], *part = malloc(TENSORS * TBG_CUDA_PARTS * sizeof *part),
                             *wide = malloc((room.wide + 1) * sizeof *wide);
    float *scratch = malloc((room.scratch + 1) * sizeof *scratch);
    int *order = malloc((room.order + 1) * sizeof *order), on_device = 0;
    for (int k = 0; k < WARM + STEPS; k++) {
        const tbg_optimizer_step step = settings(k, decoupled);
        gradient((uint64_t)k, g);
        for (int i = 0; i < N; i++)
            wide_g[i] = g[i];
        tbg_cuda_update u = {.n_tensors = TENSORS,
                             .only_squares = 1,
                             .tensors = table,
                             .gradient = wide_g,
                             .w = other,
                             .wt = wt,
                             .half = half,
                             .m = there.m,
                             .v = there.v,
                             .ema = there.ema,
                             .bases = arrays.bases,
                             .scratch = scratch,
                             .wide = wide,
                             .order = order,
                             .part = part,
                             .squares = squares};
        assert_ok(tbg_cuda_emulation.update(NULL, &u));
        for (int i = 0; i < TENSORS; i++) {
            double sum = 0;
            for (int e = 0; e < shapes[i].rows * shapes[i].columns; e++)
                sum += wide_g[shapes[i].offset + (size_t)e] * wide_g[shapes[i].offset + (size_t)e];
            assert_true(fabs(squares[i] - sum) <= 1e-12 * sum && sum > 0);
        }
        tbg_optimizer_update(&here, &step, w, g, 1);
        const int ready = tbg_optimizer_ready(&there, TENSORS, squares);
        assert_int_equal(ready,
                         every <= 0 || k > 0); /* SOAP's first step is the processor's: it finds bases */
        if (k < WARM) {
            tbg_optimizer_update(&there, &step, other, g, 1);
            continue;
        }
        const tbg_adam_constants c = tbg_optimizer_next(&there, &step);
        u.only_squares = 0;
        u.constants = c;
        u.refine = every > 0 && there.steps % every == 0;
        assert_ok(tbg_cuda_emulation.update(NULL, &u));
        on_device++;
    }
    assert_int_equal(on_device, STEPS);
    double error = difference(N, other, w);
    error = worst(error, difference(N, there.m, here.m));
    error = worst(error, difference(N, there.v, here.v));
    if (ema)
        error = worst(error, difference(N, there.ema, here.ema));
    if (arrays.n_bases) {
        const tbg_optimizer_arrays of_here = tbg_optimizer_arrays_of(&here);
        error = worst(error, difference(arrays.n_bases, arrays.bases, of_here.bases));
    }
    if (getenv("TBG_SHOW_ERRORS"))
        fprintf(stderr, "every %d, ema %d, decoupled %d: %.2g\n", every, ema, decoupled, error);
    assert_true(error < 1e-5);
    free(w), free(other), free(wt), free(g), free(wide_g), free(half), free(part), free(wide), free(scratch);
    free(order);
    tbg_optimizer_free(&here);
    tbg_optimizer_free(&there);
}

static void blocks(void **state) {
    (void)state;
    made_up(-1, 0, 0);
    made_up(-1, 1, 1);
    made_up(0, 1, 1);
    made_up(100, 1, 1); /* bases stay */
    made_up(3, 1, 1);
    made_up(1, 0, 1);
}

static void emulated(void **state) {
    (void)state;
    steps_on("cuda-emulation");
}

/* A backend without a device has no steps. */
static void processors(void **state) {
    (void)state;
    problem p = make(8);
    tbg_session *session;
    static const char *const names[] = {"cpu", "reference"};
    for (int k = 0; k < 2; k++) {
        assert_ok(tbg_session_create(p.model, names[k], ATOMS, 1, &session));
        assert_false(tbg_session_steps(session));
        tbg_session_free(session);
    }
    drop(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks), cmocka_unit_test(emulated),
                                       cmocka_unit_test(processors)};
    return cmocka_run_group_tests_name("steps on a device", tests, NULL, NULL);
}
