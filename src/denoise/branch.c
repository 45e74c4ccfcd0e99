/* branch.c: noise that is taken off by a random process of the network's field, or added (tbg/denoise.h).
 * Knows nothing of force fields. */
#include "denoise/branch.h"
#include "base/memory.h"
#include "base/progress.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PILOTS = 4, EVERY = 4 }; /* the mean variance of the molecule is taken at every EVERY-th level */

/* Scratch of n configurations. */
typedef struct {
    const tbg_conditioning **list;
    double *t, *x, *v, *noise;
} scratch;

static void free_scratch(scratch *w) {
    free(w->list);
    free(w->t);
    free(w->x);
    free(w->v);
    free(w->noise);
}

static int make_scratch(const tbg_branching *b, long n, scratch *w) {
    const size_t all = (size_t)n * 3 * (size_t)b->n_atoms;
    *w = (scratch){TBG_NEW(const tbg_conditioning *, n), TBG_NEW(double, n), TBG_NEW(double, all),
                   TBG_NEW(double, all), TBG_NEW(double, all)};
    if (!w->list || !w->t || !w->x || !w->v || !w->noise) {
        free_scratch(w);
        return TBG_FAILED;
    }
    for (long i = 0; i < n; i++)
        w->list[i] = b->conditioning;
    return TBG_OK;
}

/* x = t y, t of level k. */
static void place(const tbg_branching *b, int k, long n, const double *y, scratch *w) {
    const size_t n3 = 3 * (size_t)b->n_atoms;
    const double t = 1 / (1 + b->noise[k]);
    for (long i = 0; i < n; i++)
        w->t[i] = t;
    for (size_t c = 0; c < (size_t)n * n3; c++)
        w->x[c] = t * y[c];
}

/* The mean of p(. | y) at level k into w->v. */
static int find_means(const tbg_branching *b, int k, long n, const double *y, scratch *w) {
    const size_t n3 = 3 * (size_t)b->n_atoms;
    const double t = 1 / (1 + b->noise[k]), fall = b->noise[k + 1] / b->noise[k], rho = fall * fall;
    if (tbg_interrupted())
        return tbg_fail(TBG_FAILED, "interrupted");
    place(b, k, n, y, w);
    TBG_TRY(tbg_network_drift(b->session, (int)n, w->list, w->t, w->x, w->v));
    for (size_t c = 0; c < (size_t)n * n3; c++)
        w->v[c] = rho * y[c] + (1 - rho) * (w->x[c] + (1 - t) * w->v[c]);
    return TBG_OK;
}

/* Normal numbers of mean 0 over atoms, of the step from level k. */
static void draw(const tbg_branching *b, uint64_t seed, int k, long n, const uint64_t *number, double *out) {
    const size_t n3 = 3 * (size_t)b->n_atoms;
    for (long i = 0; i < n; i++) {
        tbg_random_normal(seed, TBG_STREAM(TBG_STREAM_BRANCH, number[i]), (uint64_t)k * (n3 + n3 % 2), n3,
                          out + (size_t)i * n3);
        tbg_remove_mean(b->n_atoms, out + (size_t)i * n3);
    }
}

/* ln r(from | to) - ln p(to | from), mean: that of p. */
static double step_ratio(const tbg_branching *b, int k, const double *from, const double *to,
                         const double *mean) {
    const double added = b->noise[k] * b->noise[k] - b->noise[k + 1] * b->noise[k + 1],
                 taken = b->variance[k];
    double r = 0, p = 0;
    for (int c = 0; c < 3 * b->n_atoms; c++) {
        r += (from[c] - to[c]) * (from[c] - to[c]);
        p += (to[c] - mean[c]) * (to[c] - mean[c]);
    }
    return 0.5 * (p / taken - r / added + 3.0 * (b->n_atoms - 1) * log(taken / added));
}

static int go_down(const tbg_branching *b, uint64_t seed, int k, long n, const uint64_t *number, double *y,
                   double *log_ratio, scratch *w) {
    const size_t n3 = 3 * (size_t)b->n_atoms;
    const double width = sqrt(b->variance[k]);
    TBG_TRY(find_means(b, k, n, y, w));
    draw(b, seed, k, n, number, w->noise);
    for (long i = 0; i < n; i++) {
        double *to = w->noise + (size_t)i * n3, *from = y + (size_t)i * n3;
        const double *mean = w->v + (size_t)i * n3;
        for (size_t c = 0; c < n3; c++)
            to[c] = mean[c] + width * to[c];
        log_ratio[i] += step_ratio(b, k, from, to, mean);
        memcpy(from, to, n3 * sizeof *from);
    }
    return TBG_OK;
}

