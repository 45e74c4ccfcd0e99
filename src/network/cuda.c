/* cuda.c: the CUDA backend in plain C: flattens batches, keeps device memory between calls, and runs jobs on
 * a device of cuda.h: hardware, or the emulation that tests use where there is none.
 *
 * Positions are taken relative to the mean of their configuration, so that single precision loses no digits
 * far from the origin. TBG_CUDA_PLAIN=1 keeps tensor cores out. */
#include "base/memory.h"
#include "network/cuda_state.h"
#include "network/cuda_update.h"
#include "network/layer_tensors.h"
#include "network/kernels.h"
#include "tbg/schedule.h"
#include "tbg/status.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t most_room_bytes = (size_t)8 << 30;

static void destroy(void *state) {
    tbg_cuda_state *s = state;
    if (!s)
        return;
    for (int k = 0; k < TBG_CUDA_BUFFERS; k++) {
        free(s->buffer[k].host);
        if (s->buffer[k].device)
            s->device->release(s->handle, s->buffer[k].device);
    }
    free(s->known);
    free(s->known_at);
    s->device->close(s->handle);
    free(s);
}

/* Room for `bytes` on the host, on the device, or both; more than asked for, so that ragged batches settle.
 */
int tbg_cuda_ensure(tbg_cuda_state *s, int k, size_t bytes, int host, int device) {
    bytes = bytes ? bytes : 1;
    if (host && s->buffer[k].host_size < bytes) {
        free(s->buffer[k].host);
        s->buffer[k].host_size = 0;
        if (!(s->buffer[k].host = tbg_alloc(1, bytes + bytes / 4)))
            return TBG_FAILED;
        s->buffer[k].host_size = bytes + bytes / 4;
    }
    if (device && s->buffer[k].device_size < bytes) {
        size_t size = k == TBG_CUDA_AT_ROOMS ? bytes : bytes + bytes / 4;
        if (s->buffer[k].device)
            s->device->release(s->handle, s->buffer[k].device);
        s->buffer[k].device = NULL;
        s->buffer[k].device_size = 0;
        TBG_TRY(s->device->allocate(s->handle, size, &s->buffer[k].device));
        s->buffer[k].device_size = size;
    }
    return TBG_OK;
}

int tbg_cuda_send(tbg_cuda_state *s, int k, const void *from, size_t bytes) {
    TBG_TRY(tbg_cuda_ensure(s, k, bytes, 0, 1));
    return s->device->upload(s->handle, s->buffer[k].device, from, bytes);
}

static int create_on(const tbg_cuda_device *device, const tbg_model *model, void **state) {
    const tbg_network_spec *spec = &model->spec;
    const int plain = getenv("TBG_CUDA_PLAIN") && strcmp(getenv("TBG_CUDA_PLAIN"), "0");
    if (spec->layers > TBG_CUDA_MOST_LAYERS || model->n_parameters > INT_MAX / 4)
        return tbg_fail(TBG_INPUT, "the CUDA backend takes up to %d layers; the model has %d",
                        TBG_CUDA_MOST_LAYERS, spec->layers);
    tbg_cuda_state *s = TBG_NEW(tbg_cuda_state, 1);
    if (!s)
        return TBG_FAILED;
    char name[96];
    s->device = device;
    s->model = model;
    int status = device->open(&s->handle, name, sizeof name);
    if (status) {
        free(s);
        return status;
    }
    tbg_cuda_job *J = &s->base;
    J->H = spec->hidden;
    J->L = spec->layers;
    J->nf = spec->n_features;
    J->F = spec->n_features + tbg_network_time_features(spec);
    J->K = tbg_edge_feature_count(spec);
    J->bits = spec->edge_features;
    J->harmonic = spec->harmonic_term;
    J->time_u = spec->time_u;
    J->tanh = spec->tanh;
    J->attention = spec->attention;
    J->range = (float)(spec->coords_range / spec->layers);
    J->n_parameters = (int)model->n_parameters;
    J->embedding_w = (int)tbg_layer_tensor(model, -1, "embedding.weight");
    J->embedding_b = (int)tbg_layer_tensor(model, -1, "embedding.bias");
    J->parts = !plain && (J->H == 64 || J->H == 128);
    for (int l = 0; l < J->L; l++)
        J->layer[l] = (tbg_cuda_layer){
#define TBG_FIELD(field, name) .field = (int)tbg_layer_tensor(model, l, name),
            TBG_LAYER_TENSORS(TBG_FIELD)
#undef TBG_FIELD
        };
    snprintf(s->text, sizeof s->text, "%s/%s (%s)", device->name, J->parts ? "tensor" : "plain", name);
    *state = s;
    return TBG_OK;
}

