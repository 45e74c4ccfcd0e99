/* cuda_dynamics.cu: what cuda.h promises: memory of the device, launches, copies. The arithmetic is in
 * group_kernel.h and group_step.h, which the host tests run thread by thread. Refuses systems that do not fit
 * into shared memory and devices older than compute capability 8.0. */
#ifdef TBG_CUDA_EMULATED /* a test: the host plays the device */
#include "cuda_emulated.h"
#else
#include <cuda_runtime.h>
/* group_kernels: a group of threads is one call of the emulation; otherwise a block is. */
#define LAUNCH(kernel, group_kernel, blocks, threads, shared, stream, ...)                                   \
    kernel<<<blocks, threads, shared, stream>>>(__VA_ARGS__)
#define SHARED_MEMORY(name) extern __shared__ double name[]
#endif
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "base/memory.h"
#include "dynamics/cuda.h"
#include "energy/group.h"
#include "tbg/energy.h"
#include "tbg/random.h"
#include "tbg/status.h"
}
#include "dynamics/group_step.h"

enum { WARPS = 4 };             /* conformations of a block, when they fit */
enum { HEAD = 16 };             /* floats before a conformation's memory: TBG_E_N doubles for its energies */
enum { CHUNK_BYTES = 1 << 26 }; /* positions sent to the device at a time, for energies */

static int cuda_fail(cudaError_t error, const char *what) {
    return tbg_fail(TBG_FAILED, "CUDA: %s: %s", what, cudaGetErrorString(error));
}
#define CUDA_TRY(call)                                                                                       \
    do {                                                                                                     \
        cudaError_t cuda_error_ = (call);                                                                    \
        if (cuda_error_ != cudaSuccess)                                                                      \
            return cuda_fail(cuda_error_, #call);                                                            \
    } while (0)

extern "C" int tbg_cuda_device(char *name, size_t size) {
    int n = 0;
    cudaDeviceProp p;
    if (name && size)
        *name = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n < 1) {
        cudaGetLastError();
        return tbg_fail(TBG_FAILED, "no CUDA device is there, or its driver is older than this build needs");
    }
    CUDA_TRY(cudaGetDeviceProperties(&p, 0));
    if (p.major < 8)
        return tbg_fail(TBG_FAILED, "%s has compute capability %d.%d; 8.0 is needed", p.name, p.major,
                        p.minor);
    if (name && size)
        snprintf(name, size, "%s", p.name);
    return TBG_OK;
}

/* ---- tables of several systems on the device ---- */

typedef struct {
    int n;
    tbg_group_layout *layouts;
    int32_t *ints;
    float *r32;
    double *r64;
} device_tables;

static void tables_free(device_tables *t) {
    cudaFree(t->layouts);
    cudaFree(t->ints);
    cudaFree(t->r32);
    cudaFree(t->r64);
    memset(t, 0, sizeof *t);
}

template <typename T> static cudaError_t to_device(T **out, const T *from, size_t n) {
    cudaError_t error = cudaMalloc((void **)out, (n ? n : 1) * sizeof(T));
    return error != cudaSuccess || !n ? error : cudaMemcpy(*out, from, n * sizeof(T), cudaMemcpyHostToDevice);
}

