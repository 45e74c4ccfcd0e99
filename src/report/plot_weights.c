/* plot_weights.c: energies before and after weighting, and what the weights look like. */
#include "report/plots.h"
#include "base/memory.h"
#include "report/axes.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>

enum { BINS = 60 };

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(long n, const double *sorted, double q) {
    return n ? sorted[(long)(q * (double)(n - 1))] : NAN;
}

/* Density histogram of n values between edges[0] and edges[BINS]. weight: NULL for equal ones. */
static void histogram(long n, const double *x, const double *weight, const double *edges, double *h) {
    double width = (edges[BINS] - edges[0]) / BINS;
    for (int b = 0; b < BINS; b++)
        h[b] = 0;
    for (long i = 0; i < n; i++) {
        double at = floor((x[i] - edges[0]) / width);
        if (at >= 0 && at < BINS)
            h[(int)at] += (weight ? weight[i] : 1 / (double)n) / width;
    }
}

/* The value below which a part q of the weight lies. order: values sorted with their weights, pairs. */
static double weighted_quantile(long n, double (*order)[2], double q) {
    double sum = 0;
    for (long i = 0; i < n; i++)
        if ((sum += order[i][1]) >= q)
            return order[i][0];
    return order[n - 1][0];
}

static void start(tbg_text *t, const char *title, const char *id) {
    tbg_text_add(t,
                 "<svg viewBox=\"0 0 480 312\" width=\"480\" role=\"img\"><title>%s</title>"
                 "<clipPath id=\"%s\"><rect x=\"58\" y=\"12\" width=\"400\" height=\"250\"/></clipPath>",
                 title, id);
}

static const tbg_axes area = {.left = 58, .top = 12, .width = 400, .height = 250};

/* Edges of the bins from low to high and a margin beyond. */
static void spread_edges(double low, double high, double margin, double *edges) {
    double pad = 0.04 * (high - low) + margin;
    for (int b = 0; b <= BINS; b++)
        edges[b] = low - pad + (high - low + 2 * pad) * b / BINS;
}

/* Histograms of the model's samples as drawn, of the weighted ones and, with n = 3, of the reference, over
 * the bins. */
static void draw_histograms(tbg_text *t, const char *title, const char *id, const char *label,
                            const double *edges, int n, double (*h)[BINS]) {
    static const char *const styles[3] = {
        "fill=\"" TBG_COLOUR_MODEL "\" fill-opacity=\"0.18\" stroke=\"" TBG_COLOUR_MODEL
        "\" stroke-width=\"1.3\"",
        "fill=\"" TBG_COLOUR_WEIGHTED "\" fill-opacity=\"0.18\" stroke=\"" TBG_COLOUR_WEIGHTED
        "\" stroke-width=\"1.6\"",
        "fill=\"none\" stroke=\"" TBG_COLOUR_REFERENCE "\" stroke-width=\"1.6\""};
    double top = 0;
    for (int k = 0; k < n; k++)
        for (int b = 0; b < BINS; b++)
            top = fmax(top, h[k][b]);
    tbg_axes a = area;
    a.x_min = edges[0];
    a.x_max = edges[BINS];
    a.y_max = top > 0 ? 1.06 * top : 1;
    start(t, title, id);
    tbg_axes_grid(t, &a);
    tbg_text_add(t, "<g clip-path=\"url(#%s)\">", id);
    for (int k = 0; k < n; k++)
        tbg_axes_steps(t, &a, BINS, edges, h[k], styles[k]);
    tbg_text_add(t, "</g>");
    tbg_axes_frame(t, &a, label, "probability density");
    tbg_text_add(t, "</svg>");
}

