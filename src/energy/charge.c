/* charge.c: the formal charge of a peptide, from its bond graph. Quantum chemistry needs it; force fields
 * carry their own charges, whose sum is the same (tests/energy/test_engines.c). Knows what peptides have:
 * ammonium, guanidinium, imidazolium, carboxylate, thiolate, phenolate; nothing else is charged. */
#include "energy/engine.h"

#include <string.h>

int tbg_formal_charge(const tbg_molecule *m) {
    int charge = 0;
    for (int i = 0; i < m->n_atoms; i++) {
        int element = m->atoms[i].element, degree = 0, n_nitrogen = 0, nitrogen_hydrogens = 0,
            terminal_oxygens = 0;
        for (int b = 0; b < m->n_bonds; b++) {
            if (m->bonds[b][0] != i && m->bonds[b][1] != i)
                continue;
            int j = m->bonds[b][0] == i ? m->bonds[b][1] : m->bonds[b][0], other = 0, hydrogens = 0;
            degree++;
            for (int c = 0; c < m->n_bonds; c++)
                if (c != b && (m->bonds[c][0] == j || m->bonds[c][1] == j)) {
                    other++;
                    hydrogens += m->atoms[m->bonds[c][0] == j ? m->bonds[c][1] : m->bonds[c][0]].element == 1;
                }
            n_nitrogen += m->atoms[j].element == 7;
            if (m->atoms[j].element == 7)
                nitrogen_hydrogens += hydrogens;
            terminal_oxygens += m->atoms[j].element == 8 && other == 0;
        }
        charge += element == 7 && degree == 4;                                /* ammonium */
        charge += element == 6 && n_nitrogen == 3 && nitrogen_hydrogens == 5; /* guanidinium */
        charge -= element == 6 && degree == 3 && terminal_oxygens == 2;       /* carboxylate */
        charge -= element == 16 && degree == 1;                               /* thiolate */
    }
    for (int r = 0; r < m->n_residues; r++) {
        const char *name = m->residues[r].name;
        if (!strncmp(name, "HI", 2) && tbg_molecule_find(m, r, "HD1") >= 0 &&
            tbg_molecule_find(m, r, "HE2") >= 0)
            charge++;
        if (!strcmp(name, "TYR") && tbg_molecule_find(m, r, "HH") < 0)
            charge--;
    }
    return charge;
}
