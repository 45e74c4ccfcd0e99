/* energy.h: engines that evaluate many configurations of one system at once. */
#ifndef TBG_ENERGY_H
#define TBG_ENERGY_H
#include "tbg/system.h"

/* Components, in this order everywhere; names as in OpenMM. */
enum { TBG_E_BOND, TBG_E_ANGLE, TBG_E_TORSION, TBG_E_NONBONDED, TBG_E_GB, TBG_E_N };
extern const char *const tbg_energy_component_names[TBG_E_N]; /* "HarmonicBondForce", ..., "GBForce" */
/* The name of the OpenMM force that computes a component: as above, but "CustomGBForce" or "GBSAOBCForce" by
 * the system's kind of generalised Born (NULL where it has none). */
const char *tbg_energy_component_name(const tbg_system *system, int component);

typedef struct tbg_engine tbg_engine;

/* kind: "native" (fast, batched), "reference" (double, plain C, the oracle), "openmm", "xtb", "cuda"
 * (batched, double, on a device), or NULL for the force field's usual one. molecule, system: must outlive the
 * engine. threads: 0 for all. "xtb" needs the molecule (elements) and a system of the force field gfn2-xtb;
 * the others don't look at the molecule. errors: TBG_INPUT unknown kind; TBG_FAILED where this build lacks it
 * (said clearly). */
int tbg_engine_create(const char *kind, const tbg_molecule *molecule, const tbg_system *system, int threads,
                      tbg_engine **out);
/* The same with what only OpenMM knows. platform: "Reference" (double precision; NULL: this), "CPU" (faster,
 * single precision), ... system_xml: file with a serialized OpenMM System that is evaluated instead of
 * `system` (which then gives the number of atoms only), or NULL. */
int tbg_engine_create_with(const char *kind, const tbg_molecule *molecule, const tbg_system *system,
                           int threads, const char *platform, const char *system_xml, tbg_engine **out);
void tbg_engine_free(tbg_engine *engine);
const char *tbg_engine_name(const tbg_engine *engine);
/* Configurations that a call should have to keep the engine busy: 128 or more; thousands on a device. */
long tbg_engine_batch(const tbg_engine *engine);

/* Evaluate n configurations. positions: [n][n_atoms][3] nm. energies: [n] kJ/mol. forces: [n][n_atoms][3]
 * kJ/mol/nm, or NULL. components: [n][TBG_E_N] kJ/mol, or NULL. A configuration that gives no finite energy
 * gets +Inf or NaN and never stops the others. One call at a time per engine; parallel inside. */
int tbg_engine_evaluate(tbg_engine *engine, long n, const double *positions, double *energies, double *forces,
                        double *components);

/* Configurations of one system, as the parameters of tbg_engine_evaluate. */
typedef struct {
    tbg_engine *engine;
    long n;
    const double *positions;
    double *energies, *forces, *components; /* forces, components: or NULL */
} tbg_energy_task;
/* Many systems in one call. Tasks of "native" engines share the threads block by block, so that a hundred
 * molecules with a few configurations each keep all of them busy; those of other engines follow one after the
 * other with their own threads. The results are those of a call of tbg_engine_evaluate each; engines may
 * occur several times. threads: 0 for all. errors: as there; outputs are then undefined. */
int tbg_energies(int n_tasks, const tbg_energy_task *tasks, int threads);
#endif
