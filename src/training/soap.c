/* soap.c: SOAP (Vyas et al. 2024): AdamW in the eigenbases of Shampoo's preconditioner. Owns, for every
 * weight matrix, the moving averages of G G^T and G^T G and their eigenbases; Adam's moments belong to
 * optimizer.c.
 *
 * G [m][n] is a gradient. Basis vectors are rows: G' = QL G QR^T is the gradient in the bases, and Q C Q^T is
 * (nearly) diagonal for the covariance C of a side. Adam's first moment lives in the original basis and is
 * rotated at each step; its second moment lives in the rotated one and keeps its entries when bases turn (as
 * published). Step 1 is Adam's own, since in the basis of one gradient that gradient is diagonal, and Adam
 * would divide rounding errors off its diagonal by themselves; it ends by finding the bases. Vectors (biases,
 * one row or column) get Adam, and so does a side longer than LONGEST.
 *
 * Threads take whole tensors, so nothing depends on how many there are. */
#include "base/memory.h"
#include "base/simd.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 512
#define SWEEPS 30

TBG_SIMD_DECLARE(const tbg_soap_kernels, tbg_soap_kernels);
TBG_SIMD_DECLARE(const tbg_optimizer_kernels, tbg_optimizer_kernels);

typedef struct {
    int n;                     /* 0: this side is not rotated */
    float *covariance, *basis; /* [n][n]; basis: all zero before the first gradient that isn't */
} side;

typedef struct {
    int rows, columns;
    size_t offset, n;
    side sides[2]; /* rows, columns */
} matrix;

typedef struct {
    float *g, *x, *y, *z;  /* [rows][columns] */
    float *panel;          /* [longest side][TBG_SOAP_PANEL] */
    double *p, *q, *scale; /* [n][n], [n][n], [2 n] */
    int *order[2];         /* [n] */
} workspace;

struct tbg_soap {
    const tbg_soap_kernels *kernels;
    const tbg_optimizer_kernels *adam;
    int n, every, threads;
    matrix *matrices;
    int (*rotated)[2]; /* [n] lengths of sides */
    float *state;
    size_t n_state;
    char *memory;
    workspace *workspaces; /* [threads] */
};

static void carve(tbg_arena *arena, size_t most, size_t longest, size_t rotated, workspace *w) {
    w->g = TBG_TAKE(arena, float, most);
    w->x = TBG_TAKE(arena, float, most);
    w->y = TBG_TAKE(arena, float, most);
    w->z = TBG_TAKE(arena, float, most);
    w->panel = TBG_TAKE(arena, float, longest *TBG_SOAP_PANEL);
    w->p = TBG_TAKE(arena, double, rotated *rotated);
    w->q = TBG_TAKE(arena, double, rotated *rotated);
    w->scale = TBG_TAKE(arena, double, 2 * rotated);
    for (int k = 0; k < 2; k++)
        w->order[k] = TBG_TAKE(arena, int, rotated);
}

static int set_up(tbg_soap *s, const tbg_parameter *tensors) {
    size_t most = 1, longest = 1, rotated = 1;
    s->matrices = TBG_NEW(matrix, s->n);
    s->workspaces = TBG_NEW(workspace, s->threads);
    s->rotated = tbg_alloc((size_t)s->n, sizeof *s->rotated);
    if (!s->matrices || !s->workspaces || !s->rotated)
        return TBG_FAILED;
    for (int i = 0; i < s->n; i++) {
        matrix *t = &s->matrices[i];
        int length[2] = {tensors[i].rows, tensors[i].columns};
        *t = (matrix){.rows = length[0],
                      .columns = length[1],
                      .offset = tensors[i].offset,
                      .n = (size_t)length[0] * (size_t)length[1]};
        for (int k = 0; k < 2 && s->every && tensors[i].rank == 2 && length[0] > 1 && length[1] > 1; k++)
            if (length[k] <= LONGEST) {
                size_t n = (size_t)length[k];
                t->sides[k].n = s->rotated[i][k] = length[k];
                s->n_state += 2 * n * n;
                rotated = n > rotated ? n : rotated;
            }
        if (!t->sides[0].n && !t->sides[1].n)
            continue;
        most = t->n > most ? t->n : most;
        for (int k = 0; k < 2; k++)
            longest = (size_t)length[k] > longest ? (size_t)length[k] : longest;
    }
    s->state = TBG_NEW(float, s->n_state);
    if (!s->state)
        return TBG_FAILED;
    float *next = s->state;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < 2; k++) {
            side *one = &s->matrices[i].sides[k];
            size_t n = (size_t)one->n;
            one->covariance = n ? next : NULL;
            one->basis = n ? next + n * n : NULL;
            next += 2 * n * n;
        }
    tbg_arena arena = {0};
    for (int i = 0; i < s->threads; i++)
        carve(&arena, most, longest, rotated, &s->workspaces[i]);
    s->memory = tbg_alloc(arena.used, 1);
    if (!s->memory)
        return TBG_FAILED;
    arena = (tbg_arena){.base = s->memory, .size = arena.used};
    for (int i = 0; i < s->threads; i++)
        carve(&arena, most, longest, rotated, &s->workspaces[i]);
    return TBG_OK;
}

