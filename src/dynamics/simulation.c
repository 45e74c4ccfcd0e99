/* simulation.c: a run from start structure to its last frame: minimise, choose the ladder, equilibrate,
 * produce. Refuses options that cannot be, and stops when an energy is no longer finite. Files are in
 * run_state.c and results.c. */
#include "dynamics/simulation.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/simd.h"
#include "dynamics/starts.h"
#include "tbg/status.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECKPOINT_SECONDS 60
#define MINIMIZE_TOLERANCE 1.0 /* kJ/mol/nm rms */
#define PILOT_PS 4.0

void tbg_simulation_defaults(const char *forcefield, tbg_simulation_options *o) {
    int amber14 = forcefield && !strcmp(forcefield, "amber14-obc1");
    double temperature = forcefield ? tbg_forcefield_temperature(forcefield) : 300;
    *o = (tbg_simulation_options){
        .temperature = temperature > 0 ? temperature : 300,
        .max_temperature = 600,
        .replicas = 1,
        .exchange_rate = 0.4,
        .runs = 4,
        .timestep = amber14 ? 0.0005 : 0.001,
        .friction = 1,
        .time = 1000,
        .equilibrate = 50,
        .save_every = 1,
        .exchange_every = 0.2,
        .seed = 1,
        .flatten_time = 200,
        .flatten_cap = 8,
    };
}

static int range(const char *name, double value, double least, double most, const char *unit) {
    if (value >= least && value <= most)
        return TBG_OK;
    return tbg_fail(TBG_INPUT, "%s is %g %s; it must be between %g and %g", name, value, unit, least, most);
}

int tbg_simulation_check(const tbg_simulation_options *o) {
    TBG_TRY(range("temperature", o->temperature, 1, 10000, "K"));
    if (o->replicas != 1) {
        TBG_TRY(range("max-temperature", o->max_temperature, 1, 10000, "K"));
        if (!(o->max_temperature > o->temperature))
            return tbg_fail(TBG_INPUT, "max-temperature %g K must be above temperature %g K",
                            o->max_temperature, o->temperature);
    }
    TBG_TRY(range("replicas", o->replicas, 0, 256, ""));
    TBG_TRY(range("exchange-rate", o->exchange_rate, 0.01, 0.95, ""));
    TBG_TRY(range("runs", o->runs, 1, 1024, ""));
    TBG_TRY(range("timestep", o->timestep * 1000, 0.01, 10, "fs"));
    TBG_TRY(range("friction", o->friction, 0, 1000, "/ps"));
    TBG_TRY(range("time", o->time / 1000, 1e-9, 1e6, "ns"));
    TBG_TRY(range("equilibrate", o->equilibrate / 1000, 0, 1e6, "ns"));
    TBG_TRY(range("save-every", o->save_every, o->timestep, 1e6, "ps"));
    TBG_TRY(range("exchange-every", o->exchange_every, o->timestep, 1e6, "ps"));
    if (o->flatten != TBG_FLATTEN_NONE && o->flatten != TBG_FLATTEN_PHI)
        return tbg_fail(TBG_INPUT, "flatten is %d; it must be %d (phi) or %d", o->flatten, TBG_FLATTEN_PHI,
                        TBG_FLATTEN_NONE);
    if (o->flatten) {
        TBG_TRY(range("flatten-time", o->flatten_time, 0.1, 10000, "ps"));
        TBG_TRY(range("flatten-cap", o->flatten_cap, 1, 30, "kT"));
        if (!(o->friction > 0))
            return tbg_fail(TBG_INPUT, "flatten needs a temperature: friction must not be 0");
    }
    if (o->time < o->save_every)
        return tbg_fail(TBG_INPUT, "time %g ps is shorter than save-every %g ps: no frame would be saved",
                        o->time, o->save_every);
    return TBG_OK;
}

/* Heat capacity of the potential energy, in k_B, from the energy's variance in a short run at the lowest
 * temperature. */
static int pilot(const tbg_simulation *s, double *heat_capacity) {
    const tbg_simulation_options *o = &s->options;
    tbg_lanes *l;
    TBG_TRY(tbg_lanes_create(&s->source, s->system->mass, TBG_LANES, o->timestep,
                             o->friction > 0 ? o->friction : 1, o->seed ^ 0x9e3779b97f4a7c15ULL, 1, &l));
    for (int k = 0; k < TBG_LANES; k++) {
        l->temperature[k] = o->temperature;
        tbg_lanes_set_positions(l, k, s->start);
        tbg_lanes_draw_velocities(l, k, 0);
    }
    enum { SAMPLES = 40 };
    int64_t steps = (int64_t)ceil(PILOT_PS / o->timestep);
    double sum = 0, square = 0, n = (double)SAMPLES * TBG_LANES;
    tbg_lanes_advance(l, steps / 2);
    for (int i = 0; i < SAMPLES; i++) {
        tbg_lanes_advance(l, steps / 2 / SAMPLES + 1);
        tbg_lanes_energies(l);
        for (int k = 0; k < TBG_LANES; k++) {
            double u = l->energy[k] - s->plan.start_energy;
            sum += u;
            square += u * u;
        }
    }
    tbg_lanes_free(l);
    double variance = square / n - sum / n * (sum / n), kT = TBG_BOLTZMANN * o->temperature;
    *heat_capacity = variance / (kT * kT);
    if (!isfinite(*heat_capacity))
        return tbg_fail(TBG_FAILED, "the pilot run at %g K blew up; try a smaller timestep than %g fs",
                        o->temperature, o->timestep * 1000);
    return TBG_OK;
}

