/* dynamics.h: minimisation and molecular dynamics of many conformations at once; writes data sets. */
#ifndef TBG_DYNAMICS_H
#define TBG_DYNAMICS_H
#include "tbg/molecule.h"
#include "tbg/system.h"

#include <stdint.h>

/* ---- minimisation ---- */

typedef struct {
    double energy;    /* kJ/mol */
    double rms_force; /* root mean square of the force components, kJ/mol/nm */
    int steps;
    int converged; /* rms_force <= tolerance */
} tbg_minimum;

/* Minimise in place by L-BFGS in double precision on the reference energies; no atom moves more than 0.01 nm
 * per step, so that clashes are resolved instead of exploding. positions: [n_atoms][3] nm. tolerance: rms
 * force component, kJ/mol/nm. max_steps: 0 for the default of 5000; reaching it is no failure
 * (minimum->converged is 0). minimum: or NULL. errors: TBG_INPUT: positions that are not finite. TBG_FAILED:
 * no finite energy near them. */
int tbg_minimize(const tbg_system *system, double *positions, double tolerance, int max_steps,
                 tbg_minimum *minimum);

/* ---- simulation: Langevin dynamics, several independent runs, each a ladder of replicas ---- */

enum { TBG_FLATTEN_NONE = 0, TBG_FLATTEN_PHI = 1 };

typedef struct {
    double temperature;     /* K, the lowest of each ladder: what is saved */
    double max_temperature; /* K, the highest (replicas > 1 or 0) */
    int replicas;           /* temperatures per run; 1: no exchange; 0: as many as exchange_rate needs */
    double exchange_rate;   /* acceptance wanted between neighbours when replicas is 0 */
    int runs;               /* independent runs, each from another start */
    double timestep;        /* ps */
    double friction;        /* 1/ps */
    double time;            /* ps of production of every replica */
    double equilibrate;     /* ps before it, not saved */
    double save_every;      /* ps between saved frames */
    double exchange_every;  /* ps between exchange attempts (rounded so that it divides save_every) */
    uint64_t seed;
    int same_start; /* 1: all runs start from the given structure; 0: runs after the first from random
                       torsions */
    int threads;    /* 0: all; never changes results */
    int flatten;    /* TBG_FLATTEN_PHI: a bias that makes all phi about equally probable; frames then carry
                       weights */
    double flatten_time; /* ps before equilibration, in which the bias is found */
    double flatten_cap;  /* kT: free energies above it stay as high as they are beyond it */
} tbg_simulation_options;

/* Usual values for a force field: temperature and timestep (0.5 fs for amber14-obc1, else 1 fs) of its
 * published data. */
void tbg_simulation_defaults(const char *forcefield, tbg_simulation_options *options);
/* TBG_INPUT with the option named if something cannot be. */
int tbg_simulation_check(const tbg_simulation_options *options);

/* What the options resolved to. */
typedef struct {
    int n_atoms, runs, replicas, lanes, idle_lanes,
        threads;                 /* lanes = runs * replicas; idle: to fill the last block */
    const double *temperatures;  /* [replicas] K */
    double heat_capacity;        /* of the potential energy, k_B, from the pilot; 0 if there was none */
    double predicted_acceptance; /* from heat_capacity; 0 if unknown */
    int64_t save_steps, exchange_steps, total_steps;
    int64_t equilibrate_steps;            /* first step of production: flatten_steps are part of it */
    int64_t flatten_steps;                /* in which the bias is found */
    int flattened, not_flattened;         /* torsions with a bias; torsions of a ring, which get none */
    int64_t first_step;                   /* > 0: resumed there; total_steps or more: complete already */
    double start_energy, start_rms_force; /* of the minimised start */
    int distinct_starts;                  /* runs that start from their own minimised random torsions */
    const char *simd;
} tbg_simulation_plan;

typedef struct tbg_simulation tbg_simulation;

/* Minimise, choose the ladder, set up all lanes, or (resume = 1) continue where path.checkpoint stopped, or
 * where a finished run ended: with a longer time it goes on as if it had never ended, otherwise there is
 * nothing to do (the first advance is done, nothing is written). path: the trajectory to be written; beside
 * it appear path.checkpoint and path.frames until it is complete, and at the end path.state (what a longer
 * run continues from), the topology (.pdb) and the diagnostics (.json) under its stem. molecule, system: must
 * outlive the simulation. errors: TBG_INPUT: bad options; a checkpoint or state of another run (the
 * difference is named); an unfinished run at `path` while resume = 0; a finished one without its state or
 * whose frames are not those of the state; TBG_FAILED. */
int tbg_simulation_create(const tbg_molecule *molecule, const tbg_system *system, const char *path,
                          const tbg_simulation_options *options, int resume, tbg_simulation **out);
void tbg_simulation_free(tbg_simulation *simulation); /* does not save */
const tbg_simulation_plan *tbg_simulation_plan_of(const tbg_simulation *simulation);
int64_t tbg_simulation_step(const tbg_simulation *simulation);

/* Go on to the next frame (or to the end of equilibration, in pieces of a frame). *done: 1 when all is
 * complete. Saves a checkpoint when the last one is older than a minute. errors: TBG_FAILED: an energy is no
 * longer finite (run, replica and step are named), disk full. */
int tbg_simulation_advance(tbg_simulation *simulation, int *done);
/* Checkpoint now; resuming from it equals not having stopped. */
int tbg_simulation_save(tbg_simulation *simulation);

/* Write trajectory (frames of run 0, then run 1, ...; extra variables run, potential_energy and, of a
 * flattened run, log_weight: bias over kT), topology and diagnostics of the frames so far. When all is
 * complete the checkpoint becomes path.state. *diagnostics: JSON text, freed by the caller, or NULL. */
int tbg_simulation_finish(tbg_simulation *simulation, char **diagnostics);

/* ---- many simulations on a CUDA device: all their conformations in one launch ---- */

typedef struct tbg_simulation_batch tbg_simulation_batch;
/* The simulations must outlive the batch, and agree in timestep, friction, save_every, exchange_every,
 * equilibrate and flatten; systems, seeds, runs and replicas may differ. Between advances each is a
 * simulation as any other: it can be saved, finished, or go on with tbg_simulation_advance once the batch is
 * freed. errors: TBG_INPUT; TBG_FAILED: no device (it says which of the reasons). */
int tbg_simulation_batch_create(int n, tbg_simulation *const *simulations, tbg_simulation_batch **out);
void tbg_simulation_batch_free(tbg_simulation_batch *batch);
/* One frame of those furthest behind; otherwise as tbg_simulation_advance. The same seed gives the same noise
 * as on the processor, but single-precision sums differ, so that trajectories part after some picoseconds. */
int tbg_simulation_batch_advance(tbg_simulation_batch *batch, int *done);
/* Steps done, summed over all conformations; *total: to be done. */
int64_t tbg_simulation_batch_steps(const tbg_simulation_batch *batch, int64_t *total);
#endif
