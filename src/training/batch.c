/* batch.c: one batch of flow-matching samples, as a function of (seed, address) alone.
 *
 *   x0 ~ N(0, 1) mean-free, x1 data (plus smoothing noise) mean-free and scaled, t as the recipe says,
 *   x = (1 - t) x0 + t x1 + path_noise eps (eps mean-free), target = x1 - x0.
 *
 * Frames: with composition "every", sample g = address * n + b of the run belongs to round g / M over the M
 * molecules; each round visits every molecule once, each molecule's frames are visited once per epoch, all in
 * pseudo-random order. With resampling weights or composition "random", frames are drawn with replacement. */
#include "base/memory.h"
#include "tbg/schedule.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 8          /* cost of a full alignment in that measure */
#define WORTH_THREADS 100000 /* coordinates of a batch; below, waking threads up costs more than it saves */
#define NUMBERS (1ULL << 20) /* addresses set aside for one sample of a batch */

int tbg_training_batch_create(int n, int max_atoms, tbg_training_batch *b) {
    memset(b, 0, sizeof *b);
    size_t count = (size_t)n, atoms = count * (size_t)max_atoms;
    if (3ULL * (unsigned)max_atoms > NUMBERS)
        return tbg_fail(TBG_INPUT, "molecules of %d atoms are too large for training", max_atoms);
    b->n = n;
    b->index = TBG_NEW(int, count);
    b->frame = TBG_NEW(int64_t, count);
    b->offset = TBG_NEW(size_t, count + 1);
    b->molecule = TBG_NEW(const tbg_conditioning *, count);
    b->t = TBG_NEW(double, count);
    b->weight = TBG_NEW(double, count);
    b->loss = TBG_NEW(double, count);
    b->x0 = TBG_NEW(double, 3 * atoms);
    b->x1 = TBG_NEW(double, 3 * atoms);
    b->x = TBG_NEW(double, 3 * atoms);
    b->target = TBG_NEW(double, 3 * atoms);
    if (b->index && b->frame && b->offset && b->molecule && b->t && b->weight && b->loss && b->x0 && b->x1 &&
        b->x && b->target)
        return TBG_OK;
    tbg_training_batch_free(b);
    return TBG_FAILED;
}

void tbg_training_batch_free(tbg_training_batch *b) {
    free(b->index);
    free(b->frame);
    free(b->offset);
    free(b->molecule);
    free(b->t);
    free(b->weight);
    free(b->loss);
    free(b->x0);
    free(b->x1);
    free(b->x);
    free(b->target);
    memset(b, 0, sizeof *b);
}

