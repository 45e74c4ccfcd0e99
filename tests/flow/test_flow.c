/* test_flow.c: prior, solvers, quadrature and density against fields whose map is known, and against the
 * published code's flow (shared/vectors). */
#include "../network/vectors.h"
#include "tbg/schedule.h"
#include "flow/field.h"
#include <math.h>

/* Best field of independent Gaussian modes of widths s: x(1) = s x(0), log-det = sum ln s. */
typedef struct {
    const double *width; /* per component of a sample */
    int n3, calls, rows;
    int probe;    /* 1: says that its divergence is x_0, so that the integral shows the path */
    double swirl; /* adds a rotation in the plane of components 0 and 1: no divergence, same log-det */
} gaussian;

static int gaussian_field(void *self, int n, const int *which, const double *t, const double *x, double *v,
                          double *divergence) {
    gaussian *g = self;
    (void)which;
    g->calls++;
    g->rows += n;
    for (int b = 0; b < n; b++, x += g->n3, v += g->n3) {
        double s1 = 1 - t[b], div = 0;
        for (int k = 0; k < g->n3; k++) {
            double s = g->width[k], rate = (t[b] * s * s - s1) / (s1 * s1 + t[b] * t[b] * s * s);
            v[k] = rate * x[k];
            div += rate;
        }
        v[0] -= g->swirl * x[1];
        v[1] += g->swirl * x[0];
        if (divergence)
            divergence[b] = g->probe ? x[0] : div;
    }
    return TBG_OK;
}

/* 21 atoms with widths like bonds, angles and torsions; equal widths in 0 and 1, so that a rotation there
 * commutes. */
enum { ATOMS = 21, N3 = 3 * ATOMS };
static void widths(double *s) {
    for (int k = 0; k < N3; k++)
        s[k] = k % 3 == 0 ? 0.012 + 0.008 * k / N3 : k % 3 == 1 ? 0.03 + 0.03 * k / N3 : 0.1 + 1.2 * k / N3;
    s[1] = s[0];
}

static double exact_log_det(const double *s) {
    double sum = 0;
    for (int k = 0; k < N3; k++)
        sum += log(s[k]);
    return sum;
}

static tbg_flow_options usual(void) {
    tbg_flow_options o;
    tbg_flow_defaults(&o);
    o.graded_d = 0.01;
    return o;
}

static void prior(void **state) {
    (void)state;
    enum { N = 7, SAMPLES = 4000 };
    double z[3 * N], again[3 * N], squares = 0;
    for (uint64_t i = 0; i < SAMPLES; i++) {
        tbg_prior_sample(3, i, N, z);
        double sum[3] = {0};
        for (int k = 0; k < 3 * N; k++) {
            sum[k % 3] += z[k];
            squares += z[k] * z[k];
        }
        assert_true(fabs(sum[0]) + fabs(sum[1]) + fabs(sum[2]) < 1e-13);
    }
    /* chi^2 with 3 (N - 1) degrees of freedom a sample: mean and 5 sigma. */
    double freedom = 3.0 * (N - 1) * SAMPLES;
    assert_true(fabs(squares - freedom) < 5 * sqrt(2 * freedom));
    tbg_prior_sample(3, 17, N, z);
    tbg_prior_sample(3, 17, N, again);
    assert_memory_equal(z, again, sizeof z);
    tbg_prior_sample(4, 17, N, again);
    assert_true(memcmp(z, again, sizeof z) != 0);
    for (int k = 0; k < 3 * N; k++)
        z[k] = 0;
    assert_true(fabs(tbg_prior_log_density(N, z) + 1.5 * 6 * log(2 * M_PI)) < 1e-12);
    z[0] = 2;
    assert_true(fabs(tbg_prior_log_density(N, z) + 1.5 * 6 * log(2 * M_PI) + 2) < 1e-12);
}

