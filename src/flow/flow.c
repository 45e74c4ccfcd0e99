/* flow.c: options, and the flow of a network session: sampling, density, there and back. */
#include "base/memory.h"
#include "flow/field.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const solver_names[] = {"adaptive", "fixed", "published", "rk4"};

const char *tbg_solver_name(tbg_solver solver) {
    return (int)solver >= 0 && solver <= TBG_SOLVER_RK4 ? solver_names[solver] : "unknown";
}

int tbg_solver_parse(const char *name, tbg_solver *solver) {
    for (int i = 0; i <= TBG_SOLVER_RK4; i++)
        if (!strcmp(name, solver_names[i])) {
            *solver = (tbg_solver)i;
            return TBG_OK;
        }
    return tbg_fail(TBG_INPUT, "unknown solver '%s'; known: adaptive, fixed, published, rk4", name);
}

void tbg_flow_defaults(tbg_flow_options *o) {
    *o = (tbg_flow_options){.solver = TBG_SOLVER_ADAPTIVE,
                            .solver_tolerance = 3e-6,
                            .steps = 24,
                            .tolerance = 0.1,
                            .most_refinements = 5,
                            .most_steps = 5000,
                            .graded_d = -1,
                            .last_time = 1,
                            .weights = 1};
}

int tbg_flow_check(const tbg_flow_options *o) {
    if ((int)o->solver < 0 || o->solver > TBG_SOLVER_RK4)
        return tbg_fail(TBG_INPUT, "flow: unknown solver %d", (int)o->solver);
    if (!(o->solver_tolerance >= 1e-12 && o->solver_tolerance <= 1))
        return tbg_fail(TBG_INPUT, "flow: solver tolerance %g; 1e-12 to 1 is possible", o->solver_tolerance);
    if (o->steps < 1 || o->steps > 100000)
        return tbg_fail(TBG_INPUT, "flow: %d steps; 1 to 100000 are possible", o->steps);
    if (!(o->tolerance > 0 && o->tolerance <= 1000))
        return tbg_fail(TBG_INPUT, "flow: tolerance %g nats; it must be positive, at most 1000",
                        o->tolerance);
    if (o->most_refinements < 0 || o->most_refinements > 8)
        return tbg_fail(TBG_INPUT, "flow: %d refinements; 0 to 8 are possible", o->most_refinements);
    if (o->most_steps < 1)
        return tbg_fail(TBG_INPUT, "flow: at most %d steps; it must be positive", o->most_steps);
    if (!(o->graded_d <= 1)) /* below 0: the model's */
        return tbg_fail(TBG_INPUT, "flow: graded time d = %g; 0 to 1 is possible", o->graded_d);
    if (!(o->last_time > 0 && o->last_time <= 1))
        return tbg_fail(TBG_INPUT, "flow: last time %g; it must be positive, at most 1", o->last_time);
    return TBG_OK;
}

double tbg_flow_last_time(double scale, double trained, double smoothing) {
    return smoothing > trained ? 1 / (1 + scale * sqrt(smoothing * smoothing - trained * trained)) : 1;
}

/* ---- a session as a field ---- */

typedef struct {
    tbg_session *session;
    const tbg_conditioning *const *all; /* of the caller's batch */
    const tbg_conditioning **some;      /* of one evaluation */
} session_field;

static int evaluate(void *self, int n, const int *which, const double *t, const double *x, double *v,
                    double *divergence) {
    session_field *f = self;
    for (int q = 0; q < n; q++)
        f->some[q] = f->all[which[q]];
    return divergence ? tbg_network_divergence(f->session, n, f->some, t, x, v, divergence)
                      : tbg_network_velocity(f->session, n, f->some, t, x, v);
}

static int push(tbg_session *session, const tbg_flow_options *options, int backward, int n,
                const tbg_conditioning *const *molecule, const double *from, double *to,
                tbg_flow_result *result) {
    if (n < 0)
        return tbg_fail(TBG_INPUT, "flow: a batch of %d samples", n);
    TBG_TRY(tbg_flow_check(options));
    tbg_flow_options o = *options;
    if (o.graded_d < 0) {
        /* A field trained in uniform time is as stiff near t = 1 as any: grade the solver's time all the
         * same. */
        double d = tbg_session_model(session)->spec.graded_d;
        o.graded_d = d > 0 ? d : 0.01;
    }
    int *n_atoms = TBG_NEW(int, n);
    int most = n > TBG_FLOW_LEAST_BATCH ? n : TBG_FLOW_LEAST_BATCH;
    const tbg_conditioning **some = TBG_NEW(const tbg_conditioning *, most);
    int status = n_atoms && some ? TBG_OK : TBG_FAILED;
    if (!status) {
        for (int s = 0; s < n; s++)
            n_atoms[s] = molecule[s]->n_atoms;
        session_field f = {session, molecule, some};
        status = tbg_flow_push(&(tbg_field){evaluate, &f}, &o, backward, n, n_atoms, from, to, result);
    }
    free(n_atoms);
    free(some);
    return status;
}

