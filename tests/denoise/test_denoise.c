/* test_denoise.c: from a flow's noisy configuration to the molecule by branches of a random network: the
 * estimate of Z(y) against quadrature on two atoms (anneal/toy.h), whatever the settings; the other way
 * round; what results depend on, and refusals. */
#include "tbg_test.h"
#include "anneal/toy.h"
#include "tbg/denoise.h"
#include "tbg/network.h"

#include <stdlib.h>

/* ---- means with errors ---- */

typedef struct {
    double sum, squares, n;
} mean;
static void add(mean *m, double x) {
    m->sum += x;
    m->squares += x * x;
    m->n++;
}
static double value(mean m) {
    return m.sum / m.n;
}
static double error(mean m) {
    return sqrt(fmax(m.squares / m.n - value(m) * value(m), 0) / m.n);
}
static double errors_apart(mean a, mean b) {
    double e = hypot(error(a), error(b)); /* 0: where neither saw anything, or one was about to */
    return fabs(value(a) - value(b)) / fmax(e, 1 / fmin(a.n, b.n));
}

/* ---- a network of two atoms that knows a little of them ---- */

#define TRAINED 0.004 /* nm, the model's own smoothing */
#define NOISE 0.028   /* nm, where branches begin */
#define ANNEALED 0.007
#define SCALE 16.0 /* so that coordinates have about unit variance */

typedef struct {
    tbg_model *model;
    tbg_conditioning *conditioning;
    tbg_session *session;
    tbg_engine engine;
} toy;

static toy make_toy(int threads) {
    toy t = {.engine = toy_engine()};
    tbg_network_spec spec;
    const double features[8] = {1, 0, 0, 0, 0, 1, 0, 0};
    assert_ok(tbg_network_preset("improved-ad", &spec));
    spec.hidden = 6;
    spec.layers = 1;
    spec.features = TBG_FEATURES_RAW;
    spec.n_features = 4;
    spec.scale = SCALE;
    spec.smoothing = TRAINED;
    assert_ok(tbg_model_create(&spec, 3, &t.model));
    const tbg_parameter *gate = tbg_model_tensor(t.model, "egnn.gcl_0.harmonic_gate.bias");
    assert_non_null(gate);
    t.model->values[gate->offset] = 0.4F;
    assert_ok(tbg_conditioning_from_features(2, 4, features, &t.conditioning));
    for (int i = 1; i < 3; i++) { /* 0 1 and 1 0 */
        t.conditioning->bond_class[i] = 1;
        t.conditioning->pair_mean[i] = TOY_MIDDLE * SCALE;
        t.conditioning->pair_width[i] = TOY_WELL * SCALE;
    }
    assert_ok(tbg_session_create(t.model, "cpu", 2, threads, &t.session));
    return t;
}
static void free_toy(toy *t) {
    tbg_session_free(t->session);
    tbg_conditioning_free(t->conditioning);
    tbg_model_free(t->model);
}

static tbg_denoise_options branching(int branches, int steps) {
    tbg_denoise_options o;
    tbg_denoise_defaults(&o);
    o.smoothing = NOISE;
    o.branches = branches;
    o.steps = steps;
    o.anneal = toy_anneal(2, 4, 2);
    o.anneal.smoothing = ANNEALED;
    return o;
}

static tbg_denoiser *make(toy *t, const tbg_denoise_options *o, int (*accept)(void *, const double *),
                          void *context) {
    tbg_denoiser *d;
    assert_ok(tbg_denoiser_create(t->session, t->conditioning, &t->engine, 2, o, accept, context, &d));
    return d;
}

/* ---- the mean of the estimates is Z, and x has the conditional distribution ---- */

static int is_far(void *context, const double *x) {
    (void)context;
    return toy_distance(x) > TOY_MIDDLE;
}

static int is_none(void *context, const double *x) {
    (void)x;
    ++*(int *)context;
    return 0;
}

