/* schedule.h: graded time, one definition for the time feature, for drawing t in training, for the solver's
 * grid and for the quadrature. 1 - t = d sinh(a (1 - u)), a = asinh(1/d); d = 0 means t = u. (SPEC 2.3) */
#ifndef TBG_SCHEDULE_H
#define TBG_SCHEDULE_H
double tbg_time_of_u(double d, double u);      /* t(u) */
double tbg_one_minus_time(double d, double u); /* 1 - t(u) without cancellation */
double tbg_u_of_time(double d, double t);      /* u(t) */
double tbg_time_rate(double d, double u);      /* dt/du */
#endif
