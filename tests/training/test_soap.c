/* test_soap.c: SOAP against a textbook step in double with the same bases, against AdamW where there is
 * nothing to rotate, its bases (orthogonal, eigenvectors), zeros, threads, and what it is for: an
 * ill-conditioned quadratic in rotated bases. Whole runs and resuming are in test_train.c. */
#include "tbg_test.h"
#include "training/gradients.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const tbg_optimizer_step settings = {.learning_rate = 1e-2,
                                            .beta1 = 0.9,
                                            .beta2 = 0.95,
                                            .epsilon = 1e-8,
                                            .weight_decay = 0.1,
                                            .ema = 0.9,
                                            .decoupled = 1,
                                            .gradient_scale = 0.7};

/* `steps` steps; weights and averages, [2][N]; *o stays open where it is not NULL. */
static float *run(int every, int threads, int steps, tbg_optimizer *o) {
    tbg_optimizer own;
    tbg_optimizer *use = o ? o : &own;
    float *w = malloc(2 * N * sizeof *w), *g = malloc(N * sizeof *g);
    normal(1, N, 1, w);
    assert_ok(tbg_optimizer_create(N, w, 1, use));
    if (every >= 0)
        assert_ok(tbg_optimizer_use_soap(use, TENSORS, shapes, every, threads));
    for (int k = 0; k < steps; k++) {
        gradient((uint64_t)k, g);
        tbg_optimizer_update(use, &settings, w, g, threads);
    }
    memcpy(w + N, use->ema, N * sizeof *w);
    if (!o)
        tbg_optimizer_free(use);
    free(g);
    return w;
}

static void adamw_where_nothing_is_rotated(void **state) {
    (void)state;
    float *adam = run(-1, 1, 25, NULL), *none = run(0, 1, 25, NULL), *soap = run(10, 1, 25, NULL);
    assert_memory_equal(adam, none, 2 * N * sizeof *adam);
    for (int t = 1; t <= 2; t++) {
        size_t n = (size_t)shapes[t].rows * (size_t)shapes[t].columns;
        assert_memory_equal(adam + shapes[t].offset, soap + shapes[t].offset, n * sizeof *adam);
        assert_memory_equal(adam + N + shapes[t].offset, soap + N + shapes[t].offset, n * sizeof *adam);
    }
    assert_true(memcmp(adam, soap, N * sizeof *adam));
    free(adam), free(none), free(soap);
    /* Step 1 is Adam's. */
    adam = run(-1, 1, 1, NULL), soap = run(10, 1, 1, NULL);
    assert_memory_equal(adam, soap, 2 * N * sizeof *adam);
    free(adam), free(soap);
}

/* element (i, j) of Q x or Q^T x over one side; q NULL: x itself. */
static void rotate(int m, int n, const float *left, const float *right, int back, const double *x,
                   double *out) {
    double *half = calloc((size_t)m * (size_t)n, sizeof *half);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            for (int k = 0; k < m; k++)
                half[i * n + j] +=
                    (left ? back ? left[k * m + i] : left[i * m + k] : (double)(i == k)) * x[k * n + j];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            out[i * n + j] = 0;
            for (int k = 0; k < n; k++)
                out[i * n + j] +=
                    half[i * n + k] * (right ? back ? right[k * n + j] : right[j * n + k] : (double)(j == k));
        }
    free(half);
}

/* Steps 2 to 9 of SOAP with the bases that step 1 found, in double. */
static void against_textbook(void **state) {
    (void)state;
    const double lr = settings.learning_rate, b1 = settings.beta1, b2 = settings.beta2;
    static const int tensors[] = {0, 3, 4};
    for (int which = 0; which < 3; which++) {
        const tbg_parameter *p = &shapes[tensors[which]];
        int m = p->rows, n = p->columns, size = m * n;
        tbg_optimizer o;
        float *w = run(10, 1, 1, &o), *all = malloc(N * sizeof *all);
        const float *left = tbg_soap_basis(o.soap, tensors[which], 0, NULL),
                    *right = tbg_soap_basis(o.soap, tensors[which], 1, NULL);
        assert_non_null(left);
        assert_true((right == NULL) == (n > 512));
        double trace = 0, *wd = malloc((size_t)size * sizeof *wd), *first = calloc((size_t)size, sizeof *wd),
               *second = calloc((size_t)size, sizeof *wd), *g = malloc((size_t)size * sizeof *wd),
               *r = malloc((size_t)size * sizeof *wd), *d = malloc((size_t)size * sizeof *wd);
        for (int i = 0; i < size; i++)
            wd[i] = w[p->offset + (size_t)i];
        for (int k = 1; k <= 9; k++) {
            gradient((uint64_t)k - 1, all);
            for (int i = 0; i < size; i++)
                g[i] = settings.gradient_scale * all[p->offset + (size_t)i];
            rotate(m, n, left, right, 0, g, r);
            trace *= b2;
            for (int i = 0; i < size; i++) {
                trace += (1 - b2) * g[i] * g[i];
                first[i] = b1 * first[i] + (1 - b1) * g[i];
                second[i] = b2 * second[i] + (1 - b2) * r[i] * r[i];
            }
            if (k == 1)
                continue; /* has been Adam's; its second moment is in the new bases */
            tbg_optimizer_update(&o, &settings, w, all, 1);
            rotate(m, n, left, right, 0, first, d);
            double epsilon = settings.epsilon + 1e-6 * sqrt(trace / (1 - pow(b2, k)));
            for (int i = 0; i < size; i++)
                d[i] = d[i] / (1 - pow(b1, k)) / (sqrt(second[i] / (1 - pow(b2, k))) + epsilon);
            rotate(m, n, left, right, 1, d, r);
            for (int i = 0; i < size; i++)
                wd[i] -= lr * settings.weight_decay * wd[i] + lr * r[i];
        }
        double *got = malloc((size_t)size * sizeof *got);
        for (int i = 0; i < size; i++)
            got[i] = w[p->offset + (size_t)i];
        assert_true(compare_arrays(p->name, (size_t)size, got, wd, 1e-1, 1e-4) <= 1e-4);
        tbg_optimizer_free(&o);
        free(w), free(all), free(wd), free(first), free(second), free(g), free(r), free(d), free(got);
    }
}

