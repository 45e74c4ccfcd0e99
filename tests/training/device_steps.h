/* device_steps.h: optimiser steps of a CUDA session against the processor's, on a device (test_cuda_steps.c)
 * or emulated on the host (test_device_steps.c), where what the network then reads is looked at. */
#ifndef TBG_TESTS_DEVICE_STEPS_H
#define TBG_TESTS_DEVICE_STEPS_H
#include "tbg_test.h"
#include "network/cuda_state.h"
#include "training/gradients.h"
#include <string.h>

/* |a - b| / |b| */
static inline double difference(size_t n, const float *a, const float *b) {
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return size > 0 ? sqrt(error / size) : sqrt(error);
}

static inline double worst(double so_far, double e) {
    return e <= so_far ? so_far : e; /* NaN stays */
}

static inline tbg_optimizer_step settings(int k, int decoupled) {
    return (tbg_optimizer_step){.learning_rate = 1e-2 / (1 + k),
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .epsilon = 1e-8,
                                .weight_decay = 0.1,
                                .ema = 0.9,
                                .decoupled = decoupled,
                                .gradient_scale = k % 2 ? 0.5 : 1};
}

enum { ATOMS = 7, BATCH = 4 };

typedef struct {
    tbg_model *model;
    tbg_conditioning *molecule;
    const tbg_conditioning *list[BATCH];
    double t[BATCH], weight[BATCH], x[BATCH * ATOMS * 3], target[BATCH * ATOMS * 3];
} problem;

static inline problem make(int hidden) {
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

static inline void drop(problem *p) {
    tbg_conditioning_free(p->molecule);
    tbg_model_free(p->model);
}

/* Adam (every -1) or SOAP: the step is that of the processor with the gradient that came back, and what the
 * network reads then, in each of its forms, is what it reads after a refresh with the weights that came back.
 */
static inline void of_session(const char *backend, int hidden, int every) {
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

static inline void steps_on(const char *backend) {
    of_session(backend, 10, -1);
    of_session(backend, 10, 100); /* bases stay: turned, those of directions without gradient are arbitrary */
    of_session(backend, 64, 100); /* the tensor path reads bf16 weights */
}
#endif
