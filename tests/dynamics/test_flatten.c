/* test_flatten.c: the bias along phi: its torsion terms, how it is found, weights that lead back to the
 * unbiased distribution (a molecule whose phi has a known one), stopping and resuming, refusals. */
#include "tbg_test.h"
#include "dynamics/peptide.h"
#include "dynamics/simulation.h"
#include "dynamics/statistics.h"
#include "tbg/energy.h"
#include "tbg/file.h"
#include "tbg/random.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tbg_torsion phi;

static int set_up(void **state) {
    int n;
    tbg_torsion *all;
    if (peptide_setup(state) || tbg_backbone_torsions(molecule, &n, &all))
        return -1;
    for (int t = 0; t < n; t++)
        if (!strcmp(all[t].name, "phi1"))
            phi = all[t];
    free(all);
    return 0;
}

/* ---- a model torsion: two basins, 4.7 kT apart, barriers of 8 and 10 kT ---- */

#define KT (TBG_BOLTZMANN * 300)
enum { MODEL_TERMS = 3 };

static void model_terms(tbg_torsion_term term[MODEL_TERMS]) {
    static const double barrier[MODEL_TERMS] = {2.6 * KT, 3.5 * KT, 1.1 * KT},
                        phase[MODEL_TERMS] = {1.5, 2.6, 0.5};
    for (int m = 0; m < MODEL_TERMS; m++)
        term[m] = (tbg_torsion_term){phi.atoms[0], phi.atoms[1], phi.atoms[2], phi.atoms[3],
                                     m + 1,        phase[m],     barrier[m]};
}

static double model_energy(double angle) {
    tbg_torsion_term term[MODEL_TERMS];
    double sum = 0;
    model_terms(term);
    for (int m = 0; m < MODEL_TERMS; m++)
        sum += term[m].barrier * (1 + cos(term[m].periodicity * angle - term[m].phase));
    return sum;
}

/* P(low < phi < high) of the model. */
static double model_population(double low, double high) {
    enum { N = 20000 };
    double in = 0, all = 0;
    for (int i = 0; i < N; i++) {
        double at = 2 * M_PI * (i + 0.5) / N - M_PI, p = exp(-model_energy(at) / KT);
        all += p;
        in += at > low && at < high ? p : 0;
    }
    return in / all;
}

/* Alanine dipeptide with bonds, angles and the model's terms about phi, and nothing else: bond lengths and
 * angles do not notice phi, so that its distribution is exp(-U/kT) exactly. */
static tbg_system model_system(tbg_torsion_term term[MODEL_TERMS]) {
    tbg_system s = *peptide;
    model_terms(term);
    s.torsions = term;
    s.n_torsions = MODEL_TERMS;
    s.n_pairs = s.n_pairs14 = 0;
    s.gb = TBG_GB_NONE;
    return s;
}

/* ---- the fit ---- */

/* Random angles of exp(-(U + bias)/kT), by rejection. */
static void draw(const double *bias, uint64_t stream, int64_t n, double *out) {
    double lowest = INFINITY;
    for (int i = 0; i < 720; i++)
        lowest = fmin(lowest, model_energy(i * M_PI / 360) + tbg_flatten_series_value(bias, i * M_PI / 360));
    uint64_t at = 0;
    for (int64_t i = 0; i < n; at += 2) {
        double u[2];
        tbg_random_uniform(3, TBG_STREAM(TBG_STREAM_TEST, stream), at, 2, u);
        double angle = 2 * M_PI * u[0] - M_PI;
        if (u[1] < 0.9 * exp((lowest - model_energy(angle) - tbg_flatten_series_value(bias, angle)) / KT))
            out[i++] = angle;
    }
}

