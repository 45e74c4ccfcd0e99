/* test_cuda_dynamics.c: the device against the oracle and the processor. Skipped, visibly, where there is no
 * device; what needs none (who goes on together, refusals) is in test_group.c and test_simulate_command.c. */
#include "../energy/vectors.h"
#include "dynamics/cuda.h"
#include "dynamics/simulation.h"
#include "dynamics/source.h"
#include "energy/reference.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* All frames of all vectors, forces and energies, in one call each; a broken conformation marks only itself.
 */
static void energies_match_the_reference(void **state) {
    (void)state;
    for (int m = 0; m < N_VECTORS; m++) {
        vector_set v = load_vector(vector_names[m]);
        size_t n = 3 * (size_t)v.system->n_atoms, total = (size_t)v.n * n;
        double *f = malloc(total * sizeof *f), *want = malloc(n * sizeof *want), part[TBG_E_N];
        double *e = malloc((size_t)v.n * sizeof *e), *only = malloc((size_t)v.n * sizeof *e),
               *parts = malloc((size_t)v.n * TBG_E_N * sizeof *parts);
        tbg_engine *engine;
        assert_ok(tbg_engine_create("cuda", v.molecule, v.system, 1, &engine));
        double saved = v.positions[n + 4];
        v.positions[n + 4] = NAN;
        assert_ok(tbg_engine_evaluate(engine, v.n, v.positions, e, f, parts));
        assert_ok(tbg_engine_evaluate(engine, v.n, v.positions, only, NULL, NULL));
        assert_false(isfinite(e[1]));
        v.positions[n + 4] = saved;
        for (long k = 0; k < v.n; k++) {
            if (k == 1)
                continue;
            double largest = 1000;
            assert_ok(tbg_reference_evaluate(v.system, v.positions + (size_t)k * n, part, want));
            for (size_t j = 0; j < n; j++)
                largest = fmax(largest, fabs(want[j]));
            for (int c = 0; c < TBG_E_N; c++)
                assert_true(fabs(parts[k * TBG_E_N + c] - part[c]) <= 1e-8);
            assert_true(fabs(only[k] - e[k]) <= 1e-9);
            for (size_t j = 0; j < n; j++)
                if (!(fabs(f[(size_t)k * n + j] - want[j]) <= 1e-11 * largest))
                    fail_msg("%s, frame %ld, force %zu: %.9g, reference %.9g", vector_names[m], k, j,
                             f[(size_t)k * n + j], want[j]);
        }
        tbg_engine_free(engine);
        free(f), free(want), free(e), free(only), free(parts);
        free_vector(&v);
    }
}

typedef struct {
    tbg_force_source source;
    tbg_source_owner *owner;
    tbg_lanes *lanes;
    tbg_exchange exchange;
} member;

enum { RUNS = 2, REPLICAS = 3, LANES = RUNS * REPLICAS };

static member member_make(const vector_set *v) {
    member m;
    size_t n = 3 * (size_t)v->system->n_atoms;
    assert_ok(tbg_force_source_create(v->system, &m.source, &m.owner));
    assert_ok(tbg_lanes_create(&m.source, v->system->mass, LANES, 0.0005, 1, 5, 1, &m.lanes));
    assert_ok(tbg_exchange_create(RUNS, REPLICAS, 310, 340, 5, &m.exchange));
    for (int l = 0; l < LANES; l++) {
        m.lanes->temperature[l] = m.exchange.temperatures[m.exchange.level[l]];
        tbg_lanes_set_positions(m.lanes, l, v->positions + (size_t)(1 + l % 4) * n);
        tbg_lanes_draw_velocities(m.lanes, l, 0);
    }
    tbg_lanes_center(m.lanes);
    tbg_lanes_fill(m.lanes);
    return m;
}

static void member_free(member *m) {
    tbg_lanes_free(m->lanes);
    tbg_exchange_free(&m->exchange);
    tbg_force_source_free(m->owner);
}

/* Molecules of different sizes in one launch, exchanges between, two launches in flight: against the
 * processor, as long as rounding has not grown; again from the same state: the same bits. */
