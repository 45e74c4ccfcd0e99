/* chain.c: the chains themselves: start, independence moves, exchanges, dynamics, one cycle after the other.
 * Knows the target by its functions only, so that toys with known answers test it. Draws no proposals: it
 * takes those it is given, each once. */
#include "refine/chain.h"
#include "base/memory.h"
#include "base/progress.h"
#include "tbg/dynamics.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STATES_MOST = 4096 };

void tbg_refine_defaults(const char *forcefield, tbg_refine_options *o) {
    tbg_simulation_options s;
    tbg_simulation_defaults(forcefield, &s);
    *o = (tbg_refine_options){.proposals = 4,
                              .levels = 1,
                              .time = 10,
                              .level_time = 0.05,
                              .timestep = s.timestep,
                              .friction = s.friction,
                              .temperature = s.temperature,
                              .seed = 1};
}

int tbg_refine_check(const tbg_refine_options *o) {
    if (o->chains < 0 || o->chains > 4096)
        return tbg_fail(TBG_INPUT, "refine: %d chains; 0 (chosen) to 4096 are possible", o->chains);
    if (o->proposals < 1 || o->proposals > 10000)
        return tbg_fail(TBG_INPUT, "refine: %d proposals a move; 1 to 10,000 are possible", o->proposals);
    if (o->levels < 1 || o->levels > TBG_REFINE_LEVELS)
        return tbg_fail(TBG_INPUT, "refine: %d levels; 1 to %d are possible", o->levels, TBG_REFINE_LEVELS);
    if (!(o->timestep >= 1e-5 && o->timestep <= 0.01))
        return tbg_fail(TBG_INPUT, "refine: time step %g ps; 0.00001 to 0.01 is possible", o->timestep);
    if (!(o->time >= o->timestep && o->time <= 1e6 && o->level_time >= o->timestep && o->level_time <= 1e6))
        return tbg_fail(TBG_INPUT,
                        "refine: %g and %g ps of dynamics; %g (a time step) to 1,000,000 is possible",
                        o->time, o->level_time, o->timestep);
    if (!(o->friction > 0 && o->friction <= 1000))
        return tbg_fail(TBG_INPUT, "refine: friction %g/ps; it must be positive, at most 1000", o->friction);
    if (!(o->temperature >= 1 && o->temperature <= 1e4))
        return tbg_fail(TBG_INPUT, "refine: %g K; 1 to 10,000 is possible", o->temperature);
    return TBG_OK;
}

int tbg_refine_chains(const tbg_refine_options *o, long n) {
    if (o->chains)
        return o->chains;
    long moves = n / o->proposals, blocks = moves / (16 * 50);
    if (blocks >= 1)
        return 16 * (int)(blocks < 64 ? blocks : 64);
    long few = moves / 20;
    return few < 2 ? 2 : few < 16 ? (int)few : 16;
}

/* ---- set-up ---- */

void tbg_refine_free(tbg_refine *r) {
    if (!r)
        return;
    free(r->proposal_log_w);
    free(r->proposal_mark);
    free(r->states_seen);
    free(r->states);
    free(r->u);
    free(r->log_q);
    free(r->ancestor);
    free(r->start);
    free(r->trial);
    free(r->trial_u);
    free(r->trial_log_q);
    free(r->move_log_w);
    free(r->seen_log_w);
    free(r->seen_mark);
    free(r->frames);
    free(r->frame_u);
    free(r->frame_log_q);
    free(r->frame_ancestor);
    free(r);
}

