/* chain.h: what chain.c (running), bridge.c and figures.c (looking at it) and store.c share. */
#ifndef TBG_REFINE_CHAIN_H
#define TBG_REFINE_CHAIN_H
#include "tbg/refine.h"

enum { TBG_REFINE_LEVELS = 16 };

/* What happened, summed over chains. */
typedef struct {
    int64_t moves, taken, stretches, outside;
    int64_t dynamics[TBG_REFINE_LEVELS], dynamics_taken[TBG_REFINE_LEVELS];
    int64_t exchanges[TBG_REFINE_LEVELS], exchanges_taken[TBG_REFINE_LEVELS];
} tbg_refine_counts;

struct tbg_refine {
    tbg_refine_target target;
    tbg_refine_proposals proposals;
    tbg_refine_options options;
    int chains, levels, K;
    long cycles, done;
    double beta[TBG_REFINE_LEVELS];
    double *proposal_log_w;  /* [n] -Inf: weight 0 */
    uint32_t *proposal_mark; /* [n] */
    uint32_t *states_seen; /* [n_states] combinations of marks among the proposals, in order of their first */
    int n_states;          /* chain c begins in combination c % n_states */
    /* Present replicas, level by level: replica l * chains + c. */
    double *states, *u, *log_q; /* [levels * chains]... */
    int64_t *ancestor;          /* number of the proposal it descends from */
    int64_t *start;             /* where they began */
    int relaxed;                /* the starts had their dynamics */
    double *trial, *trial_u, *trial_log_q;
    double *move_log_w; /* [K + 1] */
    /* What was seen at the end of each cycle. */
    double *seen_log_w;            /* [cycles][levels][chains] */
    uint32_t *seen_mark;           /* the same */
    double *frames;                /* [cycles][chains][size], last level */
    double *frame_u, *frame_log_q; /* [cycles][chains] */
    int64_t *frame_ancestor;
    tbg_refine_counts counts;
    double seconds_dynamics, seconds_density;
};

/* dF of mark k from cycle `first` on, by acceptance ratios from level to level in each of its two states; NaN
 * where a state was not seen at some level. leave_out: a group
 * of chains without which (jackknife), or -1. effective:
 * the least number of samples that carry a step, or NULL. (bridge.c) */
int tbg_refine_groups(const tbg_refine *r);
int tbg_refine_bridge(const tbg_refine *r, int k, long first, int leave_out, double *dF, double *effective);
/* Populations of the combinations of marks by the bridge. p: [n_states], sums to 1, or all NaN. */
int tbg_refine_populations(const tbg_refine *r, long first, double *p);
/* ln(Z_b / Z_a) by Bennett's acceptance ratio: n samples of a and m of b with their ln(p_b/p_a), not
 * normalised. NaN where one side is empty. effective: Kish size of the side that carries less. */
double tbg_refine_ratio(long n, const double *of_a, long m, const double *of_b, double *effective);
#endif