static void quadrature_degree(void **state) {
    (void)state;
    double weight[25], half[13], f[25];
    for (int m = 12; m <= 24; m += 12) {
        tbg_clenshaw_weights(m, weight);
        tbg_clenshaw_weights(m / 2, half);
        for (int degree = 0; degree <= m + 2; degree++) { /* (1 - 2 s)^degree: odd ones vanish by symmetry */
            double integral, error, exact = degree % 2 ? 0 : 1.0 / (degree + 1);
            for (int k = 0; k <= m; k++)
                f[k] = pow(1 - 2 * tbg_clenshaw_node(m, k), degree);
            tbg_clenshaw_sum(m, 1, f, weight, half, &integral, &error);
            assert_true((fabs(integral - exact) < 1e-14) == (degree <= m || degree % 2));
            assert_true(fabs(integral - exact) <= error + 1e-14);
        }
    }
    /* Nested: the rule of 12 finds its nodes and weights in every other value of 24. */
    double integral[2], error[2], coarse[13];
    for (int k = 0; k <= 24; k++)
        f[k] = exp(tbg_clenshaw_node(24, k));
    for (int k = 0; k <= 12; k++)
        coarse[k] = exp(tbg_clenshaw_node(12, k));
    tbg_clenshaw_weights(12, weight);
    tbg_clenshaw_weights(6, half);
    tbg_clenshaw_sum(12, 2, f, weight, half, &integral[0], &error[0]);
    tbg_clenshaw_sum(12, 1, coarse, weight, half, &integral[1], &error[1]);
    assert_true(fabs(integral[0] - integral[1]) < 1e-15 && fabs(integral[0] - (exp(1) - 1)) < 1e-13);
}

/* The estimate must cover the true error, for targets that are easy, stiff, and too rough for the rule. */
static void quadrature_estimates_are_honest(void **state) {
    (void)state;
    int covered = 0, all = 0;
    for (int trial = 0; trial < 600; trial++) {
        int m = trial % 2 ? 12 : 24;
        double r[8], f[25], weight[25], half[13], exact = 0, integral, error;
        tbg_clenshaw_weights(m, weight);
        tbg_clenshaw_weights(m / 2, half);
        tbg_random_uniform(5, TBG_STREAM(TBG_STREAM_TEST, trial), 0, 8, r);
        double d = trial % 3 ? 0.05 : 0.1, wave = 1 + 24 * r[6], height = 4 * r[7] * (trial / 2 % 2);
        for (int i = 0; i <= m; i++)
            f[i] = 0;
        for (int q = 0; q < 6; q++) {
            double s = exp(log(0.012) * r[q]);
            exact += log(s);
            for (int i = 0; i <= m; i++) {
                double u = tbg_clenshaw_node(m, i), left = tbg_one_minus_time(d, u), t = 1 - left;
                f[i] += (t * s * s - left) / (left * left + t * t * s * s) * tbg_time_rate(d, u);
            }
        }
        exact += height * (1 - cos(wave)) / wave;
        for (int i = 0; i <= m; i++)
            f[i] += height * sin(wave * tbg_clenshaw_node(m, i));
        tbg_clenshaw_sum(m, 1, f, weight, half, &integral, &error);
        all++;
        covered += fabs(integral - exact) <= error + 1e-12;
    }
    assert_true(covered >= 0.99 * all);
}

/* The path between the ends of steps: fourth order, checked where steps end nowhere near the nodes. */
static void path_within_steps(void **state) {
    (void)state;
    double s[N3], z[N3], x[N3], error[2];
    int atoms = ATOMS;
    for (int k = 0; k < N3; k++)
        s[k] = 0.5;
    random_normal(6, N3, z);
    for (int fine = 0; fine < 2; fine++) {
        /* Its divergence is x_0 u-dependent: exact log-det int x_0(t) dt by a field with that divergence. */
        gaussian g = {.width = s, .n3 = N3, .probe = 1};
        tbg_field field = {gaussian_field, &g};
        tbg_flow_options o = usual();
        o.graded_d = 0;
        o.solver = TBG_SOLVER_FIXED;
        o.steps = fine ? 4 : 2;
        o.tolerance = 1e-9;
        o.most_refinements = 4;
        tbg_flow_result result;
        assert_ok(tbg_flow_push(&field, &o, 0, 1, &atoms, z, x, &result));
        /* x_0(t) = z_0 sqrt((1-t)^2 + t^2/4): with p = t - 4/5, 5/4 (p^2 + 4/25). */
        double a = 2.0 / 5, b = 0.2, c = -0.8;
        double hi = 0.5 * (b * sqrt(b * b + a * a) + a * a * asinh(b / a)),
               lo = 0.5 * (c * sqrt(c * c + a * a) + a * a * asinh(c / a));
        double exact = z[0] * sqrt(1.25) * (hi - lo);
        error[fine] = fabs(result.log_det - exact);
        assert_true(error[fine] < (fine ? 2e-6 : 5e-4));
        assert_int_equal(result.velocities, 6 * o.steps + 1);
    }
    assert_true(log2(error[0] / error[1]) > 3.5);
}

