/* cuda_device.cu: runs the blocks of a job on a CUDA device: one thread block each, then the sum of the
 * gradient slots in order. Which device: CUDA's first (CUDA_VISIBLE_DEVICES chooses). Refuses nothing itself:
 * errors of the runtime become messages. */
#include "network/cuda.h"
#include "network/cuda_run.h"
#include "network/cuda_update.h"

#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>

extern "C" {
#include "tbg/status.h"
}
enum { OK = TBG_OK, FAILED = TBG_FAILED };

typedef struct {
    int multiprocessors;
    size_t shared; /* bytes that a block may have beside its static ones */
    cudaStream_t stream;
} hardware;

static int check(cudaError_t e, const char *what) {
    return e == cudaSuccess ? OK : tbg_fail(FAILED, "CUDA: %s: %s", what, cudaGetErrorString(e));
}

template <int H> struct shape {
    enum { threads = 4 * H, blocks = 128 / H }; /* blocks at once on a multiprocessor */
};

/* The block's scratch memory; its addresses lie in shared memory, for they are many. */
static __device__ void enter(const tbg_cuda_job *J, tbg_cuda_room *room) {
    if (!threadIdx.x)
        tbg_cuda_carve(J, J->rooms + blockIdx.x * J->room_bytes, room);
    __syncthreads();
}

/* The plain path has its own kernel; the tensor path is made for its width and parts. */
__global__ void __launch_bounds__(256) plain_kernel(const __grid_constant__ tbg_cuda_job J) {
    __shared__ tbg_cuda_room room;
    enter(&J, &room);
    run_block(&J, &room, (int)blockIdx.x, NULL, 0, 0);
}

template <int H, int PARTS>
__global__ void __launch_bounds__(shape<H>::threads, shape<H>::blocks)
    tensor_kernel(const __grid_constant__ tbg_cuda_job J) {
    extern __shared__ __align__(16) char shared[];
    __shared__ tbg_cuda_room room;
    enter(&J, &room);
    run_block(&J, &room, (int)blockIdx.x, shared, H, PARTS);
}

__global__ void sum_slots(int n, int n_slots, const float *slots, double *sum) {
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (k >= n)
        return;
    double total = 0;
    for (int b = 0; b < n_slots; b++)
        total += (double)slots[(size_t)b * n + k];
    sum[k] = total;
}

__global__ void __launch_bounds__(512) update_kernel(const __grid_constant__ tbg_cuda_update U) {
    update_block(&U, (int)blockIdx.x);
}

extern "C" int tbg_cuda_present(void) {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return n;
}

template <int H, int PARTS> static int make_room(const hardware *h) {
    const size_t bytes = tile_shared_size(H, PARTS);
    return bytes > h->shared
               ? OK
               : check(cudaFuncSetAttribute(tensor_kernel<H, PARTS>,
                                            cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                       "shared memory");
}

template <int H, int PARTS> static void launch(const hardware *h, const tbg_cuda_job *J) {
    tensor_kernel<H, PARTS><<<J->n_blocks, shape<H>::threads, tile_shared_size(H, PARTS), h->stream>>>(*J);
}

static int open_device(void **device, char *text, size_t text_size) {
    if (!tbg_cuda_present())
        return tbg_fail(FAILED, "no CUDA device is present, or its driver is missing; use the backend 'cpu'");
    cudaDeviceProp p;
    int e = check(cudaGetDeviceProperties(&p, 0), "device properties");
    if (e)
        return e;
    if (p.major < 8)
        return tbg_fail(FAILED, "CUDA device '%s' has compute capability %d.%d; 8.0 is needed", p.name,
                        p.major, p.minor);
    hardware *h = (hardware *)std::calloc(1, sizeof *h);
    if (!h)
        return tbg_fail(FAILED, "out of memory");
    h->multiprocessors = p.multiProcessorCount;
    std::snprintf(text, text_size, "%s", p.name);
    e = check(cudaStreamCreate(&h->stream), "stream");
    h->shared = p.sharedMemPerBlockOptin - sizeof(tbg_cuda_room);
    if (!e)
        e = make_room<32, 1>(h);
    if (!e)
        e = make_room<32, 2>(h);
    if (!e)
        e = make_room<64, 1>(h);
    if (!e)
        e = make_room<64, 2>(h);
    if (!e)
        e = make_room<128, 1>(h);
    if (!e)
        e = make_room<128, 2>(h);
    if (e) {
        std::free(h);
        return e;
    }
    *device = h;
    return OK;
}

static void close_device(void *device) {
    hardware *h = (hardware *)device;
    if (!h)
        return;
    cudaStreamDestroy(h->stream);
    std::free(h);
}

static int blocks(void *device, const tbg_cuda_job *J) {
    return (J->parts ? 128 / J->H : 2) * ((hardware *)device)->multiprocessors;
}

static size_t shared_memory(void *device) {
    return ((hardware *)device)->shared;
}

static int allocate(void *, size_t bytes, void **memory) {
    return check(cudaMalloc(memory, bytes), "device memory");
}

static void release(void *, void *memory) {
    cudaFree(memory);
}

static int allocate_host(size_t bytes, void **memory) {
    return check(cudaMallocHost(memory, bytes), "host memory");
}

static void release_host(void *memory) {
    cudaFreeHost(memory);
}

static int upload(void *device, void *to, const void *from, size_t bytes) {
    return check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, ((hardware *)device)->stream),
                 "copy to the device");
}

static int download(void *device, void *to, const void *from, size_t bytes) {
    cudaStream_t stream = ((hardware *)device)->stream;
    int e = check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copy from the device");
    return e ? e : check(cudaStreamSynchronize(stream), "kernel");
}

static int zero(void *device, void *memory, size_t bytes) {
    return check(cudaMemsetAsync(memory, 0, bytes, ((hardware *)device)->stream), "clearing device memory");
}

static int run(void *device, const tbg_cuda_job *J) {
    hardware *h = (hardware *)device;
    if (!J->parts)
        plain_kernel<<<J->n_blocks, 256, 0, h->stream>>>(*J);
    else if (J->H == 32)
        J->parts == 2 ? launch<32, 2>(h, J) : launch<32, 1>(h, J);
    else if (J->H == 64)
        J->parts == 2 ? launch<64, 2>(h, J) : launch<64, 1>(h, J);
    else
        J->parts == 2 ? launch<128, 2>(h, J) : launch<128, 1>(h, J);
    int e = check(cudaGetLastError(), "kernel launch");
    if (!e && J->slots) {
        sum_slots<<<(J->n_parameters + 255) / 256, 256, 0, h->stream>>>(J->n_parameters, J->n_blocks,
                                                                        J->slots, J->gradient);
        e = check(cudaGetLastError(), "launch of the sum of gradients");
    }
    return e;
}

static int update(void *device, const tbg_cuda_update *u) {
    update_kernel<<<u->n_tensors, 512, 0, ((hardware *)device)->stream>>>(*u);
    return check(cudaGetLastError(), "launch of the optimiser");
}

extern "C" const tbg_cuda_device tbg_cuda_hardware = {
    "cuda",        open_device,  close_device, blocks,   shared_memory, allocate, release,
    allocate_host, release_host, upload,       download, zero,          run,      update};
