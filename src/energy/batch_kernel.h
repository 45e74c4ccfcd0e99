/* batch_kernel.h: energy and forces of one register's worth of conformations, for the precision that REAL, V,
 * WIDTH and F() name; batch_simd.c includes it once for float and once for double. Owns the formulas; the
 * numbers match src/energy/reference.c.
 *
 * Conventions: x, f point at the first lane of the pass; atom i, axis a is at (3 i + a) TBG_LANES. Forces
 * accumulate (zeroed by evaluate). d = x_i - x_j; "pull" S of a pair: force on i is S d, on j -S d. Scratch
 * arrays have WIDTH lanes per entry. want_e, want_f, cut, kind are compile-time constants of inlined
 * functions. */

#define X(i, a) F(load)(x + ((size_t)(i)*3 + (a)) * TBG_LANES)
#define AT(array, i) ((array) + (size_t)(i)*WIDTH)

typedef struct {
    V v[3];
} F(vec);

TBG_INLINE F(vec) F(between)(const REAL *x, int i, int j) { /* x_i - x_j */
    return (F(vec)){{X(i, 0) - X(j, 0), X(i, 1) - X(j, 1), X(i, 2) - X(j, 2)}};
}
TBG_INLINE V F(dot)(F(vec) u, F(vec) w) {
    return u.v[0] * w.v[0] + (u.v[1] * w.v[1] + u.v[2] * w.v[2]);
}
TBG_INLINE F(vec) F(cross)(F(vec) u, F(vec) w) {
    return (F(vec)){{u.v[1] * w.v[2] - u.v[2] * w.v[1], u.v[2] * w.v[0] - u.v[0] * w.v[2],
                     u.v[0] * w.v[1] - u.v[1] * w.v[0]}};
}
TBG_INLINE void F(add)(REAL *f, int i, V scale, F(vec) d) { /* f_i += scale d */
    REAL *p = f + (size_t)i * 3 * TBG_LANES;
    for (int a = 0; a < 3; a++)
        F(store)(p + a * TBG_LANES, F(load)(p + a * TBG_LANES) + scale * d.v[a]);
}
TBG_INLINE void F(add_vec)(REAL *f, int i, F(vec) g) {
    REAL *p = f + (size_t)i * 3 * TBG_LANES;
    for (int a = 0; a < 3; a++)
        F(store)(p + a * TBG_LANES, F(load)(p + a * TBG_LANES) + g.v[a]);
}

/* Energies gather in float over a few terms and in double over all. */
static inline void F(deposit)(double *sum, V e) {
    for (int l = 0; l < WIDTH; l++)
        sum[l] += (double)e[l];
}

/* ---- bonds, angles, torsions ---- */

static void F(bonds)(const tbg_batch_system *s, const REAL *x, REAL *f, double *energy) {
    const REAL *q = P(s) + s->at_bond;
    for (int t = 0; t < s->n_bonds; t++, q += 2) {
        int i = s->bonds[2 * t], j = s->bonds[2 * t + 1];
        F(vec) d = F(between)(x, i, j);
        V r2 = F(dot)(d, d), ir = F(rsqrt)(r2), stretch = r2 * ir - q[0], slope = q[1] * stretch;
        F(deposit)(energy, HALF * slope * stretch);
        V pull = -slope * ir;
        F(add)(f, i, pull, d);
        F(add)(f, j, -pull, d);
    }
}

/* Angle at j. dtheta/dx_i = u x n / (|u|^2 |n|), dtheta/dx_k = n x v / (|v|^2 |n|), n = u x v. */
static void F(angles)(const tbg_batch_system *s, const REAL *x, REAL *f, double *energy) {
    const REAL *q = P(s) + s->at_angle;
    const V tiny = F(splat)((REAL)1e-24);
    for (int t = 0; t < s->n_angles; t++, q += 2) {
        int i = s->angles[3 * t], j = s->angles[3 * t + 1], k = s->angles[3 * t + 2];
        F(vec) u = F(between)(x, i, j), v = F(between)(x, k, j), n = F(cross)(u, v);
        V uu = F(dot)(u, u), vv = F(dot)(v, v), nn = F(max)(tiny, F(dot)(n, n)), in = F(rsqrt)(nn);
        V bend = F(atan2)(nn * in, F(dot)(u, v)) - q[0], slope = q[1] * bend;
        F(deposit)(energy, HALF * slope * bend);
        F(vec) wu = F(cross)(u, n), wv = F(cross)(n, v), gi, gk, gj;
        V si = -slope * in * F(rcp)(uu), sk = -slope * in * F(rcp)(vv);
        for (int a = 0; a < 3; a++) {
            gi.v[a] = si * wu.v[a];
            gk.v[a] = sk * wv.v[a];
            gj.v[a] = -(gi.v[a] + gk.v[a]);
        }
        F(add_vec)(f, i, gi);
        F(add_vec)(f, j, gj);
        F(add_vec)(f, k, gk);
    }
}