int tbg_plot_energies(tbg_text *t, const tbg_plot_data *d, double *beyond) {
    const tbg_selection *s = d->selection;
    long n_reference = d->reference && d->reference->reduced_energy ? d->reference->n_energy : 0, kept = 0;
    double *u = TBG_NEW(double, s->n), *sorted = TBG_NEW(double, s->n), *r = TBG_NEW(double, n_reference);
    double(*order)[2] = tbg_alloc((size_t)s->n, sizeof *order);
    *beyond = 0;
    if (!u || !sorted || !r || !order || !s->n) {
        free(u);
        free(sorted);
        free(r);
        free(order);
        return s->n ? TBG_FAILED : TBG_OK;
    }
    for (long k = 0; k < s->n; k++) {
        u[k] = sorted[k] = order[k][0] = d->ensemble->reduced_energy[s->index[k]];
        order[k][1] = s->weight[k];
    }
    for (long k = 0; k < n_reference; k++)
        if (isfinite(d->reference->reduced_energy[k]))
            r[kept++] = d->reference->reduced_energy[k];
    qsort(sorted, (size_t)s->n, sizeof *sorted, compare_doubles);
    qsort(order, (size_t)s->n, sizeof *order, compare_doubles);
    qsort(r, (size_t)kept, sizeof *r, compare_doubles);
    /* The window holds what matters after weighting and, of the model's own tail, up to three such widths
     * more. */
    double low = fmin(quantile(s->n, sorted, 0.001), weighted_quantile(s->n, order, 0.001));
    double high = weighted_quantile(s->n, order, 0.999), median = weighted_quantile(s->n, order, 0.5);
    if (kept) {
        low = fmin(low, quantile(kept, r, 0.001));
        high = fmax(high, quantile(kept, r, 0.999));
        median = quantile(kept, r, 0.5);
    }
    double span = fmax(1, high - median);
    high = fmax(high, fmin(quantile(s->n, sorted, 0.98), high + 3 * span));
    low = fmax(low, median - 4 * span);
    double edges[BINS + 1], h[3][BINS];
    spread_edges(low, high, 0.5, edges);
    histogram(s->n, u, NULL, edges, h[0]);
    histogram(s->n, u, s->weight, edges, h[1]);
    histogram(kept, r, NULL, edges, h[2]);
    for (long k = 0; k < s->n; k++)
        *beyond += (u[k] > edges[BINS]) / (double)s->n;
    draw_histograms(t, "Energies", "clip-energy", "reduced energy U/kT", edges, kept ? 3 : 2, h);
    free(u);
    free(sorted);
    free(r);
    free(order);
    return TBG_OK;
}

int tbg_plot_log_weights(tbg_text *t, const tbg_plot_data *d) {
    const tbg_selection *s = d->selection;
    double *x = TBG_NEW(double, 2 * s->n), *sorted = x + s->n;
    if (!x)
        return TBG_FAILED;
    for (long k = 0; k < s->n; k++) /* relative to the mean weight, in powers of e */
        x[k] = sorted[k] = log(s->weight[k] * (double)s->n);
    qsort(sorted, (size_t)s->n, sizeof *sorted, compare_doubles);
    double high = quantile(s->n, sorted, 1), low = fmax(quantile(s->n, sorted, 0.002), high - 60);
    double edges[BINS + 1], h[2][BINS];
    spread_edges(low, high, 0.25, edges);
    histogram(s->n, x, NULL, edges, h[0]);
    histogram(s->n, x, s->weight, edges, h[1]);
    draw_histograms(t, "Logarithm of the weights", "clip-log-weight", "ln(w / mean w)", edges, 2, h);
    free(x);
    return TBG_OK;
}

