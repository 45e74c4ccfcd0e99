/* Stereocentres and the checker: crystal structures are L, relabelling, mirrors, hostile geometry. */
#include "tbg_test.h"
#include "tbg/file.h"
#include "tbg/molecule.h"
#include "tbg/random.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENERGIES TBG_SHARED_DIR "/vectors/energies/"
static const char *const NAMES[] = {
    "AC", "DE", "FG", "GP", "HI", "KL", "LT", "MN", "PQ", "RS", "TV", "WY", "alanine_dipeptide"};
/* CA of all but GLY, CB of ILE and THR. */
static const int CENTRES[] = {2, 2, 1, 1, 3, 2, 3, 2, 2, 2, 3, 2, 1};
#define N_NAMES ((int)(sizeof NAMES / sizeof NAMES[0]))

static tbg_molecule *read_name(int i) {
    char path[512];
    tbg_molecule *m;
    sprintf(path, ENERGIES "%s.pdb", NAMES[i]);
    assert_ok(tbg_molecule_read_pdb(path, &m));
    return m;
}

static double *copy_of(const tbg_molecule *m) {
    double *x = malloc(sizeof(double[3]) * m->n_atoms);
    memcpy(x, m->positions, sizeof(double[3]) * m->n_atoms);
    return x;
}

static void crystals_are_l(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        tbg_molecule *m = read_name(i);
        tbg_stereo s;
        tbg_checker *c;
        assert_ok(tbg_stereo_find(m, &s));
        assert_int_equal(s.n, CENTRES[i]);
        tbg_stereo_free(&s);
        assert_ok(tbg_checker_create(m, &c));
        /* Minimised and thermal frames: valid as they are. */
        char path[512];
        int64_t n;
        double *frames;
        sprintf(path, ENERGIES "%s.safetensors", NAMES[i]);
        assert_ok(tbg_frames_read(path, m->n_atoms, &n, &frames));
        assert_true(n == 6);
        double *x = malloc(sizeof(double[3]) * m->n_atoms);
        for (int f = 0; f < 5; f++) {
            memcpy(x, frames + (size_t)f * 3 * m->n_atoms, sizeof(double[3]) * m->n_atoms);
            assert_int_equal(tbg_check(c, x), TBG_VALID);
            assert_memory_equal(x, frames + (size_t)f * 3 * m->n_atoms, sizeof(double[3]) * m->n_atoms);
            /* The mirror image in a plane comes back superposable: same distances, valid. */
            for (int a = 0; a < m->n_atoms; a++)
                x[3 * a] = -x[3 * a];
            tbg_checker_set_mirror(c, 0);
            assert_int_equal(tbg_check(c, x), TBG_CHIRALITY);
            tbg_checker_set_mirror(c, 1);
            assert_int_equal(tbg_check(c, x), TBG_MIRRORED);
            assert_int_equal(tbg_check(c, x), TBG_VALID);
            for (int a = 0; a < m->n_atoms; a++) /* about the centroid, so this is the frame turned about x */
                for (int k = 1; k < 3; k++) {
                    double mean = 0, want = frames[((size_t)f * m->n_atoms + a) * 3 + k];
                    for (int b = 0; b < m->n_atoms; b++)
                        mean += frames[((size_t)f * m->n_atoms + b) * 3 + k] / m->n_atoms;
                    assert_true(fabs(x[3 * a + k] - (2 * mean - want)) < 1e-9);
                }
        }
        free(x);
        free(frames);
        tbg_checker_free(c);
        tbg_molecule_free(m);
    }
}

static void invert_one_centre(void **state) {
    (void)state;
    tbg_molecule *m =
        read_name(0); /* AC: swap HA and CB of one residue through CA: geometry with valid bonds */
    tbg_checker *c;
    assert_ok(tbg_checker_create(m, &c));
    double *x = copy_of(m);
    /* Mirror residue 2 alone in the plane through N, CA, C: bonds inside it are kept, the centre inverts. */
    int n = tbg_molecule_find(m, 1, "N"), ca = tbg_molecule_find(m, 1, "CA"),
        co = tbg_molecule_find(m, 1, "C");
    double u[3], v[3], w[3], norm = 0;
    for (int k = 0; k < 3; k++) {
        u[k] = x[3 * n + k] - x[3 * ca + k];
        v[k] = x[3 * co + k] - x[3 * ca + k];
    }
    for (int k = 0; k < 3; k++) {
        w[k] = u[(k + 1) % 3] * v[(k + 2) % 3] - u[(k + 2) % 3] * v[(k + 1) % 3];
        norm += w[k] * w[k];
    }
    const char *side[] = {"HA", "CB", "HB2", "HB3", "SG", "HG"};
    for (int i = 0; i < 6; i++) {
        int a = tbg_molecule_find(m, 1, side[i]);
        double dot = 0;
        for (int k = 0; k < 3; k++)
            dot += (x[3 * a + k] - x[3 * ca + k]) * w[k] / norm;
        for (int k = 0; k < 3; k++)
            x[3 * a + k] -= 2 * dot * w[k];
    }
    assert_int_equal(tbg_check(c, x), TBG_CHIRALITY);
    free(x);
    tbg_checker_free(c);
    tbg_molecule_free(m);
}