/* c = cos phi, s = sin phi without the angle itself: F = x_i - x_j, G = x_j - x_k, H = x_l - x_k, A = F x G,
 * B = H x G, c = A.B/(|A||B|), s = -|G| F.B/(|A||B|). E = P(c) + s Q(c), dE/dphi = -s P' + c Q - s^2 Q'. */
TBG_INLINE void F(torsion)(const REAL *x, REAL *f, double *energy, const int *atoms, const REAL *q,
                           int wave) {
    int i = atoms[0], j = atoms[1], k = atoms[2], l = atoms[3];
    F(vec) Fv = F(between)(x, i, j), G = F(between)(x, j, k), H = F(between)(x, l, k);
    F(vec) A = F(cross)(Fv, G), B = F(cross)(H, G);
    V aa = F(dot)(A, A), bb = F(dot)(B, B), gg = F(dot)(G, G);
    V ia = F(rsqrt)(aa), ib = F(rsqrt)(bb), ig = F(rsqrt)(gg), g = gg * ig, iab = ia * ib;
    V c = F(dot)(A, B) * iab, s = -g * F(dot)(Fv, B) * iab;
    V p, dp;
    if (wave) {
        V zero = {0}, r = zero, dr = zero;
        p = dp = zero;
        for (int m = TBG_TORSION_DEGREE; m >= 0; m--) {
            dp = dp * c + p;
            p = p * c + q[m];
        }
        for (int m = TBG_TORSION_DEGREE - 1; m >= 0; m--) {
            dr = dr * c + r;
            r = r * c + q[7 + m];
        }
        p = p + s * r;
        dp = -s * dp + c * r - s * s * dr;
    } else {
        V c2 = c * c;
        p = (q[0] + q[1] * c) + c2 * ((q[2] + q[3] * c) + c2 * q[4]);
        dp = -s * (q[1] + (2 * q[2]) * c + c2 * (3 * q[3] + (4 * q[4]) * c));
    }
    F(deposit)(energy, p);
    /* Blondel and Karplus: no division by sin phi. */
    V a_i = dp * g * ia * ia, b_l = dp * g * ib * ib, turn = dp * ig;
    V shift_a = turn * F(dot)(Fv, G) * ia * ia, shift_b = turn * F(dot)(H, G) * ib * ib;
    F(vec) fi, fj, fk, fl;
    for (int a = 0; a < 3; a++) {
        V shift = shift_a * A.v[a] - shift_b * B.v[a];
        fi.v[a] = a_i * A.v[a];
        fl.v[a] = -b_l * B.v[a];
        fj.v[a] = -shift - fi.v[a];
        fk.v[a] = shift - fl.v[a];
    }
    F(add_vec)(f, i, fi);
    F(add_vec)(f, j, fj);
    F(add_vec)(f, k, fk);
    F(add_vec)(f, l, fl);
}

static void F(torsions)(const tbg_batch_system *s, const REAL *x, REAL *f, double *energy) {
    const REAL *q = P(s) + s->at_cosine;
    for (int t = 0; t < s->n_cosines; t++, q += TBG_TORSION_COS)
        F(torsion)(x, f, energy, s->cosines + 4 * t, q, 0);
    q = P(s) + s->at_wave;
    for (int t = 0; t < s->n_waves; t++, q += TBG_TORSION_WAVE)
        F(torsion)(x, f, energy, s->waves + 4 * t, q, 1);
}

/* ---- Lennard-Jones and Coulomb ---- */

/* pull: S of the pair. inside: lanes within the cutoff, used if cut. */
TBG_INLINE void F(plain_pair)(const REAL *q, V ir, V shift, F(mask) inside, int want_e, int cut, V *energy,
                              V *pull) {
    V ir2 = ir * ir, ir6 = ir2 * ir2 * ir2, a6 = q[0] * ir6, kqq_r = q[2] * ir;
    V S = ir2 * (ir6 * (12 * a6 - 6 * q[1]) + kqq_r), zero = {0};
    *pull = cut ? F(select)(inside, S, zero) : S;
    if (want_e) {
        V e = ir6 * (a6 - q[1]) + kqq_r;
        *energy += cut ? F(select)(inside, e - q[2] * shift, zero) : e;
    }
}