static void the_bias_levels_the_free_energy(void **state) {
    (void)state;
    enum { STAGES = 4, N = 2000 };
    double series[STAGES + 1][TBG_FLATTEN_SERIES] = {{0}}, *angle = malloc(STAGES * N * sizeof *angle);
    int64_t count[STAGES];
    for (int s = 0; s < STAGES; s++) {
        count[s] = N;
        draw(series[s], (uint64_t)s, N, angle + s * N);
        assert_ok(tbg_flatten_fit(1, s + 1, series[0], count, angle, KT, 8, series[s + 1]));
    }
    /* Where the free energy is below the cap, it and the bias add up to a constant. */
    double low = INFINITY, high = -INFINITY, lowest = INFINITY, inside = 0, all = 0;
    for (int i = 0; i < 360; i++)
        lowest = fmin(lowest, model_energy(i * M_PI / 180));
    for (int i = 0; i < 360; i++) {
        double at = (i - 180) * M_PI / 180,
               left = model_energy(at) + tbg_flatten_series_value(series[STAGES], at);
        all += exp(-left / KT);
        inside += at > 0 && at < 2 ? exp(-left / KT) : 0;
        if (model_energy(at) - lowest > 6 * KT)
            continue;
        low = fmin(low, left / KT);
        high = fmax(high, left / KT);
    }
    if (!(high - low < 1.5))
        fail_msg("after %d stages %g kT are left", STAGES, high - low);
    assert_true(model_population(0, 2) < 0.02 && inside / all > 0.15 && inside / all < 0.6);
    /* Two torsions at once: each its own, although both biases act. */
    double both[2][TBG_FLATTEN_SERIES], zero[2][TBG_FLATTEN_SERIES] = {{0}},
                                        *pairs = malloc(2 * N * sizeof *pairs);
    draw(zero[0], 9, N, angle);
    draw(zero[0], 10, N, angle + N);
    for (int i = 0; i < N; i++) {
        pairs[2 * i] = angle[i];
        pairs[2 * i + 1] = -angle[N + i]; /* mirrored */
    }
    assert_ok(tbg_flatten_fit(2, 1, zero[0], count, pairs, KT, 8, both[0]));
    for (int i = 0; i < 36; i++) {
        double at = i * M_PI / 18;
        assert_true(fabs(tbg_flatten_series_value(both[0], at) - tbg_flatten_series_value(both[1], -at)) <
                    1.5 * KT);
    }
    /* A cap bounds what is done about what was never seen. */
    memset(angle, 0, N * sizeof *angle);
    assert_ok(tbg_flatten_fit(1, 1, zero[0], count, angle, KT, 3, both[0]));
    low = INFINITY, high = -INFINITY;
    for (int i = 0; i < 360; i++) {
        double v = tbg_flatten_series_value(both[0], i * M_PI / 180) / KT;
        low = fmin(low, v);
        high = fmax(high, v);
    }
    assert_true(isfinite(high - low) && high - low < 4 && high - low > 1.5);
    free(pairs);
    free(angle);
}

/* ---- simulations ---- */

static tbg_simulation_options model_run(void) {
    tbg_simulation_options o;
    tbg_simulation_defaults("amber99sbildn-obc", &o);
    o.runs = 4;
    o.replicas = 4;
    o.max_temperature = 600;
    o.time = 450;
    o.equilibrate = 5;
    o.save_every = 0.5;
    o.exchange_every = 0.1;
    o.seed = 5;
    o.flatten = TBG_FLATTEN_PHI;
    o.flatten_time = 80;
    o.threads = 1;
    return o;
}

static tbg_simulation_options short_run(void) {
    tbg_simulation_options o = model_run();
    o.runs = 6;
    o.replicas = 3; /* 18 lanes: two blocks */
    o.time = 1;
    o.equilibrate = 0.2;
    o.save_every = 0.1;
    o.exchange_every = 0.02;
    o.flatten_time = 3.2;
    o.threads = 2;
    return o;
}

/* Run to the end, stopping and resuming after every `stop` frames (0: never). */
static void run(const tbg_molecule *m, const tbg_system *system, const char *path,
                const tbg_simulation_options *o, int stop, int resume) {
    tbg_simulation *s;
    int done = 0, frames = 0;
    assert_ok(tbg_simulation_create(m, system, path, o, resume, &s));
    while (!done) {
        assert_ok(tbg_simulation_advance(s, &done));
        if (stop && ++frames % stop == 0 && !done) {
            assert_ok(tbg_simulation_save(s));
            assert_ok(tbg_simulation_finish(s, NULL));
            assert_ok(tbg_simulation_advance(s, &done)); /* lost with the process */
            tbg_simulation_free(s);
            assert_ok(tbg_simulation_create(m, system, path, o, 1, &s));
            done = 0;
        }
    }
    assert_ok(tbg_simulation_finish(s, NULL));
    tbg_simulation_free(s);
}

