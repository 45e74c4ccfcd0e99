/* test_sites.c: virtual sites: where they are, their derivatives, and a field that tells left from right on
 * every backend. */
#include "network/sites.h"
#include "network/vectors.h"
#include <math.h>

typedef struct {
    tbg_molecule *molecule;
    tbg_conditioning *c;
    tbg_model *model;
    int n3;
    double *x;
} subject;

static subject make(const char *sequence) {
    subject s;
    tbg_network_spec spec;
    assert_ok(tbg_network_preset("tbg-full", &spec));
    spec.hidden = 8;
    spec.layers = 3;
    spec.virtual_sites = 1;
    spec.scale = 4;
    spec.harmonic_term = 1;
    spec.edge_features = TBG_EDGE_D0 | TBG_EDGE_BONDED | TBG_EDGE_RATE;
    tbg_system *system;
    assert_ok(tbg_molecule_from_sequence(sequence, &s.molecule));
    assert_ok(tbg_system_create(s.molecule, "amber14-obc1", -1, &system));
    assert_ok(tbg_conditioning_create(&spec, s.molecule, system, 310, &s.c));
    tbg_system_free(system);
    s.model = made_up_model(&spec, 4);
    s.n3 = 3 * s.c->n_atoms;
    s.x = random_array(3, (size_t)s.n3);
    for (int k = 0; k < s.n3; k++) /* a molecule with noise */
        s.x[k] = 4 * s.molecule->positions[k / 3][k % 3] + 0.3 * s.x[k];
    return s;
}

static void drop(subject *s) {
    free(s->x);
    tbg_model_free(s->model);
    tbg_conditioning_free(s->c);
    tbg_molecule_free(s->molecule);
}

static double apart(const double *a, const double *b) {
    return sqrt(pow(a[0] - b[0], 2) + pow(a[1] - b[1], 2) + pow(a[2] - b[2], 2));
}

/* A site is where the hydrogen of an L amino acid is, and far from it in the mirror image of the neighbours.
 */
static void beside_hydrogens(void **state) {
    (void)state;
    static const char *const sequences[] = {"AR", "ND", "CQ", "EH", "IL", "KM",
                                            "FP", "ST", "WY", "VI", "TV", "LG"};
    static const int sites[] = {2, 2, 2, 2, 4, 2, 2, 3, 2, 4, 4, 2};
    for (size_t k = 0; k < sizeof sequences / sizeof *sequences; k++) {
        subject s = make(sequences[k]);
        double *x = malloc((size_t)s.n3 * sizeof *x), *all = malloc((size_t)(s.n3 + 12) * sizeof *all);
        assert_int_equal(s.c->n_sites, sites[k]);
        for (int i = 0; i < s.n3; i++)
            x[i] = 4 * s.molecule->positions[i / 3][i % 3];
        tbg_sites_place(s.c, x, all);
        for (int q = 0; q < s.c->n_sites; q++) {
            const int *site = s.c->sites[q];
            double *h = x + 3 * site[4], *c = x + 3 * site[0], other[3];
            assert_true(apart(all + s.n3 + 3 * q, h) < 4 * 0.04);
            for (int a = 0; a < 3; a++)
                other[a] = 2 * c[a] - h[a];
            assert_true(apart(all + s.n3 + 3 * q, other) > 4 * 0.18);
        }
        free(x);
        free(all);
        drop(&s);
    }
}

static void derivatives_of_places(void **state) {
    (void)state;
    subject s = make("IV");
    size_t all = (size_t)(s.n3 + 3 * s.c->n_sites);
    double *dot = random_array(8, (size_t)s.n3), *cotangent = random_array(9, all),
           *dx = malloc((size_t)s.n3 * sizeof *dx);
    double *place[4], *slope = malloc(all * sizeof *slope), *x = malloc((size_t)s.n3 * sizeof *x);
    const double h = 1e-4, steps[4] = {-2, -1, 1, 2};
    for (int q = 0; q < 4; q++) {
        for (int k = 0; k < s.n3; k++)
            x[k] = s.x[k] + steps[q] * h * dot[k];
        tbg_sites_place(s.c, x, place[q] = malloc(all * sizeof **place));
    }
    tbg_sites_tangent(s.c, s.x, dot, slope);
    double forward = 0, backward = 0;
    for (size_t k = 0; k < all; k++) {
        double want = (place[0][k] - 8 * place[1][k] + 8 * place[2][k] - place[3][k]) / (12 * h);
        assert_true(fabs(slope[k] - want) < 1e-8);
        forward += cotangent[k] * slope[k];
    }
    tbg_sites_transposed(s.c, s.x, cotangent, dx);
    for (int k = 0; k < s.n3; k++)
        backward += dx[k] * dot[k];
    assert_true(fabs(forward - backward) < 1e-11 * (1 + fabs(forward)));
    for (int q = 0; q < 4; q++)
        free(place[q]);
    free(dot);
    free(cotangent);
    free(dx);
    free(slope);
    free(x);
    drop(&s);
}

