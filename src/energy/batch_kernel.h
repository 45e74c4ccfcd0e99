/* batch_kernel.h: energy and forces of one register's worth of conformations, for the precision that REAL, V,
 * WIDTH and F() name; batch_simd.c includes it once for float and once for double. Owns the formulas; the
 * numbers match src/energy/reference.c.
 *
 * Conventions: x, f point at the first lane of the pass; atom i, axis a is at (3 i + a) TBG_LANES. Forces
 * accumulate (zeroed by evaluate). d = x_i - x_j; "pull" S of a pair: force on i is S d, on j -S d. Scratch
 * arrays have WIDTH lanes per entry. want_e, want_f, cut, kind are compile-time constants of inlined
 * functions. */
/* clang-format off: it takes F(name)(arguments) for a declaration */

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

/* Energies gather in float over a few terms and in double over all. sum: NULL for none. */
TBG_INLINE void F(deposit)(double *sum, V e) {
    if (sum)
        for (int l = 0; l < WIDTH; l++)
            sum[l] += (double)e[l];
}

/* ---- bonds, angles, torsions; f: NULL for energies only ---- */

static void F(bonds)(const tbg_batch_system *s, const REAL *x, REAL *f, double *energy) {
    const REAL *q = P(s) + s->at_bond;
    for (int t = 0; t < s->n_bonds; t++, q += 2) {
        int i = s->bonds[2 * t], j = s->bonds[2 * t + 1];
        F(vec) d = F(between)(x, i, j);
        V r2 = F(dot)(d, d), ir = F(rsqrt)(r2), stretch = r2 * ir - q[0], slope = q[1] * stretch;
        F(deposit)(energy, HALF * slope * stretch);
        if (!f)
            continue;
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
        if (!f)
            continue;
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
    if (!f)
        return;
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

/* pull: S of the pair. beyond: lanes outside the cutoff, used if cut; not a number counts as within and stays
 * visible. */
TBG_INLINE void F(plain_pair)(const REAL *q, V ir, V ir2, V shift, F(mask) beyond, int want_e, int cut,
                              V *energy, V *pull) {
    V ir6 = ir2 * ir2 * ir2, a = q[TBG_PAIR_A12] * ir6, kqq_r = q[TBG_PAIR_KQQ] * ir, zero = {0};
    V S = ir2 * (ir6 * (a - q[TBG_PAIR_B6]) + kqq_r);
    *pull = cut ? F(select)(beyond, zero, S) : S;
    if (want_e) {
        V e = ir6 * (a * (REAL)(1.0 / 12) - q[TBG_PAIR_B6] * (REAL)(1.0 / 6)) + kqq_r;
        *energy += cut ? F(select)(beyond, zero, e - q[TBG_PAIR_KQQ] * shift) : e;
    }
}

TBG_INLINE void F(plain_row)(const tbg_batch_system *s, const REAL *x, REAL *f, int i, int kind, int want_e,
                             int cut, V cutoff2, V shift, F(vec) * fi, V *energy) {
    int begin = s->row[3 * i + kind], end = s->row[3 * i + kind + 1];
    const int *partner = s->partner;
    const REAL *q = P(s) + s->at_pair + TBG_PAIR_REALS * (size_t)begin;
    for (int p = begin; p < end; p++, q += TBG_PAIR_REALS) {
        int j = partner[p];
        F(vec) d = F(between)(x, i, j);
        V r2 = F(dot)(d, d), ir = F(rsqrt)(r2), S;
        F(plain_pair)(q, ir, ir * ir, shift, F(lt)(cutoff2, r2), want_e, cut, energy, &S);
        if (!f)
            continue;
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
        if (f)
            F(add_vec)(f, i, fi);
        if (want_e)
            F(deposit)(energy, e);
    }
}

/* ---- generalised Born: one pass over the pairs, or atoms, for each step ----
 * 1. pairs: r^2 and 1/r^2, Lennard-Jones and Coulomb: energy and pull S;
 * 2. pairs: descreening integrals I_i += I(r; o_i, sr_j) both ways, and their derivatives for step 5;
 * 3. atoms: Born radii B, self energy, surface term;
 * 4. pairs: energy, S without the change of B, and dE/dB;
 * 5. pairs: S of the change of B, forces.
 * Short steps rather than one long loop: the dependent chain of a pair in one loop would fill the processor's
 * scheduler before the next pair's could start (PERFORMANCE.md). */

typedef struct {
    REAL *I, *B, *iB, *bend; /* [n_atoms]: I, then dB/dI; B; 1/B; -2 dE/dB, then dE/dI */
    REAL *r2, *ir2, *pull;   /* [n_pairs]: r^2, 1/r^2, S. Beyond the cutoff r^2 = FAR and 1/r^2 = 0, so that
                                later steps   come to nothing without looking at the cutoff again */
    REAL *di, *dj;           /* [n_pairs]: -r dI_i/dr and -r dI_j/dr */
    int *near;               /* [n_pairs + 1]: pairs that may overlap in some lane, then -1 */
} F(born);

TBG_INLINE void F(distance_row)(const tbg_batch_system *s, const REAL *x, const F(born) * w, int i, int kind,
                                int want_e, int want_f, int cut, V cutoff2, V shift, V *energy) {
    int begin = s->row[3 * i + kind], end = s->row[3 * i + kind + 1];
    const int *partner = s->partner;
    const REAL *q = P(s) + s->at_pair + TBG_PAIR_REALS * (size_t)begin;
    REAL *r2_ = w->r2, *ir2_ = w->ir2, *pull = w->pull;
    V xi = X(i, 0), yi = X(i, 1), zi = X(i, 2), S = {0}, zero = {0}, far_ = F(splat)(FAR);
    for (int p = begin; p < end; p++, q += TBG_PAIR_REALS) {
        int j = partner[p];
        V dx = xi - X(j, 0), dy = yi - X(j, 1), dz = zi - X(j, 2);
        V r2 = dx * dx + (dy * dy + dz * dz), ir = F(rsqrt)(r2), ir2 = ir * ir;
        F(mask) beyond = F(lt)(cutoff2, r2);
        F(store)(AT(r2_, p), cut ? F(select)(beyond, far_, r2) : r2);
        F(store)(AT(ir2_, p), cut ? F(select)(beyond, zero, ir2) : ir2);
        if (kind != TBG_PAIR_EXCLUDED)
            F(plain_pair)(q, ir, ir2, shift, beyond, want_e, cut && kind == TBG_PAIR_PLAIN, energy, &S);
        if (want_f)
            F(store)(AT(pull, p), S);
    }
}

TBG_INLINE void F(distances)(const tbg_batch_system *s, const REAL *x, const F(born) * w, double *energy,
                             int want_e, int want_f, int cut) {
    const REAL *scalar = P(s) + s->at_scalar;
    V cutoff2 = F(splat)(scalar[TBG_SCALAR_CUTOFF2]), shift = F(splat)(scalar[TBG_SCALAR_SHIFT]);
    for (int i = 0; i < s->n_atoms; i++) {
        V e = {0};
        F(distance_row)(s, x, w, i, TBG_PAIR_PLAIN, want_e, want_f, cut, cutoff2, shift, &e);
        F(distance_row)(s, x, w, i, TBG_PAIR_14, want_e, want_f, cut, cutoff2, shift, &e);
        F(distance_row)(s, x, w, i, TBG_PAIR_EXCLUDED, want_e, want_f, cut, cutoff2, shift, &e);
        if (want_e)
            F(deposit)(energy, e);
    }
}

TBG_DEFINE_DESCREEN(TBG_INLINE, F(descreen_apart), F(descreen_touching), REAL, V)

/* The formulas are in formulas.h. */
TBG_INLINE V F(apart)(V sr2, V half_sr3, V ir2, V ir4, V *slope) {
    V z = sr2 * ir2, w = F(rcp)(ONE - z), t = half_sr3 * ir4;
    return F(descreen_apart)(t, w, F(atanh_rest)(z), slope);
}

/* Any distance. */
TBG_INLINE void F(descreen_any)(REAL sr, REAL o, V r, V ir, V *I, V *slope) {
    V zero = {0}, U = r + sr, D = r - sr, aD = F(abs)(D), ov = F(splat)(o), L = F(max)(aD, ov), down;
    V iu = F(rcp)(U), il = F(rcp)(L), ratio = (HALF * ir) * F(log)(L * iu);
    V value = F(descreen_touching)(r, (sr * sr) * ir, iu, il, ratio, &down);
    F(mask) swallowed = F(lt)(ov, -D);
    down = down + F(select)(swallowed, il * il * r, zero);
    F(mask) outside = F(lt)(ov, U);
    *I = F(select)(outside, value, zero);
    *slope = F(select)(outside, -down, zero);
}

/* Pairs that may overlap in some lane go on a list and are finished in a loop of their own: a branch in the
 * main loop would be mispredicted whenever atoms move. Each lane gets exactly one of the two formulas. */
TBG_INLINE void F(born_apart)(const tbg_batch_system *s, const F(born) * w, int want_f) {
    const REAL *atom = P(s) + s->at_atom, *near2 = P(s) + s->at_near, *r2_ = w->r2, *ir2_ = w->ir2;
    const int *partner = s->partner, *row = s->row;
    REAL *I_ = w->I, *di_ = w->di, *dj_ = w->dj;
    int *near_ = w->near, n_near = 0, n = s->n_atoms;
    V zero = {0};
    for (int i = 0; i < n; i++)
        F(store)(AT(I_, i), zero);
    for (int i = 0; i < n; i++) {
        const REAL *ai = atom + (size_t)i * TBG_ATOM_REALS;
        V Ii = F(load)(AT(I_, i));
        V i_sr2 = F(splat)(ai[TBG_ATOM_SR2]), i_sr3 = F(splat)(ai[TBG_ATOM_HALF_SR3]);
        int end = row[3 * i + 3];
        for (int p = row[3 * i]; p < end; p++) {
            int j = partner[p];
            const REAL *aj = atom + (size_t)j * TBG_ATOM_REALS;
            V ir2 = F(load)(AT(ir2_, p)), ir4 = ir2 * ir2, di, dj;
            V I = F(apart)(F(splat)(aj[TBG_ATOM_SR2]), F(splat)(aj[TBG_ATOM_HALF_SR3]), ir2, ir4, &di);
            V J = F(apart)(i_sr2, i_sr3, ir2, ir4, &dj);
            F(mask) near = F(lt)(F(load)(AT(r2_, p)), F(splat)(near2[p]));
            near_[n_near] = p;
            n_near += F(any)(near);
            Ii += F(select)(near, zero, I);
            F(store)(AT(I_, j), F(load)(AT(I_, j)) + F(select)(near, zero, J));
            if (want_f) {
                F(store)(AT(di_, p), di);
                F(store)(AT(dj_, p), dj);
            }
        }
        F(store)(AT(I_, i), Ii);
    }
    near_[n_near] = -1;
}

TBG_INLINE void F(born_near)(const tbg_batch_system *s, const F(born) * w, int want_f) {
    const REAL *atom = P(s) + s->at_atom, *near2 = P(s) + s->at_near;
    V zero = {0};
    for (const int *next = w->near; *next >= 0; next++) {
        int p = *next, i = s->first[p], j = s->partner[p];
        const REAL *ai = atom + (size_t)i * TBG_ATOM_REALS, *aj = atom + (size_t)j * TBG_ATOM_REALS;
        V r2 = F(load)(AT(w->r2, p)), ir = F(rsqrt)(r2), r = r2 * ir, I, J, di, dj;
        F(mask) near = F(lt)(r2, F(splat)(near2[p]));
        F(descreen_any)(aj[TBG_ATOM_SR], ai[TBG_ATOM_O], r, ir, &I, &di);
        F(descreen_any)(ai[TBG_ATOM_SR], aj[TBG_ATOM_O], r, ir, &J, &dj);
        F(store)(AT(w->I, i), F(load)(AT(w->I, i)) + F(select)(near, I, zero));
        F(store)(AT(w->I, j), F(load)(AT(w->I, j)) + F(select)(near, J, zero));
        if (want_f) {
            F(store)(AT(w->di, p), F(select)(near, di, F(load)(AT(w->di, p))));
            F(store)(AT(w->dj, p), F(select)(near, dj, F(load)(AT(w->dj, p))));
        }
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
    V self = a[TBG_ATOM_SELF] * iB;
    F(store)(AT(w->bend, i), (2 * self + 12 * area) * iB); /* -2 dE/dB: pairs then only add */
    return self + area;
}

TBG_INLINE void F(radii)(const tbg_batch_system *s, const F(born) * w, double *energy, int want_e) {
    for (int i = 0; i < s->n_atoms; i++) {
        V e = F(radius)(s, w, i);
        if (want_e)
            F(deposit)(energy, e);
    }
}

/* E = kqq/f, f^2 = r^2 + B_i B_j e, e = exp(-r^2/(4 B_i B_j)); u = log2 e. */
TBG_INLINE void F(gb_pairs)(const tbg_batch_system *s, const F(born) * w, double *energy, int want_e,
                            int want_f, int cut) {
    const REAL *scalar = P(s) + s->at_scalar, *kgb = P(s) + s->at_pair + TBG_PAIR_KGB, *B = w->B, *iB = w->iB;
    const REAL *r2_ = w->r2;
    const int *partner = s->partner, *row = s->row;
    REAL *pull = w->pull, *bend = w->bend;
    V cutoff2 = F(splat)(scalar[TBG_SCALAR_CUTOFF2]), shift = F(splat)(scalar[TBG_SCALAR_SHIFT]), zero = {0};
    for (int i = 0; i < s->n_atoms; i++) {
        V Bi = F(load)(AT(B, i)), iBi = F(load)(AT(iB, i)) * (REAL)(-0.25 * 1.4426950408889634);
        V bi = zero, sum = zero;
        int end = row[3 * i + 3];
        for (int p = row[3 * i]; p < end; p++) {
            int j = partner[p];
            REAL kqq = kgb[TBG_PAIR_REALS * (size_t)p];
            V r2 = F(load)(AT(r2_, p)), Bj = F(load)(AT(B, j)), u = r2 * (iBi * F(load)(AT(iB, j)));
            V e = F(exp2)(u), iff = F(rsqrt)(r2 + (Bi * Bj) * e), E = kqq * iff;
            if (want_e)
                sum += cut ? F(select)(F(lt)(cutoff2, r2), zero, E - kqq * shift) : E;
            if (!want_f)
                continue;
            V t = E * (iff * iff), te = t * e;
            F(store)(AT(pull, p), F(load)(AT(pull, p)) + (t - QUARTER * te));
            t = te - (REAL)0.6931471805599453 * (te * u);
            bi += t * Bj;
            F(store)(AT(bend, j), F(load)(AT(bend, j)) + t * Bi);
        }
        if (want_f) /* complete for atom i: its other pairs came in earlier rows. Now dE/dI */
            F(store)(AT(bend, i), -HALF * (F(load)(AT(bend, i)) + bi) * F(load)(AT(w->I, i)));
        if (want_e)
            F(deposit)(energy, sum);
    }
}

TBG_INLINE void F(apply)(const tbg_batch_system *s, const REAL *x, REAL *f, const F(born) * w) {
    const int *row = s->row, *partner = s->partner;
    const REAL *pull = w->pull, *ir2 = w->ir2, *di = w->di, *dj = w->dj, *c = w->bend;
    for (int i = 0; i < s->n_atoms; i++) {
        V zero = {0}, fx = zero, fy = zero, fz = zero, ci = F(load)(AT(c, i));
        V xi = X(i, 0), yi = X(i, 1), zi = X(i, 2);
        int end = row[3 * i + 3];
        for (int p = row[3 * i]; p < end; p++) {
            int j = partner[p];
            REAL *fj = f + (size_t)j * 3 * TBG_LANES;
            V S = F(load)(AT(pull, p)) +
                  F(load)(AT(ir2, p)) * (ci * F(load)(AT(di, p)) + F(load)(AT(c, j)) * F(load)(AT(dj, p)));
            V dx = xi - X(j, 0), dy = yi - X(j, 1), dz = zi - X(j, 2);
            fx += S * dx;
            fy += S * dy;
            fz += S * dz;
            F(store)(fj, F(load)(fj) - S * dx);
            F(store)(fj + TBG_LANES, F(load)(fj + TBG_LANES) - S * dy);
            F(store)(fj + 2 * TBG_LANES, F(load)(fj + 2 * TBG_LANES) - S * dz);
        }
        F(add_vec)(f, i, (F(vec)){{fx, fy, fz}});
    }
}

TBG_INLINE void F(gb)(const tbg_batch_system *s, const REAL *x, REAL *f, const F(born) * w, double *e_plain,
                      double *e_gb, int want_e, int want_f, int cut) {
    F(distances)(s, x, w, e_plain, want_e, want_f, cut);
    F(born_apart)(s, w, want_f);
    F(born_near)(s, w, want_f);
    F(radii)(s, w, e_gb, want_e);
    F(gb_pairs)(s, w, e_gb, want_e, want_f, cut);
    if (want_f)
        F(apply)(s, x, f, w);
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
        w.ir2 = scratch, scratch += pairs;
        w.pull = scratch, scratch += pairs;
        w.dj = scratch, scratch += pairs;
        w.near = (int *)scratch, scratch += ((size_t)s->n_pairs / WIDTH + 1) * WIDTH;
    }
    for (int first = 0; first < TBG_LANES; first += WIDTH) {
        double sum[TBG_E_N][WIDTH] = {{0}};
        REAL *g = want_f ? f + first : NULL;
        for (int k = 0; want_f && k < 3 * n; k++)
            F(store)(g + (size_t)k * TBG_LANES, (V){0});
        F(bonds)(s, x + first, g, want_e ? sum[TBG_E_BOND] : NULL);
        F(angles)(s, x + first, g, want_e ? sum[TBG_E_ANGLE] : NULL);
        F(torsions)(s, x + first, g, want_e ? sum[TBG_E_TORSION] : NULL);
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
