/* verify_energy.c: energy vector files against the reference and the native engine.
 *
 * The PDB file of the same stem gives the molecule. Tolerances. Reference: 1e-6 of max(|value|, 1 kJ/mol) for
 * energies and their parts, 1e-6 of max(|component|, frame's largest / 1000) for forces. Native: 0.01 kJ/mol,
 * or 1e-6 of the energy where that is more (distorted frames); 1e-4 of the frame's largest force or of 1000
 * kJ/mol/nm. */
#include "base/memory.h"
#include "energy/engine.h"
#include "tbg/energy.h"
#include "tbg/status.h"
#include "verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    tbg_molecule *molecule;
    tbg_system *system;
    int64_t frames;
    double *positions, *energy, *forces, *part[TBG_E_N]; /* of the file; parts may be missing */
    double *got_energy, *got_forces, *got_parts, *column;
} vectors;

static void release(vectors *v) {
    tbg_system_free(v->system);
    tbg_molecule_free(v->molecule);
    free(v->positions);
    free(v->energy);
    free(v->forces);
    for (int c = 0; c < TBG_E_N; c++)
        free(v->part[c]);
    free(v->got_energy);
    free(v->got_forces);
    free(v->got_parts);
    free(v->column);
}

/* "cutoff 2.0 nm, non-periodic" or "no cutoff". */
static int read_cutoff(const tbg_tensors *t, double *cutoff) {
    const char *text = tbg_tensors_metadata(t, "nonbonded");
    *cutoff = -1;
    if (!text)
        return TBG_OK;
    if (!strncmp(text, "no cutoff", 9)) {
        *cutoff = 0;
        return TBG_OK;
    }
    if (sscanf(text, "cutoff %lf nm", cutoff) == 1 && *cutoff > 0 && isfinite(*cutoff))
        return TBG_OK;
    return tbg_fail(TBG_INPUT, "%s: metadata 'nonbonded' is '%s'; 'cutoff X nm' or 'no cutoff' is needed",
                    t->path, text);
}

static int read_molecule(const tbg_tensors *t, tbg_molecule **molecule) {
    static const char ending[] = ".safetensors";
    size_t n = strlen(t->path), k = sizeof ending - 1;
    if (n <= k || strcmp(t->path + n - k, ending))
        return tbg_fail(TBG_INPUT,
                        "%s: an energy vector file must end in .safetensors, with the PDB file of the same "
                        "stem beside it",
                        t->path);
    char *path = tbg_alloc(n + 1, 1);
    if (!path)
        return TBG_FAILED;
    memcpy(path, t->path, n - k);
    memcpy(path + n - k, ".pdb", 5);
    int status = tbg_molecule_read_pdb(path, molecule);
    free(path);
    return status;
}

static int component_of(const tbg_system *system, const char *name) {
    for (int c = 0; c < TBG_E_N; c++) {
        const char *own = tbg_energy_component_name(system, c);
        if (own && !strcmp(own, name))
            return c;
    }
    return -1;
}

