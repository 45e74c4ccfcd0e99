/* cmd_evaluate.c: tbg evaluate: an ensemble against reference trajectories. */
#include "app.h"
#include "evaluate.h"
#include "base/memory.h"
#include "base/progress.h"
#include "tbg/ensemble.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATHS_MOST = 64, DIRECTORIES_MOST = 1000 };

static void print_estimate(const char *name, double value, double error, const char *unit) {
    if (!isfinite(value))
        printf("  %-34s -\n", name);
    else if (isfinite(error))
        printf("  %-34s %.4g +- %.2g %s\n", name, value, error, unit);
    else
        printf("  %-34s %.4g %s\n", name, value, unit);
}

/* spread: [2] of proposal and weighted, or NULL. */
static void print_distance(const char *name, double proposal, double weighted, double halves,
                           const tbg_spread *spread) {
    printf("  %-26s", name);
    const double values[] = {proposal, weighted, halves};
    for (int i = 0; i < 3; i++) {
        char text[48] = "-";
        if (isfinite(values[i]) && i < 2 && isfinite(spread[i].error))
            snprintf(text, sizeof text, "%.4g +- %.2g", values[i], spread[i].error);
        else if (isfinite(values[i]))
            snprintf(text, sizeof text, "%.4g", values[i]);
        printf(" %*s", i < 2 ? 18 : 12, text);
    }
    putchar('\n');
}

static void print_table(const tbg_ensemble *e, const tbg_ensemble_summary *s, const tbg_evaluation *v) {
    printf("%s: %ld generated, %ld valid (%ld wrong bonds, %ld wrong chirality, %ld not finite; %ld were "
           "mirrored)\n",
           e->info.sequence, s->n_generated, s->n_valid, s->n_topology, s->n_chirality, s->n_not_finite,
           s->n_mirrored);
    print_estimate("ESS, raw, per valid", 100 * s->ess_raw.value, 100 * s->ess_raw.error, "%");
    print_estimate("ESS, raw, per generated", 100 * s->ess_raw_per_generated, NAN, "%");
    print_estimate("ESS, largest 0.2 % dropped", 100 * s->ess_clipped, 100 * s->ess_clipped_spread.error,
                   "%");
    print_estimate("Pareto k-hat", s->pareto_k, s->pareto_k_spread.error, "");
    print_estimate("NLL", s->nll_mean, s->nll_spread.error, "");
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
            print_estimate(name, v->dF_reference[k].dF.value, v->dF_reference[k].dF.error,
                           v->dF_reference[k].reliable ? "kT" : "kT, unreliable");
            snprintf(name, sizeof name, "   before weighting");
            print_estimate(name, v->dF_proposal[k], NAN, "kT");
        }
    }
    printf("\n  %-26s %18s %18s %12s\n", "distance to the reference", "model", "weighted", "its halves");
    print_distance("energy W1, kT", v->energy_w1_proposal, v->energy_w1, v->energy_w1_reference,
                   (tbg_spread[]){v->spread[TBG_ENERGY_W1_PROPOSAL], v->spread[TBG_ENERGY_W1]});
    print_distance("energy W2, kT", v->energy_w2_proposal, v->energy_w2, v->energy_w2_reference,
                   (tbg_spread[]){v->spread[TBG_ENERGY_W2_PROPOSAL], v->spread[TBG_ENERGY_W2]});
    print_distance("torus W2, rad", v->torus_w2_proposal, v->torus_w2, v->torus_w2_reference,
                   (tbg_spread[]){v->spread[TBG_TORUS_W2_PROPOSAL], v->spread[TBG_TORUS_W2]});
    print_distance("TICA W2", v->tica_w2_proposal, v->tica_w2, v->tica_w2_reference,
                   (tbg_spread[]){v->spread[TBG_TICA_W2_PROPOSAL], v->spread[TBG_TICA_W2]});
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

