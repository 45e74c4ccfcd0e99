/* cpu.c: the fast CPU backend: sessions, batches, threads. Arithmetic in single precision inside, double
 * outside.
 *
 * Owns: the operations of network.h over cpu_*_simd.c, one molecule per thread at a time. Refuses: layouts
 * (cpu_pack.c, cpu_work.c). A molecule's result does not depend on the batch or on threads. Parameter
 * gradients accumulate in slots, a number that depends on the batch and the model only, each slot in order by
 * one thread; slots are summed in order. */
#include "base/memory.h"
#include "base/simd.h"
#include "network/cpu.h"
#include "network/kernels.h"
#include "tbg/status.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

TBG_SIMD_DECLARE(const tbg_cpu_table, tbg_cpu_table_simd);

typedef struct {
    const tbg_model *model;
    const tbg_cpu_table *table;
    tbg_cpu_net *net;
    tbg_cpu_map *maps;
    int n_maps, max_atoms, threads;
    tbg_cpu_work *work; /* [threads] */
    float *slots;       /* [n_slots][n_packed] */
    int n_slots;
    size_t *first; /* [n_first] offset of a molecule's atoms in the batch */
    int n_first;
    void *reference; /* state of the reference backend, where the fast one has no own kernel */
} cpu;

static void destroy(void *state) {
    cpu *s = state;
    if (!s)
        return;
    for (int k = 0; s->work && k < s->threads; k++)
        tbg_cpu_work_release(&s->work[k]);
    tbg_cpu_net_free(s->net);
    free(s->maps);
    free(s->work);
    free(s->slots);
    free(s->first);
    free(s);
}

static int create(const tbg_model *model, int max_atoms, int threads, void **state) {
    cpu *s = TBG_NEW(cpu, 1);
    if (!s)
        return TBG_FAILED;
    s->model = model;
    s->table = TBG_SIMD_PICK(tbg_cpu_table_simd, tbg_simd_level());
    s->max_atoms = max_atoms;
    s->threads = threads;
    s->work = TBG_NEW(tbg_cpu_work, threads);
    int status = s->work ? tbg_cpu_net_create(model, s->table, &s->net, &s->maps, &s->n_maps) : TBG_FAILED;
    if (status) {
        destroy(s);
        return status;
    }
    *state = s;
    return TBG_OK;
}

static int refresh(void *state) {
    cpu *s = state;
    tbg_cpu_net_pack(s->net, s->maps, s->n_maps, s->model->values);
    return TBG_OK;
}

static const char *describe(const void *state) {
    return ((const cpu *)state)->table->name;
}

/* Offsets of the batch and room for every thread. */
static int prepare(cpu *s, int n, const tbg_conditioning *const *molecule, int level) {
    if (n > s->n_first) {
        size_t *more = tbg_realloc(s->first, (size_t)n, sizeof *more);
        if (!more)
            return TBG_FAILED;
        s->first = more;
        s->n_first = n;
    }
    size_t atoms = 0;
    for (int b = 0; b < n; b++) {
        s->first[b] = atoms;
        atoms += (size_t)molecule[b]->n_atoms;
    }
    for (int k = 0; k < s->threads; k++)
        TBG_TRY(tbg_cpu_work_ensure(s->net, s->max_atoms, level, &s->work[k]));
    return TBG_OK;
}

/* v = x(L) - x(0) minus its mean. v: [n][3]. */
static void displacement(const tbg_cpu_net *net, const tbg_cpu_work *work, double *v) {
    const int n = work->n;
    const double *x0 = work->x, *x1 = work->x + (size_t)net->layers * 3 * (size_t)n;
    for (int a = 0; a < 3; a++) {
        double mean = 0;
        for (int i = 0; i < n; i++)
            mean += (x1[a * n + i] - x0[a * n + i]) / n;
        for (int i = 0; i < n; i++)
            v[3 * i + a] = x1[a * n + i] - x0[a * n + i] - mean;
    }
}

static int velocity(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, double *v) {
    cpu *s = state;
    TBG_TRY(prepare(s, n, molecule, TBG_CPU_FORWARD));
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
    for (int b = 0; b < n; b++) {
        tbg_cpu_work *work = &s->work[omp_get_thread_num()];
        tbg_cpu_work_load(s->net, work, molecule[b], t[b], x + 3 * s->first[b], 0);
        s->table->forward(s->net, work, 0);
        displacement(s->net, work, v + 3 * s->first[b]);
    }
    return TBG_OK;
}

/* Gradient slots for a batch of n: enough to share the work, few enough that clearing and summing stay cheap.
 */