/* Any permutation of atoms within elements is found and undone, up to symmetry. */
static void relabels(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        tbg_molecule *m = read_name(i);
        tbg_checker *c;
        assert_ok(tbg_checker_create(m, &c));
        for (int trial = 0; trial < 10; trial++) {
            double *x = copy_of(m);
            for (int a = m->n_atoms - 1; a > 0; a--) {
                int b = (int)tbg_random_below(7, TBG_STREAM(TBG_STREAM_TEST, trial), a, (uint64_t)a + 1);
                if (m->atoms[a].element == m->atoms[b].element)
                    for (int k = 0; k < 3; k++) {
                        double swap = x[3 * a + k];
                        x[3 * a + k] = x[3 * b + k];
                        x[3 * b + k] = swap;
                    }
            }
            if (trial == 9) /* mirrored as well */
                for (int a = 0; a < m->n_atoms; a++)
                    x[3 * a + 2] = -x[3 * a + 2];
            assert_int_equal(tbg_check(c, x), trial == 9 ? TBG_MIRRORED : TBG_VALID);
            for (int b = 0; b < m->n_bonds; b++) {
                double d = 0;
                for (int k = 0; k < 3; k++)
                    d += pow(x[3 * m->bonds[b][0] + k] - x[3 * m->bonds[b][1] + k], 2);
                assert_true(sqrt(d) < 0.22);
            }
            assert_int_equal(tbg_check(c, x), TBG_VALID);
            if (trial < 9) { /* backbone atoms have no symmetric partner: exactly in place */
                int ca = tbg_molecule_find(m, 1, "CA");
                assert_memory_equal(x + 3 * ca, m->positions[ca], sizeof(double[3]));
            }
            free(x);
        }
        tbg_checker_free(c);
        tbg_molecule_free(m);
    }
}

static void symmetric_swap_keeps_places(void **state) {
    (void)state;
    tbg_molecule *m = read_name(10); /* TV: the two methyls of VAL are no stereocentre */
    tbg_checker *c;
    assert_ok(tbg_checker_create(m, &c));
    double *x = copy_of(m);
    const char *pairs[][2] = {{"CG1", "CG2"}, {"HG11", "HG21"}, {"HG12", "HG22"}, {"HG13", "HG23"}};
    for (int p = 0; p < 4; p++) {
        int a = tbg_molecule_find(m, 1, pairs[p][0]), b = tbg_molecule_find(m, 1, pairs[p][1]);
        memcpy(x + 3 * a, m->positions[b], sizeof(double[3]));
        memcpy(x + 3 * b, m->positions[a], sizeof(double[3]));
    }
    double *before = malloc(sizeof(double[3]) * m->n_atoms);
    memcpy(before, x, sizeof(double[3]) * m->n_atoms);
    assert_int_equal(tbg_check(c, x), TBG_VALID);
    assert_memory_equal(x, before, sizeof(double[3]) * m->n_atoms);
    free(before);
    free(x);
    tbg_checker_free(c);
    tbg_molecule_free(m);
}

static void hostile(void **state) {
    (void)state;
    tbg_molecule *m = read_name(11);
    tbg_checker *c;
    assert_ok(tbg_checker_create(m, &c));
    double *x = copy_of(m);
    x[5] = NAN;
    assert_int_equal(tbg_check(c, x), TBG_NOT_FINITE);
    x[5] = INFINITY;
    assert_int_equal(tbg_check(c, x), TBG_NOT_FINITE);
    x[5] = 1e308;
    assert_int_equal(tbg_check(c, x), TBG_TOPOLOGY);
    memset(x, 0, sizeof(double[3]) * m->n_atoms);
    assert_int_equal(tbg_check(c, x), TBG_TOPOLOGY);
    memcpy(x, m->positions, sizeof(double[3]) * m->n_atoms);
    int h =
        tbg_molecule_find(m, 0, "HZ2"); /* a bond broken, another made elsewhere: same count, other graph */
    int o = tbg_molecule_find(m, 1, "OXT");
    for (int k = 0; k < 3; k++)
        x[3 * h + k] = x[3 * o + k] + (k == 0) * 0.11;
    assert_int_equal(tbg_check(c, x), TBG_TOPOLOGY);
    for (int trial = 0; trial < 200; trial++) { /* random clouds of many densities */
        for (int i = 0; i < 3 * m->n_atoms; i++)
            tbg_random_uniform(1, TBG_STREAM(TBG_STREAM_TEST, trial), i, 1, &x[i]),
                x[i] *= 0.2 + 0.01 * trial;
        assert_int_equal(tbg_check(c, x), TBG_TOPOLOGY);
    }
    free(x);
    tbg_checker_free(c);
    tbg_molecule_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crystals_are_l), cmocka_unit_test(invert_one_centre), cmocka_unit_test(relabels),
        cmocka_unit_test(symmetric_swap_keeps_places), cmocka_unit_test(hostile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
