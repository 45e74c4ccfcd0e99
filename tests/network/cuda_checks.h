/* cuda_checks.h: the CUDA backend against the reference, on a device (test_cuda.c) or emulated on the host
 * (test_cuda_emulation.c). The plain path is single precision and judged as every backend, and so are
 * velocities, tangents and divergences of the tensor path, whose factors have two parts. A gradient and a
 * drift have bf16 factors: the gradient is judged tensor by tensor, by the norm of its error against the norm
 * of the tensor, and by its share of the whole gradient's where a tensor nearly cancels. */
#include "network/backend_checks.h"

static const double tensor_loss_tolerance = 0.02;
static const double tensor_gradient_tolerance = 0.03;
static const double tensor_drift_tolerance = 0.02; /* of the velocity's norm */
static double worst_tensor, worst_drift, worst_fine[3];

/* Norm of the error, tensor by tensor. */
static double gradient_norm_error(const tbg_model *m, const float *got, const double *want) {
    double all = 0, answer = 0;
    for (size_t i = 0; i < m->n_parameters; i++)
        all += want[i] * want[i];
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        double size = 1e-4 * all, error = 0; /* a hundredth of the whole gradient's norm */
        size_t n = (size_t)p->rows * (size_t)p->columns;
        for (size_t i = p->offset; i < p->offset + n; i++) {
            size += want[i] * want[i];
            error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        }
        double e = sqrt(error / size);
        if (getenv("TBG_SHOW_ERRORS") && e > tensor_gradient_tolerance)
            fprintf(stderr, "%s: %g\n", p->name, e);
        if (!(e <= answer))
            answer = e;
    }
    return answer;
}

/* Velocity, tangent and divergence from factors of two parts; the velocities beside the latter two are it. */
static void fine_path(tbg_session *session, const variant *q, const setup *s) {
    static const char *const names[3] = {"velocity", "tangent", "divergence"};
    const tbg_conditioning *c = s->chain;
    const size_t n3 = 3 * (size_t)q->atoms;
    double *v = calloc(4 * n3, sizeof *v), *v_dot = v + n3, *beside = v_dot + n3, *again = beside + n3, d;
    assert_ok(tbg_network_velocity(session, 1, &c, &s->t, s->x, v));
    assert_ok(tbg_network_tangent(session, 1, &c, &s->t, s->x, s->x_dot, beside, v_dot));
    assert_ok(tbg_network_divergence(session, 1, &c, &s->t, s->x, again, &d));
    assert_memory_equal(v, beside, n3 * sizeof *v);
    assert_memory_equal(v, again, n3 * sizeof *v);
    const double error[3] = {compare_arrays("v", n3, v, s->want.v, 1, velocity_tolerance),
                             compare_arrays("v_dot", n3, v_dot, s->want.v_dot, 1, velocity_tolerance),
                             compare_error(d, s->want.divergence, sqrt((double)n3))};
    for (int k = 0; k < 3; k++) {
        if (!(error[k] <= worst_fine[k]))
            worst_fine[k] = error[k];
        if (!(error[k] <= (k == 2 ? divergence_tolerance : velocity_tolerance)))
            fail_msg("tensor path: %s %g; %d atoms, H %d, L %d, edge features %d", names[k], error[k],
                     q->atoms, q->hidden, q->layers, q->edge_features);
    }
    free(v);
}

static void tensor_path(const char *backend, const variant *q, const setup *s) {
    const tbg_conditioning *c = s->chain;
    float *gradient = calloc(s->model->n_parameters, sizeof *gradient);
    double loss;
    tbg_session *session;
    assert_ok(tbg_session_create(s->model, backend, q->atoms, 1, &session));
    assert_non_null(strstr(tbg_session_backend(session), "tensor"));
    assert_ok(tbg_network_loss(session, 1, &c, &s->t, s->x, s->target, &loss_weight, &loss, gradient));
    double of_loss = compare_error(loss, s->want.loss, 0),
           e = gradient_norm_error(s->model, gradient, s->want.g);
    if (!(e <= worst_tensor))
        worst_tensor = e;
    double error = 0, size = 0, *v = calloc(2 * 3 * (size_t)q->atoms, sizeof *v), *again = v + 3 * q->atoms;
    assert_ok(tbg_network_drift(session, 1, &c, &s->t, s->x, v));
    assert_ok(tbg_network_drift(session, 1, &c, &s->t, s->x, again));
    assert_memory_equal(v, again, 3 * (size_t)q->atoms * sizeof *v);
    for (int k = 0; k < 3 * q->atoms; k++) {
        error += (v[k] - s->want.v[k]) * (v[k] - s->want.v[k]);
        size += s->want.v[k] * s->want.v[k];
    }
    free(v);
    if (!(sqrt(error / size) <= worst_drift))
        worst_drift = sqrt(error / size);
    if (!(sqrt(error / size) <= tensor_drift_tolerance))
        fail_msg("tensor path: drift %g; %d atoms, H %d, L %d", sqrt(error / size), q->atoms, q->hidden,
                 q->layers);
    if (!(of_loss <= tensor_loss_tolerance && e <= tensor_gradient_tolerance))
        fail_msg("tensor path: loss %g, gradient %g; %d atoms, H %d, L %d, edge features %d", of_loss, e,
                 q->atoms, q->hidden, q->layers, q->edge_features);
    fine_path(session, q, s);
    tbg_session_free(session);
    free(gradient);
}

