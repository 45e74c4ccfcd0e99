/* test_grow.c: a grown network has the field it grew from, and all that is new can be trained. */
#include "network/kernels.h"
#include "network/vectors.h"
#include <math.h>

enum { N = 7, FEATURES = 5 };

static tbg_network_spec spec_of(int improved) {
    tbg_network_spec spec;
    assert_ok(tbg_network_preset(improved ? "improved-ad" : "tbg", &spec));
    spec.features = TBG_FEATURES_RAW;
    spec.n_features = FEATURES;
    spec.hidden = 6;
    spec.layers = 2;
    spec.scale = 1;
    if (improved)
        spec.edge_features |= TBG_EDGE_SHELL | TBG_EDGE_RADIAL;
    return spec;
}

static void evaluate(const tbg_model *m, const tbg_conditioning *c, const double *x, double *v,
                     double *divergence, double *loss, float *gradient) {
    tbg_session *s;
    double t = 0.6, one = 1, target[3 * N];
    for (int i = 0; i < 3 * N; i++)
        target[i] = sin(i);
    assert_ok(tbg_session_create(m, "reference", N, 1, &s));
    assert_ok(tbg_network_divergence(s, 1, &c, &t, x, v, divergence));
    assert_ok(tbg_network_loss(s, 1, &c, &t, x, target, &one, loss, gradient));
    tbg_session_free(s);
}

/* Largest gradient in rows [r0, r1), columns [c0, c1) of a tensor. */
static double reach(const tbg_model *m, const float *gradient, const char *name, int r0, int r1, int c0,
                    int c1) {
    const tbg_parameter *p = tbg_model_tensor(m, name);
    double most = 0;
    assert_non_null(p);
    for (int r = r0; r < r1; r++)
        for (int c = c0; c < c1; c++)
            most = fmax(most, fabs(gradient[p->offset + (size_t)(r * p->columns + c)]));
    return most;
}

static void same_field(void **state) {
    (void)state;
    static const int sizes[][2] = {{6, 2}, {9, 2}, {6, 4}, {16, 3}};
    for (int improved = 0; improved < 2; improved++) {
        tbg_network_spec spec = spec_of(improved);
        tbg_model *m = made_up_model(&spec, 4), *grown;
        m->temperature = 310;
        m->forcefield = strdup("amber14-obc1");
        tbg_conditioning *c = made_up_chain(N, FEATURES, 5);
        double *x = random_array(6, 3 * N), v[3 * N], w[3 * N], d, e, loss, loss2;
        evaluate(m, c, x, v, &d, &loss, NULL);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            int H = sizes[k][0], L = sizes[k][1];
            assert_ok(tbg_model_grow(m, H, L, 11, &grown));
            assert_int_equal(grown->spec.hidden, H);
            assert_int_equal(grown->spec.layers, L);
            assert_string_equal(grown->forcefield, "amber14-obc1");
            assert_true(grown->temperature == 310);
            float *g = malloc(grown->n_parameters * sizeof *g);
            evaluate(grown, c, x, w, &e, &loss2, g);
            assert_true(compare_arrays("velocity", 3 * N, w, v, 1, 1e-13) <= 1e-13);
            assert_true(compare_error(e, d, 1) <= 1e-12 && compare_error(loss2, loss, 1) <= 1e-12);
            if (H > 6) { /* what is there begins to hear what is new */
                assert_true(reach(grown, g, "egnn.gcl_0.edge_mlp.0.weight", 0, 6, 6, H) > 1e-6);
                assert_true(reach(grown, g, "egnn.gcl_0.edge_mlp.2.weight", 0, 6, 6, H) > 1e-6);
                assert_true(reach(grown, g, "egnn.gcl_1.coord_mlp.2.weight", 0, 1, 6, H) > 1e-6);
                assert_true(reach(grown, g, "egnn.gcl_0.node_mlp.0.weight", 0, 6, H + 6, 2 * H) > 1e-6);
            }
            if (L > 2)
                assert_true(reach(grown, g, "egnn.gcl_2.coord_mlp.2.weight", 0, 1, 0, H) > 1e-6);
            free(g);
            tbg_model_free(grown);
        }
        assert_int_equal(tbg_model_grow(m, 5, 2, 11, &grown), TBG_INPUT);
        assert_int_equal(tbg_model_grow(m, 6, 1, 11, &grown), TBG_INPUT);
        free(x);
        tbg_conditioning_free(c);
        tbg_model_free(m);
    }
}

/* New channels differ from each other and from those of another seed. */
static void new_channels(void **state) {
    (void)state;
    tbg_network_spec spec = spec_of(1);
    tbg_model *m = made_up_model(&spec, 4), *a, *b;
    assert_ok(tbg_model_grow(m, 9, 2, 11, &a));
    assert_ok(tbg_model_grow(m, 9, 2, 12, &b));
    const tbg_parameter *p = tbg_model_tensor(a, "egnn.gcl_1.edge_mlp.2.weight");
    for (int r = 6; r < 9; r++) {
        const float *row = a->values + p->offset + 9 * r, *other = b->values + p->offset + 9 * r;
        assert_true(memcmp(row, other, 9 * sizeof *row) != 0);
        assert_true(r == 6 || memcmp(row, row - 9, 9 * sizeof *row) != 0);
    }
    tbg_model_free(a);
    tbg_model_free(b);
    tbg_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_field), cmocka_unit_test(new_channels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
