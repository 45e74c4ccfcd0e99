/* test_cpu.c: the fast CPU backend against the reference: every quantity, over sizes, widths, feature bits
 * and instruction sets; any number of threads gives the same bits; a ragged batch equals single calls
 * (backend_checks.h has the tolerances). */
#include "tbg_test.h"
#include "network/backend_checks.h"
#include "network/cpu.h"

static const char *const levels[] = {"avx512", "avx2", "base"};

static void compare(const variant *q, int n_levels, const char *const *names) {
    setup s = make_with_answers(q);
    for (int k = 0; k < n_levels; k++)
        against_answers(q, &s, "cpu", "TBG_SIMD", names[k], 0, 0);
    drop(&s);
}

static void sizes(void **state) {
    (void)state;
    static const variant list[] = {
        {2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1},
        {5, 8, 2, 15, 1, 1, 1, 1},
        {5, 32, 2, TBG_EDGE_D0, 0, 0, 1, 1},
        {22, 64, 5, TBG_EDGE_D0, 0, 0, 1, 1},
        {22, 64, 3, 7, 1, 1, 1, 1},
        {51, 32, 3, 15, 1, 1, 1, 1},
        {12, 128, 2, TBG_EDGE_D0, 0, 0, 1, 1},
        {7, 128, 5, 7, 1, 1, 1, 1},
        {3, 50, 2, 15, 1, 0, 1, 1},
        {9, 112, 2, 7, 1, 1, 1, 1},
    };
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        compare(&list[k], 3, levels);
}

static void switches(void **state) {
    (void)state;
    for (int bits = 0; bits < 16; bits++)
        for (int q = 0; q < 16; q++) {
            if ((bits * 7 + q) % 3)
                continue; /* a third of all combinations: each pair of switches occurs */
            variant one = {6, 16, 1 + (bits + q) % 5, bits, q & 1, q >> 1 & 1, q >> 2 & 1, q >> 3 & 1};
            compare(&one, 1, &levels[(bits + q) % 3]);
        }
}

/* The vectors of the published code, in single precision. */
static void published(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        tbg_vector_file *f = read_vectors(vector_names[k]);
        const size_t B = (size_t)f->n_samples, n3 = B * (size_t)f->n_atoms * 3;
        tbg_session *s;
        assert_ok(tbg_session_create(f->model, "cpu", f->n_atoms, 2, &s));
        const tbg_conditioning **molecule = malloc(B * sizeof *molecule);
        for (size_t b = 0; b < B; b++)
            molecule[b] = f->conditioning;
        double *v = malloc(n3 * sizeof *v), *divergence = malloc(B * sizeof *divergence);
        assert_ok(tbg_network_divergence(s, (int)B, molecule, f->t, f->x, v, divergence));
        assert_true(compare_arrays(vector_names[k], n3, v, f->velocity, 1, velocity_tolerance) <=
                    velocity_tolerance);
        assert_true(compare_arrays(vector_names[k], B, divergence, f->divergence, 1, divergence_tolerance) <=
                    divergence_tolerance);
        free(molecule);
        free(v);
        free(divergence);
        tbg_session_free(s);
        tbg_vector_file_free(f);
    }
}

/* Any number of threads gives the same bits. */
static void batches(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 3};
    const variant q = {9, 24, 3, 7, 1, 1, 1, 1};
    ragged_batch("cpu", &q, 37, 3, threads);
}

/* Positions far from the origin lose no digits; positions that are not finite, or coincide, do not crash. */
static void awkward(void **state) {
    (void)state;
    variant q = {5, 16, 2, 7, 1, 1, 1, 1};
    setup s = make(&q);
    const tbg_conditioning *c = s.chain;
    tbg_session *session;
    double v[15], w[15], d, e;
    assert_ok(tbg_session_create(s.model, "cpu", 5, 1, &session));
    assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, v, &d));
    for (int k = 0; k < 15; k++)
        s.x[k] += 1e6;
    assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, w, &e));
    assert_true(compare_arrays("far away", 15, w, v, 1, velocity_tolerance) <= velocity_tolerance);
    assert_true(compare_error(e, d, sqrt(15)) <= divergence_tolerance);
    for (int k = 0; k < 15; k++)
        s.x[k] = 0;
    assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, w, &e));
    for (int k = 0; k < 15; k++)
        assert_true(w[k] == 0); /* nothing to point along */
    static const double odd[3] = {NAN, INFINITY, 1e30};
    for (int k = 0; k < 3; k++) {
        s.x[4] = odd[k];
        assert_ok(tbg_network_divergence(session, 1, &c, &s.t, s.x, w, &e));
        if (k < 2)
            assert_false(isfinite(w[4]));
    }
    tbg_session_free(session);
    drop(&s);
}

/* Layers that run again in reverse instead of being stored give the same bits. */
static void stored_or_not(void **state) {
    (void)state;
    variant q = {9, 24, 4, 7, 1, 1, 1, 1};
    setup s = make(&q);
    const tbg_conditioning *c = s.chain;
    const size_t np = s.model->n_parameters, usual = tbg_cpu_most_stored;
    double weight = 1, loss[2], dx[2][27];
    float *g[2];
    for (int k = 0; k < 2; k++) {
        tbg_session *session;
        tbg_cpu_most_stored = k ? 0 : usual;
        g[k] = calloc(np, sizeof(float));
        assert_ok(tbg_session_create(s.model, "cpu", 9, 1, &session));
        assert_ok(tbg_network_loss(session, 1, &c, &s.t, s.x, s.target, &weight, &loss[k], g[k]));
        assert_ok(tbg_network_vjp(session, 1, &c, &s.t, s.x, s.target, dx[k], NULL));
        tbg_session_free(session);
    }
    tbg_cpu_most_stored = usual;
    assert_true(loss[0] == loss[1]);
    assert_memory_equal(g[0], g[1], np * sizeof(float));
    assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
    free(g[0]);
    free(g[1]);
    drop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes),     cmocka_unit_test(switches),
                                       cmocka_unit_test(published), cmocka_unit_test(batches),
                                       cmocka_unit_test(awkward),   cmocka_unit_test(stored_or_not)};
    int failed = cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
    show_errors();
    return failed;
}
