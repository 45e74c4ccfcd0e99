/* vecmath.h: vectors of floats (vf_*) and doubles (vd_*) for the *_simd.c files of this floor, one register
 * wide on the set they are compiled for, and the few functions that energies need. Include from *_simd.c
 * only.
 *
 * Largest relative errors, measured by tests/energy/test_vecmath.c on every set:
 *                         float     double
 *   vX_rcp                1.4e-7    1.1e-16
 *   vX_rsqrt              1.5e-7    1.6e-16
 *   vX_exp2, x <= 0       2.2e-7    1.4e-16
 *   vX_log                1.1e-7    2.0e-16   (of max(1, |log x|))
 *   vX_atan2, y >= 0      1.5e-7    2.3e-16
 *   vX_atanh_rest         2.9e-7    2.4e-16
 * Special values: NaN in gives NaN out, except vX_log, which gives anything finite for NaN, Inf, zero or
 * negative; vX_rsqrt(0) is NaN; vX_exp2 flushes below the normal range to (almost) zero. */
#ifndef TBG_ENERGY_VECMATH_H
#define TBG_ENERGY_VECMATH_H
#include "energy/formulas.h"
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define TBG_VECTOR_BYTES 64
#define TBG_VEC_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__)
#define TBG_VECTOR_BYTES 32
#define TBG_VEC_AVX2 1
#else
#define TBG_VECTOR_BYTES 16
#endif
#define TBG_VF_WIDTH (TBG_VECTOR_BYTES / 4)
#define TBG_VD_WIDTH (TBG_VECTOR_BYTES / 8)

typedef float vf __attribute__((vector_size(TBG_VECTOR_BYTES)));
typedef double vd __attribute__((vector_size(TBG_VECTOR_BYTES)));
typedef int32_t vfi __attribute__((vector_size(TBG_VECTOR_BYTES)));
typedef int64_t vdi __attribute__((vector_size(TBG_VECTOR_BYTES)));
typedef float vf_unaligned __attribute__((vector_size(TBG_VECTOR_BYTES), aligned(4), may_alias));
typedef double vd_unaligned __attribute__((vector_size(TBG_VECTOR_BYTES), aligned(8), may_alias));

#define TBG_INLINE static inline __attribute__((always_inline, unused))

TBG_INLINE vf vf_load(const float *p) {
    return *(const vf_unaligned *)p;
}
TBG_INLINE void vf_store(float *p, vf x) {
    *(vf_unaligned *)p = x;
}
TBG_INLINE vd vd_load(const double *p) {
    return *(const vd_unaligned *)p;
}
TBG_INLINE void vd_store(double *p, vd x) {
    *(vd_unaligned *)p = x;
}
TBG_INLINE vf vf_splat(float x) {
    return x - (vf){0};
}
TBG_INLINE vd vd_splat(double x) {
    return x - (vd){0};
}

/* ---- masks: comparison, choice, any lane set. vX_max(a, b) is a > b ? a : b, so NaN in either gives b. ----
 */
#if TBG_VEC_AVX512
typedef __mmask16 vf_mask;
typedef __mmask8 vd_mask;
TBG_INLINE vf_mask vf_lt(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
TBG_INLINE vd_mask vd_lt(vd a, vd b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ);
}
TBG_INLINE vf vf_select(vf_mask m, vf a, vf b) {
    return _mm512_mask_blend_ps(m, b, a);
}
TBG_INLINE vd vd_select(vd_mask m, vd a, vd b) {
    return _mm512_mask_blend_pd(m, b, a);
}
TBG_INLINE int vf_any(vf_mask m) {
    return m != 0;
}
TBG_INLINE int vd_any(vd_mask m) {
    return m != 0;
}
TBG_INLINE vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
TBG_INLINE vd vd_max(vd a, vd b) {
    return _mm512_max_pd(a, b);
}
TBG_INLINE vf vf_abs(vf a) {
    return _mm512_abs_ps(a);
}
TBG_INLINE vd vd_abs(vd a) {
    return _mm512_abs_pd(a);
}
#else
typedef vfi vf_mask;
typedef vdi vd_mask;
TBG_INLINE vf_mask vf_lt(vf a, vf b) {
    return a < b;
}
TBG_INLINE vd_mask vd_lt(vd a, vd b) {
    return a < b;
}
TBG_INLINE vf vf_select(vf_mask m, vf a, vf b) {
#if TBG_VEC_AVX2
    return _mm256_blendv_ps(b, a, (vf)m);
#else
    return (vf)((m & (vfi)a) | (~m & (vfi)b));
#endif
}
TBG_INLINE vd vd_select(vd_mask m, vd a, vd b) {
#if TBG_VEC_AVX2
    return _mm256_blendv_pd(b, a, (vd)m);
#else
    return (vd)((m & (vdi)a) | (~m & (vdi)b));
#endif
}
TBG_INLINE int vf_any(vf_mask m) {
#if TBG_VEC_AVX2
    return _mm256_movemask_ps((vf)m) != 0;
#else
    vdi w = (vdi)m;
    return (w[0] | w[1]) != 0;
#endif
}
TBG_INLINE int vd_any(vd_mask m) {
#if TBG_VEC_AVX2
    return _mm256_movemask_pd((vd)m) != 0;
#else
    return (m[0] | m[1]) != 0;
#endif
}
TBG_INLINE vf vf_max(vf a, vf b) {
#if TBG_VEC_AVX2
    return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
    return _mm_max_ps(a, b);
#else
    return vf_select(b < a, a, b);
#endif
}
TBG_INLINE vd vd_max(vd a, vd b) {
#if TBG_VEC_AVX2
    return _mm256_max_pd(a, b);
#elif defined(__SSE2__)
    return _mm_max_pd(a, b);
#else
    return vd_select(b < a, a, b);
#endif
}
TBG_INLINE vf vf_abs(vf a) {
    return (vf)((vfi)a & 0x7fffffff);
}
TBG_INLINE vd vd_abs(vd a) {
    return (vd)((vdi)a & 0x7fffffffffffffff);
}
#endif

