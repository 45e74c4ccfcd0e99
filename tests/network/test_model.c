/* test_model.c: parameter table, initialisation, model files, hostile files. */
#include "network/vectors.h"
#include <math.h>
#include <unistd.h>

static void published_counts(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t n;
    } want[] = {{"bg-backbone", 147599},
                {"ad-full", 149147},
                {"tbg", 1044239},
                {"tbg-backbone", 1046295},
                {"tbg-full", 1062486}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        tbg_network_spec spec;
        tbg_model *m;
        assert_ok(tbg_network_preset(want[i].name, &spec));
        assert_ok(tbg_model_create(&spec, 1, &m));
        assert_int_equal(m->n_parameters, want[i].n);
        size_t next = 0;
        for (int k = 0; k < m->n_tensors; k++) { /* no gaps, no overlaps */
            assert_int_equal(m->tensors[k].offset, next);
            next += (size_t)m->tensors[k].rows * (size_t)m->tensors[k].columns;
        }
        assert_int_equal(next, m->n_parameters);
        tbg_model_free(m);
    }
    tbg_network_spec spec;
    assert_int_equal(tbg_network_preset("tbg-huge", &spec), TBG_INPUT);
}

static void initialisation(void **state) {
    (void)state;
    tbg_network_spec spec;
    tbg_model *a, *b, *c;
    assert_ok(tbg_network_preset("improved-ad", &spec));
    assert_ok(tbg_model_create(&spec, 5, &a));
    assert_ok(tbg_model_create(&spec, 5, &b));
    assert_ok(tbg_model_create(&spec, 6, &c));
    assert_memory_equal(a->values, b->values, a->n_parameters * sizeof(float));
    assert_true(memcmp(a->values, c->values, a->n_parameters * sizeof(float)) != 0);
    for (int k = 0; k < a->n_tensors; k++) {
        const tbg_parameter *p = &a->tensors[k];
        size_t n = (size_t)p->rows * (size_t)p->columns;
        double most = 0, mean = 0, bound = 0;
        for (size_t i = 0; i < n; i++) {
            most = fmax(most, fabs(a->values[p->offset + i]));
            mean += a->values[p->offset + i] / (double)n;
        }
        if (strstr(p->name, "harmonic_gate")) {
            assert_true(most == 0);
            continue;
        }
        const tbg_parameter *weight = p->rank == 2 ? p : p - 1;
        bound = strstr(p->name, "coord_mlp.2") ? 0.001 * sqrt(6.0 / 65) : 1 / sqrt(weight->columns);
        assert_true(most <= bound * 1.0001);
        if (n > 1000) {
            assert_true(most > 0.98 * bound);
            assert_true(fabs(mean) < 5 * bound / sqrt(3.0 * (double)n));
        }
    }
    tbg_model_free(a);
    tbg_model_free(b);
    tbg_model_free(c);
}

static char folder[] = "/tmp/tbg-test-model-XXXXXX";
static char path[128];

static double not_smoothed = 0, smoothed = 0.0251;

static void write_and_read(void **state) {
    tbg_network_spec spec = improved_spec();
    spec.virtual_sites = 1;
    spec.smoothing = *(double *)*state;
    tbg_model *m = made_up_model(&spec, 3), *copy, *read;
    m->temperature = 310.15;
    m->forcefield = strdup("amber14-obc1");
    m->molecules = strdup("AC,DE");
    m->training_json = strdup("{\"steps\": 3}");
    assert_ok(tbg_model_clone(m, &copy));
    assert_ok(tbg_model_write(copy, path));
    assert_ok(tbg_model_read(path, &read));
    assert_memory_equal(read->values, m->values, m->n_parameters * sizeof(float));
    assert_string_equal(read->forcefield, m->forcefield);
    assert_string_equal(read->molecules, m->molecules);
    assert_string_equal(read->training_json, m->training_json);
    assert_true(read->temperature == m->temperature);
    tbg_network_spec a = read->spec, b = m->spec;
    assert_true(a.hidden == b.hidden && a.layers == b.layers && a.features == b.features &&
                a.n_features == b.n_features && a.time_u == b.time_u && a.edge_features == b.edge_features &&
                a.harmonic_term == b.harmonic_term && a.tanh == b.tanh && a.attention == b.attention &&
                a.coords_range == b.coords_range && a.scale == b.scale && a.graded_d == b.graded_d &&
                a.virtual_sites == b.virtual_sites && a.smoothing == b.smoothing);
    assert_non_null(tbg_model_tensor(read, "egnn.gcl_2.harmonic_gate.weight"));
    assert_null(tbg_model_tensor(read, "egnn.gcl_3.edge_mlp.0.weight"));
    tbg_model_free(m);
    tbg_model_free(copy);
    tbg_model_free(read);
}

