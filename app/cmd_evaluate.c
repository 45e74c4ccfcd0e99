/* cmd_evaluate.c: tbg evaluate: an ensemble against reference trajectories. */
#include "app.h"
#include "evaluate.h"
#include "base/progress.h"
#include "tbg/ensemble.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATHS_MOST = 64 };

static void print_estimate(const char *name, double value, double error, const char *unit) {
    if (!isfinite(value))
        printf("  %-34s -\n", name);
    else if (isfinite(error))
        printf("  %-34s %.4g +- %.2g %s\n", name, value, error, unit);
    else
        printf("  %-34s %.4g %s\n", name, value, unit);
}

static void print_distance(const char *name, double proposal, double weighted, double halves) {
    printf("  %-26s", name);
    const double values[] = {proposal, weighted, halves};
    for (int i = 0; i < 3; i++)
        if (isfinite(values[i]))
            printf(" %12.4g", values[i]);
        else
            printf(" %12s", "-");
    putchar('\n');
}

static void print_table(const tbg_ensemble *e, const tbg_ensemble_summary *s, const tbg_evaluation *v) {
    printf("%s: %ld generated, %ld valid (%ld wrong bonds, %ld wrong chirality, %ld not finite; %ld were "
           "mirrored)\n",
           e->info.sequence, s->n_generated, s->n_valid, s->n_topology, s->n_chirality, s->n_not_finite,
           s->n_mirrored);
    print_estimate("ESS, raw, per valid", 100 * s->ess_raw.value, 100 * s->ess_raw.error, "%");
    print_estimate("ESS, raw, per generated", 100 * s->ess_raw_per_generated, NAN, "%");
    print_estimate("ESS, largest 0.2 % dropped", 100 * s->ess_clipped, NAN, "%");
    print_estimate("Pareto k-hat", s->pareto_k, NAN, "");
    print_estimate("NLL, published convention", s->nll_published, NAN, "");
    for (int k = 0; k < s->n_dF; k++) {
        char name[64];
        snprintf(name, sizeof name, "dF %s", s->dF[k].name);
        print_estimate(name, s->dF[k].dF.value, s->dF[k].dF.error,
                       s->weighted && !s->dF[k].reliable ? "kT, unreliable" : "kT");
        for (int which = TBG_STATE_INSIDE; which >= 0; which--) {
            const tbg_state *state = &s->dF[k].state[which];
            printf("     %-31s %ld samples worth %.*f, weight %.3g %%",
                   which == TBG_STATE_INSIDE ? "state 0 < phi < 2" : "elsewhere", state->n,
                   state->n_effective < 10, state->n_effective, 100 * state->weight);
            if (isfinite(state->pareto_k))
                printf(", k-hat %.2f", state->pareto_k);
            putchar('\n');
        }
        if (k < v->n_dF) {
            snprintf(name, sizeof name, "   reference");
            print_estimate(name, v->dF_reference[k].dF.value, v->dF_reference[k].dF.error, "kT");
            snprintf(name, sizeof name, "   before weighting");
            print_estimate(name, v->dF_proposal[k], NAN, "kT");
        }
    }
    printf("\n  %-26s %12s %12s %12s\n", "distance to the reference", "model", "weighted", "its halves");
    print_distance("energy W1, kT", v->energy_w1_proposal, v->energy_w1, v->energy_w1_reference);
    print_distance("energy W2, kT", v->energy_w2_proposal, v->energy_w2, v->energy_w2_reference);
    print_distance("torus W2, rad", v->torus_w2_proposal, v->torus_w2, v->torus_w2_reference);
    print_distance("TICA W2", v->tica_w2_proposal, v->tica_w2, v->tica_w2_reference);
    printf("  (%ld reference frames; W2 of points on %ld of each)\n\n%s\n", v->n_reference, v->n_transport,
           s->advice);
    if (*v->note)
        printf("Note: %s\n", v->note);
}

/* Paths separated by commas into list, which points into the copy. */
static int split(char *copy, const char **list) {
    int n = 0;
    for (char *at = strtok(copy, ","); at; at = strtok(NULL, ",")) {
        if (n == PATHS_MOST)
            return tbg_fail(TBG_INPUT, "--reference: more than %d files", PATHS_MOST), -1;
        list[n++] = at;
    }
    if (!n)
        tbg_fail(TBG_INPUT, "--reference names no file");
    return n ? n : -1;
}

