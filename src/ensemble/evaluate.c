/* evaluate.c: distances between an ensemble and a reference (SPEC 3), each before and after weighting and, as
 * the scale to judge them by, between the reference's own halves. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "ensemble/json.h"
#include "ensemble/whole.h"
#include "tbg/status.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note(tbg_evaluation *v, const char *format, ...) {
    size_t at = strlen(v->note);
    va_list arguments;
    va_start(arguments, format);
    if (at && at + 1 < sizeof v->note)
        v->note[at++] = ' ';
    vsnprintf(v->note + at, sizeof v->note - at, format, arguments);
    va_end(arguments);
}

/* Which samples and frames the two-dimensional transports see: n each. */
typedef struct {
    int n, n_half;
    long *proposal, *weighted; /* [n] sample numbers in the ensemble */
    long *reference;           /* [n] frames */
    long *first, *second;      /* [n_half] frames of either half of the reference */
} choice;

static void spread(long from, long of, int n, long *out) {
    for (int k = 0; k < n; k++)
        out[k] = from + (long)((double)k * (double)of / n);
}

static int choose(const tbg_ensemble *e, const tbg_selection *s, const tbg_reference *r, long n_transport,
                  choice *c, long **storage) {
    long n = n_transport < s->n ? n_transport : s->n, half = r->n / 2;
    if (n > r->n)
        n = r->n;
    c->n = (int)n;
    c->n_half = (int)(n < half ? n : half);
    long *all = *storage = tbg_alloc(5 * (size_t)n, sizeof *all);
    if (!all)
        return TBG_FAILED;
    c->proposal = all;
    c->weighted = all + n;
    c->reference = all + 2 * n;
    c->first = all + 3 * n;
    c->second = all + 4 * n;
    spread(0, s->n, c->n, c->proposal);
    tbg_resample(s->n, s->weight, n, e->info.seed, c->weighted);
    for (int k = 0; k < c->n; k++) {
        c->proposal[k] = s->index[c->proposal[k]];
        c->weighted[k] = s->index[c->weighted[k]];
    }
    spread(0, r->n, c->n, c->reference);
    spread(0, half, c->n_half, c->first);
    spread(half, r->n - half, c->n_half, c->second);
    return TBG_OK;
}

/* A configuration as doubles. x: [n_atoms][3] scratch, used for the reference. */
static const double *frame(const tbg_ensemble *e, const tbg_reference *r, long i, double *x) {
    size_t size = (size_t)e->n_atoms * 3;
    if (!r)
        return e->positions + (size_t)i * size;
    for (size_t k = 0; k < size; k++)
        x[k] = r->positions[(size_t)i * size + k];
    return x;
}

/* What makes points of configurations: torsions or TICA coordinates. */
typedef struct {
    int dimension, wrapped;
    const tbg_torsion *torsions; /* [dimension] */
    const tbg_featurizer *featurizer;
    const tbg_tica *tica;
    double *x, *features; /* scratch */
} view;

static void project(const view *w, const tbg_ensemble *e, const tbg_reference *r, int n, const long *index,
                    double *points) {
    for (int k = 0; k < n; k++) {
        const double *x = frame(e, r, index[k], w->x);
        double *p = points + (size_t)k * (size_t)w->dimension;
        if (w->tica) {
            tbg_featurize(w->featurizer, x, w->features);
            tbg_tica_project(w->tica, 1, w->features, p);
        } else
            for (int d = 0; d < w->dimension; d++)
                p[d] = tbg_dihedral(x, w->torsions[d].atoms);
    }
}

/* W2 of proposal, weighted ensemble and halves of the reference in one view. w2: [3]. spread: [2] of the
 * first two, or NULL. */
static int distances(const view *w, const tbg_ensemble *e, const tbg_selection *s, const tbg_reference *r,
                     const choice *c, double w2[3], tbg_spread *spread) {
    const struct {
        const tbg_reference *source;
        const long *one, *other;
        int n;
    } sets[3] = {{NULL, c->proposal, c->reference, c->n},
                 {NULL, c->weighted, c->reference, e->weighted ? c->n : 0},
                 {r, c->first, c->second, c->n_half}};
    size_t size = (size_t)c->n * (size_t)w->dimension;
    double *one = tbg_alloc(2 * size, sizeof *one), *other = one + size, error,
           *all = spread ? tbg_alloc((size_t)s->n, (size_t)w->dimension * sizeof *all) : NULL;
    int status = one && (all || !spread) ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK && spread)
        project(w, e, NULL, (int)s->n, s->index, all);
    for (int k = 0; k < 3 && status == TBG_OK; k++) {
        project(w, e, sets[k].source, sets[k].n, sets[k].one, one);
        project(w, e, r, sets[k].n, sets[k].other, other);
        status = tbg_wasserstein_points_error(sets[k].n, w->dimension, w->wrapped, one, other,
                                              spread && k < 2 ? s->n : 0, all, k == 1 ? s->weight : NULL,
                                              &w2[k], &error);
        if (spread && k < 2)
            spread[k] = tbg_spread_normal(w2[k], error);
        if (spread && k < 2)
            spread[k].low = fmax(0, spread[k].low);
    }
    free(one);
    free(all);
    return status;
}

