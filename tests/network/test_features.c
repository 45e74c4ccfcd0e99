/* test_features.c: node features by atom name, bonded pairs from the force field, refusals. */
#include "network/features.h"
#include "network/vectors.h"
#include <math.h>

static tbg_molecule *from_sequence(const char *sequence) {
    tbg_molecule *m;
    assert_ok(tbg_molecule_from_sequence(sequence, &m));
    return m;
}

/* Column of the only 1 in features [from, to) of an atom. */
static int column(const double *f, int width, int atom, int from, int to) {
    int found = -1;
    for (int k = from; k < to; k++) {
        double x = f[atom * width + k];
        assert_true(x == 0 || x == 1);
        if (x == 1) {
            assert_int_equal(found, -1);
            found = k;
        }
    }
    assert_true(found >= 0);
    return found;
}

static void alanine_dipeptide(void **state) {
    (void)state;
    /* As the force field's PDB file orders and names the atoms. */
    static const int full[22] = {2,  0,  2,  2,  4,  5,  6,  7,  8,  9,  10,
                                 12, 12, 12, 14, 15, 16, 17, 18, 20, 20, 20};
    static const int backbone[22] = {0, 1, 0, 0, 4, 3, 5, 0, 6, 0, 1, 0, 0, 0, 7, 3, 8, 0, 1, 0, 0, 0};
    tbg_molecule *m;
    assert_ok(tbg_molecule_read_pdb(TBG_SHARED_DIR "/vectors/energies/alanine_dipeptide.pdb", &m));
    double f[22 * 21];
    assert_ok(tbg_node_features(TBG_FEATURES_AD_FULL, m, f));
    for (int i = 0; i < 22; i++)
        assert_int_equal(column(f, 21, i, 0, 21), full[i]);
    assert_ok(tbg_node_features(TBG_FEATURES_AD_BACKBONE, m, f));
    for (int i = 0; i < 22; i++)
        assert_int_equal(column(f, 9, i, 0, 9), backbone[i]);
    assert_int_equal(tbg_node_features(TBG_FEATURES_FULL, m, f), TBG_INPUT);
    assert_int_equal(tbg_node_features(TBG_FEATURES_BACKBONE, m, f), TBG_INPUT);
    assert_ok(tbg_node_features(TBG_FEATURES_ELEMENT, m, f));
    tbg_molecule_free(m);
    m = from_sequence("ACE-G-NME");
    assert_int_equal(tbg_node_features(TBG_FEATURES_AD_FULL, m, f), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "ACE-ALA-NME"));
    tbg_molecule_free(m);
    m = from_sequence("ACE-A-NME"); /* built here: names may differ, columns may not */
    int count[21] = {0};
    assert_ok(tbg_node_features(TBG_FEATURES_AD_FULL, m, f));
    for (int i = 0; i < 22; i++)
        count[column(f, 21, i, 0, 21)]++;
    for (int k = 0; k < 21; k++)
        assert_int_equal(count[k], k == 2 || k == 12 || k == 20                                   ? 3
                                   : k == 1 || k == 3 || k == 11 || k == 13 || k == 19 || k == 20 ? 0
                                                                                                  : 1);
    tbg_molecule_free(m);
}