TBG_INLINE void F(plain_row)(const tbg_batch_system *s, const REAL *x, REAL *f, int i, int kind, int want_e,
                             int cut, V cutoff2, V shift, F(vec) * fi, V *energy) {
    int end = s->row[3 * i + kind + 1];
    const REAL *q = P(s) + s->at_pair + 4 * (size_t)s->row[3 * i + kind];
    for (int p = s->row[3 * i + kind]; p < end; p++, q += 4) {
        int j = s->partner[p];
        F(vec) d = F(between)(x, i, j);
        V r2 = F(dot)(d, d), ir = F(rsqrt)(r2), S;
        F(plain_pair)(q, ir, shift, F(lt)(r2, cutoff2), want_e, cut, energy, &S);
        for (int a = 0; a < 3; a++)
            fi->v[a] += S * d.v[a];
        F(add)(f, j, -S, d);
    }
}

/* Without generalised Born. */
TBG_INLINE void F(plain)(const tbg_batch_system *s, const REAL *x, REAL *f, double *energy, int want_e,
                         int cut) {
    const REAL *scalar = P(s) + s->at_scalar;
    V cutoff2 = F(splat)(scalar[TBG_SCALAR_CUTOFF2]), shift = F(splat)(scalar[TBG_SCALAR_SHIFT]), zero = {0};
    for (int i = 0; i < s->n_atoms; i++) {
        F(vec) fi = {{zero, zero, zero}};
        V e = zero;
        F(plain_row)(s, x, f, i, TBG_PAIR_PLAIN, want_e, cut, cutoff2, shift, &fi, &e);
        F(plain_row)(s, x, f, i, TBG_PAIR_14, want_e, 0, cutoff2, shift, &fi, &e);
        F(add_vec)(f, i, fi);
        if (want_e)
            F(deposit)(energy, e);
    }
}

/* ---- generalised Born: four passes ----
 * 1. pairs: r^2, descreening integrals I_i += I(r; o_i, sr_j) both ways, and their derivatives for pass 4;
 * 2. atoms: Born radii B, self energy, surface term;
 * 3. pairs: energy, pull S without the change of B, and dE/dB; Lennard-Jones and Coulomb in the same go;
 * 4. pairs: pull of the change of B, forces. */

typedef struct {
    REAL *I, *B, *iB,
        *bend; /* [n_atoms]: I becomes B; iB = 1/B; bend: sum over j of dE/dB's common factor, then dE/dI */
    REAL *r2, *di, *dj; /* [n_pairs]: r^2, then the pull S; -(dI_i/dr)/r and -(dI_j/dr)/r */
} F(born);

/* Spheres apart (r > o + sr, s = sr/r): I = (s^3/2r) (1/(1-s^2) - A(s^2)), A = (atanh s - s)/s^3, and
 * -r^2 dI/dr = r I + s^3/(1-s^2)^2. *slope = -(dI/dr)/r. */
TBG_INLINE void F(descreen_apart)(REAL sr, V ir, V ir3, V *I, V *slope) {
    V s = sr * ir, z = s * s, w = F(rcp)(ONE - z), s3 = s * z;
    V G = HALF * s3 * (w - F(atanh_rest)(z));
    *I = G * ir;
    *slope = (G + s3 * w * w) * ir3;
}

/* Any distance: L = max(o, |r - sr|), U = r + sr; zero when o >= U. The derivatives with respect to L and U
 * cancel but for L = sr - r. */
TBG_INLINE void F(descreen_any)(REAL sr, REAL o, V r, V ir, V ir3, V *I, V *slope) {
    V zero = {0}, U = r + sr, D = r - sr, aD = F(abs)(D), ov = F(splat)(o), L = F(max)(aD, ov);
    V iu = ONE / U, il = ONE / L, ratio = F(log)(L * iu);
    V q = QUARTER * (iu * iu - il * il), sr2_r = (sr * sr) * ir;
    V value = HALF * (il - iu + (r - sr2_r) * q + HALF * ir * ratio);
    V down = HALF * ((sr2_r * ir + ONE) * q * ir - HALF * ratio * ir3); /* (dI/dr)/r */
    F(mask) swallowed = F(lt)(ov, -D);
    down = down + F(select)(swallowed, il * il * ir, zero);
    F(mask) outside = F(lt)(ov, U);
    *I = F(select)(outside, value, zero);
    *slope = F(select)(outside, -down, zero);
}