int tbg_branching_forward(const tbg_branching *b, uint64_t seed, long n, const uint64_t *number, double *y,
                          double *log_ratio) {
    scratch w;
    TBG_TRY(make_scratch(b, n, &w));
    memset(log_ratio, 0, (size_t)n * sizeof *log_ratio);
    int status = TBG_OK;
    for (int k = 0; k < b->steps && !status; k++)
        status = go_down(b, seed, k, n, number, y, log_ratio, &w);
    free_scratch(&w);
    return status;
}

int tbg_branching_backward(const tbg_branching *b, uint64_t seed, long n, const uint64_t *number, double *y,
                           double *log_ratio) {
    const size_t n3 = 3 * (size_t)b->n_atoms;
    scratch w;
    TBG_TRY(make_scratch(b, n, &w));
    memset(log_ratio, 0, (size_t)n * sizeof *log_ratio);
    int status = TBG_OK;
    for (int k = b->steps - 1; k >= 0 && !status; k--) {
        const double width = sqrt(b->noise[k] * b->noise[k] - b->noise[k + 1] * b->noise[k + 1]);
        draw(b, seed, k, n, number, w.noise);
        for (size_t c = 0; c < (size_t)n * n3; c++)
            w.noise[c] = y[c] + width * w.noise[c];
        status = find_means(b, k, n, w.noise, &w);
        for (long i = 0; i < n && !status; i++)
            log_ratio[i] +=
                step_ratio(b, k, w.noise + (size_t)i * n3, y + (size_t)i * n3, w.v + (size_t)i * n3);
        memcpy(y, w.noise, (size_t)n * n3 * sizeof *y);
    }
    free_scratch(&w);
    return status;
}

/* ---- the pilot ---- */

/* v_k from the mean m of dD/dy over coordinates and pilots. */
static void set_variance(tbg_branching *b, int k, double m) {
    const double fall = b->noise[k + 1] / b->noise[k], rho = fall * fall;
    b->variance[k] = (1 - rho) * b->noise[k] * b->noise[k] * (rho + (1 - rho) * fmin(fmax(m, 0), 1));
}

static int run_pilots(tbg_branching *b, uint64_t seed) {
    const size_t n3 = 3 * (size_t)b->n_atoms;
    double *y = TBG_NEW(double, 2 * PILOTS * n3), m = 0, log_ratio[PILOTS] = {0}, divergence[PILOTS];
    uint64_t number[PILOTS];
    tbg_flow_result result[PILOTS];
    scratch w = {0};
    tbg_flow_options flow;
    tbg_flow_defaults(&flow);
    flow.weights = 0;
    flow.last_time = 1 / (1 + b->noise[0]);
    int status = y ? make_scratch(b, PILOTS, &w) : TBG_FAILED;
    for (int i = 0; i < PILOTS; i++)
        number[i] = ((uint64_t)1 << 52) + (uint64_t)i; /* far from all samples */
    if (!status)
        status =
            tbg_flow_sample(b->session, &flow, PILOTS, w.list, seed, number[0], y + PILOTS * n3, y, result);
    for (int k = 0; k < b->steps && !status; k++) {
        if (k % EVERY == 0) {
            const double t = 1 / (1 + b->noise[k]);
            double sum = 0, finite = 0;
            place(b, k, PILOTS, y, &w);
            status = tbg_network_divergence(b->session, PILOTS, w.list, w.t, w.x, w.v, divergence);
            for (int i = 0; i < PILOTS && !status; i++)
                if (isfinite(divergence[i])) {
                    sum += divergence[i];
                    finite++;
                }
            if (finite > 0)
                m = t * (1 + (1 - t) * sum / finite / (3.0 * (b->n_atoms - 1)));
        }
        set_variance(b, k, m);
        if (!status)
            status = go_down(b, seed, k, PILOTS, number, y, log_ratio, &w);
    }
    free_scratch(&w);
    free(y);
    return status;
}

int tbg_branching_create(tbg_session *session, const tbg_conditioning *conditioning, double from, double to,
                         int steps, uint64_t seed, tbg_branching *out) {
    const tbg_network_spec *spec = &tbg_session_model(session)->spec;
    tbg_branching *b = out;
    *b = (tbg_branching){.session = session,
                         .conditioning = conditioning,
                         .n_atoms = conditioning->n_atoms,
                         .steps = steps,
                         .scale = spec->scale};
    b->noise = TBG_NEW(double, steps + 1);
    b->variance = TBG_NEW(double, steps);
    if (!b->noise || !b->variance)
        return TBG_FAILED;
    const double trained = spec->smoothing * spec->smoothing,
                 high = spec->scale * sqrt(from * from - trained),
                 low = spec->scale * sqrt(to * to - trained);
    for (int k = 0; k <= steps; k++)
        b->noise[k] = high * pow(low / high, (double)k / steps);
    return run_pilots(b, seed);
}

void tbg_branching_free(tbg_branching *b) {
    free(b->noise);
    free(b->variance);
    *b = (tbg_branching){0};
}
