/* test_cuda.c: the CUDA backend on a device, against the reference; skipped where there is none. In a build
 * without CUDA, and without a device, asking for it says so. */
#include "network/cuda_checks.h"
#include "network/cuda.h"

static const char backend[] = "cuda";

static void plain(void **state) {
    (void)state;
    static const variant list[] = {{2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1}, {5, 8, 3, 15, 1, 1, 1, 1},
                                   {7, 10, 2, 7, 1, 1, 0, 0},          {22, 50, 2, TBG_EDGE_D0, 0, 0, 0, 1},
                                   {1, 8, 2, 7, 1, 1, 1, 1},           {4, 12, 2, TBG_EDGE_RATE, 1, 0, 1, 0}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        against_reference(backend, &list[k]);
}

static void tensor(void **state) {
    (void)state;
    static const variant list[] = {
        {3, 64, 1, TBG_EDGE_D0, 0, 0, 1, 1}, {9, 64, 3, 7, 1, 1, 1, 1},
        {12, 64, 2, 15, 1, 1, 0, 0},         {9, 128, 2, 7, 1, 1, 1, 1},
        {22, 64, 5, 7, 1, 1, 1, 1},          {38, 128, 3, TBG_EDGE_D0, 0, 0, 1, 1}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        against_reference(backend, &list[k]);
}

static void batches(void **state) {
    (void)state;
    ragged(backend, 16);
    ragged(backend, 64);
    ragged(backend, 128);
}

/* What a machine without a device says. */
static int absent(void) {
    variant q = {2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1};
    tbg_model *m = model_of(&q);
    tbg_session *s;
    int wrong = tbg_session_create(m, backend, 2, 1, &s) != TBG_FAILED || !strstr(tbg_message(), "CUDA");
    wrong |= tbg_session_create(m, NULL, 2, 1, &s) != TBG_OK; /* the best there is: not this one */
    if (!wrong) {
        wrong = strncmp(tbg_session_backend(s), "cpu", 3) != 0;
        tbg_session_free(s);
    }
    tbg_model_free(m);
    return wrong;
}

int main(void) {
    if (!tbg_cuda_present()) {
        if (absent()) {
            fprintf(stderr, "without a CUDA device: %s\n", tbg_message());
            return 1;
        }
        printf("skipped: no CUDA device\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(tensor),
                                       cmocka_unit_test(batches)};
    int failed = cmocka_run_group_tests_name("cuda", tests, NULL, NULL);
    show_cuda_errors();
    return failed;
}
