/* reference.c: reference trajectories: read, joined run by run, burn-in dropped, energies of a subset; and
 * which torsions make a Ramachandran plot. Refuses trajectories of another molecule, also one of equal size
 * if the file holds its topology. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "base/progress.h"
#include "ensemble/whole.h"
#include "file/stationary.h"
#include "tbg/energy.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void tbg_reference_free(tbg_reference *r) {
    if (!r)
        return;
    free(r->part);
    free(r->positions);
    free(r->reduced_energy);
    free(r->energy_frame);
    free(r->forcefield);
    tbg_whole_free(r->whole);
    free(r);
}

/* The topology inside the file, if it holds one that this build can read, must name the same atoms. */
static int check_topology(const char *path, const char *pdb, const tbg_molecule *molecule) {
    tbg_molecule *other;
    if (!pdb || tbg_molecule_parse_pdb(pdb, strlen(pdb), path, &other) != TBG_OK)
        return TBG_OK;
    int status = TBG_OK;
    for (int i = 0; i < molecule->n_atoms && i < other->n_atoms && status == TBG_OK; i++) {
        const tbg_residue *a = &molecule->residues[molecule->atoms[i].residue],
                          *b = &other->residues[other->atoms[i].residue];
        if (strcmp(molecule->atoms[i].name, other->atoms[i].name) || strcmp(a->name, b->name))
            status = tbg_fail(TBG_INPUT,
                              "%s: another molecule: atom %d is %s of %s there, %s of %s in the ensemble",
                              path, i + 1, other->atoms[i].name, b->name, molecule->atoms[i].name, a->name);
    }
    tbg_molecule_free(other);
    return status;
}

/* End of the run that starts at `first`: `tbg simulate` puts independent runs one after another in a file
 * (variable run); elsewhere time starts again. */
static long run_end(const tbg_trajectory *t, long first) {
    const double *run = tbg_trajectory_extra(t, "run");
    long i = first + 1;
    while (i < (long)t->n_frames && !(run && run[i] != run[i - 1]) &&
           !(t->time && t->time[i] < t->time[i - 1]))
        i++;
    return i;
}

/* Frames first .. end - 1 as a part of their own. */
static int add_part(const char *path, const tbg_trajectory *t, long first, long end, tbg_reference *r) {
    size_t size = (size_t)r->n_atoms * 3, all;
    if (__builtin_mul_overflow((size_t)(r->n + end - first), size, &all))
        return tbg_fail(TBG_INPUT, "%s: too many frames", path);
    float *positions = tbg_realloc(r->positions, all, sizeof *positions);
    if (!positions)
        return TBG_FAILED;
    r->positions = positions;
    long *part = tbg_realloc(r->part, (size_t)r->n_parts + 2, sizeof *part);
    if (!part)
        return TBG_FAILED;
    r->part = part;
    memcpy(positions + (size_t)r->n * size, t->positions + (size_t)first * size,
           (size_t)(end - first) * size * sizeof *positions);
    r->n += end - first;
    part[0] = 0;
    part[++r->n_parts] = r->n;
    return TBG_OK;
}

/* only: there is no other file. */
static int add(const char *path, int only, const tbg_trajectory *t, const tbg_molecule *molecule,
               double burn_in, tbg_reference *r) {
    if (t->n_atoms != molecule->n_atoms)
        return tbg_fail(TBG_INPUT, "%s: another molecule: %d atoms there, %d in the ensemble", path,
                        t->n_atoms, molecule->n_atoms);
    TBG_TRY(check_topology(path, t->topology_pdb, molecule));
    double *weight;
    TBG_TRY(tbg_trajectory_weights(t, path, &weight));
    if (weight && !only) {
        free(weight);
        return tbg_fail(TBG_INPUT,
                        "%s: frames have weights (log_weight, tbg simulate --flatten), which say nothing "
                        "about other files: give it alone",
                        path);
    }
    long kept = 0;
    for (long first = 0, end; first < (long)t->n_frames; first = end) {
        end = run_end(t, first);
        double interval = t->time && end - first > 1 ? t->time[first + 1] - t->time[first] : 0;
        if (!(interval > 0) || !isfinite(interval))
            interval = 0;
        double drop = ceil(interval > 0 ? burn_in / interval - 1e-3 : burn_in);
        if (drop >= (double)(end - first))
            continue;
        long before = r->n;
        int status = add_part(path, t, first + (long)drop, end, r);
        if (status != TBG_OK) {
            free(weight);
            return status;
        }
        if (weight)
            memmove(weight + before, weight + first + (long)drop, (size_t)(r->n - before) * sizeof *weight);
        kept++;
        /* Runs of different intervals: the largest, so that a lag is never too long in frames. */
        if (interval > r->interval)
            r->interval = interval;
    }
    int status = kept && weight ? tbg_reference_unweight(r, molecule, weight) : TBG_OK;
    free(weight);
    if (status != TBG_OK)
        return tbg_fail_in(status, "%s", path);
    if (!kept)
        return tbg_fail(TBG_INPUT, "%s: %lld frames, none left after the burn-in", path,
                        (long long)t->n_frames);
    if (!r->forcefield && t->forcefield && !(r->forcefield = tbg_strdup(t->forcefield)))
        return TBG_FAILED;
    if (!(r->temperature > 0))
        r->temperature = t->temperature;
    return TBG_OK;
}

