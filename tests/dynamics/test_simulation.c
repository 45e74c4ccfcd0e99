/* test_simulation.c: whole runs of alanine dipeptide: stopping and resuming, threads, refusals, and the
 * physics of the real force field (constant energy, equipartition). */
#include "tbg_test.h"
#include "base/progress.h"
#include "dynamics/peptide.h"
#include "dynamics/simulation.h"
#include "tbg/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tbg_simulation_options short_run(void) {
    tbg_simulation_options o;
    tbg_simulation_defaults("amber99sbildn-obc", &o);
    o.runs = 6;
    o.replicas = 3; /* 18 lanes: two blocks */
    o.max_temperature = 420;
    o.time = 2;
    o.equilibrate = 0.3;
    o.save_every = 0.1;
    o.exchange_every = 0.02;
    o.seed = 5;
    o.threads = 2;
    return o;
}

/* Run to the end, stopping and resuming after every `stop` frames (0: never). */
static void run(const char *path, const tbg_simulation_options *o, int stop) {
    tbg_simulation *s;
    int done = 0, frames = 0, resume = 0;
    assert_ok(tbg_simulation_create(molecule, peptide, path, o, 0, &s));
    while (!done) {
        assert_ok(tbg_simulation_advance(s, &done));
        if (stop && ++frames % stop == 0 && !done) {
            assert_ok(tbg_simulation_save(s));
            /* what happens after the checkpoint is lost with the process */
            assert_ok(tbg_simulation_advance(s, &done));
            tbg_simulation_free(s);
            resume = 1;
            assert_ok(tbg_simulation_create(molecule, peptide, path, o, resume, &s));
            assert_true(tbg_simulation_plan_of(s)->first_step > 0);
            done = 0;
        }
    }
    char *diagnostics;
    assert_ok(tbg_simulation_finish(s, &diagnostics));
    json_t *root = json_loads(diagnostics, 0, NULL);
    assert_true(json_is_true(json_object_get(root, "complete")));
    json_decref(root);
    free(diagnostics);
    tbg_simulation_free(s);
    char checkpoint[160];
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", path);
    assert_true(access(checkpoint, F_OK) != 0);
    snprintf(checkpoint, sizeof checkpoint, "%s.frames", path);
    assert_true(access(checkpoint, F_OK) != 0);
}

static void stopping_and_threads_change_nothing(void **state) {
    (void)state;
    tbg_simulation_options o = short_run();
    run(temporary_path("a.nc"), &o, 0);
    run(temporary_path("b.nc"), &o, 4);
    o.threads = 1;
    run(temporary_path("c.nc"), &o, 0);
    o.seed = 6;
    run(temporary_path("d.nc"), &o, 0);
    assert_same_files(temporary_path("a.nc"), temporary_path("b.nc"), 1);
    assert_same_files(temporary_path("a.json"), temporary_path("b.json"), 1);
    assert_same_files(temporary_path("a.nc"), temporary_path("c.nc"), 1);
    assert_same_files(temporary_path("a.pdb"), temporary_path("c.pdb"), 1);
    assert_same_files(temporary_path("a.nc"), temporary_path("d.nc"), 0);
    /* two blocks that no run connects, each with its thread, against all waiting for each other */
    o = short_run();
    o.runs = 4;
    o.replicas = 8;
    o.time = 1;
    o.threads = 2;
    run(temporary_path("e.nc"), &o, 0);
    tbg_simulation *s;
    int done = 0;
    char *text;
    assert_ok(tbg_simulation_create(molecule, peptide, temporary_path("f.nc"), &o, 0, &s));
    assert_int_equal(s->n_groups, 2);
    s->n_groups = 1; /* fewer than threads: together */
    while (!done)
        assert_ok(tbg_simulation_advance(s, &done));
    assert_ok(tbg_simulation_finish(s, &text));
    free(text);
    tbg_simulation_free(s);
    assert_same_files(temporary_path("e.nc"), temporary_path("f.nc"), 1);
    assert_same_files(temporary_path("e.json"), temporary_path("f.json"), 1);
    /* what a reader finds */
    tbg_trajectory *t;
    assert_ok(tbg_trajectory_read(temporary_path("a.nc"), 0, 1, 0, &t));
    assert_int_equal(t->n_frames, 6 * 20);
    assert_int_equal(t->n_atoms, 22);
    assert_true(t->temperature == 300 && !strcmp(t->forcefield, "amber99sbildn-obc") && t->topology_pdb);
    const double *index = tbg_trajectory_extra(t, "run"),
                 *energy = tbg_trajectory_extra(t, "potential_energy");
    assert_true(index && energy);
    tbg_engine *engine;
    assert_ok(tbg_engine_create("reference", molecule, peptide, 1, &engine));
    for (int64_t i = 0; i < t->n_frames; i++) {
        double x[66], e;
        assert_true(index[i] == (double)(i / 20) && fabs(t->time[i] - 0.1 * (double)(i % 20 + 1)) < 1e-5);
        for (int j = 0; j < 66; j++)
            x[j] = (double)t->positions[i * 66 + j];
        assert_ok(tbg_engine_evaluate(engine, 1, x, &e, NULL, NULL));
        assert_true(fabs(e - energy[i]) < 0.01); /* the file's coordinates are single precision */
    }
    tbg_engine_free(engine);
    tbg_trajectory_free(t);
}

