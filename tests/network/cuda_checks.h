/* cuda_checks.h: the CUDA backend against the reference, on a device (test_cuda.c) or emulated on the host
 * (test_cuda_emulation.c). The plain path is single precision and judged as test_cpu.c judges; the tensor path has bf16
 * factors: a gradient is judged tensor by tensor, by the norm of its error against the norm of the tensor, and by its
 * share of the whole gradient's where a tensor nearly cancels. Observed on the host: beside the tolerances. */
#include "network/vectors.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double velocity_tolerance = 1e-5;  /* also loss, tangent, divergence */
static const double gradient_tolerance = 1e-4;  /* also dx */
static const double tensor_loss_tolerance = 0.02;
static const double tensor_gradient_tolerance = 0.03;

typedef struct {
    int atoms, hidden, layers, edge_features, harmonic, time_u, tanh, attention;
} variant;

/* As in test_cpu.c: activations of order one, coordinate weights that are not small. */
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
        double width = strstr(p->name, "coord_mlp.2") ? (q->tanh ? 0.3 : 0.03) : strstr(p->name, "gate") ? 0.1 : 0;
        for (size_t i = 0; i < (size_t)p->rows * (size_t)p->columns; i++)
            m->values[p->offset + i] += (float)(width * z[p->offset + i] / sqrt(p->columns));
    }
    free(z);
    return m;
}

static double worst[7];

static void judge(int kind, const variant *q, double error, double tolerance) {
    static const char *const names[] = {"velocity", "loss",     "tangent",     "divergence",
                                        "dx",       "gradient", "tensor loss", "tensor gradient"};
    if (kind < 7 && !(error <= worst[kind]))
        worst[kind] = error;
    if (!(error <= tolerance))
        fail_msg("%s: %g; %d atoms, H %d, L %d, edge features %d, harmonic %d, time_u %d, tanh %d, attention %d",
                 names[kind], error, q->atoms, q->hidden, q->layers, q->edge_features, q->harmonic, q->time_u, q->tanh,
                 q->attention);
}

/* Largest element's error, tensor by tensor. */
static double gradient_error(const tbg_model *m, const double *got, const double *want) {
    double most = 0, answer = 0;
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
            if (!(e <= answer))
                answer = e;
        }
    }
    return answer;
}

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

static void against_reference(const char *backend, const variant *q) {
    tbg_model *m = model_of(q);
    tbg_conditioning *chain = made_up_chain(q->atoms, m->spec.n_features, 50);
    const tbg_conditioning *c = chain;
    const size_t n3 = 3 * (size_t)q->atoms, np = m->n_parameters;
    double *x = random_array(60, n3), *target = random_array(61, n3), *x_dot = random_array(62, n3), t = 0.7,
           weight = 0.7, loss[3], div[2], *v[4], *v_dot[2], *dx[2], *g[2];
    float *f[3];
    for (int k = 0; k < 4; k++)
        v[k] = calloc(n3, sizeof(double));
    for (int k = 0; k < 2; k++) {
        v_dot[k] = calloc(n3, sizeof(double));
        dx[k] = calloc(n3, sizeof(double));
        g[k] = calloc(np, sizeof(double));
    }
    for (int k = 0; k < 3; k++)
        f[k] = calloc(np, sizeof(float));
    for (int k = 0; k < 2; k++) {
        tbg_session *s;
        setenv("TBG_CUDA_PLAIN", "1", 1);
        assert_ok(tbg_session_create(m, k ? backend : "reference", q->atoms + 2, 1, &s));
        unsetenv("TBG_CUDA_PLAIN");
        for (size_t i = 0; i < n3 && k; i++)
            x[i] += 1000; /* the backend must not lose digits far away */
        assert_ok(tbg_network_velocity(s, 1, &c, &t, x, v[k]));
        assert_ok(tbg_network_loss(s, 1, &c, &t, x, target, &weight, &loss[k], f[k]));
        assert_ok(tbg_network_vjp(s, 1, &c, &t, x, target, dx[k], g[k]));
        assert_ok(tbg_network_tangent(s, 1, &c, &t, x, x_dot, v[2], v_dot[k]));
        assert_ok(tbg_network_divergence(s, 1, &c, &t, x, v[3], &div[k]));
        assert_memory_equal(v[2], v[k], n3 * sizeof(double));
        assert_memory_equal(v[3], v[k], n3 * sizeof(double));
        tbg_session_free(s);
    }
    judge(0, q, compare_arrays("velocity", n3, v[1], v[0], 1, velocity_tolerance), velocity_tolerance);
    judge(1, q, compare_error(loss[1], loss[0], 0), velocity_tolerance);
    judge(2, q, compare_arrays("v_dot", n3, v_dot[1], v_dot[0], 1, velocity_tolerance), velocity_tolerance);
    judge(3, q, compare_error(div[1], div[0], sqrt((double)n3)), velocity_tolerance);
    judge(4, q, compare_arrays("dx", n3, dx[1], dx[0], 1, gradient_tolerance), gradient_tolerance);
    judge(5, q, gradient_error(m, g[1], g[0]), gradient_tolerance);
    for (size_t i = 0; i < np; i++)
        g[1][i] = (double)f[1][i];
    double *scaled = calloc(np, sizeof(double));
    for (size_t i = 0; i < np; i++)
        scaled[i] = (double)f[0][i];
    judge(5, q, gradient_error(m, g[1], scaled), gradient_tolerance);
    if (q->hidden == 64 || q->hidden == 128) { /* the tensor path */
        tbg_session *s;
        assert_ok(tbg_session_create(m, backend, q->atoms, 1, &s));
        assert_non_null(strstr(tbg_session_backend(s), "tensor"));
        assert_ok(tbg_network_loss(s, 1, &c, &t, x, target, &weight, &loss[2], f[2]));
        judge(6, q, compare_error(loss[2], loss[0], 0), tensor_loss_tolerance);
        double e = gradient_norm_error(m, f[2], scaled);
        if (!(e <= worst[6]))
            worst[6] = e;
        judge(7, q, e, tensor_gradient_tolerance);
        tbg_session_free(s);
    }
    free(scaled);
    for (int k = 0; k < 4; k++)
        free(v[k]);
    for (int k = 0; k < 2; k++) {
        free(v_dot[k]);
        free(dx[k]);
        free(g[k]);
    }
    for (int k = 0; k < 3; k++)
        free(f[k]);
    free(x);
    free(target);
    free(x_dot);
    tbg_conditioning_free(chain);
    tbg_model_free(m);
}

