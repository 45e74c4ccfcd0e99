/* test_smoothed.c: chains over smoothed samples, where a proposal is y with the annealing that made x of it:
 * on two atoms whose distribution is known, with proposals and annealing that are deliberately poor; a wrong
 * rule must show. The target of a molecule: which weights it finds, and that they have addresses. */
#include "tbg_test.h"
#include "anneal/toy.h"
#include "file/temporary.h"
#include "refine/chain.h"
#include "refine/parts.h"
#include "tbg/dynamics.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- two atoms: r is the state that counts; y is a shell of the wrong width around the wrong distance ----
 */

typedef struct {
    tbg_engine engine;
    tbg_anneal_options anneal;
    int forward; /* the wrong rule: annealing that knows nothing of x */
    int fail_at; /* cycle at which weigh fails, 0: never */
} toy;

static double shell(const double *y) {
    const double r = toy_distance(y), centre = 0.158, width = 0.014;
    return -0.5 * pow((r - centre) / width, 2) - log(width * sqrt(2 * M_PI) * 4 * M_PI * r * r);
}

/* Metropolis steps in the six coordinates. */
static int toy_dynamics(void *self, int level, int64_t cycle, int n, double *states) {
    (void)self;
    for (int c = 0; c < n; c++)
        for (int s = 0; s < 2; s++) {
            double *x = states + 6 * c, to[6], z[6], uniform;
            uint64_t stream = TBG_STREAM(TBG_STREAM_TEST, 1000 + level * 10000 + c);
            tbg_random_normal(5, stream, (uint64_t)cycle * 64 + 8 * (uint64_t)s, 6, z);
            tbg_random_uniform(6, stream, (uint64_t)cycle * 64 + (uint64_t)s, 1, &uniform);
            for (int k = 0; k < 6; k++)
                to[k] = x[k] + 0.002 * z[k];
            if (uniform < exp(toy_energy(toy_distance(x), NULL) - toy_energy(toy_distance(to), NULL)))
                memcpy(x, to, sizeof to);
        }
    return TBG_OK;
}

static int toy_weigh(void *self, int64_t cycle, int n, const double *x, double *u, double *log_q) {
    toy *t = self;
    double y[6 * 64], other[6 * 64];
    uint64_t number[64];
    tbg_anneal_result result[64];
    assert_true(n <= 64);
    if (t->fail_at && cycle == t->fail_at)
        return tbg_fail(TBG_FAILED, "toy failed");
    for (int i = 0; i < n; i++)
        number[i] = (uint64_t)cycle << 20 | (uint64_t)i;
    tbg_anneal_options o = t->anneal;
    o.seed = 77;
    tbg_anneal_smooth(2, &o, n, number, x, y);
    if (t->forward)
        assert_ok(tbg_anneal(&t->engine, 2, &o, n, number[0], y, other, result));
    else
        assert_ok(tbg_anneal_reverse(&t->engine, 2, &o, n, number, x, y, result));
    for (int i = 0; i < n; i++) {
        u[i] = toy_energy(toy_distance(x + 6 * i), NULL);
        log_q[i] = shell(y + 6 * i) - result[i].log_z - u[i];
    }
    return TBG_OK;
}
static uint32_t toy_mark(void *self, const double *x) {
    (void)self;
    return toy_distance(x) > TOY_MIDDLE;
}
static tbg_refine_target toy_target(toy *t) {
    return (tbg_refine_target){.size = 6,
                               .n_marks = 1,
                               .mark_names = {"far"},
                               .self = t,
                               .dynamics = toy_dynamics,
                               .weigh = toy_weigh,
                               .mark = toy_mark};
}

