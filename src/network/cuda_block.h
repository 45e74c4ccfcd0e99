/* cuda_block.h: how one source describes a block of threads on the device and on the host.
 *
 * Code is a sequence of phases. Within a phase items are independent; TBG_SYNC() ends it. On the device a
 * phase's items are dealt to threads; on the host they run one after the other, last first, so that code
 * which relies on an order inside a phase gives other answers than the reference in tests. Registers that
 * live across phases are arrays over warps and lanes, of length 1 on the device. */
#ifndef TBG_NETWORK_CUDA_BLOCK_H
#define TBG_NETWORK_CUDA_BLOCK_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define TBG_BLOCK_F static __device__ __noinline__
#define TBG_BLOCK_INLINE static __device__ __forceinline__
#define TBG_EACH(i, n) for (int i = (int)threadIdx.x; i < (n); i += (int)blockDim.x)
#define TBG_SYNC() __syncthreads()
enum { TBG_LANES = 1 };
#define TBG_WARPS(n) 1
#define TBG_EACH_WARP(w, warp, n) for (int w = 0, warp = (int)threadIdx.x / 32; w < 1; w++)
#define TBG_EACH_LANE(l, lane) for (int l = 0, lane = (int)threadIdx.x & 31; l < 1; l++)
#define TBG_UNROLL _Pragma("unroll")
#define TBG_UNROLL_1 _Pragma("unroll 1")
#else
#define TBG_BLOCK_F static inline
#define TBG_BLOCK_INLINE static inline
#define TBG_EACH(i, n) for (int i = (n)-1; i >= 0; i--)
#define TBG_SYNC() ((void)0)
enum { TBG_LANES = 32 };
#define TBG_WARPS(n) (n)
#define TBG_EACH_WARP(w, warp, n) for (int w = (n)-1, warp = (n)-1; w >= 0; w--, warp--)
#define TBG_EACH_LANE(l, lane) for (int l = 0, lane = 0; l < 32; l++, lane++)
#define TBG_UNROLL
#define TBG_UNROLL_1
#endif
#endif
