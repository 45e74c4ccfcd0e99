/* test_cuda_emulation.c: the CUDA backend's blocks run on the host, against the reference. What remains for a
 * device to show is the instructions, the barriers and the launches (test_cuda.c). */
#include "network/cuda_checks.h"

static const char backend[] = "cuda-emulation";

static void plain(void **state) {
    (void)state;
    static const variant list[] = {{2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1}, {5, 8, 3, 15, 1, 1, 1, 1},
                                   {7, 10, 2, 7, 1, 1, 0, 0},          {6, 16, 2, TBG_EDGE_D0, 0, 0, 0, 1},
                                   {1, 8, 2, 7, 1, 1, 1, 1},           {4, 12, 2, TBG_EDGE_RATE, 1, 0, 1, 0}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        against_reference(backend, &list[k]);
}

static void tensor(void **state) {
    (void)state;
    static const variant list[] = {{3, 64, 1, TBG_EDGE_D0, 0, 0, 1, 1},
                                   {9, 64, 3, 7, 1, 1, 1, 1},
                                   {12, 64, 2, 15, 1, 1, 0, 0},
                                   {9, 128, 2, 7, 1, 1, 1, 1}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        against_reference(backend, &list[k]);
}

static void batches(void **state) {
    (void)state;
    ragged(backend, 16);
    ragged(backend, 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(tensor),
                                       cmocka_unit_test(batches)};
    int failed = cmocka_run_group_tests_name("cuda emulation", tests, NULL, NULL);
    show_cuda_errors();
    return failed;
}