/* far: the estimate is that of the far well alone. */
static void check_integral(toy *t, const tbg_denoise_options *o, long n, double d, int far) {
    double mean_r, off = 0, exact = toy_integral(d, o->smoothing, far ? TOY_MIDDLE : 0, INFINITY, &mean_r);
    tbg_denoiser *denoiser = make(t, o, far ? is_far : NULL, NULL);
    toy_set s = toy_make_set(n);
    mean z = {0}, r = {0}, stated = {0};
    for (long i = 0; i < n; i++)
        toy_place((uint64_t)i, d, s.y + 6 * i);
    assert_ok(tbg_denoise(denoiser, 5, n, 0, s.y, s.x, s.result));
    for (long i = 0; i < n; i++) {
        const double *x = s.x + 6 * i, w = exp(s.result[i].log_z) / exact;
        add(&z, w);
        add(&r, w * (toy_distance(x) - mean_r));
        if (w > 0) {
            if (o->branches > 1)
                add(&stated, pow(w * s.result[i].error, 2));
            assert_true(fabs(s.result[i].u - toy_energy(toy_distance(x), NULL)) < 1e-6);
            assert_true(!far || toy_distance(x) > TOY_MIDDLE);
        }
        for (int k = 0; k < 3; k++)
            off = fmax(off, fabs(x[k] + x[3 + k]));
    }
    print_message("    %d x %d%s, d %g: Z %.4f +- %.4f of %.4f, r off by %.1e +- %.1e nm\n", o->branches,
                  o->steps, far ? ", far well" : "", d, value(z), error(z), exact, value(r), error(r));
    assert_true(off < 1e-12);
    if (!(fabs(value(z) - 1) < 4 * error(z) && error(z) < 0.02))
        fail_msg("%d branches of %d steps: Z is %g +- %g times the exact value", o->branches, o->steps,
                 value(z), error(z));
    if (!(fabs(value(r)) < 4 * error(r) && error(r) < 5e-4))
        fail_msg("%d branches of %d steps: mean distance off by %g +- %g nm", o->branches, o->steps, value(r),
                 error(r));
    /* The variance that branches state is that of the estimates. */
    double ratio = o->branches > 1 ? stated.sum / (z.n * z.n * error(z) * error(z)) : 1;
    if (!(ratio > 0.75 && ratio < 1.33))
        fail_msg("%d branches of %d steps: stated variance %g of that seen", o->branches, o->steps, ratio);
    toy_drop_set(s);
    tbg_denoiser_free(denoiser);
}

static void unbiased(void **state) {
    (void)state;
    toy t = make_toy(1);
    const int branches[] = {1, 3, 8}, steps[] = {1, 2, 10};
    const long n[] = {16000, 8000, 2000};
    for (int c = 0; c < 3; c++) {
        tbg_denoise_options o = branching(branches[c], steps[c]);
        check_integral(&t, &o, n[c], 0.14, 0);
        if (c < 2)
            check_integral(&t, &o, n[c], 0.19, 0);
    }
    free_toy(&t);
}

static void refused_branches_count_nothing(void **state) {
    (void)state;
    toy t = make_toy(1);
    tbg_denoise_options crude = branching(3, 2), fine = branching(8, 10);
    check_integral(&t, &crude, 8000, 0.14, 1);
    check_integral(&t, &fine, 2000, 0.14, 1);
    /* Where nothing is accepted there is still an x. */
    int asked = 0;
    double y[6], x[6];
    tbg_anneal_result result;
    tbg_denoiser *d = make(&t, &crude, is_none, &asked);
    toy_place(1, 0.15, y);
    assert_ok(tbg_denoise(d, 5, 1, 0, y, x, &result));
    assert_true(result.log_z == -INFINITY && asked == 3 && isfinite(toy_distance(x)) && isnan(result.error));
    tbg_denoiser_free(d);
    free_toy(&t);
}

/* ---- the other way round ---- */

/* A shell of y's, as a density of the difference vector; y of the number. */
static const double centre = 0.158, width = 0.02;
static double shell(const double *y) {
    const double d = toy_distance(y);
    return exp(-0.5 * pow((d - centre) / width, 2)) / (width * sqrt(2 * M_PI) * 4 * M_PI * d * d);
}
static void draw_from_shell(uint64_t number, double *y) {
    double z;
    tbg_random_normal(23, TBG_STREAM(TBG_STREAM_TEST, number), 0, 1, &z);
    toy_place(number, centre + width * z, y);
}

