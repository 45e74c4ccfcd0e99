/* cuda_plain.h: one configuration in one block, in single precision, without tensor cores: forward, tangents
 * and reverse, the counterpart of reference.c. Positions and edge features are formed in double. Simple
 * before fast: this is what cuda_tile.h is tested against on a device, and what computes where cuda_tile.h
 * does not reach.
 *
 * The edges of one receiver are a row of N entries; the entry of the receiver itself is computed like the
 * others and left out of sums. Every sum has a fixed order. */
#ifndef TBG_NETWORK_CUDA_PLAIN_H
#define TBG_NETWORK_CUDA_PLAIN_H
#include "network/cuda_room.h"
#include "network/edge_math.h"

TBG_BLOCK_INLINE float plain_sigmoid(float z) {
    return 1 / (1 + expf(-z));
}

TBG_BLOCK_INLINE float plain_silu(float z) {
    return z * plain_sigmoid(z);
}

TBG_BLOCK_INLINE float plain_slope(float z) {
    float s = plain_sigmoid(z);
    return s * (1 + z * (1 - s));
}

/* y[r][o] = (bias[o]) + (y[r][o] if more) + sum_k w[k][o] x[r][k]: one phase. */
TBG_BLOCK_F void plain_multiply(int rows, int in, int out, const float *w, int w_stride, const float *x,
                                int x_stride, const float *bias, int more, float *y, int y_stride) {
    TBG_EACH(e, rows * out) {
        const int r = e / out, o = e % out;
        const float *xr = x + (size_t)r * x_stride;
        float sum = bias ? bias[o] : 0;
        if (more)
            sum += y[(size_t)r * y_stride + o];
        for (int k = 0; k < in; k++)
            sum += w[(size_t)k * w_stride + o] * xr[k];
        y[(size_t)r * y_stride + o] = sum;
    }
}

/* g[o][k] += sum over rows but `but` of dy[r][o] x[r][k]: one phase. */
TBG_BLOCK_F void plain_outer(int rows, int but, int out, int in, const float *dy, int dy_stride,
                             const float *x, int x_stride, float *g, int g_stride) {
    TBG_EACH(e, out * in) {
        const int o = e / in, k = e % in;
        float sum = 0;
        for (int r = 0; r < rows; r++)
            if (r != but)
                sum += dy[(size_t)r * dy_stride + o] * x[(size_t)r * x_stride + k];
        g[(size_t)o * g_stride + k] += sum;
    }
}

/* g[o] += sum over rows but `but` of scale[r] y[r][o] (scale may be NULL): one phase. */
TBG_BLOCK_F void plain_columns(int rows, int but, int out, const float *scale, const float *y, float *g) {
    TBG_EACH(o, out) {
        float sum = 0;
        for (int r = 0; r < rows; r++)
            if (r != but)
                sum += (scale ? scale[r] : 1) * y[(size_t)r * out + o];
        g[o] += sum;
    }
}

TBG_BLOCK_INLINE float plain_dot(int n, const float *a, const float *b) {
    float sum = 0;
    for (int k = 0; k < n; k++)
        sum += a[k] * b[k];
    return sum;
}

