/* formulas.h: arithmetic that the vector kernels (vecmath.h, batch_kernel.h) and the kernels for groups of
 * threads (group_kernel.h) share, as definitions of functions for any type T with + - *: a register of lanes
 * or a number. S is the type of its elements. `qualifiers` come before each definition. */
#ifndef TBG_ENERGY_FORMULAS_H
#define TBG_ENERGY_FORMULAS_H

/* (atanh(s) - s)/s^3 by a nearly minimax polynomial in z = s^2 from 0 to TBG_DESCREEN_LIMIT. Relative errors:
 * vecmath.h */
#define TBG_DESCREEN_LIMIT 0.40 /* largest (sr/r)^2 for that series */
#define TBG_DEFINE_ATANH_REST_F32(qualifiers, name, T)                                                       \
    qualifiers T name(T z) {                                                                                 \
        T p = 0.3009915443f * z - 0.09353815956f;                                                            \
        p = p * z + 0.144717087f;                                                                            \
        p = p * z + 0.1028451109f;                                                                           \
        p = p * z + 0.1434445417f;                                                                           \
        p = p * z + 0.1999846485f;                                                                           \
        return p * z + 0.3333333978f;                                                                        \
    }
#define TBG_DEFINE_ATANH_REST_F64(qualifiers, name, T)                                                       \
    qualifiers T name(T z) {                                                                                 \
        T p = 1.47945399064552045 * z - 3.60598144526141937;                                                 \
        p = p * z + 4.41751121009431522;                                                                     \
        p = p * z - 3.23144203603537947;                                                                     \
        p = p * z + 1.69248920512803575;                                                                     \
        p = p * z - 0.558971719788049765;                                                                    \
        p = p * z + 0.201935956561477685;                                                                    \
        p = p * z + 0.0166670063672057665;                                                                   \
        p = p * z + 0.0570922751529558534;                                                                   \
        p = p * z + 0.0583540708159286791;                                                                   \
        p = p * z + 0.0667020151246934149;                                                                   \
        p = p * z + 0.0769212352598764609;                                                                   \
        p = p * z + 0.0909091539323392505;                                                                   \
        p = p * z + 0.111111109807083269;                                                                    \
        p = p * z + 0.142857142871300885;                                                                    \
        p = p * z + 0.199999999999939326;                                                                    \
        return p * z + 0.333333333333333376;                                                                 \
    }

/* Descreening I of a sphere of radius o by one of radius sr at distance r; slope = -r dI/dr.
 * apart, r > o + sr: with z = (sr/r)^2, w = 1/(1 - z), rest = (atanh s - s)/s^3 at s^2 = z and
 *   t = sr^3/(2 r^4):  I = t (w - rest),  slope = I + 2 t w^2. No logarithm and no cancellation.
 * touching: iu = 1/U, U = r + sr; il = 1/L, L = max(o, |r - sr|); ratio = ln(L/U)/(2 r); sr2_r = sr^2/r.
 * *down is r dI/dr but for the case of o inside sr, L = sr - r, which adds il^2 r (elsewhere what L and U add
 * cancels). I is 0 for o >= U. */
#define TBG_DEFINE_DESCREEN(qualifiers, apart, touching, S, T)                                               \
    qualifiers T apart(T t, T w, T rest, T *slope) {                                                         \
        T I = t * (w - rest);                                                                                \
        *slope = t * ((w + w) * w) + I;                                                                      \
        return I;                                                                                            \
    }                                                                                                        \
    qualifiers T touching(T r, T sr2_r, T iu, T il, T ratio, T *down) {                                      \
        T q = (S)0.25 * (iu * iu - il * il);                                                                 \
        *down = (S)0.5 * ((sr2_r + r) * q - ratio);                                                          \
        return (S)0.5 * (il - iu + (r - sr2_r) * q + ratio);                                                 \
    }
#endif
