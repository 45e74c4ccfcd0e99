/* group_kernel.h: energy and forces of one conformation by a group of TBG_GROUP threads, for the precision
 * that REAL and F() name; included once for float and once for double, by .cu files for the device and by
 * tests for the host, where the threads of a group take turns (TBG_EACH). Owns the formulas on the device;
 * the numbers match reference.c.
 *
 * A phase is what every thread does between two synchronisations; no thread reads what another writes in the
 * same phase. Sums have a fixed order: no atomics, the same bits every time and everywhere in a launch. Index
 * letters: i, j atoms; t the thread; u work items. d = x_i - x_j; pull S of a pair: force on i is S d.
 * want_e, want_f are compile-time constants of inlined functions. */
#ifndef TBG_GROUP_ONCE
#define TBG_GROUP_ONCE
#include "energy/formulas.h"
#include <math.h>
#ifdef __CUDACC__
#define TBG_HD static __device__ __forceinline__
#define TBG_EACH(c, t, statement)                                                                            \
    do {                                                                                                     \
        const int t = (c)->thread;                                                                           \
        statement;                                                                                           \
        __syncwarp();                                                                                        \
    } while (0)
#define TBG_OWN(t) 0 /* place of a thread's own values */
#define TBG_OWNERS 1
TBG_HD float tbg_rsqrt_f32(float x) {
    return rsqrtf(x);
}
TBG_HD double tbg_rsqrt_f64(double x) {
    return rsqrt(x);
}
#else
#define TBG_HD static inline __attribute__((always_inline, unused))
static int
    tbg_group_backwards; /* tests: threads take turns from the last; any race between them then shows */
#define TBG_EACH(c, t, statement)                                                                            \
    for (int turn_ = 0; turn_ < TBG_GROUP; turn_++) {                                                        \
        const int t = tbg_group_backwards ? TBG_GROUP - 1 - turn_ : turn_;                                   \
        statement;                                                                                           \
    }
#define TBG_OWN(t) (t)
#define TBG_OWNERS TBG_GROUP
TBG_HD float tbg_rsqrt_f32(float x) {
    return 1 / sqrtf(x);
}
TBG_HD double tbg_rsqrt_f64(double x) {
    return 1 / sqrt(x);
}
#endif
TBG_DEFINE_ATANH_REST_F32(TBG_HD, tbg_atanh_rest_f32, float)
TBG_DEFINE_ATANH_REST_F64(TBG_HD, tbg_atanh_rest_f64, double)
/* clang-format off: it takes F(name)(arguments) for a declaration */
#endif

#define C(x) ((REAL)(x))
#define ATOM(k, i) (c->r[c->s->r_atom + (k)*c->s->n_atoms + (i)])
#define SCALAR(k) (c->r[c->s->r_scalar + (k)])

typedef struct {
    const tbg_group_layout *s;
    const int32_t *ints; /* of this system */
    const REAL *r;
    REAL *scratch, *x, *f;     /* [s->scratch], [n_atoms][3], [n_atoms][3] */
    REAL *B, *iB, *dB, *bend;  /* [n_atoms]: Born radius, its inverse, dB/dI, -2 dE/dB and then dE/dI */
    double (*energy)[TBG_E_N]; /* [TBG_GROUP] on the host, [1] on the device: a thread's own sums */
    int thread;                /* on the device */
} F(group);

/* Carve a conformation's memory; returns what follows (in dynamics: velocities). */
TBG_HD REAL *F(carve)(F(group) * c, REAL *memory) {
    int n = c->s->n_atoms;
    c->scratch = memory;
    c->x = memory + c->s->scratch;
    c->f = c->x + 3 * n;
    c->B = c->f + 3 * n;
    c->iB = c->B + n;
    c->dB = c->iB + n;
    c->bend = c->dB + n;
    return c->bend + n;
}

TBG_HD void F(add_energy)(const F(group) * c, int t, int component, REAL e) {
    (void)t;
    c->energy[TBG_OWN(t)][component] += (double)e;
}

