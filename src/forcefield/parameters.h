/* parameters.h: what parameter files in OpenMM's XML format say, before it meets a molecule. Inner interface
 * of this floor: xml.c fills it, match.c finds residue templates, terms.c makes a system's tables. */
#ifndef TBG_FORCEFIELD_PARAMETERS_H
#define TBG_FORCEFIELD_PARAMETERS_H
#include "tbg/system.h"

/* Names are interned: equal text, equal number; the empty text is 0. */
typedef struct {
    char **text;
    int n, capacity, *table, table_size;
} tbg_names;
int tbg_names_intern(tbg_names *names, const char *text); /* -1: no memory (message stored) */

typedef struct {
    int name, class_, element; /* names; atomic number, 0 if the file gives none */
    double mass;
} tbg_atom_type;

typedef struct {
    char name[8];
    int type; /* index into types, resolved after all files are read */
    int type_name;
    double charge; /* NaN if the residue gives none */
} tbg_ff_atom;

typedef struct {
    char name[16];
    int line, n_atoms, n_bonds, n_externals;
    tbg_ff_atom *atoms;
    int (*bonds)[2];
    int *externals; /* [n_externals] atoms bonded to another residue, repeated for two such bonds */
} tbg_ff_residue;

/* Which atom types a parameter is for: every type (the wildcard), one type, or one class. */
typedef struct {
    enum { TBG_ANY, TBG_TYPE, TBG_CLASS } kind;
    int name;
} tbg_selector;

typedef struct {
    tbg_selector atom[2];
    double length, k;
} tbg_bond_parameter;
typedef struct {
    tbg_selector atom[3];
    double angle, k;
} tbg_angle_parameter;

enum {
    TBG_ORDER_DEFAULT,
    TBG_ORDER_CHARMM,
    TBG_ORDER_AMBER
}; /* improper torsions: how the outer atoms are ordered */
typedef struct {
    tbg_selector atom[4];
    int wildcard; /* a selector is TBG_ANY */
    int ordering; /* impropers */
    int n, periodicity[6];
    double phase[6], k[6];
} tbg_torsion_parameter;

typedef struct {
    tbg_selector atom;
    double charge, sigma, epsilon;
} tbg_nonbonded_parameter; /* charge NaN: from residue */
typedef struct {
    tbg_selector atom;
    double charge, radius, scale;
} tbg_gb_parameter;

typedef struct {
    tbg_names names;
    int n_types, n_templates, n_bonds, n_angles, n_propers, n_impropers, n_nonbonded, n_gb;
    tbg_atom_type *types;
    tbg_ff_residue *templates;
    tbg_bond_parameter *bonds;
    tbg_angle_parameter *angles;
    tbg_torsion_parameter *propers, *impropers;
    tbg_nonbonded_parameter *nonbonded;
    tbg_gb_parameter *gb;
    double coulomb14, lj14;  /* NaN until a NonbondedForce was read */
    int charge_from_residue; /* <UseAttributeFromResidue name="charge"/> */
    int gb_model;            /* TBG_GB_* */
} tbg_parameters;

/* Add one file. Scripts, includes and forces that are not known here are refused, never skipped. */
int tbg_parameters_read(const char *path, tbg_parameters *p);
/* After the last file: resolve types and check that the parts fit together. */
int tbg_parameters_resolve(tbg_parameters *p);
void tbg_parameters_free(tbg_parameters *p);

static inline int tbg_selects(const tbg_parameters *p, tbg_selector s, int type) {
    return s.kind == TBG_ANY || s.name == (s.kind == TBG_TYPE ? p->types[type].name : p->types[type].class_);
}

/* What matching gives each atom of a molecule. */
typedef struct {
    int type;           /* index into types */
    int template_index; /* position inside its residue template */
    double charge;      /* of the residue template, NaN if it gives none */
} tbg_typed_atom;
/* Find every residue's template by name, position in the chain, atoms and bonds. typed: [n_atoms]. */
int tbg_match_residues(const tbg_parameters *p, const tbg_molecule *molecule, tbg_typed_atom *typed);

/* Fill the tables of `system` (n_atoms and cutoff are set) from typed atoms. */
int tbg_make_terms(const tbg_parameters *p, const tbg_molecule *molecule, const tbg_typed_atom *typed,
                   tbg_system *system);
#endif