static int create_emulation(const tbg_model *model, int max_atoms, int threads, void **state) {
    (void)max_atoms;
    (void)threads;
    return create_on(&tbg_cuda_emulation, model, state);
}

static int create_hardware(const tbg_model *model, int max_atoms, int threads, void **state) {
    (void)max_atoms;
    (void)threads;
#ifdef TBG_HAVE_CUDA
    return create_on(&tbg_cuda_hardware, model, state);
#else
    (void)model;
    (void)state;
    return tbg_fail(TBG_FAILED, "this build has no CUDA backend; use 'cpu' or 'reference'");
#endif
}

#ifndef TBG_HAVE_CUDA
int tbg_cuda_present(void) {
    return 0;
}
#endif

static const char *describe(const void *state) {
    return ((const tbg_cuda_state *)state)->text;
}

static int refresh(void *state) {
    tbg_cuda_state *s = state;
    const tbg_model *m = s->model;
    const size_t np = m->n_parameters;
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_WT, np * sizeof(float), 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_HALF, np * sizeof(unsigned short), 1, 1));
    float *wt = s->buffer[TBG_CUDA_AT_WT].host;
    unsigned short *half = s->buffer[TBG_CUDA_AT_HALF].host;
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        const size_t rows = (size_t)p->rows, columns = (size_t)p->columns;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++)
                wt[p->offset + c * rows + r] = m->values[p->offset + r * columns + c];
    }
    for (size_t i = 0; i < np; i++)
        half[i] = update_half(m->values[i]);
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_W, m->values, np * sizeof(float)));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_WT, wt, np * sizeof(float)));
    return tbg_cuda_send(s, TBG_CUDA_AT_HALF, half, np * sizeof *half);
}

/* Where molecule m of the call begins among features and pairs; a new one is entered. */
static int enter(tbg_cuda_state *s, const tbg_conditioning *m, int *n_known, size_t *features, size_t *pairs,
                 int *at) {
    for (int k = *n_known - 1; k >= 0; k--)
        if (s->known[k] == m) {
            at[0] = s->known_at[2 * k];
            at[1] = s->known_at[2 * k + 1];
            return TBG_OK;
        }
    const size_t n = (size_t)m->n_atoms;
    if (*features + n * (size_t)m->n_features > INT_MAX || *pairs + n * n > INT_MAX)
        return tbg_fail(TBG_INPUT, "the molecules of a batch are too large for the CUDA backend");
    at[0] = s->known_at[2 * *n_known] = (int)*features;
    at[1] = s->known_at[2 * *n_known + 1] = (int)*pairs;
    s->known[(*n_known)++] = m;
    *features += n * (size_t)m->n_features;
    *pairs += n * n;
    return TBG_OK;
}