/* layouts: [n] out, on the host too. with_double: r64 as well (float otherwise). */
static int tables_create(int n, const tbg_system *const *systems, int with_double, tbg_group_layout *layouts,
                         device_tables *out) {
    tbg_group_system **groups = TBG_NEW(tbg_group_system *, n);
    int32_t *ints = NULL;
    float *r32 = NULL;
    double *r64 = NULL;
    int64_t n_ints = 0, n_reals = 0;
    int status = groups ? TBG_OK : TBG_FAILED;
    memset(out, 0, sizeof *out);
    out->n = n;
    for (int k = 0; k < n && status == TBG_OK; k++) {
        status = tbg_group_system_create(systems[k], &groups[k]);
        if (status != TBG_OK)
            break;
        layouts[k] = groups[k]->layout;
        layouts[k].ints = n_ints;
        layouts[k].reals = n_reals;
        n_ints += layouts[k].n_ints;
        n_reals += layouts[k].n_reals;
    }
    if (status == TBG_OK) {
        ints = TBG_NEW(int32_t, n_ints);
        r32 = TBG_NEW(float, n_reals);
        r64 = TBG_NEW(double, n_reals);
        status = ints && r32 && r64 ? TBG_OK : TBG_FAILED;
    }
    for (int k = 0; k < n && status == TBG_OK; k++) {
        memcpy(ints + layouts[k].ints, groups[k]->ints, (size_t)layouts[k].n_ints * sizeof *ints);
        memcpy(r32 + layouts[k].reals, groups[k]->r32, (size_t)layouts[k].n_reals * sizeof *r32);
        memcpy(r64 + layouts[k].reals, groups[k]->r64, (size_t)layouts[k].n_reals * sizeof *r64);
    }
    if (status == TBG_OK) {
        cudaError_t error = to_device(&out->layouts, layouts, (size_t)n);
        if (error == cudaSuccess)
            error = to_device(&out->ints, ints, (size_t)n_ints);
        if (error == cudaSuccess)
            error = with_double ? to_device(&out->r64, r64, (size_t)n_reals)
                                : to_device(&out->r32, r32, (size_t)n_reals);
        if (error != cudaSuccess)
            status = cuda_fail(error, "copying the systems' tables");
    }
    for (int k = 0; groups && k < n; k++)
        tbg_group_system_free(groups[k]);
    free(groups);
    free(ints);
    free(r32);
    free(r64);
    if (status != TBG_OK)
        tables_free(out);
    return status;
}

/* Conformations a block can hold of `bytes` shared memory each, and the kernel told so. */
template <typename K> static int choose_warps(K kernel, size_t bytes, int n_atoms, int *warps) {
    int most;
    CUDA_TRY(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    *warps = WARPS;
    while (*warps > 1 && *warps * bytes > (size_t)most)
        *warps /= 2;
    if (*warps * bytes > (size_t)most)
        return tbg_fail(TBG_INPUT,
                        "%d atoms need %zu bytes of shared memory, this device has %d: use the processor",
                        n_atoms, bytes, most);
    CUDA_TRY(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(*warps * bytes)));
    return TBG_OK;
}

/* ---- energies ---- */

struct tbg_cuda_energies {
    device_tables tables;
    tbg_group_layout layout;
    int warps;
    size_t bytes;          /* shared memory of a conformation */
    long chunk;            /* conformations at a time */
    double *x, *f, *parts; /* on the device: [chunk][3 n_atoms], the same, [chunk][TBG_E_N] */
    double *host_parts;
};

TBG_HD void copy_doubles(int t, int n, const double *from, double *to) {
    for (int j = t; j < n; j += TBG_GROUP)
        to[j] = from[j];
}
TBG_HD void from_first_atom(int t, int n, const double *from, double *to) {
    for (int j = t; j < n; j += TBG_GROUP)
        to[j] = from[j] - from[j % 3];
}

__global__ void __launch_bounds__(WARPS *TBG_GROUP)
    energy_kernel(const tbg_group_layout *layout, const int32_t *ints, const double *reals, long n,
                  size_t stride, const double *x, double *f, double *parts) {
    SHARED_MEMORY(shared);
    int warp = threadIdx.x / TBG_GROUP, size = 3 * layout->n_atoms;
    long k = (long)blockIdx.x * (blockDim.x / TBG_GROUP) + warp;
    if (k >= n)
        return;
    double own[TBG_OWNERS][TBG_E_N], *memory = shared + warp * stride;
    gd_group c;
    c.s = layout, c.ints = ints, c.r = reals, c.energy = own, c.thread = threadIdx.x % TBG_GROUP;
    gd_carve(&c, memory + HEAD / 2);
    TBG_EACH(&c, t, from_first_atom(t, size, x + k * size, c.x));
    if (f) {
        gd_evaluate(&c, 1, 1, memory);
        TBG_EACH(&c, t, copy_doubles(t, size, c.f, f + k * size));
    } else
        gd_evaluate(&c, 1, 0, memory);
    TBG_EACH(&c, t, copy_doubles(t, TBG_E_N, memory, parts + k * TBG_E_N));
}

