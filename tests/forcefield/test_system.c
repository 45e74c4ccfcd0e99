/* test_system.c: residues to parameters: counts and charges that must hold for every sequence, names, hostile
 * files. */
#include "tbg/system.h"
#include "tbg/energy.h"
#include "tbg/file.h"
#include "tbg_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tbg_system *make(const char *sequence, const char *forcefield) {
    tbg_molecule *m;
    tbg_system *s;
    assert_ok(tbg_molecule_from_sequence(sequence, &m));
    assert_ok(tbg_system_create(m, forcefield, -1, &s));
    tbg_molecule_free(m);
    return s;
}

static void check_tables(const char *sequence, const char *forcefield, int charge) {
    tbg_molecule *m;
    tbg_system *s;
    assert_ok(tbg_molecule_from_sequence(sequence, &m));
    assert_ok(tbg_system_create(m, forcefield, -1, &s));
    int n = s->n_atoms, angles = 0, propers = 0, *degree = calloc((size_t)n, sizeof *degree);
    double total = 0;
    unsigned char *distance = malloc((size_t)n * n);
    assert_ok(tbg_bond_distances(n, m->n_bonds, (const int(*)[2])m->bonds, distance));
    for (int b = 0; b < m->n_bonds; b++) {
        degree[m->bonds[b][0]]++;
        degree[m->bonds[b][1]]++;
    }
    for (int i = 0; i < n; i++) {
        angles += degree[i] * (degree[i] - 1) / 2;
        total += s->charge[i];
        assert_true(s->mass[i] > 1 && s->mass[i] < 33);
        assert_true(fabs(s->mass[i] - tbg_element_mass(m->atoms[i].element)) < 0.02);
        assert_true(s->gb_radius[i] > 0.07 && s->gb_radius[i] < 0.25);
        assert_true(s->gb_screen[i] > 0.5 && s->gb_screen[i] < 1);
    }
    for (int b = 0; b < m->n_bonds; b++)
        propers += (degree[m->bonds[b][0]] - 1) * (degree[m->bonds[b][1]] - 1);
    assert_int_equal(s->n_bonds, m->n_bonds);
    assert_int_equal(s->n_angles, angles); /* proline's ring has no three-membered rings */
    assert_true(propers > 0 && s->n_torsions > propers / 3);
    if (!(fabs(total - charge) < 1e-4))
        fail_msg("%s %s: charge %g, expected %d", forcefield, sequence, total, charge);
    int n14 = 0, n_far = 0;
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            n14 += distance[i * n + j] == 3;
            n_far += distance[i * n + j] > 3;
        }
    assert_int_equal(s->n_pairs14, n14);
    assert_int_equal(s->n_pairs, n_far);
    for (int p = 0; p < s->n_pairs; p++) {
        assert_true(s->pairs[p][0] < s->pairs[p][1]);
        assert_true(distance[s->pairs[p][0] * n + s->pairs[p][1]] > 3);
    }
    for (int t = 0; t < s->n_bonds; t++)
        assert_true(s->bonds[t].length > 0.09 && s->bonds[t].length < 0.21 && s->bonds[t].k > 1e5);
    for (int t = 0; t < s->n_torsions; t++) {
        const tbg_torsion_term *q = &s->torsions[t];
        int proper = distance[q->i * n + q->j] == 1 && distance[q->j * n + q->k] == 1 &&
                     distance[q->k * n + q->l] == 1;
        int improper = distance[q->k * n + q->i] == 1 && distance[q->k * n + q->j] == 1 &&
                       distance[q->k * n + q->l] == 1;
        assert_true(proper || improper);
    }
    free(distance);
    free(degree);
    tbg_system_free(s);
    tbg_molecule_free(m);
}

static void assert_same_torsions(const tbg_system *a, const tbg_system *b) {
    assert_int_equal(a->n_torsions, b->n_torsions);
    for (int t = 0; t < a->n_torsions; t++) {
        const tbg_torsion_term *p = &a->torsions[t], *q = &b->torsions[t];
        assert_true(p->i == q->i && p->j == q->j && p->k == q->k && p->l == q->l);
        assert_true(p->periodicity == q->periodicity && p->phase == q->phase && p->barrier == q->barrier);
    }
}