int tbg_soap_create(int n_tensors, const tbg_parameter *tensors, int every, int threads, tbg_soap **out) {
    tbg_soap *s = TBG_NEW(tbg_soap, 1);
    *out = NULL;
    if (!s)
        return TBG_FAILED;
    s->kernels = TBG_SIMD_PICK(tbg_soap_kernels, tbg_simd_level());
    s->adam = TBG_SIMD_PICK(tbg_optimizer_kernels, tbg_simd_level());
    s->n = n_tensors;
    s->every = every;
    s->threads = threads > 0 ? threads : 1;
    if (set_up(s, tensors) != TBG_OK) {
        tbg_soap_free(s);
        return TBG_FAILED;
    }
    *out = s;
    return TBG_OK;
}

void tbg_soap_free(tbg_soap *s) {
    if (!s)
        return;
    free(s->matrices);
    free(s->rotated);
    free(s->workspaces);
    free(s->state);
    free(s->memory);
    free(s);
}

float *tbg_soap_state(const tbg_soap *s, size_t *n) {
    *n = s->n_state;
    return s->state;
}

int (*tbg_soap_rotated(const tbg_soap *s))[2] {
    return s->rotated;
}

int tbg_soap_every(const tbg_soap *s) {
    return s->every;
}

const float *tbg_soap_basis(const tbg_soap *s, int tensor, int k, const float **covariance) {
    const side *one = &s->matrices[tensor].sides[k];
    if (covariance)
        *covariance = one->covariance;
    return one->basis;
}

/* ---- bases ---- */

static double trace(const side *one) {
    double sum = 0;
    for (size_t i = 0; i < (size_t)one->n; i++)
        sum += one->covariance[i * (size_t)one->n + i];
    return sum;
}

/* A basis of zeros has not been found yet: no basis vector is zero. */
static int known(const side *one) {
    for (int i = 0; i < one->n; i++)
        if (one->basis[i] != 0)
            return 1;
    return 0;
}

static int has_bases(const matrix *t) {
    return known(&t->sides[0]) || known(&t->sides[1]);
}

int tbg_soap_wants_bases(const tbg_soap *s, int tensor) {
    const matrix *t = &s->matrices[tensor];
    return (t->sides[0].n || t->sides[1].n) && !has_bases(t);
}

