/* chirality.c: a term of the field for each stereocentre that pushes it to its own handedness. In double,
 * once for all backends (session.c adds it): a few centres a molecule cost nothing beside the network.
 *
 * The network of SPEC 2.1 commutes with reflections, so left and right follow from nothing but its noise, and
 * a molecule of k centres comes out with all of them alike in one case of 2^(k-1), until a long training has
 * taught it to tell their relative handedness from distances. Here, for a centre o with neighbours a, b, c,
 * in an order that makes V positive in the molecule (A = x_a - x_o, ...):
 *
 *   V = A . (B x C),   G^2 = sum over the four atoms of |dV/dx_k|^2,
 *   v_k += w(V / V0, G^2 / G0^2, t) dV/dx_k / sqrt(G^2 + G0^2),
 *
 * V0 and G0 those of the centre with the force field's bond lengths and angles, w a small network with five
 * inputs, one hidden layer and weights shared by all centres; it starts at zero. The term commutes with
 * rotations, translations and permutations, and has no net translation. V is linear in each coordinate, so
 * its Laplacian is zero and the term's divergence is the derivative of the factor along dV/dx alone. */
#include "network/chirality.h"
#include "base/memory.h"
#include "tbg/schedule.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>

enum { IN = TBG_CHIRALITY_INPUTS, HID = TBG_CHIRALITY_HIDDEN };

int tbg_chirality_of(const tbg_model *model, tbg_chirality *term) {
    const tbg_parameter *w = tbg_model_tensor(model, "egnn.chirality_mlp.0.weight");
    const tbg_parameter *b = tbg_model_tensor(model, "egnn.chirality_mlp.0.bias");
    const tbg_parameter *o = tbg_model_tensor(model, "egnn.chirality_mlp.2.weight");
    if (!model->spec.chirality_term || !w || !b || !o)
        return 0;
    *term = (tbg_chirality){.w = model->values + w->offset,
                            .b = model->values + b->offset,
                            .o = model->values + o->offset,
                            .at_w = w->offset,
                            .at_b = b->offset,
                            .at_o = o->offset,
                            .graded_d = model->spec.graded_d};
    return 1;
}

/* ---- centres ---- */

int tbg_chirality_centres(const tbg_molecule *molecule, tbg_conditioning *c) {
    tbg_stereo stereo;
    TBG_TRY(tbg_stereo_find(molecule, &stereo));
    c->centres = TBG_NEW(tbg_chiral_centre, stereo.n);
    int status = c->centres ? TBG_OK : TBG_FAILED;
    for (int k = 0; status == TBG_OK && k < stereo.n; k++) {
        const int *atoms = stereo.atoms[k];
        int left = stereo.sign[k] < 0; /* exchange two neighbours */
        tbg_chiral_centre *to = &c->centres[k];
        to->atom[0] = atoms[0];
        to->atom[1] = atoms[left ? 2 : 1];
        to->atom[2] = atoms[left ? 1 : 2];
        to->atom[3] = atoms[3];
        double g[3][3]; /* scalar products of A, B, C from the six distances */
        const size_t n = (size_t)c->n_atoms;
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                double a = c->pair_mean[(size_t)to->atom[0] * n + (size_t)to->atom[1 + i]];
                double b = c->pair_mean[(size_t)to->atom[0] * n + (size_t)to->atom[1 + j]];
                double ab = i == j ? 0 : c->pair_mean[(size_t)to->atom[1 + i] * n + (size_t)to->atom[1 + j]];
                g[i][j] = (a * a + b * b - ab * ab) / 2;
            }
        double volume2 = g[0][0] * (g[1][1] * g[2][2] - g[1][2] * g[1][2]) -
                         g[0][1] * (g[0][1] * g[2][2] - g[1][2] * g[0][2]) +
                         g[0][2] * (g[0][1] * g[1][2] - g[1][1] * g[0][2]);
        double area2 = 0;
        for (int i = 0; i < 3; i++) {
            int j = (i + 1) % 3;
            area2 += g[i][i] * g[j][j] - g[i][j] * g[i][j];
        }
        /* (B - A) x (C - A) for the centre's own */
        double p = g[1][1] - 2 * g[0][1] + g[0][0], q = g[2][2] - 2 * g[0][2] + g[0][0];
        double pq = g[1][2] - g[0][1] - g[0][2] + g[0][0];
        area2 += p * q - pq * pq;
        if (!(volume2 > 0) || !(area2 > 0))
            status =
                tbg_fail(TBG_INPUT,
                         "stereocentre %s (atom %d): the force field's bonds and angles make no tetrahedron",
                         molecule->atoms[atoms[0]].name, atoms[0] + 1);
        to->volume = sqrt(volume2);
        to->area2 = area2;
    }
    c->n_centres = stereo.n;
    tbg_stereo_free(&stereo);
    return status;
}

