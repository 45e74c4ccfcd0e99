/* cpu_gemm_simd.c: the two matrix products of the network, blocked for registers.
 *
 * Owns: C = A W + b with packed weights, and rank-k updates C += A^T B; sums of columns. Refuses: anything
 * about edges or layers. Sizes are small (K and C up to 1024), so a panel of weights stays in the first two
 * caches and no blocking for caches is done: the rows of A come in tiles. */
#include "network/cpu_vector.h"
#include <stdlib.h>
#include <time.h>

/* With sanitizers every access of an unrolled block is instrumented and compilation takes minutes: one
 * general copy then. */
#ifdef __SANITIZE_ADDRESS__
#define BLOCK static __attribute__((noinline))
#define UNROLL(n)
#else
#define BLOCK INLINE
#define UNROLL_(text) _Pragma(#text)
#define UNROLL(n) UNROLL_(GCC unroll n)
#endif

/* One register block: rows x panel vectors of C. The element of A for row m, depth k is A[m * row_step + k *
 * depth_step]. */
BLOCK void block(const int rows, const int panel, int K, const float *restrict A, size_t row_step,
                 size_t depth_step, const float *restrict B, size_t ldb, const float *bias, float *restrict C,
                 size_t ldc) {
    vf acc[ROWS][PANEL];
    UNROLL(8)
    for (int m = 0; m < rows; m++)
        UNROLL(4)
    for (int n = 0; n < panel; n++)
        acc[m][n] = bias ? load(bias + n * VW) : load(C + (size_t)m * ldc + n * VW);
    for (int k = 0; k < K; k++) {
        vf b[PANEL];
        UNROLL(4)
        for (int n = 0; n < panel; n++)
            b[n] = load(B + (size_t)k * ldb + n * VW);
        UNROLL(8)
        for (int m = 0; m < rows; m++) {
            float a = A[(size_t)m * row_step + (size_t)k * depth_step];
            UNROLL(4)
            for (int n = 0; n < panel; n++)
                acc[m][n] += a * b[n];
        }
    }
    UNROLL(8)
    for (int m = 0; m < rows; m++)
        UNROLL(4)
    for (int n = 0; n < panel; n++)
        store(C + (size_t)m * ldc + n * VW, acc[m][n]);
}

BLOCK void panel_rows(const int panel, int M, int K, const float *A, size_t row_step, size_t depth_step,
                      const float *B, size_t ldb, const float *bias, float *C, size_t ldc) {
    int m = 0;
    for (; m + ROWS <= M; m += ROWS)
        block(ROWS, panel, K, A + (size_t)m * row_step, row_step, depth_step, B, ldb, bias,
              C + (size_t)m * ldc, ldc);
    A += (size_t)m * row_step;
    C += (size_t)m * ldc;
    switch (M - m) {
    case 5:
        block(5, panel, K, A, row_step, depth_step, B, ldb, bias, C, ldc);
        break;
    case 4:
        block(4, panel, K, A, row_step, depth_step, B, ldb, bias, C, ldc);
        break;
    case 3:
        block(3, panel, K, A, row_step, depth_step, B, ldb, bias, C, ldc);
        break;
    case 2:
        block(2, panel, K, A, row_step, depth_step, B, ldb, bias, C, ldc);
        break;
    case 1:
        block(1, panel, K, A, row_step, depth_step, B, ldb, bias, C, ldc);
        break;
    default:
        break;
    }
}

/* Panels in the order of tbg_cpu_pack_index: full ones, then halves. */
void gemm_packed_part(int M, int vectors, int K, int packed_K, int k0, const float *A, size_t lda,
                      const float *W, const float *bias, float *C, size_t ldc) {
    int c = 0;
    for (; c + PANEL <= vectors; c += PANEL)
        panel_rows(PANEL, M, K, A, lda, 1, W + ((size_t)packed_K * (size_t)c + (size_t)(k0 * PANEL)) * VW,
                   PANEL * VW, bias ? bias + c * VW : NULL, C + c * VW, ldc);
#if PANEL > 2
    for (; c + 2 <= vectors; c += 2)
        panel_rows(2, M, K, A, lda, 1, W + ((size_t)packed_K * (size_t)c + (size_t)(k0 * 2)) * VW, 2 * VW,
                   bias ? bias + c * VW : NULL, C + c * VW, ldc);
#endif
    for (; c < vectors; c++)
        panel_rows(1, M, K, A, lda, 1, W + ((size_t)packed_K * (size_t)c + (size_t)k0) * VW, VW,
                   bias ? bias + c * VW : NULL, C + c * VW, ldc);
}

void gemm_packed(int M, int vectors, int K, const float *A, size_t lda, const float *W, const float *bias,
                 float *C, size_t ldc) {
    gemm_packed_part(M, vectors, K, K, 0, A, lda, W, bias, C, ldc);
}

