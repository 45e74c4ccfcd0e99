/* xtb.c: the engine "xtb": GFN2-xTB with the implicit water GBSA through libxtb's C interface.
 *
 * Matches xtb 6.5.1 at its default accuracy (1.0), electronic temperature (300 K), singlet, formal charge.
 * Each configuration is a calculation of its own, from a fresh guess: results do not depend on the number of
 * threads or on what was evaluated before. Inputs are turned by a fixed rotation and forces turned back,
 * because xtb's gradient is wrong when a bond lies exactly along an axis. Compiled empty where xtb is missing
 * (engine.c then says so). Refuses: nothing but want of memory; a configuration that xtb can't do gets Inf or
 * NaN. There are no components. */
#include "energy/engine.h"
#ifdef TBG_HAVE_XTB
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <xtb.h>
#ifdef TBG_HAVE_OPENBLAS
#include <cblas.h>
#endif

static const double BOHR = 0.0529177210903;       /* nm, CODATA 2018 */
static const double HARTREE = 2625.4996394798254; /* kJ/mol */
/* Rotation by the unit quaternion (QW, QA, QB, QC): no axis and no common direction stays in place. */
#define QW 0.8
#define QA 0.1
#define QB 0.5
#define QC 0.31622776601683794 /* sqrt(1/10) */
static const double rotation[3][3] = {
    {1 - 2 * (QB * QB + QC * QC), 2 * (QA * QB - QW * QC), 2 * (QA * QC + QW * QB)},
    {2 * (QA * QB + QW * QC), 1 - 2 * (QA * QA + QC * QC), 2 * (QB * QC - QW * QA)},
    {2 * (QA * QC - QW * QB), 2 * (QB * QC + QW * QA), 1 - 2 * (QA * QA + QB * QB)}};

typedef struct {
    xtb_TEnvironment environment;
    xtb_TMolecule molecule;
    xtb_TCalculator calculator;
    double *x; /* [n_atoms][3] Bohr, turned; then the gradient */
} worker;

typedef struct {
    int *numbers;
    double charge;
    worker *workers; /* [threads] made when first needed */
} state;

static void close_worker(worker *w) {
    if (w->calculator)
        xtb_delCalculator(&w->calculator);
    if (w->molecule)
        xtb_delMolecule(&w->molecule);
    if (w->environment)
        xtb_delEnvironment(&w->environment);
    w->calculator = NULL;
    w->molecule = NULL;
    w->environment = NULL;
}

/* w->x holds the configuration that the molecule starts with. */
static int open_worker(const struct tbg_engine *engine, const state *s, worker *w) {
    int n = engine->n_atoms, unpaired = 0;
    char solvent[] = "water";
    w->environment = xtb_newEnvironment();
    if (!w->environment)
        return -1;
    xtb_setVerbosity(w->environment, XTB_VERBOSITY_MUTED);
    w->molecule = xtb_newMolecule(w->environment, &n, s->numbers, w->x, &s->charge, &unpaired, NULL, NULL);
    w->calculator = xtb_newCalculator();
    if (!w->molecule || !w->calculator || xtb_checkEnvironment(w->environment))
        return -1;
    xtb_loadGFN2xTB(w->environment, w->molecule, w->calculator, NULL);
    xtb_setSolvent(w->environment, w->calculator, solvent, NULL, NULL, NULL);
    return xtb_checkEnvironment(w->environment) ? -1 : 0;
}

/* Finite, not spread over more than a micrometre, no two atoms within 0.01 nm (a tenth of a bond). */
static int usable(const double *x, int n) {
    for (int i = 0; i < n; i++) {
        for (int a = 0; a < 3; a++)
            if (!(fabs(x[3 * i + a] - x[a]) < 1e3))
                return 0;
        for (int j = 0; j < i; j++) {
            double d2 = 0;
            for (int a = 0; a < 3; a++)
                d2 += (x[3 * i + a] - x[3 * j + a]) * (x[3 * i + a] - x[3 * j + a]);
            if (!(d2 > 1e-4))
                return 0;
        }
    }
    return 1;
}

