/* bridge.c: free energies between q and pi from both sides, state by state.
 *
 * Inside one state (a mark set or not) dynamics equilibrates in picoseconds, so replicas there are samples of
 * the level's density restricted to the state, long before chains have gone to and fro between the states.
 * The normalisation Z_B of pi in state B follows from q's, which is the fraction of proposals in B, and from
 * Bennett's acceptance ratio (J. Comput. Phys. 22, 245 (1976)) between neighbouring levels, proposals being
 * level 0. It needs overlap of both sides only, where plain weights need proposals that look like pi's
 * samples. */
#include "base/memory.h"
#include "refine/chain.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>

enum { GROUPS_MOST = 16 };

/* Root of sum_a 1/(1 + exp(M + c - r)) = sum_b 1/(1 + exp(r - c - M)), M = ln(n/m); the left side falls with
 * c. */
static double imbalance(long n, const double *a, long m, const double *b, double c) {
    double M = log((double)n / (double)m), sum = 0;
    for (long i = 0; i < n; i++)
        sum += 1 / (1 + exp(M + c - a[i]));
    for (long i = 0; i < m; i++)
        sum -= 1 / (1 + exp(b[i] - c - M));
    return sum;
}

double tbg_refine_ratio(long n, const double *a, long m, const double *b, double *effective) {
    if (effective)
        *effective = 0;
    if (n < 1 || m < 1)
        return NAN;
    double low = INFINITY, high = -INFINITY, M = fabs(log((double)n / (double)m));
    for (long i = 0; i < n + m; i++) {
        double x = i < n ? a[i] : b[i - n];
        low = fmin(low, x);
        high = fmax(high, x);
    }
    low -= M + 50;
    high += M + 50;
    if (!(high - low < 1e6))
        return NAN;
    /* Bisection until the bracket is narrow enough for the secant between its ends to be good, then both in
     * turn. */
    double at_low = imbalance(n, a, m, b, low), at_high = imbalance(n, a, m, b, high);
    for (int k = 0; k < 100 && high - low > 1e-9; k++) {
        double c = 0.5 * (low + high);
        if (high - low < 8 && k % 3 && at_low > at_high)
            c = low + (high - low) * fmin(fmax(at_low / (at_low - at_high), 0.001), 0.999);
        double at = imbalance(n, a, m, b, c);
        if (at > 0) {
            low = c;
            at_low = at;
        } else {
            high = c;
            at_high = at;
        }
    }
    double c = 0.5 * (low + high), shift = log((double)n / (double)m) + c, sum[2] = {0}, square[2] = {0};
    for (long i = 0; i < n + m && effective; i++) {
        double f = i < n ? 1 / (1 + exp(shift - a[i])) : 1 / (1 + exp(b[i - n] - shift));
        sum[i >= n] += f;
        square[i >= n] += f * f;
    }
    if (effective && square[0] > 0 && square[1] > 0)
        *effective = fmin(sum[0] * sum[0] / square[0], sum[1] * sum[1] / square[1]);
    return c;
}

int tbg_refine_groups(const tbg_refine *r) {
    return r->chains < GROUPS_MOST ? r->chains : GROUPS_MOST;
}

/* The group of chains that proposal i belongs to: of the chain that used it; the left-over ones in turn. */
static int owner(const tbg_refine *r, long i) {
    return (int)(i / r->K % r->chains) % tbg_refine_groups(r);
}

/* A state: the configurations whose marks are `value` where `mask` has bits. */
typedef struct {
    uint32_t mask, value;
} state;

static int is_in(state s, uint32_t mark) {
    return (mark & s.mask) == s.value;
}

/* ln(p_b/p_a) of what level `level` saw in the state (level -1: proposals), from cycle `first` on. */
static long collect(const tbg_refine *r, state s, int level, double step, long first, int leave_out,
                    double *out) {
    long n = 0;
    int groups = tbg_refine_groups(r);
    if (level < 0) {
        for (long i = 0; i < r->proposals.n; i++)
            if (owner(r, i) != leave_out && r->proposal_log_w[i] > -INFINITY && is_in(s, r->proposal_mark[i]))
                out[n++] = step * r->proposal_log_w[i];
        return n;
    }
    for (long t = first; t < r->done; t++)
        for (int c = 0; c < r->chains; c++) {
            size_t at = ((size_t)t * (size_t)r->levels + (size_t)level) * (size_t)r->chains + (size_t)c;
            if (c % groups != leave_out && is_in(s, r->seen_mark[at]))
                out[n++] = step * r->seen_log_w[at];
        }
    return n;
}

/* ln Z of pi in a state, up to what all states share. scratch: two of [proposals + frames]. */
static double ln_z(const tbg_refine *r, state s, long first, int leave_out, double *scratch, double *least) {
    double sum = 0, carry, *a = scratch, *b = scratch + r->proposals.n + r->done * r->chains;
    for (int l = 0; l < r->levels; l++) {
        double step = r->beta[l] - (l ? r->beta[l - 1] : 0);
        long n = collect(r, s, l - 1, step, first, leave_out, a);
        long m = collect(r, s, l, step, first, leave_out, b);
        sum += (l ? 0 : log((double)n)) + tbg_refine_ratio(n, a, m, b, &carry);
        *least = fmin(*least, carry);
    }
    return sum;
}

static double *scratch_of(const tbg_refine *r) {
    return TBG_NEW(double, 2 * ((size_t)r->proposals.n + (size_t)r->done * (size_t)r->chains));
}

/* [n_states] by chains that keep to them. */
static void all_ln_z(const tbg_refine *r, long first, int leave_out, double *scratch, double *out,
                     double *least) {
    for (int i = 0; i < r->n_states; i++)
        out[i] = ln_z(r, (state){UINT32_MAX, r->states_seen[i]}, first, leave_out, scratch, least);
}

int tbg_refine_bridge(const tbg_refine *r, int k, long first, int leave_out, double *dF, double *effective) {
    double *scratch = scratch_of(r), *z = TBG_NEW(double, r->n_states), least = INFINITY;
    int status = scratch && z ? TBG_OK : TBG_FAILED;
    if (!status && r->options.within) {
        double sum[2] = {0}, largest = -INFINITY;
        all_ln_z(r, first, leave_out, scratch, z, &least);
        for (int i = 0; i < r->n_states; i++)
            largest = fmax(largest, z[i]);
        for (int i = 0; i < r->n_states; i++)
            sum[r->states_seen[i] >> k & 1] += exp(z[i] - largest);
        *dF = log(sum[0] / sum[1]);
    } else if (!status) {
        uint32_t bit = (uint32_t)1 << k;
        *dF = ln_z(r, (state){bit, 0}, first, leave_out, scratch, &least) -
              ln_z(r, (state){bit, bit}, first, leave_out, scratch, &least);
    }
    if (effective)
        *effective = least;
    free(scratch);
    free(z);
    return status;
}

int tbg_refine_populations(const tbg_refine *r, long first, double *p) {
    double *scratch = scratch_of(r), sum = 0, largest = -INFINITY, least = INFINITY;
    if (!scratch)
        return TBG_FAILED;
    all_ln_z(r, first, -1, scratch, p, &least);
    free(scratch);
    for (int i = 0; i < r->n_states; i++)
        largest = fmax(largest, p[i]);
    for (int i = 0; i < r->n_states; i++)
        sum += exp(p[i] - largest);
    for (int i = 0; i < r->n_states; i++)
        p[i] = exp(p[i] - largest) / sum;
    return TBG_OK;
}