static double angle_of(const tbg_trajectory *t, int64_t i) {
    double x[66];
    for (int j = 0; j < 66; j++)
        x[j] = (double)t->positions[i * 66 + j];
    return tbg_dihedral(x, phi.atoms);
}

static json_t *diagnostics(const char *path) {
    json_t *o = json_load_file(path, 0, NULL);
    assert_non_null(o);
    return o;
}

static double real(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v))
        fail_msg("no %s", key);
    return json_number_value(v);
}

static void weights_lead_back_to_the_known_distribution(void **state) {
    (void)state;
    tbg_torsion_term term[MODEL_TERMS];
    tbg_system model = model_system(term);
    tbg_simulation_options o = model_run();
    run(molecule, &model, temporary_path("model.nc"), &o, 0, 0);
    tbg_trajectory *t;
    assert_ok(tbg_trajectory_read(temporary_path("model.nc"), 0, 1, 0, &t));
    const double *log_weight = tbg_trajectory_extra(t, "log_weight");
    assert_non_null(log_weight);
    /* Sixths of the circle by weights, against the integral; errors as the program makes them. */
    int64_t n = t->n_frames, seen = 0;
    double *inside = malloc((size_t)n * sizeof *inside), *weight = malloc((size_t)n * sizeof *weight),
           *scratch = malloc((size_t)n * sizeof *scratch);
    for (int64_t i = 0; i < n; i++)
        weight[i] = exp(log_weight[i]);
    for (int sixth = 0; sixth < 6; sixth++) {
        double low = -M_PI + sixth * M_PI / 3, exact = model_population(low, low + M_PI / 3), total;
        tbg_population p;
        for (int64_t i = 0; i < n; i++) {
            double at = angle_of(t, i);
            inside[i] = at > low && at <= low + M_PI / 3;
        }
        tbg_statistics_weighted(n, inside, weight, scratch, &p, &total);
        if (!(fabs(p.p - exact) < 4 * p.p_error && (exact < 0.001 || p.p_error < 0.2 * exact)))
            fail_msg("sixth %d: %g +- %g, exactly %g", sixth, p.p, p.p_error, exact);
    }
    for (int64_t i = 0; i < n; i++)
        seen += angle_of(t, i) > 0 && angle_of(t, i) < 2;
    double p = model_population(0, 2);
    assert_true(p < 0.02 && (double)seen > 0.15 * (double)n && (double)seen < 0.6 * (double)n);
    json_t *d = diagnostics(temporary_path("model.json")),
           *of_phi = json_array_get(json_object_get(d, "phi"), 0),
           *bias = json_array_get(json_object_get(json_object_get(d, "flatten"), "torsions"), 0);
    double error = real(of_phi, "error_kt"), off = real(of_phi, "delta_f_kt") + log(p / (1 - p));
    if (!(fabs(off) < 3.5 * error && error < 0.2))
        fail_msg("dF off by %g +- %g", off, error);
    assert_true(real(json_object_get(d, "flatten"), "kish_frames") < 0.8 * (double)n);
    assert_int_equal(json_array_size(json_object_get(bias, "terms")), TBG_FLATTEN_HARMONICS);
    for (size_t r = 0; r < 4; r++) {
        assert_true(json_integer_value(json_array_get(json_object_get(bias, "round_trips"), r)) > 3);
        assert_true(json_integer_value(json_array_get(json_object_get(bias, "visits"), r)) > 3);
    }
    /* The weight is the bias that the file states, over kT. */
    double first = 0;
    for (int64_t i = 0; i < n; i += 97) {
        double sum = 0, at = angle_of(t, i);
        json_t *entry;
        size_t k;
        json_array_foreach(json_object_get(bias, "terms"), k, entry) sum +=
            real(entry, "barrier_kj_mol") * (1 + cos(real(entry, "periodicity") * at - real(entry, "phase")));
        if (!i)
            first = log_weight[0] - sum / KT;
        assert_true(fabs(log_weight[i] - sum / KT - first) < 1e-5);
    }
    json_decref(d);
    free(inside);
    free(weight);
    free(scratch);
    tbg_trajectory_free(t);
}