static int charge_of(char residue) {
    return residue == 'D' || residue == 'E' ? -1 : residue == 'K' || residue == 'R' ? 1 : 0;
}

static void every_residue_everywhere(void **state) {
    (void)state;
    const char *letters = "ACDEFGHIKLMNPQRSTVWY";
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < 20; i++) {
            char first[3] = {letters[i], letters[(i + 7) % 20], 0}, middle[12];
            snprintf(middle, sizeof middle, "ACE-%c-NME", letters[i]);
            check_tables(first, tbg_forcefield_names()[f], charge_of(first[0]) + charge_of(first[1]));
            check_tables(middle, tbg_forcefield_names()[f], charge_of(letters[i]));
        }
    for (int f = 0; f < 2; f++) {
        check_tables("ACE-HID-HIE-HIP-NME", tbg_forcefield_names()[f], 1);
        check_tables("HID-HIP", tbg_forcefield_names()[f], 1);
    }
}

static void known_answers(void **state) {
    (void)state;
    tbg_system *s = make("ACE-A-NME", "amber99sbildn-obc");
    assert_int_equal(s->n_atoms, 22);
    assert_int_equal(s->n_bonds, 21);
    assert_int_equal(s->n_angles, 36);
    assert_int_equal(s->n_pairs14, 41);
    assert_int_equal(s->n_pairs, 22 * 21 / 2 - 21 - 36 - 41);
    assert_true(s->gb == TBG_GB_OBC2 && s->cutoff == 0 && s->degrees_of_freedom == 66);
    tbg_system_free(s);
    s = make("AC", "amber14-obc1");
    assert_true(s->gb == TBG_GB_OBC1 && s->cutoff == 2.0);
    assert_string_equal(s->forcefield, "amber14-obc1");
    tbg_system_free(s);
    s = make("AC", "gfn2-xtb");
    assert_true(s->n_bonds == 0 && s->gb == TBG_GB_NONE && s->mass[0] > 14);
    tbg_system_free(s);
    assert_true(tbg_forcefield_temperature("amber14-obc1") == 310);
    assert_true(tbg_forcefield_temperature("amber99sbildn-obc") == 300);
}

static void files_by_path_equal_names(void **state) {
    (void)state;
    tbg_molecule *m;
    tbg_system *a, *b;
    double ea[TBG_E_N], eb[TBG_E_N];
    const char *paths = TBG_SOURCE_DIR "/data/protein.ff14SB.xml,obc1";
    assert_ok(tbg_molecule_from_sequence("YR", &m));
    assert_ok(tbg_system_create(m, "amber14-obc1", 1.0, &a));
    assert_ok(tbg_system_create(m, paths, 1.0, &b));
    assert_same_torsions(a, b);
    for (int i = 0; i < 2; i++) {
        tbg_engine *engine;
        double energy;
        assert_ok(tbg_engine_create("reference", m, i ? b : a, 1, &engine));
        assert_ok(tbg_engine_evaluate(engine, 1, (double *)m->positions, &energy, NULL, i ? eb : ea));
        tbg_engine_free(engine);
    }
    assert_memory_equal(ea, eb, sizeof ea);
    tbg_system_free(b);
    assert_ok(tbg_system_create(m, TBG_SOURCE_DIR "/data/protein.ff14SB.xml", -1, &b));
    assert_true(b->gb == TBG_GB_NONE && b->cutoff == 0);
    assert_string_equal(b->forcefield, "protein");
    tbg_system_free(b);
    tbg_system_free(a);
    tbg_molecule_free(m);
}

