/* test_cpu.c: the fast CPU backend against the reference: every quantity, over sizes, widths, feature bits
 * and instruction sets; any number of threads gives the same bits; a ragged batch equals single calls. Single
 * precision inside: errors are relative to the largest element of an array (of a tensor, for gradients).
 * Observed on random models: beside the
 * tolerances. */
#include "network/vectors.h"
#include "network/cpu.h"
#include <math.h>

static const double velocity_tolerance = 1e-5;   /* also loss, tangent; observed 1.6e-6, 4.5e-7, 1.2e-6 */
static const double gradient_tolerance = 1e-4;   /* also dx; observed 3.6e-5, 1.2e-6 */
static const double divergence_tolerance = 1e-5; /* observed 3.4e-7 */

typedef struct {
    int atoms, hidden, layers, edge_features, harmonic, time_u, tanh, attention;
} variant;

typedef struct {
    tbg_model *model;
    tbg_conditioning *chain;
    int n;
    double t, *x, *target;
} setup;

/* A model whose activations are of order one, as trained ones are, and whose coordinate weights are not
 * small. */
static tbg_model *model_of(const variant *q) {
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

static setup make(const variant *q) {
    setup s = {.n = q->atoms, .t = 0.7};
    s.model = model_of(q);
    s.chain = made_up_chain(q->atoms, s.model->spec.n_features, 50);
    s.x = random_array(60, 3 * (size_t)q->atoms);
    s.target = random_array(61, 3 * (size_t)q->atoms);
    return s;
}

static void drop(setup *s) {
    tbg_model_free(s->model);
    tbg_conditioning_free(s->chain);
    free(s->x);
    free(s->target);
}

static double worst[6];
static void note(int k, double e) {
    if (!(e <= worst[k]))
        worst[k] = e;
}

/* Largest error of a gradient, tensor by tensor. The floor is the tensor's largest element, and at least 1e-6
 * of the whole gradient's (a tensor may be a sum that nearly cancels). */
static double gradient_error(const tbg_model *m, const double *got, const double *want) {
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

static const char *const levels[] = {"avx512", "avx2", "base"};

typedef struct {
    double *v, *g, *dx, *g_vjp, *v_dot, loss, divergence;
    float *f;
} answers;

static answers answers_of(size_t n3, size_t np) {
    answers a = {.v = calloc(n3, sizeof(double)),
                 .g = calloc(np, sizeof(double)),
                 .dx = calloc(n3, sizeof(double)),
                 .g_vjp = calloc(np, sizeof(double)),
                 .v_dot = calloc(n3, sizeof(double)),
                 .f = calloc(np, sizeof(float))};
    return a;
}

static void free_answers(answers *a) {
    free(a->v);
    free(a->g);
    free(a->dx);
    free(a->g_vjp);
    free(a->v_dot);
    free(a->f);
}

/* Everything that a session can say of one configuration. */
static void ask(tbg_session *session, const setup *s, const double *x_dot, answers *a) {
    const tbg_conditioning *c = s->chain;
    const size_t n3 = 3 * (size_t)s->n;
    double weight = 0.7, *again = calloc(n3, sizeof *again), *third = calloc(n3, sizeof *third);
    assert_ok(tbg_network_velocity(session, 1, &c, &s->t, s->x, a->v));
    assert_ok(tbg_network_loss(session, 1, &c, &s->t, s->x, s->target, &weight, &a->loss, a->f));
    for (size_t i = 0; i < s->model->n_parameters; i++)
        a->g[i] = (double)a->f[i];
    assert_ok(tbg_network_vjp(session, 1, &c, &s->t, s->x, s->target, a->dx, a->g_vjp));
    assert_ok(tbg_network_divergence(session, 1, &c, &s->t, s->x, again, &a->divergence));
    assert_ok(tbg_network_tangent(session, 1, &c, &s->t, s->x, x_dot, third, a->v_dot));
    assert_true(compare_arrays("v beside divergence", n3, again, a->v, 1, velocity_tolerance) <=
                velocity_tolerance);
    assert_true(compare_arrays("v beside tangent", n3, third, a->v, 1, velocity_tolerance) <=
                velocity_tolerance);
    free(again);
    free(third);
}

static void compare(const variant *q, int n_levels, const char *const *names) {
    setup s = make(q);
    const size_t n3 = 3 * (size_t)s.n, np = s.model->n_parameters;
    double *x_dot = random_array(62, n3);
    tbg_session *session;
    answers want = answers_of(n3, np), got = answers_of(n3, np);
    assert_ok(tbg_session_create(s.model, "reference", s.n, 1, &session));
    ask(session, &s, x_dot, &want);
    tbg_session_free(session);
    for (int k = 0; k < n_levels; k++) {
        setenv("TBG_SIMD", names[k], 1);
        assert_ok(tbg_session_create(s.model, "cpu", s.n + 3, 1, &session));
        unsetenv("TBG_SIMD");
        ask(session, &s, x_dot, &got);
        /* A divergence is a sum of 3 N terms of both signs, each of order one: judged on the scale of sqrt(3
         * N). */
        const double error[6] = {
            compare_arrays("velocity", n3, got.v, want.v, 1, velocity_tolerance),
            compare_error(got.loss, want.loss, 0),
            compare_arrays("v_dot", n3, got.v_dot, want.v_dot, 1, velocity_tolerance),
            compare_error(got.divergence, want.divergence, sqrt((double)n3)),
            compare_arrays("dx", n3, got.dx, want.dx, 1, gradient_tolerance),
            fmax(gradient_error(s.model, got.g, want.g), gradient_error(s.model, got.g_vjp, want.g_vjp))};
        int bad = 0;
        for (int w = 0; w < 6; w++) {
            note(w, error[w]);
            bad |= !(error[w] <= (w < 3    ? velocity_tolerance
                                  : w == 3 ? divergence_tolerance
                                           : gradient_tolerance));
        }
        if (bad)
            fail_msg("%s, %d atoms, H %d, L %d, edge features %d, harmonic %d, tanh %d, attention %d: %g %g "
                     "%g %g %g %g",
                     tbg_session_backend(session), q->atoms, q->hidden, q->layers, q->edge_features,
                     q->harmonic, q->tanh, q->attention, error[0], error[1], error[2], error[3], error[4],
                     error[5]);
        tbg_session_free(session);
    }
    free(x_dot);
    free_answers(&want);
    free_answers(&got);
    drop(&s);
}

static void sizes(void **state) {
    (void)state;
    static const variant list[] = {
        {2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1},
        {5, 8, 2, 15, 1, 1, 1, 1},
        {5, 32, 2, TBG_EDGE_D0, 0, 0, 1, 1},
        {22, 64, 5, TBG_EDGE_D0, 0, 0, 1, 1},
        {22, 64, 3, 7, 1, 1, 1, 1},
        {51, 32, 3, 15, 1, 1, 1, 1},
        {12, 128, 2, TBG_EDGE_D0, 0, 0, 1, 1},
        {7, 128, 5, 7, 1, 1, 1, 1},
        {3, 50, 2, 15, 1, 0, 1, 1},
        {9, 112, 2, 7, 1, 1, 1, 1},
    };
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        compare(&list[k], 3, levels);
}

static void switches(void **state) {
    (void)state;
    for (int bits = 0; bits < 16; bits++)
        for (int q = 0; q < 16; q++) {
            if ((bits * 7 + q) % 3)
                continue; /* a third of all combinations: each pair of switches occurs */
            variant one = {6, 16, 1 + (bits + q) % 5, bits, q & 1, q >> 1 & 1, q >> 2 & 1, q >> 3 & 1};
            compare(&one, 1, &levels[(bits + q) % 3]);
        }
}

/* The vectors of the published code, in single precision. */
static void published(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        tbg_vector_file *f = read_vectors(vector_names[k]);
        const size_t B = (size_t)f->n_samples, n3 = B * (size_t)f->n_atoms * 3;
        tbg_session *s;
        assert_ok(tbg_session_create(f->model, "cpu", f->n_atoms, 2, &s));
        const tbg_conditioning **molecule = malloc(B * sizeof *molecule);
        for (size_t b = 0; b < B; b++)
            molecule[b] = f->conditioning;
        double *v = malloc(n3 * sizeof *v), *divergence = malloc(B * sizeof *divergence);
        assert_ok(tbg_network_divergence(s, (int)B, molecule, f->t, f->x, v, divergence));
        assert_true(compare_arrays(vector_names[k], n3, v, f->velocity, 1, velocity_tolerance) <=
                    velocity_tolerance);
        assert_true(compare_arrays(vector_names[k], B, divergence, f->divergence, 1, divergence_tolerance) <=
                    divergence_tolerance);
        free(molecule);
        free(v);
        free(divergence);
        tbg_session_free(s);
        tbg_vector_file_free(f);
    }
}

/* A ragged batch: any number of threads gives the same bits, and each molecule what it gives alone. */
static void batches(void **state) {
    (void)state;
    enum { B = 37 };
    static const int sizes_of[4] = {5, 1, 9, 4};
    variant q = {9, 24, 3, 7, 1, 1, 1, 1};
    tbg_model *m = model_of(&q);
    tbg_conditioning *chain[4];
    const tbg_conditioning *molecule[B];
    size_t atoms = 0, first[B], np = m->n_parameters;
    double t[B], weight[B];
    for (int k = 0; k < 4; k++)
        chain[k] = made_up_chain(sizes_of[k], m->spec.n_features, (uint64_t)(50 + k));
    for (int b = 0; b < B; b++) {
        molecule[b] = chain[b % 4];
        first[b] = atoms;
        atoms += (size_t)molecule[b]->n_atoms;
        t[b] = (b + 0.5) / B;
        weight[b] = 1.0 / (1 + b);
    }
    double *x = random_array(70, 3 * atoms), *target = random_array(71, 3 * atoms),
           *x_dot = random_array(72, 3 * atoms);
    enum { RUNS = 3 };
    static const int threads[RUNS] = {1, 2, 3};
    double *v[RUNS], *v_dot[RUNS], *dx[RUNS], loss[RUNS][B], divergence[RUNS][B];
    float *g[RUNS];
    for (int r = 0; r < RUNS; r++) {
        tbg_session *s;
        assert_ok(tbg_session_create(m, "cpu", 9, threads[r], &s));
        v[r] = calloc(3 * atoms, sizeof(double));
        v_dot[r] = calloc(3 * atoms, sizeof(double));
        dx[r] = calloc(3 * atoms, sizeof(double));
        g[r] = calloc(np, sizeof(float));
        assert_ok(tbg_network_divergence(s, B, molecule, t, x, NULL, divergence[r]));
        assert_ok(tbg_network_velocity(s, B, molecule, t, x, v[r]));
        assert_ok(tbg_network_tangent(s, B, molecule, t, x, x_dot, NULL, v_dot[r]));
        assert_ok(tbg_network_vjp(s, B, molecule, t, x, target, dx[r], NULL));
        assert_ok(tbg_network_loss(s, B, molecule, t, x, target, weight, loss[r], g[r]));
        if (r) {
            assert_memory_equal(v[r], v[0], 3 * atoms * sizeof(double));
            assert_memory_equal(v_dot[r], v_dot[0], 3 * atoms * sizeof(double));
            assert_memory_equal(dx[r], dx[0], 3 * atoms * sizeof(double));
            assert_memory_equal(loss[r], loss[0], sizeof loss[0]);
            assert_memory_equal(divergence[r], divergence[0], sizeof divergence[0]);
            assert_memory_equal(g[r], g[0], np * sizeof(float));
        }
        if (r == 1) { /* one at a time, in reverse */
            double *sum = calloc(np, sizeof *sum), *want = calloc(np, sizeof *want);
            float *one = calloc(np, sizeof *one);
            for (int b = B - 1; b >= 0; b--) {
                double alone[27], l, d;
                const size_t at = 3 * first[b], size = 3 * (size_t)molecule[b]->n_atoms * sizeof(double);
                assert_ok(tbg_network_velocity(s, 1, &molecule[b], &t[b], x + at, alone));
                assert_memory_equal(alone, v[0] + at, size);
                assert_ok(tbg_network_tangent(s, 1, &molecule[b], &t[b], x + at, x_dot + at, NULL, alone));
                assert_memory_equal(alone, v_dot[0] + at, size);
                assert_ok(tbg_network_vjp(s, 1, &molecule[b], &t[b], x + at, target + at, alone, NULL));
                assert_memory_equal(alone, dx[0] + at, size);
                assert_ok(tbg_network_divergence(s, 1, &molecule[b], &t[b], x + at, NULL, &d));
                assert_true(d == divergence[0][b]);
                assert_ok(
                    tbg_network_loss(s, 1, &molecule[b], &t[b], x + at, target + at, &weight[b], &l, one));
                assert_true(l == loss[0][b]);
                for (size_t i = 0; i < np; i++)
                    sum[i] += (double)one[i];
            }
            for (size_t i = 0; i < np; i++)
                want[i] = (double)g[0][i];
            assert_true(gradient_error(m, want, sum) <= gradient_tolerance);
            assert_ok(tbg_network_loss(s, B, molecule, t, x, target, weight, divergence[2], NULL));
            assert_memory_equal(divergence[2], loss[0], sizeof loss[0]);
            free(sum);
            free(want);
            free(one);
        }
        tbg_session_free(s);
    }
    for (int r = 0; r < RUNS; r++) {
        free(v[r]);
        free(v_dot[r]);
        free(dx[r]);
        free(g[r]);
    }
    for (int k = 0; k < 4; k++)
        tbg_conditioning_free(chain[k]);
    free(x);
    free(target);
    free(x_dot);
    tbg_model_free(m);
}

/* Positions far from the origin lose no digits; positions that are not finite, or coincide, do not crash. */
static void awkward(void **state) {
    (void)state;
    variant q = {5, 16, 2, 7, 1, 1, 1, 1};
    setup s = make(&q);
    const tbg_conditioning *c = s.chain;
    tbg_session *session;
    double v[15], w[15], d, e;
    assert_ok(tbg_session_create(s.model, "cpu", 5, 1, &session));
    assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, v, &d));
    for (int k = 0; k < 15; k++)
        s.x[k] += 1e6;
    assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, w, &e));
    assert_true(compare_arrays("far away", 15, w, v, 1, velocity_tolerance) <= velocity_tolerance);
    assert_true(compare_error(e, d, sqrt(15)) <= divergence_tolerance);
    for (int k = 0; k < 15; k++)
        s.x[k] = 0;
    assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, w, &e));
    for (int k = 0; k < 15; k++)
        assert_true(w[k] == 0); /* nothing to point along */
    static const double odd[3] = {NAN, INFINITY, 1e30};
    for (int k = 0; k < 3; k++) {
        s.x[4] = odd[k];
        assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, w, &e));
        if (k < 2)
            assert_false(isfinite(w[4]));
    }
    tbg_session_free(session);
    drop(&s);
}