/* Node inputs, the first h, input positions, and what layers need of the input positions of all pairs. */
TBG_BLOCK_F void plain_begin(const tbg_cuda_job *J, const tbg_cuda_room *R, tbg_cuda_place p) {
    const int b = p.b, N = p.N, F = J->F, K = J->K;
    const double t = J->t[b], *x0 = J->x + 3 * (size_t)J->first[b];
    const float *features = J->features + J->feature_at[b];
    TBG_EACH(e, N * F) {
        const int i = e / F, f = e % F;
        R->input[p.row * F + e] = f < J->nf    ? features[i * J->nf + f]
                                  : f == J->nf ? (float)t
                                               : (float)J->u[b];
    }
    TBG_EACH(k, 3 * N)
    R->x[3 * p.row + k] = x0[k];
    TBG_EACH(ij, N * N) {
        const int i = ij / N, j = ij % N;
        const size_t at = (size_t)J->pair_at[b] + (size_t)ij, to = (size_t)p.pair + (size_t)ij;
        double n[3], r2 = 0, rho = 0, drho = 0, e[TBG_CUDA_MOST_EDGE_FEATURES],
                     de[TBG_CUDA_MOST_EDGE_FEATURES];
        for (int a = 0; a < 3; a++) {
            n[a] = x0[3 * i + a] - x0[3 * j + a];
            r2 += n[a] * n[a];
        }
        const double r = sqrt(r2);
        const int bond = J->bond[at];
        tbg_math_edge_features(J->bits, t, r, bond, J->pair_mean[at], J->pair_width[at], e, de);
        if (J->harmonic && (bond == 1 || bond == 2))
            tbg_math_harmonic_rate(J->bits & 16, t, r, J->pair_mean[at], J->pair_width[at], &rho, &drho);
        for (int a = 0; a < 3; a++)
            R->unit[3 * to + a] = (float)(r != 0 ? n[a] / r : 0);
        R->r0[to] = (float)r;
        R->rho[to] = (float)rho;
        R->drho[to] = (float)drho;
        for (int k = 0; k < K; k++) {
            R->e[to * K + k] = (float)e[k];
            R->de[to * K + k] = (float)de[k];
        }
    }
    TBG_SYNC();
    plain_multiply(N, F, J->H, J->wt + J->embedding_w, J->H, R->input + p.row * F, F, J->w + J->embedding_b,
                   0, R->h + p.row * J->H, J->H);
    TBG_SYNC();
}

/* Whether a pair has the harmonic term: rho may be 0 by chance, which changes nothing but the gate's
 * gradient. */
TBG_BLOCK_INLINE int plain_harmonic(const tbg_cuda_job *J, int b, int p) {
    const int bond = J->bond[(size_t)J->pair_at[b] + (size_t)p];
    return J->harmonic && (bond == 1 || bond == 2);
}

/* Node parts of the first edge matrix. */
TBG_BLOCK_F void plain_project(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o, int N,
                               int l, int D) {
    const int H = J->H;
    const float *h = R->h + (size_t)l * N * H, *w1a = J->wt + o->w1, *w1b = w1a + (size_t)H * H;
    plain_multiply(N, H, H, w1a, H, h, H, NULL, 0, R->pa, H);
    plain_multiply(N, H, H, w1b, H, h, H, NULL, 0, R->pb, H);
    if (D) {
        plain_multiply(D * N, H, H, w1a, H, R->h_dot, H, NULL, 0, R->pa_dot, H);
        plain_multiply(D * N, H, H, w1b, H, R->h_dot, H, NULL, 0, R->pb_dot, H);
    }
    TBG_SYNC();
}

/* Geometry of one pair at a layer. */
TBG_BLOCK_INLINE void plain_geometry(const double *x, int i, int j, float *d, float *u, float *root,
                                     float *below) {
    double dd[3], r = 0;
    for (int a = 0; a < 3; a++) {
        dd[a] = x[3 * i + a] - x[3 * j + a];
        r += dd[a] * dd[a];
    }
    const double s = sqrt(r + 1e-8);
    *root = (float)s;
    *below = (float)(s + 1);
    for (int a = 0; a < 3; a++) {
        d[a] = (float)dd[a];
        u[a] = (float)(dd[a] / (s + 1));
    }
}

