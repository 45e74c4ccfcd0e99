/* report.c: the HTML page: verdict, key figures, plots, tables, how it was made. Self-contained: one file, no
 * scripts, no fonts or images from elsewhere; prints on A4. */
#include "tbg/report.h"
#include "base/memory.h"
#include "report/plots.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAIRS_MOST = 6, CURVES_MOST = 12 };

static const char *const style =
    "*{box-sizing:border-box}"
    "body{margin:0;background:#f6f7f9;color:#111827;font:15px/1.5 -apple-system,BlinkMacSystemFont,'Segoe "
    "UI',Inter,"
    "Roboto,'Helvetica Neue',Arial,'Noto "
    "Sans',sans-serif;-webkit-print-color-adjust:exact;print-color-adjust:exact}"
    "main{max-width:1060px;margin:0 auto;padding:36px 24px 48px}"
    "h1{font-size:30px;font-weight:650;letter-spacing:-.02em;margin:0;line-height:1.2}"
    "h2{font-size:17px;font-weight:650;margin:0 0 4px}"
    ".sub{color:#4b5563;margin:4px 0 22px}"
    ".verdict{border-left:4px solid;border-radius:6px;padding:13px 18px;margin:0 0 18px}"
    ".good{background:#ecfdf5;border-color:#059669}.fair{background:#fffbeb;border-color:#d97706}"
    ".bad{background:#fef2f2;border-color:#dc2626}"
    ".tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:14px;margin-bottom:18px}"
    ".tile,section{background:#fff;border:1px solid #e5e7eb;border-radius:8px}"
    ".tile{padding:13px 18px 14px}.tile span{display:block;color:#4b5563;font-size:13px}"
    ".tile b{font-size:25px;font-weight:620;letter-spacing:-.02em;font-variant-numeric:tabular-nums}"
    ".tile small{color:#6b7280;font-size:13px;margin-left:5px}"
    "section{padding:18px 22px 20px;margin-bottom:18px;break-inside:avoid}"
    "section p{margin:0 0 12px;color:#4b5563;font-size:14px;max-width:88ch}"
    ".row{display:flex;flex-wrap:wrap;gap:14px 26px}.row figure{flex:1 1 440px;min-width:0}"
    "figure{margin:0}figcaption{font-size:13px;color:#4b5563;margin-top:2px}"
    "svg{display:block;max-width:100%;height:auto;font-family:inherit;margin:0 auto}"
    ".key{display:flex;flex-wrap:wrap;gap:4px 22px;font-size:13px;color:#374151;margin:0 0 8px}"
    ".key i{display:inline-block;width:22px;height:0;border-top:3px "
    "solid;margin-right:7px;vertical-align:middle}"
    ".key i.dash{border-top-style:dashed;border-top-width:2px}"
    "table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid #eef0f3;vertical-align:top}"
    "tr:last-child td{border-bottom:0}th{font-weight:600;color:#4b5563;font-size:13px}"
    "td.n,th.n{text-align:right;white-space:nowrap}td.u{color:#6b7280;font-size:13px}"
    "footer{color:#6b7280;font-size:13px}sup{line-height:0;font-size:75%}"
    "@media screen and (max-width:760px){.tiles{grid-template-columns:repeat(2,1fr)}}"
    "@media "
    "print{body{background:#fff;font-size:12px}main{padding:0;max-width:none}section,.tile{border-color:#"
    "d1d5db}"
    ".row figure{flex-basis:300px}}@page{size:A4;margin:14mm}";

static void legend(tbg_text *t, const tbg_plot_data *d, int dashed) {
    tbg_text_add(t,
                 "<div class=\"key\"><span><i%s style=\"border-color:" TBG_COLOUR_MODEL
                 "\"></i>model, before "
                 "weighting</span>",
                 dashed ? " class=\"dash\"" : "");
    if (d->summary->weighted)
        tbg_text_add(t, "<span><i style=\"border-color:" TBG_COLOUR_WEIGHTED "\"></i>weighted</span>");
    if (d->reference)
        tbg_text_add(t, "<span><i style=\"border-color:" TBG_COLOUR_REFERENCE
                        "\"></i>reference dynamics</span>");
    tbg_text_add(t, "</div>");
}