static void prolong(const char *path, const tbg_simulation_options *o, int stop_at) {
    tbg_simulation *s;
    int done = 0;
    assert_ok(tbg_simulation_create(molecule, peptide, path, o, 1, &s));
    for (int frames = 0; !done; frames++) {
        assert_ok(tbg_simulation_advance(s, &done));
        if (frames == stop_at) {
            assert_ok(tbg_simulation_save(s));
            assert_ok(tbg_simulation_finish(s, NULL)); /* what an interrupted program writes */
            tbg_simulation_free(s);
            assert_ok(tbg_simulation_create(molecule, peptide, path, o, 1, &s));
        }
    }
    assert_ok(tbg_simulation_finish(s, NULL));
    tbg_simulation_free(s);
}

/* A finished run goes on to a longer time as if it had never ended: in one piece, in two, and interrupted. */
static void a_finished_run_goes_on(void **state) {
    (void)state;
    tbg_simulation_options o = short_run(), shorter = o;
    run(temporary_path("p.nc"), &o, 0);
    shorter.time = 0.7;
    run(temporary_path("q.nc"), &shorter, 3);
    prolong(temporary_path("q.nc"), &o, -1);
    assert_same_run("p", "q");
    run(temporary_path("t.nc"), &shorter, 0);
    shorter.time = 1.1;
    prolong(temporary_path("t.nc"), &shorter, 1);
    prolong(temporary_path("t.nc"), &o, 4);
    assert_same_run("p", "t");
    /* not longer: nothing to do, nothing is touched, and it says so */
    tbg_simulation *s;
    int done = 0;
    char *text, *there, path[160];
    size_t size;
    snprintf(path, sizeof path, "%s", temporary_path("q.nc"));
    assert_ok(tbg_simulation_create(molecule, peptide, path, &shorter, 1, &s));
    assert_true(tbg_simulation_plan_of(s)->first_step > tbg_simulation_plan_of(s)->total_steps);
    assert_ok(tbg_simulation_advance(s, &done));
    assert_int_equal(done, 1);
    assert_ok(tbg_simulation_save(s));
    assert_ok(tbg_simulation_finish(s, &text));
    assert_ok(tbg_file_read(temporary_path("p.json"), 1 << 20, &there, &size));
    assert_string_equal(text, there);
    free(text);
    free(there);
    tbg_simulation_free(s);
    assert_same_run("p", "q");
}

/* Of another run, without its state, without its frames, with other frames, damaged: refused, and left as it
 * was. */
