/* session.c: sessions: a model on a backend. Checks what callers give once, so that backends need not, and adds the
 * chirality term, which no backend knows, to whatever they compute. */
#include "base/memory.h"
#include "network/chirality.h"
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
    int chiral; /* the model has the chirality term, which is computed here */
    tbg_chirality chirality;
    size_t *first;     /* [first_room] */
    double *scratch;   /* [scratch_room] */
    double *gradient;  /* [n_parameters], with the term only */
    int first_room;
    size_t scratch_room;
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
    s->chiral = tbg_chirality_of(model, &s->chirality);
    if (s->chiral && !(s->gradient = TBG_NEW(double, model->n_parameters))) {
        free(s);
        return TBG_FAILED;
    }
    int status = kernels->create(model, max_atoms, threads ? threads : omp_get_max_threads(), &s->state);
    if (!status && (status = kernels->refresh(s->state)))
        kernels->destroy(s->state);
    if (status) {
        free(s->gradient);
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
    free(s->first);
    free(s->scratch);
    free(s->gradient);
    free(s);
}

int tbg_session_refresh(tbg_session *s) {
    s->chiral = tbg_chirality_of(s->model, &s->chirality); /* where the values lie now */
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

/* ---- the network of the backend, and the chirality term on top of it ---- */

/* Offsets of the configurations, [n + 1], in the session's scratch. */
static int offsets(tbg_session *s, int n, const tbg_conditioning *const *molecule) {
    if (n + 1 > s->first_room) {
        size_t *first = tbg_realloc(s->first, (size_t)n + 1, sizeof *first);
        if (!first)
            return TBG_FAILED;
        s->first = first;
        s->first_room = n + 1;
    }
    s->first[0] = 0;
    for (int b = 0; b < n; b++)
        s->first[b + 1] = s->first[b] + (size_t)molecule[b]->n_atoms;
    return TBG_OK;
}

/* Room for two arrays like the positions of a batch. */
static int scratch(tbg_session *s, size_t n_atoms) {
    if (6 * n_atoms > s->scratch_room) {
        double *more = tbg_realloc(s->scratch, 6 * n_atoms, sizeof *more);
        if (!more)
            return TBG_FAILED;
        s->scratch = more;
        s->scratch_room = 6 * n_atoms;
    }
    return TBG_OK;
}

static void add_velocities(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                           const double *x, double *v) {
    for (int b = 0; b < n; b++)
        tbg_chirality_velocity(&s->chirality, molecule[b], t[b], x + 3 * s->first[b], v + 3 * s->first[b]);
}

int tbg_network_velocity(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                         const double *x, double *v) {
    TBG_TRY(check(s, n, molecule));
    if (!n)
        return TBG_OK;
    TBG_TRY(s->kernels->velocity(s->state, n, molecule, t, x, v));
    if (s->chiral) {
        TBG_TRY(offsets(s, n, molecule));
        add_velocities(s, n, molecule, t, x, v);
    }
    return TBG_OK;
}

int tbg_network_divergence(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                           const double *x, double *v, double *divergence) {
    TBG_TRY(check(s, n, molecule));
    if (!n)
        return TBG_OK;
    TBG_TRY(s->kernels->divergence(s->state, n, molecule, t, x, v, divergence));
    if (s->chiral) {
        TBG_TRY(offsets(s, n, molecule));
        if (v)
            add_velocities(s, n, molecule, t, x, v);
        for (int b = 0; b < n; b++)
            divergence[b] += tbg_chirality_divergence(&s->chirality, molecule[b], t[b], x + 3 * s->first[b]);
    }
    return TBG_OK;
}

int tbg_network_tangent(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                        const double *x, const double *x_dot, double *v, double *v_dot) {
    TBG_TRY(check(s, n, molecule));
    if (!n)
        return TBG_OK;
    TBG_TRY(s->kernels->tangent(s->state, n, molecule, t, x, x_dot, v, v_dot));
    if (s->chiral) {
        TBG_TRY(offsets(s, n, molecule));
        if (v)
            add_velocities(s, n, molecule, t, x, v);
        for (int b = 0; b < n; b++) {
            size_t at = 3 * s->first[b];
            tbg_chirality_tangent(&s->chirality, molecule[b], t[b], x + at, x_dot + at, v_dot + at);
        }
    }
    return TBG_OK;
}

/* The term's velocity moves to the other side: |v + c - target| = |v - (target - c)|. Its own gradient needs the
 * difference, that is, the backend's velocity. */
static int chiral_loss(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                       const double *x, const double *target, const double *weight, double *loss,
                       float *gradient) {
    TBG_TRY(offsets(s, n, molecule));
    size_t n_atoms = s->first[n];
    TBG_TRY(scratch(s, n_atoms));
    double *rest = s->scratch, *v = s->scratch + 3 * n_atoms;
    memset(rest, 0, 3 * n_atoms * sizeof *rest);
    add_velocities(s, n, molecule, t, x, rest);
    for (size_t k = 0; k < 3 * n_atoms; k++)
        rest[k] = target[k] - rest[k];
    TBG_TRY(s->kernels->loss(s->state, n, molecule, t, x, rest, weight, v, loss, gradient));
    if (!gradient)
        return TBG_OK;
    if (s->kernels->loss_ignores_v)
        TBG_TRY(s->kernels->velocity(s->state, n, molecule, t, x, v));
    memset(s->gradient, 0, s->model->n_parameters * sizeof *s->gradient);
    for (int b = 0; b < n; b++) {
        double factor = 2 * weight[b] / (3.0 * molecule[b]->n_atoms);
        for (size_t k = 3 * s->first[b]; k < 3 * s->first[b + 1]; k++)
            v[k] = factor * (v[k] - rest[k]);
        tbg_chirality_reverse(&s->chirality, molecule[b], t[b], x + 3 * s->first[b], v + 3 * s->first[b], NULL,
                              s->gradient);
    }
    /* The backend knows nothing of the last tensors of the table. */
    for (size_t k = s->chirality.at_w; k < s->model->n_parameters; k++)
        gradient[k] = (float)s->gradient[k];
    return TBG_OK;
}

int tbg_network_loss(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                     const double *x, const double *target, const double *weight, double *loss,
                     float *gradient) {
    TBG_TRY(check(s, n, molecule));
    if (!n && gradient)
        memset(gradient, 0, s->model->n_parameters * sizeof *gradient);
    if (n && s->chiral)
        return chiral_loss(s, n, molecule, t, x, target, weight, loss, gradient);
    return n ? s->kernels->loss(s->state, n, molecule, t, x, target, weight, NULL, loss, gradient) : TBG_OK;
}

int tbg_network_vjp(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *dv, double *dx, double *gradient) {
    TBG_TRY(check(s, n, molecule));
    if (!n && gradient)
        memset(gradient, 0, s->model->n_parameters * sizeof *gradient);
    if (!n)
        return TBG_OK;
    TBG_TRY(s->kernels->vjp(s->state, n, molecule, t, x, dv, dx, gradient));
    if (s->chiral) {
        TBG_TRY(offsets(s, n, molecule));
        for (size_t k = s->chirality.at_w; gradient && k < s->model->n_parameters; k++)
            gradient[k] = 0;
        for (int b = 0; b < n; b++) {
            size_t at = 3 * s->first[b];
            tbg_chirality_reverse(&s->chirality, molecule[b], t[b], x + at, dv + at, dx ? dx + at : NULL,
                                  gradient);
        }
    }
    return TBG_OK;
}
