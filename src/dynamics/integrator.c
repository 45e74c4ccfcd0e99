/* integrator.c: the lanes' state and the threads over blocks. Owns memory, start velocities, centring; the
 * arithmetic of a step is in integrator_simd.c. Refuses nothing about physics: callers look at energies. */
#include "dynamics/integrator.h"
#include "base/memory.h"
#include "base/simd.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

TBG_SIMD_DECLARE(const tbg_step_table, tbg_step_table_of);

const tbg_step_table *tbg_step_kernels(void) {
    return TBG_SIMD_PICK(tbg_step_table_of, tbg_simd_level());
}

static size_t block_size(const tbg_lanes *s) {
    return (size_t)s->n_atoms * 3 * TBG_LANES;
}

/* Place of component 0 of a lane; components follow at a distance of TBG_LANES. */
static float *lane_of(const tbg_lanes *s, float *array, int lane) {
    return array + (size_t)(lane / TBG_LANES) * block_size(s) + lane % TBG_LANES;
}

int tbg_lanes_create(const tbg_force_source *source, const double *mass, int n_lanes, double timestep,
                     double friction, uint64_t seed, int threads, tbg_lanes **out) {
    *out = NULL;
    int n = source->n_atoms;
    if (n < 1 || n > 100000 || n_lanes < 1 || n_lanes > 1 << 20)
        return tbg_fail(TBG_INPUT, "dynamics: %d conformations of %d atoms", n_lanes, n);
    for (int i = 0; i < n; i++)
        if (!(mass[i] > 0) || !isfinite(mass[i]))
            return tbg_fail(TBG_INPUT, "dynamics: atom %d has mass %g g/mol", i, mass[i]);
    tbg_lanes *s = TBG_NEW(tbg_lanes, 1);
    if (!s)
        return TBG_FAILED;
    s->source = *source;
    s->n_atoms = n;
    s->n_lanes = n_lanes;
    s->n_blocks = (n_lanes + TBG_LANES - 1) / TBG_LANES;
    s->threads = threads > 0 ? threads : omp_get_max_threads();
    if (s->threads > s->n_blocks)
        s->threads = s->n_blocks;
    s->timestep = timestep;
    s->friction = friction;
    s->seed = seed;
    size_t lanes = (size_t)s->n_blocks * TBG_LANES, components = (size_t)s->n_blocks * block_size(s);
    s->scratch_size = (block_size(s) * sizeof(float) + source->workspace + 63) / 64 * 64;
    s->mass = TBG_NEW(double, n);
    s->temperature = TBG_NEW(double, lanes);
    s->x = TBG_NEW(float, components);
    s->v = TBG_NEW(float, components);
    s->energy = TBG_NEW(double, lanes);
    s->inverse_root = TBG_NEW(float, n);
    s->kick = TBG_NEW(float, n);
    s->noise = TBG_NEW(float, lanes);
    s->scratch = tbg_alloc((size_t)s->threads, s->scratch_size);
    if (!s->mass || !s->temperature || !s->x || !s->v || !s->energy || !s->inverse_root || !s->kick ||
        !s->noise || !s->scratch) {
        tbg_lanes_free(s);
        return TBG_FAILED;
    }
    for (int i = 0; i < n; i++) {
        s->mass[i] = mass[i];
        s->inverse_root[i] = (float)(1 / sqrt(mass[i]));
        s->kick[i] = (float)(timestep / mass[i]);
    }
    *out = s;
    return TBG_OK;
}

void tbg_lanes_free(tbg_lanes *s) {
    if (!s)
        return;
    free(s->mass);
    free(s->temperature);
    free(s->x);
    free(s->v);
    free(s->energy);
    free(s->inverse_root);
    free(s->kick);
    free(s->noise);
    free(s->scratch);
    free(s);
}

void tbg_lanes_set_positions(tbg_lanes *s, int lane, const double *positions) {
    float *x = lane_of(s, s->x, lane);
    for (int j = 0; j < 3 * s->n_atoms; j++)
        x[(size_t)j * TBG_LANES] = (float)positions[j];
}

void tbg_lanes_get_positions(const tbg_lanes *s, int lane, double *positions) {
    const float *x = lane_of(s, s->x, lane);
    for (int j = 0; j < 3 * s->n_atoms; j++)
        positions[j] = (double)x[(size_t)j * TBG_LANES];
}

