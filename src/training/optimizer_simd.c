/* optimizer_simd.c: Adam, AdamW and the moving average in one pass over the parameters; sums of squares.
 *
 * Plain loops that the compiler vectorises for each instruction set. Every element is independent, and the
 * sum uses a fixed number of partial sums, so results depend on nothing but the instruction set. */
#include "base/simd.h"
#include "training/internal.h"

#include <math.h>

static void update(size_t n, const tbg_adam_constants *c, float *restrict w, float *restrict m,
                   float *restrict v, float *restrict ema, const float *restrict g) {
    const tbg_adam_constants k = *c;
    if (ema) {
        for (size_t i = 0; i < n; i++) {
            float gradient = g[i] * k.gradient_scale + k.l2 * w[i];
            float mi = m[i] + (1 - k.beta1) * (gradient - m[i]);
            float vi = v[i] + (1 - k.beta2) * (gradient * gradient - v[i]);
            float wi = w[i] - k.decay * w[i] - k.lr * (mi * k.c1) / (sqrtf(vi * k.c2) + k.epsilon);
            m[i] = mi;
            v[i] = vi;
            w[i] = wi;
            ema[i] += k.ema * (wi - ema[i]);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float gradient = g[i] * k.gradient_scale + k.l2 * w[i];
        float mi = m[i] + (1 - k.beta1) * (gradient - m[i]);
        float vi = v[i] + (1 - k.beta2) * (gradient * gradient - v[i]);
        w[i] = w[i] - k.decay * w[i] - k.lr * (mi * k.c1) / (sqrtf(vi * k.c2) + k.epsilon);
        m[i] = mi;
        v[i] = vi;
    }
}

static double sum_squares(size_t n, const float *g) {
    enum { W = 8 };
    double sum[W] = {0};
    size_t i = 0;
    for (; i + W <= n; i += W)
        for (int j = 0; j < W; j++)
            sum[j] += (double)g[i + (size_t)j] * g[i + (size_t)j];
    for (; i < n; i++)
        sum[i % W] += (double)g[i] * g[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

const tbg_optimizer_kernels TBG_SIMD_NAME(tbg_optimizer_kernels) = {update, sum_squares};
