/* cmd_simulate.c: tbg simulate: options to a run, what a person sees of it, Ctrl-C. */
#include "app.h"
#include "base/progress.h"
#include "dynamics/cuda.h"
#include "simulate.h"
#include "tbg/dynamics.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char description[] =
    "Langevin dynamics (middle scheme, no constraints) of several independent runs at once, each optionally "
    "a ladder\n"
    "of replicas that exchange temperatures. Saves the frames at the lowest temperature of all runs (AMBER "
    "NetCDF,\n"
    "run after run; variable `run`), DATA.pdb and DATA.json (diagnostics of convergence) beside it. Ctrl-C "
    "and\n"
    "SIGTERM save; --resume goes on as if nothing had happened, also with a longer --time after a finished "
    "run.\n"
    "--list makes a data set: every sequence under KEY of a JSON file, DATA is a folder, what is there "
    "already is left\n"
    "(with --resume: made as long as --time says), what was begun goes on. Molecules go side by side, "
    "a\n"
    "thread each; --device cuda: all conformations of all molecules in one launch.";

static void print_plan(const tbg_simulation *s, const char *what, const char *forcefield, const char *output,
                       const tbg_simulation_options *o) {
    const tbg_simulation_plan *p = tbg_simulation_plan_of(s);
    fprintf(stderr, "%s, %d atoms, %s\n", what, p->n_atoms, forcefield);
    fprintf(stderr, "  %d run%s x %d replica%s = %d conformations, %d thread%s, %s, seed %llu\n", p->runs,
            p->runs == 1 ? "" : "s", p->replicas, p->replicas == 1 ? "" : "s", p->lanes, p->threads,
            p->threads == 1 ? "" : "s", p->simd, (unsigned long long)o->seed);
    if (p->idle_lanes)
        fprintf(stderr, "  %d more conformations would cost nothing: they go in sixteens\n", p->idle_lanes);
    fprintf(stderr, "  temperatures");
    for (int k = 0; k < p->replicas; k++)
        fprintf(stderr, " %.4g", p->temperatures[k]);
    fprintf(stderr, " K; timestep %g fs, friction %g/ps\n", o->timestep * 1000, o->friction);
    if (p->replicas > 1)
        fprintf(stderr, "  exchange every %g ps", (double)p->exchange_steps * o->timestep);
    if (p->predicted_acceptance > 0)
        fprintf(stderr, ", predicted acceptance %.2f (heat capacity %.1f k_B)", p->predicted_acceptance,
                p->heat_capacity);
    if (p->replicas > 1)
        fputc('\n', stderr);
    fprintf(
        stderr,
        "  start minimised to %.2f kJ/mol (rms force %.2g kJ/mol/nm); %d of %d runs from random torsions\n",
        p->start_energy, p->start_rms_force, p->distinct_starts, p->runs);
    if (p->flatten_steps && p->flattened)
        fprintf(stderr, "  flatten %d phi torsion%s up to %g kT, in %g ns%s\n", p->flattened,
                p->flattened == 1 ? "" : "s", o->flatten_cap, (double)p->flatten_steps * o->timestep / 1000,
                p->not_flattened ? "; phi within rings (proline) is left as it is" : "");
    else if (p->flatten_steps)
        fprintf(stderr, p->not_flattened ? "  nothing to flatten: phi is within a ring (proline)\n"
                                         : "  nothing to flatten: there is no phi\n");
    fprintf(stderr, "  equilibrate %g ns, then %g ns per replica, a frame every %g ps: %lld frames to %s\n",
            (double)(p->equilibrate_steps - p->flatten_steps) * o->timestep / 1000,
            (double)(p->total_steps - p->equilibrate_steps) * o->timestep / 1000,
            (double)p->save_steps * o->timestep,
            (long long)((p->total_steps - p->equilibrate_steps) / p->save_steps * p->runs), output);
    if (p->first_step && p->first_step < p->total_steps)
        fprintf(stderr, "  resumed %g ns into %s\n",
                (double)(p->first_step < p->equilibrate_steps ? p->first_step
                                                              : p->first_step - p->equilibrate_steps) *
                    o->timestep / 1000,
                p->first_step < p->equilibrate_steps ? "equilibration" : "production");
}