extern "C" void tbg_cuda_energies_free(tbg_cuda_energies *e) {
    if (!e)
        return;
    tables_free(&e->tables);
    cudaFree(e->x);
    cudaFree(e->f);
    cudaFree(e->parts);
    free(e->host_parts);
    free(e);
}

static int energies_set_up(tbg_cuda_energies *e, const tbg_system *system) {
    TBG_TRY(tables_create(1, &system, 1, &e->layout, &e->tables));
    e->bytes = (HEAD / 2 + (tbg_group_reals(&e->layout) + 1) / 2 * 2) * sizeof(double);
    TBG_TRY(choose_warps(energy_kernel, e->bytes, system->n_atoms, &e->warps));
    size_t size = 3 * (size_t)system->n_atoms * sizeof(double);
    e->chunk = (long)(CHUNK_BYTES / size);
    CUDA_TRY(cudaMalloc((void **)&e->x, (size_t)e->chunk * size));
    CUDA_TRY(cudaMalloc((void **)&e->f, (size_t)e->chunk * size));
    CUDA_TRY(cudaMalloc((void **)&e->parts, (size_t)e->chunk * TBG_E_N * sizeof(double)));
    e->host_parts = TBG_NEW(double, (size_t)e->chunk *TBG_E_N);
    return e->host_parts ? TBG_OK : TBG_FAILED;
}

extern "C" int tbg_cuda_energies_create(const tbg_system *system, tbg_cuda_energies **out) {
    *out = NULL;
    TBG_TRY(tbg_cuda_device(NULL, 0));
    tbg_cuda_energies *e = TBG_NEW(tbg_cuda_energies, 1);
    if (!e)
        return TBG_FAILED;
    int status = energies_set_up(e, system);
    if (status != TBG_OK) {
        tbg_cuda_energies_free(e);
        return status;
    }
    *out = e;
    return TBG_OK;
}

extern "C" int tbg_cuda_energies_evaluate(tbg_cuda_energies *e, long n, const double *positions,
                                          double *energies, double *forces, double *components) {
    size_t size = 3 * (size_t)e->layout.n_atoms;
    for (long first = 0; first < n; first += e->chunk) {
        long m = n - first < e->chunk ? n - first : e->chunk;
        CUDA_TRY(
            cudaMemcpy(e->x, positions + first * size, m * size * sizeof(double), cudaMemcpyHostToDevice));
        unsigned blocks = (unsigned)((m + e->warps - 1) / e->warps);
        LAUNCH(energy_kernel, 1, blocks, e->warps * TBG_GROUP, e->warps * e->bytes, 0, e->tables.layouts,
               e->tables.ints, e->tables.r64, m, e->bytes / sizeof(double), e->x, forces ? e->f : NULL,
               e->parts);
        CUDA_TRY(cudaGetLastError());
        CUDA_TRY(cudaMemcpy(e->host_parts, e->parts, (size_t)m * TBG_E_N * sizeof(double),
                            cudaMemcpyDeviceToHost));
        if (forces)
            CUDA_TRY(
                cudaMemcpy(forces + first * size, e->f, m * size * sizeof(double), cudaMemcpyDeviceToHost));
        for (long k = 0; k < m; k++) {
            energies[first + k] = 0;
            for (int c = 0; c < TBG_E_N; c++)
                energies[first + k] += e->host_parts[k * TBG_E_N + c];
        }
        if (components)
            memcpy(components + first * TBG_E_N, e->host_parts, (size_t)m * TBG_E_N * sizeof(double));
    }
    return TBG_OK;
}

