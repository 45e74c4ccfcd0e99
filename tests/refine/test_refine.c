/* test_refine.c: the chains on a toy whose populations are known, with proposals that are deliberately wrong;
 * a wrong rule must show; each proposal once, invalid ones never; save and load; the molecule's target. */
#include "tbg_test.h"
#include "file/temporary.h"
#include "refine/chain.h"
#include "refine/parts.h"
#include "tbg/dynamics.h"
#include "tbg/file.h"
#include "tbg/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the toy: two wells in one dimension, cut off at EDGE, a barrier that its dynamics does not cross ----
 */

#define EDGE 1.15

typedef struct {
    double wrong_density; /* added to log q as this times x: a wrong rule */
    int steps;
    int64_t calls;
    int fail_at; /* cycle at which dynamics fails, 0: never */
} toy;

static double toy_u(double x) {
    double a = x * x - 1;
    return 10 * a * a + 0.7 * x;
}
static double normal_density(double x, double mean, double width) {
    return exp(-0.5 * pow((x - mean) / width, 2)) / (width * sqrt(2 * M_PI));
}
static double toy_q(double x) {
    return 0.2 * normal_density(x, -0.6, 0.5) + 0.8 * normal_density(x, 1.1, 0.35);
}

/* Metropolis steps on u without the edge: going back at the edge is the chains' business. */
static int toy_dynamics(void *self, int level, int64_t cycle, int n, double *states) {
    toy *t = self;
    if (t->fail_at && cycle == t->fail_at)
        return tbg_fail(TBG_FAILED, "toy failed");
    for (int c = 0; c < n; c++)
        for (int s = 0; s < t->steps; s++) {
            double z[2], u;
            uint64_t stream = TBG_STREAM(TBG_STREAM_TEST, 1000 + level * 10000 + c),
                     at = (uint64_t)cycle * 64 + (uint64_t)s;
            tbg_random_normal(5, stream, 2 * at, 2, z);
            tbg_random_uniform(6, stream, at, 1, &u);
            double to = states[c] + 0.1 * z[0];
            if (u < exp(toy_u(states[c]) - toy_u(to)))
                states[c] = to;
        }
    t->calls++;
    return TBG_OK;
}
static int toy_weigh(void *self, int64_t cycle, int n, const double *x, double *u, double *log_q) {
    toy *t = self;
    (void)cycle;
    for (int i = 0; i < n; i++) {
        u[i] = x[i] < EDGE ? toy_u(x[i]) : INFINITY;
        log_q[i] = log(toy_q(x[i])) + t->wrong_density * x[i];
    }
    return TBG_OK;
}
static uint32_t toy_mark(void *self, const double *x) {
    (void)self;
    return *x > 0;
}
static tbg_refine_target toy_target(toy *t) {
    return (tbg_refine_target){.size = 1,
                               .n_marks = 1,
                               .mark_names = {"right"},
                               .self = t,
                               .dynamics = toy_dynamics,
                               .weigh = toy_weigh,
                               .mark = toy_mark};
}

/* Draws from q; every seventh is spoilt in one of four ways. */
static tbg_refine_proposals toy_proposals(long n) {
    double *x = calloc((size_t)n * 3, sizeof *x), *log_q = x + n, *u = x + 2 * n;
    assert_non_null(x);
    for (long i = 0; i < n; i++) {
        double z, which;
        tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), (uint64_t)i, 1, &z);
        tbg_random_uniform(1, TBG_STREAM(TBG_STREAM_TEST, 2), (uint64_t)i, 1, &which);
        x[i] = which < 0.2 ? -0.6 + 0.5 * z : 1.1 + 0.35 * z;
        u[i] = x[i] < EDGE ? toy_u(x[i]) : INFINITY;
        log_q[i] = log(toy_q(x[i]));
        if (i % 7 == 3) { /* would win every competition if it were looked at */
            const double bad[4] = {NAN, -INFINITY, INFINITY, NAN};
            *(i % 2 ? &u[i] : &log_q[i]) = bad[i / 7 % 4];
        }
    }
    return (tbg_refine_proposals){n, x, log_q, u};
}

