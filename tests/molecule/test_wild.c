/* PDB files as others write them, files that must be refused with the place named, and mutated files. */
#include "tbg_test.h"
#include "tbg/file.h"
#include "tbg/molecule.h"
#include "tbg/random.h"

#include <stdlib.h>
#include <string.h>

#define ENERGIES TBG_SHARED_DIR "/vectors/energies/"

static char *read_text(const char *name) {
    char path[512], *text;
    sprintf(path, ENERGIES "%s.pdb", name);
    assert_ok(tbg_file_read(path, 1 << 20, &text, NULL));
    return text;
}

/* A fresh text with every occurrence of `from` replaced. Frees the old one. */
static char *replace(char *text, const char *from, const char *to) {
    size_t n = strlen(from), size = strlen(text) + 1, used = 0, room = size * 2 + 64 + size / n * strlen(to);
    char *out = malloc(room);
    int found = 0;
    for (const char *p = text; *p;)
        if (!strncmp(p, from, n)) {
            strcpy(out + used, to);
            used += strlen(to);
            p += n;
            found++;
        } else
            out[used++] = *p++;
    out[used] = 0;
    free(text);
    if (!found)
        fail_msg("'%s' is not in the text", from);
    return out;
}

static int parse(const char *text, tbg_molecule **m) {
    return tbg_molecule_parse_pdb(text, strlen(text), "wild.pdb", m);
}

/* The text must give the same molecule as the reference file. Frees the text. */
static void same_as(const char *name, char *text) {
    char *plain = read_text(name);
    tbg_molecule *a, *b;
    assert_ok(parse(plain, &a));
    assert_ok(parse(text, &b));
    assert_int_equal(a->n_atoms, b->n_atoms);
    assert_memory_equal(a->atoms, b->atoms, sizeof *a->atoms * a->n_atoms);
    assert_memory_equal(a->positions, b->positions, sizeof *a->positions * a->n_atoms);
    assert_int_equal(a->n_bonds, b->n_bonds);
    assert_memory_equal(a->bonds, b->bonds, sizeof *a->bonds * a->n_bonds);
    tbg_molecule_free(a);
    tbg_molecule_free(b);
    free(plain);
    free(text);
}

/* The text must be refused with all of the words in the message. Frees the text. */
static void refused_with(char *text, const char *word, const char *word2) {
    tbg_molecule *m = (tbg_molecule *)1;
    int status = parse(text, &m);
    if (status != TBG_INPUT || m || !strstr(tbg_message(), word) || !strstr(tbg_message(), word2) ||
        !strstr(tbg_message(), "wild.pdb"))
        fail_msg("status %d, message '%s' where '%s' and '%s' were expected", status,
                 status ? tbg_message() : "", word, word2);
    free(text);
}

static void other_names(void **state) {
    (void)state;
    char *t = read_text("AC"); /* version 2 names; its CH2 pair is numbered 1, 2 */
    t = replace(t, " HB1 ALA", "1HB  ALA");
    t = replace(t, " HB2 ALA", "2HB  ALA");
    t = replace(t, " HB3 ALA", "3HB  ALA");
    t = replace(t, " HB3 CYS", "1HB  CYS");
    t = replace(t, " HB2 CYS", "2HB  CYS");
    t = replace(t, " H   ALA", "1H   ALA");
    t = replace(t, " H2  ALA", "2H   ALA");
    t = replace(t, " H3  ALA", "3H   ALA");
    same_as("AC", t);
    t = read_text("AC"); /* CHARMM names */
    t = replace(t, " H   ALA", " HT1 ALA");
    t = replace(t, " H2  ALA", " HT2 ALA");
    t = replace(t, " H3  ALA", " HT3 ALA");
    t = replace(t, " H   CYS", " HN  CYS");
    t = replace(t, " HB3 CYS", " HB1 CYS");
    t = replace(t, " HG  CYS", " HG1 CYS");
    t = replace(t, " O   CYS", " OT1 CYS");
    t = replace(t, " OXT CYS", " OT2 CYS");
    same_as("AC", t);
    t = read_text("HI");
    t = replace(t, "HIS", "HSE");
    t = replace(t, " CD1 ILE", " CD  ILE");
    t = replace(t, "HD11 ILE", " HD1 ILE");
    t = replace(t, "HD12 ILE", " HD2 ILE");
    t = replace(t, "HD13 ILE", "3HD1 ILE");
    t = replace(t, "HG13 ILE", "HG11 ILE");
    same_as("HI", t);
    t = read_text("PQ");
    t = replace(t, " H2  PRO", " H1  PRO"); /* H1 and H2, in this order, are H3 and H2: only two hydrogens */
    t = replace(t, " H3  PRO", " H2  PRO");
    tbg_molecule *m;
    assert_ok(parse(t, &m));
    tbg_molecule_free(m);
    free(t);
    t = read_text("alanine_dipeptide"); /* force-field names */
    t = replace(t, " H1  ACE", "HH31 ACE");
    t = replace(t, " H2  ACE", "1HH3 ACE");
    t = replace(t, "1HH3 ACE", "2HH3 ACE");
    t = replace(t, " H3  ACE", "HH33 ACE");
    t = replace(t, " C   NME", " CH3 NME");
    t = replace(t, " H1  NME", "HH31 NME");
    t = replace(t, " H2  NME", "HH32 NME");
    t = replace(t, " H3  NME", "HH33 NME");
    t = replace(t, "NME", "NMA");
    same_as("alanine_dipeptide", t);
}