TBG_INLINE void F(born_pass)(const tbg_batch_system *s, const REAL *x, const F(born) * w, int want_f,
                             int cut) {
    const REAL *atom = P(s) + s->at_atom, *pair = P(s) + s->at_pair;
    V cutoff2 = F(splat)(P(s)[s->at_scalar + TBG_SCALAR_CUTOFF2]), zero = {0};
    for (int i = 0; i < s->n_atoms; i++)
        F(store)(AT(w->I, i), zero);
    for (int i = 0; i < s->n_atoms; i++) {
        const REAL *ai = atom + (size_t)i * TBG_ATOM_REALS;
        V Ii = F(load)(AT(w->I, i));
        for (int p = s->row[3 * i]; p < s->row[3 * i + 3]; p++) {
            int j = s->partner[p];
            const REAL *aj = atom + (size_t)j * TBG_ATOM_REALS;
            F(vec) d = F(between)(x, i, j);
            V r2 = F(dot)(d, d), ir = F(rsqrt)(r2), ir3 = ir * ir * ir, I, J, di, dj;
            F(descreen_apart)(aj[TBG_ATOM_SR], ir, ir3, &I, &di);
            F(descreen_apart)(ai[TBG_ATOM_SR], ir, ir3, &J, &dj);
            F(mask) near = F(lt)(r2, F(splat)(pair[4 * (size_t)p + 3]));
            if (F(any)(near)) {
                V r = r2 * ir, I2, J2, di2, dj2;
                F(descreen_any)(aj[TBG_ATOM_SR], ai[TBG_ATOM_O], r, ir, ir3, &I2, &di2);
                F(descreen_any)(ai[TBG_ATOM_SR], aj[TBG_ATOM_O], r, ir, ir3, &J2, &dj2);
                I = F(select)(near, I2, I);
                J = F(select)(near, J2, J);
                di = F(select)(near, di2, di);
                dj = F(select)(near, dj2, dj);
            }
            if (cut) {
                F(mask) inside = F(lt)(r2, cutoff2);
                I = F(select)(inside, I, zero);
                J = F(select)(inside, J, zero);
                di = F(select)(inside, di, zero);
                dj = F(select)(inside, dj, zero);
            }
            Ii += I;
            F(store)(AT(w->I, j), F(load)(AT(w->I, j)) + J);
            F(store)(AT(w->r2, p), r2);
            if (want_f) {
                F(store)(AT(w->di, p), di);
                F(store)(AT(w->dj, p), dj);
            }
        }
        F(store)(AT(w->I, i), Ii);
    }
}

/* tanh t and 1 - tanh^2 t. */
TBG_INLINE void F(tanh_)(V t, V *value, V *rest) {
    V zero = {0}, e = F(exp2)((REAL)(-2 * 1.4426950408889634) * F(abs)(t)), ip = ONE / (ONE + e);
    V m = (ONE - e) * ip;
    *value = F(select)(F(lt)(t, zero), -m, m);
    *rest = 4 * e * ip * ip;
}

/* psi = I o, 1/B = 1/o - tanh(alpha psi - beta psi^2 + gamma psi^3)/radius. On return bend holds dB/dI, I
 * holds B. */
TBG_INLINE V F(radius)(const tbg_batch_system *s, const F(born) * w, int i) {
    const REAL *a = P(s) + s->at_atom + (size_t)i * TBG_ATOM_REALS, *c = P(s) + s->at_scalar;
    REAL alpha = c[TBG_SCALAR_ALPHA], beta = c[TBG_SCALAR_BETA], gamma = c[TBG_SCALAR_GAMMA];
    V psi = F(load)(AT(w->I, i)) * a[TBG_ATOM_O], th, rest;
    F(tanh_)(psi * (alpha + psi * (gamma * psi - beta)), &th, &rest);
    V iB = a[TBG_ATOM_INV_O] - th * a[TBG_ATOM_INV_RADIUS], B = ONE / iB;
    V dB = B * B * a[TBG_ATOM_INV_RADIUS] * rest * a[TBG_ATOM_O] *
           (alpha + psi * ((3 * gamma) * psi - 2 * beta));
    F(store)(AT(w->B, i), B);
    F(store)(AT(w->iB, i), iB);
    F(store)(AT(w->I, i), dB);
    V ratio = a[TBG_ATOM_RADIUS] * iB, r2 = ratio * ratio, area = a[TBG_ATOM_AREA] * (r2 * r2 * r2);
    V self = (HALF * a[TBG_ATOM_KQ] * a[TBG_ATOM_Q]) * iB;
    F(store)(AT(w->bend, i), (-self - 6 * area) * iB);
    return self + area;
}

