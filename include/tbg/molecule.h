/* molecule.h: atoms, residues, bonds; building from a sequence, reading and writing PDB, stereochemistry.
 * Units: positions in nm everywhere (PDB files: Angstrom, converted on the way in and out). */
#ifndef TBG_MOLECULE_H
#define TBG_MOLECULE_H
#include <stddef.h>
#include <stdio.h>

typedef struct {
    char name[8]; /* PDB atom name as OpenMM writes it, no spaces: "CA", "HB2", "H2", "OXT" */
    int element;  /* atomic number: 1, 6, 7, 8, 16 */
    int residue;  /* index into residues */
} tbg_atom;

typedef struct {
    char name[8];   /* PDB residue name: "ALA", "HIS", "ACE", "NME" */
    int number;     /* PDB residue number */
    char chain;     /* PDB chain identifier, ' ' if none */
    char insertion; /* PDB insertion code, ' ' if none */
    int first, n;   /* its atoms: first .. first + n - 1 */
} tbg_residue;

/* A molecule: one chain, hydrogens included. All arrays are owned by it and released by tbg_molecule_free. */
typedef struct {
    int n_atoms, n_residues, n_bonds;
    tbg_atom *atoms;        /* [n_atoms] */
    tbg_residue *residues;  /* [n_residues] */
    int (*bonds)[2];        /* [n_bonds] first < second, sorted; no duplicates */
    double (*positions)[3]; /* [n_atoms] nm */
    int n_waters;           /* water molecules that the PDB reader left out */
} tbg_molecule;

void tbg_molecule_free(tbg_molecule *molecule); /* NULL is allowed */

/* Build a peptide: atoms in OpenMM's template order, bonds, L configuration at every centre, and a start
 * geometry without clashes (extended backbone; not yet minimised by a force field). sequence: one-letter
 * ("AC") or three-letter with dashes ("ALA-CYS"); caps as "ACE-ALA-NME", "ACE-A-NME"; free zwitterion
 * (N-terminal NH3+, C-terminal COO-) where no cap is given. HIS/H is HIE; HID, HIE, HIP by name. errors:
 * TBG_INPUT for an unknown or refused residue, named with its position in the sequence. */
int tbg_molecule_from_sequence(const char *sequence, tbg_molecule **out);

/* Read the first model of a PDB file and check that every residue is complete; bonds come from residue
 * templates (CONECT records that contradict them are an error). What cannot be used is named with file, line
 * and residue. errors: TBG_INPUT. */
int tbg_molecule_read_pdb(const char *path, tbg_molecule **out);
/* The same from memory. name: used in messages. */
int tbg_molecule_parse_pdb(const char *text, size_t length, const char *name, tbg_molecule **out);
/* The same for one chain of several. chain: its identifier, or 0 where the file must hold just one. */
int tbg_molecule_parse_pdb_chain(const char *text, size_t length, const char *name, char chain,
                                 tbg_molecule **out);

/* FILE.pdb if `what` names a readable file (FILE.pdb:A for chain A of several), otherwise a sequence. */
int tbg_molecule_load(const char *what, tbg_molecule **out);

/* Write a PDB file as OpenMM lays it out (TER, END, element column, CONECT for residues PDB does not know).
 * positions: [n_atoms][3] nm, or NULL for the molecule's own. Written beside the target and renamed. */
int tbg_molecule_write_pdb(const tbg_molecule *molecule, const double *positions, const char *path);
/* The same into a string that the caller frees. */
int tbg_molecule_format_pdb(const tbg_molecule *molecule, const double *positions, char **text);

/* One-letter sequence with caps ("AC", "ACE-A-NME"). text: [size]. */
void tbg_molecule_sequence(const tbg_molecule *molecule, char *text, size_t size);

/* Atom index by residue index and name, or -1. */
int tbg_molecule_find(const tbg_molecule *molecule, int residue, const char *name);
const char *tbg_element_symbol(int element);
double tbg_element_mass(int element); /* g/mol, as in OpenMM's element table */

/* ---- graph ---- */

/* Number of bonds on the shortest path between every two atoms, 255 if there is none. distance: [n*n],
 * row-major. */
int tbg_bond_distances(int n_atoms, int n_bonds, const int (*bonds)[2], unsigned char *distance);

/* Tetrahedral stereocentres: atoms with four neighbours in four different environments (graph-symmetric
 * neighbours, such as the methyls of VAL and LEU or two hydrogens, are no centre). */
typedef struct {
    int n;
    int (*atoms)[5];   /* [n] centre, then its neighbours in order of descending rank */
    signed char *sign; /* [n] sign of the signed volume in the L-peptide reference (ILE and THR side chains
                          included) */
} tbg_stereo;
int tbg_stereo_find(const tbg_molecule *molecule, tbg_stereo *out); /* signs from the L reference by name */
void tbg_stereo_free(tbg_stereo *stereo);

/* Verdict on one configuration, by the rules of the specification, section 3.
 * TBG_TOPOLOGY: the bond graph inferred from distances is not isomorphic to the molecule's.
 * TBG_MIRRORED: valid after mirroring. TBG_CHIRALITY: wrong at some centre, also after mirroring. */
enum { TBG_VALID = 0, TBG_MIRRORED = 1, TBG_TOPOLOGY = 2, TBG_CHIRALITY = 3, TBG_NOT_FINITE = 4 };
typedef struct tbg_checker tbg_checker;
int tbg_checker_create(const tbg_molecule *molecule, tbg_checker **out);
void tbg_checker_free(tbg_checker *checker);
/* mirror 1 (as created): a molecule with all centres inverted is mirrored back: right for samples of a
 * density that knows no left and right. 0: it is wrong (TBG_CHIRALITY). */
void tbg_checker_set_mirror(tbg_checker *checker, int mirror);
/* positions: [n_atoms][3] nm; rewritten in place when the sample is relabelled (isomorphic, atoms permuted)
 * or mirrored (x -> -x about the centroid). Thread-safe for one checker and different positions. Returns a
 * verdict. */
int tbg_check(const tbg_checker *checker, double *positions);

/* ---- torsions ---- */
typedef struct {
    char name[16]; /* "phi1", "psi1", "omega1", ... numbered by residue from 1, ACE not counted */
    int residue;   /* index */
    int atoms[4];
} tbg_torsion;
/* Backbone torsions phi, psi, omega of every residue that has them (caps take part as neighbours).
 * *out: array of *n, freed by the caller. */
int tbg_backbone_torsions(const tbg_molecule *molecule, int *n, tbg_torsion **out);
/* Dihedral angle of four atoms in (-pi, pi], IUPAC sign. positions: [n_atoms][3]. */
double tbg_dihedral(const double *positions, const int atoms[4]);
#endif
