/* cuda_emulated.cpp: cuda_dynamics.cu on the host (cuda_emulated.h), for the tests of
 * dynamics_test_cuda_emulated. */
#define TBG_CUDA_EMULATED 1
#include "dynamics/cuda_dynamics.cu"
