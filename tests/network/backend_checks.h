/* backend_checks.h: what every fast backend is held to, by its name: each quantity of one configuration
 * against the reference, and ragged batches against single calls. Single precision inside: errors are
 * relative to the largest element of an array (of a tensor, for gradients). Observed on random models, CPU:
 * beside the tolerances. */
#ifndef TBG_TESTS_BACKEND_CHECKS_H
#define TBG_TESTS_BACKEND_CHECKS_H
#include "network/vectors.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double velocity_tolerance = 1e-5;   /* also loss, tangent; observed 1.6e-6, 4.5e-7, 1.2e-6 */
static const double gradient_tolerance = 1e-4;   /* also dx; observed 3.6e-5, 1.2e-6 */
static const double divergence_tolerance = 1e-5; /* observed 3.4e-7 */

typedef struct {
    int atoms, hidden, layers, edge_features, harmonic, time_u, tanh, attention;
} variant;

/* A model whose activations are of order one, as trained ones are, and whose coordinate weights are not
 * small. */
static inline tbg_model *model_of(const variant *q) {
    tbg_network_spec spec = improved_spec();
    spec.hidden = q->hidden;
    spec.layers = q->layers;
    spec.edge_features = q->edge_features;
    spec.harmonic_term = q->harmonic;
    spec.time_u = q->time_u;
    spec.tanh = q->tanh;
    spec.attention = q->attention;
    tbg_model *m;
    assert_ok(tbg_model_create(&spec, 11, &m));
    double *z = random_array(900, m->n_parameters);
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        double width = strstr(p->name, "coord_mlp.2") ? (q->tanh ? 0.3 : 0.03)
                       : strstr(p->name, "gate")      ? 0.1
                                                      : 0;
        for (size_t i = 0; i < (size_t)p->rows * (size_t)p->columns; i++)
            m->values[p->offset + i] += (float)(width * z[p->offset + i] / sqrt(p->columns));
    }
    free(z);
    return m;
}

/* Largest error of a gradient, tensor by tensor. The floor is the tensor's largest element, and at least 1e-6
 * of the whole gradient's (a tensor may be a sum that nearly cancels). */
static inline double gradient_error(const tbg_model *m, const double *got, const double *want) {
    double most = 0, worst_of_all = 0;
    for (size_t i = 0; i < m->n_parameters; i++)
        most = fmax(most, fabs(want[i]));
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        double largest = 1e-6 * most;
        size_t n = (size_t)p->rows * (size_t)p->columns;
        for (size_t i = 0; i < n; i++)
            largest = fmax(largest, fabs(want[p->offset + i]));
        for (size_t i = 0; i < n; i++) {
            double e = compare_error(got[p->offset + i], want[p->offset + i], largest);
            if (!(e <= gradient_tolerance))
                fprintf(stderr, "%s[%zu]: got %.9g, want %.9g\n", p->name, i, got[p->offset + i],
                        want[p->offset + i]);
            if (!(e <= worst_of_all))
                worst_of_all = e;
        }
    }
    return worst_of_all;
}

/* ---- one configuration ---- */

typedef struct {
    double *v, *g, *dx, *g_vjp, *v_dot, loss, divergence;
    float *f;
} answers;

typedef struct {
    tbg_model *model;
    tbg_conditioning *chain;
    int n;
    double t, *x, *target, *x_dot;
    answers want; /* of the reference, once asked */
} setup;

static inline answers answers_of(size_t n3, size_t np) {
    answers a = {.v = calloc(n3, sizeof(double)),
                 .g = calloc(np, sizeof(double)),
                 .dx = calloc(n3, sizeof(double)),
                 .g_vjp = calloc(np, sizeof(double)),
                 .v_dot = calloc(n3, sizeof(double)),
                 .f = calloc(np, sizeof(float))};
    return a;
}

