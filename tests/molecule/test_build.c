/* Building from sequences: every dipeptide is whole, L, free of clashes; bad sequences are refused with the
 * position. */
#include "tbg_test.h"
#include "tbg/molecule.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static double distance(const tbg_molecule *m, int i, int j) {
    double s = 0;
    for (int k = 0; k < 3; k++)
        s += pow(m->positions[i][k] - m->positions[j][k], 2);
    return sqrt(s);
}

/* Bond lengths, closed rings, contacts, L centres by the checker, and a PDB text that reads back. */
static void check_whole(const char *sequence) {
    tbg_molecule *m, *again;
    tbg_checker *c;
    assert_ok(tbg_molecule_from_sequence(sequence, &m));
    for (int b = 0; b < m->n_bonds; b++) {
        int i = m->bonds[b][0], j = m->bonds[b][1],
            h = (m->atoms[i].element == 1) + (m->atoms[j].element == 1);
        int s = m->atoms[i].element == 16 || m->atoms[j].element == 16;
        double d = distance(m, i, j),
               low = h   ? (s ? 0.13 : 0.095)
                     : s ? 0.178
                         : 0.12,
               high = h   ? (s ? 0.136 : 0.111)
                      : s ? 0.185
                          : 0.157;
        if (!(d > low && d < high))
            fail_msg("%s: bond %s-%s of %.4f nm", sequence, m->atoms[i].name, m->atoms[j].name, d);
    }
    unsigned char *path = malloc((size_t)m->n_atoms * m->n_atoms);
    assert_ok(tbg_bond_distances(m->n_atoms, m->n_bonds, (const int(*)[2])m->bonds, path));
    for (int i = 0; i < m->n_atoms; i++)
        for (int j = 0; j < i; j++) {
            int p = path[i * m->n_atoms + j], h = m->atoms[i].element == 1 || m->atoms[j].element == 1;
            double low = p == 1   ? 0
                         : p == 2 ? (h ? 0.15 : 0.20)
                         : p == 3 ? (h ? 0.20 : 0.24)
                         : h      ? 0.175
                                  : 0.26;
            if (!(distance(m, i, j) > low))
                fail_msg("%s: %s of residue %d and %s of residue %d, %d bonds apart, are %.4f nm apart",
                         sequence, m->atoms[i].name, m->atoms[i].residue, m->atoms[j].name,
                         m->atoms[j].residue, p, distance(m, i, j));
        }
    assert_ok(tbg_checker_create(m, &c));
    assert_int_equal(tbg_check(c, (double *)m->positions), TBG_VALID);
    char *text;
    assert_ok(tbg_molecule_format_pdb(m, NULL, &text));
    assert_ok(tbg_molecule_parse_pdb(text, strlen(text), sequence, &again));
    assert_int_equal(again->n_atoms, m->n_atoms);
    assert_memory_equal(again->atoms, m->atoms, sizeof *m->atoms * m->n_atoms);
    assert_int_equal(again->n_bonds, m->n_bonds);
    assert_memory_equal(again->bonds, m->bonds, sizeof *m->bonds * m->n_bonds);
    free(path);
    free(text);
    tbg_checker_free(c);
    tbg_molecule_free(m);
    tbg_molecule_free(again);
}

static const char LETTERS[] = "ACDEFGHIKLMNPQRSTVWY";

static void dipeptides(void **state) {
    (void)state;
    /* Atoms of the residue inside a chain; a zwitterion has three more than the sum. */
    static const int ATOMS[] = {10, 11, 12, 15, 20, 7,  17, 19, 22, 19,
                                17, 14, 14, 17, 24, 11, 14, 16, 24, 21};
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 20; j++) {
            char sequence[3] = {LETTERS[i], LETTERS[j], 0}, name[16];
            tbg_molecule *m;
            assert_ok(tbg_molecule_from_sequence(sequence, &m));
            assert_int_equal(m->n_atoms, ATOMS[i] + ATOMS[j] + 3);
            tbg_molecule_sequence(m, name, sizeof name);
            assert_string_equal(name, sequence);
            tbg_molecule_free(m);
            check_whole(sequence);
        }
}

static void capped_and_longer(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        char sequence[16] = "ACE-A-NME";
        sequence[4] = LETTERS[i];
        check_whole(sequence);
    }
    check_whole("ACE-NME");
    check_whole("ACE-HID-HIP-GLY-P-NME");
    check_whole("PPP");
    check_whole("ACDEFGHIKLMNPQRSTVWY");
    check_whole("YYGGWWFFPPRRKKHHEEDDIIVVLLTT");
}