/* x of density exp(-u), r above low; the return value: the integral of exp(-u) over the difference vector. */
static double draw_molecules(long n, double low, double *x) {
    const double high = 0.21, h = 1e-5, most = 0.18 * 0.18 * exp(1.2 * TOY_TILT);
    double sum = 0;
    for (double r = low + 0.5 * h; r < high; r += h)
        sum += h * 4 * M_PI * r * r * exp(-toy_energy(r, NULL));
    for (long i = 0; i < n; i++)
        for (uint64_t attempt = 0;; attempt++) {
            double u[2];
            tbg_random_uniform(24, TBG_STREAM(TBG_STREAM_TEST, i), 2 * attempt, 2, u);
            const double r = low + (high - low) * u[0], p = r * r * exp(-toy_energy(r, NULL)) / most;
            assert_true(p <= 1);
            if (u[1] < p) {
                toy_place((uint64_t)(1000000 + i), r, x + 6 * i);
                break;
            }
        }
    return sum;
}

/* For x of density exp(-u)/N, y of N(x, S^2) and every function h of the estimate Z^ and y
 *   N E_given[q(y) h] = int q(y) E_forward[Z^ h | y] dy:
 * here with h = 1/(Z^ + c) and with h = 1 where Z^ is below a threshold, q a shell. Estimates of forward
 * branches in the place of those given x are many errors off: the test can tell. */
static void same_up_to_the_estimate(void **state) {
    (void)state;
    enum { MOST = 6000 };
    toy t = make_toy(1);
    const int branches[] = {1, 1, 3, 8, 3}, steps[] = {1, 3, 2, 10, 2};
    const long n[] = {MOST, MOST, MOST / 2, MOST / 8, MOST / 2};
    const double c = 0.25, below[] = {0.1, 0.2, 0.35};
    double worst = 0, least_power = INFINITY;
    toy_set s = toy_make_set(MOST);
    for (int k = 0; k < 5; k++) {
        const int far = k == 4;
        tbg_denoise_options o = branching(branches[k], steps[k]);
        tbg_denoiser *d = make(&t, &o, far ? is_far : NULL, NULL);
        mean forward[4] = {0}, given[4] = {0}, wrong = {0};
        for (long i = 0; i < n[k]; i++)
            draw_from_shell((uint64_t)i, s.y + 6 * i);
        assert_ok(tbg_denoise(d, 100 + (uint64_t)k, n[k], 0, s.y, s.x, s.result));
        for (long i = 0; i < n[k]; i++) {
            double e = exp(s.result[i].log_z);
            add(&forward[3], e / (e + c));
            for (int f = 0; f < 3; f++)
                add(&forward[f], e < below[f] ? e : 0);
        }
        const double N = draw_molecules(n[k], far ? TOY_MIDDLE : 0.09, s.x);
        assert_ok(tbg_denoise_given(d, 200 + (uint64_t)k, n[k], s.number, s.x, s.y, s.result));
        for (long i = 0; i < n[k]; i++) {
            double e = exp(s.result[i].log_z), q = N * shell(s.y + 6 * i);
            add(&given[3], q / (e + c));
            for (int f = 0; f < 3; f++)
                add(&given[f], e < below[f] ? q : 0);
            assert_true(fabs(s.result[i].u - toy_energy(toy_distance(s.x + 6 * i), NULL)) < 1e-6);
            for (int a = 0; a < 3; a++)
                assert_true(fabs(s.y[6 * i + a] + s.y[6 * i + 3 + a]) < 1e-12);
        }
        assert_ok(tbg_denoise(d, 300, n[k], 0, s.y, s.x, s.result)); /* of the same y, without x */
        for (long i = 0; i < n[k]; i++)
            add(&wrong, N * shell(s.y + 6 * i) / (exp(s.result[i].log_z) + c));
        for (int f = 0; f < 4; f++) {
            worst = fmax(worst, errors_apart(forward[f], given[f]));
            if (!(errors_apart(forward[f], given[f]) < 4 && error(given[f]) < 0.03))
                fail_msg("%d x %d%s, function %d: forward %g +- %g, given x %g +- %g", o.branches, o.steps,
                         far ? ", far well" : "", f, value(forward[f]), error(forward[f]), value(given[f]),
                         error(given[f]));
        }
        print_message("    %d x %d%s: forward %.4f +- %.4f, given x %.4f +- %.4f, without x %.4f\n",
                      o.branches, o.steps, far ? ", far well" : "", value(forward[3]), error(forward[3]),
                      value(given[3]), error(given[3]), value(wrong));
        if (o.branches < 4)
            least_power = fmin(least_power, errors_apart(wrong, forward[3]));
        tbg_denoiser_free(d);
    }
    print_message("    at most %.1f errors apart; without x at least %.1f\n", worst, least_power);
    assert_true(least_power > 8);
    toy_drop_set(s);
    free_toy(&t);
}