int tbg_reference_read(int n_paths, const char *const *paths, const tbg_molecule *molecule, double burn_in,
                       tbg_reference **out) {
    *out = NULL;
    if (n_paths < 1 || burn_in < 0)
        return tbg_fail(TBG_INPUT, "%d reference files with a burn-in of %g ps", n_paths, burn_in);
    tbg_reference *r = TBG_NEW(tbg_reference, 1);
    if (!r)
        return TBG_FAILED;
    r->n_atoms = molecule->n_atoms;
    int status = TBG_OK;
    for (int p = 0; p < n_paths && status == TBG_OK; p++) {
        tbg_trajectory *t;
        status = isnan(burn_in) ? tbg_trajectory_read_stationary(paths[p], 0, 1, 0, NULL, &t)
                                : tbg_trajectory_read(paths[p], 0, 1, 0, &t);
        if (status == TBG_OK) {
            status = add(paths[p], n_paths == 1, t, molecule, isnan(burn_in) ? 0 : burn_in, r);
            tbg_trajectory_free(t);
        }
    }
    if (status == TBG_OK && n_paths == 1)
        status = tbg_whole_read(paths[0], molecule, &r->whole);
    if (status != TBG_OK) {
        tbg_reference_free(r);
        return status;
    }
    *out = r;
    return TBG_OK;
}

/* 1 if the energies of all frames are kept and were taken. */
static int take_kept(tbg_reference *r, const char *forcefield, double temperature) {
    const tbg_whole *w = r->whole;
    const long n = TBG_BLOCKS * TBG_QUANTILES;
    if (!w || !w->energy || strcmp(w->forcefield, forcefield) || fabs(w->temperature - temperature) > 1e-6)
        return 0;
    double *energies = TBG_NEW(double, n);
    if (!energies)
        return 0;
    memcpy(energies, w->energy, (size_t)n * sizeof *energies);
    free(r->reduced_energy);
    free(r->energy_frame);
    r->reduced_energy = energies;
    r->energy_frame = NULL;
    r->n_energy = n;
    return 1;
}

int tbg_reference_energies(tbg_reference *r, const tbg_molecule *molecule, const char *forcefield,
                           double temperature, long most, int threads) {
    if (!(temperature > 0) || most < 1)
        return tbg_fail(TBG_INPUT, "energies of the reference at %g K", temperature);
    if (take_kept(r, forcefield, temperature))
        return TBG_OK;
    tbg_system *system = NULL;
    tbg_engine *engine = NULL;
    size_t size = (size_t)r->n_atoms * 3;
    long n = r->n < most ? r->n : most;
    double *positions = NULL, *energies = NULL;
    long *frames = NULL;
    int status = tbg_system_create(molecule, forcefield, -1, &system);
    if (status == TBG_OK)
        status = tbg_engine_create("native", molecule, system, threads, &engine);
    if (status == TBG_OK) {
        positions = tbg_alloc((size_t)n, size * sizeof *positions);
        energies = TBG_NEW(double, n);
        frames = TBG_NEW(long, n);
        status = positions && energies && frames ? TBG_OK : TBG_FAILED;
    }
    if (status == TBG_OK) {
        for (long k = 0; k < n; k++) {
            frames[k] = (long)((double)k * (double)r->n / (double)n);
            for (size_t c = 0; c < size; c++)
                positions[(size_t)k * size + c] = r->positions[(size_t)frames[k] * size + c];
        }
        enum { BLOCK = 1024 };
        for (long k = 0; k < n && status == TBG_OK; k += BLOCK) {
            status = tbg_engine_evaluate(engine, n - k < BLOCK ? n - k : BLOCK, positions + (size_t)k * size,
                                         energies + k, NULL, NULL);
            if (status == TBG_OK && tbg_interrupted())
                status = tbg_fail(TBG_FAILED, "interrupted");
        }
    }
    for (long k = 0; k < n && status == TBG_OK; k++)
        energies[k] /= TBG_BOLTZMANN * temperature;
    free(positions);
    tbg_engine_free(engine);
    tbg_system_free(system);
    if (status != TBG_OK) {
        free(energies);
        free(frames);
        return status;
    }
    free(r->reduced_energy);
    free(r->energy_frame);
    r->reduced_energy = energies;
    r->energy_frame = frames;
    r->n_energy = n;
    return TBG_OK;
}

int tbg_ramachandran_pairs(int n, const tbg_torsion *torsions, int (*pair)[2], int most) {
    int found = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n && found < most; j++)
            if (!strncmp(torsions[i].name, "phi", 3) && !strncmp(torsions[j].name, "psi", 3) &&
                torsions[i].residue == torsions[j].residue) {
                pair[found][0] = i;
                pair[found++][1] = j;
            }
    if (found)
        return found;
    for (int i = 0, j = 0; i < n && j < n && found < most; i++, j++) {
        while (i < n && strncmp(torsions[i].name, "phi", 3))
            i++;
        while (j < n && strncmp(torsions[j].name, "psi", 3))
            j++;
        if (i < n && j < n) {
            pair[found][0] = i;
            pair[found++][1] = j;
        }
    }
    return found;
}
