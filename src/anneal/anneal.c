/* anneal.c: annealed importance sampling around the harmonic approximation (tbg/anneal.h). All replicas of a
 * block of configurations move in step, so that the engine sees them as one batch. Knows nothing of flows. */
#include "anneal/anneal.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/simd.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

TBG_SIMD_DECLARE(const tbg_triangular, tbg_triangular);

enum { LEAST_BLOCK = 16, REPLICAS_MOST = 1024 };

void tbg_anneal_defaults(tbg_anneal_options *o) {
    *o = (tbg_anneal_options){.smoothing = 0.02,
                              .temperature = 300,
                              .replicas = 16,
                              .stages = 16,
                              .steps = 4,
                              .step = 0.4,
                              .newton = 12,
                              .seed = 1};
}

int tbg_anneal_check(const tbg_anneal_options *o) {
    if (!(o->smoothing > 0 && o->smoothing <= 1))
        return tbg_fail(TBG_INPUT, "anneal: smoothing %g nm; it must be positive, at most 1", o->smoothing);
    if (!(o->temperature >= 1 && o->temperature <= 1e4))
        return tbg_fail(TBG_INPUT, "anneal: %g K; 1 to 10,000 is possible", o->temperature);
    if (o->replicas < 1 || o->replicas > REPLICAS_MOST)
        return tbg_fail(TBG_INPUT, "anneal: %d replicas; 1 to %d are possible", o->replicas, REPLICAS_MOST);
    if (o->stages < 1 || o->stages > 100000 || o->steps < 1 || o->steps > 1000)
        return tbg_fail(TBG_INPUT, "anneal: %d stages of %d steps; 1 to 100,000 of 1 to 1,000 are possible",
                        o->stages, o->steps);
    if (!(o->step > 0 && o->step < 2))
        return tbg_fail(TBG_INPUT, "anneal: step %g; it must be positive and below 2, where moves diverge",
                        o->step);
    if (o->newton < 1 || o->newton > 10000)
        return tbg_fail(TBG_INPUT, "anneal: %d Newton steps; 1 to 10,000 are possible", o->newton);
    return TBG_OK;
}

int tbg_anneal_evaluate(tbg_annealer *A, size_t m) {
    TBG_TRY(tbg_engine_evaluate(A->engine, (long)m, A->batch, A->batch_u, A->batch_force, NULL));
    for (size_t r = 0; r < m; r++)
        A->batch_u[r] *= A->beta;
    for (size_t k = 0; k < m * A->n3; k++)
        A->batch_force[k] *= A->beta;
    return TBG_OK;
}

/* Replicas of one configuration; numbers of all replicas lie side by side: [n3][K]. */
typedef struct {
    double *z, *force, *phi;                 /* where they are; force: -d phi/dz; [K] */
    double *trial, *trial_force, *trial_phi; /* where the move leads */
    double *p, *energy, *u, *trial_u, *log_w, *taken;
    double *lambda; /* [K] of the present move */
} replicas;

typedef struct {
    tbg_annealer A;
    int most;         /* configurations at once */
    tbg_harmonic *h;  /* [most] */
    replicas *of;     /* [most] */
    int kept;         /* 1: replica 0 runs backwards from a given x */
    double *kept_u;   /* [most] */
    uint64_t *number; /* [most] */
} annealer;

/* Addresses: stream by configuration; in it stage 0 is the start, stage l + 1 the momenta of stage l, then
 * what accepts; last the choice. Beyond all of them the noise of y, and the centre of a kept x. */
static const uint64_t noise = (uint64_t)1 << 60, centre_noise = (uint64_t)1 << 61;
static uint64_t address(const tbg_annealer *A, int stage) {
    return (uint64_t)stage * ((uint64_t)A->n3 + 8) * (uint64_t)A->o->replicas;
}

/* Mean of coordinate d (0 .. 2) over atoms. */
static double mean_of(size_t n, size_t d, const double *x) {
    double sum = 0;
    for (size_t a = d; a < n; a += 3)
        sum += x[a];
    return sum / ((double)n / 3);
}

static void shift(size_t n, size_t d, double by, double *x) {
    for (size_t a = d; a < n; a += 3)
        x[a] += by;
}

