/* push.c: pushes a batch of samples along a field, each at its own pace.
 *
 * Owns the integration. All samples under way take one step together, so that the field sees large batches,
 * but every sample has its own variable, step size, quadrature and fate: what comes out for a sample does not
 * depend on the others. The independent variable is u of graded time, or t itself for solvers that carry the
 * divergence along.
 *
 * Log-det by quadrature: the solver goes from node to node of a Gauss-Kronrod rule in u and the divergence is
 * evaluated there. Where the estimated error is too large the worst interval is bisected; its halves start
 * from states that are known already (the interval's start and its middle node). */
#include "base/memory.h"
#include "base/progress.h"
#include "flow/field.h"
#include "tbg/schedule.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STAGES 7

typedef struct {
    double from, to; /* along the push: backward ones descend */
    double integral, error;
    double *start, *middle; /* [3N] states, pieces of the slab */
} interval;

typedef struct {
    int n_atoms, n; /* n: components of the state, 3N, plus 1 with the log-det carried along */
    int done, arrived_at_end, has_slope, rejected, steps;
    double *x, *next; /* [n] */
    double *k[MOST_STAGES];
    double u, h, step; /* h > 0: what the error control asks for; step: signed, of this round */
    double target;     /* where the solver stops next */
    int node;          /* next node of the current interval; TBG_KRONROD: its end */
    int current, second_half_waits;
    int n_intervals;
    interval *intervals; /* [1 + most_refinements] */
    double f[TBG_KRONROD];
    double *end;   /* [3N] state at the end of the push */
    double *spare; /* unused part of the slab, for the states of new intervals */
    tbg_flow_result *result;
} track;

typedef struct {
    const tbg_field *field;
    const tbg_flow_options *o;
    const tbg_tableau *method;
    int quadrature, carried; /* how the log-det is found */
    int adaptive;
    double d; /* of graded time; 0: u is t */
    int n;
    track *tracks;
    interval *intervals;
    double *slab;
    int *sample, *list;             /* [n] samples of the round, of one evaluation */
    const double **at;              /* [n] states to evaluate at */
    double **out, *u;               /* [n] where slopes go; variables */
    double *t, *x, *v, *divergence; /* the field's arguments */
} pusher;

/* ---- evaluations ---- */

/* Field at the m listed states: P->list, at, u. slope: dx/du (and d log-det/du) go to P->out; otherwise only
 * div v dt/du is made, in P->divergence. */
static int evaluate(pusher *P, int m, int slope) {
    size_t place = 0;
    int with_divergence = P->carried || !slope;
    for (int q = 0; q < m; q++) {
        size_t n3 = 3 * (size_t)P->tracks[P->list[q]].n_atoms;
        P->t[q] = tbg_time_of_u(P->d, P->u[q]);
        memcpy(P->x + place, P->at[q], n3 * sizeof(double));
        place += n3;
    }
    TBG_TRY(P->field->evaluate(P->field->self, m, P->list, P->t, P->x, P->v,
                               with_divergence ? P->divergence : NULL));
    place = 0;
    for (int q = 0; q < m; q++) {
        track *T = &P->tracks[P->list[q]];
        size_t n3 = 3 * (size_t)T->n_atoms;
        double rate = tbg_time_rate(P->d, P->u[q]);
        if (with_divergence) {
            P->divergence[q] *= rate;
            T->result->divergences++;
        }
        if (slope) {
            for (size_t k = 0; k < n3; k++)
                P->out[q][k] = rate * P->v[place + k];
            if (P->carried)
                P->out[q][n3] = P->divergence[q];
            T->result->velocities++;
        }
        place += n3;
    }
    return TBG_OK;
}

static void give_up(track *T, int status) {
    T->result->status = status;
    T->done = 1;
}

/* ---- intervals ---- */

static void aim(track *T) {
    const interval *I = &T->intervals[T->current];
    T->target =
        T->node == TBG_KRONROD ? I->to : I->from + 0.5 * (1 + tbg_kronrod_node[T->node]) * (I->to - I->from);
}

