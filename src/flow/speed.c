/* speed.c: how long sampling will take: evaluations that a sample typically needs, and how many of them a
 * session makes per second. */
#include "base/memory.h"
#include "base/progress.h"
#include "flow/field.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>

/* Counts of the shipped, smoothed fields, and how they grow as tolerances fall: docs/flow.md. */
void tbg_flow_typical(const tbg_flow_options *o, double *velocities, double *divergences) {
    const double most = TBG_CLENSHAW_FIRST * (double)(1 << o->most_refinements) + 1;
    int carried = o->solver == TBG_SOLVER_PUBLISHED || o->solver == TBG_SOLVER_RK4;
    switch (o->solver) {
    case TBG_SOLVER_FIXED:
        *velocities = 6.0 * o->steps + 1;
        break;
    case TBG_SOLVER_RK4:
        *velocities = 4.0 * o->steps;
        break;
    case TBG_SOLVER_PUBLISHED:
        *velocities = 79 * pow(1e-4 / o->solver_tolerance, 0.2);
        break;
    default:
        *velocities = 64 * pow(3e-6 / o->solver_tolerance, 0.2);
    }
    *divergences = carried ? *velocities : fmin(most, fmax(13, 31 * pow(0.01 / o->tolerance, 0.2)));
    if (!o->weights)
        *divergences = 0;
    else if (carried)
        *velocities = 0; /* a divergence brings its velocity */
}

double tbg_flow_seconds(const tbg_flow_options *options, const tbg_flow_speed *speed) {
    double velocities, divergences;
    tbg_flow_typical(options, &velocities, &divergences);
    return (velocities ? velocities / speed->velocities : 0) +
           (divergences ? divergences / speed->divergences : 0);
}

enum { MOST_AT_ONCE = 256 };

typedef struct {
    tbg_session *session;
    const tbg_conditioning **molecule;
    double *t, *x, *v, *divergence;
    int least, most; /* evaluations at once */
} trial;

/* Best rate of calls in about `seconds`. Batches double while they are short; the first call, which warms up,
 * counts only where it has taken all the time. */
static int best_rate(const trial *T, int divergence, double seconds, double *rate) {
    double begin = tbg_seconds(), each = 0;
    *rate = 0;
    for (int n = T->least, call = 0;; call++) {
        double start = tbg_seconds();
        TBG_TRY(divergence
                    ? tbg_network_divergence(T->session, n, T->molecule, T->t, T->x, T->v, T->divergence)
                    : tbg_network_velocity(T->session, n, T->molecule, T->t, T->x, T->v));
        double now = tbg_seconds();
        int last = now - begin >= seconds;
        each = fmax(now - start, 1e-9);
        if (call || last)
            *rate = fmax(*rate, n / each);
        if (last)
            return TBG_OK;
        if (tbg_interrupted())
            return tbg_fail(TBG_FAILED, "interrupted");
        if (each < seconds / 16 && 2 * n <= T->most)
            n *= 2;
    }
}

int tbg_flow_measure(tbg_session *session, const tbg_conditioning *molecule, int threads, int divergences,
                     double seconds, tbg_flow_speed *out) {
    if (threads < 1 || threads > 4096)
        return tbg_fail(TBG_INPUT, "flow: %d threads; 1 to 4096 are possible", threads);
    trial T = {.session = session, .least = threads, .most = threads > MOST_AT_ONCE ? threads : MOST_AT_ONCE};
    const size_t n = (size_t)T.most, n3 = 3 * (size_t)molecule->n_atoms;
    T.molecule = TBG_NEW(const tbg_conditioning *, n);
    T.t = TBG_NEW(double, n);
    T.x = TBG_NEW(double, n *n3);
    T.v = TBG_NEW(double, n *n3);
    T.divergence = TBG_NEW(double, n);
    int status = T.molecule && T.t && T.x && T.v && T.divergence ? TBG_OK : TBG_FAILED;
    *out = (tbg_flow_speed){0};
    for (size_t k = 0; k < n && !status; k++) {
        T.molecule[k] = molecule;
        tbg_prior_sample(0, k, molecule->n_atoms, T.x + k * n3);
    }
    if (!status)
        status = best_rate(&T, 0, seconds, &out->velocities);
    if (!status && divergences)
        status = best_rate(&T, 1, seconds, &out->divergences);
    free(T.molecule);
    free(T.t);
    free(T.x);
    free(T.v);
    free(T.divergence);
    return status;
}
