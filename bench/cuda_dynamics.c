/* cuda_dynamics.c: steps per second of the device: bench_cuda_dynamics [SEQUENCE [CONFORMATIONS [STEPS]]].
 * Replica ladders of eight, exchanges every 400 steps, as data sets are made. Without a device it says so and
 * exits with 77. */
#include "base/memory.h"
#include "base/progress.h"
#include "dynamics/cuda.h"
#include "dynamics/source.h"
#include "tbg/dynamics.h"
#include "tbg/status.h"

#include <stdio.h>
#include <stdlib.h>

static int failed(void) {
    fprintf(stderr, "bench_cuda_dynamics: %s\n", tbg_message());
    return 1;
}

int main(int argc, char **argv) {
    const char *sequence = argc > 1 ? argv[1] : "LT";
    int runs = (argc > 2 ? atoi(argv[2]) : 8192) / 8, steps = argc > 3 ? atoi(argv[3]) : 4000;
    char name[256];
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_force_source source;
    tbg_source_owner *owner;
    tbg_lanes *lanes;
    tbg_exchange exchange;
    tbg_cuda_dynamics *d;
    if (tbg_cuda_device(name, sizeof name) != TBG_OK) {
        fprintf(stderr, "skipped: %s\n", tbg_message());
        return 77;
    }
    if (runs < 1 || steps < 400 || tbg_molecule_load(sequence, &molecule) ||
        tbg_system_create(molecule, "amber14-obc1", -1, &system) ||
        tbg_minimize(system, molecule->positions[0], 1, 0, NULL) ||
        tbg_force_source_create(system, &source, &owner) ||
        tbg_lanes_create(&source, system->mass, 8 * runs, 0.0005, 1, 1, 1, &lanes) ||
        tbg_exchange_create(runs, 8, 310, 600, 1, &exchange))
        return failed();
    for (int l = 0; l < 8 * runs; l++) {
        lanes->temperature[l] = exchange.temperatures[exchange.level[l]];
        tbg_lanes_set_positions(lanes, l, molecule->positions[0]);
        tbg_lanes_draw_velocities(lanes, l, 0);
    }
    tbg_lanes_center(lanes);
    tbg_cuda_member member = {system, lanes, &exchange};
    if (tbg_cuda_dynamics_create(1, &member, &d) || tbg_cuda_dynamics_launch(d, steps / 400, 400, 0) ||
        tbg_cuda_dynamics_collect(d)) /* the first time heats molecule and clock */
        return failed();
    double best = 0;
    for (int k = 0; k < 3; k++) {
        double start = tbg_seconds();
        if (tbg_cuda_dynamics_launch(d, steps / 400, 400, 0) || tbg_cuda_dynamics_collect(d))
            return failed();
        double rate = 8.0 * runs * (steps / 400 * 400) / (tbg_seconds() - start);
        best = rate > best ? rate : best;
    }
    double mean = 0;
    for (int l = 0; l < 8 * runs; l++)
        mean += lanes->energy[l] / (8 * runs);
    printf("%s: %s, %d atoms, %d conformations: %.4g million steps/s (best of 3), mean energy %.2f kJ/mol\n",
           name, sequence, system->n_atoms, 8 * runs, best / 1e6, mean);
    tbg_cuda_dynamics_free(d);
    tbg_lanes_free(lanes);
    tbg_exchange_free(&exchange);
    tbg_force_source_free(owner);
    tbg_system_free(system);
    tbg_molecule_free(molecule);
    return 0;
}