/* Moments of the target by the trapezoidal rule. */
static void exact(double *p_right, double *u_mean) {
    double z = 0, right = 0, u = 0;
    for (double x = -3; x < EDGE; x += 1e-5) {
        double w = exp(-toy_u(x));
        z += w;
        right += w * (x > 0);
        u += w * toy_u(x);
    }
    *p_right = right / z;
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

static tbg_refine *run(toy *t, const tbg_refine_proposals *p, int chains, int K, int levels) {
    tbg_refine_target target = toy_target(t);
    tbg_refine_options o = toy_options(chains, K, levels);
    tbg_refine *r;
    assert_ok(tbg_refine_create(&target, p, &o, &r));
    long done = 0, cycles = tbg_refine_cycles(r, &done);
    while (done < cycles) {
        assert_ok(tbg_refine_advance(r));
        tbg_refine_cycles(r, &done);
    }
    return r;
}

/* Populations and energies right within their errors, the errors small, for several K and levels. The same
 * with densities that are off by exp(x) is wrong by many errors: the test can tell. */
static void populations(void **state) {
    (void)state;
    double p, u;
    exact(&p, &u);
    tbg_refine_proposals proposals = toy_proposals(60000);
    const int K[] = {1, 4, 10, 4}, levels[] = {1, 1, 1, 3};
    for (int i = 0; i < 4; i++) {
        toy t = {.steps = 10};
        tbg_refine *r = run(&t, &proposals, 20, K[i], levels[i]);
        tbg_refine_summary s;
        assert_ok(tbg_refine_summarise(r, &s));
        double error = s.marks[0].dF.error * s.marks[0].p * (1 - s.marks[0].p);
        if (!(fabs(s.marks[0].p - p) < 4 * error && error < 0.02 && error > 0.001))
            fail_msg("K %d, %d levels: p = %g +- %g, exact %g", K[i], levels[i], s.marks[0].p, error, p);
        if (!(fabs(s.u_mean - u) < 4 * s.u_error && s.u_error < 0.05))
            fail_msg("K %d, %d levels: u = %g +- %g, exact %g", K[i], levels[i], s.u_mean, s.u_error, u);
        double dF = -log(p / (1 - p)), bridge = s.marks[0].bridge.error;
        if (!(fabs(s.marks[0].bridge.value - dF) < 4 * bridge && bridge < 0.05))
            fail_msg("K %d, %d levels: bridge %g +- %g, exact %g", K[i], levels[i], s.marks[0].bridge.value,
                     bridge, dF);
        assert_true(s.converged && s.acceptance > 0.05 && s.acceptance < 0.99 && s.rejected > 0.001);
        assert_true(s.marks[0].effective > 200 && s.used == r->cycles * 20 * K[i]);
        tbg_refine_free(r);
        t = (toy){.steps = 10, .wrong_density = 1};
        r = run(&t, &proposals, 20, K[i], levels[i]);
        assert_ok(tbg_refine_summarise(r, &s));
        error = s.marks[0].dF.error * s.marks[0].p * (1 - s.marks[0].p);
        if (!(fabs(s.marks[0].p - p) > 6 * error))
            fail_msg("K %d, %d levels: the wrong rule gives p = %g +- %g, exact %g", K[i], levels[i],
                     s.marks[0].p, error, p);
        tbg_refine_free(r);
    }
    free((double *)proposals.states);
}

/* Chains that keep to their wells: none leaves, populations come out right all the same, and the frames'
 * weights give them and the energy. */
static void within_states(void **state) {
    (void)state;
    double p, u;
    exact(&p, &u);
    tbg_refine_proposals proposals = toy_proposals(20000);
    for (int levels = 1; levels <= 2; levels++) {
        toy t = {.steps = 10};
        tbg_refine_target target = toy_target(&t);
        tbg_refine_options o = toy_options(16, 4, levels);
        tbg_refine *r;
        tbg_refine_summary s;
        o.within = 1;
        assert_ok(tbg_refine_create(&target, &proposals, &o, &r));
        while (r->done < r->cycles)
            assert_ok(tbg_refine_advance(r));
        for (long i = 0; i < r->cycles * 16; i++)
            assert_int_equal(r->frames[i] > 0, r->states_seen[i % 16 % 2]);
        assert_ok(tbg_refine_summarise(r, &s));
        double dF = -log(p / (1 - p)), error = s.marks[0].dF.error;
        if (!(fabs(s.marks[0].dF.value - dF) < 4 * error && error < 0.08))
            fail_msg("%d levels: dF %g +- %g, exact %g", levels, s.marks[0].dF.value, error, dF);
        if (!(fabs(s.u_mean - u) < 4 * hypot(s.u_error, 0.7 * error) && s.u_error < 0.05))
            fail_msg("%d levels: u %g +- %g, exact %g", levels, s.u_mean, s.u_error, u);
        assert_true(s.converged && s.states == 2);
        double populations[2];
        assert_ok(tbg_refine_populations(r, s.bridge_burn_in, populations));
        assert_true(fabs(populations[r->states_seen[1] == 1] - s.marks[0].p) < 1e-9);
        tbg_refine_free(r);
        o.chains = 3;
        assert_int_equal(tbg_refine_create(&target, &proposals, &o, &r), TBG_INPUT);
        assert_non_null(strstr(tbg_message(), "4 chains"));
    }
    free((double *)proposals.states);
}

/* With one level a frame descends from the proposal before, or from one of the K of its own chain and cycle.
 */
static void each_proposal_once(void **state) {
    (void)state;
    enum { CHAINS = 7, K = 5 };
    tbg_refine_proposals proposals = toy_proposals(4000);
    toy t = {.steps = 3};
    tbg_refine *r = run(&t, &proposals, CHAINS, K, 1);
    assert_int_equal(r->cycles, 4000 / (CHAINS * K));
    assert_int_equal(t.calls, r->cycles + 1); /* and the starts */
    long taken = 0;
    for (long c = 0; c < r->cycles; c++)
        for (int k = 0; k < CHAINS; k++) {
            long ancestor = (long)r->frame_ancestor[c * CHAINS + k];
            assert_true(ancestor % 7 != 3 && isfinite(proposals.u[ancestor]) &&
                        isfinite(proposals.log_q[ancestor]));
            assert_true(isfinite(r->frame_u[c * CHAINS + k]) && r->frames[c * CHAINS + k] < EDGE);
            if (c && ancestor != r->frame_ancestor[(c - 1) * CHAINS + k]) {
                assert_int_equal(ancestor / K, c * CHAINS + k);
                taken++;
            }
        }
    assert_true(taken > 100);
    tbg_refine_free(r);
    /* Levels: a frame descends from a start of its chain or from proposals that this chain has seen. */
    tbg_refine_target target = toy_target(&t);
    tbg_refine_options o = toy_options(CHAINS, K, 3);
    assert_ok(tbg_refine_create(&target, &proposals, &o, &r));
    int64_t start[3 * CHAINS];
    memcpy(start, r->ancestor, sizeof start);
    for (long c = 0; c < r->cycles; c++) {
        assert_ok(tbg_refine_advance(r));
        for (int k = 0; k < CHAINS; k++) {
            int64_t ancestor = r->frame_ancestor[c * CHAINS + k];
            int known = ancestor / K % CHAINS == k && ancestor / (K * CHAINS) <= c;
            for (int l = 0; l < 3; l++)
                known |= ancestor == start[l * CHAINS + k];
            assert_true(known);
        }
    }
    tbg_refine_free(r);
    free((double *)proposals.states);
}

/* Chains whose dynamics leaves the valid states at every step stay where they are; the failing cycle leaves
 * no trace. */
static void refusals(void **state) {
    (void)state;
    tbg_refine_proposals proposals = toy_proposals(400), none = proposals;
    toy t = {.steps = 3, .fail_at = 3};
    tbg_refine_target target = toy_target(&t);
    tbg_refine_options o = toy_options(4, 5, 2);
    tbg_refine *r, *undisturbed;
    assert_ok(tbg_refine_create(&target, &proposals, &o, &r));
    assert_ok(tbg_refine_advance(r));
    assert_ok(tbg_refine_advance(r));
    assert_int_equal(tbg_refine_advance(r), TBG_FAILED);
    assert_int_equal(r->done, 2);
    t.fail_at = 0;
    assert_ok(tbg_refine_advance(r));
    assert_ok(tbg_refine_create(&target, &proposals, &o, &undisturbed));
    for (int i = 0; i < 3; i++)
        assert_ok(tbg_refine_advance(undisturbed));
    assert_memory_equal(r->frames, undisturbed->frames, 12 * sizeof(double));
    assert_memory_equal(&r->counts, &undisturbed->counts, sizeof r->counts);
    tbg_refine_free(r);
    tbg_refine_free(undisturbed);
#define REFUSED(change, words)                                                                               \
    o = toy_options(4, 5, 2);                                                                                \
    change;                                                                                                  \
    assert_int_equal(tbg_refine_create(&target, &none, &o, &r), TBG_INPUT);                                  \
    assert_null(r);                                                                                          \
    assert_non_null(strstr(tbg_message(), words))
    REFUSED(o.chains = -1, "chains");
    REFUSED(o.proposals = 0, "proposals");
    REFUSED(o.levels = 17, "levels");
    REFUSED(o.levels = 0, "levels");
    REFUSED(o.time = NAN, "ps");
    REFUSED(o.level_time = 0, "ps");
    REFUSED(o.timestep = 0, "time step");
    REFUSED(o.friction = 0, "friction");
    REFUSED(o.temperature = NAN, "K");
    REFUSED(none.n = 19, "too few");
    double *bad = calloc(400, sizeof *bad);
    for (int i = 0; i < 400; i++)
        bad[i] = NAN;
    none = (tbg_refine_proposals){400, proposals.states, bad, proposals.u};
    REFUSED(o.levels = 1, "none of the 400");
    free(bad);
    free((double *)proposals.states);
}

static void chains_are_chosen(void **state) {
    (void)state;
    tbg_refine_options o = toy_options(0, 4, 1);
    assert_int_equal(tbg_refine_chains(&o, 4000), 16); /* 62 cycles */
    assert_int_equal(tbg_refine_chains(&o, 6399), 16);
    assert_int_equal(tbg_refine_chains(&o, 6400), 32);
    assert_int_equal(tbg_refine_chains(&o, 800), 10); /* 20 cycles */
    assert_int_equal(tbg_refine_chains(&o, 1), 2);
    assert_int_equal(tbg_refine_chains(&o, 100000000), 1024);
    o.chains = 5;
    assert_int_equal(tbg_refine_chains(&o, 1), 5);
}

static void saved_and_loaded(void **state) {
    (void)state;
    const char *path = temporary_path("refine.safetensors");
    tbg_refine_proposals proposals = toy_proposals(2000), others = proposals;
    toy t = {.steps = 3};
    tbg_refine_target target = toy_target(&t);
    tbg_refine_options o = toy_options(6, 4, 2), other = o;
    tbg_refine *a = run(&t, &proposals, 6, 4, 2), *b, *c;
    assert_ok(tbg_refine_create(&target, &proposals, &o, &b));
    for (int i = 0; i < 13; i++)
        assert_ok(tbg_refine_advance(b));
    assert_ok(tbg_refine_save(b, "toy", path));
    tbg_refine_free(b);
    assert_ok(tbg_refine_create(&target, &proposals, &o, &b));
    assert_int_equal(tbg_refine_load(b, "another toy", path), TBG_INPUT);
    assert_ok(tbg_refine_load(b, "toy", path));
    assert_int_equal(b->done, 13);
    while (b->done < b->cycles)
        assert_ok(tbg_refine_advance(b));
    size_t n = (size_t)a->cycles * 6;
    assert_memory_equal(a->frames, b->frames, n * sizeof(double));
    assert_memory_equal(a->seen_log_w, b->seen_log_w, 2 * n * sizeof(double));
    assert_memory_equal(a->frame_ancestor, b->frame_ancestor, n * sizeof(int64_t));
    assert_memory_equal(&a->counts, &b->counts, sizeof a->counts);
    /* Other options, other proposals, damage. */
    other.time = 7;
    assert_ok(tbg_refine_create(&target, &proposals, &other, &c));
    assert_int_equal(tbg_refine_load(c, "toy", path), TBG_INPUT);
    tbg_refine_free(c);
    others.n = 1999;
    assert_ok(tbg_refine_create(&target, &others, &o, &c));
    assert_int_equal(tbg_refine_load(c, "toy", path), TBG_INPUT);
    tbg_refine_free(c);
    assert_ok(tbg_refine_create(&target, &proposals, &o, &c));
    char *data;
    size_t size;
    assert_ok(tbg_file_read(path, 1 << 24, &data, &size));
    for (size_t cut = 0; cut < size; cut += size / 9) {
        assert_ok(tbg_file_write(path, data, cut));
        assert_int_equal(tbg_refine_load(c, "toy", path), TBG_INPUT);
        assert_int_equal(c->done, 0);
    }
    for (int what = 0; what < 2; what++) { /* a chain that is nowhere, or descends from nothing */
        double *u = b->u;
        double good_u = u[3];
        int64_t good = b->ancestor[3];
        what ? (void)(b->ancestor[3] = 2000) : (void)(u[3] = NAN);
        assert_ok(tbg_refine_save(b, "toy", path));
        assert_int_equal(tbg_refine_load(c, "toy", path), TBG_INPUT);
        u[3] = good_u;
        b->ancestor[3] = good;
    }
    free(data);
    unlink(path);
    tbg_refine_free(a);
    tbg_refine_free(b);
    tbg_refine_free(c);
    free((double *)proposals.states);
}

/* Two Gaussians: p_a = exp(-x^2/2), p_b = exp(-(x - 1)^2 / (2 0.25) + 3). */
static void acceptance_ratio(void **state) {
    (void)state;
    enum { N = 4000, M = 1500 };
    double *a = calloc(N + M, sizeof *a), *b = a + N, effective;
    for (int i = 0; i < N + M; i++) {
        double x;
        tbg_random_normal(2, TBG_STREAM(TBG_STREAM_TEST, 3), (uint64_t)i, 1, &x);
        if (i >= N)
            x = 1 + 0.5 * x;
        a[i] = x * x / 2 - (x - 1) * (x - 1) / 0.5 + 3;
    }
    double got = tbg_refine_ratio(N, a, M, b, &effective), want = log(0.5) + 3;
    if (!(fabs(got - want) < 0.1 && effective > 100))
        fail_msg("ln Z ratio %g, want %g; %g effective", got, want, effective);
    double back = -tbg_refine_ratio(M, a, N, a, NULL); /* equal sets of unequal size: no crash, no NaN */
    assert_true(isfinite(back));
    assert_true(isnan(tbg_refine_ratio(0, a, M, b, &effective)) && effective == 0);
    a[0] = 1e300;
    assert_true(isnan(tbg_refine_ratio(N, a, M, b, NULL)));
    free(a);
}

/* ---- the target of a molecule ---- */

static void molecule_target(void **state) {
    (void)state;
    enum { N = 66, CHAINS = 5 };
    parts p = make_parts(0);
    p.options.levels = 2;
    tbg_refine_target t;
    assert_ok(tbg_refine_molecule_create(p.molecule, p.system, p.conditioning, p.session, &p.flow, p.engine,
                                         NULL, &p.options, 100, &t));
    assert_int_equal(t.size, N);
    assert_int_equal(t.n_marks, 1);
    assert_string_equal(t.mark_names[0], "phi1");
    double start[N], x[10 * N], y[10 * N], u[10], log_q[10];
    memcpy(start, p.molecule->positions, sizeof start);
    assert_ok(tbg_minimize(p.system, start, 10, 0, NULL));
    tbg_remove_mean(22, start);
    for (int c = 0; c < CHAINS; c++)
        memcpy(x + c * N, start, sizeof start);
    for (int k = 0; k < N; k++)
        x[N + k] = -start[k]; /* mirrored */
    x[2 * N + 5] = NAN;
    int ha = tbg_molecule_find(p.molecule, 1, "HA"), h = tbg_molecule_find(p.molecule, 1, "HB1");
    for (int a = 0; a < 3; a++) { /* isomorphic, but labelled otherwise */
        x[3 * N + 3 * ha + a] = start[3 * h + a];
        x[3 * N + 3 * h + a] = start[3 * ha + a];
    }
    assert_ok(t.weigh(t.self, 1, CHAINS, x, u, log_q));
    double energy, scaled[N], z[N];
    tbg_flow_result result;
    const tbg_conditioning *one = p.conditioning;
    assert_ok(tbg_engine_evaluate(p.engine, 1, start, &energy, NULL, NULL));
    for (int k = 0; k < N; k++)
        scaled[k] = 6 * start[k];
    assert_ok(tbg_flow_density(p.session, &p.flow, 1, &one, scaled, z, &result));
    assert_true(fabs(u[0] - energy / (TBG_BOLTZMANN * 300)) < 1e-9);
    assert_true(fabs(log_q[0] - (result.log_q + 63 * log(6))) < 1e-6);
    assert_true(u[4] == u[0] && log_q[4] == log_q[0]);
    for (int i = 1; i < 4; i++)
        assert_false(isfinite(u[i]) && isfinite(log_q[i]));
    /* Dynamics: reproducible, other noise in each chain, cycle and level, threads do not matter. */
    for (int c = 0; c < CHAINS; c++)
        memcpy(x + c * N, start, sizeof start);
    memcpy(y, x, sizeof y);
    assert_ok(t.dynamics(t.self, 1, 1, CHAINS, x));
    assert_true(memcmp(x, x + N, sizeof start));
    p.options.threads = 2;
    tbg_refine_target other;
    assert_ok(tbg_refine_molecule_create(p.molecule, p.system, p.conditioning, p.session, &p.flow, p.engine,
                                         NULL, &p.options, 100, &other));
    assert_ok(other.dynamics(other.self, 1, 2, CHAINS, y));
    assert_true(memcmp(x, y, sizeof start));
    for (int c = 0; c < CHAINS; c++)
        memcpy(y + c * N, start, sizeof start);
    assert_ok(other.dynamics(other.self, 0, 1, CHAINS, y));
    assert_true(memcmp(x, y, sizeof start));
    for (int c = 0; c < CHAINS; c++)
        memcpy(y + c * N, start, sizeof start);
    assert_ok(other.dynamics(other.self, 1, 1, CHAINS, y));
    assert_memory_equal(x, y, CHAINS * N * sizeof *x);
    assert_ok(t.weigh(t.self, 1, CHAINS, x, u, log_q));
    for (int c = 0; c < CHAINS; c++) /* warmed up, still the molecule */
        assert_true(isfinite(u[c]) && u[c] > energy / (TBG_BOLTZMANN * 300) && isfinite(log_q[c]));
    tbg_refine_molecule_free(&other);
    tbg_refine_molecule_free(&t);
    p.flow.weights = 0;
    assert_int_equal(tbg_refine_molecule_create(p.molecule, p.system, p.conditioning, p.session, &p.flow,
                                                p.engine, NULL, &p.options, 100, &t),
                     TBG_INPUT);
    free_parts(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(populations),        cmocka_unit_test(within_states),
        cmocka_unit_test(each_proposal_once), cmocka_unit_test(refusals),
        cmocka_unit_test(chains_are_chosen),  cmocka_unit_test(saved_and_loaded),
        cmocka_unit_test(acceptance_ratio),   cmocka_unit_test(molecule_target)};
    return cmocka_run_group_tests_name("refine", tests, temporary_setup, temporary_teardown);
}
