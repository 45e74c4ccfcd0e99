/* subject.h: a model and the molecule it is asked about, ready to be evaluated: what tbg sample and tbg
 * density share. */
#ifndef APP_SUBJECT_H
#define APP_SUBJECT_H
#include "app.h"
#include "tbg/denoise.h"
#include "tbg/energy.h"
#include "tbg/flow.h"
#include "tbg/network.h"

typedef struct {
    const char *what, *model;     /* sequence or PDB file; model file */
    const char *forcefield;       /* of the energies; NULL: the model's */
    double temperature;           /* K, of the energies; NAN: the model's */
    const char *backend, *engine; /* NULL: the usual ones */
    int threads, energies;        /* energies 0: no engine */
    const char *misfit;           /* "WHAT ... MODEL" where the network cannot represent the molecule */
} subject_request;

/* What a user can set about it on the command line. */
typedef struct {
    const char *model, *forcefield, *backend, *engine, *solver;
    int64_t threads, steps;
    double temperature, tolerance, solver_tolerance;
    double smoothing, anneal_from;                        /* nm; NAN: the usual ones */
    int64_t branches, branch_steps;                       /* -1: the usual ones */
    int64_t anneal_stages, anneal_steps, anneal_replicas; /* 0: the usual ones */
} subject_settings;
void subject_defaults(subject_settings *s);
/* Rows of an option list, all but the model. of: what force field and temperature are of. */
/* clang-format off */
#define SUBJECT_OPTIONS(s, of)                                                                               \
    {"tolerance", 0, APP_DOUBLE, &(s)->tolerance, "NATS",                                                    \
     "estimated error of log q above which the quadrature gets more nodes"},                                 \
    {"solver", 0, APP_STRING, &(s)->solver, "NAME", "adaptive, fixed, published, rk4"},                      \
    {"solver-tolerance", 0, APP_DOUBLE, &(s)->solver_tolerance, "X",                                         \
     "of adaptive and published, scaled units"},                                                             \
    {"steps", 0, APP_INT, &(s)->steps, "N", "of fixed and rk4"},                                             \
    {"smoothing", 0, APP_DOUBLE, &(s)->smoothing, "NM",                                                      \
     "noise at which the flow ends and branches or the annealing begin; default: 0.12 with branches, else "  \
     "the model's"},                                                                                         \
    {"branches", 0, APP_INT, &(s)->branches, "M",                                                            \
     "random ways from there to --anneal-from, of which one is kept; -1: 64 if the model was trained for "   \
     "them, else 0"},                                                                                        \
    {"branch-steps", 0, APP_INT, &(s)->branch_steps, "K", "steps of each; -1: 20"},                          \
    {"anneal-from", 0, APP_DOUBLE, &(s)->anneal_from, "NM",                                                  \
     "noise that the force field takes off after branches; default: 1.2 times the model's, or 0.025"},       \
    {"anneal-stages", 0, APP_INT, &(s)->anneal_stages, "S",                                                  \
     "stages of the annealing to the force field; 0: the usual ones"},                                       \
    {"anneal-steps", 0, APP_INT, &(s)->anneal_steps, "N", "steps of dynamics in each; 0: the usual ones"},   \
    {"anneal-replicas", 0, APP_INT, &(s)->anneal_replicas, "K", "and replicas of each; 0: the usual ones"},  \
    {"engine", 'e', APP_STRING, &(s)->engine, "NAME",                                                        \
     "energies by native, reference, openmm, xtb; default: the force field's"},                              \
    {"backend", 0, APP_STRING, &(s)->backend, "NAME",                                                        \
     "network by cpu, reference, cuda; default: the best there is"},                                         \
    {"forcefield", 'f', APP_STRING, &(s)->forcefield, "NAME", "of the " of "; default: the model's"},        \
    {"temperature", 0, APP_DOUBLE, &(s)->temperature, "K", "of the " of "; default: the model's"},           \
    {"threads", 't', APP_INT, &(s)->threads, "T", "threads; 0: all"}
/* clang-format on */
/* Why they can't be, or NULL. */
const char *subject_refused(const subject_settings *s);
int subject_threads(const subject_settings *s); /* how many that is */
/* The flow's part, into options that have their defaults. */
int subject_flow(const subject_settings *s, tbg_flow_options *flow);
/* How noise is taken off, and the flow's last time: what was asked for, or what suits the model.
 * with_branches 0: none unless asked for. anneal: the seed, the temperature and the threads are left to the
 * caller. */
int subject_denoising(const subject_settings *s, const tbg_model *model, int with_branches,
                      tbg_denoise_options *denoise, tbg_flow_options *flow);
/* The other part; what, energies and misfit: of the request. */
subject_request subject_ask(const subject_settings *s, const char *what, int energies, const char *misfit);

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

/* Let s->model, if it is NULL, be the first shipped model (models/shipped.txt) that was trained for molecules
 * like `what`; says which. path: [size], where its name stays. */
int subject_choose(const char *command, const char *what, subject_settings *s, char *path, size_t size);
/* Model and molecule; then the rest, so that a caller can look at other input for the molecule in between.
 * What was made before a failure is freed by subject_close, too. s: zeroed. */
int subject_load(const subject_request *request, subject *s);
int subject_prepare(const subject_request *request, subject *s);
void subject_close(subject *s);

/* Print warnings of tbg COMMAND, by name, where the molecule, the force field or the temperature lies outside
 * what the model was trained for; also into warnings: [size], one a line. */
void subject_warn(const subject *s, const char *command, size_t size, char *warnings);
/* Of one energy when n are taken at once. */
int subject_energy_seconds(const subject *s, int n, double *seconds);
#endif
