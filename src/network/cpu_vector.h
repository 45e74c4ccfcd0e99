/* cpu_vector.h: vectors of the instruction set at hand and the functions of one variable on them.
 * Included by cpu_*_simd.c only. */
#ifndef TBG_NETWORK_CPU_VECTOR_H
#define TBG_NETWORK_CPU_VECTOR_H
#include "base/simd.h"
#include "network/cpu.h"
#include <stdint.h>
#if defined(TBG_ARCH_avx512) || defined(TBG_ARCH_avx2)
#include <immintrin.h>
#endif

#if defined(TBG_ARCH_avx512)
#define VW 16
#define PANEL 4
#elif defined(TBG_ARCH_avx2)
#define VW 8
#define PANEL 2
#else
#define VW 4
#define PANEL 2
#endif
#define ROWS 6 /* rows of a register block: ROWS * PANEL accumulators, PANEL weights, one broadcast */

typedef float vf __attribute__((vector_size(4 * VW), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * VW), may_alias));
#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) {
    return *(const vf *)p;
}
INLINE void store(float *p, vf v) {
    *(vf *)p = v;
}
INLINE vf splat(float a) {
    return a - (vf){0};
}
/* a where the mask is set, else b. */
INLINE vf choose(vi mask, vf a, vf b) {
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}
INLINE vf vmin(vf a, vf b) {
#if defined(TBG_ARCH_avx512)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(TBG_ARCH_avx2)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return choose(a < b, a, b);
#endif
}
INLINE vf vmax(vf a, vf b) {
#if defined(TBG_ARCH_avx512)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(TBG_ARCH_avx2)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return choose(a > b, a, b);
#endif
}

/* Lane-wise choice and the sums of VW vectors' lanes: result lane r is the sum of v[r]'s lanes. */
#define LANES(F)                                                                                             \
    { LANES_(F) }
#if VW == 16
#define LANES_(F)                                                                                            \
    F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), F(13), F(14), F(15)
#elif VW == 8
#define LANES_(F) F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7)
#else
#define LANES_(F) F(0), F(1), F(2), F(3)
#endif
#define TAKE_SAME(d, l) ((l) & (d) ? VW + (l) : (l))
#define TAKE_OTHER(d, l) ((l) & (d) ? VW + (l) - (d) : (l) + (d))
#define MERGE(d, S, O)                                                                                       \
    for (int q = 0; q < (d); q++) {                                                                          \
        const vi same = LANES(S), other = LANES(O);                                                          \
        vf a = v[q], b = v[q + (d)];                                                                         \
        v[q] = __builtin_shuffle(a, b, same) + __builtin_shuffle(a, b, other);                               \
    }
#define S8(l) TAKE_SAME(8, l)
#define O8(l) TAKE_OTHER(8, l)
#define S4(l) TAKE_SAME(4, l)
#define O4(l) TAKE_OTHER(4, l)
#define S2(l) TAKE_SAME(2, l)
#define O2(l) TAKE_OTHER(2, l)
#define S1(l) TAKE_SAME(1, l)
#define O1(l) TAKE_OTHER(1, l)
INLINE vf lane_sums(vf *v) {
#if VW == 16
    MERGE(8, S8, O8)
#endif
#if VW >= 8
    MERGE(4, S4, O4)
#endif
    MERGE(2, S2, O2)
    MERGE(1, S1, O1)
    return v[0];
}

/* e^x for |x| <= 87 (clamped), relative error below 2e-7. 2^f by a polynomial of degree 5 on [-1/2, 1/2], the
 * integer part enters the exponent bits through the rounding constant 1.5 * 2^23. */
INLINE vf vexp(vf x) {
    x = vmin(vmax(x, splat(-87.0f)), splat(87.0f));
    vf shifted = x * 1.44269504088896341f + 12582912.0f;
    vi k = (vi)shifted;
    vf f = x * 1.44269504088896341f - (shifted - 12582912.0f);
    vf p = f * 1.3395510e-3f + 9.6718751e-3f;
    p = p * f + 5.5503324e-2f;
    p = p * f + 2.4022188e-1f;
    p = p * f + 6.9314720e-1f;
    p = p * f + 1.0f;
    return (vf)((vi)p + (k << 23));
}

INLINE vf vsigmoid(vf x) {
    return 1.0f / (1.0f + vexp(-x)); /* the division is faster than an estimate and a Newton step on Zen 4 */
}

/* tanh with small relative error near 0 too. */
INLINE vf vtanh(vf x) {
    vf y = x * x;
    vf small = y * -8.8632355e-3f + 2.1869489e-2f;
    small = small * y - 5.3968254e-2f;
    small = small * y + 1.3333334e-1f;
    small = small * y - 3.3333334e-1f;
    small = x + x * (small * y);
    vf large = 2.0f * vsigmoid(2.0f * x) - 1.0f;
    return choose(y < 0.16f, small, large + 0.0f * x); /* NaN stays NaN */
}

/* y = silu(x), slope = its derivative. */
INLINE void silu_slope(size_t n, const float *x, float *y, float *slope) {
    for (size_t c = 0; c < n; c += VW) {
        vf v = load(x + c), sigma = vsigmoid(v), a = v * sigma;
        store(y + c, a);
        store(slope + c, sigma + a * (1.0f - sigma));
    }
}

