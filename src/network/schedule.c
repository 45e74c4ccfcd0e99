/* schedule.c: graded time. */
#include "tbg/schedule.h"

#include <math.h>

double tbg_one_minus_time(double d, double u) {
    return d > 0 ? d * sinh(asinh(1 / d) * (1 - u)) : 1 - u;
}

double tbg_time_of_u(double d, double u) {
    return 1 - tbg_one_minus_time(d, u);
}

double tbg_u_of_time(double d, double t) {
    return d > 0 ? 1 - asinh((1 - t) / d) / asinh(1 / d) : t;
}

double tbg_time_rate(double d, double u) {
    double a = d > 0 ? asinh(1 / d) : 0;
    return d > 0 ? d * a * cosh(a * (1 - u)) : 1;
}