/* ---- dynamics ---- */

/* What changes, in one piece of memory, so that one copy takes all of it. Offsets in bytes. */
typedef struct {
    size_t x, v, energy, level, end, attempts, accepts, round_trips, size;
} state_map;

typedef struct {
    char *state;
    state_map map;
    const tbg_group_layout *layouts;
    const int32_t *ints;
    const float *reals;
    const tbg_group_lane *lanes;
    const tbg_group_run *runs;
    const int32_t *order; /* [n_lanes] large molecules first, so that no long one starts last */
    const double *temperatures;
    double *factor; /* [n_lanes] */
    int n_lanes, n_runs;
    size_t stride; /* floats of shared memory per conformation */
} device_view;

struct tbg_cuda_dynamics {
    int n_members, warps;
    tbg_cuda_member *members;
    tbg_group_lane *lanes; /* [view.n_lanes] on the host too */
    tbg_group_constants constants;
    device_tables tables;
    device_view view;           /* pointers of the device */
    char *host[TBG_CUDA_AHEAD]; /* pinned copies of the state */
    cudaEvent_t copied[TBG_CUDA_AHEAD];
    cudaStream_t stream;
    int64_t launched, collected;                           /* launches */
    int64_t steps[TBG_CUDA_AHEAD], pieces[TBG_CUDA_AHEAD]; /* of a launch */
    int64_t step, rounds;  /* as of the last launch; rounds since the start here */
    int64_t *first_rounds; /* [n_runs] on the device: exchange rounds done before */
    int any_replicas;
};

__global__ void __launch_bounds__(WARPS *TBG_GROUP)
    advance_kernel(device_view d, tbg_group_constants k, int64_t step, int64_t n_steps, int center,
                   int want_energy) {
    SHARED_MEMORY(shared);
    int warp = threadIdx.x / TBG_GROUP, at = blockIdx.x * (blockDim.x / TBG_GROUP) + warp;
    if (at >= d.n_lanes)
        return;
    int number = d.order[at];
    tbg_group_lane lane = d.lanes[number];
    float *memory = (float *)shared + warp * d.stride;
    double own[TBG_OWNERS][TBG_E_N];
    gf_group c;
    c.s = d.layouts + lane.system;
    c.ints = d.ints + c.s->ints;
    c.r = d.reals + c.s->reals;
    c.energy = own;
    c.thread = threadIdx.x % TBG_GROUP;
    int level = ((const int32_t *)(d.state + d.map.level))[number];
    float temperature = (float)d.temperatures[d.runs[lane.run].at_temperature + level];
    double *energy = (double *)(d.state + d.map.energy) + number;
    tbg_group_advance(&c, memory + HEAD, &k, &lane, temperature, step, n_steps, center,
                      (float *)(d.state + d.map.x) + lane.at, (float *)(d.state + d.map.v) + lane.at,
                      want_energy ? energy : NULL, (double *)memory);
}

static __device__ tbg_group_exchange exchange_of(const device_view *d) {
    tbg_group_exchange e;
    e.temperatures = d->temperatures;
    e.energy = (const double *)(d->state + d->map.energy);
    e.level = (int32_t *)(d->state + d->map.level);
    e.end = (int32_t *)(d->state + d->map.end);
    e.factor = d->factor;
    e.attempts = (int64_t *)(d->state + d->map.attempts);
    e.accepts = (int64_t *)(d->state + d->map.accepts);
    e.round_trips = (int64_t *)(d->state + d->map.round_trips);
    return e;
}

