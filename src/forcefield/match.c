/* match.c: which residue template of the force field each residue of a molecule is.
 *
 * By name and place in the chain (N + name at the start, C + name at the end, the plain name between and for
 * caps), then among protonation states by the atoms and bonds, which must agree one to one. Atom names are
 * compared in a canonical spelling, since PDB and AMBER name the same hydrogens of caps and chain starts
 * differently. Refuses whatever does not agree, naming residue, atom and template. */
#include "base/memory.h"
#include "forcefield/parameters.h"
#include "tbg/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Residue names that the same PDB residue can have by protonation and bonding. */
static const char *const variants[][5] = {
    {"HIS", "HID", "HIE", "HIP"}, {"ASP", "ASH"}, {"GLU", "GLH"}, {"LYS", "LYN"}, {"CYS", "CYX", "CYM"},
};

/* The spelling in which names are compared: N-terminal H1 is H; ACE's and NME's methyl is C H1 H2 H3 as
 * OpenMM writes it (AMBER: CH3 HH31 HH32 HH33; older PDB files: 1HH3 2HH3 3HH3). ACE's own C is the carbonyl,
 * so its methyl stays CH3. */
static void canonical(const char *residue, const char *name, char out[8]) {
    int ace = !strcmp(residue, "ACE"), nme = !strcmp(residue, "NME");
    snprintf(out, 8, "%s", name);
    if ((ace || nme) && strlen(name) == 4) {
        if (!strncmp(name, "HH3", 3))
            snprintf(out, 8, "H%c", name[3]);
        else if (!strcmp(name + 1, "HH3"))
            snprintf(out, 8, "H%c", name[0]);
    } else if (nme && !strcmp(name, "CH3"))
        strcpy(out, "C");
    else if (!ace && !nme && !strcmp(name, "H1"))
        strcpy(out, "H");
}

static const tbg_ff_residue *find_template(const tbg_parameters *p, const char *prefix, const char *name) {
    size_t n = strlen(prefix);
    for (int t = 0; t < p->n_templates; t++)
        if (!strncmp(p->templates[t].name, prefix, n) && !strcmp(p->templates[t].name + n, name))
            return &p->templates[t];
    return NULL;
}

static int bonded(const tbg_ff_residue *t, int i, int j) {
    for (int b = 0; b < t->n_bonds; b++)
        if ((t->bonds[b][0] == i && t->bonds[b][1] == j) || (t->bonds[b][0] == j && t->bonds[b][1] == i))
            return 1;
    return 0;
}

/* Does template t describe residue r? typed: filled for its atoms as far as it got. why: what does not agree.
 */
