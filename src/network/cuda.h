/* cuda.h: the boundary between the CUDA backend's plain C (cuda.c) and what runs its blocks: the device
 * (cuda_device.cu) or, for tests, an emulation on the host (cuda_emulation.c).
 *
 * A job is one call of the network over a batch. Blocks are independent; each has a room of scratch memory.
 * The same sources, what cuda_run.h includes, are compiled for both. Read by nvcc too: plain data only.
 */
#ifndef TBG_NETWORK_CUDA_H
#define TBG_NETWORK_CUDA_H
#include "network/adam.h"
#include <stddef.h>

/* Offsets of a layer's tensors in the parameter vector. */
typedef struct {
    int w1, b1, w2, b2, wa, ba, w3, b3, wc, wg, bg, w4, b4, w5, b5;
} tbg_cuda_layer;

enum { TBG_CUDA_VELOCITY, TBG_CUDA_TANGENT, TBG_CUDA_DIVERGENCE, TBG_CUDA_REVERSE };
enum { TBG_CUDA_BLOCK = 8 }; /* directions of a divergence that go together */
enum { TBG_CUDA_MOST_LAYERS = 32, TBG_CUDA_MOST_EDGE_FEATURES = 32 };

typedef struct {
    int kind, parts;          /* parts of factors, cuda_tile.h; 0: no tensor cores, cuda_plain.h */
    int H, L, F, nf, K, bits; /* as in reference.c; F = nf + 1 or 2 */
    int harmonic, time_u, tanh, attention;
    float range; /* coords_range / L */
    int n, most_atoms, n_blocks, most_directions;
    int group; /* configurations that a block takes together; 1 with directions and on the plain path */
    int embedding_w, embedding_b, n_parameters;
    tbg_cuda_layer layer[TBG_CUDA_MOST_LAYERS];
    /* Device memory. w: parameters as stored, [out][in]; wt: [in][out]. */
    const float *w, *wt;
    const unsigned short *half;      /* bf16 of w */
    const int *atoms;                /* [n] */
    const int *heard;                /* [n] of them, first ones, count in losses */
    const int *first;                /* [n] atoms before each configuration */
    const int *feature_at, *pair_at; /* [n] where its molecule's node features and pairs begin */
    const float *features;
    const unsigned char *bond;
    const double *pair_mean, *pair_width;
    const double *t, *u, *x;       /* x: [atoms][3], near the origin */
    const double *target, *weight; /* loss, or */
    const double *dv;              /* vector-Jacobian product */
    const double *x_dot;
    double *v, *v_dot, *diagonal, *loss, *dx; /* outputs; NULL where not asked for */
    float *slots;                             /* [n_blocks][n_parameters], zero at the start, or NULL */
    double *gradient;                         /* [n_parameters] */
    char *rooms;
    size_t room_bytes;
} tbg_cuda_job;

/* A step of an optimiser, cuda_update.h: a block a tensor. */
enum { TBG_CUDA_PARTS = 64 }; /* of a sum */
typedef struct {
    int rows, columns, offset;
    int n[2];                       /* length of a rotated side, else 0 */
    size_t covariance[2], basis[2]; /* among the bases */
    size_t scratch, wide, order;    /* where its own part of these arrays begins */
} tbg_cuda_tensor;

typedef struct {
    int n_tensors, only_squares, refine;
    tbg_adam_constants constants;
    /* Device memory. */
    const tbg_cuda_tensor *tensors;
    const double *gradient;
    float *w, *wt, *m, *v, *ema, *bases; /* ema may be NULL */
    unsigned short *half;
    float *scratch;  /* four times a rotated tensor */
    double *wide;    /* of its longest side, n: 2 n n + 2 n */
    int *order;      /* of its sides */
    double *part;    /* [n_tensors][TBG_CUDA_PARTS] */
    double *squares; /* [n_tensors] */
} tbg_cuda_update;

/* Runs blocks, and holds memory. Functions return TBG_OK or an error status with its message set. */
typedef struct {
    const char *name;
    int (*open)(void **device, char *text, size_t text_size); /* text: what the device is called */
    void (*close)(void *device);
    int (*blocks)(void *device,
                  const tbg_cuda_job *job); /* of kind and parts like these: how many run at once */
    size_t (*shared)(void *device);         /* bytes of shared memory that a block may have */
    int (*allocate)(void *device, size_t bytes, void **memory);
    void (*release)(void *device, void *memory);
    int (*allocate_host)(size_t bytes, void **memory); /* that copies pass through quickly */
    void (*release_host)(void *memory);
    /* What is asked for is done in order. Only downloads wait until it is; what is uploaded from memory of
     * allocate_host must not change before one. */
    int (*upload)(void *device, void *to, const void *from, size_t bytes);
    int (*download)(void *device, void *to, const void *from, size_t bytes);
    int (*zero)(void *device, void *memory, size_t bytes);
    int (*run)(void *device, const tbg_cuda_job *job); /* all blocks, then the sum of the slots, in order */
    int (*update)(void *device, const tbg_cuda_update *update);
} tbg_cuda_device;

#ifdef __cplusplus
extern "C" {
#endif
extern const tbg_cuda_device tbg_cuda_emulation; /* cuda_emulation.c */
#ifdef TBG_HAVE_CUDA
extern const tbg_cuda_device tbg_cuda_hardware; /* cuda_device.cu */
#endif
int tbg_cuda_present(void); /* devices found at run time; 0 in a build without CUDA */
size_t tbg_cuda_room_size(const tbg_cuda_job *job);
size_t tbg_cuda_shared_size(const tbg_cuda_job *job); /* of a block with its parts; 0 without */
#ifdef __cplusplus
}
#endif
#endif
