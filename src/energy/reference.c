/* reference.c: the double-precision oracle, one configuration at a time, one plain loop per kind of term.
 *
 * Numbers match OpenMM 7.7's Reference platform with the force fields of src/forcefield (tests/energy):
 * - bond, angle, torsion: harmonic, harmonic, cosine series; torsion gradient after Blondel and Karplus, 1996
 * - nonbonded: Lennard-Jones 12-6 with Lorentz-Berthelot rules, Coulomb; cutoff: tbg/system.h
 * - generalised Born: Onufriev, Bashford, Case, 2004, with the Hawkins-Cramer-Truhlar integrals, models I,
 * II, as tbg/system.h states them; surface term after Schaefer, Bartels and Karplus, 1998
 *
 * Index letters: i, j, k, l atoms; a axis. Refuses nothing: overlapping atoms give Inf or NaN. */
#include "energy/reference.h"
#include "base/memory.h"
#include "energy/engine.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline void difference(const double *x, int i, int j, double d[3]) {
    for (int a = 0; a < 3; a++)
        d[a] = x[3 * i + a] - x[3 * j + a];
}

static inline double dot(const double u[3], const double v[3]) {
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
}

/* d = x_i - x_j, *r its length. 0 if that is beyond the cutoff. */
static inline int within(const tbg_system *s, const double *x, int i, int j, double d[3], double *r) {
    difference(x, i, j, d);
    *r = sqrt(dot(d, d));
    return !(s->cutoff > 0 && *r >= s->cutoff);
}

static inline void cross(const double u[3], const double v[3], double w[3]) {
    w[0] = u[1] * v[2] - u[2] * v[1];
    w[1] = u[2] * v[0] - u[0] * v[2];
    w[2] = u[0] * v[1] - u[1] * v[0];
}

/* Force of a pair term: slope = dU/dr, d = x_i - x_j. */
static inline void add_pair_force(double *f, int i, int j, const double d[3], double slope, double r) {
    if (!f || slope == 0)
        return;
    for (int a = 0; a < 3; a++) {
        double g = slope * (d[a] / r);
        f[3 * i + a] -= g;
        f[3 * j + a] += g;
    }
}

static double bonds(const tbg_system *s, const double *x, double *f) {
    double energy = 0;
    for (int t = 0; t < s->n_bonds; t++) {
        const tbg_bond_term *b = &s->bonds[t];
        double d[3];
        difference(x, b->i, b->j, d);
        double r = sqrt(dot(d, d)), stretch = r - b->length;
        energy += 0.5 * b->k * stretch * stretch;
        add_pair_force(f, b->i, b->j, d, b->k * stretch, r);
    }
    return energy;
}

/* Angle at j; atan2 of |u x v| and u . v keeps full precision near 0 and pi, where acos does not. */
static double angles(const tbg_system *s, const double *x, double *f) {
    double energy = 0;
    for (int t = 0; t < s->n_angles; t++) {
        const tbg_angle_term *q = &s->angles[t];
        double u[3], v[3], n[3];
        difference(x, q->i, q->j, u);
        difference(x, q->k, q->j, v);
        cross(u, v, n);
        double sine = sqrt(dot(n, n)), theta = atan2(sine, dot(u, v)), bend = theta - q->angle;
        energy += 0.5 * q->stiffness * bend * bend;
        if (!f)
            continue;
        /* dtheta/dx_i = u x (u x v) / (|u|^2 |u x v|) and the same with v; at theta = 0 or pi there is no
         * direction */
        double wu[3], wv[3], slope = q->stiffness * bend, floor_ = sine > 1e-12 ? sine : 1e-12;
        cross(u, n, wu);
        cross(n, v, wv);
        for (int a = 0; a < 3; a++) {
            double gi = slope * wu[a] / (dot(u, u) * floor_), gk = slope * wv[a] / (dot(v, v) * floor_);
            f[3 * q->i + a] -= gi;
            f[3 * q->k + a] -= gk;
            f[3 * q->j + a] += gi + gk;
        }
    }
    return energy;
}

/* phi > 0: looking from j to k, l is turned clockwise from i (IUPAC). With F = x_i - x_j, G = x_j - x_k, H =
 * x_l - x_k, A = F x G, B = H x G: cos phi ~ A . B, sin phi ~ (B x A) . G. */
