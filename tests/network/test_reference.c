/* test_reference.c: properties that the reference must have whatever its weights: symmetries, derivatives
 * against finite differences, tangent, divergence and reverse pass against each other; published and improved
 * field. */
#include "network/vectors.h"
#include "network/kernels.h"
#include <math.h>

typedef struct {
    tbg_model *model;
    tbg_session *session;
    tbg_conditioning *chain;
    double t, *x, *v;
    int N;
} setup;

enum { ATOMS = 6 };

static setup make(int improved) {
    tbg_network_spec spec = improved_spec();
    if (!improved) {
        spec.edge_features = TBG_EDGE_D0;
        spec.harmonic_term = 0;
        spec.time_u = 0;
    }
    setup s = {.N = ATOMS, .t = 0.83};
    s.model = made_up_model(&spec, (uint64_t)improved);
    s.chain = made_up_chain(ATOMS, spec.n_features, 50);
    s.x = random_array(60, 3 * ATOMS);
    s.v = calloc(3 * ATOMS, sizeof *s.v);
    assert_ok(tbg_session_create(s.model, "reference", ATOMS + 2, 1, &s.session));
    return s;
}

static void drop(setup *s) {
    tbg_session_free(s->session);
    tbg_model_free(s->model);
    tbg_conditioning_free(s->chain);
    free(s->x);
    free(s->v);
}

static void velocity(const setup *s, const double *x, double *v) {
    const tbg_conditioning *c = s->chain;
    assert_ok(tbg_network_velocity(s->session, 1, &c, &s->t, x, v));
}

static void symmetries(void **state) {
    (void)state;
    for (int improved = 0; improved < 2; improved++) {
        setup s = make(improved);
        double x[3 * ATOMS], v[3 * ATOMS], want[3 * ATOMS], q[9], u[3], w[3];
        velocity(&s, s.x, s.v);
        /* An orthogonal matrix from two random vectors; sign: proper, then with a reflection. */
        random_normal(70, 3, u);
        random_normal(71, 3, w);
        double nu = sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2]), along = 0, nw = 0;
        for (int a = 0; a < 3; a++)
            along += w[a] * u[a] / nu;
        for (int a = 0; a < 3; a++) {
            q[a] = u[a] / nu;
            w[a] -= along * q[a];
            nw += w[a] * w[a];
        }
        for (int a = 0; a < 3; a++)
            q[3 + a] = w[a] / sqrt(nw);
        for (int sign = -1; sign <= 1; sign += 2) {
            for (int a = 0; a < 3; a++)
                q[6 + a] = sign * (q[(a + 1) % 3] * q[3 + (a + 2) % 3] - q[(a + 2) % 3] * q[3 + (a + 1) % 3]);
            for (int i = 0; i < ATOMS; i++)
                for (int a = 0; a < 3; a++) {
                    x[3 * i + a] = a + 0.5; /* translated, too */
                    want[3 * i + a] = 0;
                    for (int b = 0; b < 3; b++) {
                        x[3 * i + a] += q[3 * a + b] * s.x[3 * i + b];
                        want[3 * i + a] += q[3 * a + b] * s.v[3 * i + b];
                    }
                }
            velocity(&s, x, v);
            assert_true(compare_arrays("rotated", 3 * ATOMS, v, want, 1e-3, 1e-10) <= 1e-10);
        }
        double sum[3] = {0}, size = 0;
        for (int k = 0; k < 3 * ATOMS; k++) {
            sum[k % 3] += s.v[k];
            size += fabs(s.v[k]);
        }
        assert_true(size > 1); /* the field of these tests is not small */
        assert_true(fabs(sum[0]) + fabs(sum[1]) + fabs(sum[2]) < 1e-12 * size);
        drop(&s);
    }
}

