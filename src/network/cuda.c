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
        if (s->buffer[k].host)
            s->device->release_host(s->buffer[k].host);
        if (s->buffer[k].device)
            s->device->release(s->handle, s->buffer[k].device);
    }
    free(s->known);
    s->device->close(s->handle);
    free(s);
}

int tbg_cuda_ensure(tbg_cuda_state *s, int k, size_t bytes, int host, int device) {
    bytes = bytes ? bytes : 1;
    const size_t size = k == TBG_CUDA_AT_ROOMS ? bytes : bytes + bytes / 4;
    if (host && s->buffer[k].host_size < bytes) {
        void *memory;
        TBG_TRY(s->device->allocate_host(size, &memory));
        if (s->buffer[k].host) {
            memcpy(memory, s->buffer[k].host, s->buffer[k].host_size);
            s->device->release_host(s->buffer[k].host);
        }
        s->buffer[k].host = memory;
        s->buffer[k].host_size = size;
    }
    if (device && s->buffer[k].device_size < bytes) {
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
    J->parts = !plain && (J->H == 32 || J->H == 64 || J->H == 128);
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

/* ---- a call: what it sends, and what comes back ---- */

enum { MOST_KNOWN = 10000 };
enum { MOST_GROUP = 4 }; /* what a block keeps in registers meets memory once a group */

/* Number of a molecule among those that the session has met; a new one's features and pairs go to the host's
 * copies. */
static int meet(tbg_cuda_state *s, const tbg_conditioning *m, int *number) {
    for (int k = s->n_known - 1; k >= 0; k--)
        if (s->known[k].serial == m->serial) {
            *number = k;
            return TBG_OK;
        }
    const size_t nf = (size_t)m->n_atoms * (size_t)m->n_features,
                 nn = (size_t)m->n_atoms * (size_t)m->n_atoms;
    const size_t features = s->features + nf, pairs = s->pairs + nn;
    if (features > INT_MAX || pairs > INT_MAX)
        return tbg_fail(TBG_INPUT, "the molecules of a session are too large for the CUDA backend");
    if (s->n_known == s->known_room) {
        const int room = 2 * s->known_room + 16;
        tbg_cuda_molecule *more = realloc(s->known, (size_t)room * sizeof *more);
        if (!more)
            return tbg_fail(TBG_FAILED, "out of memory");
        s->known = more;
        s->known_room = room;
    }
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_FEATURES, features * sizeof(float), 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_BOND, pairs, 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_MEAN, pairs * sizeof(double), 1, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_WIDTH, pairs * sizeof(double), 1, 1));
    float *f = (float *)s->buffer[TBG_CUDA_AT_FEATURES].host + s->features;
    for (size_t i = 0; i < nf; i++)
        f[i] = (float)m->node_features[i];
    memcpy((unsigned char *)s->buffer[TBG_CUDA_AT_BOND].host + s->pairs, m->bond_class, nn);
    memcpy((double *)s->buffer[TBG_CUDA_AT_MEAN].host + s->pairs, m->pair_mean, nn * sizeof(double));
    memcpy((double *)s->buffer[TBG_CUDA_AT_WIDTH].host + s->pairs, m->pair_width, nn * sizeof(double));
    *number = s->n_known;
    s->known[s->n_known++] =
        (tbg_cuda_molecule){.serial = m->serial, .features = (int)s->features, .pairs = (int)s->pairs};
    s->features = features;
    s->pairs = pairs;
    return TBG_OK;
}

