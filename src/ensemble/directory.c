/* directory.c: the folder that `tbg sample` writes and others read: topology.pdb, ensemble.nc, summary.json.
 * The NetCDF file alone holds everything (topology and info as attributes); the others are for people and
 * scripts. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "base/path.h"
#include "ensemble/json.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_WEIGHT, LOG_Q, REDUCED_ENERGY, VALID, VERDICT, N_EXTRA };
static const char *const extra_names[N_EXTRA] = {"log_weight", "log_q", "reduced_energy", "valid", "verdict"};
static const char *const extra_units[N_EXTRA] = {"1", "1", "kT", "1", "1"};

static int write_frames(const tbg_ensemble *e, const char *pdb, const char *metadata, const char *path) {
    enum { BLOCK = 256 };
    tbg_trajectory_header header = {.n_atoms = e->n_atoms,
                                    .title = "weighted ensemble",
                                    .topology_pdb = pdb,
                                    .forcefield = *e->info.forcefield ? e->info.forcefield : NULL,
                                    .temperature = e->info.temperature,
                                    .n_extra = N_EXTRA,
                                    .extra_names = extra_names,
                                    .extra_units = extra_units,
                                    .metadata_json = metadata};
    size_t size = (size_t)e->n_atoms * 3;
    double *x = tbg_alloc(BLOCK, size * sizeof *x), extra[BLOCK * N_EXTRA];
    tbg_trajectory_writer *w;
    if (!x)
        return TBG_FAILED;
    int status = tbg_trajectory_create(path, &header, 0, NULL, &w);
    if (status != TBG_OK) {
        free(x);
        return status;
    }
    for (long first = 0; first < e->n && status == TBG_OK; first += BLOCK) {
        int m = e->n - first < BLOCK ? (int)(e->n - first) : BLOCK;
        for (int k = 0; k < m; k++) {
            long i = first + k;
            const double *from = e->positions + (size_t)i * size;
            double *to = x + (size_t)k * size;
            int finite = 1;
            for (size_t c = 0; c < size; c++)
                finite &= fabs(from[c]) < 1e30; /* false for NaN */
            for (size_t c = 0; c < size; c++)
                to[c] = finite ? from[c] : 0; /* frames stay in place; verdict and valid say what they are */
            double *v = extra + k * N_EXTRA;
            v[LOG_WEIGHT] = e->log_weight[i];
            v[LOG_Q] = e->log_q[i];
            v[REDUCED_ENERGY] = e->reduced_energy[i];
            v[VALID] = tbg_ensemble_is_valid(e, i);
            v[VERDICT] = finite ? e->verdict[i] : TBG_NOT_FINITE;
        }
        status = tbg_trajectory_append(w, m, x, NULL, extra);
    }
    free(x);
    if (status != TBG_OK) {
        tbg_trajectory_abort(w);
        return status;
    }
    return tbg_trajectory_close(w);
}