/* Largest divisor of n not above `wanted`. */
static int64_t divisor(int64_t n, int64_t wanted) {
    for (int64_t d = wanted < n ? wanted : n; d > 1; d--)
        if (n % d == 0)
            return d;
    return 1;
}

static int plan_steps(tbg_simulation *s) {
    const tbg_simulation_options *o = &s->options;
    tbg_simulation_plan *p = &s->plan;
    p->save_steps = llround(o->save_every / o->timestep);
    p->exchange_steps = divisor(p->save_steps, llround(o->exchange_every / o->timestep));
    if (o->flatten)
        TBG_TRY(tbg_flatten_create(s));
    p->equilibrate_steps =
        p->flatten_steps +
        (int64_t)ceil(o->equilibrate / o->timestep / (double)p->save_steps - 1e-9) * p->save_steps;
    int64_t frames = (int64_t)floor(o->time / o->timestep / (double)p->save_steps + 1e-9);
    p->total_steps = p->equilibrate_steps + frames * p->save_steps;
    return TBG_OK;
}

static char *suffixed(const char *path, const char *suffix) {
    size_t size = strlen(path) + strlen(suffix) + 1;
    char *text = tbg_realloc(NULL, size, 1);
    if (text)
        snprintf(text, size, "%s%s", path, suffix);
    return text;
}

static int minimize_start(tbg_simulation *s) {
    tbg_minimum minimum;
    memcpy(s->start, s->molecule->positions, 3 * (size_t)s->system->n_atoms * sizeof(double));
    TBG_TRY(tbg_minimize(s->system, s->start, MINIMIZE_TOLERANCE, 0, &minimum));
    s->plan.start_energy = minimum.energy;
    s->plan.start_rms_force = minimum.rms_force;
    return TBG_OK;
}

static int place_lanes(tbg_simulation *s) {
    double *x = s->record_x;
    int k = s->exchange.n_replicas;
    for (int run = 0; run < s->exchange.n_runs; run++) {
        int moved = 0;
        memcpy(x, s->start, 3 * (size_t)s->system->n_atoms * sizeof(double));
        if (run > 0 && !s->options.same_start)
            TBG_TRY(tbg_start_scatter(s->molecule, s->system, s->options.seed, run, 10, x, &moved));
        s->plan.distinct_starts += moved;
        for (int lane = run * k; lane < (run + 1) * k; lane++) {
            s->lanes->temperature[lane] = s->exchange.temperatures[s->exchange.level[lane]];
            tbg_lanes_set_positions(s->lanes, lane, x);
            tbg_lanes_draw_velocities(s->lanes, lane, 0);
        }
    }
    tbg_lanes_center(s->lanes);
    tbg_lanes_fill(s->lanes);
    return TBG_OK;
}

/* Runs whose lanes share blocks belong together. */
static int find_groups(tbg_simulation *s) {
    int k = s->exchange.n_replicas, runs = s->exchange.n_runs;
    s->groups = tbg_alloc((size_t)runs, sizeof *s->groups);
    if (!s->groups)
        return TBG_FAILED;
    for (int first = 0, run = 1; run <= runs; run++)
        if (run * k % TBG_LANES == 0 || run == runs) {
            s->groups[s->n_groups][0] = first;
            s->groups[s->n_groups++][1] = first = run;
        }
    return TBG_OK;
}