static double largest(int n, const double *a, const double *b) {
    double most = 0;
    for (int k = 0; k < n; k++)
        most = fmax(most, fabs(a[k] - b[k]));
    return most;
}

static void rotations_only(void **state) {
    (void)state;
    subject s = make("KT");
    const tbg_conditioning *list[1] = {s.c};
    const double t = 0.6, r[9] = {0.36, 0.48, -0.8, -0.8, 0.6, 0, 0.48, 0.64, 0.6};
    tbg_session *session;
    assert_ok(tbg_session_create(s.model, "reference", s.c->n_atoms, 1, &session));
    double *v = malloc((size_t)s.n3 * 5 * sizeof *v), *turned = v + s.n3, *got = turned + s.n3,
           *want = got + s.n3, *mirrored = want + s.n3, mean[3] = {0}, size = 0;
    assert_ok(tbg_network_velocity(session, 1, list, &t, s.x, v));
    for (int i = 0; i < s.n3; i += 3)
        for (int a = 0; a < 3; a++) {
            turned[i + a] = want[i + a] = 0;
            mirrored[i + a] = -s.x[i + a];
            mean[a] += v[i + a];
            size = fmax(size, fabs(v[i + a]));
            for (int b = 0; b < 3; b++) {
                turned[i + a] += r[3 * a + b] * s.x[i + b];
                want[i + a] += r[3 * a + b] * v[i + b];
            }
        }
    assert_true(fabs(mean[0]) + fabs(mean[1]) + fabs(mean[2]) < 1e-12 * s.n3 * size);
    assert_ok(tbg_network_velocity(session, 1, list, &t, turned, got));
    assert_true(largest(s.n3, got, want) < 1e-11 * (1 + size));
    assert_ok(tbg_network_velocity(session, 1, list, &t, mirrored, got));
    for (int k = 0; k < s.n3; k++)
        got[k] = -got[k];
    assert_true(largest(s.n3, got, v) > 1e-3 * size);
    tbg_session_free(session);
    free(v);
    drop(&s);
}

/* A ragged batch with and without sites. Tangent against differences, divergence against all tangents,
 * reverse against forward, the loss's gradient against differences. */
static void one_field(void **state) {
    (void)state;
    subject s = make("VT"), g = make("GG");
    const tbg_conditioning *list[3] = {s.c, g.c, s.c};
    const double t[3] = {0.3, 0.8, 0.93}, h = 1e-4, steps[4] = {-2, -1, 1, 2};
    size_t n = (size_t)(2 * s.n3 + g.n3);
    assert_int_equal(g.c->n_sites, 0);
    double *x = random_array(21, n), *dot = random_array(22, n), *dv = random_array(23, n),
           *dx = malloc(n * sizeof *dx);
    double *v = malloc(n * sizeof *v), *v_dot = malloc(n * sizeof *v_dot), *near[4],
           *moved = malloc(n * sizeof *moved);
    double divergence[3], trace[3] = {0};
    for (int k = 0; k < s.n3; k++) {
        x[k] = s.x[k];
        x[s.n3 + g.n3 + k] = s.x[k] + 0.1 * dot[k];
    }
    for (int k = 0; k < g.n3; k++)
        x[s.n3 + k] = g.x[k];
    tbg_session *session;
    assert_ok(tbg_session_create(s.model, "reference", s.c->n_atoms, 2, &session));
    assert_ok(tbg_network_tangent(session, 3, list, t, x, dot, v, v_dot));
    for (int q = 0; q < 4; q++) {
        for (size_t k = 0; k < n; k++)
            moved[k] = x[k] + steps[q] * h * dot[k];
        assert_ok(tbg_network_velocity(session, 3, list, t, moved, near[q] = malloc(n * sizeof **near)));
    }
    double size = 0, forward = 0, backward = 0;
    for (size_t k = 0; k < n; k++)
        size = fmax(size, fabs(v_dot[k]));
    for (size_t k = 0; k < n; k++) {
        double want = (near[0][k] - 8 * near[1][k] + 8 * near[2][k] - near[3][k]) / (12 * h);
        assert_true(fabs(v_dot[k] - want) < 1e-6 * size);
        forward += dv[k] * v_dot[k];
    }
    assert_ok(tbg_network_velocity(session, 3, list, t, x, moved));
    assert_true(largest((int)n, moved, v) < 1e-12 * size);
    assert_ok(tbg_network_vjp(session, 3, list, t, x, dv, dx, NULL));
    for (size_t k = 0; k < n; k++)
        backward += dx[k] * dot[k];
    assert_true(fabs(forward - backward) < 1e-10 * (1 + fabs(forward)));

    assert_ok(tbg_network_divergence(session, 3, list, t, x, v, divergence));
    assert_true(largest((int)n, moved, v) < 1e-12 * size);
    int start = 0;
    for (int b = 0; b < 3; b++) {
        int n3 = 3 * list[b]->n_atoms;
        for (int k = 0; k < n3; k++) {
            memset(dot, 0, (size_t)n3 * sizeof *dot);
            dot[k] = 1;
            assert_ok(tbg_network_tangent(session, 1, list + b, t + b, x + start, dot, NULL, v_dot));
            trace[b] += v_dot[k];
        }
        assert_true(fabs(trace[b] - divergence[b]) < 1e-10 * (1 + fabs(trace[b])));
        start += n3;
    }

    const double weight[3] = {0.5, 0.2, 0.3};
    double loss[3], change = 0, slope = 0;
    float *gradient = malloc(s.model->n_parameters * sizeof *gradient),
          *keep = malloc(s.model->n_parameters * sizeof *keep);
    double *way = random_array(30, s.model->n_parameters);
    assert_ok(tbg_network_loss(session, 3, list, t, x, dv, weight, loss, gradient));
    memcpy(keep, s.model->values, s.model->n_parameters * sizeof *keep);
    const double part[4] = {1, -8, 8, -1}, far = 0.002;
    for (size_t i = 0; i < s.model->n_parameters; i++)
        slope += (double)gradient[i] * (float)way[i];
    for (int q = 0; q < 4; q++) {
        for (size_t i = 0; i < s.model->n_parameters; i++)
            s.model->values[i] = keep[i] + (float)(steps[q] * far * (float)way[i]);
        assert_ok(tbg_session_refresh(session));
        assert_ok(tbg_network_loss(session, 3, list, t, x, dv, weight, loss, NULL));
        for (int b = 0; b < 3; b++)
            change += part[q] * weight[b] * loss[b] / (12 * far);
    }
    assert_true(fabs(change - slope) < 2e-3 * fabs(slope));
    tbg_session_free(session);
    for (int q = 0; q < 4; q++)
        free(near[q]);
    free(x);
    free(dot);
    free(dv);
    free(dx);
    free(v);
    free(v_dot);
    free(moved);
    free(gradient);
    free(keep);
    free(way);
    drop(&s);
    drop(&g);
}

