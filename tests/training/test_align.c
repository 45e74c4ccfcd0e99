/* test_align.c: best rotation and assignment against exhaustive search and known answers; couplings of a
 * batch. */
#include "tbg_test.h"
#include "training/internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 12 };

static void cloud(uint64_t stream, double *x) {
    tbg_random_normal(5, TBG_STREAM(TBG_STREAM_TEST, stream), 0, 3 * N, x);
    for (int d = 0; d < 3; d++) {
        double mean = 0;
        for (int i = 0; i < N; i++)
            mean += x[3 * i + d] / N;
        for (int i = 0; i < N; i++)
            x[3 * i + d] -= mean;
    }
}

static void rotate(const double q[4], const double *x, double *y) {
    double s = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    double w = q[0] / s, v[3] = {q[1] / s, q[2] / s, q[3] / s};
    for (int i = 0; i < N; i++) {
        const double *p = x + 3 * i;
        double c[3] = {v[1] * p[2] - v[2] * p[1] + w * p[0], v[2] * p[0] - v[0] * p[2] + w * p[1],
                       v[0] * p[1] - v[1] * p[0] + w * p[2]};
        y[3 * i] = p[0] + 2 * (v[1] * c[2] - v[2] * c[1]);
        y[3 * i + 1] = p[1] + 2 * (v[2] * c[0] - v[0] * c[2]);
        y[3 * i + 2] = p[2] + 2 * (v[0] * c[1] - v[1] * c[0]);
    }
}

static double distance2(const double *x, const double *y) {
    double sum = 0;
    for (int i = 0; i < 3 * N; i++)
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sum;
}

static void finds_the_rotation(void **state) {
    (void)state;
    double x[3 * N], y[3 * N], z[3 * N], q[4];
    for (uint64_t k = 0; k < 20; k++) {
        cloud(k, x);
        tbg_random_normal(6, TBG_STREAM(TBG_STREAM_TEST, k), 0, 4, q);
        rotate(q, x, y);
        tbg_align(N, x, y);
        assert_true(distance2(x, y) < 1e-20);
        cloud(100 + k, y); /* different clouds: no random rotation does better, lengths stay */
        cloud(k, z);
        double best = tbg_aligned_distance2(N, z, y);
        tbg_align(N, x, y);
        assert_true(compare_error(distance2(x, y), best, 0) < 1e-10);
        for (uint64_t j = 0; j < 200; j++) {
            double tried[3 * N];
            tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, j), 0, 4, q);
            rotate(q, z, tried);
            assert_true(distance2(tried, y) >= best - 1e-9);
        }
    }
}

static void does_not_mirror(void **state) {
    (void)state;
    double x[3 * N], y[3 * N];
    cloud(1, x);
    for (int i = 0; i < 3 * N; i++)
        y[i] = -x[i];
    tbg_align(N, x, y);
    assert_true(distance2(x, y) > 1);
}

static void assignment_is_best(void **state) {
    (void)state;
    enum { M = 6 };
    double cost[M * M];
    for (uint64_t k = 0; k < 30; k++) {
        int got[M], p[M] = {0, 1, 2, 3, 4, 5}, c[M] = {0};
        tbg_random_normal(8, TBG_STREAM(TBG_STREAM_TEST, k), 0, M * M, cost);
        assert_ok(tbg_assign(M, cost, got));
        double sum = 0, best = INFINITY;
        int used[M] = {0};
        for (int i = 0; i < M; i++) {
            assert_true(got[i] >= 0 && got[i] < M && !used[got[i]]++);
            sum += cost[i * M + got[i]];
        }
        for (int i = 0;;) { /* Heap's algorithm over all permutations */
            double s = 0;
            for (int j = 0; j < M; j++)
                s += cost[j * M + p[j]];
            best = fmin(best, s);
            while (i < M && c[i] >= i)
                c[i++] = 0;
            if (i == M)
                break;
            int from = i % 2 ? c[i] : 0, swap = p[from];
            p[from] = p[i];
            p[i] = swap;
            c[i]++;
            i = 0;
        }
        assert_true(fabs(sum - best) < 1e-12);
    }
    cost[3] = NAN;
    for (int i = 0; i < M * M; i++)
        cost[i] = NAN;
    int got[M];
    assert_int_equal(tbg_assign(M, cost, got), TBG_FAILED);
}

/* Reflected, rotated and with atoms of two groups exchanged (near each other, like the hydrogens of a methyl
 * group: the descent is local): all undone. */
static void full_undoes_what_the_field_commutes_with(void **state) {
    (void)state;
    static const int group[N] = {0, 1, 1, 3, 4, 4, 4, 7, 8, 9, 10, 11},
                     swap[N] = {0, 2, 1, 3, 5, 6, 4, 7, 8, 9, 10, 11};
    double scratch[N * (N + 3)];
    for (uint64_t k = 0; k < 20; k++) {
        double x[3 * N], y[3 * N], z[3 * N], q[4];
        cloud(k, x);
        for (int i = 0; i < N; i++)
            for (int d = 0; d < 3 && group[i] != i; d++)
                x[3 * i + d] = x[3 * group[i] + d] + 0.2 * x[3 * i + d];
        for (int d = 0; d < 3; d++) {
            double mean = 0;
            for (int i = 0; i < N; i++)
                mean += x[3 * i + d] / N;
            for (int i = 0; i < N; i++)
                x[3 * i + d] -= mean;
        }
        tbg_random_normal(6, TBG_STREAM(TBG_STREAM_TEST, k), 0, 4, q);
        for (int i = 0; i < N; i++)
            for (int d = 0; d < 3; d++)
                z[3 * i + d] = (k & 1 ? -1 : 1) * x[3 * (k & 2 ? swap[i] : i) + d];
        rotate(q, z, y);
        assert_ok(tbg_align_full(N, y, x, group, 1, 20, scratch));
        assert_true(distance2(y, x) < 1e-20);
    }
}

