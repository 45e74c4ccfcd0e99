/* reference_field.c: the vector field in double precision and plain C: the oracle that fast backends are
 * tested against.
 *
 * Owns forward, tangent and reverse of every operation of SPEC 2.1 and 2.4, side by side, for one
 * configuration. Refuses cleverness: the only liberty is W1 [h_i, h_j, ...] = W1a h_i + W1b h_j + ..., so
 * that node parts are computed once per node.
 *
 * Gradients: parameters accumulate, activations are assigned unless said otherwise. The reverse pass uses h,
 * x and the summed messages of each layer, saved by the forward pass, and computes edges anew. */
#include "network/reference_field.h"
#include "tbg/schedule.h"

#include <math.h>
#include <string.h>

#define MOST_EDGE_FEATURES 32

/* What an edge layer computes of one ordered pair besides the channel vectors. */
typedef struct {
    double d[3], root, below, u[3]; /* x_i - x_j; sqrt(r + 1e-8); root + 1; d / below */
    double att, q, s, g;            /* attention; before tanh; coordinate weight; gate */
    int harmonic;
    double r0, n[3], rho, drho; /* input positions: distance, unit vector, rate and derivative */
    double e[MOST_EDGE_FEATURES], de[MOST_EDGE_FEATURES];
} edge;

/* ---- elementary operations ---- */

static double sigmoid(double z) {
    return 1 / (1 + exp(-z));
}

static double silu(double z) {
    return z * sigmoid(z);
}

static double silu_slope(double z) {
    double s = sigmoid(z);
    return s * (1 + z * (1 - s));
}

static double dot(int n, const double *a, const double *b) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Wider registers where the machine has them, from the same C; without fused operations, so that every
 * machine rounds alike. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

