/* edges.c: the C names of the edge features that all backends share; the formulas are edge_math.h's.
 *
 * Owns their count and order. Distances are those of the input positions, in scaled units. */
#include "network/edge_math.h"
#include "network/kernels.h"

const char *tbg_edge_word(int k) {
    static const char *const words[] = {"d0", "bonded", "rate", "radial", "shell"};
    return k >= 0 && k < (int)(sizeof words / sizeof *words) ? words[k] : NULL;
}

int tbg_edge_feature_count(const tbg_network_spec *spec) {
    int bits = spec->edge_features;
    return (bits & TBG_EDGE_D0 ? 1 : 0) + (bits & TBG_EDGE_BONDED ? 5 : 0) + (bits & TBG_EDGE_RATE ? 1 : 0) +
           (bits & TBG_EDGE_RADIAL ? TBG_N_RADIAL : 0);
}

void tbg_harmonic_rate(const tbg_network_spec *spec, double t, double r, double mean, double width,
                       double *rho, double *drho_dr) {
    tbg_math_harmonic_rate(spec->edge_features & TBG_EDGE_SHELL, t, r, mean, width, rho, drho_dr);
}

void tbg_edge_features(const tbg_network_spec *spec, double t, double r, int bond_class, double mean,
                       double width, double *e, double *de_dr) {
    tbg_math_edge_features(spec->edge_features, t, r, bond_class, mean, width, e, de_dr);
}
