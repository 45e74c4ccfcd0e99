/* plot_angles.c: Ramachandran maps and free energies along torsions. Free energies are -ln of densities
 * normalised over the whole circle, shifted by one constant per figure, so that curves may be compared and
 * not only their shapes. */
#include "report/plots.h"
#include "base/memory.h"
#include "report/axes.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAP = 60, BINS = 60, LEVELS = 14, BLOCKS = 10, REPLICAS = 100 };
#define LEVEL_STEP 0.5 /* kT */

const char *tbg_plot_symbol(const char *name, int alone, char *out) {
    static const struct {
        const char *name, *symbol;
    } letters[] = {{"phi", "\xcf\x86"}, {"psi", "\xcf\x88"}, {"omega", "\xcf\x89"}};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(letters[i].name);
        if (strncmp(name, letters[i].name, n))
            continue;
        int at = snprintf(out, 32, "%s", letters[i].symbol);
        /* Digits below the line, U+2080 ... */
        for (const char *c = name + n; !alone && *c >= '0' && *c <= '9' && at < 28; c++)
            at += snprintf(out + at, (size_t)(32 - at), "\xe2\x82%c", 0x80 + (*c - '0'));
        return out;
    }
    snprintf(out, 32, "%.15s", name);
    return out;
}

/* Only one torsion of this kind: its number would say nothing. */
static int is_alone(const tbg_plot_data *d, int torsion) {
    int same = 0;
    for (int t = 0; t < d->n_torsions; t++)
        same += !strncmp(d->torsions[t].name, d->torsions[torsion].name, 3);
    return same == 1;
}

static int bin_of(double angle, int n) {
    int bin = (int)floor((angle + M_PI) / (2 * M_PI) * n);
    return bin < 0 ? 0 : bin >= n ? n - 1 : bin;
}

static double sample_angle(const tbg_plot_data *d, long i, int torsion) {
    return tbg_dihedral(d->ensemble->positions + (size_t)i * (size_t)d->ensemble->n_atoms * 3,
                        d->torsions[torsion].atoms);
}

static double reference_angle(const tbg_plot_data *d, long i, int torsion) {
    double x[12];
    int four[4] = {0, 1, 2, 3};
    const float *frame = d->reference->positions + (size_t)i * (size_t)d->reference->n_atoms * 3;
    for (int k = 0; k < 4; k++)
        for (int c = 0; c < 3; c++)
            x[3 * k + c] = frame[3 * d->torsions[torsion].atoms[k] + c];
    return tbg_dihedral(x, four);
}

/* ---- Ramachandran ---- */

static const char *map_colour(int level, int n_levels, char *buffer) {
    /* Dark where it is populated: deep blue, teal, pale yellow. */
    static const unsigned char stops[][3] = {{8, 29, 88},     {34, 94, 168},   {29, 145, 192}, {65, 182, 196},
                                             {127, 205, 187}, {199, 233, 180}, {245, 251, 200}};
    double at = (double)level / (n_levels - 1) * 6;
    int i = at >= 6 ? 5 : (int)at;
    double f = at - i;
    int rgb[3];
    for (int c = 0; c < 3; c++)
        rgb[c] = (int)lround(stops[i][c] * (1 - f) + stops[i + 1][c] * f);
    snprintf(buffer, 32, "#%02x%02x%02x", rgb[0] & 255, rgb[1] & 255, rgb[2] & 255);
    return buffer;
}

static void draw_map(tbg_text *t, const double *h, double left, const char *title, const char *x_label,
                     const char *y_label) {
    tbg_axes a = {.left = left,
                  .top = 34,
                  .width = 256,
                  .height = 256,
                  .x_min = -180,
                  .x_max = 180,
                  .y_min = -180,
                  .y_max = 180,
                  .degrees = 2,
                  .no_y_labels = !y_label};
    static signed char level[MAP * MAP]; /* written and read in one call; floor 10 is not for threads */
    double top = 0;
    for (int i = 0; i < MAP * MAP; i++)
        top = fmax(top, h[i]);
    for (int i = 0; i < MAP * MAP; i++) {
        double l = h[i] > 0 ? floor(-log(h[i] / top) / LEVEL_STEP) : -1;
        level[i] = (signed char)(l < 0 ? -1 : l >= LEVELS ? LEVELS - 1 : l);
    }
    tbg_axes_map(t, &a, MAP, level, LEVELS, map_colour);
    tbg_text_add(t, "<g opacity=\"0.45\">");
    tbg_axes_grid(t, &a);
    tbg_text_add(t, "</g>");
    tbg_axes_frame(t, &a, x_label, y_label);
    tbg_text_add(t,
                 "<text x=\"%.1f\" y=\"20\" font-size=\"14\" font-weight=\"600\" fill=\"#111827\" "
                 "text-anchor=\"middle\">%s</text>",
                 left + a.width / 2, title);
}

