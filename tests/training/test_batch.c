/* test_batch.c: batches by address: which frames, which times, interpolation, couplings. */
#include "tbg_test.h"
#include "tbg/schedule.h"
#include "training/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Data without files: molecules of given sizes with random frames. */
static void make_data(tbg_data *data, int n, const int *atoms, const int64_t *frames) {
    memset(data, 0, sizeof *data);
    data->n = n;
    data->molecules = calloc((size_t)n, sizeof *data->molecules);
    for (int m = 0; m < n; m++) {
        tbg_data_molecule *d = &data->molecules[m];
        size_t numbers = (size_t)frames[m] * 3 * (size_t)atoms[m];
        double *z = malloc(numbers * sizeof *z);
        d->borrowed = 1;
        d->n_atoms = atoms[m];
        d->n_frames = frames[m];
        d->weight = 1;
        d->positions = malloc(numbers * sizeof *d->positions);
        tbg_random_normal(11, TBG_STREAM(TBG_STREAM_TEST, m), 0, numbers, z);
        for (size_t k = 0; k < numbers; k++)
            d->positions[k] = (float)(5 + 0.3 * z[k]);
        free(z);
        data->n_frames += frames[m];
        data->total_weight += 1;
        if (atoms[m] > data->max_atoms)
            data->max_atoms = atoms[m];
    }
}

static const tbg_batch_recipe plain = {.composition = TBG_COMPOSE_EVERY, .scale = 3, .seed = 9};

static void permutation_is_one(void **state) {
    (void)state;
    uint64_t sizes[] = {1, 2, 3, 5, 64, 65, 1000};
    for (int s = 0; s < 7; s++) {
        char *seen = calloc(sizes[s], 1);
        uint64_t moved = 0;
        for (uint64_t i = 0; i < sizes[s]; i++) {
            uint64_t p = tbg_permute(1, 2, sizes[s], i);
            assert_true(p < sizes[s] && !seen[p]);
            seen[p] = 1;
            moved += p != i;
        }
        assert_true(sizes[s] < 64 || moved > sizes[s] / 2);
        free(seen);
    }
    int differ = 0;
    for (uint64_t i = 0; i < 100; i++)
        differ += tbg_permute(1, 2, 100, i) != tbg_permute(1, 3, 100, i);
    assert_true(differ > 80);
}

/* Batches of 6 over 3 molecules: each twice per batch; over an epoch each frame once; a different order next
 * epoch. */
static void every_molecule_and_every_frame(void **state) {
    (void)state;
    tbg_data data;
    tbg_training_batch b;
    make_data(&data, 3, (const int[]){4, 7, 5}, (const int64_t[]){20, 20, 10});
    assert_ok(tbg_training_batch_create(6, data.max_atoms, &b));
    int seen[3][20] = {{0}}, first_order[20], second_order[20], k0 = 0, k1 = 0;
    for (uint64_t k = 0; k < 20; k++) {
        assert_ok(tbg_training_batch_fill(&plain, &data, k, 1, &b));
        int count[3] = {0};
        for (int i = 0; i < 6; i++) {
            count[b.index[i]]++;
            seen[b.index[i]][b.frame[i]]++;
            if (b.index[i] == 0)
                *(k < 10 ? &first_order[k0++] : &second_order[k1++]) = (int)b.frame[i];
        }
        assert_true(count[0] == 2 && count[1] == 2 && count[2] == 2);
    }
    for (int f = 0; f < 20; f++)
        assert_true(seen[0][f] == 2 && seen[1][f] == 2 && seen[2][f] == (f < 10 ? 4 : 0));
    assert_true(k0 == 20 && k1 == 20 && memcmp(first_order, second_order, sizeof first_order));
    tbg_training_batch_free(&b);
    tbg_data_free(&data);
}

