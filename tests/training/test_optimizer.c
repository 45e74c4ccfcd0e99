/* test_optimizer.c: Adam and AdamW against a plain double implementation, EMA, norm, schedule; thread
 * independence. */
#include "tbg_test.h"
#include "training/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 600011 }; /* enough blocks for threads, and a remainder */

static float *normal(uint64_t stream, double size) {
    double *z = malloc(N * sizeof *z);
    float *f = malloc(N * sizeof *f);
    tbg_random_normal(3, TBG_STREAM(TBG_STREAM_TEST, stream), 0, N, z);
    for (int i = 0; i < N; i++)
        f[i] = (float)(size * z[i]);
    free(z);
    return f;
}

/* The textbook update in double. */
static void against_textbook(int decoupled, double decay, double scale) {
    tbg_optimizer o;
    float *w = normal(1, 1), *start = normal(1, 1);
    double *wd = calloc(N, sizeof *wd), *m = calloc(N, sizeof *m), *v = calloc(N, sizeof *v),
           *e = calloc(N, sizeof *e);
    double *got = malloc(N * sizeof *got);
    for (int i = 0; i < N; i++)
        wd[i] = e[i] = start[i];
    assert_ok(tbg_optimizer_create(N, w, 1, &o));
    tbg_optimizer_step s = {.learning_rate = 1e-2,
                            .beta1 = 0.9,
                            .beta2 = 0.99,
                            .epsilon = 1e-6,
                            .weight_decay = decay,
                            .ema = 0.5,
                            .decoupled = decoupled,
                            .gradient_scale = scale};
    for (int k = 1; k <= 7; k++) {
        float *g = normal((uint64_t)(10 + k), 0.1 * k);
        tbg_optimizer_update(&o, &s, w, g, 2);
        double ema = fmin(0.5, k / (k + 9.0));
        for (int i = 0; i < N; i++) {
            double gi = g[i] * scale + (decoupled ? 0 : decay * wd[i]);
            m[i] = 0.9 * m[i] + 0.1 * gi;
            v[i] = 0.99 * v[i] + 0.01 * gi * gi;
            double mh = m[i] / (1 - pow(0.9, k)), vh = v[i] / (1 - pow(0.99, k));
            if (decoupled)
                wd[i] *= 1 - 1e-2 * decay;
            wd[i] -= 1e-2 * mh / (sqrt(vh) + 1e-6);
            e[i] = ema * e[i] + (1 - ema) * wd[i];
        }
        free(g);
    }
    assert_int_equal(o.steps, 7);
    for (int i = 0; i < N; i++)
        got[i] = w[i];
    assert_true(compare_arrays("weights", N, got, wd, 1e-2, 2e-5) <= 2e-5);
    for (int i = 0; i < N; i++)
        got[i] = o.ema[i];
    assert_true(compare_arrays("ema", N, got, e, 1e-2, 2e-5) <= 2e-5);
    tbg_optimizer_free(&o);
    free(w), free(start), free(wd), free(m), free(v), free(e), free(got);
}

static void adam(void **state) {
    (void)state;
    against_textbook(0, 0, 1);
    against_textbook(0, 0.1, 0.3);
}

static void adamw(void **state) {
    (void)state;
    against_textbook(1, 0.1, 1);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    float *w[2], *g = normal(5, 1);
    double norm[2], square = 0;
    for (int k = 0; k < 2; k++) {
        tbg_optimizer o;
        w[k] = normal(1, 1);
        assert_ok(tbg_optimizer_create(N, w[k], 0, &o));
        tbg_optimizer_step s = {
            .learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .gradient_scale = 1};
        norm[k] = tbg_optimizer_norm(&o, g, 1 + 2 * k);
        tbg_optimizer_update(&o, &s, w[k], g, 1 + 2 * k);
        tbg_optimizer_free(&o);
    }
    for (int i = 0; i < N; i++)
        square += (double)g[i] * g[i];
    assert_true(compare_error(norm[0], sqrt(square), 0) < 1e-12);
    assert_true(norm[0] == norm[1]);
    assert_memory_equal(w[0], w[1], N * sizeof *w[0]);
    tbg_optimizer o;
    assert_ok(tbg_optimizer_create(N, w[0], 0, &o));
    g[N - 3] = NAN;
    assert_false(isfinite(tbg_optimizer_norm(&o, g, 2)));
    g[N - 3] = -INFINITY;
    assert_false(isfinite(tbg_optimizer_norm(&o, g, 2)));
    tbg_optimizer_free(&o);
    free(w[0]), free(w[1]), free(g);
}

static void schedules(void **state) {
    (void)state;
    tbg_rate_step steps[] = {{.at = 4, .epochs = 1, .learning_rate = 5e-5},
                             {.at = 8, .epochs = 1, .learning_rate = 5e-6}};
    tbg_training_config c = {.learning_rate = 5e-4, .rate = TBG_RATE_STEPS, .n_steps = 2, .steps = steps};
    assert_true(tbg_learning_rate(&c, 399, 1200, 100) == 5e-4);
    assert_true(tbg_learning_rate(&c, 400, 1200, 100) == 5e-5);
    assert_true(tbg_learning_rate(&c, 1199, 1200, 100) == 5e-6);
    tbg_training_config cosine = {
        .learning_rate = 1e-3, .final_learning_rate = 1e-5, .warmup = 0.05, .rate = TBG_RATE_COSINE};
    double first = tbg_learning_rate(&cosine, 0, 1000, 1), middle = tbg_learning_rate(&cosine, 525, 1000, 1);
    assert_true(first > 0 && first < 2.1e-5);
    assert_true(compare_error(tbg_learning_rate(&cosine, 50, 1000, 1), 1e-3, 0) < 1e-12);
    assert_true(compare_error(middle, (1e-3 + 1e-5) / 2, 0) < 1e-12);
    assert_true(compare_error(tbg_learning_rate(&cosine, 1000, 1000, 1), 1e-5, 0) < 1e-9);
    for (int k = 1; k <= 50; k++)
        assert_true(tbg_learning_rate(&cosine, k, 1000, 1) > tbg_learning_rate(&cosine, k - 1, 1000, 1));
    for (int k = 51; k <= 1000; k++)
        assert_true(tbg_learning_rate(&cosine, k, 1000, 1) < tbg_learning_rate(&cosine, k - 1, 1000, 1));
    assert_true(tbg_ema_decay(0.999, 1) == 0.1 && tbg_ema_decay(0.999, 100000) == 0.999);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(adam), cmocka_unit_test(adamw),
                                       cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(schedules)};
    return cmocka_run_group_tests_name("optimizer", tests, NULL, NULL);
}
