/* batch.c: lays a system's terms out for the batched kernels (batch_layout.h) and calls them. Refuses systems
 * whose tables do not hold together: atoms out of range, a pair listed twice, periodicities above 6, too many
 * atoms. */
#include "energy/batch_layout.h"
#include "base/memory.h"
#include "base/simd.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

TBG_SIMD_DECLARE(const tbg_batch_table, tbg_batch_table);

#define MOST_ATOMS 2000 /* pairs grow with the square: scratch is then 0.7 GB a thread */

static int check_atoms(const tbg_system *s, const char *what, int term, int n, const int *atoms) {
    for (int a = 0; a < n; a++) {
        if (atoms[a] < 0 || atoms[a] >= s->n_atoms)
            return tbg_fail(TBG_INPUT, "%s %d names atom %d of %d", what, term + 1, atoms[a] + 1, s->n_atoms);
        for (int b = 0; b < a; b++)
            if (atoms[a] == atoms[b])
                return tbg_fail(TBG_INPUT, "%s %d names atom %d twice", what, term + 1, atoms[a] + 1);
    }
    return TBG_OK;
}

/* ---- torsions: terms about the same four atoms become one polynomial ---- */

typedef struct {
    int atoms[4], order; /* order: of the first term, keeps the sum's order reproducible */
    double p[TBG_TORSION_DEGREE + 1], q[TBG_TORSION_DEGREE];
} torsion;

static int compare_torsions(const void *a, const void *b) {
    const torsion *s = a, *t = b;
    for (int k = 0; k < 4; k++)
        if (s->atoms[k] != t->atoms[k])
            return s->atoms[k] < t->atoms[k] ? -1 : 1;
    return s->order < t->order ? -1 : 1;
}

/* barrier (1 + cos(n phi - phase)) = barrier + barrier cos(phase) T_n(c) + barrier sin(phase) s U_{n-1}(c).
 */
static void expand_torsion(const tbg_torsion_term *term, torsion *out) {
    double T[2][TBG_TORSION_DEGREE + 1] = {{1}, {0, 1}}, U[2][TBG_TORSION_DEGREE + 1] = {{0}, {1}};
    int n = term->periodicity;
    for (int m = 2; m <= n; m++) /* X_m = 2 c X_{m-1} - X_{m-2}; U here is U_{m-1} */
        for (int k = TBG_TORSION_DEGREE; k >= 0; k--) {
            T[m & 1][k] = (k ? 2 * T[~m & 1][k - 1] : 0) - T[m & 1][k];
            U[m & 1][k] = (k ? 2 * U[~m & 1][k - 1] : 0) - U[m & 1][k];
        }
    double c = cos(term->phase), s = sin(term->phase);
    if (fabs(s) < 1e-9) /* phases of 0 and pi, as files write them */
        s = 0, c = c < 0 ? -1 : 1;
    out->p[0] += term->barrier;
    for (int k = 0; k <= TBG_TORSION_DEGREE; k++)
        out->p[k] += term->barrier * c * T[n & 1][k];
    for (int k = 0; k < TBG_TORSION_DEGREE; k++)
        out->q[k] += term->barrier * s * U[n & 1][k];
}

/* *out: [*n] merged torsions sorted by atoms, freed by the caller. */
static int merge_torsions(const tbg_system *s, torsion **out, int *n) {
    *n = 0;
    torsion *all = *out = TBG_NEW(torsion, s->n_torsions);
    if (!all)
        return TBG_FAILED;
    for (int t = 0; t < s->n_torsions; t++) {
        const tbg_torsion_term *q = &s->torsions[t];
        int atoms[4] = {q->i, q->j, q->k, q->l};
        TBG_TRY(check_atoms(s, "torsion", t, 4, atoms));
        if (q->periodicity < 1 || q->periodicity > TBG_TORSION_DEGREE)
            return tbg_fail(TBG_INPUT, "torsion %d has periodicity %d; the native engine knows 1 to %d",
                            t + 1, q->periodicity, TBG_TORSION_DEGREE);
        for (int k = 0; k < 4; k++) /* i j k l and l k j i are the same angle */
            all[t].atoms[k] = q->j < q->k ? atoms[k] : atoms[3 - k];
        all[t].order = t;
        expand_torsion(q, &all[t]);
    }
    qsort(all, (size_t)s->n_torsions, sizeof *all, compare_torsions);
    for (int t = 0; t < s->n_torsions; t++) {
        torsion *last = *n ? &all[*n - 1] : NULL;
        if (!last || memcmp(last->atoms, all[t].atoms, sizeof last->atoms)) {
            all[(*n)++] = all[t];
            continue;
        }
        for (int k = 0; k <= TBG_TORSION_DEGREE; k++)
            last->p[k] += all[t].p[k];
        for (int k = 0; k < TBG_TORSION_DEGREE; k++)
            last->q[k] += all[t].q[k];
    }
    return TBG_OK;
}