typedef struct {
    REAL v[3];
} F(vec);
TBG_HD F(vec) F(between)(const REAL *x, int i, int j) {
    F(vec) d = {{x[3 * i] - x[3 * j], x[3 * i + 1] - x[3 * j + 1], x[3 * i + 2] - x[3 * j + 2]}};
    return d;
}
TBG_HD REAL F(dot)(F(vec) u, F(vec) w) {
    return u.v[0] * w.v[0] + (u.v[1] * w.v[1] + u.v[2] * w.v[2]);
}
TBG_HD F(vec) F(cross)(F(vec) u, F(vec) w) {
    F(vec)
    r = {{u.v[1] * w.v[2] - u.v[2] * w.v[1], u.v[2] * w.v[0] - u.v[0] * w.v[2],
          u.v[0] * w.v[1] - u.v[1] * w.v[0]}};
    return r;
}
TBG_HD void F(slot)(const F(group) * c, int slot, F(vec) g) {
    for (int a = 0; a < 3; a++)
        c->scratch[3 * slot + a] = g.v[a];
}

/* ---- bonded terms: one thread a term ---- */

TBG_HD void F(bonds)(const F(group) * c, int t, int want_e, int want_f) {
    const tbg_group_layout *s = c->s;
    for (int k = t; k < s->n_bonds; k += TBG_GROUP) {
        const REAL *q = c->r + s->r_bond + 2 * k;
        F(vec) d = F(between)(c->x, c->ints[s->i_bond + 2 * k], c->ints[s->i_bond + 2 * k + 1]);
        REAL r2 = F(dot)(d, d), ir = RSQRT(r2), stretch = r2 * ir - q[0], slope = q[1] * stretch;
        if (want_e)
            F(add_energy)(c, t, TBG_E_BOND, C(0.5) * slope * stretch);
        if (!want_f)
            continue;
        for (int a = 0; a < 3; a++)
            d.v[a] *= -slope * ir;
        F(slot)(c, k, d);
    }
}

TBG_HD void F(pairs14)(const F(group) * c, int t, int want_e, int want_f) {
    const tbg_group_layout *s = c->s;
    for (int k = t; k < s->n_pairs14; k += TBG_GROUP) {
        const REAL *q = c->r + s->r_pair14 + 3 * k;
        F(vec) d = F(between)(c->x, c->ints[s->i_pair14 + 2 * k], c->ints[s->i_pair14 + 2 * k + 1]);
        REAL ir = RSQRT(F(dot)(d, d)), ir2 = ir * ir, ir6 = ir2 * ir2 * ir2, a12 = q[0] * ir6, e = q[2] * ir;
        if (want_e)
            F(add_energy)(c, t, TBG_E_NONBONDED, ir6 * (a12 * C(1.0 / 12) - q[1] * C(1.0 / 6)) + e);
        if (!want_f)
            continue;
        REAL S = ir2 * (ir6 * (a12 - q[1]) + e);
        for (int a = 0; a < 3; a++)
            d.v[a] *= S;
        F(slot)(c, s->n_bonds + k, d);
    }
}

/* As batch_kernel.h: dtheta/dx_i = u x n / (|u|^2 |n|), dtheta/dx_k = n x v / (|v|^2 |n|), n = u x v. */
TBG_HD void F(angles)(const F(group) * c, int t, int want_e, int want_f) {
    const tbg_group_layout *s = c->s;
    for (int m = t; m < s->n_angles; m += TBG_GROUP) {
        const REAL *q = c->r + s->r_angle + 2 * m;
        const int32_t *atom = c->ints + s->i_angle + 3 * m;
        F(vec)
        u = F(between)(c->x, atom[0], atom[1]), v = F(between)(c->x, atom[2], atom[1]), n = F(cross)(u, v);
        REAL uu = F(dot)(u, u), vv = F(dot)(v, v), nn = F(dot)(n, n);
        nn = nn < C(1e-24) ? C(1e-24) : nn;
        REAL in = RSQRT(nn), bend = ATAN2(nn * in, F(dot)(u, v)) - q[0], slope = q[1] * bend;
        if (want_e)
            F(add_energy)(c, t, TBG_E_ANGLE, C(0.5) * slope * bend);
        if (!want_f)
            continue;
        F(vec) gi = F(cross)(u, n), gk = F(cross)(n, v), gj;
        REAL si = -slope * in / uu, sk = -slope * in / vv;
        for (int a = 0; a < 3; a++) {
            gi.v[a] *= si;
            gk.v[a] *= sk;
            gj.v[a] = -(gi.v[a] + gk.v[a]);
        }
        int slot = s->n_bonds + s->n_pairs14 + 3 * m;
        F(slot)(c, slot, gi);
        F(slot)(c, slot + 1, gj);
        F(slot)(c, slot + 2, gk);
    }
}

