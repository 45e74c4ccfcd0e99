/* test_chirality.c: the chirality term: symmetries, derivatives by finite differences, its sign, and that it
 * is the same on every backend. */
#include "tbg_test.h"
#include "network/chirality.h"
#include "network/kernels.h"
#include "tbg/random.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_conditioning *c;
    tbg_model *model;
    size_t numbers;
    double *x; /* near the start geometry, scaled */
} fixture;

/* Weights drawn anew for all tensors that start at zero, so that every term takes part. */
static fixture make(const char *sequence, uint64_t seed) {
    fixture f = {0};
    tbg_network_spec spec;
    assert_ok(tbg_network_preset("improved-ad", &spec));
    spec.features = TBG_FEATURES_FULL;
    spec.n_features = tbg_feature_set_width(spec.features);
    spec.hidden = 16;
    spec.layers = 2;
    spec.scale = 5;
    spec.chirality_term = 1;
    assert_ok(tbg_molecule_from_sequence(sequence, &f.molecule));
    assert_ok(tbg_system_create(f.molecule, "amber14-obc1", -1, &f.system));
    assert_ok(tbg_conditioning_create(&spec, f.molecule, f.system, 310, &f.c));
    assert_ok(tbg_model_create(&spec, seed, &f.model));
    for (int k = 0; k < f.model->n_tensors; k++) {
        const tbg_parameter *p = &f.model->tensors[k];
        if (strstr(p->name, "gate") || strstr(p->name, "chirality_mlp.2") || strstr(p->name, "coord_mlp.2"))
            for (int i = 0; i < p->rows * p->columns; i++)
                f.model->values[p->offset + (size_t)i] = 0.4f * (float)sin(1.3 * i + k);
    }
    f.numbers = 3 * (size_t)f.molecule->n_atoms;
    f.x = malloc(f.numbers * sizeof *f.x);
    for (size_t k = 0; k < f.numbers; k++)
        f.x[k] = 5 * f.molecule->positions[k / 3][k % 3] + 0.2 * sin(1.7 * (double)k);
    return f;
}

static void drop(fixture *f) {
    free(f->x);
    tbg_model_free(f->model);
    tbg_conditioning_free(f->c);
    tbg_system_free(f->system);
    tbg_molecule_free(f->molecule);
}

/* Centres of the start geometry (L everywhere) have positive volumes near the force field's own. */
static void centres_are_those_of_the_molecule(void **state) {
    (void)state;
    static const struct {
        const char *sequence;
        int centres;
    } cases[] = {{"KS", 2}, {"IT", 4}, {"GV", 1}, {"GG", 0}};
    for (int k = 0; k < 4; k++) {
        fixture f = make(cases[k].sequence, 1);
        assert_int_equal(f.c->n_centres, cases[k].centres);
        for (int m = 0; m < f.c->n_centres; m++) {
            const tbg_chiral_centre *c = &f.c->centres[m];
            double a[3][3];
            for (int i = 0; i < 3; i++)
                for (int d = 0; d < 3; d++)
                    a[i][d] =
                        5 * (f.molecule->positions[c->atom[i + 1]][d] - f.molecule->positions[c->atom[0]][d]);
            double v = a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) +
                       a[0][1] * (a[1][2] * a[2][0] - a[1][0] * a[2][2]) +
                       a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]);
            assert_true(v > 0.75 * c->volume && v < 1.25 * c->volume);
        }
        drop(&f);
    }
}

static double total(const tbg_chirality *term, const fixture *f, double t, const double *x, const double *y) {
    double *v = calloc(f->numbers, sizeof *v), sum = 0;
    tbg_chirality_velocity(term, f->c, t, x, v);
    for (size_t k = 0; k < f->numbers; k++)
        sum += v[k] * y[k];
    free(v);
    return sum;
}

/* Tangent, divergence, dx and the gradient of the weights against central differences; no net translation;
 * turning x turns v, mirroring x does not mirror it. */