static int load(const tbg_tensors *t, vectors *v) {
    const char *forcefield = tbg_tensors_metadata(t, "forcefield");
    if (!forcefield)
        return tbg_fail(TBG_INPUT, "%s: metadata 'forcefield' is missing", t->path);
    double cutoff;
    TBG_TRY(read_cutoff(t, &cutoff));
    TBG_TRY(read_molecule(t, &v->molecule));
    int n_atoms = v->molecule->n_atoms;
    TBG_TRY(tbg_tensors_doubles(t, "positions", 3, (const int64_t[]){-1, n_atoms, 3}, &v->positions));
    v->frames = tbg_tensors_find(t, "positions")->shape[0];
    if (v->frames < 1)
        return tbg_fail(TBG_INPUT, "%s: no frames", t->path);
    for (size_t k = 0; k < (size_t)v->frames * (size_t)n_atoms * 3; k++)
        if (!isfinite(v->positions[k]))
            return tbg_fail(TBG_INPUT, "%s: positions: element %zu is not finite", t->path, k);
    TBG_TRY(tbg_tensors_doubles(t, "energy", 1, (const int64_t[]){v->frames}, &v->energy));
    TBG_TRY(tbg_tensors_doubles(t, "forces", 3, (const int64_t[]){v->frames, n_atoms, 3}, &v->forces));
    TBG_TRY(tbg_system_create(v->molecule, forcefield, cutoff, &v->system));
    for (int i = 0; i < t->n; i++) {
        const char *name = t->tensors[i].name;
        if (strncmp(name, "energy.", 7))
            continue;
        int c = component_of(v->system, name + 7);
        if (c < 0 || v->part[c])
            return tbg_fail(TBG_INPUT, "%s: tensor '%s' is no part of the energy of %s", t->path, name,
                            forcefield);
        TBG_TRY(tbg_tensors_doubles(t, name, 1, (const int64_t[]){v->frames}, &v->part[c]));
    }
    size_t frames = (size_t)v->frames;
    v->got_energy = TBG_NEW(double, frames);
    v->got_forces = TBG_NEW(double, frames *(size_t)n_atoms * 3);
    v->got_parts = TBG_NEW(double, frames *TBG_E_N);
    v->column = TBG_NEW(double, frames);
    if (!v->got_energy || !v->got_forces || !v->got_parts || !v->column)
        return TBG_FAILED;
    printf("  energies: %s, %d atoms, %lld frames\n", forcefield, n_atoms, (long long)v->frames);
    return TBG_OK;
}

static void compare_energies(const vectors *v, const char *quantity, int fast, const char *by,
                             const double *got, const double *want, verify_report *report) {
    verify_worst worst = {0};
    /* Native: 0.01 kJ/mol is 1e-6 of 10^4 kJ/mol. */
    verify_fold(&worst, NULL, (size_t)v->frames, 1, &v->frames, got, want, fast ? 1e4 : 1);
    verify_row(report, quantity, by, &worst, 1e-6);
}

static int by_engine(const char *kind, int threads, vectors *v, verify_report *report) {
    tbg_engine *engine;
    int fast = strcmp(kind, "reference") != 0;
    TBG_TRY(tbg_engine_create(kind, v->molecule, v->system, threads, &engine));
    int status = tbg_engine_evaluate(engine, (long)v->frames, v->positions, v->got_energy, v->got_forces,
                                     v->got_parts);
    if (!status) {
        compare_energies(v, "energy", fast, kind, v->got_energy, v->energy, report);
        for (int c = 0; c < TBG_E_N; c++) {
            if (!v->part[c])
                continue;
            char name[64];
            snprintf(name, sizeof name, "%.40s", tbg_energy_component_name(v->system, c));
            for (int64_t k = 0; k < v->frames; k++)
                v->column[k] = v->got_parts[k * TBG_E_N + c];
            compare_energies(v, name, fast, kind, v->column, v->part[c], report);
        }
        verify_worst worst = {0};
        int n_atoms = v->molecule->n_atoms;
        size_t n3 = 3 * (size_t)n_atoms;
        for (int64_t k = 0; k < v->frames; k++) {
            const double *want = v->forces + (size_t)k * n3;
            char frame[32];
            double most = 0;
            for (size_t i = 0; i < n3; i++)
                most = fmax(most, fabs(want[i]));
            snprintf(frame, sizeof frame, "[%lld]", (long long)k);
            verify_fold(&worst, frame, n3, 2, (const int64_t[]){n_atoms, 3}, v->got_forces + (size_t)k * n3,
                        want, fast ? fmax(most, 1000) : 1e-3 * most);
        }
        verify_row(report, "forces", kind, &worst, fast ? 1e-4 : 1e-6);
    }
    tbg_engine_free(engine);
    return status;
}

int verify_energy(tbg_tensors *tensors, int threads, verify_report *report) {
    vectors v = {0};
    int status = load(tensors, &v);
    tbg_tensors_free(tensors);
    if (!status)
        status = by_engine("reference", threads, &v, report);
    if (!status)
        status = by_engine("native", threads, &v, report);
    release(&v);
    return status;
}
