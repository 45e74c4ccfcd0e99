/* random.c: Philox-4x32-10 addresses to uniform and normal numbers. */
#include "tbg/random.h"

#include <Random123/philox.h>
#include <math.h>

void tbg_random_words(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    philox4x32_ctr_t c = {
        {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    philox4x32_key_t k = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t r = philox4x32(c, k);
    for (int i = 0; i < 4; i++)
        out[i] = r.v[i];
}

/* The two uniforms of a block; (k + 1/2) / 2^52 is never 0 or 1. */
static void two_uniforms(uint64_t seed, uint64_t stream, uint64_t block, double u[2]) {
    uint32_t w[4];
    tbg_random_words(seed, stream, block, w);
    for (int i = 0; i < 2; i++) {
        uint64_t bits = ((uint64_t)w[2 * i + 1] << 32 | w[2 * i]) >> 12; /* 52 bits, so that +1/2 is exact */
        u[i] = ((double)bits + 0.5) * 0x1p-52;
    }
}

static void two_normals(uint64_t seed, uint64_t stream, uint64_t block, double z[2]) {
    double u[2];
    two_uniforms(seed, stream, block, u);
    double radius = sqrt(-2.0 * log(u[0])), angle = 2.0 * M_PI * u[1];
    z[0] = radius * cos(angle);
    z[1] = radius * sin(angle);
}

static void fill(uint64_t seed, uint64_t stream, uint64_t first, size_t n, double *out,
                 void (*two)(uint64_t, uint64_t, uint64_t, double[2])) {
    double pair[2];
    size_t i = 0;
    if (n > 0 && (first & 1)) {
        two(seed, stream, first >> 1, pair);
        out[i++] = pair[1];
    }
    for (; i < n; i += 2) {
        two(seed, stream, (first + i) >> 1, pair);
        out[i] = pair[0];
        if (i + 1 < n)
            out[i + 1] = pair[1];
    }
}

void tbg_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, size_t n, double *out) {
    fill(seed, stream, first, n, out, two_uniforms);
}

void tbg_random_normal(uint64_t seed, uint64_t stream, uint64_t first, size_t n, double *out) {
    fill(seed, stream, first, n, out, two_normals);
}

uint64_t tbg_random_below(uint64_t seed, uint64_t stream, uint64_t counter, uint64_t n) {
    uint32_t w[4];
    tbg_random_words(seed, stream, counter, w);
    uint64_t bits = (uint64_t)w[1] << 32 | w[0];
    return (uint64_t)(((unsigned __int128)bits * n) >> 64);
}