/* Largest deviation of Q Q^T from 1. */
static double deviation(int n, const float *q) {
    double worst = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double d = 0;
            for (int k = 0; k < n; k++)
                d += (double)q[i * n + k] * q[j * n + k];
            if (!(fabs(d - (i == j)) <= worst))
                worst = isfinite(d) ? fabs(d - (i == j)) : INFINITY;
        }
    return worst;
}

/* Root mean square of the entries off the diagonal of Q C Q^T (q NULL: of C), each over the square root of
 * the product of its diagonal entries (1: as large as can be), where those are not rounding. */
static double coupling(int n, const float *q, const float *c) {
    double sum = 0, mean = 0, *d = malloc((size_t)n * (size_t)n * sizeof *d),
           *turned = malloc((size_t)n * (size_t)n * sizeof *turned);
    for (int i = 0; i < n * n; i++)
        d[i] = c[i];
    rotate(n, n, q, q, 0, d, turned);
    for (int i = 0; i < n; i++)
        mean += turned[i * n + i] / n;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            sum += turned[i * n + j] * turned[i * n + j] /
                   fmax(fabs(turned[i * n + i] * turned[j * n + j]), 1e-12 * mean * mean);
    free(d), free(turned);
    return sqrt(sum / (n * (n - 1) / 2));
}

static void bases(void **state) {
    (void)state;
    for (int steps = 1; steps <= 301; steps += 60) {
        tbg_optimizer o;
        float *w = run(2, 1, steps, &o);
        int sides = 0;
        for (int t = 0; t < TENSORS; t++)
            for (int k = 0; k < 2; k++) {
                int n = k ? shapes[t].columns : shapes[t].rows;
                const float *c, *q = tbg_soap_basis(o.soap, t, k, &c);
                if (!q)
                    continue;
                sides++;
                assert_true(deviation(n, q) <= 1e-5);
                double before = coupling(n, NULL, c), after = coupling(n, q, c);
                if (steps == 1) /* decomposed */
                    assert_true(after < 1e-3);
                else if (k == 0) /* followed: the columns' covariance is noise, that of the rows is not */
                    assert_true(after < 0.02 && before > 0.1);
            }
        assert_int_equal(sides, 5);
        for (int i = 0; i < 2 * N; i++)
            assert_true(isfinite(w[i]));
        tbg_optimizer_free(&o);
        free(w);
    }
}

/* Gradients of zeros at first, then of rank one, then zeros again; tiny and huge ones. */
static void degenerate(void **state) {
    (void)state;
    tbg_optimizer o;
    float *w = run(2, 2, 0, &o), *start = malloc(N * sizeof *w), *g = calloc(N, sizeof *g);
    tbg_optimizer_step s = settings;
    s.weight_decay = 0;
    memcpy(start, w, N * sizeof *w);
    for (int k = 0; k < 5; k++)
        tbg_optimizer_update(&o, &s, w, g, 2);
    assert_memory_equal(w, start, N * sizeof *w);
    static const double sizes[] = {1, 0, 1e-25, 1e-12, 1e15, 0};
    for (int phase = 0; phase < 6; phase++)
        for (int k = 0; k < 7; k++) {
            for (int i = 0; i < N; i++)
                g[i] = (float)(sizes[phase] * (i % 3 ? 1 : -2));
            tbg_optimizer_update(&o, &s, w, g, 2);
            for (int i = 0; i < N; i++)
                if (!(isfinite(w[i]) && fabsf(w[i] - start[i]) < 20))
                    fail_msg("phase %d k %d i %d: %g", phase, k, i, w[i] - start[i]);
            for (int t = 0; t < TENSORS; t++)
                for (int side = 0; side < 2; side++) {
                    const float *q = tbg_soap_basis(o.soap, t, side, NULL);
                    assert_true(!q || deviation(side ? shapes[t].columns : shapes[t].rows, q) <= 1e-5);
                }
        }
    tbg_optimizer_free(&o);
    free(w), free(start), free(g);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    float *one = run(3, 1, 12, NULL), *three = run(3, 3, 12, NULL);
    assert_memory_equal(one, three, 2 * N * sizeof *one);
    free(one), free(three);
}

