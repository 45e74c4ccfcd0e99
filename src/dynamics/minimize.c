/* minimize.c: L-BFGS (Nocedal's two loops, Armijo backtracking) with a limit on each atom's move. Owns the
 * search; refuses starts without finite coordinates, and nudges atoms that lie on each other. */
#include "dynamics/minimize.h"
#include "base/memory.h"
#include "energy/reference.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY 12 /* pairs of differences kept */

typedef struct {
    size_t n;
    double *g, *direction, *x_new, *g_new;
    double *s[MEMORY], *y[MEMORY], rho[MEMORY];
    int used, next;
    double *storage;
} search;

static int search_create(search *q, size_t n) {
    memset(q, 0, sizeof *q);
    q->n = n;
    q->storage = TBG_NEW(double, (4 + 2 * MEMORY) * n);
    if (!q->storage)
        return TBG_FAILED;
    double *at = q->storage;
    double **fields[] = {&q->g, &q->direction, &q->x_new, &q->g_new};
    for (int i = 0; i < 4; i++, at += n)
        *fields[i] = at;
    for (int i = 0; i < MEMORY; i++, at += 2 * n) {
        q->s[i] = at;
        q->y[i] = at + n;
    }
    return TBG_OK;
}

static double dot(size_t n, const double *a, const double *b) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* direction = -H g with the pairs kept. */
static void choose_direction(search *q) {
    double *d = q->direction, alpha[MEMORY];
    for (size_t i = 0; i < q->n; i++)
        d[i] = -q->g[i];
    for (int k = 0; k < q->used; k++) {
        int at = (q->next - 1 - k + 2 * MEMORY) % MEMORY;
        alpha[at] = q->rho[at] * dot(q->n, q->s[at], d);
        for (size_t i = 0; i < q->n; i++)
            d[i] -= alpha[at] * q->y[at][i];
    }
    if (q->used) {
        int last = (q->next - 1 + MEMORY) % MEMORY;
        double scale = 1 / (q->rho[last] * dot(q->n, q->y[last], q->y[last]));
        for (size_t i = 0; i < q->n; i++)
            d[i] *= scale;
    }
    for (int k = q->used - 1; k >= 0; k--) {
        int at = (q->next - 1 - k + 2 * MEMORY) % MEMORY;
        double beta = q->rho[at] * dot(q->n, q->y[at], d);
        for (size_t i = 0; i < q->n; i++)
            d[i] += (alpha[at] - beta) * q->s[at][i];
    }
}

static double largest_move(const search *q) {
    double worst = 0;
    for (size_t i = 0; i < q->n; i += 3) {
        double m = dot(3, q->direction + i, q->direction + i);
        worst = m > worst ? m : worst;
    }
    return sqrt(worst);
}

static int finite_all(size_t n, const double *a) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(a[i]))
            return 0;
    return 1;
}

/* One line search along q->direction; *found: a lower point is in x_new, g_new, *energy. */
static int line_search(search *q, tbg_objective *objective, const void *state, const double *x,
                       double max_move, double *energy, int *found) {
    double slope = dot(q->n, q->g, q->direction), largest = largest_move(q);
    double t = largest > max_move ? max_move / largest : 1;
    *found = 0;
    if (!(slope < 0) || !isfinite(largest))
        return TBG_OK;
    for (int attempt = 0; attempt<30; attempt++, t /= attempt> 3 ? 4 : 2) {
        double e;
        for (size_t i = 0; i < q->n; i++)
            q->x_new[i] = x[i] + t * q->direction[i];
        TBG_TRY(objective(state, q->x_new, &e, q->g_new));
        if (isfinite(e) && e <= *energy + 1e-4 * t * slope && finite_all(q->n, q->g_new)) {
            *energy = e;
            *found = 1;
            return TBG_OK;
        }
    }
    return TBG_OK;
}