static void backends_agree(void **state) {
    (void)state;
    static const char *const backends[] = {"cpu", "cuda-emulation"};
    subject s = make("TV");
    const tbg_conditioning *list[2] = {s.c, s.c};
    const double t[2] = {0.4, 0.95}, weight[2] = {0.4, 0.6};
    size_t n = 2 * (size_t)s.n3, np = s.model->n_parameters;
    double *x = random_array(40, n), *target = random_array(41, n), *v[2], divergence[2][2], loss[2][2];
    float *gradient[2];
    for (size_t k = 0; k < n; k++)
        x[k] = s.x[k % (size_t)s.n3] + 0.05 * x[k];
    for (size_t q = 0; q <= sizeof backends / sizeof *backends; q++) {
        tbg_session *session;
        int k = q > 0;
        assert_ok(tbg_session_create(s.model, q ? backends[q - 1] : "reference", s.c->n_atoms, 2, &session));
        v[k] = malloc(n * sizeof **v);
        gradient[k] = malloc(np * sizeof **gradient);
        assert_ok(tbg_network_divergence(session, 2, list, t, x, v[k], divergence[k]));
        assert_ok(tbg_network_loss(session, 2, list, t, x, target, weight, loss[k], gradient[k]));
        tbg_session_free(session);
        if (!q)
            continue;
        double size = 0, difference = 0;
        for (size_t i = 0; i < n; i++)
            size = fmax(size, fabs(v[0][i]));
        assert_true(largest((int)n, v[0], v[1]) < 1e-4 * size);
        for (int b = 0; b < 2; b++) {
            assert_true(fabs(divergence[1][b] / divergence[0][b] - 1) < 1e-3);
            assert_true(fabs(loss[1][b] / loss[0][b] - 1) < 1e-3);
        }
        size = 0;
        for (size_t i = 0; i < np; i++) {
            size = fmax(size, fabs((double)gradient[0][i]));
            difference = fmax(difference, fabs((double)gradient[0][i] - (double)gradient[1][i]));
        }
        assert_true(difference < 1e-2 * size);
        free(v[1]);
        free(gradient[1]);
    }
    free(v[0]);
    free(gradient[0]);
    free(x);
    free(target);
    drop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_hydrogens), cmocka_unit_test(derivatives_of_places),
        cmocka_unit_test(rotations_only),   cmocka_unit_test(one_field),
        cmocka_unit_test(backends_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
