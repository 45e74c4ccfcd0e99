/* test_ensemble.c: counts, weights, summary, folder there and back, evaluation with known answers, refusals.
 */
#include "tbg_test.h"
#include "ensemble/fixture.h"
#include <jansson.h>

static void counts_and_figures(void **state) {
    (void)state;
    tbg_ensemble *e = synthetic_ensemble(molecule, 200);
    e->verdict[0] = TBG_TOPOLOGY;
    e->verdict[1] = e->verdict[2] = TBG_CHIRALITY;
    e->verdict[3] = TBG_MIRRORED;
    e->verdict[4] = TBG_NOT_FINITE;
    e->reduced_energy[5] = NAN;
    e->reduced_energy[6] = -INFINITY;
    e->log_q[7] = INFINITY;
    for (long i = 0; i < 200; i++)
        if (i >= 8 || i == 3) { /* log_q = 1, u = 2, one of double weight */
            e->log_q[i] = 1;
            e->reduced_energy[i] = i == 100 ? 2 - log(2) : 2;
        }
    tbg_ensemble_weigh(e);
    tbg_ensemble_summary s;
    assert_ok(tbg_ensemble_summarise(e, 50, &s));
    assert_int_equal(s.n_generated, 200);
    assert_int_equal(s.n_valid, 193);
    assert_int_equal(s.n_topology, 1);
    assert_int_equal(s.n_chirality, 2);
    assert_int_equal(s.n_mirrored, 1);
    assert_int_equal(s.n_not_finite, 4);
    CLOSE(s.n_effective, 194.0 * 194 / 196, 1e-9);
    CLOSE(s.ess_raw.value, 194.0 * 194 / 196 / 193, 1e-12);
    CLOSE(s.ess_raw_per_generated, 194.0 * 194 / 196 / 200, 1e-12);
    CLOSE(s.ess_clipped, 192.0 / 193, 1e-12); /* the double weight is dropped; the others are equal */
    CLOSE(s.ess_clipped_per_generated, 192.0 / 200, 1e-12);
    CLOSE(s.nll_mean, -1 + 63 * log(10), 1e-9);
    CLOSE(s.nll_published, -1 + 63 * log(10) - 63.0 / 2 * log(2 * M_PI), 1e-9);
    CLOSE(s.energy_mean, 2 - log(2) / 193, 1e-12);
    CLOSE(s.energy_mean_weighted, 2 - 2 * log(2) / 194, 1e-12);
    assert_true(e->log_weight[0] == -INFINITY && e->log_weight[5] == -INFINITY &&
                e->log_weight[6] == -INFINITY);
    CLOSE(e->log_weight[8], -3, 0);
    tbg_ensemble_free(e);
}

static void free_energy_difference(void **state) {
    (void)state;
    tbg_ensemble *e = synthetic_ensemble(molecule, 1000);
    tbg_ensemble_summary s, again;
    assert_ok(tbg_ensemble_summarise(e, 400, &s));
    assert_int_equal(s.n_dF, 1);
    assert_string_equal(s.dF[0].name, "phi1");
    CLOSE(s.dF[0].dF.value, log(9), 1e-9);
    /* The count k of 1000 has variance 210; d ln(k / (n - k)) = n / (k (n - k)) dk, whatever the weights. */
    double error = 1000.0 / (300 * 700) * sqrt(210);
    assert_true(fabs(s.dF[0].dF.error / error - 1) < 0.15);
    assert_int_equal(s.dF[0].lost, 0);
    assert_ok(tbg_ensemble_summarise(e, 400, &again));
    assert_memory_equal(&s.dF, &again.dF, sizeof s.dF);
    /* One side empty: no number, and no failure. */
    for (long i = 0; i < e->n; i++)
        synthetic_positions(molecule, -1.2, e->positions + i * e->n_atoms * 3);
    assert_ok(tbg_ensemble_summarise(e, 50, &s));
    assert_true(s.dF[0].dF.value == INFINITY && s.dF[0].lost == 50);
    char *text;
    assert_ok(tbg_ensemble_summary_json(e, &s, &text));
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    assert_true(json_is_null(json_object_get(json_object_get(json_object_get(j, "dF"), "phi1"), "value")));
    json_decref(j);
    free(text);
    tbg_ensemble_free(e);
}

