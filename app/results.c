/* results.c: the files of an ensemble: what tbg sample, its --refine and tbg reweight leave in a folder. */
#include "results.h"
#include "base/path.h"
#include "tbg/report.h"
#include "tbg/status.h"

int results_write(const tbg_ensemble *e, tbg_ensemble_summary *s, const char *directory) {
    char path[4096];
    TBG_TRY(tbg_path_join(directory, "report.html", path, sizeof path));
    TBG_TRY(tbg_ensemble_summarise(e, 0, s));
    TBG_TRY(tbg_ensemble_write(e, s, directory));
    return tbg_report_write(e, s, NULL, NULL, path);
}