static void known_map_and_log_det(void **state) {
    (void)state;
    double s[N3], z[4 * N3], x[4 * N3], back[4 * N3];
    int atoms[4] = {ATOMS, ATOMS, ATOMS, ATOMS};
    widths(s);
    random_normal(1, 4 * N3, z);
    static const struct {
        tbg_solver solver;
        int steps;
        double tolerance, x_error, log_det_error;
        int most_divergences;
    } cases[] = {
        {TBG_SOLVER_ADAPTIVE, 24, 1e-5, 1e-4, 0.002, 25},
        {TBG_SOLVER_FIXED, 48, 1e-4, 1e-5, 0.002, 25},
        {TBG_SOLVER_PUBLISHED, 0, 1e-4, 0.02, 0.2, 200},
        {TBG_SOLVER_RK4, 2000, 1e-4, 1e-5, 1e-3, 8000},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        gaussian g = {.width = s, .n3 = N3, .swirl = 0};
        tbg_field field = {gaussian_field, &g};
        tbg_flow_options o = usual();
        o.solver = cases[c].solver;
        o.steps = cases[c].steps ? cases[c].steps : 1;
        o.solver_tolerance = cases[c].tolerance;
        tbg_flow_result result[4], result_back[4];
        assert_ok(tbg_flow_push(&field, &o, 0, 4, atoms, z, x, result));
        assert_ok(tbg_flow_push(&field, &o, 1, 4, atoms, x, back, result_back));
        for (int b = 0; b < 4; b++) {
            assert_int_equal(result[b].status, TBG_FLOW_OK);
            for (int k = 0; k < N3; k++) {
                assert_true(fabs(x[N3 * b + k] - s[k] * z[N3 * b + k]) <= cases[c].x_error);
                assert_true(fabs(back[N3 * b + k] - z[N3 * b + k]) <= 100 * cases[c].x_error);
            }
            assert_true(fabs(result[b].log_det - exact_log_det(s)) <= cases[c].log_det_error);
            assert_true(fabs(result_back[b].log_det - exact_log_det(s)) <= cases[c].log_det_error);
            assert_true(result[b].divergences <= cases[c].most_divergences);
            assert_true(result[b].error < 0.01);
            if (o.solver == TBG_SOLVER_ADAPTIVE || o.solver == TBG_SOLVER_FIXED)
                assert_true(fabs(result[b].log_det - exact_log_det(s)) <= result[b].error);
        }
    }
}

/* A rotation on top: x(1) turns by the swirl, log-det stays; and it is no longer true that components
 * decouple. */
static void rotating_field(void **state) {
    (void)state;
    double s[N3], z[N3], x[N3], swirl = 2.5;
    int atoms = ATOMS;
    widths(s);
    random_normal(2, N3, z);
    gaussian g = {.width = s, .n3 = N3, .swirl = swirl};
    tbg_field field = {gaussian_field, &g};
    tbg_flow_options o = usual();
    o.solver_tolerance = 1e-7;
    tbg_flow_result result;
    assert_ok(tbg_flow_push(&field, &o, 0, 1, &atoms, z, x, &result));
    assert_true(fabs(x[0] - s[0] * (cos(swirl) * z[0] - sin(swirl) * z[1])) < 1e-6);
    assert_true(fabs(x[1] - s[0] * (sin(swirl) * z[0] + cos(swirl) * z[1])) < 1e-6);
    assert_true(fabs(result.log_det - exact_log_det(s)) < 1e-3);
}

static double fixed_error(tbg_solver solver, int steps, const double *s, const double *z) {
    gaussian g = {.width = s, .n3 = N3, .swirl = 2};
    tbg_field field = {gaussian_field, &g};
    double x[N3];
    int atoms = ATOMS;
    tbg_flow_options o = usual();
    o.graded_d = 0;
    o.weights = 0;
    o.solver = solver;
    o.steps = steps;
    tbg_flow_result result;
    assert_ok(tbg_flow_push(&field, &o, 0, 1, &atoms, z, x, &result));
    assert_true(isnan(result.log_det));
    assert_int_equal(result.divergences, 0);
    double worst = fmax(fabs(x[0] - s[0] * (cos(2) * z[0] - sin(2) * z[1])), 0);
    for (int k = 2; k < N3; k++)
        worst = fmax(worst, fabs(x[k] - s[k] * z[k]));
    return worst;
}

static void order_of_convergence(void **state) {
    (void)state;
    double s[N3], z[N3];
    for (int k = 0; k < N3; k++)
        s[k] = k < 2 ? 0.5 : 0.3 + 0.7 * k / N3; /* smooth, so that the order shows at modest steps */
    random_normal(3, N3, z);
    double rk4 = log2(fixed_error(TBG_SOLVER_RK4, 40, s, z) / fixed_error(TBG_SOLVER_RK4, 80, s, z));
    double dopri = log2(fixed_error(TBG_SOLVER_FIXED, 20, s, z) / fixed_error(TBG_SOLVER_FIXED, 40, s, z));
    assert_true(rk4 > 3.7 && rk4 < 4.6);
    assert_true(dopri > 4.6 && dopri < 6);
}