static void other_layouts(void **state) {
    (void)state;
    same_as("AC", replace(read_text("AC"), "\n", "\r\n"));
    same_as("AC", replace(read_text("AC"), "           C  \n", "\n")); /* no element columns */
    same_as("AC", replace(read_text("AC"), "  1.00  0.00           N  \n", "\n"));
    char *t = read_text("AC"), *atoms = strchr(t, '\n') + 1, *end = strstr(t, "END");
    size_t room = 3 * strlen(t) + 4096;
    char *models = malloc(room);
    snprintf(models, room, "MODEL        1\n%.*sENDMDL\nMODEL        2\n%.*sENDMDL\nEND\n",
             (int)(end - atoms), atoms, (int)(end - atoms), atoms);
    same_as("AC", models);
    char *waters = malloc(room);
    snprintf(waters, room,
             "%.*sHETATM  100  O   HOH A 300      10.000  10.000  10.000  1.00  0.00           O  \n"
             "HETATM  101  H1  HOH A 300      10.900  10.000  10.000  1.00  0.00           H  \n"
             "HETATM  102  O   WAT B 301      20.000  10.000  10.000  1.00  0.00           O  \nEND\n",
             (int)(end - atoms), atoms);
    tbg_molecule *m;
    assert_ok(parse(waters, &m));
    assert_int_equal(m->n_waters, 2);
    tbg_molecule_free(m);
    same_as("AC", waters);
    free(t);
    /* Alternate locations: the higher occupancy wins, the first on ties. */
    for (int tie = 0; tie < 2; tie++) {
        t = read_text("AC");
        char *cb = strstr(t, " CB  ALA"), line[96];
        while (cb[-1] != '\n')
            cb--;
        size_t head = (size_t)(cb - t);
        memcpy(line, cb, 81);
        line[81] = 0;
        char *both = malloc(strlen(t) + 128), first[96], second[96];
        strcpy(first, line);
        strcpy(second, line);
        first[16] = 'A';
        second[16] = 'B';
        memcpy(first + 54, tie ? "  0.50" : "  0.40", 6);
        memcpy(second + 54, tie ? "  0.50" : "  0.60", 6);
        char *other = tie ? second : first;
        other[37] = other[37] == '1' ? '2' : '1';
        sprintf(both, "%.*s%s%s%s", (int)head, t, first, second, cb + 81);
        free(t);
        same_as("AC", both);
    }
    /* One chain of two. */
    t = read_text("AC");
    atoms = strchr(t, '\n') + 1;
    end = strstr(t, "END");
    *end = 0;
    char *b = replace(strdup(atoms), " A   ", " B   ");
    char *two = malloc(room);
    snprintf(two, room, "%s%sEND\n", atoms, b);
    tbg_molecule *all = NULL;
    assert_int_equal(parse(two, &all), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "2 chains ('AB')"));
    assert_ok(tbg_molecule_parse_pdb_chain(two, strlen(two), "two", 'B', &m));
    assert_int_equal(m->residues[0].chain, 'B');
    tbg_molecule_free(m);
    assert_int_equal(tbg_molecule_parse_pdb_chain(two, strlen(two), "two", 'C', &m), TBG_INPUT);
    const char *path = "build-test-two.pdb";
    assert_ok(tbg_file_write(path, two, strlen(two)));
    assert_ok(tbg_molecule_load("build-test-two.pdb:A", &m));
    assert_int_equal(m->n_atoms, 24);
    remove(path);
    tbg_molecule_free(m);
    free(b);
    free(t);
    free(two);
}

