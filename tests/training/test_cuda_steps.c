/* test_cuda_steps.c: optimiser steps on a CUDA device against the processor's; skipped where there is none.
 */
#include "training/device_steps.h"

static void on_a_device(void **state) {
    (void)state;
    steps_on("cuda");
}

int main(void) {
    if (!tbg_cuda_present()) {
        printf("skipped: no CUDA device\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_a_device)};
    return cmocka_run_group_tests_name("steps on a CUDA device", tests, NULL, NULL);
}