/* ---- head ---- */

static void verdict(tbg_text *t, const tbg_ensemble *e, const tbg_ensemble_summary *s) {
    const char *kind = "good";
    int trusted = s->inefficiency > 0 ? e->info.chains.converged : s->pareto_k <= s->pareto_k_limit;
    if (!s->n_valid || (s->weighted && !trusted))
        kind = "bad";
    else if (!s->weighted || s->n_effective < 100)
        kind = "fair";
    for (int k = 0; k < s->n_dF && *kind == 'g'; k++) {
        char remark[160];
        tbg_dF_remark(&s->dF[k], remark, sizeof remark);
        if (*remark)
            kind = "fair";
    }
    /* The colour only repeats what the sentence says. */
    tbg_text_add(t, "<div class=\"verdict %s\" role=\"status\">", kind);
    tbg_text_escape(t, s->advice);
    tbg_text_add(t, "</div>");
}

/* What the model was not trained for. */
static void warnings(tbg_text *t, const char *text) {
    if (!*text)
        return;
    tbg_text_add(t, "<div class=\"verdict fair\" role=\"status\">Outside what the model was trained for:<ul "
                    "style=\"margin:4px 0 0;padding-left:20px\">");
    while (*text) {
        char line[512];
        size_t n = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), text);
        tbg_text_add(t, "<li>");
        tbg_text_escape(t, line);
        tbg_text_add(t, "</li>");
        text += n + (text[n] == '\n');
    }
    tbg_text_add(t, "</ul></div>");
}

static void tile(tbg_text *t, const char *label, double value, int digits, const char *unit,
                 const char *small) {
    tbg_text_add(t, "<div class=\"tile\"><span>%s</span><b>", label);
    tbg_text_number(t, value, digits);
    tbg_text_add(t, "%s</b><small>%s</small></div>", isfinite(value) ? unit : "", small);
}

/* "9,412 of 10,000". */
static void count(tbg_text *t, long n) {
    if (n >= 1000) {
        count(t, n / 1000);
        tbg_text_add(t, ",%03ld", n % 1000);
    } else
        tbg_text_add(t, "%ld", n);
}

static void tiles(tbg_text *t, const tbg_ensemble_summary *s) {
    tbg_text small = {0};
    tbg_text_add(&small, "of ");
    count(&small, s->n_generated);
    tbg_text_add(t, "<div class=\"tiles\">");
    tile(t, "Correct configurations",
         s->n_generated ? 100.0 * (double)s->n_valid / (double)s->n_generated : NAN, 3, "&thinsp;%",
         small.data ? small.data : "");
    tile(t, "Effective samples", s->n_effective < 10 ? s->n_effective : round(s->n_effective), 2, "",
         "Kish, raw");
    tile(t, "ESS per valid sample", 100 * s->ess_raw.value, 3, "&thinsp;%", "raw");
    tbg_text limit = {0};
    tbg_text_add(&limit, "limit ");
    tbg_text_number(&limit, s->pareto_k_limit, 2);
    tile(t, "Pareto k&#770;", s->pareto_k, s->pareto_k >= 1 ? 3 : 2, "",
         s->weighted && limit.data ? limit.data : "");
    tbg_text_add(t, "</div>");
    free(small.data);
    free(limit.data);
    t->failed |= small.failed | limit.failed;
}

/* ---- tables ---- */

static void row(tbg_text *t, const char *name, double value, double error, int digits, const char *unit,
                const char *remark) {
    tbg_text_add(t, "<tr><td>%s</td><td class=\"n\">", name);
    tbg_text_number(t, value, digits);
    if (isfinite(value) && isfinite(error)) {
        tbg_text_add(t, " ± ");
        tbg_text_number(t, error, 2);
    }
    tbg_text_add(t, "%s%s</td><td class=\"u\">%s</td></tr>", *unit && isfinite(value) ? "&thinsp;" : "",
                 isfinite(value) ? unit : "", remark);
}