/* E = P(cos phi) + sin phi Q(cos phi); batch_kernel.h says how. wave: 0: P of degree 4 and no Q. */
TBG_HD void F(torsion)(const F(group) * c, int t, const int32_t *atom, const REAL *q, int wave, int slot,
                       int want_e, int want_f) {
    F(vec)
    Fv = F(between)(c->x, atom[0], atom[1]), G = F(between)(c->x, atom[1], atom[2]),
    H = F(between)(c->x, atom[3], atom[2]);
    F(vec) A = F(cross)(Fv, G), B = F(cross)(H, G);
    REAL ia = RSQRT(F(dot)(A, A)), ib = RSQRT(F(dot)(B, B)), gg = F(dot)(G, G), ig = RSQRT(gg), g = gg * ig;
    REAL iab = ia * ib, co = F(dot)(A, B) * iab, si = -g * F(dot)(Fv, B) * iab, p, dp;
    if (wave) {
        REAL rest = 0, drest = 0;
        p = dp = 0;
        for (int m = 6; m >= 0; m--) {
            dp = dp * co + p;
            p = p * co + q[m];
        }
        for (int m = 5; m >= 0; m--) {
            drest = drest * co + rest;
            rest = rest * co + q[7 + m];
        }
        p = p + si * rest;
        dp = -si * dp + co * rest - si * si * drest;
    } else {
        REAL c2 = co * co;
        p = (q[0] + q[1] * co) + c2 * ((q[2] + q[3] * co) + c2 * q[4]);
        dp = -si * (q[1] + (2 * q[2]) * co + c2 * (3 * q[3] + (4 * q[4]) * co));
    }
    if (want_e)
        F(add_energy)(c, t, TBG_E_TORSION, p);
    if (!want_f)
        return;
    REAL a_i = dp * g * ia * ia, b_l = dp * g * ib * ib, turn = dp * ig;
    REAL shift_a = turn * F(dot)(Fv, G) * ia * ia, shift_b = turn * F(dot)(H, G) * ib * ib;
    F(vec) fi, fj, fk, fl;
    for (int a = 0; a < 3; a++) {
        REAL shift = shift_a * A.v[a] - shift_b * B.v[a];
        fi.v[a] = a_i * A.v[a];
        fl.v[a] = -b_l * B.v[a];
        fj.v[a] = -shift - fi.v[a];
        fk.v[a] = shift - fl.v[a];
    }
    F(slot)(c, slot, fi);
    F(slot)(c, slot + 1, fj);
    F(slot)(c, slot + 2, fk);
    F(slot)(c, slot + 3, fl);
}

TBG_HD void F(torsions)(const F(group) * c, int t, int want_e, int want_f) {
    const tbg_group_layout *s = c->s;
    for (int k = t; k < s->n_cosines; k += TBG_GROUP)
        F(torsion)(c, t, c->ints + s->i_cosine + 4 * k, c->r + s->r_cosine + 5 * k, 0, 4 * k, want_e, want_f);
    for (int k = t; k < s->n_waves; k += TBG_GROUP)
        F(torsion)
    (c, t, c->ints + s->i_wave + 4 * k, c->r + s->r_wave + 13 * k, 1, 4 * (s->n_cosines + k), want_e, want_f);
}

/* Every component of every atom adds up its slots. */
TBG_HD void F(gather)(const F(group) * c, int t, int stage) {
    const tbg_group_layout *s = c->s;
    const int32_t *row = c->ints + s->i_row + stage * (s->n_atoms + 1), *entry = c->ints + s->i_entry;
    for (int u = t; u < 3 * s->n_atoms; u += TBG_GROUP) {
        int atom = u / 3, a = u - 3 * atom;
        REAL sum = stage ? c->f[u] : C(0);
        for (int k = row[atom]; k < row[atom + 1]; k++) {
            REAL g = c->scratch[3 * (entry[k] >> 1) + a];
            sum += entry[k] & 1 ? -g : g;
        }
        c->f[u] = sum;
    }
}

