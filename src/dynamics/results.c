/* results.c: what a simulation leaves behind: the trajectory at the lowest temperature (run after run), the
 * topology beside it, and the diagnostics by which a user judges convergence. Owns their names and meaning.
 */
#include "base/memory.h"
#include "dynamics/simulation.h"
#include "dynamics/starts.h"
#include "dynamics/statistics.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIAGNOSTICS_LIMIT ((size_t)64 << 20)
#define VISITS 10
#define CLEARLY 4  /* standard errors: a flattened run was long on its way before its first frame */
#define AGREE 0.01 /* independent runs agree unless chance makes their spread in fewer cases than this */

/* Per-frame series of one run, and what is counted over frames. */
typedef struct {
    int n_phi;
    tbg_torsion *torsions;           /* phi only */
    int64_t n;                       /* frames per run */
    double *energy, *phi;            /* [n]; [n_phi][n]: 1 where 0 < phi < 2 */
    double *weight;                  /* [n] of a flattened run's frames, else NULL; and what comes of them: */
    double *scratch;                 /* [n] */
    double *run_weight;              /* [runs] sum over the stationary frames */
    double weight_square;            /* of squares, over all runs */
    int64_t *visits, *frames_inside; /* [n_phi][runs] unweighted, all frames */
    int64_t *dropped; /* [runs] frames before a run is stationary; what follows is of the others */
    int *slowest;     /* [runs] which series decided that: -1 the potential energy, else index of phi */
    tbg_population *populations;                           /* [n_phi][runs] */
    double *mean_energy, *energy_error, *energy_effective; /* [runs] */
    tbg_chemistry chemistry;
    int64_t inverted, turned; /* frames with a centre or a peptide bond that is not as at the start */
} analysis;

static void analysis_free(analysis *a) {
    tbg_chemistry_free(&a->chemistry);
    free(a->torsions);
    free(a->energy);
    free(a->phi);
    free(a->weight);
    free(a->scratch);
    free(a->run_weight);
    free(a->visits);
    free(a->frames_inside);
    free(a->dropped);
    free(a->slowest);
    free(a->populations);
    free(a->mean_energy);
    free(a->energy_error);
    free(a->energy_effective);
}

static int analysis_create(const tbg_simulation *s, analysis *a) {
    int n, runs = s->exchange.n_runs;
    memset(a, 0, sizeof *a);
    TBG_TRY(tbg_backbone_torsions(s->molecule, &n, &a->torsions));
    for (int i = 0; i < n; i++)
        if (!strncmp(a->torsions[i].name, "phi", 3))
            a->torsions[a->n_phi++] = a->torsions[i];
    TBG_TRY(tbg_chemistry_create(s->molecule, &a->chemistry));
    a->n = s->n_frames;
    a->energy = TBG_NEW(double, a->n);
    a->phi = tbg_alloc((size_t)a->n, (size_t)a->n_phi * sizeof(double));
    a->dropped = TBG_NEW(int64_t, runs);
    a->slowest = TBG_NEW(int, runs);
    a->populations = TBG_NEW(tbg_population, a->n_phi * runs);
    a->mean_energy = TBG_NEW(double, runs);
    a->energy_error = TBG_NEW(double, runs);
    a->energy_effective = TBG_NEW(double, runs);
    if (s->flatten && s->flatten->n) {
        a->weight = TBG_NEW(double, a->n);
        a->scratch = TBG_NEW(double, a->n);
        a->run_weight = TBG_NEW(double, runs);
        a->visits = TBG_NEW(int64_t, a->n_phi * runs);
        a->frames_inside = TBG_NEW(int64_t, a->n_phi * runs);
        if (!a->weight || !a->scratch || !a->run_weight || !a->visits || !a->frames_inside)
            return TBG_FAILED;
    }
    if (!a->energy || !a->phi || !a->dropped || !a->slowest || !a->populations || !a->mean_energy ||
        !a->energy_error || !a->energy_effective)
        return TBG_FAILED;
    return TBG_OK;
}

/* Spells in the state. */
static int64_t visits(int64_t n, const double *inside) {
    int64_t count = n > 0 && inside[0] > 0;
    for (int64_t i = 1; i < n; i++)
        count += inside[i] > 0 && !(inside[i - 1] > 0);
    return count;
}

