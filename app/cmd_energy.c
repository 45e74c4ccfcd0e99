/* cmd_energy.c: tbg energy: energies and forces of many conformations of one molecule. */
#include "app.h"
#include "base/memory.h"
#include "base/progress.h"
#include "tbg/energy.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *forcefield, *engine, *platform, *system_xml, *forces_path;
    double cutoff;
    int64_t threads;
    int json;
} settings;

typedef struct {
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_engine *engine;
    int64_t n;
    double *positions, *energies, *components, *forces; /* forces: NULL unless they are written */
    int64_t n_bad;                                      /* frames without a finite energy */
    double seconds;
} work;

enum { CHUNK = 4096 }; /* frames between two looks at the progress bar and at interrupts */

static int read_input(const settings *o, const char *pdb, const char *frames, work *w) {
    if (o->forces_path)
        TBG_TRY(app_check_output("--forces", o->forces_path));
    TBG_TRY(tbg_molecule_read_pdb(pdb, &w->molecule));
    size_t size = 3 * (size_t)w->molecule->n_atoms;
    if (frames)
        TBG_TRY(tbg_frames_read(frames, w->molecule->n_atoms, &w->n, &w->positions));
    else {
        w->n = 1;
        w->positions = TBG_NEW(double, size);
        if (!w->positions)
            return TBG_FAILED;
        memcpy(w->positions, w->molecule->positions, size * sizeof *w->positions);
    }
    if (w->n < 1)
        return tbg_fail(TBG_INPUT, "%s holds no frames", frames);
    for (size_t i = 0; i < (size_t)w->n * size; i++)
        if (!isfinite(w->positions[i]))
            return tbg_fail(TBG_INPUT, "%s: frame %zu, atom %zu: a coordinate is not finite",
                            frames ? frames : pdb, i / size, i % size / 3);
    TBG_TRY(tbg_system_create(w->molecule, o->forcefield, o->cutoff, &w->system));
    TBG_TRY(tbg_engine_create_with(o->engine, w->molecule, w->system, (int)o->threads, o->platform,
                                   o->system_xml, &w->engine));
    w->energies = TBG_NEW(double, w->n);
    w->components = TBG_NEW(double, w->n *TBG_E_N);
    w->forces = o->forces_path ? TBG_NEW(double, (size_t)w->n *size) : NULL;
    return w->energies && w->components && (w->forces || !o->forces_path) ? TBG_OK : TBG_FAILED;
}

static int evaluate(work *w) {
    size_t size = 3 * (size_t)w->molecule->n_atoms;
    tbg_progress progress;
    double start = tbg_seconds();
    int show = w->n > CHUNK;
    if (show)
        tbg_progress_start(&progress, "energies", "frames", (double)w->n);
    for (int64_t at = 0; at < w->n; at += CHUNK) {
        long n = (long)(w->n - at < CHUNK ? w->n - at : CHUNK);
        int status =
            tbg_interrupted()
                ? tbg_fail(TBG_FAILED, "interrupted after %lld frames", (long long)at)
                : tbg_engine_evaluate(w->engine, n, w->positions + at * size, w->energies + at,
                                      w->forces ? w->forces + at * size : NULL, w->components + at * TBG_E_N);
        if (show)
            tbg_progress_update(&progress, (double)(at + (status ? 0 : n)), NULL);
        if (status)
            return status;
    }
    if (show)
        tbg_progress_end(&progress, (double)w->n);
    w->seconds = tbg_seconds() - start;
    for (int64_t c = 0; c < w->n; c++)
        w->n_bad += !isfinite(w->energies[c]);
    return TBG_OK;
}

static int has_components(const work *w) {
    return strcmp(tbg_engine_name(w->engine), "xtb") != 0;
}

/* NULL if there is none. A serialized System may have any of them. */
static const char *component_name(const work *w, int component) {
    return strcmp(w->system->forcefield, "none") ? tbg_energy_component_name(w->system, component)
                                                 : tbg_energy_component_names[component];
}

/* The file is a vector file that `tbg verify` understands. */
static int write_forces(const settings *o, const work *w) {
    tbg_tensor tensors[3 + TBG_E_N];
    char names[TBG_E_N][64], cutoff[32];
    double *columns = TBG_NEW(double, w->n *TBG_E_N);
    int n = 0;
    if (!columns)
        return TBG_FAILED;
    int64_t atoms = w->molecule->n_atoms;
    tensors[n++] = (tbg_tensor){.name = "positions",
                                .dtype = TBG_F64,
                                .rank = 3,
                                .shape = {w->n, atoms, 3},
                                .n = (size_t)(w->n * atoms * 3),
                                .data = w->positions};
    tensors[n] = tensors[0];
    tensors[n].name = "forces";
    tensors[n++].data = w->forces;
    tensors[n++] = (tbg_tensor){.name = "energy",
                                .dtype = TBG_F64,
                                .rank = 1,
                                .shape = {w->n},
                                .n = (size_t)w->n,
                                .data = w->energies};
    for (int e = 0; e < TBG_E_N && has_components(w); e++) {
        const char *name = component_name(w, e);
        if (!name)
            continue;
        for (int64_t c = 0; c < w->n; c++)
            columns[e * w->n + c] = w->components[c * TBG_E_N + e];
        snprintf(names[e], sizeof names[e], "energy.%s", name);
        tensors[n] = tensors[2];
        tensors[n].name = names[e];
        tensors[n++].data = columns + e * w->n;
    }
    char sequence[1024];
    tbg_molecule_sequence(w->molecule, sequence, sizeof sequence);
    snprintf(cutoff, sizeof cutoff, "%.17g", w->system->cutoff);
    const char *keys[] = {"forcefield", "engine", "units", "cutoff_nm", "sequence"};
    const char *values[] = {o->forcefield, tbg_engine_name(w->engine), "nm, kJ/mol, kJ/mol/nm", cutoff,
                            sequence};
    int status = tbg_tensors_write(o->forces_path, n, tensors, 5, keys, values);
    free(columns);
    return status;
}