static void derivatives_and_symmetries(void **state) {
    (void)state;
    fixture f = make("IT", 2);
    tbg_chirality term;
    assert_true(tbg_chirality_of(f.model, &term));
    size_t n = f.numbers;
    double *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y), *z = malloc(n * sizeof *z);
    double *v = calloc(n, sizeof *v), *w = calloc(n, sizeof *w), *dx = calloc(n, sizeof *dx);
    double *gradient = calloc(f.model->n_parameters, sizeof *gradient), t = 0.7, h = 1e-5;
    tbg_random_normal(3, TBG_STREAM(TBG_STREAM_TEST, 0), 0, n, y);
    tbg_random_normal(3, TBG_STREAM(TBG_STREAM_TEST, 1), 0, n, z);
    for (int noisy = 0; noisy < 2; noisy++) { /* near the molecule, and where centres point anywhere */
        for (size_t k = 0; k < n; k++)
            x[k] = f.x[k] + (noisy ? 0.8 * sin(3.1 * (double)k) : 0);
        memset(v, 0, n * sizeof *v);
        memset(dx, 0, n * sizeof *dx);
        memset(gradient, 0, f.model->n_parameters * sizeof *gradient);
        tbg_chirality_tangent(&term, f.c, t, x, z, v);
        double along = 0, divergence = 0;
        for (size_t k = 0; k < n; k++)
            along += v[k] * y[k];
        double *moved = malloc(n * sizeof *moved);
        for (size_t k = 0; k < n; k++)
            moved[k] = x[k] + h * z[k];
        double up = total(&term, &f, t, moved, y);
        for (size_t k = 0; k < n; k++)
            moved[k] = x[k] - h * z[k];
        assert_true(compare_error(along, (up - total(&term, &f, t, moved, y)) / (2 * h), 1e-3) < 1e-6);
        tbg_chirality_reverse(&term, f.c, t, x, y, dx, gradient);
        double back = 0;
        for (size_t k = 0; k < n; k++)
            back += dx[k] * z[k];
        assert_true(compare_error(back, along, 1e-6) < 1e-10);
        for (size_t k = 0; k < n; k++) {
            memset(w, 0, n * sizeof *w);
            memcpy(moved, x, n * sizeof *moved);
            moved[k] += h;
            tbg_chirality_velocity(&term, f.c, t, moved, w);
            double plus = w[k];
            memset(w, 0, n * sizeof *w);
            moved[k] -= 2 * h;
            tbg_chirality_velocity(&term, f.c, t, moved, w);
            divergence += (plus - w[k]) / (2 * h);
        }
        assert_true(compare_error(tbg_chirality_divergence(&term, f.c, t, x), divergence, 1e-3) < 1e-6);
        for (size_t k = term.at_w; k < f.model->n_parameters; k++) {
            float kept = f.model->values[k], step = 1e-3f;
            f.model->values[k] = kept + step;
            double plus = total(&term, &f, t, x, y), real = (double)f.model->values[k];
            f.model->values[k] = kept - step;
            real -= (double)f.model->values[k];
            double slope = (plus - total(&term, &f, t, x, y)) / real;
            f.model->values[k] = kept;
            assert_true(fabs(gradient[k] - slope) < 1e-5 + 1e-4 * fabs(slope));
        }
        memset(v, 0, n * sizeof *v);
        tbg_chirality_velocity(&term, f.c, t, x, v);
        double net[3] = {0}, size = 0, turned = 0, mirrored = 0, c = cos(1.1), s = sin(1.1);
        for (size_t k = 0; k < n; k++) {
            net[k % 3] += v[k];
            size += v[k] * v[k];
        }
        assert_true(size > 1e-5 && fabs(net[0]) + fabs(net[1]) + fabs(net[2]) < 1e-12);
        for (size_t k = 0; k < n; k += 3) {
            moved[k] = c * x[k] - s * x[k + 1] + 1;
            moved[k + 1] = s * x[k] + c * x[k + 1] - 2;
            moved[k + 2] = x[k + 2] + 3;
        }
        memset(w, 0, n * sizeof *w);
        tbg_chirality_velocity(&term, f.c, t, moved, w);
        for (size_t k = 0; k < n; k += 3)
            turned = fmax(turned, fabs(w[k] - (c * v[k] - s * v[k + 1])) +
                                      fabs(w[k + 1] - (s * v[k] + c * v[k + 1])) + fabs(w[k + 2] - v[k + 2]));
        for (size_t k = 0; k < n; k++)
            moved[k] = -x[k];
        memset(w, 0, n * sizeof *w);
        tbg_chirality_velocity(&term, f.c, t, moved, w);
        for (size_t k = 0; k < n; k++)
            mirrored = fmax(mirrored, fabs(w[k] + v[k]));
        assert_true(turned < 1e-12 && mirrored > 0.1 * sqrt(size));
        free(moved);
    }
    free(x);
    free(y);
    free(z);
    free(v);
    free(w);
    free(dx);
    free(gradient);
    drop(&f);
}

