/* test_whole.c: references kept as few frames and the figures of all: the figures survive, the file is small,
 * damage and other molecules are refused. */
#include "tbg_test.h"
#include "ensemble/fixture.h"
#include "ensemble/whole.h"
#include "tbg/random.h"
#include <jansson.h>
#include <sys/stat.h>

/* Two runs of 3,000 frames whose phi stays at 1 for `stay` frames now and then, with energies that drift. */
static tbg_reference *whole_reference(const char *path, int stay) {
    tbg_trajectory_writer *w = synthetic_writer(molecule, path, NULL);
    tbg_reference *r;
    double x[3 * 22];
    for (int run = 0; run < 2; run++)
        for (int i = 0; i < 3000; i++) {
            double time = 2 * (i + 1), number = run, noise;
            tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, run), (uint64_t)i, 1, &noise);
            synthetic_positions(molecule, (i % (10 * stay) < stay ? 1 : -1.2) + 0.2 * noise, x);
            assert_ok(tbg_trajectory_append(w, 1, x, &time, &number));
        }
    assert_ok(tbg_trajectory_close(w));
    assert_ok(tbg_reference_read(1, &path, molecule, 0, &r));
    r->n_energy = r->n;
    r->reduced_energy = malloc((size_t)r->n * sizeof(double));
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 9), 0, (size_t)r->n, r->reduced_energy);
    for (long i = 0; i < r->n; i++)
        r->reduced_energy[i] = -20 + 4 * r->reduced_energy[i] + 0.001 * (double)i;
    return r;
}

static void figures_survive(void **state) {
    (void)state;
    const char *path = temporary_path("all.nc"), *kept = temporary_path("kept.nc");
    tbg_reference *all = whole_reference(path, 30), *r;
    assert_null(all->whole);
    long n = tbg_reference_frames_within(all, molecule, 60000);
    assert_true(n > 100 && n < 250);
    assert_ok(tbg_reference_store(all, molecule, n, 100, kept));
    struct stat info;
    assert_int_equal(stat(kept, &info), 0);
    assert_true(info.st_size <= 60000 && info.st_size > 50000);
    assert_ok(tbg_reference_read(1, &kept, molecule, 0, &r));
    assert_int_equal(r->n, n);
    assert_int_equal(r->n_parts, 2);
    assert_true(labs(r->part[1] - n / 2) <= 1);
    CLOSE(r->interval, 2 * 6000.0 / (double)n, 2.01);
    assert_non_null(r->whole);
    assert_int_equal(r->whole->n, 6000);
    /* Frames are some of those that were there, in their places. */
    size_t size = 22 * 3;
    long at = (long)(10.5 * 6000 / (double)n);
    assert_memory_equal(r->positions + 10 * size, all->positions + (size_t)at * size, size * sizeof(float));
    /* Energies: taken for the same force field and temperature, nearly the same distribution, halves too. */
    assert_ok(tbg_reference_energies(r, molecule, "amber99sbildn-obc", 300, 10, 1));
    assert_int_equal(r->n_energy, TBG_BLOCKS * TBG_QUANTILES);
    double w1, w2;
    assert_ok(tbg_wasserstein_line(all->n, all->reduced_energy, NULL, r->n_energy, r->reduced_energy, NULL,
                                   &w1, &w2));
    if (!(w1 < 0.03 && w2 < 0.06))
        fail_msg("%g %g", w1, w2); /* of a standard deviation of 4.3 */
    /* The same evaluation from either. */
    tbg_ensemble *e = synthetic_ensemble(molecule, 500);
    tbg_ensemble_summary s;
    tbg_evaluation v, u;
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_ok(tbg_ensemble_evaluate(e, &s, all, 200, 100, 0, &v));
    assert_ok(tbg_ensemble_evaluate(e, &s, r, 200, 100, 0, &u));
    CLOSE(v.dF_reference[0].dF.value, log(9), 0.05);
    CLOSE(u.dF_reference[0].dF.value, v.dF_reference[0].dF.value, 1e-6);
    CLOSE(u.dF_reference[0].dF.error, v.dF_reference[0].dF.error, 1e-6);
    assert_true(v.inefficiency[0] > 10);
    CLOSE(u.inefficiency[0], v.inefficiency[0], 1e-5);
    CLOSE(u.dF_difference[0], v.dF_difference[0], 1e-6);
    CLOSE(u.energy_w1, v.energy_w1, 0.03);
    CLOSE(u.energy_w1_reference, v.energy_w1_reference, 0.03);
    assert_true(v.energy_w1_reference > 2); /* the drift between the halves */
    CLOSE(u.tica_lag, 100, 1e-9);
    CLOSE(u.tica_values[0], v.tica_values[0], 1e-6);
    assert_true(u.n_whole == 6000 && v.n_whole == 6000 && u.n_reference == n);
    assert_non_null(strstr(u.note, "of all 6000 frames"));
    /* Another temperature: computed from the frames. */
    assert_ok(tbg_reference_energies(r, molecule, "amber99sbildn-obc", 310, 10, 1));
    assert_int_equal(r->n_energy, 10);
    tbg_ensemble_free(e);
    tbg_reference_free(r);
    tbg_reference_free(all);
}