/* Where the slowest of a run's series becomes stationary. Of a state seen a few times only, the first visit
 * may be chance as well as a transient: then phi decides nothing. */
static void find_equilibration(analysis *a, int run) {
    double errors = a->weight ? CLEARLY : 2;
    a->dropped[run] = tbg_statistics_stationary(a->n, a->energy, errors);
    a->slowest[run] = -1;
    for (int k = 0; k < a->n_phi; k++) {
        int64_t start = tbg_statistics_stationary(a->n, a->phi + k * a->n, errors);
        if (start > a->dropped[run] && visits(a->n - start, a->phi + k * a->n + start) >= VISITS) {
            a->dropped[run] = start;
            a->slowest[run] = k;
        }
    }
}

/* Figures of a flattened run's stationary frames, from `first` on, by their weights. */
static void analyse_weighted(const tbg_simulation *s, analysis *a, int run, int64_t first) {
    int runs = s->exchange.n_runs;
    int64_t kept = a->n - first;
    double mean, error, total, variance = 0;
    for (int64_t i = 0; i < a->n; i++)
        a->energy[i] -= s->plan.start_energy;
    for (int k = 0; k < a->n_phi; k++) {
        const double *inside = a->phi + k * a->n;
        tbg_statistics_weighted(kept, inside + first, a->weight + first, a->scratch,
                                &a->populations[k * runs + run], &a->run_weight[run]);
        a->visits[k * runs + run] = visits(a->n, inside);
        for (int64_t i = 0; i < a->n; i++)
            a->frames_inside[k * runs + run] += inside[i] > 0;
    }
    tbg_statistics_mean(kept, a->energy + first, a->weight + first, a->scratch, &mean, &error, &total);
    for (int64_t i = first; i < a->n; i++) {
        variance += a->weight[i] / total * pow(a->energy[i] - mean, 2);
        a->weight_square += a->weight[i] * a->weight[i];
    }
    a->mean_energy[run] = s->plan.start_energy + mean;
    a->energy_error[run] = error;
    a->energy_effective[run] = variance / (error * error);
}

static int analyse_run(const tbg_simulation *s, analysis *a, int run) {
    for (int64_t i = 0; i < a->n; i++) {
        TBG_TRY(tbg_frames_get(s, i, run, &a->energy[i], s->record_x));
        for (int k = 0; k < a->n_phi; k++) {
            double phi = tbg_dihedral(s->record_x, a->torsions[k].atoms);
            a->phi[k * a->n + i] = phi > 0 && phi < 2;
        }
        if (a->weight)
            a->weight[i] =
                exp((tbg_flatten_energy(s->flatten, s->record_x) - tbg_flatten_highest(s->flatten)) /
                    s->flatten->kT);
        a->inverted += tbg_chemistry_inverted(&a->chemistry, s->record_x, s->start) > 0;
        a->turned += tbg_chemistry_turned(&a->chemistry, s->record_x, s->start) > 0;
    }
    find_equilibration(a, run); /* of the dynamics as it is, without weights */
    int64_t first = a->dropped[run], kept = a->n - first;
    if (a->weight) {
        analyse_weighted(s, a, run, first);
        return TBG_OK;
    }
    double sum = 0, square = 0, n = (double)kept;
    for (int64_t i = first; i < a->n; i++) {
        sum += a->energy[i] - s->plan.start_energy;
        square += pow(a->energy[i] - s->plan.start_energy, 2);
    }
    for (int k = 0; k < a->n_phi; k++)
        tbg_statistics_population(kept, a->phi + k * a->n + first,
                                  &a->populations[k * s->exchange.n_runs + run]);
    a->mean_energy[run] = s->plan.start_energy + sum / n;
    a->energy_effective[run] = n / tbg_statistics_inefficiency(kept, a->energy + first);
    a->energy_error[run] = sqrt(fmax(square / n - sum / n * (sum / n), 0) / a->energy_effective[run]);
    return TBG_OK;
}