static int allocate(tbg_refine *r) {
    size_t n = (size_t)r->proposals.n, replicas = (size_t)r->chains * (size_t)r->levels,
           frames = (size_t)r->chains * (size_t)r->cycles, size = r->target.size;
    r->proposal_log_w = TBG_NEW(double, n);
    r->proposal_mark = TBG_NEW(uint32_t, n);
    r->states_seen = TBG_NEW(uint32_t, STATES_MOST);
    r->states = tbg_alloc(replicas, size * sizeof(double));
    r->trial = tbg_alloc(replicas, size * sizeof(double));
    r->u = TBG_NEW(double, replicas);
    r->log_q = TBG_NEW(double, replicas);
    r->trial_u = TBG_NEW(double, replicas);
    r->trial_log_q = TBG_NEW(double, replicas);
    r->ancestor = TBG_NEW(int64_t, replicas);
    r->start = TBG_NEW(int64_t, replicas);
    r->move_log_w = TBG_NEW(double, r->K + 1);
    r->seen_log_w = tbg_alloc(frames, (size_t)r->levels * sizeof(double));
    r->seen_mark = tbg_alloc(frames, (size_t)r->levels * sizeof(uint32_t));
    r->frames = tbg_alloc(frames, size * sizeof(double));
    r->frame_u = TBG_NEW(double, frames);
    r->frame_log_q = TBG_NEW(double, frames);
    r->frame_ancestor = TBG_NEW(int64_t, frames);
    return r->proposal_log_w && r->proposal_mark && r->states_seen && r->states && r->trial && r->u &&
                   r->log_q && r->trial_u && r->trial_log_q && r->ancestor && r->start && r->move_log_w &&
                   r->seen_log_w && r->seen_mark && r->frames && r->frame_u && r->frame_log_q &&
                   r->frame_ancestor
               ? TBG_OK
               : TBG_FAILED;
}

static double log_weight(double u, double log_q) {
    return isfinite(u) && isfinite(log_q) ? -u - log_q : -INFINITY;
}

/* One of n by weights exp(scale * log_w) at the address; those of -Inf never. -1: all are. only: marks that
 * count, or NULL. */
static long pick(long n, const double *log_w, double scale, const uint32_t *mark, const uint32_t *only,
                 double uniform) {
    double largest = -INFINITY, total = 0, sum = 0;
    long last = -1;
    for (long i = 0; i < n; i++)
        if (!only || mark[i] == *only)
            largest = fmax(largest, log_w[i]);
    if (!(largest > -INFINITY))
        return -1;
    for (long i = 0; i < n; i++)
        if ((!only || mark[i] == *only) && log_w[i] > -INFINITY)
            total += exp(scale * (log_w[i] - largest));
    for (long i = 0; i < n; i++)
        if ((!only || mark[i] == *only) && log_w[i] > -INFINITY) {
            last = i;
            sum += exp(scale * (log_w[i] - largest));
            if (sum > uniform * total)
                break;
        }
    return last;
}

static void take(tbg_refine *r, long replica, long proposal) {
    size_t size = r->target.size;
    memcpy(r->states + (size_t)replica * size, r->proposals.states + (size_t)proposal * size,
           size * sizeof(double));
    r->u[replica] = r->proposals.u[proposal];
    r->log_q[replica] = r->proposals.log_q[proposal];
    r->ancestor[replica] = proposal;
}

/* The combinations of marks that occur among valid proposals, in order of their first; at most `most`. */
static int combinations(const tbg_refine *r, uint32_t *list, int most) {
    int n = 0;
    for (long i = 0; i < r->proposals.n; i++) {
        int known = !(r->proposal_log_w[i] > -INFINITY);
        for (int k = 0; k < n && !known; k++)
            known = list[k] == r->proposal_mark[i];
        if (!known && n < most)
            list[n++] = r->proposal_mark[i];
    }
    return n;
}

/* Numbers per cycle and chain: the move, exchanges, dynamics. */
static double uniform(const tbg_refine *r, int chain, long cycle, int number) {
    double u;
    uint64_t per = 2 * (uint64_t)r->levels + 2;
    tbg_random_uniform(r->options.seed, TBG_STREAM(TBG_STREAM_REFINE, chain),
                       (uint64_t)cycle * per + (uint64_t)number, 1, &u);
    return u;
}

static int place(tbg_refine *r) {
    r->n_states = combinations(r, r->states_seen, STATES_MOST);
    if (!r->n_states)
        return tbg_fail(
            TBG_INPUT,
            "refine: none of the %ld proposals is a valid configuration with an energy and a density",
            r->proposals.n);
    if (r->options.within && r->chains < 2 * r->n_states)
        return tbg_fail(TBG_INPUT,
                        "refine: chains that keep to their state: %d states need at least %d chains, not %d",
                        r->n_states, 2 * r->n_states, r->chains);
    for (int c = 0; c < r->chains; c++)
        for (int l = 0; l < r->levels; l++)
            take(r, (long)l * r->chains + c,
                 pick(r->proposals.n, r->proposal_log_w, r->beta[l], r->proposal_mark,
                      &r->states_seen[c % r->n_states], uniform(r, c, 0, l)));
    memcpy(r->start, r->ancestor, (size_t)r->chains * (size_t)r->levels * sizeof(int64_t));
    return TBG_OK;
}

