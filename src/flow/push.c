/* push.c: pushes a batch of samples along a field, each at its own pace.
 *
 * Owns the integration. All samples under way take one step together, so that the field sees large batches,
 * but every sample has its own variable, step size, quadrature and fate: what comes out for a sample does not
 * depend on the others. The independent variable is u of graded time, or t itself for solvers that carry the
 * divergence along.
 *
 * Log-det by quadrature: the solver goes its way and leaves its path as polynomials, one a step. Afterwards
 * the divergence is evaluated at the nodes of a Clenshaw-Curtis rule, whose number is doubled (all old nodes
 * stay) until the estimated error is small enough. The nodes lie in a graded time of their own, less graded
 * than the solver's: trajectories are stiff near t = 1, while the divergence along them is rough where bonded
 * atoms pass each other, in the first half of t. */
#include "base/memory.h"
#include "base/progress.h"
#include "flow/field.h"
#include "tbg/schedule.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STAGES 7
enum { PIECES = 5, LEAST_BATCH = TBG_FLOW_LEAST_BATCH };
/* Grading of the nodes. Measured on trained fields (docs/flow.md): 0.02 to 0.3 differ little in rms, fewer
 * samples go badly wrong from 0.1 up; Gaussian targets want 0.1 or less. */
static const double node_d = 0.1;

typedef struct {
    int n_atoms, n; /* n: components of the state, 3N, plus 1 with the log-det carried along */
    int done, has_slope, rejected, steps;
    double *x, *next; /* [n] */
    double *k[MOST_STAGES];
    double u, h, step; /* h > 0: what the error control asks for; step: signed, of this round */
    double *path;      /* [n_path of room][1 + PIECES 3N]: where a step begins, and its polynomials */
    int n_path, room;
    int counted; /* quadrature: its sum is good enough, or the sample has failed */
    double *f;   /* [finest + 1] divergence at the nodes */
    double integral, error;
    tbg_flow_result *result;
} track;

typedef struct {
    const tbg_field *field;
    const tbg_flow_options *o;
    const tbg_tableau *method;
    int quadrature, carried; /* how the log-det is found */
    int adaptive;
    double d, node_d; /* of graded time; 0: u is t */
    int forward;
    double u_last;    /* u of the flow's last time, o->last_time */
    double end;       /* u where the push ends: 0 or u_last */
    double node_last; /* the last time in the graded time of the nodes */
    int n, finest;    /* samples; intervals of the finest rule */
    size_t capacity;  /* evaluations at once */
    size_t components;
    track *tracks;
    double *slab, *weights;
    int *sample, *list;             /* [n] samples of the round; [capacity] of one evaluation */
    int *node;                      /* [capacity] which node */
    const double **at;              /* [n] states to evaluate at */
    double **out, *u;               /* [n] where slopes go; variables */
    double *t, *x, *v, *divergence; /* the field's arguments, [capacity] and [components] */
} pusher;

static void give_up(track *T, int status) {
    T->result->status = status;
    T->done = T->counted = 1;
}

/* ---- evaluations ---- */

/* Field at the m listed states: P->list, at, u; dx/du (and d log-det/du) go to P->out. */
static int evaluate(pusher *P, int m) {
    size_t place = 0;
    for (int q = 0; q < m; q++) {
        size_t n3 = 3 * (size_t)P->tracks[P->list[q]].n_atoms;
        P->t[q] = tbg_time_of_u(P->d, P->u[q]);
        memcpy(P->x + place, P->at[q], n3 * sizeof(double));
        place += n3;
    }
    TBG_TRY(
        P->field->evaluate(P->field->self, m, P->list, P->t, P->x, P->v, P->carried ? P->divergence : NULL));
    place = 0;
    for (int q = 0; q < m; q++) {
        track *T = &P->tracks[P->list[q]];
        size_t n3 = 3 * (size_t)T->n_atoms;
        double rate = tbg_time_rate(P->d, P->u[q]);
        for (size_t k = 0; k < n3; k++)
            P->out[q][k] = rate * P->v[place + k];
        if (P->carried) {
            P->out[q][n3] = rate * P->divergence[q];
            T->result->divergences++;
        }
        T->result->velocities++;
        place += n3;
    }
    return TBG_OK;
}

/* ---- the path ---- */

/* The step from T->x to T->next as a polynomial of fourth order (Hairer, Norsett, Wanner, Solving ODEs I,
 * II.6). */