/* Too few nodes for the target: the estimate says so and more nodes bring it under the tolerance. */
static void refinement(void **state) {
    (void)state;
    double s[N3], z[N3], x[N3], plain[N3];
    int atoms = ATOMS;
    widths(s);
    random_normal(4, N3, z);
    gaussian g = {.width = s, .n3 = N3};
    tbg_field field = {gaussian_field, &g};
    tbg_flow_options o = usual();
    o.graded_d = 0.5; /* nearly uniform time: hard */
    o.solver_tolerance = 1e-8;
    o.most_refinements = 0;
    tbg_flow_result once, more;
    assert_ok(tbg_flow_push(&field, &o, 0, 1, &atoms, z, plain, &once));
    double error_once = fabs(once.log_det - exact_log_det(s));
    assert_true(error_once > 0.02);        /* hard indeed */
    assert_true(once.error >= error_once); /* and it says so */
    assert_int_equal(once.divergences, 13);
    o.most_refinements = 6;
    assert_ok(tbg_flow_push(&field, &o, 0, 1, &atoms, z, x, &more));
    assert_true(more.error <= o.tolerance);
    assert_true(fabs(more.log_det - exact_log_det(s)) <= more.error);
    assert_true(more.divergences > 13);
    assert_memory_equal(x, plain, sizeof x); /* refinement touches the log-det only */
    assert_ok(tbg_flow_push(&field, &o, 1, 1, &atoms, plain, x, &more));
    assert_true(fabs(more.log_det - exact_log_det(s)) <= more.error);
}

static int wants_even(void *context, int n, const int *sample, const double *const *x,
                      unsigned char *wanted) {
    for (int q = 0; q < n; q++) {
        ((double *)context)[sample[q]] = x[q][0]; /* what arrived */
        wanted[q] = sample[q] % 2 == 0;
    }
    return TBG_OK;
}

/* Divergences are spent on wanted samples only; nothing else changes. Densities of given configurations are
 * always wanted. */
static void unwanted_densities_cost_nothing(void **state) {
    (void)state;
    double s[N3], z[4 * N3], all[4 * N3], some[4 * N3], arrived[4];
    int atoms[4] = {ATOMS, ATOMS, ATOMS, ATOMS};
    widths(s);
    random_normal(9, 4 * N3, z);
    gaussian g = {.width = s, .n3 = N3};
    tbg_field field = {gaussian_field, &g};
    tbg_flow_options o = usual();
    tbg_flow_result every[4], half[4];
    assert_ok(tbg_flow_push(&field, &o, 0, 4, atoms, z, all, every));
    o.wanted = wants_even;
    o.context = arrived;
    assert_ok(tbg_flow_push(&field, &o, 0, 4, atoms, z, some, half));
    assert_memory_equal(all, some, sizeof all);
    for (int b = 0; b < 4; b++) {
        assert_int_equal(half[b].status, TBG_FLOW_OK);
        assert_int_equal(half[b].velocities, every[b].velocities);
        assert_true(arrived[b] == all[b * N3]);
        if (b % 2 == 0) {
            assert_true(half[b].log_det == every[b].log_det && half[b].error == every[b].error);
            assert_true(half[b].divergences == every[b].divergences && every[b].divergences > 0);
        } else
            assert_true(isnan(half[b].log_det) && isnan(half[b].error) && half[b].divergences == 0);
    }
    assert_ok(tbg_flow_push(&field, &o, 1, 4, atoms, all, some, half));
    for (int b = 0; b < 4; b++)
        assert_true(half[b].divergences > 0 && isfinite(half[b].log_det));
}

static int bad_field(void *self, int n, const int *which, const double *t, const double *x, double *v,
                     double *divergence) {
    gaussian *g = self;
    int all = gaussian_field(self, n, which, t, x, v, divergence);
    for (int b = 0; b < n; b++)
        if (which[b] == 1 && t[b] > 0.5)
            v[b * g->n3 + 2] = NAN;
        else if (which[b] == 2 && divergence)
            divergence[b] = INFINITY;
    return all;
}