static void against_reference(const char *backend, const variant *q) {
    setup s = make_with_answers(q);
    against_answers(q, &s, backend, "TBG_CUDA_PLAIN", "1", 1, 1000);
    if (q->hidden == 32 || q->hidden == 64 || q->hidden == 128)
        tensor_path(backend, q, &s);
    drop(&s);
}

/* The same bits again, and what each molecule gives alone. */
static void ragged(const char *backend, int hidden) {
    static const int threads[] = {1, 1};
    const variant q = {9, hidden, 2, 7, 1, 1, 1, 1};
    ragged_batch(backend, &q, 11, 2, threads);
}

/* Molecules stay on the device, known by their numbers: one made where another was freed is a new one. */
static void of_molecules(const char *backend) {
    const variant q = {5, 8, 2, 7, 1, 1, 1, 1};
    const size_t n3 = 15;
    tbg_model *m = model_of(&q);
    tbg_session *session, *reference;
    double *x = random_array(60, n3), t = 0.4, v[15], want[15], last[15] = {0};
    assert_ok(tbg_session_create(m, backend, 5, 1, &session));
    assert_ok(tbg_session_create(m, "reference", 5, 1, &reference));
    for (uint64_t k = 0; k < 4; k++) {
        tbg_conditioning *made = made_up_chain(5, m->spec.n_features, 50 + k);
        const tbg_conditioning *c = made;
        for (int again = 0; again < 2; again++) {
            assert_ok(tbg_network_velocity(session, 1, &c, &t, x, v));
            assert_ok(tbg_network_velocity(reference, 1, &c, &t, x, want));
            assert_true(compare_arrays("v", n3, v, want, 1, velocity_tolerance) <= velocity_tolerance);
        }
        assert_memory_not_equal(v, last, sizeof last); /* another molecule's */
        memcpy(last, v, sizeof last);
        tbg_conditioning_free(made);
    }
    free(x);
    tbg_session_free(session);
    tbg_session_free(reference);
    tbg_model_free(m);
}

static void show_cuda_errors(void) {
    show_errors();
    if (getenv("TBG_SHOW_ERRORS"))
        fprintf(stderr,
                "worst of the tensor path: gradient %.2g, drift %.2g, velocity %.2g, tangent %.2g, "
                "divergence %.2g\n",
                worst_tensor, worst_drift, worst_fine[0], worst_fine[1], worst_fine[2]);
}

static const char *backend;
static int on_device; /* sizes that would take the host too long, too */

static void plain(void **state) {
    (void)state;
    const variant list[] = {{2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1},
                            {5, 8, 3, 15, 1, 1, 1, 1},
                            {7, 10, 2, 7, 1, 1, 0, 0},
                            {on_device ? 22 : 6, on_device ? 50 : 16, 2, TBG_EDGE_D0, 0, 0, 0, 1},
                            {1, 8, 2, 7, 1, 1, 1, 1},
                            {4, 12, 2, TBG_EDGE_RATE, 1, 0, 1, 0}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        against_reference(backend, &list[k]);
}

static void tensor(void **state) {
    (void)state;
    static const variant list[] = {{3, 64, 1, TBG_EDGE_D0, 0, 0, 1, 1},  {9, 64, 3, 7, 1, 1, 1, 1},
                                   {12, 64, 2, 15, 1, 1, 0, 0},          {9, 128, 2, 7, 1, 1, 1, 1},
                                   {9, 32, 3, 15, 1, 1, 1, 1},           {22, 64, 5, 7, 1, 1, 1, 1},
                                   {38, 128, 3, TBG_EDGE_D0, 0, 0, 1, 1}};
    const size_t n = sizeof list / sizeof *list - (on_device ? 0 : 2);
    for (size_t k = 0; k < n; k++)
        against_reference(backend, &list[k]);
}

static void batches(void **state) {
    (void)state;
    of_molecules(backend);
    ragged(backend, 16);
    ragged(backend, 64);
    if (on_device)
        ragged(backend, 128);
}

static int run_cuda_checks(const char *name, const char *backend_, int on_device_) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(tensor),
                                       cmocka_unit_test(batches)};
    backend = backend_;
    on_device = on_device_;
    int failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
    show_cuda_errors();
    return failed;
}