static int keep_step(const pusher *P, track *T) {
    size_t n3 = 3 * (size_t)T->n_atoms, size = 1 + PIECES * n3;
    if (T->n_path == T->room) {
        int room = T->room ? 2 * T->room : 16;
        double *longer = TBG_NEW(double, (size_t)room *size);
        if (!longer)
            return TBG_FAILED;
        if (T->n_path)
            memcpy(longer, T->path, (size_t)T->n_path * size * sizeof(double));
        free(T->path);
        T->path = longer;
        T->room = room;
    }
    double *begin = T->path + (size_t)T->n_path++ * size, *c = begin + 1, h = T->step;
    *begin = T->u;
    for (size_t i = 0; i < n3; i++) {
        double change = T->next[i] - T->x[i], first = h * T->k[0][i] - change, last = 0;
        for (int s = 0; s < P->method->stages; s++)
            last += P->method->dense[s] * T->k[s][i];
        c[i] = T->x[i];
        c[n3 + i] = change;
        c[2 * n3 + i] = first;
        c[3 * n3 + i] = change - h * T->k[P->method->stages - 1][i] - first;
        c[4 * n3 + i] = h * last;
    }
    return TBG_OK;
}

static void state_at(const pusher *P, const track *T, double u, double *x) {
    size_t n3 = 3 * (size_t)T->n_atoms, size = 1 + PIECES * n3;
    int low = 0, high = T->n_path; /* step low begins before u, step high does not */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if ((T->path[(size_t)middle * size] - u) * (P->forward ? 1 : -1) <= 0)
            low = middle;
        else
            high = middle;
    }
    const double *begin = T->path + (size_t)low * size, *c = begin + 1;
    double to = high < T->n_path ? T->path[(size_t)high * size] : P->end;
    double a = (u - *begin) / (to - *begin), b = 1 - a;
    for (size_t i = 0; i < n3; i++)
        x[i] = c[i] + a * (c[n3 + i] + b * (c[2 * n3 + i] + a * (c[3 * n3 + i] + b * c[4 * n3 + i])));
}

/* ---- quadrature ---- */

/* Node k of the finest rule, in the nodes' graded time. */
static double node_u(const pusher *P, int k) {
    return P->node_last * tbg_clenshaw_node(P->finest, k);
}

/* Divergences at the collected nodes. */
static int evaluate_nodes(pusher *P, int m) {
    TBG_TRY(P->field->evaluate(P->field->self, m, P->list, P->t, P->x, P->v, P->divergence));
    for (int q = 0; q < m; q++) {
        track *T = &P->tracks[P->list[q]];
        T->result->divergences++;
        T->f[P->node[q]] = P->divergence[q] * P->node_last * tbg_time_rate(P->node_d, node_u(P, P->node[q]));
        if (!isfinite(T->f[P->node[q]]) && !T->counted)
            give_up(T, TBG_FLOW_NOT_FINITE);
    }
    return TBG_OK;
}

/* The rule of `intervals` intervals: nodes it has beyond the previous one, all samples that still need it. */
static int add_nodes(pusher *P, int intervals, int first) {
    int stride = P->finest / intervals, m = 0;
    size_t place = 0;
    for (int s = 0; s < P->n; s++) {
        track *T = &P->tracks[s];
        size_t n3 = 3 * (size_t)T->n_atoms;
        for (int k = first ? 0 : stride; k <= P->finest && !T->counted; k += first ? stride : 2 * stride) {
            if ((size_t)m == P->capacity || place + n3 > P->components) {
                if (tbg_interrupted())
                    return tbg_fail(TBG_FAILED, "interrupted");
                TBG_TRY(evaluate_nodes(P, m));
                m = 0;
                place = 0;
                if (T->counted) /* failed just now */
                    break;
            }
            P->t[m] = tbg_time_of_u(P->node_d, node_u(P, k));
            state_at(P, T, tbg_u_of_time(P->d, P->t[m]), P->x + place);
            P->list[m] = s;
            P->node[m++] = k;
            place += n3;
        }
    }
    return m ? evaluate_nodes(P, m) : TBG_OK;
}

