/* torsions.c: dihedral angles and the backbone's torsions. */
#include "base/memory.h"
#include "tbg/molecule.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double tbg_dihedral(const double *x, const int atoms[4]) {
    double b[3][3];
    for (int k = 0; k < 3; k++)
        for (int a = 0; a < 3; a++)
            b[k][a] = x[3 * atoms[k + 1] + a] - x[3 * atoms[k] + a];
    double m[3], n[3];
    for (int a = 0; a < 3; a++) {
        int p = (a + 1) % 3, q = (a + 2) % 3;
        m[a] = b[0][p] * b[1][q] - b[0][q] * b[1][p];
        n[a] = b[1][p] * b[2][q] - b[1][q] * b[2][p];
    }
    double length = sqrt(b[1][0] * b[1][0] + b[1][1] * b[1][1] + b[1][2] * b[1][2]), y = 0, c = 0;
    for (int a = 0; a < 3; a++) {
        y += b[0][a] * n[a];
        c += m[a] * n[a];
    }
    double angle = atan2(length * y, c);
    return angle == -M_PI ? M_PI : angle;
}

/* Atom of the backbone role in a residue; ACE's methyl stands for CA, NME's too. */
static int role(const tbg_molecule *m, int residue, const char *name) {
    if (residue < 0 || residue >= m->n_residues)
        return -1;
    const char *r = m->residues[residue].name;
    if (!strcmp(r, "ACE") && !strcmp(name, "CA"))
        return tbg_molecule_find(m, residue, "CH3");
    if (!strcmp(r, "NME") && !strcmp(name, "CA"))
        return tbg_molecule_find(m, residue, "C");
    if (!strcmp(r, "NME") && !strcmp(name, "C"))
        return -1;
    return tbg_molecule_find(m, residue, name);
}

/* omega of residue i is the bond to the residue before: CA(i-1) C(i-1) N(i) CA(i), and residues are numbered
 * from 1 without a leading cap, so that ACE-ALA-NME has phi1, psi1 as the literature's phi, psi. */
int tbg_backbone_torsions(const tbg_molecule *m, int *n, tbg_torsion **out) {
    *n = 0;
    *out = TBG_NEW(tbg_torsion, 3 * m->n_residues);
    if (!*out)
        return TBG_FAILED;
    int cap = m->n_residues && !strcmp(m->residues[0].name, "ACE");
    static const struct {
        const char *name, *atoms[4];
        int offset[4];
    } KINDS[3] = {{"omega", {"CA", "C", "N", "CA"}, {-1, -1, 0, 0}},
                  {"phi", {"C", "N", "CA", "C"}, {-1, 0, 0, 0}},
                  {"psi", {"N", "CA", "C", "N"}, {0, 0, 0, 1}}};
    for (int r = 0; r < m->n_residues; r++)
        for (int k = 0; k < 3; k++) {
            tbg_torsion *t = &(*out)[*n];
            int found = 1;
            for (int a = 0; a < 4; a++)
                found &= (t->atoms[a] = role(m, r + KINDS[k].offset[a], KINDS[k].atoms[a])) >= 0;
            if (!found)
                continue;
            t->residue = r;
            snprintf(t->name, sizeof t->name, "%s%d", KINDS[k].name, r + 1 - cap);
            ++*n;
        }
    return TBG_OK;
}