int app_evaluate(const app_evaluation *o, tbg_ensemble **ensemble, tbg_ensemble_summary *summary,
                 tbg_reference **reference, tbg_evaluation *evaluation) {
    TBG_TRY(tbg_ensemble_read(o->directory, ensemble));
    TBG_TRY(tbg_ensemble_summarise(*ensemble, (int)o->bootstrap, summary));
    if (!o->reference)
        return TBG_OK;
    const char *paths[PATHS_MOST];
    char *copy = strdup(o->reference);
    int n = copy ? split(copy, paths) : -1;
    int status = n > 0  ? tbg_reference_read(n, paths, (*ensemble)->molecule, o->burn_in, reference)
                 : copy ? TBG_INPUT
                        : tbg_fail(TBG_FAILED, "out of memory");
    free(copy);
    TBG_TRY(status);
    const tbg_ensemble_info *info = &(*ensemble)->info;
    const char *forcefield = *info->forcefield ? info->forcefield : (*reference)->forcefield;
    double temperature = info->temperature > 0 ? info->temperature : (*reference)->temperature;
    /* A force field without a native engine (gfn2-xtb) leaves the energies out; evaluate says so in its note.
     */
    if ((*ensemble)->weighted && forcefield && temperature > 0 &&
        tbg_reference_energies(*reference, (*ensemble)->molecule, forcefield, temperature, o->energies,
                               (int)o->threads) != TBG_OK) {
        if (tbg_interrupted())
            return TBG_FAILED;
        fprintf(stderr, "tbg: no energies of the reference: %s\n", tbg_message());
    }
    return tbg_ensemble_evaluate(*ensemble, summary, *reference, o->transport, o->lag,
                                 o->errors ? (int)o->bootstrap : 0, evaluation);
}

int cmd_evaluate(int argc, char **argv) {
    app_evaluation o = APP_EVALUATION_DEFAULTS;
    o.errors = 1;
    int json = 0;
    const app_option options[] = {
        {"reference", 'r', APP_STRING, &o.reference, "FILES",
         "reference trajectories of the molecule, with commas between"},
        {"burn-in", 'b', APP_DOUBLE, &o.burn_in, "PS", "dropped at the start of every run of the reference"},
        {"transport", 0, APP_INT, &o.transport, "N", "points in the torus and TICA transports"},
        {"energies", 0, APP_INT, &o.energies, "N", "reference frames whose energies are computed"},
        {"lag", 0, APP_DOUBLE, &o.lag, "PS", "lag of TICA"},
        {"bootstrap", 0, APP_INT, &o.bootstrap, "N", "resamplings for the errors"},
        {"threads", 't', APP_INT, &o.threads, "T", "threads, 0 for all"},
        {"json", 'j', APP_FLAG, &json, NULL, "print one JSON object"},
        {0}};
    int n = app_parse(
        "evaluate",
        "Figures of the ensemble that tbg sample wrote to DIR, and its distances to reference trajectories:\n"
        "effective sample size, Pareto k-hat, free-energy difference of each phi, Wasserstein distances of\n"
        "energies, torsions and TICA coordinates; before and after weighting, and for scale between the\n"
        "reference's own halves. Errors are one standard error.",
        options, argc, argv, &o.directory, 1, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!o.reference) {
        fprintf(stderr, "tbg evaluate: --reference DATA.nc is needed\n");
        return 2;
    }
    tbg_ensemble *e = NULL;
    tbg_reference *r = NULL;
    tbg_ensemble_summary s;
    tbg_evaluation v;
    char *text = NULL;
    int status = app_evaluation_check(&o);
    if (status == TBG_OK)
        status = app_evaluate(&o, &e, &s, &r, &v);
    if (status == TBG_OK && json)
        status = tbg_evaluation_json(&v, e, &s, &text);
    if (status == TBG_OK) {
        if (json)
            puts(text);
        else
            print_table(e, &s, &v);
    }
    free(text);
    tbg_reference_free(r);
    tbg_ensemble_free(e);
    return status == TBG_OK ? 0 : app_fail("evaluate", status);
}

int app_evaluation_check(const app_evaluation *o) {
    if (!(o->burn_in >= 0) || o->transport < 1 || o->transport > 50000 || o->energies < 1 ||
        o->energies > 100000000 || !(o->lag > 0) || o->bootstrap < 2 || o->bootstrap > 100000 ||
        o->threads < 0 || o->threads > 4096)
        return tbg_fail(
            TBG_INPUT, "--burn-in >= 0, --transport 1 to 50000, --energies >= 1, --lag > 0, --bootstrap 2 to "
                       "100000 and --threads >= 0 are needed");
    return TBG_OK;
}