TBG_INLINE void F(gb_row)(const tbg_batch_system *s, const F(born) * w, int i, int kind, int want_e,
                          int want_f, int cut, V cutoff2, V shift, V *bend, V *e_plain, V *e_gb) {
    const REAL *atom = P(s) + s->at_atom, kqi = atom[(size_t)i * TBG_ATOM_REALS + TBG_ATOM_KQ];
    const REAL *q = P(s) + s->at_pair + 4 * (size_t)s->row[3 * i + kind];
    V Bi = F(load)(AT(w->B, i)), iBi = F(load)(AT(w->iB, i)) * (REAL)(-0.25 * 1.4426950408889634), zero = {0};
    int end = s->row[3 * i + kind + 1];
    for (int p = s->row[3 * i + kind]; p < end; p++, q += 4) {
        int j = s->partner[p];
        V r2 = F(load)(AT(w->r2, p)), Bj = F(load)(AT(w->B, j)), BB = Bi * Bj, S = zero;
        F(mask) inside = F(lt)(r2, cutoff2);
        if (kind != TBG_PAIR_EXCLUDED)
            F(plain_pair)(q, F(rsqrt)(r2), shift, inside, want_e, cut && kind == TBG_PAIR_PLAIN, e_plain, &S);
        V u = r2 * (iBi * F(load)(AT(w->iB, j))), e = F(exp2)(u); /* exp(-r^2/(4 Bi Bj)) */
        REAL kqq = kqi * atom[(size_t)j * TBG_ATOM_REALS + TBG_ATOM_Q];
        V iff = F(rsqrt)(r2 + BB * e), E = kqq * iff;
        if (want_e)
            *e_gb += cut ? F(select)(inside, E - kqq * shift, zero) : E;
        if (!want_f)
            continue;
        V t = E * iff * iff;
        if (cut)
            t = F(select)(inside, t, zero);
        S += t * (ONE - QUARTER * e);
        t = t * e * (ONE - (REAL)0.6931471805599453 * u);
        *bend += t * Bj;
        F(store)(AT(w->bend, j), F(load)(AT(w->bend, j)) + t * Bi);
        F(store)(AT(w->r2, p), S);
    }
}

TBG_INLINE void F(gb)(const tbg_batch_system *s, const REAL *x, REAL *f, const F(born) * w, double *e_plain,
                      double *e_gb, int want_e, int want_f, int cut) {
    const REAL *scalar = P(s) + s->at_scalar;
    V cutoff2 = F(splat)(scalar[TBG_SCALAR_CUTOFF2]), shift = F(splat)(scalar[TBG_SCALAR_SHIFT]), zero = {0};
    int n = s->n_atoms;
    F(born_pass)(s, x, w, want_f, cut);
    for (int i = 0; i < n; i++) {
        V e = F(radius)(s, w, i);
        if (want_e)
            F(deposit)(e_gb, e);
        /* dE/dB_i = self part - 1/2 sum: keep -2 times it, so that the pair loop only adds. */
        F(store)(AT(w->bend, i), -2 * F(load)(AT(w->bend, i)));
    }
    for (int i = 0; i < n; i++) {
        V ep = zero, eg = zero, bend = zero;
        F(gb_row)(s, w, i, TBG_PAIR_PLAIN, want_e, want_f, cut, cutoff2, shift, &bend, &ep, &eg);
        F(gb_row)(s, w, i, TBG_PAIR_14, want_e, want_f, cut, cutoff2, shift, &bend, &ep, &eg);
        F(gb_row)(s, w, i, TBG_PAIR_EXCLUDED, want_e, want_f, cut, cutoff2, shift, &bend, &ep, &eg);
        if (want_f) /* complete for atom i: its other pairs came in earlier rows. Now dE/dI */
            F(store)(AT(w->bend, i), -HALF * (F(load)(AT(w->bend, i)) + bend) * F(load)(AT(w->I, i)));
        if (want_e) {
            F(deposit)(e_plain, ep);
            F(deposit)(e_gb, eg);
        }
    }
    if (!want_f)
        return;
    for (int i = 0; i < n; i++) {
        F(vec) fi = {{zero, zero, zero}};
        V ci = F(load)(AT(w->bend, i));
        for (int p = s->row[3 * i]; p < s->row[3 * i + 3]; p++) {
            int j = s->partner[p];
            F(vec) d = F(between)(x, i, j);
            V S = F(load)(AT(w->r2, p)) + ci * F(load)(AT(w->di, p)) +
                  F(load)(AT(w->bend, j)) * F(load)(AT(w->dj, p));
            for (int a = 0; a < 3; a++)
                fi.v[a] += S * d.v[a];
            F(add)(f, j, -S, d);
        }
        F(add_vec)(f, i, fi);
    }
}

