/* report.h: a self-contained HTML page about an ensemble. */
#ifndef TBG_REPORT_H
#define TBG_REPORT_H
#include "tbg/ensemble.h"

/* reference, evaluation: NULL if there is none. path: usually DIR/report.html; written beside it and renamed.
 */
int tbg_report_write(const tbg_ensemble *e, const tbg_ensemble_summary *summary,
                     const tbg_reference *reference, const tbg_evaluation *evaluation, const char *path);
#endif
