/* test_weighted.c: references from dynamics under a known bias: free energies by weights with errors that
 * hold, frames of equal weight, the same figures through a kept file; refusals. */
#include "tbg_test.h"
#include "ensemble/fixture.h"
#include "ensemble/whole.h"
#include "tbg/random.h"

enum { RUNS = 4, PER_RUN = 1500 };
#define IN 0.02 /* population of phi = 1 without the bias, which makes it a half */

/* A walker that changes sides with probability 0.1 a frame, so that both are equally common: inefficiency
 * (1 + 0.8) / (1 - 0.8) = 9. */
static const char *write_file(const char *name, uint64_t seed, int weighted) {
    static const char *const names[] = {"run", "log_weight"};
    tbg_trajectory_header header = {.n_atoms = 22,
                                    .forcefield = "amber99sbildn-obc",
                                    .temperature = 300,
                                    .n_extra = weighted ? 2 : 1,
                                    .extra_names = names};
    const char *path = temporary_path(name);
    double side[2][66];
    synthetic_positions(molecule, -1.2, side[0]);
    synthetic_positions(molecule, 1, side[1]);
    tbg_trajectory_writer *w;
    assert_ok(tbg_trajectory_create(path, &header, 0, NULL, &w));
    for (int run = 0; run < RUNS; run++)
        for (int i = 0, inside = run & 1; i < PER_RUN; i++) {
            double u, time = i + 1, extra[2];
            tbg_random_uniform(seed, TBG_STREAM(TBG_STREAM_TEST, run), (uint64_t)i, 1, &u);
            inside ^= u < 0.1;
            extra[0] = run;
            extra[1] = 500 + (inside ? log(IN / (1 - IN)) : 0);
            assert_ok(tbg_trajectory_append(w, 1, side[inside], &time, extra));
        }
    assert_ok(tbg_trajectory_close(w));
    return path;
}

static void errors_hold(void **state) {
    (void)state;
    enum { TRIALS = 40 };
    double exact = log((1 - IN) / IN), square = 0, mean = 0;
    for (int k = 0; k < TRIALS; k++) {
        const char *path = write_file("e.nc", 100 + (uint64_t)k, 1);
        tbg_reference *r;
        assert_ok(tbg_reference_read(1, &path, molecule, 0, &r));
        assert_true(r->weighted && r->n == RUNS * PER_RUN);
        square += pow((r->dF[0].dF.value - exact) / r->dF[0].dF.error, 2) / TRIALS;
        mean += r->dF[0].dF.error / TRIALS;
        tbg_reference_free(r);
    }
    /* ln(odds) of N/9 independent frames at one half: error 2 / sqrt(N / 9) */
    double error = 2 / sqrt(RUNS * PER_RUN / 9.0);
    if (!(square > 0.4 && square < 1.7 && mean > 0.9 * error && mean < 1.5 * error))
        fail_msg("(value - exact)^2 / error^2 is %g on average, error %g instead of %g", square, mean, error);
}

static void frames_are_of_equal_weight(void **state) {
    (void)state;
    const char *path = write_file("f.nc", 1, 1), *kept = temporary_path("kept.nc");
    tbg_reference *r, *k;
    tbg_torsion *torsions;
    int n, t = 0;
    assert_ok(tbg_backbone_torsions(molecule, &n, &torsions));
    while (strcmp(torsions[t].name, "phi1"))
        t++;
    assert_ok(tbg_reference_read(1, &path, molecule, 100, &r)); /* burn-in: weights stay with their frames */
    assert_int_equal(r->n, RUNS * (PER_RUN - 100));
    double inside = 0;
    for (long i = 0; i < r->n; i++)
        inside += tbg_reference_angle(r, i, torsions[t].atoms) > 0;
    double p =
        r->dF[0].state[TBG_STATE_INSIDE].weight; /* a stay inside is worth a fifth of a draw: rounding */
    assert_true(fabs(inside / (double)r->n - p) < 0.25 * p);
    assert_true(fabs(r->effective_frames / (double)r->n - 0.52) < 0.05); /* (sum w)^2 / (n sum w^2) */
    assert_true(r->n_parts == RUNS && r->part[RUNS] == r->n && r->inefficiency[0] < 1 && r->dF[0].reliable);
    for (int p = 0; p < RUNS; p++)
        assert_true(labs(r->part[p + 1] - r->part[p] - r->n / RUNS) < r->n / RUNS / 2);
    /* through a kept file; an inefficiency below 1 is refused where no weights explain it */
    assert_ok(tbg_reference_store(r, molecule, 100, 50, kept));
    assert_ok(tbg_reference_read(1, &kept, molecule, 0, &k));
    assert_true(!k->weighted && k->n == 100 && k->whole && k->whole->n == r->n);
    assert_true(fabs(k->whole->dF[0].dF.value - r->dF[0].dF.value) < 1e-6);
    assert_true(fabs(k->whole->dF[0].dF.error - r->dF[0].dF.error) < 1e-6);
    tbg_reference_free(k);
    char *text;
    size_t size;
    assert_ok(tbg_file_read(temporary_path("kept.json"), 1 << 20, &text, &size));
    char *at = strstr(text, "effective_frames");
    assert_non_null(at);
    memcpy(at, "affective", 9);
    assert_int_equal(temporary_write(temporary_path("kept.json"), text, size), 0);
    assert_int_equal(tbg_reference_read(1, &kept, molecule, 0, &k), TBG_INPUT);
    free(text);
    /* an evaluation against it */
    tbg_ensemble *e = synthetic_ensemble(molecule, 300);
    tbg_ensemble_summary s;
    tbg_evaluation v;
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_ok(tbg_ensemble_evaluate(e, &s, r, 100, 50, 0, &v));
    assert_true(v.dF_reference[0].dF.value == r->dF[0].dF.value && v.n_reference == r->n);
    tbg_ensemble_free(e);
    tbg_reference_free(r);
    free(torsions);
}

static void refusals(void **state) {
    (void)state;
    const char *two[2] = {write_file("g.nc", 1, 1), write_file("h.nc", 2, 0)}, *swapped[2] = {two[1], two[0]};
    tbg_reference *r;
    assert_int_equal(tbg_reference_read(2, two, molecule, 0, &r), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "log_weight"));
    assert_int_equal(tbg_reference_read(2, swapped, molecule, 0, &r), TBG_INPUT);
    assert_int_equal(tbg_reference_read(1, two, molecule, 5000, &r), TBG_INPUT); /* nothing left */
    assert_ok(tbg_reference_read(1, two + 1, molecule, 0, &r));
    assert_false(r->weighted);
    tbg_reference_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_hold),
        cmocka_unit_test(frames_are_of_equal_weight),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