/* A sample that blows up is marked; the others are as if it was not there. */
static void failures_stay_alone(void **state) {
    (void)state;
    double s[N3], z[4 * N3], x[4 * N3], alone[N3];
    int atoms[4] = {ATOMS, ATOMS, ATOMS, ATOMS};
    widths(s);
    random_normal(5, 4 * N3, z);
    for (int solver = TBG_SOLVER_ADAPTIVE; solver <= TBG_SOLVER_RK4; solver++) {
        gaussian g = {.width = s, .n3 = N3};
        tbg_field bad = {bad_field, &g}, good = {gaussian_field, &g};
        tbg_flow_options o = usual();
        o.solver = (tbg_solver)solver;
        tbg_flow_result result[4], one;
        assert_ok(tbg_flow_push(&bad, &o, 0, 4, atoms, z, x, result));
        for (int b = 1; b < 3; b++) {
            assert_int_equal(result[b].status, TBG_FLOW_NOT_FINITE);
            assert_true(isnan(x[b * N3]) && isnan(result[b].log_det));
        }
        for (int b = 0; b < 4; b += 3) {
            assert_ok(tbg_flow_push(&good, &o, 0, 1, atoms, z + b * N3, alone, &one));
            assert_memory_equal(alone, x + b * N3, sizeof alone);
            assert_true(one.log_det == result[b].log_det);
            assert_int_equal(result[b].status, TBG_FLOW_OK);
        }
    }
    gaussian g = {.width = s, .n3 = N3};
    tbg_field good = {gaussian_field, &g};
    tbg_flow_options o = usual();
    tbg_flow_result result[4];
    o.most_steps = 3;
    assert_ok(tbg_flow_push(&good, &o, 0, 4, atoms, z, x, result));
    assert_int_equal(result[0].status, TBG_FLOW_STEP_LIMIT);
    z[5] = NAN;
    o.most_steps = 1000;
    assert_ok(tbg_flow_push(&good, &o, 0, 4, atoms, z, x, result));
    assert_int_equal(result[0].status, TBG_FLOW_NOT_FINITE);
    assert_int_equal(result[0].velocities, 0);
    assert_int_equal(result[1].status, TBG_FLOW_OK);
}

/* Stopped at t < 1: x / t has the widths of the target with noise of (1 - t)/t, by every solver, and the
 * quadrature's nodes lie before t. There and back returns. */
static void stopped_early(void **state) {
    (void)state;
    double s[N3], z[2 * N3], x[2 * N3], back[2 * N3], gone[2 * N3];
    int atoms[2] = {ATOMS, ATOMS};
    widths(s);
    random_normal(8, 2 * N3, z);
    static const struct {
        tbg_solver solver;
        int steps;
        double tolerance, x_error, log_det_error;
    } cases[] = {{TBG_SOLVER_ADAPTIVE, 24, 1e-6, 1e-4, 1e-3},
                 {TBG_SOLVER_FIXED, 48, 1e-4, 1e-5, 1e-3},
                 {TBG_SOLVER_PUBLISHED, 0, 1e-6, 1e-3, 5e-3},
                 {TBG_SOLVER_RK4, 400, 1e-4, 1e-5, 1e-4}};
    const double last[] = {0.35, 0.8, 0.97, 1 - 1e-12};
    for (int c = 0; c < 16; c++) {
        const double t = last[c % 4];
        gaussian g = {.width = s, .n3 = N3};
        tbg_field field = {gaussian_field, &g};
        tbg_flow_options o = usual();
        o.solver = cases[c / 4].solver;
        o.steps = cases[c / 4].steps ? cases[c / 4].steps : 1;
        if (t > 0.98 && o.solver == TBG_SOLVER_RK4)
            o.steps = 2000; /* stiff there: as in known_map_and_log_det */
        o.solver_tolerance = cases[c / 4].tolerance;
        o.tolerance = 1e-3;
        o.last_time = t;
        double log_det = -3.0 * (ATOMS - 1) * log(t), width[N3];
        for (int k = 0; k < N3; k++) {
            width[k] = hypot(1 - t, t * s[k]);
            log_det += log(width[k]);
        }
        tbg_flow_result there[2], returned[2], without[2];
        assert_ok(tbg_flow_push(&field, &o, 0, 2, atoms, z, x, there));
        assert_ok(tbg_flow_push(&field, &o, 1, 2, atoms, x, back, returned));
        o.weights = 0;
        assert_ok(tbg_flow_push(&field, &o, 0, 2, atoms, z, gone, without));
        for (int b = 0; b < 2; b++) {
            assert_int_equal(there[b].status, TBG_FLOW_OK);
            for (int k = N3 * b; k < N3 * (b + 1); k++) {
                double error = fabs(x[k] - width[k % N3] * z[k] / t);
                if (!(error <= cases[c / 4].x_error / t &&
                      fabs(back[k] - z[k]) <= 100 * cases[c / 4].x_error))
                    fail_msg("%s to %g: x off by %g, back by %g", tbg_solver_name(o.solver), t, error,
                             fabs(back[k] - z[k]));
                assert_true(fabs(gone[k] - x[k]) <= 2 * cases[c / 4].x_error / t);
            }
            double off = fabs(there[b].log_det - log_det), off_back = fabs(returned[b].log_det - log_det);
            if (!(off <= cases[c / 4].log_det_error && off_back <= cases[c / 4].log_det_error))
                fail_msg("%s to %g: log-det off by %g, back by %g", tbg_solver_name(o.solver), t, off,
                         off_back);
            assert_true(there[b].error <= o.tolerance && returned[b].error <= o.tolerance);
        }
    }
}