static tbg_refine_proposals toy_proposals(toy *t, long n) {
    double *x = calloc((size_t)n * 8, sizeof *x), *log_q = x + 6 * n, *u = x + 7 * n,
           *y = calloc((size_t)n * 6, sizeof *y);
    tbg_anneal_result *result = calloc((size_t)n, sizeof *result);
    assert_true(x && y && result);
    for (long i = 0; i < n; i++) {
        double z;
        tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), (uint64_t)i, 1, &z);
        toy_place((uint64_t)i, 0.158 + 0.014 * z, y + 6 * i);
    }
    assert_ok(tbg_anneal(&t->engine, 2, &t->anneal, n, 0, y, x, result));
    for (long i = 0; i < n; i++) {
        u[i] = result[i].u;
        log_q[i] = shell(y + 6 * i) - result[i].log_z - u[i];
    }
    free(y);
    free(result);
    return (tbg_refine_proposals){n, x, log_q, u};
}

static void exact(double *p_far, double *u_mean) {
    double z = 0, far = 0, u = 0;
    for (double r = 1e-6; r < 0.4; r += 1e-6) {
        double e = toy_energy(r, NULL), w = r * r * exp(-e);
        z += w;
        far += w * (r > TOY_MIDDLE);
        u += w * e;
    }
    *p_far = far / z;
    *u_mean = u / z;
}

static tbg_refine_options toy_options(int chains, int K, int levels) {
    tbg_refine_options o;
    tbg_refine_defaults(NULL, &o);
    o.chains = chains;
    o.proposals = K;
    o.levels = levels;
    o.seed = 11;
    return o;
}

/* Populations, energies and the bridge right within small errors, for several K and levels; and not with
 * annealing that knows nothing of x, by many errors. */
static void populations(void **state) {
    (void)state;
    enum { N = 24000, CHAINS = 12 };
    double p, u, dF;
    exact(&p, &u);
    dF = -log(p / (1 - p));
    toy t = {.engine = toy_engine(), .anneal = toy_anneal(2, 1, 2)};
    tbg_refine_proposals proposals = toy_proposals(&t, N);
    const int K[] = {2, 6, 4}, levels[] = {1, 1, 3};
    for (int i = 0; i < 6; i++) {
        t.forward = i >= 3;
        tbg_refine_target target = toy_target(&t);
        tbg_refine_options o = toy_options(CHAINS, K[i % 3], levels[i % 3]);
        tbg_refine *r;
        tbg_refine_summary s;
        assert_ok(tbg_refine_create(&target, &proposals, &o, &r));
        while (r->done < r->cycles)
            assert_ok(tbg_refine_advance(r));
        assert_ok(tbg_refine_summarise(r, &s));
        const tbg_refine_mark *m = &s.marks[0];
        double error = m->dF.error * m->p * (1 - m->p), off = (m->p - p) / error;
        double off_u = (s.u_mean - u) / s.u_error, off_bridge = (m->bridge.value - dF) / m->bridge.error;
        print_message(
            "    K %d, %d levels%s: p %.4f +- %.4f (%.4f), %.1f errors; u %.4f +- %.4f, %.1f; bridge %.3f "
            "+- %.3f (%.3f), %.1f\n",
            K[i % 3], levels[i % 3], t.forward ? ", wrong rule" : "", m->p, error, p, off, s.u_mean,
            s.u_error, off_u, m->bridge.value, m->bridge.error, dF, off_bridge);
        if (t.forward) {
            assert_true(fabs(off) > 6 || fabs(off_u) > 6);
            assert_true(fabs(off_bridge) > 6);
        } else {
            assert_true(fabs(off) < 4 && error < 0.02 && error > 0.001);
            assert_true(fabs(off_u) < 4 && s.u_error < 0.02);
            assert_true(fabs(off_bridge) < 4 && m->bridge.error < 0.1);
            assert_true(s.converged && s.acceptance > 0.05 && s.acceptance < 0.99);
        }
        tbg_refine_free(r);
    }
    free((double *)proposals.states);
}