static int ensure_slots(cpu *s, int n, int *count) {
    const size_t most = (size_t)1 << 27; /* floats in all slots */
    int slots = n <= 16 ? n : n < 512 ? 16 : n < 2048 ? 32 : 64;
    while (slots > 1 && (size_t)slots * s->net->n_packed > most)
        slots--;
    if (slots > s->n_slots) {
        free(s->slots);
        s->n_slots = 0;
        s->slots = TBG_NEW(float, (size_t)slots * s->net->n_packed);
        if (!s->slots)
            return TBG_FAILED;
        s->n_slots = slots;
    }
    *count = slots;
    return TBG_OK;
}

/* Sum of the slots in order, into the first. */
static void sum_slots(cpu *s, int slots) {
    const size_t P = s->net->n_packed, chunk = 4096;
#pragma omp parallel for schedule(static) num_threads(s->threads)
    for (size_t c = 0; c < (P + chunk - 1) / chunk; c++) {
        size_t from = c * chunk, to = from + chunk < P ? from + chunk : P;
        float *restrict sum = s->slots;
        for (int k = 1; k < slots; k++) {
            const float *restrict part = s->slots + (size_t)k * P;
            for (size_t i = from; i < to; i++)
                sum[i] += part[i];
        }
    }
}

/* Gradient at v, [n][3] scaled by `factor`, without its mean, into dx. */
static void start_reverse(tbg_cpu_work *work, const double *dv, double factor) {
    const int n = work->n;
    for (int a = 0; a < 3; a++) {
        double mean = 0;
        for (int i = 0; i < n; i++)
            mean += dv[3 * i + a] / n;
        for (int i = 0; i < n; i++)
            work->dx[a * n + i] = factor * (dv[3 * i + a] - mean);
    }
}

static int loss(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
                const double *target, const double *weight, double *loss_out, float *gradient) {
    cpu *s = state;
    int slots = n <= 16 ? n : 16;
    TBG_TRY(prepare(s, n, molecule, gradient ? TBG_CPU_REVERSE : TBG_CPU_FORWARD));
    double *difference = TBG_NEW(double, (size_t)s->threads * 3 * (size_t)s->max_atoms);
    if (!difference)
        return TBG_FAILED;
    if (gradient) {
        int status = ensure_slots(s, n, &slots);
        if (status) {
            free(difference);
            return status;
        }
    } else
        slots = n;
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
    for (int k = 0; k < slots; k++) {
        tbg_cpu_work *work = &s->work[omp_get_thread_num()];
        double *d = difference + (size_t)omp_get_thread_num() * 3 * (size_t)s->max_atoms;
        float *slot = NULL;
        if (gradient) {
            slot = s->slots + (size_t)k * s->net->n_packed;
            memset(slot, 0, sizeof(float) * s->net->n_packed);
        }
        int from = (int)((long)n * k / slots), to = (int)((long)n * (k + 1) / slots);
        for (int b = from; b < to; b++) {
            const double *wanted = target + 3 * s->first[b];
            tbg_cpu_work_load(s->net, work, molecule[b], t[b], x + 3 * s->first[b], 0);
            s->table->forward(s->net, work, gradient != NULL);
            displacement(s->net, work, d);
            double sum = 0;
            int heard = 3 * (work->n - molecule[b]->n_silent);
            for (int q = 0; q < 3 * work->n; q++) {
                d[q] = q < heard ? d[q] - wanted[q] : 0;
                sum += d[q] * d[q];
            }
            loss_out[b] = sum / heard;
            if (gradient) {
                start_reverse(work, d, 2 * weight[b] / heard);
                s->table->backward(s->net, work, slot, 0);
            }
        }
    }
    free(difference);
    if (gradient) {
        sum_slots(s, slots);
        memset(gradient, 0, sizeof(float) * s->model->n_parameters);
        tbg_cpu_net_unpack(s->net, s->maps, s->n_maps, s->slots, gradient);
    }
    return TBG_OK;
}

static int divergence(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v, double *divergence_out) {
    cpu *s = state;
    TBG_TRY(prepare(s, n, molecule, TBG_CPU_TANGENT));
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
    for (int b = 0; b < n; b++) {
        tbg_cpu_work *work = &s->work[omp_get_thread_num()];
        tbg_cpu_work_load(s->net, work, molecule[b], t[b], x + 3 * s->first[b], 1);
        divergence_out[b] = s->table->divergence(s->net, work);
        if (v)
            displacement(s->net, work, v + 3 * s->first[b]);
    }
    return TBG_OK;
}

