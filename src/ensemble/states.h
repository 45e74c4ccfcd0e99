/* states.h: the diagnosis of the states of a phi torsion; for floor 9 only. */
#ifndef TBG_ENSEMBLE_STATES_H
#define TBG_ENSEMBLE_STATES_H
#include "ensemble/json.h"

/* Fill states, reliable and the error of *d, whose dF and bootstrap error are there. bin: [s->n] 1 where 0 <
 * phi < 2, else 0. trusted: the weights as a whole can be. */
int tbg_states_diagnose(const tbg_ensemble *e, const tbg_selection *s, const short *bin, int trusted,
                        tbg_dF *d);
/* How many times as many samples would make the poorer state worth 100. */
double tbg_states_more(const tbg_dF *d);
json_t *tbg_states_json(int n, const tbg_dF *dF); /* {"phi1": {"0 < phi < 2": {...}, "elsewhere": {...}}} */
#endif