static void permutation(void **state) {
    (void)state;
    const int p[ATOMS] = {3, 0, 5, 1, 4, 2};
    for (int improved = 0; improved < 2; improved++) {
        setup s = make(improved);
        int nf = s.model->spec.n_features;
        tbg_conditioning *c;
        double x[3 * ATOMS], v[3 * ATOMS], want[3 * ATOMS];
        velocity(&s, s.x, s.v);
        assert_ok(tbg_conditioning_from_features(ATOMS, nf, s.chain->node_features, &c));
        for (int i = 0; i < ATOMS; i++) {
            memcpy(c->node_features + i * nf, s.chain->node_features + p[i] * nf,
                   (size_t)nf * sizeof(double));
            for (int j = 0; j < ATOMS; j++) {
                c->bond_class[i * ATOMS + j] = s.chain->bond_class[p[i] * ATOMS + p[j]];
                c->pair_mean[i * ATOMS + j] = s.chain->pair_mean[p[i] * ATOMS + p[j]];
                c->pair_width[i * ATOMS + j] = s.chain->pair_width[p[i] * ATOMS + p[j]];
            }
            for (int a = 0; a < 3; a++) {
                x[3 * i + a] = s.x[3 * p[i] + a];
                want[3 * i + a] = s.v[3 * p[i] + a];
            }
        }
        const tbg_conditioning *one = c;
        assert_ok(tbg_network_velocity(s.session, 1, &one, &s.t, x, v));
        assert_true(compare_arrays("permuted", 3 * ATOMS, v, want, 1e-3, 1e-10) <= 1e-10);
        tbg_conditioning_free(c);
        drop(&s);
    }
}

/* Derivative of f(h) at 0 from four points, error h^4. */
static double central(const double f[4], double h) {
    return (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h);
}
static const double steps[4] = {-2, -1, 1, 2};

static void tangent_is_the_derivative(void **state) {
    (void)state;
    for (int improved = 0; improved < 2; improved++) {
        setup s = make(improved);
        const tbg_conditioning *c = s.chain;
        double x[3 * ATOMS], v[4][3 * ATOMS], v_dot[3 * ATOMS], want[3 * ATOMS], h = 1e-3;
        for (int trial = 0; trial < 4; trial++) {
            double d[3 * ATOMS] = {0};
            if (trial < 2)
                random_normal(80 + (uint64_t)trial, 3 * ATOMS, d);
            else
                d[trial == 2 ? 4 : 17] = 1;
            for (int k = 0; k < 4; k++) {
                for (int a = 0; a < 3 * ATOMS; a++)
                    x[a] = s.x[a] + steps[k] * h * d[a];
                velocity(&s, x, v[k]);
            }
            for (int a = 0; a < 3 * ATOMS; a++)
                want[a] = central((double[]){v[0][a], v[1][a], v[2][a], v[3][a]}, h);
            assert_ok(tbg_network_tangent(s.session, 1, &c, &s.t, s.x, d, s.v, v_dot));
            assert_true(compare_arrays("tangent", 3 * ATOMS, v_dot, want, 1e-2, 1e-6) <= 1e-6);
        }
        drop(&s);
    }
}

static void divergence_is_the_trace(void **state) {
    (void)state;
    for (int improved = 0; improved < 2; improved++) {
        setup s = make(improved);
        const tbg_conditioning *c = s.chain;
        double v_dot[3 * ATOMS], v[3 * ATOMS], trace = 0, divergence, size = 0;
        for (int k = 0; k < 3 * ATOMS; k++) {
            double d[3 * ATOMS] = {0};
            d[k] = 1;
            assert_ok(tbg_network_tangent(s.session, 1, &c, &s.t, s.x, d, NULL, v_dot));
            trace += v_dot[k];
            size += fabs(v_dot[k]);
        }
        assert_ok(tbg_network_divergence(s.session, 1, &c, &s.t, s.x, v, &divergence));
        assert_true(fabs(divergence - trace) <= 1e-12 * size);
        velocity(&s, s.x, s.v);
        assert_true(compare_arrays("velocity", 3 * ATOMS, v, s.v, 1e-3, 1e-13) <= 1e-13);
        drop(&s);
    }
}

/* <dv, J d> = <J^T dv, d>. */
static void reverse_is_the_transpose(void **state) {
    (void)state;
    for (int improved = 0; improved < 2; improved++) {
        setup s = make(improved);
        const tbg_conditioning *c = s.chain;
        for (uint64_t trial = 0; trial < 3; trial++) {
            double d[3 * ATOMS], dv[3 * ATOMS], v_dot[3 * ATOMS], dx[3 * ATOMS], left = 0, right = 0,
                                                                                 size = 0;
            random_normal(90 + trial, 3 * ATOMS, d);
            random_normal(95 + trial, 3 * ATOMS, dv);
            assert_ok(tbg_network_tangent(s.session, 1, &c, &s.t, s.x, d, NULL, v_dot));
            assert_ok(tbg_network_vjp(s.session, 1, &c, &s.t, s.x, dv, dx, NULL));
            for (int k = 0; k < 3 * ATOMS; k++) {
                left += dv[k] * v_dot[k];
                right += dx[k] * d[k];
                size += fabs(dx[k] * d[k]);
            }
            assert_true(fabs(left - right) <= 1e-12 * size);
        }
        drop(&s);
    }
}