/* Four runs, one of which never saw the state: the error is that of the runs' scatter. */
static void runs_that_disagree(void **state) {
    (void)state;
    enum { N = 4000 };
    float *x = malloc((size_t)N * 66 * sizeof *x);
    long part[] = {0, 1000, 2000, 3000, 4000};
    double both[2][66], inefficiency[TBG_TORSIONS_MOST];
    tbg_dF dF[TBG_TORSIONS_MOST];
    int n;
    synthetic_positions(molecule, -1.2, both[0]);
    synthetic_positions(molecule, 1, both[1]);
    for (long i = 0; i < N; i++)
        for (int c = 0; c < 66; c++)
            x[i * 66 + c] = (float)both[i < 3000 && i % 10 == 3][c];
    tbg_reference r = {.n = N, .n_atoms = 22, .n_parts = 4, .part = part, .positions = x, .interval = 1};
    assert_ok(tbg_reference_dF(&r, molecule, &n, dF, inefficiency));
    assert_int_equal(n, 1);
    double p = 0.075, scatter = sqrt((3 * pow(0.1 - p, 2) + p * p) / 3 / 4); /* sd / sqrt(4) */
    CLOSE(dF[0].dF.value, log((1 - p) / p), 1e-9);
    CLOSE(dF[0].dF.error, scatter / (p * (1 - p)), 1e-9);
    assert_false(dF[0].reliable);
    for (long i = 0; i < N; i++) /* all alike: the frames' own error */
        for (int c = 0; c < 66; c++)
            x[i * 66 + c] = (float)both[i % 10 == 3][c];
    assert_ok(tbg_reference_dF(&r, molecule, &n, dF, inefficiency));
    assert_true(dF[0].dF.error <= sqrt(0.09 / N) / 0.09 * 1.01 && dF[0].reliable);
    free(x);
}

static json_t *load(const char *path) {
    json_t *o = json_load_file(path, 0, NULL);
    assert_non_null(o);
    return o;
}

static void histograms(void **state) {
    (void)state;
    const char *kept = temporary_path("h.nc");
    tbg_reference *all = whole_reference(temporary_path("all.nc"), 30);
    assert_ok(tbg_reference_store(all, molecule, 50, 100, kept));
    json_t *o = load(temporary_path("h.json")), *phi, *map;
    phi = json_object_get(json_object_get(o, "torsions_5_degrees"), "phi1");
    assert_int_equal(json_array_size(phi), 72);
    long total = 0, left = 0;
    for (size_t b = 0; b < 72; b++) {
        long count = (long)json_integer_value(json_array_get(phi, b));
        total += count;
        left += b >= 36 ? count : 0; /* from 0 degrees on */
    }
    assert_int_equal(total, 6000);
    assert_true(labs(left - 600) < 10); /* one in ten, at 1 +- 0.2 rad */
    map = json_array_get(json_object_get(o, "ramachandran"), 0);
    assert_string_equal(json_string_value(json_object_get(map, "phi")), "phi1");
    long in_map = 0;
    for (size_t b = 0; b < 36 * 36; b++)
        in_map += (long)json_integer_value(json_array_get(json_object_get(map, "counts"), b));
    assert_int_equal(in_map, 6000);
    json_t *energy = json_object_get(json_object_get(json_object_get(o, "energy"), "histogram"), "counts");
    long energies = 0;
    for (size_t b = 0; b < json_array_size(energy); b++)
        energies += (long)json_integer_value(json_array_get(energy, b));
    assert_int_equal(energies, 6000);
    json_decref(o);
    tbg_reference_free(all);
}