static int is_cosine(const torsion *t) {
    for (int k = 0; k < TBG_TORSION_DEGREE; k++)
        if (t->q[k] != 0)
            return 0;
    return t->p[5] == 0 && t->p[6] == 0;
}

/* ---- pairs: what kind is each (i, j), then rows ---- */

/* kind: [n_atoms][n_atoms], upper triangle: -1 not listed, otherwise TBG_PAIR_*; term: index of the 1-4 term.
 */
static int classify_pairs(const tbg_system *s, signed char *kind, int *term) {
    int n = s->n_atoms;
    memset(kind, -1, (size_t)n * n);
    for (int t = 0; t < s->n_pairs + s->n_pairs14; t++) {
        const tbg_pair_term *p = t < s->n_pairs ? NULL : &s->pairs14[t - s->n_pairs];
        int atoms[2] = {p ? p->i : s->pairs[t][0], p ? p->j : s->pairs[t][1]};
        TBG_TRY(check_atoms(s, p ? "1-4 pair" : "pair", p ? t - s->n_pairs : t, 2, atoms));
        int i = atoms[0] < atoms[1] ? atoms[0] : atoms[1], j = atoms[0] + atoms[1] - i;
        if (kind[(size_t)i * n + j] >= 0)
            return tbg_fail(TBG_INPUT, "the pair of atoms %d and %d is listed twice", i + 1, j + 1);
        kind[(size_t)i * n + j] = p ? TBG_PAIR_14 : TBG_PAIR_PLAIN;
        term[(size_t)i * n + j] = p ? t - s->n_pairs : t;
    }
    if (s->gb != TBG_GB_NONE)
        for (int i = 0; i < n; i++)
            for (int j = i + 1; j < n; j++)
                if (kind[(size_t)i * n + j] < 0)
                    kind[(size_t)i * n + j] = TBG_PAIR_EXCLUDED;
    return TBG_OK;
}

/* Spheres overlap for r < o + sr; the series of the other branch needs (sr/r)^2 below its limit as well. */
static double near2(const tbg_system *s, int i, int j) {
    double oi = s->gb_radius[i] - s->gb_offset, oj = s->gb_radius[j] - s->gb_offset;
    double si = s->gb_screen[i] * oi, sj = s->gb_screen[j] * oj;
    double r = fmax(fmax(oi + sj, oj + si), fmax(si, sj) / sqrt(TBG_DESCREEN_LIMIT));
    return r * r * (1 + 1e-6);
}

static double gb_prefactor(const tbg_system *s) {
    return s->gb_coulomb * (1 / s->gb_solute - 1 / s->gb_solvent);
}

static void fill_pairs(const tbg_system *s, tbg_batch_system *b, const signed char *kind, const int *term) {
    int n = s->n_atoms, p = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < TBG_PAIR_KINDS; k++) {
            b->row[3 * i + k] = p;
            for (int j = i + 1; j < n; j++) {
                if (kind[(size_t)i * n + j] != k)
                    continue;
                double sigma = 0, epsilon = 0, qq = 0,
                       *out = b->p64 + b->at_pair + TBG_PAIR_REALS * (size_t)p;
                if (k == TBG_PAIR_PLAIN) {
                    sigma = 0.5 * (s->sigma[i] + s->sigma[j]);
                    epsilon = sqrt(s->epsilon[i] * s->epsilon[j]);
                    qq = s->charge[i] * s->charge[j];
                } else if (k == TBG_PAIR_14) {
                    const tbg_pair_term *q = &s->pairs14[term[(size_t)i * n + j]];
                    sigma = q->sigma, epsilon = q->epsilon, qq = q->charge_product;
                }
                double s6 = pow(sigma, 6);
                out[TBG_PAIR_A12] = 48 * epsilon * s6 * s6;
                out[TBG_PAIR_B6] = 24 * epsilon * s6;
                out[TBG_PAIR_KQQ] = s->coulomb * qq;
                if (b->gb) {
                    out[TBG_PAIR_KGB] = -gb_prefactor(s) * s->charge[i] * s->charge[j];
                    b->p64[b->at_near + (size_t)p] = near2(s, i, j);
                }
                b->first[p] = i;
                b->partner[p++] = j;
            }
        }
    b->row[3 * n] = p;
}

/* ---- the whole ---- */

