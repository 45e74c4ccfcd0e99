/* features.c: node feature sets: what the network sees of an atom's chemistry (SPEC 2.1, the published sets).
 *
 * Owns the one-hot columns and the memory of a conditioning. Refuses molecules that a set cannot represent,
 * naming residue and atom: a wrong column would go unnoticed and give a plausible but wrong ensemble. */
#include "network/features.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    tbg_feature_set set;
    const char *name;
    int width;
} feature_sets[] = {{TBG_FEATURES_RAW, "raw", 0},
                    {TBG_FEATURES_ELEMENT, "element", 5},
                    {TBG_FEATURES_BACKBONE, "element+backbone", 13},
                    {TBG_FEATURES_FULL, "full", 76},
                    {TBG_FEATURES_AD_BACKBONE, "ad-backbone", 9},
                    {TBG_FEATURES_AD_FULL, "ad-full", 21}};
enum { N_SETS = sizeof feature_sets / sizeof *feature_sets };

const char *tbg_feature_set_name(tbg_feature_set set) {
    for (int i = 0; i < N_SETS; i++)
        if (feature_sets[i].set == set)
            return feature_sets[i].name;
    return "unknown";
}

int tbg_feature_set_parse(const char *name, tbg_feature_set *set) {
    for (int i = 0; i < N_SETS; i++)
        if (!strcmp(feature_sets[i].name, name)) {
            *set = feature_sets[i].set;
            return TBG_OK;
        }
    return tbg_fail(TBG_INPUT,
                    "unknown feature set '%s'; known: element, element+backbone, full, ad-backbone, "
                    "ad-full, raw",
                    name);
}

int tbg_feature_set_width(tbg_feature_set set) {
    for (int i = 0; i < N_SETS; i++)
        if (feature_sets[i].set == set)
            return feature_sets[i].width;
    return 0;
}

static const char *const residue_types[20] = {"ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU",
                                              "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE",
                                              "PRO", "SER", "THR", "TRP", "TYR", "VAL"};

static const char *const atom_names[54] = {
    "C",   "CA",  "CB",  "CD",  "CD1", "CD2", "CE",  "CE1", "CE2", "CE3", "CG",  "CG1", "CG2", "CH2",
    "CZ",  "CZ2", "CZ3", "H",   "HA",  "HB",  "HD",  "HD1", "HD2", "HE",  "HE1", "HE2", "HE3", "HG",
    "HG1", "HG2", "HH",  "HH1", "HH2", "HZ",  "HZ2", "HZ3", "N",   "ND1", "ND2", "NE",  "NE1", "NE2",
    "NH1", "NH2", "NZ",  "O",   "OD",  "OE",  "OG",  "OG1", "OH",  "OXT", "SD",  "SG"};

static int find(const char *const *list, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i], name))
            return i;
    return -1;
}

static int is_one_of(const char *name, const char *a, const char *b, const char *c, const char *d) {
    return !strcmp(name, a) || !strcmp(name, b) || !strcmp(name, c) || !strcmp(name, d);
}

/* HID, HIE and HIP are written HIS by OpenMM; the published set does not tell them apart. */
static const char *residue_class(const char *name) {
    return is_one_of(name, "HID", "HIE", "HIP", "HIS") ? "HIS" : name;
}

/* Atom-name class of the "full" set; -1 if there is none. */
static int atom_class(const char *residue, const char *name) {
    char class[8];
    size_t n = strlen(name);
    if (n < 1 || n >= sizeof class)
        return -1;
    memcpy(class, name, n + 1);
    int digit = n > 1 && class[n - 1] >= '1' && class[n - 1] <= '3', drops = 0;
    if (class[0] == 'H') {
        int ring = is_one_of(residue, "HIS", "PHE", "TRP", "TYR") && strchr("EDZH", class[1]) && class[1];
        drops = digit && !ring;
    } else if (class[0] == 'O' && (class[1] == 'D' || class[1] == 'E'))
        drops = digit;
    if (drops)
        class[n - 1] = 0;
    return find(atom_names, 54, class);
}