/* Never farther than the best rotation; distances within the cloud stay, up to exchanges within groups. */
static void full_is_a_descent_within_the_orbit(void **state) {
    (void)state;
    static const int group[N] = {0, 0, 0, 0, 4, 4, 4, 7, 7, 9, 10, 11};
    double scratch[N * (N + 3)];
    int nearer = 0;
    for (uint64_t k = 0; k < 50; k++) {
        double x[3 * N], y[3 * N], before[3 * N];
        cloud(k, before);
        cloud(100 + k, y);
        memcpy(x, before, sizeof x);
        double rotated = tbg_aligned_distance2(N, x, y);
        assert_ok(tbg_align_full(N, x, y, group, 1, 20, scratch));
        assert_true(distance2(x, y) <= rotated + 1e-9);
        nearer += distance2(x, y) < rotated - 1e-6;
        int from[N], used[N] = {0};
        for (int i = 0; i < N; i++) { /* which atom stands here now: by its distance from the centre */
            from[i] = -1;
            for (int j = 0; j < N; j++) {
                double a = 0, b = 0;
                for (int d = 0; d < 3; d++) {
                    a += x[3 * i + d] * x[3 * i + d];
                    b += before[3 * j + d] * before[3 * j + d];
                }
                if (fabs(a - b) < 1e-9)
                    from[i] = j;
            }
            assert_true(from[i] >= 0 && group[from[i]] == group[i] && !used[from[i]]++);
        }
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double a = 0, b = 0;
                for (int d = 0; d < 3; d++) {
                    a += pow(x[3 * i + d] - x[3 * j + d], 2);
                    b += pow(before[3 * from[i] + d] - before[3 * from[j] + d], 2);
                }
                assert_true(fabs(a - b) < 1e-9);
            }
    }
    assert_true(nearer > 40);
}

/* The groups of a molecule are what the network cannot tell apart: exchanging two atoms of a group and
 * reflecting everything exchanges and reflects the velocity; exchanging others does not. */
static void groups_are_symmetries_of_the_field(void **state) {
    (void)state;
    tbg_network_spec spec;
    tbg_molecule *m;
    tbg_system *system;
    tbg_conditioning *c;
    tbg_model *model;
    tbg_session *session;
    assert_ok(tbg_network_preset("improved-ad", &spec));
    spec.features = TBG_FEATURES_FULL;
    spec.n_features = tbg_feature_set_width(spec.features);
    spec.hidden = 16;
    spec.layers = 2;
    spec.scale = 5;
    assert_ok(tbg_molecule_from_sequence("KA", &m));
    assert_ok(tbg_system_create(m, "amber14-obc1", -1, &system));
    assert_ok(tbg_conditioning_create(&spec, m, system, 310, &c));
    int n = m->n_atoms, *group = calloc((size_t)n, sizeof *group), exchanged = 0;
    tbg_interchangeable(c, group);
    assert_ok(tbg_model_create(&spec, 3, &model));
    for (size_t k = 0; k < model->n_parameters; k++) /* gates that start at 0 take part */
        model->values[k] += 0.05f * (float)sin((double)k);
    assert_ok(tbg_session_create(model, "reference", n, 1, &session));
    size_t numbers = 3 * (size_t)n;
    double *x = calloc(numbers, sizeof *x), *y = calloc(numbers, sizeof *y), *v = calloc(numbers, sizeof *v),
           *w = calloc(numbers, sizeof *w), t = 0.6;
    const tbg_conditioning *molecule = c;
    for (size_t k = 0; k < numbers; k++)
        x[k] = spec.scale * m->positions[k / 3][k % 3] + 0.3 * sin(1.7 * (double)k);
    assert_ok(tbg_network_velocity(session, 1, &molecule, &t, x, v));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            if (group[j] != group[i] && i - j > 1) /* of the others, neighbours in the list are enough */
                continue;
            for (size_t k = 0; k < numbers; k++) {
                size_t atom = k / 3 == (size_t)i ? (size_t)j : k / 3 == (size_t)j ? (size_t)i : k / 3;
                y[k] = -x[3 * atom + k % 3];
            }
            assert_ok(tbg_network_velocity(session, 1, &molecule, &t, y, w));
            double error = 0;
            for (size_t k = 0; k < numbers; k++) {
                size_t atom = k / 3 == (size_t)i ? (size_t)j : k / 3 == (size_t)j ? (size_t)i : k / 3;
                error = fmax(error, fabs(w[k] + v[3 * atom + k % 3]));
            }
            if (group[i] == group[j]) {
                exchanged++;
                assert_true(error < 1e-10);
            } else
                assert_true(error > 1e-6);
        }
    /* LYS as first residue: H1-3 of the amine, HB2/3, HG2/3, HD2/3, HE2/3, HZ1-3; ALA: HB1-3. (O and OXT
     * differ.) */
    assert_int_equal(exchanged, 3 + 4 + 3 + 3);
    free(group);
    free(x);
    free(y);
    free(v);
    free(w);
    tbg_session_free(session);
    tbg_model_free(model);
    tbg_conditioning_free(c);
    tbg_system_free(system);
    tbg_molecule_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(finds_the_rotation),
                                       cmocka_unit_test(does_not_mirror),
                                       cmocka_unit_test(assignment_is_best),
                                       cmocka_unit_test(full_undoes_what_the_field_commutes_with),
                                       cmocka_unit_test(full_is_a_descent_within_the_orbit),
                                       cmocka_unit_test(groups_are_symmetries_of_the_field)};
    return cmocka_run_group_tests_name("align", tests, NULL, NULL);
}