void tbg_lanes_draw_velocities(tbg_lanes *s, int lane, uint64_t draw) {
    float *v = lane_of(s, s->v, lane);
    double momentum[3] = {0}, total = 0;
    uint64_t stream = TBG_STREAM(TBG_STREAM_VELOCITIES, lane), first = draw * 3 * (uint64_t)s->n_atoms;
    for (int i = 0; i < s->n_atoms; i++) {
        double xi[3], width = sqrt(TBG_BOLTZMANN * s->temperature[lane] / s->mass[i]);
        tbg_random_normal(s->seed, stream, first + 3 * (uint64_t)i, 3, xi);
        total += s->mass[i];
        for (int a = 0; a < 3; a++) {
            momentum[a] += s->mass[i] * width * xi[a];
            v[(size_t)(3 * i + a) * TBG_LANES] = (float)(width * xi[a]);
        }
    }
    for (int j = 0; j < 3 * s->n_atoms; j++)
        v[(size_t)j * TBG_LANES] -= (float)(momentum[j % 3] / total);
}

void tbg_lanes_fill(tbg_lanes *s) {
    for (int lane = s->n_lanes; lane < s->n_blocks * TBG_LANES; lane++) {
        for (int j = 0; j < 3 * s->n_atoms; j++) {
            lane_of(s, s->x, lane)[(size_t)j * TBG_LANES] = lane_of(s, s->x, 0)[(size_t)j * TBG_LANES];
            lane_of(s, s->v, lane)[(size_t)j * TBG_LANES] = lane_of(s, s->v, 0)[(size_t)j * TBG_LANES];
        }
        s->temperature[lane] = s->temperature[0];
    }
}

static char *scratch_of_thread(const tbg_lanes *s) {
    return s->scratch + (size_t)omp_get_thread_num() * s->scratch_size;
}

void tbg_lanes_advance_block(tbg_lanes *s, int block, int64_t step, int64_t n_steps, char *scratch) {
    const tbg_step_table *kernels = tbg_step_kernels();
    double keep = exp(-s->friction * s->timestep);
    tbg_step_constants c = {s->n_atoms,      (float)(s->timestep / 2), (float)keep, s->kick,
                            s->inverse_root, s->friction > 0,          s->seed};
    float *f = (float *)scratch, *noise = s->noise + block * TBG_LANES;
    float *x = s->x + (size_t)block * block_size(s), *v = s->v + (size_t)block * block_size(s);
    void *workspace = scratch + block_size(s) * sizeof(float);
    for (int l = 0; l < TBG_LANES; l++)
        noise[l] = (float)sqrt((1 - keep * keep) * TBG_BOLTZMANN * s->temperature[block * TBG_LANES + l]);
    for (int64_t k = 0; k < n_steps; k++) {
        s->source.evaluate(s->source.state, x, f, NULL, workspace);
        kernels->step(&c, block, step + k, noise, f, x, v);
    }
}

void tbg_lanes_energies_block(tbg_lanes *s, int block, char *scratch) {
    s->source.evaluate(s->source.state, s->x + (size_t)block * block_size(s), NULL,
                       s->energy + block * TBG_LANES, scratch + block_size(s) * sizeof(float));
}

void tbg_lanes_center_block(tbg_lanes *s, int block) {
    for (int lane = block * TBG_LANES; lane < (block + 1) * TBG_LANES; lane++) {
        float *x = lane_of(s, s->x, lane);
        double centre[3] = {0};
        for (int j = 0; j < 3 * s->n_atoms; j++)
            centre[j % 3] += (double)x[(size_t)j * TBG_LANES];
        for (int j = 0; j < 3 * s->n_atoms; j++)
            x[(size_t)j * TBG_LANES] -= (float)(centre[j % 3] / s->n_atoms);
    }
}

void tbg_lanes_advance(tbg_lanes *s, int64_t n_steps) {
#pragma omp parallel for num_threads(s->threads) schedule(dynamic, 1)
    for (int b = 0; b < s->n_blocks; b++)
        tbg_lanes_advance_block(s, b, s->step, n_steps, scratch_of_thread(s));
    s->step += n_steps;
}

void tbg_lanes_energies(tbg_lanes *s) {
#pragma omp parallel for num_threads(s->threads) schedule(dynamic, 1)
    for (int b = 0; b < s->n_blocks; b++)
        tbg_lanes_energies_block(s, b, scratch_of_thread(s));
}

void tbg_lanes_center(tbg_lanes *s) {
    for (int b = 0; b < s->n_blocks; b++)
        tbg_lanes_center_block(s, b);
}

double tbg_lanes_kinetic(const tbg_lanes *s, int lane) {
    const float *v = lane_of(s, s->v, lane);
    double sum = 0;
    for (int j = 0; j < 3 * s->n_atoms; j++) {
        double u = (double)v[(size_t)j * TBG_LANES];
        sum += s->mass[j / 3] * u * u / 2;
    }
    return sum;
}

void tbg_lanes_scale_velocities(tbg_lanes *s, int lane, double factor) {
    float *v = lane_of(s, s->v, lane);
    for (int j = 0; j < 3 * s->n_atoms; j++)
        v[(size_t)j * TBG_LANES] *= (float)factor;
}
