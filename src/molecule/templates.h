/* templates.h: residue templates, inside floor 2 only.
 *
 * A template lists a residue's atoms in the order of the Amber residue libraries, with the names that OpenMM
 * writes to PDB files. Each row also places its atom by internal coordinates (length, angle, dihedral to
 * three atoms placed before), so that one table gives names, bonds and geometry: the bond of a row is name -
 * parent. */
#ifndef TBG_MOLECULE_TEMPLATES_H
#define TBG_MOLECULE_TEMPLATES_H
#include "tbg/molecule.h"

#define TBG_MAX_RESIDUE_ATOMS 32
#define TBG_MAX_CHI 4
#define TBG_MAX_ATOMS 10000 /* larger molecules are refused: pair lists grow with the square */

/* `chi` of a row: 0 the dihedral is fixed, k > 0 it is chi_k + dihedral, or a backbone torsion + dihedral. */
enum { TBG_PHI = -1, TBG_PSI = -2, TBG_OMEGA = -3, TBG_PSI_BEFORE = -4 };

/* References may be names in the residue before, marked "-": "-C". A root row has no parent. nm, degrees. */
typedef struct {
    char name[6], parent[6], grand[6], great[6];
    double length, angle, dihedral;
    int chi;
} tbg_template_atom;

typedef struct {
    char name[4];
    char letter; /* one-letter code, 0 for caps */
    const tbg_template_atom *atoms;
    int n;
    char kinds[TBG_MAX_CHI +
               1];          /* of each chi: 's' staggered, 'p' planar end group, 'f' flips by 180 degrees */
    char closures[2][2][6]; /* bonds that close rings, not in the rows */
} tbg_template;

const tbg_template *
tbg_template_by_name(const char *name); /* "ALA", ..., "HIS", "ACE", "NME"; NULL if unknown */
const tbg_template *tbg_template_by_letter(char letter);
extern const tbg_template tbg_templates[];
extern const int tbg_n_templates;

/* Which hydrogens of HIS. */
enum { TBG_HIE = 0, TBG_HID = 1, TBG_HIP = 2 };

/* The full rows of a residue at its place in a chain: first or last residue of the chain get the zwitterion's
 * atoms. rows: [TBG_MAX_RESIDUE_ATOMS]. Returns their number. */
int tbg_template_rows(const tbg_template *t, int first, int last, int histidine, tbg_template_atom *rows);

/* Other programs' name of an atom -> the template's name for it ("1HB" -> "HB1" or "HB3", "OT1" -> "O");
 * `name` itself if nothing is known. rows: the residue's [n]. out: [8]. */
void tbg_template_alias(const tbg_template *t, int n, const tbg_template_atom *rows, const char *name,
                        char *out);

int tbg_element_of_name(const char *template_name); /* atomic number by a template atom's name */

/* Fill molecule->bonds from the templates. Atoms and residues must be complete and canonical.
 * errors: TBG_FAILED for want of memory. */
int tbg_molecule_bond(tbg_molecule *molecule);
/* Which HIS a residue of a molecule is; TBG_HIE for others. */
int tbg_residue_histidine(const tbg_molecule *molecule, int residue);
#endif
