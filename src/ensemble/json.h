/* json.h: JSON pieces that summary, directory and evaluation share; for floor 9 only. New references. */
#ifndef TBG_ENSEMBLE_JSON_H
#define TBG_ENSEMBLE_JSON_H
#include <jansson.h>
#include "tbg/ensemble.h"

json_t *tbg_ensemble_json_real(double x); /* null if not finite */
json_t *tbg_ensemble_json_dF(int n, const tbg_dF *dF);
/* NAME_error and, in the object "intervals", NAME: [low, high]; nothing where the spread is unknown. */
void tbg_ensemble_json_spread(json_t *j, const char *name, const tbg_spread *spread);
json_t *tbg_ensemble_json_info(const tbg_ensemble *e);
json_t *tbg_ensemble_json_summary(const tbg_ensemble *e, const tbg_ensemble_summary *s);
#endif