static void refuses_to_continue_what_it_cannot(void **state) {
    (void)state;
    tbg_simulation_options o = short_run(), other;
    o.time = 0.5;
    run(temporary_path("u.nc"), &o, 0);
    other = o;
    other.seed = 6;
    run(temporary_path("v.nc"), &other, 0);
    tbg_simulation *s;
    char path[160], kept[160], command[600];
    snprintf(path, sizeof path, "%s", temporary_path("u.nc"));
    snprintf(kept, sizeof kept, "%s", temporary_path("u.nc.state"));
    other.time = o.time = 1;
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &other, 1, &s), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "seed 5"));
#define REFUSED(break_it, word)                                                                              \
    snprintf(command, sizeof command, "cd %s && cp u.nc u.keep && cp u.nc.state s.keep && " break_it,        \
             temporary_folder);                                                                              \
    assert_int_equal(system(command), 0);                                                                    \
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &o, 1, &s), TBG_INPUT);                  \
    if (!strstr(tbg_message(), word))                                                                        \
        fail_msg("after %s: %s", break_it, tbg_message());                                                   \
    assert_true(access(temporary_path("u.nc.checkpoint"), F_OK) &&                                           \
                access(temporary_path("u.nc.frames"), F_OK));                                                \
    snprintf(command, sizeof command, "cd %s && mv u.keep u.nc && mv s.keep u.nc.state", temporary_folder);  \
    assert_int_equal(system(command), 0)
    REFUSED("rm u.nc.state", "u.nc.state");
    REFUSED("cp v.nc u.nc", "its frames are not those");
    REFUSED("cp p.nc u.nc", "its frames are not those");
    REFUSED("truncate -s -100 u.nc", "u.nc");
    REFUSED("truncate -s 1000 u.nc.state", "not a complete state");
    REFUSED("cp v.nc.state u.nc.state", "seed 6");
#undef REFUSED
    assert_ok(tbg_simulation_create(molecule, peptide, path, &o, 1, &s)); /* unharmed */
    tbg_simulation_free(s);
    /* what was begun counts as unfinished */
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &o, 0, &s), TBG_INPUT);
    /* started over, nothing of the finished run is used; also where its frames were removed */
    unlink(temporary_path("p.nc"));
    assert_ok(tbg_simulation_create(molecule, peptide, temporary_path("p.nc"), &o, 1, &s));
    assert_true(tbg_simulation_plan_of(s)->first_step == 0);
    tbg_simulation_free(s);
    assert_ok(tbg_simulation_create(molecule, peptide, temporary_path("v.nc"), &o, 0, &s));
    assert_true(tbg_simulation_plan_of(s)->first_step == 0);
    tbg_simulation_free(s);
}

static void one_byte(const char *path, long at, int truncate_there) {
    if (truncate_there) {
        assert_int_equal(truncate(path, at), 0);
        return;
    }
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x40, f);
    fclose(f);
}

static void refuses_what_is_not_its_checkpoint(void **state) {
    (void)state;
    tbg_simulation_options o = short_run(), other;
    tbg_simulation *s;
    int done;
    char path[128], checkpoint[160], frames[160], command[512];
    snprintf(path, sizeof path, "%s", temporary_path("r.nc"));
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", path);
    snprintf(frames, sizeof frames, "%s.frames", path);
    assert_ok(tbg_simulation_create(molecule, peptide, path, &o, 1, &s)); /* nothing to resume: starts */
    for (int i = 0; i < 6; i++)
        assert_ok(tbg_simulation_advance(s, &done));
    assert_ok(tbg_simulation_save(s));
    assert_ok(tbg_simulation_finish(s, NULL)); /* incomplete: writes what there is, keeps the checkpoint */
    tbg_simulation_free(s);
    assert_true(!access(path, F_OK) && !access(checkpoint, F_OK));
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &o, 0, &s), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "--resume"));
    other = o;
    other.seed = 77;
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &other, 1, &s), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "seed 5"));
    other = o;
    other.replicas = 4;
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &other, 1, &s), TBG_INPUT);
    other = o;
    other.time = 4; /* longer is fine */
    assert_ok(tbg_simulation_create(molecule, peptide, path, &other, 1, &s));
    tbg_simulation_free(s);
    snprintf(command, sizeof command, "cp %s %s.keep", checkpoint, checkpoint);
    assert_int_equal(system(command), 0);
    char *data;
    size_t size;
    assert_ok(tbg_file_read(checkpoint, 1 << 28, &data, &size));
    free(data);
    for (int i = 0; i < 24; i++) {
        snprintf(command, sizeof command, "cp %s.keep %s", checkpoint, checkpoint);
        assert_int_equal(system(command), 0);
        long at = i < 12 ? 5 * i : (long)(size * (size_t)(i - 11) / 14);
        one_byte(checkpoint, at, i & 1);
        assert_int_equal(tbg_simulation_create(molecule, peptide, path, &o, 1, &s), TBG_INPUT);
        assert_null(s);
    }
    snprintf(command, sizeof command, "cp %s.keep %s", checkpoint, checkpoint);
    assert_int_equal(system(command), 0);
    one_byte(frames, 100, 1);
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &o, 1, &s), TBG_INPUT);
    unlink(frames);
    assert_int_equal(tbg_simulation_create(molecule, peptide, path, &o, 1, &s), TBG_INPUT);
}