int tbg_ensemble_write(const tbg_ensemble *e, const tbg_ensemble_summary *summary, const char *directory) {
    char path[4096], *pdb = NULL, *text = NULL, *metadata = NULL;
    TBG_TRY(tbg_make_directory(directory));
    json_t *info = tbg_ensemble_json_info(e);
    json_object_set_new(info, "weighted", json_boolean(e->weighted));
    metadata = json_dumps(info, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(info);
    int status = metadata ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
    if (status == TBG_OK)
        status = tbg_molecule_format_pdb(e->molecule, NULL, &pdb);
    if (status == TBG_OK)
        status = tbg_ensemble_summary_json(e, summary, &text);
    if (status == TBG_OK)
        status = tbg_path_join(directory, "topology.pdb", path, sizeof path);
    if (status == TBG_OK)
        status = tbg_file_write(path, pdb, strlen(pdb));
    if (status == TBG_OK)
        status = tbg_path_join(directory, "ensemble.nc", path, sizeof path);
    if (status == TBG_OK)
        status = write_frames(e, pdb, metadata, path);
    if (status == TBG_OK)
        status = tbg_path_join(directory, "summary.json", path, sizeof path);
    if (status == TBG_OK)
        status = tbg_file_write(path, text, strlen(text));
    free(pdb);
    free(text);
    free(metadata);
    return status;
}

/* ---- reading ---- */

static void take_text(const json_t *j, const char *key, char *text, size_t size) {
    const char *value = json_string_value(json_object_get(j, key));
    if (value)
        snprintf(text, size, "%s", value);
}

static void take_real(const json_t *j, const char *key, double *x) {
    const json_t *value = json_object_get(j, key);
    if (json_is_number(value))
        *x = json_number_value(value);
}

static void take_warnings(const json_t *list, char *text, size_t size) {
    size_t i, at = 0;
    json_t *line;
    json_array_foreach(list, i, line) {
        const char *value = json_string_value(line);
        if (value && at + strlen(value) + 2 <= size)
            at += (size_t)snprintf(text + at, size - at, "%s\n", value);
    }
}

static void take_chains(const json_t *j, tbg_ensemble_chains *c) {
    take_real(j, "frames_per_independent_frame", &c->inefficiency);
    c->inefficiency = c->inefficiency >= 1 && c->inefficiency < 1e12 ? c->inefficiency : 0;
    c->converged = json_is_true(json_object_get(j, "converged"));
    take_text(j, "advice", c->advice, sizeof c->advice);
    const json_t *errors = json_object_get(j, "dF_error");
    for (size_t k = 0; k < json_array_size(errors) && k < TBG_TORSIONS_MOST; k++) {
        const json_t *value = json_array_get(errors, k);
        c->dF_error[c->n_errors++] = json_is_number(value) ? json_number_value(value) : NAN;
    }
}

/* What the metadata say; keys that are absent or of another type are left alone. */
static int take_info(const char *path, const char *metadata, tbg_ensemble *e) {
    json_error_t error;
    json_t *j = metadata ? json_loads(metadata, 0, &error) : NULL;
    if (!json_is_object(j)) {
        json_decref(j);
        return tbg_fail(TBG_INPUT, "%s: not an ensemble of tbg sample (attribute tbg_metadata)", path);
    }
    tbg_ensemble_info *i = &e->info;
    take_text(j, "sequence", i->sequence, sizeof i->sequence);
    take_text(j, "model", i->model, sizeof i->model);
    take_text(j, "backend", i->backend, sizeof i->backend);
    take_text(j, "forcefield", i->forcefield, sizeof i->forcefield);
    take_text(j, "engine", i->engine, sizeof i->engine);
    take_real(j, "temperature", &i->temperature);
    take_real(j, "seconds_flow", &i->seconds_flow);
    take_real(j, "seconds_energy", &i->seconds_energy);
    take_real(j, "smoothing_nm", &i->smoothing);
    take_real(j, "anneal_error_nats", &i->anneal_error);
    take_real(j, "annealed_from_nm", &i->annealed_from);
    i->branches = (int)json_integer_value(json_object_get(j, "branches"));
    take_real(j, "evaluations_per_sample", &i->evaluations);
    take_real(j, "forward_backward_position_nm", &i->forward_backward_position);
    take_real(j, "forward_backward_log_q", &i->forward_backward_log_q);
    take_warnings(json_object_get(j, "warnings"), i->warnings, sizeof i->warnings);
    take_chains(json_object_get(j, "chains"), &i->chains);
    const json_t *seed = json_object_get(j, "seed");
    i->seed = json_is_string(seed) ? strtoull(json_string_value(seed), NULL, 10)
                                   : (uint64_t)json_integer_value(seed);
    i->forward_backward_n = (long)json_integer_value(json_object_get(j, "forward_backward_n"));
    const json_t *weighted = json_object_get(j, "weighted");
    e->weighted = weighted ? json_is_true(weighted) : 1;
    json_decref(j);
    return TBG_OK;
}

static int fill(const char *path, const tbg_trajectory *t, tbg_ensemble *e) {
    const double *column[N_EXTRA];
    for (int k = 0; k < N_EXTRA; k++)
        if (!(column[k] = tbg_trajectory_extra(t, extra_names[k])) && k != VERDICT)
            return tbg_fail(TBG_INPUT, "%s: not an ensemble of tbg sample (no variable %s)", path,
                            extra_names[k]);
    for (size_t k = 0; k < (size_t)e->n * (size_t)e->n_atoms * 3; k++)
        e->positions[k] = t->positions[k];
    for (long i = 0; i < e->n; i++) {
        double verdict = column[VERDICT]         ? column[VERDICT][i]
                         : column[VALID][i] != 0 ? TBG_VALID
                                                 : TBG_TOPOLOGY;
        if (!(verdict >= 0 && verdict <= TBG_NOT_FINITE))
            return tbg_fail(TBG_INPUT, "%s: frame %ld: verdict %g", path, i, verdict);
        e->verdict[i] = (unsigned char)verdict;
        e->log_q[i] = column[LOG_Q][i];
        e->reduced_energy[i] = column[REDUCED_ENERGY][i];
        /* Not recomputed: a sampler may weigh otherwise (annealing). What does not count must not weigh. */
        e->log_weight[i] =
            tbg_ensemble_is_valid(e, i) && column[VALID][i] != 0 ? column[LOG_WEIGHT][i] : -INFINITY;
    }
    return TBG_OK;
}

int tbg_ensemble_read(const char *directory, tbg_ensemble **out) {
    *out = NULL;
    char frames[4096], topology[4096];
    TBG_TRY(tbg_path_join(directory, "ensemble.nc", frames, sizeof frames));
    TBG_TRY(tbg_path_join(directory, "topology.pdb", topology, sizeof topology));
    tbg_molecule *molecule = NULL;
    tbg_trajectory *t = NULL;
    tbg_ensemble *e = NULL;
    int status = tbg_trajectory_read(frames, 0, 1, 0, &t);
    if (status == TBG_OK)
        status = tbg_molecule_read_pdb(topology, &molecule);
    if (status == TBG_OK && molecule->n_atoms != t->n_atoms)
        status = tbg_fail(TBG_INPUT, "%s: frames of %d atoms, but %s has %d", frames, t->n_atoms, topology,
                          molecule->n_atoms);
    if (status == TBG_OK)
        status = tbg_ensemble_create(molecule, (long)t->n_frames, &e);
    if (status == TBG_OK) {
        e->owned = molecule;
        molecule = NULL;
        status = take_info(frames, t->metadata_json, e);
    }
    if (status == TBG_OK)
        status = fill(frames, t, e);
    tbg_trajectory_free(t);
    tbg_molecule_free(molecule);
    if (status != TBG_OK) {
        tbg_ensemble_free(e);
        return status;
    }
    *out = e;
    return TBG_OK;
}
