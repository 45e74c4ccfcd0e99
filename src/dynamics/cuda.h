/* cuda.h: energies and dynamics of many different systems on a CUDA device, behind plain C. A group of 32
 * threads works on a conformation (src/energy/group.h); one launch takes all lanes of all members from one
 * exchange to the next. Without CUDA in the build every function that needs a device fails with TBG_FAILED
 * and says so (cuda_none.c). */
#ifndef TBG_DYNAMICS_CUDA_H
#define TBG_DYNAMICS_CUDA_H
#include "dynamics/exchange.h"
#include "dynamics/integrator.h"
#include "tbg/system.h"

#ifdef __cplusplus
extern "C" {
#endif

/* TBG_OK if a device is there that this build can use. name: [size], or NULL: what it is called.
 * errors: TBG_FAILED: no CUDA in this build, no device, one older than compute capability 8.0. */
int tbg_cuda_device(char *name, size_t size);

/* ---- energies in double precision, for the engine "cuda" ---- */
typedef struct tbg_cuda_energies tbg_cuda_energies;
/* errors: TBG_FAILED as above; TBG_INPUT: more atoms than the device's shared memory holds. */
int tbg_cuda_energies_create(const tbg_system *system, tbg_cuda_energies **out);
void tbg_cuda_energies_free(tbg_cuda_energies *e);
/* As tbg_engine_evaluate. */
int tbg_cuda_energies_evaluate(tbg_cuda_energies *e, long n, const double *positions, double *energies,
                               double *forces, double *components);

/* ---- dynamics ---- */

/* A simulation on the processor whose state goes to the device and comes back: lanes' positions, velocities,
 * energies, temperatures; levels and counters of the exchange. All members have the timestep, the friction
 * and the step of the first. Everything must outlive the dynamics. */
typedef struct {
    const tbg_system *system;
    tbg_lanes *lanes;
    tbg_exchange *exchange;
} tbg_cuda_member;

typedef struct tbg_cuda_dynamics tbg_cuda_dynamics;
enum { TBG_CUDA_AHEAD = 2 }; /* launches that may wait for their collection */

int tbg_cuda_dynamics_create(int n_members, const tbg_cuda_member *members, tbg_cuda_dynamics **out);
void tbg_cuda_dynamics_free(tbg_cuda_dynamics *d);
/* Start `pieces` times (piece_steps steps, then an exchange where there are replicas), at the end with
 * centroids put to the origin and energies taken, and a copy of the state to the host. Returns at once.
 * reset: afterwards the exchange counters start over, as tbg_exchange_reset_statistics. */
int tbg_cuda_dynamics_launch(tbg_cuda_dynamics *d, int64_t pieces, int64_t piece_steps, int reset);
/* Wait for the oldest launch not yet collected and put its state into the members' lanes and exchanges. The
 * device works on the next launch meanwhile. errors: TBG_FAILED: the device reports one. */
int tbg_cuda_dynamics_collect(tbg_cuda_dynamics *d);

#ifdef __cplusplus
}
#endif
#endif
