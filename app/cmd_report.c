/* cmd_report.c: tbg report: the HTML page of an ensemble. */
#include "app.h"
#include "evaluate.h"
#include "tbg/report.h"
#include "tbg/status.h"

#include <stdio.h>

int cmd_report(int argc, char **argv) {
    app_evaluation o = APP_EVALUATION_DEFAULTS;
    const char *output = NULL;
    const app_option options[] = {
        {"reference", 'r', APP_STRING, &o.reference, "FILES",
         "reference trajectories of the molecule, with commas between"},
        {"output", 'o', APP_STRING, &output, "FILE", "page to write, DIR/report.html unless given"},
        {"burn-in", 'b', APP_DOUBLE, &o.burn_in, "PS",
         "dropped at the start of every run of the reference; default: what tbg simulate found not to be "
         "stationary"},
        {"transport", 0, APP_INT, &o.transport, "N", "points in the torus and TICA transports"},
        {"energies", 0, APP_INT, &o.energies, "N", "reference frames whose energies are computed"},
        {"lag", 0, APP_DOUBLE, &o.lag, "PS", "lag of TICA"},
        {"bootstrap", 0, APP_INT, &o.bootstrap, "N", "resamplings for the errors"},
        {"threads", 't', APP_INT, &o.threads, "T", "threads, 0 for all"},
        {0}};
    int n = app_parse(
        "report",
        "Write a self-contained HTML page about the ensemble that tbg sample wrote to DIR: Ramachandran "
        "plots,\n"
        "free energies along the torsions with errors, energies and weights, and what they mean; beside\n"
        "reference dynamics where given.",
        options, argc, argv, &o.directory, 1, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    char path[4096];
    int length = output ? snprintf(path, sizeof path, "%s", output)
                        : snprintf(path, sizeof path, "%s/report.html", o.directory);
    tbg_ensemble *e = NULL;
    tbg_reference *r = NULL;
    tbg_ensemble_summary s;
    tbg_evaluation v;
    int status = length > 0 && (size_t)length < sizeof path
                     ? app_evaluation_check(&o)
                     : tbg_fail(TBG_INPUT, "the output's name is too long");
    if (status == TBG_OK)
        status = app_evaluate(&o, &e, &s, &r, &v);
    if (status == TBG_OK)
        status = tbg_report_write(e, &s, r, r ? &v : NULL, path);
    if (status == TBG_OK)
        printf("%s\n", path);
    tbg_reference_free(r);
    tbg_ensemble_free(e);
    return status == TBG_OK ? 0 : app_fail("report", status);
}
