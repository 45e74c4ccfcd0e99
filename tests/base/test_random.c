/* test_random.c: known answers of Philox-4x32-10, addressing, and moments. */
#include "tbg_test.h"
#include <math.h>
#include <string.h>
#include "tbg/random.h"

/* Random123's kat_vectors: philox4x32 10 with all-zero and all-one counter and key. */
static void known_answers(void **state) {
    (void)state;
    uint32_t w[4];
    tbg_random_words(0, 0, 0, w);
    const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    assert_memory_equal(w, zero, sizeof zero);
    tbg_random_words(UINT64_MAX, UINT64_MAX, UINT64_MAX, w);
    const uint32_t ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    assert_memory_equal(w, ones, sizeof ones);
}

static void any_split_gives_the_same_numbers(void **state) {
    (void)state;
    double whole[101], parts[101];
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, 3), 1000, 101, whole);
    size_t cuts[] = {0, 1, 2, 7, 50, 51, 100, 101};
    for (size_t c = 0; c + 1 < sizeof cuts / sizeof *cuts; c++)
        tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, 3), 1000 + cuts[c], cuts[c + 1] - cuts[c],
                          parts + cuts[c]);
    assert_memory_equal(whole, parts, sizeof whole);
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, 4), 1000, 101, parts);
    assert_true(memcmp(whole, parts, sizeof whole) != 0);
}

static void moments(void **state) {
    (void)state;
    enum { N = 200000 };
    static double z[N], u[N];
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), 0, N, z);
    tbg_random_uniform(1, TBG_STREAM(TBG_STREAM_TEST, 2), 0, N, u);
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, um = 0, lag = 0;
    for (int i = 0; i < N; i++) {
        m1 += z[i];
        m2 += z[i] * z[i];
        m3 += z[i] * z[i] * z[i];
        m4 += z[i] * z[i] * z[i] * z[i];
        um += u[i];
        lag += i ? z[i] * z[i - 1] : 0;
        assert_true(u[i] > 0 && u[i] < 1);
    }
    double root = sqrt((double)N);
    assert_true(fabs(m1 / N) < 4 / root);
    assert_true(fabs(m2 / N - 1) < 4 * sqrt(2.0) / root);
    assert_true(fabs(m3 / N) < 4 * sqrt(15.0) / root);
    assert_true(fabs(m4 / N - 3) < 4 * sqrt(96.0) / root);
    assert_true(fabs(um / N - 0.5) < 4 * sqrt(1 / 12.0) / root);
    assert_true(fabs(lag / N) < 4 / root);
}

static void below_covers_its_range(void **state) {
    (void)state;
    int count[7] = {0};
    for (uint64_t i = 0; i < 7000; i++)
        count[tbg_random_below(5, TBG_STREAM(TBG_STREAM_TEST, 5), i, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(count[i], 850, 1150);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answers),
                                       cmocka_unit_test(any_split_gives_the_same_numbers),
                                       cmocka_unit_test(moments), cmocka_unit_test(below_covers_its_range)};
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
