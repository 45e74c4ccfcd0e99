/* normal_series.h: the polynomials by which Langevin noise becomes normal (Box and Muller), once for lanes in
 * a register (integrator_simd.c) and for groups of threads (group_step.h): T is a vector of floats or a
 * float. */
#ifndef TBG_DYNAMICS_NORMAL_SERIES_H
#define TBG_DYNAMICS_NORMAL_SERIES_H

/* ln(1 + f) for 1 + f between sqrt(1/2) and sqrt(2); sine and cosine of y, |y| <= pi/4. */
#define TBG_DEFINE_NORMAL_SERIES(qualifiers, log_name, turn_name, T)                                         \
    qualifiers T log_name(T f) {                                                                             \
        T p = f * -0.08101288f + 0.127122006f;                                                               \
        p = p * f - 0.129722717f;                                                                            \
        p = p * f + 0.142021864f;                                                                            \
        p = p * f - 0.166422464f;                                                                            \
        p = p * f + 0.200014682f;                                                                            \
        p = p * f - 0.250002966f;                                                                            \
        p = p * f + 0.333333286f;                                                                            \
        T f2 = f * f;                                                                                        \
        return f + f2 * (p * f - 0.5f);                                                                      \
    }                                                                                                        \
    qualifiers void turn_name(T y, T *s, T *c) {                                                             \
        T y2 = y * y;                                                                                        \
        *s = y + y * y2 * (y2 * (y2 * -0.000195879495f + 0.00833274863f) - 0.166666647f);                    \
        *c = 1.0f - y2 * 0.5f + y2 * y2 * (y2 * (y2 * 2.45479915e-05f - 0.00138883033f) + 0.0416666647f);    \
    }
#endif
