/* simulation.h: what simulation.c (running), run_state.c (stopping and resuming) and results.c (data set and
 * diagnostics) share. */
#ifndef TBG_DYNAMICS_SIMULATION_H
#define TBG_DYNAMICS_SIMULATION_H
#include "dynamics/exchange.h"
#include "dynamics/flatten.h"
#include "dynamics/integrator.h"
#include "dynamics/source.h"
#include "tbg/dynamics.h"

#include <stdio.h>

struct tbg_simulation {
    const tbg_molecule *molecule;
    const tbg_system *system;
    tbg_simulation_options options;
    tbg_simulation_plan plan;
    char *path, *checkpoint_path, *frames_path, *state_path;
    int finished; /* was complete when it was created: nothing is run, nothing is written */
    tbg_force_source source;
    tbg_source_owner *source_owner;
    tbg_lanes *lanes;
    tbg_exchange exchange;
    tbg_flatten *flatten;  /* or NULL */
    double *start;         /* [n_atoms][3] nm, minimised */
    double *potential_sum; /* [replicas] over saved instants and runs, kJ/mol */
    double *kinetic_sum;   /* [replicas] the same, kJ/mol */
    int64_t n_frames;      /* saved instants; each is `runs` records in the frames file */
    FILE *frames;          /* records: energy (double), positions (float, nm) */
    double *record_x;      /* [n_atoms][3] scratch */
    char *record;          /* one record */
    size_t record_size;
    double last_checkpoint; /* tbg_seconds() */
    int complete;
    int n_groups; /* sets of blocks that no run connects: they go from frame to frame without waiting for each
                     other */
    int (*groups)[2]; /* [n_groups] first run, first run of the next group; their lanes fill whole blocks */
};

/* After the lanes have come to the next frame: check energies, save the frame, a checkpoint now and then. */
int tbg_simulation_arrived(tbg_simulation *s);
/* Steps to the next frame or, while a bias is sought, to the next samples; that never goes beyond this step.
 */
int64_t tbg_simulation_interval(const tbg_simulation *s, int64_t step);
int64_t tbg_simulation_stop(const tbg_simulation *s);
/* The system that moves: s->system, or that with its bias. */
const tbg_system *tbg_simulation_system(const tbg_simulation *s);
/* device.c: which of n simulations (group: [n] out) go on together, and to which step. */
void tbg_simulation_batch_choose(int n, tbg_simulation *const *all, tbg_simulation **group, int *n_group,
                                 int64_t *end);

/* ---- run_state.c ---- */
/* Everything that decides the results, as text: two runs with the same identity have the same trajectory.
 * Freed by the caller; NULL: no memory. */
char *tbg_simulation_identity(const tbg_simulation *s);
/* The sizes and the ladder of the checkpoint at s->checkpoint_path, before lanes exist. *found: 0 if there is
 * none. */
int tbg_run_state_peek(const tbg_simulation *s, int *found, tbg_simulation_plan *plan);
/* A finished run at s->path becomes an unfinished one if s->plan.total_steps goes beyond it: its frames are
 * put back and its state becomes the checkpoint. Else s->finished. Neither, if no finished run is there. */
int tbg_run_state_reopen(tbg_simulation *s);
/* The other way round, once the trajectory is written. */
int tbg_run_state_close(tbg_simulation *s);
int tbg_run_state_read(tbg_simulation *s); /* lanes and exchange are there and have the checkpoint's sizes */
int tbg_run_state_write(tbg_simulation *s);

/* ---- frames ---- */
int tbg_frames_open(tbg_simulation *s, int resume); /* truncated to n_frames instants */
int tbg_frames_append(tbg_simulation *s); /* the lowest temperature's lanes of all runs, lanes->energy */
int tbg_frames_get(const tbg_simulation *s, int64_t instant, int run, double *energy, double *positions);
#endif
