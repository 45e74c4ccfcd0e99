/* summary.c: the figures of an ensemble, their errors, and a sentence that says what they mean. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "ensemble/json.h"
#include "ensemble/spread.h"
#include "ensemble/states.h"
#include "tbg/status.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* dF of every phi from one bootstrap over the samples that count. */
static int bootstrap(const tbg_ensemble *e, const tbg_selection *s, int replicas, tbg_ensemble_summary *out) {
    int n_torsions, n_phi = 0;
    tbg_torsion *torsions;
    TBG_TRY(tbg_backbone_torsions(e->molecule, &n_torsions, &torsions));
    for (int t = 0; t < n_torsions; t++)
        if (!strncmp(torsions[t].name, "phi", 3) && n_phi < TBG_TORSIONS_MOST)
            torsions[n_phi++] = torsions[t];
    short *bins = tbg_alloc((size_t)n_phi * (size_t)s->n, sizeof *bins);
    double *histogram = TBG_NEW(double, n_phi * 2);
    double *replica = tbg_alloc((size_t)replicas * (size_t)n_phi * 2, sizeof *replica);
    double *values = TBG_NEW(double, replicas);
    int status = bins && histogram && replica && values ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        for (int t = 0; t < n_phi; t++)
            for (long i = 0; i < s->n; i++) {
                double phi = tbg_dihedral(e->positions + (size_t)s->index[i] * (size_t)e->n_atoms * 3,
                                          torsions[t].atoms);
                bins[(size_t)t * (size_t)s->n + (size_t)i] = phi > 0 && phi < 2;
            }
        status = tbg_bootstrap_histograms(s->n, s->weight, n_phi, bins, 2, replicas, e->info.seed, histogram,
                                          replica, NULL);
    }
    out->n_dF = status == TBG_OK ? n_phi : 0;
    for (int t = 0; t < out->n_dF && status == TBG_OK; t++) {
        tbg_dF *d = &out->dF[t];
        snprintf(d->name, sizeof d->name, "%s", torsions[t].name);
        d->dF.value = log(histogram[2 * t]) - log(histogram[2 * t + 1]);
        int kept = 0;
        for (int r = 0; r < replicas; r++) {
            const double *h = replica + ((size_t)r * (size_t)n_phi + (size_t)t) * 2;
            if (h[0] > 0 && h[1] > 0)
                values[kept++] = log(h[0]) - log(h[1]);
        }
        d->lost = replicas - kept;
        tbg_spread spread = tbg_spread_of(kept, values);
        d->dF.error = spread.error;
        d->low = spread.low;
        d->high = spread.high;
        if (out->inefficiency > 0) { /* the bootstrap takes frames of chains for independent */
            const tbg_ensemble_chains *c = &e->info.chains;
            d->dF.error = t < c->n_errors && c->dF_error[t] > 0 ? c->dF_error[t]
                                                                : d->dF.error * sqrt(out->inefficiency);
            d->low = d->dF.value - 1.96 * d->dF.error;
            d->high = d->dF.value + 1.96 * d->dF.error;
        }
        d->out_of_reach = !strcmp(e->molecule->residues[torsions[t].residue].name, "PRO");
        status = tbg_states_diagnose(
            e, s, bins + (size_t)t * (size_t)s->n,
            out->inefficiency > 0 ? e->info.chains.converged : out->pareto_k <= out->pareto_k_limit, d);
    }
    free(torsions);
    free(bins);
    free(histogram);
    free(replica);
    free(values);
    return status;
}

static void add(tbg_ensemble_summary *s, const char *format, ...) {
    size_t at = strlen(s->advice);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->advice + at, sizeof s->advice - at, format, arguments);
    va_end(arguments);
}

/* The torsions whose free energy cannot be trusted although the weights as a whole can, by name. */
static void advise_states(tbg_ensemble_summary *s) {
    enum { NAMED = 4 };
    char remark[160];
    int found = 0;
    double more = 0;
    for (int k = 0; k < s->n_dF; k++) {
        tbg_dF_remark(&s->dF[k], remark, sizeof remark);
        if (!*remark)
            continue;
        if (found++ < NAMED) {
            add(s, "%s %s: %s", found > 1 ? ";" : "But not every free energy:", s->dF[k].name, remark);
            more = fmax(more, tbg_states_more(&s->dF[k]));
        }
    }
    if (!found)
        return;
    if (found > NAMED)
        add(s, "; and %d more torsions alike", found - NAMED);
    add(s, ". The free energ%s of %s cannot be trusted: ", found > 1 ? "ies" : "y",
        found > 1 ? "these torsions" : "this torsion");
    if (isfinite(more))
        add(s, "draw about %.0f times as many samples", more);
    else
        add(s, "draw more samples");
    add(s, ", use --refine, or a model trained on phi-balanced data (phi_bias).");
}