/* Any cut and any damaged byte: an error with a message, or a model whose numbers are finite; never a crash.
 */
static void hostile_files(void **state) {
    (void)state;
    char *data;
    size_t size;
    tbg_model *m;
    assert_ok(tbg_file_read(path, 1 << 26, &data, &size));
    for (size_t cut = 0; cut < size; cut = cut < 2000 ? cut + 97 : cut + size / 7) {
        assert_ok(tbg_file_write(path, data, cut));
        assert_int_equal(tbg_model_read(path, &m), TBG_INPUT);
        assert_true(strlen(tbg_message()) > 0);
    }
    for (size_t at = 0; at < size; at = at < 3000 ? at + 61 : at + size / 5) {
        char old = data[at];
        data[at] = (char)(old ^ 0x15);
        assert_ok(tbg_file_write(path, data, size));
        if (tbg_model_read(path, &m) == TBG_OK) {
            for (size_t i = 0; i < m->n_parameters; i++)
                assert_true(isfinite(m->values[i]));
            tbg_model_free(m);
        }
        data[at] = old;
    }
    /* A huge specification in a small file must be refused before memory is asked for. */
    char *hidden = memmem(data, size, "\"hidden\":\"9\"", 12);
    if (hidden) {
        memcpy(hidden, "\"hidden\":\"8\"", 12);
        assert_ok(tbg_file_write(path, data, size));
        assert_int_equal(tbg_model_read(path, &m), TBG_INPUT);
    }
    free(data);
}

static void nan_in_a_model(void **state) {
    (void)state;
    tbg_network_spec spec = improved_spec();
    tbg_model *m = made_up_model(&spec, 3), *read;
    m->values[17] = NAN;
    assert_ok(tbg_model_write(m, path));
    assert_int_equal(tbg_model_read(path, &read), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "egnn.embedding"));
    tbg_model_free(m);
}

static void bad_specifications(void **state) {
    (void)state;
    tbg_network_spec good = improved_spec(), s;
    assert_ok(tbg_network_spec_check(&good));
#define REFUSED(change)                                                                                      \
    s = good;                                                                                                \
    change;                                                                                                  \
    assert_int_equal(tbg_network_spec_check(&s), TBG_INPUT)
    REFUSED(s.hidden = 0);
    REFUSED(s.layers = -1);
    REFUSED(s.layers = 65);
    REFUSED(s.n_features = 0);
    REFUSED(s.features = 9);
    REFUSED(s.features = TBG_FEATURES_FULL);
    REFUSED(s.edge_features = 32);
    REFUSED(s.smoothing = -0.01);
    REFUSED(s.smoothing = NAN);
    REFUSED(s.scale = NAN);
    REFUSED(s.scale = -1);
    REFUSED(s.coords_range = 0);
    REFUSED(s.graded_d = 2);
    REFUSED(s.tanh = 2);
}

static int start(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return 0;
}
static int stop(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_counts),
                                       cmocka_unit_test(initialisation),
                                       cmocka_unit_test_prestate(write_and_read, &smoothed),
                                       cmocka_unit_test_prestate(write_and_read, &not_smoothed),
                                       cmocka_unit_test(hostile_files),
                                       cmocka_unit_test(nan_in_a_model),
                                       cmocka_unit_test(bad_specifications)};
    return cmocka_run_group_tests_name("model", tests, start, stop);
}