int tbg_flow_forward(tbg_session *session, const tbg_flow_options *options, int n,
                     const tbg_conditioning *const *molecule, const double *z, double *x,
                     tbg_flow_result *result) {
    TBG_TRY(push(session, options, 0, n, molecule, z, x, result));
    for (int s = 0; s < n; s++) {
        tbg_remove_mean(molecule[s]->n_atoms, x);
        result[s].log_prior = tbg_prior_log_density(molecule[s]->n_atoms, z);
        result[s].log_q = result[s].log_prior - result[s].log_det;
        z += 3 * (size_t)molecule[s]->n_atoms;
        x += 3 * (size_t)molecule[s]->n_atoms;
    }
    return TBG_OK;
}

static size_t components(int n, const tbg_conditioning *const *molecule) {
    size_t sum = 0;
    for (int s = 0; s < n; s++)
        sum += 3 * (size_t)molecule[s]->n_atoms;
    return sum;
}

int tbg_flow_sample(tbg_session *session, const tbg_flow_options *options, int n,
                    const tbg_conditioning *const *molecule, uint64_t seed, uint64_t first, double *latent,
                    double *x, tbg_flow_result *result) {
    double *own = latent ? NULL : TBG_NEW(double, components(n, molecule)), *z = latent ? latent : own,
           *zs = z;
    if (!z)
        return TBG_FAILED;
    for (int s = 0; s < n; s++) {
        tbg_prior_sample(seed, first + (uint64_t)s, molecule[s]->n_atoms, zs);
        zs += 3 * (size_t)molecule[s]->n_atoms;
    }
    int status = tbg_flow_forward(session, options, n, molecule, z, x, result);
    free(own);
    return status;
}

int tbg_flow_density(tbg_session *session, const tbg_flow_options *options, int n,
                     const tbg_conditioning *const *molecule, const double *x, double *z,
                     tbg_flow_result *result) {
    size_t all = components(n, molecule);
    double *centred = TBG_NEW(double, all), *c = centred;
    if (!centred)
        return TBG_FAILED;
    memcpy(centred, x, all * sizeof *x);
    for (int s = 0; s < n; s++) {
        tbg_remove_mean(molecule[s]->n_atoms, c);
        c += 3 * (size_t)molecule[s]->n_atoms;
    }
    int status = push(session, options, 1, n, molecule, centred, z, result);
    free(centred);
    TBG_TRY(status);
    for (int s = 0; s < n; s++) {
        tbg_remove_mean(molecule[s]->n_atoms, z);
        result[s].log_prior = tbg_prior_log_density(molecule[s]->n_atoms, z);
        result[s].log_q = result[s].log_prior - result[s].log_det;
        z += 3 * (size_t)molecule[s]->n_atoms;
    }
    return TBG_OK;
}

int tbg_flow_check_consistency(tbg_session *session, const tbg_flow_options *options, int n,
                               const tbg_conditioning *const *molecule, const double *z, const double *x,
                               const tbg_flow_result *forward, tbg_flow_consistency *out) {
    double *back = TBG_NEW(double, components(n, molecule)), *b = back;
    tbg_flow_result *result = TBG_NEW(tbg_flow_result, n);
    int status =
        back && result ? tbg_flow_density(session, options, n, molecule, x, back, result) : TBG_FAILED;
    *out = (tbg_flow_consistency){0};
    double squares = 0, log_q = 0, count = 0, compared = 0;
    for (int s = 0; s < n && !status; s++) {
        int n3 = 3 * molecule[s]->n_atoms;
        if (!forward[s].status && !result[s].status) {
            out->n++;
            for (int k = 0; k < n3; k++) {
                double e = fabs(z[k] - b[k]);
                out->largest = fmax(out->largest, e);
                squares += e * e;
            }
            count += n3;
            if (options->weights && isfinite(forward[s].log_q)) { /* wanted when it was sampled */
                double e = fabs(forward[s].log_q - result[s].log_q);
                compared++;
                out->log_q_largest = fmax(out->log_q_largest, e);
                log_q += e * e;
            }
        }
        z += n3;
        b += n3;
    }
    if (out->n) {
        out->rms = sqrt(squares / count);
        out->log_q_rms = compared ? sqrt(log_q / compared) : 0;
    }
    free(back);
    free(result);
    return status;
}
