/* likelihood.c: how far the log q and the weights of `tbg sample` are from those of tight settings, on a
 * trained model.
 *
 * usage: bench_likelihood [MODEL [SEQ [N [SECONDS [N_DOUBLE]]]]]
 * Reference: Dormand-Prince 5(4) in t at tolerance 1e-8 with the divergence at every stage (the published
 * recipe, made tight), for N samples or as many as SECONDS allow. Then the settings of a table on the same
 * latent points, and the default ones by the double-precision reference network on the first N_DOUBLE.
 * Weights use every finite sample; differences of log w those whose weight is not negligible, within 30 nats
 * of the largest (a smoothed model's sample that starts in a clash has e^-200 and an annealing that wanders).
 */
#include "base/memory.h"
#include "base/progress.h"
#include "tbg/anneal.h"
#include "tbg/energy.h"
#include "tbg/flow.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 8 };

typedef struct {
    tbg_model *model;
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_conditioning *conditioning;
    tbg_engine *engine;
    const tbg_conditioning **list;
    size_t n3;
} bench;

/* ln of what weights have above q: exp(-u), or Z of a smoothed model's sample (the annealing takes the same
 * random numbers whatever the setting). x: nm; annealed. */
static int numerators(bench *b, int first, int n, double *x, double *out) {
    const double kT = TBG_BOLTZMANN * b->model->temperature;
    if (!(b->model->spec.smoothing > 0)) {
        TBG_TRY(tbg_engine_evaluate(b->engine, n, x, out, NULL, NULL));
        for (int i = 0; i < n; i++)
            out[i] /= -kT;
        return TBG_OK;
    }
    tbg_anneal_options o;
    tbg_anneal_defaults(&o);
    o.smoothing = b->model->spec.smoothing;
    o.temperature = b->model->temperature;
    tbg_anneal_result *result = TBG_NEW(tbg_anneal_result, n);
    int status =
        result ? tbg_anneal(b->engine, (int)b->n3 / 3, &o, n, (uint64_t)first, x, x, result) : TBG_FAILED;
    for (int i = 0; i < n && !status; i++)
        out[i] = result[i].log_z;
    free(result);
    return status;
}

/* Samples first .. first + n - 1: log q (scaled units) and log w; evaluations a sample. */
static int draw(bench *b, tbg_session *s, const tbg_flow_options *o, int first, int n, double *log_q,
                double *log_w, double *cost) {
    double *x = TBG_NEW(double, (size_t)n * b->n3), *energy = TBG_NEW(double, n);
    tbg_flow_result *r = TBG_NEW(tbg_flow_result, n);
    int status = x && energy && r ? TBG_OK : TBG_FAILED;
    if (!status)
        status = tbg_flow_sample(s, o, n, b->list, 1, (uint64_t)first, NULL, x, r);
    for (size_t k = 0; k < (size_t)n * b->n3 && !status; k++)
        x[k] /= b->model->spec.scale;
    if (!status)
        status = numerators(b, first, n, x, energy);
    for (int i = 0; i < n && !status; i++) {
        log_q[i] = r[i].log_q;
        log_w[i] = energy[i] - r[i].log_q;
        cost[0] += r[i].velocities;
        cost[1] += r[i].divergences;
    }
    free(x);
    free(energy);
    free(r);
    return status;
}

static double ess(int n, const double *log_w) {
    double most = -INFINITY, sum = 0, squares = 0;
    int finite = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(log_w[i]))
            most = fmax(most, log_w[i]);
    for (int i = 0; i < n; i++)
        if (isfinite(log_w[i])) {
            double w = exp(log_w[i] - most);
            sum += w;
            squares += w * w;
            finite++;
        }
    return finite ? sum * sum / squares / finite : 0;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* rms, median and largest |a - b| of the pairs that are finite and whose b is at least `least`; how many. */
static int differences(int n, const double *a, const double *b, double least, double out[3], double *room) {
    int m = 0;
    double squares = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(a[i]) && isfinite(b[i]) && b[i] >= least) {
            room[m] = fabs(a[i] - b[i]);
            squares += room[m] * room[m];
            m++;
        }
    qsort(room, (size_t)m, sizeof *room, ascending);
    out[0] = m ? sqrt(squares / m) : NAN;
    out[1] = m ? room[m / 2] : NAN;
    out[2] = m ? room[m - 1] : NAN;
    return m;
}

static void line(const char *name, int n, const double *cost, double seconds, const double *log_q,
                 const double *log_w, const double *q0, const double *w0, double *room) {
    double dq[3], dw[3];
    double most = -INFINITY;
    for (int i = 0; i < n; i++)
        if (isfinite(w0[i]))
            most = fmax(most, w0[i]);
    int m = differences(n, log_q, q0, -INFINITY, dq, room);
    differences(n, log_w, w0, most - 30, dw, room);
    printf("| %-28s | %4d | %6.1f | %6.1f | %7.4f | %.4f | %.4f | %.3f | %.4f | %.3f |\n", name, m,
           cost[0] / n, cost[1] / n, seconds / n, dq[0], dq[1], dq[2], dw[0], 100 * ess(n, log_w));
    fflush(stdout);
}