/* Forward of the edges that receiver i takes: fills the row. */
TBG_BLOCK_F void plain_row(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o, int b,
                           int N, int l, int i) {
    const int H = J->H, K = J->K;
    const double *x = R->x + (size_t)l * N * 3;
    const float *tail = J->wt + o->w1 + 2 * (size_t)H * H; /* rows of r and of each edge feature */
    TBG_EACH(j, N)
    plain_geometry(x, i, j, R->d + 3 * j, R->u + 3 * j, R->root + j, R->below + j);
    TBG_SYNC();
    TBG_EACH(f, N * H) {
        const int j = f / H, c = f % H;
        const float *d = R->d + 3 * j, *e = R->e + ((size_t)i * N + j) * K;
        float z = J->w[o->b1 + c] + R->pa[i * H + c] + R->pb[f] +
                  tail[c] * (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
        for (int k = 0; k < K; k++)
            z += tail[(1 + k) * H + c] * e[k];
        R->z1[f] = z;
        R->y1[f] = plain_silu(z);
    }
    TBG_SYNC();
    plain_multiply(N, H, H, J->wt + o->w2, H, R->y1, H, J->w + o->b2, 0, R->z2, H);
    TBG_SYNC();
    TBG_EACH(f, N * H)
    R->y2[f] = plain_silu(R->z2[f]);
    TBG_SYNC();
    TBG_EACH(j, N)
    R->att[j] = J->attention ? plain_sigmoid(plain_dot(H, J->w + o->wa, R->y2 + j * H) + J->w[o->ba]) : 1;
    TBG_SYNC();
    TBG_EACH(f, N * H)
    R->m[f] = R->y2[f] * R->att[f / H];
    TBG_SYNC();
    plain_multiply(N, H, H, J->wt + o->w3, H, R->m, H, J->w + o->b3, 0, R->z3, H);
    TBG_SYNC();
    TBG_EACH(f, N * H)
    R->y3[f] = plain_silu(R->z3[f]);
    TBG_SYNC();
    TBG_EACH(j, N) {
        R->q[j] = plain_dot(H, J->w + o->wc, R->y3 + j * H);
        R->s[j] = J->tanh ? tanhf(R->q[j]) * J->range : R->q[j];
        R->g[j] =
            plain_harmonic(J, b, i * N + j) ? plain_dot(H, J->w + o->wg, R->m + j * H) + J->w[o->bg] : 0;
    }
    TBG_SYNC();
}

/* Tangents of the row for D directions. */
TBG_BLOCK_F void plain_row_tangent(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                   int N, int i, int D) {
    const int H = J->H, K = J->K, NH = N * H;
    const float *tail = J->wt + o->w1 + 2 * (size_t)H * H;
    TBG_EACH(f, D * N) {
        const int k = f / N, j = f % N;
        const double *xd = R->x_dot + (size_t)k * N * 3, *x0d = R->x0_dot + (size_t)k * N * 3;
        float r = 0, r0 = 0;
        for (int a = 0; a < 3; a++) {
            r += 2 * R->d[3 * j + a] * (float)(xd[3 * i + a] - xd[3 * j + a]);
            r0 += R->unit[3 * ((size_t)i * N + j) + a] * (float)(x0d[3 * i + a] - x0d[3 * j + a]);
        }
        R->row_dot[2 * f] = r;
        R->row_dot[2 * f + 1] = r0;
    }
    TBG_SYNC();
    TBG_EACH(f, D * NH) {
        const int k = f / NH, j = f % NH / H, c = f % H, row = k * N + j;
        const float *de = R->de + ((size_t)i * N + j) * K;
        float slope = 0;
        for (int q = 0; q < K; q++)
            slope += de[q] * tail[(1 + q) * H + c];
        R->t1[f] =
            plain_slope(R->z1[f % NH]) * (R->pa_dot[(size_t)k * NH + i * H + c] + R->pb_dot[f] +
                                          tail[c] * R->row_dot[2 * row] + slope * R->row_dot[2 * row + 1]);
    }
    TBG_SYNC();
    plain_multiply(D * N, H, H, J->wt + o->w2, H, R->t1, H, NULL, 0, R->t2, H);
    TBG_SYNC();
    TBG_EACH(f, D * NH)
    R->t2[f] *= plain_slope(R->z2[f % NH]);
    TBG_SYNC();
    TBG_EACH(f, D * N) {
        const float att = R->att[f % N];
        R->a_dot[f] = J->attention ? att * (1 - att) * plain_dot(H, J->w + o->wa, R->t2 + (size_t)f * H) : 0;
    }
    TBG_SYNC();
    TBG_EACH(f, D * NH)
    R->t2[f] = R->t2[f] * R->att[f % NH / H] + R->y2[f % NH] * R->a_dot[f / H];
    TBG_SYNC();
    plain_multiply(D * N, H, H, J->wt + o->w3, H, R->t2, H, NULL, 0, R->t1, H);
    TBG_EACH(f, D * H) {
        const int k = f / H, c = f % H;
        float sum = 0;
        for (int j = 0; j < N; j++)
            if (j != i)
                sum += R->t2[((size_t)k * N + j) * H + c];
        R->sum_dot[(size_t)k * NH + i * H + c] = sum;
    }
    TBG_SYNC();
    TBG_EACH(f, D * N) {
        const int j = f % N;
        float q_dot = 0;
        for (int c = 0; c < H; c++)
            q_dot += J->w[o->wc + c] * plain_slope(R->z3[j * H + c]) * R->t1[(size_t)f * H + c];
        const float tq = J->tanh ? tanhf(R->q[j]) : 0;
        R->s_dot[f] = J->tanh ? q_dot * (1 - tq * tq) * J->range : q_dot;
        R->g_dot[f] = R->g[j] != 0 || J->harmonic ? plain_dot(H, J->w + o->wg, R->t2 + (size_t)f * H) : 0;
    }
    TBG_SYNC();
    TBG_EACH(f, D * 3) {
        const int k = f / 3, a = f % 3;
        const double *xd = R->x_dot + (size_t)k * N * 3, *x0d = R->x0_dot + (size_t)k * N * 3;
        double sum = xd[3 * i + a];
        for (int j = 0; j < N; j++) {
            if (j == i)
                continue;
            const size_t p = (size_t)i * N + j;
            const int row = k * N + j;
            const float below = R->below[j], below_dot = R->row_dot[2 * row] / (2 * R->root[j]);
            const float u_dot = (float)(xd[3 * i + a] - xd[3 * j + a]) / below -
                                R->d[3 * j + a] * below_dot / (below * below);
            sum += (double)(u_dot * R->s[j] + R->u[3 * j + a] * R->s_dot[row]);
            if (J->harmonic) { /* rho and its slope are 0 where there is no such term */
                const float n = R->unit[3 * p + a], r0_dot = R->row_dot[2 * row + 1];
                const float n_dot =
                    R->r0[p] > 0 ? ((float)(x0d[3 * i + a] - x0d[3 * j + a]) - n * r0_dot) / R->r0[p] : 0;
                sum += (double)((R->g_dot[row] * R->rho[p] + R->g[j] * R->drho[p] * r0_dot) * n +
                                R->g[j] * R->rho[p] * n_dot);
            }
        }
        R->next_dot[((size_t)k * N + i) * 3 + a] = sum;
    }
    TBG_SYNC();
}

/* h of the next layer, and its tangents. */
TBG_BLOCK_F void plain_nodes(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o, int N,
                             int l, int D) {
    const int H = J->H, NH = N * H;
    const float *h = R->h + (size_t)l * NH, *sum = R->sum + (size_t)l * NH, *w4 = J->wt + o->w4,
                *w4b = w4 + (size_t)H * H;
    float *next = R->h + (size_t)(l + 1) * NH;
    plain_multiply(N, H, H, w4, H, h, H, J->w + o->b4, 0, R->z4, H);
    TBG_SYNC();
    plain_multiply(N, H, H, w4b, H, sum, H, NULL, 1, R->z4, H);
    TBG_SYNC();
    TBG_EACH(f, NH) {
        R->y4[f] = plain_silu(R->z4[f]);
        next[f] = h[f];
    }
    if (D)
        plain_multiply(D * N, H, H, w4, H, R->h_dot, H, NULL, 0, R->t1, H);
    TBG_SYNC();
    plain_multiply(N, H, H, J->wt + o->w5, H, R->y4, H, J->w + o->b5, 1, next, H);
    if (D)
        plain_multiply(D * N, H, H, w4b, H, R->sum_dot, H, NULL, 1, R->t1, H);
    TBG_SYNC();
    if (!D)
        return;
    TBG_EACH(f, D * NH)
    R->t1[f] *= plain_slope(R->z4[f % NH]);
    TBG_SYNC();
    plain_multiply(D * N, H, H, J->wt + o->w5, H, R->t1, H, NULL, 1, R->h_dot, H);
    TBG_SYNC();
}

/* Forward of all edges of a layer: message sums and the next positions. */
TBG_BLOCK_F void plain_edges(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int N, int l, int D) {
    const tbg_cuda_layer *o = &J->layer[l];
    const int H = J->H;
    const double *x = R->x + (size_t)l * N * 3;
    double *next = R->x + (size_t)(l + 1) * N * 3;
    float *sum = R->sum + (size_t)l * N * H;
    TBG_UNROLL_1
    for (int i = 0; i < N; i++) {
        plain_row(J, R, o, b, N, l, i);
        TBG_EACH(c, H) {
            float total = 0;
            for (int j = 0; j < N; j++)
                if (j != i)
                    total += R->m[j * H + c];
            sum[i * H + c] = total;
        }
        TBG_EACH(a, 3) {
            double total = x[3 * i + a];
            for (int j = 0; j < N; j++)
                if (j != i)
                    total += (double)(R->u[3 * j + a] * R->s[j] +
                                      R->g[j] * R->rho[i * N + j] * R->unit[3 * ((size_t)i * N + j) + a]);
            next[3 * i + a] = total;
        }
        TBG_SYNC();
        if (D)
            plain_row_tangent(J, R, o, N, i, D);
    }
}

/* to = last - first - mean of that: one phase, and its end. */
TBG_BLOCK_F void plain_finish(int N, const double *last, const double *first, double *to) {
    TBG_EACH(a, 3) {
        double mean = 0;
        for (int i = 0; i < N; i++)
            mean += (last[3 * i + a] - first[3 * i + a]) / N;
        for (int i = 0; i < N; i++)
            to[3 * i + a] = last[3 * i + a] - first[3 * i + a] - mean;
    }
    TBG_SYNC();
}

/* Reverse of plain_nodes: dh becomes the gradient at h of layer l (this path only); dsum: assigned. */
TBG_BLOCK_F void plain_nodes_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                     int N, int l, float *g) {
    const int H = J->H, NH = N * H;
    const float *h = R->h + (size_t)l * NH, *sum = R->sum + (size_t)l * NH;
    plain_multiply(N, H, H, J->wt + o->w4, H, h, H, J->w + o->b4, 0, R->z4, H);
    TBG_SYNC();
    plain_multiply(N, H, H, J->wt + o->w4 + (size_t)H * H, H, sum, H, NULL, 1, R->z4, H);
    plain_multiply(N, H, H, J->w + o->w5, H, R->dh, H, NULL, 0, R->d1, H); /* dy4 */
    TBG_SYNC();
    TBG_EACH(f, NH) {
        R->y4[f] = plain_silu(R->z4[f]);
        R->d1[f] *= plain_slope(R->z4[f]); /* dz4 */
    }
    TBG_SYNC();
    if (g) {
        plain_outer(N, -1, H, H, R->dh, H, R->y4, H, g + o->w5, H);
        plain_columns(N, -1, H, NULL, R->dh, g + o->b5);
        plain_outer(N, -1, H, H, R->d1, H, h, H, g + o->w4, 2 * H);
        plain_outer(N, -1, H, H, R->d1, H, sum, H, g + o->w4 + H, 2 * H);
        plain_columns(N, -1, H, NULL, R->d1, g + o->b4);
        TBG_SYNC();
    }
    plain_multiply(N, H, H, J->w + o->w4, 2 * H, R->d1, H, NULL, 1, R->dh, H);
    plain_multiply(N, H, H, J->w + o->w4 + H, 2 * H, R->d1, H, NULL, 0, R->dsum, H);
    TBG_SYNC();
}