static void interpolation(void **state) {
    (void)state;
    tbg_data data;
    tbg_training_batch b;
    tbg_batch_recipe r = plain;
    r.path_noise = 0.01;
    make_data(&data, 2, (const int[]){4, 9}, (const int64_t[]){50, 50});
    assert_ok(tbg_training_batch_create(64, data.max_atoms, &b));
    assert_ok(tbg_training_batch_fill(&r, &data, 5, 2, &b));
    double noise = 0, prior = 0;
    size_t n = 0, freedom = 0;
    for (int i = 0; i < 64; i++) {
        const tbg_data_molecule *m = &data.molecules[b.index[i]];
        double mean[3][3] = {{0}};
        const float *frame = m->positions + b.frame[i] * 3 * m->n_atoms;
        for (int a = 0; a < m->n_atoms; a++)
            for (int d = 0; d < 3; d++) {
                size_t k = 3 * (b.offset[i] + (size_t)a) + (size_t)d;
                double e = b.x[k] - (1 - b.t[i]) * b.x0[k] - b.t[i] * b.x1[k];
                noise += e * e;
                prior += b.x0[k] * b.x0[k];
                mean[0][d] += b.x0[k];
                mean[1][d] += b.x1[k];
                mean[2][d] += e;
                assert_true(b.target[k] == b.x1[k] - b.x0[k]);
                double difference = 3.0 * (frame[3 * a + d] - frame[d]);
                assert_true(fabs(b.x1[k] - b.x1[3 * b.offset[i] + (size_t)d] - difference) < 1e-6);
                n++;
            }
        freedom += 3 * (size_t)(m->n_atoms - 1);
        for (int w = 0; w < 3; w++)
            for (int d = 0; d < 3; d++)
                assert_true(fabs(mean[w][d]) < 1e-12 * 100);
        assert_true(b.weight[i] == 1.0 / 64);
    }
    assert_true(n == 3 * b.n_atoms);
    assert_true(fabs(noise / (double)freedom / 1e-4 - 1) < 5 * sqrt(2.0 / (double)freedom));
    assert_true(fabs(prior / (double)freedom - 1) < 5 * sqrt(2.0 / (double)freedom));
    /* Again on another number of threads, and with another address. */
    double *x = malloc(3 * b.n_atoms * sizeof *x);
    memcpy(x, b.x, 3 * b.n_atoms * sizeof *x);
    size_t bytes = 3 * b.n_atoms * sizeof *x;
    assert_ok(tbg_training_batch_fill(&r, &data, 6, 1, &b));
    assert_true(memcmp(x, b.x, bytes));
    assert_ok(tbg_training_batch_fill(&r, &data, 5, 1, &b));
    assert_memory_equal(x, b.x, bytes);
    free(x);
    tbg_training_batch_free(&b);
    tbg_data_free(&data);
}

/* x1 is the frame and mean-free normal noise of its own, another one each time the frame is drawn; frames,
 * prior and times stay as they are. */
static void smoothing(void **state) {
    (void)state;
    enum { N = 256 };
    tbg_data data;
    tbg_training_batch a, b;
    tbg_batch_recipe r = plain;
    make_data(&data, 1, (const int[]){7}, (const int64_t[]){1});
    assert_ok(tbg_training_batch_create(N, 7, &a));
    assert_ok(tbg_training_batch_create(N, 7, &b));
    assert_ok(tbg_training_batch_fill(&r, &data, 3, 1, &a));
    r.smoothing = 0.2;
    assert_ok(tbg_training_batch_fill(&r, &data, 3, 2, &b));
    double sum = 0, with_prior = 0, freedom = N * 18;
    for (int i = 0; i < N; i++) {
        double mean[3] = {0}, first = 0;
        assert_true(a.frame[i] == b.frame[i] && a.t[i] == b.t[i]);
        for (int k = 0; k < 21; k++) {
            double e = b.x1[21 * i + k] - a.x1[21 * i + k];
            sum += e * e;
            with_prior += e * b.x0[21 * i + k];
            mean[k % 3] += e;
            first += e * (b.x1[k] - a.x1[k]);
            assert_true(a.x0[21 * i + k] == b.x0[21 * i + k]);
        }
        assert_true(fabs(mean[0]) + fabs(mean[1]) + fabs(mean[2]) < 1e-12);
        assert_true(!i || fabs(first) < 0.04 * 18);
    }
    assert_true(fabs(sum / freedom / 0.04 - 1) < 5 * sqrt(2 / freedom));
    assert_true(fabs(with_prior / freedom / 0.2) < 5 / sqrt(freedom));
    tbg_training_batch_free(&a);
    tbg_training_batch_free(&b);
    tbg_data_free(&data);
}