/* sum dv . v with the parameters moved by h along `direction` (restricted to one tensor), as float values can
 * hold. */
static double projected(setup *s, const double *dv, const float *old, const tbg_parameter *p,
                        const double *direction, double h) {
    size_t n = (size_t)p->rows * (size_t)p->columns;
    for (size_t i = 0; i < n; i++)
        s->model->values[p->offset + i] = (float)(old[p->offset + i] + h * direction[i]);
    assert_ok(tbg_session_refresh(s->session));
    velocity(s, s->x, s->v);
    double sum = 0;
    for (int k = 0; k < 3 * ATOMS; k++)
        sum += dv[k] * s->v[k];
    return sum;
}

/* Every tensor: a random direction and single entries. Parameters are floats, so the step is rounded to what
 * a float holds: values and directions are multiples of 2^-12, exact in the sums below. */
static void parameter_gradients(void **state) {
    (void)state;
    for (int improved = 0; improved < 2; improved++) {
        setup s = make(improved);
        const tbg_conditioning *c = s.chain;
        size_t np = s.model->n_parameters;
        double dv[3 * ATOMS], *g = malloc(np * sizeof *g), h = 0x1p-13, *d = malloc(np * sizeof *d);
        float *old = malloc(np * sizeof *old);
        int checked = 0;
        for (size_t i = 0; i < np; i++)
            s.model->values[i] = old[i] = (float)(rint(s.model->values[i] * 0x1p12) * 0x1p-12);
        assert_ok(tbg_session_refresh(s.session));
        random_normal(100, 3 * ATOMS, dv);
        assert_ok(tbg_network_vjp(s.session, 1, &c, &s.t, s.x, dv, NULL, g));
        double largest = 0;
        for (size_t i = 0; i < np; i++)
            largest = fmax(largest, fabs(g[i]));
        for (int k = 0; k < s.model->n_tensors; k++) {
            const tbg_parameter *p = &s.model->tensors[k];
            size_t n = (size_t)p->rows * (size_t)p->columns;
            for (int trial = 0; trial < 3; trial++) {
                random_normal(110 + (uint64_t)k, n, d);
                for (size_t i = 0; i < n; i++)
                    d[i] = trial ? 0 : rint(d[i] * 8) / 8;
                if (trial)
                    d[trial == 1 ? (n * 7 / 11) : n - 1] = 1;
                double f[4], want = 0, size = 0;
                for (int q = 0; q < 4; q++)
                    f[q] = projected(&s, dv, old, p, d, steps[q] * h);
                projected(&s, dv, old, p, d, 0);
                for (size_t i = 0; i < n; i++) {
                    want += g[p->offset + i] * d[i];
                    size += fabs(g[p->offset + i] * d[i]);
                }
                double got = central(f, h);
                if (!(fabs(got - want) <= 2e-6 * fmax(size, largest)))
                    fail_msg("%s, trial %d: finite difference %.12g, gradient %.12g", p->name, trial, got,
                             want);
                checked += size > 0;
            }
        }
        /* Three trials each, but not for what v does not depend on: the last node update and the output
         * embedding. */
        assert_int_equal(checked, 3 * (s.model->n_tensors - 6));
        free(g);
        free(d);
        free(old);
        drop(&s);
    }
}

static void loss_gradient_is_that_of_vjp(void **state) {
    (void)state;
    setup s = make(1);
    const tbg_conditioning *molecule[3] = {s.chain, s.chain, s.chain};
    double *x = random_array(120, 9 * ATOMS), *target = random_array(121, 9 * ATOMS), v[9 * ATOMS],
           dv[9 * ATOMS];
    double t[3] = {0.1, 0.5, 0.97}, weight[3] = {0.2, 0.5, 0.3}, loss[3], again[3];
    size_t np = s.model->n_parameters;
    float *gradient = malloc(np * sizeof *gradient);
    double *g = malloc(np * sizeof *g), *got = malloc(np * sizeof *got);
    assert_ok(tbg_network_velocity(s.session, 3, molecule, t, x, v));
    for (int b = 0; b < 3; b++) {
        loss[b] = 0;
        for (int k = 0; k < 3 * ATOMS; k++) {
            double e = v[3 * ATOMS * b + k] - target[3 * ATOMS * b + k];
            loss[b] += e * e / (3 * ATOMS);
            dv[3 * ATOMS * b + k] = 2 * weight[b] * e / (3 * ATOMS);
        }
    }
    assert_ok(tbg_network_loss(s.session, 3, molecule, t, x, target, weight, again, gradient));
    assert_true(compare_arrays("loss", 3, again, loss, 0, 1e-13) <= 1e-13);
    assert_ok(tbg_network_vjp(s.session, 3, molecule, t, x, dv, NULL, g));
    for (size_t i = 0; i < np; i++)
        got[i] = gradient[i];
    assert_true(compare_arrays("gradient", np, got, g, 1e-3, 1e-6) <= 1e-6);
    again[0] = again[1] = again[2] = 0;
    assert_ok(tbg_network_loss(s.session, 3, molecule, t, x, target, weight, again, NULL));
    assert_true(compare_arrays("loss alone", 3, again, loss, 0, 1e-13) <= 1e-13);
    free(x);
    free(target);
    free(gradient);
    free(g);
    free(got);
    drop(&s);
}

