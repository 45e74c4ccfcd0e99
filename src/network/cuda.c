/* cuda.c: the CUDA backend in plain C: flattens batches, keeps device memory between calls, and runs jobs on
 * a device of cuda.h: hardware, or the emulation that tests use where there is none.
 *
 * Positions are taken relative to the mean of their configuration, so that single precision loses no digits
 * far from the origin. TBG_CUDA_PLAIN=1 keeps tensor cores out. */
#include "base/memory.h"
#include "network/cuda.h"
#include "network/layer_tensors.h"
#include "network/kernels.h"
#include "tbg/schedule.h"
#include "tbg/status.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Buffers on both sides. */
enum {
    W,
    WT,
    HALF,
    ATOMS,
    HEARD,
    FIRST,
    FEATURE_AT,
    PAIR_AT,
    FEATURES,
    BOND,
    MEAN,
    WIDTH,
    TIME,
    U,
    X,
    TARGET,
    WEIGHT,
    DV,
    X_DOT,
    V,
    V_DOT,
    DIAGONAL,
    LOSS,
    DX,
    SLOTS,
    GRADIENT,
    ROOMS,
    N_BUFFERS
};

static const size_t most_room_bytes = (size_t)8 << 30;

typedef struct {
    const tbg_cuda_device *device;
    void *handle;
    const tbg_model *model;
    tbg_cuda_job base;
    struct {
        void *host, *device;
        size_t host_size, device_size;
    } buffer[N_BUFFERS];
    const tbg_conditioning **known; /* molecules of the call */
    int *known_at;                  /* [2][n] their features and pairs */
    int known_room;
    char text[128];
} cuda;