static double torsions(const tbg_system *s, const double *x, double *f) {
    double energy = 0;
    for (int t = 0; t < s->n_torsions; t++) {
        const tbg_torsion_term *q = &s->torsions[t];
        double F[3], G[3], H[3], A[3], B[3], BA[3];
        difference(x, q->i, q->j, F);
        difference(x, q->j, q->k, G);
        difference(x, q->l, q->k, H);
        cross(F, G, A);
        cross(H, G, B);
        cross(B, A, BA);
        double g = sqrt(dot(G, G)), phi = atan2(dot(BA, G) / g, dot(A, B));
        double argument = q->periodicity * phi - q->phase;
        energy += q->barrier * (1 + cos(argument));
        if (!f)
            continue;
        double slope = -q->barrier * q->periodicity * sin(argument);
        double aa = dot(A, A), bb = dot(B, B), fg = dot(F, G), hg = dot(H, G);
        for (int a = 0; a < 3; a++) {
            double di = -g / aa * A[a], dl = g / bb * B[a];
            double shift = fg / (aa * g) * A[a] - hg / (bb * g) * B[a];
            f[3 * q->i + a] -= slope * di;
            f[3 * q->j + a] -= slope * (shift - di);
            f[3 * q->k + a] += slope * (shift + dl);
            f[3 * q->l + a] -= slope * dl;
        }
    }
    return energy;
}

/* U(r) = 4 epsilon ((sigma/r)^12 - (sigma/r)^6) + charge_product (1/r - shift); *slope = dU/dr. */
static double pair_energy(double r, double sigma, double epsilon, double kqq, double shift, double *slope) {
    double energy = 0;
    *slope = 0;
    if (epsilon !=
        0) { /* without this, 0 * Inf would turn overlapping atoms without Lennard-Jones into NaN */
        double s2 = sigma * sigma / (r * r), s6 = s2 * s2 * s2;
        energy += 4 * epsilon * s6 * (s6 - 1);
        *slope += 4 * epsilon * s6 * (6 - 12 * s6) / r;
    }
    if (kqq != 0) {
        energy += kqq * (1 / r - shift);
        *slope -= kqq / (r * r);
    }
    return energy;
}

static double nonbonded(const tbg_system *s, const double *x, double *f) {
    double energy = 0, shift = s->cutoff > 0 ? 1 / s->cutoff : 0, slope;
    for (int t = 0; t < s->n_pairs; t++) {
        int i = s->pairs[t][0], j = s->pairs[t][1];
        double d[3], r;
        if (!within(s, x, i, j, d, &r))
            continue;
        energy += pair_energy(r, 0.5 * (s->sigma[i] + s->sigma[j]), sqrt(s->epsilon[i] * s->epsilon[j]),
                              s->coulomb * s->charge[i] * s->charge[j], shift, &slope);
        add_pair_force(f, i, j, d, slope, r);
    }
    for (int t = 0; t < s->n_pairs14; t++) {
        const tbg_pair_term *p = &s->pairs14[t];
        double d[3];
        difference(x, p->i, p->j, d);
        double r = sqrt(dot(d, d));
        energy += pair_energy(r, p->sigma, p->epsilon, s->coulomb * p->charge_product, 0, &slope);
        add_pair_force(f, p->i, p->j, d, slope, r);
    }
    return energy;
}

/* Descreening of an atom of reduced radius o by a sphere of scaled radius sr at distance r: half the
 * Hawkins-Cramer-Truhlar integral; *slope = its derivative in r. */
static double descreening(double r, double o, double sr, double *slope) {
    *slope = 0;
    if (r + sr <= o)
        return 0;
    double U = r + sr, D = fabs(r - sr), L = o > D ? o : D;
    double iL = 1 / L, iU = 1 / U, log_ratio = log(L / U);
    double dL = o > D ? 0 : r > sr ? 1 : -1;
    double w = r - sr * sr / r, dw = 1 + sr * sr / (r * r);
    double q = iU * iU - iL * iL, dq = -2 * iU * iU * iU + 2 * iL * iL * iL * dL;
    *slope = 0.5 * (-iL * iL * dL + iU * iU + 0.25 * (dw * q + w * dq) +
                    0.5 * ((dL * iL - iU) - log_ratio / r) / r);
    return 0.5 * (iL - iU + 0.25 * w * q + 0.5 * log_ratio / r);
}