/* Positions of all replicas at z: x* + L^-T z. x: [K][n3] */
static void place(const annealer *W, int i, const double *z, double *x) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    double *w = W->of[i].energy + K; /* [n3][K] scratch */
    memcpy(w, z, n * K * sizeof *w);
    W->A.algebra->solve_upper(n, W->h[i].factor, K, w);
    for (size_t k = 0; k < K; k++)
        for (size_t a = 0; a < n; a++)
            x[k * n + a] = W->h[i].centre[a] + w[a * K + k];
}

/* phi and -d phi/dz from what the engine said of the positions. */
static void take_back(const annealer *W, int i, const double *x, const double *u, const double *force,
                      const double *z, double *phi, double *out) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    const double *y = W->h[i].y;
    for (size_t k = 0; k < K; k++)
        phi[k] = u[k];
    for (size_t a = 0; a < n; a++)
        for (size_t k = 0; k < K; k++) {
            double away = x[k * n + a] - y[a];
            phi[k] += 0.5 * (W->A.precision * away * away - z[a * K + k] * z[a * K + k]);
            out[a * K + k] = force[k * n + a] - W->A.precision * away;
        }
    W->A.algebra->solve_lower(n, W->h[i].factor, K, out);
    for (size_t a = 0; a < n * K; a++)
        out[a] += z[a];
}

/* phi at z or at the trial points of all m configurations. */
static int evaluate(annealer *W, int m, int trial) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
#pragma omp parallel for num_threads(W->A.threads) if (W->A.threads > 1) schedule(static)
    for (int i = 0; i < m; i++)
        place(W, i, trial ? W->of[i].trial : W->of[i].z, W->A.batch + (size_t)i * K * n);
    TBG_TRY(tbg_anneal_evaluate(&W->A, (size_t)m * K));
#pragma omp parallel for num_threads(W->A.threads) if (W->A.threads > 1) schedule(static)
    for (int i = 0; i < m; i++) {
        replicas *r = &W->of[i];
        size_t at = (size_t)i * K;
        memcpy(trial ? r->trial_u : r->u, W->A.batch_u + at, K * sizeof(double));
        take_back(W, i, W->A.batch + at * n, W->A.batch_u + at, W->A.batch_force + at * n,
                  trial ? r->trial : r->z, trial ? r->trial_phi : r->phi, trial ? r->trial_force : r->force);
    }
    return TBG_OK;
}

static void kick(size_t n, size_t K, double h, const double *lambda, const double *z, const double *force,
                 double *p) {
    for (size_t a = 0; a < n * K; a += K)
        for (size_t k = 0; k < K; k++)
            p[a + k] += h * (lambda[k] * force[a + k] - z[a + k]);
}

/* out[k] = sum over coordinates of (a^2 + b^2) / 2. */
static void half_squares(size_t n, size_t K, const double *a, const double *b, double *out) {
    for (size_t k = 0; k < K; k++)
        out[k] = 0;
    for (size_t c = 0; c < n; c++)
        for (size_t k = 0; k < K; k++)
            out[k] += 0.5 * (a[c * K + k] * a[c * K + k] + b[c * K + k] * b[c * K + k]);
}

/* lambda_l; l: 0 .. stages. */
static double lambda_of(const annealer *W, int l) {
    return (double)l / W->A.o->stages;
}

/* Forward replicas: ln w of lambda_l to lambda_l+1, then the move at lambda_l+1. The kept replica goes
 * through the same in the opposite order: the move at lambda_S-l, then (end_move) ln w of lambda_S-l-1 to
 * lambda_S-l. */
static void begin_move(annealer *W, int i, int l, uint64_t number) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    replicas *r = &W->of[i];
    for (size_t k = 0; k < K; k++) {
        r->lambda[k] = lambda_of(W, l + 1);
        if (W->kept && !k)
            r->lambda[k] = lambda_of(W, W->A.o->stages - l);
        else
            r->log_w[k] -= (lambda_of(W, l + 1) - lambda_of(W, l)) * r->phi[k];
    }
    tbg_random_normal(W->A.o->seed, TBG_STREAM(TBG_STREAM_ANNEAL, number), address(&W->A, l + 1), n * K,
                      r->p);
    half_squares(n, K, r->p, r->z, r->energy);
    for (size_t k = 0; k < K; k++)
        r->energy[k] += r->lambda[k] * r->phi[k];
    memcpy(r->trial, r->z, n * K * sizeof(double));
    memcpy(r->trial_force, r->force, n * K * sizeof(double));
}

