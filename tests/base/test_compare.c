/* test_compare.c: the comparator must refuse what it should refuse. */
#include "tbg_test.h"
#include <stdlib.h>

static void refuses_non_finite(void **state) {
    (void)state;
    assert_false(compare_error(NAN, 1, 0) <= 1e9);
    assert_false(compare_error(1, NAN, 0) <= 1e9);
    assert_false(compare_error(INFINITY, 1, 0) <= 1e9);
    assert_false(compare_error(-INFINITY, INFINITY, 0) <= 1e9);
    assert_true(compare_error(INFINITY, INFINITY, 0) == 0);
}

static void refuses_sign_and_zero(void **state) {
    (void)state;
    assert_false(compare_error(-1, 1, 0) <= 0.5);
    assert_false(compare_error(1e-9, 0, 0) <= 0.5);
    assert_true(compare_error(0, 0, 0) <= 0);
    assert_false(compare_error(0, -1, 0) <= 0.5);
}

static void finds_one_bad_element(void **state) {
    (void)state;
    size_t n = 100000;
    double *got = malloc(n * sizeof *got), *want = malloc(n * sizeof *want);
    for (size_t i = 0; i < n; i++)
        got[i] = want[i] = sin((double)i);
    assert_true(compare_arrays("equal", n, got, want, 1e-6, 1e-12) <= 1e-12);
    got[n - 7] = NAN;
    assert_false(compare_arrays("one NaN (expected)", n, got, want, 1e-6, 1e-12) <= 1e-12);
    got[n - 7] = want[n - 7] + 1e-3;
    assert_false(compare_arrays("one off (expected)", n, got, want, 1e-6, 1e-12) <= 1e-12);
    assert_false(compare_arrays("empty (expected)", 0, got, want, 1e-6, 1e-12) <= 1e-12);
    free(got);
    free(want);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_non_finite),
                                       cmocka_unit_test(refuses_sign_and_zero),
                                       cmocka_unit_test(finds_one_bad_element)};
    return cmocka_run_group_tests_name("compare", tests, NULL, NULL);
}
