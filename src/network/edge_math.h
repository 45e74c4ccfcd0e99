/* edge_math.h: edge features and the analytic rate of harmonic pairs (SPEC 2.4), in double, for host and
 * device from one source. Also compiled as C++ by nvcc: no C-only constructs. edges.c gives the definitions
 * their C names. */
#ifndef TBG_NETWORK_EDGE_MATH_H
#define TBG_NETWORK_EDGE_MATH_H
#include <math.h>

#ifdef __CUDACC__
#define TBG_SHARED_MATH static __host__ __device__ inline
#else
#define TBG_SHARED_MATH static inline
#endif

enum { TBG_N_RADIAL = 12 };

/* The best field of a pair of mean distance m and width w along its present direction, the prior having
 * variance 2 per direction. s = 1 - t, S = 2 s^2 + t^2 w^2.
 *
 * Of a pair that is normal along the direction: lambda = (t w^2 - 2 s) / S, rho = m + lambda (r - t m). It
 * does not vanish with r: pairs that meet are a source, out of which probability leaves a hole.
 *
 * shell: of a pair whose direction is uniform on the sphere: with mu = (2 m s^2 + t w^2 r) / S, the mean
 * length given r, that direction given the present one has the mean cosine L(k) = coth k - 1/k, k = t mu r /
 * 2 s^2 (von Mises-Fisher): rho = (mu L - r) / s, which is the above less mu (1 - L) / s, and -r at t = 0.
 *
 * Both clamped to +-8. */
TBG_SHARED_MATH void tbg_math_harmonic_rate(int shell, double t, double r, double mean, double width,
                                            double *rho, double *drho_dr) {
    const double limit = 8;
    double s = 1 - t, w2 = width * width, below = 2 * s * s + t * t * w2;
    double lambda = below > 0 ? (t * w2 - 2 * s) / below : 0;
    double value = mean + lambda * (r - t * mean);
    if (shell && s > 0) {
        double noise = 2 * s * s, mu = (mean * noise + t * w2 * r) / below, mu_r = t * w2 / below;
        double k = t * mu * r / noise, k_r = t * (mu_r * r + mu) / noise, rest,
               slope; /* 1 - L and its derivative */
        if (k < 0.01) {
            rest = 1 - k / 3 + k * k * k / 45;
            slope = -1.0 / 3 + k * k / 15;
        } else {
            double e = exp(-2 * k), sinh2 = 4 * e / ((1 - e) * (1 - e)); /* 1 / sinh^2 */
            rest = 1 / k - 2 * e / (1 - e);
            slope = sinh2 - 1 / (k * k);
        }
        value -= mu * rest / s;
        lambda -= (mu_r * rest + mu * slope * k_r) / s;
    }
    int clamped = value > limit || value < -limit;
    *rho = clamped ? copysign(limit, value) : value;
    *drho_dr = clamped ? 0 : lambda;
}

/* bits: 1 r^2, 2 bonded, 4 rate, 8 radial, 16 shell (TBG_EDGE_* of network.h). */
TBG_SHARED_MATH void tbg_math_edge_features(int bits, double t, double r, int bond, double mean, double width,
                                            double *e, double *de_dr) {
    int k = 0, harmonic = bond == 1 || bond == 2;
    if (bits & 1) {
        e[k] = r * r;
        de_dr[k++] = 2 * r;
    }
    if (bits & 2) {
        for (int b = 1; b <= 3; b++) {
            e[k] = bond == b;
            de_dr[k++] = 0;
        }
        e[k] = harmonic ? mean : 0;
        de_dr[k++] = 0;
        double x = harmonic ? tanh(3 * (r - mean)) : 0;
        e[k] = x;
        de_dr[k++] = harmonic ? 3 * (1 - x * x) : 0;
    }
    if (bits & 4) {
        double rho = 0, drho_dr = 0;
        if (harmonic)
            tbg_math_harmonic_rate(bits & 16, t, r, mean, width, &rho, &drho_dr);
        double x = tanh(rho);
        e[k] = x;
        de_dr[k++] = (1 - x * x) * drho_dr;
    }
    if (bits & 8) {
        /* Gaussians of width 1/12 at (b + 1/2)/12 in q = r/(1+r), which maps all distances into [0, 1). */
        double q = r / (1 + r), dq_dr = 1 / ((1 + r) * (1 + r));
        for (int b = 0; b < TBG_N_RADIAL; b++) {
            double z = TBG_N_RADIAL * q - (b + 0.5), g = exp(-0.5 * z * z);
            e[k] = g;
            de_dr[k++] = -z * g * TBG_N_RADIAL * dq_dr;
        }
    }
}
#endif