int tbg_plot_ramachandran(tbg_text *t, const tbg_plot_data *d, int phi, int psi) {
    double *h = TBG_NEW(double, 3 * MAP * MAP);
    if (!h)
        return TBG_FAILED;
    const tbg_selection *s = d->selection;
    for (long k = 0; k < s->n; k++) {
        int at = bin_of(sample_angle(d, s->index[k], psi), MAP) * MAP +
                 bin_of(sample_angle(d, s->index[k], phi), MAP);
        h[at] += 1.0 / (double)s->n;
        h[MAP * MAP + at] += s->weight[k];
    }
    for (long k = 0; d->reference && k < d->reference->n; k++)
        h[2 * MAP * MAP + bin_of(reference_angle(d, k, psi), MAP) * MAP +
          bin_of(reference_angle(d, k, phi), MAP)] += 1.0 / (double)d->reference->n;
    static const char *const titles[] = {"Model, before weighting", "Weighted", "Reference"};
    char x_label[64], y_label[64], symbol[32];
    int alone = is_alone(d, phi) && is_alone(d, psi);
    snprintf(x_label, sizeof x_label, "%s (\xc2\xb0)", tbg_plot_symbol(d->torsions[phi].name, alone, symbol));
    snprintf(y_label, sizeof y_label, "%s (\xc2\xb0)", tbg_plot_symbol(d->torsions[psi].name, alone, symbol));
    int shown[3] = {1, d->summary->weighted, d->reference != NULL}, panels = 0;
    int total = shown[0] + shown[1] + shown[2];
    double width = 62 + total * 300 + 48;
    tbg_text_add(
        t, "<svg viewBox=\"0 0 %.0f 340\" width=\"%.0f\" role=\"img\"><title>Ramachandran plots</title>",
        width, width);
    for (int p = 0; p < 3; p++)
        if (shown[p]) {
            draw_map(t, h + p * MAP * MAP, 62 + panels * 300, titles[p], x_label, panels ? NULL : y_label);
            panels++;
        }
    /* Colour bar. */
    double left = 62 + total * 300 - 20, each = 256.0 / LEVELS;
    char buffer[32];
    for (int l = 0; l < LEVELS; l++)
        tbg_text_add(t,
                     "<rect x=\"%.1f\" y=\"%.2f\" width=\"12\" height=\"%.2f\" fill=\"%s\" "
                     "shape-rendering=\"crispEdges\"/>",
                     left, 34 + 256 - (l + 1) * each, each, map_colour(l, LEVELS, buffer));
    tbg_text_add(t,
                 "<rect x=\"%.1f\" y=\"34\" width=\"12\" height=\"256\" fill=\"none\" stroke=\"#9ca3af\"/>"
                 "<g font-size=\"12\" fill=\"#374151\">",
                 left);
    for (int v = 0; v <= (int)(LEVELS * LEVEL_STEP); v++)
        tbg_text_add(t, "<text x=\"%.1f\" y=\"%.1f\">%s%d</text>", left + 17,
                     34 + 256 - v / LEVEL_STEP * each + 4,
                     v == (int)(LEVELS * LEVEL_STEP) ? "\xe2\x89\xa5" : "", v);
    tbg_text_add(
        t,
        "</g><text transform=\"translate(%.1f 162) rotate(-90)\" text-anchor=\"middle\" font-size=\"13\" "
        "fill=\"#111827\">free energy (kT)</text></svg>",
        left + 50);
    free(h);
    return TBG_OK;
}

/* ---- free energy along one torsion ---- */

typedef struct {
    double value[BINS + 2], low[BINS + 2], high[BINS + 2]; /* with the neighbours across +-180 */
} curve;

/* -ln of the density per circle and its error; none where p is 0. */
static void set_point(curve *c, int bin, double p, double p_error) {
    double f = p > 0 ? -log(p * BINS) : NAN, error = p_error / p;
    c->value[bin + 1] = f;
    c->low[bin + 1] = f - error;
    c->high[bin + 1] = f + error;
}

static void close_circle(curve *c) {
    double *columns[] = {c->value, c->low, c->high};
    for (int k = 0; k < 3; k++) { /* halfway to the neighbour, where the axis ends */
        double edge = (columns[k][1] + columns[k][BINS]) / 2;
        columns[k][0] = columns[k][BINS + 1] = edge;
    }
}

static int ensemble_curves(const tbg_plot_data *d, int torsion, curve *model, curve *weighted) {
    const tbg_selection *s = d->selection;
    short *bins = TBG_NEW(short, s->n);
    double *replica = TBG_NEW(double, REPLICAS *BINS), h[BINS], plain[BINS] = {0};
    int status = bins && replica ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        for (long k = 0; k < s->n; k++) {
            bins[k] = (short)bin_of(sample_angle(d, s->index[k], torsion), BINS);
            plain[bins[k]] += 1.0 / (double)s->n;
        }
        status = tbg_bootstrap_histograms(s->n, s->weight, 1, bins, BINS, REPLICAS, d->ensemble->info.seed, h,
                                          replica, NULL);
    }
    for (int b = 0; b < BINS && status == TBG_OK; b++) {
        double square = 0;
        for (int r = 0; r < REPLICAS; r++)
            square += pow(replica[r * BINS + b] - h[b], 2) / REPLICAS;
        set_point(weighted, b, h[b], sqrt(square));
        set_point(model, b, plain[b], sqrt(plain[b] * (1 - plain[b]) / (double)s->n));
    }
    free(bins);
    free(replica);
    return status;
}