static int check_gb(const tbg_system *s) {
    if (s->gb == TBG_GB_NONE)
        return TBG_OK;
    if (!s->gb_radius || !s->gb_screen || !(s->gb_solute > 0) || !(s->gb_solvent > 0))
        return tbg_fail(TBG_INPUT, "the system's generalised Born parameters are incomplete");
    for (int i = 0; i < s->n_atoms; i++)
        if (!(s->gb_radius[i] > s->gb_offset) || !(s->gb_screen[i] >= 0))
            return tbg_fail(TBG_INPUT, "atom %d has Born radius %g nm and screening factor %g", i + 1,
                            s->gb_radius[i], s->gb_screen[i]);
    return TBG_OK;
}

static void fill_terms(const tbg_system *s, tbg_batch_system *b, const torsion *torsions, int n_torsions) {
    for (int t = 0; t < s->n_bonds; t++) {
        const tbg_bond_term *q = &s->bonds[t];
        memcpy(b->bonds + 2 * t, (int[]){q->i, q->j}, 2 * sizeof(int));
        memcpy(b->p64 + b->at_bond + 2 * t, (double[]){q->length, q->k}, 2 * sizeof(double));
    }
    for (int t = 0; t < s->n_angles; t++) {
        const tbg_angle_term *q = &s->angles[t];
        memcpy(b->angles + 3 * t, (int[]){q->i, q->j, q->k}, 3 * sizeof(int));
        memcpy(b->p64 + b->at_angle + 2 * t, (double[]){q->angle, q->stiffness}, 2 * sizeof(double));
    }
    int c = 0, w = 0;
    for (int t = 0; t < n_torsions; t++) {
        const torsion *q = &torsions[t];
        int cosine = is_cosine(q);
        double *out = b->p64 + (cosine ? b->at_cosine + TBG_TORSION_COS * (size_t)c
                                       : b->at_wave + TBG_TORSION_WAVE * (size_t)w);
        memcpy(out, q->p, (cosine ? 5 : 7) * sizeof(double));
        if (!cosine)
            memcpy(out + 7, q->q, sizeof q->q);
        memcpy(cosine ? b->cosines + 4 * c : b->waves + 4 * w, q->atoms, sizeof q->atoms);
        c += cosine;
        w += !cosine;
    }
}

static void fill_atoms(const tbg_system *s, tbg_batch_system *b) {
    double *scalar = b->p64 + b->at_scalar;
    scalar[TBG_SCALAR_CUTOFF2] =
        nextafter(s->cutoff * s->cutoff, 0); /* greater than this: at or beyond the cutoff */
    scalar[TBG_SCALAR_SHIFT] = b->cut ? 1 / s->cutoff : 0;
    if (!b->gb)
        return;
    scalar[TBG_SCALAR_ALPHA] = s->gb_alpha;
    scalar[TBG_SCALAR_BETA] = s->gb_beta;
    scalar[TBG_SCALAR_GAMMA] = s->gb_gamma;
    for (int i = 0; i < s->n_atoms; i++) {
        double *a = b->p64 + b->at_atom + TBG_ATOM_REALS * (size_t)i, radius = s->gb_radius[i];
        a[TBG_ATOM_O] = radius - s->gb_offset;
        a[TBG_ATOM_SR] = s->gb_screen[i] * (radius - s->gb_offset);
        a[TBG_ATOM_SR2] = a[TBG_ATOM_SR] * a[TBG_ATOM_SR];
        a[TBG_ATOM_HALF_SR3] = 0.5 * a[TBG_ATOM_SR] * a[TBG_ATOM_SR2];
        a[TBG_ATOM_SELF] = -0.5 * gb_prefactor(s) * s->charge[i] * s->charge[i];
        a[TBG_ATOM_INV_O] = 1 / (radius - s->gb_offset);
        a[TBG_ATOM_INV_RADIUS] = 1 / radius;
        a[TBG_ATOM_RADIUS] = radius;
        a[TBG_ATOM_AREA] = s->gb_surface * (radius + s->gb_probe) * (radius + s->gb_probe);
    }
}

static size_t count_pairs(const signed char *kind, int n) {
    size_t count = 0;
    for (size_t k = 0; k < (size_t)n * n; k++)
        count += kind[k] >= 0;
    return count;
}