static int element_class(int element) {
    switch (element) {
    case 1:
        return 0;
    case 6:
        return 1;
    case 7:
        return 2;
    case 8:
        return 3;
    case 16:
        return 4;
    default:
        return -1;
    }
}

/* Index of an atom in the public alanine-dipeptide order CH3 H H H C O | N H CA HA CB HB HB HB C O | N H CH3
 * H H H, the first of alike hydrogens standing for all; -1 if it is not such an atom. */
static int alanine_dipeptide_index(int residue, const char *name) {
    static const char *const ace[] = {"CH3", "", "", "", "C", "O"};
    static const char *const ala[] = {"N", "H", "CA", "HA", "CB", "", "", "", "C", "O"};
    int k;
    if (residue == 0)
        return (k = find(ace, 6, name)) >= 0 ? k : name[0] == 'H' ? 1 : -1;
    if (residue == 1)
        return (k = find(ala, 10, name)) >= 0 ? 6 + k : name[0] == 'H' && name[1] == 'B' ? 11 : -1;
    if (!strcmp(name, "N"))
        return 16;
    if (!strcmp(name, "H") || !strcmp(name, "HN"))
        return 17;
    if (!strcmp(name, "CH3") || !strcmp(name, "C"))
        return 18;
    return name[0] == 'H' ? 19 : -1;
}

static int unfit(tbg_feature_set set, const tbg_molecule *m, int atom) {
    const tbg_residue *r = &m->residues[m->atoms[atom].residue];
    return tbg_fail(TBG_INPUT, "atom %d (%s of residue %s %d) has no place in the feature set '%s'", atom + 1,
                    m->atoms[atom].name, r->name, r->number, tbg_feature_set_name(set));
}

static int check_alanine_dipeptide(tbg_feature_set set, const tbg_molecule *m) {
    int count[22] = {0};
    if (m->n_residues != 3 || m->n_atoms != 22 || strcmp(m->residues[0].name, "ACE") ||
        strcmp(m->residues[1].name, "ALA") || strcmp(m->residues[2].name, "NME"))
        return tbg_fail(TBG_INPUT, "the feature set '%s' represents ACE-ALA-NME only",
                        tbg_feature_set_name(set));
    for (int i = 0; i < m->n_atoms; i++) {
        int k = alanine_dipeptide_index(m->atoms[i].residue, m->atoms[i].name);
        if (k < 0 || ++count[k] > (k == 1 || k == 11 || k == 19 ? 3 : 1))
            return unfit(set, m, i);
    }
    return TBG_OK;
}

static int check_two_residues(tbg_feature_set set, const tbg_molecule *m) {
    if (m->n_residues != 2)
        return tbg_fail(TBG_INPUT,
                        "the feature set '%s' represents dipeptides only; this molecule has %d residues",
                        tbg_feature_set_name(set), m->n_residues);
    for (int r = 0; r < 2; r++)
        if (find(residue_types, 20, residue_class(m->residues[r].name)) < 0)
            return tbg_fail(TBG_INPUT, "residue %d, %s, has no place in the feature set '%s'", r + 1,
                            m->residues[r].name, tbg_feature_set_name(set));
    return TBG_OK;
}

