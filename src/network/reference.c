/* reference.c: sessions of the reference field (reference_field.c): scratch for every thread, samples of a
 * batch in parallel; sums over samples are taken in the order of the batch, so that results do not depend on
 * the number of threads. */
#include "base/memory.h"
#include "network/reference_field.h"
#include "tbg/status.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- state ---- */

static void carve(const tbg_reference *R, tbg_reference_room *W, tbg_arena *A) {
    size_t N = (size_t)R->max_atoms, H = (size_t)R->H, L = (size_t)R->L;
    W->input = TBG_TAKE(A, double, N *(size_t)R->F);
    W->h = TBG_TAKE(A, double, (L + 1) * N * H);
    W->x = TBG_TAKE(A, double, (L + 1) * N * 3);
    W->sum = TBG_TAKE(A, double, L *N *H);
    double **const of_nh[] = {&W->pa, &W->pb, &W->dh, &W->dsum, &W->dpa, &W->dpb};
    for (size_t k = 0; k < sizeof of_nh / sizeof *of_nh; k++)
        *of_nh[k] = TBG_TAKE(A, double, N *H);
    double **const of_h[] = {&W->z1, &W->z2, &W->z3, &W->z4, &W->y1, &W->y2,
                             &W->y3, &W->y4, &W->m,  &W->d1, &W->d2, &W->d3};
    for (size_t k = 0; k < sizeof of_h / sizeof *of_h; k++)
        *of_h[k] = TBG_TAKE(A, double, H);
    double **const of_dnh[] = {&W->h_dot, &W->sum_dot, &W->pa_dot, &W->pb_dot};
    for (size_t k = 0; k < sizeof of_dnh / sizeof *of_dnh; k++)
        *of_dnh[k] = TBG_TAKE(A, double, TBG_REFERENCE_BLOCK *N *H);
    double **const of_dn3[] = {&W->x0_dot, &W->x_dot, &W->next_dot};
    for (size_t k = 0; k < sizeof of_dn3 / sizeof *of_dn3; k++)
        *of_dn3[k] = TBG_TAKE(A, double, TBG_REFERENCE_BLOCK *N * 3);
    W->t1 = TBG_TAKE(A, double, TBG_REFERENCE_BLOCK *H);
    W->t2 = TBG_TAKE(A, double, TBG_REFERENCE_BLOCK *H);
    double **const of_n3[] = {&W->dx, &W->dx0, &W->dnext, &W->v};
    for (size_t k = 0; k < sizeof of_n3 / sizeof *of_n3; k++)
        *of_n3[k] = TBG_TAKE(A, double, N * 3);
}

static void reference_destroy(void *state) {
    tbg_reference *R = state;
    if (!R)
        return;
    for (int k = 0; R->rooms && k < R->threads; k++) {
        free(R->rooms[k].block);
        free(R->rooms[k].gradient);
    }
    free(R->rooms);
    free(R->layers);
    free(R->w);
    free(R->wt);
    free(R->total);
    free(R);
}

static int reference_create(const tbg_model *model, int max_atoms, int threads, void **state) {
    tbg_reference *R = TBG_NEW(tbg_reference, 1);
    if (!R)
        return TBG_FAILED;
    R->model = model;
    R->max_atoms = max_atoms;
    R->threads = threads;
    R->H = model->spec.hidden;
    R->L = model->spec.layers;
    R->F = model->spec.n_features + tbg_network_time_features(&model->spec);
    R->K = tbg_edge_feature_count(&model->spec);
    R->layers = TBG_NEW(tbg_reference_layer, R->L);
    R->w = TBG_NEW(double, model->n_parameters);
    R->wt = TBG_NEW(double, model->n_parameters);
    R->rooms = TBG_NEW(tbg_reference_room, threads);
    if (!R->layers || !R->w || !R->wt || !R->rooms) {
        reference_destroy(R);
        return TBG_FAILED;
    }
    R->embedding_w = tbg_layer_tensor(model, -1, "embedding.weight");
    R->embedding_b = tbg_layer_tensor(model, -1, "embedding.bias");
    for (int l = 0; l < R->L; l++)
        R->layers[l] = (tbg_reference_layer){
#define TBG_FIELD(field, name) .field = tbg_layer_tensor(model, l, name),
            TBG_LAYER_TENSORS(TBG_FIELD)
#undef TBG_FIELD
        };
    for (int k = 0; k < threads; k++) {
        tbg_arena measure = {0};
        carve(R, &R->rooms[k], &measure);
        R->rooms[k].block = tbg_alloc(1, measure.used);
        if (!R->rooms[k].block) {
            reference_destroy(R);
            return TBG_FAILED;
        }
        tbg_arena arena = {R->rooms[k].block, 0, measure.used};
        carve(R, &R->rooms[k], &arena);
    }
    *state = R;
    return TBG_OK;
}

