/* integrator.h: Langevin dynamics of many conformations of one system at once, over any source of forces.
 *
 * Lanes are conformations; TBG_LANES of them make a block, laid out as src/energy/batch.h wants it:
 *   x[((block * 3 n_atoms) + atom * 3 + axis) * TBG_LANES + lane], nm; v the same, nm/ps.
 * One step is OpenMM's LangevinMiddleIntegrator (Zhang et al., J. Phys. Chem. A 123, 6056 (2019)):
 *   v += dt f(x)/m;  x += dt/2 v;  v = a v + sqrt(1 - a^2) sqrt(kT/m) xi, a = exp(-friction dt);  x += dt/2 v
 * Friction 0 leaves the leapfrog integrator (constant energy). All 3 n_atoms velocities are thermostatted,
 * the centre of mass included; its position diffuses and is therefore put back to the origin by
 * tbg_lanes_center, so that single precision keeps its resolution. */
#ifndef TBG_DYNAMICS_INTEGRATOR_H
#define TBG_DYNAMICS_INTEGRATOR_H
#include "energy/batch.h"

#include <stddef.h>
#include <stdint.h>

/* Where forces come from: the native engine in simulations, analytic potentials in tests. */
typedef struct {
    int n_atoms;
    size_t workspace; /* bytes of scratch per thread */
    const void *state;
    /* As tbg_batch_evaluate: f: [3 n_atoms * TBG_LANES] kJ/mol/nm or NULL; energy: [TBG_LANES] kJ/mol or
     * NULL. Called from several threads at once, each with its own workspace. */
    void (*evaluate)(const void *state, const float *x, float *f, double *energy, void *workspace);
} tbg_force_source;

typedef struct {
    tbg_force_source source;
    int n_atoms, n_lanes, n_blocks, threads;
    double timestep, friction; /* ps, 1/ps */
    uint64_t seed;
    int64_t step;        /* steps done; part of the address of every random number */
    double *mass;        /* [n_atoms] g/mol */
    double *temperature; /* [n_blocks * TBG_LANES] K, of each lane; may be changed between calls */
    float *x, *v;        /* state */
    double *energy;      /* [n_blocks * TBG_LANES] kJ/mol, as of the last tbg_lanes_energies */
    float *inverse_root; /* [n_atoms] 1/sqrt(mass) */
    float *kick;         /* [n_atoms] timestep / mass */
    float *noise;        /* [n_blocks * TBG_LANES] sqrt((1 - a^2) kT), refreshed at each advance */
    char *scratch;       /* per thread: forces, workspace */
    size_t scratch_size;
} tbg_lanes;

/* mass: [n_atoms] g/mol, > 0. threads: 0 for all. Positions, velocities and temperatures start as 0. Lanes
 * beyond n_lanes fill up the last block: tbg_lanes_fill gives them a copy of lane 0, nothing reads them. */
int tbg_lanes_create(const tbg_force_source *source, const double *mass, int n_lanes, double timestep,
                     double friction, uint64_t seed, int threads, tbg_lanes **out);
void tbg_lanes_free(tbg_lanes *lanes);

void tbg_lanes_set_positions(tbg_lanes *lanes, int lane, const double *positions); /* [n_atoms][3] nm */
void tbg_lanes_get_positions(const tbg_lanes *lanes, int lane, double *positions);
/* Velocities from the Maxwell-Boltzmann distribution of the lane's temperature, without centre-of-mass
 * motion. draw: distinguishes repeated draws. */
void tbg_lanes_draw_velocities(tbg_lanes *lanes, int lane, uint64_t draw);
void tbg_lanes_fill(tbg_lanes *lanes); /* idle lanes: copies of lane 0 */

/* Do n_steps. Lanes do not see each other; the same for any number of threads. */
void tbg_lanes_advance(tbg_lanes *lanes, int64_t n_steps);
/* The pieces of the above and below for one block, for callers with their own threads: steps `step` .. of
 * block `block`, lanes->step stays; scratch: [lanes->scratch_size], one per thread. */
void tbg_lanes_advance_block(tbg_lanes *lanes, int block, int64_t step, int64_t n_steps, char *scratch);
void tbg_lanes_energies_block(tbg_lanes *lanes, int block, char *scratch);
void tbg_lanes_center_block(tbg_lanes *lanes, int block);
/* Energies of the present positions of all lanes into lanes->energy. */
void tbg_lanes_energies(tbg_lanes *lanes);
/* Move every lane's centroid to the origin. */
void tbg_lanes_center(tbg_lanes *lanes);
/* sum m v^2 / 2 of the stored velocities (half a step behind the positions' forces), kJ/mol. */
double tbg_lanes_kinetic(const tbg_lanes *lanes, int lane);
/* Multiply a lane's velocities by factor. */
void tbg_lanes_scale_velocities(tbg_lanes *lanes, int lane, double factor);

/* ---- the inner loops, one table per instruction set (integrator_simd.c) ---- */
typedef struct {
    int n_atoms;
    float half_step, keep;            /* dt/2, exp(-friction dt) */
    const float *kick, *inverse_root; /* [n_atoms] */
    int stochastic;                   /* 0: friction 0, no numbers are drawn */
    uint64_t seed;
} tbg_step_constants;

typedef struct {
    /* One step of one block after the forces. block: its number; noise: [TBG_LANES] sqrt((1 - a^2) kT). */
    void (*step)(const tbg_step_constants *c, int block, int64_t step, const float *noise, const float *f,
                 float *x, float *v);
    /* The normals that `step` uses: quartet q of a step gives components 4q .. 4q+3. out: [4][TBG_LANES].
     * Words come from the address (seed, TBG_STREAM(TBG_STREAM_LANGEVIN, block * TBG_LANES + lane), counter).
     */
    void (*normals)(uint64_t seed, int block, uint64_t counter, float *out);
} tbg_step_table;
const tbg_step_table *tbg_step_kernels(void);

/* Quartets of normals per step, and the counter of quartet q in a step. */
static inline uint64_t tbg_step_quartets(int n_atoms) {
    return ((uint64_t)n_atoms * 3 + 3) / 4;
}
#endif
