/* test_vectors.c: the reference against the published network code (shared/vectors). Observed errors: 2e-15
 * to 3e-13 for doubles; gradients are stored as float32 (6e-8). */
#include "network/vectors.h"

static void check_file(const char *name, int with_divergence) {
    tbg_vector_file *f = read_vectors(name);
    int B = f->n_samples, N = f->n_atoms;
    size_t n3 = (size_t)B * (size_t)N * 3, np = f->model->n_parameters;
    tbg_session *s;
    assert_ok(tbg_session_create(f->model, "reference", N, 0, &s));
    const tbg_conditioning **molecule = malloc((size_t)B * sizeof *molecule);
    double *v = malloc(n3 * sizeof *v), *divergence = malloc((size_t)B * sizeof *divergence);
    double *weight = malloc((size_t)B * sizeof *weight), *loss = malloc((size_t)B * sizeof *loss), mean = 0;
    float *gradient = malloc(np * sizeof *gradient);
    for (int b = 0; b < B; b++) {
        molecule[b] = f->conditioning;
        weight[b] = 1.0 / B;
    }
    assert_ok(tbg_network_velocity(s, B, molecule, f->t, f->x, v));
    assert_true(compare_arrays("velocity", n3, v, f->velocity, 1e-3, 1e-10) <= 1e-10);
    if (with_divergence) {
        memset(v, 0, n3 * sizeof *v);
        assert_ok(tbg_network_divergence(s, B, molecule, f->t, f->x, v, divergence));
        assert_true(compare_arrays("velocity beside divergence", n3, v, f->velocity, 1e-3, 1e-10) <= 1e-10);
        assert_true(compare_arrays("divergence", (size_t)B, divergence, f->divergence, 1e-3, 1e-10) <= 1e-10);
    }
    assert_ok(tbg_network_loss(s, B, molecule, f->t, f->x, f->target, weight, loss, gradient));
    for (int b = 0; b < B; b++)
        mean += loss[b] / B;
    assert_true(compare_error(mean, f->loss, 0) <= 1e-12);
    for (int k = 0; k < f->model->n_tensors; k++) {
        const tbg_parameter *p = &f->model->tensors[k];
        size_t n = (size_t)p->rows * (size_t)p->columns, zeros = 0;
        double *got = malloc(n * sizeof *got);
        for (size_t i = 0; i < n; i++) {
            got[i] = gradient[p->offset + i];
            zeros += f->gradient[p->offset + i] == 0 && got[i] == 0;
        }
        if (zeros < n) /* parts that v does not use */
            assert_true(compare_arrays(p->name, n, got, f->gradient + p->offset, 1e-4, 1e-5) <= 1e-5);
        free(got);
    }
    free(molecule);
    free(v);
    free(divergence);
    free(weight);
    free(loss);
    free(gradient);
    tbg_session_free(s);
    tbg_vector_file_free(f);
}

static void tiny(void **state) {
    (void)state;
    check_file("egnn_tiny", 1);
}
static void tiny_without(void **state) {
    (void)state;
    check_file("egnn_tiny_no_attention_no_tanh", 1);
}
static void alanine_dipeptide(void **state) {
    (void)state;
    check_file("egnn_alanine_dipeptide", 1);
}
static void dipeptide_full(void **state) {
    (void)state;
    check_file("egnn_dipeptide_full", 0); /* its divergence: tbg verify, which takes seconds */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiny), cmocka_unit_test(tiny_without),
                                       cmocka_unit_test(alanine_dipeptide), cmocka_unit_test(dipeptide_full)};
    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