/* ---- 1/x and 1/sqrt(x): an estimate and Newton's step ---- */
TBG_INLINE vf vf_rcp(vf x) {
#if TBG_VEC_AVX512
    vf y = _mm512_rcp14_ps(x);
#elif TBG_VEC_AVX2
    vf y = _mm256_rcp_ps(x);
#elif defined(__SSE2__)
    vf y = _mm_rcp_ps(x);
#else
    return 1.0f / x;
#endif
    return y + y * (1.0f - x * y);
}
TBG_INLINE vf vf_rsqrt(vf x) {
#if TBG_VEC_AVX512
    vf y = _mm512_rsqrt14_ps(x);
#elif TBG_VEC_AVX2
    vf y = _mm256_rsqrt_ps(x);
#elif defined(__SSE2__)
    vf y = _mm_rsqrt_ps(x);
#else
    vf y = x;
    for (int i = 0; i < TBG_VF_WIDTH; i++)
        y[i] = 1.0f / __builtin_sqrtf(x[i]);
    return y;
#endif
    return y + (0.5f * y) * (1.0f - (x * y) * y);
}
TBG_INLINE vd vd_rcp(vd x) {
#if TBG_VEC_AVX512
    vd y = _mm512_rcp14_pd(x);
    y = y + y * (1.0 - x * y);
    return y + y * (1.0 - x * y);
#else
    return 1.0 / x;
#endif
}
TBG_INLINE vd vd_rsqrt(vd x) {
#if TBG_VEC_AVX512
    vd y = _mm512_rsqrt14_pd(x);
    y = y + (0.5 * y) * (1.0 - (x * y) * y);
    return y + (0.5 * y) * (1.0 - (x * y) * y);
#elif TBG_VEC_AVX2
    return 1.0 / (vd)_mm256_sqrt_pd(x);
#elif defined(__SSE2__)
    return 1.0 / (vd)_mm_sqrt_pd(x);
#else
    vd y = x;
    for (int i = 0; i < TBG_VD_WIDTH; i++)
        y[i] = 1.0 / __builtin_sqrt(x[i]);
    return y;
#endif
}

/* ---- 2^x for x <= 0: x = n + r, |r| <= 1/2, and a polynomial in r that is nearly minimax ---- */
TBG_INLINE vf vf_exp2(vf x) {
#if TBG_VEC_AVX512
    vf n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = x - n;
#else
    x = vf_max(vf_splat(-126.0f), x);
    vf shifted = x + 12582912.0f, r = x - (shifted - 12582912.0f); /* 1.5 2^23: n sits in the low bits */
#endif
    vf p = 0.001339086336f * r + 0.009676031918f;
    p = p * r + 0.05550357114f;
    p = p * r + 0.2402210749f;
    p = p * r + 0.693147188f;
    p = p * r + 1.000000075f;
#if TBG_VEC_AVX512
    return _mm512_scalef_ps(p, n);
#else
    return (vf)((vfi)p + ((vfi)shifted << 23));
#endif
}
TBG_INLINE vd vd_exp2(vd x) {
#if TBG_VEC_AVX512
    vd n = _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = x - n;
#else
    x = vd_max(vd_splat(-1022.0), x);
    vd shifted = x + 6755399441055744.0, r = x - (shifted - 6755399441055744.0);
#endif
    vd p = 4.45581790833606449e-10 * r + 7.07419429728852101e-9;
    p = p * r + 1.01780570877339411e-7;
    p = p * r + 1.32154325359123762e-6;
    p = p * r + 0.0000152527338415567726;
    p = p * r + 0.000154035304637243542;
    p = p * r + 0.00133335581464064707;
    p = p * r + 0.00961812910758725667;
    p = p * r + 0.055504108664821627;
    p = p * r + 0.240226506959101596;
    p = p * r + 0.693147180559945309;
    p = p * r + 1.0;
#if TBG_VEC_AVX512
    return _mm512_scalef_pd(p, n);
#else
    return (vd)((vdi)p + ((vdi)shifted << 52));
#endif
}

