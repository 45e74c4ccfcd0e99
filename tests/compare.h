/* compare.h: the numeric comparator of the tests. NaN, Inf against finite, a flipped sign, one bad element in
 * many and a wrong length all fail: every comparison is written !(error <= tolerance).
 * tests/base/test_compare.c tests it. */
#ifndef TBG_TESTS_COMPARE_H
#define TBG_TESTS_COMPARE_H
#include <math.h>
#include <stddef.h>
#include <stdio.h>

/* Error of `got` against `want` on the scale max(|want|, floor). Non-finite `got` or `want`: infinite, unless
 * both are the same infinity. */
static inline double compare_error(double got, double want, double floor_) {
    if (isinf(got) && isinf(want) && got == want)
        return 0;
    if (!isfinite(got) || !isfinite(want))
        return INFINITY;
    double scale = fabs(want) > floor_ ? fabs(want) : floor_;
    if (!(scale > 0))
        return got == want ? 0 : INFINITY;
    return fabs(got - want) / scale;
}

/* Largest error over n elements with floor = `relative_floor` times the largest |want| (so that zeros inside
 * an array are judged on the array's scale). Returns infinity for n = 0. */
static inline double compare_arrays(const char *what, size_t n, const double *got, const double *want,
                                    double relative_floor, double tolerance) {
    double largest = 0, worst = n ? 0 : INFINITY;
    size_t where = 0;
    for (size_t i = 0; i < n; i++)
        if (fabs(want[i]) > largest)
            largest = fabs(want[i]);
    for (size_t i = 0; i < n; i++) {
        double e = compare_error(got[i], want[i], relative_floor * largest);
        if (!(e <= worst)) {
            worst = e;
            where = i;
        }
    }
    if (!(worst <= tolerance) && n)
        fprintf(stderr, "%s: element %zu of %zu: got %.17g, want %.17g, error %.3g > %.3g\n", what, where, n,
                got[where], want[where], worst, tolerance);
    return worst;
}
#endif