/* ---- one pass over WIDTH lanes ---- */

static void F(nonbonded)(const tbg_batch_system *s, const REAL *x, REAL *f, const F(born) * w, double *ep,
                         double *eg, int want_e, int want_f) {
    if (!s->gb) {
        if (want_e)
            s->cut ? F(plain)(s, x, f, ep, 1, 1) : F(plain)(s, x, f, ep, 1, 0);
        else
            s->cut ? F(plain)(s, x, f, ep, 0, 1) : F(plain)(s, x, f, ep, 0, 0);
    } else if (want_e && want_f)
        s->cut ? F(gb)(s, x, f, w, ep, eg, 1, 1, 1) : F(gb)(s, x, f, w, ep, eg, 1, 1, 0);
    else if (want_e)
        s->cut ? F(gb)(s, x, f, w, ep, eg, 1, 0, 1) : F(gb)(s, x, f, w, ep, eg, 1, 0, 0);
    else
        s->cut ? F(gb)(s, x, f, w, ep, eg, 0, 1, 1) : F(gb)(s, x, f, w, ep, eg, 0, 1, 0);
}

static void F(evaluate)(const tbg_batch_system *s, const REAL *x, REAL *f, double *energy, double *components,
                        void *workspace) {
    int n = s->n_atoms, want_e = energy || components, want_f = f != NULL;
    REAL *scratch = workspace;
    F(born) w = {0};
    size_t atoms = (size_t)n * WIDTH, pairs = (size_t)s->n_pairs * WIDTH;
    w.I = scratch, scratch += atoms;
    w.B = scratch, scratch += atoms;
    w.iB = scratch, scratch += atoms;
    w.bend = scratch, scratch += atoms;
    if (s->gb) {
        w.r2 = scratch, scratch += pairs;
        w.di = scratch, scratch += pairs;
        w.dj = scratch, scratch += pairs;
    }
    for (int first = 0; first < TBG_LANES; first += WIDTH) {
        double sum[TBG_E_N][WIDTH] = {{0}};
        /* Energy only: forces of the bonded terms go to scratch, three vectors an atom at a stride of
         * TBG_LANES. */
        REAL *g = want_f ? f + first : scratch;
        for (int k = 0; k < 3 * n; k++)
            F(store)(g + (size_t)k * TBG_LANES, (V){0});
        F(bonds)(s, x + first, g, sum[TBG_E_BOND]);
        F(angles)(s, x + first, g, sum[TBG_E_ANGLE]);
        F(torsions)(s, x + first, g, sum[TBG_E_TORSION]);
        F(nonbonded)(s, x + first, g, &w, sum[TBG_E_NONBONDED], sum[TBG_E_GB], want_e, want_f);
        for (int l = 0; l < WIDTH; l++) {
            double total = 0;
            for (int c = 0; c < TBG_E_N; c++) {
                total += sum[c][l];
                if (components)
                    components[c * TBG_LANES + first + l] = sum[c][l];
            }
            if (energy)
                energy[first + l] = total;
        }
    }
}

static void F(probe)(int function, int n, const REAL *x, const REAL *z, REAL *y) {
    for (int k = 0; k < n; k += WIDTH) {
        V a = F(load)(x + k), b = F(load)(z + k);
        F(store)
        (y + k, function == TBG_PROBE_RCP     ? F(rcp)(a)
                : function == TBG_PROBE_RSQRT ? F(rsqrt)(a)
                : function == TBG_PROBE_EXP2  ? F(exp2)(a)
                : function == TBG_PROBE_LOG   ? F(log)(a)
                : function == TBG_PROBE_ATAN2 ? F(atan2)(a, b)
                                              : F(atanh_rest)(a));
    }
}

#undef X
#undef AT