/* Share of run r among the frames that count. */
static double share(const tbg_simulation *s, const analysis *a, int r) {
    int64_t kept = 0;
    double weight = 0;
    for (int k = 0; a->weight && k < s->exchange.n_runs; k++)
        weight += a->run_weight[k];
    if (a->weight)
        return a->run_weight[r] / weight;
    for (int k = 0; k < s->exchange.n_runs; k++)
        kept += a->n - a->dropped[k];
    return (double)(a->n - a->dropped[r]) / (double)kept;
}

/* JSON has no NaN: null. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *population_json(const tbg_population *p) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "delta_f_kt", number(p->value), "error_kt",
                     number(p->error), "population", number(p->p), "population_error", number(p->p_error),
                     "effective_samples", number(p->effective));
}

/* The error of all runs' population when frames have weights: as below, each run by its share. */
static double weighted_error(const tbg_simulation *s, const analysis *a, const tbg_population *each,
                             double p) {
    int runs = s->exchange.n_runs;
    double within = 0, spread = 0;
    for (int r = 0; r < runs; r++) {
        double part = share(s, a, r);
        within += isfinite(each[r].p_error) ? pow(part * each[r].p_error, 2) : 0;
        spread += pow(part * (each[r].p - p), 2);
    }
    return sqrt(fmax(within, runs > 1 ? spread * runs / (runs - 1) : 0));
}

/* All runs together: population over their stationary frames; its error is the larger of the one from within
 * the runs and the one from their spread. */
static json_t *phi_json(const tbg_simulation *s, const analysis *a, int k) {
    int runs = s->exchange.n_runs;
    const tbg_population *each = a->populations + k * runs;
    tbg_population all = {0};
    json_t *list = json_array();
    double spread = 0, chi2, p_value;
    for (int r = 0; r < runs; r++) {
        all.p += each[r].p * share(s, a, r);
        all.effective += each[r].effective;
        json_array_append_new(list, population_json(&each[r]));
    }
    for (int r = 0; r < runs; r++)
        spread += pow(each[r].p - all.p, 2);
    spread = runs > 1 ? sqrt(spread / (runs - 1) / runs) : 0;
    all.value = all.error = all.p_error = NAN;
    if (all.p > 0 && all.p < 1) {
        all.p_error = a->weight ? weighted_error(s, a, each, all.p)
                                : fmax(sqrt(all.p * (1 - all.p) / all.effective), spread);
        if (a->weight)
            all.effective = all.p * (1 - all.p) / (all.p_error * all.p_error);
        all.value = -log(all.p / (1 - all.p));
        all.error = all.p_error / (all.p * (1 - all.p));
    }
    tbg_statistics_agreement(runs, each, &chi2, &p_value);
    json_t *object = population_json(&all);
    json_object_set_new(object, "name", json_string(a->torsions[k].name));
    json_object_set_new(object, "residue", json_integer(a->torsions[k].residue + 1));
    json_object_set_new(object, "runs", list);
    json_object_set_new(object, "chi2", number(chi2));
    json_object_set_new(object, "p_value", number(p_value));
    json_object_set_new(object, "runs_agree", runs > 1 ? json_boolean(p_value > AGREE) : json_null());
    return object;
}

/* Mean potential energy by run, and whether the runs agree. */
static json_t *energy_json(const tbg_simulation *s, const analysis *a) {
    int runs = s->exchange.n_runs;
    tbg_population *each = TBG_NEW(tbg_population, runs);
    json_t *list = json_array();
    double mean = 0, effective = 0, chi2 = NAN, p_value = NAN;
    for (int r = 0; r < runs; r++) {
        mean += a->mean_energy[r] * share(s, a, r);
        effective += a->energy_effective[r];
        if (each) {
            each[r].value = a->mean_energy[r];
            each[r].error = a->energy_error[r];
        }
        json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "mean_kj_mol", number(a->mean_energy[r]),
                                              "error_kj_mol", number(a->energy_error[r]), "effective_samples",
                                              number(a->energy_effective[r])));
    }
    if (each)
        tbg_statistics_agreement(runs, each, &chi2, &p_value);
    free(each);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "mean_kj_mol", number(mean), "effective_samples",
                     number(effective), "chi2", number(chi2), "p_value", number(p_value), "runs_agree",
                     runs > 1 ? json_boolean(p_value > AGREE) : json_null(), "runs", list);
}

