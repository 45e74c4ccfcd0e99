/* PDB reading and writing: the reference files, files from the wild, hostile files. */
#include "tbg_test.h"
#include "tbg/file.h"
#include "tbg/molecule.h"

#include <stdlib.h>
#include <string.h>

#define ENERGIES TBG_SHARED_DIR "/vectors/energies/"
static const char *const NAMES[] = {
    "AC", "DE", "FG", "GP", "HI", "KL", "LT", "MN", "PQ", "RS", "TV", "WY", "alanine_dipeptide"};
#define N_NAMES ((int)(sizeof NAMES / sizeof NAMES[0]))

static void path_of(int i, char *path) {
    sprintf(path, ENERGIES "%s.pdb", NAMES[i]);
}

/* Every reference file reads, keeps order, names and coordinates, and writes back to the same records. */
static void reads_reference_files(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        char path[512], *file, *text, sequence[64];
        size_t size;
        path_of(i, path);
        assert_ok(tbg_file_read(path, 1 << 20, &file, &size));
        tbg_molecule *m;
        assert_ok(tbg_molecule_read_pdb(path, &m));
        tbg_molecule_sequence(m, sequence, sizeof sequence);
        assert_string_equal(sequence, i == N_NAMES - 1 ? "ACE-A-NME" : NAMES[i]);
        assert_ok(tbg_molecule_format_pdb(m, NULL, &text));
        /* Same lines but for the remark and the order inside CONECT records. */
        char *a = strchr(file, '\n') + 1, *b = strchr(text, '\n') + 1;
        size_t n = strstr(a, "TER") - a;
        assert_memory_equal(a, b, n);
        int conect = 0;
        for (char *p = text; (p = strstr(p, "CONECT")); p++)
            conect++;
        int wanted = 0;
        for (char *p = file; (p = strstr(p, "CONECT")); p++)
            wanted++;
        assert_int_equal(conect, wanted);
        /* A tree plus the rings. */
        int rings = 0;
        for (char *p = sequence; *p; p++)
            rings += *p == 'W' ? 2 : !!strchr("HFPY", *p);
        if (i < N_NAMES - 1)
            assert_int_equal(m->n_bonds, m->n_atoms - 1 + rings);
        else
            assert_int_equal(m->n_bonds, 21);
        /* Bonds are as long as bonds are. */
        for (int k = 0; k < m->n_bonds; k++) {
            double d = 0;
            for (int x = 0; x < 3; x++)
                d += pow(m->positions[m->bonds[k][0]][x] - m->positions[m->bonds[k][1]][x], 2);
            assert_true(sqrt(d) > 0.09 && sqrt(d) < 0.19);
            assert_true(m->bonds[k][0] < m->bonds[k][1]);
            if (k)
                assert_true(m->bonds[k][0] > m->bonds[k - 1][0] ||
                            (m->bonds[k][0] == m->bonds[k - 1][0] && m->bonds[k][1] > m->bonds[k - 1][1]));
        }
        tbg_molecule *again;
        assert_ok(tbg_molecule_parse_pdb(text, strlen(text), "again", &again));
        assert_int_equal(again->n_atoms, m->n_atoms);
        assert_memory_equal(again->positions, m->positions, sizeof(double[3]) * m->n_atoms);
        tbg_molecule_free(again);
        tbg_molecule_free(m);
        free(file);
        free(text);
    }
}

static void torsions(void **state) {
    (void)state;
    tbg_molecule *m;
    tbg_torsion *t;
    int n;
    assert_ok(tbg_molecule_read_pdb(ENERGIES "alanine_dipeptide.pdb", &m));
    assert_ok(tbg_backbone_torsions(m, &n, &t));
    assert_int_equal(n, 4);
    assert_string_equal(t[0].name, "omega1");
    assert_string_equal(t[1].name, "phi1");
    assert_string_equal(t[2].name, "psi1");
    assert_string_equal(t[3].name, "omega2");
    const int phi[4] = {4, 6, 8, 14}, psi[4] = {6, 8, 14, 16};
    assert_memory_equal(t[1].atoms, phi, sizeof phi);
    assert_memory_equal(t[2].atoms, psi, sizeof psi);
    free(t);
    tbg_molecule_free(m);
    /* Known angle: IUPAC sign, clockwise positive looking from the second to the third atom. */
    double x[12] = {1, 0, 0, 0, 0, 0, 0, 0, 1, cos(2.0), sin(2.0), 1};
    const int a[4] = {0, 1, 2, 3};
    assert_true(fabs(tbg_dihedral(x, a) - 2.0) < 1e-12);
    x[9] = -1, x[10] = 0;
    assert_true(fabs(tbg_dihedral(x, a) - M_PI) < 1e-12);
    x[10] = -0.0;
    assert_true(fabs(tbg_dihedral(x, a) - M_PI) < 1e-12);
}

static void bond_distances(void **state) {
    (void)state;
    const int bonds[4][2] = {{0, 1}, {1, 2}, {2, 3}, {1, 3}};
    unsigned char d[25];
    assert_ok(tbg_bond_distances(5, 4, bonds, d));
    const unsigned char want[25] = {0, 1,   2, 2, 255, 1, 0,   1,   1,   255, 2,   1, 0,
                                    1, 255, 2, 1, 1,   0, 255, 255, 255, 255, 255, 0};
    assert_memory_equal(d, want, 25);
    const int bad[1][2] = {{0, 7}};
    assert_int_equal(tbg_bond_distances(5, 1, bad, d), TBG_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_reference_files), cmocka_unit_test(torsions),
                                       cmocka_unit_test(bond_distances)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