static void begin(const pusher *P, track *T, int c) {
    T->current = c;
    T->node = P->quadrature ? 0 : TBG_KRONROD;
    T->u = T->intervals[c].from;
    memcpy(T->x, T->intervals[c].start, 3 * (size_t)T->n_atoms * sizeof(double));
    T->has_slope = 0;
    aim(T);
}

/* The current interval has all its nodes: sum it up; then the second half, a bisection, or the end. */
static void close_interval(const pusher *P, track *T) {
    interval *I = &T->intervals[T->current];
    tbg_kronrod_sum(T->f, I->to - I->from, &I->integral, &I->error);
    if (T->second_half_waits) {
        T->second_half_waits = 0;
        begin(P, T, T->current + 1);
        return;
    }
    double total = 0;
    int worst = 0, last = T->n_intervals - 1;
    for (int c = 0; c <= last; c++) {
        total += T->intervals[c].error;
        if (T->intervals[c].error > T->intervals[worst].error)
            worst = c;
    }
    if (total <= P->o->tolerance || last >= P->o->most_refinements) {
        T->done = 1;
        return;
    }
    interval parent = T->intervals[worst];
    double middle = 0.5 * (parent.from + parent.to);
    size_t n3 = 3 * (size_t)T->n_atoms;
    T->intervals[worst] = T->intervals[last];
    T->intervals[last] = (interval){parent.from, middle, 0, 0, parent.start, T->spare};
    T->intervals[last + 1] = (interval){middle, parent.to, 0, 0, parent.middle, T->spare + n3};
    T->spare += 2 * n3;
    T->n_intervals++;
    T->second_half_waits = 1;
    begin(P, T, last);
}

static void pass_node(const pusher *P, track *T, double f) {
    if (!isfinite(f)) {
        give_up(T, TBG_FLOW_NOT_FINITE);
        return;
    }
    T->f[T->node] = f;
    if (T->node == TBG_KRONROD / 2)
        memcpy(T->intervals[T->current].middle, T->x, 3 * (size_t)T->n_atoms * sizeof(double));
    T->node++;
    if (T->node == TBG_KRONROD && T->arrived_at_end)
        close_interval(P, T); /* only the first interval needs the state at its end */
    else
        aim(T);
}

static void pass_end(const pusher *P, track *T) {
    size_t n3 = 3 * (size_t)T->n_atoms;
    memcpy(T->end, T->x, n3 * sizeof(double));
    T->arrived_at_end = 1;
    if (P->quadrature) {
        close_interval(P, T);
        return;
    }
    T->intervals[0].integral = P->carried ? T->x[n3] : 0;
    T->done = 1;
}

/* Divergences of the samples that stand on a node; ends of others. */
static int look_at_targets(pusher *P, int m) {
    int q = 0;
    for (int i = 0; i < m; i++) {
        track *T = &P->tracks[P->sample[i]];
        if (T->done || T->u != T->target)
            continue;
        if (T->node == TBG_KRONROD) {
            pass_end(P, T);
            continue;
        }
        P->list[q] = P->sample[i];
        P->at[q] = T->x;
        P->u[q++] = T->u;
    }
    if (q)
        TBG_TRY(evaluate(P, q, 0));
    for (int i = 0; i < q; i++)
        pass_node(P, &P->tracks[P->list[i]], P->divergence[i]);
    return TBG_OK;
}

/* ---- steps ---- */

static void choose_step(const pusher *P, track *T) {
    double left = T->target - T->u;
    if (P->adaptive)
        T->step = T->h * 1.01 >= fabs(left) ? left : copysign(T->h, left);
    else /* equal steps to the target: each leaves a whole number of them */
        T->step = left / fmax(1, ceil(fabs(left) * P->o->steps - 1e-6));
}

/* Scaled rms difference to the embedded method; the log-det counts as one component when it is carried along.
 */
static double step_error(const pusher *P, const track *T) {
    double sum = 0, tolerance = P->o->solver_tolerance;
    for (int c = 0; c < T->n; c++) {
        double e = 0;
        for (int s = 0; s < P->method->stages; s++)
            e += P->method->error[s] * T->k[s][c];
        e *= T->step / (tolerance * (1 + fmax(fabs(T->x[c]), fabs(T->next[c]))));
        sum += e * e;
    }
    return sqrt(sum / T->n);
}

