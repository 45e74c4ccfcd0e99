/* denoise.c: branches and their annealing become one estimate and one configuration (tbg/denoise.h). */
#include "tbg/denoise.h"
#include "anneal/anneal.h"
#include "base/memory.h"
#include "denoise/branch.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct tbg_denoiser {
    tbg_denoise_options o;
    tbg_engine *engine;
    int n_atoms, threads;
    int at_once; /* branches: so many that the network's and the engine's batches are full */
    int (*accept)(void *context, const double *x);
    void *context;
    tbg_branching branching; /* steps 0: no branches */
};

void tbg_denoise_defaults(tbg_denoise_options *o) {
    *o = (tbg_denoise_options){.smoothing = 0.12, .branches = 64, .steps = 20};
    tbg_anneal_defaults(&o->anneal);
    o->anneal.smoothing = 0.03;
    o->anneal.replicas = o->anneal.stages = 8; /* the mean over branches forgives */
}

static int check(const tbg_denoise_options *o, const tbg_session *session) {
    TBG_TRY(tbg_anneal_check(&o->anneal));
    if (o->branches < 0 || o->branches > TBG_BRANCHES_MOST)
        return tbg_fail(TBG_INPUT, "denoise: %d branches; 0 to %d are possible", o->branches,
                        TBG_BRANCHES_MOST);
    if (!o->branches)
        return o->anneal.smoothing == o->smoothing
                   ? TBG_OK
                   : tbg_fail(TBG_INPUT, "denoise: without branches the annealing begins at %g nm, not %g",
                              o->smoothing, o->anneal.smoothing);
    if (o->steps < 1 || o->steps > TBG_BRANCH_STEPS_MOST)
        return tbg_fail(TBG_INPUT, "denoise: %d steps of a branch; 1 to %d are possible", o->steps,
                        TBG_BRANCH_STEPS_MOST);
    double trained = tbg_session_model(session)->spec.smoothing;
    if (!(o->anneal.smoothing > trained && o->anneal.smoothing < o->smoothing && o->smoothing <= 10))
        return tbg_fail(
            TBG_INPUT,
            "denoise: branches from %g to %g nm; they must go down, and end above the model's %g nm",
            o->smoothing, o->anneal.smoothing, trained);
    return TBG_OK;
}

int tbg_denoiser_create(tbg_session *session, const tbg_conditioning *conditioning, tbg_engine *engine,
                        int n_atoms, const tbg_denoise_options *options,
                        int (*accept)(void *context, const double *x), void *context, tbg_denoiser **out) {
    *out = NULL;
    TBG_TRY(check(options, session));
    tbg_denoiser *d = TBG_NEW(tbg_denoiser, 1);
    if (!d)
        return TBG_FAILED;
    d->o = *options;
    d->engine = engine;
    d->n_atoms = n_atoms;
    d->threads = options->anneal.threads > 0 ? options->anneal.threads : omp_get_max_threads();
    const long of_engine = tbg_engine_batch(engine) / options->anneal.replicas,
               of_network = options->branches ? tbg_session_batch(session) : 0;
    d->at_once = (int)(of_engine > of_network ? of_engine : of_network);
    d->accept = accept;
    d->context = context;
    int status = options->branches ? tbg_branching_create(session, conditioning, options->smoothing,
                                                          options->anneal.smoothing, options->steps,
                                                          options->anneal.seed, &d->branching)
                                   : TBG_OK;
    if (status) {
        tbg_denoiser_free(d);
        return status;
    }
    *out = d;
    return TBG_OK;
}

void tbg_denoiser_free(tbg_denoiser *d) {
    if (!d)
        return;
    tbg_branching_free(&d->branching);
    free(d);
}

const tbg_denoise_options *tbg_denoiser_options(const tbg_denoiser *d) {
    return &d->o;
}

static tbg_anneal_options seeded(const tbg_denoiser *d, uint64_t seed) {
    tbg_anneal_options o = d->o.anneal;
    o.seed = seed;
    return o;
}

typedef struct {
    double *y, *x, *log_ratio; /* [branches][n3] nm; [..] */
    uint64_t *number;
    tbg_anneal_result *result;
} room;

static void free_room(room *r) {
    free(r->y);
    free(r->x);
    free(r->log_ratio);
    free(r->number);
    free(r->result);
}