static void refuses_options_that_cannot_be(void **state) {
    (void)state;
    tbg_simulation_options good = short_run(), o;
    assert_ok(tbg_simulation_check(&good));
#define REFUSED(change)                                                                                      \
    o = good;                                                                                                \
    change;                                                                                                  \
    assert_int_equal(tbg_simulation_check(&o), TBG_INPUT)
    REFUSED(o.temperature = 0);
    REFUSED(o.temperature = NAN);
    REFUSED(o.max_temperature = 290);
    REFUSED(o.runs = 0);
    REFUSED(o.replicas = -1);
    REFUSED(o.timestep = -0.001);
    REFUSED(o.timestep = 1);
    REFUSED(o.time = 0);
    REFUSED(o.time = 0.05);
    REFUSED(o.friction = -1);
    REFUSED(o.friction = INFINITY);
    REFUSED(o.save_every = 1e-5);
    REFUSED(o.exchange_every = 0);
    REFUSED(o.equilibrate = -1);
    REFUSED(o.exchange_rate = 0);
#undef REFUSED
}

static void a_blown_up_run_is_named(void **state) {
    (void)state;
    tbg_simulation_options o = short_run();
    o.timestep = 0.01;
    o.save_every = 1;
    o.equilibrate = 0;
    tbg_simulation *s;
    int done = 0, status = TBG_OK;
    assert_ok(tbg_simulation_create(molecule, peptide, temporary_path("e.nc"), &o, 0, &s));
    while (!done && status == TBG_OK)
        status = tbg_simulation_advance(s, &done);
    assert_int_equal(status, TBG_FAILED);
    assert_non_null(strstr(tbg_message(), "timestep"));
    tbg_simulation_free(s);
}

static void ladder_is_chosen_by_a_pilot(void **state) {
    (void)state;
    tbg_simulation_options o = short_run();
    o.replicas = 0;
    o.runs = 1;
    o.max_temperature = 600;
    o.exchange_rate = 0.4;
    o.time = 8;
    tbg_simulation *s;
    int done = 0;
    assert_ok(tbg_simulation_create(molecule, peptide, temporary_path("l.nc"), &o, 0, &s));
    const tbg_simulation_plan *p = tbg_simulation_plan_of(s);
    /* 66 - 6 nearly harmonic coordinates: about 30 k_B */
    assert_true(p->heat_capacity > 18 && p->heat_capacity < 50);
    assert_true(p->replicas >= 3 && p->replicas <= 7 && p->predicted_acceptance >= 0.4);
    while (!done)
        assert_ok(tbg_simulation_advance(s, &done));
    double attempts = 0, accepts = 0;
    for (int k = 0; k + 1 < p->replicas; k++) {
        attempts += (double)s->exchange.attempts[k];
        accepts += (double)s->exchange.accepts[k];
    }
    assert_true(fabs(accepts / attempts - p->predicted_acceptance) < 0.15);
    tbg_simulation_free(s);
}

/* ---- the real force field under the integrator ---- */

static tbg_lanes *peptide_lanes(double timestep, double friction, tbg_source_owner **owner) {
    tbg_force_source source;
    tbg_lanes *l;
    double *x = malloc(66 * sizeof *x);
    memcpy(x, molecule->positions, 66 * sizeof *x);
    assert_ok(tbg_minimize(peptide, x, 1, 0, NULL));
    assert_ok(tbg_force_source_create(peptide, &source, owner));
    assert_ok(tbg_lanes_create(&source, peptide->mass, TBG_LANES, timestep, friction, 3, 1, &l));
    for (int lane = 0; lane < TBG_LANES; lane++) {
        l->temperature[lane] = 300;
        tbg_lanes_set_positions(l, lane, x);
        tbg_lanes_draw_velocities(l, lane, 0);
    }
    free(x);
    return l;
}

