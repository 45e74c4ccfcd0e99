/* cuda_state.h: what the files of the CUDA backend's plain C share: buffers on the host and the device, and
 * the job that leaves a gradient on the device. */
#ifndef TBG_NETWORK_CUDA_STATE_H
#define TBG_NETWORK_CUDA_STATE_H
#include "network/cuda.h"
#include "network/kernels.h"
#include "network/update.h"

/* Buffers on both sides. */
enum {
    TBG_CUDA_AT_W,
    TBG_CUDA_AT_WT,
    TBG_CUDA_AT_HALF,
    TBG_CUDA_AT_FEATURES, /* of all molecules that the session has met */
    TBG_CUDA_AT_BOND,
    TBG_CUDA_AT_MEAN,
    TBG_CUDA_AT_WIDTH,
    TBG_CUDA_AT_BATCH, /* all that a call sends */
    TBG_CUDA_AT_ANSWER,
    TBG_CUDA_AT_SLOTS,
    TBG_CUDA_AT_GRADIENT,
    TBG_CUDA_AT_ROOMS,
    TBG_CUDA_AT_TENSORS,
    TBG_CUDA_AT_FIRST_MOMENT,
    TBG_CUDA_AT_SECOND_MOMENT,
    TBG_CUDA_AT_AVERAGE,
    TBG_CUDA_AT_BASES,
    TBG_CUDA_AT_SCRATCH,
    TBG_CUDA_AT_WIDE,
    TBG_CUDA_AT_ORDER,
    TBG_CUDA_AT_PARTS,
    TBG_CUDA_AT_SQUARES,
    TBG_CUDA_BUFFERS
};

/* A molecule that the session has met, and where its features and pairs begin on the device. */
typedef struct {
    uint64_t serial;
    int features, pairs;
} tbg_cuda_molecule;

typedef struct {
    const tbg_cuda_device *device;
    void *handle;
    const tbg_model *model;
    tbg_cuda_job base;
    struct {
        void *host, *device;
        size_t host_size, device_size;
    } buffer[TBG_CUDA_BUFFERS];
    tbg_cuda_molecule *known; /* [n_known] */
    int n_known, n_sent, known_room;
    size_t features, pairs;  /* of all of them */
    int described, averages; /* the table of tensors is there; the optimiser there has an average */
    char text[128];
} tbg_cuda_state;

/* Room for `bytes` on the host, on the device, or both; more than asked for, so that ragged batches settle.
 * What the host's room held stays. */
int tbg_cuda_ensure(tbg_cuda_state *s, int k, size_t bytes, int host, int device);
int tbg_cuda_send(tbg_cuda_state *s, int k, const void *from, size_t bytes);
int tbg_cuda_receive(tbg_cuda_state *s, int k, size_t count, double *to); /* of doubles */
/* Losses, and where asked for their gradient into the buffer GRADIENT of the device. */
int tbg_cuda_losses(tbg_cuda_state *s, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *target, const double *weight, double *loss, int gradient);

typedef struct {
    size_t bases, scratch, wide, order; /* entries of the arrays of tbg_cuda_update */
} tbg_cuda_update_room;
/* out: [n]. rotated: [n], see update.h; NULL: none. */
void tbg_cuda_tensor_table(int n, const tbg_parameter *tensors, int (*rotated)[2], tbg_cuda_tensor *out,
                           tbg_cuda_update_room *room);
extern const tbg_network_update tbg_cuda_training; /* cuda_training.c */
#endif