/* The caller is asked about the configurations x / t, and a failed sample stays alone there, too. */
static void stopped_early_asks(void **state) {
    (void)state;
    double s[N3], z[4 * N3], x[4 * N3], arrived[4];
    int atoms[4] = {ATOMS, ATOMS, ATOMS, ATOMS};
    widths(s);
    random_normal(9, 4 * N3, z);
    gaussian g = {.width = s, .n3 = N3};
    tbg_field field = {gaussian_field, &g}, bad = {bad_field, &g};
    tbg_flow_options o = usual();
    tbg_flow_result result[4], spoilt[4];
    o.last_time = 0.6;
    o.wanted = wants_even;
    o.context = arrived;
    assert_ok(tbg_flow_push(&field, &o, 0, 4, atoms, z, x, result));
    for (int b = 0; b < 4; b++) {
        assert_true(arrived[b] == x[b * N3]);
        assert_true((isfinite(result[b].log_det) != 0) == (b % 2 == 0));
    }
    o.wanted = NULL;
    assert_ok(tbg_flow_push(&bad, &o, 0, 4, atoms, z, x, spoilt));
    assert_int_equal(spoilt[1].status, TBG_FLOW_NOT_FINITE);
    assert_true(isnan(x[N3]) && isnan(spoilt[1].log_det) && spoilt[0].log_det == result[0].log_det);
}

/* (1 - t)/t is the noise that is missing, in scaled units. */
static void last_times(void **state) {
    (void)state;
    const double scale[] = {1, 6, 30}, trained[] = {0, 0.025, 0.1}, more[] = {1e-3, 0.05, 2};
    for (int i = 0; i < 27; i++) {
        double k = scale[i % 3], s = trained[i / 3 % 3], S = s + more[i / 9], t = tbg_flow_last_time(k, s, S);
        assert_true(t > 0 && t < 1);
        double noise = (1 - t) / (t * k); /* nm */
        assert_true(fabs(sqrt(noise * noise + s * s) / S - 1) < 1e-12);
    }
    assert_true(tbg_flow_last_time(6, 0, 0) == 1 && tbg_flow_last_time(6, 0.025, 0.025) == 1);
    assert_true(tbg_flow_last_time(6, 0.025, 0.02) == 1);
    assert_true(fabs(tbg_flow_last_time(10, 0.03, 0.05) - 1 / 1.4) < 1e-15);
}

static void options_are_checked(void **state) {
    (void)state;
    tbg_flow_options good = usual(), o;
    tbg_solver solver;
    assert_ok(tbg_flow_check(&good));
#define REFUSED(change)                                                                                      \
    o = good;                                                                                                \
    change;                                                                                                  \
    assert_int_equal(tbg_flow_check(&o), TBG_INPUT)
    REFUSED(o.solver = 7);
    REFUSED(o.steps = 0);
    REFUSED(o.tolerance = NAN);
    REFUSED(o.tolerance = 0);
    REFUSED(o.solver_tolerance = -1);
    REFUSED(o.most_refinements = 1000);
    REFUSED(o.most_steps = 0);
    REFUSED(o.graded_d = 2);
    REFUSED(o.last_time = 0);
    assert_non_null(strstr(tbg_message(), "last time 0;"));
    REFUSED(o.last_time = -0.5);
    REFUSED(o.last_time = 1.0001);
    assert_non_null(strstr(tbg_message(), "1.0001"));
    REFUSED(o.last_time = NAN);
    o = good;
    o.last_time = 1;
    assert_ok(tbg_flow_check(&o));
    for (int s = 0; s <= TBG_SOLVER_RK4; s++) {
        assert_ok(tbg_solver_parse(tbg_solver_name((tbg_solver)s), &solver));
        assert_int_equal(solver, s);
    }
    assert_int_equal(tbg_solver_parse("euler", &solver), TBG_INPUT);
}

/* ---- networks ---- */

