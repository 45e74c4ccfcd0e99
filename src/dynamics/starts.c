/* starts.c: see starts.h. */
#include "dynamics/starts.h"
#include "base/memory.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int neighbours(const tbg_molecule *m, int atom, int out[8]) {
    int n = 0;
    for (int b = 0; b < m->n_bonds; b++)
        for (int e = 0; e < 2; e++)
            if (m->bonds[b][e] == atom && n < 8)
                out[n++] = m->bonds[b][1 - e];
    return n;
}

/* Mark what hangs on c when the bond b-c is cut; 0 if that reaches b: a ring. */
static int mark_side(const tbg_molecule *m, int b, int c, unsigned char *side) {
    memset(side, 0, (size_t)m->n_atoms);
    side[c] = 1;
    for (int grown = 1; grown;) {
        grown = 0;
        for (int k = 0; k < m->n_bonds; k++) {
            int i = m->bonds[k][0], j = m->bonds[k][1];
            if ((i == b && j == c) || (i == c && j == b) || side[i] == side[j])
                continue;
            side[i] = side[j] = 1;
            grown = 1;
        }
    }
    return !side[b];
}

int tbg_start_in_ring(const tbg_molecule *m, int b, int c, int *ring) {
    unsigned char *side = TBG_NEW(unsigned char, m->n_atoms);
    if (!side)
        return TBG_FAILED;
    *ring = !mark_side(m, b, c, side);
    free(side);
    return TBG_OK;
}

int tbg_start_turn(const tbg_molecule *m, int b, int c, double angle, unsigned char *side, double *x) {
    if (!mark_side(m, b, c, side))
        return 0;
    double u[3], length = 0, co = cos(angle), si = sin(angle);
    for (int a = 0; a < 3; a++) {
        u[a] = x[3 * c + a] - x[3 * b + a];
        length += u[a] * u[a];
    }
    for (int a = 0; a < 3; a++)
        u[a] /= sqrt(length);
    for (int i = 0; i < m->n_atoms; i++) {
        if (!side[i] || i == c)
            continue;
        double r[3], along = 0;
        for (int a = 0; a < 3; a++) {
            r[a] = x[3 * i + a] - x[3 * c + a];
            along += r[a] * u[a];
        }
        for (int a = 0; a < 3; a++) {
            int p = (a + 1) % 3, q = (a + 2) % 3;
            x[3 * i + a] =
                x[3 * c + a] + co * r[a] + si * (u[p] * r[q] - u[q] * r[p]) + (1 - co) * along * u[a];
        }
    }
    return 1;
}

static double volume(const double *x, int centre, const int n[3]) {
    double v[3][3];
    for (int k = 0; k < 3; k++)
        for (int a = 0; a < 3; a++)
            v[k][a] = x[3 * n[k] + a] - x[3 * centre + a];
    return v[0][0] * (v[1][1] * v[2][2] - v[1][2] * v[2][1]) -
           v[0][1] * (v[1][0] * v[2][2] - v[1][2] * v[2][0]) +
           v[0][2] * (v[1][0] * v[2][1] - v[1][1] * v[2][0]);
}

static double bond_length(const double *x, const int bond[2]) {
    double sum = 0;
    for (int a = 0; a < 3; a++)
        sum += pow(x[3 * bond[0] + a] - x[3 * bond[1] + a], 2);
    return sqrt(sum);
}

int tbg_start_same_chemistry(const tbg_molecule *m, const double *x, const double *y) {
    int n[8], o[8];
    for (int b = 0; b < m->n_bonds; b++)
        if (!(fabs(bond_length(x, m->bonds[b]) - bond_length(y, m->bonds[b])) < 0.02))
            return 0;
    for (int i = 0; i < m->n_atoms; i++)
        if (neighbours(m, i, n) == 4 && !(volume(x, i, n) * volume(y, i, n) > 0))
            return 0;
    for (int b = 0; b < m->n_bonds; b++) {
        int i = m->bonds[b][0], j = m->bonds[b][1];
        if (neighbours(m, i, n) != 3 || neighbours(m, j, o) != 3)
            continue;
        int t[4] = {n[0] == j ? n[1] : n[0], i, j, o[0] == i ? o[1] : o[0]};
        double before = tbg_dihedral(y, t), after = tbg_dihedral(x, t);
        if (fabs(cos(before)) > 0.5 && !(cos(before) * cos(after) > 0))
            return 0;
    }
    return 1;
}