/* Through the session: velocity, divergence, tangent, loss with its gradient and vjp of every backend agree
 * with the oracle, and the oracle's gradient of the loss with finite differences. */
static void backends_agree(void **state) {
    (void)state;
    static const char *const names[] = {"reference", "cpu", "cuda-emulation"};
    fixture f = make("AS", 4), g = make("GV", 4);
    enum { B = 3 };
    const tbg_conditioning *molecule[B] = {f.c, g.c, f.c};
    size_t n = 2 * f.numbers + g.numbers, np = f.model->n_parameters;
    double *x = malloc(n * sizeof *x), *target = malloc(n * sizeof *target), *dot = malloc(n * sizeof *dot);
    double t[B] = {0.3, 0.8, 0.95}, weight[B] = {0.2, 0.5, 0.3};
    double *v[3], *v_dot[3], *dx[3], *dw[3], divergence[3][B], loss[3][B];
    float *gradient[3];
    memcpy(x, f.x, f.numbers * sizeof *x);
    memcpy(x + f.numbers, g.x, g.numbers * sizeof *x);
    for (size_t k = 0; k < f.numbers; k++)
        x[f.numbers + g.numbers + k] = f.x[k] + 0.5 * cos((double)k);
    tbg_random_normal(5, TBG_STREAM(TBG_STREAM_TEST, 2), 0, n, target);
    tbg_random_normal(5, TBG_STREAM(TBG_STREAM_TEST, 3), 0, n, dot);
    for (int s = 0; s < 3; s++) {
        tbg_session *session;
        v[s] = malloc(n * sizeof *v[s]);
        v_dot[s] = malloc(n * sizeof *v_dot[s]);
        dx[s] = malloc(n * sizeof *dx[s]);
        dw[s] = malloc(np * sizeof *dw[s]);
        gradient[s] = malloc(np * sizeof *gradient[s]);
        assert_ok(tbg_session_create(f.model, names[s],
                                     f.c->n_atoms > g.c->n_atoms ? f.c->n_atoms : g.c->n_atoms, 2, &session));
        assert_ok(tbg_network_tangent(session, B, molecule, t, x, dot, v[s], v_dot[s]));
        assert_ok(tbg_network_divergence(session, B, molecule, t, x, NULL, divergence[s]));
        assert_ok(tbg_network_vjp(session, B, molecule, t, x, dot, dx[s], dw[s]));
        double *again = malloc(n * sizeof *again);
        assert_ok(tbg_network_velocity(session, B, molecule, t, x, again));
        for (size_t k = 0; k < n; k++)
            assert_true(fabs(again[k] - v[s][k]) < 1e-5 * (1 + fabs(v[s][k])));
        free(again);
        double without[B], error = 0, size = 0;
        assert_ok(tbg_network_loss(session, B, molecule, t, x, target, weight, without, NULL));
        assert_ok(tbg_network_loss(session, B, molecule, t, x, target, weight, loss[s], gradient[s]));
        size_t at = 0;
        for (int b = 0; b < B; b++) {
            double sum = 0;
            size_t numbers = 3 * (size_t)molecule[b]->n_atoms;
            for (size_t k = 0; k < numbers; k++, at++)
                sum += (v[s][at] - target[at]) * (v[s][at] - target[at]) / (double)numbers;
            assert_true(compare_error(loss[s][b], sum, 0) < 1e-5 && compare_error(without[b], sum, 0) < 1e-5);
            assert_true(compare_error(divergence[s][b], divergence[0][b], 1) < 1e-4);
        }
        for (size_t k = 0; k < n; k++) {
            error = fmax(error, fabs(v[s][k] - v[0][k]) + fabs(v_dot[s][k] - v_dot[0][k]) +
                                    fabs(dx[s][k] - dx[0][k]));
            size = fmax(size, fabs(v[0][k]) + fabs(v_dot[0][k]) + fabs(dx[0][k]));
        }
        assert_true(error < 1e-4 * size);
        error = size = 0;
        for (size_t k = 0; k < np; k++) {
            error = fmax(error,
                         (double)fabsf(gradient[s][k] - gradient[0][k]) + 1e-2 * fabs(dw[s][k] - dw[0][k]));
            size = fmax(size, (double)fabsf(gradient[0][k]) + 1e-2 * fabs(dw[0][k]));
        }
        assert_true(error < 1e-3 * size);
        if (s == 0) {
            const tbg_parameter *first = tbg_model_tensor(f.model, "egnn.chirality_mlp.0.weight");
            for (size_t k = first->offset; k < np; k += 7) {
                float kept = f.model->values[k];
                double mean[2], real[2];
                for (int side = 0; side < 2; side++) {
                    f.model->values[k] = kept + (side ? -1e-3f : 1e-3f);
                    real[side] = (double)f.model->values[k];
                    assert_ok(tbg_session_refresh(session));
                    assert_ok(tbg_network_loss(session, B, molecule, t, x, target, weight, without, NULL));
                    mean[side] = 0;
                    for (int b = 0; b < B; b++)
                        mean[side] += weight[b] * without[b];
                }
                f.model->values[k] = kept;
                double slope = (mean[0] - mean[1]) / (real[0] - real[1]);
                assert_true(fabs((double)gradient[0][k] - slope) < 1e-6 + 1e-4 * fabs(slope));
            }
        }
        tbg_session_free(session);
    }
    for (int s = 0; s < 3; s++) {
        free(v[s]);
        free(v_dot[s]);
        free(dx[s]);
        free(dw[s]);
        free(gradient[s]);
    }
    free(x);
    free(target);
    free(dot);
    drop(&f);
    drop(&g);
}

