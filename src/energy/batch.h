/* batch.h: the native engine's inner interface, for floors 4 and 5 only. One SIMD lane per conformation.
 *
 * A block holds TBG_LANES conformations of one system as structure of arrays, single precision:
 *   x[(atom * 3 + axis) * TBG_LANES + lane], nm. Terms, pairs and parameters are shared by all lanes. */
#ifndef TBG_ENERGY_BATCH_H
#define TBG_ENERGY_BATCH_H
#include "tbg/energy.h"

#define TBG_LANES 16 /* one AVX-512 register of floats; narrower machines use several registers */

/* Parameters of a system laid out for the kernels; immutable, shared by threads. The instruction set is
 * chosen here (tbg_simd_level). errors: TBG_INPUT: more than 2000 atoms, periodicity above 6, tables that
 * contradict each other. */
typedef struct tbg_batch_system tbg_batch_system;
int tbg_batch_system_create(const tbg_system *system, tbg_batch_system **out);
void tbg_batch_system_free(tbg_batch_system *s);
size_t tbg_batch_workspace_size(const tbg_batch_system *s); /* bytes of scratch per thread, 64-byte aligned */

/* Energy and forces of one block. x, f: [n_atoms * 3 * TBG_LANES], f assigned (NULL: energy only);
 * energy: [TBG_LANES] kJ/mol or NULL (forces only, faster); components: [TBG_E_N][TBG_LANES] or NULL.
 * Lanes never influence each other: a lane's result has the same bits whatever the others hold, and an energy
 * that is not finite marks only its own. Count coordinates from near the molecule, or float loses their
 * digits. */
void tbg_batch_evaluate(const tbg_batch_system *s, const float *x, float *f, double *energy,
                        double *components, void *workspace);
#endif
