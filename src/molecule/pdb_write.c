/* pdb_write.c: molecule -> PDB text, laid out as OpenMM does: HETATM and CONECT for residues that PDB does
 * not count as amino acids, TER, END, element column. Refuses positions that do not fit the columns. */
#include "molecule/templates.h"
#include "base/memory.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int is_standard(const tbg_molecule *m, int atom) {
    const tbg_template *t = tbg_template_by_name(m->residues[m->atoms[atom].residue].name);
    return t && t->letter;
}

static void write_conect(const tbg_molecule *m, FILE *out) {
    for (int i = 0; i < m->n_atoms; i++) {
        int n = 0;
        for (int b = 0; b < m->n_bonds; b++) {
            int j = m->bonds[b][0] == i ? m->bonds[b][1] : m->bonds[b][1] == i ? m->bonds[b][0] : -1;
            if (j < 0 || (is_standard(m, i) && is_standard(m, j)))
                continue;
            if (n % 4 == 0)
                fprintf(out, "%sCONECT%5d", n ? "\n" : "", i + 1);
            fprintf(out, "%5d", j + 1);
            n++;
        }
        if (n)
            fputc('\n', out);
    }
}

int tbg_molecule_format_pdb(const tbg_molecule *m, const double *positions, char **text) {
    *text = NULL;
    const double *x = positions ? positions : (const double *)m->positions;
    if (m->n_atoms > 99998)
        return tbg_fail(TBG_INPUT, "%d atoms do not fit a PDB file", m->n_atoms);
    for (int i = 0; i < 3 * m->n_atoms; i++)
        if (!(x[i] * 10 > -999.9994 && x[i] * 10 < 9999.9994))
            return tbg_fail(TBG_INPUT, "atom %d (%s): coordinate %g nm does not fit a PDB file", i / 3 + 1,
                            m->atoms[i / 3].name, x[i]);
    size_t size = 0;
    FILE *out = open_memstream(text, &size);
    if (!out)
        return tbg_fail(TBG_FAILED, "no memory for a PDB file");
    fprintf(out, "REMARK   1 CREATED WITH TBG " TBG_VERSION "\n");
    for (int i = 0; i < m->n_atoms; i++) {
        const tbg_atom *a = &m->atoms[i];
        const tbg_residue *r = &m->residues[a->residue];
        char name[16];
        snprintf(name, sizeof name, strlen(a->name) < 4 ? " %-3s" : "%.4s", a->name);
        fprintf(out, "%s%5d %s %3s %c%4d%c   %8.3f%8.3f%8.3f  1.00  0.00          %2s  \n",
                is_standard(m, i) ? "ATOM  " : "HETATM", i + 1, name, r->name, r->chain, r->number,
                r->insertion, x[3 * i] * 10, x[3 * i + 1] * 10, x[3 * i + 2] * 10,
                tbg_element_symbol(a->element));
    }
    if (m->n_residues) {
        const tbg_residue *r = &m->residues[m->n_residues - 1];
        fprintf(out, "TER   %5d      %3s %c%4d", m->n_atoms + 1, r->name, r->chain, r->number);
        fprintf(out, r->insertion == ' ' ? "\n" : "%c\n", r->insertion);
    }
    write_conect(m, out);
    fprintf(out, "END\n");
    int failed = ferror(out);
    if (fclose(out) || failed) {
        free(*text);
        *text = NULL;
        return tbg_fail(TBG_FAILED, "no memory for a PDB file");
    }
    return TBG_OK;
}

int tbg_molecule_write_pdb(const tbg_molecule *m, const double *positions, const char *path) {
    char *text;
    int status = tbg_molecule_format_pdb(m, positions, &text);
    if (status != TBG_OK)
        return tbg_fail_in(status, "%s", path);
    status = tbg_file_write(path, text, strlen(text));
    free(text);
    return status;
}