/* ---- pairs: an item is an atom and one of TBG_GROUP_PARTS interleaved shares of its partners ---- */

TBG_DEFINE_DESCREEN(TBG_HD, F(descreen_apart), F(descreen_touching), REAL, REAL)

/* Descreening of i by j (formulas.h). *slope = -r dI/dr. */
TBG_HD REAL F(descreen)(REAL r2, REAL ir, REAL ir2, REAL o, REAL sr, REAL sr2, REAL half_sr3, REAL *slope) {
    REAL touch = o + sr, z = sr2 * ir2;
    if (!(r2 < touch * touch) && z < C(TBG_DESCREEN_LIMIT))
        return F(descreen_apart)(half_sr3 * ir2 * ir2, 1 / (1 - z), ATANH_REST(z), slope);
    REAL r = r2 * ir, U = r + sr, D = r - sr, aD = D < 0 ? -D : D, L = aD > o ? aD : o, down;
    *slope = 0;
    if (!(o < U))     /* j lies inside i */
        return r - r; /* 0, or not a number */
    REAL iu = 1 / U, il = 1 / L;
    REAL I = F(descreen_touching)(r, sr2 * ir, iu, il, C(0.5) * ir * LOG(L * iu), &down);
    if (o < -D) /* i lies inside j */
        down += il * il * r;
    *slope = -down;
    return I;
}

TBG_HD void F(born_pairs)(const F(group) * c, int t) {
    int n = c->s->n_atoms;
    for (int u = t; u < TBG_GROUP_PARTS * n; u += TBG_GROUP) {
        int i = u / TBG_GROUP_PARTS, part = u % TBG_GROUP_PARTS;
        REAL I = 0, slope, o = ATOM(TBG_GROUP_O, i);
        for (int j = part; j < n; j += TBG_GROUP_PARTS) {
            F(vec) d = F(between)(c->x, i, j);
            REAL r2 = F(dot)(d, d), ir = RSQRT(r2);
            if (j == i || (c->s->cut && r2 > SCALAR(TBG_GROUP_CUTOFF2)))
                continue;
            I += F(descreen)(r2, ir, ir * ir, o, ATOM(TBG_GROUP_SR, j), ATOM(TBG_GROUP_SR2, j),
                             ATOM(TBG_GROUP_HALF_SR3, j), &slope);
        }
        c->scratch[part * n + i] = I;
    }
}

/* psi = I o, 1/B = 1/o - tanh(alpha psi - beta psi^2 + gamma psi^3)/radius. */
TBG_HD void F(born_radii)(const F(group) * c, int t, int want_e) {
    int n = c->s->n_atoms;
    REAL alpha = SCALAR(TBG_GROUP_ALPHA), beta = SCALAR(TBG_GROUP_BETA), gamma = SCALAR(TBG_GROUP_GAMMA);
    for (int i = t; i < n; i += TBG_GROUP) {
        REAL I = 0, o = ATOM(TBG_GROUP_O, i), inv_radius = ATOM(TBG_GROUP_INV_RADIUS, i);
        for (int part = 0; part < TBG_GROUP_PARTS; part++)
            I += c->scratch[part * n + i];
        REAL psi = I * o, arg = psi * (alpha + psi * (gamma * psi - beta));
        REAL ex = EXP(arg < 0 ? 2 * arg : -2 * arg), ip = 1 / (1 + ex), th = (1 - ex) * ip; /* tanh |arg| */
        th = arg < 0 ? -th : th;
        REAL iB = ATOM(TBG_GROUP_INV_O, i) - th * inv_radius, B = 1 / iB;
        c->B[i] = B;
        c->iB[i] = iB;
        c->dB[i] =
            B * B * inv_radius * (4 * ex * ip * ip) * o * (alpha + psi * ((3 * gamma) * psi - 2 * beta));
        REAL ratio = ATOM(TBG_GROUP_RADIUS, i) * iB, ratio2 = ratio * ratio;
        REAL area = ATOM(TBG_GROUP_AREA, i) * (ratio2 * ratio2 * ratio2), self = ATOM(TBG_GROUP_SELF, i) * iB;
        c->bend[i] = (2 * self + 12 * area) * iB; /* -2 dE/dB */
        if (want_e)
            F(add_energy)(c, t, TBG_E_GB, self + area);
    }
}