/* ---- geometry: V and its derivatives; rows 0 centre, 1 to 3 neighbours ---- */

static void cross(const double a[3], const double b[3], double out[3]) {
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

static double dot4(const double a[4][3], const double b[4][3]) {
    double sum = 0;
    for (int k = 0; k < 4; k++)
        for (int d = 0; d < 3; d++)
            sum += a[k][d] * b[k][d];
    return sum;
}

static void gather(const tbg_chiral_centre *c, const double *x, double arm[3][3]) {
    for (int k = 0; k < 3; k++)
        for (int d = 0; d < 3; d++)
            arm[k][d] = x[3 * c->atom[k + 1] + d] - x[3 * c->atom[0] + d];
}

/* dV/dx; returns V. */
static double gradient_of_volume(const double arm[3][3], double g[4][3]) {
    for (int k = 0; k < 3; k++)
        cross(arm[(k + 1) % 3], arm[(k + 2) % 3], g[k + 1]);
    for (int d = 0; d < 3; d++)
        g[0][d] = -(g[1][d] + g[2][d] + g[3][d]);
    return arm[0][0] * g[1][0] + arm[0][1] * g[1][1] + arm[0][2] * g[1][2];
}

/* out = (d2V/dx dx) y: the change of dV/dx along y. */
static void bend(const double arm[3][3], const double y[4][3], double out[4][3]) {
    double move[3][3], p[3], q[3];
    for (int k = 0; k < 3; k++)
        for (int d = 0; d < 3; d++)
            move[k][d] = y[k + 1][d] - y[0][d];
    for (int k = 0; k < 3; k++) {
        cross(move[(k + 1) % 3], arm[(k + 2) % 3], p);
        cross(arm[(k + 1) % 3], move[(k + 2) % 3], q);
        for (int d = 0; d < 3; d++)
            out[k + 1][d] = p[d] + q[d];
    }
    for (int d = 0; d < 3; d++)
        out[0][d] = -(out[1][d] + out[2][d] + out[3][d]);
}

/* ---- the factor phi = w / sqrt(G^2 + G0^2) ---- */

typedef struct {
    double arm[3][3], g[4][3]; /* A, B, C; dV/dx */
    double phi, by_v, by_g;    /* factor and its derivatives with respect to V and G^2 */
    double root;               /* sqrt(G^2 + G0^2) */
    double f[IN], y[HID], slope[HID];
} factor;

static void evaluate(const tbg_chirality *term, const tbg_chiral_centre *c, double t, const double *x,
                     factor *F) {
    gather(c, x, F->arm);
    double v = gradient_of_volume((const double(*)[3])F->arm, F->g) / c->volume;
    double g2 = dot4((const double(*)[3])F->g, (const double(*)[3])F->g), g = g2 / c->area2;
    double one = 1 + v * v, cube = g * sqrt(g), shape = v * v + cube + 1e-6;
    double s1 = sqrt(one), s3 = shape * sqrt(shape);
    F->f[0] = v / s1;
    F->f[1] = v / sqrt(shape);
    F->f[2] = log1p(g) / 2;
    F->f[3] = t;
    F->f[4] = term->graded_d > 0 ? tbg_u_of_time(term->graded_d, t) : t;
    double f_v[2] = {1 / (one * s1), (cube + 1e-6) / s3}, f1_g = -0.75 * v * sqrt(g) / s3,
           f2_g = 0.5 / (1 + g);
    double w = 0, w_v = 0, w_g = 0;
    for (int k = 0; k < HID; k++) {
        const float *row = term->w + IN * k;
        double z = (double)term->b[k];
        for (int i = 0; i < IN; i++)
            z += (double)row[i] * F->f[i];
        double sigma = 1 / (1 + exp(-z)), o = (double)term->o[k];
        F->y[k] = z * sigma;
        F->slope[k] = sigma + z * sigma * (1 - sigma);
        w += o * F->y[k];
        w_v += o * F->slope[k] * ((double)row[0] * f_v[0] + (double)row[1] * f_v[1]);
        w_g += o * F->slope[k] * ((double)row[1] * f1_g + (double)row[2] * f2_g);
    }
    F->root = sqrt(g2 + c->area2);
    F->phi = w / F->root;
    F->by_v = w_v / c->volume / F->root;
    F->by_g = w_g / c->area2 / F->root - w / (2 * F->root * F->root * F->root);
}

void tbg_chirality_velocity(const tbg_chirality *term, const tbg_conditioning *c, double t, const double *x,
                            double *v) {
    for (int m = 0; m < c->n_centres; m++) {
        const tbg_chiral_centre *centre = &c->centres[m];
        factor F;
        evaluate(term, centre, t, x, &F);
        for (int k = 0; k < 4; k++)
            for (int d = 0; d < 3; d++)
                v[3 * centre->atom[k] + d] += F.phi * F.g[k][d];
    }
}

double tbg_chirality_divergence(const tbg_chirality *term, const tbg_conditioning *c, double t,
                                const double *x) {
    double sum = 0;
    for (int m = 0; m < c->n_centres; m++) {
        factor F;
        double h[4][3];
        evaluate(term, &c->centres[m], t, x, &F);
        const double(*arm)[3] = (const double(*)[3])F.arm, (*g)[3] = (const double(*)[3])F.g;
        bend(arm, g, h);
        sum += F.by_v * dot4(g, g) + F.by_g * 2 * dot4(g, (const double(*)[3])h);
    }
    return sum;
}

void tbg_chirality_tangent(const tbg_chirality *term, const tbg_conditioning *c, double t, const double *x,
                           const double *x_dot, double *v_dot) {
    for (int m = 0; m < c->n_centres; m++) {
        const tbg_chiral_centre *centre = &c->centres[m];
        factor F;
        double y[4][3], h[4][3];
        evaluate(term, centre, t, x, &F);
        for (int k = 0; k < 4; k++)
            for (int d = 0; d < 3; d++)
                y[k][d] = x_dot[3 * centre->atom[k] + d];
        const double(*g)[3] = (const double(*)[3])F.g;
        bend((const double(*)[3])F.arm, (const double(*)[3])y, h);
        double phi_dot =
            F.by_v * dot4(g, (const double(*)[3])y) + F.by_g * 2 * dot4(g, (const double(*)[3])h);
        for (int k = 0; k < 4; k++)
            for (int d = 0; d < 3; d++)
                v_dot[3 * centre->atom[k] + d] += phi_dot * F.g[k][d] + F.phi * h[k][d];
    }
}

void tbg_chirality_reverse(const tbg_chirality *term, const tbg_conditioning *c, double t, const double *x,
                           const double *dv, double *dx, double *gradient) {
    for (int m = 0; m < c->n_centres; m++) {
        const tbg_chiral_centre *centre = &c->centres[m];
        factor F;
        double y[4][3], hy[4][3], hg[4][3];
        evaluate(term, centre, t, x, &F);
        for (int k = 0; k < 4; k++)
            for (int d = 0; d < 3; d++)
                y[k][d] = dv[3 * centre->atom[k] + d];
        const double(*arm)[3] = (const double(*)[3])F.arm, (*g)[3] = (const double(*)[3])F.g;
        double s = dot4(g, (const double(*)[3])y); /* gradient with respect to phi */
        if (dx) {
            bend(arm, (const double(*)[3])y, hy);
            bend(arm, g, hg);
            for (int k = 0; k < 4; k++)
                for (int d = 0; d < 3; d++)
                    dx[3 * centre->atom[k] + d] +=
                        s * (F.by_v * F.g[k][d] + 2 * F.by_g * hg[k][d]) + F.phi * hy[k][d];
        }
        for (int k = 0; gradient && k < HID; k++) {
            double dw = s / F.root, dz = dw * (double)term->o[k] * F.slope[k];
            gradient[term->at_o + (size_t)k] += dw * F.y[k];
            gradient[term->at_b + (size_t)k] += dz;
            for (int i = 0; i < IN; i++)
                gradient[term->at_w + (size_t)(IN * k + i)] += dz * F.f[i];
        }
    }
}