static void combine(track *T, int n, const double *weights) {
    for (int c = 0; c < T->n; c++) {
        double sum = 0;
        for (int j = 0; j < n; j++)
            sum += weights[j] * T->k[j][c];
        T->next[c] = T->x[c] + T->step * sum;
    }
}

static void exchange(double **a, double **b) {
    double *c = *a;
    *a = *b;
    *b = c;
}

static void accept_or_reject(const pusher *P, track *T) {
    const tbg_tableau *M = P->method;
    double finite = 0; /* 0, or NaN */
    for (int c = 0; c < T->n; c++)
        finite += T->next[c] * 0;
    if (++T->steps > P->o->most_steps) {
        give_up(T, TBG_FLOW_STEP_LIMIT);
        return;
    }
    if (P->adaptive) {
        double error = step_error(P, T);
        int clipped = fabs(T->step) < T->h;
        if (!(finite == 0) || !isfinite(error))
            error = 1e10; /* far too long a step */
        double factor = 0.9 * pow(fmax(error, 1e-10), -0.2);
        if (error > 1) {
            T->h = fabs(T->step) * fmax(0.1, factor);
            T->rejected = 1;
            if (T->h < 1e-10)
                give_up(T, TBG_FLOW_NOT_FINITE);
            return;
        }
        double next = fabs(T->step) * fmin(T->rejected ? 1 : 6, fmax(0.2, factor));
        T->h = clipped ? fmax(T->h, next) : next; /* a step cut short by a node says little */
        T->rejected = 0;
    } else if (!(finite == 0)) {
        give_up(T, TBG_FLOW_NOT_FINITE);
        return;
    }
    T->u = T->step == T->target - T->u ? T->target : T->u + T->step;
    exchange(&T->x, &T->next);
    T->has_slope = M->fsal;
    if (M->fsal)
        exchange(&T->k[0], &T->k[M->stages - 1]);
}

static int take_steps(pusher *P, int m) {
    const tbg_tableau *M = P->method;
    int q = 0;
    for (int i = 0; i < m; i++) {
        track *T = &P->tracks[P->sample[i]];
        choose_step(P, T);
        if (T->has_slope)
            continue;
        P->list[q] = P->sample[i];
        P->at[q] = T->x;
        P->u[q] = T->u;
        P->out[q++] = T->k[0];
    }
    if (q)
        TBG_TRY(evaluate(P, q, 1));
    memcpy(P->list, P->sample, (size_t)m * sizeof *P->list);
    for (int s = 1; s < M->stages; s++) {
        for (int i = 0; i < m; i++) {
            track *T = &P->tracks[P->sample[i]];
            combine(T, s, M->a[s]);
            P->at[i] = T->next;
            P->u[i] = T->u + M->c[s] * T->step;
            P->out[i] = T->k[s];
        }
        TBG_TRY(evaluate(P, m, 1));
    }
    for (int i = 0; i < m; i++) {
        track *T = &P->tracks[P->sample[i]];
        if (!M->fsal) /* with it, the last stage stands at the new point already */
            combine(T, M->stages, M->b);
        accept_or_reject(P, T);
    }
    return TBG_OK;
}

/* ---- the push ---- */

static void release(pusher *P) {
    free(P->tracks);
    free(P->intervals);
    free(P->slab);
    free(P->sample);
    free(P->list);
    free(P->at);
    free(P->out);
    free(P->u);
    free(P->t);
    free(P->x);
    free(P->v);
    free(P->divergence);
}