/* What to drop at the start of each run. A run that is stationary only in its second half has hardly been
 * seen so. */
static json_t *equilibration_json(const tbg_simulation *s, const analysis *a) {
    json_t *list = json_array();
    int good = 1;
    double interval = (double)s->plan.save_steps * s->options.timestep;
    for (int r = 0; r < s->exchange.n_runs; r++) {
        int64_t dropped = a->dropped[r];
        int stationary = dropped <= a->n / 2;
        const char *slowest = a->slowest[r] < 0 ? "potential energy" : a->torsions[a->slowest[r]].name;
        good = good && stationary;
        json_array_append_new(
            list, json_pack("{s:f, s:I, s:o, s:b}", "equilibration_ps", (double)dropped * interval,
                            "frames_to_drop", (json_int_t)dropped, "slowest",
                            dropped ? json_string(slowest) : json_null(), "equilibrated", stationary));
    }
    return json_pack("{s:s, s:b, s:o}", "method",
                     "most effective samples (Chodera 2016), if the means differ by two errors",
                     "equilibrated", good, "runs", list);
}

static json_t *exchange_json(const tbg_simulation *s) {
    const tbg_exchange *e = &s->exchange;
    json_t *pairs = json_array(), *trips = json_array();
    for (int k = 0; k + 1 < e->n_replicas; k++) {
        json_t *list = json_array();
        int64_t attempts = 0, accepts = 0;
        for (int r = 0; r < e->n_runs; r++) {
            int64_t at = (int64_t)r * (e->n_replicas - 1) + k;
            attempts += e->attempts[at];
            accepts += e->accepts[at];
            json_array_append_new(list, number((double)e->accepts[at] / (double)e->attempts[at]));
        }
        json_array_append_new(pairs, json_pack("{s:f, s:f, s:o, s:o}", "lower_k", e->temperatures[k],
                                               "upper_k", e->temperatures[k + 1], "acceptance",
                                               number((double)accepts / (double)attempts), "runs", list));
    }
    for (int r = 0; r < e->n_runs; r++)
        json_array_append_new(trips, json_integer(e->round_trips[r]));
    return json_pack("{s:f, s:o, s:o, s:o}", "exchange_every_ps",
                     (double)s->plan.exchange_steps * s->options.timestep, "predicted_acceptance",
                     s->plan.predicted_acceptance > 0 ? json_real(s->plan.predicted_acceptance) : json_null(),
                     "pairs", pairs, "round_trips", trips);
}

static json_t *levels_json(const tbg_simulation *s) {
    json_t *levels = json_array();
    double n = (double)(s->n_frames * s->exchange.n_runs);
    for (int k = 0; k < s->exchange.n_replicas; k++)
        json_array_append_new(
            levels, json_pack("{s:f, s:o, s:o}", "temperature_k", s->exchange.temperatures[k],
                              "kinetic_temperature_k",
                              number(s->kinetic_sum[k] / n / (1.5 * s->lanes->n_atoms * TBG_BOLTZMANN)),
                              "mean_potential_kj_mol", number(s->potential_sum[k] / n)));
    return levels;
}

static json_t *counts(int n, const int64_t *x) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer((json_int_t)x[i]));
    return list;
}

/* One torsion's bias and what it brought about. */
static json_t *bias_json(const tbg_simulation *s, const analysis *a, int t) {
    const tbg_flatten *f = s->flatten;
    int runs = s->exchange.n_runs;
    json_t *terms = json_array(), *trips = json_array();
    const double *series = f->series + ((size_t)f->stage * (size_t)f->n + (size_t)t) * TBG_FLATTEN_SERIES;
    for (int m = 0; m < TBG_FLATTEN_HARMONICS; m++) {
        double cosine = series[m], sine = series[TBG_FLATTEN_HARMONICS + m];
        json_array_append_new(terms, json_pack("{s:i, s:f, s:f}", "periodicity", m + 1, "phase",
                                               atan2(sine, cosine), "barrier_kj_mol", hypot(cosine, sine)));
    }
    for (int r = 0; r < runs; r++)
        json_array_append_new(trips, json_integer((json_int_t)(f->crossings[r * f->n + t] / 2)));
    json_t *o = json_pack("{s:s, s:i, s:o, s:o}", "name", f->torsions[t].name, "residue",
                          f->torsions[t].residue + 1, "terms", terms, "round_trips", trips);
    for (int k = 0; k < a->n_phi && a->weight && a->n; k++)
        if (!strcmp(a->torsions[k].name, f->torsions[t].name)) {
            json_object_set_new(o, "visits", counts(runs, a->visits + k * runs));
            json_object_set_new(o, "frames_inside", counts(runs, a->frames_inside + k * runs));
        }
    return o;
}

