/* system.h: a molecule under a force field, as flat tables of terms. Units nm, kJ/mol, g/mol, elementary
 * charges. Immutable once built; shared by engines and threads. */
#ifndef TBG_SYSTEM_H
#define TBG_SYSTEM_H
#include "tbg/molecule.h"

typedef struct {
    int i, j;
    double length, k;
} tbg_bond_term; /* U = k/2 (r - length)^2; k in kJ/mol/nm^2 */
typedef struct {
    int i, j, k;
    double angle, stiffness;
} tbg_angle_term; /* U = stiffness/2 (theta - angle)^2, rad */
typedef struct {
    int i, j, k, l, periodicity;
    double phase, barrier;
} tbg_torsion_term; /* U = barrier (1 + cos(n phi - phase)) */
typedef struct {
    int i, j;
    double charge_product, sigma, epsilon;
} tbg_pair_term; /* 1-4 exception, unscaled by cutoff */

enum { TBG_GB_NONE = 0, TBG_GB_OBC1 = 1, TBG_GB_OBC2 = 2 };

typedef struct {
    int n_atoms;
    char forcefield[32]; /* "amber14-obc1", "amber99sbildn-obc", or the file's stem */
    double *mass;        /* [n_atoms] g/mol */
    int n_bonds, n_angles, n_torsions, n_pairs14;
    tbg_bond_term *bonds;
    tbg_angle_term *angles;
    tbg_torsion_term *torsions; /* proper and improper */
    tbg_pair_term *pairs14;
    double *charge, *sigma, *epsilon; /* [n_atoms] e, nm, kJ/mol */
    int n_pairs;
    int (*pairs)[2]; /* all pairs i < j that interact by the plain nonbonded rule (not excluded, not 1-4) */
    double coulomb;  /* k in k q q / r, kJ/mol nm: 138.935457644 */
    /* nm, 0: none. Pairs of `pairs` beyond it are skipped; those within have no switch on Lennard-Jones and
     * the Coulomb term shifted, coulomb q q (1/r - 1/cutoff) (OpenMM's reaction field at dielectric 1). 1-4
     * terms know no cutoff. Generalised Born: pairs beyond it leave both the Born integrals and the energy,
     * whose pair terms are shifted too: 1/f - 1/cutoff. */
    double cutoff;
    int gb;                                   /* TBG_GB_* */
    double gb_coulomb, gb_solute, gb_solvent; /* 138.935485; dielectrics */
    double gb_alpha, gb_beta, gb_gamma;       /* tanh(alpha psi - beta psi^2 + gamma psi^3) */
    double gb_offset;                         /* nm, 0.009 */
    double gb_surface, gb_probe;   /* E = gb_surface (radius + gb_probe)^2 (radius/B)^6; kJ/mol/nm^2, nm */
    double *gb_radius, *gb_screen; /* [n_atoms] nm, 1 */
    int degrees_of_freedom;        /* 3 n_atoms */
} tbg_system;

/* Build from a named force field (see tbg_forcefield_names). cutoff: nm, 0 for none, < 0 for the force
 * field's usual one. Parameter files are found in $TBG_DATA, beside the program, in the source tree, or
 * ../share/tbg/data. errors: TBG_INPUT: unknown force field, residue or atom without parameters (named). */
int tbg_system_create(const tbg_molecule *molecule, const char *forcefield, double cutoff, tbg_system **out);
void tbg_system_free(tbg_system *system);
/* NULL-terminated list of names that tbg_system_create accepts. */
const char *const *tbg_forcefield_names(void);
/* The usual temperature of a force field's published data: 310 for amber14-obc1, 300 for amber99sbildn-obc,
 * K. */
double tbg_forcefield_temperature(const char *name);
#define TBG_BOLTZMANN 0.00831446261815324 /* kJ/mol/K */
#endif