static double real(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Which frames at the start of each run are not yet stationary. Returns 0 if that is half of a run. */
static int print_equilibration(const json_t *equilibration) {
    json_t *run;
    size_t r;
    long long sum = 0;
    const json_t *runs = json_object_get(equilibration, "runs");
    json_array_foreach(runs, r, run) sum += json_integer_value(json_object_get(run, "frames_to_drop"));
    if (!equilibration)
        return 1;
    if (!sum)
        fputs("equilibrated from the first frame on\n", stderr);
    else {
        fputs("frames to drop before equilibrium, by run (not in the figures below):", stderr);
        json_array_foreach(runs, r, run)
            fprintf(stderr, " %lld", (long long)json_integer_value(json_object_get(run, "frames_to_drop")));
        fputc('\n', stderr);
    }
    json_array_foreach(runs, r, run) if (json_is_false(json_object_get(run, "equilibrated")))
        fprintf(stderr, "run %zu was still changing in its second half (%s)\n", r,
                json_string_value(json_object_get(run, "slowest")));
    return json_is_true(json_object_get(equilibration, "equilibrated"));
}

/* The diagnostics in a few lines. */
static void print_diagnostics(const char *text) {
    json_t *root = json_loads(text, 0, NULL), *item, *run;
    size_t i, r;
    const json_t *exchange = json_object_get(root, "exchange");
    if (exchange) {
        fprintf(stderr, "exchange acceptance");
        json_array_foreach(json_object_get(exchange, "pairs"), i, item)
            fprintf(stderr, " %.2f", real(item, "acceptance"));
        fprintf(stderr, "; round trips");
        json_array_foreach(json_object_get(exchange, "round_trips"), i, item)
            fprintf(stderr, " %lld", (long long)json_integer_value(item));
        fputc('\n', stderr);
    }
    json_array_foreach(json_object_get(root, "temperatures"), i, item) if (i == 0)
        fprintf(stderr, "kinetic temperature %.2f K of %.2f K\n", real(item, "kinetic_temperature_k"),
                real(item, "temperature_k"));
    int enough = print_equilibration(json_object_get(root, "equilibration"));
    double frames = real(root, "frames");
    json_array_foreach(json_object_get(json_object_get(root, "flatten"), "torsions"), i, item) {
        double inside = 0;
        json_array_foreach(json_object_get(item, "frames_inside"), r, run) inside += json_number_value(run);
        fprintf(stderr, "%s flattened: %.0f %% of the frames in 0 < phi < 2; round trips by run",
                json_string_value(json_object_get(item, "name")), 100 * inside / frames);
        json_array_foreach(json_object_get(item, "round_trips"), r, run)
            fprintf(stderr, " %lld", (long long)json_integer_value(run));
        fputc('\n', stderr);
    }
    json_array_foreach(json_object_get(root, "phi"), i, item) {
        fprintf(stderr, "%s: dF(0 < phi < 2) %.3f +- %.3f kT, %.0f independent samples; by run",
                json_string_value(json_object_get(item, "name")), real(item, "delta_f_kt"),
                real(item, "error_kt"), real(item, "effective_samples"));
        json_array_foreach(json_object_get(item, "runs"), r, run) {
            if (isfinite(real(run, "error_kt")))
                fprintf(stderr, " %.2f+-%.2f", real(run, "delta_f_kt"), real(run, "error_kt"));
            else
                fprintf(stderr, real(run, "population") > 0 ? " never out" : " never in");
        }
        const json_t *agree = json_object_get(item, "runs_agree");
        enough = enough && !json_is_false(agree);
        fprintf(stderr, "%s\n",
                json_is_true(agree)    ? ": they agree"
                : json_is_false(agree) ? ": they do not agree yet"
                                       : "");
    }
    if (!enough && json_is_true(json_object_get(root, "complete")))
        fputs("not converged: the same command with a longer --time and --resume goes on from here\n",
              stderr);
    json_decref(root);
}

static int run(tbg_simulation *s, const tbg_simulation_options *o, tbg_simulation_batch *device, int *done) {
    const tbg_simulation_plan *p = tbg_simulation_plan_of(s);
    tbg_progress bar;
    int64_t first = tbg_simulation_step(s), step = first;
    double start = tbg_seconds();
    *done = 0;
    if (first >= p->total_steps) {
        fprintf(stderr, "  complete already: %g ns per replica\n",
                (double)(first - p->equilibrate_steps) * o->timestep / 1000);
        return tbg_simulation_advance(s, done);
    }
    tbg_progress_start(&bar, "simulate", "ps", (double)(p->total_steps - first) * o->timestep);
    while (!*done && !tbg_interrupted()) {
        TBG_TRY(device ? tbg_simulation_batch_advance(device, done) : tbg_simulation_advance(s, done));
        step = tbg_simulation_step(s);
        double rate = (double)(step - first) / (tbg_seconds() - start);
        char note[128];
        snprintf(note, sizeof note, "%s%.3g ns/day each, %.3g steps/s in all",
                 step < p->flatten_steps        ? "flattening, "
                 : step <= p->equilibrate_steps ? "equilibrating, "
                                                : "",
                 rate * o->timestep / 1000 * 86400, rate * p->lanes);
        tbg_progress_update(&bar, (double)(step - first) * o->timestep, note);
    }
    tbg_progress_end(&bar, (double)(step - first) * o->timestep);
    double seconds = tbg_seconds() - start;
    if (step > first)
        fprintf(stderr, "%.4g steps/s summed over %d conformations, %.4g ns/day in all\n",
                (double)(step - first) * p->lanes / seconds, p->lanes,
                (double)(step - first) * p->lanes / seconds * o->timestep / 1000 * 86400);
    return tbg_simulation_save(s);
}

static int run_on(tbg_simulation *s, const simulate_request *r, int *done) {
    tbg_simulation_batch *device = NULL;
    char name[256];
    if (r->cuda) {
        TBG_TRY(tbg_cuda_device(name, sizeof name));
        TBG_TRY(tbg_simulation_batch_create(1, &s, &device));
        fprintf(stderr, "  on %s\n", name);
    }
    int status = run(s, &r->options, device, done);
    tbg_simulation_batch_free(device);
    return status;
}

static int simulate(const tbg_molecule *molecule, const tbg_system *system, const char *what,
                    const char *output, const simulate_request *r) {
    tbg_simulation *s;
    TBG_TRY(tbg_simulation_create(molecule, system, output, &r->options, r->resume, &s));
    int done;
    char *diagnostics = NULL;
    print_plan(s, what, system->forcefield, output, &r->options);
    int status = run_on(s, r, &done);
    if (status == TBG_OK)
        status = tbg_simulation_finish(s, &diagnostics);
    tbg_simulation_free(s);
    if (status != TBG_OK)
        return status;
    print_diagnostics(diagnostics);
    if (r->json)
        puts(diagnostics);
    free(diagnostics);
    if (!done) {
        fprintf(stderr, "interrupted: saved; --resume goes on from here\n");
        return tbg_fail(TBG_FAILED, "interrupted before the end");
    }
    return TBG_OK;
}

int simulate_one(const simulate_request *r, const char *what, const char *output) {
    tbg_molecule *molecule = NULL;
    tbg_system *system = NULL;
    int status = r->cuda ? tbg_cuda_device(NULL, 0) : TBG_OK; /* refuse before the work of preparing */
    if (status == TBG_OK)
        status = tbg_molecule_load(what, &molecule);
    if (status == TBG_OK)
        status = tbg_system_create(molecule, r->forcefield, r->cutoff, &system);
    if (status == TBG_OK)
        status = simulate(molecule, system, what, output, r);
    tbg_system_free(system);
    tbg_molecule_free(molecule);
    return status;
}

int cmd_simulate(int argc, char **argv) {
    const char *forcefield = NULL, *output = NULL, *what = NULL, *list = NULL, *device = "cpu",
               *flatten = NULL;
    double time = NAN, temperature = NAN, timestep = NAN, cutoff = -1;
    int resume = 0, json = 0, overwrite = 0, quiet = 0;
    tbg_simulation_options o;
    tbg_simulation_defaults(NULL, &o);
    int64_t replicas = o.replicas, runs = o.runs, seed = (int64_t)o.seed, threads = 0;
    double equilibrate = o.equilibrate / 1000;
    const app_option options[] = {
        {"forcefield", 'f', APP_STRING, &forcefield, "NAME", "amber14-obc1, amber99sbildn-obc, ..."},
        {"time", 't', APP_DOUBLE, &time, "NS", "production time of every replica, ns"},
        {"output", 'o', APP_STRING, &output, "DATA.nc", "trajectory to write"},
        {"temperature", 'T', APP_DOUBLE, &temperature, "K", "the force field's usual one unless given"},
        {"replicas", 'k', APP_INT, &replicas, "K",
         "temperatures per run; 1: no exchange; 0: as many as needed"},
        {"max-temperature", 0, APP_DOUBLE, &o.max_temperature, "K", "highest temperature of the ladder"},
        {"exchange-rate", 0, APP_DOUBLE, &o.exchange_rate, "P", "acceptance wanted with --replicas 0"},
        {"exchange-every", 0, APP_DOUBLE, &o.exchange_every, "PS", "time between exchange attempts"},
        {"runs", 'r', APP_INT, &runs, "R", "independent runs from different starts"},
        {"same-start", 0, APP_FLAG, &o.same_start, NULL, "all runs start from the given structure"},
        {"timestep", 0, APP_DOUBLE, &timestep, "FS", "0.5 for amber14-obc1, else 1, unless given"},
        {"friction", 0, APP_DOUBLE, &o.friction, "PER_PS", "0: constant energy"},
        {"cutoff", 0, APP_DOUBLE, &cutoff, "NM", "0: none; negative: the force field's usual one"},
        {"save-every", 0, APP_DOUBLE, &o.save_every, "PS", "time between frames"},
        {"equilibrate", 0, APP_DOUBLE, &equilibrate, "NS", "before the first frame"},
        {"flatten", 0, APP_STRING, &flatten, "phi",
         "bias every phi to be about evenly distributed; frames then have weights (log_weight)"},
        {"flatten-time", 0, APP_DOUBLE, &o.flatten_time, "PS", "to find the bias, before equilibration"},
        {"flatten-cap", 0, APP_DOUBLE, &o.flatten_cap, "KT", "how much it levels at most"},
        {"seed", 's', APP_INT, &seed, "S", "of all random numbers"},
        {"threads", 0, APP_INT, &threads, "N", "0: all; does not change results"},
        {"resume", 0, APP_FLAG, &resume, NULL,
         "continue an unfinished run, or a finished one to a longer --time"},
        {"overwrite", 0, APP_FLAG, &overwrite, NULL, "replace an existing DATA.nc"},
        {"device", 0, APP_STRING, &device, "cpu|cuda|auto",
         "where to compute; auto: on a device if there is one"},
        {"list", 0, APP_STRING, &list, "FILE.json:KEY", "simulate all sequences there; -o is a folder"},
        {"quiet", 'q', APP_FLAG, &quiet, NULL, "no progress"},
        {"json", 0, APP_FLAG, &json, NULL, "print the diagnostics as JSON"},
        {0}};
    int n = app_parse("simulate", description, options, argc, argv, &what, 0, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!what == !list) {
        fprintf(stderr, "tbg simulate: needs a sequence, a PDB file or --list%s\n", what ? ", not both" : "");
        return 2;
    }
    if (strcmp(device, "cpu") && strcmp(device, "cuda") && strcmp(device, "auto")) {
        fprintf(stderr, "tbg simulate: --device is cpu, cuda or auto, not '%s'\n", device);
        return 2;
    }
    if (!forcefield || !output || isnan(time)) {
        fprintf(stderr, "tbg simulate: needs --%s\n",
                !forcefield ? "forcefield"
                : !output   ? "output"
                            : "time");
        return 2;
    }
    if (flatten && strcmp(flatten, "phi") && strcmp(flatten, "none")) {
        fprintf(stderr, "tbg simulate: --flatten is phi or none, not '%s'\n", flatten);
        return 2;
    }
    if (replicas < 0 || replicas > 100000 || runs < 0 || runs > 100000 || threads < 0 || threads > 100000) {
        fprintf(stderr, "tbg simulate: --replicas, --runs or --threads out of range\n");
        return 2;
    }
    tbg_simulation_options usual;
    tbg_simulation_defaults(forcefield, &usual);
    o.temperature = isnan(temperature) ? usual.temperature : temperature;
    o.timestep = isnan(timestep) ? usual.timestep : timestep / 1000;
    o.time = time * 1000;
    o.equilibrate = equilibrate * 1000;
    o.replicas = (int)replicas;
    o.runs = (int)runs;
    o.threads = (int)threads;
    o.seed = (uint64_t)seed;
    o.flatten = flatten && !strcmp(flatten, "phi") ? TBG_FLATTEN_PHI : TBG_FLATTEN_NONE;
    char checkpoint[4096];
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", output);
    int complete = !list && !access(output, F_OK) && access(checkpoint, F_OK);
    if (complete && !overwrite && !resume) {
        fprintf(stderr,
                "tbg simulate: %s is there already and complete; --resume with a longer --time continues it, "
                "--overwrite replaces it\n",
                output);
        return 2;
    }
    tbg_progress_silence(quiet);
    simulate_request r = {forcefield, cutoff, o, !strcmp(device, "cuda"), resume && !(complete && overwrite),
                          json};
    if (!strcmp(device, "auto"))
        r.cuda = tbg_cuda_device(NULL, 0) == TBG_OK;
    int status = tbg_simulation_check(&o);
    if (status == TBG_OK)
        status = list ? simulate_list(&r, list, output) : simulate_one(&r, what, output);
    return status == TBG_OK ? 0 : app_fail("simulate", status);
}