static int set_up(tbg_simulation *s, const char *path, int resume) {
    const tbg_simulation_options *o = &s->options;
    tbg_simulation_plan *p = &s->plan;
    int found;
    size_t n = (size_t)s->system->n_atoms;
    s->path = tbg_strdup(path);
    s->checkpoint_path = suffixed(path, ".checkpoint");
    s->frames_path = suffixed(path, ".frames");
    s->state_path = suffixed(path, ".state");
    s->start = TBG_NEW(double, 3 * n);
    s->record_x = TBG_NEW(double, 3 * n);
    s->record_size = sizeof(double) + 3 * n * sizeof(float);
    s->record = TBG_NEW(char, s->record_size);
    if (!s->path || !s->checkpoint_path || !s->frames_path || !s->state_path || !s->start || !s->record_x ||
        !s->record)
        return TBG_FAILED;
    p->n_atoms = (int)n;
    p->runs = o->runs;
    p->replicas = o->replicas;
    TBG_TRY(plan_steps(s));
    if (!resume && !access(s->checkpoint_path, F_OK))
        return tbg_fail(TBG_INPUT, "%s: an unfinished run is there; continue it with --resume, or remove it",
                        s->checkpoint_path);
    if (resume)
        TBG_TRY(tbg_run_state_reopen(s));
    TBG_TRY(tbg_run_state_peek(s, &found, p));
    TBG_TRY(tbg_force_source_create(s->system, &s->source, &s->source_owner));
    if (!found) {
        TBG_TRY(minimize_start(s));
        if (o->replicas == 0) {
            TBG_TRY(pilot(s, &p->heat_capacity));
            p->replicas =
                tbg_exchange_replicas(p->heat_capacity, o->temperature, o->max_temperature, o->exchange_rate);
        }
    }
    TBG_TRY(
        tbg_exchange_create(o->runs, p->replicas, o->temperature, o->max_temperature, o->seed, &s->exchange));
    TBG_TRY(tbg_lanes_create(&s->source, s->system->mass, o->runs * p->replicas, o->timestep, o->friction,
                             o->seed, o->threads, &s->lanes));
    s->potential_sum = TBG_NEW(double, p->replicas);
    s->kinetic_sum = TBG_NEW(double, p->replicas);
    if (s->flatten)
        s->flatten->core = tbg_alloc((size_t)s->lanes->n_lanes, (size_t)s->flatten->n * sizeof(int32_t));
    if (!s->potential_sum || !s->kinetic_sum || (s->flatten && !s->flatten->core))
        return TBG_FAILED;
    if (found)
        TBG_TRY(tbg_run_state_read(s));
    if (found && s->flatten)
        TBG_TRY(tbg_flatten_resume(s));
    if (!found)
        TBG_TRY(place_lanes(s));
    TBG_TRY(find_groups(s));
    if (!s->finished)
        TBG_TRY(tbg_frames_open(s, found));
    p->lanes = s->lanes->n_lanes;
    p->idle_lanes = s->lanes->n_blocks * TBG_LANES - p->lanes;
    p->threads = s->lanes->threads;
    p->temperatures = s->exchange.temperatures;
    p->simd = tbg_simd_name(tbg_simd_level());
    if (p->heat_capacity > 0 && p->replicas > 1)
        p->predicted_acceptance = tbg_exchange_acceptance(p->heat_capacity, s->exchange.temperatures[1] /
                                                                                s->exchange.temperatures[0]);
    s->last_checkpoint = tbg_seconds();
    return TBG_OK;
}

int tbg_simulation_create(const tbg_molecule *molecule, const tbg_system *system, const char *path,
                          const tbg_simulation_options *options, int resume, tbg_simulation **out) {
    *out = NULL;
    TBG_TRY(tbg_simulation_check(options));
    if (molecule->n_atoms != system->n_atoms)
        return tbg_fail(TBG_INPUT, "simulation: molecule of %d atoms, system of %d", molecule->n_atoms,
                        system->n_atoms);
    tbg_simulation *s = TBG_NEW(tbg_simulation, 1);
    if (!s)
        return TBG_FAILED;
    s->molecule = molecule;
    s->system = system;
    s->options = *options;
    int status = set_up(s, path, resume);
    if (status != TBG_OK) {
        tbg_simulation_free(s);
        return status;
    }
    *out = s;
    return TBG_OK;
}

void tbg_simulation_free(tbg_simulation *s) {
    if (!s)
        return;
    if (s->frames)
        fclose(s->frames);
    tbg_lanes_free(s->lanes);
    tbg_exchange_free(&s->exchange);
    tbg_force_source_free(s->source_owner);
    tbg_flatten_free(s->flatten);
    free(s->path);
    free(s->checkpoint_path);
    free(s->frames_path);
    free(s->state_path);
    free(s->start);
    free(s->potential_sum);
    free(s->kinetic_sum);
    free(s->record_x);
    free(s->groups);
    free(s->record);
    free(s);
}

const tbg_simulation_plan *tbg_simulation_plan_of(const tbg_simulation *s) {
    return &s->plan;
}

int64_t tbg_simulation_step(const tbg_simulation *s) {
    return s->lanes->step;
}