/* scratch: [3 n_atoms]. */
static double generalised_born(const tbg_system *s, const double *x, double *f, double *scratch) {
    int n = s->n_atoms;
    double *B = scratch, *dB_dI = scratch + n, *dE_dB = scratch + 2 * n, energy = 0, slope;
    double prefactor = s->gb_coulomb * (1 / s->gb_solute - 1 / s->gb_solvent), cutoff = s->cutoff;
    double shift = cutoff > 0 ? 1 / cutoff : 0;
    for (int i = 0; i < n; i++) {
        double radius = s->gb_radius[i], o = radius - s->gb_offset, I = 0;
        for (int j = 0; j < n; j++) {
            if (j == i)
                continue;
            double d[3], r;
            if (within(s, x, i, j, d, &r))
                I += descreening(r, o, s->gb_screen[j] * (s->gb_radius[j] - s->gb_offset), &slope);
        }
        double psi = I * o, argument = psi * (s->gb_alpha + psi * (-s->gb_beta + psi * s->gb_gamma));
        double tanh_ = tanh(argument), ratio;
        B[i] = 1 / (1 / o - tanh_ / radius);
        dB_dI[i] = B[i] * B[i] / radius * (1 - tanh_ * tanh_) * o *
                   (s->gb_alpha + psi * (-2 * s->gb_beta + psi * 3 * s->gb_gamma));
        ratio = radius / B[i];
        double area = s->gb_surface * (radius + s->gb_probe) * (radius + s->gb_probe) * pow(ratio, 6);
        double self = -0.5 * prefactor * s->charge[i] * s->charge[i] / B[i];
        energy += self + area;
        dE_dB[i] = (-self - 6 * area) / B[i];
    }
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            double d[3], r;
            if (!within(s, x, i, j, d, &r))
                continue;
            double r2 = dot(d, d), bb = B[i] * B[j], e = exp(-r2 / (4 * bb)), f2 = r2 + bb * e,
                   fgb = sqrt(f2);
            double qq = -prefactor * s->charge[i] * s->charge[j];
            energy += qq * (1 / fgb - shift);
            if (!f)
                continue;
            double common = -0.5 * qq / (f2 * fgb), dbb = common * e * (1 + r2 / (4 * bb));
            add_pair_force(f, i, j, d, common * (2 - 0.5 * e) * r, r);
            dE_dB[i] += dbb * B[j];
            dE_dB[j] += dbb * B[i];
        }
    if (!f)
        return energy;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            if (j == i)
                continue;
            double d[3], r;
            if (!within(s, x, i, j, d, &r))
                continue;
            descreening(r, s->gb_radius[i] - s->gb_offset, s->gb_screen[j] * (s->gb_radius[j] - s->gb_offset),
                        &slope);
            add_pair_force(f, i, j, d, dE_dB[i] * dB_dI[i] * slope, r);
        }
    return energy;
}

int tbg_reference_evaluate(const tbg_system *s, const double *x, double components[TBG_E_N], double *forces) {
    double *scratch = TBG_NEW(double, 3 * (size_t)s->n_atoms);
    if (!scratch)
        return TBG_FAILED;
    if (forces)
        memset(forces, 0, 3 * (size_t)s->n_atoms * sizeof *forces);
    components[TBG_E_BOND] = bonds(s, x, forces);
    components[TBG_E_ANGLE] = angles(s, x, forces);
    components[TBG_E_TORSION] = torsions(s, x, forces);
    components[TBG_E_NONBONDED] = nonbonded(s, x, forces);
    components[TBG_E_GB] = s->gb == TBG_GB_NONE ? 0 : generalised_born(s, x, forces, scratch);
    free(scratch);
    return TBG_OK;
}

/* ---- the engine "reference": configurations shared out over threads ---- */

static int evaluate(struct tbg_engine *engine, long n, const double *positions, double *energies,
                    double *forces, double *components) {
    size_t stride = 3 * (size_t)engine->n_atoms;
    int failed = 0;
#pragma omp parallel for schedule(dynamic, 4) num_threads(engine->threads) if (n > 4) reduction(| : failed)
    for (long c = 0; c < n; c++) {
        double part[TBG_E_N], sum = 0;
        if (tbg_reference_evaluate(engine->system, positions + c * stride, part,
                                   forces ? forces + c * stride : NULL)) {
            failed = 1;
            continue;
        }
        for (int e = 0; e < TBG_E_N; e++)
            sum += part[e];
        energies[c] = sum;
        if (components)
            memcpy(components + c * TBG_E_N, part, sizeof part);
    }
    return failed ? tbg_fail(TBG_FAILED, "no memory for the reference energy of %d atoms", engine->n_atoms)
                  : TBG_OK;
}

int tbg_engine_reference_create(struct tbg_engine *engine) {
    engine->evaluate = evaluate;
    return TBG_OK;
}
