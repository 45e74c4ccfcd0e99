/* cmd_verify.c: tbg verify: recomputes what a vector file states with this build and prints the largest
 * deviation of each quantity. Exit codes: 1 beyond tolerance, 2 for a file that cannot be used. */
#include "app.h"
#include "base/progress.h"
#include "tbg/status.h"
#include "verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void verify_fold(verify_worst *worst, const char *name, size_t n, int rank, const int64_t *shape,
                 const double *got, const double *want, double floor) {
    for (size_t k = 0; k < n; k++) {
        double scale = fmax(fabs(want[k]), floor), error = INFINITY;
        if (isfinite(got[k]) && isfinite(want[k]))
            error = scale > 0 ? fabs(got[k] - want[k]) / scale : got[k] == want[k] ? 0 : INFINITY;
        if (worst->where[0] && error <= worst->error)
            continue;
        worst->error = error;
        worst->got = got[k];
        worst->want = want[k];
        size_t rest = k, index[8] = {0};
        for (int a = rank - 1; a >= 0; a--) {
            size_t size = shape[a] > 0 ? (size_t)shape[a] : n;
            index[a] = rest % size;
            rest /= size;
        }
        int length = snprintf(worst->where, sizeof worst->where, "%s", name ? name : "");
        for (int a = 0; a < rank && length < (int)sizeof worst->where; a++)
            length +=
                snprintf(worst->where + length, sizeof worst->where - (size_t)length, "[%zu]", index[a]);
    }
}

void verify_row(verify_report *report, const char *quantity, const char *by, const verify_worst *worst,
                double tolerance) {
    if (!report->rows++)
        printf("  %-22s %-12s %9s %9s  %s\n", "quantity", "by", "error", "tolerance",
               "worst element: here, in the file");
    int good = worst->where[0] && worst->error <= tolerance; /* nothing compared is no success */
    printf("  %-22s %-12s %9.2e %9.0e  %s: %.10g, %.10g%s\n", quantity, by, worst->error, tolerance,
           worst->where, worst->got, worst->want, good ? "" : "   BEYOND TOLERANCE");
    if (!good)
        report->failed = 1;
    fflush(stdout);
}

int cmd_verify(int argc, char **argv) {
    enum { MOST = 1000 };
    static const char *files[MOST];
    int64_t threads = 0;
    const app_option options[] = {
        {"threads", 't', APP_INT, &threads, "T", "threads, 0 for all"},
        {0},
    };
    int n = app_parse(
        "verify",
        "Recomputes what vector files state and prints the largest deviation of each quantity.\n"
        "Network files: velocity, divergence, loss, every gradient, sample and log-determinant, by the\n"
        "double precision reference and by the fast backend. Energy files (with the PDB file of the same\n"
        "stem beside them): energies, their parts, forces, by the reference and the native engine.\n"
        "Exit code 1 beyond tolerance, 2 if a file cannot be used.",
        options, argc, argv, files, 1, MOST);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (threads < 0 || threads > 4096) {
        fprintf(stderr, "tbg verify: --threads must be 0 to 4096\n");
        return 2;
    }
    int failed = 0, unusable = 0, broken = 0;
    for (int i = 0; i < n; i++) {
        tbg_tensors *tensors;
        verify_report report = {0};
        printf("%s\n", files[i]);
        fflush(stdout);
        double start = tbg_seconds();
        int status = tbg_tensors_read(files[i], &tensors);
        if (!status) {
            int network = tbg_tensors_find(tensors, "velocity") != NULL;
            if (network || (tbg_tensors_find(tensors, "energy") && tbg_tensors_find(tensors, "positions")))
                status = network ? verify_network(tensors, (int)threads, &report)
                                 : verify_energy(tensors, (int)threads, &report);
            else {
                status = tbg_fail(TBG_INPUT,
                                  "%s: neither a network vector file (velocity, param.*) nor an energy "
                                  "vector file (energy, positions)",
                                  files[i]);
                tbg_tensors_free(tensors);
            }
        }
        if (status) {
            printf("  cannot be used\n");
            fprintf(stderr, "tbg verify: %s\n", tbg_message());
            unusable |= status == TBG_INPUT;
            broken |= status != TBG_INPUT;
        } else
            printf("  %s (%.1f s)\n", report.failed ? "FAILED" : "ok", tbg_seconds() - start);
        failed |= report.failed;
        fflush(stdout);
    }
    return unusable ? 2 : failed || broken;
}