/* Atom order as in the published data, names as OpenMM writes them. */
static void order_and_names(void **state) {
    (void)state;
    static const char *const WANT[] = {"H1",  "CH3", "H2",  "H3", "C", "O", "N", "H", "CA", "HA", "CB",
                                       "HB1", "HB2", "HB3", "C",  "O", "N", "H", "C", "H1", "H2", "H3"};
    const char *same[] = {"ACE-ALA-NME", "ACE-A-NME", "Ace-Ala-Nme"};
    for (int s = 0; s < 3; s++) {
        tbg_molecule *m;
        assert_ok(tbg_molecule_from_sequence(same[s], &m));
        assert_int_equal(m->n_atoms, 22);
        for (int i = 0; i < 22; i++)
            assert_string_equal(m->atoms[i].name, WANT[i]);
        tbg_molecule_free(m);
    }
    tbg_molecule *a, *b;
    assert_ok(tbg_molecule_from_sequence("AC", &a));
    assert_ok(tbg_molecule_from_sequence("ALA-CYS", &b));
    static const char *const AC[] = {"N",   "H",   "H2",  "H3", "CA", "HA", "CB", "HB1",
                                     "HB2", "HB3", "C",   "O",  "N",  "H",  "CA", "HA",
                                     "CB",  "HB2", "HB3", "SG", "HG", "C",  "O",  "OXT"};
    assert_int_equal(a->n_atoms, 24);
    for (int i = 0; i < 24; i++)
        assert_string_equal(a->atoms[i].name, AC[i]);
    assert_memory_equal(a->positions, b->positions, sizeof(double[3]) * 24);
    tbg_molecule_free(a);
    tbg_molecule_free(b);
    int hydrogens[3] = {0};
    const char *his[] = {"HIE-A", "HID-A", "HIP-A"};
    for (int i = 0; i < 3; i++) {
        char name[16];
        assert_ok(tbg_molecule_from_sequence(his[i], &a));
        hydrogens[i] = (tbg_molecule_find(a, 0, "HD1") >= 0) + 2 * (tbg_molecule_find(a, 0, "HE2") >= 0);
        assert_string_equal(a->residues[0].name, "HIS");
        tbg_molecule_sequence(a, name, sizeof name);
        assert_string_equal(name, i ? his[i] : "HA");
        tbg_molecule_free(a);
    }
    assert_true(hydrogens[0] == 2 && hydrogens[1] == 1 && hydrogens[2] == 3);
}

static void refused(void **state) {
    (void)state;
    static const char *const CASES[][2] = {
        {"AXC", "position 2"},    {"", "empty"},          {"ALA-CYX", "disulfide"}, {"A--C", "position 2"},
        {"A-", "position 2"},     {"-A", "position 1"},   {"ac", "capital"},        {"A-ACE", "beginning"},
        {"NME-A", "end"},         {"ALA-LYN", "neutral"}, {"ASH-A", "protonated"},  {"GLH-A", "protonated"},
        {"A-ALANINE", "ALANINE"}, {"ACE-", "position 2"}, {"A C", "position 2"},    {"A\xff", "position 2"}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        tbg_molecule *m = (tbg_molecule *)1;
        assert_int_equal(tbg_molecule_from_sequence(CASES[i][0], &m), TBG_INPUT);
        assert_null(m);
        if (!strstr(tbg_message(), CASES[i][1]))
            fail_msg("'%s' is refused by '%s', which lacks '%s'", CASES[i][0], tbg_message(), CASES[i][1]);
    }
    char *long_one = malloc(100001);
    memset(long_one, 'A', 100000);
    long_one[100000] = 0;
    tbg_molecule *m;
    assert_int_equal(tbg_molecule_from_sequence(long_one, &m), TBG_INPUT);
    assert_int_equal(tbg_molecule_load("no/such/file.pdb", &m), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "no such file"));
    free(long_one);
}

/* `tbg sample GN -o GN` makes a folder GN; the next command must still find the sequence. */
static void folder_named_like_the_sequence(void **state) {
    (void)state;
    char before[4096], folder[] = "/tmp/tbg-folder-XXXXXX";
    tbg_molecule *m = NULL;
    assert_non_null(getcwd(before, sizeof before));
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(mkdir("GN", 0700), 0);
    int status = tbg_molecule_load("GN", &m);
    assert_int_equal(rmdir("GN"), 0);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_ok(status);
    assert_int_equal(m->n_residues, 2);
    tbg_molecule_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(dipeptides), cmocka_unit_test(capped_and_longer),
                                       cmocka_unit_test(order_and_names), cmocka_unit_test(refused),
                                       cmocka_unit_test(folder_named_like_the_sequence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
