/* sites.c: virtual sites. The field of SPEC 2.1 sees distances only, so it cannot tell a centre from its
 * mirror image. A site stands beside every centre whose handedness the atom names fix, where its hydrogen
 * belongs:
 *
 *   s = c + l n / sqrt(|n|^2 + e^2),   n = (a - d) x (b - d),
 *
 * c the centre, a, b, d its other neighbours, l = 0.109 nm, e = 0.01 nm^2. n is a pseudovector: in the mirror
 * image of the neighbours the site is on the other side, so that the distance from hydrogen to site tells
 * left from right, and the field of atoms and sites together commutes with proper rotations only.
 *
 * Owns where sites are, their derivatives, and what the network sees of them: the features of centre and
 * hydrogen together, 1-4 flags to the centre and its neighbours. */
#include "network/sites.h"
#include "base/memory.h"
#include "network/features.h"
#include "tbg/status.h"

#include <math.h>
#include <string.h>

#define LENGTH 0.109   /* nm */
#define ROUND_OFF 0.01 /* nm^2, e above: about a fifth of |n| in a molecule */

/* n points to the hydrogen in L amino acids; in valine and leucine it is the names of like methyls that have
 * a hand. */
static const struct {
    const char *residue, *centre, *h, *a, *b, *d;
} KINDS[] = {
    {"", "CA", "HA", "C", "N", "CB"},        {"ILE", "CB", "HB", "CG1", "CA", "CG2"},
    {"THR", "CB", "HB", "OG1", "CA", "CG2"}, {"VAL", "CB", "HB", "CG2", "CA", "CG1"},
    {"LEU", "CG", "HG", "CD2", "CB", "CD1"},
};
enum { N_KINDS = sizeof KINDS / sizeof *KINDS };

static int find_sites(const tbg_molecule *m, tbg_conditioning *c) {
    c->sites = tbg_alloc(2 * (size_t)m->n_residues + 1, sizeof *c->sites);
    if (!c->sites)
        return TBG_FAILED;
    for (int r = 0; r < m->n_residues; r++)
        for (int k = 0; k < N_KINDS; k++) {
            if (*KINDS[k].residue && strcmp(KINDS[k].residue, m->residues[r].name))
                continue;
            const char *names[5] = {KINDS[k].centre, KINDS[k].a, KINDS[k].b, KINDS[k].d, KINDS[k].h};
            int *atoms = c->sites[c->n_sites], found = 1;
            for (int i = 0; i < 5; i++)
                found &= (atoms[i] = tbg_molecule_find(m, r, names[i])) >= 0;
            c->n_sites += found;
        }
    return TBG_OK;
}

static void copy_pairs(const tbg_conditioning *c, tbg_conditioning *all) {
    size_t n = (size_t)c->n_atoms, wide = (size_t)all->n_atoms;
    for (size_t i = 0; i < n; i++) {
        memcpy(all->bond_class + i * wide, c->bond_class + i * n, n);
        memcpy(all->pair_mean + i * wide, c->pair_mean + i * n, n * sizeof(double));
        memcpy(all->pair_width + i * wide, c->pair_width + i * n, n * sizeof(double));
    }
    for (size_t k = 0; k < (size_t)c->n_sites; k++)
        for (int q = 0; q < 5; q++) {
            size_t i = n + k, j = (size_t)c->sites[k][q];
            all->bond_class[i * wide + j] = all->bond_class[j * wide + i] = 3;
        }
}

int tbg_sites_create(const tbg_molecule *molecule, double scale, tbg_conditioning *c) {
    if (!(scale > 0))
        return tbg_fail(TBG_INPUT, "the network's scale is not set");
    TBG_TRY(find_sites(molecule, c));
    c->site_length = scale * LENGTH;
    c->site_round_off = scale * scale * ROUND_OFF;
    if (!c->n_sites)
        return TBG_OK;
    TBG_TRY(tbg_conditioning_allocate(c->n_atoms + c->n_sites, c->n_features, &c->extended));
    tbg_conditioning *all = c->extended;
    size_t width = (size_t)c->n_features;
    all->n_silent = c->n_sites;
    memcpy(all->node_features, c->node_features, (size_t)c->n_atoms * width * sizeof(double));
    for (int k = 0; k < c->n_sites; k++) {
        const double *centre = c->node_features + (size_t)c->sites[k][0] * width;
        const double *hydrogen = c->node_features + (size_t)c->sites[k][4] * width;
        for (size_t f = 0; f < width; f++)
            all->node_features[(size_t)(c->n_atoms + k) * width + f] = fmax(centre[f], hydrogen[f]);
    }
    copy_pairs(c, all);
    return TBG_OK;
}

