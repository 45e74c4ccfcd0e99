/* exchange.h: replica exchange over temperatures. Lane = run * replicas + walker; walkers keep their
 * coordinates and exchange temperatures, so nothing is copied. Owns the ladder, the Metropolis test and its
 * statistics. */
#ifndef TBG_DYNAMICS_EXCHANGE_H
#define TBG_DYNAMICS_EXCHANGE_H
#include "dynamics/integrator.h"

typedef struct {
    int n_runs, n_replicas;
    uint64_t seed;
    double *temperatures; /* [n_replicas] K, ascending */
    int32_t *level;       /* [n_runs * n_replicas] index of the temperature of each lane */
    int32_t
        *end; /* the end of the ladder a lane saw last: 0 none, 1 bottom, 2 top on its way from the bottom */
    int64_t *attempts, *accepts; /* [n_runs][n_replicas - 1] */
    int64_t *round_trips;        /* [n_runs] bottom to top to bottom, by any walker */
    int64_t rounds;              /* part of the address of the random numbers */
} tbg_exchange;

int tbg_exchange_create(int n_runs, int n_replicas, double lowest, double highest, uint64_t seed,
                        tbg_exchange *out);
void tbg_exchange_free(tbg_exchange *exchange);
/* One round: pairs (0,1), (2,3), ... in even rounds, (1,2), (3,4), ... in odd ones. lanes->energy must be
 * current. A pair exchanges temperatures with probability min(1, exp((beta_a - beta_b) (U_a - U_b)));
 * velocities are scaled by sqrt(T_new / T_old). */
void tbg_exchange_round(tbg_exchange *exchange, tbg_lanes *lanes);
/* The same for one run and a given round; runs share nothing, so several threads may do different ones. */
void tbg_exchange_round_of_run(tbg_exchange *exchange, tbg_lanes *lanes, int run, int64_t round);
void tbg_exchange_reset_statistics(tbg_exchange *exchange);
int tbg_exchange_lane(const tbg_exchange *exchange, int run, int level);

/* Mean acceptance between neighbours of temperature ratio r for a heat capacity c (of the potential energy,
 * in k_B): erfc(sqrt(c) ln(r) / 2), exact for Gaussian energies of equal width. */
double tbg_exchange_acceptance(double heat_capacity, double ratio);
/* Smallest ladder from lowest to highest whose predicted acceptance is at least `rate`. */
int tbg_exchange_replicas(double heat_capacity, double lowest, double highest, double rate);
#endif
