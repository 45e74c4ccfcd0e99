/* axes.h: a plotting area in an SVG: scales, ticks, labels, curves; for floor 10 only. */
#ifndef TBG_REPORT_AXES_H
#define TBG_REPORT_AXES_H
#include "report/text.h"

typedef struct {
    double left, top, width, height;   /* px of the plotting area */
    double x_min, x_max, y_min, y_max; /* data; logarithmic axes: exponents of 10 */
    int x_log, y_log;
    int degrees;     /* ticks every 90 on x, and on y if 2 */
    int no_y_labels; /* a neighbour has them */
} tbg_axes;

double tbg_axes_x(const tbg_axes *a, double x);
double tbg_axes_y(const tbg_axes *a, double y); /* clamped a little beyond the area */
/* Step of a "nice" scale: 1, 2 or 5 times a power of ten with at most `most` intervals. */
double tbg_nice_step(double span, int most);
/* Grid and ticks below, frame and labels: call before and after the data. */
void tbg_axes_grid(tbg_text *t, const tbg_axes *a);
void tbg_axes_frame(tbg_text *t, const tbg_axes *a, const char *x_label, const char *y_label);

/* Curves leave gaps where y is not finite. style: SVG attributes. */
void tbg_axes_line(tbg_text *t, const tbg_axes *a, int n, const double *x, const double *y,
                   const char *style);
void tbg_axes_band(tbg_text *t, const tbg_axes *a, int n, const double *x, const double *low,
                   const double *high, const char *style);
/* Histogram outline: n values in bins between edges[0..n]; filled to y_min. */
void tbg_axes_steps(tbg_text *t, const tbg_axes *a, int n, const double *edges, const double *y,
                    const char *style);
/* Horizontal runs of equal levels in an n x n map (row 0 at the bottom), one path per level. level < 0:
 * nothing. */
void tbg_axes_map(tbg_text *t, const tbg_axes *a, int n, const signed char *level, int n_levels,
                  const char *(*colour)(int level, int n_levels, char *buffer));
#endif