static void destroy(void *state) {
    cuda *s = state;
    if (!s)
        return;
    for (int k = 0; k < N_BUFFERS; k++) {
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
static int ensure(cuda *s, int k, size_t bytes, int host, int device) {
    bytes = bytes ? bytes : 1;
    if (host && s->buffer[k].host_size < bytes) {
        free(s->buffer[k].host);
        s->buffer[k].host_size = 0;
        if (!(s->buffer[k].host = tbg_alloc(1, bytes + bytes / 4)))
            return TBG_FAILED;
        s->buffer[k].host_size = bytes + bytes / 4;
    }
    if (device && s->buffer[k].device_size < bytes) {
        size_t size = k == ROOMS ? bytes : bytes + bytes / 4;
        if (s->buffer[k].device)
            s->device->release(s->handle, s->buffer[k].device);
        s->buffer[k].device = NULL;
        s->buffer[k].device_size = 0;
        TBG_TRY(s->device->allocate(s->handle, size, &s->buffer[k].device));
        s->buffer[k].device_size = size;
    }
    return TBG_OK;
}

static int send(cuda *s, int k, const void *from, size_t bytes) {
    TBG_TRY(ensure(s, k, bytes, 0, 1));
    return s->device->upload(s->handle, s->buffer[k].device, from, bytes);
}

static int create_on(const tbg_cuda_device *device, const tbg_model *model, void **state) {
    const tbg_network_spec *spec = &model->spec;
    const int plain = getenv("TBG_CUDA_PLAIN") && strcmp(getenv("TBG_CUDA_PLAIN"), "0");
    if (spec->layers > TBG_CUDA_MOST_LAYERS || model->n_parameters > INT_MAX / 4)
        return tbg_fail(TBG_INPUT, "the CUDA backend takes up to %d layers; the model has %d",
                        TBG_CUDA_MOST_LAYERS, spec->layers);
    cuda *s = TBG_NEW(cuda, 1);
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
    J->plain = plain || (J->H != 64 && J->H != 128);
    for (int l = 0; l < J->L; l++)
        J->layer[l] = (tbg_cuda_layer){
#define TBG_FIELD(field, name) .field = (int)tbg_layer_tensor(model, l, name),
            TBG_LAYER_TENSORS(TBG_FIELD)
#undef TBG_FIELD
        };
    snprintf(s->text, sizeof s->text, "%s/%s (%s)", device->name, J->plain ? "plain" : "tensor", name);
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
    return ((const cuda *)state)->text;
}

static unsigned short half_of(float value) { /* nearest bf16, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static int refresh(void *state) {
    cuda *s = state;
    const tbg_model *m = s->model;
    const size_t np = m->n_parameters;
    TBG_TRY(ensure(s, WT, np * sizeof(float), 1, 1));
    TBG_TRY(ensure(s, HALF, np * sizeof(unsigned short), 1, 1));
    float *wt = s->buffer[WT].host;
    unsigned short *half = s->buffer[HALF].host;
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        const size_t rows = (size_t)p->rows, columns = (size_t)p->columns;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++)
                wt[p->offset + c * rows + r] = m->values[p->offset + r * columns + c];
    }
    for (size_t i = 0; i < np; i++)
        half[i] = half_of(m->values[i]);
    TBG_TRY(send(s, W, m->values, np * sizeof(float)));
    TBG_TRY(send(s, WT, wt, np * sizeof(float)));
    return send(s, HALF, half, np * sizeof *half);
}

/* Where molecule m of the call begins among features and pairs; a new one is entered. */
static int enter(cuda *s, const tbg_conditioning *m, int *n_known, size_t *features, size_t *pairs, int *at) {
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

/* Everything of the batch but outputs. */
static int prepare(cuda *s, int kind, int n, const tbg_conditioning *const *molecule, const double *t,
                   const double *x, tbg_cuda_job *J) {
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
    static const int of_int[] = {ATOMS, HEARD, FIRST, FEATURE_AT, PAIR_AT};
    for (int k = 0; k < 5; k++)
        TBG_TRY(ensure(s, of_int[k], count * sizeof(int), 1, 1));
    TBG_TRY(ensure(s, U, count * sizeof(double), 1, 1));
    int *atoms = s->buffer[ATOMS].host, *heard = s->buffer[HEARD].host, *first = s->buffer[FIRST].host,
        *feature_at = s->buffer[FEATURE_AT].host, *pair_at = s->buffer[PAIR_AT].host, n_known = 0;
    double *u = s->buffer[U].host;
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
    TBG_TRY(ensure(s, FEATURES, features * sizeof(float), 1, 1));
    TBG_TRY(ensure(s, BOND, pairs, 1, 1));
    TBG_TRY(ensure(s, MEAN, pairs * sizeof(double), 1, 1));
    TBG_TRY(ensure(s, WIDTH, pairs * sizeof(double), 1, 1));
    TBG_TRY(ensure(s, X, 3 * all * sizeof(double), 1, 1));
    float *f = s->buffer[FEATURES].host;
    double *centred = s->buffer[X].host;
    for (int k = 0; k < n_known; k++) {
        const tbg_conditioning *m = s->known[k];
        const size_t nn = (size_t)m->n_atoms * (size_t)m->n_atoms, at = (size_t)s->known_at[2 * k + 1];
        for (size_t i = 0; i < (size_t)m->n_atoms * (size_t)m->n_features; i++)
            f[(size_t)s->known_at[2 * k] + i] = (float)m->node_features[i];
        memcpy((unsigned char *)s->buffer[BOND].host + at, m->bond_class, nn);
        memcpy((double *)s->buffer[MEAN].host + at, m->pair_mean, nn * sizeof(double));
        memcpy((double *)s->buffer[WIDTH].host + at, m->pair_width, nn * sizeof(double));
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
    } list[] = {{ATOMS, count * sizeof(int)},
                {FIRST, count * sizeof(int)},
                {HEARD, count * sizeof(int)},
                {FEATURE_AT, count * sizeof(int)},
                {PAIR_AT, count * sizeof(int)},
                {FEATURES, features * sizeof(float)},
                {BOND, pairs},
                {MEAN, pairs * sizeof(double)},
                {WIDTH, pairs * sizeof(double)},
                {U, count * sizeof(double)},
                {X, 3 * all * sizeof(double)}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        TBG_TRY(send(s, list[k].k, s->buffer[list[k].k].host, list[k].bytes));
    TBG_TRY(send(s, TIME, t, count * sizeof(double)));
    J->most_directions = kind == TBG_CUDA_DIVERGENCE ? TBG_CUDA_BLOCK : kind == TBG_CUDA_VELOCITY ? 0 : 1;
    J->room_bytes = tbg_cuda_room_size(J);
    const long tasks = kind == TBG_CUDA_DIVERGENCE
                           ? (long)n * ((3 * J->most_atoms + TBG_CUDA_BLOCK - 1) / TBG_CUDA_BLOCK)
                           : n;
    const int blocks = s->device->blocks(s->handle);
    J->n_blocks = tasks < blocks ? (int)tasks : blocks;
    while (J->n_blocks > 1 && J->room_bytes > most_room_bytes / (size_t)J->n_blocks)
        J->n_blocks = (J->n_blocks + 1) / 2;
    TBG_TRY(ensure(s, ROOMS, J->room_bytes * (size_t)J->n_blocks, 0, 1));
    J->w = s->buffer[W].device;
    J->wt = s->buffer[WT].device;
    J->half = s->buffer[HALF].device;
    J->atoms = s->buffer[ATOMS].device;
    J->heard = s->buffer[HEARD].device;
    J->first = s->buffer[FIRST].device;
    J->feature_at = s->buffer[FEATURE_AT].device;
    J->pair_at = s->buffer[PAIR_AT].device;
    J->features = s->buffer[FEATURES].device;
    J->bond = s->buffer[BOND].device;
    J->pair_mean = s->buffer[MEAN].device;
    J->pair_width = s->buffer[WIDTH].device;
    J->t = s->buffer[TIME].device;
    J->u = s->buffer[U].device;
    J->x = s->buffer[X].device;
    J->rooms = s->buffer[ROOMS].device;
    return TBG_OK;
}

static size_t all_atoms(int n, const tbg_conditioning *const *molecule) {
    size_t all = 0;
    for (int b = 0; b < n; b++)
        all += (size_t)molecule[b]->n_atoms;
    return all;
}

/* Device memory of an output. */
static int output(cuda *s, int k, size_t count, double **memory) {
    TBG_TRY(ensure(s, k, count * sizeof(double), 0, 1));
    *memory = s->buffer[k].device;
    return TBG_OK;
}

static int receive(cuda *s, int k, size_t count, double *to) {
    return to ? s->device->download(s->handle, to, s->buffer[k].device, count * sizeof(double)) : TBG_OK;
}

static int velocity(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, double *v) {
    cuda *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_VELOCITY, n, molecule, t, x, &J));
    J.plain = 1; /* single precision throughout: solvers and likelihoods rest on velocities */
    TBG_TRY(output(s, V, n3, &J.v));
    TBG_TRY(s->device->run(s->handle, &J));
    return receive(s, V, n3, v);
}

static int tangent(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                   const double *x, const double *x_dot, double *v, double *v_dot) {
    cuda *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_TANGENT, n, molecule, t, x, &J));
    TBG_TRY(send(s, X_DOT, x_dot, n3 * sizeof(double)));
    J.x_dot = s->buffer[X_DOT].device;
    TBG_TRY(output(s, V, n3, &J.v));
    TBG_TRY(output(s, V_DOT, n3, &J.v_dot));
    TBG_TRY(s->device->run(s->handle, &J));
    TBG_TRY(receive(s, V, n3, v));
    return receive(s, V_DOT, n3, v_dot);
}

static int divergence(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v, double *answer) {
    cuda *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_DIVERGENCE, n, molecule, t, x, &J));
    TBG_TRY(output(s, V, n3, &J.v));
    TBG_TRY(output(s, DIAGONAL, n3, &J.diagonal));
    TBG_TRY(ensure(s, DIAGONAL, n3 * sizeof(double), 1, 0));
    TBG_TRY(s->device->run(s->handle, &J));
    TBG_TRY(receive(s, V, n3, v));
    const double *diagonal = s->buffer[DIAGONAL].host;
    TBG_TRY(receive(s, DIAGONAL, n3, s->buffer[DIAGONAL].host));
    for (int b = 0; b < n; b++) {
        answer[b] = 0;
        for (int k = 0; k < 3 * molecule[b]->n_atoms; k++)
            answer[b] += *diagonal++;
    }
    return TBG_OK;
}