/* May a chain be there? */
static int is_home(const tbg_refine *r, int c, uint32_t mark) {
    return !r->options.within || mark == r->states_seen[c % r->n_states];
}

int tbg_refine_create(const tbg_refine_target *target, const tbg_refine_proposals *proposals,
                      const tbg_refine_options *options, tbg_refine **out) {
    *out = NULL;
    TBG_TRY(tbg_refine_check(options));
    tbg_refine *r = TBG_NEW(tbg_refine, 1);
    if (!r)
        return TBG_FAILED;
    r->target = *target;
    r->proposals = *proposals;
    r->options = *options;
    r->K = options->proposals;
    r->levels = options->levels;
    r->chains = tbg_refine_chains(options, proposals->n);
    r->cycles = proposals->n / ((long)r->K * r->chains);
    int status = TBG_OK;
    if (r->cycles < 1)
        status =
            tbg_fail(TBG_INPUT,
                     "refine: %ld proposals are too few: one cycle of %d chains takes %ld; draw more, or "
                     "choose fewer chains",
                     proposals->n, r->chains, (long)r->K * r->chains);
    for (int l = 0; l < r->levels; l++)
        r->beta[l] = pow((l + 1.0) / r->levels, 2);
    if (!status)
        status = allocate(r);
    for (long i = 0; i < proposals->n && !status; i++) {
        r->proposal_log_w[i] = log_weight(proposals->u[i], proposals->log_q[i]);
        if (r->proposal_log_w[i] > -INFINITY)
            r->proposal_mark[i] = target->mark(target->self, proposals->states + (size_t)i * target->size);
    }
    if (!status)
        status = place(r);
    if (status) {
        tbg_refine_free(r);
        return status;
    }
    *out = r;
    return TBG_OK;
}

long tbg_refine_cycles(const tbg_refine *r, long *done) {
    if (done)
        *done = r->done;
    return r->cycles;
}

/* ---- one cycle ---- */

/* The present state of the lowest level and K fresh proposals compete. */
static void move(tbg_refine *r, int c) {
    long first = (r->done * r->chains + c) * r->K;
    memcpy(r->move_log_w, r->proposal_log_w + first, (size_t)r->K * sizeof(double));
    for (int k = 0; k < r->K; k++)
        if (!is_home(r, c, r->proposal_mark[first + k]))
            r->move_log_w[k] = -INFINITY;
    r->move_log_w[r->K] = log_weight(r->u[c], r->log_q[c]);
    long chosen = pick(r->K + 1, r->move_log_w, r->beta[0], NULL, NULL, uniform(r, c, r->done + 1, 0));
    r->counts.moves++;
    if (chosen >= 0 && chosen < r->K) {
        take(r, c, first + chosen);
        r->counts.taken++;
    }
}

static void exchange(tbg_refine *r, int c) {
    size_t size = r->target.size;
    for (int l = 0; l + 1 < r->levels; l++) {
        long a = (long)l * r->chains + c, b = a + r->chains;
        double exponent = (r->beta[l + 1] - r->beta[l]) *
                          (log_weight(r->u[a], r->log_q[a]) - log_weight(r->u[b], r->log_q[b]));
        r->counts.exchanges[l]++;
        if (!(uniform(r, c, r->done + 1, 1 + l) < exp(exponent)))
            continue;
        r->counts.exchanges_taken[l]++;
        double *x = r->states + (size_t)a * size, *y = r->states + (size_t)b * size;
        for (size_t k = 0; k < size; k++) {
            double t = x[k];
            x[k] = y[k];
            y[k] = t;
        }
        double u = r->u[a], log_q = r->log_q[a];
        int64_t ancestor = r->ancestor[a];
        r->u[a] = r->u[b];
        r->log_q[a] = r->log_q[b];
        r->ancestor[a] = r->ancestor[b];
        r->u[b] = u;
        r->log_q[b] = log_q;
        r->ancestor[b] = ancestor;
    }
}

