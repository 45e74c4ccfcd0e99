/* molecule.c: the molecule object: release, look-up, element table, names of its sequence. */
#include "tbg/molecule.h"
#include "molecule/templates.h"

#include <stdlib.h>
#include <string.h>

void tbg_molecule_free(tbg_molecule *m) {
    if (!m)
        return;
    free(m->atoms);
    free(m->residues);
    free(m->bonds);
    free(m->positions);
    free(m);
}

int tbg_molecule_find(const tbg_molecule *m, int residue, const char *name) {
    if (residue < 0 || residue >= m->n_residues)
        return -1;
    const tbg_residue *r = &m->residues[residue];
    for (int i = r->first; i < r->first + r->n; i++)
        if (!strcmp(m->atoms[i].name, name))
            return i;
    return -1;
}

/* Masses as in OpenMM's element table, so that dynamics agree. */
static const struct {
    int element;
    const char *symbol;
    double mass;
} ELEMENTS[] = {
    {1, "H", 1.007947}, {6, "C", 12.01078}, {7, "N", 14.00672}, {8, "O", 15.99943}, {16, "S", 32.0655}};

const char *tbg_element_symbol(int element) {
    for (size_t i = 0; i < sizeof ELEMENTS / sizeof ELEMENTS[0]; i++)
        if (ELEMENTS[i].element == element)
            return ELEMENTS[i].symbol;
    return "X";
}

double tbg_element_mass(int element) {
    for (size_t i = 0; i < sizeof ELEMENTS / sizeof ELEMENTS[0]; i++)
        if (ELEMENTS[i].element == element)
            return ELEMENTS[i].mass;
    return 0;
}

/* "AC" for plain zwitterions with HIE; otherwise dashes: "ACE-A-NME", "HID-K". */
void tbg_molecule_sequence(const tbg_molecule *m, char *text, size_t size) {
    if (!size)
        return;
    text[0] = 0;
    int dashes = 0;
    for (int r = 0; r < m->n_residues; r++) {
        const tbg_template *t = tbg_template_by_name(m->residues[r].name);
        dashes |= !t || !t->letter || tbg_residue_histidine(m, r) != TBG_HIE;
    }
    size_t used = 0;
    for (int r = 0; r < m->n_residues; r++) {
        const tbg_template *t = tbg_template_by_name(m->residues[r].name);
        char letter[2] = {t && t->letter ? t->letter : 0, 0};
        int histidine = tbg_residue_histidine(m, r);
        const char *word = letter[0] ? letter : m->residues[r].name;
        if (histidine == TBG_HID)
            word = "HID";
        else if (histidine == TBG_HIP)
            word = "HIP";
        size_t length = strlen(word);
        if (used + length + 2 > size)
            return; /* cut at a residue */
        if (dashes && r)
            text[used++] = '-';
        memcpy(text + used, word, length + 1);
        used += length;
    }
}