static int prepare(pusher *P, int backward, const int *n_atoms, const double *from, tbg_flow_result *result) {
    size_t n = (size_t)P->n, atoms = 0, most = 1 + (size_t)P->o->most_refinements;
    for (size_t s = 0; s < n; s++)
        atoms += (size_t)n_atoms[s];
    /* States of a sample: x, next, slopes (one component more), the end, and two for each interval and for
     * the start. */
    size_t states = 2 + MOST_STAGES, kept = 2 + 2 * most;
    P->tracks = TBG_NEW(track, n);
    P->intervals = TBG_NEW(interval, n * most);
    P->slab = TBG_NEW(double, 3 * atoms * (states + kept) + n * states);
    P->sample = TBG_NEW(int, n);
    P->list = TBG_NEW(int, n);
    P->at = TBG_NEW(const double *, n);
    P->out = TBG_NEW(double *, n);
    P->u = TBG_NEW(double, n);
    P->t = TBG_NEW(double, n);
    P->x = TBG_NEW(double, 3 * atoms);
    P->v = TBG_NEW(double, 3 * atoms);
    P->divergence = TBG_NEW(double, n);
    if (!P->tracks || !P->intervals || !P->slab || !P->sample || !P->list || !P->at || !P->out || !P->u ||
        !P->t || !P->x || !P->v || !P->divergence)
        return TBG_FAILED;
    double *piece = P->slab;
    for (size_t s = 0; s < n; s++) {
        track *T = &P->tracks[s];
        size_t n3 = 3 * (size_t)n_atoms[s];
        T->n_atoms = n_atoms[s];
        T->n = (int)n3 + P->carried;
        double **const of_state[] = {&T->x,    &T->next, &T->k[0], &T->k[1], &T->k[2],
                                     &T->k[3], &T->k[4], &T->k[5], &T->k[6]};
        for (size_t k = 0; k < states; k++, piece += n3 + 1)
            *of_state[k] = piece;
        T->end = piece;
        T->spare = piece + n3;
        piece += kept * n3;
        T->result = &result[s];
        result[s].velocities = result[s].divergences = 0;
        result[s].status = TBG_FLOW_OK;
        T->intervals = P->intervals + s * most;
        T->intervals[0] = (interval){backward, !backward, 0, 0, T->spare, T->spare + n3};
        T->spare += 2 * n3;
        memcpy(T->intervals[0].start, from, n3 * sizeof(double));
        for (size_t k = 0; k < n3 && !T->done; k++)
            if (!isfinite(from[k]))
                give_up(T, TBG_FLOW_NOT_FINITE);
        from += n3;
        T->n_intervals = 1;
        T->h = 0.02;
        begin(P, T, 0);
    }
    return TBG_OK;
}

static int run(pusher *P) {
    for (;;) {
        int m = 0;
        for (int s = 0; s < P->n; s++)
            if (!P->tracks[s].done)
                P->sample[m++] = s;
        if (!m)
            return TBG_OK;
        if (tbg_interrupted())
            return tbg_fail(TBG_FAILED, "interrupted");
        TBG_TRY(take_steps(P, m));
        TBG_TRY(look_at_targets(P, m));
    }
}

int tbg_flow_push(const tbg_field *field, const tbg_flow_options *options, int backward, int n,
                  const int *n_atoms, const double *from, double *to, tbg_flow_result *result) {
    TBG_TRY(tbg_flow_check(options));
    int carries = options->solver == TBG_SOLVER_PUBLISHED || options->solver == TBG_SOLVER_RK4;
    pusher P = {.field = field,
                .o = options,
                .method = options->solver == TBG_SOLVER_RK4 ? &tbg_rk4 : &tbg_dopri5,
                .carried = carries && options->weights,
                .quadrature = !carries && options->weights,
                .adaptive = options->solver == TBG_SOLVER_ADAPTIVE || options->solver == TBG_SOLVER_PUBLISHED,
                .d = carries ? 0 : options->graded_d,
                .n = n};
    int status = prepare(&P, backward, n_atoms, from, result);
    if (!status)
        status = run(&P);
    for (int s = 0; s < n && !status; s++) {
        track *T = &P.tracks[s];
        int good = T->result->status == TBG_FLOW_OK;
        double sum = 0, error = 0;
        for (int c = 0; c < T->n_intervals; c++) {
            sum += T->intervals[c].integral;
            error += T->intervals[c].error;
        }
        T->result->log_det = !good || !options->weights ? NAN : backward ? -sum : sum;
        T->result->error = good && options->weights ? error : NAN;
        for (int k = 0; k < 3 * T->n_atoms; k++)
            *to++ = good ? T->end[k] : NAN;
    }
    release(&P);
    return status;
}