/* Root mean square deviation of the total energy along constant-energy runs, mean over lanes. */
static double energy_noise(double timestep, double time, double *drift) {
    tbg_source_owner *owner;
    tbg_lanes *l = peptide_lanes(timestep, 0, &owner);
    enum { SAMPLES = 200 };
    static double total[SAMPLES][TBG_LANES];
    double noise = 0, slope = 0;
    int64_t steps = llround(time / timestep / SAMPLES);
    tbg_lanes_advance(l, 500); /* the start has no thermal potential energy: let it equalise */
    for (int i = 0; i < SAMPLES; i++) {
        tbg_lanes_advance(l, steps - 1);
        float before[66 * TBG_LANES];
        memcpy(before, l->v, sizeof before);
        tbg_lanes_energies(l);
        tbg_lanes_advance(l, 1);
        for (int lane = 0; lane < TBG_LANES; lane++) {
            double kinetic = 0;
            for (int j = 0; j < 66; j++) {
                double v = ((double)before[j * TBG_LANES + lane] + (double)l->v[j * TBG_LANES + lane]) / 2;
                kinetic += peptide->mass[j / 3] * v * v / 2;
            }
            total[i][lane] = kinetic + l->energy[lane];
        }
    }
    for (int lane = 0; lane < TBG_LANES; lane++) {
        double mean = 0, first = 0, second = 0, square = 0;
        for (int i = 0; i < SAMPLES; i++) {
            mean += total[i][lane] / SAMPLES;
            *(i < SAMPLES / 2 ? &first : &second) += total[i][lane] / (SAMPLES / 2);
        }
        for (int i = 0; i < SAMPLES; i++)
            square += pow(total[i][lane] - mean, 2) / SAMPLES;
        noise += sqrt(square) / TBG_LANES;
        slope += (second - first) / (time / 2) / TBG_LANES;
    }
    *drift = slope;
    tbg_lanes_free(l);
    tbg_force_source_free(owner);
    return noise;
}

static void energy_is_conserved(void **state) {
    (void)state;
    double drift, coarse = energy_noise(0.001, 4, &drift);
    assert_true(fabs(drift) < 0.2); /* kJ/mol/ps, of 16 runs with about 80 kJ/mol kinetic energy each */
    double fine = energy_noise(0.0005, 4, &drift);
    assert_true(fabs(drift) < 0.1);
    if (!(coarse / fine > 2.5 && coarse / fine < 6))
        fail_msg("energy noise %g at 1 fs, %g at 0.5 fs: not second order", coarse, fine);
    assert_true(fine < 0.5);
}

/* Equipartition: every atom has 3/2 kT; the thermostatted velocities are exact but for the order dt^2. */
static void atoms_share_the_kinetic_energy(void **state) {
    (void)state;
    enum { SAMPLES = 1500 };
    tbg_source_owner *owner;
    tbg_lanes *l = peptide_lanes(0.0005, 20, &owner);
    double kinetic[22] = {0};
    tbg_lanes_advance(l, 2000);
    for (int i = 0; i < SAMPLES; i++) {
        tbg_lanes_advance(l, 10);
        for (int lane = 0; lane < TBG_LANES; lane++)
            for (int j = 0; j < 66; j++)
                kinetic[j / 3] += peptide->mass[j / 3] * pow((double)l->v[j * TBG_LANES + lane], 2) / 2;
    }
    /* velocities forget in about 1/friction = 10 samples, and vibrations give them sooner */
    double n = SAMPLES * TBG_LANES, error = sqrt(2.0 / (3 * n / 12));
    for (int i = 0; i < 22; i++) {
        double ratio = kinetic[i] / n / (1.5 * TBG_BOLTZMANN * 300);
        if (!(fabs(ratio - 1) < 5 * error + 0.006))
            fail_msg("atom %d: %g of 3/2 kT, error %g", i, ratio, error);
    }
    tbg_lanes_free(l);
    tbg_force_source_free(owner);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopping_and_threads_change_nothing),
        cmocka_unit_test(a_finished_run_goes_on),
        cmocka_unit_test(refuses_to_continue_what_it_cannot),
        cmocka_unit_test(refuses_what_is_not_its_checkpoint),
        cmocka_unit_test(refuses_options_that_cannot_be),
        cmocka_unit_test(a_blown_up_run_is_named),
        cmocka_unit_test(ladder_is_chosen_by_a_pilot),
        cmocka_unit_test(energy_is_conserved),
        cmocka_unit_test(atoms_share_the_kinetic_energy),
    };
    return cmocka_run_group_tests(tests, peptide_setup, peptide_teardown);
}