static int build(const tbg_system *s, tbg_batch_system *b, torsion *torsions, int n_torsions,
                 signed char *kind, int *term) {
    for (int t = 0; t < s->n_bonds; t++)
        TBG_TRY(check_atoms(s, "bond", t, 2, (int[]){s->bonds[t].i, s->bonds[t].j}));
    for (int t = 0; t < s->n_angles; t++)
        TBG_TRY(check_atoms(s, "angle", t, 3, (int[]){s->angles[t].i, s->angles[t].j, s->angles[t].k}));
    TBG_TRY(check_gb(s));
    TBG_TRY(classify_pairs(s, kind, term));
    b->table = TBG_SIMD_PICK(tbg_batch_table, tbg_simd_level());
    b->n_atoms = s->n_atoms;
    b->gb = s->gb != TBG_GB_NONE;
    b->cut = s->cutoff > 0;
    b->n_bonds = s->n_bonds;
    b->n_angles = s->n_angles;
    b->n_pairs = (int)count_pairs(kind, s->n_atoms);
    for (int t = 0; t < n_torsions; t++)
        is_cosine(&torsions[t]) ? b->n_cosines++ : b->n_waves++;
    size_t at = 0;
    b->at_bond = at, at += 2 * (size_t)b->n_bonds;
    b->at_angle = at, at += 2 * (size_t)b->n_angles;
    b->at_cosine = at, at += TBG_TORSION_COS * (size_t)b->n_cosines;
    b->at_wave = at, at += TBG_TORSION_WAVE * (size_t)b->n_waves;
    b->at_pair = at, at += TBG_PAIR_REALS * (size_t)b->n_pairs;
    b->at_near = at, at += (size_t)b->n_pairs;
    b->at_atom = at, at += TBG_ATOM_REALS * (size_t)b->n_atoms;
    b->at_scalar = at, at += TBG_SCALAR_REALS;
    b->n_reals = at;
    b->bonds = TBG_NEW(int, 2 * (size_t)b->n_bonds);
    b->angles = TBG_NEW(int, 3 * (size_t)b->n_angles);
    b->cosines = TBG_NEW(int, 4 * (size_t)b->n_cosines);
    b->waves = TBG_NEW(int, 4 * (size_t)b->n_waves);
    b->row = TBG_NEW(int, 3 * (size_t)b->n_atoms + 1);
    b->partner = TBG_NEW(int, b->n_pairs);
    b->first = TBG_NEW(int, b->n_pairs);
    b->p64 = TBG_NEW(double, b->n_reals);
    b->p32 = TBG_NEW(float, b->n_reals);
    if (!b->bonds || !b->angles || !b->cosines || !b->waves || !b->row || !b->partner || !b->first ||
        !b->p64 || !b->p32)
        return TBG_FAILED;
    fill_terms(s, b, torsions, n_torsions);
    fill_pairs(s, b, kind, term);
    fill_atoms(s, b);
    for (size_t k = 0; k < b->n_reals; k++) {
        if (!isfinite(b->p64[k]))
            return tbg_fail(TBG_INPUT, "the system has a parameter that is not finite");
        b->p32[k] = (float)b->p64[k];
    }
    return TBG_OK;
}

int tbg_batch_system_create(const tbg_system *s, tbg_batch_system **out) {
    *out = NULL;
    if (s->n_atoms < 1 || s->n_atoms > MOST_ATOMS)
        return tbg_fail(TBG_INPUT, "the native engine takes 1 to %d atoms, not %d", MOST_ATOMS, s->n_atoms);
    size_t square = (size_t)s->n_atoms * (size_t)s->n_atoms;
    int n_torsions = 0, status = TBG_FAILED;
    torsion *torsions = NULL;
    signed char *kind = TBG_NEW(signed char, square);
    int *term = TBG_NEW(int, square);
    tbg_batch_system *b = TBG_NEW(tbg_batch_system, 1);
    if (kind && term && b) {
        status = merge_torsions(s, &torsions, &n_torsions);
        if (status == TBG_OK)
            status = build(s, b, torsions, n_torsions, kind, term);
    }
    free(torsions);
    free(kind);
    free(term);
    if (status != TBG_OK) {
        tbg_batch_system_free(b);
        return status;
    }
    *out = b;
    return TBG_OK;
}

void tbg_batch_system_free(tbg_batch_system *b) {
    if (!b)
        return;
    free(b->bonds);
    free(b->angles);
    free(b->cosines);
    free(b->waves);
    free(b->row);
    free(b->partner);
    free(b->first);
    free(b->p64);
    free(b->p32);
    free(b);
}

/* Scratch of one register's worth of lanes, as evaluate in batch_kernel.h carves it: four vectors per atom,
 * five per pair for generalised Born and its list of near pairs. */
size_t tbg_batch_workspace_size(const tbg_batch_system *b) {
    size_t pairs = (size_t)b->n_pairs,
           vectors = 4 * (size_t)b->n_atoms + (b->gb ? 5 * pairs + pairs / 8 + 1 : 0) + 1;
    return vectors * 64;
}

void tbg_batch_evaluate(const tbg_batch_system *s, const float *x, float *f, double *energy,
                        double *components, void *workspace) {
    s->table->evaluate_f32(s, x, f, energy, components, workspace);
}

void tbg_batch_evaluate_double(const tbg_batch_system *s, const double *x, double *f, double *energy,
                               double *components, void *workspace) {
    s->table->evaluate_f64(s, x, f, energy, components, workspace);
}