int tbg_plot_sorted_weights(tbg_text *t, const tbg_plot_data *d) {
    enum { POINTS = 400 };
    const tbg_selection *s = d->selection;
    double *w = TBG_NEW(double, s->n), x[POINTS], y[POINTS];
    if (!w)
        return TBG_FAILED;
    for (long k = 0; k < s->n; k++)
        w[k] = s->weight[k];
    qsort(w, (size_t)s->n, sizeof *w, compare_doubles);
    tbg_axes a = area;
    double n = (double)s->n;
    a.x_log = a.y_log = 1;
    a.x_max = fmax(1, log10(n));
    a.y_max = fmin(0, ceil(log10(w[s->n - 1]) + 0.05));
    double small = w[(s->n - 1) / 50]; /* the smallest two in a hundred may leave the plot */
    a.y_min = fmin(floor(log10(1 / n)), fmax(small > 0 ? floor(log10(small)) : -INFINITY, a.y_max - 9));
    int points = 0;
    long last = -1;
    for (int i = 0; i < POINTS; i++) { /* ranks evenly on the logarithmic axis */
        long rank = lround(pow(10, a.x_max * i / (POINTS - 1))) - 1;
        if (rank == last || rank >= s->n)
            continue;
        last = rank;
        x[points] = log10((double)rank + 1);
        y[points++] = w[s->n - 1 - rank] > 0 ? log10(w[s->n - 1 - rank]) : NAN;
    }
    start(t, "Sorted weights", "clip-sorted");
    tbg_axes_grid(t, &a);
    double clip = (double)(s->n - 1 - (s->n - 1) * 998 / 1000);
    tbg_text_add(t, "<g clip-path=\"url(#clip-sorted)\">");
    tbg_axes_line(t, &a, 2, (double[]){0, a.x_max}, (double[]){-log10(n), -log10(n)},
                  "stroke=\"#6b7280\" stroke-width=\"1.2\" stroke-dasharray=\"2 3\"");
    if (clip >= 1) {
        double at = tbg_axes_x(&a, log10(clip + 0.5));
        tbg_text_add(
            t,
            "<path d=\"M%.1f 12V262\" stroke=\"#b91c1c\" stroke-width=\"1.2\" stroke-dasharray=\"5 4\"/>"
            "<text x=\"%.1f\" y=\"28\" font-size=\"12\" fill=\"#b91c1c\" text-anchor=\"%s\">largest 0.2 "
            "%%</text>",
            at, at > 200 ? at - 6 : at + 6, at > 200 ? "end" : "start");
    }
    tbg_text_add(t, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"12\" fill=\"#4b5563\">equal weights</text>",
                 66.0, tbg_axes_y(&a, -log10(n)) - 6);
    tbg_axes_line(t, &a, points, x, y,
                  "stroke=\"" TBG_COLOUR_WEIGHTED "\" stroke-width=\"2\" stroke-linejoin=\"round\"");
    tbg_text_add(t, "</g>");
    tbg_axes_frame(t, &a, "rank of the sample", "share of the total weight");
    tbg_text_add(t, "</svg>");
    free(w);
    return TBG_OK;
}

int tbg_plot_running_ess(tbg_text *t, const tbg_plot_data *d) {
    enum { POINTS = 500 };
    const tbg_selection *s = d->selection;
    double x[POINTS], y[POINTS], sum = 0, square = 0, top = 0;
    int points = 0;
    for (long k = 0; k < s->n; k++) {
        double w = s->weight[k] * (double)s->n;
        sum += w;
        square += w * w;
        if ((double)(k + 1) < (double)s->n * (points + 1) / POINTS)
            continue;
        x[points] = (double)k + 1;
        y[points] = square > 0 ? 100 * sum * sum / square / (double)(k + 1) : NAN;
        if ((double)k > 0.05 * (double)s->n && isfinite(y[points]))
            top = fmax(top, y[points]);
        if (++points == POINTS)
            break;
    }
    tbg_axes a = area;
    a.x_max = (double)s->n;
    a.y_max = fmin(105, fmax(1e-3, 1.35 * top));
    start(t, "Effective sample size with growing ensemble", "clip-running");
    tbg_axes_grid(t, &a);
    tbg_text_add(t, "<g clip-path=\"url(#clip-running)\">");
    tbg_axes_line(t, &a, points, x, y,
                  "stroke=\"" TBG_COLOUR_WEIGHTED "\" stroke-width=\"1.8\" stroke-linejoin=\"round\"");
    tbg_text_add(t, "</g>");
    tbg_axes_frame(t, &a, "valid samples", "ESS per valid sample (%)");
    tbg_text_add(t, "</svg>");
    return TBG_OK;
}
