/* harmonic.c: minimum and Hessian of V(x) = u(x) + |x - y|^2 / 2 s^2 (tbg/anneal.h), by damped Newton steps
 * with Hessians from differences of forces. Many configurations at once, so that the engine's batches are
 * full. */
#include "anneal/anneal.h"
#include "tbg/status.h"

#include <math.h>
#include <string.h>

static const double near = 0.1;        /* thermal widths from the minimum: near enough */
static const double difference = 5e-4; /* nm; forces are good to 1e-6, bonds anharmonic over 0.05 */

static double tether(const tbg_annealer *A, const double *x, const double *y) {
    double sum = 0;
    for (size_t k = 0; k < A->n3; k++)
        sum += (x[k] - y[k]) * (x[k] - y[k]);
    return 0.5 * A->precision * sum;
}

/* The centre moves to configuration q of the batch, which was evaluated to V = v. */
static void settle(const tbg_annealer *A, size_t q, double v, tbg_harmonic *h) {
    const double *x = A->batch + q * A->n3, *force = A->batch_force + q * A->n3;
    memcpy(h->centre, x, A->n3 * sizeof *x);
    h->v = v;
    for (size_t k = 0; k < A->n3; k++)
        h->gradient[k] = A->precision * (x[k] - h->y[k]) - force[k];
}

static int begin_at_y(tbg_annealer *A, int m, tbg_harmonic *h) {
    for (int i = 0; i < m; i++)
        memcpy(A->batch + (size_t)i * A->n3, h[i].y, A->n3 * sizeof(double));
    TBG_TRY(tbg_anneal_evaluate(A, (size_t)m));
    for (int i = 0; i < m; i++) {
        settle(A, (size_t)i, A->batch_u[i], &h[i]); /* the tether has no length yet */
        h[i].newton = 0;
        h[i].damping = 0;
        h[i].done = h[i].failed = !isfinite(h[i].v);
    }
    return TBG_OK;
}

/* Symmetric central differences. */
static int evaluate_hessians(tbg_annealer *A, int m, tbg_harmonic *h) {
    const size_t n = A->n3;
    size_t q = 0;
    for (int i = 0; i < m; i++)
        for (size_t k = 0; k < 2 * n && !h[i].done; k++, q++) {
            double *x = A->batch + q * n;
            memcpy(x, h[i].centre, n * sizeof(double));
            x[k / 2] += k % 2 ? -difference : difference;
        }
    TBG_TRY(tbg_anneal_evaluate(A, q));
    q = 0;
    for (int i = 0; i < m; i++) {
        if (h[i].done)
            continue;
        const double *force = A->batch_force + q * n;
        double *H = h[i].hessian, finite = 0;
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b <= a; b++) {
                double ab = force[(2 * a + 1) * n + b] - force[2 * a * n + b],
                       ba = force[(2 * b + 1) * n + a] - force[2 * b * n + a];
                H[a * n + b] = (ab + ba) / (4 * difference) + (a == b ? A->precision : 0);
                finite += H[a * n + b] * 0;
            }
        if (!(finite == 0))
            h[i].done = h[i].failed = 1;
        q += 2 * n;
    }
    return TBG_OK;
}

static void factor_damped(const tbg_annealer *A, tbg_harmonic *h) {
    while (!A->algebra->factorise(A->n3, h->hessian, h->damping, h->factor))
        h->damping = fmax(4 * h->damping, A->precision / 16);
}

/* The Newton step of the factor; its decrement |L^-1 gradient|. */
static double newton_step(const tbg_annealer *A, tbg_harmonic *h) {
    double square = 0;
    for (size_t k = 0; k < A->n3; k++)
        h->step[k] = -h->gradient[k];
    A->algebra->solve_lower(A->n3, h->factor, 1, h->step);
    for (size_t k = 0; k < A->n3; k++)
        square += h->step[k] * h->step[k];
    A->algebra->solve_upper(A->n3, h->factor, 1, h->step);
    return sqrt(square);
}

/* Try the steps of all that are not done; one that does not lower V is shortened by damping and tried again.
 */
static int take_steps(tbg_annealer *A, int m, tbg_harmonic *h) {
    enum { ATTEMPTS = 6 };
    const size_t n = A->n3;
    for (int i = 0; i < m; i++)
        h[i].pending = !h[i].done;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        size_t q = 0;
        for (int i = 0; i < m; i++)
            if (h[i].pending) {
                for (size_t k = 0; k < n; k++)
                    A->batch[q * n + k] = h[i].centre[k] + h[i].step[k];
                q++;
            }
        if (!q)
            break;
        TBG_TRY(tbg_anneal_evaluate(A, q));
        q = 0;
        for (int i = 0; i < m; i++) {
            if (!h[i].pending)
                continue;
            double v = A->batch_u[q] + tether(A, A->batch + q * n, h[i].y);
            if (v < h[i].v) {
                settle(A, q, v, &h[i]);
                h[i].damping = h[i].damping > 0.01 * A->precision ? 0.1 * h[i].damping : 0;
                h[i].pending = 0;
            } else {
                h[i].damping = fmax(8 * h[i].damping, 0.25 * A->precision);
                factor_damped(A, &h[i]);
                newton_step(A, &h[i]);
            }
            q++;
        }
    }
    for (int i = 0; i < m; i++)
        h[i].done |= h[i].pending; /* no way down is left but rounding's */
    return TBG_OK;
}

int tbg_harmonic_find(tbg_annealer *A, int m, tbg_harmonic *h) {
    TBG_TRY(begin_at_y(A, m, h));
    for (int left = 1, round = 0; left && round < A->o->newton; round++) {
        left = 0;
        TBG_TRY(evaluate_hessians(A, m, h));
#pragma omp parallel for num_threads(A->threads) if (A->threads > 1) schedule(dynamic)
        for (int i = 0; i < m; i++) {
            if (h[i].done)
                continue;
            h[i].newton++;
            factor_damped(A, &h[i]);
            if (newton_step(A, &h[i]) < near) {
                for (size_t k = 0; k < A->n3; k++)
                    h[i].centre[k] += h[i].step[k];
                h[i].done = 1;
            }
        }
        TBG_TRY(take_steps(A, m, h));
        for (int i = 0; i < m; i++)
            left += !h[i].done;
    }
    for (int i = 0; i < m; i++) {
        h[i].log_det = 0;
        for (size_t k = 0; k < A->n3 && !h[i].failed; k++)
            h[i].log_det += log(h[i].factor[k * A->n3 + k]);
    }
    return TBG_OK;
}