/* A ragged batch gives bit for bit what each molecule gives alone, on one thread or three. */
static void batches_and_threads_do_not_matter(void **state) {
    (void)state;
    setup s = make(1);
    tbg_conditioning *small = made_up_chain(2, s.model->spec.n_features, 51), *big = made_up_chain(8, 4, 52);
    const tbg_conditioning *molecule[5] = {small, s.chain, big, small, s.chain};
    int atoms = 2 + 6 + 8 + 2 + 6, at = 0;
    double *x = random_array(130, 3 * (size_t)atoms), t[5] = {0, 0.3, 0.6, 0.9, 1};
    double v[72], alone[72], divergence[5], one, weight[5] = {1, 1, 1, 1, 1}, loss[5];
    size_t np = s.model->n_parameters;
    float *g[2] = {malloc(np * sizeof(float)), malloc(np * sizeof(float))};
    tbg_session *three[2];
    for (int k = 0; k < 2; k++) {
        assert_ok(tbg_session_create(s.model, "reference", 8, k ? 3 : 1, &three[k]));
        assert_ok(tbg_network_loss(three[k], 5, molecule, t, x, x, weight, loss, g[k]));
    }
    assert_memory_equal(g[0], g[1], np * sizeof(float));
    assert_ok(tbg_network_divergence(three[1], 5, molecule, t, x, v, divergence));
    for (int b = 0; b < 5; b++) {
        int n3 = 3 * molecule[b]->n_atoms;
        assert_ok(tbg_network_divergence(three[0], 1, &molecule[b], &t[b], x + at, alone + at, &one));
        assert_true(one == divergence[b]);
        assert_true(isfinite(one));
        at += n3;
    }
    assert_memory_equal(v, alone, sizeof v);
    for (int k = 0; k < 2; k++) {
        tbg_session_free(three[k]);
        free(g[k]);
    }
    tbg_conditioning_free(small);
    tbg_conditioning_free(big);
    free(x);
    drop(&s);
}

static int as_it_is = 0, without_shell = TBG_EDGE_SHELL;

static void edge_features_have_their_slopes(void **state) {
    tbg_network_spec spec = improved_spec();
    spec.edge_features ^= *(int *)*state;
    int K = tbg_edge_feature_count(&spec);
    assert_int_equal(K, 19);
    for (int class = 0; class <= 3; class ++)
        for (int step = 0; step < 30; step++) {
            double r = 0.05 + 0.11 * step, h = 1e-4, e[4][32], de[32], d[32], t = step / 29.0, mean = 0,
                   width = 0;
            if (class == 1 || class == 2) {
                mean = 0.9;
                width = 0.1;
            }
            for (int q = 0; q < 4; q++)
                tbg_edge_features(&spec, t, r + steps[q] * h, class, mean, width, e[q], d);
            tbg_edge_features(&spec, t, r, class, mean, width, d, de);
            for (int k = 0; k < K; k++) {
                double want = central((double[]){e[0][k], e[1][k], e[2][k], e[3][k]}, h);
                assert_true(fabs(de[k] - want) <= 1e-6 * (1 + fabs(want)));
            }
        }
    double rho, slope;
    spec.edge_features &= ~TBG_EDGE_SHELL;
    /* At t = 1 the rate is m + (r - m)/... with lambda = 1: rho = r. At t = 0: lambda = -1, rho = m - r. */
    tbg_harmonic_rate(&spec, 1, 1.3, 0.9, 0.1, &rho, &slope);
    assert_true(fabs(rho - 1.3) < 1e-14 && fabs(slope - 1) < 1e-14);
    tbg_harmonic_rate(&spec, 0, 1.3, 0.9, 0.1, &rho, &slope);
    assert_true(fabs(rho + 0.4) < 1e-14 && fabs(slope + 1) < 1e-14);
    tbg_harmonic_rate(&spec, 0.99, 100, 0.9, 0.001, &rho, &slope);
    assert_true(rho == -8 && slope == 0);
}