/* A block a run: its first thread decides, all scale velocities. first_rounds: [n_runs]. */
__global__ void exchange_kernel(device_view d, const int64_t *first_rounds, int64_t round) {
    int number = blockIdx.x;
    tbg_group_run run = d.runs[number];
    if (run.n_replicas < 2)
        return;
    for (int l = threadIdx.x; l < run.n_replicas; l += blockDim.x)
        d.factor[run.first + l] = 1;
    __syncthreads();
    if (threadIdx.x == 0) {
        tbg_group_exchange e = exchange_of(&d);
        tbg_group_exchange_run(&e, &run, number, first_rounds[number] + round);
    }
    __syncthreads();
    for (int l = run.first; l < run.first + run.n_replicas; l++) {
        double factor = d.factor[l];
        if (factor == 1)
            continue;
        float *v = (float *)(d.state + d.map.v) + d.lanes[l].at;
        for (int j = threadIdx.x; j < 3 * d.layouts[d.lanes[l].system].n_atoms; j += blockDim.x)
            v[j] *= (float)factor;
    }
}

__global__ void reset_kernel(device_view d) {
    int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= d.n_runs)
        return;
    tbg_group_exchange e = exchange_of(&d);
    tbg_group_run run = d.runs[number];
    tbg_group_reset_run(&e, &run, number);
}

extern "C" void tbg_cuda_dynamics_free(tbg_cuda_dynamics *d) {
    if (!d)
        return;
    if (d->stream)
        cudaStreamSynchronize(d->stream);
    tables_free(&d->tables);
    cudaFree(d->view.state);
    cudaFree((void *)d->view.lanes);
    cudaFree((void *)d->view.runs);
    cudaFree((void *)d->view.order);
    cudaFree((void *)d->view.temperatures);
    cudaFree(d->view.factor);
    cudaFree(d->first_rounds);
    for (int k = 0; k < TBG_CUDA_AHEAD; k++) {
        cudaFreeHost(d->host[k]);
        if (d->copied[k])
            cudaEventDestroy(d->copied[k]);
    }
    if (d->stream)
        cudaStreamDestroy(d->stream);
    free(d->members);
    free(d->lanes);
    free(d);
}

/* Between a simulation's arrays and the state; to_state: which way. */
static void exchange_state(tbg_cuda_dynamics *d, char *state, int to_state) {
    const state_map *map = &d->view.map;
    float *x = (float *)(state + map->x), *v = (float *)(state + map->v);
    double *energy = (double *)(state + map->energy);
    int32_t *level = (int32_t *)(state + map->level), *end = (int32_t *)(state + map->end);
    int64_t *attempts = (int64_t *)(state + map->attempts), *accepts = (int64_t *)(state + map->accepts),
            *trips = (int64_t *)(state + map->round_trips);
#define MOVE(there, here)                                                                                    \
    do {                                                                                                     \
        if (to_state)                                                                                        \
            (there) = (here);                                                                                \
        else                                                                                                 \
            (here) = (there);                                                                                \
    } while (0)
    int lane = 0, run = 0, pair = 0;
    for (int m = 0; m < d->n_members; m++) {
        tbg_lanes *l = d->members[m].lanes;
        tbg_exchange *e = d->members[m].exchange;
        size_t n = 3 * (size_t)l->n_atoms;
        for (int k = 0; k < l->n_lanes; k++, lane++) {
            size_t first = (size_t)(k / TBG_LANES) * n * TBG_LANES + k % TBG_LANES;
            for (size_t j = 0; j < n; j++) {
                MOVE(x[d->lanes[lane].at + j], l->x[first + j * TBG_LANES]);
                MOVE(v[d->lanes[lane].at + j], l->v[first + j * TBG_LANES]);
            }
            MOVE(energy[lane], l->energy[k]);
            MOVE(level[lane], e->level[k]);
            MOVE(end[lane], e->end[k]);
            l->temperature[k] = e->temperatures[e->level[k]];
        }
        for (int p = 0; p < e->n_runs * (e->n_replicas - 1); p++, pair++) {
            MOVE(attempts[pair], e->attempts[p]);
            MOVE(accepts[pair], e->accepts[p]);
        }
        for (int r = 0; r < e->n_runs; r++, run++)
            MOVE(trips[run], e->round_trips[r]);
    }
#undef MOVE
}