/* Lennard-Jones, Coulomb and generalised Born as seen from i; energies from i < j only. */
TBG_HD void F(plain_pairs)(const F(group) * c, int t, int want_e, int want_f) {
    const tbg_group_layout *s = c->s;
    const int n = s->n_atoms, gb = s->gb, cut = s->cut;
    const REAL cutoff2 = SCALAR(TBG_GROUP_CUTOFF2), shift = SCALAR(TBG_GROUP_SHIFT);
    for (int u = t; u < TBG_GROUP_PARTS * n; u += TBG_GROUP) {
        int i = u / TBG_GROUP_PARTS, part = u % TBG_GROUP_PARTS;
        const int32_t *plain = c->ints + s->i_plain + i * s->words;
        REAL half_sigma = ATOM(TBG_GROUP_HALF_SIGMA, i), root = ATOM(TBG_GROUP_ROOT24, i);
        REAL kq = SCALAR(TBG_GROUP_COULOMB) * ATOM(TBG_GROUP_CHARGE, i);
        REAL kgb = SCALAR(TBG_GROUP_GB_COULOMB) * ATOM(TBG_GROUP_CHARGE, i);
        REAL Bi = gb ? c->B[i] : C(0), iBi = gb ? C(-0.25) * c->iB[i] : C(0), bend = 0, e_plain = 0, e_gb = 0;
        F(vec) f = {{0, 0, 0}};
        for (int j = part; j < n; j += TBG_GROUP_PARTS) {
            F(vec) d = F(between)(c->x, i, j);
            REAL r2 = F(dot)(d, d), ir = RSQRT(r2), ir2 = ir * ir, S = 0, q = ATOM(TBG_GROUP_CHARGE, j);
            if (j == i || (cut && r2 > cutoff2))
                continue;
            if ((uint32_t)plain[j >> 5] >> (j & 31) & 1) {
                REAL sigma = half_sigma + ATOM(TBG_GROUP_HALF_SIGMA, j), z = sigma * sigma * ir2,
                     z3 = z * z * z;
                REAL lj = root * ATOM(TBG_GROUP_ROOT24, j) * z3, e = kq * q * ir;
                S = ir2 * (lj * (2 * z3 - 1) + e);
                if (want_e && i < j)
                    e_plain += lj * C(1.0 / 6) * (z3 - 1) + e - kq * q * shift;
            }
            if (gb) { /* E = kqq/f, f^2 = r^2 + B_i B_j exp(-r^2/(4 B_i B_j)) */
                REAL Bj = c->B[j], w = r2 * (iBi * c->iB[j]), ex = EXP(w), iff = RSQRT(r2 + (Bi * Bj) * ex);
                REAL E = kgb * q * iff, k = E * (iff * iff), ke = k * ex;
                if (want_e && i < j)
                    e_gb += E - kgb * q * shift;
                S += k - C(0.25) * ke;
                bend += (ke - ke * w) * Bj;
            }
            for (int a = 0; a < 3; a++)
                f.v[a] += S * d.v[a];
        }
        if (want_e) {
            F(add_energy)(c, t, TBG_E_NONBONDED, e_plain);
            F(add_energy)(c, t, TBG_E_GB, e_gb);
        }
        if (!want_f)
            continue;
        for (int a = 0; a < 3; a++)
            c->scratch[(4 * part + a) * n + i] = f.v[a];
        c->scratch[(4 * part + 3) * n + i] = bend;
    }
}