static void row_count(tbg_text *t, const char *name, long n, const char *remark) {
    tbg_text_add(t, "<tr><td>%s</td><td class=\"n\">", name);
    count(t, n);
    tbg_text_add(t, "</td><td class=\"u\">%s</td></tr>", remark);
}

static void figures_table(tbg_text *t, const tbg_ensemble_summary *s) {
    tbg_text_add(t, "<section><h2>Figures</h2><table>");
    row_count(t, "Samples generated", s->n_generated, "");
    row_count(t, "&nbsp;&nbsp;correct configurations", s->n_valid,
              s->weighted ? "bonds and stereocentres as in the molecule, finite energy and density"
                          : "bonds and stereocentres as in the molecule");
    row_count(t, "&nbsp;&nbsp;of these mirrored", s->n_mirrored,
              "all stereocentres were inverted; the mirror image counts");
    row_count(t, "&nbsp;&nbsp;wrong bonds", s->n_topology, "dropped");
    row_count(t, "&nbsp;&nbsp;wrong chirality", s->n_chirality, "dropped");
    row_count(t, "&nbsp;&nbsp;not finite", s->n_not_finite,
              "dropped: positions, energy or density not a number");
    if (s->weighted) {
        row(t, "ESS per valid sample, raw", 100 * s->ess_raw.value, 100 * s->ess_raw.error, 3, "%",
            "Kish: (&Sigma;w)<sup>2</sup> / &Sigma;w<sup>2</sup> / n");
        row(t, "ESS per generated sample, raw", 100 * s->ess_raw_per_generated, NAN, 3, "%", "");
        row(t, "ESS per valid sample, clipped", 100 * s->ess_clipped, NAN, 3, "%",
            "without the largest 0.2&thinsp;% of the weights; biased, for comparison with the literature");
        row(t, "ESS per generated sample, clipped", 100 * s->ess_clipped_per_generated, NAN, 3, "%", "");
        row(t, "Pareto k&#770;", s->pareto_k, NAN, s->pareto_k >= 1 ? 3 : 2, "",
            "shape of the weights' tail; averages converge reliably below the limit");
        row(t, "NLL", s->nll_mean, NAN, 5, "",
            "mean of &minus;ln q of the valid samples, in &Aring;ngstr&ouml;m");
        row(t, "NLL, published convention", s->nll_published, NAN, 5, "",
            "without the prior&rsquo;s constant");
        row(t, "Mean energy, model", s->energy_mean, NAN, 4, "kT", "");
        row(t, "Mean energy, weighted", s->energy_mean_weighted, NAN, 4, "kT", "");
    }
    tbg_text_add(t, "</table></section>");
}

static void cell(tbg_text *t, double value, double error) {
    tbg_text_add(t, "<td class=\"n\">");
    tbg_text_number(t, value, 3);
    if (isfinite(value) && isfinite(error)) {
        tbg_text_add(t, " ± ");
        tbg_text_number(t, error, 2);
    }
    tbg_text_add(t, "</td>");
}

/* What each free energy rests on. */
static void states_table(tbg_text *t, const tbg_ensemble_summary *s) {
    char symbol[32];
    if (!s->weighted)
        return;
    tbg_text_add(
        t,
        "<p style=\"margin:14px 0 6px\">What they rest on: a state worth fewer than %d independent samples, "
        "or whose weights have a k&#770; above %.1f, gives no free energy; the error of an unreliable "
        "&Delta;F then holds the whole shift made by "
        "weighting.</p><table><tr><th>Torsion</th><th>State</th><th "
        "class=\"n\">Samples</th><th class=\"n\">Independent</th><th class=\"n\">Weight "
        "(%%)</th><th class=\"n\">k&#770;</th></tr>",
        TBG_STATE_LEAST, TBG_STATE_K);
    for (int k = 0; k < s->n_dF; k++)
        for (int which = TBG_STATE_INSIDE; which >= 0; which--) {
            const tbg_state *state = &s->dF[k].state[which];
            tbg_text_add(t, "<tr><td>%s</td><td>%s</td><td class=\"n\">",
                         tbg_plot_symbol(s->dF[k].name, s->n_dF == 1, symbol),
                         which == TBG_STATE_INSIDE ? "0 &lt; &phi; &lt; 2 rad" : "elsewhere");
            count(t, state->n);
            tbg_text_add(t, "</td>");
            cell(t, state->n_effective < 10 ? state->n_effective : round(state->n_effective), NAN);
            cell(t, 100 * state->weight, NAN);
            cell(t, state->pareto_k, NAN);
            tbg_text_add(t, "</tr>");
        }
    tbg_text_add(t, "</table>");
}