static void refusals(void **state) {
    (void)state;
    const char *kept = temporary_path("d.nc"), *json = temporary_path("d.json");
    char *text;
    size_t size;
    tbg_reference *all = whole_reference(temporary_path("all.nc"), 30), *r;
    assert_int_equal(tbg_reference_store(all, molecule, 0, 100, kept), TBG_INPUT);
    assert_int_equal(tbg_reference_store(all, molecule, 6001, 100, kept), TBG_INPUT);
    assert_int_equal(tbg_reference_store(all, molecule, 5, 100, temporary_path("d.dat")), TBG_INPUT);
    assert_ok(tbg_reference_store(all, molecule, 5, 100, kept));
    assert_ok(tbg_file_read(json, 1 << 20, &text, &size));
    for (size_t cut = 1; cut < size; cut += 977) { /* cut short */
        assert_int_equal(temporary_write(json, text, cut), 0);
        assert_int_equal(tbg_reference_read(1, &kept, molecule, 0, &r), TBG_INPUT);
        assert_null(r);
    }
    static const struct {
        const char *from, *to;
    } damage[] = {{"\"population\":0", "\"population\":7"},
                  {"\"population\":", "\"populatio\":"},
                  {"\"sequence\":\"ACE-A-NME\"", "\"sequence\":\"AC\""},
                  {"\"frames\":6000", "\"frames\":-1"},
                  {"\"frames\":6000", "\"frames\":\"x\""},
                  {"\"inefficiency_frames\":", "\"inefficiency_frames\":-"},
                  {"\"block_quantiles\":[[", "\"block_quantiles\":[[0,"},
                  {"\"block_quantiles\":[[", "\"block_quantiles\":[[],["},
                  {"\"mean\":[", "\"mean\":[0,"},
                  {"\"vectors\":[[", "\"vectors\":[[null,"},
                  {"\"phi1\":{", "\"phi1111111111111111\":{"},
                  {"\"lag_ps\":1", "\"lag_ps\":-1"}};
    for (size_t k = 0; k < sizeof damage / sizeof *damage; k++) {
        char *at = strstr(text, damage[k].from), *copy = malloc(size + 100);
        if (!at)
            fail_msg("no %s", damage[k].from);
        sprintf(copy, "%.*s%s%s", (int)(at - text), text, damage[k].to, at + strlen(damage[k].from));
        assert_int_equal(temporary_write(json, copy, strlen(copy)), 0);
        if (tbg_reference_read(1, &kept, molecule, 0, &r) != TBG_INPUT)
            fail_msg("%s was accepted", damage[k].to);
        free(copy);
    }
    /* The diagnostics of a simulation are another kind of file. */
    assert_int_equal(temporary_write(json, "{\"complete\": true}", 18), 0);
    assert_ok(tbg_reference_read(1, &kept, molecule, 0, &r));
    assert_null(r->whole);
    tbg_reference_free(r);
    free(text);
    tbg_reference_free(all);
}

/* The command: size, files; evaluate of the result is tested above. */
static void command(void **state) {
    (void)state;
    char line[1024];
    tbg_reference *r;
    const char *kept = temporary_path("c.nc");
    /* a file with its topology */
    char *pdb;
    assert_ok(tbg_molecule_format_pdb(molecule, NULL, &pdb));
    tbg_trajectory_header header = {
        .n_atoms = 22, .topology_pdb = pdb, .forcefield = "amber99sbildn-obc", .temperature = 300};
    tbg_trajectory_writer *w;
    double x[66];
    assert_ok(tbg_trajectory_create(temporary_path("t.nc"), &header, 0, NULL, &w));
    for (int i = 0; i < 900; i++) {
        double time = i;
        synthetic_positions(molecule, i % 7 ? -1.5 + 0.001 * i : 1, x);
        assert_ok(tbg_trajectory_append(w, 1, x, &time, NULL));
    }
    assert_ok(tbg_trajectory_close(w));
    free(pdb);
    snprintf(line, sizeof line, "%s reference %s -o %s --size 40 --burn-in 100 >/dev/null 2>&1", TBG_PROGRAM,
             temporary_path("t.nc"), kept);
    assert_int_equal(system(line), 0);
    struct stat info;
    assert_int_equal(stat(kept, &info), 0);
    assert_true(info.st_size <= 40000 && info.st_size > 35000);
    assert_ok(tbg_reference_read(1, &kept, molecule, 0, &r));
    assert_int_equal(r->whole->n, 800);
    assert_non_null(r->whole->energy);
    tbg_reference_free(r);
    snprintf(line, sizeof line, "%s reference %s -o %s >/dev/null 2>&1", TBG_PROGRAM, kept,
             temporary_path("again.nc"));
    assert_true(system(line) != 0); /* thinned already */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(figures_survive),
                                       cmocka_unit_test(runs_that_disagree), cmocka_unit_test(histograms),
                                       cmocka_unit_test(refusals), cmocka_unit_test(command)};
    return cmocka_run_group_tests_name("whole", tests, setup, teardown);
}