static int make_room(const tbg_denoiser *d, long branches, room *r) {
    const size_t n3 = 3 * (size_t)d->n_atoms;
    *r = (room){TBG_NEW(double, (size_t)branches *n3), TBG_NEW(double, (size_t)branches *n3),
                TBG_NEW(double, branches), TBG_NEW(uint64_t, branches), TBG_NEW(tbg_anneal_result, branches)};
    if (r->y && r->x && r->log_ratio && r->number && r->result)
        return TBG_OK;
    free_room(r);
    return TBG_FAILED;
}

static void rescale(size_t n, double by, double *y) {
    for (size_t c = 0; c < n; c++)
        y[c] *= by;
}

/* Branch b of the configuration: address and kept branch's place are those of b = 0. */
static uint64_t branch_number(const tbg_denoiser *d, uint64_t number, int b) {
    return number * (uint64_t)d->o.branches + (uint64_t)b;
}

/* ln of each branch's part of the estimate, into log_ratio. */
static void weigh(const tbg_denoiser *d, int first, int m, room *r) {
    const size_t n3 = 3 * (size_t)d->n_atoms;
#pragma omp parallel for num_threads(d->threads) schedule(dynamic, 4)
    for (int b = first; b < m; b++) {
        double part = r->log_ratio[b] + r->result[b].log_z;
        int counts = isfinite(part) && (!d->accept || d->accept(d->context, r->x + (size_t)b * n3));
        r->log_ratio[b] = counts ? part : -INFINITY;
    }
}

/* Estimate from the parts of M branches; *kept: which is kept, drawn by uniform. */
static void average(int M, const double *part, const tbg_anneal_result *of, double uniform, int *kept,
                    tbg_anneal_result *result) {
    const tbg_mean_weight mean = tbg_mean_of_weights((size_t)M, part);
    *kept = (int)tbg_choose_by_weight(&mean, (size_t)M, part, uniform);
    *result = (tbg_anneal_result){.log_z = mean.log, .u = of[*kept].u, .error = mean.error};
    for (int b = 0; b < M; b++) {
        result->acceptance += of[b].acceptance / M;
        result->newton = of[b].newton > result->newton ? of[b].newton : result->newton;
    }
    if (M == 1 && mean.sum > 0)
        result->error = of[0].error;
}

/* ---- forwards ---- */

static int some(tbg_denoiser *d, uint64_t seed, int n, uint64_t first, const double *y, double *x,
                tbg_anneal_result *result, room *r) {
    const size_t n3 = 3 * (size_t)d->n_atoms;
    const int M = d->o.branches, m = n * M;
    const tbg_anneal_options o = seeded(d, seed);
    for (int i = 0; i < n; i++)
        for (int b = 0; b < M; b++) {
            r->number[i * M + b] = branch_number(d, first + (uint64_t)i, b);
            memcpy(r->y + (size_t)(i * M + b) * n3, y + (size_t)i * n3, n3 * sizeof *y);
        }
    for (int b = 0; b < m; b++)
        tbg_remove_mean(d->n_atoms, r->y + (size_t)b * n3);
    rescale((size_t)m * n3, d->branching.scale, r->y);
    TBG_TRY(tbg_branching_forward(&d->branching, seed, m, r->number, r->y, r->log_ratio));
    rescale((size_t)m * n3, 1 / d->branching.scale, r->y);
    TBG_TRY(tbg_anneal(d->engine, d->n_atoms, &o, m, r->number[0], r->y, r->x, r->result));
    weigh(d, 0, m, r);
    for (int i = 0; i < n; i++) {
        double uniform;
        int kept;
        tbg_random_uniform(seed, TBG_STREAM(TBG_STREAM_BRANCH, r->number[i * M]), (uint64_t)1 << 60, 1,
                           &uniform);
        average(M, r->log_ratio + i * M, r->result + i * M, uniform, &kept, &result[i]);
        memcpy(x + (size_t)i * n3, r->x + (size_t)(i * M + kept) * n3, n3 * sizeof *x);
    }
    return TBG_OK;
}

static int configurations_at_once(const tbg_denoiser *d, long n) {
    const long most = d->o.branches < d->at_once ? d->at_once / d->o.branches : 1;
    return (int)(most < n ? most : n > 0 ? n : 1);
}