static int send_molecules(tbg_cuda_state *s) {
    const struct {
        int k;
        size_t bytes;
    } list[] = {{TBG_CUDA_AT_FEATURES, s->features * sizeof(float)},
                {TBG_CUDA_AT_BOND, s->pairs},
                {TBG_CUDA_AT_MEAN, s->pairs * sizeof(double)},
                {TBG_CUDA_AT_WIDTH, s->pairs * sizeof(double)}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        TBG_TRY(tbg_cuda_send(s, list[k].k, s->buffer[list[k].k].host, list[k].bytes));
    s->n_sent = s->n_known;
    return TBG_OK;
}

/* What a call brings: x and, where its kind wants them, other numbers like them and weights. */
typedef struct {
    int kind, parts; /* of factors, where the backend and the device can */
    int n;
    const tbg_conditioning *const *molecule;
    const double *t, *x, *with, *weight; /* NULL: none */
} call;

/* Scratch memory and blocks of a job whose batch is known. */
static int make_room(tbg_cuda_state *s, tbg_cuda_job *J) {
    J->most_directions = J->kind == TBG_CUDA_DIVERGENCE ? TBG_CUDA_BLOCK : J->kind != TBG_CUDA_VELOCITY;
    const long tasks = J->kind == TBG_CUDA_DIVERGENCE
                           ? (long)J->n * ((3 * J->most_atoms + TBG_CUDA_BLOCK - 1) / TBG_CUDA_BLOCK)
                           : J->n;
    const int blocks = s->device->blocks(s->handle, J);
    J->n_blocks = tasks < blocks ? (int)tasks : blocks;
    J->group = 1;
    if (J->parts && (J->kind == TBG_CUDA_VELOCITY || J->kind == TBG_CUDA_REVERSE)) {
        const int share = (J->n + J->n_blocks - 1) / J->n_blocks;
        J->group = share < MOST_GROUP ? share : MOST_GROUP;
    }
    J->room_bytes = tbg_cuda_room_size(J);
    while (J->n_blocks > 1 && J->room_bytes > most_room_bytes / (size_t)J->n_blocks)
        J->n_blocks = (J->n_blocks + 1) / 2;
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_ROOMS, J->room_bytes * (size_t)J->n_blocks, 0, 1));
    J->rooms = s->buffer[TBG_CUDA_AT_ROOMS].device;
    return TBG_OK;
}

/* What a call sends, in one piece of memory. */
typedef struct {
    double *x, *with, *t, *u, *weight;
    int *atoms, *heard, *first, *feature_at, *pair_at; /* [n] each, as in tbg_cuda_job */
} parcel;

static size_t parcel_size(const call *c, size_t n3) {
    const size_t n = (size_t)c->n;
    return ((c->with ? 2 : 1) * n3 + (c->weight ? 3 : 2) * n) * sizeof(double) + 5 * n * sizeof(int);
}

static parcel lay_out(const call *c, size_t n3, char *at) {
    const size_t n = (size_t)c->n;
    parcel p = {.x = (double *)at};
    p.with = p.x + n3;
    p.t = p.with + (c->with ? n3 : 0);
    p.u = p.t + n;
    p.weight = p.u + n;
    p.atoms = (int *)(p.weight + (c->weight ? n : 0));
    p.heard = p.atoms + n;
    p.first = p.heard + n;
    p.feature_at = p.first + n;
    p.pair_at = p.feature_at + n;
    return p;
}

/* Fills it; positions relative to their mean. */
static int pack(tbg_cuda_state *s, const call *c, size_t n3, const parcel *p) {
    size_t all = 0;
    int number = 0;
    if (c->with)
        memcpy(p->with, c->with, n3 * sizeof *p->with);
    if (c->weight)
        memcpy(p->weight, c->weight, (size_t)c->n * sizeof *p->weight);
    for (int b = 0; b < c->n; b++) {
        const tbg_conditioning *m = c->molecule[b];
        if (!b || m != c->molecule[b - 1])
            TBG_TRY(meet(s, m, &number));
        p->feature_at[b] = s->known[number].features;
        p->pair_at[b] = s->known[number].pairs;
        p->atoms[b] = m->n_atoms;
        p->heard[b] = m->n_atoms - m->n_silent;
        p->first[b] = (int)all;
        p->t[b] = c->t[b];
        p->u[b] = s->base.time_u ? tbg_u_of_time(s->model->spec.graded_d, c->t[b]) : 0;
        for (int a = 0; a < 3; a++) {
            const double *from = c->x + 3 * all + a;
            double mean = 0, *to = p->x + 3 * all + a;
            for (int i = 0; i < m->n_atoms; i++)
                mean += from[3 * i] / m->n_atoms;
            for (int i = 0; i < m->n_atoms; i++)
                to[3 * i] = from[3 * i] - mean;
        }
        all += (size_t)m->n_atoms;
    }
    return TBG_OK;
}

