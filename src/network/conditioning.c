/* conditioning.c: what the network sees of a molecule: node features, bond classes, and for 1-2 and 1-3 pairs
 * the mean distance and thermal width that follow from the force field.
 *
 * Refuses bonded pairs without force-field terms: an invented width would make the field wrong without a
 * sign. */
#include "network/features.h"
#include "network/sites.h"
#include "tbg/status.h"

#include <math.h>

static void set_pair(tbg_conditioning *c, int i, int j, double mean, double width) {
    size_t n = (size_t)c->n_atoms, ij = (size_t)i * n + (size_t)j, ji = (size_t)j * n + (size_t)i;
    c->pair_mean[ij] = c->pair_mean[ji] = mean;
    c->pair_width[ij] = c->pair_width[ji] = width;
}

/* 1-2: the bond's length and sqrt(kT/k). 1-3: law of cosines over the two bonds a, b and the angle theta,
 *   m^2 = a^2 + b^2 - 2 a b cos(theta),
 * and independent thermal fluctuations of all three, first order:
 *   w^2 = (dm/dtheta)^2 kT/k_theta + (dm/da)^2 kT/k_a + (dm/db)^2 kT/k_b. */
static int set_means(tbg_conditioning *c, const tbg_molecule *molecule, const tbg_system *system,
                     double scale, double kT) {
    size_t n = (size_t)c->n_atoms;
    for (int k = 0; k < system->n_bonds; k++) {
        const tbg_bond_term *b = &system->bonds[k];
        if (c->bond_class[(size_t)b->i * n + (size_t)b->j] != 1)
            return tbg_fail(TBG_INPUT, "force field bond %d-%d is no bond of the molecule", b->i + 1,
                            b->j + 1);
        if (!(b->k > 0) || !(b->length > 0))
            return tbg_fail(TBG_INPUT, "bond %d-%d has no usable length or force constant", b->i + 1,
                            b->j + 1);
        set_pair(c, b->i, b->j, scale * b->length, scale * sqrt(kT / b->k));
    }
    for (int k = 0; k < system->n_angles; k++) {
        const tbg_angle_term *a = &system->angles[k];
        size_t ij = (size_t)a->i * n + (size_t)a->j, kj = (size_t)a->k * n + (size_t)a->j;
        double p = c->pair_mean[ij], q = c->pair_mean[kj], dp = c->pair_width[ij], dq = c->pair_width[kj];
        if (c->bond_class[(size_t)a->i * n + (size_t)a->k] != 2)
            continue; /* a three-membered ring: the pair is a bond already */
        double m = sqrt(p * p + q * q - 2 * p * q * cos(a->angle));
        if (!(a->stiffness > 0) || !(p > 0) || !(q > 0) || !(m > 0))
            return tbg_fail(TBG_INPUT, "angle %d-%d-%d has no usable geometry or force constant", a->i + 1,
                            a->j + 1, a->k + 1);
        double by_angle = p * q * sin(a->angle) / m * sqrt(kT / a->stiffness);
        double by_p = (p - q * cos(a->angle)) / m * dp, by_q = (q - p * cos(a->angle)) / m * dq;
        set_pair(c, a->i, a->k, m, sqrt(by_angle * by_angle + by_p * by_p + by_q * by_q));
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if ((c->bond_class[i * n + j] == 1 || c->bond_class[i * n + j] == 2) &&
                !(c->pair_width[i * n + j] > 0))
                return tbg_fail(TBG_INPUT,
                                "the force field has no term for the pair %s-%s (atoms %zu and %zu)",
                                molecule->atoms[i].name, molecule->atoms[j].name, i + 1, j + 1);
    return TBG_OK;
}

/* Noise of s per coordinate on both atoms of a pair: sqrt(2) s along it, and as much in both directions
 * across, which lengthens a distance m by 2 s^2 / m to lowest order. */
static void smooth(tbg_conditioning *c, double s) {
    for (size_t k = 0; k < (size_t)c->n_atoms * (size_t)c->n_atoms; k++)
        if (c->pair_width[k] > 0) {
            c->pair_width[k] = sqrt(c->pair_width[k] * c->pair_width[k] + 2 * s * s);
            c->pair_mean[k] += 2 * s * s / c->pair_mean[k];
        }
}

static int fill(const tbg_network_spec *spec, const tbg_molecule *molecule, const tbg_system *system,
                double temperature, tbg_conditioning *c) {
    TBG_TRY(tbg_node_features(spec->features, molecule, c->node_features));
    int bonded = spec->harmonic_term || (spec->edge_features & (TBG_EDGE_BONDED | TBG_EDGE_RATE));
    if (!bonded)
        return TBG_OK;
    if (!system || system->n_atoms != molecule->n_atoms)
        return tbg_fail(TBG_INPUT,
                        "this network needs the molecule's force field, which is missing or of another "
                        "molecule");
    if (!(temperature > 0))
        return tbg_fail(TBG_INPUT, "this network needs a temperature for the widths of bonds; %g K was given",
                        temperature);
    if (!(spec->scale > 0))
        return tbg_fail(TBG_INPUT, "the network's scale is not set");
    TBG_TRY(tbg_bond_distances(molecule->n_atoms, molecule->n_bonds, (const int(*)[2])molecule->bonds,
                               c->bond_class));
    for (size_t i = 0; i < (size_t)c->n_atoms * (size_t)c->n_atoms; i++)
        if (c->bond_class[i] > 3)
            c->bond_class[i] = 0;
    TBG_TRY(set_means(c, molecule, system, spec->scale, TBG_BOLTZMANN * temperature));
    if (spec->smoothing > 0)
        smooth(c, spec->scale * spec->smoothing);
    return TBG_OK;
}

int tbg_conditioning_create(const tbg_network_spec *spec, const tbg_molecule *molecule,
                            const tbg_system *system, double temperature, tbg_conditioning **out) {
    tbg_conditioning *c;
    TBG_TRY(tbg_network_spec_check(spec));
    TBG_TRY(tbg_conditioning_allocate(molecule->n_atoms, spec->n_features, &c));
    int status = fill(spec, molecule, system, temperature, c);
    if (!status && spec->virtual_sites)
        status = tbg_sites_create(molecule, spec->scale, c);
    if (status) {
        tbg_conditioning_free(c);
        return status;
    }
    *out = c;
    return TBG_OK;
}