static void verdicts(void **state) {
    (void)state;
    tbg_ensemble *e = synthetic_ensemble(molecule, 4);
    double *x = e->positions;
    int size = e->n_atoms * 3;
    for (int a = 0; a < e->n_atoms; a++)
        x[size + 3 * a] *= -1; /* mirror image */
    for (int k = 0; k < size; k++)
        x[2 * size + k] *= 1.6; /* every bond too long */
    x[3 * size + 7] = NAN;
    assert_ok(tbg_ensemble_check(e, 1));
    assert_int_equal(e->verdict[0], TBG_VALID);
    assert_int_equal(e->verdict[1], TBG_MIRRORED);
    assert_int_equal(e->verdict[2], TBG_TOPOLOGY);
    assert_int_equal(e->verdict[3], TBG_NOT_FINITE);
    double angle0, angle1;
    int n;
    tbg_torsion *t;
    assert_ok(tbg_backbone_torsions(molecule, &n, &t));
    angle0 = tbg_dihedral(x, t[0].atoms);
    angle1 = tbg_dihedral(x + size, t[0].atoms);
    CLOSE(angle1, angle0, 1e-9); /* mirrored back */
    free(t);
    tbg_ensemble_free(e);
}

static void advice(void **state) {
    (void)state;
    tbg_ensemble *e = synthetic_ensemble(molecule, 1000);
    tbg_ensemble_summary s;
    for (long i = 0; i < e->n; i++) /* Pareto weights of shape 1.2, then 0.2 */
        e->log_q[i] = -e->reduced_energy[i] + 1.2 * log((i + 0.5) / 1000);
    tbg_ensemble_weigh(e);
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_true(s.pareto_k > 1 && strstr(s.advice, "Do not trust"));
    for (long i = 0; i < e->n; i++)
        e->log_q[i] = -e->reduced_energy[i] + 0.2 * log((i + 0.5) / 1000);
    tbg_ensemble_weigh(e);
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    CLOSE(s.pareto_k_limit, 1 - 1.0 / 3, 1e-12); /* 1,000 samples: below 0.7 */
    assert_true(s.pareto_k < 0.5 && strstr(s.advice, "can be trusted"));
    for (long i = 0; i < e->n; i++)
        e->verdict[i] = TBG_TOPOLOGY;
    tbg_ensemble_weigh(e);
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_true(s.n_valid == 0 && strstr(s.advice, "None of the 1000"));
    tbg_ensemble_free(e);
    assert_ok(tbg_ensemble_create(molecule, 0, &e));
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    tbg_ensemble_free(e);
    assert_int_equal(tbg_ensemble_create(molecule, -1, &e), TBG_INPUT);
}

static void there_and_back(void **state) {
    (void)state;
    const char *folder = temporary_path("a/b");
    for (int weighted = 1; weighted >= 0; weighted--) {
        tbg_ensemble *e = synthetic_ensemble(molecule, 700), *back;
        tbg_ensemble_summary s, again;
        e->verdict[1] = TBG_TOPOLOGY;
        e->verdict[2] = TBG_MIRRORED;
        e->verdict[3] = TBG_NOT_FINITE;
        e->positions[3 * e->n_atoms * 3 + 5] = NAN;
        e->reduced_energy[4] = INFINITY;
        e->info.seed = UINT64_MAX;
        e->info.seconds_flow = 12.5;
        e->info.forward_backward_n = 7;
        if (!(e->weighted = weighted))
            for (long i = 0; i < e->n; i++)
                e->log_q[i] = e->reduced_energy[i] = NAN;
        tbg_ensemble_weigh(e);
        assert_ok(tbg_ensemble_summarise(e, 30, &s));
        assert_int_equal(s.n_valid, weighted ? 697 : 698);
        assert_ok(tbg_ensemble_write(e, &s, folder));
        assert_ok(tbg_ensemble_read(folder, &back));
        assert_int_equal(back->n, 700);
        assert_int_equal(back->weighted, weighted);
        assert_memory_equal(back->verdict, e->verdict, 700);
        assert_true(back->info.seed == UINT64_MAX && back->info.seconds_flow == 12.5 &&
                    back->info.temperature == 300);
        assert_string_equal(back->info.model, "m.tbg");
        assert_string_equal(back->info.sequence, e->info.sequence);
        for (long i = 0; i < e->n; i++) {
            assert_true(compare_error(back->log_weight[i], e->log_weight[i], 1) == 0);
            assert_true(compare_error(back->log_q[i], e->log_q[i], 1) == 0 || isnan(e->log_q[i]));
        }
        CLOSE(back->positions[699 * 66 + 65], e->positions[699 * 66 + 65], 2e-7);
        assert_ok(tbg_ensemble_summarise(back, 30, &again));
        assert_true(again.n_valid == s.n_valid);
        if (weighted) {
            CLOSE(again.ess_raw.value, s.ess_raw.value, 0);
            CLOSE(again.dF[0].dF.value, s.dF[0].dF.value, 1e-9);
        } else {
            assert_true(isnan(again.ess_raw.value) && isnan(again.pareto_k));
            CLOSE(again.dF[0].dF.value, s.dF[0].dF.value, 1e-9);
        }
        /* The keys that others rely on. */
        char *text, path[600];
        snprintf(path, sizeof path, "%s/summary.json", folder);
        assert_ok(tbg_file_read(path, 1 << 20, &text, NULL));
        json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        static const char *const keys[] = {"n_generated",  "n_valid",
                                           "n_topology",   "n_mirrored",
                                           "n_chirality",  "n_not_finite",
                                           "ess_raw",      "ess_raw_per_generated",
                                           "ess_clipped",  "ess_clipped_per_generated",
                                           "pareto_k",     "dF",
                                           "nll_mean",     "nll_published",
                                           "seconds_flow", "seconds_energy",
                                           "model",        "forcefield",
                                           "temperature",  "seed",
                                           "version",      "advice"};
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            if (!json_object_get(j, keys[k]))
                fail_msg("summary.json lacks %s", keys[k]);
        assert_true(json_is_number(json_object_get(j, "ess_raw")) == weighted);
        json_decref(j);
        free(text);
        tbg_ensemble_free(e);
        tbg_ensemble_free(back);
    }
}

