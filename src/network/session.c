/* session.c: sessions: a model on a backend. Checks what callers give once, so that backends need not, and
 * gives molecules with virtual sites to the backend as molecules of more atoms:
 *
 *   v = P u(x, s(x)),   dv = P (u_x + u_s ds/dx) dx,
 *
 * u the backend's velocity of the atoms, s the sites, P the projection on mean 0. */
#include "base/memory.h"
#include "network/kernels.h"
#include "network/sites.h"
#include "tbg/status.h"

#include <limits.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct tbg_session {
    const tbg_network_kernels *kernels;
    const tbg_model *model;
    void *state;
    int max_atoms;
    double *room; /* of the extended batch */
    size_t room_size;
    const tbg_conditioning **list;
    size_t list_size;
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
    int most =
        max_atoms + (model->spec.virtual_sites ? max_atoms / 4 + 2 : 0); /* at most two sites a residue */
    int status = kernels->create(model, most, threads ? threads : omp_get_max_threads(), &s->state);
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
    free(s->room);
    free(s->list);
    free(s);
}

int tbg_session_refresh(tbg_session *s) {
    return s->kernels->refresh(s->state);
}

const char *tbg_session_backend(const tbg_session *s) {
    return s->kernels->describe ? s->kernels->describe(s->state) : s->kernels->name;
}

