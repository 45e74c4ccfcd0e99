/* quadrature.c: the Gauss-Kronrod 7-15 rule and its error estimate. */
#include "flow/field.h"

#include <math.h>

/* Nodes and weights as tabulated for QUADPACK's 15-point rule (Piessens et al. 1983); tests check their
 * degree. */
const double tbg_kronrod_node[TBG_KRONROD] = {
    -.991455371120812639206854697526329, -.949107912342758524526189684047851,
    -.864864423359769072789712788640926, -.741531185599394439863864773280788,
    -.586087235467691130294144691693013, -.405845151377397166906606412076961,
    -.207784955007898467600689403773245, 0,
    .207784955007898467600689403773245,  .405845151377397166906606412076961,
    .586087235467691130294144691693013,  .741531185599394439863864773280788,
    .864864423359769072789712788640926,  .949107912342758524526189684047851,
    .991455371120812639206854697526329};
const double tbg_kronrod_weight[TBG_KRONROD] = {
    .022935322010529224963732008058970, .063092092629978553290700663189204,
    .104790010322250183839876322541518, .140653259715525918745189590510238,
    .169004726639267902826583426598550, .190350578064785409913256402421014,
    .204432940075298892414161999234649, .209482141084727828012999174891714,
    .204432940075298892414161999234649, .190350578064785409913256402421014,
    .169004726639267902826583426598550, .140653259715525918745189590510238,
    .104790010322250183839876322541518, .063092092629978553290700663189204,
    .022935322010529224963732008058970};
const double tbg_gauss_weight[7] = {.129484966168869693270611432679082, .279705391489276667901467771423780,
                                    .381830050505118944950369775488975, .417959183673469387755102040816327,
                                    .381830050505118944950369775488975, .279705391489276667901467771423780,
                                    .129484966168869693270611432679082};

/* |K15 - G7| is the error of the 7-point rule and overstates that of the 15-point rule a thousandfold for
 * smooth integrands, which would cost a refinement for each sample. The decay of the Legendre coefficients
 * from degrees 6-8 to 12-14 tells how fast the integrand converges: r for six degrees. The 15-point rule is
 * exact to degree 22, nine beyond the 7-point rule, so |K15 - G7| r and (coefficient at 14) r^2 bound its
 * error; for integrands that do not converge, r = 1 gives back the plain estimate. Measured on Gaussian
 * targets (tests/flow): estimates are 2 to 1000 times the true error. */
void tbg_kronrod_sum(const double *f, double length, double *integral, double *error) {
    double kronrod = 0, gauss = 0, coefficient[15] = {0};
    for (int i = 0; i < TBG_KRONROD; i++) {
        double x = tbg_kronrod_node[i], wf = tbg_kronrod_weight[i] * f[i], before = 1, here = x;
        kronrod += wf;
        if (i & 1)
            gauss += tbg_gauss_weight[i / 2] * f[i];
        coefficient[0] += 0.5 * wf;
        for (int k = 1; k < 15; k++) { /* here = P_k(x) */
            coefficient[k] += (k + 0.5) * wf * here;
            double next = ((2 * k + 1) * x * here - k * before) / (k + 1);
            before = here;
            here = next;
        }
    }
    double middle = 0, tail = 0, plain = fabs(kronrod - gauss);
    for (int k = 0; k < 3; k++) {
        middle = fmax(middle, fabs(coefficient[6 + k]));
        tail = fmax(tail, fabs(coefficient[12 + k]));
    }
    double r = tail < middle ? tail / middle : 1;
    *integral = 0.5 * length * kronrod;
    *error = 0.5 * fabs(length) * fmax(plain * r, tail * r * r);
}