/* A ragged batch: the same bits again, and what each molecule gives alone. */
static void ragged_batch(const char *backend, int hidden) {
    enum { B = 11 };
    static const int sizes_of[4] = {5, 1, 9, 4};
    variant q = {9, hidden, 2, 7, 1, 1, 1, 1};
    tbg_model *m = model_of(&q);
    tbg_conditioning *chain[4];
    const tbg_conditioning *molecule[B];
    size_t atoms = 0, first[B], np = m->n_parameters;
    double t[B], weight[B], loss[2][B], alone[27], l, d, divergence[B];
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
           *v = calloc(3 * atoms, sizeof *v), *sum = calloc(np, sizeof *sum), *want = calloc(np, sizeof *want);
    float *g[2] = {calloc(np, sizeof(float)), calloc(np, sizeof(float))};
    tbg_session *s;
    assert_ok(tbg_session_create(m, backend, 9, 1, &s));
    for (int k = 0; k < 2; k++) {
        assert_ok(tbg_network_loss(s, B, molecule, t, x, target, weight, loss[k], g[k]));
        assert_ok(tbg_network_divergence(s, B, molecule, t, x, v, divergence)); /* other jobs in between */
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    assert_memory_equal(g[0], g[1], np * sizeof(float));
    for (int b = B - 1; b >= 0; b--) {
        const size_t at = 3 * first[b];
        assert_ok(tbg_network_divergence(s, 1, &molecule[b], &t[b], x + at, alone, &d));
        assert_memory_equal(alone, v + at, 3 * (size_t)molecule[b]->n_atoms * sizeof(double));
        assert_true(d == divergence[b]);
        assert_ok(tbg_network_loss(s, 1, &molecule[b], &t[b], x + at, target + at, &weight[b], &l, g[1]));
        assert_true(l == loss[0][b]);
        for (size_t i = 0; i < np; i++)
            sum[i] += (double)g[1][i];
    }
    for (size_t i = 0; i < np; i++)
        want[i] = (double)g[0][i];
    judge(5, &q, gradient_error(m, want, sum), gradient_tolerance);
    tbg_session_free(s);
    for (int k = 0; k < 4; k++)
        tbg_conditioning_free(chain[k]);
    free(x);
    free(target);
    free(v);
    free(sum);
    free(want);
    free(g[0]);
    free(g[1]);
    tbg_model_free(m);
}

static void show_errors(void) {
    if (getenv("TBG_SHOW_ERRORS"))
        fprintf(stderr,
                "worst: velocity %.2g, loss %.2g, tangent %.2g, divergence %.2g, dx %.2g, gradient %.2g; tensor path: "
                "%.2g\n",
                worst[0], worst[1], worst[2], worst[3], worst[4], worst[5], worst[6]);
}