static void end_move(annealer *W, int i, int l, uint64_t number) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    replicas *r = &W->of[i];
    double *after = r->energy + K, *uniform = after + K; /* the scratch of place() */
    half_squares(n, K, r->p, r->trial, after);
    tbg_random_uniform(W->A.o->seed, TBG_STREAM(TBG_STREAM_ANNEAL, number), address(&W->A, l + 1) + n * K, K,
                       uniform);
    for (size_t k = 0; k < K; k++) {
        after[k] += r->lambda[k] * r->trial_phi[k];
        if (!(log(uniform[k]) < r->energy[k] - after[k])) /* true for NaN */
            continue;
        for (size_t c = 0; c < n; c++) {
            r->z[c * K + k] = r->trial[c * K + k];
            r->force[c * K + k] = r->trial_force[c * K + k];
        }
        r->phi[k] = r->trial_phi[k];
        r->u[k] = r->trial_u[k];
        r->taken[k] += 1.0 / W->A.o->stages;
    }
    const int from = W->A.o->stages - l;
    if (W->kept)
        r->log_w[0] -= (lambda_of(W, from) - lambda_of(W, from - 1)) * r->phi[0];
}

static int stage(annealer *W, int l, int m, const uint64_t *number) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    const double h = W->A.o->step;
#pragma omp parallel for num_threads(W->A.threads) if (W->A.threads > 1) schedule(static)
    for (int i = 0; i < m; i++)
        begin_move(W, i, l, number[i]);
    for (int step = 0; step < W->A.o->steps; step++) {
#pragma omp parallel for num_threads(W->A.threads) if (W->A.threads > 1) schedule(static)
        for (int i = 0; i < m; i++) {
            replicas *r = &W->of[i];
            kick(n, K, step ? h : 0.5 * h, r->lambda, r->trial, r->trial_force, r->p);
            for (size_t k = 0; k < n * K; k++)
                r->trial[k] += h * r->p[k];
        }
        TBG_TRY(evaluate(W, m, 1));
    }
#pragma omp parallel for num_threads(W->A.threads) if (W->A.threads > 1) schedule(static)
    for (int i = 0; i < m; i++) {
        replicas *r = &W->of[i];
        kick(n, K, 0.5 * h, r->lambda, r->trial, r->trial_force, r->p);
        end_move(W, i, l, number[i]);
    }
    return TBG_OK;
}

/* The result, and without a kept replica the one that becomes x. */
static void conclude(const annealer *W, int i, uint64_t number, double *x, tbg_anneal_result *result) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    const replicas *r = &W->of[i];
    const tbg_harmonic *h = &W->h[i];
    const tbg_mean_weight mean = tbg_mean_of_weights(K, r->log_w);
    const int none = h->failed || (W->kept && !isfinite(r->log_w[0])) || !(mean.sum > 0);
    *result = (tbg_anneal_result){
        .log_z = -INFINITY, .u = W->kept ? W->kept_u[i] : NAN, .error = NAN, .newton = h->newton};
    for (size_t k = 0; k < K; k++)
        result->acceptance += r->taken[k] / (double)K;
    if (!none) {
        result->log_z = 0.5 * (double)n * log(W->A.precision) - h->log_det + mean.log;
        result->error = mean.error;
    }
    if (W->kept)
        return;
    if (none) {
        for (size_t a = 0; a < n; a++)
            x[a] = NAN;
        return;
    }
    double uniform;
    tbg_random_uniform(W->A.o->seed, TBG_STREAM(TBG_STREAM_ANNEAL, number),
                       address(&W->A, W->A.o->stages + 1), 1, &uniform);
    const size_t chosen = tbg_choose_by_weight(&mean, K, r->log_w, uniform);
    result->u = r->u[chosen];
    place(W, i, r->z, W->A.batch);
    memcpy(x, W->A.batch + chosen * n, n * sizeof *x);
    for (size_t d = 0; d < 3; d++)
        shift(n, d, -mean_of(n, d, x), x);
}