/* A register block whose result is not stored but weighed and added: S[m] += f (A W)[m] + z[m] a. */
BLOCK void weighed_block(const int rows, const int panel, int K, const float *restrict A,
                         const float *restrict W, const float *f, const float *a, const float *z,
                         float *restrict S, size_t lds) {
    vf acc[ROWS][PANEL];
    UNROLL(8)
    for (int m = 0; m < rows; m++)
        UNROLL(4)
    for (int n = 0; n < panel; n++)
        acc[m][n] = (vf){0};
    for (int k = 0; k < K; k++) {
        vf b[PANEL];
        UNROLL(4)
        for (int n = 0; n < panel; n++)
            b[n] = load(W + (size_t)(k * panel + n) * VW);
        UNROLL(8)
        for (int m = 0; m < rows; m++) {
            float x = A[(size_t)m * (size_t)K + (size_t)k];
            UNROLL(4)
            for (int n = 0; n < panel; n++)
                acc[m][n] += x * b[n];
        }
    }
    UNROLL(4)
    for (int n = 0; n < panel; n++) {
        vf fn = load(f + n * VW), an = load(a + n * VW);
        UNROLL(8)
        for (int m = 0; m < rows; m++) {
            float *s = S + (size_t)m * lds + n * VW;
            store(s, load(s) + fn * acc[m][n] + z[m] * an);
        }
    }
}

BLOCK void weighed_rows(const int panel, int M, int K, const float *A, const float *W, const float *f,
                        const float *a, const float *z, float *S, size_t lds) {
    int m = 0;
    for (; m + ROWS <= M; m += ROWS)
        weighed_block(ROWS, panel, K, A + (size_t)m * (size_t)K, W, f, a, z + m, S + (size_t)m * lds, lds);
    for (; m + 3 <= M; m += 3)
        weighed_block(3, panel, K, A + (size_t)m * (size_t)K, W, f, a, z + m, S + (size_t)m * lds, lds);
    for (; m < M; m++)
        weighed_block(1, panel, K, A + (size_t)m * (size_t)K, W, f, a, z + m, S + (size_t)m * lds, lds);
}

/* S[m][..] += f[..] (A W)[m][..] + z[m] a[..]; A: [M][K] contiguous rows. */
void gemm_weighed(int M, int vectors, int K, const float *A, const float *W, const float *f, const float *a,
                  const float *z, float *S, size_t lds) {
    int c = 0;
    for (; c + PANEL <= vectors; c += PANEL)
        weighed_rows(PANEL, M, K, A, W + (size_t)K * (size_t)c * VW, f + c * VW, a + c * VW, z, S + c * VW,
                     lds);
#if PANEL > 2
    for (; c + 2 <= vectors; c += 2)
        weighed_rows(2, M, K, A, W + (size_t)K * (size_t)c * VW, f + c * VW, a + c * VW, z, S + c * VW, lds);
#endif
    for (; c < vectors; c++)
        weighed_rows(1, M, K, A, W + (size_t)K * (size_t)c * VW, f + c * VW, a + c * VW, z, S + c * VW, lds);
}

void gemm_outer(int M, int vectors, int K, const float *A, size_t lda, const float *B, size_t ldb, float *C,
                size_t ldc) {
    int c = 0;
    for (; c + PANEL <= vectors; c += PANEL)
        panel_rows(PANEL, K, M, A, 1, lda, B + c * VW, ldb, NULL, C + c * VW, ldc);
#if PANEL > 2
    for (; c + 2 <= vectors; c += 2)
        panel_rows(2, K, M, A, 1, lda, B + c * VW, ldb, NULL, C + c * VW, ldc);
#endif
    for (; c < vectors; c++)
        panel_rows(1, K, M, A, 1, lda, B + c * VW, ldb, NULL, C + c * VW, ldc);
}

void column_sum(int M, int vectors, const float *A, size_t lda, float *sum) {
    for (int c = 0; c < vectors; c++) {
        vf s = load(sum + c * VW);
        for (int m = 0; m < M; m++)
            s += load(A + (size_t)m * lda + c * VW);
        store(sum + c * VW, s);
    }
}

void silu_array(size_t n, const float *x, float *y) {
    for (size_t c = 0; c < n; c += VW) {
        vf v = load(x + c);
        store(y + c, v * vsigmoid(v));
    }
}

/* Peak of the machine as the network can see it: a product whose operands stay in the first cache. */
double measure_gemm(void) {
    enum { M = 48, C = 4 * VW, K = 64, REPEATS = 400 };
    float *space = aligned_alloc(64, sizeof(float) * (M * K + K * C + M * C + C));
    if (!space)
        return 0;
    for (int i = 0; i < M * K + K * C + M * C + C; i++)
        space[i] = 1e-3f * (float)(i % 17);
    double best = 0;
    for (int trial = 0; trial < 64; trial++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int r = 0; r < REPEATS; r++)
            gemm_packed(M, C / VW, K, space, K, space + M * K, space + M * K + K * C + M * C,
                        space + M * K + K * C, C);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        double rate = 2e-9 * M * C * K * REPEATS / seconds;
        best = rate > best ? rate : best;
    }
    free(space);
    return best;
}