/* The density of the x that a flow of density q and branches make, by counting, and as the mean of
 * q(y) exp(-u(x)) / estimate over y given x, x spread over the same intervals of r. */
static void density_of_what_is_made(void **state) {
    (void)state;
    enum { BINS = 6, N = 6000 };
    const double low = 0.13, step = 0.008;
    double worst = 0;
    toy t = make_toy(1);
    tbg_denoise_options o = branching(3, 2);
    tbg_denoiser *d = make(&t, &o, NULL, NULL);
    mean counted[BINS] = {0}, found[BINS] = {0};
    toy_set s = toy_make_set(N);
    for (long i = 0; i < N; i++)
        draw_from_shell((uint64_t)i, s.y + 6 * i);
    assert_ok(tbg_denoise(d, 7, N, 0, s.y, s.x, s.result));
    for (long i = 0; i < N; i++)
        for (int b = 0; b < BINS; b++) {
            double r = toy_distance(s.x + 6 * i);
            add(&counted[b], r >= low + b * step && r < low + (b + 1) * step);
        }
    for (long i = 0; i < N; i++) {
        double u;
        tbg_random_uniform(25, TBG_STREAM(TBG_STREAM_TEST, i), 0, 1, &u);
        toy_place((uint64_t)(N + i), low + step * ((double)(i % BINS) + u), s.x + 6 * i);
    }
    assert_ok(tbg_denoise_given(d, 8, N, s.number, s.x, s.y, s.result));
    for (long i = 0; i < N; i++) {
        double r = toy_distance(s.x + 6 * i);
        add(&found[i % BINS],
            step * 4 * M_PI * r * r * shell(s.y + 6 * i) * exp(-s.result[i].u - s.result[i].log_z));
    }
    for (int b = 0; b < BINS; b++) {
        worst = fmax(worst, errors_apart(counted[b], found[b]));
        if (!(errors_apart(counted[b], found[b]) < 4 && error(found[b]) < 0.02))
            fail_msg("r from %g: counted %g +- %g, found %g +- %g", low + b * step, value(counted[b]),
                     error(counted[b]), value(found[b]), error(found[b]));
    }
    print_message("    at most %.1f errors apart\n", worst);
    assert_true(value(counted[4]) > 0.15); /* there is something to see */
    toy_drop_set(s);
    tbg_denoiser_free(d);
    free_toy(&t);
}

/* ---- what results depend on ---- */