/* Errors from ten blocks in time, since frames are correlated. */
static void reference_curve(const tbg_plot_data *d, int torsion, curve *out) {
    long n = d->reference->n, n_blocks = n < BLOCKS ? 1 : BLOCKS;
    double h[BINS] = {0}, block[BLOCKS][BINS];
    memset(block, 0, sizeof block);
    for (long i = 0; i < n; i++) {
        int bin = bin_of(reference_angle(d, i, torsion), BINS);
        long b = i * n_blocks / n;
        h[bin] += 1.0 / (double)n;
        block[b][bin] += (double)n_blocks / (double)n;
    }
    for (int bin = 0; bin < BINS; bin++) {
        double square = 0;
        for (int b = 0; b < n_blocks; b++)
            square += pow(block[b][bin] - h[bin], 2);
        set_point(out, bin, h[bin], n_blocks > 1 ? sqrt(square / (double)((n_blocks - 1) * n_blocks)) : 0);
    }
}

static void shift(curve *c, double by) {
    for (int i = 0; i < BINS + 2; i++) {
        c->value[i] -= by;
        c->low[i] -= by;
        c->high[i] -= by;
    }
}

int tbg_plot_free_energy(tbg_text *t, const tbg_plot_data *d, int torsion) {
    curve *c = TBG_NEW(curve, 3); /* model, weighted, reference */
    if (!c)
        return TBG_FAILED;
    int status = ensemble_curves(d, torsion, &c[0], &c[1]);
    if (status != TBG_OK) {
        free(c);
        return status;
    }
    int shown[3] = {1, d->summary->weighted, d->reference != NULL};
    if (d->reference)
        reference_curve(d, torsion, &c[2]);
    double least = INFINITY, most = 0, lowest = 0, x[BINS + 2];
    const curve *best = &c[shown[2] ? 2 : shown[1]];
    for (int i = 1; i <= BINS; i++)
        least = fmin(least, isfinite(best->value[i]) ? best->value[i] : INFINITY);
    x[0] = -180;
    x[BINS + 1] = 180;
    for (int i = 0; i < BINS; i++)
        x[i + 1] = -180 + (i + 0.5) * 360 / BINS;
    for (int k = 0; k < 3; k++)
        if (shown[k]) {
            shift(&c[k], least);
            close_circle(&c[k]);
            for (int i = 0; i < BINS + 2; i++)
                if (isfinite(c[k].value[i])) {
                    most = fmax(most, c[k].value[i]);
                    lowest = fmin(lowest, c[k].value[i]);
                }
        }
    tbg_axes a = {.left = 58,
                  .top = 12,
                  .width = 400,
                  .height = 250,
                  .x_min = -180,
                  .x_max = 180,
                  .y_min = fmax(-3, lowest) - 0.5,
                  .y_max = fmin(12, fmax(4, ceil(most + 0.5))),
                  .degrees = 1};
    char id[48], label[64], symbol[32];
    snprintf(id, sizeof id, "clip-%.15s", d->torsions[torsion].name);
    snprintf(label, sizeof label, "%s (\xc2\xb0)",
             tbg_plot_symbol(d->torsions[torsion].name, is_alone(d, torsion), symbol));
    tbg_text_add(t,
                 "<svg viewBox=\"0 0 480 312\" width=\"480\" role=\"img\"><title>Free energy along %s</title>"
                 "<clipPath id=\"%s\"><rect x=\"58\" y=\"12\" width=\"400\" height=\"250\"/></clipPath>",
                 symbol, id);
    tbg_axes_grid(t, &a);
    tbg_text_add(t, "<g clip-path=\"url(#%s)\" stroke-linejoin=\"round\" stroke-linecap=\"round\">", id);
    if (shown[2])
        tbg_axes_band(t, &a, BINS + 2, x, c[2].low, c[2].high,
                      "fill=\"" TBG_COLOUR_REFERENCE "\" fill-opacity=\"0.12\"");
    if (shown[1])
        tbg_axes_band(t, &a, BINS + 2, x, c[1].low, c[1].high,
                      "fill=\"" TBG_COLOUR_WEIGHTED "\" fill-opacity=\"0.20\"");
    tbg_axes_line(t, &a, BINS + 2, x, c[0].value,
                  "stroke=\"" TBG_COLOUR_MODEL "\" stroke-width=\"1.6\" stroke-dasharray=\"5 4\"");
    if (shown[2])
        tbg_axes_line(t, &a, BINS + 2, x, c[2].value,
                      "stroke=\"" TBG_COLOUR_REFERENCE "\" stroke-width=\"1.6\"");
    if (shown[1])
        tbg_axes_line(t, &a, BINS + 2, x, c[1].value,
                      "stroke=\"" TBG_COLOUR_WEIGHTED "\" stroke-width=\"2\"");
    tbg_text_add(t, "</g>");
    tbg_axes_frame(t, &a, label, "free energy (kT)");
    tbg_text_add(t, "</svg>");
    free(c);
    return TBG_OK;
}