/* The terms' energy is the series, their forces its gradient; the batched engine and the plain one agree. */
static void terms_are_the_series(void **state) {
    (void)state;
    tbg_simulation_options o = short_run();
    tbg_simulation *s;
    int done;
    assert_ok(tbg_simulation_create(molecule, peptide, temporary_path("terms.nc"), &o, 0, &s));
    for (int i = 0; i < 10; i++)
        assert_ok(tbg_simulation_advance(s, &done));
    assert_true(s->flatten->stage > 1 && s->flatten->n == 1);
    assert_ptr_not_equal(tbg_simulation_system(s), peptide);
    assert_int_equal(tbg_simulation_system(s)->n_torsions, peptide->n_torsions + TBG_FLATTEN_HARMONICS);
    tbg_engine *plain, *biased, *native;
    assert_ok(tbg_engine_create("reference", molecule, peptide, 1, &plain));
    assert_ok(tbg_engine_create("reference", molecule, tbg_simulation_system(s), 1, &biased));
    assert_ok(tbg_engine_create("native", molecule, tbg_simulation_system(s), 1, &native));
    double x[66], e[3], f[2][66], largest = 0;
    for (int lane = 0; lane < 18; lane++) {
        tbg_lanes_get_positions(s->lanes, lane, x);
        assert_ok(tbg_engine_evaluate(plain, 1, x, &e[0], f[0], NULL));
        assert_ok(tbg_engine_evaluate(biased, 1, x, &e[1], f[1], NULL));
        assert_ok(tbg_engine_evaluate(native, 1, x, &e[2], NULL, NULL));
        double v = tbg_flatten_energy(s->flatten, x);
        assert_true(fabs(e[1] - e[0] - v) < 1e-8 && fabs(e[2] - e[1]) < 1e-6);
        assert_true(v <= tbg_flatten_highest(s->flatten) + 1e-3);
        tbg_lanes_energies(s->lanes);
        assert_true(fabs(s->lanes->energy[lane] - e[1]) < 0.02); /* single precision, the source in use */
        for (int j = 0; j < 66; j++) {
            const double h = 1e-6;
            double at = x[j], up, down;
            x[j] = at + h;
            up = tbg_flatten_energy(s->flatten, x);
            x[j] = at - h;
            down = tbg_flatten_energy(s->flatten, x);
            x[j] = at;
            largest = fmax(largest, fabs(f[1][j] - f[0][j]));
            assert_true(fabs(f[1][j] - f[0][j] + (up - down) / (2 * h)) < 1e-4);
        }
    }
    assert_true(largest > 1); /* there was something to compare */
    tbg_engine_free(plain);
    tbg_engine_free(biased);
    tbg_engine_free(native);
    tbg_simulation_free(s);
}