/* Everything of the batch but outputs. parts: of factors, where the backend and the device can. */
static int prepare(tbg_cuda_state *s, int kind, int parts, int n, const tbg_conditioning *const *molecule,
                   const double *t, const double *x, tbg_cuda_job *J) {
    const size_t count = (size_t)n;
    if (s->known_room < n) {
        free(s->known);
        free(s->known_at);
        s->known_room = 0;
        s->known = TBG_NEW(const tbg_conditioning *, count);
        s->known_at = TBG_NEW(int, 2 * count);
        if (!s->known || !s->known_at)
            return TBG_FAILED;
        s->known_room = n;
    }
    *J = s->base;
    J->kind = kind;
    J->n = n;
    J->parts = s->base.parts ? parts : 0;
    if (tbg_cuda_shared_size(J) > s->device->shared(s->handle))
        J->parts = 0;
    static const int of_int[] = {TBG_CUDA_AT_ATOMS, TBG_CUDA_AT_HEARD, TBG_CUDA_AT_FIRST,
                                 TBG_CUDA_AT_FEATURE_AT, TBG_CUDA_AT_PAIR_AT};
    for (int k = 0; k < 5; k++)
        TBG_TRY(tbg_cuda_ensure(s, of_int[k], count * sizeof(int), 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_U, count * sizeof(double), 1, 1));
    int *atoms = s->buffer[TBG_CUDA_AT_ATOMS].host, *heard = s->buffer[TBG_CUDA_AT_HEARD].host,
        *first = s->buffer[TBG_CUDA_AT_FIRST].host, *feature_at = s->buffer[TBG_CUDA_AT_FEATURE_AT].host,
        *pair_at = s->buffer[TBG_CUDA_AT_PAIR_AT].host, n_known = 0;
    double *u = s->buffer[TBG_CUDA_AT_U].host;
    size_t all = 0, features = 0, pairs = 0;
    for (int b = 0; b < n; b++) {
        int at[2] = {0};
        TBG_TRY(enter(s, molecule[b], &n_known, &features, &pairs, at));
        feature_at[b] = at[0];
        pair_at[b] = at[1];
        atoms[b] = molecule[b]->n_atoms;
        heard[b] = atoms[b] - molecule[b]->n_silent;
        first[b] = (int)all;
        all += (size_t)atoms[b];
        if (all > INT_MAX / 4)
            return tbg_fail(TBG_INPUT, "a batch of too many atoms for the CUDA backend");
        if (atoms[b] > J->most_atoms)
            J->most_atoms = atoms[b];
        u[b] = J->time_u ? tbg_u_of_time(s->model->spec.graded_d, t[b]) : 0;
    }
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_FEATURES, features * sizeof(float), 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_BOND, pairs, 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_MEAN, pairs * sizeof(double), 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_WIDTH, pairs * sizeof(double), 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_X, 3 * all * sizeof(double), 1, 1));
    float *f = s->buffer[TBG_CUDA_AT_FEATURES].host;
    double *centred = s->buffer[TBG_CUDA_AT_X].host;
    for (int k = 0; k < n_known; k++) {
        const tbg_conditioning *m = s->known[k];
        const size_t nn = (size_t)m->n_atoms * (size_t)m->n_atoms, at = (size_t)s->known_at[2 * k + 1];
        for (size_t i = 0; i < (size_t)m->n_atoms * (size_t)m->n_features; i++)
            f[(size_t)s->known_at[2 * k] + i] = (float)m->node_features[i];
        memcpy((unsigned char *)s->buffer[TBG_CUDA_AT_BOND].host + at, m->bond_class, nn);
        memcpy((double *)s->buffer[TBG_CUDA_AT_MEAN].host + at, m->pair_mean, nn * sizeof(double));
        memcpy((double *)s->buffer[TBG_CUDA_AT_WIDTH].host + at, m->pair_width, nn * sizeof(double));
    }
    for (int b = 0; b < n; b++)
        for (int a = 0; a < 3; a++) {
            const double *from = x + 3 * (size_t)first[b] + a;
            double mean = 0, *to = centred + 3 * (size_t)first[b] + a;
            for (int i = 0; i < atoms[b]; i++)
                mean += from[3 * i] / atoms[b];
            for (int i = 0; i < atoms[b]; i++)
                to[3 * i] = from[3 * i] - mean;
        }
    const struct {
        int k;
        size_t bytes;
    } list[] = {{TBG_CUDA_AT_ATOMS, count * sizeof(int)},
                {TBG_CUDA_AT_FIRST, count * sizeof(int)},
                {TBG_CUDA_AT_HEARD, count * sizeof(int)},
                {TBG_CUDA_AT_FEATURE_AT, count * sizeof(int)},
                {TBG_CUDA_AT_PAIR_AT, count * sizeof(int)},
                {TBG_CUDA_AT_FEATURES, features * sizeof(float)},
                {TBG_CUDA_AT_BOND, pairs},
                {TBG_CUDA_AT_MEAN, pairs * sizeof(double)},
                {TBG_CUDA_AT_WIDTH, pairs * sizeof(double)},
                {TBG_CUDA_AT_U, count * sizeof(double)},
                {TBG_CUDA_AT_X, 3 * all * sizeof(double)}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        TBG_TRY(tbg_cuda_send(s, list[k].k, s->buffer[list[k].k].host, list[k].bytes));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_TIME, t, count * sizeof(double)));
    J->most_directions = kind == TBG_CUDA_DIVERGENCE ? TBG_CUDA_BLOCK : kind == TBG_CUDA_VELOCITY ? 0 : 1;
    J->room_bytes = tbg_cuda_room_size(J);
    const long tasks = kind == TBG_CUDA_DIVERGENCE
                           ? (long)n * ((3 * J->most_atoms + TBG_CUDA_BLOCK - 1) / TBG_CUDA_BLOCK)
                           : n;
    const int blocks = s->device->blocks(s->handle, J);
    J->n_blocks = tasks < blocks ? (int)tasks : blocks;
    while (J->n_blocks > 1 && J->room_bytes > most_room_bytes / (size_t)J->n_blocks)
        J->n_blocks = (J->n_blocks + 1) / 2;
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_ROOMS, J->room_bytes * (size_t)J->n_blocks, 0, 1));
    J->w = s->buffer[TBG_CUDA_AT_W].device;
    J->wt = s->buffer[TBG_CUDA_AT_WT].device;
    J->half = s->buffer[TBG_CUDA_AT_HALF].device;
    J->atoms = s->buffer[TBG_CUDA_AT_ATOMS].device;
    J->heard = s->buffer[TBG_CUDA_AT_HEARD].device;
    J->first = s->buffer[TBG_CUDA_AT_FIRST].device;
    J->feature_at = s->buffer[TBG_CUDA_AT_FEATURE_AT].device;
    J->pair_at = s->buffer[TBG_CUDA_AT_PAIR_AT].device;
    J->features = s->buffer[TBG_CUDA_AT_FEATURES].device;
    J->bond = s->buffer[TBG_CUDA_AT_BOND].device;
    J->pair_mean = s->buffer[TBG_CUDA_AT_MEAN].device;
    J->pair_width = s->buffer[TBG_CUDA_AT_WIDTH].device;
    J->t = s->buffer[TBG_CUDA_AT_TIME].device;
    J->u = s->buffer[TBG_CUDA_AT_U].device;
    J->x = s->buffer[TBG_CUDA_AT_X].device;
    J->rooms = s->buffer[TBG_CUDA_AT_ROOMS].device;
    return TBG_OK;
}