/* ---- ln x for positive normal x = 2^e m, sqrt(1/2) <= m < sqrt(2): 2 atanh((m - 1)/(m + 1)) + e ln 2 ----
 */
TBG_INLINE vf vf_log(vf x) {
    vfi bits = (vfi)x - 0x3f3504f3;
    vf e = (vf)((bits >> 23) + 0x4b400000) - 12582912.0f;
    vf m = (vf)((bits & 0x007fffff) + 0x3f3504f3);
    vf s = (m - 1.0f) * vf_rcp(m + 1.0f), z = s * s;
    vf p = 0.299245211f * z + 0.3997484572f;
    p = p * z + 0.6666681538f;
    p = p * z + 1.999999999f;
    return e * 0.693147181f + s * p;
}
TBG_INLINE vd vd_log(vd x) {
    vdi bits = (vdi)x - 0x3fe6a09e667f3bcd;
    vdi e_bits = (bits >> 52) + 0x4338000000000000; /* as a double: 1.5 2^52 + e */
    vd e = (vd)e_bits - 6755399441055744.0;
    vd m = (vd)((bits & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd);
    vd s = (m - 1.0) / (m + 1.0), z = s * s;
    vd p = 0.148098571448970013 * z + 0.153125141119238013;
    p = p * z + 0.181836322043782516;
    p = p * z + 0.222221970470889834;
    p = p * z + 0.285714287607318721;
    p = p * z + 0.399999999993019403;
    p = p * z + 0.666666666666676463;
    p = p * z + 2.0;
    return e * 0.693147180559945309 + s * p;
}

/* ---- angle of (x, y), y >= 0, from 0 to pi: reduced to |t| <= tan(pi/8) ---- */
TBG_INLINE vf vf_atan2(vf y, vf x) {
    vf ax = vf_abs(x), zero = {0};
    vf_mask steep = vf_lt(ax * 2.414213562f, y), middle = vf_lt(ax * 0.4142135624f, y);
    vf num = vf_select(steep, -ax, vf_select(middle, y - ax, y));
    vf den = vf_select(steep, y, vf_select(middle, y + ax, ax));
    vf base = vf_select(steep, vf_splat(1.570796327f), vf_select(middle, vf_splat(0.7853981634f), zero));
    vf t = num / den, z = t * t;
    vf p = 0.07975896403f * z - 0.1384837091f;
    p = p * z + 0.1997407138f;
    p = p * z - 0.3333278545f;
    p = p * z + 0.9999999813f;
    vf angle = base + t * p;
    return vf_select(vf_lt(x, zero), 3.141592654f - angle, angle);
}
TBG_INLINE vd vd_atan2(vd y, vd x) {
    vd ax = vd_abs(x), zero = {0};
    vd_mask steep = vd_lt(ax * 2.41421356237309505, y), middle = vd_lt(ax * 0.414213562373095049, y);
    vd num = vd_select(steep, -ax, vd_select(middle, y - ax, y));
    vd den = vd_select(steep, y, vd_select(middle, y + ax, ax));
    vd base = vd_select(steep, vd_splat(1.57079632679489662),
                        vd_select(middle, vd_splat(0.785398163397448310), zero));
    vd t = num / den, z = t * t;
    vd p = -0.0178030245703724262 * z + 0.0379631163869533872;
    p = p * z - 0.0503501919940029292;
    p = p * z + 0.0584686004413159838;
    p = p * z - 0.0666294933513015938;
    p = p * z + 0.0769204511532945133;
    p = p * z - 0.0909089679706096321;
    p = p * z + 0.111111107445044941;
    p = p * z - 0.142857142792419014;
    p = p * z + 0.199999999999408059;
    p = p * z - 0.333333333333331208;
    p = p * z + 1.0;
    vd angle = base + t * p;
    return vd_select(vd_lt(x, zero), 3.14159265358979324 - angle, angle);
}

/* ---- (atanh(s) - s)/s^3, z = s^2 from 0 to 0.4 ---- */
TBG_DEFINE_ATANH_REST_F32(TBG_INLINE, vf_atanh_rest, vf)
TBG_DEFINE_ATANH_REST_F64(TBG_INLINE, vd_atanh_rest, vd)
#endif