/* Saved in the middle, or failed and gone on: the same bits. */
static void goes_on(void **state) {
    (void)state;
    enum { N = 900, CHAINS = 5, K = 4 };
    const char *path = temporary_path("refine.safetensors");
    toy t = {.engine = toy_engine(), .anneal = toy_anneal(2, 2, 2)};
    tbg_refine_proposals proposals = toy_proposals(&t, N);
    tbg_refine_target target = toy_target(&t);
    tbg_refine_options o = toy_options(CHAINS, K, 2);
    tbg_refine *a, *b;
    assert_ok(tbg_refine_create(&target, &proposals, &o, &a));
    while (a->done < a->cycles)
        assert_ok(tbg_refine_advance(a));
    t.fail_at = 8;
    assert_ok(tbg_refine_create(&target, &proposals, &o, &b));
    for (int i = 0; i < 7; i++)
        assert_ok(tbg_refine_advance(b));
    assert_int_equal(tbg_refine_advance(b), TBG_FAILED);
    assert_ok(tbg_refine_save(b, "toy", path));
    tbg_refine_free(b);
    t.fail_at = 0;
    assert_ok(tbg_refine_create(&target, &proposals, &o, &b));
    assert_ok(tbg_refine_load(b, "toy", path));
    while (b->done < b->cycles)
        assert_ok(tbg_refine_advance(b));
    size_t n = (size_t)a->cycles * CHAINS;
    assert_memory_equal(a->frames, b->frames, 6 * n * sizeof(double));
    assert_memory_equal(a->seen_log_w, b->seen_log_w, 2 * n * sizeof(double));
    assert_memory_equal(a->frame_log_q, b->frame_log_q, n * sizeof(double));
    unlink(path);
    tbg_refine_free(a);
    tbg_refine_free(b);
    free((double *)proposals.states);
}

/* ---- a molecule ---- */

static int create(const parts *p, tbg_denoiser **d, tbg_refine_target *t) {
    *d = make_denoiser(p);
    int status = tbg_refine_molecule_create(p->molecule, p->system, p->conditioning, p->session, &p->flow,
                                            p->engine, *d, &p->options, 100, t);
    if (status)
        tbg_denoiser_free(*d);
    return status;
}
static void drop(tbg_denoiser *d, tbg_refine_target *t) {
    tbg_refine_molecule_free(t);
    tbg_denoiser_free(d);
}

/* Five conformations from dynamics, the third of them spoilt. */
static void conformations(const parts *p, double *x) {
    tbg_denoiser *d;
    tbg_refine_target t;
    double start[66];
    memcpy(start, p->molecule->positions, sizeof start);
    assert_ok(tbg_minimize(p->system, start, 10, 0, NULL));
    for (int c = 0; c < 5; c++)
        memcpy(x + 66 * c, start, sizeof start);
    assert_ok(create(p, &d, &t));
    assert_ok(t.dynamics(t.self, 0, 1, 5, x));
    drop(d, &t);
    x[2 * 66 + 7] = NAN;
}

/* With next to no smoothing the estimate must be the density itself: y is x, and Z is exp(-u). */
static void little_smoothing(void **state) {
    (void)state;
    double x[5 * 66], u[5], log_q[5], plain_u[5], plain[5];
    parts p = make_parts(2e-6), none = make_parts(0);
    tbg_denoiser *d;
    tbg_refine_target t;
    conformations(&p, x);
    assert_ok(create(&p, &d, &t));
    assert_ok(t.weigh(t.self, 1, 5, x, u, log_q));
    drop(d, &t);
    assert_ok(create(&none, &d, &t));
    assert_ok(t.weigh(t.self, 1, 5, x, plain_u, plain));
    drop(d, &t);
    for (int i = 0; i < 5; i++) {
        if (!(i == 2 ? !isfinite(u[i]) : u[i] == plain_u[i] && fabs(log_q[i] - plain[i]) < 0.05))
            fail_msg("log q %g, without smoothing %g", log_q[i], plain[i]);
    }
    free_parts(&p);
    free_parts(&none);
}