static size_t all_atoms(int n, const tbg_conditioning *const *molecule) {
    size_t all = 0;
    for (int b = 0; b < n; b++)
        all += (size_t)molecule[b]->n_atoms;
    return all;
}

/* Device memory of an output. */
int tbg_cuda_output(tbg_cuda_state *s, int k, size_t count, double **memory) {
    TBG_TRY(tbg_cuda_ensure(s, k, count * sizeof(double), 0, 1));
    *memory = s->buffer[k].device;
    return TBG_OK;
}

int tbg_cuda_receive(tbg_cuda_state *s, int k, size_t count, double *to) {
    return to ? s->device->download(s->handle, to, s->buffer[k].device, count * sizeof(double)) : TBG_OK;
}

static int velocity_of(tbg_cuda_state *s, int parts, int n, const tbg_conditioning *const *molecule,
                       const double *t, const double *x, double *v) {
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_VELOCITY, parts, n, molecule, t, x, &J));
    TBG_TRY(tbg_cuda_output(s, TBG_CUDA_AT_V, n3, &J.v));
    TBG_TRY(s->device->run(s->handle, &J));
    return tbg_cuda_receive(s, TBG_CUDA_AT_V, n3, v);
}

/* Two parts: solvers and likelihoods rest on velocities. */
static int velocity(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, double *v) {
    return velocity_of(state, 2, n, molecule, t, x, v);
}

static int drift(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                 const double *x, double *v) {
    return velocity_of(state, 1, n, molecule, t, x, v);
}

static int tangent(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                   const double *x, const double *x_dot, double *v, double *v_dot) {
    tbg_cuda_state *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_TANGENT, 2, n, molecule, t, x, &J));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_X_DOT, x_dot, n3 * sizeof(double)));
    J.x_dot = s->buffer[TBG_CUDA_AT_X_DOT].device;
    TBG_TRY(tbg_cuda_output(s, TBG_CUDA_AT_V, n3, &J.v));
    TBG_TRY(tbg_cuda_output(s, TBG_CUDA_AT_V_DOT, n3, &J.v_dot));
    TBG_TRY(s->device->run(s->handle, &J));
    TBG_TRY(tbg_cuda_receive(s, TBG_CUDA_AT_V, n3, v));
    return tbg_cuda_receive(s, TBG_CUDA_AT_V_DOT, n3, v_dot);
}