/* JSON has no NaN or Inf: null. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static int print_json(const settings *o, const work *w) {
    json_t *root = json_object(), *energies = json_array(), *components = json_object();
    for (int64_t c = 0; c < w->n; c++)
        json_array_append_new(energies, number(w->energies[c]));
    for (int e = 0; e < TBG_E_N && has_components(w); e++) {
        const char *name = component_name(w, e);
        if (!name)
            continue;
        json_t *column = json_array();
        for (int64_t c = 0; c < w->n; c++)
            json_array_append_new(column, number(w->components[c * TBG_E_N + e]));
        json_object_set_new(components, name, column);
    }
    json_object_set_new(root, "forcefield", json_string(o->forcefield));
    json_object_set_new(root, "engine", json_string(tbg_engine_name(w->engine)));
    json_object_set_new(root, "cutoff_nm", json_real(w->system->cutoff));
    json_object_set_new(root, "n_atoms", json_integer(w->molecule->n_atoms));
    json_object_set_new(root, "n_frames", json_integer(w->n));
    json_object_set_new(root, "n_not_finite", json_integer(w->n_bad));
    json_object_set_new(root, "seconds", json_real(w->seconds));
    json_object_set_new(root, "energies_kj_mol", energies);
    json_object_set_new(root, "components_kj_mol", components);
    int failed = json_dumpf(root, stdout, JSON_COMPACT) || putchar('\n') == EOF || fflush(stdout);
    json_decref(root);
    return failed ? tbg_fail(TBG_FAILED, "can't write to standard output") : TBG_OK;
}

static int print_table(const work *w) {
    printf("%8s %18s", "frame", "energy kJ/mol");
    for (int e = 0; e < TBG_E_N && has_components(w); e++)
        if (component_name(w, e))
            printf(" %20s", component_name(w, e));
    putchar('\n');
    for (int64_t c = 0; c < w->n; c++) {
        printf("%8lld %18.8f", (long long)c, w->energies[c]);
        for (int e = 0; e < TBG_E_N && has_components(w); e++)
            if (component_name(w, e))
                printf(" %20.8f", w->components[c * TBG_E_N + e]);
        putchar('\n');
    }
    return fflush(stdout) ? tbg_fail(TBG_FAILED, "can't write to standard output") : TBG_OK;
}

int cmd_energy(int argc, char **argv) {
    settings o = {.cutoff = -1};
    const app_option options[] = {
        {"forcefield", 'f', APP_STRING, &o.forcefield, "NAME",
         "amber14-obc1, amber99sbildn-obc, gfn2-xtb, or FILE.xml,FILE.xml,... in OpenMM's format (the word "
         "obc1 in the "
         "list adds that implicit solvent)"},
        {"engine", 'e', APP_STRING, &o.engine, "NAME",
         "native, reference, openmm, xtb, cuda; default: native, or xtb for gfn2-xtb"},
        {"forces", 0, APP_STRING, &o.forces_path, "OUT.safetensors", "write forces, energies and positions"},
        {"cutoff", 0, APP_DOUBLE, &o.cutoff, "NM",
         "non-periodic cutoff; 0: none; -1: the force field's usual one"},
        {"platform", 0, APP_STRING, &o.platform, "NAME", "OpenMM platform: CPU, Reference, ..."},
        {"system", 0, APP_STRING, &o.system_xml, "FILE.xml",
         "instead of --forcefield: a serialized OpenMM System"},
        {"threads", 't', APP_INT, &o.threads, "N", "threads; 0: all"},
        {"json", 0, APP_FLAG, &o.json, NULL, "print one JSON object"},
        {0}};
    const char *positional[2] = {NULL, NULL};
    int n = app_parse("energy",
                      "Energies of the conformations in FRAMES (.nc, or .safetensors with `positions` "
                      "[frames][atoms][3] in\n"
                      "nm) of the molecule in FILE.pdb; without FRAMES of the PDB file's own coordinates.",
                      options, argc, argv, positional, 1, 2);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (o.system_xml) {
        if (o.forcefield || (o.engine && strcmp(o.engine, "openmm"))) {
            fprintf(
                stderr,
                "tbg energy: --system is a whole System for OpenMM: leave out --forcefield and --engine\n");
            return 2;
        }
        o.forcefield = "none";
        o.engine = "openmm";
    }
    if (!o.forcefield) {
        fprintf(stderr, "tbg energy: --forcefield is needed: amber14-obc1, amber99sbildn-obc, gfn2-xtb or "
                        "parameter files\n");
        return 2;
    }
    if (o.threads < 0 || o.threads > 4096) {
        fprintf(stderr, "tbg energy: --threads must be from 0 to 4096\n");
        return 2;
    }
    work w = {0};
    int status = read_input(&o, positional[0], positional[1], &w);
    if (!status)
        status = evaluate(&w);
    if (!status && o.forces_path)
        status = write_forces(&o, &w);
    if (!status)
        status = o.json ? print_json(&o, &w) : print_table(&w);
    if (!status && w.n_bad)
        fprintf(stderr,
                "tbg energy: %lld of %lld frames have no finite energy (atoms on top of each other)\n",
                (long long)w.n_bad, (long long)w.n);
    int code = status ? app_fail("energy", status) : 0;
    tbg_engine_free(w.engine);
    tbg_system_free(w.system);
    tbg_molecule_free(w.molecule);
    free(w.positions);
    free(w.energies);
    free(w.components);
    free(w.forces);
    return code;
}