int tbg_denoise(tbg_denoiser *d, uint64_t seed, long n, uint64_t first, const double *y, double *x,
                tbg_anneal_result *result) {
    const size_t n3 = 3 * (size_t)d->n_atoms;
    if (!d->o.branches) {
        tbg_anneal_options o = seeded(d, seed);
        return tbg_anneal(d->engine, d->n_atoms, &o, n, first, y, x, result);
    }
    const int most = configurations_at_once(d, n);
    room r;
    TBG_TRY(make_room(d, (long)most * d->o.branches, &r));
    int status = TBG_OK;
    for (long i = 0; i < n && !status; i += most)
        status = some(d, seed, n - i < most ? (int)(n - i) : most, first + (uint64_t)i, y + (size_t)i * n3,
                      x + (size_t)i * n3, &result[i], &r);
    free_room(&r);
    return status;
}

/* ---- given x ---- */

/* Branch 0 of each is the given one; its y_K and its path up to y_0 are drawn, the others go down from there.
 */
static int some_given(tbg_denoiser *d, uint64_t seed, int n, const uint64_t *number, const double *x,
                      double *y, tbg_anneal_result *result, room *r) {
    const size_t n3 = 3 * (size_t)d->n_atoms;
    const int M = d->o.branches, fresh = n * (M - 1);
    const tbg_anneal_options o = seeded(d, seed);
    for (int i = 0; i < n; i++)
        r->number[i] = branch_number(d, number[i], 0);
    tbg_anneal_smooth(d->n_atoms, &o, n, r->number, x, r->y);
    TBG_TRY(tbg_anneal_reverse(d->engine, d->n_atoms, &o, n, r->number, x, r->y, r->result));
    rescale((size_t)n * n3, d->branching.scale, r->y);
    TBG_TRY(tbg_branching_backward(&d->branching, seed, n, r->number, r->y, r->log_ratio));
    memcpy(y, r->y, (size_t)n * n3 * sizeof *y);
    rescale((size_t)n * n3, 1 / d->branching.scale, y);
    for (int i = 0; i < n; i++)
        r->log_ratio[i] += r->result[i].log_z;
    for (int i = 0; i < n; i++)
        for (int b = 1; b < M; b++) {
            int at = n + i * (M - 1) + b - 1;
            r->number[at] = branch_number(d, number[i], b);
            memcpy(r->y + (size_t)at * n3, r->y + (size_t)i * n3, n3 * sizeof *y);
        }
    if (fresh) {
        TBG_TRY(tbg_branching_forward(&d->branching, seed, fresh, r->number + n, r->y + (size_t)n * n3,
                                      r->log_ratio + n));
        rescale((size_t)fresh * n3, 1 / d->branching.scale, r->y + (size_t)n * n3);
        TBG_TRY(tbg_anneal_numbered(d->engine, d->n_atoms, &o, fresh, r->number + n, r->y + (size_t)n * n3,
                                    r->x + (size_t)n * n3, r->result + n));
        weigh(d, n, n + fresh, r);
    }
    for (int i = 0; i < n; i++) {
        double part[TBG_BRANCHES_MOST];
        tbg_anneal_result of[TBG_BRANCHES_MOST];
        int kept;
        part[0] = r->log_ratio[i];
        of[0] = r->result[i];
        for (int b = 1; b < M; b++) {
            part[b] = r->log_ratio[n + i * (M - 1) + b - 1];
            of[b] = r->result[n + i * (M - 1) + b - 1];
        }
        average(M, part, of, 0, &kept, &result[i]);
        result[i].u = of[0].u;
        if (!isfinite(part[0])) /* x itself has no path: nothing to be said */
            result[i].log_z = -INFINITY;
    }
    return TBG_OK;
}

int tbg_denoise_given(tbg_denoiser *d, uint64_t seed, long n, const uint64_t *number, const double *x,
                      double *y, tbg_anneal_result *result) {
    const size_t n3 = 3 * (size_t)d->n_atoms;
    if (!d->o.branches) {
        tbg_anneal_options o = seeded(d, seed);
        tbg_anneal_smooth(d->n_atoms, &o, n, number, x, y);
        return tbg_anneal_reverse(d->engine, d->n_atoms, &o, n, number, x, y, result);
    }
    const int most = configurations_at_once(d, n);
    room r;
    TBG_TRY(make_room(d, (long)most * d->o.branches, &r));
    int status = TBG_OK;
    for (long i = 0; i < n && !status; i += most)
        status = some_given(d, seed, n - i < most ? (int)(n - i) : most, number + i, x + (size_t)i * n3,
                            y + (size_t)i * n3, &result[i], &r);
    free_room(&r);
    return status;
}