int tbg_chemistry_create(const tbg_molecule *m, tbg_chemistry *out) {
    int n[8], count;
    tbg_torsion *torsions;
    *out = (tbg_chemistry){0};
    TBG_TRY(tbg_backbone_torsions(m, &count, &torsions));
    out->centres = tbg_alloc((size_t)m->n_atoms, sizeof *out->centres);
    out->omega = tbg_alloc((size_t)count, sizeof *out->omega);
    if (!out->centres || !out->omega) {
        free(torsions);
        tbg_chemistry_free(out);
        return TBG_FAILED;
    }
    for (int i = 0; i < m->n_atoms; i++)
        if (neighbours(m, i, n) == 4)
            memcpy(out->centres[out->n_centres++], (int[4]){i, n[0], n[1], n[2]}, sizeof *out->centres);
    for (int t = 0; t < count; t++)
        if (!strncmp(torsions[t].name, "omega", 5))
            memcpy(out->omega[out->n_omega++], torsions[t].atoms, sizeof *out->omega);
    free(torsions);
    return TBG_OK;
}

void tbg_chemistry_free(tbg_chemistry *c) {
    free(c->centres);
    free(c->omega);
    *c = (tbg_chemistry){0};
}

int tbg_chemistry_inverted(const tbg_chemistry *c, const double *x, const double *reference) {
    int count = 0;
    for (int i = 0; i < c->n_centres; i++)
        count += !(volume(x, c->centres[i][0], c->centres[i] + 1) *
                       volume(reference, c->centres[i][0], c->centres[i] + 1) >
                   0);
    return count;
}

int tbg_chemistry_turned(const tbg_chemistry *c, const double *x, const double *reference) {
    int count = 0;
    for (int i = 0; i < c->n_omega; i++)
        count += !(cos(tbg_dihedral(x, c->omega[i])) * cos(tbg_dihedral(reference, c->omega[i])) > 0);
    return count;
}

/* Minimise a turned copy; accepted when the chemistry is that of the original. */
static int try_once(const tbg_molecule *m, const tbg_system *system, uint64_t seed, uint64_t stream,
                    uint64_t first, const double *original, double *x, unsigned char *side, int *good) {
    int n[8];
    memcpy(x, original, 3 * (size_t)m->n_atoms * sizeof *x);
    for (int b = 0; b < m->n_bonds; b++) {
        int i = m->bonds[b][0], j = m->bonds[b][1], ni = neighbours(m, i, n), nj = neighbours(m, j, n);
        double u;
        tbg_random_uniform(seed, stream, first + (uint64_t)b, 1, &u);
        if (ni > 1 && nj > 1 && (ni == 4 || nj == 4))
            (void)tbg_start_turn(m, i, j, 2 * M_PI * u, side, x);
    }
    tbg_minimum minimum;
    *good = 0;
    if (tbg_minimize(system, x, 10, 2000, &minimum) == TBG_OK)
        *good = isfinite(minimum.energy) && tbg_start_same_chemistry(m, x, original);
    return TBG_OK;
}

int tbg_start_scatter(const tbg_molecule *m, const tbg_system *system, uint64_t seed, int index, int tries,
                      double *positions, int *moved) {
    double *x = TBG_NEW(double, 3 * (size_t)m->n_atoms);
    unsigned char *side = TBG_NEW(unsigned char, m->n_atoms);
    int status = x && side ? TBG_OK : TBG_FAILED;
    *moved = 0;
    for (int t = 0; t < tries && status == TBG_OK && !*moved; t++) {
        uint64_t stream = TBG_STREAM(TBG_STREAM_BUILD, 0x10000 + index);
        status =
            try_once(m, system, seed, stream, (uint64_t)t * (uint64_t)m->n_bonds, positions, x, side, moved);
    }
    if (*moved)
        memcpy(positions, x, 3 * (size_t)m->n_atoms * sizeof *x);
    free(x);
    free(side);
    return status;
}