static void published_flow(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) { /* the larger one: tbg verify, which takes seconds */
        tbg_vector_file *f = read_vectors(vector_names[k]);
        tbg_session *s;
        assert_ok(tbg_session_create(f->model, "reference", f->n_atoms, 1, &s));
        const tbg_conditioning *c = f->conditioning;
        tbg_flow_options o = usual();
        o.solver = TBG_SOLVER_RK4;
        o.steps = f->flow_steps;
        tbg_flow_result result;
        double x[3 * 64], want[3 * 64];
        assert_true(f->flow_steps > 0 && f->n_atoms <= 64);
        memcpy(want, f->sample, 3 * (size_t)f->n_atoms * sizeof(double));
        tbg_remove_mean(f->n_atoms, want);
        assert_ok(tbg_flow_forward(s, &o, 1, &c, f->latent, x, &result));
        assert_true(compare_arrays("sample", 3 * (size_t)f->n_atoms, x, want, 1e-3, 1e-10) <= 1e-10);
        assert_true(compare_error(result.log_det, f->log_det, 1) <= 1e-10);
        assert_int_equal(result.divergences, 4 * f->flow_steps);
        /* The default solver finds the same map and log-det, up to the error of the steps above (a third
         * method). */
        o.solver = TBG_SOLVER_ADAPTIVE;
        o.solver_tolerance = 1e-9;
        o.tolerance = 1e-6;
        o.most_refinements = 7;
        assert_ok(tbg_flow_forward(s, &o, 1, &c, f->latent, x, &result));
        assert_true(compare_arrays("adaptive", 3 * (size_t)f->n_atoms, x, want, 1e-1, 1e-4) <= 1e-4);
        assert_true(fabs(result.log_det - f->log_det) <= 1e-4);
        tbg_session_free(s);
        tbg_vector_file_free(f);
    }
}

/* Ragged batches: each sample as it is alone, whatever the threads; and density finds its way back. */
static void there_and_back(void **state) {
    (void)state;
    tbg_network_spec spec = improved_spec();
    tbg_model *m;
    assert_ok(tbg_model_create(&spec, 11, &m));
    double *noise = random_array(2000, m->n_parameters);
    for (size_t i = 0; i < m->n_parameters; i++)
        m->values[i] = (float)(m->values[i] + 0.05 * noise[i]);
    free(noise);
    tbg_conditioning *a = made_up_chain(4, 4, 60), *b = made_up_chain(6, 4, 61);
    const tbg_conditioning *molecule[5] = {a, b, b, a, b};
    int at[5] = {0, 12, 30, 48, 60};
    tbg_session *one, *two;
    assert_ok(tbg_session_create(m, "reference", 6, 1, &one));
    assert_ok(tbg_session_create(m, "reference", 6, 2, &two));
    tbg_flow_options o;
    tbg_flow_defaults(&o);
    o.solver_tolerance = 1e-7; /* steps are as long as it allows */
    double z[78], x[78], alone[18], z_alone[18];
    tbg_flow_result result[5], r;
    assert_ok(tbg_flow_sample(two, &o, 5, molecule, 9, 100, z, x, result));
    for (int s = 0; s < 5; s++) {
        int n3 = 3 * molecule[s]->n_atoms;
        assert_ok(tbg_flow_sample(one, &o, 1, &molecule[s], 9, 100 + (uint64_t)s, z_alone, alone, &r));
        assert_memory_equal(z_alone, z + at[s], (size_t)n3 * sizeof(double));
        assert_memory_equal(alone, x + at[s], (size_t)n3 * sizeof(double));
        assert_true(r.log_q == result[s].log_q && isfinite(r.log_q));
        double moved = 0;
        for (int k = 0; k < n3; k++)
            moved += fabs(alone[k] - z_alone[k]);
        assert_true(moved > 0.1);
    }
    tbg_flow_consistency c;
    assert_ok(tbg_flow_check_consistency(two, &o, 5, molecule, z, x, result, &c));
    assert_int_equal(c.n, 5);
    assert_true(c.largest > 0 && c.largest < 1e-4);
    assert_true(c.log_q_largest < 0.01 && c.log_q_rms > 0);
    /* Without weights: the same positions. */
    o.weights = 0;
    assert_ok(tbg_flow_sample(two, &o, 5, molecule, 9, 100, NULL, z, result));
    assert_memory_equal(z, x, sizeof x);
    assert_true(isnan(result[0].log_q));
    /* Stopped early. */
    o.weights = 1;
    o.last_time = 0.7;
    double early[78], latent[78];
    assert_ok(tbg_flow_sample(two, &o, 5, molecule, 9, 100, latent, early, result));
    assert_true(fabs(early[0] - x[0]) > 1e-3);
    assert_ok(tbg_flow_check_consistency(two, &o, 5, molecule, latent, early, result, &c));
    assert_true(c.n == 5 && c.largest > 0 && c.largest < 1e-4 && c.log_q_largest < 0.01);
    tbg_session_free(one);
    tbg_session_free(two);
    tbg_conditioning_free(a);
    tbg_conditioning_free(b);
    tbg_model_free(m);
}