static inline void free_answers(answers *a) {
    free(a->v);
    free(a->g);
    free(a->dx);
    free(a->g_vjp);
    free(a->v_dot);
    free(a->f);
}

static inline setup make(const variant *q) {
    const size_t n3 = 3 * (size_t)q->atoms;
    setup s = {.n = q->atoms, .t = 0.7};
    s.model = model_of(q);
    s.chain = made_up_chain(q->atoms, s.model->spec.n_features, 50);
    s.x = random_array(60, n3);
    s.target = random_array(61, n3);
    s.x_dot = random_array(62, n3);
    return s;
}

static inline void drop(setup *s) {
    tbg_model_free(s->model);
    tbg_conditioning_free(s->chain);
    free(s->x);
    free(s->target);
    free(s->x_dot);
    free_answers(&s->want);
}

static const double loss_weight = 0.7;

/* Everything that a session can say of one configuration. same_bits: the velocities that come with tangents
 * and divergences are those that come alone. */
static inline void ask(tbg_session *session, const setup *s, int same_bits, answers *a) {
    const tbg_conditioning *c = s->chain;
    const size_t n3 = 3 * (size_t)s->n;
    double *beside[2] = {calloc(n3, sizeof(double)), calloc(n3, sizeof(double))};
    assert_ok(tbg_network_velocity(session, 1, &c, &s->t, s->x, a->v));
    assert_ok(tbg_network_loss(session, 1, &c, &s->t, s->x, s->target, &loss_weight, &a->loss, a->f));
    for (size_t i = 0; i < s->model->n_parameters; i++)
        a->g[i] = (double)a->f[i];
    assert_ok(tbg_network_vjp(session, 1, &c, &s->t, s->x, s->target, a->dx, a->g_vjp));
    assert_ok(tbg_network_divergence(session, 1, &c, &s->t, s->x, beside[0], &a->divergence));
    assert_ok(tbg_network_tangent(session, 1, &c, &s->t, s->x, s->x_dot, beside[1], a->v_dot));
    for (int k = 0; k < 2; k++) {
        if (same_bits)
            assert_memory_equal(beside[k], a->v, n3 * sizeof(double));
        else
            assert_true(compare_arrays(k ? "v beside tangent" : "v beside divergence", n3, beside[k], a->v, 1,
                                       velocity_tolerance) <= velocity_tolerance);
        free(beside[k]);
    }
}

static inline setup make_with_answers(const variant *q) {
    setup s = make(q);
    tbg_session *session;
    s.want = answers_of(3 * (size_t)s.n, s.model->n_parameters);
    assert_ok(tbg_session_create(s.model, "reference", s.n, 1, &session));
    ask(session, &s, 1, &s.want);
    tbg_session_free(session);
    return s;
}

static double worst[6];

/* A backend, created with an environment variable set, against the reference's answers. shift: added to all
 * positions, which must cost no digits. */
