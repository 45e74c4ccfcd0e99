/* cuda_training.c: an optimiser's arrays on the device, and its steps there (update.h, cuda_update.h). */
#include "base/memory.h"
#include "network/cuda_state.h"
#include "tbg/status.h"

#include <limits.h>

static int launch(tbg_cuda_state *s, tbg_cuda_update *u) {
    u->n_tensors = s->model->n_tensors;
    u->tensors = s->buffer[TBG_CUDA_AT_TENSORS].device;
    u->gradient = s->buffer[TBG_CUDA_AT_GRADIENT].device;
    u->w = s->buffer[TBG_CUDA_AT_W].device;
    u->wt = s->buffer[TBG_CUDA_AT_WT].device;
    u->half = s->buffer[TBG_CUDA_AT_HALF].device;
    u->m = s->buffer[TBG_CUDA_AT_FIRST_MOMENT].device;
    u->v = s->buffer[TBG_CUDA_AT_SECOND_MOMENT].device;
    u->ema = s->averages ? s->buffer[TBG_CUDA_AT_AVERAGE].device : NULL;
    u->bases = s->buffer[TBG_CUDA_AT_BASES].device;
    u->scratch = s->buffer[TBG_CUDA_AT_SCRATCH].device;
    u->wide = s->buffer[TBG_CUDA_AT_WIDE].device;
    u->order = s->buffer[TBG_CUDA_AT_ORDER].device;
    u->part = s->buffer[TBG_CUDA_AT_PARTS].device;
    u->squares = s->buffer[TBG_CUDA_AT_SQUARES].device;
    return s->device->update(s->handle, u);
}

void tbg_cuda_tensor_table(int n, const tbg_parameter *tensors, int (*rotated)[2], tbg_cuda_tensor *out,
                           tbg_cuda_update_room *room) {
    *room = (tbg_cuda_update_room){0};
    for (int i = 0; i < n; i++) {
        const tbg_parameter *p = &tensors[i];
        size_t longest = 0;
        out[i] = (tbg_cuda_tensor){.rows = p->rows,
                                   .columns = p->columns,
                                   .offset = (int)p->offset,
                                   .scratch = room->scratch,
                                   .wide = room->wide,
                                   .order = room->order};
        for (int k = 0; k < 2 && rotated; k++) {
            const size_t length = (size_t)rotated[i][k];
            out[i].n[k] = rotated[i][k];
            out[i].covariance[k] = room->bases;
            out[i].basis[k] = room->bases + length * length;
            room->bases += 2 * length * length;
            room->order += length;
            longest = length > longest ? length : longest;
        }
        room->wide += 2 * longest * longest + 2 * longest;
        room->scratch += longest ? 4 * (size_t)p->rows * (size_t)p->columns : 0;
    }
}

/* The table of tensors, and room for what a step needs; rotated: NULL: no tensor is. */
static int describe_tensors(tbg_cuda_state *s, int (*rotated)[2]) {
    const size_t n = (size_t)s->model->n_tensors;
    tbg_cuda_update_room room;
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_TENSORS, n * sizeof(tbg_cuda_tensor), 1, 1));
    tbg_cuda_tensor *tensors = s->buffer[TBG_CUDA_AT_TENSORS].host;
    tbg_cuda_tensor_table((int)n, s->model->tensors, rotated, tensors, &room);
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_TENSORS, tensors, n * sizeof *tensors));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_BASES, room.bases * sizeof(float), 0, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_SCRATCH, room.scratch * sizeof(float), 0, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_WIDE, room.wide * sizeof(double), 0, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_ORDER, room.order * sizeof(int), 0, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_PARTS, n * TBG_CUDA_PARTS * sizeof(double), 0, 1));
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_SQUARES, n * sizeof(double), 0, 1));
    s->described = 1;
    return TBG_OK;
}

static int gradient(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *target, const double *weight, double *loss,
                    double *squares) {
    tbg_cuda_state *s = state;
    tbg_cuda_update u = {.only_squares = 1};
    TBG_TRY(tbg_cuda_losses(s, n, molecule, t, x, target, weight, loss, 1));
    if (!s->described)
        TBG_TRY(describe_tensors(s, NULL));
    TBG_TRY(launch(s, &u));
    return tbg_cuda_receive(s, TBG_CUDA_AT_SQUARES, (size_t)s->model->n_tensors, squares);
}

static int fetch_gradient(void *state, float *to) {
    tbg_cuda_state *s = state;
    const size_t np = s->model->n_parameters;
    TBG_TRY(tbg_cuda_ensure(s, TBG_CUDA_AT_GRADIENT, np * sizeof(double), 1, 0));
    const double *sum = s->buffer[TBG_CUDA_AT_GRADIENT].host;
    TBG_TRY(tbg_cuda_receive(s, TBG_CUDA_AT_GRADIENT, np, s->buffer[TBG_CUDA_AT_GRADIENT].host));
    for (size_t k = 0; k < np; k++)
        to[k] = (float)sum[k];
    return TBG_OK;
}

static int place(void *state, const tbg_optimizer_arrays *a) {
    tbg_cuda_state *s = state;
    const size_t bytes = s->model->n_parameters * sizeof(float);
    TBG_TRY(describe_tensors(s, a->rotated));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_FIRST_MOMENT, a->m, bytes));
    TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_SECOND_MOMENT, a->v, bytes));
    if ((s->averages = a->ema != NULL))
        TBG_TRY(tbg_cuda_send(s, TBG_CUDA_AT_AVERAGE, a->ema, bytes));
    return a->n_bases ? tbg_cuda_send(s, TBG_CUDA_AT_BASES, a->bases, a->n_bases * sizeof(float)) : TBG_OK;
}

static int step(void *state, const tbg_adam_constants *constants, int refine) {
    tbg_cuda_update u = {.constants = *constants, .refine = refine};
    return launch(state, &u);
}

static int fetch(void *state, float *weights, const tbg_optimizer_arrays *a) {
    tbg_cuda_state *s = state;
    const size_t bytes = s->model->n_parameters * sizeof(float);
    const struct {
        int k;
        float *to;
        size_t bytes;
    } list[] = {{TBG_CUDA_AT_W, weights, bytes},
                {TBG_CUDA_AT_FIRST_MOMENT, a->m, bytes},
                {TBG_CUDA_AT_SECOND_MOMENT, a->v, bytes},
                {TBG_CUDA_AT_AVERAGE, a->ema, a->ema ? bytes : 0},
                {TBG_CUDA_AT_BASES, a->bases, a->n_bases * sizeof(float)}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].bytes)
            TBG_TRY(s->device->download(s->handle, list[i].to, s->buffer[list[i].k].device, list[i].bytes));
    return TBG_OK;
}

const tbg_network_update tbg_cuda_training = {gradient, fetch_gradient, place, step, fetch};