static int agrees(const tbg_parameters *p, const tbg_ff_residue *t, const tbg_molecule *m, int r,
                  tbg_typed_atom *typed, char *why, size_t size) {
    const tbg_residue *residue = &m->residues[r];
    int first = residue->first, n = residue->n;
    for (int i = 0; i < n; i++) {
        const tbg_atom *atom = &m->atoms[first + i];
        char want[8], have[8];
        canonical(residue->name, atom->name, want);
        int k = 0;
        for (; k < t->n_atoms; k++) {
            canonical(residue->name, t->atoms[k].name, have);
            if (!strcmp(want, have))
                break;
        }
        if (k == t->n_atoms)
            return snprintf(why, size, "atom %s is not in its template %s", atom->name, t->name), 0;
        for (int j = 0; j < i; j++)
            if (typed[first + j].template_index == k)
                return snprintf(why, size, "atoms %s and %s are the same atom", m->atoms[first + j].name,
                                atom->name),
                       0;
        const tbg_atom_type *type = &p->types[t->atoms[k].type];
        if (type->element && type->element != atom->element)
            return snprintf(why, size, "atom %s is %s, in its template %s %s", atom->name,
                            tbg_element_symbol(atom->element), t->name, tbg_element_symbol(type->element)),
                   0;
        typed[first + i] = (tbg_typed_atom){t->atoms[k].type, k, t->atoms[k].charge};
    }
    if (n != t->n_atoms) {
        for (int k = 0; k < t->n_atoms; k++) {
            int found = 0;
            for (int i = 0; i < n; i++)
                found |= typed[first + i].template_index == k;
            if (!found)
                return snprintf(why, size, "atom %s of its template %s is missing", t->atoms[k].name,
                                t->name),
                       0;
        }
    }
    int inside = 0, outside = 0;
    for (int b = 0; b < m->n_bonds; b++) {
        int i = m->bonds[b][0], j = m->bonds[b][1];
        int here_i = m->atoms[i].residue == r, here_j = m->atoms[j].residue == r;
        if (here_i && here_j) {
            inside++;
            if (!bonded(t, typed[i].template_index, typed[j].template_index))
                return snprintf(why, size, "the bond %s-%s is not in its template %s", m->atoms[i].name,
                                m->atoms[j].name, t->name),
                       0;
        } else if (here_i || here_j) {
            int k = typed[here_i ? i : j].template_index, allowed = 0, used = 0;
            outside++;
            for (int e = 0; e < t->n_externals; e++)
                allowed += t->externals[e] == k;
            for (int c = 0; c < m->n_bonds; c++) {
                int u = m->bonds[c][0], v = m->bonds[c][1], atom = here_i ? i : j;
                used += (u == atom && m->atoms[v].residue != r) || (v == atom && m->atoms[u].residue != r);
            }
            if (used > allowed)
                return snprintf(why, size,
                                "atom %s is bonded to another residue, in its template %s it is not",
                                m->atoms[here_i ? i : j].name, t->name),
                       0;
        }
    }
    if (inside != t->n_bonds)
        return snprintf(why, size, "%d bonds, its template %s has %d", inside, t->name, t->n_bonds), 0;
    if (outside != t->n_externals)
        return snprintf(why, size, "%d bonds to other residues, its template %s has %d", outside, t->name,
                        t->n_externals),
               0;
    return 1;
}

/* Candidate templates of residue r in order of preference; at most 3 prefixes x 5 names. */
static int candidates(const tbg_parameters *p, const tbg_molecule *m, int r, const tbg_ff_residue **out) {
    int before = 0, after = 0, n = 0;
    for (int b = 0; b < m->n_bonds; b++) {
        int ri = m->atoms[m->bonds[b][0]].residue, rj = m->atoms[m->bonds[b][1]].residue;
        if (ri == r && rj != r)
            after |= rj > r, before |= rj < r;
        if (rj == r && ri != r)
            after |= ri > r, before |= ri < r;
    }
    const char *name = m->residues[r].name, *prefixes[3];
    int n_prefixes = 0;
    if (!before)
        prefixes[n_prefixes++] = "N";
    if (!after)
        prefixes[n_prefixes++] = "C";
    prefixes[n_prefixes++] = "";
    for (int q = 0; q < n_prefixes; q++) {
        const tbg_ff_residue *t = find_template(p, prefixes[q], name);
        if (t)
            out[n++] = t;
        for (size_t v = 0; v < sizeof variants / sizeof *variants; v++)
            for (int k = 1; !strcmp(variants[v][0], name) && k < 5 && variants[v][k]; k++)
                if ((t = find_template(p, prefixes[q], variants[v][k])))
                    out[n++] = t;
    }
    return n;
}

int tbg_match_residues(const tbg_parameters *p, const tbg_molecule *m, tbg_typed_atom *typed) {
    for (int r = 0; r < m->n_residues; r++) {
        const tbg_residue *residue = &m->residues[r];
        const tbg_ff_residue *list[16];
        char why[160] = "", first_why[160] = "";
        int n = candidates(p, m, r, list), found = 0;
        for (int c = 0; c < n && !found; c++) {
            for (int i = 0; i < residue->n; i++)
                typed[residue->first + i].template_index = -1;
            found = agrees(p, list[c], m, r, typed, why, sizeof why);
            if (c == 0)
                memcpy(first_why, why, sizeof why);
        }
        if (!found)
            return tbg_fail(TBG_INPUT, "residue %s %d has no parameters: %s", residue->name, residue->number,
                            n ? first_why : "the force field has no residue of that name");
    }
    return TBG_OK;
}