/* Forces through the Born radii; bend holds dE/dI. */
TBG_HD void F(chain_pairs)(const F(group) * c, int t) {
    int n = c->s->n_atoms;
    for (int u = t; u < TBG_GROUP_PARTS * n; u += TBG_GROUP) {
        int i = u / TBG_GROUP_PARTS, part = u % TBG_GROUP_PARTS;
        REAL o = ATOM(TBG_GROUP_O, i), sr = ATOM(TBG_GROUP_SR, i), sr2 = ATOM(TBG_GROUP_SR2, i),
             half_sr3 = ATOM(TBG_GROUP_HALF_SR3, i), ci = c->bend[i];
        F(vec) f = {{0, 0, 0}};
        for (int j = part; j < n; j += TBG_GROUP_PARTS) {
            F(vec) d = F(between)(c->x, i, j);
            REAL r2 = F(dot)(d, d), ir = RSQRT(r2), ir2 = ir * ir, di, dj;
            if (j == i || (c->s->cut && r2 > SCALAR(TBG_GROUP_CUTOFF2)))
                continue;
            F(descreen)
            (r2, ir, ir2, o, ATOM(TBG_GROUP_SR, j), ATOM(TBG_GROUP_SR2, j), ATOM(TBG_GROUP_HALF_SR3, j), &di);
            F(descreen)(r2, ir, ir2, ATOM(TBG_GROUP_O, j), sr, sr2, half_sr3, &dj);
            REAL S = ir2 * (ci * di + c->bend[j] * dj);
            for (int a = 0; a < 3; a++)
                f.v[a] += S * d.v[a];
        }
        for (int a = 0; a < 3; a++)
            c->scratch[(4 * part + a) * n + i] = f.v[a];
    }
}

/* Add the shares; bends: also turn bend into dE/dI. */
TBG_HD void F(add_shares)(const F(group) * c, int t, int bends) {
    int n = c->s->n_atoms;
    for (int u = t; u < (bends ? 4 : 3) * n; u += TBG_GROUP) {
        int a = u / n, i = u - a * n;
        REAL sum = 0;
        for (int part = 0; part < TBG_GROUP_PARTS; part++)
            sum += c->scratch[(4 * part + a) * n + i];
        if (a < 3)
            c->f[3 * i + a] += sum;
        else
            c->bend[i] = C(-0.5) * (c->bend[i] + sum) * c->dB[i];
    }
}

/* ---- the whole ---- */

TBG_HD void F(clear_energy)(const F(group) * c, int t) {
    (void)t;
    for (int k = 0; k < TBG_E_N; k++)
        c->energy[TBG_OWN(t)][k] = 0;
}
TBG_HD void F(post_energy)(const F(group) * c, int t) {
    for (int k = 0; k < TBG_E_N; k++)
        ((double *)c->scratch)[t * TBG_E_N + k] = c->energy[TBG_OWN(t)][k];
}
/* Component t, summed in the order of the threads. */
TBG_HD void F(sum_energy)(const F(group) * c, int t, double *components) {
    double sum = 0;
    for (int k = 0; t < TBG_E_N && k < TBG_GROUP; k++)
        sum += ((const double *)c->scratch)[k * TBG_E_N + t];
    if (t < TBG_E_N)
        components[t] = sum;
}

/* x to f and, with want_e, components: [TBG_E_N] of memory that the group shares. */
TBG_HD void F(evaluate)(const F(group) * c, int want_e, int want_f, double *components) {
    if (want_e)
        TBG_EACH(c, t, F(clear_energy)(c, t));
    TBG_EACH(c, t, F(bonds)(c, t, want_e, want_f); F(pairs14)(c, t, want_e, want_f);
             F(angles)(c, t, want_e, want_f));
    if (want_f)
        TBG_EACH(c, t, F(gather)(c, t, 0));
    TBG_EACH(c, t, F(torsions)(c, t, want_e, want_f));
    if (want_f)
        TBG_EACH(c, t, F(gather)(c, t, 1));
    if (c->s->gb) {
        TBG_EACH(c, t, F(born_pairs)(c, t));
        TBG_EACH(c, t, F(born_radii)(c, t, want_e));
    }
    TBG_EACH(c, t, F(plain_pairs)(c, t, want_e, want_f));
    if (want_f) {
        TBG_EACH(c, t, F(add_shares)(c, t, c->s->gb));
        if (c->s->gb) {
            TBG_EACH(c, t, F(chain_pairs)(c, t));
            TBG_EACH(c, t, F(add_shares)(c, t, 0));
        }
    }
    if (want_e) {
        TBG_EACH(c, t, F(post_energy)(c, t));
        TBG_EACH(c, t, F(sum_energy)(c, t, components));
    }
}

#undef C
#undef ATOM
#undef SCALAR
