/* soap_simd.c: the inner loops of soap.c: a matrix product of single precision, Adam's direction in a rotated
 * basis, and the few operations on rows of double precision that decompositions are made of.
 *
 * Every sum has a fixed order, so results depend on nothing but the instruction set. */
#include "base/simd.h"
#include "training/internal.h"

#include <math.h>
#include <string.h>

enum { LANES = 16, PANEL = TBG_SOAP_PANEL, ROWS = 4 };
typedef float vector __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* c [n_rows][width], n_rows <= ROWS; b: one panel. */
static inline __attribute__((always_inline)) void tile(int n_rows, int width, int k, float alpha,
                                                       const float *a, size_t a_row, size_t a_column,
                                                       const float *b, float beta, float *c, size_t c_row) {
    vector sum[ROWS][2] = {{{0}}};
    for (int l = 0; l < k; l++) {
        vector b0 = *(const vector *)(b + (size_t)l * PANEL),
               b1 = *(const vector *)(b + (size_t)l * PANEL + LANES);
        for (int i = 0; i < n_rows; i++) {
            float f = a[(size_t)i * a_row + (size_t)l * a_column];
            sum[i][0] += f * b0;
            sum[i][1] += f * b1;
        }
    }
    for (int i = 0; i < n_rows; i++) {
        float row[PANEL], *to = c + (size_t)i * c_row;
        memcpy(row, sum[i], sizeof row);
        if (beta == 0)
            for (int j = 0; j < width; j++)
                to[j] = alpha * row[j];
        else
            for (int j = 0; j < width; j++)
                to[j] = beta * to[j] + alpha * row[j];
    }
}

static void multiply(int m, int n, int k, float alpha, const float *a, size_t a_row, size_t a_column,
                     const float *b, size_t b_row, size_t b_column, float beta, float *c, float *panel) {
    for (int j = 0; j < n; j += PANEL) {
        int width = n - j < PANEL ? n - j : PANEL;
        const float *from = b + (size_t)j * b_column;
        if (width < PANEL)
            memset(panel, 0, (size_t)k * PANEL * sizeof *panel);
        if (b_column == 1)
            for (int l = 0; l < k; l++)
                memcpy(panel + (size_t)l * PANEL, from + (size_t)l * b_row, (size_t)width * sizeof *panel);
        else
            for (int l = 0; l < k; l++)
                for (int i = 0; i < width; i++)
                    panel[(size_t)l * PANEL + (size_t)i] = from[(size_t)l * b_row + (size_t)i * b_column];
        int i = 0;
        for (; i + ROWS <= m; i += ROWS)
            tile(ROWS, width, k, alpha, a + (size_t)i * a_row, a_row, a_column, panel, beta,
                 c + (size_t)i * (size_t)n + j, (size_t)n);
        for (; i < m; i++)
            tile(1, width, k, alpha, a + (size_t)i * a_row, a_row, a_column, panel, beta,
                 c + (size_t)i * (size_t)n + j, (size_t)n);
    }
}

static void average(size_t n, float weight, const float *restrict g, float *restrict m) {
    for (size_t i = 0; i < n; i++)
        m[i] += weight * (g[i] - m[i]);
}

static void direction(size_t n, const tbg_adam_constants *c, const float *restrict g, float *restrict v,
                      float *restrict m) {
    const tbg_adam_constants k = *c;
    for (size_t i = 0; i < n; i++) {
        float vi = v[i] + (1 - k.beta2) * (g[i] * g[i] - v[i]);
        v[i] = vi;
        m[i] = m[i] * k.c1 / (sqrtf(vi * k.c2) + k.epsilon);
    }
}

static void apply(size_t n, const tbg_adam_constants *c, const float *restrict d, float *restrict w,
                  float *restrict ema) {
    const tbg_adam_constants k = *c;
    for (size_t i = 0; i < n; i++)
        w[i] = w[i] - k.decay * w[i] - k.lr * d[i];
    for (size_t i = 0; ema && i < n; i++)
        ema[i] += k.ema * (w[i] - ema[i]);
}

static double dot(size_t n, const double *x, const double *y) {
    enum { W = 16 };
    double sum[W] = {0};
    size_t i = 0;
    for (; i + W <= n; i += W)
        for (size_t j = 0; j < W; j++)
            sum[j] += x[i + j] * y[i + j];
    for (size_t j = 0; i + j < n; j++)
        sum[j] += x[i + j] * y[i + j];
    for (int step = W / 2; step; step /= 2)
        for (int j = 0; j < step; j++)
            sum[j] += sum[j + step];
    return sum[0];
}

static void add(size_t n, double factor, const double *restrict x, double *restrict y) {
    for (size_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

static void rotate(size_t n, double c, double s, double *restrict x, double *restrict y) {
    for (size_t i = 0; i < n; i++) {
        double a = x[i], b = y[i];
        x[i] = c * a - s * b;
        y[i] = s * a + c * b;
    }
}

const tbg_soap_kernels TBG_SIMD_NAME(tbg_soap_kernels) = {multiply, average, direction, apply,
                                                          dot,      add,     rotate};
