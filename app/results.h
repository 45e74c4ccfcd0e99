/* results.h: the files of an ensemble, for the commands that make one. */
#ifndef TBG_APP_RESULTS_H
#define TBG_APP_RESULTS_H
#include "tbg/ensemble.h"

/* Summarise e into s and write DIR/topology.pdb, ensemble.nc, summary.json and report.html. */
int results_write(const tbg_ensemble *e, tbg_ensemble_summary *s, const char *directory);
#endif
