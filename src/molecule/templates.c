/* templates.c: completes residue templates at their place in a chain, knows other programs' names, makes
 * bonds. */
#include "molecule/templates.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <stdlib.h>
#include <string.h>

const tbg_template *tbg_template_by_name(const char *name) {
    for (int i = 0; i < tbg_n_templates; i++)
        if (!strcmp(tbg_templates[i].name, name))
            return &tbg_templates[i];
    return NULL;
}

const tbg_template *tbg_template_by_letter(char letter) {
    for (int i = 0; i < tbg_n_templates; i++)
        if (letter && tbg_templates[i].letter == letter)
            return &tbg_templates[i];
    return NULL;
}

/* The backbone. Lengths and angles: means over minimised dipeptides, as in residues.c. */
static const tbg_template_atom INNER[] = {
    {"N", "-C", "-CA", "-N", 0.1342, 117.5, 0, TBG_PSI_BEFORE},
    {"H", "N", "-C", "-O", 0.1010, 118.3, 180, 0},
    {"CA", "N", "-C", "-CA", 0.1475, 124.0, 0, TBG_OMEGA},
    {"C", "CA", "N", "-C", 0.1536, 111.8, 0, TBG_PHI},
    {"O", "C", "CA", "N", 0.1235, 119.8, 180, TBG_PSI},
};
static const tbg_template_atom FIRST[] = {
    {.name = "N"},
    {"H", "N", "CA", "C", 0.1010, 109.5, 180, 0},
    {"H2", "N", "CA", "C", 0.1010, 109.5, 60, 0},
    {"H3", "N", "CA", "C", 0.1010, 109.5, -60, 0},
    {"CA", "N", "", "", 0.1485, 0, 0, 0},
    {"C", "CA", "N", "", 0.1536, 111.8, 0, 0},
};
/* PRO's nitrogen has two hydrogens, staggered against the ring's CD. */
static const tbg_template_atom FIRST_PRO[] = {
    {"H2", "N", "CA", "C", 0.1010, 110.5, 8, 0},
    {"H3", "N", "CA", "C", 0.1010, 110.5, -111, 0},
};
static const tbg_template_atom LAST[] = {
    {"O", "C", "CA", "N", 0.1253, 118.4, 180, TBG_PSI},
    {"OXT", "C", "CA", "N", 0.1253, 119.0, 0, TBG_PSI},
};