/* Kolmogorov-Smirnov distance of `value` to uniform. */
static int compare_doubles(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}
static double distance(int n, double *value) {
    double worst = 0;
    qsort(value, (size_t)n, sizeof *value, compare_doubles);
    for (int i = 0; i < n; i++)
        worst = fmax(worst, fabs(value[i] - (i + 0.5) / n));
    return worst;
}

static void times(void **state) {
    (void)state;
    enum { B = 2000 };
    tbg_data data;
    tbg_training_batch b;
    static double u[B];
    make_data(&data, 1, (const int[]){3}, (const int64_t[]){5});
    assert_ok(tbg_training_batch_create(B, 3, &b));
    tbg_batch_recipe r = plain;
    r.graded_d = 0.02;
    assert_ok(tbg_training_batch_fill(&r, &data, 0, 1, &b));
    for (int i = 0; i < B; i++)
        u[i] = b.t[i];
    assert_true(distance(B, u) < 1.95 / sqrt(B)); /* 0.1 % */
    r.time_sampling = TBG_TIME_GRADED;
    assert_ok(tbg_training_batch_fill(&r, &data, 0, 1, &b));
    for (int i = 0; i < B; i++)
        u[i] = tbg_u_of_time(0.02, b.t[i]);
    assert_true(distance(B, u) < 1.95 / sqrt(B));
    r.time_stratified = 1;
    assert_ok(tbg_training_batch_fill(&r, &data, 0, 1, &b));
    for (int i = 0; i < B; i++)
        u[i] = tbg_u_of_time(0.02, b.t[i]);
    assert_true(distance(B, u) < 1.0 / B);
    r.time_stratified = 0;
    r.time_mixture = 0.25; /* a quarter uniform in t */
    assert_ok(tbg_training_batch_fill(&r, &data, 0, 1, &b));
    int early = 0;
    for (int i = 0; i < B; i++)
        early += b.t[i] < 0.5;
    double expected = 0.75 * tbg_u_of_time(0.02, 0.5) + 0.25 * 0.5;
    assert_true(fabs(early / (double)B - expected) < 4 * sqrt(expected * (1 - expected) / B));
    tbg_training_batch_free(&b);
    tbg_data_free(&data);
}

static void weighted_frames(void **state) {
    (void)state;
    enum { B = 4000 };
    tbg_data data;
    tbg_training_batch b;
    make_data(&data, 1, (const int[]){3}, (const int64_t[]){4});
    double *cumulative = malloc(4 * sizeof *cumulative);
    memcpy(cumulative, (double[]){1, 1, 4, 10}, 4 * sizeof *cumulative); /* weights 1 0 3 6 */
    data.molecules[0].cumulative = cumulative;
    assert_ok(tbg_training_batch_create(B, 3, &b));
    for (int random = 0; random < 2; random++) {
        tbg_batch_recipe r = plain;
        r.composition = random ? TBG_COMPOSE_RANDOM : TBG_COMPOSE_EVERY;
        assert_ok(tbg_training_batch_fill(&r, &data, 1, 1, &b));
        int count[4] = {0};
        for (int i = 0; i < B; i++)
            count[b.frame[i]]++;
        assert_int_equal(count[1], 0);
        for (int f = 0; f < 4; f++) {
            double p = (double[]){0.1, 0, 0.3, 0.6}[f];
            assert_true(fabs(count[f] - B * p) <= 4 * sqrt(B * p * (1 - p)));
        }
    }
    tbg_training_batch_free(&b);
    tbg_data_free(&data);
}

static void random_molecules_by_weight(void **state) {
    (void)state;
    enum { B = 4000 };
    tbg_data data;
    tbg_training_batch b;
    make_data(&data, 3, (const int[]){3, 3, 3}, (const int64_t[]){4, 4, 4});
    data.molecules[1].weight = 2;
    data.molecules[2].weight = 5;
    data.total_weight = 8;
    assert_ok(tbg_training_batch_create(B, 3, &b));
    tbg_batch_recipe r = plain;
    r.composition = TBG_COMPOSE_RANDOM;
    assert_ok(tbg_training_batch_fill(&r, &data, 1, 1, &b));
    int count[3] = {0};
    for (int i = 0; i < B; i++)
        count[b.index[i]]++;
    for (int m = 0; m < 3; m++) {
        double p = data.molecules[m].weight / 8;
        assert_true(fabs(count[m] - B * p) <= 4 * sqrt(B * p * (1 - p)));
    }
    tbg_training_batch_free(&b);
    tbg_data_free(&data);
}