static void steps_match_the_processor(void **state) {
    (void)state;
    enum { MEMBERS = 3, PIECES = 4, PIECE = 25 };
    static const char *const names[MEMBERS] = {"AC", "WY", "alanine_dipeptide"};
    vector_set v[MEMBERS];
    member host[MEMBERS], first[MEMBERS], second[MEMBERS];
    tbg_cuda_member a[MEMBERS], b[MEMBERS];
    for (int m = 0; m < MEMBERS; m++) {
        v[m] = load_vector(names[m]);
        host[m] = member_make(&v[m]);
        first[m] = member_make(&v[m]);
        second[m] = member_make(&v[m]);
        a[m] = (tbg_cuda_member){v[m].system, first[m].lanes, &first[m].exchange};
        b[m] = (tbg_cuda_member){v[m].system, second[m].lanes, &second[m].exchange};
        for (int i = 0; i < PIECES; i++) {
            tbg_lanes_advance(host[m].lanes, PIECE);
            if (i % 2)
                tbg_lanes_center(host[m].lanes);
            tbg_lanes_energies(host[m].lanes);
            tbg_exchange_round(&host[m].exchange, host[m].lanes);
        }
    }
    tbg_cuda_dynamics *d, *e;
    assert_ok(tbg_cuda_dynamics_create(MEMBERS, a, &d));
    assert_ok(tbg_cuda_dynamics_launch(d, PIECES / 2, PIECE, 0));
    assert_ok(tbg_cuda_dynamics_launch(d, PIECES / 2, PIECE, 0));
    assert_int_equal(tbg_cuda_dynamics_launch(d, 1, PIECE, 0), TBG_FAILED);
    assert_ok(tbg_cuda_dynamics_collect(d));
    assert_int_equal(first[0].lanes->step, PIECES / 2 * PIECE);
    assert_ok(tbg_cuda_dynamics_collect(d));
    assert_int_equal(tbg_cuda_dynamics_collect(d), TBG_FAILED);
    tbg_cuda_dynamics_free(d);
    for (int half = 0; half < 2; half++) { /* stopped and resumed */
        assert_ok(tbg_cuda_dynamics_create(MEMBERS, b, &e));
        assert_ok(tbg_cuda_dynamics_launch(e, PIECES / 2, PIECE, 0));
        assert_ok(tbg_cuda_dynamics_collect(e));
        tbg_cuda_dynamics_free(e);
    }
    for (int m = 0; m < MEMBERS; m++) {
        size_t n = 3 * (size_t)v[m].system->n_atoms;
        double worst = 0, x[3 * 64], y[3 * 64], z[3 * 64];
        assert_int_equal(first[m].exchange.rounds, host[m].exchange.rounds);
        for (int l = 0; l < LANES; l++) {
            assert_int_equal(first[m].exchange.level[l], host[m].exchange.level[l]);
            assert_int_equal(second[m].exchange.level[l], first[m].exchange.level[l]);
            tbg_lanes_get_positions(host[m].lanes, l, x);
            tbg_lanes_get_positions(first[m].lanes, l, y);
            tbg_lanes_get_positions(second[m].lanes, l, z);
            assert_memory_equal(y, z, n * sizeof *y);
            for (size_t j = 0; j < n; j++)
                worst = fabs(x[j] - y[j]) <= worst ? worst : fabs(x[j] - y[j]);
            assert_true(fabs(first[m].lanes->energy[l] - host[m].lanes->energy[l]) < 0.01);
            assert_true(fabs(tbg_lanes_kinetic(first[m].lanes, l) / tbg_lanes_kinetic(host[m].lanes, l) - 1) <
                        1e-3);
        }
        if (getenv("TBG_SHOW_ERRORS"))
            printf("%s: positions apart by %.3g nm after %d steps\n", names[m], worst, PIECES * PIECE);
        assert_true(worst < 2e-6);
        member_free(&host[m]);
        member_free(&first[m]);
        member_free(&second[m]);
        free_vector(&v[m]);
    }
}

/* ---- whole simulations ---- */

enum { SIMULATIONS = 2 };
static char folder[64];

static void simulations_create(const vector_set *v, const char *what, int resume, tbg_simulation **out) {
    tbg_simulation_options o;
    tbg_simulation_defaults("amber14-obc1", &o);
    o.runs = 2, o.replicas = 2, o.max_temperature = 330, o.threads = 1;
    o.save_every = 0.02, o.exchange_every = 0.01, o.equilibrate = 0.04, o.time = 0.06;
    for (int k = 0; k < SIMULATIONS; k++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s-%d.nc", folder, what, k);
        o.seed = 7 + (uint64_t)k;
        assert_ok(tbg_simulation_create(v[k].molecule, v[k].system, path, &o, resume, &out[k]));
    }
}