static inline void against_answers(const variant *q, setup *s, const char *backend, const char *variable,
                                   const char *value, int same_bits, double shift) {
    static const char *const names[6] = {"velocity", "loss", "tangent", "divergence", "dx", "gradient"};
    const double tolerances[6] = {velocity_tolerance,   velocity_tolerance, velocity_tolerance,
                                  divergence_tolerance, gradient_tolerance, gradient_tolerance};
    const size_t n3 = 3 * (size_t)s->n, np = s->model->n_parameters;
    const answers *want = &s->want;
    answers got = answers_of(n3, np);
    tbg_session *session;
    setenv(variable, value, 1);
    assert_ok(tbg_session_create(s->model, backend, s->n + 3, 1, &session));
    unsetenv(variable);
    for (size_t i = 0; i < n3; i++)
        s->x[i] += shift;
    ask(session, s, same_bits, &got);
    for (size_t i = 0; i < n3; i++)
        s->x[i] -= shift;
    /* A divergence is a sum of 3 N terms of both signs, each of order one: judged on the scale of sqrt(3 N).
     */
    const double error[6] = {
        compare_arrays("velocity", n3, got.v, want->v, 1, velocity_tolerance),
        compare_error(got.loss, want->loss, 0),
        compare_arrays("v_dot", n3, got.v_dot, want->v_dot, 1, velocity_tolerance),
        compare_error(got.divergence, want->divergence, sqrt((double)n3)),
        compare_arrays("dx", n3, got.dx, want->dx, 1, gradient_tolerance),
        fmax(gradient_error(s->model, got.g, want->g), gradient_error(s->model, got.g_vjp, want->g_vjp))};
    for (int w = 0; w < 6; w++) {
        if (!(error[w] <= worst[w]))
            worst[w] = error[w];
        if (!(error[w] <= tolerances[w]))
            fail_msg("%s, %s: %g; %d atoms, H %d, L %d, edge features %d, harmonic %d, time_u %d, tanh %d, "
                     "attention %d",
                     tbg_session_backend(session), names[w], error[w], q->atoms, q->hidden, q->layers,
                     q->edge_features, q->harmonic, q->time_u, q->tanh, q->attention);
    }
    tbg_session_free(session);
    free_answers(&got);
}

static inline void show_errors(void) {
    if (getenv("TBG_SHOW_ERRORS"))
        fprintf(stderr,
                "worst: velocity %.2g, loss %.2g, tangent %.2g, divergence %.2g, dx %.2g, gradient %.2g\n",
                worst[0], worst[1], worst[2], worst[3], worst[4], worst[5]);
}

/* ---- batches ---- */

enum { MOST_BATCH = 37 };

typedef struct {
    tbg_model *model;
    tbg_conditioning *chain[4];
    const tbg_conditioning *molecule[MOST_BATCH];
    int n;
    size_t atoms, first[MOST_BATCH];
    double t[MOST_BATCH], weight[MOST_BATCH], *x, *target, *x_dot;
} batch;

static inline batch make_batch(const variant *q, int n) {
    static const int sizes_of[4] = {5, 1, 9, 4};
    batch s = {.model = model_of(q), .n = n};
    assert_true(n <= MOST_BATCH);
    for (int k = 0; k < 4; k++)
        s.chain[k] = made_up_chain(sizes_of[k], s.model->spec.n_features, (uint64_t)(50 + k));
    for (int b = 0; b < n; b++) {
        s.molecule[b] = s.chain[b % 4];
        s.first[b] = s.atoms;
        s.atoms += (size_t)s.molecule[b]->n_atoms;
        s.t[b] = (b + 0.5) / n;
        s.weight[b] = 1.0 / (1 + b);
    }
    s.x = random_array(70, 3 * s.atoms);
    s.target = random_array(71, 3 * s.atoms);
    s.x_dot = random_array(72, 3 * s.atoms);
    return s;
}

static inline void drop_batch(batch *s) {
    for (int k = 0; k < 4; k++)
        tbg_conditioning_free(s->chain[k]);
    free(s->x);
    free(s->target);
    free(s->x_dot);
    tbg_model_free(s->model);
}

typedef struct {
    double *v, *v_dot, *dx, loss[MOST_BATCH], divergence[MOST_BATCH];
    float *g;
} batch_answers;

static inline batch_answers ask_batch(tbg_session *session, const batch *s) {
    batch_answers a = {.v = calloc(3 * s->atoms, sizeof(double)),
                       .v_dot = calloc(3 * s->atoms, sizeof(double)),
                       .dx = calloc(3 * s->atoms, sizeof(double)),
                       .g = calloc(s->model->n_parameters, sizeof(float))};
    assert_ok(tbg_network_divergence(session, s->n, s->molecule, s->t, s->x, NULL, a.divergence));
    assert_ok(tbg_network_velocity(session, s->n, s->molecule, s->t, s->x, a.v));
    assert_ok(tbg_network_tangent(session, s->n, s->molecule, s->t, s->x, s->x_dot, NULL, a.v_dot));
    assert_ok(tbg_network_vjp(session, s->n, s->molecule, s->t, s->x, s->target, a.dx, NULL));
    assert_ok(tbg_network_loss(session, s->n, s->molecule, s->t, s->x, s->target, s->weight, a.loss, a.g));
    return a;
}

