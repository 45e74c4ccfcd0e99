/* session.c: sessions: a model on a backend. Checks what callers give once, so that backends need not. */
#include "base/memory.h"
#include "network/kernels.h"
#include "tbg/status.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct tbg_session {
    const tbg_network_kernels *kernels;
    const tbg_model *model;
    void *state;
    int max_atoms;
};

/* In order of preference. "cuda" is not the preferred one, even where there is a device, until it has been
 * measured on one. */
static const tbg_network_kernels *const backends[] = {&tbg_network_cpu, &tbg_network_reference,
                                                      &tbg_network_cuda, &tbg_network_cuda_emulation};
enum { N_BACKENDS = sizeof backends / sizeof *backends };

/* "cpu" asks for "cpu" as well as for "cpu/avx512". */
static int is_backend(const char *name, const char *wanted) {
    size_t n = strlen(wanted);
    return !strncmp(name, wanted, n) && (!name[n] || name[n] == '/');
}

int tbg_session_create(const tbg_model *model, const char *backend, int max_atoms, int threads,
                       tbg_session **out) {
    TBG_TRY(tbg_network_spec_check(&model->spec));
    if (max_atoms < 1 || max_atoms > 4096)
        return tbg_fail(TBG_INPUT, "a network session for %d atoms; 1 to 4096 are possible", max_atoms);
    if (threads < 0 || threads > 4096)
        return tbg_fail(TBG_INPUT, "%d threads; 0 (all) to 4096 are possible", threads);
    const tbg_network_kernels *kernels = NULL;
    for (int i = 0; i < N_BACKENDS && !kernels; i++)
        if (!backend || is_backend(backends[i]->name, backend))
            kernels = backends[i];
    if (!kernels)
        return tbg_fail(TBG_INPUT, "unknown network backend '%s'; known: cpu, reference, cuda", backend);
    tbg_session *s = TBG_NEW(tbg_session, 1);
    if (!s)
        return TBG_FAILED;
    s->kernels = kernels;
    s->model = model;
    s->max_atoms = max_atoms;
    int status = kernels->create(model, max_atoms, threads ? threads : omp_get_max_threads(), &s->state);
    if (!status && (status = kernels->refresh(s->state)))
        kernels->destroy(s->state);
    if (status) {
        free(s);
        return status;
    }
    *out = s;
    return TBG_OK;
}

void tbg_session_free(tbg_session *s) {
    if (!s)
        return;
    s->kernels->destroy(s->state);
    free(s);
}

int tbg_session_refresh(tbg_session *s) {
    return s->kernels->refresh(s->state);
}

const char *tbg_session_backend(const tbg_session *s) {
    return s->kernels->describe ? s->kernels->describe(s->state) : s->kernels->name;
}

const tbg_model *tbg_session_model(const tbg_session *s) {
    return s->model;
}

static int check(const tbg_session *s, int n, const tbg_conditioning *const *molecule) {
    if (n < 0)
        return tbg_fail(TBG_INPUT, "a batch of %d molecules", n);
    for (int b = 0; b < n; b++) {
        if (molecule[b]->n_atoms > s->max_atoms)
            return tbg_fail(TBG_INPUT,
                            "molecule %d of the batch has %d atoms; the session was made for at most %d", b,
                            molecule[b]->n_atoms, s->max_atoms);
        if (molecule[b]->n_features != s->model->spec.n_features)
            return tbg_fail(TBG_INPUT, "molecule %d of the batch has %d node features; the network takes %d",
                            b, molecule[b]->n_features, s->model->spec.n_features);
    }
    return TBG_OK;
}

int tbg_network_velocity(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                         const double *x, double *v) {
    TBG_TRY(check(s, n, molecule));
    return n ? s->kernels->velocity(s->state, n, molecule, t, x, v) : TBG_OK;
}

int tbg_network_divergence(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                           const double *x, double *v, double *divergence) {
    TBG_TRY(check(s, n, molecule));
    return n ? s->kernels->divergence(s->state, n, molecule, t, x, v, divergence) : TBG_OK;
}

int tbg_network_tangent(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                        const double *x, const double *x_dot, double *v, double *v_dot) {
    TBG_TRY(check(s, n, molecule));
    return n ? s->kernels->tangent(s->state, n, molecule, t, x, x_dot, v, v_dot) : TBG_OK;
}

int tbg_network_loss(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                     const double *x, const double *target, const double *weight, double *loss,
                     float *gradient) {
    TBG_TRY(check(s, n, molecule));
    if (!n && gradient)
        memset(gradient, 0, s->model->n_parameters * sizeof *gradient);
    return n ? s->kernels->loss(s->state, n, molecule, t, x, target, weight, loss, gradient) : TBG_OK;
}

int tbg_network_vjp(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *dv, double *dx, double *gradient) {
    TBG_TRY(check(s, n, molecule));
    if (!n && gradient)
        memset(gradient, 0, s->model->n_parameters * sizeof *gradient);
    return n ? s->kernels->vjp(s->state, n, molecule, t, x, dv, dx, gradient) : TBG_OK;
}