/* Number and seed: not threads, calls or neighbours, some of which are not finite. */
static void one_by_one(void **state) {
    (void)state;
    enum { N = 50 };
    const double bad[] = {NAN, INFINITY, 1e300};
    toy t = make_toy(1), parallel = make_toy(2);
    tbg_denoise_options o = branching(3, 4);
    tbg_denoiser *d = make(&t, &o, is_far, NULL), *d2;
    o.anneal.threads = 2;
    d2 = make(&parallel, &o, is_far, NULL);
    toy_set s = toy_make_set(N), all = toy_make_set(N);
    tbg_anneal_result one;
    double x[6], old[6 * N];
    for (long i = 0; i < N; i++)
        toy_place((uint64_t)i, 0.14 + 0.001 * (double)i, s.y + 6 * i);
    memcpy(old, s.y, sizeof old);
    assert_ok(tbg_denoise(d, 5, N, 100, s.y, all.x, all.result));
    assert_memory_equal(s.y, old, sizeof old);
    assert_ok(tbg_denoise(d2, 5, N, 100, s.y, s.y, s.result)); /* in place */
    assert_memory_equal(s.y, all.x, sizeof old);
    assert_memory_equal(s.result, all.result, N * sizeof one);
    for (long i = 0; i < N; i++) {
        assert_ok(tbg_denoise(d2, 5, 1, 100 + (uint64_t)i, old + 6 * i, x, &one));
        assert_memory_equal(x, all.x + 6 * i, sizeof x);
        assert_memory_equal(&one, &all.result[i], sizeof one);
        assert_ok(tbg_denoise(d, 6, 1, 100 + (uint64_t)i, old + 6 * i, x, &one));
        assert_true(toy_distance(x) != toy_distance(all.x + 6 * i));
        assert_ok(tbg_denoise(d, 5, 1, 200 + (uint64_t)i, old + 6 * i, x, &one));
        assert_true(toy_distance(x) != toy_distance(all.x + 6 * i));
    }
    memcpy(s.y, old, sizeof old);
    for (int k = 0; k < 3; k++)
        s.y[6 * (7 + 13 * k) + k] = bad[k];
    assert_ok(tbg_denoise(d, 5, N, 100, s.y, s.x, s.result));
    for (long i = 0; i < N; i++)
        if (i % 13 == 7 && i < 34)
            assert_true(s.result[i].log_z == -INFINITY);
        else {
            assert_memory_equal(s.x + 6 * i, all.x + 6 * i, sizeof x);
            assert_memory_equal(&s.result[i], &all.result[i], sizeof one);
        }
    /* The other way round. */
    assert_ok(tbg_denoise_given(d, 5, N, s.number, old, all.y, all.result));
    assert_ok(tbg_denoise_given(d2, 5, N, s.number, old, s.y, s.result));
    assert_memory_equal(s.y, all.y, sizeof old);
    assert_memory_equal(s.result, all.result, N * sizeof one);
    for (long i = 0; i < N; i++) {
        uint64_t other = s.number[i] + 1;
        assert_true(isfinite(all.result[i].log_z) &&
                    toy_distance(all.y + 6 * i) != toy_distance(old + 6 * i));
        assert_ok(tbg_denoise_given(d2, 5, 1, s.number + i, old + 6 * i, x, &one));
        assert_memory_equal(x, all.y + 6 * i, sizeof x);
        assert_memory_equal(&one, &all.result[i], sizeof one);
        assert_ok(tbg_denoise_given(d, 5, 1, &other, old + 6 * i, x, &one));
        assert_true(one.log_z != all.result[i].log_z && toy_distance(x) != toy_distance(all.y + 6 * i));
    }
    memcpy(s.x, old, sizeof old);
    for (int k = 0; k < 3; k++)
        s.x[6 * (7 + 13 * k) + k] = bad[k];
    assert_ok(tbg_denoise_given(d, 5, N, s.number, s.x, s.y, s.result));
    for (long i = 0; i < N; i++)
        if (i % 13 == 7 && i < 34)
            assert_true(s.result[i].log_z == -INFINITY);
        else {
            assert_memory_equal(s.y + 6 * i, all.y + 6 * i, sizeof x);
            assert_memory_equal(&s.result[i], &all.result[i], sizeof one);
        }
    toy_drop_set(s);
    toy_drop_set(all);
    tbg_denoiser_free(d);
    tbg_denoiser_free(d2);
    free_toy(&t);
    free_toy(&parallel);
}