static void dF_table(tbg_text *t, const tbg_ensemble_summary *s, const tbg_evaluation *v) {
    char symbol[32];
    if (!s->n_dF)
        return;
    tbg_text_add(t,
                 "<section><h2>Free-energy difference</h2><p>&Delta;F = &minus;ln[P(0 &lt; &phi; &lt; 2 rad) "
                 "/ P(elsewhere)] in kT; "
                 "one standard error, from %s.</p><table><tr><th>Torsion</th>%s<th class=\"n\">%s</th>",
                 v ? "bootstrap (ensemble) and statistical inefficiency (reference)" : "bootstrap",
                 v ? "<th class=\"n\">Model, before weighting</th>" : "", s->weighted ? "Weighted" : "Model");
    tbg_text_add(t, "%s</tr>",
                 v ? "<th class=\"n\">Reference</th><th class=\"n\">Difference</th><th class=\"n\">Reference "
                     "frames per "
                     "independent one</th>"
                   : "");
    for (int k = 0; k < s->n_dF; k++) {
        tbg_text_add(t, "<tr><td>%s", tbg_plot_symbol(s->dF[k].name, s->n_dF == 1, symbol));
        if (s->weighted && !s->dF[k].reliable)
            tbg_text_add(t, " <b>(unreliable)</b>");
        tbg_text_add(t, "</td>");
        if (v && k < v->n_dF)
            cell(t, v->dF_proposal[k], NAN);
        cell(t, s->dF[k].dF.value, s->dF[k].dF.error);
        if (v && k < v->n_dF) {
            cell(t, v->dF_reference[k].dF.value, v->dF_reference[k].dF.error);
            cell(t, v->dF_difference[k], hypot(s->dF[k].dF.error, v->dF_reference[k].dF.error));
            cell(t, v->inefficiency[k], NAN);
        }
        tbg_text_add(t, "</tr>");
    }
    tbg_text_add(t, "</table>");
    states_table(t, s);
    tbg_text_add(t, "</section>");
}

static void distance_row(tbg_text *t, const char *name, double proposal, double weighted, double halves) {
    tbg_text_add(t, "<tr><td>%s</td>", name);
    cell(t, proposal, NAN);
    cell(t, weighted, NAN);
    cell(t, halves, NAN);
    tbg_text_add(t, "</tr>");
}

static void distance_table(tbg_text *t, const tbg_evaluation *v) {
    tbg_text_add(t, "<section><h2>Distance to the reference</h2><p>Wasserstein distances by exact optimal "
                    "transport. The last "
                    "column, first against second half of the reference, is the scale to judge the others "
                    "by. Torsions and "
                    "TICA: ");
    count(t, v->n_transport);
    tbg_text_add(t, " samples against as many of ");
    count(t, v->n_reference);
    tbg_text_add(t, " frames.</p><table><tr><th>Quantity</th><th class=\"n\">Model, before weighting</th><th "
                    "class=\"n\">Weighted</th><th class=\"n\">Reference halves</th></tr>");
    distance_row(t, "Energy, W<sub>1</sub> (kT)", v->energy_w1_proposal, v->energy_w1,
                 v->energy_w1_reference);
    distance_row(t, "Energy, W<sub>2</sub> (kT)", v->energy_w2_proposal, v->energy_w2,
                 v->energy_w2_reference);
    distance_row(t, "Torsions &phi;, &psi;, W<sub>2</sub> (rad)", v->torus_w2_proposal, v->torus_w2,
                 v->torus_w2_reference);
    tbg_text name = {0};
    tbg_text_add(&name, "TICA, two components, W<sub>2</sub>%s", isfinite(v->tica_lag) ? " (lag " : "");
    if (isfinite(v->tica_lag)) {
        tbg_text_number(&name, v->tica_lag, 3);
        tbg_text_add(&name, "&thinsp;ps)");
    }
    distance_row(t, name.data ? name.data : "", v->tica_w2_proposal, v->tica_w2, v->tica_w2_reference);
    free(name.data);
    tbg_text_add(t, "</table>");
    if (*v->note) {
        tbg_text_add(t, "<p style=\"margin:12px 0 0\">");
        tbg_text_escape(t, v->note);
        tbg_text_add(t, "</p>");
    }
    tbg_text_add(t, "</section>");
}

