/* subject.h: a model and the molecule it is asked about, ready to be evaluated: what tbg sample and tbg
 * density share. */
#ifndef APP_SUBJECT_H
#define APP_SUBJECT_H
#include "tbg/energy.h"
#include "tbg/network.h"

typedef struct {
    const char *what, *model;     /* sequence or PDB file; model file */
    const char *forcefield;       /* of the energies; NULL: the model's */
    double temperature;           /* K, of the energies; NAN: the model's */
    const char *backend, *engine; /* NULL: the usual ones */
    int threads, energies;        /* energies 0: no engine */
    const char *misfit;           /* "WHAT ... MODEL" where the network cannot represent the molecule */
} subject_request;

typedef struct {
    tbg_model *model;
    tbg_molecule *molecule;
    tbg_system *system, *model_system; /* of the energies; of the conditioning (the same unless overridden) */
    tbg_conditioning *conditioning;
    tbg_session *session;
    tbg_engine *engine; /* NULL without energies */
    const char *forcefield;
    double temperature;
} subject;

/* Model and molecule; then the rest, so that a caller can look at other input for the molecule in between.
 * What was made before a failure is freed by subject_close, too. s: zeroed. */
int subject_load(const subject_request *request, subject *s);
int subject_prepare(const subject_request *request, subject *s);
void subject_close(subject *s);

/* Print warnings of tbg COMMAND, by name, where the molecule, the force field or the temperature lies outside what the
 * model was trained for; also into warnings: [size], one a line. */
void subject_warn(const subject *s, const char *command, size_t size, char *warnings);
/* Of one energy when n are taken at once. */
int subject_energy_seconds(const subject *s, int n, double *seconds);
#endif
