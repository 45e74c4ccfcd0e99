/* quadrature.c: Clenshaw-Curtis rules and their error estimate. */
#include "flow/field.h"

#include <math.h>

double tbg_clenshaw_node(int m, int k) {
    double s = sin(0.5 * M_PI * k / m);
    return s * s; /* (1 - cos(pi k / m)) / 2 without cancellation */
}

/* Integrals of the cosine interpolant, summed up by node (Waldvogel, BIT 46 (2006) 195, gives the formula).
 */
void tbg_clenshaw_weights(int m, double *weight) {
    for (int k = 0; k <= m; k++) {
        double sum = 1;
        for (int j = 1; 2 * j <= m; j++)
            sum -= (2 * j == m ? 1 : 2) * cos(2 * M_PI * ((long)j * k % m) / m) / (4.0 * j * j - 1);
        weight[k] = sum / m * (k % m ? 1 : 0.5);
    }
}

/* |coefficient| of T_c in the interpolant. */
static double coefficient(int m, int stride, const double *f, int c) {
    double sum = 0.5 * (f[0] + (c & 1 ? -1 : 1) * f[(long)m * stride]);
    for (int k = 1; k < m; k++)
        sum += f[(long)k * stride] * cos(M_PI * ((long)c * k % (2 * m)) / m);
    return fabs(sum) * (c == m ? 1 : 2) / m;
}

/* The difference to the rule of half as many intervals is the error of that rule. How far the coefficients
 * fall from degree m/2 to m tells how fast the integrand converges, so twice the difference times that ratio
 * estimates the error of the finer rule; where they do not fall the difference itself stands. Two rules may
 * agree by chance, so the size of the last quarter of the coefficients bounds the estimate from below.
 * Measured on trained fields and on Gaussian targets with waves on top (docs/flow.md, tests/flow). No
 * estimate sees a peak that falls between the nodes. */
void tbg_clenshaw_sum(int m, int stride, const double *f, const double *weight, const double *half,
                      double *integral, double *error) {
    double sum = 0, coarse = 0, middle = 0, tail = 0, squares = 0;
    for (int k = 0; k <= m; k++)
        sum += weight[k] * f[(long)k * stride];
    for (int k = 0; k <= m / 2; k++)
        coarse += half[k] * f[(long)2 * k * stride];
    for (int k = m / 2 - 2; k < m / 2 + 2; k++)
        middle = fmax(middle, coefficient(m, stride, f, k));
    int quarter = m / 4;
    for (int k = m + 1 - quarter; k <= m; k++) {
        double c = coefficient(m, stride, f, k);
        squares += c * c;
        if (k > m - 4)
            tail = fmax(tail, c);
    }
    *integral = sum;
    *error =
        fmax(2 * fabs(sum - coarse) * (tail < middle ? tail / middle : 1), 0.5 * sqrt(squares / quarter) / m);
}
