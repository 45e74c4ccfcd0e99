/* cuda_mma.h: what one warp does with tensor cores: ldmatrix and mma.m16n8k16 with bf16 factors and
 * single-precision sums, and the products of tiles made of them. On the host the instructions are emulated
 * lane by lane after their definitions in the PTX manual, so that the addresses and fragments of tests are
 * those of the device.
 *
 * Matrices lie in shared memory as bf16, rows `stride` apart, stride = width + 8: rows start at 16-byte
 * multiples and eight consecutive ones touch different banks. */
#ifndef TBG_NETWORK_CUDA_MMA_H
#define TBG_NETWORK_CUDA_MMA_H
#include "network/cuda_block.h"

typedef unsigned short tbg_half; /* bf16 */

#ifdef __CUDACC__
TBG_BLOCK_INLINE float mma_tanh(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#else
TBG_BLOCK_INLINE float mma_tanh(float x) {
    return tanhf(x);
}
#endif

TBG_BLOCK_INLINE float mma_sigmoid(float z) {
    return 0.5f + 0.5f * mma_tanh(0.5f * z);
}

TBG_BLOCK_INLINE float mma_silu(float z) {
    return z * mma_sigmoid(z);
}

TBG_BLOCK_INLINE float mma_slope(float z) {
    const float s = mma_sigmoid(z);
    return s + z * s * (1 - s);
}

TBG_BLOCK_INLINE tbg_half mma_half(float value) {
#ifdef __CUDACC__
    unsigned short h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(value));
    return h;
#else
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (tbg_half)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

TBG_BLOCK_INLINE float mma_float(tbg_half h) {
#ifdef __CUDACC__
    return __uint_as_float((unsigned)h << 16);
#else
    uint32_t bits = (uint32_t)h << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

/* Four 8x8 matrices; row[lane]: the row that each lane names (matrix lane / 8, row lane % 8). */
TBG_BLOCK_INLINE void mma_load(unsigned (*to)[4], const tbg_half *const *row, int transposed) {
#ifdef __CUDACC__
    const unsigned at = (unsigned)__cvta_generic_to_shared(row[0]);
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0][0]), "=r"(to[0][1]), "=r"(to[0][2]), "=r"(to[0][3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0][0]), "=r"(to[0][1]), "=r"(to[0][2]), "=r"(to[0][3])
                     : "r"(at)
                     : "memory");
#else
    for (int lane = 0; lane < 32; lane++)
        for (int q = 0; q < 4; q++) {
            const int major = lane / 4, minor = 2 * (lane % 4);
            const unsigned low = transposed ? row[8 * q + minor][major] : row[8 * q + major][minor];
            const unsigned high = transposed ? row[8 * q + minor + 1][major] : row[8 * q + major][minor + 1];
            to[lane][q] = low | high << 16;
        }
#endif
}

/* sum[lane][part] += A B for one m16n8k16; a: A's fragment, b[lane][from], b[lane][from + 1]: B's. */
TBG_BLOCK_INLINE void mma_multiply(float (*sum)[4][4], int part, unsigned (*a)[4], unsigned (*b)[4],
                                   int from) {
#ifdef __CUDACC__
    float *d = sum[0][part];
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0][0]), "r"(a[0][1]), "r"(a[0][2]), "r"(a[0][3]), "r"(b[0][from]),
                   "r"(b[0][from + 1]));
#else
    float A[16][16], B[16][8];
    for (int lane = 0; lane < 32; lane++) {
        for (int q = 0; q < 4; q++) {
            const int row = lane / 4 + (q & 1) * 8, column = 2 * (lane % 4) + (q >> 1) * 8;
            A[row][column] = mma_float((tbg_half)(a[lane][q] & 0xffff));
            A[row][column + 1] = mma_float((tbg_half)(a[lane][q] >> 16));
        }
        for (int q = 0; q < 2; q++) {
            const int k = 2 * (lane % 4) + 8 * q;
            B[k][lane / 4] = mma_float((tbg_half)(b[lane][from + q] & 0xffff));
            B[k + 1][lane / 4] = mma_float((tbg_half)(b[lane][from + q] >> 16));
        }
    }
    for (int lane = 0; lane < 32; lane++)
        for (int q = 0; q < 4; q++) {
            const int row = lane / 4 + (q >> 1) * 8, column = 2 * (lane % 4) + (q & 1);
            for (int k = 0; k < 16; k++)
                sum[lane][part][q] += A[row][k] * B[k][column];
        }
#endif
}

/* sum (16 x 32 at row m, column n) += sum over k < depth of A[m + .][k] B[k][n + .]. a_turned: A lies as
 * [k][m], else as [m][k]; b_turned: B lies as [k][n], else as [n][k]. */
TBG_BLOCK_INLINE void mma_tile(float (*sum)[4][4], int depth, const tbg_half *A, int a_turned, int m,
                               const tbg_half *B, int b_turned, int n, int stride) {
    TBG_UNROLL
    for (int k = 0; k < depth; k += 16) {
        unsigned a[TBG_LANES][4], b[TBG_LANES][4];
        const tbg_half *row[TBG_LANES];
        TBG_EACH_LANE(l, lane)
        row[l] = a_turned ? A + (k + (lane & 7) + (lane >> 4) * 8) * stride + m + (lane >> 3 & 1) * 8
                          : A + (m + (lane & 15)) * stride + k + (lane >> 4) * 8;
        mma_load(a, row, a_turned);
        TBG_UNROLL
        for (int part = 0; part < 4; part += 2) {
            const int at = n + 8 * part;
            TBG_EACH_LANE(l, lane)
            row[l] = b_turned ? B + (k + (lane & 15)) * stride + at + (lane >> 4) * 8
                              : B + (at + (lane & 7) + (lane >> 4) * 8) * stride + k + (lane >> 3 & 1) * 8;
            mma_load(b, row, b_turned);
            mma_multiply(sum, part, a, b, 0);
            mma_multiply(sum, part + 1, a, b, 2);
        }
    }
}
#endif