/* Reverse of the edges that receiver i takes. Accumulates into dx, dx0, dpa, dpb and g. */
TBG_BLOCK_F void plain_row_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                   int b, int N, int i, float *g) {
    const int H = J->H, K = J->K, NH = N * H;
    const float *tail = J->wt + o->w1 + 2 * (size_t)H * H;
    const double *dnext = R->dnext + 3 * i;
    TBG_EACH(j, N) {
        const size_t p = (size_t)i * N + j;
        float ds = 0, along = 0;
        for (int a = 0; a < 3; a++) {
            ds += (float)dnext[a] * R->u[3 * j + a];
            along += (float)dnext[a] * R->unit[3 * p + a];
        }
        const float tq = J->tanh ? tanhf(R->q[j]) : 0;
        R->dq[j] = J->tanh ? ds * (1 - tq * tq) * J->range : ds;
        R->dg[j] = R->rho[p] * along; /* 0 without the term: rho is */
        R->dr0[j] = R->g[j] * along * R->drho[p];
        for (int a = 0; a < 3; a++)
            R->pull[3 * j + a] =
                R->r0[p] > 0 ? R->g[j] * R->rho[p] * ((float)dnext[a] - along * R->unit[3 * p + a]) / R->r0[p]
                             : 0;
    }
    TBG_SYNC();
    TBG_EACH(f, NH) {
        const int j = f / H, c = f % H;
        R->t1[f] = R->dq[j] * J->w[o->wc + c] * plain_slope(R->z3[f]); /* dz3 */
        R->t2[f] = R->dsum[i * H + c] + (J->harmonic ? R->dg[j] * J->w[o->wg + c] : 0);
    }
    TBG_SYNC();
    plain_multiply(N, H, H, J->w + o->w3, H, R->t1, H, NULL, 1, R->t2, H); /* dm */
    if (g) {
        plain_columns(N, i, H, R->dq, R->y3, g + o->wc);
        plain_outer(N, i, H, H, R->t1, H, R->m, H, g + o->w3, H);
        plain_columns(N, i, H, NULL, R->t1, g + o->b3);
        if (J->harmonic)
            plain_columns(N, i, H, R->dg, R->m, g + o->wg);
    }
    TBG_SYNC();
    TBG_EACH(j, N)
    R->da[j] = J->attention ? plain_dot(H, R->t2 + j * H, R->y2 + j * H) * R->att[j] * (1 - R->att[j]) : 0;
    TBG_SYNC();
    TBG_EACH(f, NH) {
        const int j = f / H, c = f % H;
        const float dy = R->t2[f] * R->att[j] + (J->attention ? R->da[j] * J->w[o->wa + c] : 0);
        R->t1[f] = dy * plain_slope(R->z2[f]); /* dz2 */
    }
    TBG_EACH(k, 2) { /* two biases of one element */
        float sum = 0;
        const float *from = k ? R->dg : R->da;
        for (int j = 0; j < N; j++)
            if (j != i)
                sum += from[j];
        if (g && (k ? J->harmonic : J->attention))
            g[k ? o->bg : o->ba] += sum;
    }
    TBG_SYNC();
    plain_multiply(N, H, H, J->w + o->w2, H, R->t1, H, NULL, 0, R->t2, H); /* dy1 */
    if (g) {
        plain_outer(N, i, H, H, R->t1, H, R->y1, H, g + o->w2, H);
        plain_columns(N, i, H, NULL, R->t1, g + o->b2);
        if (J->attention)
            plain_columns(N, i, H, R->da, R->y2, g + o->wa);
    }
    TBG_SYNC();
    TBG_EACH(f, NH)
    R->t2[f] *= plain_slope(R->z1[f]); /* dz1 */
    TBG_SYNC();
    TBG_EACH(f, NH)
    if (f / H != i)
        R->dpb[f] += R->t2[f];
    plain_columns(N, i, H, NULL, R->t2, R->dpa + i * H);
    TBG_EACH(j, N) {
        const float *de = R->de + ((size_t)i * N + j) * K, *dz = R->t2 + j * H;
        float along = 0, dr = plain_dot(H, tail, dz);
        for (int k = 0; k < K; k++)
            if (J->dx && de[k] != 0)
                R->dr0[j] += de[k] * plain_dot(H, tail + (1 + k) * H, dz);
        for (int a = 0; a < 3; a++)
            along += (float)dnext[a] * R->s[j] * R->d[3 * j + a];
        R->dr[j] = dr - along / (R->below[j] * R->below[j] * 2 * R->root[j]);
    }
    if (g) {
        plain_columns(N, i, H, NULL, R->t2, g + o->b1);
        TBG_EACH(f, H * (1 + K)) {
            const int k = f / H, c = f % H;
            float sum = 0;
            for (int j = 0; j < N; j++) {
                const float *d = R->d + 3 * j;
                if (j != i)
                    sum += R->t2[j * H + c] * (k ? R->e[((size_t)i * N + j) * K + k - 1]
                                                 : d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
            }
            g[o->w1 + (size_t)c * (2 * H + 1 + K) + 2 * H + k] += sum;
        }
    }
    TBG_SYNC();
    TBG_EACH(f, 3 * N) { /* what each sender gets; the receiver gets the opposite, below */
        const int j = f / 3, a = f % 3;
        if (j == i)
            continue;
        const size_t p = (size_t)i * N + j;
        R->dx[f] -= (double)((float)dnext[a] * R->s[j] / R->below[j] + 2 * R->dr[j] * R->d[f]);
        R->dx0[f] -= (double)(R->pull[f] + R->dr0[j] * R->unit[3 * p + a]);
    }
    TBG_SYNC();
    TBG_EACH(a, 3) {
        double sum = 0, sum0 = 0;
        for (int j = 0; j < N; j++)
            if (j != i) {
                const size_t p = (size_t)i * N + j;
                sum += (double)((float)dnext[a] * R->s[j] / R->below[j] + 2 * R->dr[j] * R->d[3 * j + a]);
                sum0 += (double)(R->pull[3 * j + a] + R->dr0[j] * R->unit[3 * p + a]);
            }
        R->dx[3 * i + a] += sum;
        R->dx0[3 * i + a] += sum0;
    }
    TBG_SYNC();
    (void)b;
}

TBG_BLOCK_F void plain_edges_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int N, int l,
                                     float *g) {
    TBG_UNROLL_1
    for (int i = 0; i < N; i++) {
        plain_row(J, R, &J->layer[l], b, N, l, i);
        plain_row_reverse(J, R, &J->layer[l], b, N, i, g);
    }
}