static void simulations_free(tbg_simulation **s) {
    for (int k = 0; k < SIMULATIONS; k++)
        tbg_simulation_free(s[k]);
}

/* Largest distance of positions and of energies between two simulations' frames and final states. */
static void difference(tbg_simulation **s, tbg_simulation **t, double *apart, double *energy) {
    *apart = *energy = 0;
    for (int k = 0; k < SIMULATIONS; k++) {
        size_t n = 3 * (size_t)s[k]->system->n_atoms;
        double x[3 * 64], y[3 * 64], e[2];
        assert_int_equal(s[k]->n_frames, 3);
        assert_int_equal(t[k]->n_frames, 3);
        assert_true(s[k]->complete && t[k]->complete);
        fflush(s[k]->frames);
        fflush(t[k]->frames);
        for (int frame = 0; frame < 3; frame++)
            for (int run = 0; run < 2; run++) {
                assert_ok(tbg_frames_get(s[k], frame, run, &e[0], x));
                assert_ok(tbg_frames_get(t[k], frame, run, &e[1], y));
                for (size_t j = 0; j < n; j++)
                    *apart = fabs(x[j] - y[j]) <= *apart ? *apart : fabs(x[j] - y[j]);
                *energy = fabs(e[0] - e[1]) <= *energy ? *energy : fabs(e[0] - e[1]);
            }
        for (int l = 0; l < 4; l++) {
            assert_int_equal(s[k]->exchange.level[l], t[k]->exchange.level[l]);
            assert_int_equal(s[k]->exchange.end[l], t[k]->exchange.end[l]);
        }
        for (int r = 0; r < 2; r++) {
            assert_int_equal(s[k]->exchange.attempts[r], t[k]->exchange.attempts[r]);
            assert_int_equal(s[k]->exchange.accepts[r], t[k]->exchange.accepts[r]);
            assert_int_equal(s[k]->exchange.round_trips[r], t[k]->exchange.round_trips[r]);
        }
        assert_int_equal(s[k]->exchange.rounds, t[k]->exchange.rounds);
    }
}

static void run_batch(tbg_simulation **s, int frames) {
    tbg_simulation_batch *b;
    int done = 0;
    int64_t total;
    assert_ok(tbg_simulation_batch_create(SIMULATIONS, s, &b));
    for (int k = 0; k < frames && !done; k++)
        assert_ok(tbg_simulation_batch_advance(b, &done));
    int64_t steps = tbg_simulation_batch_steps(b, &total);
    assert_true(done ? steps == total : steps < total);
    tbg_simulation_batch_free(b);
}

/* On the device as on the processor; stopped, saved and resumed, also at different frames: the same bits as
 * without. */
static void batches_match_single_simulations(void **state) {
    (void)state;
    vector_set v[SIMULATIONS] = {load_vector("AC"), load_vector("LT")};
    tbg_simulation *host[SIMULATIONS], *whole[SIMULATIONS], *parts[SIMULATIONS];
    int done;
    double apart, energy;
    simulations_create(v, "host", 0, host);
    for (int k = 0; k < SIMULATIONS; k++)
        do
            assert_ok(tbg_simulation_advance(host[k], &done));
        while (!done);
    simulations_create(v, "whole", 0, whole);
    run_batch(whole, 100);
    difference(host, whole, &apart, &energy);
    if (getenv("TBG_SHOW_ERRORS"))
        printf("simulations: apart by %.3g nm, %.3g kJ/mol\n", apart, energy);
    assert_true(apart < 2e-6);
    assert_true(energy < 0.01);
    simulations_create(v, "parts", 0, parts);
    run_batch(parts, 2);
    for (int k = 0; k < SIMULATIONS; k++)
        assert_ok(tbg_simulation_save(parts[k]));
    run_batch(parts, 1);
    assert_ok(tbg_simulation_save(parts[1])); /* one frame ahead of the other */
    simulations_free(parts);
    simulations_create(v, "parts", 1, parts);
    assert_int_equal(tbg_simulation_step(parts[0]), 80);
    assert_int_equal(tbg_simulation_step(parts[1]), 120);
    run_batch(parts, 100);
    difference(whole, parts, &apart, &energy);
    assert_true(apart == 0 && energy == 0);
    assert_ok(tbg_simulation_finish(parts[0], NULL));
    simulations_free(host);
    simulations_free(whole);
    simulations_free(parts);
    for (int k = 0; k < SIMULATIONS; k++)
        free_vector(&v[k]);
}