/* Cut the line that holds `what`. */
static char *without(char *text, const char *what) {
    char *at = strstr(text, what), *end;
    assert_non_null(at);
    while (at > text && at[-1] != '\n')
        at--;
    end = strchr(at, '\n') + 1;
    memmove(at, end, strlen(end) + 1);
    return text;
}

static void refusals(void **state) {
    (void)state;
    refused_with(strdup(""), "no ATOM", "PDB");
    refused_with(without(read_text("AC"), " HB2 CYS"), "CYS 2 lacks atom HB2", "line 14");
    refused_with(without(read_text("AC"), " HG  CYS"), "lacks atom HG", "disulfide");
    refused_with(without(read_text("AC"), " OXT CYS"), "lacks atom OXT", "NME");
    refused_with(without(read_text("AC"), " H3  ALA"), "lacks atom H3", "ACE");
    refused_with(replace(read_text("AC"), " SG  CYS", " XX  CYS"), "no atom XX", "CYS 2");
    refused_with(replace(read_text("AC"), "CYS", "SEP"), "SEP 2", "phosphorylated");
    refused_with(replace(read_text("AC"), "CYS", "QQQ"), "QQQ 2", "line 14");
    refused_with(replace(read_text("AC"), "CYS A   2", "CYS A   x"), "residue number", "line 14");
    refused_with(replace(read_text("AC"), "ALA A   1     -85.270", "ALA A   1         nan"), "line 2",
                 "'nan'");
    refused_with(replace(read_text("AC"), "ALA A   1     -85.270", "ALA A   1      1e999 "), "line 2",
                 "1e999");
    refused_with(replace(read_text("AC"), "ALA A   1     -85.270", "ALA A   1     0x1234 "), "line 2",
                 "0x1234");
    refused_with(replace(read_text("AC"), "           S  \n", "           O  \n"), "element S", "line");
    char *t = read_text("AC");
    t = replace(t, " HB1 ALA", " HB2 ALA");
    refused_with(t, "twice", "HB2");
    t = read_text("AC"); /* cut the line short */
    strcpy(strstr(t, "\nATOM      5") + 40, "\nEND\n");
    refused_with(t, "line 6", "coordinates");
    /* A chain broken in space. */
    t = read_text("AC");
    tbg_molecule *m;
    assert_ok(parse(t, &m));
    free(t);
    for (int i = m->residues[1].first; i < m->n_atoms; i++)
        m->positions[i][0] += 1;
    assert_ok(tbg_molecule_format_pdb(m, NULL, &t));
    tbg_molecule_free(m);
    refused_with(t, "broken between residues ALA 1 and CYS 2", "line 14");
    refused_with(replace(read_text("AC"), "END\n", "CONECT    5   20\nEND\n"), "CONECT bonds CA of ALA 1",
                 "line 27");
    refused_with(replace(read_text("AC"), "END\n", "CONECT    x   20\nEND\n"), "'x'", "line 27");
    /* Crystal structures have no hydrogens. */
    t = read_text("AC");
    for (char *p = t; (p = strstr(p, "\nATOM"));) {
        if (p[14] == 'H') {
            char *end = strchr(p + 1, '\n');
            memmove(p, end, strlen(end) + 1);
        } else
            p++;
    }
    refused_with(t, "no hydrogens", "add them");
    refused_with(replace(read_text("AC"), "CYS", "ACE"), "ACE 2", "beginning");
}

