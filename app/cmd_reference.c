/* cmd_reference.c: tbg reference: trajectories to a small file for comparisons and the figures of all their
 * frames. */
#include "app.h"
#include "tbg/ensemble.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_MOST = 64 };

typedef struct {
    const char *output, *forcefield;
    double burn_in, lag, temperature; /* burn_in: NAN: what the file says */
    int64_t kilobytes, frames, threads;
} settings;

/* The molecule that a trajectory holds, and how much of its runs tbg simulate found not to be stationary. */
static int read_topology(const char *path, tbg_molecule **molecule, double *equilibration) {
    tbg_trajectory *t;
    TBG_TRY(tbg_trajectory_read(path, 0, 1, 1, &t));
    int status = t->topology_pdb
                     ? tbg_molecule_parse_pdb(t->topology_pdb, strlen(t->topology_pdb), path, molecule)
                     : tbg_fail(TBG_INPUT, "%s: holds no topology (attribute tbg_topology)", path);
    json_t *o = t->metadata_json ? json_loads(t->metadata_json, 0, NULL) : NULL, *run;
    json_t *entry = json_object_get(o, "equilibration");
    size_t i;
    json_array_foreach(json_is_array(entry) ? entry : json_object_get(entry, "runs"), i, run) {
        double drop = json_number_value(json_object_get(run, "equilibration_ps"));
        if (json_is_false(json_object_get(run, "equilibrated")))
            fprintf(stderr, "tbg reference: warning: %s: less than half of run %zu is stationary\n", path, i);
        if (isfinite(drop) && drop > *equilibration)
            *equilibration = drop;
    }
    json_decref(o);
    tbg_trajectory_free(t);
    return status;
}

static int energies(const settings *o, tbg_reference *r, const tbg_molecule *molecule) {
    if (o->forcefield) {
        free(r->forcefield);
        if (!(r->forcefield = strdup(o->forcefield)))
            return tbg_fail(TBG_FAILED, "out of memory");
    }
    if (isfinite(o->temperature))
        r->temperature = o->temperature;
    if (!r->forcefield || !(r->temperature > 0))
        return tbg_fail(TBG_INPUT,
                        "the trajectory does not name its force field and temperature: give --forcefield "
                        "and --temperature");
    if (tbg_reference_energies(r, molecule, r->forcefield, r->temperature, r->n, (int)o->threads) != TBG_OK)
        fprintf(stderr, "tbg reference: without energies: %s\n", tbg_message());
    return TBG_OK;
}

static int store(const settings *o, int n, const char *const *paths) {
    tbg_molecule *molecule = NULL;
    tbg_reference *r = NULL;
    double longest = 0;
    int status = read_topology(paths[0], &molecule, &longest);
    if (isnan(o->burn_in) && longest > 0)
        fprintf(
            stderr,
            "tbg reference: what tbg simulate found not to be stationary at the start of runs is left out "
            "(up to %g ps)\n",
            longest);
    if (status == TBG_OK)
        status = tbg_reference_read(n, paths, molecule, o->burn_in, &r);
    if (status == TBG_OK && r->whole)
        status = tbg_fail(TBG_INPUT, "%s: is thinned already", paths[0]);
    if (status == TBG_OK)
        status = energies(o, r, molecule);
    long kept = 0;
    if (status == TBG_OK) {
        kept =
            o->frames ? (long)o->frames : tbg_reference_frames_within(r, molecule, 1000 * (long)o->kilobytes);
        kept = kept > r->n ? r->n : kept;
        status = tbg_reference_store(r, molecule, kept, o->lag, o->output);
    }
    if (status == TBG_OK && r->weighted)
        printf("%s: %ld draws from %ld weighted frames (worth %.0f) of %d runs\n", o->output, kept, r->n,
               r->effective_frames, r->n_parts);
    else if (status == TBG_OK)
        printf("%s: %ld of %ld frames of %d runs\n", o->output, kept, r->n, r->n_parts);
    tbg_reference_free(r);
    tbg_molecule_free(molecule);
    return status;
}

int cmd_reference(int argc, char **argv) {
    settings o = {.burn_in = NAN, .lag = 500, .temperature = NAN, .kilobytes = 148};
    const char *paths[FILES_MOST];
    const app_option options[] = {
        {"output", 'o', APP_STRING, &o.output, "REF.nc", "frames to keep; REF.json beside it (needed)"},
        {"size", 0, APP_INT, &o.kilobytes, "KB",
         "size of REF.nc in kilobytes, which gives the number of frames"},
        {"frames", 'n', APP_INT, &o.frames, "N", "frames to keep, instead of --size"},
        {"burn-in", 'b', APP_DOUBLE, &o.burn_in, "PS",
         "dropped at the start of every run; default: what tbg simulate found not to be stationary"},
        {"lag", 0, APP_DOUBLE, &o.lag, "PS", "lag of TICA"},
        {"forcefield", 'f', APP_STRING, &o.forcefield, "NAME", "of the energies; default: the trajectory's"},
        {"temperature", 0, APP_DOUBLE, &o.temperature, "K", "default: the trajectory's"},
        {"threads", 't', APP_INT, &o.threads, "T", "threads, 0 for all"},
        {0}};
    int n = app_parse(
        "reference",
        "Keep a reference small: evenly spaced frames of the trajectories of one molecule in REF.nc, and "
        "what all of\n"
        "their frames give in REF.json: dF of each phi with its error, histograms of torsions (72 bins; 36 x "
        "36 of phi\n"
        "and psi) and of U/kT, energies by blocks of time, TICA. tbg evaluate takes these where it is given "
        "REF.nc.\n"
        "Of a flattened trajectory (log_weight) frames are drawn in proportion to their weights, and dF "
        "comes "
        "from the weights.",
        options, argc, argv, paths, 1, FILES_MOST);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!o.output || o.kilobytes < 1 || o.kilobytes > 100000000 || o.frames < 0 || !(o.lag > 0) ||
        o.threads < 0 || o.threads > 4096 || o.burn_in < 0) {
        fprintf(stderr, "tbg reference: -o REF.nc, --size >= 1, --frames >= 0, --lag > 0, --burn-in >= 0 and "
                        "--threads >= 0 "
                        "are needed\n");
        return 2;
    }
    int status = store(&o, n, paths);
    return status == TBG_OK ? 0 : app_fail("reference", status);
}