static void text_row(tbg_text *t, const char *name, const char *value) {
    if (!*value)
        return;
    tbg_text_add(t, "<tr><td>%s</td><td>", name);
    tbg_text_escape(t, value);
    tbg_text_add(t, "</td></tr>");
}

static void number_row(tbg_text *t, const char *name, double value, int digits, const char *unit) {
    if (!isfinite(value))
        return;
    tbg_text_add(t, "<tr><td>%s</td><td>", name);
    tbg_text_number(t, value, digits);
    tbg_text_add(t, "&thinsp;%s</td></tr>", unit);
}

static void making_table(tbg_text *t, const tbg_plot_data *d) {
    const tbg_ensemble_info *i = &d->ensemble->info;
    const tbg_ensemble_summary *s = d->summary;
    tbg_text_add(
        t,
        "<section><h2>How it was made</h2><p>Latent points of a Gaussian were pushed through a continuous "
        "normalizing flow%s%s. Samples with wrong bonds or stereocentres were dropped.</p><table>",
        i->smoothing > 0
            ? i->branches
                  ? ", which makes positions with noise; the network took most of it off by random "
                    "branches, the force field the rest by annealed importance sampling"
                  : ", which makes positions with a little noise, and the force field took the noise off "
                    "by annealed importance sampling"
            : "",
        s->weighted && i->smoothing > 0 ? "; each sample has the weight Z(y)&thinsp;/&thinsp;q(y), q being "
                                          "the flow&rsquo;s exact density of the "
                                          "noisy positions y and Z the force field&rsquo;s weight of all "
                                          "molecules that they may have come from"
        : s->weighted
            ? "; each sample x has the weight exp(&minus;U(x)/kT)&thinsp;/&thinsp;q(x), q being the "
              "flow&rsquo;s exact density"
            : "");
    text_row(t, "Molecule", i->sequence);
    tbg_text_add(t, "<tr><td>Atoms</td><td>%d</td></tr>", d->ensemble->n_atoms);
    text_row(t, "Model", i->model);
    text_row(t, "Network", i->backend);
    text_row(t, "Force field", i->forcefield);
    text_row(t, "Energies", i->engine);
    if (i->temperature > 0)
        number_row(t, "Temperature", i->temperature, 4, "K");
    tbg_text_add(t, "<tr><td>Random seed</td><td>%llu</td></tr>", (unsigned long long)i->seed);
    if (i->smoothing > 0) {
        number_row(t, i->branches ? "Noise at which the flow ends" : "Noise taken off by the force field",
                   i->smoothing, 2, "nm");
        if (i->branches) {
            tbg_text_add(t, "<tr><td>Branches of each sample</td><td>%d</td></tr>", i->branches);
            number_row(t, "Noise taken off by the force field", i->annealed_from, 2, "nm");
        }
        number_row(t, "Random error of taking it off in a log weight", i->anneal_error, 2, "nats");
    }
    number_row(t, "Field evaluations per sample", i->evaluations, 3, "");
    if (i->forward_backward_n > 0) {
        tbg_text_add(t, "<tr><td>Forth and back through the flow</td><td>");
        tbg_text_number(t, i->forward_backward_position, 2);
        tbg_text_add(t, "&thinsp;nm");
        if (isfinite(i->forward_backward_log_q)) {
            tbg_text_add(t, " and ");
            tbg_text_number(t, i->forward_backward_log_q, 2);
            tbg_text_add(t, " nats");
        }
        tbg_text_add(t, " (rms over %ld samples)</td></tr>", i->forward_backward_n);
    }
    number_row(t, "Time for the flow", i->seconds_flow, 3, "s");
    number_row(t, "Time for the energies", i->seconds_energy, 2, "s");
    if (isfinite(i->seconds_flow) && s->n_effective > 0)
        number_row(t, "Time per effective sample",
                   (i->seconds_flow + (isfinite(i->seconds_energy) ? i->seconds_energy : 0)) / s->n_effective,
                   2, "s");
    tbg_text_add(t, "<tr><td>Program</td><td>tbg " TBG_VERSION "</td></tr></table></section>");
}