/* What the rate is for: the mean of x1 - x0 given x, along x, of a pair whose x1 has a uniform direction and
 * a length of mean m and width w, x0 of variance 2 per direction. By quadrature over length and direction. */
static double mean_velocity_of_shell(double t, double r, double m, double w) {
    double s = 1 - t, weight = 0, sum = 0, largest = -(r - t * m) * (r - t * m) / (4 * s * s);
    for (int i = 0; i < 400; i++)
        for (int j = 0; j < 4000; j++) {
            double z = -5 + 10 * (i + 0.5) / 400, R = m + w * z, c = -1 + 2 * (j + 0.5) / 4000;
            double away = r * r + t * t * R * R - 2 * t * r * R * c;
            double p = exp(-0.5 * z * z - away / (4 * s * s) - largest);
            weight += p;
            sum += p * (R * c - r) / s;
        }
    return sum / weight;
}

static void rate_of_a_shell(void **state) {
    (void)state;
    tbg_network_spec spec = improved_spec();
    double rho, slope, plain, h = 1e-4;
    for (int step = 0; step < 24; step++) {
        double t = 0.03 + 0.16 * (step % 6), r = 0.02 + 0.4 * (step / 6), m = 0.8, w = 0.02;
        spec.edge_features |= TBG_EDGE_SHELL;
        tbg_harmonic_rate(&spec, t, r, m, w, &rho, &slope);
        double want = mean_velocity_of_shell(t, r, m, w);
        if (fabs(want) < 7.9) {
            if (!(fabs(rho - want) < 0.01 * (1 + fabs(want))))
                fail_msg("t %g, r %g: rate %g, not %g", t, r, rho, want);
        } else
            assert_true(fabs(rho) == 8 && rho * want > 0);
        double there[4];
        for (int q = 0; q < 4; q++)
            tbg_harmonic_rate(&spec, t, r + steps[q] * h, m, w, &there[q], &plain);
        double gradient = central(there, h);
        assert_true(fabs(slope - gradient) <= 1e-6 * (1 + fabs(gradient)));
    }
    /* It vanishes where the atoms meet, and the other one does not. */
    tbg_harmonic_rate(&spec, 0.5, 0, 0.8, 0.02, &rho, &slope);
    assert_true(fabs(rho) < 1e-14);
    spec.edge_features &= ~TBG_EDGE_SHELL;
    tbg_harmonic_rate(&spec, 0.5, 0, 0.8, 0.02, &rho, &slope);
    assert_true(rho > 0.5);
}

static void sessions_refuse(void **state) {
    (void)state;
    setup s = make(1);
    tbg_session *other;
    assert_int_equal(tbg_session_create(s.model, "abacus", 5, 1, &other), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "abacus"));
    assert_int_equal(tbg_session_create(s.model, "reference", 0, 1, &other), TBG_INPUT);
    tbg_conditioning *big = made_up_chain(ATOMS + 3, 4, 1), *wide = made_up_chain(2, 5, 1);
    const tbg_conditioning *c = big;
    double x[100] = {0}, v[100];
    assert_int_equal(tbg_network_velocity(s.session, 1, &c, &s.t, x, v), TBG_INPUT);
    c = wide;
    assert_int_equal(tbg_network_velocity(s.session, 1, &c, &s.t, x, v), TBG_INPUT);
    assert_int_equal(tbg_network_velocity(s.session, -1, &c, &s.t, x, v), TBG_INPUT);
    tbg_conditioning_free(big);
    tbg_conditioning_free(wide);
    drop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(symmetries),
        cmocka_unit_test(permutation),
        cmocka_unit_test(tangent_is_the_derivative),
        cmocka_unit_test(divergence_is_the_trace),
        cmocka_unit_test(reverse_is_the_transpose),
        cmocka_unit_test(parameter_gradients),
        cmocka_unit_test(loss_gradient_is_that_of_vjp),
        cmocka_unit_test(batches_and_threads_do_not_matter),
        cmocka_unit_test_prestate(edge_features_have_their_slopes, &as_it_is),
        cmocka_unit_test_prestate(edge_features_have_their_slopes, &without_shell),
        cmocka_unit_test(rate_of_a_shell),
        cmocka_unit_test(sessions_refuse)};
    return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