/* The job of a call but for its outputs; *n3: coordinates of the batch. */
static int prepare(tbg_cuda_state *s, const call *c, tbg_cuda_job *J, size_t *n3) {
    size_t all = 0;
    *J = s->base;
    J->kind = c->kind;
    J->n = c->n;
    J->parts = s->base.parts ? c->parts : 0;
    /* cuda_reverse.h needs wider networks, two parts of 128 channels more memory than sm_80 has. */
    if ((J->H == 32 && J->kind == TBG_CUDA_REVERSE) || tbg_cuda_shared_size(J) > s->device->shared(s->handle))
        J->parts = 0;
    for (int b = 0; b < c->n; b++) {
        const int atoms = c->molecule[b]->n_atoms;
        all += (size_t)atoms;
        if (all > INT_MAX / 4)
            return tbg_fail(TBG_INPUT, "a batch of too many atoms for the CUDA backend");
        if (atoms > J->most_atoms)
            J->most_atoms = atoms;
    }
    *n3 = 3 * all;
    if (s->n_known > MOST_KNOWN) { /* forget them */
        s->n_known = s->n_sent = 0;
        s->features = s->pairs = 0;
    }
    const size_t bytes = parcel_size(c, *n3);
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_BATCH, bytes, 1, 1));
    const parcel here = lay_out(c, *n3, s->buffer[TBG_CUDA_AT_BATCH].host),
                 there = lay_out(c, *n3, s->buffer[TBG_CUDA_AT_BATCH].device);
    TBG_TRY(pack(s, c, *n3, &here));
    if (s->n_known > s->n_sent)
        TBG_TRY(send_molecules(s));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_BATCH, here.x, bytes));
    J->x = there.x;
    J->t = there.t;
    J->u = there.u;
    J->atoms = there.atoms;
    J->heard = there.heard;
    J->first = there.first;
    J->feature_at = there.feature_at;
    J->pair_at = there.pair_at;
    if (c->kind == TBG_CUDA_TANGENT)
        J->x_dot = there.with;
    else if (c->weight) {
        J->target = there.with;
        J->weight = there.weight;
    } else if (c->with)
        J->dv = there.with;
    J->w = s->buffer[TBG_CUDA_AT_W].device;
    J->wt = s->buffer[TBG_CUDA_AT_WT].device;
    J->half = s->buffer[TBG_CUDA_AT_HALF].device;
    J->features = s->buffer[TBG_CUDA_AT_FEATURES].device;
    J->bond = s->buffer[TBG_CUDA_AT_BOND].device;
    J->pair_mean = s->buffer[TBG_CUDA_AT_MEAN].device;
    J->pair_width = s->buffer[TBG_CUDA_AT_WIDTH].device;
    return make_room(s, J);
}

/* Room for `count` numbers that come back. */
static int answer_room(tbg_cuda_state *s, size_t count, double **there) {
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_ANSWER, count * sizeof(double), 1, 1));
    *there = s->buffer[TBG_CUDA_AT_ANSWER].device;
    return TBG_OK;
}

/* Runs the job and brings `count` numbers back; *here: where they are. */
static int answer(tbg_cuda_state *s, const tbg_cuda_job *J, size_t count, const double **here) {
    TBG_TRY(s->device->run(s->handle, J));
    *here = s->buffer[TBG_CUDA_AT_ANSWER].host;
    return tbg_cuda_receive(s, TBG_CUDA_AT_ANSWER, count, s->buffer[TBG_CUDA_AT_ANSWER].host);
}

int tbg_cuda_receive(tbg_cuda_state *s, int k, size_t count, double *to) {
    return s->device->download(s->handle, to, s->buffer[k].device, count * sizeof(double));
}

/* ---- the operations of kernels.h ---- */

static int velocity_of(tbg_cuda_state *s, int parts, int n, const tbg_conditioning *const *molecule,
                       const double *t, const double *x, double *v) {
    const call c = {TBG_CUDA_VELOCITY, parts, n, molecule, t, x, NULL, NULL};
    size_t n3;
    const double *back;
    tbg_cuda_job J;
    TBG_TRY(prepare(s, &c, &J, &n3));
    TBG_TRY(answer_room(s, n3, &J.v));
    TBG_TRY(answer(s, &J, n3, &back));
    memcpy(v, back, n3 * sizeof *v);
    return TBG_OK;
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
    const call c = {TBG_CUDA_TANGENT, 2, n, molecule, t, x, x_dot, NULL};
    size_t n3;
    const double *back;
    tbg_cuda_job J;
    TBG_TRY(prepare(s, &c, &J, &n3));
    TBG_TRY(answer_room(s, 2 * n3, &J.v));
    J.v_dot = J.v + n3;
    TBG_TRY(answer(s, &J, 2 * n3, &back));
    if (v)
        memcpy(v, back, n3 * sizeof *v);
    memcpy(v_dot, back + n3, n3 * sizeof *v_dot);
    return TBG_OK;
}

