/* test_vecmath.c: the functions of src/energy/vecmath.h on every instruction set of this machine, against
 * libm in (long) double. Tolerances: the errors stated in the header with room for another compiler. */
#include "base/simd.h"
#include "energy/batch_layout.h"
#include "tbg_test.h"

#include <math.h>
#include <stdlib.h>

TBG_SIMD_DECLARE(const tbg_batch_table, tbg_batch_table);

static long double exact(int function, long double x, long double z) {
    switch (function) {
    case TBG_PROBE_RCP:
        return 1 / x;
    case TBG_PROBE_RSQRT:
        return 1 / sqrtl(x);
    case TBG_PROBE_EXP2:
        return exp2l(x);
    case TBG_PROBE_LOG:
        return logl(x);
    case TBG_PROBE_ATAN2:
        return atan2l(x, z);
    default: { /* series: no cancellation */
        long double sum = 0;
        for (int k = 200; k >= 0; k--)
            sum = sum * x + 1.0L / (2 * k + 3);
        return sum;
    }
    }
}

static void sweep(int function, double low, double high, int logarithmic, double single, double twofold) {
    enum { N = 4096 };
    static float xf[N], zf[N], yf[N];
    static double x[N], z[N], y[N];
    for (int k = 0; k < N; k++) {
        double u = (k + 0.37) / N;
        x[k] = logarithmic ? low * pow(high / low, u) : low + (high - low) * u;
        z[k] = (k % 2 ? -1 : 1) * pow(10, 6.0 * ((k * 7919) % N) / N - 3);
        xf[k] = (float)x[k];
        zf[k] = (float)z[k];
    }
    double worst[2] = {0, 0};
    for (int level = 0; level <= tbg_simd_level(); level++) {
        const tbg_batch_table *table = TBG_SIMD_PICK(tbg_batch_table, level);
        table->probe_f32(function, N, xf, zf, yf);
        table->probe_f64(function, N, x, z, y);
        for (int k = 0; k < N; k++) {
            long double wf = exact(function, xf[k], zf[k]), w = exact(function, x[k], z[k]);
            long double floor_ = function == TBG_PROBE_LOG ? 1 : 0;
            double ef = (double)(fabsl(yf[k] - wf) / fmaxl(fabsl(wf), floor_));
            double e = (double)(fabsl(y[k] - w) / fmaxl(fabsl(w), floor_));
            if (!(ef <= worst[0]))
                worst[0] = ef;
            if (!(e <= worst[1]))
                worst[1] = e;
        }
    }
    if (getenv("TBG_SHOW"))
        printf("function %d: float %.2g double %.2g\n", function, worst[0], worst[1]);
    assert_true(worst[0] <= single);
    assert_true(worst[1] <= twofold);
}

static void errors_are_as_stated(void **state) {
    (void)state;
    sweep(TBG_PROBE_RCP, 1e-10, 1e10, 1, 2.5e-7, 5e-16);
    sweep(TBG_PROBE_RSQRT, 1e-10, 1e10, 1, 2.5e-7, 5e-16);
    sweep(TBG_PROBE_EXP2, -100, 0, 0, 2.5e-7, 5e-16);
    sweep(TBG_PROBE_LOG, 1e-10, 1e10, 1, 2.0e-7, 5e-16);
    sweep(TBG_PROBE_ATAN2, 1e-4, 1e4, 1, 3.0e-7, 6e-16);
    sweep(TBG_PROBE_ATANH_REST, 0, TBG_DESCREEN_LIMIT, 0, 3.0e-7, 6e-16);
}

static void special_values(void **state) {
    (void)state;
    float x[16], z[16], y[16];
    for (int k = 0; k < 16; k++)
        x[k] = z[k] = k % 2 ? NAN : 0;
    for (int level = 0; level <= tbg_simd_level(); level++) {
        const tbg_batch_table *table = TBG_SIMD_PICK(tbg_batch_table, level);
        static const int functions[] = {TBG_PROBE_RCP, TBG_PROBE_RSQRT, TBG_PROBE_EXP2, TBG_PROBE_ATAN2};
        for (int f = 0; f < 4; f++) {
            table->probe_f32(functions[f], 16, x, z, y);
            assert_true(isnan(y[1]));
            assert_true(functions[f] == TBG_PROBE_EXP2 ? fabsf(y[0] - 1) < 1e-6f : !isfinite(y[0]));
        }
        x[2] = -1000;
        table->probe_f32(TBG_PROBE_EXP2, 16, x, z, y);
        assert_true(y[2] >= 0 && y[2] < 2e-38f);
        x[2] = 0;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_as_stated),
        cmocka_unit_test(special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