/* Layers that run again in reverse instead of being stored give the same bits. */
static void stored_or_not(void **state) {
    (void)state;
    variant q = {9, 24, 4, 7, 1, 1, 1, 1};
    setup s = make(&q);
    const tbg_conditioning *c = s.chain;
    const size_t np = s.model->n_parameters, usual = tbg_cpu_most_stored;
    double weight = 1, loss[2], dx[2][27];
    float *g[2];
    for (int k = 0; k < 2; k++) {
        tbg_session *session;
        tbg_cpu_most_stored = k ? 0 : usual;
        g[k] = calloc(np, sizeof(float));
        assert_ok(tbg_session_create(s.model, "cpu", 9, 1, &session));
        assert_ok(tbg_network_loss(session, 1, &c, &s.t, s.x, s.target, &weight, &loss[k], g[k]));
        assert_ok(tbg_network_vjp(session, 1, &c, &s.t, s.x, s.target, dx[k], NULL));
        tbg_session_free(session);
    }
    tbg_cpu_most_stored = usual;
    assert_true(loss[0] == loss[1]);
    assert_memory_equal(g[0], g[1], np * sizeof(float));
    assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
    free(g[0]);
    free(g[1]);
    drop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes),     cmocka_unit_test(switches),
                                       cmocka_unit_test(published), cmocka_unit_test(batches),
                                       cmocka_unit_test(awkward),   cmocka_unit_test(stored_or_not)};
    int failed = cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
    if (getenv("TBG_SHOW_ERRORS"))
        fprintf(stderr,
                "worst: velocity %.2g, loss %.2g, tangent %.2g, divergence %.2g, dx %.2g, gradient %.2g\n",
                worst[0], worst[1], worst[2], worst[3], worst[4], worst[5]);
    return failed;
}