static void advise(const tbg_ensemble *e, tbg_ensemble_summary *s) {
    char *text = s->advice;
    size_t size = sizeof s->advice;
    double valid = s->n_generated ? 100.0 * (double)s->n_valid / (double)s->n_generated : 0;
    if (!s->n_generated)
        snprintf(text, size, "No samples were generated.");
    else if (!s->n_valid)
        snprintf(text, size,
                 "None of the %ld samples is a correct configuration of this molecule, so there is no "
                 "ensemble: use a "
                 "model that knows this molecule's chemistry, or train longer.",
                 s->n_generated);
    else if (!s->weighted)
        snprintf(
            text, size,
            "These samples carry no weights: they follow the model, not the Boltzmann distribution, and "
            "averages "
            "over them are biased by an unknown amount; sample without --no-weights for unbiased averages.");
    else if (s->inefficiency > 0)
        snprintf(text, size, "Frames of Markov chains, %.3g worth one independent frame. %s", s->inefficiency,
                 e->info.chains.advice);
    else if (s->n_valid < 25 && !isfinite(s->pareto_k))
        snprintf(text, size,
                 "%ld correct samples are too few to judge their weights by: do not trust averages from this "
                 "ensemble, draw some hundreds.",
                 s->n_valid);
    else if (!(s->pareto_k <= s->pareto_k_limit)) {
        char k[32] = "infinite";
        if (isfinite(s->pareto_k))
            snprintf(k, sizeof k, "%.2f", s->pareto_k);
        snprintf(
            text, size,
            "Do not trust weighted averages from this ensemble: k-hat is %s (limit %.2f), so a few samples "
            "decide every average, and the ESS and the errors shown are too optimistic. Run the same "
            "command with --resume --refine: Markov chains with dynamics between the samples are right "
            "however poor the weights, and say when they are too short. Or draw more samples and see whether "
            "k-hat falls, or train longer.",
            k, s->pareto_k_limit);
    } else if (s->n_effective < 100)
        snprintf(text, size,
                 "The weights can be trusted (k-hat %.2f, limit %.2f), but the ensemble is worth only %.0f "
                 "independent "
                 "samples: good for a rough picture; draw about %.0f times as many for free energies.",
                 s->pareto_k, s->pareto_k_limit, s->n_effective, ceil(1000 / s->n_effective));
    else
        snprintf(text, size,
                 "The weights can be trusted: k-hat is %.2f (limit %.2f) and the ensemble is worth %.0f "
                 "independent "
                 "samples. Conformations that the model never visits cannot be detected from the weights.",
                 s->pareto_k, s->pareto_k_limit, s->n_effective);
    if (s->n_valid && s->weighted && s->pareto_k <= s->pareto_k_limit) {
        add(s, " ");
        advise_states(s);
        if (text[strlen(text) - 1] == ' ')
            text[strlen(text) - 1] = 0;
    }
    if (s->n_valid && valid < 90)
        add(s, " Only %.0f %% of the samples are correct configurations.", valid);
}