static void decide(tbg_refine *r, int l, int c, long cycle) {
    long i = (long)l * r->chains + c;
    size_t size = r->target.size;
    double before = log_weight(r->u[i], r->log_q[i]), after = log_weight(r->trial_u[i], r->trial_log_q[i]);
    r->counts.stretches++;
    r->counts.dynamics[l]++;
    if (!(after > -INFINITY) || !is_home(r, c, r->target.mark(r->target.self, r->trial + (size_t)i * size))) {
        r->counts.outside++;
        return;
    }
    double exponent = (1 - r->beta[l]) * (before - after);
    if (l < r->levels - 1 && !(uniform(r, c, cycle, r->levels + 1 + l) < exp(exponent)))
        return;
    memcpy(r->states + (size_t)i * size, r->trial + (size_t)i * size, size * sizeof(double));
    r->u[i] = r->trial_u[i];
    r->log_q[i] = r->trial_log_q[i];
    r->counts.dynamics_taken[l]++;
}

static void see(tbg_refine *r) {
    size_t size = r->target.size, C = (size_t)r->chains, S = (size_t)r->levels, t = (size_t)r->done;
    for (size_t i = 0; i < C * S; i++) {
        r->seen_log_w[t * C * S + i] = log_weight(r->u[i], r->log_q[i]);
        r->seen_mark[t * C * S + i] = r->target.mark(r->target.self, r->states + i * size);
    }
    size_t top = (S - 1) * C;
    memcpy(r->frames + t * C * size, r->states + top * size, C * size * sizeof(double));
    memcpy(r->frame_u + t * C, r->u + top, C * sizeof(double));
    memcpy(r->frame_log_q + t * C, r->log_q + top, C * sizeof(double));
    memcpy(r->frame_ancestor + t * C, r->ancestor + top, C * sizeof(int64_t));
}

/* Dynamics of all replicas and what it comes to. Nothing changes unless all of it succeeds. */
static int stretch(tbg_refine *r, long cycle) {
    size_t size = r->target.size, replicas = (size_t)r->chains * (size_t)r->levels;
    int status = TBG_OK;
    memcpy(r->trial, r->states, replicas * size * sizeof(double));
    double start = tbg_seconds();
    for (int l = 0; l < r->levels && !status; l++)
        status = r->target.dynamics(r->target.self, l, cycle, r->chains,
                                    r->trial + (size_t)l * (size_t)r->chains * size);
    double middle = tbg_seconds();
    if (!status)
        status = r->target.weigh(r->target.self, cycle, (int)replicas, r->trial, r->trial_u, r->trial_log_q);
    r->seconds_dynamics += middle - start;
    r->seconds_density += tbg_seconds() - middle;
    TBG_TRY(status);
    for (int l = 0; l < r->levels; l++)
        for (int c = 0; c < r->chains; c++)
            decide(r, l, c, cycle);
    return TBG_OK;
}

int tbg_refine_advance(tbg_refine *r) {
    if (r->done >= r->cycles)
        return TBG_OK;
    /* Starts are raw proposals: those of a state that the model knows badly have small weights and would
     * leave it at the first move, before dynamics has made them what the state is. */
    if (!r->done && !r->relaxed)
        TBG_TRY(stretch(r, 0));
    r->relaxed = 1;
    size_t size = r->target.size, replicas = (size_t)r->chains * (size_t)r->levels;
    tbg_refine_counts counts = r->counts;
    double *before = TBG_NEW(double, replicas *(size + 2));
    int64_t *ancestor = TBG_NEW(int64_t, replicas);
    int status = before && ancestor ? TBG_OK : TBG_FAILED;
    if (!status) {
        memcpy(before, r->states, replicas * size * sizeof(double));
        memcpy(before + replicas * size, r->u, replicas * sizeof(double));
        memcpy(before + replicas * (size + 1), r->log_q, replicas * sizeof(double));
        memcpy(ancestor, r->ancestor, replicas * sizeof(int64_t));
        for (int c = 0; c < r->chains; c++) {
            move(r, c);
            exchange(r, c);
        }
        status = stretch(r, r->done + 1);
        if (status) { /* interrupted: the last finished cycle stands */
            memcpy(r->states, before, replicas * size * sizeof(double));
            memcpy(r->u, before + replicas * size, replicas * sizeof(double));
            memcpy(r->log_q, before + replicas * (size + 1), replicas * sizeof(double));
            memcpy(r->ancestor, ancestor, replicas * sizeof(int64_t));
            r->counts = counts;
        }
    }
    free(before);
    free(ancestor);
    TBG_TRY(status);
    see(r);
    r->done++;
    return TBG_OK;
}