static void dipeptides(void **state) {
    (void)state;
    static const char letters[] = "ARNDCQEGHILKMFPSTWYV"; /* in the order of the published residue types */
    int used[54] = {0};
    double *f = malloc(60 * 76 * sizeof *f);
    for (int r = 0; r < 20; r++) {
        char sequence[3] = {letters[(r * 7 + 3) % 20], letters[r], 0};
        if (sequence[0] == 'P')
            sequence[0] = 'A';
        tbg_molecule *m = from_sequence(sequence);
        assert_true(m->n_atoms <= 60);
        assert_ok(tbg_node_features(TBG_FEATURES_FULL, m, f));
        for (int i = 0; i < m->n_atoms; i++) {
            int residue = m->atoms[i].residue;
            assert_int_equal(column(f, 76, i, 0, 2), residue);
            assert_int_equal(letters[column(f, 76, i, 2, 22) - 2], sequence[residue]);
            used[column(f, 76, i, 22, 76) - 22] = 1;
        }
        assert_ok(tbg_node_features(TBG_FEATURES_BACKBONE, m, f));
        for (int i = 0; i < m->n_atoms; i++) {
            static const char *const names[] = {"N", "CA", "C", "O"};
            int want = -1, got = column(f, 13, i, 0, 13);
            for (int k = 0; k < 4; k++)
                if (!strcmp(m->atoms[i].name, names[k]))
                    want = 5 + 4 * m->atoms[i].residue + k;
            if (want < 0) {
                static const int elements[] = {1, 6, 7, 8, 16};
                for (int k = 0; k < 5; k++)
                    if (elements[k] == m->atoms[i].element)
                        want = k;
            }
            assert_int_equal(got, want);
        }
        tbg_molecule_free(m);
    }
    for (int k = 0; k < 54; k++) /* the published classes are exactly those that dipeptides need */
        assert_true(used[k]);
    free(f);
}

/* Published classes of a few names, alphabetical. */
static void name_rule(void **state) {
    (void)state;
    static const struct {
        const char *sequence, *atom;
        int residue, class;
    } cases[] = {
        {"IA", "HG12", 0, 28}, {"IA", "HG21", 0, 29}, {"IA", "HD11", 0, 21}, {"VA", "HG11", 0, 28},
        {"LA", "HD21", 0, 22}, {"NA", "HD21", 0, 22}, {"NA", "OD1", 0, 46},  {"DA", "OD2", 0, 46},
        {"EA", "OE2", 0, 47},  {"RA", "HH12", 0, 31}, {"RA", "HE", 0, 23},   {"FA", "HD1", 0, 21},
        {"FA", "HZ", 0, 33},   {"WA", "HZ3", 0, 35},  {"WA", "HE1", 0, 24},  {"WA", "HE3", 0, 26},
        {"WA", "HH2", 0, 32},  {"YA", "HH", 0, 30},   {"KA", "HZ1", 0, 33},  {"KA", "HE2", 0, 23},
        {"HA", "HE1", 0, 24},  {"HA", "HD2", 0, 22},  {"TA", "HG1", 0, 27},  {"TA", "OG1", 0, 49},
        {"CA", "HG", 0, 27},   {"CA", "SG", 0, 53},   {"AA", "H2", 0, 17},   {"AA", "HB2", 0, 19},
        {"AA", "OXT", 1, 51},  {"GA", "HA3", 0, 18},  {"QA", "HE21", 0, 25}, {"MA", "HE1", 0, 23},
        {"PA", "HD2", 0, 20},
    };
    double *f = malloc(60 * 76 * sizeof *f);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        if (cases[c].sequence[0] == 'P')
            continue; /* proline comes second in the published sets */
        tbg_molecule *m = from_sequence(cases[c].sequence);
        int atom = tbg_molecule_find(m, cases[c].residue, cases[c].atom);
        if (atom < 0)
            fail_msg("%s has no %s", cases[c].sequence, cases[c].atom);
        assert_ok(tbg_node_features(TBG_FEATURES_FULL, m, f));
        int got = column(f, 76, atom, 22, 76) - 22;
        if (got != cases[c].class)
            fail_msg("%s of %s: class %d, not %d", cases[c].atom, cases[c].sequence, got, cases[c].class);
        tbg_molecule_free(m);
    }
    free(f);
}

static double third_side(double p, double q, double angle) {
    return sqrt(p * p + q * q - 2 * p * q * cos(angle));
}