int tbg_ensemble_summarise(const tbg_ensemble *e, int replicas, tbg_ensemble_summary *out) {
    *out = (tbg_ensemble_summary){
        .n_generated = e->n, .weighted = e->weighted, .inefficiency = e->info.chains.inefficiency};
    out->ess_raw = (tbg_estimate){NAN, NAN};
    out->ess_raw_per_generated = out->ess_clipped = out->ess_clipped_per_generated = out->n_effective = NAN;
    out->pareto_k = out->pareto_k_limit = out->nll_mean = out->nll_published = NAN;
    out->energy_mean = out->energy_mean_weighted = NAN;
    out->ess_raw_spread = out->ess_clipped_spread = out->pareto_k_spread = out->nll_spread =
        (tbg_spread){NAN, NAN, NAN};
    for (long i = 0; i < e->n; i++) {
        int verdict = e->verdict[i];
        out->n_topology += verdict == TBG_TOPOLOGY;
        out->n_chirality += verdict == TBG_CHIRALITY;
        out->n_mirrored += verdict == TBG_MIRRORED;
        /* Also those whose geometry is right and whose energy or density is not a number. */
        out->n_not_finite +=
            verdict == TBG_NOT_FINITE ||
            ((verdict == TBG_VALID || verdict == TBG_MIRRORED) && !tbg_ensemble_is_valid(e, i));
    }
    tbg_selection s;
    TBG_TRY(tbg_ensemble_select(e, &s));
    out->n_valid = s.n;
    double n = (double)s.n, *scratch = TBG_NEW(double, e->n);
    int status = scratch ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK && s.n && e->weighted) {
        out->n_effective = tbg_effective_size(e->n, e->log_weight);
        out->ess_raw.value = out->n_effective / n;
        out->ess_raw_per_generated = out->n_effective / (double)e->n;
        double clipped = tbg_effective_size_clipped(e->n, e->log_weight, scratch);
        out->ess_clipped = clipped / n;
        out->ess_clipped_per_generated = clipped / (double)e->n;
        out->pareto_k = tbg_pareto_k(e->n, e->log_weight, scratch);
        /* Small samples need lighter tails (Vehtari et al. 2024, section 3.2.4). */
        out->pareto_k_limit = fmax(0, fmin(0.7, 1 - 1 / log10(n)));
        double nll = 0, energy = 0, weighted = 0;
        for (long k = 0; k < s.n; k++) {
            nll -= e->log_q[s.index[k]] / n;
            energy += e->reduced_energy[s.index[k]] / n;
            weighted += s.weight[k] * e->reduced_energy[s.index[k]];
        }
        double dimensions = 3.0 * (e->n_atoms - 1);
        out->nll_mean = nll + dimensions * log(10.0); /* density in 1/nm to density in 1/Angstrom */
        out->nll_published = out->nll_mean - dimensions / 2 * log(2 * M_PI);
        out->energy_mean = energy;
        out->energy_mean_weighted = weighted;
        if (out->inefficiency > 0) { /* equal weights by construction say nothing about their quality */
            out->n_effective = n / out->inefficiency;
            out->ess_raw.value = 1 / out->inefficiency;
            out->ess_raw_per_generated = out->ess_raw.value * n / (double)e->n;
            out->ess_clipped = out->ess_clipped_per_generated = out->pareto_k = out->pareto_k_limit = NAN;
        }
    }
    if (replicas <= 0)
        replicas = 200;
    if (status == TBG_OK && s.n)
        status = bootstrap(e, &s, replicas, out);
    if (status == TBG_OK && s.n && e->weighted && !(out->inefficiency > 0))
        status = tbg_spread_weights(e, &s, replicas, out);
    out->valid_spread = tbg_spread_share(s.n, e->n);
    advise(e, out);
    free(scratch);
    tbg_selection_free(&s);
    return status;
}

/* ---- JSON ---- */

json_t *tbg_ensemble_json_real(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

void tbg_ensemble_json_spread(json_t *j, const char *name, const tbg_spread *spread) {
    if (!isfinite(spread->error))
        return;
    json_t *intervals = json_object_get(j, "intervals");
    if (!intervals)
        json_object_set_new(j, "intervals", intervals = json_object());
    char key[64];
    snprintf(key, sizeof key, "%s_error", name);
    json_object_set_new(j, key, json_real(spread->error));
    json_object_set_new(
        intervals, name,
        json_pack("[o, o]", tbg_ensemble_json_real(spread->low), tbg_ensemble_json_real(spread->high)));
}

json_t *tbg_ensemble_json_dF(int n, const tbg_dF *dF) {
    json_t *list = json_object();
    for (int i = 0; i < n; i++)
        json_object_set_new(list, dF[i].name,
                            json_pack("{s:o, s:o, s:o, s:[o, o], s:b}", "value",
                                      tbg_ensemble_json_real(dF[i].dF.value), "error",
                                      tbg_ensemble_json_real(dF[i].dF.error), "bootstrap_error",
                                      tbg_ensemble_json_real(dF[i].bootstrap_error), "interval",
                                      tbg_ensemble_json_real(dF[i].low), tbg_ensemble_json_real(dF[i].high),
                                      "reliable", dF[i].reliable));
    return list;
}

/* Text from outside may not be UTF-8; the file must not fail for that. */
static json_t *text_or_null(const char *text) {
    json_t *value = *text ? json_string(text) : json_null();
    return value ? value : json_null();
}

static json_t *warnings(const char *text) {
    json_t *list = json_array();
    while (*text) {
        size_t n = strcspn(text, "\n");
        json_t *line = json_stringn(text, n);
        if (line)
            json_array_append_new(list, line);
        text += n + (text[n] == '\n');
    }
    return list;
}

static json_t *chains_json(const tbg_ensemble_chains *c) {
    json_t *errors = json_array();
    for (int k = 0; k < c->n_errors; k++)
        json_array_append_new(errors, tbg_ensemble_json_real(c->dF_error[k]));
    return json_pack("{s:f, s:b, s:o, s:o}", "frames_per_independent_frame", c->inefficiency, "converged",
                     c->converged, "dF_error", errors, "advice", text_or_null(c->advice));
}

json_t *tbg_ensemble_json_info(const tbg_ensemble *e) {
    const tbg_ensemble_info *i = &e->info;
    json_t *j = json_object();
    json_object_set_new(j, "sequence", text_or_null(i->sequence));
    json_object_set_new(j, "model", text_or_null(i->model));
    json_object_set_new(j, "backend", text_or_null(i->backend));
    json_object_set_new(j, "forcefield", text_or_null(i->forcefield));
    json_object_set_new(j, "engine", text_or_null(i->engine));
    json_object_set_new(j, "temperature",
                        i->temperature > 0 ? tbg_ensemble_json_real(i->temperature) : json_null());
    /* A seed beyond 2^63 would not survive as a JSON number. */
    char seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)i->seed);
    json_object_set_new(j, "seed",
                        i->seed <= INT64_MAX ? json_integer((json_int_t)i->seed) : json_string(seed));
    json_object_set_new(j, "seconds_flow", tbg_ensemble_json_real(i->seconds_flow));
    json_object_set_new(j, "seconds_energy", tbg_ensemble_json_real(i->seconds_energy));
    if (i->smoothing > 0) {
        json_object_set_new(j, "smoothing_nm", json_real(i->smoothing));
        json_object_set_new(j, "anneal_error_nats", tbg_ensemble_json_real(i->anneal_error));
        json_object_set_new(j, "branches", json_integer(i->branches));
        json_object_set_new(j, "annealed_from_nm", json_real(i->annealed_from));
    }
    json_object_set_new(j, "evaluations_per_sample", tbg_ensemble_json_real(i->evaluations));
    json_object_set_new(j, "forward_backward_position_nm",
                        tbg_ensemble_json_real(i->forward_backward_position));
    json_object_set_new(j, "forward_backward_log_q", tbg_ensemble_json_real(i->forward_backward_log_q));
    json_object_set_new(j, "forward_backward_n", json_integer(i->forward_backward_n));
    json_object_set_new(j, "warnings", warnings(i->warnings));
    if (i->chains.inefficiency > 0)
        json_object_set_new(j, "chains", chains_json(&i->chains));
    json_object_set_new(j, "version", json_string(TBG_VERSION));
    return j;
}

