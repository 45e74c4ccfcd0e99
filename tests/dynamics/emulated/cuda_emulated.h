/* cuda_emulated.h: as much of the CUDA runtime as cuda_dynamics.cu uses, on the host, so that its bookkeeping
 * (offsets, copies, order of launches) is tested where there is no device. A launch runs at once; a group of
 * threads is one call (its threads take turns in TBG_EACH), a block of another kernel has one thread. Nothing
 * is learnt here about races between threads or about the device's rounding. */
#ifndef TBG_TESTS_CUDA_EMULATED_H
#define TBG_TESTS_CUDA_EMULATED_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __global__ static
#define __device__
#define __launch_bounds__(n)
#define __syncthreads() ((void)0)

typedef int cudaError_t;
typedef int cudaStream_t;
typedef int cudaEvent_t;
typedef struct {
    char name[32];
    int major, minor;
} cudaDeviceProp;
enum { cudaSuccess, cudaErrorMemoryAllocation };
enum { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum {
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaFuncAttributeMaxDynamicSharedMemorySize,
    cudaEventDisableTiming
};
enum { EMULATED_SHARED = 227 * 1024 };

static struct { unsigned x; } blockIdx, threadIdx, blockDim;
static double emulated_shared[EMULATED_SHARED / sizeof(double) + 1];
#define SHARED_MEMORY(name) double *name = emulated_shared

/* Garbage in memory: what a kernel reads without having written shows. */
#define LAUNCH(kernel, group_kernel, blocks, threads, shared, stream, ...)                                   \
    do {                                                                                                     \
        unsigned calls_ = (group_kernel) ? (unsigned)(threads) / 32 : 1;                                     \
        (void)(stream);                                                                                      \
        blockDim.x = (group_kernel) ? (unsigned)(threads) : 1;                                               \
        for (blockIdx.x = 0; blockIdx.x < (blocks); blockIdx.x++) {                                          \
            memset(emulated_shared, 0xff, 8 + (shared));                                                     \
            for (unsigned call_ = 0; call_ < calls_; call_++) {                                              \
                threadIdx.x = call_ * 32;                                                                    \
                kernel(__VA_ARGS__);                                                                         \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

static inline const char *cudaGetErrorString(cudaError_t e) {
    return e ? "no memory" : "none";
}
static inline cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}
static inline cudaError_t cudaGetDeviceCount(int *n) {
    return *n = 1, cudaSuccess;
}
static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    *p = cudaDeviceProp{"the host, emulating", 9, 0};
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, int, int) {
    return *value = EMULATED_SHARED, cudaSuccess;
}
template <typename K> static cudaError_t cudaFuncSetAttribute(K, int, int) {
    return cudaSuccess;
}
static inline cudaError_t cudaMalloc(void **out, size_t n) {
    *out = malloc(n ? n : 1);
    if (*out)
        memset(*out, 0xff, n);
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaMallocHost(void **out, size_t n) {
    return cudaMalloc(out, n);
}
static inline cudaError_t cudaFree(void *p) {
    return free(p), cudaSuccess;
}
static inline cudaError_t cudaFreeHost(void *p) {
    return free(p), cudaSuccess;
}
static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t n, int) {
    return memcpy(to, from, n), cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, int, cudaStream_t) {
    return memcpy(to, from, n), cudaSuccess;
}
static inline cudaError_t cudaStreamCreate(cudaStream_t *s) {
    return *s = 1, cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return cudaSuccess;
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t) {
    return cudaSuccess;
}
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, int) {
    return *e = 1, cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
    return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return cudaSuccess;
}
static inline cudaError_t cudaEventDestroy(cudaEvent_t) {
    return cudaSuccess;
}
#endif
