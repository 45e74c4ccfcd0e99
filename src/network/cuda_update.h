/* cuda_update.h: one block makes an optimiser's step with one tensor: Adam, or SOAP (src/training/soap.c says
 * what it is and has the same step for processors). Compiled for the device and for its emulation
 * (cuda_block.h). Every sum has a fixed order. */
#ifndef TBG_NETWORK_CUDA_UPDATE_H
#define TBG_NETWORK_CUDA_UPDATE_H
#include "network/cuda.h"
#include "network/cuda_block.h"

TBG_BLOCK_INLINE unsigned short update_half(float value) { /* nearest bf16, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* part[0] = sum of the parts. */
TBG_BLOCK_INLINE void update_total(double *part) {
    TBG_SYNC();
    TBG_EACH(z, 1) {
        double sum = 0;
        for (int p = 0; p < TBG_CUDA_PARTS; p++)
            sum += part[p];
        part[0] = sum;
    }
    TBG_SYNC();
}

/* part[0] = trace of [n][n]. */
TBG_BLOCK_F void update_trace(int n, const float *covariance, double *part) {
    TBG_EACH(p, TBG_CUDA_PARTS) {
        double sum = 0;
        for (int i = p; i < n; i += TBG_CUDA_PARTS)
            sum += (double)covariance[(size_t)i * n + i];
        part[p] = sum;
    }
    update_total(part);
}

/* part[0] = sum of squares of the gradient. */
TBG_BLOCK_F void update_squares(const tbg_cuda_update *U, const tbg_cuda_tensor *T, double *part) {
    const int n = T->rows * T->columns;
    TBG_EACH(p, TBG_CUDA_PARTS) {
        double sum = 0;
        for (int k = p; k < n; k += TBG_CUDA_PARTS) {
            const float g = (float)U->gradient[T->offset + k];
            sum += (double)g * g;
        }
        part[p] = sum;
    }
    update_total(part);
}

TBG_BLOCK_F void update_adam(const tbg_cuda_update *U, const tbg_cuda_tensor *T) {
    const tbg_adam_constants k = U->constants;
    TBG_EACH(e, T->rows * T->columns) {
        const int i = T->offset + e;
        const float g = (float)U->gradient[i] * k.gradient_scale + k.l2 * U->w[i];
        const float m = U->m[i] + (1 - k.beta1) * (g - U->m[i]),
                    v = U->v[i] + (1 - k.beta2) * (g * g - U->v[i]);
        U->w[i] = U->w[i] - k.decay * U->w[i] - k.lr * (m * k.c1) / (sqrtf(v * k.c2) + k.epsilon);
        U->m[i] = m;
        U->v[i] = v;
        if (U->ema)
            U->ema[i] += k.ema * (U->w[i] - U->ema[i]);
    }
    TBG_SYNC();
}

/* c [m][n] = keep c + take a b, element (i, l) of a at a[i a_row + l a_column], of b likewise: one phase. */
TBG_BLOCK_F void update_product(int m, int n, int k, float take, const float *a, int a_row, int a_column,
                                const float *b, int b_row, int b_column, float keep, float *c) {
    TBG_EACH(e, m * n) {
        const int i = e / n, j = e % n;
        const float *p = a + (size_t)i * a_row, *q = b + (size_t)j * b_column;
        float sum = 0;
        for (int l = 0; l < k; l++)
            sum += p[(size_t)l * a_column] * q[(size_t)l * b_row];
        c[e] = keep == 0 ? take * sum : keep * c[e] + take * sum;
    }
    TBG_SYNC();
}

/* out = Q_rows in Q_columns^T, or back: Q_rows^T in Q_columns; other: the same size; in stays. */
TBG_BLOCK_F void update_turn(const tbg_cuda_tensor *T, const float *bases, int back, const float *in,
                             float *other, float *out) {
    const int m = T->rows, n = T->columns;
    float *half = T->n[1] ? other : out;
    if (T->n[0])
        update_product(m, n, m, 1, bases + T->basis[0], back ? 1 : m, back ? m : 1, in, n, 1, 0, half);
    if (T->n[1])
        update_product(m, n, n, 1, T->n[0] ? half : in, n, 1, bases + T->basis[1], back ? n : 1, back ? 1 : n,
                       0, out);
}

/* The rows of p orthonormal in order, into q (p = lower triangle of positive diagonal times q): Householder
 * reflections. scale: [2 n] */
TBG_BLOCK_F void update_orthonormalise(int n, double *p, double *q, double *scale, double *part) {
    double *sign = scale + n;
    for (int i = 0; i < n; i++) {
        double *v = p + (size_t)i * n + i;
        const int length = n - i;
        TBG_EACH(k, TBG_CUDA_PARTS) {
            double sum = 0;
            for (int c = k; c < length; c += TBG_CUDA_PARTS)
                sum += v[c] * v[c];
            part[k] = sum;
        }
        update_total(part);
        TBG_EACH(z, 1) {
            const double first = v[0], norm = sqrt(part[0]);
            sign[i] = first > 0 ? -1 : 1;
            v[0] = first - sign[i] * norm;
            const double square = part[0] - first * first + v[0] * v[0];
            scale[i] = square > 0 ? 2 / square : 0;
        }
        TBG_SYNC();
        TBG_EACH(j, length - 1) {
            double *row = p + (size_t)(i + 1 + j) * n + i, dot = 0;
            for (int c = 0; c < length; c++)
                dot += v[c] * row[c];
            dot *= -scale[i];
            for (int c = 0; c < length; c++)
                row[c] += dot * v[c];
        }
        TBG_SYNC();
    }
    TBG_EACH(k, n * n)
    q[k] = k / n == k % n;
    TBG_SYNC();
    for (int i = n - 1; i >= 0; i--) {
        const double *v = p + (size_t)i * n + i;
        TBG_EACH(j, n - i) {
            double *row = q + (size_t)(i + j) * n + i, dot = 0;
            for (int c = 0; c < n - i; c++)
                dot += v[c] * row[c];
            dot *= -scale[i];
            for (int c = 0; c < n - i; c++)
                row[c] += dot * v[c];
        }
        TBG_SYNC();
    }
    TBG_EACH(k, n * n)
    q[k] *= sign[k / n];
    TBG_SYNC();
}

/* One step of orthogonal iteration, basis vectors in order of the variance along them (order: [n]). */
TBG_BLOCK_F void update_refine(const tbg_cuda_update *U, const tbg_cuda_tensor *T, int k, int *order,
                               double *part) {
    const int n = T->n[k];
    const float *covariance = U->bases + T->covariance[k];
    float *basis = U->bases + T->basis[k];
    double *p = U->wide + T->wide, *q = p + (size_t)n * n, *scale = q + (size_t)n * n;
    float *product = (float *)q; /* q is not needed yet */
    update_trace(n, covariance, part);
    const double mean = part[0] / n;
    update_product(n, n, n, 1, basis, n, 1, covariance, n, 1, 0, product);
    TBG_EACH(i, n) {
        double sum = 0;
        for (int j = 0; j < n; j++)
            sum += (double)product[(size_t)i * n + j] * (double)basis[(size_t)i * n + j];
        scale[i] = sum;
    }
    TBG_SYNC();
    TBG_EACH(i, n) { /* by falling value; equal values keep their order */
        int rank = 0;
        for (int j = 0; j < n; j++)
            rank += scale[j] > scale[i] || (scale[j] == scale[i] && j < i);
        order[rank] = i;
    }
    TBG_SYNC();
    TBG_EACH(e, n * n) {
        const size_t from = (size_t)order[e / n] * n + e % n;
        p[e] = (double)product[from] / mean + TBG_SOAP_SHIFT * (double)basis[from];
    }
    TBG_SYNC();
    update_orthonormalise(n, p, q, scale, part);
    TBG_EACH(e, n * n)
    basis[e] = (float)q[e];
    TBG_SYNC();
}

TBG_BLOCK_F void update_refine_all(const tbg_cuda_update *U, const tbg_cuda_tensor *T, float *copy,
                                   double *part) {
    const int n = T->rows * T->columns;
    int *order[2] = {U->order + T->order, U->order + T->order + T->n[0]};
    for (int k = 0; k < 2; k++)
        if (T->n[k])
            update_refine(U, T, k, order[k], part);
    float *v = U->v + T->offset;
    TBG_EACH(e, n)
    copy[e] = v[e];
    TBG_SYNC();
    TBG_EACH(e, n) {
        const int i = e / T->columns, j = e % T->columns;
        v[e] = copy[(size_t)(T->n[0] ? order[0][i] : i) * T->columns + (T->n[1] ? order[1][j] : j)];
    }
    TBG_SYNC();
}

TBG_BLOCK_F void update_soap(const tbg_cuda_update *U, const tbg_cuda_tensor *T, double *part) {
    const tbg_adam_constants c = U->constants;
    const int m = T->rows, n = T->columns, size = m * n;
    float *g = U->scratch + T->scratch, *x = g + size, *y = x + size, *z = y + size, *w = U->w + T->offset,
          *moment = U->m + T->offset, *v = U->v + T->offset;
    TBG_EACH(e, size) {
        g[e] = c.gradient_scale * (float)U->gradient[T->offset + e];
        moment[e] += (1 - c.beta1) * (g[e] - moment[e]);
    }
    TBG_SYNC();
    for (int k = 0; k < 2; k++)
        if (T->n[k])
            update_product(T->n[k], T->n[k], k ? m : n, 1 - c.beta2, g, k ? 1 : n, k ? n : 1, g, k ? n : 1,
                           k ? 1 : n, c.beta2, U->bases + T->covariance[k]);
    update_trace(T->n[0] ? T->n[0] : T->n[1], U->bases + T->covariance[T->n[0] ? 0 : 1], part);
    const double square = part[0]; /* moving average of |G|^2 */
    TBG_SYNC();
    const float epsilon = c.epsilon + (float)(TBG_SOAP_ROUNDING * sqrt(square * (double)c.c2));
    update_turn(T, U->bases, 0, moment, z, x);
    update_turn(T, U->bases, 0, g, z, y);
    TBG_EACH(e, size) {
        v[e] += (1 - c.beta2) * (y[e] * y[e] - v[e]);
        x[e] = x[e] * c.c1 / (sqrtf(v[e] * c.c2) + epsilon);
    }
    TBG_SYNC();
    update_turn(T, U->bases, 1, x, z, y);
    TBG_EACH(e, size) {
        w[e] = w[e] - c.decay * w[e] - c.lr * y[e];
        if (U->ema)
            U->ema[T->offset + e] += c.ema * (w[e] - U->ema[T->offset + e]);
    }
    TBG_SYNC();
    if (U->refine && square > 0 && isfinite(square))
        update_refine_all(U, T, x, part);
}

/* Whether any basis of the tensor has been found, into part[0]. */
TBG_BLOCK_F void update_known(const tbg_cuda_update *U, const tbg_cuda_tensor *T, double *part) {
    TBG_EACH(p, TBG_CUDA_PARTS) {
        double found = 0;
        for (int k = 0; k < 2; k++)
            for (int i = p; i < T->n[k]; i += TBG_CUDA_PARTS) /* no basis vector is zero */
                found += U->bases[T->basis[k] + (size_t)i] != 0;
        part[p] = found;
    }
    update_total(part);
}

TBG_BLOCK_INLINE void update_block(const tbg_cuda_update *U, int tensor) {
    const tbg_cuda_tensor *T = U->tensors + tensor;
    double *part = U->part + (size_t)tensor * TBG_CUDA_PARTS;
    if (U->only_squares) {
        update_squares(U, T, part);
        TBG_EACH(z, 1)
        U->squares[tensor] = part[0];
        return;
    }
    update_known(U, T, part);
    const int known = part[0] > 0;
    TBG_SYNC();
    if (known)
        update_soap(U, T, part);
    else
        update_adam(U, T);
    TBG_EACH(e, T->rows * T->columns) {
        const float w = U->w[T->offset + e];
        U->wt[T->offset + (e % T->columns) * T->rows + e / T->columns] = w;
        U->half[T->offset + e] = update_half(w);
    }
}
#endif
