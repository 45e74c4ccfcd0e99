/* flatten.h: a bias along torsions that makes rare conformations and barriers common: a Fourier series in
 * each torsion, which is a handful of ordinary torsion terms, so that every engine computes it. It is found
 * in stages before equilibration and stays as it is afterwards: what is saved is equilibrium under a known
 * Hamiltonian, and exp(bias / kT) leads back to the molecule's own. */
#ifndef TBG_DYNAMICS_FLATTEN_H
#define TBG_DYNAMICS_FLATTEN_H
#include "tbg/dynamics.h"

enum { TBG_FLATTEN_HARMONICS = 6, TBG_FLATTEN_STAGES = 8 }; /* 6: the native engines' highest periodicity */
/* Coefficients of a torsion's series: of cos phi .. cos 6 phi, then of sin phi .. sin 6 phi, kJ/mol. */
enum { TBG_FLATTEN_SERIES = 2 * TBG_FLATTEN_HARMONICS };

typedef struct {
    int n; /* torsions with a bias */
    tbg_torsion *torsions;
    int n_skipped;
    tbg_torsion *skipped; /* their bond is part of a ring, which keeps them where they are */
    int stage;            /* stages done; the series in use is number `stage` */
    int64_t stage_steps, sample_steps;
    double kT, cap;     /* kJ/mol; kT */
    double *series;     /* [TBG_FLATTEN_STAGES + 1][n][TBG_FLATTEN_SERIES]; the first is 0 */
    int64_t n_samples;  /* at the lowest temperature, all runs, since the start; 0 when the bias is fixed */
    double *samples;    /* [..][n] rad */
    int32_t *core;      /* [lanes][n] basin a walker was in last: 0 none, 1 phi > 0, 2 phi < 0 */
    int64_t *crossings; /* [runs][n] changes of it during production */
    tbg_system biased;  /* the caller's system, but its torsions and the series */
} tbg_flatten;

struct tbg_simulation;

/* Which torsions of s->molecule get a bias, and when: fills s->plan.flatten_steps, sample_steps. */
int tbg_flatten_create(struct tbg_simulation *s);
void tbg_flatten_free(tbg_flatten *f);
/* How many samples a checkpoint of step `step` holds. */
int64_t tbg_flatten_samples_at(const tbg_flatten *f, int runs, int64_t step);
/* s was read from a checkpoint: the bias of its step acts. */
int tbg_flatten_resume(struct tbg_simulation *s);
/* Before production: take samples; at the end of a stage, the next bias. */
int tbg_flatten_sample(struct tbg_simulation *s);
/* During production, at a frame: who changed sides. */
void tbg_flatten_watch(struct tbg_simulation *s);
/* Bias energy of a conformation, kJ/mol, as the engines add it; 0 if f is NULL. positions: [n_atoms][3]. */
double tbg_flatten_energy(const tbg_flatten *f, const double *positions);
/* Its largest value, kJ/mol: what weights are relative to. */
double tbg_flatten_highest(const tbg_flatten *f);

/* Next series of n torsions from samples under several earlier ones (weights by the multistate Bennett
 * acceptance ratio over stages): kT ln(p(phi) + exp(-cap) max p), as far as six harmonics give it.
 * series: [n_stages][n][TBG_FLATTEN_SERIES]; count: [n_stages] samples of each; phi: [sum of count][n]; out:
 * [n][TBG_FLATTEN_SERIES]. */
int tbg_flatten_fit(int n, int n_stages, const double *series, const int64_t *count, const double *phi,
                    double kT, double cap, double *out);
/* sum over harmonics of a cos + b sin, kJ/mol. */
double tbg_flatten_series_value(const double *series, double phi);
#endif