/* ---- page ---- */

static int map_section(tbg_text *t, const tbg_plot_data *d) {
    int pairs[PAIRS_MOST][2], n = tbg_ramachandran_pairs(d->n_torsions, d->torsions, pairs, PAIRS_MOST);
    if (!n)
        return TBG_OK;
    tbg_text_add(t,
                 "<section><h2>Ramachandran %s</h2><p>Free energy &minus;ln&thinsp;P over the backbone "
                 "torsions, from the "
                 "lowest bin; bins of 6&deg;, empty ones white.</p>",
                 n > 1 ? "plots" : "plot");
    for (int k = 0; k < n; k++) {
        tbg_text_add(t, "<figure>");
        TBG_TRY(tbg_plot_ramachandran(t, d, pairs[k][0], pairs[k][1]));
        tbg_text_add(t, "</figure>");
    }
    tbg_text_add(t, "</section>");
    return TBG_OK;
}

/* Below the free energy of a torsion that cannot be trusted. */
static void remark(tbg_text *t, const tbg_ensemble_summary *s, const char *torsion) {
    char text[160];
    for (int k = 0; k < s->n_dF; k++) {
        tbg_dF_remark(&s->dF[k], text, sizeof text);
        if (!*text || strcmp(s->dF[k].name, torsion))
            continue;
        tbg_text_add(t, "<figcaption><b>Not to be trusted:</b> ");
        tbg_text_escape(t, text);
        tbg_text_add(t, ".</figcaption>");
    }
}

static int curve_section(tbg_text *t, const tbg_plot_data *d) {
    int shown = 0;
    for (int k = 0; k < d->n_torsions && shown < CURVES_MOST; k++) {
        if (!strncmp(d->torsions[k].name, "omega", 5))
            continue;
        if (!shown++) {
            tbg_text_add(
                t, "<section><h2>Free energy along the torsions</h2><p>Bands are one standard error%s.</p>",
                d->reference ? " (ensemble: bootstrap; reference: ten blocks)" : " by bootstrap");
            legend(t, d, 1);
            tbg_text_add(t, "<div class=\"row\">");
        }
        tbg_text_add(t, "<figure>");
        TBG_TRY(tbg_plot_free_energy(t, d, k));
        remark(t, d->summary, d->torsions[k].name);
        tbg_text_add(t, "</figure>");
    }
    if (shown)
        tbg_text_add(t, "</div></section>");
    return TBG_OK;
}

