/* test_device_steps.c: optimiser steps of the CUDA backend's device, emulated on the host, against the
 * processor's: with made-up gradients of full rank, and with a network's, where what the network then reads
 * is looked at. */
#include "tbg_test.h"
#include "network/cuda_state.h"
#include "training/gradients.h"
#include <string.h>

/* |a - b| / |b| */
static double difference(size_t n, const float *a, const float *b) {
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return size > 0 ? sqrt(error / size) : sqrt(error);
}

static double worst(double so_far, double e) {
    return e <= so_far ? so_far : e; /* NaN stays */
}

static tbg_optimizer_step settings(int k, int decoupled) {
    return (tbg_optimizer_step){.learning_rate = 1e-2 / (1 + k),
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .epsilon = 1e-8,
                                .weight_decay = 0.1,
                                .ema = 0.9,
                                .decoupled = decoupled,
                                .gradient_scale = k % 2 ? 0.5 : 1};
}

/* ---- the block's arithmetic ---- */

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

/* ---- a session's ---- */

enum { ATOMS = 7, BATCH = 4 };

typedef struct {
    tbg_model *model;
    tbg_conditioning *molecule;
    const tbg_conditioning *list[BATCH];
    double t[BATCH], weight[BATCH], x[BATCH * ATOMS * 3], target[BATCH * ATOMS * 3];
} problem;

static problem make(int hidden) {
    problem p = {0};
    tbg_network_spec spec;
    assert_ok(tbg_network_preset("ad-full", &spec));
    spec.features = TBG_FEATURES_RAW;
    spec.n_features = 4;
    spec.hidden = hidden;
    spec.layers = 2;
    double features[ATOMS * 4];
    tbg_random_normal(2, TBG_STREAM(TBG_STREAM_TEST, 1), 0, ATOMS * 4, features);
    assert_ok(tbg_conditioning_from_features(ATOMS, 4, features, &p.molecule));
    assert_ok(tbg_model_create(&spec, 5, &p.model));
    tbg_random_normal(2, TBG_STREAM(TBG_STREAM_TEST, 2), 0, BATCH * ATOMS * 3, p.x);
    tbg_random_normal(2, TBG_STREAM(TBG_STREAM_TEST, 3), 0, BATCH * ATOMS * 3, p.target);
    for (int b = 0; b < BATCH; b++) {
        p.list[b] = p.molecule;
        p.t[b] = (b + 0.5) / BATCH;
        p.weight[b] = 1.0 / BATCH;
    }
    return p;
}

static void drop(problem *p) {
    tbg_conditioning_free(p->molecule);
    tbg_model_free(p->model);
}

/* Adam (every -1) or SOAP: the step is that of the processor with the gradient that came back, and what the
 * network reads then, in each of its forms, is what it reads after a refresh with the weights that came back.
 */
static void of_session(const char *backend, int hidden, int every) {
    problem p = make(hidden);
    const size_t np = p.model->n_parameters, bytes = np * sizeof(float);
    const int tensors = p.model->n_tensors;
    tbg_session *session;
    tbg_optimizer there, here;
    float *w = malloc(bytes), *g = malloc(bytes);
    double *squares = malloc((size_t)tensors * sizeof *squares), loss[BATCH], before = 0, after[BATCH],
           v[2][BATCH * ATOMS * 3];
    assert_ok(tbg_session_create(p.model, backend, ATOMS, 1, &session));
    assert_true(tbg_session_steps(session));
    memcpy(w, p.model->values, bytes);
    assert_ok(tbg_optimizer_create(np, w, 1, &there));
    assert_ok(tbg_optimizer_create(np, w, 1, &here));
    if (every > 0) {
        assert_ok(tbg_optimizer_use_soap(&there, tensors, p.model->tensors, every, 1));
        assert_ok(tbg_optimizer_use_soap(&here, tensors, p.model->tensors, every, 1));
    }
    const tbg_optimizer_arrays arrays = tbg_optimizer_arrays_of(&there);
    for (int k = 0, placed = 0; k < 4; k++) {
        const tbg_optimizer_step step = settings(k, 1);
        assert_ok(tbg_session_gradient(session, BATCH, p.list, p.t, p.x, p.target, p.weight, loss, squares));
        before = k ? before : loss[0];
        assert_ok(tbg_session_fetch_gradient(session, g));
        tbg_optimizer_update(&here, &step, w, g, 1);
        if (!tbg_optimizer_ready(&there, tensors, squares)) {
            tbg_optimizer_update(&there, &step, p.model->values, g, 1);
            assert_ok(tbg_session_refresh(session));
            continue;
        }
        if (!placed)
            assert_ok(tbg_session_place(session, &arrays));
        placed = 1;
        assert_ok(tbg_optimizer_update_on(&there, &step, session));
    }
    float *untouched = malloc(bytes);
    memcpy(untouched, p.model->values, bytes);
    assert_ok(tbg_session_fetch(session, p.model->values, &arrays));
    assert_true(memcmp(untouched, p.model->values, bytes));
    assert_int_equal(here.steps, there.steps);
    assert_true(difference(np, there.m, here.m) < 1e-5);
    assert_true(difference(np, p.model->values, w) < 1e-4);
    assert_true(difference(np, there.ema, here.ema) < 1e-4);
    assert_ok(tbg_network_velocity(session, BATCH, p.list, p.t, p.x, v[0]));
    assert_ok(tbg_network_loss(session, BATCH, p.list, p.t, p.x, p.target, p.weight, loss, NULL));
    assert_true(loss[0] < before);
    assert_ok(tbg_session_refresh(session));
    assert_ok(tbg_network_velocity(session, BATCH, p.list, p.t, p.x, v[1]));
    assert_ok(tbg_network_loss(session, BATCH, p.list, p.t, p.x, p.target, p.weight, after, NULL));
    assert_memory_equal(v[0], v[1], sizeof v[0]);
    assert_memory_equal(loss, after, sizeof loss);
    tbg_session_free(session);
    tbg_optimizer_free(&there);
    tbg_optimizer_free(&here);
    free(w), free(g), free(squares), free(untouched);
    drop(&p);
}

static void steps_on(const char *backend) {
    of_session(backend, 10, -1);
    of_session(backend, 10, 100); /* bases stay: turned, those of directions without gradient are arbitrary */
    of_session(backend, 64, 100); /* the tensor path reads bf16 weights */
}

static void emulated(void **state) {
    (void)state;
    steps_on("cuda-emulation");
}

static void on_a_device(void **state) {
    (void)state;
    if (!tbg_cuda_present()) {
        fprintf(stderr, "no CUDA device: skipped\n");
        skip();
    }
    steps_on("cuda");
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
                                       cmocka_unit_test(on_a_device), cmocka_unit_test(processors)};
    return cmocka_run_group_tests_name("steps on a device", tests, NULL, NULL);
}
