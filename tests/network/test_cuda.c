/* test_cuda.c: the CUDA backend on a device, against the reference; skipped where there is none. In a build
 * without CUDA, and without a device, asking for it says so. */
#include "network/cuda_checks.h"
#include "network/cuda.h"

/* What a machine without a device says. */
static int absent(void) {
    variant q = {2, 8, 1, TBG_EDGE_D0, 0, 0, 1, 1};
    tbg_model *m = model_of(&q);
    tbg_session *s;
    int wrong = tbg_session_create(m, "cuda", 2, 1, &s) != TBG_FAILED || !strstr(tbg_message(), "CUDA");
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
    return run_cuda_checks("cuda", "cuda", 1);
}
