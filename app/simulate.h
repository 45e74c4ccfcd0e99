/* simulate.h: what tbg simulate's two ways share: one molecule (cmd_simulate.c), a list of them
 * (simulate_list.c). */
#ifndef TBG_APP_SIMULATE_H
#define TBG_APP_SIMULATE_H
#include "tbg/dynamics.h"

typedef struct {
    const char *forcefield;
    double cutoff;
    tbg_simulation_options options;
    int cuda; /* on the device */
    int resume, json;
} simulate_request;

/* From start to end, or to an interruption: TBG_FAILED then, all saved. */
int simulate_one(const simulate_request *r, const char *what, const char *output);
/* list: FILE.json:KEY, an object with an array of sequences under KEY. Every DIR/SEQUENCE.nc that is not
 * there yet, those begun before go on, and with r->resume those that are shorter than the time asked for. On
 * the processor a thread a molecule, on a device all together. */
int simulate_list(const simulate_request *r, const char *list, const char *directory);
#endif
