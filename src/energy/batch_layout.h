/* batch_layout.h: a system's terms as the batched kernels read them. Made by batch.c, read by batch_kernel.h;
 * nobody else looks inside.
 *
 * Every real parameter lives in one flat table, kept in double (p64) and in float (p32) with the same
 * offsets, so that the kernels of both precisions share the integer tables and the layout. Index letters: i,
 * j atoms; p pairs. */
#ifndef TBG_ENERGY_BATCH_LAYOUT_H
#define TBG_ENERGY_BATCH_LAYOUT_H
#include "energy/batch.h"
#include "energy/formulas.h"

/* Kinds of pairs in a row of atom i; each row lists its partners j > i kind by kind. */
enum {
    TBG_PAIR_PLAIN,    /* Lennard-Jones, Coulomb, generalised Born; all within the cutoff */
    TBG_PAIR_14,       /* the same with its own parameters, the first two without cutoff */
    TBG_PAIR_EXCLUDED, /* generalised Born only; absent without it */
    TBG_PAIR_KINDS
};

enum { TBG_TORSION_COS = 8, TBG_TORSION_WAVE = 16 }; /* reals per torsion */
#define TBG_TORSION_DEGREE 6                         /* highest periodicity */

enum { TBG_PROBE_RCP, TBG_PROBE_RSQRT, TBG_PROBE_EXP2, TBG_PROBE_LOG, TBG_PROBE_ATAN2, TBG_PROBE_ATANH_REST };

typedef struct {
    /* x, f, energy, components, workspace as in tbg_batch_evaluate. */
    void (*evaluate_f32)(const tbg_batch_system *s, const float *x, float *f, double *energy,
                         double *components, void *workspace);
    void (*evaluate_f64)(const tbg_batch_system *s, const double *x, double *f, double *energy,
                         double *components, void *workspace);
    int width_f32, width_f64; /* lanes that one pass takes */
    /* For tests: y = function(x, z) of vecmath.h on n values, n a multiple of 16; `function` is TBG_PROBE_*.
     */
    void (*probe_f32)(int function, int n, const float *x, const float *z, float *y);
    void (*probe_f64)(int function, int n, const double *x, const double *z, double *y);
} tbg_batch_table;

struct tbg_batch_system {
    const tbg_batch_table *table; /* of the best instruction set when the system was made */
    int n_atoms, gb, cut;         /* gb, cut: 0 or 1 */
    int n_bonds, n_angles, n_cosines, n_waves, n_pairs;
    int *bonds, *angles; /* [n_bonds][2], [n_angles][3] */
    int *cosines;        /* [n_cosines][4]: torsions whose energy is a polynomial in cos phi of degree 4 */
    int *waves;          /* [n_waves][4]: the other torsions */
    int *row;        /* [3 n_atoms + 1]: pairs of kind k of atom i are row[3 i + k] .. row[3 i + k + 1] - 1 */
    int *partner;    /* [n_pairs]: j */
    int *first;      /* [n_pairs]: i */
    size_t at_bond;  /* [n_bonds][2]: length, k */
    size_t at_angle; /* [n_angles][2]: angle, stiffness */
    size_t at_cosine; /* [n_cosines][8]: P_0 .. P_4 of E = P(cos phi), three unused */
    size_t at_wave;   /* [n_waves][16]: P_0 .. P_6, Q_0 .. Q_5 of E = P(cos phi) + sin phi Q(cos phi) */
    size_t at_pair;   /* [n_pairs][TBG_PAIR_REALS] */
    size_t at_near;   /* [n_pairs]: r^2 below which the spheres may overlap */
    size_t at_atom;   /* [n_atoms][TBG_ATOM_REALS] */
    size_t at_scalar; /* [TBG_SCALAR_REALS] */
    size_t n_reals;
    double *p64;
    float *p32;
};

/* Of a pair: 12 a, 6 b, kqq of a/r^12 - b/r^6 + kqq/r; -prefactor q_i q_j, prefactor = k (1/solute -
 * 1/solvent). */
enum { TBG_PAIR_A12, TBG_PAIR_B6, TBG_PAIR_KQQ, TBG_PAIR_KGB, TBG_PAIR_REALS };
/* Of an atom: reduced radius o = radius - offset; scaled radius sr = screen o; sr^2; sr^3/2; 1/o; 1/radius;
 * radius; surface (radius + probe)^2; -prefactor q^2/2. */
enum {
    TBG_ATOM_O,
    TBG_ATOM_SR,
    TBG_ATOM_SR2,
    TBG_ATOM_HALF_SR3,
    TBG_ATOM_INV_O,
    TBG_ATOM_INV_RADIUS,
    TBG_ATOM_RADIUS,
    TBG_ATOM_AREA,
    TBG_ATOM_SELF,
    TBG_ATOM_REALS
};
/* SHIFT = 1/cutoff or 0. */
enum {
    TBG_SCALAR_CUTOFF2,
    TBG_SCALAR_SHIFT,
    TBG_SCALAR_ALPHA,
    TBG_SCALAR_BETA,
    TBG_SCALAR_GAMMA,
    TBG_SCALAR_REALS
};

/* The same as tbg_batch_evaluate in double precision; x, f: [n_atoms * 3 * TBG_LANES]. */
void tbg_batch_evaluate_double(const tbg_batch_system *s, const double *x, double *f, double *energy,
                               double *components, void *workspace);
#endif