json_t *tbg_ensemble_json_summary(const tbg_ensemble *e, const tbg_ensemble_summary *s) {
    json_t *j = json_object(), *info = tbg_ensemble_json_info(e);
    const struct {
        const char *name;
        long value;
    } counts[] = {{"n_generated", s->n_generated}, {"n_valid", s->n_valid},
                  {"n_topology", s->n_topology},   {"n_mirrored", s->n_mirrored},
                  {"n_chirality", s->n_chirality}, {"n_not_finite", s->n_not_finite}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(j, counts[i].name, json_integer(counts[i].value));
    json_object_set_new(j, "weighted", json_boolean(s->weighted));
    const struct {
        const char *name;
        double value;
    } figures[] = {{"ess_raw", s->ess_raw.value},
                   {"ess_raw_per_generated", s->ess_raw_per_generated},
                   {"ess_clipped", s->ess_clipped},
                   {"ess_clipped_per_generated", s->ess_clipped_per_generated},
                   {"n_effective", s->n_effective},
                   {"pareto_k", s->pareto_k},
                   {"pareto_k_limit", s->pareto_k_limit},
                   {"nll_mean", s->nll_mean},
                   {"nll_published", s->nll_published},
                   {"energy_mean", s->energy_mean},
                   {"energy_mean_weighted", s->energy_mean_weighted}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        json_object_set_new(j, figures[i].name, tbg_ensemble_json_real(figures[i].value));
    if (s->n_generated)
        json_object_set_new(j, "valid", json_real((double)s->n_valid / (double)s->n_generated));
    tbg_ensemble_json_spread(j, "valid", &s->valid_spread);
    tbg_ensemble_json_spread(j, "ess_raw", &s->ess_raw_spread);
    tbg_ensemble_json_spread(j, "ess_clipped", &s->ess_clipped_spread);
    tbg_ensemble_json_spread(j, "pareto_k", &s->pareto_k_spread);
    tbg_ensemble_json_spread(j, "nll_mean", &s->nll_spread);
    json_object_set_new(
        j, "seconds_per_sample",
        s->n_generated
            ? tbg_ensemble_json_real(
                  (e->info.seconds_flow + (isfinite(e->info.seconds_energy) ? e->info.seconds_energy : 0)) /
                  (double)s->n_generated)
            : json_null());
    json_object_set_new(j, "dF", tbg_ensemble_json_dF(s->n_dF, s->dF));
    json_object_set_new(j, "states", tbg_states_json(s->n_dF, s->dF));
    json_object_set_new(j, "advice", json_string(s->advice));
    json_object_update(j, info);
    json_decref(info);
    return j;
}

int tbg_ensemble_summary_json(const tbg_ensemble *e, const tbg_ensemble_summary *summary, char **text) {
    json_t *j = tbg_ensemble_json_summary(e, summary);
    *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    json_decref(j);
    return *text ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
}
