/* test_cpu.c: the fast CPU backend against the reference: every quantity, over sizes, widths, feature bits
 * and instruction sets; any number of threads gives the same bits; a ragged batch equals single calls. Single
 * precision inside: errors are relative to the largest element of an array (of a tensor, for gradients).
 * Observed on random models: see the table of tolerances. */
#include "network/vectors.h"
#include <math.h>

/* Tolerances, with what was observed beside them. */
static const double velocity_tolerance = 1e-5, gradient_tolerance = 1e-4;

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

static double worst[4];
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

static void compare(const variant *q, const char *simd) {
    setenv("TBG_SIMD", simd, 1);
    setup s = make(q);
    tbg_session *fast, *slow;
    const tbg_conditioning *c = s.chain;
    const size_t n3 = 3 * (size_t)s.n, np = s.model->n_parameters;
    assert_ok(tbg_session_create(s.model, "cpu", s.n + 3, 1, &fast));
    assert_ok(tbg_session_create(s.model, "reference", s.n, 1, &slow));
    unsetenv("TBG_SIMD");
    double *v = calloc(n3, sizeof *v), *w = calloc(n3, sizeof *w), weight = 0.7, loss_fast, loss_slow;
    double *g = calloc(np, sizeof *g), *h = calloc(np, sizeof *h);
    float *f = calloc(np, sizeof *f);
    assert_ok(tbg_network_velocity(slow, 1, &c, &s.t, s.x, w));
    assert_ok(tbg_network_velocity(fast, 1, &c, &s.t, s.x, v));
    double e = compare_arrays("velocity", n3, v, w, 1, velocity_tolerance);
    note(0, e);
    int bad = !(e <= velocity_tolerance);

    assert_ok(tbg_network_loss(slow, 1, &c, &s.t, s.x, s.target, &weight, &loss_slow, f));
    for (size_t i = 0; i < np; i++)
        h[i] = f[i];
    assert_ok(tbg_network_loss(fast, 1, &c, &s.t, s.x, s.target, &weight, &loss_fast, f));
    for (size_t i = 0; i < np; i++)
        g[i] = f[i];
    bad |= !(compare_error(loss_fast, loss_slow, 0) <= velocity_tolerance);
    e = gradient_error(s.model, g, h);
    note(1, e);
    bad |= !(e <= gradient_tolerance);

    assert_ok(tbg_network_vjp(slow, 1, &c, &s.t, s.x, s.target, w, h));
    assert_ok(tbg_network_vjp(fast, 1, &c, &s.t, s.x, s.target, v, g));
    e = compare_arrays("dx", n3, v, w, 1, gradient_tolerance);
    note(2, e);
    bad |= !(e <= gradient_tolerance);
    bad |= !(gradient_error(s.model, g, h) <= gradient_tolerance);
    if (bad)
        fail_msg("%s, %d atoms, H %d, L %d, edge features %d, harmonic %d, tanh %d, attention %d", simd,
                 q->atoms, q->hidden, q->layers, q->edge_features, q->harmonic, q->tanh, q->attention);
    free(v);
    free(w);
    free(g);
    free(h);
    free(f);
    tbg_session_free(fast);
    tbg_session_free(slow);
    drop(&s);
}

static const char *const levels[] = {"avx512", "avx2", "base"};

static void sizes(void **state) {
    (void)state;
    static const variant list[] = {
        {2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1},
        {5, 8, 2, 15, 1, 1, 1, 1},
        {5, 32, 2, TBG_EDGE_D0, 0, 0, 1, 1},
        {22, 64, 5, TBG_EDGE_D0, 0, 0, 1, 1},
        {22, 64, 3, 7, 1, 1, 1, 1},
        {51, 32, 2, 15, 1, 1, 1, 1},
        {51, 128, 2, TBG_EDGE_D0, 0, 0, 1, 1},
        {7, 128, 5, 7, 1, 1, 1, 1},
        {3, 50, 2, 15, 1, 0, 1, 1},
        {9, 112, 2, 7, 1, 1, 1, 1},
    };
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        for (int a = 0; a < 3; a++)
            compare(&list[k], levels[a]);
}

static void switches(void **state) {
    (void)state;
    for (int bits = 0; bits < 16; bits++)
        for (int q = 0; q < 16; q++) {
            if ((bits * 7 + q) % 3)
                continue; /* a third of all combinations: each pair of switches occurs */
            variant one = {6, 16, 2, bits, q & 1, q >> 1 & 1, q >> 2 & 1, q >> 3 & 1};
            compare(&one, levels[(bits + q) % 3]);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(switches)};
    int failed = cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
    if (getenv("TBG_SHOW_ERRORS"))
        fprintf(stderr, "worst: velocity %.2g, gradient %.2g, dx %.2g, divergence %.2g\n", worst[0], worst[1],
                worst[2], worst[3]);
    return failed;
}
