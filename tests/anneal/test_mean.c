/* test_mean.c: means of weights and choices by them. */
#include "tbg_test.h"
#include "anneal/anneal.h"
#include <math.h>

static void known_means(void **state) {
    (void)state;
    /* Weights 1, 3, 0, 4 times exp(700), which double precision does not hold in sums of several. */
    const double log_w[] = {700, 700 + log(3), -INFINITY, 700 + log(4)};
    const tbg_mean_weight m = tbg_mean_of_weights(4, log_w), one = tbg_mean_of_weights(1, log_w),
                          none = tbg_mean_of_weights(1, log_w + 2);
    assert_true(fabs(m.log - (700 + log(2))) < 1e-12);
    /* variance of a weight 10/3, of the mean 10/12, the mean 2 */
    assert_true(fabs(m.error - sqrt(10.0 / 12) / 2) < 1e-12);
    assert_true(one.log == 700 && isnan(one.error) && none.log == -INFINITY && none.sum == 0);
    const double bad[] = {NAN, INFINITY, 0};
    assert_true(fabs(tbg_mean_of_weights(3, bad).log - log(1.0 / 3)) < 1e-12);
}

/* Shares of [0, 1) are those of the weights, in their order. */
static void choices(void **state) {
    (void)state;
    const double log_w[] = {NAN, 0, -INFINITY, log(2), log(5)};
    const tbg_mean_weight m = tbg_mean_of_weights(5, log_w);
    int count[5] = {0};
    for (int k = 0; k < 800; k++)
        count[tbg_choose_by_weight(&m, 5, log_w, (k + 0.5) / 800)]++;
    assert_true(count[0] == 0 && count[1] == 100 && count[2] == 0 && count[3] == 200 && count[4] == 500);
    assert_int_equal(tbg_choose_by_weight(&m, 5, log_w, 1), 4); /* whatever is rounded */
    const tbg_mean_weight none = tbg_mean_of_weights(1, log_w);
    assert_int_equal(tbg_choose_by_weight(&none, 1, log_w, 0.5), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_means), cmocka_unit_test(choices)};
    return cmocka_run_group_tests_name("means of weights", tests, NULL, NULL);
}