typedef struct {
    int atoms, lane;
} sized;
static int larger_first(const void *a, const void *b) {
    const sized *s = (const sized *)a, *t = (const sized *)b;
    return s->atoms != t->atoms ? t->atoms - s->atoms : s->lane - t->lane;
}

static size_t place(size_t *at, size_t n, size_t size) {
    size_t first = *at;
    *at = (first + n * size + 15) / 16 * 16;
    return first;
}

/* The arrays that never change. host: scratch that the caller frees. */
typedef struct {
    const tbg_system **systems;
    tbg_group_layout *layouts;
    tbg_group_run *runs;
    int64_t *first_rounds;
    double *temperatures;
    int32_t *order;
    sized *sizes;
} plan_arrays;

static int fill_plan(tbg_cuda_dynamics *d, plan_arrays *a, size_t n_temperatures, int *n_pairs,
                     int64_t *coordinates) {
    int lane = 0, run = 0;
    size_t ladder = 0;
    *n_pairs = 0;
    *coordinates = 0;
    for (int m = 0; m < d->n_members; m++) {
        const tbg_cuda_member *member = &d->members[m];
        const tbg_exchange *e = member->exchange;
        const tbg_lanes *l = member->lanes;
        if (l->timestep != d->members[0].lanes->timestep || l->friction != d->members[0].lanes->friction ||
            l->step != d->members[0].lanes->step || l->n_lanes != e->n_runs * e->n_replicas ||
            ladder + (size_t)e->n_replicas > n_temperatures)
            return tbg_fail(TBG_INPUT,
                            "simulation %d of %d differs in timestep, friction or step from the first", m + 1,
                            d->n_members);
        memcpy(a->temperatures + ladder, e->temperatures, (size_t)e->n_replicas * sizeof(double));
        for (int r = 0; r < e->n_runs; r++, run++) {
            tbg_group_run *out = &a->runs[run];
            out->first = lane;
            out->n_replicas = e->n_replicas;
            out->number = r;
            out->at_pair = *n_pairs;
            out->at_temperature = (int64_t)ladder;
            out->seed = e->seed;
            a->first_rounds[run] = e->rounds;
            *n_pairs += e->n_replicas - 1;
            for (int k = 0; k < e->n_replicas; k++, lane++) {
                tbg_group_lane *own = &d->lanes[lane];
                own->system = m;
                own->number = r * e->n_replicas + k;
                own->run = run;
                own->at = *coordinates;
                own->seed = l->seed;
                a->sizes[lane].atoms = l->n_atoms;
                a->sizes[lane].lane = lane;
                *coordinates += 3 * l->n_atoms;
            }
        }
        ladder += (size_t)e->n_replicas;
        d->any_replicas |= e->n_replicas > 1;
    }
    qsort(a->sizes, (size_t)lane, sizeof *a->sizes, larger_first);
    for (int k = 0; k < lane; k++)
        a->order[k] = a->sizes[k].lane;
    return TBG_OK;
}