/* Replica 0 begins where x is, its centre drawn around that of y: under exp(-u(x)) N(x; y, s^2) it is normal
 * and independent of the rest. */
static void keep(annealer *W, int i, uint64_t number, const double *x) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    const tbg_harmonic *h = &W->h[i];
    double *away = h->step, centre[3];
    memcpy(away, x, n * sizeof *x);
    tbg_random_normal(W->A.o->seed, TBG_STREAM(TBG_STREAM_ANNEAL, number), centre_noise, 3, centre);
    for (size_t d = 0; d < 3; d++)
        shift(n, d, mean_of(n, d, h->y) - mean_of(n, d, x) + centre[d] / sqrt(W->A.precision * (double)n / 3),
              away);
    for (size_t a = 0; a < n; a++)
        away[a] -= h->centre[a];
    for (size_t a = 0; a < n; a++) { /* z = L^T (x - x*) */
        double z = 0;
        for (size_t b = a; b < n; b++)
            z += h->factor[b * n + a] * away[b];
        W->of[i].z[a * K] = z;
    }
}

/* kept: [m][n3] the positions of the kept replicas, or NULL. */
static int block(annealer *W, int m, const uint64_t *number, const double *y, const double *kept, double *x,
                 tbg_anneal_result *result) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas;
    for (int i = 0; i < m; i++) {
        W->h[i].y = y + (size_t)i * n;
        tbg_random_normal(W->A.o->seed, TBG_STREAM(TBG_STREAM_ANNEAL, number[i]), address(&W->A, 0), n * K,
                          W->of[i].z);
        memset(W->of[i].log_w, 0, K * sizeof(double));
        memset(W->of[i].taken, 0, K * sizeof(double));
    }
    TBG_TRY(tbg_harmonic_find(&W->A, m, W->h));
    for (int i = 0; i < m && kept; i++)
        keep(W, i, number[i], kept + (size_t)i * n);
    TBG_TRY(evaluate(W, m, 0));
    for (int i = 0; i < m; i++)
        W->kept_u[i] = W->of[i].u[0];
    for (int l = 0; l < W->A.o->stages; l++) {
        if (tbg_interrupted())
            return tbg_fail(TBG_FAILED, "interrupted");
        TBG_TRY(stage(W, l, m, number));
    }
    for (int i = 0; i < m; i++)
        conclude(W, i, number[i], x ? x + (size_t)i * n : NULL, &result[i]);
    return TBG_OK;
}

/* ---- memory ---- */

static void carve(annealer *W, tbg_arena *a) {
    const size_t n = W->A.n3, K = (size_t)W->A.o->replicas, all = n * K;
    W->kept_u = TBG_TAKE(a, double, W->most);
    W->number = TBG_TAKE(a, uint64_t, W->most);
    W->A.batch = TBG_TAKE(a, double, W->A.room *n);
    W->A.batch_force = TBG_TAKE(a, double, W->A.room *n);
    W->A.batch_u = TBG_TAKE(a, double, W->A.room);
    for (int i = 0; i < W->most; i++) {
        tbg_harmonic *h = &W->h[i];
        replicas *r = &W->of[i];
        h->centre = TBG_TAKE(a, double, n);
        h->gradient = TBG_TAKE(a, double, n);
        h->step = TBG_TAKE(a, double, n);
        h->factor = TBG_TAKE(a, double, n *n);
        h->hessian = TBG_TAKE(a, double, n *n);
        r->z = TBG_TAKE(a, double, all);
        r->force = TBG_TAKE(a, double, all);
        r->trial = TBG_TAKE(a, double, all);
        r->trial_force = TBG_TAKE(a, double, all);
        r->p = TBG_TAKE(a, double, all);
        r->energy = TBG_TAKE(a, double, K + (all > 2 * K ? all : 2 * K)); /* and scratch */
        r->phi = TBG_TAKE(a, double, K);
        r->trial_phi = TBG_TAKE(a, double, K);
        r->u = TBG_TAKE(a, double, K);
        r->trial_u = TBG_TAKE(a, double, K);
        r->log_w = TBG_TAKE(a, double, K);
        r->taken = TBG_TAKE(a, double, K);
        r->lambda = TBG_TAKE(a, double, K);
    }
}