static int divergence(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v, double *answer) {
    tbg_cuda_state *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_DIVERGENCE, 2, n, molecule, t, x, &J));
    TBG_TRY(tbg_cuda_output(s, TBG_CUDA_AT_V, n3, &J.v));
    TBG_TRY(tbg_cuda_output(s, TBG_CUDA_AT_DIAGONAL, n3, &J.diagonal));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_DIAGONAL, n3 * sizeof(double), 1, 0));
    TBG_TRY(s->device->run(s->handle, &J));
    TBG_TRY(tbg_cuda_receive(s, TBG_CUDA_AT_V, n3, v));
    const double *diagonal = s->buffer[TBG_CUDA_AT_DIAGONAL].host;
    TBG_TRY(tbg_cuda_receive(s, TBG_CUDA_AT_DIAGONAL, n3, s->buffer[TBG_CUDA_AT_DIAGONAL].host));
    for (int b = 0; b < n; b++) {
        answer[b] = 0;
        for (int k = 0; k < 3 * molecule[b]->n_atoms; k++)
            answer[b] += *diagonal++;
    }
    return TBG_OK;
}

/* Gradient slots of the job: zeroed; their sum: in double. */
static int ask_gradient(tbg_cuda_state *s, tbg_cuda_job *J) {
    const size_t np = s->model->n_parameters, bytes = np * (size_t)J->n_blocks * sizeof(float);
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_SLOTS, bytes, 0, 1));
    TBG_TRY(s->device->zero(s->handle, s->buffer[TBG_CUDA_AT_SLOTS].device, bytes));
    J->slots = s->buffer[TBG_CUDA_AT_SLOTS].device;
    return tbg_cuda_output(s, TBG_CUDA_AT_GRADIENT, np, &J->gradient);
}

int tbg_cuda_losses(tbg_cuda_state *s, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *target, const double *weight, double *answer,
                    int gradient) {
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_REVERSE, 1, n, molecule, t, x, &J));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_TARGET, target, n3 * sizeof(double)));
    J.target = s->buffer[TBG_CUDA_AT_TARGET].device;
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_WEIGHT, weight, (size_t)n * sizeof(double)));
    J.weight = s->buffer[TBG_CUDA_AT_WEIGHT].device;
    TBG_TRY(tbg_cuda_output(s, TBG_CUDA_AT_LOSS, (size_t)n, &J.loss));
    if (gradient)
        TBG_TRY(ask_gradient(s, &J));
    TBG_TRY(s->device->run(s->handle, &J));
    return tbg_cuda_receive(s, TBG_CUDA_AT_LOSS, (size_t)n, answer);
}

static int loss(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
                const double *target, const double *weight, double *answer, float *gradient) {
    TBG_TRY(tbg_cuda_losses(state, n, molecule, t, x, target, weight, answer, gradient != NULL));
    return gradient ? tbg_cuda_training.fetch_gradient(state, gradient) : TBG_OK;
}

static int vjp(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
               const double *dv, double *dx, double *gradient) {
    tbg_cuda_state *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_REVERSE, 0, n, molecule, t, x, &J));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_DV, dv, n3 * sizeof(double)));
    J.dv = s->buffer[TBG_CUDA_AT_DV].device;
    if (dx)
        TBG_TRY(tbg_cuda_output(s, TBG_CUDA_AT_DX, n3, &J.dx));
    if (gradient)
        TBG_TRY(ask_gradient(s, &J));
    TBG_TRY(s->device->run(s->handle, &J));
    TBG_TRY(tbg_cuda_receive(s, TBG_CUDA_AT_DX, n3, dx));
    return tbg_cuda_receive(s, TBG_CUDA_AT_GRADIENT, s->model->n_parameters, gradient);
}

/* The backend on one of its devices. */
#define ON_DEVICE(name_, create_)                                                                            \
    {                                                                                                        \
        .name = name_, .create = create_, .destroy = destroy, .refresh = refresh, .velocity = velocity,      \
        .divergence = divergence, .tangent = tangent, .loss = loss, .vjp = vjp, .describe = describe,        \
        .update = &tbg_cuda_training, .drift = drift                                                         \
    }
const tbg_network_kernels tbg_network_cuda = ON_DEVICE("cuda", create_hardware);
const tbg_network_kernels tbg_network_cuda_emulation = ON_DEVICE("cuda-emulation", create_emulation);