static int copy_plan(tbg_cuda_dynamics *d, const plan_arrays *a, size_t n_temperatures, int n_pairs,
                     int64_t coordinates) {
    device_view *w = &d->view;
    size_t lanes = (size_t)w->n_lanes, runs = (size_t)w->n_runs, at = 0, reals = 0;
    int most_atoms = 0;
    w->map.x = place(&at, (size_t)coordinates, sizeof(float));
    w->map.v = place(&at, (size_t)coordinates, sizeof(float));
    w->map.energy = place(&at, lanes, sizeof(double));
    w->map.level = place(&at, lanes, sizeof(int32_t));
    w->map.end = place(&at, lanes, sizeof(int32_t));
    w->map.attempts = place(&at, (size_t)n_pairs, sizeof(int64_t));
    w->map.accepts = place(&at, (size_t)n_pairs, sizeof(int64_t));
    w->map.round_trips = place(&at, runs, sizeof(int64_t));
    w->map.size = at;
    for (int m = 0; m < d->n_members; m++) {
        size_t own = tbg_group_dynamics_reals(&a->layouts[m]);
        reals = own > reals ? own : reals;
        most_atoms = a->layouts[m].n_atoms > most_atoms ? a->layouts[m].n_atoms : most_atoms;
    }
    w->stride = HEAD + reals;
    TBG_TRY(choose_warps(advance_kernel, w->stride * sizeof(float), most_atoms, &d->warps));
    w->layouts = d->tables.layouts;
    w->ints = d->tables.ints;
    w->reals = d->tables.r32;
    CUDA_TRY(to_device((tbg_group_lane **)&w->lanes, d->lanes, lanes));
    CUDA_TRY(to_device((tbg_group_run **)&w->runs, a->runs, runs));
    CUDA_TRY(to_device((int32_t **)&w->order, a->order, lanes));
    CUDA_TRY(to_device((double **)&w->temperatures, a->temperatures, n_temperatures));
    CUDA_TRY(to_device(&d->first_rounds, a->first_rounds, runs));
    CUDA_TRY(cudaMalloc((void **)&w->factor, lanes * sizeof(double)));
    CUDA_TRY(cudaMalloc((void **)&w->state, w->map.size));
    CUDA_TRY(cudaStreamCreate(&d->stream));
    for (int k = 0; k < TBG_CUDA_AHEAD; k++) {
        CUDA_TRY(cudaMallocHost((void **)&d->host[k], w->map.size));
        CUDA_TRY(cudaEventCreateWithFlags(&d->copied[k], cudaEventDisableTiming));
    }
    exchange_state(d, d->host[0], 1);
    CUDA_TRY(cudaMemcpyAsync(w->state, d->host[0], w->map.size, cudaMemcpyHostToDevice, d->stream));
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    return TBG_OK;
}

static int dynamics_set_up(tbg_cuda_dynamics *d, plan_arrays *a) {
    const tbg_lanes *first = d->members[0].lanes;
    double keep = exp(-first->friction * first->timestep);
    int n_pairs;
    int64_t coordinates;
    size_t n_temperatures = 0, lanes = 0, runs = 0;
    for (int m = 0; m < d->n_members; m++) {
        n_temperatures += (size_t)d->members[m].exchange->n_replicas;
        runs += (size_t)d->members[m].exchange->n_runs;
        lanes += (size_t)d->members[m].lanes->n_lanes;
    }
    if (lanes > 1u << 24)
        return tbg_fail(TBG_INPUT, "dynamics of %zu conformations on a device", lanes);
    d->constants.half_step = (float)(first->timestep / 2);
    d->constants.step = (float)first->timestep;
    d->constants.keep = (float)keep;
    d->constants.noise2 = (float)((1 - keep * keep) * TBG_BOLTZMANN);
    d->constants.stochastic = first->friction > 0;
    d->step = first->step;
    d->view.n_lanes = (int)lanes;
    d->view.n_runs = (int)runs;
    d->lanes = TBG_NEW(tbg_group_lane, lanes);
    a->systems = TBG_NEW(const tbg_system *, d->n_members);
    a->layouts = TBG_NEW(tbg_group_layout, d->n_members);
    a->runs = TBG_NEW(tbg_group_run, runs);
    a->first_rounds = TBG_NEW(int64_t, runs);
    a->temperatures = TBG_NEW(double, n_temperatures);
    a->order = TBG_NEW(int32_t, lanes);
    a->sizes = TBG_NEW(sized, lanes);
    if (!d->lanes || !a->systems || !a->layouts || !a->runs || !a->first_rounds || !a->temperatures ||
        !a->order || !a->sizes)
        return TBG_FAILED;
    for (int m = 0; m < d->n_members; m++)
        a->systems[m] = d->members[m].system;
    TBG_TRY(fill_plan(d, a, n_temperatures, &n_pairs, &coordinates));
    TBG_TRY(tables_create(d->n_members, a->systems, 0, a->layouts, &d->tables));
    return copy_plan(d, a, n_temperatures, n_pairs, coordinates);
}