/* While a bias is sought: stages end where they should, the device goes on with the new terms; stopped in the
 * middle of it, the same bits. */
static void flattened_create(const vector_set *v, const char *what, int resume, tbg_simulation **out) {
    tbg_simulation_options o;
    tbg_simulation_defaults("amber14-obc1", &o);
    o.runs = 2, o.replicas = 2, o.max_temperature = 330, o.threads = 1, o.timestep = 0.002;
    o.save_every = 0.04, o.exchange_every = 0.02, o.equilibrate = 0, o.time = 0.08;
    o.flatten = TBG_FLATTEN_PHI, o.flatten_time = 1.6;
    for (int k = 0; k < SIMULATIONS; k++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s-%d.nc", folder, what, k);
        assert_ok(tbg_simulation_create(v[k].molecule, v[k].system, path, &o, resume, &out[k]));
    }
}

static void a_bias_is_found_on_the_device(void **state) {
    (void)state;
    vector_set v[SIMULATIONS] = {load_vector("AC"), load_vector("LT")};
    tbg_simulation *host[SIMULATIONS], *whole[SIMULATIONS], *parts[SIMULATIONS];
    int done;
    flattened_create(v, "biased-host", 0, host);
    for (int k = 0; k < SIMULATIONS; k++)
        assert_ok(tbg_simulation_advance(host[k], &done));
    flattened_create(v, "biased-whole", 0, whole);
    run_batch(whole, 3);
    flattened_create(v, "biased-parts", 0, parts);
    run_batch(parts, 1);
    for (int k = 0; k < SIMULATIONS; k++) {
        assert_int_equal(host[k]->flatten->stage, 1);
        assert_int_equal(parts[k]->flatten->stage, 1);
        for (int j = 0; j < TBG_FLATTEN_SERIES; j++)
            assert_true(fabs(parts[k]->flatten->series[TBG_FLATTEN_SERIES + j] -
                             host[k]->flatten->series[TBG_FLATTEN_SERIES + j]) < 0.01);
        assert_ok(tbg_simulation_save(parts[k]));
    }
    run_batch(parts, 1); /* lost */
    simulations_free(parts);
    flattened_create(v, "biased-parts", 1, parts);
    run_batch(parts, 2);
    for (int k = 0; k < SIMULATIONS; k++) {
        size_t state_size = 3 * (size_t)whole[k]->system->n_atoms * TBG_LANES * sizeof(float);
        assert_int_equal(whole[k]->lanes->step, 300);
        assert_int_equal(parts[k]->lanes->step, 300);
        assert_int_equal(whole[k]->flatten->stage, 3);
        assert_memory_equal(whole[k]->lanes->x, parts[k]->lanes->x, state_size);
        assert_memory_equal(whole[k]->flatten->series, parts[k]->flatten->series,
                            4 * TBG_FLATTEN_SERIES * sizeof(double));
        double x[3 * 64]; /* the device's energies are those of the system with its bias */
        tbg_engine *engine;
        double energy;
        assert_ok(tbg_engine_create("reference", v[k].molecule, tbg_simulation_system(parts[k]), 1, &engine));
        tbg_lanes_get_positions(parts[k]->lanes, 0, x);
        assert_ok(tbg_engine_evaluate(engine, 1, x, &energy, NULL, NULL));
        tbg_engine_free(engine);
        /* the bias has changed since the energies came: take off the old one */
        parts[k]->flatten->stage--;
        double old = tbg_flatten_energy(parts[k]->flatten, x);
        parts[k]->flatten->stage++;
        energy += old - tbg_flatten_energy(parts[k]->flatten, x);
        assert_true(fabs(energy - parts[k]->lanes->energy[0]) < 0.02);
    }
    simulations_free(host);
    simulations_free(whole);
    simulations_free(parts);
    for (int k = 0; k < SIMULATIONS; k++)
        free_vector(&v[k]);
}

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/tbg-cuda-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    char name[256];
    if (tbg_cuda_device(name, sizeof name) != TBG_OK) {
        fprintf(stderr, "skipped: %s\n", tbg_message());
        return 77;
    }
    fprintf(stderr, "on %s\n", name);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(energies_match_the_reference),
        cmocka_unit_test(steps_match_the_processor),
        cmocka_unit_test_setup_teardown(batches_match_single_simulations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bias_is_found_on_the_device, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