/* number: [n], or NULL: first + i. kept: [n][n_atoms][3], or NULL: x is assigned. */
static int run(tbg_engine *engine, int n_atoms, const tbg_anneal_options *options, long n,
               const uint64_t *number, uint64_t first, const double *y, const double *kept, double *x,
               tbg_anneal_result *result) {
    TBG_TRY(tbg_anneal_check(options));
    annealer *W = TBG_NEW(annealer, 1);
    if (!W)
        return TBG_FAILED;
    size_t n3 = 3 * (size_t)n_atoms, K = (size_t)options->replicas;
    long most = (tbg_engine_batch(engine) + (long)K - 1) / (long)K;
    most = most < LEAST_BLOCK ? LEAST_BLOCK : most;
    W->most = (int)(most < n ? most : n > 0 ? n : 1);
    W->h = TBG_NEW(tbg_harmonic, W->most);
    W->of = TBG_NEW(replicas, W->most);
    W->A = (tbg_annealer){.engine = engine,
                          .o = options,
                          .threads = options->threads > 0 ? options->threads : omp_get_max_threads(),
                          .n3 = n3,
                          .beta = 1 / (TBG_BOLTZMANN * options->temperature),
                          .algebra = TBG_SIMD_PICK(tbg_triangular, tbg_simd_level()),
                          .precision = 1 / (options->smoothing * options->smoothing),
                          .room = (size_t)W->most * (K > 2 * n3 ? K : 2 * n3)};
    W->kept = kept != NULL;
    tbg_arena arena = {0};
    int status = W->h && W->of ? TBG_OK : TBG_FAILED;
    if (!status) {
        carve(W, &arena);
        arena = (tbg_arena){.base = tbg_alloc(arena.used, 1), .size = arena.used};
        status = arena.base ? TBG_OK : TBG_FAILED;
    }
    if (!status)
        carve(W, &arena);
    for (long i = 0; i < n && !status; i += W->most) {
        const int m = n - i < W->most ? (int)(n - i) : W->most;
        const size_t at = (size_t)i * n3;
        for (int k = 0; k < m; k++)
            W->number[k] = number ? number[i + k] : first + (uint64_t)(i + k);
        status = block(W, m, W->number, y + at, kept ? kept + at : NULL, x ? x + at : NULL, &result[i]);
    }
    free(arena.base);
    free(W->h);
    free(W->of);
    free(W);
    return status;
}

int tbg_anneal(tbg_engine *engine, int n_atoms, const tbg_anneal_options *options, long n, uint64_t first,
               const double *y, double *x, tbg_anneal_result *result) {
    return run(engine, n_atoms, options, n, NULL, first, y, NULL, x, result);
}

int tbg_anneal_numbered(tbg_engine *engine, int n_atoms, const tbg_anneal_options *options, long n,
                        const uint64_t *number, const double *y, double *x, tbg_anneal_result *result) {
    return run(engine, n_atoms, options, n, number, 0, y, NULL, x, result);
}

int tbg_anneal_reverse(tbg_engine *engine, int n_atoms, const tbg_anneal_options *options, long n,
                       const uint64_t *number, const double *x, const double *y, tbg_anneal_result *result) {
    return run(engine, n_atoms, options, n, number, 0, y, x, NULL, result);
}

void tbg_anneal_smooth(int n_atoms, const tbg_anneal_options *options, long n, const uint64_t *number,
                       const double *x, double *y) {
    const size_t n3 = 3 * (size_t)n_atoms;
    for (long i = 0; i < n; i++) {
        double *to = y + (size_t)i * n3;
        tbg_random_normal(options->seed, TBG_STREAM(TBG_STREAM_ANNEAL, number[i]), noise, n3, to);
        for (size_t a = 0; a < n3; a++)
            to[a] = x[(size_t)i * n3 + a] + options->smoothing * to[a];
        for (size_t d = 0; d < 3; d++)
            shift(n3, d, -mean_of(n3, d, to), to);
    }
}
