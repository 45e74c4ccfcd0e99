/* device.c: several simulations on one CUDA device, from frame to frame (tbg/dynamics.h). The simulations
 * keep their own files, checkpoints and diagnostics; here is only who goes on together. Those furthest behind
 * go first, so that simulations resumed at different frames soon move as one. The device works on the next
 * frame while this one is written. */
#include "base/memory.h"
#include "dynamics/cuda.h"
#include "dynamics/simulation.h"
#include "tbg/status.h"

#include <stdlib.h>

struct tbg_simulation_batch {
    int n;
    tbg_simulation **all;
    tbg_cuda_dynamics *device; /* of the group in work, or NULL */
    int n_group;
    tbg_simulation **group; /* [n] first n_group: those that move */
    int64_t launched, end;  /* step after the last launch; where this group stops */
};

/* What all must have in common. */
static int check_alike(int n, tbg_simulation *const *s) {
    for (int k = 1; k < n; k++) {
        const tbg_simulation_plan *p = &s[0]->plan, *q = &s[k]->plan;
        if (s[k]->options.timestep != s[0]->options.timestep ||
            s[k]->options.friction != s[0]->options.friction || p->save_steps != q->save_steps ||
            p->exchange_steps != q->exchange_steps || p->equilibrate_steps != q->equilibrate_steps ||
            p->flatten_steps != q->flatten_steps)
            return tbg_fail(
                TBG_INPUT,
                "simulations on one device need the same timestep, friction, save-every, exchange-every, "
                "equilibrate and flatten; %s differs from %s",
                s[k]->path, s[0]->path);
    }
    return TBG_OK;
}

int tbg_simulation_batch_create(int n, tbg_simulation *const *simulations, tbg_simulation_batch **out) {
    *out = NULL;
    if (n < 1)
        return tbg_fail(TBG_INPUT, "a batch of no simulations");
    TBG_TRY(tbg_cuda_device(NULL, 0));
    TBG_TRY(check_alike(n, simulations));
    tbg_simulation_batch *b = TBG_NEW(tbg_simulation_batch, 1);
    if (!b)
        return TBG_FAILED;
    b->n = n;
    b->all = TBG_NEW(tbg_simulation *, n);
    b->group = TBG_NEW(tbg_simulation *, n);
    if (!b->all || !b->group) {
        tbg_simulation_batch_free(b);
        return TBG_FAILED;
    }
    for (int k = 0; k < n; k++)
        b->all[k] = simulations[k];
    *out = b;
    return TBG_OK;
}

void tbg_simulation_batch_free(tbg_simulation_batch *b) {
    if (!b)
        return;
    tbg_cuda_dynamics_free(b->device);
    free(b->all);
    free(b->group);
    free(b);
}

/* b->group: the simulations furthest behind; b->end: the next step at which another one is, or at which one
 * of them is complete or changes its bias. */
void tbg_simulation_batch_choose(int n, tbg_simulation *const *all, tbg_simulation **group, int *n_group,
                                 int64_t *end) {
    int64_t least = INT64_MAX;
    *n_group = 0;
    *end = INT64_MAX;
    for (int k = 0; k < n; k++)
        if (all[k]->lanes->step < all[k]->plan.total_steps && all[k]->lanes->step < least)
            least = all[k]->lanes->step;
    for (int k = 0; k < n; k++) {
        int64_t step = all[k]->lanes->step;
        if (step >= all[k]->plan.total_steps)
            continue;
        int64_t stop = step == least ? tbg_simulation_stop(all[k]) : step;
        if (step == least)
            group[(*n_group)++] = all[k];
        *end = stop < *end ? stop : *end;
    }
}

static int start_group(tbg_simulation_batch *b) {
    tbg_simulation_batch_choose(b->n, b->all, b->group, &b->n_group, &b->end);
    if (!b->n_group)
        return TBG_OK;
    tbg_cuda_member *members = TBG_NEW(tbg_cuda_member, b->n_group);
    if (!members)
        return TBG_FAILED;
    for (int k = 0; k < b->n_group; k++)
        members[k] =
            (tbg_cuda_member){tbg_simulation_system(b->group[k]), b->group[k]->lanes, &b->group[k]->exchange};
    int status = tbg_cuda_dynamics_create(b->n_group, members, &b->device);
    free(members);
    b->launched = b->group[0]->lanes->step;
    return status;
}

int tbg_simulation_batch_advance(tbg_simulation_batch *b, int *done) {
    *done = 0;
    if (!b->device) {
        TBG_TRY(start_group(b));
        if (!b->n_group) {
            for (int k = 0; k < b->n; k++)
                b->all[k]->complete = 1;
            *done = 1;
            return TBG_OK;
        }
    }
    const tbg_simulation_plan *p = &b->group[0]->plan;
    int64_t interval =
        tbg_simulation_interval(b->group[0], b->group[0]->lanes->step); /* the same up to b->end */
    while (b->launched < b->end && b->launched - b->group[0]->lanes->step < TBG_CUDA_AHEAD * interval) {
        b->launched += interval;
        TBG_TRY(tbg_cuda_dynamics_launch(b->device, interval / p->exchange_steps, p->exchange_steps,
                                         b->launched == p->equilibrate_steps));
    }
    TBG_TRY(tbg_cuda_dynamics_collect(b->device));
    for (int k = 0; k < b->n_group; k++) {
        int status = tbg_simulation_arrived(b->group[k]);
        if (status != TBG_OK)
            return tbg_fail_in(status, "%s", b->group[k]->path);
    }
    if (b->group[0]->lanes->step >= b->end) {
        tbg_cuda_dynamics_free(b->device);
        b->device = NULL;
        tbg_simulation_batch_choose(b->n, b->all, b->group, &b->n_group, &b->end);
        *done = !b->n_group;
    }
    return TBG_OK;
}

int64_t tbg_simulation_batch_steps(const tbg_simulation_batch *b, int64_t *total) {
    int64_t done = 0;
    *total = 0;
    for (int k = 0; k < b->n; k++) {
        done += b->all[k]->lanes->step * b->all[k]->plan.lanes;
        *total += b->all[k]->plan.total_steps * b->all[k]->plan.lanes;
    }
    return done;
}