static int evaluate_one(const struct tbg_engine *engine, const state *s, worker *w, const double *x,
                        double *energy, double *forces) {
    int n = engine->n_atoms;
    for (int i = 0; i < n; i++)
        for (int a = 0; a < 3; a++) {
            double turned = 0;
            for (int b = 0; b < 3; b++)
                turned += rotation[a][b] * (x[3 * i + b] - x[b]);
            w->x[3 * i + a] = turned / BOHR;
        }
    if (!w->environment) {
        if (open_worker(engine, s, w))
            return -1;
    } else
        xtb_updateMolecule(w->environment, w->molecule, w->x, NULL);
    xtb_TResults results = xtb_newResults(); /* fresh: no restart from the configuration before */
    xtb_singlepoint(w->environment, w->molecule, w->calculator, results);
    int bad = xtb_checkEnvironment(w->environment);
    if (!bad) {
        xtb_getEnergy(w->environment, results, energy);
        if (forces)
            xtb_getGradient(w->environment, results, w->x);
        bad = xtb_checkEnvironment(w->environment);
    }
    xtb_delResults(&results);
    if (bad)
        return -1;
    *energy *= HARTREE;
    for (int i = 0; forces && i < n; i++)
        for (int a = 0; a < 3; a++) {
            double back = 0;
            for (int b = 0; b < 3; b++)
                back += rotation[b][a] * w->x[3 * i + b];
            forces[3 * i + a] = -back * HARTREE / BOHR;
        }
    return 0;
}

static int evaluate(struct tbg_engine *engine, long n, const double *positions, double *energies,
                    double *forces, double *components) {
    state *s = engine->state;
    size_t size = 3 * (size_t)engine->n_atoms;
    int threads = n < engine->threads ? (int)n : engine->threads;
#ifdef TBG_HAVE_OPENBLAS /* its threads would fight with ours, and change last digits */
    int blas_threads = openblas_get_num_threads();
    openblas_set_num_threads(1);
#endif
#pragma omp parallel num_threads(threads)
    {
        omp_set_num_threads(1); /* of this thread: xtb opens no threads of its own */
        worker *w = &s->workers[omp_get_thread_num()];
#pragma omp for schedule(dynamic, 1)
        for (long c = 0; c < n; c++) {
            const double *x = positions + c * size;
            double *f = forces ? forces + c * size : NULL;
            energies[c] = INFINITY;
            if (usable(x, engine->n_atoms) && evaluate_one(engine, s, w, x, &energies[c], f)) {
                energies[c] = NAN;
                close_worker(w); /* an error may leave anything behind */
            }
            for (size_t i = 0; f && !isfinite(energies[c]) && i < size; i++)
                f[i] = NAN;
            for (int e = 0; components && e < TBG_E_N; e++)
                components[c * TBG_E_N + e] = 0;
        }
    }
#ifdef TBG_HAVE_OPENBLAS
    openblas_set_num_threads(blas_threads);
#endif
    return TBG_OK;
}

static void release(struct tbg_engine *engine) {
    state *s = engine->state;
    for (int t = 0; s && s->workers && t < engine->threads; t++) {
        close_worker(&s->workers[t]);
        free(s->workers[t].x);
    }
    if (s) {
        free(s->workers);
        free(s->numbers);
    }
    free(s);
    engine->state = NULL;
}

int tbg_engine_xtb_create(struct tbg_engine *engine) {
    if (!engine->molecule)
        return tbg_fail(TBG_INPUT, "the engine xtb needs the molecule, for its elements");
    state *s = TBG_NEW(state, 1);
    if (!s)
        return TBG_FAILED;
    engine->state = s;
    s->numbers = TBG_NEW(int, engine->n_atoms);
    s->workers = TBG_NEW(worker, engine->threads);
    int complete = s->numbers && s->workers;
    for (int t = 0; complete && t < engine->threads; t++)
        complete = (s->workers[t].x = TBG_NEW(double, 3 * (size_t)engine->n_atoms)) != NULL;
    if (!complete) {
        release(engine);
        return TBG_FAILED;
    }
    for (int i = 0; i < engine->n_atoms; i++)
        s->numbers[i] = engine->molecule->atoms[i].element;
    s->charge = tbg_formal_charge(engine->molecule);
    engine->evaluate = evaluate;
    engine->release = release;
    return TBG_OK;
}
#endif