/* order: indices by falling value; equal values keep their order. */
static void sort(int n, const double *value, int *order) {
    for (int i = 0; i < n; i++) {
        int j = i;
        for (; j > 0 && value[order[j - 1]] < value[i]; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
}

/* All eigenvectors by one-sided Jacobi rotations: rows of p = Q C are made orthogonal to each other, which
 * for a symmetric C they are where the rows of Q are eigenvectors. Q is a product of rotations whatever C is.
 */
static void decompose(const tbg_soap_kernels *kernels, side *one, workspace *w) {
    size_t n = (size_t)one->n;
    double *p = w->p, *q = w->q, *square = w->scale, scale = 1 / trace(one);
    memset(q, 0, n * n * sizeof *q);
    for (size_t i = 0; i < n * n; i++)
        p[i] = scale * one->covariance[i];
    for (size_t i = 0; i < n; i++)
        q[i * n + i] = 1;
    for (int sweep = 0, turned = 1; sweep < SWEEPS && turned; sweep++) {
        turned = 0;
        for (size_t i = 0; i < n; i++)
            square[i] = kernels->dot(n, p + i * n, p + i * n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++) {
                if (square[i] < 1e-20 && square[j] < 1e-20) /* below the covariance's own rounding */
                    continue;
                double product = kernels->dot(n, p + i * n, p + j * n);
                if (!(fabs(product) > 1e-10 * sqrt(fabs(square[i] * square[j])) && fabs(product) > 1e-25))
                    continue;
                double z = (square[j] - square[i]) / (2 * product);
                double t = (z < 0 ? -1 : 1) / (fabs(z) + sqrt(1 + z * z)), c = 1 / sqrt(1 + t * t);
                kernels->rotate(n, c, c * t, p + i * n, p + j * n);
                kernels->rotate(n, c, c * t, q + i * n, q + j * n);
                square[i] -= t * product;
                square[j] += t * product;
                turned = 1;
            }
    }
    for (size_t i = 0; i < n; i++)
        square[i] = kernels->dot(n, p + i * n, p + i * n);
    sort(one->n, square, w->order[0]);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            one->basis[i * n + j] = (float)q[(size_t)w->order[0][i] * n + j];
}

/* q: the rows of p made orthonormal in order (p = lower triangle with a positive diagonal times q).
 * Householder reflections, so that q is orthogonal to rounding even where rows of p are nearly dependent.
 * scale: [2 n] */
static void orthonormalise(const tbg_soap_kernels *kernels, size_t n, double *p, double *q, double *scale) {
    double *sign = scale + n;
    for (size_t i = 0; i < n; i++) {
        double *v = p + i * n + i, norm = sqrt(kernels->dot(n - i, v, v));
        sign[i] = v[0] > 0 ? -1 : 1;
        v[0] -= sign[i] * norm;
        double square = kernels->dot(n - i, v, v);
        scale[i] = square > 0 ? 2 / square : 0;
        for (size_t j = i + 1; j < n; j++)
            kernels->add(n - i, -scale[i] * kernels->dot(n - i, v, p + j * n + i), v, p + j * n + i);
    }
    memset(q, 0, n * n * sizeof *q);
    for (size_t i = n; i-- > 0;) {
        const double *v = p + i * n + i;
        q[i * n + i] = 1;
        for (size_t j = i; j < n; j++)
            kernels->add(n - i, -scale[i] * kernels->dot(n - i, v, q + j * n + i), v, q + j * n + i);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            q[i * n + j] *= sign[i];
}

/* One step of orthogonal iteration from the basis as it is, its vectors in order of the variance along them.
 */
static void refine(const tbg_soap_kernels *kernels, side *one, workspace *w, int *order) {
    size_t n = (size_t)one->n;
    double mean = trace(one) / one->n;
    float *product = (float *)w->q; /* q is not needed yet */
    kernels->multiply(one->n, one->n, one->n, 1, one->basis, n, 1, one->covariance, n, 1, 0, product,
                      w->panel);
    for (size_t i = 0; i < n; i++) {
        w->scale[i] = 0;
        for (size_t j = 0; j < n; j++)
            w->scale[i] += (double)product[i * n + j] * one->basis[i * n + j];
    }
    sort(one->n, w->scale, order);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            size_t from = (size_t)order[i] * n + j;
            w->p[i * n + j] = product[from] / mean + TBG_SOAP_SHIFT * one->basis[from];
        }
    orthonormalise(kernels, n, w->p, w->q, w->scale);
    for (size_t i = 0; i < n * n; i++)
        one->basis[i] = (float)w->q[i];
}

/* ---- a step ---- */

/* out = QL in QR^T, or back: QL^T in QR. other: the same size; in stays. */
static void turn(const tbg_soap_kernels *kernels, const matrix *t, int back, const float *in, float *other,
                 float *out, float *panel) {
    const side *left = &t->sides[0], *right = &t->sides[1];
    size_t m = (size_t)t->rows, n = (size_t)t->columns;
    float *half = right->n ? other : out;
    if (left->n)
        kernels->multiply(t->rows, t->columns, t->rows, 1, left->basis, back ? 1 : m, back ? m : 1, in, n, 1,
                          0, half, panel);
    if (right->n)
        kernels->multiply(t->rows, t->columns, t->columns, 1, left->n ? half : in, n, 1, right->basis,
                          back ? n : 1, back ? 1 : n, 0, out, panel);
}

static void find_bases(const tbg_soap_kernels *kernels, const tbg_adam_constants *c, matrix *t, float *v,
                       workspace *w) {
    for (int k = 0; k < 2; k++)
        if (t->sides[k].n)
            decompose(kernels, &t->sides[k], w);
    turn(kernels, t, 0, w->g, w->x, w->y, w->panel);
    for (size_t i = 0; i < t->n; i++)
        v[i] = w->y[i] * w->y[i] / c->c2; /* as if all gradients so far had been this one */
}

static void refine_bases(const tbg_soap_kernels *kernels, matrix *t, float *v, workspace *w) {
    int length[2] = {t->rows, t->columns};
    for (int k = 0; k < 2; k++)
        if (t->sides[k].n)
            refine(kernels, &t->sides[k], w, w->order[k]);
    memcpy(w->x, v, t->n * sizeof *v);
    for (size_t i = 0; i < (size_t)length[0]; i++)
        for (size_t j = 0; j < (size_t)length[1]; j++) {
            size_t row = t->sides[0].n ? (size_t)w->order[0][i] : i,
                   column = t->sides[1].n ? (size_t)w->order[1][j] : j;
            v[i * (size_t)length[1] + j] = w->x[row * (size_t)length[1] + column];
        }
}

/* Covariances; the moving average of |G|^2, which is the trace of either. */
static double remember(const tbg_soap_kernels *kernels, const tbg_adam_constants *c, matrix *t,
                       workspace *w) {
    const float *g = w->g, keep = c->beta2, take = 1 - c->beta2;
    side *left = &t->sides[0], *right = &t->sides[1];
    int m = t->rows, n = t->columns;
    size_t row = (size_t)n;
    if (left->n)
        kernels->multiply(m, m, n, take, g, row, 1, g, 1, row, keep, left->covariance, w->panel);
    if (right->n)
        kernels->multiply(n, n, m, take, g, 1, row, g, row, 1, keep, right->covariance, w->panel);
    return trace(left->n ? left : right);
}

static void step(const tbg_soap *s, matrix *t, workspace *w, const tbg_adam_constants *c, tbg_optimizer *o,
                 float *weights, const float *gradient) {
    const tbg_soap_kernels *kernels = s->kernels;
    float *m = o->m + t->offset, *v = o->v + t->offset, *ema = o->ema ? o->ema + t->offset : NULL;
    weights += t->offset;
    gradient += t->offset;
    int rotated = has_bases(t);
    if (!rotated)
        s->adam->update(t->n, c, weights, m, v, ema, gradient);
    if (!t->sides[0].n && !t->sides[1].n)
        return;
    for (size_t i = 0; i < t->n; i++)
        w->g[i] = c->gradient_scale * gradient[i];
    double square = remember(kernels, c, t, w);
    if (rotated) {
        tbg_adam_constants in_bases = *c;
        in_bases.epsilon += (float)(TBG_SOAP_ROUNDING * sqrt(square * c->c2));
        kernels->average(t->n, 1 - c->beta1, w->g, m);
        turn(kernels, t, 0, m, w->z, w->x, w->panel);
        turn(kernels, t, 0, w->g, w->z, w->y, w->panel);
        kernels->direction(t->n, &in_bases, w->y, v, w->x);
        turn(kernels, t, 1, w->x, w->z, w->y, w->panel);
        kernels->apply(t->n, c, w->y, weights, ema);
    }
    if (!(square > 0) || !isfinite(square)) /* no gradient yet, or one beyond single precision */
        return;
    if (!rotated)
        find_bases(kernels, c, t, v, w);
    else if (o->steps % s->every == 0)
        refine_bases(kernels, t, v, w);
}

void tbg_soap_update(tbg_soap *s, tbg_optimizer *o, const tbg_adam_constants *c, float *weights,
                     const float *gradient, int threads) {
    threads = threads < s->threads ? threads : s->threads;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 1)
    for (int i = 0; i < s->n; i++)
        step(s, &s->matrices[i], &s->workspaces[omp_get_thread_num()], c, o, weights, gradient);
}
