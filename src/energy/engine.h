/* engine.h: what an energy engine is inside. One file per engine fills the table below; engine.c picks and
 * checks.
 *
 * tbg_engine_create allocates the engine, fills the fields marked [given], and calls the create function,
 * which fills the fields marked [filled]. A create function that fails leaves nothing behind. */
#ifndef TBG_ENERGY_ENGINE_H
#define TBG_ENERGY_ENGINE_H
#include "tbg/energy.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tbg_engine {
    const char *name;             /* [given] "native", "reference", "openmm", "xtb", "cuda" */
    int n_atoms;                  /* [given] */
    const tbg_molecule *molecule; /* [given] may be NULL except for xtb; outlives the engine */
    const tbg_system *system;     /* [given] outlives the engine */
    int threads;                  /* [given] >= 1: the most threads to use */
    const char *platform;         /* [given] OpenMM platform or NULL; valid during create only */
    const char *system_xml; /* [given] serialized OpenMM System file or NULL; valid during create only */
    void *state;            /* [filled] whatever the engine keeps */
    /* [filled] The contract of tbg_engine_evaluate; n > 0, positions and energies not NULL. */
    int (*evaluate)(struct tbg_engine *engine, long n, const double *positions, double *energies,
                    double *forces, double *components);
    /* [filled, or NULL] n <= piece configurations on the calling thread, with scratch of its own: what a call
     * over several systems is made of. */
    int piece;
    size_t scratch_size; /* bytes, 64-byte aligned */
    void (*evaluate_piece)(const struct tbg_engine *engine, char *scratch, int n, const double *positions,
                           double *energies, double *forces, double *components);
    long batch; /* [filled, or 0] see tbg_engine_batch */
    /* [filled] Releases `state`; not the engine itself. */
    void (*release)(struct tbg_engine *engine);
};

int tbg_engine_native_create(struct tbg_engine *engine);
int tbg_engine_reference_create(struct tbg_engine *engine);
int tbg_engine_openmm_create(struct tbg_engine *engine);
int tbg_engine_xtb_create(struct tbg_engine *engine);
int tbg_engine_cuda_create(struct tbg_engine *engine);

/* Formal charge of a peptide, elementary charges. */
int tbg_formal_charge(const tbg_molecule *molecule);

#ifdef __cplusplus
}
#endif
#endif