/* Stopped at every point of the stages and afterwards, other threads, and made longer: the same bits. */
static void stopping_changes_nothing(void **state) {
    (void)state;
    tbg_simulation_options o = short_run(), shorter = o;
    run(molecule, peptide, temporary_path("a.nc"), &o, 0, 0);
    run(molecule, peptide, temporary_path("b.nc"), &o, 1, 0);
    assert_same_run("a", "b");
    o.threads = 1;
    run(molecule, peptide, temporary_path("c.nc"), &o, 3, 0);
    assert_same_run("a", "c");
    shorter.time = 0.4;
    run(molecule, peptide, temporary_path("d.nc"), &shorter, 5, 0);
    run(molecule, peptide, temporary_path("d.nc"), &o, 2, 1);
    assert_same_run("a", "d");
    /* The potential energy is the molecule's own. */
    tbg_trajectory *t;
    tbg_engine *engine;
    assert_ok(tbg_trajectory_read(temporary_path("a.nc"), 0, 1, 0, &t));
    assert_ok(tbg_engine_create("reference", molecule, peptide, 1, &engine));
    const double *energy = tbg_trajectory_extra(t, "potential_energy"),
                 *log_weight = tbg_trajectory_extra(t, "log_weight");
    double least = INFINITY, most = -INFINITY;
    for (int64_t i = 0; i < t->n_frames; i++) {
        double x[66], e;
        for (int j = 0; j < 66; j++)
            x[j] = (double)t->positions[i * 66 + j];
        assert_ok(tbg_engine_evaluate(engine, 1, x, &e, NULL, NULL));
        assert_true(fabs(e - energy[i]) < 0.02); /* the file's coordinates are single precision */
        least = fmin(least, log_weight[i]);
        most = fmax(most, log_weight[i]);
    }
    assert_true(most - least > 1 && most - least < 20);
    tbg_engine_free(engine);
    tbg_trajectory_free(t);
}

static void other_runs_are_refused(void **state) {
    (void)state;
    tbg_simulation_options good = short_run(), o;
    tbg_simulation *s;
    assert_ok(tbg_simulation_check(&good));
#define REFUSED(change, word)                                                                                \
    o = good;                                                                                                \
    change;                                                                                                  \
    assert_int_equal(tbg_simulation_check(&o), TBG_INPUT);                                                   \
    assert_non_null(strstr(tbg_message(), word))
    REFUSED(o.flatten = 7, "flatten");
    REFUSED(o.flatten = -1, "flatten");
    REFUSED(o.flatten_time = 0, "flatten-time");
    REFUSED(o.flatten_time = NAN, "flatten-time");
    REFUSED(o.flatten_time = 1e9, "flatten-time");
    REFUSED(o.flatten_cap = 0, "flatten-cap");
    REFUSED(o.flatten_cap = INFINITY, "flatten-cap");
    REFUSED(o.friction = 0, "friction");
#undef REFUSED
    /* a checkpoint with another bias, or with one where none is wanted, and the other way round */
    char path[128], other[128];
    int done;
    snprintf(path, sizeof path, "%s", temporary_path("u.nc"));
    snprintf(other, sizeof other, "%s", temporary_path("v.nc"));
    for (int k = 0; k < 2; k++) {
        o = good;
        o.flatten = k ? TBG_FLATTEN_NONE : TBG_FLATTEN_PHI;
        assert_ok(tbg_simulation_create(molecule, peptide, k ? other : path, &o, 0, &s));
        assert_ok(tbg_simulation_advance(s, &done));
        assert_ok(tbg_simulation_save(s));
        tbg_simulation_free(s);
    }
#define REFUSED(file, change, word)                                                                          \
    o = good;                                                                                                \
    change;                                                                                                  \
    assert_int_equal(tbg_simulation_create(molecule, peptide, file, &o, 1, &s), TBG_INPUT);                  \
    if (!strstr(tbg_message(), word))                                                                        \
    fail_msg("%s", tbg_message())
    REFUSED(path, o.flatten = TBG_FLATTEN_NONE, "flatten");
    REFUSED(path, o.flatten_time = 6.4, "flatten");
    REFUSED(path, o.flatten_cap = 9, "flatten");
    REFUSED(other, (void)0, "flatten");
#undef REFUSED
    assert_ok(tbg_simulation_create(molecule, peptide, path, &good, 1, &s));
    tbg_simulation_free(s);
    /* cut short or altered */
    char checkpoint[160], *data;
    size_t size;
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", path);
    assert_ok(tbg_file_read(checkpoint, 1 << 28, &data, &size));
    for (size_t k = 1; k < 12; k++) {
        char kept = data[size * k / 12];
        data[size * k / 12] ^= 0x20;
        assert_ok(tbg_file_write(checkpoint, data, k & 1 ? size : size * k / 12));
        data[size * k / 12] = kept;
        assert_int_equal(tbg_simulation_create(molecule, peptide, path, &good, 1, &s), TBG_INPUT);
    }
    free(data);
}