extern "C" int tbg_cuda_dynamics_create(int n_members, const tbg_cuda_member *members,
                                        tbg_cuda_dynamics **out) {
    *out = NULL;
    TBG_TRY(tbg_cuda_device(NULL, 0));
    if (n_members < 1)
        return tbg_fail(TBG_INPUT, "dynamics on a device: no simulations");
    tbg_cuda_dynamics *d = TBG_NEW(tbg_cuda_dynamics, 1);
    if (!d)
        return TBG_FAILED;
    plan_arrays a;
    memset(&a, 0, sizeof a);
    d->n_members = n_members;
    d->members = TBG_NEW(tbg_cuda_member, n_members);
    int status = d->members ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        memcpy(d->members, members, (size_t)n_members * sizeof *members);
        status = dynamics_set_up(d, &a);
    }
    free(a.systems);
    free(a.layouts);
    free(a.runs);
    free(a.first_rounds);
    free(a.temperatures);
    free(a.order);
    free(a.sizes);
    if (status != TBG_OK) {
        tbg_cuda_dynamics_free(d);
        return status;
    }
    *out = d;
    return TBG_OK;
}

extern "C" int tbg_cuda_dynamics_launch(tbg_cuda_dynamics *d, int64_t pieces, int64_t piece_steps,
                                        int reset) {
    if (d->launched - d->collected >= TBG_CUDA_AHEAD)
        return tbg_fail(TBG_FAILED, "dynamics on a device: %d launches wait to be collected", TBG_CUDA_AHEAD);
    int slot = (int)(d->launched % TBG_CUDA_AHEAD);
    if (!d->any_replicas) { /* nobody needs the stops between */
        piece_steps *= pieces;
        pieces = 1;
    }
    unsigned blocks = (unsigned)((d->view.n_lanes + d->warps - 1) / d->warps);
    for (int64_t i = 0; i < pieces; i++) {
        int last = i == pieces - 1;
        LAUNCH(advance_kernel, 1, blocks, d->warps * TBG_GROUP, d->warps * d->view.stride * sizeof(float),
               d->stream, d->view, d->constants, d->step + i * piece_steps, piece_steps, last,
               d->any_replicas || last);
        CUDA_TRY(cudaGetLastError());
        if (d->any_replicas) {
            LAUNCH(exchange_kernel, 0, (unsigned)d->view.n_runs, 128, 0, d->stream, d->view, d->first_rounds,
                   d->rounds + i);
            CUDA_TRY(cudaGetLastError());
        }
    }
    d->step += pieces * piece_steps;
    d->rounds += d->any_replicas ? pieces : 0;
    d->steps[slot] = pieces * piece_steps;
    d->pieces[slot] = pieces;
    CUDA_TRY(
        cudaMemcpyAsync(d->host[slot], d->view.state, d->view.map.size, cudaMemcpyDeviceToHost, d->stream));
    CUDA_TRY(cudaEventRecord(d->copied[slot], d->stream));
    if (reset) {
        LAUNCH(reset_kernel, 0, (unsigned)d->view.n_runs, 1, 0, d->stream, d->view);
        CUDA_TRY(cudaGetLastError());
    }
    d->launched++;
    return TBG_OK;
}

extern "C" int tbg_cuda_dynamics_collect(tbg_cuda_dynamics *d) {
    if (d->launched == d->collected)
        return tbg_fail(TBG_FAILED, "dynamics on a device: nothing was launched");
    int slot = (int)(d->collected % TBG_CUDA_AHEAD);
    CUDA_TRY(cudaEventSynchronize(d->copied[slot]));
    exchange_state(d, d->host[slot], 0);
    for (int m = 0; m < d->n_members; m++) {
        d->members[m].lanes->step += d->steps[slot];
        if (d->members[m].exchange->n_replicas > 1)
            d->members[m].exchange->rounds += d->pieces[slot];
    }
    d->collected++;
    return TBG_OK;
}