static void bias(void **state) {
    (void)state;
    double sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += tbg_bias_density(-M_PI + 2 * M_PI * (i + 0.5) / 1000) * 2 * M_PI / 1000;
    assert_true(fabs(sum - 1) < 1e-12);
    enum { N = 1000 };
    static double phi[N];
    for (int i = 0; i < N; i++)
        phi[i] = i % 20 ? -2.5 + 0.001 * i : 1 + 0.0004 * (i - 500); /* 5 % in the positive state */
    double r = tbg_bias_balance(N, phi), in = 0, out = 0;
    for (int i = 0; i < N; i++)
        *(phi[i] > 0 && phi[i] < 2 ? &in : &out) += r * tbg_bias_density(phi[i]) + 1;
    assert_true(r > 1 && compare_error(in, out, 0) < 1e-10);
    for (int i = 0; i < N; i++)
        phi[i] = -1.5;
    assert_true(tbg_bias_balance(N, phi) == 0); /* nothing there to raise */
}

static void unit_scale(void **state) {
    (void)state;
    tbg_data data;
    make_data(&data, 2, (const int[]){8, 20}, (const int64_t[]){3000, 2000});
    /* Independent coordinates of width 0.3: removing the mean leaves (n - 1) / n of the variance. */
    double expected = 1 / (0.3 * sqrt((7.0 / 8 + 19.0 / 20) / 2)), got = tbg_data_unit_scale(&data);
    assert_true(compare_error(got, expected, 0) < 0.005);
    tbg_data_free(&data);
}

/* Begun in time, begun for another address, not begun at all: the same batch. */
static void ahead_is_the_same(void **state) {
    (void)state;
    tbg_data data;
    tbg_training_batch now, early;
    tbg_ahead *ahead;
    tbg_batch_recipe r = plain;
    r.align = TBG_ALIGN_FULL;
    make_data(&data, 3, (const int[]){4, 7, 5}, (const int64_t[]){20, 20, 10});
    assert_ok(tbg_training_batch_create(8, data.max_atoms, &now));
    assert_ok(tbg_training_batch_create(8, data.max_atoms, &early));
    assert_ok(tbg_ahead_create(&r, &data, 8, 2, &ahead));
    static const uint64_t asked[] = {0, 1, 2, 7, 8, 8, 30}, begun[] = {1, 2, 3, 8, 9, 30, 31};
    for (int k = 0; k < 7; k++) {
        assert_ok(tbg_training_batch_fill(&r, &data, asked[k], 1, &now));
        assert_ok(tbg_ahead_take(ahead, asked[k], &early));
        if (k != 4) /* once it is not begun again */
            tbg_ahead_start(ahead, begun[k]);
        assert_int_equal(now.n_atoms, early.n_atoms);
        assert_memory_equal(now.x, early.x, 3 * now.n_atoms * sizeof *now.x);
        assert_memory_equal(now.target, early.target, 3 * now.n_atoms * sizeof *now.target);
        assert_memory_equal(now.t, early.t, 8 * sizeof *now.t);
        assert_memory_equal(now.index, early.index, 8 * sizeof *now.index);
    }
    tbg_ahead_free(ahead);
    tbg_training_batch_free(&now);
    tbg_training_batch_free(&early);
    tbg_data_free(&data);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(permutation_is_one),
                                       cmocka_unit_test(every_molecule_and_every_frame),
                                       cmocka_unit_test(interpolation),
                                       cmocka_unit_test(smoothing),
                                       cmocka_unit_test(times),
                                       cmocka_unit_test(weighted_frames),
                                       cmocka_unit_test(random_molecules_by_weight),
                                       cmocka_unit_test(bias),
                                       cmocka_unit_test(unit_scale),
                                       cmocka_unit_test(ahead_is_the_same)};
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