static int reference_refresh(void *state) {
    tbg_reference *R = state;
    const tbg_model *m = R->model;
    for (int k = 0; k < m->n_tensors; k++) {
        const tbg_parameter *p = &m->tensors[k];
        for (int r = 0; r < p->rows; r++)
            for (int c = 0; c < p->columns; c++) {
                size_t plain = (size_t)r * (size_t)p->columns + (size_t)c;
                size_t turned = (size_t)c * (size_t)p->rows + (size_t)r;
                R->w[p->offset + plain] = R->wt[p->offset + turned] = m->values[p->offset + plain];
            }
    }
    return TBG_OK;
}

/* ---- the table ---- */

/* first: [n + 1] atoms before each molecule. */
static int offsets(int n, const tbg_conditioning *const *molecule, size_t **first) {
    *first = TBG_NEW(size_t, (size_t)n + 1);
    if (!*first)
        return TBG_FAILED;
    for (int b = 0; b < n; b++)
        (*first)[b + 1] = (*first)[b] + (size_t)molecule[b]->n_atoms;
    return TBG_OK;
}

static int reference_velocity(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                              const double *x, double *v) {
    tbg_reference *R = state;
    size_t *first;
    TBG_TRY(offsets(n, molecule, &first));
#pragma omp parallel for schedule(dynamic) num_threads(R->threads)
    for (int b = 0; b < n; b++)
        tbg_reference_forward(R, &R->rooms[omp_get_thread_num()], molecule[b], t[b], x + 3 * first[b], 0,
                              v + 3 * first[b]);
    free(first);
    return TBG_OK;
}

static int reference_tangent(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                             const double *x, const double *x_dot, double *v, double *v_dot) {
    tbg_reference *R = state;
    size_t *first;
    TBG_TRY(offsets(n, molecule, &first));
#pragma omp parallel for schedule(dynamic) num_threads(R->threads)
    for (int b = 0; b < n; b++) {
        tbg_reference_room *W = &R->rooms[omp_get_thread_num()];
        size_t n3 = 3 * (size_t)molecule[b]->n_atoms, at = 3 * first[b];
        memcpy(W->x0_dot, x_dot + at, n3 * sizeof(double));
        tbg_reference_forward(R, W, molecule[b], t[b], x + at, 1, W->v);
        memcpy(v_dot + at, W->next_dot, n3 * sizeof(double));
        if (v)
            memcpy(v + at, W->v, n3 * sizeof(double));
    }
    free(first);
    return TBG_OK;
}

/* One task: a block of unit directions of one molecule. Diagonal elements are summed in order afterwards. */
static int reference_divergence(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                                const double *x, double *v, double *divergence) {
    tbg_reference *R = state;
    size_t *first;
    TBG_TRY(offsets(n, molecule, &first));
    int most = 0, blocks;
    for (int b = 0; b < n; b++)
        most = molecule[b]->n_atoms > most ? molecule[b]->n_atoms : most;
    blocks = (3 * most + TBG_REFERENCE_BLOCK - 1) / TBG_REFERENCE_BLOCK;
    double *diagonal = TBG_NEW(double, 3 * first[n]);
    if (!diagonal) {
        free(first);
        return TBG_FAILED;
    }
#pragma omp parallel for schedule(dynamic) num_threads(R->threads)
    for (long task = 0; task < (long)n * blocks; task++) {
        int b = (int)(task / blocks), from = (int)(task % blocks) * TBG_REFERENCE_BLOCK,
            n3 = 3 * molecule[b]->n_atoms;
        tbg_reference_room *W = &R->rooms[omp_get_thread_num()];
        size_t at = 3 * first[b];
        if (from >= n3)
            continue;
        int nd = n3 - from < TBG_REFERENCE_BLOCK ? n3 - from : TBG_REFERENCE_BLOCK;
        memset(W->x0_dot, 0, (size_t)nd * (size_t)n3 * sizeof(double));
        for (int k = 0; k < nd; k++)
            W->x0_dot[(size_t)k * (size_t)n3 + (size_t)(from + k)] = 1;
        tbg_reference_forward(R, W, molecule[b], t[b], x + at, nd, W->v);
        for (int k = 0; k < nd; k++)
            diagonal[at + (size_t)(from + k)] = W->next_dot[(size_t)k * (size_t)n3 + (size_t)(from + k)];
        if (v && !from)
            memcpy(v + at, W->v, (size_t)n3 * sizeof(double));
    }
    for (int b = 0; b < n; b++) {
        divergence[b] = 0;
        for (size_t k = 3 * first[b]; k < 3 * first[b + 1]; k++)
            divergence[b] += diagonal[k];
    }
    free(diagonal);
    free(first);
    return TBG_OK;
}

