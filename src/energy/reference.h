/* reference.h: the oracle: one configuration in double precision, plain C. */
#ifndef TBG_ENERGY_REFERENCE_H
#define TBG_ENERGY_REFERENCE_H
#include "tbg/energy.h"

/* Energy components (kJ/mol) and forces of one configuration.
 * x: [n_atoms][3] nm. components: [TBG_E_N], assigned. forces: [n_atoms][3] kJ/mol/nm, assigned, or NULL.
 * Thread-safe. Overlapping atoms give Inf or NaN, not an error. TBG_FAILED: no memory. */
int tbg_reference_evaluate(const tbg_system *system, const double *x, double components[TBG_E_N],
                           double *forces);
#endif