WIDE static void axpy(int n, double a, const double *restrict x, double *restrict y) {
#pragma omp simd
    for (int i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* y[c][o] += sum_i wt[i][o] x[c][i] for `count` vectors. wt: rows of length n_out. */
WIDE static void multiply(int n_in, int n_out, const double *restrict wt, int count, const double *restrict x,
                          size_t x_stride, double *restrict y, size_t y_stride) {
    int i = 0;
    for (; i + 4 <= n_in; i += 4) {
        const double *restrict w0 = wt + (size_t)i * (size_t)n_out, *restrict w1 = w0 + n_out;
        const double *restrict w2 = w1 + n_out, *restrict w3 = w2 + n_out;
        for (int c = 0; c < count; c++) {
            const double *xc = x + (size_t)c * x_stride + i;
            double a0 = xc[0], a1 = xc[1], a2 = xc[2], a3 = xc[3], *restrict yc = y + (size_t)c * y_stride;
#pragma omp simd
            for (int o = 0; o < n_out; o++)
                yc[o] += ((a0 * w0[o] + a1 * w1[o]) + a2 * w2[o]) + a3 * w3[o];
        }
    }
    for (; i < n_in; i++)
        for (int c = 0; c < count; c++)
            axpy(n_out, x[(size_t)c * x_stride + (size_t)i], wt + (size_t)i * (size_t)n_out,
                 y + (size_t)c * y_stride);
}

/* dW[o][i] += dy[o] x[i], rows of length `stride`. */
static void outer(int n_out, int n_in, const double *dy, const double *x, double *dw, size_t stride) {
    for (int o = 0; o < n_out; o++)
        axpy(n_in, dy[o], x, dw + (size_t)o * stride);
}

/* ---- forward, with tangents in step ---- */

static void embed(const tbg_reference *R, tbg_reference_room *W, const tbg_conditioning *c, double t) {
    int F = R->F, H = R->H, nf = R->model->spec.n_features;
    for (int i = 0; i < c->n_atoms; i++) {
        double *in = W->input + (size_t)i * (size_t)F, *h = W->h + (size_t)i * (size_t)H;
        memcpy(in, c->node_features + (size_t)i * (size_t)nf, (size_t)nf * sizeof *in);
        in[nf] = t;
        if (R->model->spec.time_u)
            in[nf + 1] = tbg_u_of_time(R->model->spec.graded_d, t);
        memcpy(h, R->w + R->embedding_b, (size_t)H * sizeof *h);
        multiply(F, H, R->wt + R->embedding_w, 1, in, 0, h, 0);
    }
}

/* What layers need of the input positions of a pair. */
static void edge_input(const tbg_reference *R, const tbg_conditioning *c, double t, const double *x0, int i,
                       int j, edge *E) {
    size_t ij = (size_t)i * (size_t)c->n_atoms + (size_t)j;
    double r2 = 0;
    for (int a = 0; a < 3; a++) {
        E->n[a] = x0[3 * i + a] - x0[3 * j + a];
        r2 += E->n[a] * E->n[a];
    }
    E->r0 = sqrt(r2);
    for (int a = 0; a < 3; a++)
        E->n[a] = E->r0 > 0 ? E->n[a] / E->r0 : 0;
    int class = c->bond_class[ij];
    tbg_edge_features(&R->model->spec, t, E->r0, class, c->pair_mean[ij], c->pair_width[ij], E->e, E->de);
    E->harmonic = R->model->spec.harmonic_term && (class == 1 || class == 2);
    if (E->harmonic)
        tbg_harmonic_rate(&R->model->spec, t, E->r0, c->pair_mean[ij], c->pair_width[ij], &E->rho, &E->drho);
}

/* Forward of one ordered pair (i receives): fills E, z1..y3 and m. x: of the layer. */
static void edge_forward(const tbg_reference *R, tbg_reference_room *W, const tbg_reference_layer *o,
                         const double *x, int i, int j, edge *E) {
    const tbg_network_spec *spec = &R->model->spec;
    int H = R->H;
    double r = 0;
    for (int a = 0; a < 3; a++) {
        E->d[a] = x[3 * i + a] - x[3 * j + a];
        r += E->d[a] * E->d[a];
    }
    E->root = sqrt(r + 1e-8);
    E->below = E->root + 1;
    for (int a = 0; a < 3; a++)
        E->u[a] = E->d[a] / E->below;

    const double *w1 = R->wt + o->w1 + 2 * (size_t)H * (size_t)H; /* rows for r and the edge features */
    const double *pa = W->pa + (size_t)i * (size_t)H, *pb = W->pb + (size_t)j * (size_t)H;
    for (int c = 0; c < H; c++)
        W->z1[c] = pa[c] + pb[c] + R->w[o->b1 + (size_t)c] + w1[c] * r;
    multiply(R->K, H, w1 + H, 1, E->e, 0, W->z1, 0);
    for (int c = 0; c < H; c++)
        W->y1[c] = silu(W->z1[c]);

    memcpy(W->z2, R->w + o->b2, (size_t)H * sizeof(double));
    multiply(H, H, R->wt + o->w2, 1, W->y1, 0, W->z2, 0);
    for (int c = 0; c < H; c++)
        W->y2[c] = silu(W->z2[c]);
    E->att = spec->attention ? sigmoid(dot(H, R->w + o->wa, W->y2) + R->w[o->ba]) : 1;
    for (int c = 0; c < H; c++)
        W->m[c] = W->y2[c] * E->att;

    memcpy(W->z3, R->w + o->b3, (size_t)H * sizeof(double));
    multiply(H, H, R->wt + o->w3, 1, W->m, 0, W->z3, 0);
    for (int c = 0; c < H; c++)
        W->y3[c] = silu(W->z3[c]);
    E->q = dot(H, R->w + o->wc, W->y3);
    E->s = spec->tanh ? tanh(E->q) * spec->coords_range / R->L : E->q;
    E->g = E->harmonic ? dot(H, R->w + o->wg, W->m) + R->w[o->bg] : 0;
}

/* Tangents of that pair for the directions of the block; the first layer's are zero where neither atom moves.
 */
static void edge_tangent(const tbg_reference *R, tbg_reference_room *W, const tbg_reference_layer *o, int N,
                         int i, int j, int nd, int first, const edge *E) {
    const tbg_network_spec *spec = &R->model->spec;
    int H = R->H, active[TBG_REFERENCE_BLOCK], na = 0;
    double rate[TBG_REFERENCE_BLOCK], dd[TBG_REFERENCE_BLOCK][3], d0[TBG_REFERENCE_BLOCK][3];
    const double *w1 = R->wt + o->w1 + 2 * (size_t)H * (size_t)H;
    for (int k = 0; k < nd; k++) {
        const double *x = W->x_dot + (size_t)k * (size_t)N * 3, *x0 = W->x0_dot + (size_t)k * (size_t)N * 3;
        double any = 0, r_dot = 0, r0_dot = 0;
        for (int a = 0; a < 3; a++) {
            dd[na][a] = x[3 * i + a] - x[3 * j + a];
            d0[na][a] = x0[3 * i + a] - x0[3 * j + a];
            r_dot += 2 * E->d[a] * dd[na][a];
            r0_dot += E->n[a] * d0[na][a];
            any += fabs(dd[na][a]);
        }
        if (first && any == 0)
            continue;
        size_t at_i = ((size_t)k * (size_t)N + (size_t)i) * (size_t)H,
               at_j = at_i + (size_t)(j - i) * (size_t)H;
        double *t1 = W->t1 + (size_t)na * (size_t)H;
        for (int c = 0; c < H; c++)
            t1[c] = W->pa_dot[at_i + (size_t)c] + W->pb_dot[at_j + (size_t)c] + w1[c] * r_dot;
        for (int f = 0; f < R->K; f++)
            if (E->de[f] != 0)
                axpy(H, E->de[f] * r0_dot, w1 + (size_t)(1 + f) * (size_t)H, t1);
        for (int c = 0; c < H; c++)
            t1[c] *= W->d1[c]; /* slope of SiLU at z1 */
        rate[na] = r0_dot;
        active[na++] = k;
    }
    memset(W->t2, 0, (size_t)na * (size_t)H * sizeof(double));
    multiply(H, H, R->wt + o->w2, na, W->t1, (size_t)H, W->t2, (size_t)H);
    for (int b = 0; b < na; b++) {
        double *m_dot = W->t2 + (size_t)b * (size_t)H;
        for (int c = 0; c < H; c++)
            m_dot[c] *= W->d2[c];
        if (spec->attention) {
            double att_dot = E->att * (1 - E->att) * dot(H, R->w + o->wa, m_dot);
            for (int c = 0; c < H; c++)
                m_dot[c] = m_dot[c] * E->att + W->y2[c] * att_dot;
        }
        axpy(H, 1, m_dot, W->sum_dot + ((size_t)active[b] * (size_t)N + (size_t)i) * (size_t)H);
    }
    memset(W->t1, 0, (size_t)na * (size_t)H * sizeof(double));
    multiply(H, H, R->wt + o->w3, na, W->t2, (size_t)H, W->t1, (size_t)H);
    for (int b = 0; b < na; b++) {
        const double *z_dot = W->t1 + (size_t)b * (size_t)H;
        double q_dot = 0, r_dot = 0;
        for (int c = 0; c < H; c++)
            q_dot += R->w[o->wc + (size_t)c] * W->d3[c] * z_dot[c];
        double tq = spec->tanh ? tanh(E->q) : 0;
        double s_dot = spec->tanh ? q_dot * (1 - tq * tq) * spec->coords_range / R->L : q_dot;
        for (int a = 0; a < 3; a++)
            r_dot += 2 * E->d[a] * dd[b][a];
        double below_dot = r_dot / (2 * E->root);
        double *next = W->next_dot + ((size_t)active[b] * (size_t)N + (size_t)i) * 3;
        for (int a = 0; a < 3; a++) {
            double u_dot = dd[b][a] / E->below - E->d[a] * below_dot / (E->below * E->below);
            next[a] += u_dot * E->s + E->u[a] * s_dot;
        }
        if (E->harmonic) {
            double g_dot = dot(H, R->w + o->wg, W->t2 + (size_t)b * (size_t)H), rho_dot = E->drho * rate[b];
            for (int a = 0; a < 3; a++) {
                double n_dot = E->r0 > 0 ? (d0[b][a] - E->n[a] * rate[b]) / E->r0 : 0;
                next[a] += (g_dot * E->rho + E->g * rho_dot) * E->n[a] + E->g * E->rho * n_dot;
            }
        }
    }
}

static void node_update(const tbg_reference *R, tbg_reference_room *W, const tbg_reference_layer *o, int N,
                        int layer, int nd) {
    int H = R->H;
    const double *w4 = R->wt + o->w4, *w4b = w4 + (size_t)H * (size_t)H;
    size_t at = (size_t)layer * (size_t)N * (size_t)H;
    for (int i = 0; i < N; i++) {
        const double *h = W->h + at + (size_t)i * (size_t)H;
        double *next = W->h + at + (size_t)(N + i) * (size_t)H;
        memcpy(W->z4, R->w + o->b4, (size_t)H * sizeof(double));
        multiply(H, H, w4, 1, h, 0, W->z4, 0);
        multiply(H, H, w4b, 1, W->sum + at + (size_t)i * (size_t)H, 0, W->z4, 0);
        for (int c = 0; c < H; c++) {
            W->y4[c] = silu(W->z4[c]);
            next[c] = h[c] + R->w[o->b5 + (size_t)c];
        }
        multiply(H, H, R->wt + o->w5, 1, W->y4, 0, next, 0);
        if (!nd)
            continue;
        size_t stride = (size_t)N * (size_t)H, own = (size_t)i * (size_t)H;
        memset(W->t1, 0, (size_t)nd * (size_t)H * sizeof(double));
        multiply(H, H, w4, nd, W->h_dot + own, stride, W->t1, (size_t)H);
        multiply(H, H, w4b, nd, W->sum_dot + own, stride, W->t1, (size_t)H);
        for (int k = 0; k < nd; k++)
            for (int c = 0; c < H; c++)
                W->t1[(size_t)k * (size_t)H + (size_t)c] *= silu_slope(W->z4[c]);
        multiply(H, H, R->wt + o->w5, nd, W->t1, (size_t)H, W->h_dot + own, stride);
    }
}

/* Node parts of the first edge matrix. */
static void project(const tbg_reference *R, tbg_reference_room *W, const tbg_reference_layer *o, int N,
                    int layer, int nd) {
    int H = R->H;
    size_t nh = (size_t)N * (size_t)H, at = (size_t)layer * nh;
    const double *w1a = R->wt + o->w1, *w1b = w1a + (size_t)H * (size_t)H;
    memset(W->pa, 0, nh * sizeof(double));
    memset(W->pb, 0, nh * sizeof(double));
    multiply(H, H, w1a, N, W->h + at, (size_t)H, W->pa, (size_t)H);
    multiply(H, H, w1b, N, W->h + at, (size_t)H, W->pb, (size_t)H);
    if (!nd)
        return;
    memset(W->pa_dot, 0, (size_t)nd * nh * sizeof(double));
    memset(W->pb_dot, 0, (size_t)nd * nh * sizeof(double));
    if (!layer)
        return; /* h does not depend on positions yet */
    multiply(H, H, w1a, nd * N, W->h_dot, (size_t)H, W->pa_dot, (size_t)H);
    multiply(H, H, w1b, nd * N, W->h_dot, (size_t)H, W->pb_dot, (size_t)H);
}

/* Subtract the first positions and the mean: v from the last layer's positions. */
static void finish(int N, const double *last, const double *first, double *v) {
    for (int a = 0; a < 3; a++) {
        double mean = 0;
        for (int i = 0; i < N; i++)
            mean += (last[3 * i + a] - first[3 * i + a]) / N;
        for (int i = 0; i < N; i++)
            v[3 * i + a] = last[3 * i + a] - first[3 * i + a] - mean;
    }
}

void tbg_reference_forward(const tbg_reference *R, tbg_reference_room *W, const tbg_conditioning *c, double t,
                           const double *x, int nd, double *v) {
    int N = c->n_atoms, H = R->H;
    size_t nh = (size_t)N * (size_t)H, n3 = (size_t)N * 3;
    edge E;
    embed(R, W, c, t);
    memcpy(W->x, x, n3 * sizeof(double));
    memset(W->h_dot, 0, (size_t)nd * nh * sizeof(double));
    memcpy(W->x_dot, W->x0_dot, (size_t)nd * n3 * sizeof(double));
    for (int l = 0; l < R->L; l++) {
        const tbg_reference_layer *o = &R->layers[l];
        const double *here = W->x + (size_t)l * n3;
        double *next = W->x + (size_t)(l + 1) * n3, *sum = W->sum + (size_t)l * nh;
        project(R, W, o, N, l, nd);
        memcpy(next, here, n3 * sizeof(double));
        memcpy(W->next_dot, W->x_dot, (size_t)nd * n3 * sizeof(double));
        memset(sum, 0, nh * sizeof(double));
        memset(W->sum_dot, 0, (size_t)nd * nh * sizeof(double));
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                if (i == j)
                    continue;
                edge_input(R, c, t, x, i, j, &E);
                edge_forward(R, W, o, here, i, j, &E);
                axpy(H, 1, W->m, sum + (size_t)i * (size_t)H);
                for (int a = 0; a < 3; a++)
                    next[3 * i + a] += E.u[a] * E.s + (E.harmonic ? E.g * E.rho * E.n[a] : 0);
                if (nd) {
                    for (int k = 0; k < H; k++) {
                        W->d1[k] = silu_slope(W->z1[k]);
                        W->d2[k] = silu_slope(W->z2[k]);
                        W->d3[k] = silu_slope(W->z3[k]);
                    }
                    edge_tangent(R, W, o, N, i, j, nd, l == 0, &E);
                }
            }
        if (l + 1 < R->L)
            node_update(R, W, o, N, l, nd);
        memcpy(W->x_dot, W->next_dot, (size_t)nd * n3 * sizeof(double));
    }
    finish(N, W->x + (size_t)R->L * n3, W->x, v);
    for (int k = 0; k < nd; k++)
        finish(N, W->x_dot + (size_t)k * n3, W->x0_dot + (size_t)k * n3, W->next_dot + (size_t)k * n3);
}

/* ---- reverse ---- */

/* Reverse of node_update: dh holds the gradient at h of layer + 1 and becomes that at h of `layer` (this path
 * only); dsum: assigned. g: parameter gradients or NULL. */
static void node_reverse(const tbg_reference *R, tbg_reference_room *W, const tbg_reference_layer *o, int N,
                         int layer, double *g) {
    int H = R->H;
    size_t at = (size_t)layer * (size_t)N * (size_t)H, hh = (size_t)H * (size_t)H;
    for (int i = 0; i < N; i++) {
        const double *h = W->h + at + (size_t)i * (size_t)H, *sum = W->sum + at + (size_t)i * (size_t)H;
        double *dh = W->dh + (size_t)i * (size_t)H, *dsum = W->dsum + (size_t)i * (size_t)H;
        memcpy(W->z4, R->w + o->b4, (size_t)H * sizeof(double));
        multiply(H, H, R->wt + o->w4, 1, h, 0, W->z4, 0);
        multiply(H, H, R->wt + o->w4 + hh, 1, sum, 0, W->z4, 0);
        memset(W->d1, 0, (size_t)H * sizeof(double));
        multiply(H, H, R->w + o->w5, 1, dh, 0, W->d1, 0); /* dy4 */
        if (g) {
            for (int c = 0; c < H; c++)
                W->y4[c] = silu(W->z4[c]);
            outer(H, H, dh, W->y4, g + o->w5, (size_t)H);
            axpy(H, 1, dh, g + o->b5);
        }
        for (int c = 0; c < H; c++)
            W->d1[c] *= silu_slope(W->z4[c]); /* dz4 */
        if (g) {
            outer(H, H, W->d1, h, g + o->w4, 2 * (size_t)H);
            outer(H, H, W->d1, sum, g + o->w4 + (size_t)H, 2 * (size_t)H);
            axpy(H, 1, W->d1, g + o->b4);
        }
        memset(dsum, 0, (size_t)H * sizeof(double));
        for (int c = 0; c < H; c++) {
            const double *w4 = R->w + o->w4 + 2 * (size_t)c * (size_t)H;
            axpy(H, W->d1[c], w4, dh);
            axpy(H, W->d1[c], w4 + H, dsum);
        }
    }
}

/* Reverse of one pair: dnext is the gradient at the next layer's positions, dsum at the summed messages.
 * Accumulates into dx (this layer's positions), dx0 (input positions), dpa, dpb and g. */
static void edge_reverse(const tbg_reference *R, tbg_reference_room *W, const tbg_reference_layer *o, int i,
                         int j, const edge *E, double *g) {
    const tbg_network_spec *spec = &R->model->spec;
    int H = R->H;
    size_t columns = 2 * (size_t)H + 1 + (size_t)R->K;
    double *dm = W->d1, *dz = W->d2, *dy = W->d3;
    const double *dnext = W->dnext + 3 * i;
    double ds = 0, du[3], dr0 = 0, d0[3] = {0}, dg = 0;
    for (int a = 0; a < 3; a++) {
        ds += dnext[a] * E->u[a];
        du[a] = dnext[a] * E->s;
    }
    memcpy(dm, W->dsum + (size_t)i * (size_t)H, (size_t)H * sizeof(double));
    if (E->harmonic) {
        double along = dnext[0] * E->n[0] + dnext[1] * E->n[1] + dnext[2] * E->n[2];
        dg = E->rho * along;
        dr0 += E->g * along * E->drho;
        for (int a = 0; a < 3 && E->r0 > 0; a++) /* through the unit vector */
            d0[a] = E->g * E->rho * (dnext[a] - along * E->n[a]) / E->r0;
        axpy(H, dg, R->w + o->wg, dm);
        if (g) {
            axpy(H, dg, W->m, g + o->wg);
            g[o->bg] += dg;
        }
    }
    double tq = spec->tanh ? tanh(E->q) : 0;
    double dq = spec->tanh ? ds * (1 - tq * tq) * spec->coords_range / R->L : ds;
    for (int c = 0; c < H; c++)
        dz[c] = dq * R->w[o->wc + (size_t)c] * silu_slope(W->z3[c]);
    multiply(H, H, R->w + o->w3, 1, dz, 0, dm, 0);
    if (g) {
        axpy(H, dq, W->y3, g + o->wc);
        outer(H, H, dz, W->m, g + o->w3, (size_t)H);
        axpy(H, 1, dz, g + o->b3);
    }
    if (spec->attention) {
        double da = dot(H, dm, W->y2) * E->att * (1 - E->att);
        for (int c = 0; c < H; c++)
            dm[c] = dm[c] * E->att + da * R->w[o->wa + (size_t)c]; /* now dy2 */
        if (g) {
            axpy(H, da, W->y2, g + o->wa);
            g[o->ba] += da;
        }
    }
    for (int c = 0; c < H; c++)
        dz[c] = dm[c] * silu_slope(W->z2[c]);
    memset(dy, 0, (size_t)H * sizeof(double));
    multiply(H, H, R->w + o->w2, 1, dz, 0, dy, 0);
    if (g) {
        outer(H, H, dz, W->y1, g + o->w2, (size_t)H);
        axpy(H, 1, dz, g + o->b2);
    }
    for (int c = 0; c < H; c++)
        dz[c] = dy[c] * silu_slope(W->z1[c]); /* dz1 */
    axpy(H, 1, dz, W->dpa + (size_t)i * (size_t)H);
    axpy(H, 1, dz, W->dpb + (size_t)j * (size_t)H);
    const double *w1 = R->wt + o->w1 + 2 * (size_t)H * (size_t)H;
    double dr = dot(H, w1, dz);
    for (int f = 0; f < R->K; f++)
        if (E->de[f] != 0)
            dr0 += E->de[f] * dot(H, w1 + (size_t)(1 + f) * (size_t)H, dz);
    if (g) {
        double r = E->d[0] * E->d[0] + E->d[1] * E->d[1] + E->d[2] * E->d[2];
        axpy(H, 1, dz, g + o->b1);
        for (int c = 0; c < H; c++) {
            double *row = g + o->w1 + (size_t)c * columns + 2 * (size_t)H;
            row[0] += dz[c] * r;
            axpy(R->K, dz[c], E->e, row + 1);
        }
    }
    double along = du[0] * E->d[0] + du[1] * E->d[1] + du[2] * E->d[2];
    dr -= along / (E->below * E->below * 2 * E->root);
    for (int a = 0; a < 3; a++) {
        double d = du[a] / E->below + 2 * dr * E->d[a], in = d0[a] + dr0 * E->n[a];
        W->dx[3 * i + a] += d;
        W->dx[3 * j + a] -= d;
        W->dx0[3 * i + a] += in;
        W->dx0[3 * j + a] -= in;
    }
}

void tbg_reference_reverse(const tbg_reference *R, tbg_reference_room *W, const tbg_conditioning *c, double t,
                           const double *x, const double *dv, double *dx, double *g) {
    int N = c->n_atoms, H = R->H;
    size_t nh = (size_t)N * (size_t)H, n3 = (size_t)N * 3, columns = 2 * (size_t)H + 1 + (size_t)R->K;
    edge E;
    for (int a = 0; a < 3; a++) {
        double mean = 0;
        for (int i = 0; i < N; i++)
            mean += dv[3 * i + a] / N;
        for (int i = 0; i < N; i++) {
            W->dx[3 * i + a] = dv[3 * i + a] - mean;
            W->dx0[3 * i + a] = -W->dx[3 * i + a];
        }
    }
    memset(W->dh, 0, nh * sizeof(double));
    memset(W->dsum, 0, nh * sizeof(double));
    for (int l = R->L - 1; l >= 0; l--) {
        const tbg_reference_layer *o = &R->layers[l];
        const double *h = W->h + (size_t)l * nh;
        project(R, W, o, N, l, 0);
        if (l + 1 < R->L)
            node_reverse(R, W, o, N, l, g);
        memcpy(W->dnext, W->dx, n3 * sizeof(double)); /* x_i itself passes through: dx keeps it */
        memset(W->dpa, 0, nh * sizeof(double));
        memset(W->dpb, 0, nh * sizeof(double));
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                if (i != j) {
                    edge_input(R, c, t, x, i, j, &E);
                    edge_forward(R, W, o, W->x + (size_t)l * n3, i, j, &E);
                    edge_reverse(R, W, o, i, j, &E, g);
                }
        for (int i = 0; i < N; i++) {
            const double *pa = W->dpa + (size_t)i * (size_t)H, *pb = W->dpb + (size_t)i * (size_t)H;
            double *dh = W->dh + (size_t)i * (size_t)H;
            if (g) {
                outer(H, H, pa, h + (size_t)i * (size_t)H, g + o->w1, columns);
                outer(H, H, pb, h + (size_t)i * (size_t)H, g + o->w1 + (size_t)H, columns);
            }
            for (int k = 0; k < H; k++) {
                axpy(H, pa[k], R->w + o->w1 + (size_t)k * columns, dh);
                axpy(H, pb[k], R->w + o->w1 + (size_t)k * columns + (size_t)H, dh);
            }
        }
    }
    for (int i = 0; i < N && g; i++) {
        const double *dh = W->dh + (size_t)i * (size_t)H;
        outer(H, R->F, dh, W->input + (size_t)i * (size_t)R->F, g + R->embedding_w, (size_t)R->F);
        axpy(H, 1, dh, g + R->embedding_b);
    }
    for (size_t k = 0; k < n3 && dx; k++)
        dx[k] = W->dx[k] + W->dx0[k];
}