/* Row dots z[m] = sum_c a[m][c] b[m][c]. b_step 0: b is one row. */
INLINE void row_dots(int M, int nv, const float *a, const float *b, size_t b_step, float *z) {
    for (int m = 0; m < M; m += VW) {
        vf sum[VW];
        int rows = M - m < VW ? M - m : VW;
        for (int r = rows; r < VW; r++)
            sum[r] = (vf){0};
        for (int r = 0; r < rows; r++) {
            const float *p = a + (size_t)(m + r) * (size_t)nv * VW, *q = b + (size_t)(m + r) * b_step;
            vf s = {0};
            for (int c = 0; c < nv; c++)
                s += load(p + c * VW) * load(q + c * VW);
            sum[r] = s;
        }
        vf total = lane_sums(sum);
        for (int r = 0; r < rows; r++)
            z[m + r] = total[r];
    }
}

/* ---- products (cpu_gemm_simd.c) ---- */
#define gemm_packed TBG_SIMD_NAME(tbg_cpu_gemm_packed)
#define gemm_outer TBG_SIMD_NAME(tbg_cpu_gemm_outer)
#define column_sum TBG_SIMD_NAME(tbg_cpu_column_sum)
#define silu_array TBG_SIMD_NAME(tbg_cpu_silu_array)
#define measure_gemm TBG_SIMD_NAME(tbg_cpu_measure_gemm)
/* C[M][vectors * VW] = A[M][K] W[K][..] + bias, W packed; bias NULL: C += A W. */
void gemm_packed(int M, int vectors, int K, const float *A, size_t lda, const float *W, const float *bias,
                 float *C, size_t ldc);
#define gemm_packed_part TBG_SIMD_NAME(tbg_cpu_gemm_packed_part)
#define gemm_weighed TBG_SIMD_NAME(tbg_cpu_gemm_weighed)
/* The same with rows k0 .. k0 + K - 1 of a W packed with packed_K rows. */
void gemm_packed_part(int M, int vectors, int K, int packed_K, int k0, const float *A, size_t lda,
                      const float *W, const float *bias, float *C, size_t ldc);
/* S[m][..] += f[..] (A W)[m][..] + z[m] a[..]; rows of A contiguous. */
void gemm_weighed(int M, int vectors, int K, const float *A, const float *W, const float *f, const float *a,
                  const float *z, float *S, size_t lds);
/* C[K][..] += sum over rows e < M of A[e][k] B[e][..], all row-major: the gradient of weights [k][c]. */
void gemm_outer(int M, int vectors, int K, const float *A, size_t lda, const float *B, size_t ldb, float *C,
                size_t ldc);
/* sum[..] += column sums of A[M][vectors * VW]. */
void column_sum(int M, int vectors, const float *A, size_t lda, float *sum);
void silu_array(size_t n, const float *x, float *y); /* n: multiple of VW */
double measure_gemm(void);

/* ---- layers (cpu_forward_simd.c, cpu_backward_simd.c) ---- */
#define layer_geometry TBG_SIMD_NAME(tbg_cpu_layer_geometry)
#define layer_edges TBG_SIMD_NAME(tbg_cpu_layer_edges)
#define forward_pass TBG_SIMD_NAME(tbg_cpu_forward)
#define backward_pass TBG_SIMD_NAME(tbg_cpu_backward)
#define move_atoms TBG_SIMD_NAME(tbg_cpu_move_atoms)
#define update_nodes TBG_SIMD_NAME(tbg_cpu_update_nodes)
#define embed_nodes TBG_SIMD_NAME(tbg_cpu_embed_nodes)
#define divergence_pass TBG_SIMD_NAME(tbg_cpu_divergence)
#define tangent_pass TBG_SIMD_NAME(tbg_cpu_tangent)
void embed_nodes(const tbg_cpu_net *net, tbg_cpu_work *work);
void move_atoms(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int store_layer);
void update_nodes(const tbg_cpu_net *net, tbg_cpu_work *work, int l);
#define share_layer TBG_SIMD_NAME(tbg_cpu_share_layer)
#define slope_row TBG_SIMD_NAME(tbg_cpu_slope_row)
#define tangent_nodes TBG_SIMD_NAME(tbg_cpu_tangent_nodes)
#define primal_layer TBG_SIMD_NAME(tbg_cpu_primal_layer)
void share_layer(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int need_messages);
void slope_row(const tbg_cpu_net *net, const tbg_cpu_work *work, int l, size_t e, float factor_r, float *out);
void tangent_nodes(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int n_rows, float *h_dot, int h_zero,
                   float *scratch);
void primal_layer(const tbg_cpu_net *net, tbg_cpu_work *work, int l);
double divergence_pass(const tbg_cpu_net *net, tbg_cpu_work *work);
void tangent_pass(const tbg_cpu_net *net, tbg_cpu_work *work, const double *x_dot, double *v_dot);
void layer_geometry(const tbg_cpu_net *net, tbg_cpu_work *work, int l);
void layer_edges(const tbg_cpu_net *net, tbg_cpu_work *work, int l, int store_layer, int need_messages);
void forward_pass(const tbg_cpu_net *net, tbg_cpu_work *work, int store);
void backward_pass(const tbg_cpu_net *net, tbg_cpu_work *work, float *gradient, int want_input);
#endif