/* Samples that nobody wants the density of count as done. */
static int drop_unwanted(pusher *P) {
    if (!P->o->wanted || !P->forward)
        return TBG_OK;
    unsigned char *wanted = TBG_NEW(unsigned char, P->n);
    if (!wanted)
        return TBG_FAILED;
    int m = 0;
    for (int s = 0; s < P->n; s++)
        if (!P->tracks[s].counted) {
            P->sample[m] = s;
            P->at[m] = P->tracks[s].x;
            wanted[m++] = 1;
        }
    int status = P->o->wanted(P->o->context, m, P->sample, P->at, wanted);
    for (int q = 0; q < m; q++)
        if (!wanted[q]) {
            track *T = &P->tracks[P->sample[q]];
            T->counted = 1;
            T->integral = T->error = NAN;
        }
    free(wanted);
    return status;
}

static int integrate(pusher *P) {
    int intervals = TBG_CLENSHAW_FIRST;
    TBG_TRY(drop_unwanted(P));
    for (int level = 0; level <= P->o->most_refinements; level++, intervals *= 2) {
        TBG_TRY(add_nodes(P, intervals, level == 0));
        double *whole = P->weights, *half = P->weights + intervals + 1;
        tbg_clenshaw_weights(intervals, whole);
        tbg_clenshaw_weights(intervals / 2, half);
        int left = 0;
        for (int s = 0; s < P->n; s++) {
            track *T = &P->tracks[s];
            if (T->counted)
                continue;
            tbg_clenshaw_sum(intervals, P->finest / intervals, T->f, whole, half, &T->integral, &T->error);
            T->counted = T->error <= P->o->tolerance;
            left += !T->counted;
        }
        if (!left)
            break;
    }
    return TBG_OK;
}

/* ---- steps ---- */

static void choose_step(const pusher *P, track *T) {
    double left = P->end - T->u;
    if (P->adaptive)
        T->step = T->h * 1.01 >= fabs(left) ? left : copysign(T->h, left);
    else /* equal steps: each leaves a whole number of them */
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

static int accept_or_reject(const pusher *P, track *T) {
    const tbg_tableau *M = P->method;
    double finite = 0; /* 0, or NaN */
    for (int c = 0; c < T->n; c++)
        finite += T->next[c] * 0;
    if (++T->steps > P->o->most_steps) {
        give_up(T, TBG_FLOW_STEP_LIMIT);
        return TBG_OK;
    }
    if (P->adaptive) {
        double error = step_error(P, T);
        if (!(finite == 0) || !isfinite(error))
            error = 1e10; /* far too long a step */
        double factor = 0.9 * pow(fmax(error, 1e-10), -0.2);
        if (error > 1) {
            T->h = fabs(T->step) * fmax(0.1, factor);
            T->rejected = 1;
            if (T->h < 1e-10)
                give_up(T, TBG_FLOW_NOT_FINITE);
            return TBG_OK;
        }
        T->h = fabs(T->step) * fmin(T->rejected ? 1 : 6, fmax(0.2, factor));
        T->rejected = 0;
    } else if (!(finite == 0)) {
        give_up(T, TBG_FLOW_NOT_FINITE);
        return TBG_OK;
    }
    if (P->quadrature)
        TBG_TRY(keep_step(P, T));
    T->u = T->step == P->end - T->u ? P->end : T->u + T->step;
    T->done = T->u == P->end;
    exchange(&T->x, &T->next);
    T->has_slope = M->fsal;
    if (M->fsal)
        exchange(&T->k[0], &T->k[M->stages - 1]);
    return TBG_OK;
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
        TBG_TRY(evaluate(P, q));
    memcpy(P->list, P->sample, (size_t)m * sizeof *P->list);
    for (int s = 1; s < M->stages; s++) {
        for (int i = 0; i < m; i++) {
            track *T = &P->tracks[P->sample[i]];
            combine(T, s, M->a[s]);
            P->at[i] = T->next;
            P->u[i] = T->u + M->c[s] * T->step;
            P->out[i] = T->k[s];
        }
        TBG_TRY(evaluate(P, m));
    }
    for (int i = 0; i < m; i++) {
        track *T = &P->tracks[P->sample[i]];
        if (!M->fsal) /* with it, the last stage stands at the new point already */
            combine(T, M->stages, M->b);
        TBG_TRY(accept_or_reject(P, T));
    }
    return TBG_OK;
}

/* ---- the push ---- */

static void release(pusher *P) {
    for (int s = 0; s < P->n && P->tracks; s++)
        free(P->tracks[s].path);
    free(P->tracks);
    free(P->slab);
    free(P->weights);
    free(P->sample);
    free(P->list);
    free(P->node);
    free(P->at);
    free(P->out);
    free(P->u);
    free(P->t);
    free(P->x);
    free(P->v);
    free(P->divergence);
}

static int prepare(pusher *P, const int *n_atoms, const double *from, tbg_flow_result *result) {
    size_t n = (size_t)P->n, atoms = 0, largest = 0, states = 2 + MOST_STAGES, nodes = (size_t)P->finest + 1;
    for (size_t s = 0; s < n; s++) {
        atoms += (size_t)n_atoms[s];
        largest = (size_t)n_atoms[s] > largest ? (size_t)n_atoms[s] : largest;
    }
    P->capacity = n > LEAST_BATCH ? n : LEAST_BATCH;
    P->components = 3 * (atoms > LEAST_BATCH * largest ? atoms : LEAST_BATCH * largest);
    P->tracks = TBG_NEW(track, n);
    P->slab = TBG_NEW(double, 3 * atoms * states + n * (states + nodes));
    P->weights = TBG_NEW(double, 2 * nodes + 1);
    P->sample = TBG_NEW(int, n);
    P->list = TBG_NEW(int, P->capacity);
    P->node = TBG_NEW(int, P->capacity);
    P->at = TBG_NEW(const double *, n);
    P->out = TBG_NEW(double *, n);
    P->u = TBG_NEW(double, n);
    P->t = TBG_NEW(double, P->capacity);
    P->x = TBG_NEW(double, P->components);
    P->v = TBG_NEW(double, P->components);
    P->divergence = TBG_NEW(double, P->capacity);
    if (!P->tracks || !P->slab || !P->weights || !P->sample || !P->list || !P->node || !P->at || !P->out ||
        !P->u || !P->t || !P->x || !P->v || !P->divergence)
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
        T->f = piece;
        piece += nodes;
        T->result = &result[s];
        result[s].velocities = result[s].divergences = 0;
        result[s].status = TBG_FLOW_OK;
        for (size_t k = 0; k < n3; k++)
            T->x[k] = P->forward ? from[k] : P->o->last_time * from[k];
        for (size_t k = 0; k < n3 && !T->done; k++)
            if (!isfinite(from[k]))
                give_up(T, TBG_FLOW_NOT_FINITE);
        from += n3;
        T->u = P->forward ? 0 : P->u_last;
        T->h = 0.02;
    }
    return TBG_OK;
}