/* Gradient slots of the job: zeroed; their sum: in double. */
static int ask_gradient(cuda *s, tbg_cuda_job *J) {
    const size_t np = s->model->n_parameters, bytes = np * (size_t)J->n_blocks * sizeof(float);
    TBG_TRY(ensure(s, SLOTS, bytes, 0, 1));
    TBG_TRY(s->device->zero(s->handle, s->buffer[SLOTS].device, bytes));
    J->slots = s->buffer[SLOTS].device;
    return output(s, GRADIENT, np, &J->gradient);
}

static int loss(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
                const double *target, const double *weight, double *answer, float *gradient) {
    cuda *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule), np = s->model->n_parameters;
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_REVERSE, n, molecule, t, x, &J));
    TBG_TRY(send(s, TARGET, target, n3 * sizeof(double)));
    J.target = s->buffer[TARGET].device;
    TBG_TRY(send(s, WEIGHT, weight, (size_t)n * sizeof(double)));
    J.weight = s->buffer[WEIGHT].device;
    TBG_TRY(output(s, LOSS, (size_t)n, &J.loss));
    if (gradient)
        TBG_TRY(ask_gradient(s, &J));
    TBG_TRY(s->device->run(s->handle, &J));
    TBG_TRY(receive(s, LOSS, (size_t)n, answer));
    if (!gradient)
        return TBG_OK;
    TBG_TRY(ensure(s, GRADIENT, np * sizeof(double), 1, 0));
    const double *sum = s->buffer[GRADIENT].host;
    TBG_TRY(receive(s, GRADIENT, np, s->buffer[GRADIENT].host));
    for (size_t k = 0; k < np; k++)
        gradient[k] = (float)sum[k];
    return TBG_OK;
}

static int vjp(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
               const double *dv, double *dx, double *gradient) {
    cuda *s = state;
    const size_t n3 = 3 * all_atoms(n, molecule);
    tbg_cuda_job J;
    TBG_TRY(prepare(s, TBG_CUDA_REVERSE, n, molecule, t, x, &J));
    J.plain = 1;
    TBG_TRY(send(s, DV, dv, n3 * sizeof(double)));
    J.dv = s->buffer[DV].device;
    if (dx)
        TBG_TRY(output(s, DX, n3, &J.dx));
    if (gradient)
        TBG_TRY(ask_gradient(s, &J));
    TBG_TRY(s->device->run(s->handle, &J));
    TBG_TRY(receive(s, DX, n3, dx));
    return receive(s, GRADIENT, s->model->n_parameters, gradient);
}

const tbg_network_kernels tbg_network_cuda = {"cuda",     create_hardware, destroy, refresh, velocity,
                                              divergence, tangent,         loss,    vjp,     describe};
const tbg_network_kernels tbg_network_cuda_emulation = {
    "cuda-emulation", create_emulation, destroy, refresh, velocity, divergence, tangent, loss, vjp, describe};