static int run(int argc, char **argv, bench *b, tbg_session **fast, tbg_session **exact) {
    const char *path = argc > 1 ? argv[1] : TBG_SOURCE_DIR "/models/ad-improved.safetensors";
    const char *what = argc > 2 ? argv[2] : "ACE-ALA-NME";
    int most = argc > 3 ? atoi(argv[3]) : 1000, n_double = argc > 5 ? atoi(argv[5]) : 16;
    double seconds = argc > 4 ? atof(argv[4]) : 360;
    if (most < 1 || most > 10000000 || !(seconds > 0) || n_double < 0)
        return tbg_fail(TBG_INPUT, "usage: bench_likelihood [MODEL [SEQ [N [SECONDS [N_DOUBLE]]]]]");
    TBG_TRY(tbg_model_read(path, &b->model));
    if (!b->model->forcefield || !(b->model->temperature > 0) || !(b->model->spec.scale > 0))
        return tbg_fail(TBG_INPUT, "%s does not name its force field, temperature or scale", path);
    TBG_TRY(tbg_molecule_load(what, &b->molecule));
    TBG_TRY(tbg_system_create(b->molecule, b->model->forcefield, -1, &b->system));
    TBG_TRY(tbg_conditioning_create(&b->model->spec, b->molecule, b->system, b->model->temperature,
                                    &b->conditioning));
    TBG_TRY(tbg_session_create(b->model, NULL, b->molecule->n_atoms, 0, fast));
    TBG_TRY(tbg_session_create(b->model, "reference", b->molecule->n_atoms, 0, exact));
    TBG_TRY(tbg_engine_create("native", b->molecule, b->system, 0, &b->engine));
    b->n3 = 3 * (size_t)b->molecule->n_atoms;
    double *values = TBG_NEW(double, 5 * (size_t)most), *q0 = values, *w0 = q0 + most, *q = w0 + most,
           *w = q + most;
    b->list = TBG_NEW(const tbg_conditioning *, most);
    if (!values || !b->list) {
        free(values);
        return TBG_FAILED;
    }
    for (int i = 0; i < most; i++)
        b->list[i] = b->conditioning;

    tbg_flow_options o;
    tbg_flow_defaults(&o);
    o.solver = TBG_SOLVER_PUBLISHED;
    o.solver_tolerance = 1e-8;
    printf("| setting | samples | velocities | divergences | seconds | log q: rms | median | largest | log "
           "w: rms | ESS %% |\n"
           "|---|---|---|---|---|---|---|---|---|---|\n");
    double cost[2] = {0}, start = tbg_seconds();
    int n = 0, status = TBG_OK;
    while (!status && n < most && tbg_seconds() - start < seconds) {
        int m = most - n < BATCH ? most - n : BATCH;
        status = draw(b, *fast, &o, n, m, q0 + n, w0 + n, cost);
        n += m;
    }
    if (!status)
        line("dopri5 in t, 1e-8", n, cost, tbg_seconds() - start, q0, w0, q0, w0, values + 4 * (size_t)most);
    static const struct {
        const char *name;
        tbg_solver solver;
        double solver_tolerance, tolerance;
    } settings[] = {{"published, 1e-4", TBG_SOLVER_PUBLISHED, 1e-4, 0.01},
                    {"--tolerance 0.3", TBG_SOLVER_ADAPTIVE, 0, 0.3},
                    {"--tolerance 0.05", TBG_SOLVER_ADAPTIVE, 0, 0.05},
                    {"--tolerance 0.01 (default)", TBG_SOLVER_ADAPTIVE, 0, 0.01},
                    {"0.001, solver 1e-6", TBG_SOLVER_ADAPTIVE, 1e-6, 0.001}};
    for (size_t k = 0; k < sizeof settings / sizeof *settings && !status; k++) {
        tbg_flow_defaults(&o);
        o.solver = settings[k].solver;
        if (settings[k].solver_tolerance > 0)
            o.solver_tolerance = settings[k].solver_tolerance;
        o.tolerance = settings[k].tolerance;
        cost[0] = cost[1] = 0;
        start = tbg_seconds();
        for (int i = 0; i < n && !status; i += 64)
            status = draw(b, *fast, &o, i, n - i < 64 ? n - i : 64, q + i, w + i, cost);
        if (!status)
            line(settings[k].name, n, cost, tbg_seconds() - start, q, w, q0, w0, values + 4 * (size_t)most);
    }
    n_double = n_double < n ? n_double : n;
    if (!status && n_double) { /* float against double: the same settings, so that only rounding differs */
        for (int k = 0; k < 2 && !status; k++) {
            tbg_flow_defaults(&o);
            cost[0] = cost[1] = 0;
            start = tbg_seconds();
            status = k ? draw(b, *exact, &o, 0, n_double, q, w, cost)
                       : draw(b, *fast, &o, 0, n_double, q0, w0, cost);
        }
        if (!status)
            line("default, double against float", n_double, cost, tbg_seconds() - start, q, w, q0, w0,
                 values + 4 * (size_t)most);
    }
    free(values);
    return status;
}

int main(int argc, char **argv) {
    bench b = {0};
    tbg_session *fast = NULL, *exact = NULL;
    int status = run(argc, argv, &b, &fast, &exact);
    if (status)
        fprintf(stderr, "bench_likelihood: %s\n", tbg_message());
    tbg_engine_free(b.engine);
    tbg_session_free(fast);
    tbg_session_free(exact);
    tbg_conditioning_free(b.conditioning);
    tbg_system_free(b.system);
    tbg_molecule_free(b.molecule);
    tbg_model_free(b.model);
    free(b.list);
    return status;
}