static void remember(search *q, const double *x) {
    double *s = q->s[q->next], *y = q->y[q->next];
    for (size_t i = 0; i < q->n; i++) {
        s[i] = q->x_new[i] - x[i];
        y[i] = q->g_new[i] - q->g[i];
    }
    double sy = dot(q->n, s, y);
    if (!(sy > 1e-10 * sqrt(dot(q->n, s, s) * dot(q->n, y, y))))
        return; /* no positive curvature along this step: keep what is known */
    q->rho[q->next] = 1 / sy;
    q->next = (q->next + 1) % MEMORY;
    q->used += q->used < MEMORY;
}

/* A finite start, moving atoms at random by up to 0.02 nm if there is none at x itself. */
static int find_start(search *q, tbg_objective *objective, const void *state, double *x, double *energy) {
    for (int attempt = 0; attempt < 8; attempt++) {
        TBG_TRY(objective(state, x, energy, q->g));
        if (isfinite(*energy) && finite_all(q->n, q->g))
            return TBG_OK;
        tbg_random_normal(1, TBG_STREAM(TBG_STREAM_BUILD, 0xffff), (uint64_t)attempt * q->n, q->n, q->x_new);
        for (size_t i = 0; i < q->n; i++)
            x[i] += 0.0025 * (attempt + 1) * q->x_new[i];
    }
    return tbg_fail(TBG_FAILED, "minimisation: no finite energy near the start structure; atoms overlap");
}

static int descend(search *q, tbg_objective *objective, const void *state, double *x, double max_move,
                   double tolerance, int max_steps, tbg_minimum *result) {
    double energy = 0;
    TBG_TRY(find_start(q, objective, state, x, &energy));
    for (;; result->steps++) {
        result->energy = energy;
        result->rms_force = sqrt(dot(q->n, q->g, q->g) / (double)q->n);
        result->converged = result->rms_force <= tolerance;
        if (result->converged || result->steps >= max_steps)
            return TBG_OK;
        int found;
        choose_direction(q);
        TBG_TRY(line_search(q, objective, state, x, max_move, &energy, &found));
        if (!found && q->used) { /* the model of the curvature misleads: steepest descent */
            q->used = 0;
            choose_direction(q);
            TBG_TRY(line_search(q, objective, state, x, max_move, &energy, &found));
        }
        if (!found)
            return TBG_OK; /* no lower energy within rounding */
        remember(q, x);
        memcpy(x, q->x_new, q->n * sizeof *x);
        memcpy(q->g, q->g_new, q->n * sizeof *x);
    }
}

int tbg_minimize_objective(tbg_objective *objective, const void *state, int n_points, double *x,
                           double max_move, double tolerance, int max_steps, tbg_minimum *minimum) {
    tbg_minimum result = {0};
    search q;
    size_t n = 3 * (size_t)n_points;
    if (!finite_all(n, x))
        return tbg_fail(TBG_INPUT, "minimisation: the start structure has coordinates that are not finite");
    if (!(tolerance > 0))
        return tbg_fail(TBG_INPUT, "minimisation: tolerance %g must be above 0", tolerance);
    TBG_TRY(search_create(&q, n));
    int status =
        descend(&q, objective, state, x, max_move, tolerance, max_steps > 0 ? max_steps : 5000, &result);
    free(q.storage);
    if (minimum)
        *minimum = result;
    return status;
}

static int system_objective(const void *state, const double *x, double *energy, double *gradient) {
    const tbg_system *system = state;
    double components[TBG_E_N];
    TBG_TRY(tbg_reference_evaluate(system, x, components, gradient));
    *energy = 0;
    for (int i = 0; i < TBG_E_N; i++)
        *energy += components[i];
    for (int i = 0; i < 3 * system->n_atoms; i++)
        gradient[i] = -gradient[i];
    return TBG_OK;
}

int tbg_minimize(const tbg_system *system, double *positions, double tolerance, int max_steps,
                 tbg_minimum *minimum) {
    return tbg_minimize_objective(system_objective, system, system->n_atoms, positions, 0.01, tolerance,
                                  max_steps, minimum);
}