/* ---- geometry ---- */

static void cross(const double a[3], const double b[3], double out[3]) {
    for (int d = 0; d < 3; d++)
        out[d] = a[(d + 1) % 3] * b[(d + 2) % 3] - a[(d + 2) % 3] * b[(d + 1) % 3];
}

/* p = a - d, q = b - d, n = p x q; returns 1 / sqrt(|n|^2 + e^2). */
static double normal(const tbg_conditioning *c, int k, const double *x, double p[3], double q[3],
                     double n[3]) {
    const int *s = c->sites[k];
    for (int a = 0; a < 3; a++) {
        p[a] = x[3 * s[1] + a] - x[3 * s[3] + a];
        q[a] = x[3 * s[2] + a] - x[3 * s[3] + a];
    }
    cross(p, q, n);
    return 1 / sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + c->site_round_off * c->site_round_off);
}

void tbg_sites_place(const tbg_conditioning *c, const double *x, double *all) {
    memcpy(all, x, 3 * (size_t)c->n_atoms * sizeof *x);
    double *site = all + 3 * c->n_atoms, p[3], q[3], n[3];
    for (int k = 0; k < c->n_sites; k++, site += 3) {
        double inverse = normal(c, k, x, p, q, n);
        for (int a = 0; a < 3; a++)
            site[a] = x[3 * c->sites[k][0] + a] + c->site_length * n[a] * inverse;
    }
}

/* With w = 1 / sqrt(|n|^2 + e^2): d(n w) = w dn - w^3 n (n . dn), symmetric in dn. */
static void unit_slope(const double n[3], double w, const double dn[3], double out[3]) {
    double along = (n[0] * dn[0] + n[1] * dn[1] + n[2] * dn[2]) * w * w * w;
    for (int a = 0; a < 3; a++)
        out[a] = w * dn[a] - along * n[a];
}

void tbg_sites_tangent(const tbg_conditioning *c, const double *x, const double *x_dot, double *all_dot) {
    memcpy(all_dot, x_dot, 3 * (size_t)c->n_atoms * sizeof *x_dot);
    double *site = all_dot + 3 * c->n_atoms, p[3], q[3], n[3], dp[3], dq[3], one[3], two[3], slope[3];
    for (int k = 0; k < c->n_sites; k++, site += 3) {
        const int *s = c->sites[k];
        double w = normal(c, k, x, p, q, n);
        for (int a = 0; a < 3; a++) {
            dp[a] = x_dot[3 * s[1] + a] - x_dot[3 * s[3] + a];
            dq[a] = x_dot[3 * s[2] + a] - x_dot[3 * s[3] + a];
        }
        cross(dp, q, one);
        cross(p, dq, two);
        for (int a = 0; a < 3; a++)
            one[a] += two[a];
        unit_slope(n, w, one, slope);
        for (int a = 0; a < 3; a++)
            site[a] = x_dot[3 * s[0] + a] + c->site_length * slope[a];
    }
}

void tbg_sites_transposed(const tbg_conditioning *c, const double *x, const double *dall, double *dx) {
    memcpy(dx, dall, 3 * (size_t)c->n_atoms * sizeof *dx);
    const double *ds = dall + 3 * c->n_atoms;
    double p[3], q[3], n[3], dn[3], dp[3], dq[3];
    for (int k = 0; k < c->n_sites; k++, ds += 3) {
        const int *s = c->sites[k];
        double w = normal(c, k, x, p, q, n);
        unit_slope(n, w, ds, dn);
        cross(q, dn, dp); /* dn . (dp x q) = dp . (q x dn) */
        cross(dn, p, dq); /* dn . (p x dq) = dq . (dn x p) */
        for (int a = 0; a < 3; a++) {
            dx[3 * s[0] + a] += ds[a];
            dx[3 * s[1] + a] += c->site_length * dp[a];
            dx[3 * s[2] + a] += c->site_length * dq[a];
            dx[3 * s[3] + a] -= c->site_length * (dp[a] + dq[a]);
        }
    }
}
