/* gradients.h: made-up tensors, one of each kind that SOAP tells apart, and gradients of full rank for them.
 */
#ifndef TBG_TESTS_TRAINING_GRADIENTS_H
#define TBG_TESTS_TRAINING_GRADIENTS_H
#include "training/internal.h"
#include <math.h>
#include <stdlib.h>

static const tbg_parameter shapes[] = {{"wide", 13, 37, 2, 0},
                                       {"bias", 13, 1, 1, 481},
                                       {"row", 1, 37, 2, 494},
                                       {"long", 9, 600, 2, 531},
                                       {"square", 32, 32, 2, 5931}};
enum { TENSORS = 5, N = 5931 + 32 * 32 };

static inline void normal(uint64_t stream, size_t n, double size, float *f) {
    double *z = malloc(n * sizeof *z);
    tbg_random_normal(7, TBG_STREAM(TBG_STREAM_TEST, stream), 0, n, z);
    for (size_t i = 0; i < n; i++)
        f[i] = (float)(size * z[i]);
    free(z);
}

/* Gradients whose rows have very different sizes, mixed. */
static inline void gradient(uint64_t k, float *g) {
    normal(100 + k, N, 0.1, g);
    for (int t = 0; t < TENSORS; t++)
        for (int i = 0; i < shapes[t].rows; i++)
            for (int j = 0; j < shapes[t].columns; j++) {
                float *one = g + shapes[t].offset + (size_t)i * (size_t)shapes[t].columns + (size_t)j;
                *one *= expf(-0.4f * (float)i);
                if (i)
                    *one += 0.5f * one[-shapes[t].columns];
            }
}
#endif