static inline void free_batch_answers(batch_answers *a) {
    free(a->v);
    free(a->v_dot);
    free(a->dx);
    free(a->g);
}

/* One molecule at a time, in reverse: the same bits as in the batch; the gradients add up. */
static inline void one_at_a_time(tbg_session *session, const batch *s, const batch_answers *all) {
    const size_t np = s->model->n_parameters;
    double *sum = calloc(np, sizeof *sum), *want = calloc(np, sizeof *want);
    float *one = calloc(np, sizeof *one);
    for (int b = s->n - 1; b >= 0; b--) {
        double alone[27], l, d;
        const size_t at = 3 * s->first[b], size = 3 * (size_t)s->molecule[b]->n_atoms * sizeof(double);
        const tbg_conditioning *const *c = &s->molecule[b];
        const double *t = &s->t[b], *x = s->x + at;
        assert_ok(tbg_network_velocity(session, 1, c, t, x, alone));
        assert_memory_equal(alone, all->v + at, size);
        assert_ok(tbg_network_tangent(session, 1, c, t, x, s->x_dot + at, NULL, alone));
        assert_memory_equal(alone, all->v_dot + at, size);
        assert_ok(tbg_network_vjp(session, 1, c, t, x, s->target + at, alone, NULL));
        assert_memory_equal(alone, all->dx + at, size);
        assert_ok(tbg_network_divergence(session, 1, c, t, x, NULL, &d));
        assert_true(d == all->divergence[b]);
        assert_ok(tbg_network_loss(session, 1, c, t, x, s->target + at, &s->weight[b], &l, one));
        assert_true(l == all->loss[b]);
        for (size_t i = 0; i < np; i++)
            sum[i] += (double)one[i];
    }
    for (size_t i = 0; i < np; i++)
        want[i] = (double)all->g[i];
    assert_true(gradient_error(s->model, want, sum) <= gradient_tolerance);
    double loss[MOST_BATCH]; /* without a gradient: the same */
    assert_ok(tbg_network_loss(session, s->n, s->molecule, s->t, s->x, s->target, s->weight, loss, NULL));
    assert_memory_equal(loss, all->loss, (size_t)s->n * sizeof *loss);
    free(sum);
    free(want);
    free(one);
}

/* A ragged batch asked several times, with these numbers of threads: always the same bits, and each molecule
 * what it gives alone. */
static inline void ragged_batch(const char *backend, const variant *q, int n, int runs, const int *threads) {
    batch s = make_batch(q, n);
    batch_answers first = {0};
    for (int r = 0; r < runs; r++) {
        tbg_session *session;
        assert_ok(tbg_session_create(s.model, backend, 9, threads[r], &session));
        batch_answers a = ask_batch(session, &s);
        if (r == 0)
            first = a;
        else {
            const size_t size = 3 * s.atoms * sizeof(double), each = (size_t)n * sizeof(double);
            assert_memory_equal(a.v, first.v, size);
            assert_memory_equal(a.v_dot, first.v_dot, size);
            assert_memory_equal(a.dx, first.dx, size);
            assert_memory_equal(a.loss, first.loss, each);
            assert_memory_equal(a.divergence, first.divergence, each);
            assert_memory_equal(a.g, first.g, s.model->n_parameters * sizeof(float));
            free_batch_answers(&a);
        }
        if (r == 1)
            one_at_a_time(session, &s, &first);
        tbg_session_free(session);
    }
    free_batch_answers(&first);
    drop_batch(&s);
}
#endif
