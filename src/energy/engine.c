/* engine.c: picks an energy engine by name, checks what it is given, and passes calls on. Knows no force
 * field. */
#include "energy/engine.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

const char *const tbg_energy_component_names[TBG_E_N] = {"HarmonicBondForce", "HarmonicAngleForce",
                                                         "PeriodicTorsionForce", "NonbondedForce", "GBForce"};

const char *tbg_energy_component_name(const tbg_system *system, int component) {
    if (component != TBG_E_GB)
        return tbg_energy_component_names[component];
    return system->gb == TBG_GB_OBC1 ? "CustomGBForce" : system->gb == TBG_GB_OBC2 ? "GBSAOBCForce" : NULL;
}

static const struct {
    const char *name;
    int (*create)(struct tbg_engine *engine);
} engines[] = {
    {"native", tbg_engine_native_create}, {"reference", tbg_engine_reference_create},
    {"openmm", tbg_engine_openmm_create}, {"xtb", tbg_engine_xtb_create},
    {"cuda", tbg_engine_cuda_create},
};

#ifndef TBG_HAVE_OPENMM
int tbg_engine_openmm_create(struct tbg_engine *engine) {
    (void)engine;
    return tbg_fail(
        TBG_FAILED,
        "this build has no OpenMM engine: install libopenmm-dev and libopenmm-plugins and rebuild");
}
#endif
#ifndef TBG_HAVE_XTB
int tbg_engine_xtb_create(struct tbg_engine *engine) {
    (void)engine;
    return tbg_fail(TBG_FAILED, "this build has no xtb engine: install libxtb-dev and rebuild");
}
#endif

int tbg_engine_create_with(const char *kind, const tbg_molecule *molecule, const tbg_system *system,
                           int threads, const char *platform, const char *system_xml, tbg_engine **out) {
    *out = NULL;
    if (!system)
        return tbg_fail(TBG_INPUT, "an energy engine needs a system");
    if (!kind)
        kind = !strcmp(system->forcefield, "gfn2-xtb") ? "xtb" : "native";
    size_t which = 0, n = sizeof engines / sizeof *engines;
    while (which < n && strcmp(engines[which].name, kind))
        which++;
    if (which == n)
        return tbg_fail(TBG_INPUT, "unknown energy engine '%s': native, reference, openmm, xtb or cuda",
                        kind);
    int quantum = !strcmp(system->forcefield, "gfn2-xtb");
    if (quantum != !strcmp(kind, "xtb"))
        return tbg_fail(TBG_INPUT,
                        quantum ? "force field gfn2-xtb needs the engine xtb, not '%s'"
                                : "the engine '%s' needs the force field gfn2-xtb",
                        kind);
    if (molecule && molecule->n_atoms != system->n_atoms)
        return tbg_fail(TBG_INPUT, "the molecule has %d atoms, the system %d", molecule->n_atoms,
                        system->n_atoms);
    if (!strcmp(system->forcefield, "none") && !system_xml)
        return tbg_fail(TBG_INPUT, "the force field 'none' has no energy");
    if ((platform || system_xml) && strcmp(kind, "openmm"))
        return tbg_fail(TBG_INPUT, "a platform or a serialized system is for the engine openmm, not '%s'",
                        kind);
    tbg_engine *engine = TBG_NEW(tbg_engine, 1);
    if (!engine)
        return TBG_FAILED;
    engine->name = engines[which].name;
    engine->n_atoms = system->n_atoms;
    engine->molecule = molecule;
    engine->system = system;
    engine->threads = threads > 0 ? threads : omp_get_max_threads();
    engine->platform = platform;
    engine->system_xml = system_xml;
    int status = engines[which].create(engine);
    engine->platform = engine->system_xml = NULL;
    if (status != TBG_OK) {
        free(engine);
        return status;
    }
    *out = engine;
    return TBG_OK;
}

int tbg_engine_create(const char *kind, const tbg_molecule *molecule, const tbg_system *system, int threads,
                      tbg_engine **out) {
    return tbg_engine_create_with(kind, molecule, system, threads, NULL, NULL, out);
}

void tbg_engine_free(tbg_engine *engine) {
    if (!engine)
        return;
    if (engine->release)
        engine->release(engine);
    free(engine);
}

const char *tbg_engine_name(const tbg_engine *engine) {
    return engine->name;
}

long tbg_engine_batch(const tbg_engine *engine) {
    return engine->batch > 0 ? engine->batch : 128;
}

static int check_task(const tbg_energy_task *t) {
    if (t->n < 0 || (t->n > 0 && (!t->positions || !t->energies)))
        return tbg_fail(TBG_INPUT, "energy of %ld configurations: positions or energies missing", t->n);
    return TBG_OK;
}

int tbg_engine_evaluate(tbg_engine *engine, long n, const double *positions, double *energies, double *forces,
                        double *components) {
    const tbg_energy_task task = {engine, n, positions, energies, forces, components};
    TBG_TRY(check_task(&task));
    return n ? engine->evaluate(engine, n, positions, energies, forces, components) : TBG_OK;
}

static long pieces_of(const tbg_energy_task *t) {
    return t->engine->evaluate_piece ? (t->n + t->engine->piece - 1) / t->engine->piece : 0;
}

static void run_piece(const tbg_energy_task *t, long piece, char *scratch) {
    const tbg_engine *e = t->engine;
    size_t first = (size_t)piece * (size_t)e->piece, size = 3 * (size_t)e->n_atoms;
    long left = t->n - (long)first;
    e->evaluate_piece(e, scratch, left < e->piece ? (int)left : e->piece, t->positions + first * size,
                      t->energies + first, t->forces ? t->forces + first * size : NULL,
                      t->components ? t->components + first * TBG_E_N : NULL);
}

int tbg_energies(int n_tasks, const tbg_energy_task *tasks, int threads) {
    size_t stride = 0;
    threads = threads > 0 ? threads : omp_get_max_threads();
    long *first = TBG_NEW(long, (size_t)(n_tasks > 0 ? n_tasks : 0) + 1);
    if (!first)
        return TBG_FAILED;
    int status = TBG_OK;
    for (int k = 0; k < n_tasks && !status; k++) {
        status = check_task(&tasks[k]);
        first[k + 1] = first[k] + pieces_of(&tasks[k]);
        if (tasks[k].engine->scratch_size > stride)
            stride = tasks[k].engine->scratch_size;
    }
    char *scratch = status || !stride ? NULL : tbg_alloc((size_t)threads, stride);
    if (!status && stride && !scratch)
        status = TBG_FAILED;
    if (!status && scratch) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (long p = 0; p < first[n_tasks]; p++) {
            int low = 0, high = n_tasks; /* first[low] <= p < first[high] */
            while (high - low > 1) {
                int middle = low + (high - low) / 2;
                *(first[middle] <= p ? &low : &high) = middle;
            }
            run_piece(&tasks[low], p - first[low], scratch + (size_t)omp_get_thread_num() * stride);
        }
    }
    for (int k = 0; k < n_tasks && !status; k++)
        if (!tasks[k].engine->evaluate_piece)
            status = tbg_engine_evaluate(tasks[k].engine, tasks[k].n, tasks[k].positions, tasks[k].energies,
                                         tasks[k].forces, tasks[k].components);
    free(scratch);
    free(first);
    return status;
}