/* Orthogonal [n][n] from normal numbers, by Gram-Schmidt. */
static void orthogonal(uint64_t stream, int n, double *q) {
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, stream), 0, (size_t)n * (size_t)n, q);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            double norm = 0;
            for (int j = 0; j < i; j++) {
                double d = 0;
                for (int k = 0; k < n; k++)
                    d += q[i * n + k] * q[j * n + k];
                for (int k = 0; k < n; k++)
                    q[i * n + k] -= d * q[j * n + k];
            }
            for (int k = 0; k < n; k++)
                norm += q[i * n + k] * q[i * n + k];
            for (int k = 0; k < n; k++)
                q[i * n + k] /= sqrt(norm);
        }
}

enum { ROWS = 12, COLUMNS = 16 };
static double left_hessian[ROWS * ROWS], right_hessian[COLUMNS * COLUMNS];

/* Symmetric with eigenvalues 1 to 1/300 in a random basis. */
static void hessian(uint64_t stream, int n, double *h) {
    double *q = malloc((size_t)n * (size_t)n * sizeof *q);
    orthogonal(stream, n, q);
    memset(h, 0, (size_t)n * (size_t)n * sizeof *h);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                h[i * n + j] += pow(300, -(double)k / (n - 1)) * q[k * n + i] * q[k * n + j];
    free(q);
}

/* tr(W^T A W B) / 2 after `steps` steps over what it was, the rate falling linearly to 0. */
static double final_loss(int soap, double rate, int steps) {
    const tbg_parameter shape = {"w", ROWS, COLUMNS, 2, 0};
    float w[ROWS * COLUMNS], g[ROWS * COLUMNS];
    tbg_optimizer o;
    double first = 0, loss = 0;
    normal(50, ROWS * COLUMNS, 1, w);
    assert_ok(tbg_optimizer_create(ROWS * COLUMNS, w, 0, &o));
    if (soap)
        assert_ok(tbg_optimizer_use_soap(&o, 1, &shape, 10, 1));
    for (int k = 0; k <= steps; k++) {
        double half[ROWS * COLUMNS] = {0};
        for (int i = 0; i < ROWS; i++)
            for (int l = 0; l < ROWS; l++)
                for (int j = 0; j < COLUMNS; j++)
                    half[i * COLUMNS + j] += left_hessian[i * ROWS + l] * w[l * COLUMNS + j];
        loss = 0;
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++) {
                double sum = 0;
                for (int l = 0; l < COLUMNS; l++)
                    sum += half[i * COLUMNS + l] * right_hessian[l * COLUMNS + j];
                g[i * COLUMNS + j] = (float)sum;
                loss += 0.5 * sum * w[i * COLUMNS + j];
            }
        if (k == 0)
            first = loss;
        tbg_optimizer_step s = settings;
        s.gradient_scale = 1;
        s.weight_decay = 0;
        s.learning_rate = rate * (1 - (double)k / steps);
        if (k < steps)
            tbg_optimizer_update(&o, &s, w, g, 1);
    }
    tbg_optimizer_free(&o);
    return loss / first;
}

static double best_loss(int soap, int steps) {
    double best = INFINITY;
    for (double rate = 1e-3; rate < 2; rate *= 1.7)
        best = fmin(best, final_loss(soap, rate, steps));
    return best;
}

/* Each at its own best rate. */
static void kronecker_quadratic(void **state) {
    (void)state;
    hessian(60, ROWS, left_hessian);
    hessian(61, COLUMNS, right_hessian);
    assert_true(best_loss(1, 200) < 1e-8 && best_loss(0, 200) > 1e-5); /* 1.5e-10, 5e-5 */
    assert_true(best_loss(1, 100) < best_loss(0, 400));                /* 4e-6, 6e-6 */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(adamw_where_nothing_is_rotated),
                                       cmocka_unit_test(against_textbook),
                                       cmocka_unit_test(bases),
                                       cmocka_unit_test(degenerate),
                                       cmocka_unit_test(threads_do_not_matter),
                                       cmocka_unit_test(kronecker_quadratic)};
    return cmocka_run_group_tests_name("soap", tests, NULL, NULL);
}
