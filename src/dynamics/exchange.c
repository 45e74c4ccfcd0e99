/* exchange.c: see exchange.h. */
#include "dynamics/exchange.h"
#include "base/memory.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int tbg_exchange_create(int n_runs, int n_replicas, double lowest, double highest, uint64_t seed,
                        tbg_exchange *e) {
    *e = (tbg_exchange){.n_runs = n_runs, .n_replicas = n_replicas, .seed = seed};
    int pairs = n_replicas > 1 ? n_runs * (n_replicas - 1) : 1;
    e->temperatures = TBG_NEW(double, n_replicas);
    e->level = TBG_NEW(int32_t, n_runs * n_replicas);
    e->end = TBG_NEW(int32_t, n_runs * n_replicas);
    e->attempts = TBG_NEW(int64_t, pairs);
    e->accepts = TBG_NEW(int64_t, pairs);
    e->round_trips = TBG_NEW(int64_t, n_runs);
    if (!e->temperatures || !e->level || !e->end || !e->attempts || !e->accepts || !e->round_trips) {
        tbg_exchange_free(e);
        return TBG_FAILED;
    }
    for (int k = 0; k < n_replicas; k++)
        e->temperatures[k] =
            n_replicas == 1 ? lowest : lowest * pow(highest / lowest, (double)k / (n_replicas - 1));
    for (int l = 0; l < n_runs * n_replicas; l++)
        e->level[l] = l % n_replicas;
    tbg_exchange_reset_statistics(e);
    return TBG_OK;
}

void tbg_exchange_free(tbg_exchange *e) {
    free(e->temperatures);
    free(e->level);
    free(e->end);
    free(e->attempts);
    free(e->accepts);
    free(e->round_trips);
    memset(e, 0, sizeof *e);
}

int tbg_exchange_lane(const tbg_exchange *e, int run, int level) {
    for (int l = run * e->n_replicas; l < (run + 1) * e->n_replicas; l++)
        if (e->level[l] == level)
            return l;
    return -1;
}

/* Note which end a walker has reached. */
static void arrive(tbg_exchange *e, int lane) {
    if (e->n_replicas < 2)
        return;
    if (e->level[lane] == e->n_replicas - 1 && e->end[lane] == 1)
        e->end[lane] = 2;
    else if (e->level[lane] == 0) {
        if (e->end[lane] == 2)
            e->round_trips[lane / e->n_replicas]++;
        e->end[lane] = 1;
    }
}

void tbg_exchange_reset_statistics(tbg_exchange *e) {
    if (e->n_replicas > 1) {
        size_t bytes = (size_t)e->n_runs * (size_t)(e->n_replicas - 1) * sizeof(int64_t);
        memset(e->attempts, 0, bytes);
        memset(e->accepts, 0, bytes);
    }
    for (int r = 0; r < e->n_runs; r++)
        e->round_trips[r] = 0;
    for (int l = 0; l < e->n_runs * e->n_replicas; l++) {
        e->end[l] = 0;
        arrive(e, l);
    }
}

static void set_level(tbg_exchange *e, tbg_lanes *lanes, int lane, int level) {
    double old = lanes->temperature[lane];
    e->level[lane] = level;
    lanes->temperature[lane] = e->temperatures[level];
    tbg_lanes_scale_velocities(lanes, lane, sqrt(e->temperatures[level] / old));
    arrive(e, lane);
}

void tbg_exchange_round_of_run(tbg_exchange *e, tbg_lanes *lanes, int run, int64_t round) {
    for (int low = (int)(round & 1); low + 1 < e->n_replicas; low += 2) {
        int a = tbg_exchange_lane(e, run, low), b = tbg_exchange_lane(e, run, low + 1);
        int64_t pair = (int64_t)run * (e->n_replicas - 1) + low;
        double beta_a = 1 / (TBG_BOLTZMANN * e->temperatures[low]),
               beta_b = 1 / (TBG_BOLTZMANN * e->temperatures[low + 1]), u;
        double exponent = (beta_a - beta_b) * (lanes->energy[a] - lanes->energy[b]);
        tbg_random_uniform(e->seed, TBG_STREAM(TBG_STREAM_EXCHANGE, pair), (uint64_t)round, 1, &u);
        e->attempts[pair]++;
        if (u < exp(exponent)) {
            e->accepts[pair]++;
            set_level(e, lanes, a, low + 1);
            set_level(e, lanes, b, low);
        }
    }
}

void tbg_exchange_round(tbg_exchange *e, tbg_lanes *lanes) {
    for (int run = 0; run < e->n_runs; run++)
        tbg_exchange_round_of_run(e, lanes, run, e->rounds);
    e->rounds++;
}

double tbg_exchange_acceptance(double heat_capacity, double ratio) {
    return erfc(sqrt(heat_capacity) * fabs(log(ratio)) / 2);
}

int tbg_exchange_replicas(double heat_capacity, double lowest, double highest, double rate) {
    int n = 2;
    while (n < 1024 && tbg_exchange_acceptance(heat_capacity, pow(highest / lowest, 1.0 / (n - 1))) < rate)
        n++;
    return n;
}