static int evaluate_torus(const tbg_ensemble *e, const tbg_selection *s, const tbg_reference *r,
                          const choice *c, int spread, tbg_evaluation *v) {
    int n, kept = 0;
    tbg_torsion *torsions;
    TBG_TRY(tbg_backbone_torsions(e->molecule, &n, &torsions));
    for (int t = 0; t < n; t++)
        if (strncmp(torsions[t].name, "omega", 5))
            torsions[kept++] = torsions[t];
    double w2[3] = {NAN, NAN, NAN}, *x = TBG_NEW(double, e->n_atoms * 3);
    view w = {.dimension = kept, .wrapped = 1, .torsions = torsions, .x = x};
    int status = x ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK && kept)
        status = distances(&w, e, s, r, c, w2, spread ? &v->spread[TBG_TORUS_W2_PROPOSAL] : NULL);
    if (!kept)
        note(v, "The molecule has no phi and psi.");
    v->torus_w2_proposal = w2[0];
    v->torus_w2 = w2[1];
    v->torus_w2_reference = w2[2];
    free(x);
    free(torsions);
    return status;
}

/* Of the whole reference where that is kept, else of the frames there are. */
static int fit_tica(const tbg_reference *r, const tbg_featurizer *f, double lag, tbg_evaluation *v,
                    tbg_tica *tica) {
    const tbg_tica *kept = r->whole ? &r->whole->tica : NULL;
    if (kept && kept->n_components) {
        size_t n = (size_t)kept->n_features;
        *tica = *kept;
        tica->mean = TBG_NEW(double, n);
        tica->vectors = TBG_NEW(double, 2 * n);
        if (!tica->mean || !tica->vectors)
            return TBG_FAILED; /* the caller frees */
        memcpy(tica->mean, kept->mean, n * sizeof(double));
        memcpy(tica->vectors, kept->vectors, 2 * n * sizeof(double));
        v->tica_lag = r->whole->tica_lag;
        return TBG_OK;
    }
    if (!(r->interval > 0))
        note(v, "The reference has no times: frames are taken to be 1 ps apart for TICA.");
    TBG_TRY(tbg_reference_tica(r, f, lag, &v->tica_lag, tica));
    if (v->tica_lag < 0.75 * lag)
        note(v, "The reference is short: TICA lag is %g ps instead of %g.", v->tica_lag, lag);
    return TBG_OK;
}

static int evaluate_tica(const tbg_ensemble *e, const tbg_selection *s, const tbg_reference *r,
                         const choice *c, double lag, int spread, tbg_evaluation *v) {
    tbg_featurizer *f;
    TBG_TRY(tbg_featurizer_create(e->molecule, &f));
    tbg_tica tica = {0};
    double w2[3] = {NAN, NAN, NAN};
    double *x = TBG_NEW(double, e->n_atoms * 3), *features = TBG_NEW(double, tbg_featurizer_size(f));
    int status = x && features ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK && fit_tica(r, f, lag, v, &tica) != TBG_OK) {
        note(v, "No TICA: %s.", tbg_message());
        v->tica_lag = NAN;
    } else if (status == TBG_OK) {
        view w = {
            .dimension = tica.n_components, .featurizer = f, .tica = &tica, .x = x, .features = features};
        for (int k = 0; k < tica.n_components; k++)
            v->tica_values[k] = tica.values[k];
        status = distances(&w, e, s, r, c, w2, spread ? &v->spread[TBG_TICA_W2_PROPOSAL] : NULL);
    }
    v->tica_w2_proposal = w2[0];
    v->tica_w2 = w2[1];
    v->tica_w2_reference = w2[2];
    tbg_tica_free(&tica);
    tbg_featurizer_free(f);
    free(x);
    free(features);
    return status;
}