/* The same bits as the annealing's, and no network is needed. */
static void no_branches(void **state) {
    (void)state;
    enum { N = 20 };
    tbg_engine engine = toy_engine();
    tbg_denoise_options o = branching(0, 0);
    tbg_anneal_options anneal;
    tbg_denoiser *d;
    toy_set a = toy_make_set(N), b = toy_make_set(N);
    o.smoothing = o.anneal.smoothing = TOY_SMOOTHING;
    o.anneal.replicas = 3;
    o.anneal.seed = 99; /* has nothing to say */
    anneal = o.anneal;
    anneal.seed = 12;
    assert_ok(tbg_denoiser_create(NULL, NULL, &engine, 2, &o, NULL, NULL, &d));
    assert_memory_equal(tbg_denoiser_options(d), &o, sizeof o);
    for (long i = 0; i < N; i++)
        toy_place((uint64_t)i, 0.14, a.y + 6 * i);
    assert_ok(tbg_denoise(d, 12, N, 7, a.y, a.x, a.result));
    assert_ok(tbg_anneal(&engine, 2, &anneal, N, 7, a.y, b.x, b.result));
    assert_memory_equal(a.x, b.x, 6 * N * sizeof(double));
    assert_memory_equal(a.result, b.result, N * sizeof *a.result);
    assert_ok(tbg_denoise_given(d, 12, N, a.number, a.x, a.y, a.result));
    tbg_anneal_smooth(2, &anneal, N, a.number, a.x, b.y);
    assert_ok(tbg_anneal_reverse(&engine, 2, &anneal, N, a.number, a.x, b.y, b.result));
    assert_memory_equal(a.y, b.y, 6 * N * sizeof(double));
    assert_memory_equal(a.result, b.result, N * sizeof *a.result);
    tbg_denoiser_free(d);
    tbg_denoiser_free(NULL);
    toy_drop_set(a);
    toy_drop_set(b);
}

static void options_refused(void **state) {
    (void)state;
    toy t = make_toy(1);
    tbg_denoiser *d;
    tbg_denoise_options o;
#define REFUSED(change, words)                                                                               \
    o = branching(2, 2);                                                                                     \
    change;                                                                                                  \
    assert_int_equal(tbg_denoiser_create(t.session, t.conditioning, &t.engine, 2, &o, NULL, NULL, &d),       \
                     TBG_INPUT);                                                                             \
    assert_null(d);                                                                                          \
    if (!strstr(tbg_message(), words))                                                                       \
    fail_msg("%s: %s", words, tbg_message())
    REFUSED(o.branches = -1, "-1 branches");
    REFUSED(o.branches = 257, "257 branches");
    REFUSED(o.steps = 0, "0 steps");
    REFUSED(o.steps = 10001, "10001 steps");
    REFUSED(o.smoothing = ANNEALED, "0.007 to 0.007 nm");
    REFUSED(o.smoothing = NAN, "nan");
    REFUSED(o.smoothing = 10.5, "10.5");
    REFUSED(o.anneal.smoothing = 0.03, "to 0.03 nm");
    REFUSED(o.anneal.smoothing = TRAINED, "model's 0.004 nm");
    REFUSED(o.anneal.smoothing = 0.003, "to 0.003 nm");
    REFUSED(o.anneal.smoothing = 0, "0 nm");
    REFUSED(o.anneal.replicas = 0, "0 replicas");
    REFUSED((o.branches = 0, o.anneal.smoothing = 0.02), "0.028 nm, not 0.02");
#undef REFUSED
    tbg_denoise_defaults(&o);
    o.anneal.temperature = 300;
    d = make(&t, &o, NULL, NULL); /* the usual options are possible */
    assert_true(tbg_denoiser_options(d)->branches == 64 && tbg_denoiser_options(d)->steps == 20);
    tbg_denoiser_free(d);
    free_toy(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unbiased),
        cmocka_unit_test(refused_branches_count_nothing),
        cmocka_unit_test(same_up_to_the_estimate),
        cmocka_unit_test(density_of_what_is_made),
        cmocka_unit_test(one_by_one),
        cmocka_unit_test(no_branches),
        cmocka_unit_test(options_refused),
    };
    return cmocka_run_group_tests_name("denoising", tests, NULL, NULL);
}