static void bonded_pairs(void **state) {
    (void)state;
    tbg_network_spec spec;
    assert_ok(tbg_network_preset("improved-ad", &spec));
    spec.scale = 7;
    tbg_molecule *m = from_sequence("ACE-A-NME");
    tbg_system *system;
    tbg_conditioning *c;
    assert_ok(tbg_system_create(m, "amber99sbildn-obc", -1, &system));
    assert_ok(tbg_conditioning_create(&spec, m, system, 300, &c));
    double kT = TBG_BOLTZMANN * 300;
    int count[4] = {0}, n = m->n_atoms;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            int ij = i * n + j, ji = j * n + i, class = c->bond_class[ij];
            assert_true(class <= 3);
            count[class]++;
            assert_true(class == c->bond_class[ji] && c->pair_mean[ij] == c->pair_mean[ji] &&
                        c->pair_width[ij] == c->pair_width[ji]);
            assert_true((c->pair_width[ij] > 0) == (class == 1 || class == 2));
        }
    assert_int_equal(count[1], 2 * system->n_bonds);
    assert_int_equal(count[2], 2 * system->n_angles); /* no rings: every angle is a 1-3 pair */
    assert_true(count[3] > 0);
    for (int k = 0; k < system->n_bonds; k++) {
        tbg_bond_term b = system->bonds[k];
        assert_true(fabs(c->pair_mean[b.i * n + b.j] - 7 * b.length) < 1e-12);
        assert_true(fabs(c->pair_width[b.i * n + b.j] - 7 * sqrt(kT / b.k)) < 1e-12);
    }
    for (int k = 0; k < system->n_angles; k++) {
        tbg_angle_term a = system->angles[k];
        double p = c->pair_mean[a.i * n + a.j], q = c->pair_mean[a.j * n + a.k], h = 1e-5;
        double by_p = (third_side(p + h, q, a.angle) - third_side(p - h, q, a.angle)) / (2 * h);
        double by_q = (third_side(p, q + h, a.angle) - third_side(p, q - h, a.angle)) / (2 * h);
        double by_a = (third_side(p, q, a.angle + h) - third_side(p, q, a.angle - h)) / (2 * h);
        double wp = c->pair_width[a.i * n + a.j], wq = c->pair_width[a.j * n + a.k];
        double want = sqrt(by_a * by_a * kT / a.stiffness + by_p * by_p * wp * wp + by_q * by_q * wq * wq);
        assert_true(fabs(c->pair_mean[a.i * n + a.k] - third_side(p, q, a.angle)) < 1e-12);
        assert_true(fabs(c->pair_width[a.i * n + a.k] / want - 1) < 1e-6);
    }
    /* Smoothed: mean and width of a pair whose length is normal and whose atoms have noise, drawn. */
    spec.smoothing = 0.02;
    tbg_conditioning *smooth;
    assert_ok(tbg_conditioning_create(&spec, m, system, 300, &smooth));
    for (int k = 0; k < n * n; k++)
        assert_true(smooth->bond_class[k] == c->bond_class[k] &&
                    (smooth->pair_width[k] > 0) == (c->pair_width[k] > 0));
    for (int k = 0; k < 4; k++) {
        enum { DRAWS = 40000 };
        tbg_bond_term b = system->bonds[k * system->n_bonds / 4];
        double draw[4 * DRAWS], sum = 0, squares = 0, m0 = c->pair_mean[b.i * n + b.j],
                                w0 = c->pair_width[b.i * n + b.j];
        tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, k), 0, 4 * DRAWS, draw);
        for (int i = 0; i < DRAWS; i++) {
            const double *z = draw + 4 * i, s = 7 * 0.02 * sqrt(2);
            double x = m0 + w0 * z[0] + s * z[1], r = sqrt(x * x + s * s * (z[2] * z[2] + z[3] * z[3]));
            sum += r / DRAWS;
            squares += r * r / DRAWS;
        }
        double mean = smooth->pair_mean[b.i * n + b.j], width = smooth->pair_width[b.i * n + b.j];
        assert_true(fabs(mean - sum) < 0.25 * (sum - m0) &&
                    fabs(width / sqrt(squares - sum * sum) - 1) < 0.06);
    }
    tbg_conditioning_free(smooth);
    /* A C-H bond is about 0.109 nm, 0.0027 nm wide at 300 K. */
    int ca = tbg_molecule_find(m, 1, "CA"), ha = tbg_molecule_find(m, 1, "HA");
    assert_true(fabs(c->pair_mean[ca * n + ha] / 7 - 0.109) < 1e-4);
    assert_true(fabs(c->pair_width[ca * n + ha] / 7 - 0.00297) < 3e-4);
    tbg_conditioning_free(c);
    /* What is missing is said. */
    assert_int_equal(tbg_conditioning_create(&spec, m, NULL, 300, &c), TBG_INPUT);
    assert_int_equal(tbg_conditioning_create(&spec, m, system, 0, &c), TBG_INPUT);
    spec.scale = 0;
    assert_int_equal(tbg_conditioning_create(&spec, m, system, 300, &c), TBG_INPUT);
    spec.scale = 7;
    system->n_angles -= 3;
    assert_int_equal(tbg_conditioning_create(&spec, m, system, 300, &c), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "no term for the pair"));
    system->n_angles += 3;
    spec = (tbg_network_spec){0};
    assert_ok(tbg_network_preset("ad-full", &spec));
    assert_ok(tbg_conditioning_create(&spec, m, NULL, 0, &c)); /* the published field needs no force field */
    assert_int_equal(c->n_features, 21);
    tbg_conditioning_free(c);
    tbg_system_free(system);
    tbg_molecule_free(m);
}