static int weight_sections(tbg_text *t, const tbg_plot_data *d) {
    double beyond;
    if (!d->summary->weighted)
        return TBG_OK;
    tbg_text_add(t, "<section><h2>Energies and weights</h2>");
    legend(t, d, 0);
    tbg_text_add(t, "<div class=\"row\"><figure>");
    TBG_TRY(tbg_plot_energies(t, d, &beyond));
    tbg_text_add(t, "<figcaption>Potential energy.");
    if (beyond > 0.0005) {
        tbg_text_add(t, " ");
        tbg_text_number(t, 100 * beyond, 2);
        tbg_text_add(t, "&thinsp;%% of the model&rsquo;s samples lie beyond the right edge.");
    }
    tbg_text_add(t, "</figcaption></figure><figure>");
    TBG_TRY(tbg_plot_log_weights(t, d));
    tbg_text_add(t, "<figcaption>Importance weights. The better the model, the narrower; where both curves "
                    "overlap little, few "
                    "samples carry the average.</figcaption></figure><figure>");
    TBG_TRY(tbg_plot_sorted_weights(t, d));
    tbg_text_add(t, "<figcaption>Weights from the largest to the smallest.</figcaption></figure><figure>");
    TBG_TRY(tbg_plot_running_ess(t, d));
    tbg_text_add(t, "<figcaption>Effective sample size as the ensemble grows. It should settle; a step down "
                    "is one sample of "
                    "large weight.</figcaption></figure></div></section>");
    return TBG_OK;
}

static int page(tbg_text *t, const tbg_plot_data *d, const tbg_evaluation *evaluation) {
    const tbg_ensemble_info *i = &d->ensemble->info;
    tbg_text_add(
        t,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><meta name=\"generator\" content=\"tbg " TBG_VERSION
        "\"><title>");
    tbg_text_escape(t, *i->sequence ? i->sequence : "Ensemble");
    tbg_text_add(t, " &ndash; weighted ensemble</title><style>%s</style></head><body><main><h1>", style);
    tbg_text_escape(t, *i->sequence ? i->sequence : "Ensemble");
    tbg_text_add(t, "</h1><p class=\"sub\">%s equilibrium ensemble",
                 d->summary->weighted ? "Weighted" : "Unweighted");
    if (*i->forcefield) {
        tbg_text_add(t, " &middot; ");
        tbg_text_escape(t, i->forcefield);
    }
    if (i->temperature > 0) {
        tbg_text_add(t, " &middot; ");
        tbg_text_number(t, i->temperature, 4);
        tbg_text_add(t, "&thinsp;K");
    }
    tbg_text_add(t, " &middot; ");
    count(t, d->summary->n_generated);
    tbg_text_add(t, " samples</p>");
    verdict(t, d->ensemble, d->summary);
    warnings(t, i->warnings);
    tiles(t, d->summary);
    if (d->selection->n) {
        TBG_TRY(map_section(t, d));
        TBG_TRY(curve_section(t, d));
        TBG_TRY(weight_sections(t, d));
        dF_table(t, d->summary, evaluation);
        if (evaluation)
            distance_table(t, evaluation);
    }
    figures_table(t, d->summary);
    making_table(t, d);
    char day[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        strftime(day, sizeof day, "%Y-%m-%d", &utc);
    tbg_text_add(t,
                 "<footer>Written by tbg " TBG_VERSION
                 " on %s. Data: ensemble.nc, topology.pdb, summary.json in the same "
                 "folder.</footer></main></body></html>\n",
                 day);
    return t->failed ? TBG_FAILED : TBG_OK;
}

int tbg_report_write(const tbg_ensemble *e, const tbg_ensemble_summary *summary,
                     const tbg_reference *reference, const tbg_evaluation *evaluation, const char *path) {
    tbg_selection selection;
    tbg_torsion *torsions = NULL;
    int n_torsions = 0;
    if (reference && reference->n_atoms != e->n_atoms)
        return tbg_fail(TBG_INPUT, "reference of %d atoms, ensemble of %d", reference->n_atoms, e->n_atoms);
    TBG_TRY(tbg_ensemble_select(e, &selection));
    int status = tbg_backbone_torsions(e->molecule, &n_torsions, &torsions);
    tbg_text t = {0};
    if (status == TBG_OK) {
        tbg_plot_data d = {e, summary, &selection, reference, n_torsions, torsions};
        status = page(&t, &d, evaluation);
    }
    if (status == TBG_OK)
        status = tbg_file_write(path, t.data, t.n);
    free(t.data);
    free(torsions);
    tbg_selection_free(&selection);
    return status;
}