/* The ring of proline keeps its phi where it is; glycine's is free. */
static void rings_are_left_alone(void **state) {
    (void)state;
    static const struct {
        const char *sequence;
        int flattened, skipped;
    } cases[] = {{"ACE-PRO-NME", 0, 1}, {"ACE-PRO-GLY-NME", 1, 1}, {"GG", 1, 0}};
    for (int k = 0; k < 3; k++) {
        tbg_molecule *m;
        tbg_system *system;
        tbg_simulation_options o = short_run();
        o.runs = 2;
        o.time = 0.3;
        assert_ok(tbg_molecule_load(cases[k].sequence, &m));
        assert_ok(tbg_system_create(m, "amber99sbildn-obc", -1, &system));
        const char *path = temporary_path("ring.nc");
        tbg_simulation *s;
        int done = 0;
        unlink(path);
        assert_ok(tbg_simulation_create(m, system, path, &o, 0, &s));
        assert_int_equal(tbg_simulation_plan_of(s)->flattened, cases[k].flattened);
        assert_int_equal(tbg_simulation_plan_of(s)->not_flattened, cases[k].skipped);
        while (!done)
            assert_ok(tbg_simulation_advance(s, &done));
        assert_ok(tbg_simulation_finish(s, NULL));
        tbg_simulation_free(s);
        tbg_trajectory *t;
        assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
        assert_int_equal(tbg_trajectory_extra(t, "log_weight") != NULL, cases[k].flattened > 0);
        tbg_trajectory_free(t);
        json_t *d = diagnostics(temporary_path("ring.json")), *f = json_object_get(d, "flatten");
        assert_int_equal(json_array_size(json_object_get(f, "torsions")), cases[k].flattened);
        assert_int_equal(json_array_size(json_object_get(f, "in_rings")), cases[k].skipped);
        json_decref(d);
        tbg_system_free(system);
        tbg_molecule_free(m);
    }
}

/* With equal weights the figures are those of plain frames; weights of a rare state make its frames count
 * less. */
static void weighted_populations(void **state) {
    (void)state;
    enum { N = 4000 };
    static double inside[N], weight[N], scratch[N];
    for (int i = 0; i < N; i++) {
        double u[2];
        tbg_random_uniform(1, TBG_STREAM(TBG_STREAM_TEST, 20), (uint64_t)i / 5 * 2, 2,
                           u); /* five alike in a row */
        inside[i] = u[0] < 0.5;
        weight[i] = 3;
    }
    tbg_population plain, weighted;
    double total;
    tbg_statistics_population(N, inside, &plain);
    tbg_statistics_weighted(N, inside, weight, scratch, &weighted, &total);
    assert_true(fabs(plain.value - weighted.value) < 1e-9 && fabs(plain.error - weighted.error) < 1e-9);
    assert_true(fabs(plain.effective / weighted.effective - 1) < 1e-9 && total == 3 * N);
    for (int i = 0; i < N; i++)
        weight[i] = inside[i] > 0 ? 0.01 : 1;
    tbg_statistics_weighted(N, inside, weight, scratch, &weighted, &total);
    double f = 0;
    for (int i = 0; i < N; i++)
        f += inside[i] / N;
    assert_true(fabs(weighted.value - log(100 * (1 - f) / f)) < 1e-9);
    assert_true(fabs(weighted.error / plain.error - 1) < 0.05); /* a known factor costs nothing */
    assert_true(weighted.effective > N);
    memset(inside, 0, sizeof inside);
    tbg_statistics_weighted(N, inside, weight, scratch, &weighted, &total);
    assert_true(isnan(weighted.value) && weighted.p == 0 && weighted.effective == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bias_levels_the_free_energy),
        cmocka_unit_test(weighted_populations),
        cmocka_unit_test(terms_are_the_series),
        cmocka_unit_test(weights_lead_back_to_the_known_distribution),
        cmocka_unit_test(stopping_changes_nothing),
        cmocka_unit_test(other_runs_are_refused),
        cmocka_unit_test(rings_are_left_alone),
    };
    return cmocka_run_group_tests(tests, set_up, peptide_teardown);
}