static void molecule_target(void **state) {
    (void)state;
    double x[5 * 66], u[5], log_q[5], again[5];
    parts p = make_parts(0.01);
    tbg_denoiser *d, *of_other;
    tbg_refine_target t, other;
    conformations(&p, x);
    assert_ok(create(&p, &d, &t));
    assert_ok(t.weigh(t.self, 3, 5, x, u, log_q));
    assert_false(isfinite(u[2]) && isfinite(log_q[2]));
    /* Threads and neighbours do not matter, the cycle does. */
    p.options.threads = p.denoise.anneal.threads = 2;
    p.denoise.anneal.seed = 999; /* has nothing to say */
    assert_ok(create(&p, &of_other, &other));
    assert_ok(other.weigh(other.self, 3, 2, x, u, again));
    assert_memory_equal(again, log_q, 2 * sizeof *again);
    assert_ok(other.weigh(other.self, 4, 2, x, u, again));
    assert_true(fabs(again[0] - log_q[0]) > 1e-3);
    p.options.seed++;
    drop(of_other, &other);
    assert_ok(create(&p, &of_other, &other));
    assert_ok(other.weigh(other.self, 3, 1, x, u, again));
    assert_true(fabs(again[0] - log_q[0]) > 1e-3);
    drop(of_other, &other);
    drop(d, &t);
    /* Refusals. */
    parts wrong = p;
    wrong.denoise.smoothing = wrong.denoise.anneal.smoothing = 0.02;
    assert_int_equal(create(&wrong, &d, &t), TBG_INPUT); /* the flow ends at 0.01 */
    assert_non_null(strstr(tbg_message(), "0.02 nm"));
    wrong = p;
    wrong.flow.last_time = 0.9;
    assert_int_equal(create(&wrong, &d, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "0.01 nm"));
    assert_int_equal(tbg_refine_molecule_create(p.molecule, p.system, p.conditioning, p.session, &p.flow,
                                                p.engine, NULL, &p.options, 100, &t),
                     TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "annealing"));
    free_parts(&p);
    p = make_parts(0);
    p.flow.last_time = 0.9; /* noise in a model that has none of its own */
    assert_int_equal(create(&p, &d, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "annealing"));
    free_parts(&p);
}

/* Branches from more noise, where the flow stops early. */
static void branches(void **state) {
    (void)state;
    double x[5 * 66], u[5], log_q[5], again[5], other_u[5];
    parts p = make_parts(0.005);
    tbg_denoiser *d, *of_other;
    tbg_refine_target t, other;
    conformations(&p, x);
    p.denoise.branches = 2;
    p.denoise.steps = 3;
    p.denoise.smoothing = 0.03;
    p.denoise.anneal.smoothing = 0.01;
    p.flow.last_time = tbg_flow_last_time(6, 0.005, 0.03);
    assert_ok(create(&p, &d, &t));
    assert_ok(t.weigh(t.self, 3, 5, x, u, log_q));
    for (int i = 0; i < 5; i++)
        assert_true((isfinite(u[i]) && isfinite(log_q[i])) == (i != 2));
    assert_ok(t.weigh(t.self, 3, 5, x, u, again));
    for (int i = 0; i < 5; i++)
        assert_true(i == 2 || again[i] == log_q[i]);
    /* Threads and neighbours do not matter; cycle and seed do. */
    p.options.threads = p.denoise.anneal.threads = 2;
    assert_ok(create(&p, &of_other, &other));
    assert_ok(other.weigh(other.self, 3, 2, x, other_u, again));
    assert_memory_equal(again, log_q, 2 * sizeof *again);
    assert_ok(other.weigh(other.self, 4, 2, x, other_u, again));
    assert_true(fabs(again[0] - log_q[0]) > 1e-3);
    drop(of_other, &other);
    p.options.seed++;
    assert_ok(create(&p, &of_other, &other));
    assert_ok(other.weigh(other.self, 3, 1, x, other_u, again));
    assert_true(fabs(again[0] - log_q[0]) > 1e-3);
    drop(of_other, &other);
    drop(d, &t);
    /* The flow must end where branches begin. */
    p.flow.last_time = tbg_flow_last_time(6, 0.005, 0.02);
    assert_int_equal(create(&p, &d, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "0.03 nm"));
    p.flow.last_time = 1;
    assert_int_equal(create(&p, &d, &t), TBG_INPUT);
    free_parts(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(populations), cmocka_unit_test(goes_on),
                                       cmocka_unit_test(little_smoothing), cmocka_unit_test(molecule_target),
                                       cmocka_unit_test(branches)};
    return cmocka_run_group_tests_name("refinement of smoothed samples", tests, temporary_setup,
                                       temporary_teardown);
}