static void hostile_files(void **state) {
    (void)state;
    tbg_molecule *m;
    char zeros[100] = {0};
    assert_int_equal(tbg_molecule_parse_pdb(zeros, 100, "zeros", &m), TBG_INPUT);
    char *line = malloc(10000001);
    memset(line, 'A', 10000000);
    memcpy(line, "ATOM  ", 6);
    line[10000000] = 0;
    assert_int_equal(parse(line, &m), TBG_INPUT);
    /* 100,000 atoms: in one residue, and one a residue. */
    char *p = line;
    for (int i = 0; i < 100000; i++)
        p += sprintf(p, "ATOM  %5d  CA  ALA A   1    %8.3f%8.3f%8.3f\n", i % 100000, 1.0, 2.0, 3.0);
    assert_int_equal(parse(line, &m), TBG_INPUT);
    p = line;
    for (int i = 0; i < 70000; i++)
        p += sprintf(p, "ATOM  %5d  CA  ALA A%4d    %8.3f%8.3f%8.3f\n", i % 100000, i % 10000, 1.0, 2.0, 3.0);
    assert_int_equal(parse(line, &m), TBG_INPUT);
    free(line);
}

/* Mutate reference files: never a crash; what is accepted must be a whole molecule that writes and reads
 * again. */
static void mutations(void **state) {
    (void)state;
    static const char *const FILES[] = {"AC", "HI", "PQ", "alanine_dipeptide"};
    static const char *const PIECES[] = {"TER", "CONECT", "HETATM", "MODEL", "ENDMDL", "-",  "99999", "nan",
                                         "ACE", "NME",    "HIS",    "OXT",   "\r",     "\n", "A",     " "};
    int accepted = 0;
    for (int trial = 0; trial < 4000; trial++) {
        char *text = read_text(FILES[trial % 4]);
        size_t length = strlen(text);
        uint64_t stream = TBG_STREAM(TBG_STREAM_TEST, trial), at = 0;
#define DRAW(n) tbg_random_below(3, stream, at++, (n))
        int changes = 1 + (int)DRAW(6);
        for (int k = 0; k < changes; k++) {
            size_t where = DRAW(length);
            switch (DRAW(5)) {
            case 0:
                text[where] = (char)DRAW(256);
                break;
            case 1: {
                const char *piece = PIECES[DRAW(16)];
                size_t n = strlen(piece);
                if (where + n < length)
                    memcpy(text + where, piece, n);
                break;
            }
            case 2: /* cut a piece out */
            {
                size_t n = DRAW(200);
                if (where + n < length) {
                    memmove(text + where, text + where + n, length - where - n);
                    length -= n;
                }
                break;
            }
            case 3: /* copy a piece over another */
            {
                size_t from = DRAW(length), n = DRAW(200);
                if (from + n < length && where + n < length)
                    memmove(text + where, text + from, n);
                break;
            }
            default:
                length = trial % 3 ? length : where + 1;
            }
        }
        char *exact = malloc(length); /* no byte to spare, so that the sanitizer sees an overrun */
        memcpy(exact, text, length);
        tbg_molecule *m = NULL, *again = NULL;
        int status = tbg_molecule_parse_pdb(exact, length, "mutant", &m);
        assert_true((status == TBG_OK) == (m != NULL));
        if (m) {
            accepted++;
            char *out;
            tbg_checker *c;
            assert_ok(tbg_checker_create(m, &c));
            assert_in_range(tbg_check(c, (double *)m->positions), TBG_VALID, TBG_NOT_FINITE);
            tbg_checker_free(c);
            if (tbg_molecule_format_pdb(m, NULL, &out) == TBG_OK) {
                assert_ok(tbg_molecule_parse_pdb(out, strlen(out), "again", &again));
                assert_int_equal(again->n_bonds, m->n_bonds);
                free(out);
            }
        }
        tbg_molecule_free(m);
        tbg_molecule_free(again);
        free(exact);
        free(text);
    }
    assert_true(accepted > 100 && accepted < 3900); /* the mutations neither miss nor always kill */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(other_names), cmocka_unit_test(other_layouts),
                                       cmocka_unit_test(refusals), cmocka_unit_test(hostile_files),
                                       cmocka_unit_test(mutations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