/* Residue names with dashes between: ACE-ALA-NME, as files of references are called too. */
static void long_name(const tbg_molecule *m, char *text, size_t size) {
    size_t at = 0;
    *text = 0;
    for (int r = 0; r < m->n_residues && at < size; r++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", r ? "-" : "", m->residues[r].name);
}

/* The reference of a molecule in a folder. Refuses by both names that it looked for. */
static int find_reference(const char *folder, const tbg_ensemble *e, char *path, size_t size) {
    char name[2][256];
    snprintf(name[0], sizeof name[0], "%s", e->info.sequence);
    long_name(e->molecule, name[1], sizeof name[1]);
    for (int k = 0; k < 2; k++) {
        int n = snprintf(path, size, "%s/%s.nc", folder, name[k]);
        if (n > 0 && (size_t)n < size && *name[k] && !access(path, R_OK))
            return TBG_OK;
    }
    return tbg_fail(TBG_INPUT, "no reference of %s: %s has neither %s.nc nor %s.nc", name[0], folder, name[0],
                    name[1]);
}

int app_evaluate(const app_evaluation *o, tbg_ensemble **ensemble, tbg_ensemble_summary *summary,
                 tbg_reference **reference, tbg_evaluation *evaluation) {
    TBG_TRY(tbg_ensemble_read(o->directory, ensemble));
    TBG_TRY(tbg_ensemble_summarise(*ensemble, (int)o->bootstrap, summary));
    if (!o->reference)
        return TBG_OK;
    const char *paths[PATHS_MOST], *files = o->reference;
    char found[4096];
    struct stat folder;
    if (!stat(o->reference, &folder) && S_ISDIR(folder.st_mode)) {
        TBG_TRY(find_reference(o->reference, *ensemble, found, sizeof found));
        files = found;
    }
    char *copy = strdup(files);
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

/* One folder: its JSON text (if wanted), its row or table on stdout. */
static int evaluate_one(const app_evaluation *o, int json, int alone, app_table *table, json_t *list) {
    tbg_ensemble *e = NULL;
    tbg_reference *r = NULL;
    tbg_ensemble_summary *s = TBG_NEW(tbg_ensemble_summary, 1);
    tbg_evaluation *v = TBG_NEW(tbg_evaluation, 1);
    char *text = NULL;
    int status = s && v ? app_evaluate(o, &e, s, &r, v) : TBG_FAILED;
    if (status == TBG_OK && json)
        status = tbg_evaluation_json(v, e, s, &text);
    if (status == TBG_OK && json && alone)
        puts(text);
    else if (status == TBG_OK && json) {
        json_t *entry = json_loads(text, 0, NULL);
        json_object_set_new(entry, "directory", json_string(o->directory));
        json_array_append_new(list, entry);
    } else if (status == TBG_OK && alone)
        print_table(e, s, v);
    else if (status == TBG_OK)
        app_table_add(table, e, s, v);
    free(text);
    free(s);
    free(v);
    tbg_reference_free(r);
    tbg_ensemble_free(e);
    return status;
}

/* A folder that cannot be used does not stop the others; the exit code is that of the first one. */
static int evaluate_all(app_evaluation *o, int n, const char *const *directories, int json, int markdown) {
    int alone = n == 1 && !markdown, code = 0;
    app_table *table = app_table_create(n);
    json_t *list = json_array();
    if (!table)
        return app_fail("evaluate", TBG_FAILED);
    for (int k = 0; k < n && !tbg_interrupted(); k++) {
        o->directory = directories[k];
        int status = evaluate_one(o, json, alone, table, list);
        if (status == TBG_OK)
            continue;
        if (!alone)
            fprintf(stderr, "tbg evaluate: %s: %s\n", directories[k], tbg_message());
        if (!code)
            code = alone ? app_fail("evaluate", status) : status == TBG_INPUT ? 2 : 1;
        app_table_add_failed(table, directories[k]);
    }
    if (!alone && json) {
        char *text = json_dumps(list, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
        puts(text ? text : "[]");
        free(text);
    } else if (!alone)
        app_table_print(table, markdown);
    json_decref(list);
    app_table_free(table);
    return code;
}

int cmd_evaluate(int argc, char **argv) {
    app_evaluation o = APP_EVALUATION_DEFAULTS;
    const char *directories[DIRECTORIES_MOST];
    o.errors = 1;
    int json = 0, markdown = 0;
    const app_option options[] = {
        {"reference", 'r', APP_STRING, &o.reference, "FILES|DIR",
         "reference trajectories of the molecule, with commas between, or a folder that holds SEQUENCE.nc"},
        {"burn-in", 'b', APP_DOUBLE, &o.burn_in, "PS",
         "dropped at the start of every run of the reference; default: what tbg simulate found not to be "
         "stationary"},
        {"transport", 0, APP_INT, &o.transport, "N", "points in the torus and TICA transports"},
        {"energies", 0, APP_INT, &o.energies, "N", "reference frames whose energies are computed"},
        {"lag", 0, APP_DOUBLE, &o.lag, "PS", "lag of TICA"},
        {"bootstrap", 0, APP_INT, &o.bootstrap, "N", "resamplings for the errors"},
        {"threads", 't', APP_INT, &o.threads, "T", "threads, 0 for all"},
        {"json", 'j', APP_FLAG, &json, NULL, "print one JSON object; of several ensembles an array"},
        {"markdown", 0, APP_FLAG, &markdown, NULL, "print the table over ensembles as Markdown"},
        {0}};
    int n = app_parse(
        "evaluate",
        "Figures of the ensembles that tbg sample wrote to each DIR, and their distances to reference "
        "trajectories:\n"
        "effective sample size, Pareto k-hat, free-energy difference of each phi, Wasserstein distances of\n"
        "energies, torsions and TICA coordinates; before and after weighting, and for scale between the\n"
        "reference's own halves. Errors are one standard error. Several DIRs: a table, with the mean and\n"
        "standard deviation over them.",
        options, argc, argv, directories, 1, DIRECTORIES_MOST);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!o.reference) {
        fprintf(stderr, "tbg evaluate: --reference DATA.nc is needed\n");
        return 2;
    }
    if (json && markdown) {
        fprintf(stderr, "tbg evaluate: --json or --markdown, not both\n");
        return 2;
    }
    int status = app_evaluation_check(&o);
    return status == TBG_OK ? evaluate_all(&o, n, directories, json, markdown) : app_fail("evaluate", status);
}

int app_evaluation_check(const app_evaluation *o) {
    if (o->burn_in < 0 || o->transport < 1 || o->transport > 50000 || o->energies < 1 ||
        o->energies > 100000000 || !(o->lag > 0) || o->bootstrap < 2 || o->bootstrap > 100000 ||
        o->threads < 0 || o->threads > 4096)
        return tbg_fail(
            TBG_INPUT, "--burn-in >= 0, --transport 1 to 50000, --energies >= 1, --lag > 0, --bootstrap 2 to "
                       "100000 and --threads >= 0 are needed");
    return TBG_OK;
}
