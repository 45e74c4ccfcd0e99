/* cmd_reweight.c: tbg reweight: the samples of an ensemble with the weights of another force field, engine or
 * temperature. Their density stays what it is, so ln w' = -u' - log_q. */
#include "app.h"
#include "base/memory.h"
#include "base/progress.h"
#include "results.h"
#include "tbg/energy.h"
#include "tbg/ensemble.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 };

typedef struct {
    const char *from, *to, *forcefield, *engine;
    double temperature, cutoff;
    int64_t threads;
    int json;
} request;

static int check_ensemble(const char *directory, const tbg_ensemble *e) {
    if (!e->weighted)
        return tbg_fail(TBG_INPUT, "%s: its samples have no densities (--no-weights)", directory);
    if (e->info.chains.inefficiency > 0)
        return tbg_fail(
            TBG_INPUT,
            "%s: frames of Markov chains (--refine) belong to one force field; reweight the samples "
            "they came from",
            directory);
    if (!(e->info.temperature > 0) || !*e->info.forcefield)
        return tbg_fail(TBG_INPUT, "%s: summary.json does not name force field and temperature", directory);
    return TBG_OK;
}

/* New reduced energies of all samples; the verdicts keep excluding those that are wrong. */
static int evaluate(tbg_ensemble *e, tbg_engine *engine, double kT) {
    const size_t n3 = 3 * (size_t)e->n_atoms;
    tbg_progress bar;
    int status = TBG_OK;
    tbg_progress_start(&bar, "energies", "samples", (double)e->n);
    for (long i = 0; i < e->n && !status; i += CHUNK) {
        long n = e->n - i < CHUNK ? e->n - i : CHUNK;
        double *u = e->reduced_energy + i;
        status = tbg_interrupted()
                     ? tbg_fail(TBG_FAILED, "interrupted: nothing was written")
                     : tbg_engine_evaluate(engine, n, e->positions + (size_t)i * n3, u, NULL, NULL);
        for (long k = 0; k < n && !status; k++)
            u[k] /= kT;
        tbg_progress_update(&bar, (double)(i + n), NULL);
    }
    tbg_progress_end(&bar, (double)e->n);
    return status;
}

static int write_all(const request *r, const tbg_ensemble *e, tbg_ensemble_summary *s) {
    char *text = NULL;
    TBG_TRY(results_write(e, s, r->to));
    if (r->json) {
        TBG_TRY(tbg_ensemble_summary_json(e, s, &text));
        puts(text);
        free(text);
    }
    return TBG_OK;
}

static int reweight(const request *r, tbg_ensemble *e, const char *was) {
    tbg_system *system = NULL;
    tbg_engine *engine = NULL;
    tbg_ensemble_summary *s = TBG_NEW(tbg_ensemble_summary, 1);
    const double temperature = r->temperature > 0 ? r->temperature : e->info.temperature;
    const char *forcefield = r->forcefield ? r->forcefield : was;
    int status = s ? TBG_OK : TBG_FAILED;
    if (!status)
        status = tbg_system_create(e->molecule, forcefield, r->cutoff, &system);
    if (!status)
        status = tbg_engine_create(r->engine, e->molecule, system, (int)r->threads, &engine);
    if (!status)
        status = evaluate(e, engine, TBG_BOLTZMANN * temperature);
    if (!status) {
        tbg_ensemble_weigh(e);
        snprintf(e->info.forcefield, sizeof e->info.forcefield, "%s", forcefield);
        snprintf(e->info.engine, sizeof e->info.engine, "%s", tbg_engine_name(engine));
        e->info.temperature = temperature;
        status = write_all(r, e, s);
    }
    if (!status)
        fprintf(stderr,
                "%s: %ld samples by %s at %g K\nESS %.2f %% of valid samples (clipped %.2f %%), Pareto k "
                "%.2f\n%s\n",
                r->to, e->n, forcefield, temperature, 100 * s->ess_raw.value, 100 * s->ess_clipped,
                s->pareto_k, s->advice);
    tbg_engine_free(engine);
    tbg_system_free(system);
    free(s);
    return status;
}

int cmd_reweight(int argc, char **argv) {
    request r = {.cutoff = -1};
    const app_option options[] = {
        {"output", 'o', APP_STRING, &r.to, "DIR", "folder for the new ensemble (needed)"},
        {"forcefield", 'f', APP_STRING, &r.forcefield, "NAME",
         "amber14-obc1, amber99sbildn-obc, gfn2-xtb, ...; default: the ensemble's"},
        {"engine", 'e', APP_STRING, &r.engine, "NAME",
         "native, reference, openmm, xtb; default: the force field's"},
        {"temperature", 'T', APP_DOUBLE, &r.temperature, "K", "0: the ensemble's"},
        {"cutoff", 0, APP_DOUBLE, &r.cutoff, "NM", "0: none; negative: the force field's usual one"},
        {"threads", 't', APP_INT, &r.threads, "T", "threads, 0 for all"},
        {"json", 0, APP_FLAG, &r.json, NULL, "print the summary as one JSON object"},
        {0}};
    int n = app_parse(
        "reweight",
        "Gives the samples that tbg sample wrote to DIR the weights of another force field, engine or\n"
        "temperature: the same files in another folder, in the time that the energies take.",
        options, argc, argv, &r.from, 1, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!r.to || !strcmp(r.to, r.from)) {
        fprintf(stderr, "tbg reweight: -o DIR is needed, another one than %s\n", r.from);
        return 2;
    }
    if (r.temperature < 0 || r.threads < 0 || r.threads > 4096) {
        fputs("tbg reweight: --temperature and --threads (up to 4096) are not negative\n", stderr);
        return 2;
    }
    tbg_ensemble *e = NULL;
    int status = tbg_ensemble_read(r.from, &e);
    char was[sizeof e->info.forcefield] = "";
    if (!status)
        status = check_ensemble(r.from, e);
    if (!status) {
        snprintf(was, sizeof was, "%s", e->info.forcefield);
        status = reweight(&r, e, was);
    }
    tbg_ensemble_free(e);
    return status ? app_fail("reweight", status) : 0;
}