#define FIND(table, name) find_row((table), (int)(sizeof(table) / sizeof((table)[0])), (name))
static const tbg_template_atom *find_row(const tbg_template_atom *rows, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (!strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

int tbg_template_rows(const tbg_template *t, int first, int last, int histidine, tbg_template_atom *rows) {
    int n = 0;
    if (!t->letter)
        first = last = 0;
    int proline = t->letter == 'P';
    for (int i = 0; i < t->n; i++) {
        const tbg_template_atom *row = &t->atoms[i], *backbone = NULL;
        if (t->letter == 'H' && ((histidine == TBG_HIE && !strcmp(row->name, "HD1")) ||
                                 (histidine == TBG_HID && !strcmp(row->name, "HE2"))))
            continue;
        if (t->letter && !row->parent[0]) {
            if (first)
                backbone = FIND(FIRST, row->name);
            if (!backbone && last)
                backbone = FIND(LAST, row->name);
            if (!backbone)
                backbone = FIND(INNER, row->name);
        }
        rows[n++] = backbone ? *backbone : *row;
        if (first && !strcmp(row->name, proline ? "N" : "H")) {
            rows[n++] = proline ? FIRST_PRO[0] : *FIND(FIRST, "H2");
            rows[n++] = proline ? FIRST_PRO[1] : *FIND(FIRST, "H3");
        }
    }
    if (last)
        rows[n++] = *FIND(LAST, "OXT");
    return n;
}

/* Names that other programs use. residue "": all amino acids. */
static const struct {
    const char *residue, *from, *to;
} ALIASES[] = {
    {"ILE", "CD", "CD1"},    {"ILE", "HD1", "HD11"},  {"ILE", "HD2", "HD12"},  {"ILE", "HD3", "HD13"},
    {"SER", "OG1", "OG"},    {"SER", "HG1", "HG"},    {"SER", "HOG", "HG"},    {"THR", "OG", "OG1"},
    {"THR", "CG", "CG2"},    {"THR", "HOG", "HG1"},   {"THR", "HOG1", "HG1"},  {"CYS", "SG1", "SG"},
    {"CYS", "HG1", "HG"},    {"CYS", "HSG", "HG"},    {"TYR", "HOH", "HH"},    {"TRP", "HNE", "HE1"},
    {"HIS", "HND", "HD1"},   {"HIS", "HND1", "HD1"},  {"HIS", "HD", "HD2"},    {"HIS", "HE", "HE1"},
    {"HIS", "HNE", "HE2"},   {"HIS", "HNE2", "HE2"},  {"ASN", "OD", "OD1"},    {"ASN", "ND", "ND2"},
    {"ASN", "HND1", "HD21"}, {"ASN", "HND2", "HD22"}, {"GLN", "OE", "OE1"},    {"GLN", "NE", "NE2"},
    {"GLN", "HNE1", "HE21"}, {"GLN", "HNE2", "HE22"}, {"LYS", "HNZ1", "HZ1"},  {"LYS", "HNZ2", "HZ2"},
    {"LYS", "HNZ3", "HZ3"},  {"ARG", "HN11", "HH11"}, {"ARG", "HN12", "HH12"}, {"ARG", "HN21", "HH21"},
    {"ARG", "HN22", "HH22"}, {"PRO", "HT1", "H2"},    {"PRO", "HT2", "H3"},    {"PRO", "H1", "H3"},
    {"ACE", "CY", "C"},      {"ACE", "CAY", "CH3"},   {"ACE", "CA", "CH3"},    {"ACE", "OY", "O"},
    {"ACE", "HY1", "H1"},    {"ACE", "HY2", "H2"},    {"ACE", "HY3", "H3"},    {"ACE", "HH31", "H1"},
    {"ACE", "HH32", "H2"},   {"ACE", "HH33", "H3"},   {"NME", "NT", "N"},      {"NME", "CH3", "C"},
    {"NME", "CT", "C"},      {"NME", "CAT", "C"},     {"NME", "CA", "C"},      {"NME", "HN", "H"},
    {"NME", "HNT", "H"},     {"NME", "HT1", "H1"},    {"NME", "HT2", "H2"},    {"NME", "HT3", "H3"},
    {"NME", "HH31", "H1"},   {"NME", "HH32", "H2"},   {"NME", "HH33", "H3"},   {"NME", "HA1", "H1"},
    {"NME", "HA2", "H2"},    {"NME", "HA3", "H3"},    {"", "HN", "H"},         {"", "H1", "H"},
    {"", "HN1", "H"},        {"", "HT1", "H"},        {"", "HN2", "H2"},       {"", "HT2", "H2"},
    {"", "HN3", "H3"},       {"", "HT3", "H3"},       {"", "O1", "O"},         {"", "OT1", "O"},
    {"", "OCT1", "O"},       {"", "OC1", "O"},        {"", "O2", "OXT"},       {"", "OT2", "OXT"},
    {"", "OCT2", "OXT"},     {"", "OC2", "OXT"},      {"", "OT", "OXT"},
};

void tbg_template_alias(const tbg_template *t, int n, const tbg_template_atom *rows, const char *name,
                        char *out) {
    char now[8] = "";
    strncpy(now, name, sizeof now - 1);
    strcpy(out, now);
    for (int pass = 0; pass < 2; pass++) {
        if (find_row(rows, n, now)) {
            strcpy(out, now);
            return;
        }
        for (size_t i = 0; i < sizeof ALIASES / sizeof ALIASES[0]; i++)
            if (!strcmp(ALIASES[i].from, now) &&
                (!ALIASES[i].residue[0] || !strcmp(ALIASES[i].residue, t->name)) &&
                find_row(rows, n, ALIASES[i].to)) {
                strcpy(out, ALIASES[i].to);
                return;
            }
        /* Two hydrogens of a CH2 numbered 1, 2 instead of 2, 3: the first is the template's third. */
        size_t length = strlen(now);
        if (now[0] == 'H' && length > 1 && now[length - 1] == '1') {
            char third[8], second[8];
            strcpy(third, now);
            strcpy(second, now);
            third[length - 1] = '3';
            second[length - 1] = '2';
            if (find_row(rows, n, third) && find_row(rows, n, second)) {
                strcpy(out, third);
                return;
            }
        }
        /* PDB version 2 wrote the number first: 1HB. */
        if (now[0] < '1' || now[0] > '9' || length < 2)
            return;
        char digit = now[0];
        memmove(now, now + 1, length - 1);
        now[length - 1] = digit;
    }
}

int tbg_element_of_name(const char *name) {
    switch (name[0]) {
    case 'H':
        return 1;
    case 'C':
        return 6;
    case 'N':
        return 7;
    case 'O':
        return 8;
    case 'S':
        return 16;
    default:
        return 0;
    }
}

int tbg_residue_histidine(const tbg_molecule *m, int residue) {
    if (strcmp(m->residues[residue].name, "HIS"))
        return TBG_HIE;
    int d = tbg_molecule_find(m, residue, "HD1") >= 0, e = tbg_molecule_find(m, residue, "HE2") >= 0;
    return d && e ? TBG_HIP : d ? TBG_HID : TBG_HIE;
}

static int by_atoms(const void *a, const void *b) {
    const int *p = a, *q = b;
    return p[0] != q[0] ? (p[0] > q[0]) - (p[0] < q[0]) : (p[1] > q[1]) - (p[1] < q[1]);
}

static int add_bond(tbg_molecule *m, int r, const char *a, const char *b) {
    int across = b[0] == '-';
    int i = tbg_molecule_find(m, r, a), j = tbg_molecule_find(m, r - across, b + across);
    if (i < 0 || j < 0)
        return tbg_fail(TBG_FAILED, "residue %s %d lacks atom %s", m->residues[r].name, m->residues[r].number,
                        i < 0 ? a : b);
    m->bonds[m->n_bonds][0] = i < j ? i : j;
    m->bonds[m->n_bonds++][1] = i < j ? j : i;
    return TBG_OK;
}

int tbg_molecule_bond(tbg_molecule *m) {
    free(m->bonds);
    m->n_bonds = 0;
    /* A tree of n - 1 bonds, and at most two ring closures per residue. */
    m->bonds = tbg_alloc((size_t)(m->n_atoms + 2 * m->n_residues), sizeof *m->bonds);
    if (!m->bonds)
        return TBG_FAILED;
    for (int r = 0; r < m->n_residues; r++) {
        const tbg_template *t = tbg_template_by_name(m->residues[r].name);
        if (!t)
            return tbg_fail(TBG_FAILED, "no template for residue %s", m->residues[r].name);
        tbg_template_atom rows[TBG_MAX_RESIDUE_ATOMS];
        int n = tbg_template_rows(t, r == 0, r == m->n_residues - 1, tbg_residue_histidine(m, r), rows);
        for (int i = 0; i < n; i++)
            if (rows[i].parent[0])
                TBG_TRY(add_bond(m, r, rows[i].name, rows[i].parent));
        for (int i = 0; i < 2 && t->closures[i][0][0]; i++)
            TBG_TRY(add_bond(m, r, t->closures[i][0], t->closures[i][1]));
    }
    qsort(m->bonds, (size_t)m->n_bonds, sizeof *m->bonds, by_atoms);
    return TBG_OK;
}
