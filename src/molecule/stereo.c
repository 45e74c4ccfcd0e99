/* stereo.c: tetrahedral stereocentres and their signs in L peptides. Atoms with graph-symmetric neighbours
 * (CH2, NH3, the methyls of VAL and LEU) are no centres. */
#include "base/memory.h"
#include "molecule/graph.h"
#include "molecule/templates.h"
#include "tbg/status.h"

#include <stdlib.h>
#include <string.h>

/* The sign of (a - d) . ((b - d) x (c - d)) for neighbours a, b, c, d of the centre, in proteins.
 * With falling priorities a, b, c, d a positive sign is S. */
static const struct {
    const char *residue, *centre, *order[4];
    int sign;
} REFERENCE[] = {
    {"", "CA", {"N", "C", "CB", "HA"}, 1},
    {"ILE", "CB", {"CA", "CG1", "CG2", "HB"}, 1},
    {"THR", "CB", {"CA", "OG1", "CG2", "HB"}, 1}, /* the same shape, though R by name: OG1 outranks CA */
};

/* Sign for the centre's neighbours in the order given, or 0 if the reference does not know it. */
static int reference_sign(const tbg_molecule *m, const int atoms[5]) {
    const char *residue = m->residues[m->atoms[atoms[0]].residue].name;
    for (size_t i = 0; i < sizeof REFERENCE / sizeof REFERENCE[0]; i++) {
        if (strcmp(REFERENCE[i].centre, m->atoms[atoms[0]].name) ||
            (REFERENCE[i].residue[0] && strcmp(REFERENCE[i].residue, residue)))
            continue;
        int position[4], found = 0, sign = REFERENCE[i].sign;
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 4; j++)
                if (!strcmp(REFERENCE[i].order[j], m->atoms[atoms[k + 1]].name)) {
                    position[k] = j;
                    found |= 1 << j;
                }
        if (found != 15)
            continue;
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < k; j++)
                if (position[j] > position[k])
                    sign = -sign;
        return sign;
    }
    return 0;
}

static int find_centres(const tbg_molecule *m, const int *start, const int *list, const uint64_t *class,
                        tbg_stereo *out) {
    for (int i = 0; i < m->n_atoms; i++) {
        if (start[i + 1] - start[i] != 4)
            continue;
        int *atoms = out->atoms[out->n], distinct = 1;
        atoms[0] = i;
        memcpy(atoms + 1, list + start[i], 4 * sizeof *atoms);
        for (int k = 2; k < 5; k++) /* by element, then class, descending */
            for (int j = k; j > 1; j--) {
                int a = atoms[j - 1], b = atoms[j], ea = m->atoms[a].element, eb = m->atoms[b].element;
                if (ea > eb || (ea == eb && class[a] >= class[b]))
                    break;
                atoms[j - 1] = b;
                atoms[j] = a;
            }
        for (int k = 2; k < 5; k++)
            distinct &= class[atoms[k]] != class[atoms[k - 1]];
        if (!distinct)
            continue;
        int sign = reference_sign(m, atoms);
        if (!sign)
            return tbg_fail(TBG_FAILED, "atom %s of residue %s %d is a stereocentre without a reference",
                            m->atoms[i].name, m->residues[m->atoms[i].residue].name,
                            m->residues[m->atoms[i].residue].number);
        out->sign[out->n++] = (signed char)sign;
    }
    return TBG_OK;
}

int tbg_stereo_find(const tbg_molecule *m, tbg_stereo *out) {
    size_t n = (size_t)m->n_atoms;
    *out = (tbg_stereo){0};
    int *elements = TBG_NEW(int, n), *start = TBG_NEW(int, n + 1),
        *list = TBG_NEW(int, 2 * (size_t)m->n_bonds);
    uint64_t *class = TBG_NEW(uint64_t, 3 * n);
    out->atoms = tbg_alloc(n, sizeof *out->atoms);
    out->sign = TBG_NEW(signed char, n);
    int status = elements && start && list && class && out->atoms && out->sign ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        for (size_t i = 0; i < n; i++)
            elements[i] = m->atoms[i].element;
        tbg_graph_neighbours(m->n_atoms, m->n_bonds, (const int(*)[2])m->bonds, start, list);
        tbg_graph_rounds(m->n_atoms, elements, start, list, class, class + n, class + 2 * n);
        status = find_centres(m, start, list, class, out);
    }
    free(elements);
    free(start);
    free(list);
    free(class);
    if (status != TBG_OK)
        tbg_stereo_free(out);
    return status;
}

void tbg_stereo_free(tbg_stereo *stereo) {
    free(stereo->atoms);
    free(stereo->sign);
    *stereo = (tbg_stereo){0};
}
