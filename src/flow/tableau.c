/* tableau.c: coefficients of the Runge-Kutta methods. Tests check their order. */
#include "flow/field.h"

#include <stddef.h>

/* Dormand and Prince 1980, the 5(4) pair RK5(4)7M. */
static const double dopri_c[7] = {0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1};
static const double dopri_a[7][7] = {
    {0},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}};
static const double dopri_b[7] = {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84, 0};
static const double dopri_error[7] = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                      -17253.0 / 339200, 22.0 / 525, -1.0 / 40};
/* Shampine's interpolant as tabulated by Hairer, Norsett and Wanner. */
static const double dopri_dense[7] = {-12715105075.0 / 11282082432.0,  0,
                                      87487479700.0 / 32700410799.0,   -10690763975.0 / 1880347072.0,
                                      701980252875.0 / 199316789632.0, -1453857185.0 / 822651844.0,
                                      69997945.0 / 29380423.0};
const tbg_tableau tbg_dopri5 = {7, 1, 5, dopri_c, dopri_a, dopri_b, dopri_error, dopri_dense};

static const double rk4_c[4] = {0, 0.5, 0.5, 1};
static const double rk4_a[4][7] = {{0}, {0.5}, {0, 0.5}, {0, 0, 1}};
static const double rk4_b[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
const tbg_tableau tbg_rk4 = {4, 0, 4, rk4_c, rk4_a, rk4_b, NULL, NULL};