/* AMBER's and old PDB names of the same atoms give the same system. */
static void aliases(void **state) {
    (void)state;
    static const char *const renamed[][3] = {{"ACE", "H1", "HH31"},
                                             {"ACE", "H2", "2HH3"},
                                             {"NME", "C", "CH3"},
                                             {"NME", "H3", "HH33"},
                                             {"NME", "H1", "1HH3"}};
    tbg_molecule *m;
    tbg_system *a, *b;
    assert_ok(tbg_molecule_from_sequence("ACE-A-NME", &m));
    assert_ok(tbg_system_create(m, "amber99sbildn-obc", -1, &a));
    for (size_t k = 0; k < sizeof renamed / sizeof *renamed; k++)
        for (int i = 0; i < m->n_atoms; i++)
            if (!strcmp(m->residues[m->atoms[i].residue].name, renamed[k][0]) &&
                !strcmp(m->atoms[i].name, renamed[k][1]))
                strcpy(m->atoms[i].name, renamed[k][2]);
    assert_ok(tbg_system_create(m, "amber99sbildn-obc", -1, &b));
    assert_same_torsions(a, b);
    assert_memory_equal(a->charge, b->charge, (size_t)a->n_atoms * sizeof(double));
    tbg_system_free(a);
    tbg_system_free(b);
    tbg_molecule_free(m);
}

static void refuse(const tbg_molecule *m, const char *forcefield, double cutoff, const char *part) {
    tbg_system *s;
    assert_int_equal(tbg_system_create(m, forcefield, cutoff, &s), TBG_INPUT);
    assert_null(s);
    if (!strstr(tbg_message(), part))
        fail_msg("'%s' is not in the message '%s'", part, tbg_message());
}

static void refusals_name_the_culprit(void **state) {
    (void)state;
    tbg_molecule *m;
    assert_ok(tbg_molecule_from_sequence("AC", &m));
    refuse(m, "amber12", -1, "amber99sbildn-obc");
    refuse(m, "amber14-obc1", NAN, "cutoff");
    refuse(m, "amber14-obc1", 0.01, "cutoff");
    refuse(m, "/nonexistent/a.xml", -1, "/nonexistent/a.xml");
    refuse(m, "a.xml,,b.xml", -1, "");
    int cb = tbg_molecule_find(m, 0, "CB");
    strcpy(m->atoms[cb].name, "CX");
    refuse(m, "amber14-obc1", -1, "CX");
    strcpy(m->atoms[cb].name, "CB");
    m->atoms[cb].element = 16;
    refuse(m, "amber14-obc1", -1, "CB");
    m->atoms[cb].element = 6;
    strcpy(m->residues[1].name, "XYZ");
    refuse(m, "amber14-obc1", -1, "XYZ 2");
    strcpy(m->residues[1].name, "CYS");
    int last[2] = {m->bonds[m->n_bonds - 1][0], m->bonds[m->n_bonds - 1][1]};
    m->n_bonds--; /* a bond less */
    refuse(m, "amber14-obc1", -1, "bonds");
    m->bonds[m->n_bonds][0] = last[0];
    m->bonds[m->n_bonds++][1] = last[1];
    setenv("TBG_DATA", "/nonexistent", 1);
    refuse(m, "amber14-obc1", -1, "TBG_DATA");
    unsetenv("TBG_DATA");
    tbg_molecule_free(m);
    if (tbg_molecule_from_sequence("A", &m) == TBG_OK) { /* a free amino acid has no AMBER template */
        refuse(m, "amber14-obc1", -1, "ALA 1");
        tbg_molecule_free(m);
    }
}

/* ---- hostile files ---- */

static char path[64];

static int try_text(const tbg_molecule *m, const char *text, size_t size) {
    tbg_system *s = NULL;
    assert_ok(tbg_file_write(path, text, size));
    int status = tbg_system_create(m, path, -1, &s);
    assert_true(status == TBG_INPUT || (status == TBG_OK && s));
    tbg_system_free(s);
    return status;
}