static int evaluate_energy(const tbg_ensemble *e, const tbg_selection *s, const tbg_reference *r,
                           int replicas, tbg_evaluation *v) {
    if (!e->weighted || !r->reduced_energy) {
        note(v, e->weighted ? "No energies of the reference." : "The ensemble carries no energies.");
        return TBG_OK;
    }
    double *u = TBG_NEW(double, s->n), *reference = TBG_NEW(double, r->n_energy);
    int status = u && reference ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        long n = 0;
        for (long k = 0; k < s->n; k++)
            u[k] = e->reduced_energy[s->index[k]];
        for (long k = 0; k < r->n_energy; k++)
            if (isfinite(r->reduced_energy[k]))
                reference[n++] = r->reduced_energy[k];
        if (n < r->n_energy)
            note(v, "%ld frames of the reference have no finite energy.", r->n_energy - n);
        status = tbg_wasserstein_line(s->n, u, NULL, n, reference, NULL, &v->energy_w1_proposal,
                                      &v->energy_w2_proposal);
        if (status == TBG_OK)
            status =
                tbg_wasserstein_line(s->n, u, s->weight, n, reference, NULL, &v->energy_w1, &v->energy_w2);
        if (status == TBG_OK)
            status = tbg_wasserstein_line(n / 2, reference, NULL, n - n / 2, reference + n / 2, NULL,
                                          &v->energy_w1_reference, &v->energy_w2_reference);
        if (status == TBG_OK && replicas > 0 && n)
            status =
                tbg_spread_energies(s->n, u, NULL, n, reference, replicas, e->info.seed,
                                    &v->spread[TBG_ENERGY_W1_PROPOSAL], &v->spread[TBG_ENERGY_W2_PROPOSAL]);
        if (status == TBG_OK && replicas > 0 && n)
            status = tbg_spread_energies(s->n, u, s->weight, n, reference, replicas, e->info.seed,
                                         &v->spread[TBG_ENERGY_W1], &v->spread[TBG_ENERGY_W2]);
    }
    free(u);
    free(reference);
    return status;
}

static int evaluate_dF(const tbg_ensemble *e, const tbg_ensemble_summary *summary, const tbg_selection *s,
                       const tbg_reference *r, tbg_evaluation *v) {
    int n;
    tbg_torsion *torsions;
    if (r->whole) {
        v->n_dF = r->whole->n_dF;
        memcpy(v->dF_reference, r->whole->dF, sizeof v->dF_reference);
        memcpy(v->inefficiency, r->whole->inefficiency, sizeof v->inefficiency);
    } else
        TBG_TRY(tbg_reference_dF(r, e->molecule, &v->n_dF, v->dF_reference, v->inefficiency));
    TBG_TRY(tbg_backbone_torsions(e->molecule, &n, &torsions));
    for (int k = 0, t = 0; k < v->n_dF; k++, t++) {
        double count = 0;
        while (t < n && strcmp(torsions[t].name, v->dF_reference[k].name))
            t++;
        v->dF_proposal[k] = v->dF_difference[k] = NAN;
        if (t == n) { /* a kept file that names other torsions */
            v->n_dF = k;
            note(v, "The reference's dF are not those of this molecule.");
            break;
        }
        for (long i = 0; i < s->n; i++) {
            double phi = tbg_dihedral(frame(e, NULL, s->index[i], NULL), torsions[t].atoms);
            count += phi > 0 && phi < 2;
        }
        v->dF_proposal[k] = tbg_dF_of_p(count / (double)s->n, 0).value;
        if (e->weighted && k < summary->n_dF)
            v->dF_difference[k] = summary->dF[k].dF.value - v->dF_reference[k].dF.value;
    }
    free(torsions);
    return TBG_OK;
}