/* Rings have 1-3 pairs that are reached both ways round; a five-membered ring's width must still be positive.
 */
static void rings(void **state) {
    (void)state;
    tbg_network_spec spec;
    assert_ok(tbg_network_preset("tbg-full", &spec));
    spec.edge_features |= TBG_EDGE_BONDED | TBG_EDGE_RATE;
    spec.harmonic_term = 1;
    static const char *const sequences[] = {"WP", "HF", "YC", "GP", "KR"};
    for (size_t k = 0; k < sizeof sequences / sizeof *sequences; k++) {
        tbg_molecule *m = from_sequence(sequences[k]);
        tbg_system *system;
        tbg_conditioning *c;
        assert_ok(tbg_system_create(m, "amber14-obc1", -1, &system));
        assert_ok(tbg_conditioning_create(&spec, m, system, 310, &c));
        for (int ij = 0; ij < m->n_atoms * m->n_atoms; ij++)
            if (c->bond_class[ij] == 1 || c->bond_class[ij] == 2) {
                assert_true(c->pair_width[ij] / 30 > 0.002 && c->pair_width[ij] / 30 < 0.02);
                assert_true(c->pair_mean[ij] / 30 > 0.09 && c->pair_mean[ij] / 30 < 0.30);
            }
        tbg_conditioning_free(c);
        tbg_system_free(system);
        tbg_molecule_free(m);
    }
}

static void names_of_sets(void **state) {
    (void)state;
    for (int s = TBG_FEATURES_RAW; s <= TBG_FEATURES_AD_FULL; s++) {
        tbg_feature_set set;
        assert_ok(tbg_feature_set_parse(tbg_feature_set_name((tbg_feature_set)s), &set));
        assert_int_equal(set, s);
    }
    tbg_feature_set set;
    assert_int_equal(tbg_feature_set_parse("everything", &set), TBG_INPUT);
    double nan = NAN;
    tbg_conditioning *c;
    assert_int_equal(tbg_conditioning_from_features(1, 1, &nan, &c), TBG_INPUT);
    assert_int_equal(tbg_conditioning_from_features(0, 1, &nan, &c), TBG_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alanine_dipeptide), cmocka_unit_test(dipeptides), cmocka_unit_test(name_rule),
        cmocka_unit_test(bonded_pairs),      cmocka_unit_test(rings),      cmocka_unit_test(names_of_sets)};
    return cmocka_run_group_tests_name("features", tests, NULL, NULL);
}