/* Counts as docs/flow.md measured them; more for more accuracy; a divergence at each stage brings its
 * velocity. */
static void typical_counts(void **state) {
    (void)state;
    tbg_flow_options o = usual();
    double v, d, least[2], most[2];
    tbg_flow_typical(&o, &v, &d);
    assert_true(v == 64 && fabs(d - 19) < 1);
    static const double measured[][2] = {{0.3, 14.6}, {0.05, 20.8}, {0.01, 31}, {0.001, 51.4}};
    for (int k = 0; k < 4; k++) {
        o.tolerance = measured[k][0];
        tbg_flow_typical(&o, &v, &d);
        assert_true(fabs(d / measured[k][1] - 1) < 0.1);
    }
    o.tolerance = 1e3;
    o.solver_tolerance = 1e-5;
    tbg_flow_typical(&o, &least[0], &least[1]);
    assert_true(least[0] < 60 && least[1] == 13);
    o.tolerance = 1e-12;
    o.solver_tolerance = 1e-6;
    tbg_flow_typical(&o, &most[0], &most[1]);
    assert_true(fabs(most[0] - 76) < 4 && most[1] == 385);
    o.weights = 0;
    tbg_flow_typical(&o, &v, &d);
    assert_true(v == most[0] && d == 0);
    o.solver = TBG_SOLVER_RK4;
    o.steps = 10;
    tbg_flow_typical(&o, &v, &d);
    assert_true(v == 40 && d == 0);
    o.weights = 1;
    tbg_flow_typical(&o, &v, &d);
    assert_true(v == 0 && d == 40);
    o.solver = TBG_SOLVER_FIXED;
    tbg_flow_typical(&o, &v, &d);
    assert_true(v == 61 && d == 385);
    const tbg_flow_speed speed = {100, 10};
    assert_true(fabs(tbg_flow_seconds(&o, &speed) - (0.61 + 38.5)) < 1e-12);
    o.weights = 0; /* divergences need no speed then */
    assert_true(fabs(tbg_flow_seconds(&o, &(tbg_flow_speed){100, 0}) - 0.61) < 1e-12);
}

/* The estimate is of the kind of the time that sampling takes. */
static void speed_is_measured(void **state) {
    (void)state;
    tbg_network_spec spec = improved_spec();
    tbg_model *m = made_up_model(&spec, 5);
    tbg_conditioning *c = made_up_chain(6, 4, 9);
    tbg_session *session;
    tbg_flow_speed speed, without;
    tbg_flow_options o;
    tbg_flow_defaults(&o);
    assert_ok(tbg_session_create(m, NULL, c->n_atoms, 1, &session));
    assert_ok(tbg_flow_measure(session, c, 1, 1, 0.05, &speed));
    assert_true(isfinite(speed.velocities) && isfinite(speed.divergences));
    assert_true(speed.divergences > 0 && speed.velocities > speed.divergences);
    assert_ok(tbg_flow_measure(session, c, 3, 0, 0, &without)); /* no time: one call */
    assert_true(without.velocities > 0 && without.divergences == 0);
    double each = tbg_flow_seconds(&o, &speed);
    assert_true(isfinite(each) && each > 0);
    assert_int_equal(tbg_flow_measure(session, c, 0, 1, 0.05, &speed), TBG_INPUT);
    tbg_session_free(session);
    tbg_conditioning_free(c);
    tbg_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(prior),
                                       cmocka_unit_test(quadrature_degree),
                                       cmocka_unit_test(quadrature_estimates_are_honest),
                                       cmocka_unit_test(path_within_steps),
                                       cmocka_unit_test(known_map_and_log_det),
                                       cmocka_unit_test(rotating_field),
                                       cmocka_unit_test(order_of_convergence),
                                       cmocka_unit_test(refinement),
                                       cmocka_unit_test(unwanted_densities_cost_nothing),
                                       cmocka_unit_test(failures_stay_alone),
                                       cmocka_unit_test(stopped_early),
                                       cmocka_unit_test(stopped_early_asks),
                                       cmocka_unit_test(last_times),
                                       cmocka_unit_test(options_are_checked),
                                       cmocka_unit_test(typical_counts),
                                       cmocka_unit_test(speed_is_measured),
                                       cmocka_unit_test(published_flow),
                                       cmocka_unit_test(there_and_back)};
    return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