static void refused_folders(void **state) {
    (void)state;
    tbg_ensemble *e = synthetic_ensemble(molecule, 20), *back;
    tbg_ensemble_summary s;
    char path[600];
    const char *folder = temporary_path("r");
    assert_int_equal(tbg_ensemble_read(folder, &back), TBG_INPUT);
    assert_ok(tbg_ensemble_summarise(e, 5, &s));
    assert_ok(tbg_ensemble_write(e, &s, folder));
    snprintf(path, sizeof path, "%s/topology.pdb", folder);
    tbg_molecule *other;
    assert_ok(tbg_molecule_from_sequence("ACE-G-NME", &other));
    assert_ok(tbg_molecule_write_pdb(other, NULL, path));
    assert_int_equal(tbg_ensemble_read(folder, &back), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "22 atoms"));
    assert_ok(tbg_file_write(path, "nonsense\n", 9));
    assert_int_equal(tbg_ensemble_read(folder, &back), TBG_INPUT);
    assert_ok(tbg_molecule_write_pdb(molecule, NULL, path));
    assert_ok(tbg_ensemble_read(folder, &back));
    tbg_ensemble_free(back);
    snprintf(path, sizeof path, "%s/ensemble.nc", folder);
    synthetic_trajectory(molecule, path, 1, 0, 5); /* a trajectory, but no ensemble */
    assert_int_equal(tbg_ensemble_read(folder, &back), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "not an ensemble"));
    assert_null(back);
    tbg_molecule_free(other);
    tbg_ensemble_free(e);
}