int tbg_ensemble_evaluate(const tbg_ensemble *e, const tbg_ensemble_summary *summary,
                          const tbg_reference *reference, long n_transport, double lag, int replicas,
                          tbg_evaluation *out) {
    *out = (tbg_evaluation){.n_reference = reference->n,
                            .n_whole = reference->whole ? reference->whole->n : reference->n};
    double *figures[] = {&out->energy_w1_proposal,
                         &out->energy_w2_proposal,
                         &out->energy_w1,
                         &out->energy_w2,
                         &out->energy_w1_reference,
                         &out->energy_w2_reference,
                         &out->torus_w2_proposal,
                         &out->torus_w2,
                         &out->torus_w2_reference,
                         &out->tica_w2_proposal,
                         &out->tica_w2,
                         &out->tica_w2_reference,
                         &out->tica_values[0],
                         &out->tica_values[1],
                         &out->tica_lag};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        *figures[i] = NAN;
    for (int i = 0; i < TBG_SPREADS; i++)
        out->spread[i] = (tbg_spread){NAN, NAN, NAN};
    if (reference->n_atoms != e->n_atoms)
        return tbg_fail(TBG_INPUT, "reference of %d atoms, ensemble of %d", reference->n_atoms, e->n_atoms);
    if (reference->temperature > 0 && e->info.temperature > 0 &&
        fabs(reference->temperature - e->info.temperature) > 0.01)
        note(out, "The reference is at %g K, the ensemble at %g K.", reference->temperature,
             e->info.temperature);
    if (reference->forcefield && *e->info.forcefield && strcmp(reference->forcefield, e->info.forcefield))
        note(out, "The reference has force field %s, the ensemble %s.", reference->forcefield,
             e->info.forcefield);
    if (reference->whole)
        note(out, "dF, energies and TICA of the reference are of all %ld frames, of which %ld are kept.",
             reference->whole->n, reference->n);
    tbg_selection s;
    TBG_TRY(tbg_ensemble_select(e, &s));
    choice c = {0};
    long *storage = NULL;
    int status = TBG_OK;
    if (s.n < 1)
        note(out, "There are no valid samples to compare.");
    else {
        status = choose(e, &s, reference, n_transport > 0 ? n_transport : 4000, &c, &storage);
        out->n_transport = c.n;
        if (status == TBG_OK)
            status = evaluate_energy(e, &s, reference, replicas, out);
        if (status == TBG_OK)
            status = evaluate_dF(e, summary, &s, reference, out);
        if (status == TBG_OK)
            status = evaluate_torus(e, &s, reference, &c, replicas > 0, out);
        if (status == TBG_OK)
            status = evaluate_tica(e, &s, reference, &c, lag > 0 ? lag : 500, replicas > 0, out);
    }
    free(storage);
    tbg_selection_free(&s);
    return status;
}

int tbg_evaluation_json(const tbg_evaluation *v, const tbg_ensemble *e, const tbg_ensemble_summary *summary,
                        char **text) {
    json_t *j = tbg_ensemble_json_summary(e, summary);
    const struct {
        const char *name;
        double value;
    } figures[] = {{"energy_w1_proposal", v->energy_w1_proposal},
                   {"energy_w2_proposal", v->energy_w2_proposal},
                   {"energy_w1", v->energy_w1},
                   {"energy_w2", v->energy_w2},
                   {"energy_w1_reference_halves", v->energy_w1_reference},
                   {"energy_w2_reference_halves", v->energy_w2_reference},
                   {"torus_w2_proposal", v->torus_w2_proposal},
                   {"torus_w2", v->torus_w2},
                   {"torus_w2_reference_halves", v->torus_w2_reference},
                   {"tica_w2_proposal", v->tica_w2_proposal},
                   {"tica_w2", v->tica_w2},
                   {"tica_w2_reference_halves", v->tica_w2_reference},
                   {"tica_eigenvalue_1", v->tica_values[0]},
                   {"tica_eigenvalue_2", v->tica_values[1]},
                   {"tica_lag_ps", v->tica_lag}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        json_object_set_new(j, figures[i].name, tbg_ensemble_json_real(figures[i].value));
    static const char *const names[TBG_SPREADS] = {
        "energy_w1_proposal", "energy_w2_proposal", "energy_w1",        "energy_w2",
        "torus_w2_proposal",  "torus_w2",           "tica_w2_proposal", "tica_w2"};
    for (int i = 0; i < TBG_SPREADS; i++)
        tbg_ensemble_json_spread(j, names[i], &v->spread[i]);
    json_object_set_new(j, "n_reference", json_integer(v->n_reference));
    json_object_set_new(j, "n_reference_whole", json_integer(v->n_whole));
    json_object_set_new(j, "n_transport", json_integer(v->n_transport));
    json_object_set_new(j, "dF_reference", tbg_ensemble_json_dF(v->n_dF, v->dF_reference));
    json_t *proposal = json_object(), *difference = json_object(), *inefficiency = json_object();
    for (int k = 0; k < v->n_dF; k++) {
        json_object_set_new(proposal, v->dF_reference[k].name, tbg_ensemble_json_real(v->dF_proposal[k]));
        json_object_set_new(difference, v->dF_reference[k].name, tbg_ensemble_json_real(v->dF_difference[k]));
        json_object_set_new(inefficiency, v->dF_reference[k].name,
                            tbg_ensemble_json_real(v->inefficiency[k]));
    }
    json_object_set_new(j, "dF_proposal", proposal);
    json_object_set_new(j, "dF_difference", difference);
    json_object_set_new(j, "reference_inefficiency_frames", inefficiency);
    json_object_set_new(j, "note", *v->note ? json_string(v->note) : json_null());
    *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    json_decref(j);
    return *text ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
}