/* At the last time t the state is t y. */
static void arrive(pusher *P) {
    for (int s = 0; s < P->n && P->forward && P->o->last_time < 1; s++)
        for (int k = 0; k < 3 * P->tracks[s].n_atoms; k++)
            P->tracks[s].x[k] /= P->o->last_time;
}

static int run(pusher *P) {
    for (;;) {
        int m = 0;
        for (int s = 0; s < P->n; s++)
            if (!P->tracks[s].done)
                P->sample[m++] = s;
        if (!m) {
            arrive(P);
            return P->quadrature ? integrate(P) : TBG_OK;
        }
        if (tbg_interrupted())
            return tbg_fail(TBG_FAILED, "interrupted");
        TBG_TRY(take_steps(P, m));
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
                .node_d = fmax(options->graded_d, node_d),
                .forward = !backward,
                .finest = TBG_CLENSHAW_FIRST << options->most_refinements,
                .n = n};
    P.u_last = tbg_u_of_time(P.d, options->last_time);
    P.end = backward ? 0 : P.u_last;
    P.node_last = tbg_u_of_time(P.node_d, options->last_time);
    int status = prepare(&P, n_atoms, from, result);
    if (!status)
        status = run(&P);
    for (int s = 0; s < n && !status; s++) {
        track *T = &P.tracks[s];
        int good = T->result->status == TBG_FLOW_OK;
        /* Quadrature runs along t whichever way the push went; a carried log-det along the push. */
        double sum = !P.carried ? T->integral : backward ? -T->x[T->n - 1] : T->x[T->n - 1];
        sum -= 3.0 * (T->n_atoms - 1) * log(options->last_time);
        T->result->log_det = good && options->weights ? sum : NAN;
        T->result->error = good && options->weights ? T->error : NAN;
        for (int k = 0; k < 3 * T->n_atoms; k++)
            *to++ = good ? T->x[k] : NAN;
    }
    release(&P);
    return status;
}
