/* integrator_simd.c: one Langevin step of a block of lanes, and the normal numbers it needs: Philox-4x32-10
 * in all lanes at once, then Box-Muller with polynomials in single precision (relative error below 3e-7; the
 * radius reaches 6.7). Owns the mapping from Philox words to normals; the addresses are those of
 * tbg/random.h. */
#include "base/simd.h"
#include "dynamics/integrator.h"
#include "dynamics/normal_series.h"
#include "tbg/random.h"

#include <math.h>
#include <string.h>

typedef float vf __attribute__((vector_size(4 * TBG_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * TBG_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * TBG_LANES)));

/* Philox keeps its 32-bit words in 64-bit elements: the multiplication then is one instruction per register,
 * the high half a shift, and the upper halves may hold rubbish, which the multiplication ignores. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define WIDE 8
#define MULTIPLY(a, m) ((vq)_mm512_mul_epu32((__m512i)(a), (__m512i)(m)))
#elif defined(__AVX2__)
#include <immintrin.h>
#define WIDE 4
#define MULTIPLY(a, m) ((vq)_mm256_mul_epu32((__m256i)(a), (__m256i)(m)))
#elif defined(__SSE2__)
#include <emmintrin.h>
#define WIDE 2
#define MULTIPLY(a, m) ((vq)_mm_mul_epu32((__m128i)(a), (__m128i)(m)))
#else
#define WIDE 2
#define MULTIPLY(a, m) (((a)&0xffffffffu) * (m))
#endif
typedef uint64_t vq __attribute__((vector_size(8 * WIDE)));
typedef uint32_t vh __attribute__((vector_size(4 * WIDE)));

/* Four words in every lane. */
static inline void philox(uint64_t seed, uint32_t first_lane, uint64_t counter, uint32_t w[4][TBG_LANES]) {
    const vq zero = {0}, m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
    for (int l = 0; l < TBG_LANES; l += WIDE) {
        vq c0 = zero + (uint32_t)counter, c1 = zero + (counter >> 32), c2, c3;
        for (int i = 0; i < WIDE; i++)
            c2[i] = first_lane + (uint32_t)(l + i);
        c3 = zero + (TBG_STREAM(TBG_STREAM_LANGEVIN, 0) >> 32);
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            vq p0 = MULTIPLY(c0, m0), p1 = MULTIPLY(c2, m1);
            c0 = (p1 >> 32) ^ c1 ^ (zero + k0);
            c2 = (p0 >> 32) ^ c3 ^ (zero + k1);
            c1 = p1;
            c3 = p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        *(vh *)&w[0][l] = __builtin_convertvector(c0, vh);
        *(vh *)&w[1][l] = __builtin_convertvector(c1, vh);
        *(vh *)&w[2][l] = __builtin_convertvector(c2, vh);
        *(vh *)&w[3][l] = __builtin_convertvector(c3, vh);
    }
}

TBG_DEFINE_NORMAL_SERIES(static inline, log1p_of, turn_of, vf)

/* sqrt(-2 ln u), u = (31 bits + 1/2) / 2^31. */
static inline vf radius_of(vu word) {
    vf u = (__builtin_convertvector((vi)(word >> 1), vf) + 0.5f) * 0x1p-31f;
    vi bits = (vi)u;
    /* u = 2^e m, m in [sqrt(1/2), sqrt(2)) */
    vi e = (bits - 0x3f3504f3) >> 23;
    vf m = (vf)(bits - (e << 23)), f = m - 1.0f;
    vf t = (__builtin_convertvector(e, vf) * 0.69314718f + log1p_of(f)) * -2.0f;
    /* The compiler makes one vector instruction of this loop. Rounding may leave t a hair below 0 at u = 1.
     */
    vf root;
    for (int l = 0; l < TBG_LANES; l++)
        root[l] = sqrtf(t[l] > 0 ? t[l] : 0.0f);
    return root;
}

/* Cosine and sine of a uniform angle: 30 bits place it within a quarter circle around 0, where c > 0; two
 * more bits exchange the two and choose the sign of c, which reaches all four quarters. */
static inline void direction_of(vu word, vf *a, vf *b) {
    vf y = __builtin_convertvector((vi)(word << 2), vf) * (float)(M_PI_4 * 0x1p-31);
    vf s, c;
    turn_of(y, &s, &c);
    c = (vf)((vu)c ^ (word & 0x80000000u));
    vi exchange = (vi)(word << 1) >> 31;
    vi cs = (vi)c ^ (vi)s, both = cs & exchange;
    *a = (vf)((vi)c ^ both);
    *b = (vf)((vi)s ^ both);
}

static inline void four_normals(uint64_t seed, int block, uint64_t counter, vf out[4]) {
    uint32_t w[4][TBG_LANES] __attribute__((aligned(64)));
    philox(seed, (uint32_t)block * TBG_LANES, counter, w);
    vu word[4];
    memcpy(word, w, sizeof word);
    for (int i = 0; i < 4; i += 2) {
        vf r = radius_of(word[i]), a, b;
        direction_of(word[i + 1], &a, &b);
        out[i] = r * a;
        out[i + 1] = r * b;
    }
}

static void normals(uint64_t seed, int block, uint64_t counter, float *out) {
    vf xi[4];
    four_normals(seed, block, counter, xi);
    memcpy(out, xi, sizeof xi);
}

static void step(const tbg_step_constants *c, int block, int64_t number, const float *noise,
                 const float *force, float *x_out, float *v_out) {
    const int n = 3 * c->n_atoms;
    const vf *f = (const vf *)force;
    vf *x = (vf *)x_out, *v = (vf *)v_out;
    const float half = c->half_step, keep = c->keep;
    if (!c->stochastic) {
        for (int j = 0; j < n; j++) {
            v[j] += f[j] * c->kick[j / 3];
            x[j] += v[j] * (2 * half);
        }
        return;
    }
    const uint64_t quartets = tbg_step_quartets(c->n_atoms);
    const vf sigma = *(const vf *)noise;
    for (uint64_t q = 0; q < quartets; q++) {
        vf xi[4];
        four_normals(c->seed, block, (uint64_t)number * quartets + q, xi);
        int first = (int)(4 * q), last = first + 4 < n ? first + 4 : n;
        for (int j = first; j < last; j++) {
            int atom = j / 3;
            vf before = v[j] + f[j] * c->kick[atom];
            vf after = before * keep + sigma * c->inverse_root[atom] * xi[j - first];
            x[j] += (before + after) * half;
            v[j] = after;
        }
    }
}

extern const tbg_step_table TBG_SIMD_NAME(tbg_step_table_of);
const tbg_step_table TBG_SIMD_NAME(tbg_step_table_of) = {step, normals};