static int tangent(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                   const double *x, const double *x_dot, double *v, double *v_dot) {
    cpu *s = state;
    TBG_TRY(prepare(s, n, molecule, TBG_CPU_TANGENT));
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
    for (int b = 0; b < n; b++) {
        tbg_cpu_work *work = &s->work[omp_get_thread_num()];
        double *out = v_dot + 3 * s->first[b];
        const int atoms = molecule[b]->n_atoms;
        tbg_cpu_work_load(s->net, work, molecule[b], t[b], x + 3 * s->first[b], 1);
        s->table->tangent(s->net, work, x_dot + 3 * s->first[b], out);
        for (int a = 0; a < 3; a++) {
            double mean = 0;
            for (int i = 0; i < atoms; i++)
                mean += out[3 * i + a] / atoms;
            for (int i = 0; i < atoms; i++)
                out[3 * i + a] -= mean;
        }
        if (v)
            displacement(s->net, work, v + 3 * s->first[b]);
    }
    return TBG_OK;
}

static int vjp(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
               const double *dv, double *dx, double *gradient) {
    cpu *s = state;
    int slots;
    TBG_TRY(prepare(s, n, molecule, TBG_CPU_REVERSE));
    TBG_TRY(ensure_slots(s, n, &slots));
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
    for (int k = 0; k < slots; k++) {
        tbg_cpu_work *work = &s->work[omp_get_thread_num()];
        float *slot = s->slots + (size_t)k * s->net->n_packed;
        memset(slot, 0, sizeof(float) * s->net->n_packed);
        int from = (int)((long)n * k / slots), to = (int)((long)n * (k + 1) / slots);
        for (int b = from; b < to; b++) {
            const int atoms = molecule[b]->n_atoms, ke = s->net->ke;
            const size_t E = (size_t)work->capacity;
            tbg_cpu_work_load(s->net, work, molecule[b], t[b], x + 3 * s->first[b], 1);
            s->table->forward(s->net, work, 1);
            start_reverse(work, dv + 3 * s->first[b], 1);
            /* v = x(L) - x(0): the second term, then what backward adds through the layers and features */
            for (int q = 0; q < 3 * atoms; q++)
                work->dx_input[q] = -work->dx[q];
            memset(work->dfeatures, 0, sizeof(float) * (size_t)work->n_edges * (size_t)ke);
            s->table->backward(s->net, work, slot, 1);
            if (!dx)
                continue;
            for (int e = 0; e < work->n_edges; e++) {
                double slope = 0;
                for (int q = 1; q < ke; q++)
                    slope += (double)work->dfeatures[(size_t)e * (size_t)ke + (size_t)q] *
                             (double)work->feature_slope[(size_t)e * (size_t)ke + (size_t)q];
                for (int a = 0; a < 3; a++) {
                    double d = slope * (double)work->unit[(size_t)a * E + (size_t)e];
                    work->dx_input[a * atoms + work->receiver[e]] += d;
                    work->dx_input[a * atoms + work->sender[e]] -= d;
                }
            }
            for (int i = 0; i < atoms; i++)
                for (int a = 0; a < 3; a++)
                    dx[3 * (s->first[b] + (size_t)i) + (size_t)a] =
                        work->dx[a * atoms + i] + work->dx_input[a * atoms + i];
        }
    }
    if (gradient) {
        sum_slots(s, slots);
        memset(gradient, 0, sizeof(double) * s->model->n_parameters);
        float *single = TBG_NEW(float, s->model->n_parameters);
        if (!single)
            return TBG_FAILED;
        tbg_cpu_net_unpack(s->net, s->maps, s->n_maps, s->slots, single);
        for (size_t i = 0; i < s->model->n_parameters; i++)
            gradient[i] = (double)single[i];
        free(single);
    }
    return TBG_OK;
}

const tbg_network_kernels tbg_network_cpu = {
    .name = "cpu",
    .create = create,
    .destroy = destroy,
    .refresh = refresh,
    .velocity = velocity,
    .divergence = divergence,
    .tangent = tangent,
    .loss = loss,
    .vjp = vjp,
    .describe = describe,
};

double tbg_network_gemm_gflops(int threads) {
    const tbg_cpu_table *table = TBG_SIMD_PICK(tbg_cpu_table_simd, tbg_simd_level());
    double sum = 0;
#pragma omp parallel num_threads(threads > 0 ? threads : omp_get_max_threads()) reduction(+ : sum)
    sum += table->gemm_rate();
    return sum;
}