static json_t *flatten_json(const tbg_simulation *s, const analysis *a) {
    const tbg_flatten *f = s->flatten;
    json_t *list = json_array(), *skipped = json_array();
    double sum = 0;
    for (int t = 0; t < f->n; t++)
        json_array_append_new(list, bias_json(s, a, t));
    for (int t = 0; t < f->n_skipped; t++)
        json_array_append_new(skipped, json_string(f->skipped[t].name));
    for (int r = 0; a->weight && r < s->exchange.n_runs; r++)
        sum += a->run_weight[r];
    return json_pack("{s:s, s:f, s:f, s:i, s:i, s:o, s:o, s:o}", "along", "phi", "time_ns",
                     (double)s->plan.flatten_steps * s->options.timestep / 1000, "cap_kt", f->cap, "stages",
                     TBG_FLATTEN_STAGES, "stages_done", f->stage, "torsions", list, "in_rings", skipped,
                     "kish_frames", number(a->weight && a->n ? sum * sum / a->weight_square : NAN));
}

static json_t *diagnostics_json(const tbg_simulation *s, const analysis *a) {
    const tbg_simulation_options *o = &s->options;
    char sequence[4096];
    tbg_molecule_sequence(s->molecule, sequence, sizeof sequence);
    json_t *phi = json_array();
    for (int k = 0; k < a->n_phi && a->n; k++)
        json_array_append_new(phi, phi_json(s, a, k));
    json_t *root = json_object();
    json_object_set_new(root, "complete", json_boolean(s->complete));
    json_object_set_new(root, "sequence", json_string(sequence));
    json_object_set_new(root, "atoms", json_integer(s->lanes->n_atoms));
    json_object_set_new(root, "forcefield", json_string(s->system->forcefield));
    json_object_set_new(root, "integrator", json_string("Langevin middle"));
    json_object_set_new(root, "temperature_k", json_real(o->temperature));
    json_object_set_new(root, "timestep_fs", json_real(o->timestep * 1000));
    json_object_set_new(root, "friction_per_ps", json_real(o->friction));
    json_object_set_new(root, "seed", json_integer((json_int_t)o->seed));
    json_object_set_new(root, "runs", json_integer(s->exchange.n_runs));
    json_object_set_new(root, "replicas", json_integer(s->exchange.n_replicas));
    json_object_set_new(root, "distinct_starts", json_integer(s->plan.distinct_starts));
    json_object_set_new(root, "time_ns",
                        json_real((double)s->n_frames * (double)s->plan.save_steps * o->timestep / 1000));
    json_object_set_new(
        root, "equilibrate_ns",
        json_real((double)(s->plan.equilibrate_steps - s->plan.flatten_steps) * o->timestep / 1000));
    json_object_set_new(root, "save_every_ps", json_real((double)s->plan.save_steps * o->timestep));
    json_object_set_new(root, "frames_per_run", json_integer(s->n_frames));
    json_object_set_new(root, "frames", json_integer(s->n_frames * s->exchange.n_runs));
    if (s->exchange.n_replicas > 1)
        json_object_set_new(root, "exchange", exchange_json(s));
    if (s->flatten)
        json_object_set_new(root, "flatten", flatten_json(s, a));
    if (a->n) {
        json_object_set_new(root, "temperatures", levels_json(s));
        json_object_set_new(root, "equilibration", equilibration_json(s, a));
        json_object_set_new(root, "potential_energy", energy_json(s, a));
        json_object_set_new(root, "phi", phi);
        json_object_set_new(root, "frames_with_inverted_centre", json_integer(a->inverted));
        json_object_set_new(root, "frames_with_cis_trans_changed", json_integer(a->turned));
    } else
        json_decref(phi);
    return root;
}