/* A model without the term becomes one with it, and is the same field still. */
static void extension_changes_nothing(void **state) {
    (void)state;
    fixture f = make("AS", 6);
    tbg_network_spec plain = f.model->spec;
    tbg_model *small, *large;
    tbg_session *session;
    plain.chirality_term = 0;
    assert_ok(tbg_model_create(&plain, 8, &small));
    assert_ok(tbg_model_extend(small, &f.model->spec, 9, &large));
    double *v = malloc(f.numbers * sizeof *v), *w = malloc(f.numbers * sizeof *w), t = 0.4;
    const tbg_conditioning *c = f.c;
    assert_ok(tbg_session_create(small, "reference", c->n_atoms, 1, &session));
    assert_ok(tbg_network_velocity(session, 1, &c, &t, f.x, v));
    tbg_session_free(session);
    assert_ok(tbg_session_create(large, "reference", c->n_atoms, 1, &session));
    assert_ok(tbg_network_velocity(session, 1, &c, &t, f.x, w));
    tbg_session_free(session);
    assert_memory_equal(v, w, f.numbers * sizeof *v);
    char path[] = "/tmp/tbg-chirality-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    tbg_model *read;
    assert_ok(tbg_model_write(large, path));
    assert_ok(tbg_model_read(path, &read));
    assert_int_equal(read->spec.chirality_term, 1);
    assert_memory_equal(read->values, large->values, large->n_parameters * sizeof *large->values);
    tbg_model_free(read);
    read = NULL;
    assert_int_equal(tbg_model_extend(large, &plain, 9, &read), TBG_INPUT); /* not the other way */
    remove(path);
    free(v);
    free(w);
    tbg_model_free(small);
    tbg_model_free(large);
    drop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(centres_are_those_of_the_molecule), cmocka_unit_test(derivatives_and_symmetries),
        cmocka_unit_test(backends_agree), cmocka_unit_test(extension_changes_nothing)};
    return cmocka_run_group_tests_name("chirality", tests, NULL, NULL);
}
