/* edges.c: edge features and the analytic rate of harmonic pairs, with their derivatives (SPEC 2.4).
 *
 * Owns the definitions that all backends share. Distances are those of the input positions, in scaled units.
 */
#include "network/kernels.h"

#include <math.h>

#define N_RADIAL 12
#define RATE_LIMIT 8.0

int tbg_edge_feature_count(const tbg_network_spec *spec) {
    int bits = spec->edge_features;
    return (bits & TBG_EDGE_D0 ? 1 : 0) + (bits & TBG_EDGE_BONDED ? 5 : 0) + (bits & TBG_EDGE_RATE ? 1 : 0) +
           (bits & TBG_EDGE_RADIAL ? N_RADIAL : 0);
}

/* The best field of a Gaussian pair of mean distance m and width w, the prior having variance 2 per
 * direction: lambda = (t w^2 - 2 (1-t)) / (2 (1-t)^2 + t^2 w^2),  rho = m + lambda (r - t m), clamped to +-8.
 */
void tbg_harmonic_rate(double t, double r, double mean, double width, double *rho, double *drho_dr) {
    double s = 1 - t, w2 = width * width, below = 2 * s * s + t * t * w2;
    double lambda = below > 0 ? (t * w2 - 2 * s) / below : 0;
    double value = mean + lambda * (r - t * mean);
    int clamped = value > RATE_LIMIT || value < -RATE_LIMIT;
    *rho = clamped ? copysign(RATE_LIMIT, value) : value;
    *drho_dr = clamped ? 0 : lambda;
}

void tbg_edge_features(const tbg_network_spec *spec, double t, double r, int bond_class, double mean,
                       double width, double *e, double *de_dr) {
    int k = 0, harmonic = bond_class == 1 || bond_class == 2;
    if (spec->edge_features & TBG_EDGE_D0) {
        e[k] = r * r;
        de_dr[k++] = 2 * r;
    }
    if (spec->edge_features & TBG_EDGE_BONDED) {
        for (int class = 1; class <= 3; class ++) {
            e[k] = bond_class == class;
            de_dr[k++] = 0;
        }
        e[k] = harmonic ? mean : 0;
        de_dr[k++] = 0;
        double x = harmonic ? tanh(3 * (r - mean)) : 0;
        e[k] = x;
        de_dr[k++] = harmonic ? 3 * (1 - x * x) : 0;
    }
    if (spec->edge_features & TBG_EDGE_RATE) {
        double rho = 0, drho_dr = 0;
        if (harmonic)
            tbg_harmonic_rate(t, r, mean, width, &rho, &drho_dr);
        double x = tanh(rho);
        e[k] = x;
        de_dr[k++] = (1 - x * x) * drho_dr;
    }
    if (spec->edge_features & TBG_EDGE_RADIAL) {
        /* Gaussians of width 1/12 at (b + 1/2)/12 in q = r/(1+r), which maps all distances into [0, 1). */
        double q = r / (1 + r), dq_dr = 1 / ((1 + r) * (1 + r));
        for (int b = 0; b < N_RADIAL; b++) {
            double z = N_RADIAL * q - (b + 0.5), g = exp(-0.5 * z * z);
            e[k] = g;
            de_dr[k++] = -z * g * N_RADIAL * dq_dr;
        }
    }
}