static int divergence(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v, double *trace) {
    tbg_cuda_state *s = state;
    const call c = {TBG_CUDA_DIVERGENCE, 2, n, molecule, t, x, NULL, NULL};
    size_t n3;
    const double *back;
    tbg_cuda_job J;
    TBG_TRY(prepare(s, &c, &J, &n3));
    TBG_TRY(answer_room(s, 2 * n3, &J.v));
    J.diagonal = J.v + n3;
    TBG_TRY(answer(s, &J, 2 * n3, &back));
    if (v)
        memcpy(v, back, n3 * sizeof *v);
    const double *diagonal = back + n3;
    for (int b = 0; b < n; b++) {
        trace[b] = 0;
        for (int k = 0; k < 3 * molecule[b]->n_atoms; k++)
            trace[b] += *diagonal++;
    }
    return TBG_OK;
}

/* Gradient slots of the job: zeroed; their sum: in double. */
static int ask_gradient(tbg_cuda_state *s, tbg_cuda_job *J) {
    const size_t np = s->model->n_parameters, bytes = np * (size_t)J->n_blocks * sizeof(float);
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_SLOTS, bytes, 0, 1));
    TBG_TRY(s->device->zero(s->handle, s->buffer[TBG_CUDA_AT_SLOTS].device, bytes));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_GRADIENT, np * sizeof(double), 0, 1));
    J->slots = s->buffer[TBG_CUDA_AT_SLOTS].device;
    J->gradient = s->buffer[TBG_CUDA_AT_GRADIENT].device;
    return TBG_OK;
}

int tbg_cuda_losses(tbg_cuda_state *s, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *target, const double *weight, double *losses,
                    int gradient) {
    const call c = {TBG_CUDA_REVERSE, 1, n, molecule, t, x, target, weight};
    size_t n3;
    const double *back;
    tbg_cuda_job J;
    TBG_TRY(prepare(s, &c, &J, &n3));
    TBG_TRY(answer_room(s, (size_t)n, &J.loss));
    if (gradient)
        TBG_TRY(ask_gradient(s, &J));
    TBG_TRY(answer(s, &J, (size_t)n, &back));
    memcpy(losses, back, (size_t)n * sizeof *losses);
    return TBG_OK;
}

static int loss(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
                const double *target, const double *weight, double *losses, float *gradient) {
    TBG_TRY(tbg_cuda_losses(state, n, molecule, t, x, target, weight, losses, gradient != NULL));
    return gradient ? tbg_cuda_training.fetch_gradient(state, gradient) : TBG_OK;
}

static int vjp(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
               const double *dv, double *dx, double *gradient) {
    tbg_cuda_state *s = state;
    const call c = {TBG_CUDA_REVERSE, 0, n, molecule, t, x, dv, NULL};
    size_t n3;
    const double *back;
    tbg_cuda_job J;
    TBG_TRY(prepare(s, &c, &J, &n3));
    TBG_TRY(answer_room(s, n3, &J.dx));
    if (!dx)
        J.dx = NULL;
    if (gradient)
        TBG_TRY(ask_gradient(s, &J));
    TBG_TRY(answer(s, &J, dx ? n3 : 1, &back));
    if (dx)
        memcpy(dx, back, n3 * sizeof *dx);
    return gradient ? tbg_cuda_receive(s, TBG_CUDA_AT_GRADIENT, s->model->n_parameters, gradient) : TBG_OK;
}

/* The backend on one of its devices. */
#define ON_DEVICE(name_, create_, batch_)                                                                    \
    {                                                                                                        \
        .name = name_, .create = create_, .destroy = destroy, .refresh = refresh, .velocity = velocity,      \
        .divergence = divergence, .tangent = tangent, .loss = loss, .vjp = vjp, .describe = describe,        \
        .update = &tbg_cuda_training, .drift = drift, .batch = batch_                                        \
    }
const tbg_network_kernels tbg_network_cuda = ON_DEVICE("cuda", create_hardware, 1024);
const tbg_network_kernels tbg_network_cuda_emulation = ON_DEVICE("cuda-emulation", create_emulation, 0);