static int write_trajectory(const tbg_simulation *s, const char *metadata) {
    static const char *const names[] = {"run", "potential_energy", "log_weight"}, *const units[] = {
                                                                                      "1", "kilojoule/mole",
                                                                                      "1"};
    int weighted = s->flatten && s->flatten->n;
    char *topology, sequence[4096], title[4200];
    tbg_molecule_sequence(s->molecule, sequence, sizeof sequence);
    snprintf(title, sizeof title, "%s, %s", sequence, s->system->forcefield);
    TBG_TRY(tbg_molecule_format_pdb(s->molecule, s->start, &topology));
    tbg_trajectory_header header = {.n_atoms = s->lanes->n_atoms,
                                    .title = title,
                                    .topology_pdb = topology,
                                    .forcefield = s->system->forcefield,
                                    .temperature = s->options.temperature,
                                    .n_extra = weighted ? 3 : 2,
                                    .extra_names = names,
                                    .extra_units = units,
                                    .metadata_json = metadata};
    tbg_trajectory_writer *w = NULL;
    int status = tbg_trajectory_create(s->path, &header, 0, NULL, &w);
    free(topology);
    double interval = (double)s->plan.save_steps * s->options.timestep;
    for (int run = 0; run < s->exchange.n_runs; run++)
        for (int64_t i = 0; i < s->n_frames && status == TBG_OK; i++) {
            double extra[3] = {run, 0, 0}, time = (double)(i + 1) * interval;
            status = tbg_frames_get(s, i, run, &extra[1], s->record_x);
            if (weighted)
                extra[2] = tbg_flatten_energy(s->flatten, s->record_x) / s->flatten->kT;
            if (status == TBG_OK)
                status = tbg_trajectory_append(w, 1, s->record_x, &time, extra);
        }
    if (status != TBG_OK) {
        tbg_trajectory_abort(w);
        return status;
    }
    return tbg_trajectory_close(w);
}

/* DATA.nc -> DATA.json, DATA.pdb. */
static char *beside(const char *path, const char *suffix) {
    size_t n = strlen(path);
    if (n > 3 && !strcmp(path + n - 3, ".nc"))
        n -= 3;
    char *text = tbg_realloc(NULL, n + strlen(suffix) + 1, 1);
    if (text) {
        memcpy(text, path, n);
        strcpy(text + n, suffix);
    }
    return text;
}

static int write_all(tbg_simulation *s, const char *diagnostics) {
    char *json = beside(s->path, ".json"), *pdb = beside(s->path, ".pdb");
    int status = json && pdb ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK && s->n_frames)
        status = write_trajectory(s, diagnostics);
    if (status == TBG_OK)
        status = tbg_molecule_write_pdb(s->molecule, s->start, pdb);
    if (status == TBG_OK)
        status = tbg_file_write(json, diagnostics, strlen(diagnostics));
    free(json);
    free(pdb);
    return status;
}

/* Nothing was run: what is there stays. */
static int read_diagnostics(const tbg_simulation *s, char **diagnostics) {
    size_t size;
    char *json = beside(s->path, ".json");
    int status = json ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK && diagnostics)
        status = tbg_file_read(json, DIAGNOSTICS_LIMIT, diagnostics, &size);
    free(json);
    return status;
}

int tbg_simulation_finish(tbg_simulation *s, char **diagnostics) {
    analysis a;
    char *text = NULL;
    if (s->finished)
        return read_diagnostics(s, diagnostics);
    if (fflush(s->frames))
        return tbg_fail(TBG_FAILED, "%s: cannot be written", s->frames_path);
    int status = analysis_create(s, &a);
    for (int r = 0; r < s->exchange.n_runs && status == TBG_OK && a.n; r++)
        status = analyse_run(s, &a, r);
    if (status == TBG_OK) {
        json_t *root = diagnostics_json(s, &a);
        text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
        json_decref(root);
        status = text ? write_all(s, text) : tbg_fail(TBG_FAILED, "out of memory");
    }
    analysis_free(&a);
    if (status == TBG_OK && s->complete)
        status = tbg_run_state_close(s);
    if (status == TBG_OK && diagnostics)
        *diagnostics = text;
    else
        free(text);
    return status;
}
