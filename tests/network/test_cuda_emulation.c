/* test_cuda_emulation.c: the CUDA backend's blocks run on the host, against the reference. What remains for a
 * device to show is the instructions, the barriers and the launches (test_cuda.c). */
#include "network/cuda_checks.h"

int main(void) {
    return run_cuda_checks("cuda emulation", "cuda-emulation", 0);
}
