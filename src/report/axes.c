/* axes.c: scales, ticks and curves in SVG. Text takes the page's font; sizes are in px. */
#include "report/axes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define INK "#374151"
#define FAINT "#e5e7eb"

double tbg_axes_x(const tbg_axes *a, double x) {
    return a->left + (x - a->x_min) / (a->x_max - a->x_min) * a->width;
}

double tbg_axes_y(const tbg_axes *a, double y) {
    double part = (y - a->y_min) / (a->y_max - a->y_min);
    return a->top + (1 - fmax(-0.05, fmin(1.05, part))) * a->height;
}

double tbg_nice_step(double span, int most) {
    double step = pow(10, floor(log10(span / most)));
    static const double factors[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (span / (step * factors[i]) <= most)
            return step * factors[i];
    return 20 * step;
}

/* Ticks of one axis: first value and step. */
static void ticks(double low, double high, int logarithmic, int degrees, int most, double *first,
                  double *step) {
    if (degrees)
        *step = 90;
    else if (logarithmic)
        *step = fmax(1, ceil((high - low) / most));
    else
        *step = tbg_nice_step(high - low, most);
    *first = ceil(low / *step - 1e-9) * *step;
}

static void label(double value, double step, int logarithmic, char *text, size_t size) {
    static const char *const raised[] = {"\xe2\x81\xb0", "\xc2\xb9",     "\xc2\xb2",     "\xc2\xb3",
                                         "\xe2\x81\xb4", "\xe2\x81\xb5", "\xe2\x81\xb6", "\xe2\x81\xb7",
                                         "\xe2\x81\xb8", "\xe2\x81\xb9"};
    if (logarithmic) {
        int power = (int)lround(value), size_of = power < 0 ? -power : power;
        if (power == 0 || power == 1)
            snprintf(text, size, "%d", power ? 10 : 1);
        else if (size_of < 10)
            snprintf(text, size, "10%s%s", power < 0 ? "\xe2\x81\xbb" : "", raised[size_of]);
        else
            snprintf(text, size, "10%s%s%s", power < 0 ? "\xe2\x81\xbb" : "", raised[size_of / 10 % 10],
                     raised[size_of % 10]);
        return;
    }
    int decimals = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
    if (fabs(value) < step * 1e-6)
        value = 0;
    snprintf(text, size, "%s%.*f", value < 0 ? "\xe2\x88\x92" : "", decimals, fabs(value));
}

static int most_ticks(double pixels, double each) {
    int most = (int)(pixels / each);
    return most < 2 ? 2 : most;
}

void tbg_axes_grid(tbg_text *t, const tbg_axes *a) {
    double first, step;
    tbg_text_add(t, "<g stroke=\"" FAINT "\" stroke-width=\"1\">");
    ticks(a->x_min, a->x_max, a->x_log, a->degrees, most_ticks(a->width, 62), &first, &step);
    for (double v = first; v <= a->x_max + step * 1e-6; v += step)
        tbg_text_add(t, "<path d=\"M%.1f %.1fv%.1f\"/>", tbg_axes_x(a, v), a->top, a->height);
    ticks(a->y_min, a->y_max, a->y_log, a->degrees == 2, most_ticks(a->height, 38), &first, &step);
    for (double v = first; v <= a->y_max + step * 1e-6; v += step)
        tbg_text_add(t, "<path d=\"M%.1f %.1fh%.1f\"/>", a->left, tbg_axes_y(a, v), a->width);
    tbg_text_add(t, "</g>");
}

void tbg_axes_frame(tbg_text *t, const tbg_axes *a, const char *x_label, const char *y_label) {
    double first, step, bottom = a->top + a->height;
    char text[64];
    tbg_text_add(
        t,
        "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#9ca3af\"/>"
        "<g fill=\"" INK "\" font-size=\"12\" stroke=\"none\">",
        a->left, a->top, a->width, a->height);
    ticks(a->x_min, a->x_max, a->x_log, a->degrees, most_ticks(a->width, 62), &first, &step);
    for (double v = first; v <= a->x_max + step * 1e-6; v += step) {
        label(v, step, a->x_log, text, sizeof text);
        tbg_text_add(t,
                     "<path d=\"M%.1f %.1fv5\" stroke=\"#9ca3af\"/><text x=\"%.1f\" y=\"%.1f\" "
                     "text-anchor=\"middle\">%s</text>",
                     tbg_axes_x(a, v), bottom, tbg_axes_x(a, v), bottom + 18, text);
    }
    ticks(a->y_min, a->y_max, a->y_log, a->degrees == 2, most_ticks(a->height, 38), &first, &step);
    for (double v = first; v <= a->y_max + step * 1e-6; v += step) {
        label(v, step, a->y_log, text, sizeof text);
        tbg_text_add(t, "<path d=\"M%.1f %.1fh-5\" stroke=\"#9ca3af\"/>", a->left, tbg_axes_y(a, v));
        if (!a->no_y_labels)
            tbg_text_add(t, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>", a->left - 8,
                         tbg_axes_y(a, v) + 4, text);
    }
    tbg_text_add(t, "</g><g fill=\"#111827\" font-size=\"13\">");
    if (x_label)
        tbg_text_add(t, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
                     a->left + a->width / 2, bottom + 38, x_label);
    if (y_label)
        tbg_text_add(t,
                     "<text transform=\"translate(%.1f %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>",
                     a->left - 44, a->top + a->height / 2, y_label);
    tbg_text_add(t, "</g>");
}

void tbg_axes_line(tbg_text *t, const tbg_axes *a, int n, const double *x, const double *y,
                   const char *style) {
    tbg_text_add(t, "<path fill=\"none\" %s d=\"", style);
    for (int i = 0, open = 0; i < n; i++) {
        if (!isfinite(y[i])) {
            open = 0;
            continue;
        }
        /* A point alone between gaps still shows, as a dot of the line's width. */
        int alone = !open && (i + 1 == n || !isfinite(y[i + 1]));
        tbg_text_add(t, "%c%.1f %.1f%s", open ? 'L' : 'M', tbg_axes_x(a, x[i]), tbg_axes_y(a, y[i]),
                     alone ? "h.1" : "");
        open = 1;
    }
    tbg_text_add(t, "\"/>");
}

void tbg_axes_band(tbg_text *t, const tbg_axes *a, int n, const double *x, const double *low,
                   const double *high, const char *style) {
    tbg_text_add(t, "<path stroke=\"none\" %s d=\"", style);
    for (int i = 0; i < n;) {
        int end = i;
        while (end < n && isfinite(low[end]) && isfinite(high[end]))
            end++;
        for (int k = i; k < end; k++)
            tbg_text_add(t, "%c%.1f %.1f", k > i ? 'L' : 'M', tbg_axes_x(a, x[k]), tbg_axes_y(a, high[k]));
        for (int k = end - 1; k >= i; k--)
            tbg_text_add(t, "L%.1f %.1f", tbg_axes_x(a, x[k]), tbg_axes_y(a, low[k]));
        if (end > i)
            tbg_text_add(t, "Z");
        i = end + 1;
    }
    tbg_text_add(t, "\"/>");
}

void tbg_axes_steps(tbg_text *t, const tbg_axes *a, int n, const double *edges, const double *y,
                    const char *style) {
    double bottom = a->top + a->height;
    tbg_text_add(t, "<path %s d=\"M%.1f %.1f", style, tbg_axes_x(a, edges[0]), bottom);
    for (int i = 0; i < n; i++)
        tbg_text_add(t, "V%.1fH%.1f", fmin(bottom, tbg_axes_y(a, isfinite(y[i]) ? y[i] : a->y_min)),
                     tbg_axes_x(a, edges[i + 1]));
    tbg_text_add(t, "V%.1f\"/>", bottom);
}

void tbg_axes_map(tbg_text *t, const tbg_axes *a, int n, const signed char *level, int n_levels,
                  const char *(*colour)(int level, int n_levels, char *buffer)) {
    double w = a->width / n, h = a->height / n;
    char buffer[32];
    tbg_text_add(t, "<g shape-rendering=\"crispEdges\" stroke=\"none\">");
    for (int l = 0; l < n_levels; l++) {
        int any = 0;
        for (int row = 0; row < n; row++)
            for (int i = 0; i < n; i++) {
                if (level[row * n + i] != l)
                    continue;
                int end = i;
                while (end < n && level[row * n + end] == l)
                    end++;
                if (!any)
                    tbg_text_add(t, "<path fill=\"%s\" d=\"", colour(l, n_levels, buffer));
                any = 1;
                tbg_text_add(t, "M%.1f %.1fh%.1fv%.1fH%.1fz", a->left + i * w, a->top + (n - 1 - row) * h,
                             (end - i) * w, h, a->left + i * w);
                i = end;
            }
        if (any)
            tbg_text_add(t, "\"/>");
    }
    tbg_text_add(t, "</g>");
}
