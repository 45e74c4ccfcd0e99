/* anneal.c: what it takes to get from a smoothed configuration back to the force field's (docs/smoothing.md):
 * frames of dynamics plus noise, one thread, processor time.
 *
 * usage: bench_anneal [SEQ FRAMES.nc [N [S...]]]
 * FRAMES.nc names force field and temperature; N frames spread over the file (24); S: nm (0.025). For each s
 * the settings of a table: Newton steps, seconds a sample, spread of ln w over the replicas (root mean square
 * over frames) and the error of ln Z that it means. Without arguments: alanine dipeptide, KS and RL as
 * shipped. */
#include "base/memory.h"
#include "tbg/anneal.h"
#include "tbg/file.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One line of the table. x: [n][n3] nm; y, out: room alike. */
static int setting(tbg_engine *engine, int n_atoms, const tbg_anneal_options *o, int n, const double *y,
                   double *out, tbg_anneal_result *r) {
    double start = processor_seconds(), error = 0, acceptance = 0, newton = 0;
    TBG_TRY(tbg_anneal(engine, n_atoms, o, n, 0, y, out, r));
    double seconds = (processor_seconds() - start) / n;
    for (int i = 0; i < n; i++) {
        error += r[i].error * r[i].error / n;
        acceptance += r[i].acceptance / n;
        newton += (double)r[i].newton / n;
    }
    printf("| %.3f | %d x %d | %.1f | %.4f | %.2f | %.2f |\n", o->smoothing, o->stages, o->steps, newton,
           seconds, acceptance, sqrt(error));
    fflush(stdout);
    return TBG_OK;
}

static int molecule(const char *sequence, const char *path, int n, int n_smoothing, char **smoothing) {
    static const int stages[][2] = {{1, 1}, {4, 4}, {8, 4}, {16, 4}, {64, 8}};
    static char *const usual[] = {"0.025"};
    tbg_molecule *m = NULL;
    tbg_system *system = NULL;
    tbg_engine *engine = NULL;
    tbg_trajectory *frames = NULL;
    double *y = NULL, *out = NULL;
    tbg_anneal_result *r = NULL;
    int status = tbg_trajectory_read(path, 0, 1, 0, &frames);
    if (!status && (!frames->forcefield || !(frames->temperature > 0) || frames->n_frames < n))
        status = tbg_fail(TBG_INPUT, "%s: no force field, no temperature or fewer than %d frames", path, n);
    if (!status)
        status = tbg_molecule_load(sequence, &m);
    if (!status && m->n_atoms != frames->n_atoms)
        status = tbg_fail(TBG_INPUT, "%s has %d atoms, %s %d", path, frames->n_atoms, sequence, m->n_atoms);
    if (!status)
        status = tbg_system_create(m, frames->forcefield, -1, &system);
    if (!status)
        status = tbg_engine_create("native", m, system, 1, &engine);
    size_t n3 = status ? 0 : 3 * (size_t)m->n_atoms;
    if (!status && !((y = TBG_NEW(double, n3 *(size_t)n)) && (out = TBG_NEW(double, n3 *(size_t)n)) &&
                     (r = TBG_NEW(tbg_anneal_result, n))))
        status = TBG_FAILED;
    if (!status)
        printf("%s, %d atoms, %s, %.0f K, %d frames of %s\n\n| s, nm | stages x steps | Newton steps | s a "
               "sample | "
               "acceptance | error of ln Z |\n|---|---|---|---|---|---|\n",
               sequence, m->n_atoms, frames->forcefield, frames->temperature, n, path);
    if (!n_smoothing) {
        n_smoothing = 1;
        smoothing = (char **)usual;
    }
    for (int k = 0; k < n_smoothing && !status; k++) {
        tbg_anneal_options o;
        tbg_anneal_defaults(&o);
        o.smoothing = atof(smoothing[k]);
        o.temperature = frames->temperature;
        o.threads = 1;
        for (int i = 0; i < n; i++) {
            const float *x = frames->positions + (size_t)(i * (frames->n_frames / n)) * n3;
            tbg_random_normal(o.seed, TBG_STREAM(TBG_STREAM_TEST, i), 0, n3, y + (size_t)i * n3);
            for (size_t c = 0; c < n3; c++)
                y[(size_t)i * n3 + c] = (double)x[c] + o.smoothing * y[(size_t)i * n3 + c];
        }
        for (size_t j = 0; j < sizeof stages / sizeof *stages && !status; j++) {
            o.stages = stages[j][0];
            o.steps = stages[j][1];
            status = setting(engine, m->n_atoms, &o, n, y, out, r);
        }
    }
    if (!status)
        puts("");
    free(y);
    free(out);
    free(r);
    tbg_trajectory_free(frames);
    tbg_engine_free(engine);
    tbg_system_free(system);
    tbg_molecule_free(m);
    return status;
}

int main(int argc, char **argv) {
    static const char *const shipped[][2] = {{"ACE-ALA-NME", TBG_SOURCE_DIR "/data/reference/ACE-ALA-NME.nc"},
                                             {"KS", TBG_SOURCE_DIR "/data/reference/KS.nc"},
                                             {"RL", TBG_SOURCE_DIR "/data/reference/RL.nc"}};
    int n = argc > 3 ? atoi(argv[3]) : 24, status = TBG_OK;
    if (argc == 2 || n < 1 || n > 1000000) {
        fputs("usage: bench_anneal [SEQ FRAMES.nc [N [S...]]]\n", stderr);
        return 2;
    }
    if (argc > 2)
        status = molecule(argv[1], argv[2], n, argc > 4 ? argc - 4 : 0, argv + 4);
    for (size_t k = 0; argc == 1 && k < sizeof shipped / sizeof *shipped && !status; k++)
        status = molecule(shipped[k][0], shipped[k][1], n, 0, NULL);
    if (status)
        fprintf(stderr, "bench_anneal: %s\n", tbg_message());
    return status;
}
