/* cuda_emulation.c: runs the blocks of a CUDA job on the host, items of a phase last first. For tests of
 * everything but the instructions and the launches; slow. */
#include "base/memory.h"
#include "network/cuda.h"
#include "network/cuda_run.h"
#include "network/cuda_update.h"
#include "tbg/status.h"

#include <stdio.h>
#include <stdlib.h>

static int open_device(void **device, char *text, size_t text_size) {
    *device = NULL;
    snprintf(text, text_size, "emulation on the host");
    return TBG_OK;
}

static void close_device(void *device) {
    (void)device;
}

static int blocks(void *device, const tbg_cuda_job *job) {
    (void)device;
    (void)job;
    return 3;
}

static size_t shared_memory(void *device) {
    (void)device;
    return SIZE_MAX;
}

static int allocate(void *device, size_t bytes, void **memory) {
    (void)device;
    *memory = tbg_alloc(1, bytes);
    return *memory ? TBG_OK : TBG_FAILED;
}

static void release(void *device, void *memory) {
    (void)device;
    free(memory);
}

static int allocate_host(size_t bytes, void **memory) {
    return allocate(NULL, bytes, memory);
}

static int copy(void *device, void *to, const void *from, size_t bytes) {
    (void)device;
    memcpy(to, from, bytes);
    return TBG_OK;
}

static int zero(void *device, void *memory, size_t bytes) {
    (void)device;
    memset(memory, 0, bytes);
    return TBG_OK;
}

static int run(void *device, const tbg_cuda_job *job) {
    (void)device;
    const size_t each = tbg_cuda_shared_size(job);
    char *shared = tbg_alloc((size_t)job->n_blocks, each + 1);
    if (!shared)
        return TBG_FAILED;
#pragma omp parallel for schedule(dynamic)
    for (int b = 0; b < job->n_blocks; b++) {
        tbg_cuda_room room;
        tbg_cuda_carve(job, job->rooms + (size_t)b * job->room_bytes, &room);
        run_block(job, &room, b, shared + (size_t)b * each, job->parts ? job->H : 0, job->parts);
    }
    for (int k = 0; k < job->n_parameters && job->slots; k++) {
        double sum = 0;
        for (int b = 0; b < job->n_blocks; b++)
            sum += (double)job->slots[(size_t)b * (size_t)job->n_parameters + (size_t)k];
        job->gradient[k] = sum;
    }
    free(shared);
    return TBG_OK;
}

static int update(void *device, const tbg_cuda_update *u) {
    (void)device;
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < u->n_tensors; i++)
        update_block(u, i);
    return TBG_OK;
}

const tbg_cuda_device tbg_cuda_emulation = {
    .name = "cuda-emulation",
    .open = open_device,
    .close = close_device,
    .blocks = blocks,
    .shared = shared_memory,
    .allocate = allocate,
    .release = release,
    .allocate_host = allocate_host,
    .release_host = free,
    .upload = copy,
    .download = copy,
    .zero = zero,
    .run = run,
    .update = update,
};

size_t tbg_cuda_room_size(const tbg_cuda_job *job) {
    static char anchor[128]; /* addresses are formed from it, and never used */
    tbg_cuda_room room;
    return tbg_cuda_carve(job, anchor, &room);
}

size_t tbg_cuda_shared_size(const tbg_cuda_job *job) {
    return job->parts ? tile_shared_size(job->H, job->parts) : 0;
}