uint64_t tbg_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t i) {
    /* Feistel network on the smallest even number of bits that holds n, walked until it falls below n. */
    int half = 1;
    while (half < 32 && (1ULL << (2 * half)) < n)
        half++;
    uint64_t mask = (1ULL << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint32_t word[4];
            tbg_random_words(seed, stream, round << 32 | right, word);
            uint64_t next = left ^ (word[0] & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* Streams of TBG_STREAM_BATCH: iteration or validation address; rounds; epochs of a molecule. */
static uint64_t round_stream(uint64_t validation, uint64_t round) {
    return TBG_STREAM(TBG_STREAM_BATCH, validation | 1ULL << 53 | round);
}

static uint64_t epoch_stream(uint64_t validation, uint64_t molecule, uint64_t epoch) {
    return TBG_STREAM(TBG_STREAM_BATCH, validation | 1ULL << 54 | molecule << 32 | epoch);
}

static int64_t weighted_frame(const tbg_data_molecule *m, double u) {
    double wanted = u * m->cumulative[m->n_frames - 1];
    int64_t low = 0, high = m->n_frames - 1;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (m->cumulative[middle] > wanted)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void choose(const tbg_batch_recipe *r, const tbg_data *data, uint64_t address, uint64_t b, uint64_t n,
                   int *index, int64_t *frame) {
    uint64_t validation = address & TBG_VALIDATION_ADDRESS, molecules = (uint64_t)data->n;
    uint64_t draw = (address & ~TBG_VALIDATION_ADDRESS) * n + b, round = draw / molecules;
    double u[2];
    tbg_random_uniform(r->seed, TBG_STREAM(TBG_STREAM_BATCH, address), 2 * b, 2, u);
    if (r->composition == TBG_COMPOSE_RANDOM) {
        double wanted = u[0] * data->total_weight;
        int m = 0;
        while (m + 1 < data->n && (wanted -= data->molecules[m].weight) >= 0)
            m++;
        *index = m;
    } else
        *index = (int)tbg_permute(r->seed, round_stream(validation, round), molecules, draw % molecules);
    const tbg_data_molecule *m = &data->molecules[*index];
    if (m->cumulative)
        *frame = weighted_frame(m, u[1]);
    else if (r->composition == TBG_COMPOSE_RANDOM) {
        int64_t f = (int64_t)(u[1] * (double)m->n_frames);
        *frame = f < m->n_frames ? f : m->n_frames - 1;
    } else {
        uint64_t frames = (uint64_t)m->n_frames;
        *frame = (int64_t)tbg_permute(r->seed, epoch_stream(validation, (uint64_t)*index, round / frames),
                                      frames, round % frames);
    }
}

static void remove_mean(int n, double *x) {
    double mean[3] = {0};
    for (int i = 0; i < n; i++)
        for (int d = 0; d < 3; d++)
            mean[d] += x[3 * i + d];
    for (int i = 0; i < n; i++)
        for (int d = 0; d < 3; d++)
            x[3 * i + d] -= mean[d] / n;
}

/* t and 1 - t without cancellation. */
static double draw_time(const tbg_batch_recipe *r, uint64_t address, uint64_t b, uint64_t n,
                        double *one_minus_t) {
    double u[2], shift;
    uint64_t stream = TBG_STREAM(TBG_STREAM_TIME, address);
    tbg_random_uniform(r->seed, stream, 2 * b, 2, u);
    if (r->time_stratified) {
        tbg_random_uniform(r->seed, stream, 1ULL << 40, 1, &shift);
        u[0] = ((double)b + shift) / (double)n; /* always inside (0, 1) */
    }
    int graded = (r->time_sampling == TBG_TIME_GRADED) != (u[1] < r->time_mixture);
    double d = graded ? r->graded_d : 0;
    *one_minus_t = tbg_one_minus_time(d, u[0]);
    return 1 - *one_minus_t;
}

static int transport(const tbg_batch_recipe *r, const tbg_data *data, tbg_training_batch *b, int molecule) {
    int n = 0, atoms = data->molecules[molecule].n_atoms;
    for (int i = 0; i < b->n; i++)
        n += b->index[i] == molecule;
    if (n < 2)
        return TBG_OK;
    size_t frame = 3 * (size_t)atoms;
    int *member = TBG_NEW(int, n), *to = TBG_NEW(int, n);
    double *cost = TBG_NEW(double, (size_t)n *(size_t)n), *old = TBG_NEW(double, (size_t)n *frame);
    int status = member && to && cost && old ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        for (int i = 0, k = 0; i < b->n; i++)
            if (b->index[i] == molecule)
                member[k++] = i;
        for (int i = 0; i < n; i++) {
            const double *x0 = b->x0 + 3 * b->offset[member[i]];
            memcpy(old + (size_t)i * frame, x0, frame * sizeof *old);
            for (int j = 0; j < n; j++) {
                const double *x1 = b->x1 + 3 * b->offset[member[j]];
                double sum = 0;
                for (size_t k = 0; k < frame; k++)
                    sum += (x0[k] - x1[k]) * (x0[k] - x1[k]);
                cost[(size_t)i * (size_t)n + (size_t)j] =
                    r->align ? tbg_aligned_distance2(atoms, x0, x1) : sum;
            }
        }
        status = tbg_assign(n, cost, to);
    }
    for (int i = 0; status == TBG_OK && i < n; i++)
        memcpy(b->x0 + 3 * b->offset[member[to[i]]], old + (size_t)i * frame, frame * sizeof *old);
    free(member);
    free(to);
    free(cost);
    free(old);
    return status;
}

int tbg_training_batch_fill(const tbg_batch_recipe *r, const tbg_data *data, uint64_t address, int threads,
                            tbg_training_batch *b) {
    int n = b->n, status = TBG_OK;
    for (int i = 0; i < n; i++) {
        choose(r, data, address, (uint64_t)i, (uint64_t)n, &b->index[i], &b->frame[i]);
        const tbg_data_molecule *m = &data->molecules[b->index[i]];
        b->molecule[i] = m->conditioning;
        b->offset[i + 1] = b->offset[i] + (size_t)m->n_atoms;
        b->weight[i] = 1.0 / n;
    }
    b->n_atoms = b->offset[n];
    if (3 * b->n_atoms * (r->align == TBG_ALIGN_FULL ? ALIGNMENT : 1) < WORTH_THREADS && !r->transport)
        threads = 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++) {
        const tbg_data_molecule *m = &data->molecules[b->index[i]];
        size_t numbers = 3 * (size_t)m->n_atoms;
        double *x0 = b->x0 + 3 * b->offset[i], *x1 = b->x1 + 3 * b->offset[i];
        const float *frame = m->positions + (size_t)b->frame[i] * numbers;
        for (size_t k = 0; k < numbers; k++)
            x1[k] = r->scale * frame[k];
        if (r->smoothing > 0) {
            tbg_random_normal(r->seed, TBG_STREAM(TBG_STREAM_SMOOTHING, address), (uint64_t)i * NUMBERS,
                              numbers, x0);
            for (size_t k = 0; k < numbers; k++)
                x1[k] += r->smoothing * x0[k];
        }
        remove_mean(m->n_atoms, x1);
        tbg_random_normal(r->seed, TBG_STREAM(TBG_STREAM_PRIOR, address), (uint64_t)i * NUMBERS, numbers, x0);
        remove_mean(m->n_atoms, x0);
    }
    if (r->transport) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
        for (int m = 0; m < data->n; m++)
            if (transport(r, data, b, m) != TBG_OK)
#pragma omp atomic write
                status = TBG_FAILED;
        if (status != TBG_OK)
            return tbg_fail(status,
                            "optimal transport within the batch failed (memory, or coordinates not finite)");
    }
    double *scratch = NULL;
    size_t per_thread = (size_t)data->max_atoms * ((size_t)data->max_atoms + 3);
    if (r->align == TBG_ALIGN_FULL && !(scratch = TBG_NEW(double, (size_t)threads *per_thread)))
        return TBG_FAILED;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++) {
        int atoms = data->molecules[b->index[i]].n_atoms;
        size_t numbers = 3 * (size_t)atoms;
        double *x0 = b->x0 + 3 * b->offset[i], *x1 = b->x1 + 3 * b->offset[i];
        double *x = b->x + 3 * b->offset[i], *target = b->target + 3 * b->offset[i], before = 0;
        if (r->align == TBG_ALIGN_ROTATE)
            tbg_align(atoms, x0, x1);
        else if (r->align == TBG_ALIGN_FULL &&
                 tbg_align_full(atoms, x0, x1, data->molecules[b->index[i]].group, !r->handed, 4,
                                scratch + (size_t)(threads > 1 ? omp_get_thread_num() : 0) * per_thread) !=
                     TBG_OK)
#pragma omp atomic write
            status = TBG_FAILED;
        double t = draw_time(r, address, (uint64_t)i, (uint64_t)n, &before);
        b->t[i] = t;
        if (r->path_noise > 0) {
            tbg_random_normal(r->seed, TBG_STREAM(TBG_STREAM_PATH, address), (uint64_t)i * NUMBERS, numbers,
                              x);
            remove_mean(atoms, x);
        }
        double noise = r->path_noise > 0 ? r->path_noise : 0; /* x is scratch of unknown content otherwise */
        for (size_t k = 0; k < numbers; k++) {
            double eps = noise > 0 ? noise * x[k] : 0;
            x[k] = before * x0[k] + t * x1[k] + eps;
            target[k] = x1[k] - x0[k];
        }
    }
    free(scratch);
    return status == TBG_OK
               ? TBG_OK
               : tbg_fail(status, "aligning the batch failed (memory, or coordinates not finite)");
}