int tbg_node_features(tbg_feature_set set, const tbg_molecule *m, double *features) {
    static const char *const backbone[] = {"N", "CA", "C", "O"};
    int width = tbg_feature_set_width(set);
    if (!width)
        return tbg_fail(TBG_INPUT, "a network with raw features cannot be used with a molecule by name");
    if (set == TBG_FEATURES_AD_BACKBONE || set == TBG_FEATURES_AD_FULL)
        TBG_TRY(check_alanine_dipeptide(set, m));
    if (set == TBG_FEATURES_BACKBONE || set == TBG_FEATURES_FULL)
        TBG_TRY(check_two_residues(set, m));
    memset(features, 0, (size_t)m->n_atoms * (size_t)width * sizeof *features);
    for (int i = 0; i < m->n_atoms; i++) {
        const tbg_atom *a = &m->atoms[i];
        double *f = features + (size_t)i * (size_t)width;
        int element = element_class(a->element), k = element;
        if (element < 0)
            return unfit(set, m, i);
        switch (set) {
        case TBG_FEATURES_BACKBONE:
            if ((k = find(backbone, 4, a->name)) >= 0)
                k += 5 + 4 * a->residue;
            else
                k = element;
            break;
        case TBG_FEATURES_FULL: {
            const char *residue = residue_class(m->residues[a->residue].name);
            if ((k = atom_class(residue, a->name)) < 0)
                return unfit(set, m, i);
            f[a->residue] = 1;
            f[2 + find(residue_types, 20, residue)] = 1;
            k += 22;
            break;
        }
        case TBG_FEATURES_AD_BACKBONE: {
            /* Columns 4 to 8: C of ACE, then N, CA, C, then N of NME. */
            static const int special[5] = {4, 6, 8, 14, 16};
            int index = alanine_dipeptide_index(a->residue, a->name);
            for (int s = 0; s < 5; s++)
                if (special[s] == index)
                    k = 4 + s;
            break;
        }
        case TBG_FEATURES_AD_FULL:
            /* The column is the atom's index; hydrogens of one methyl share the middle one's, and since the
             * last shared one is 20 there are 21 columns, some never used (as published). */
            k = alanine_dipeptide_index(a->residue, a->name);
            k += k == 1 || k == 11 || k == 19;
            break;
        default:
            break;
        }
        f[k] = 1;
    }
    return TBG_OK;
}

/* ---- conditioning: memory, and the one made from raw features ---- */

#define MOST_ATOMS 4096

int tbg_conditioning_allocate(int n_atoms, int n_features, tbg_conditioning **out) {
    if (n_atoms < 1 || n_atoms > MOST_ATOMS || n_features < 1)
        return tbg_fail(TBG_INPUT, "a molecule of %d atoms with %d features; 1 to %d atoms are possible",
                        n_atoms, n_features, MOST_ATOMS);
    static uint64_t made;
    size_t n = (size_t)n_atoms;
    tbg_conditioning *c = TBG_NEW(tbg_conditioning, 1);
    if (!c)
        return TBG_FAILED;
#pragma omp atomic capture
    c->serial = ++made;
    c->n_atoms = n_atoms;
    c->n_features = n_features;
    c->node_features = TBG_NEW(double, n *(size_t)n_features);
    c->bond_class = TBG_NEW(unsigned char, n *n);
    c->pair_mean = TBG_NEW(double, n *n);
    c->pair_width = TBG_NEW(double, n *n);
    if (!c->node_features || !c->bond_class || !c->pair_mean || !c->pair_width) {
        tbg_conditioning_free(c);
        return TBG_FAILED;
    }
    *out = c;
    return TBG_OK;
}

void tbg_conditioning_free(tbg_conditioning *c) {
    if (!c)
        return;
    free(c->node_features);
    free(c->bond_class);
    free(c->pair_mean);
    free(c->pair_width);
    free(c->sites);
    tbg_conditioning_free(c->extended);
    free(c);
}

int tbg_conditioning_from_features(int n_atoms, int n_features, const double *features,
                                   tbg_conditioning **out) {
    TBG_TRY(tbg_conditioning_allocate(n_atoms, n_features, out));
    size_t n = (size_t)n_atoms * (size_t)n_features;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(features[i])) {
            tbg_conditioning_free(*out);
            *out = NULL;
            return tbg_fail(TBG_INPUT, "node feature %zu is not finite", i);
        }
    memcpy((*out)->node_features, features, n * sizeof *features);
    return TBG_OK;
}