static int check_energies(const tbg_simulation *s) {
    for (int l = 0; l < s->lanes->n_lanes; l++)
        if (!isfinite(s->lanes->energy[l]))
            return tbg_fail(
                TBG_FAILED,
                "run %d, replica at %g K: the energy is no longer finite at step %lld; try a smaller "
                "timestep than %g fs",
                l / s->exchange.n_replicas, s->lanes->temperature[l], (long long)s->lanes->step,
                s->options.timestep * 1000);
    return TBG_OK;
}

/* From one frame to the next, all blocks waiting for each other at every exchange. */
static void advance_together(tbg_simulation *s, int64_t pieces) {
    for (int64_t i = 0; i < pieces; i++) {
        tbg_lanes_advance(s->lanes, s->plan.exchange_steps);
        if (i == pieces - 1)
            tbg_lanes_center(s->lanes);
        if (s->exchange.n_replicas > 1 || i == pieces - 1)
            tbg_lanes_energies(s->lanes);
        if (s->exchange.n_replicas > 1)
            tbg_exchange_round(&s->exchange, s->lanes);
    }
}

/* The same by groups: threads meet once a frame. The results are those of advance_together. */
static void advance_groups(tbg_simulation *s, int64_t pieces) {
    tbg_lanes *l = s->lanes;
    int k = s->exchange.n_replicas;
#pragma omp parallel for num_threads(l->threads) schedule(dynamic, 1)
    for (int g = 0; g < s->n_groups; g++) {
        char *scratch = l->scratch + (size_t)omp_get_thread_num() * l->scratch_size;
        int first = s->groups[g][0] * k / TBG_LANES, last = (s->groups[g][1] * k + TBG_LANES - 1) / TBG_LANES;
        for (int64_t i = 0; i < pieces; i++) {
            for (int b = first; b < last; b++) {
                tbg_lanes_advance_block(l, b, l->step + i * s->plan.exchange_steps, s->plan.exchange_steps,
                                        scratch);
                if (i == pieces - 1)
                    tbg_lanes_center_block(l, b);
                if (k > 1 || i == pieces - 1)
                    tbg_lanes_energies_block(l, b, scratch);
            }
            for (int run = s->groups[g][0]; run < s->groups[g][1] && k > 1; run++)
                tbg_exchange_round_of_run(&s->exchange, l, run, s->exchange.rounds + i);
        }
    }
    l->step += pieces * s->plan.exchange_steps;
    if (k > 1)
        s->exchange.rounds += pieces;
}

/* Sums over saved instants, by temperature. */
static void accumulate(tbg_simulation *s) {
    for (int l = 0; l < s->lanes->n_lanes; l++) {
        s->potential_sum[s->exchange.level[l]] += s->lanes->energy[l];
        s->kinetic_sum[s->exchange.level[l]] += tbg_lanes_kinetic(s->lanes, l);
    }
}

const tbg_system *tbg_simulation_system(const tbg_simulation *s) {
    return s->flatten && s->flatten->stage ? &s->flatten->biased : s->system;
}

int64_t tbg_simulation_stop(const tbg_simulation *s) {
    int64_t step = s->lanes->step;
    return step < s->plan.flatten_steps ? (step / s->flatten->stage_steps + 1) * s->flatten->stage_steps
                                        : s->plan.total_steps;
}

int64_t tbg_simulation_interval(const tbg_simulation *s, int64_t step) {
    return step < s->plan.flatten_steps ? s->flatten->sample_steps : s->plan.save_steps;
}

int tbg_simulation_arrived(tbg_simulation *s) {
    const tbg_simulation_plan *p = &s->plan;
    TBG_TRY(check_energies(s));
    if (s->lanes->step <= p->flatten_steps)
        TBG_TRY(tbg_flatten_sample(s));
    if (s->lanes->step > p->equilibrate_steps) {
        TBG_TRY(tbg_frames_append(s));
        accumulate(s);
        if (s->flatten)
            tbg_flatten_watch(s);
    } else if (s->lanes->step == p->equilibrate_steps)
        tbg_exchange_reset_statistics(&s->exchange);
    if (tbg_seconds() - s->last_checkpoint > CHECKPOINT_SECONDS)
        TBG_TRY(tbg_run_state_write(s));
    s->complete = s->lanes->step >= p->total_steps;
    return TBG_OK;
}

int tbg_simulation_advance(tbg_simulation *s, int *done) {
    const tbg_simulation_plan *p = &s->plan;
    s->complete = s->lanes->step >= p->total_steps;
    if (!s->complete) {
        (s->n_groups >= s->lanes->threads ? advance_groups : advance_together)(
            s, tbg_simulation_interval(s, s->lanes->step) / p->exchange_steps);
        TBG_TRY(tbg_simulation_arrived(s));
    }
    *done = s->complete;
    return TBG_OK;
}

int tbg_simulation_save(tbg_simulation *s) {
    return s->finished ? TBG_OK : tbg_run_state_write(s);
}