static void evaluation(void **state) {
    (void)state;
    const char *path = temporary_path("ref.nc");
    synthetic_trajectory(molecule, path, 2, 50, 500);
    tbg_reference *r;
    assert_ok(tbg_reference_read(1, &path, molecule, 50, &r));
    assert_int_equal(r->n, 1000);
    assert_int_equal(r->n_parts, 2);
    assert_int_equal(r->part[1], 500);
    CLOSE(r->interval, 1, 0);
    CLOSE(r->temperature, 300, 0);
    /* The file says itself what is not stationary; 0 keeps it. */
    tbg_reference *again;
    assert_ok(tbg_reference_read(1, &path, molecule, NAN, &again));
    assert_int_equal(again->n, 1000);
    assert_int_equal(again->part[1], 500);
    assert_memory_equal(again->positions, r->positions, 1000 * 66 * sizeof(float));
    tbg_reference_free(again);
    assert_ok(tbg_reference_read(1, &path, molecule, 0, &again));
    assert_int_equal(again->n, 1100);
    tbg_reference_free(again);
    r->reduced_energy = calloc(1000, sizeof(double));
    r->n_energy = 1000;
    for (int i = 0; i < 1000; i++)
        r->reduced_energy[i] = i == 999 ? NAN : -20;
    tbg_ensemble *e = synthetic_ensemble(molecule, 1000);
    tbg_ensemble_summary s;
    tbg_evaluation v;
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_ok(tbg_ensemble_evaluate(e, &s, r, 0, 10, 0, &v));
    assert_int_equal(v.n_transport, 1000);
    CLOSE(v.dF_reference[0].dF.value, log(9), 1e-9);
    CLOSE(v.dF_difference[0], 0, 1e-9);
    CLOSE(v.dF_proposal[0], log(7.0 / 3), 1e-9);
    /* Two tenths of the mass move by 2.2 rad; after weighting at most one draw in 1000 does. */
    CLOSE(v.torus_w2_proposal, sqrt(0.2) * 2.2, 1e-5);
    assert_true(v.torus_w2 <= sqrt(0.001) * 2.2 + 1e-6);
    CLOSE(v.torus_w2_reference, 0, 1e-5);
    /* Energies -20 + 0.01 i against -20. */
    CLOSE(v.energy_w1_proposal, 0.01 * 999 / 2, 1e-9);
    CLOSE(v.energy_w2_proposal, 0.01 * sqrt(999.0 * 1999 / 6), 1e-9);
    CLOSE(v.energy_w1_reference, 0, 1e-12);
    assert_non_null(strstr(v.note, "1 frames of the reference"));
    assert_true(v.tica_w2 < v.tica_w2_proposal);
    char *text;
    assert_ok(tbg_evaluation_json(&v, e, &s, &text));
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    CLOSE(json_number_value(json_object_get(j, "torus_w2_proposal")), sqrt(0.2) * 2.2, 1e-5);
    CLOSE(json_number_value(json_object_get(json_object_get(j, "dF_difference"), "phi1")), 0, 1e-9);
    json_decref(j);
    free(text);
    /* Nothing valid, or no weights: notes, not failures. */
    e->weighted = 0;
    tbg_ensemble_weigh(e);
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_ok(tbg_ensemble_evaluate(e, &s, r, 100, 10, 0, &v));
    assert_true(isnan(v.torus_w2) && isfinite(v.torus_w2_proposal) && isnan(v.energy_w1));
    for (long i = 0; i < e->n; i++)
        e->verdict[i] = TBG_CHIRALITY;
    tbg_ensemble_weigh(e);
    assert_ok(tbg_ensemble_summarise(e, 20, &s));
    assert_ok(tbg_ensemble_evaluate(e, &s, r, 100, 10, 0, &v));
    assert_true(isnan(v.torus_w2_proposal) && strstr(v.note, "no valid samples"));
    tbg_ensemble_free(e);
    tbg_reference_free(r);
    assert_int_equal(tbg_reference_read(1, &path, molecule, 600, &r), TBG_INPUT);
    assert_int_equal(tbg_reference_read(1, &path, molecule, -1, &r), TBG_INPUT);
    assert_int_equal(tbg_reference_read(0, NULL, molecule, 0, &r), TBG_INPUT);
    tbg_molecule *other;
    assert_ok(tbg_molecule_from_sequence("AC", &other));
    assert_int_equal(tbg_reference_read(1, &path, other, 0, &r), TBG_INPUT);
    assert_null(r);
    tbg_molecule_free(other);
    /* Energies by the engine: those of a single evaluation. */
    const char *both[] = {path, path};
    assert_ok(tbg_reference_read(2, both, molecule, 50, &r));
    assert_int_equal(r->n_parts, 4);
    assert_ok(tbg_reference_energies(r, molecule, "amber99sbildn-obc", 300, 7, 1));
    assert_int_equal(r->n_energy, 7);
    assert_true(isfinite(r->reduced_energy[6]));
    assert_int_equal(tbg_reference_energies(r, molecule, "none", 300, 7, 1), TBG_INPUT);
    tbg_reference_free(r);
}

static void pairs(void **state) {
    (void)state;
    static const struct {
        const char *sequence;
        int n;
        const char *phi, *psi;
    } cases[] = {{"ACE-A-NME", 1, "phi1", "psi1"}, {"AC", 1, "phi2", "psi1"}, {"AAA", 1, "phi2", "psi2"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tbg_molecule *m;
        tbg_torsion *t;
        int n, pair[4][2];
        assert_ok(tbg_molecule_from_sequence(cases[i].sequence, &m));
        assert_ok(tbg_backbone_torsions(m, &n, &t));
        assert_int_equal(tbg_ramachandran_pairs(n, t, pair, 4), cases[i].n);
        assert_string_equal(t[pair[0][0]].name, cases[i].phi);
        assert_string_equal(t[pair[0][1]].name, cases[i].psi);
        free(t);
        tbg_molecule_free(m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_figures), cmocka_unit_test(free_energy_difference),
        cmocka_unit_test(verdicts),           cmocka_unit_test(advice),
        cmocka_unit_test(there_and_back),     cmocka_unit_test(refused_folders),
        cmocka_unit_test(evaluation),         cmocka_unit_test(pairs)};
    return cmocka_run_group_tests_name("ensemble", tests, setup, teardown);
}