int tbg_session_batch(const tbg_session *s) {
    return s->kernels->batch ? s->kernels->batch : 64;
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

/* ---- molecules with virtual sites ---- */

/* The batch as the backend sees it. */
typedef struct {
    const tbg_conditioning **molecule; /* [n] */
    size_t size;                       /* coordinates of atoms and sites */
    double *x, *a, *b;                 /* [size] */
} extended;

static const tbg_conditioning *whole(const tbg_conditioning *c) {
    return c->extended ? c->extended : c;
}

static size_t width(const tbg_conditioning *c) {
    return 3 * (size_t)whole(c)->n_atoms;
}

/* Whether any molecule has sites; if so the batch with room for two more arrays and `further` numbers behind
 * them, and its positions. */
static int extend(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *x,
                  size_t further, extended *e) {
    *e = (extended){0};
    int any = 0;
    for (int b = 0; b < n; b++) {
        any |= molecule[b]->n_sites > 0;
        e->size += width(molecule[b]);
    }
    if (!any) {
        e->size = 0;
        return TBG_OK;
    }
    size_t wanted = 3 * e->size + further;
    if (s->room_size < wanted) {
        free(s->room);
        s->room_size = 0;
        if (!(s->room = TBG_NEW(double, wanted)))
            return TBG_FAILED;
        s->room_size = wanted;
    }
    if (s->list_size < (size_t)n) {
        free(s->list);
        s->list_size = 0;
        if (!(s->list = TBG_NEW(const tbg_conditioning *, (size_t)n)))
            return TBG_FAILED;
        s->list_size = (size_t)n;
    }
    e->molecule = s->list;
    e->x = s->room;
    e->a = e->x + e->size;
    e->b = e->a + e->size;
    double *all = e->x;
    for (int b = 0; b < n; b++) {
        e->molecule[b] = whole(molecule[b]);
        tbg_sites_place(molecule[b], x, all);
        x += 3 * (size_t)molecule[b]->n_atoms;
        all += width(molecule[b]);
    }
    return TBG_OK;
}

/* out = P (first rows of all). */
static void project(int n_atoms, const double *all, double *out) {
    for (int a = 0; a < 3; a++) {
        double mean = 0;
        for (int i = 0; i < n_atoms; i++)
            mean += all[3 * i + a] / n_atoms;
        for (int i = 0; i < n_atoms; i++)
            out[3 * i + a] = all[3 * i + a] - mean;
    }
}

static void project_batch(int n, const tbg_conditioning *const *molecule, const double *all, double *out) {
    for (int b = 0; b < n; b++) {
        project(molecule[b]->n_atoms, all, out);
        out += 3 * (size_t)molecule[b]->n_atoms;
        all += width(molecule[b]);
    }
}

typedef int velocity_of(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                        const double *x, double *v);

static int velocity_by(velocity_of *kernel, tbg_session *s, int n, const tbg_conditioning *const *molecule,
                       const double *t, const double *x, double *v) {
    extended e;
    TBG_TRY(check(s, n, molecule));
    TBG_TRY(extend(s, n, molecule, x, 0, &e));
    if (!e.size)
        return n ? kernel(s->state, n, molecule, t, x, v) : TBG_OK;
    TBG_TRY(kernel(s->state, n, e.molecule, t, e.x, e.a));
    project_batch(n, molecule, e.a, v);
    return TBG_OK;
}

int tbg_network_velocity(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                         const double *x, double *v) {
    return velocity_by(s->kernels->velocity, s, n, molecule, t, x, v);
}

int tbg_network_drift(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v) {
    return velocity_by(s->kernels->drift ? s->kernels->drift : s->kernels->velocity, s, n, molecule, t, x, v);
}

/* tr(P (u_x + u_s ds/dx)) from the trace over atoms and sites and the columns of the sites' directions d
 * (component a of site g), c_d = du/ds_d: the sites' own diagonal goes; moving everything moves nothing, so
 * that the columns of the atoms sum to minus those of the sites, which gives the projection's part; and
 * ds_d/dx meets P c_d. */
static int add_sites(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                     const double *x, const double *all, double *divergence) {
    size_t size = 0, count = 0, most = 0;
    for (int b = 0; b < n; b++) {
        size += 3 * (size_t)molecule[b]->n_sites * width(molecule[b]);
        count += 3 * (size_t)molecule[b]->n_sites;
        most = width(molecule[b]) > most ? width(molecule[b]) : most;
    }
    if (count > INT_MAX)
        return tbg_fail(TBG_INPUT, "a batch of too many virtual sites");
    double *at = TBG_NEW(double, 3 * size + count + 2 * most), *dot = at + size, *column = dot + size,
           *time = column + size, *moved = time + count, *site_dot = moved + most;
    const tbg_conditioning **list = TBG_NEW(const tbg_conditioning *, count);
    int status = at && list ? TBG_OK : TBG_FAILED;
    const double *from = all;
    double *a = at, *d = dot;
    for (int b = 0, k = 0; b < n && !status; b++) {
        size_t w = width(molecule[b]);
        for (int q = 0; q < 3 * molecule[b]->n_sites; q++, k++) {
            list[k] = whole(molecule[b]);
            time[k] = t[b];
            memcpy(a, from, w * sizeof *a);
            d[3 * (size_t)molecule[b]->n_atoms + (size_t)q] = 1; /* memory comes zeroed */
            a += w;
            d += w;
        }
        from += w;
    }
    if (!status)
        status = s->kernels->tangent(s->state, (int)count, list, time, at, dot, NULL, column);
    const double *c = column;
    for (int b = 0; b < n && !status; b++) {
        int atoms = molecule[b]->n_atoms;
        for (int q = 0; q < 3 * molecule[b]->n_sites; q++) {
            double sum = 0;
            for (int i = 0; i < atoms; i++)
                sum += c[3 * i + q % 3];
            project(atoms, c, moved);
            tbg_sites_tangent(molecule[b], x, moved, site_dot);
            divergence[b] += site_dot[3 * atoms + q] + sum / atoms - c[3 * atoms + q];
            c += width(molecule[b]);
        }
        x += 3 * (size_t)atoms;
    }
    free(at);
    free(list);
    return status;
}

int tbg_network_divergence(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                           const double *x, double *v, double *divergence) {
    extended e;
    TBG_TRY(check(s, n, molecule));
    TBG_TRY(extend(s, n, molecule, x, 0, &e));
    if (!e.size)
        return n ? s->kernels->divergence(s->state, n, molecule, t, x, v, divergence) : TBG_OK;
    TBG_TRY(s->kernels->divergence(s->state, n, e.molecule, t, e.x, v ? e.a : NULL, divergence));
    if (v)
        project_batch(n, molecule, e.a, v);
    return add_sites(s, n, molecule, t, x, e.x, divergence);
}

int tbg_network_tangent(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                        const double *x, const double *x_dot, double *v, double *v_dot) {
    extended e;
    TBG_TRY(check(s, n, molecule));
    size_t size = 0;
    for (int b = 0; b < n; b++)
        size += width(molecule[b]);
    TBG_TRY(extend(s, n, molecule, x, size, &e));
    if (!e.size)
        return n ? s->kernels->tangent(s->state, n, molecule, t, x, x_dot, v, v_dot) : TBG_OK;
    double *dot = e.b, *out = e.b + e.size;
    for (int b = 0; b < n; b++) {
        tbg_sites_tangent(molecule[b], x, x_dot, dot);
        x += 3 * (size_t)molecule[b]->n_atoms;
        x_dot += 3 * (size_t)molecule[b]->n_atoms;
        dot += width(molecule[b]);
    }
    TBG_TRY(s->kernels->tangent(s->state, n, e.molecule, t, e.x, e.b, v ? e.a : NULL, out));
    if (v)
        project_batch(n, molecule, e.a, v);
    project_batch(n, molecule, out, v_dot);
    return TBG_OK;
}

/* Losses with the gradient (NULL: without), or, where squares are asked for, with the gradient on the device.
 */
static int find_loss(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                     const double *x, const double *target, const double *weight, double *loss,
                     float *gradient, double *squares) {
    return squares ? s->kernels->update->gradient(s->state, n, molecule, t, x, target, weight, loss, squares)
                   : s->kernels->loss(s->state, n, molecule, t, x, target, weight, loss, gradient);
}

static int loss_of_all(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                       const double *x, const double *target, const double *weight, double *loss,
                       float *gradient, double *squares) {
    extended e;
    TBG_TRY(check(s, n, molecule));
    if (!n && gradient)
        memset(gradient, 0, s->model->n_parameters * sizeof *gradient);
    TBG_TRY(extend(s, n, molecule, x, 0, &e));
    if (!e.size)
        return n ? find_loss(s, n, molecule, t, x, target, weight, loss, gradient, squares) : TBG_OK;
    double *all = e.a;
    for (int b = 0; b < n; b++) {
        size_t atoms = 3 * (size_t)molecule[b]->n_atoms;
        memcpy(all, target, atoms * sizeof *all);
        memset(all + atoms, 0, (width(molecule[b]) - atoms) * sizeof *all);
        target += atoms;
        all += width(molecule[b]);
    }
    return find_loss(s, n, e.molecule, t, e.x, e.a, weight, loss, gradient, squares);
}

int tbg_network_loss(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                     const double *x, const double *target, const double *weight, double *loss,
                     float *gradient) {
    return loss_of_all(s, n, molecule, t, x, target, weight, loss, gradient, NULL);
}

/* ---- steps on the device ---- */

int tbg_session_steps(const tbg_session *s) {
    return s->kernels->update != NULL;
}

int tbg_session_gradient(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                         const double *x, const double *target, const double *weight, double *loss,
                         double *squares) {
    if (n < 1)
        return tbg_fail(TBG_INPUT, "the gradient of %d molecules", n);
    return loss_of_all(s, n, molecule, t, x, target, weight, loss, NULL, squares);
}

int tbg_session_fetch_gradient(tbg_session *s, float *gradient) {
    return s->kernels->update->fetch_gradient(s->state, gradient);
}

int tbg_session_place(tbg_session *s, const tbg_optimizer_arrays *arrays) {
    return s->kernels->update->place(s->state, arrays);
}

int tbg_session_step(tbg_session *s, const tbg_adam_constants *constants, int refine) {
    return s->kernels->update->step(s->state, constants, refine);
}

int tbg_session_fetch(tbg_session *s, float *weights, const tbg_optimizer_arrays *arrays) {
    return s->kernels->update->fetch(s->state, weights, arrays);
}

int tbg_network_vjp(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *dv, double *dx, double *gradient) {
    extended e;
    TBG_TRY(check(s, n, molecule));
    if (!n && gradient)
        memset(gradient, 0, s->model->n_parameters * sizeof *gradient);
    TBG_TRY(extend(s, n, molecule, x, 0, &e));
    if (!e.size)
        return n ? s->kernels->vjp(s->state, n, molecule, t, x, dv, dx, gradient) : TBG_OK;
    double *all = e.a;
    for (int b = 0; b < n; b++) {
        size_t atoms = 3 * (size_t)molecule[b]->n_atoms;
        project(molecule[b]->n_atoms, dv, all);
        memset(all + atoms, 0, (width(molecule[b]) - atoms) * sizeof *all);
        dv += atoms;
        all += width(molecule[b]);
    }
    TBG_TRY(s->kernels->vjp(s->state, n, e.molecule, t, e.x, e.a, dx ? e.b : NULL, gradient));
    const double *from = e.b;
    for (int b = 0; b < n && dx; b++) {
        tbg_sites_transposed(molecule[b], x, from, dx);
        x += 3 * (size_t)molecule[b]->n_atoms;
        dx += 3 * (size_t)molecule[b]->n_atoms;
        from += width(molecule[b]);
    }
    return TBG_OK;
}