/* Loss (target given) or plain reverse pass (dv given) over the batch. */
static int reverse_batch(tbg_reference *R, int n, const tbg_conditioning *const *molecule, const double *t,
                         const double *x, const double *target, const double *weight, double *loss,
                         const double *dv, double *dx, double *gradient) {
    size_t *first, np = R->model->n_parameters;
    TBG_TRY(offsets(n, molecule, &first));
    int chunk = R->threads < n ? R->threads : n;
    for (int k = 0; gradient && k < chunk; k++)
        if (!R->rooms[k].gradient && !(R->rooms[k].gradient = TBG_NEW(double, np))) {
            free(first);
            return TBG_FAILED;
        }
    if (gradient)
        memset(gradient, 0, np * sizeof(double));
    /* A chunk has one sample for each gradient buffer; each sample's gradient is made from zero and added in
     * order. */
    for (int from = 0; from < n; from += chunk) {
        int to = from + chunk < n ? from + chunk : n;
#pragma omp parallel for schedule(dynamic) num_threads(R->threads)
        for (int b = from; b < to; b++) {
            tbg_reference_room *W = &R->rooms[omp_get_thread_num()];
            double *g = gradient ? R->rooms[b - from].gradient : NULL;
            size_t n3 = 3 * (size_t)molecule[b]->n_atoms, at = 3 * first[b];
            size_t heard = n3 - 3 * (size_t)molecule[b]->n_silent;
            if (g)
                memset(g, 0, np * sizeof(double));
            tbg_reference_forward(R, W, molecule[b], t[b], x + at, 0, W->v);
            if (target) {
                loss[b] = 0;
                for (size_t k = 0; k < n3; k++) {
                    double e = k < heard ? W->v[k] - target[at + k] : 0;
                    loss[b] += e * e / (double)heard;
                    W->v[k] = 2 * weight[b] * e / (double)heard;
                }
            } else
                memcpy(W->v, dv + at, n3 * sizeof(double));
            if (g || dx)
                tbg_reference_reverse(R, W, molecule[b], t[b], x + at, W->v, dx ? dx + at : NULL, g);
        }
        for (int b = from; gradient && b < to; b++)
            for (size_t i = 0; i < np; i++)
                gradient[i] += R->rooms[b - from].gradient[i];
    }
    free(first);
    return TBG_OK;
}

static int reference_loss(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                          const double *x, const double *target, const double *weight, double *loss,
                          float *gradient) {
    tbg_reference *R = state;
    size_t np = R->model->n_parameters;
    if (gradient && !R->total && !(R->total = TBG_NEW(double, np)))
        return TBG_FAILED;
    TBG_TRY(
        reverse_batch(R, n, molecule, t, x, target, weight, loss, NULL, NULL, gradient ? R->total : NULL));
    for (size_t k = 0; k < np && gradient; k++)
        gradient[k] = (float)R->total[k];
    return TBG_OK;
}

static int reference_vjp(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                         const double *x, const double *dv, double *dx, double *gradient) {
    return reverse_batch(state, n, molecule, t, x, NULL, NULL, NULL, dv, dx, gradient);
}

const tbg_network_kernels tbg_network_reference = {
    .name = "reference",
    .create = reference_create,
    .destroy = reference_destroy,
    .refresh = reference_refresh,
    .velocity = reference_velocity,
    .divergence = reference_divergence,
    .tangent = reference_tangent,
    .loss = reference_loss,
    .vjp = reference_vjp,
};