static void hostile_files(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", ""},
        {"<ForceField>", ""},
        {"<ForceField/>", "atom types"},
        {"<html/>", "html"},
        {"<ForceField><Script>print(1)</Script></ForceField>", "line 1: <Script>"},
        {"<ForceField>\n<CMAPTorsionForce/></ForceField>", "line 2: <CMAPTorsionForce>"},
        {"<ForceField><Include file=\"x.xml\"/></ForceField>", "Include"},
        {"<ForceField><AtomTypes><Type name=\"a\"/></AtomTypes></ForceField>", "class"},
        {"<ForceField><AtomTypes><Type name=\"a\" class=\"b\" mass=\"nan\"/></AtomTypes></ForceField>",
         "nan"},
        {"<ForceField><AtomTypes><Type name=\"a\" class=\"b\" mass=\"1x\"/></AtomTypes></ForceField>", "1x"},
        {"<ForceField><AtomTypes><Type name=\"a\" class=\"b\" "
         "mass=\"1\"><Type/></Type></AtomTypes></ForceField>",
         "Type"},
        {"<ForceField><PeriodicTorsionForce ordering=\"smirnoff\"/></ForceField>", "smirnoff"},
        {"<ForceField><PeriodicTorsionForce><Proper class1=\"\" class2=\"\" class3=\"\" class4=\"\" "
         "periodicity1=\"2.5\" "
         "phase1=\"0\" k1=\"1\"/></PeriodicTorsionForce></ForceField>",
         "periodicity1"},
        {"<ForceField><HarmonicBondForce><Bond class1=\"C\" type1=\"C\" class2=\"C\" length=\"1\" k=\"1\"/>"
         "</HarmonicBondForce></ForceField>",
         "class1"},
        {"<ForceField><Residues><Residue name=\"A\"><Bond from=\"0\" "
         "to=\"99\"/></Residue></Residues></ForceField>",
         "unknown atom"},
        {"<ForceField><Residues><Residue name=\"A\"><VirtualSite/></Residue></Residues></ForceField>",
         "VirtualSite"},
        {"<ForceField><AtomTypes><Type name=\"a\" class=\"b\" mass=\"1\"/><Type name=\"a\" class=\"b\" "
         "mass=\"1\"/>"
         "</AtomTypes><Residues><Residue name=\"A\"/></Residues><NonbondedForce coulomb14scale=\"1\" "
         "lj14scale=\"1\">"
         "<Atom type=\"a\" charge=\"0\" sigma=\"1\" epsilon=\"0\"/></NonbondedForce></ForceField>",
         "twice"},
        {"<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b "
         "\"&a;&a;&a;&a;&a;&a;\">]><ForceField>&b;</ForceField>",
         ""},
    };
    tbg_molecule *m;
    assert_ok(tbg_molecule_from_sequence("AC", &m));
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        assert_int_equal(try_text(m, cases[c].text, strlen(cases[c].text)), TBG_INPUT);
        if (!strstr(tbg_message(), cases[c].part))
            fail_msg("'%s' is not in the message '%s'", cases[c].part, tbg_message());
    }
    tbg_molecule_free(m);
}

/* A real file cut off anywhere, and with bytes replaced: an error or a system, never a crash. */
static void damaged_files(void **state) {
    (void)state;
    char *text;
    size_t size;
    tbg_molecule *m;
    assert_ok(tbg_file_read(TBG_SOURCE_DIR "/data/protein.ff14SB.xml", 1 << 24, &text, &size));
    assert_ok(tbg_molecule_from_sequence("AC", &m));
    assert_int_equal(try_text(m, text, size), TBG_OK);
    for (size_t k = 1; k < 25; k++)
        assert_int_equal(try_text(m, text, size * k / 25), TBG_INPUT);
    uint64_t random = 12345;
    for (int k = 0; k < 60; k++) {
        char saved[16];
        size_t at[16];
        int many = 1 + k % 16;
        for (int i = 0; i < many; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            at[i] = (random >> 20) % size;
            saved[i] = text[at[i]];
            text[at[i]] = "\"<>/=0.-e9A\0\xff &"[(random >> 50) % 16];
        }
        try_text(m, text, size);
        while (many--)
            text[at[many]] = saved[many];
    }
    free(text);
    tbg_molecule_free(m);
    unlink(path);
}

int main(void) {
    snprintf(path, sizeof path, "/tmp/tbg-test-forcefield-%ld.xml", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_residue_everywhere),
        cmocka_unit_test(known_answers),
        cmocka_unit_test(files_by_path_equal_names),
        cmocka_unit_test(aliases),
        cmocka_unit_test(refusals_name_the_culprit),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(damaged_files),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