/* From dv (in R->v) to the mean-free gradient at the last positions. */
TBG_BLOCK_F void plain_reverse_begin(const tbg_cuda_job *J, const tbg_cuda_room *R, tbg_cuda_place p) {
    TBG_EACH(a, 3) {
        const double *v = R->v + 3 * p.row + a;
        double *dx = R->dx + 3 * p.row + a, *dx0 = R->dx0 + 3 * p.row + a, mean = 0;
        for (int i = 0; i < p.N; i++)
            mean += v[3 * i] / p.N;
        for (int i = 0; i < p.N; i++) {
            dx[3 * i] = v[3 * i] - mean;
            dx0[3 * i] = mean - v[3 * i];
        }
    }
    TBG_EACH(f, p.N * J->H)
    R->dh[p.row * J->H + f] = R->dsum[p.row * J->H + f] = 0;
    TBG_SYNC();
}

/* Node parts of the first edge matrix, in reverse: into dh and g. */
TBG_BLOCK_F void plain_project_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, const tbg_cuda_layer *o,
                                       int N, int l, float *g) {
    const int H = J->H, columns = 2 * H + 1 + J->K;
    const float *h = R->h + (size_t)l * N * H;
    if (g) {
        plain_outer(N, -1, H, H, R->dpa, H, h, H, g + o->w1, columns);
        plain_outer(N, -1, H, H, R->dpb, H, h, H, g + o->w1 + H, columns);
    }
    plain_multiply(N, H, H, J->w + o->w1, columns, R->dpa, H, NULL, 1, R->dh, H);
    TBG_SYNC();
    plain_multiply(N, H, H, J->w + o->w1 + H, columns, R->dpb, H, NULL, 1, R->dh, H);
    TBG_SYNC();
}

TBG_BLOCK_F void plain_embed_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int N, float *g) {
    plain_outer(N, -1, J->H, J->F, R->dh, J->H, R->input, J->F, g + J->embedding_w, J->F);
    plain_columns(N, -1, J->H, NULL, R->dh, g + J->embedding_b);
    TBG_SYNC();
}
#endif
