/* random.h: counter-based random numbers. Every number has an address (seed, stream, counter), so that
 * results do not depend on the number of threads and a resumed run equals an uninterrupted one.
 *
 * Generator: Philox-4x32-10 (Salmon et al., SC 2011) from Random123; key = seed, counter = (counter, stream).
 */
#ifndef TBG_RANDOM_H
#define TBG_RANDOM_H
#include <stdint.h>
#include <stddef.h>

/* What a stream of numbers is for: goes into the upper byte of the stream, so that uses never share numbers.
 */
enum {
    TBG_STREAM_VELOCITIES = 1, /* dynamics: initial velocities */
    TBG_STREAM_LANGEVIN = 2,   /* dynamics: friction noise */
    TBG_STREAM_EXCHANGE = 3,   /* dynamics: replica exchange */
    TBG_STREAM_WEIGHTS = 4,    /* network initialisation */
    TBG_STREAM_BATCH = 5,      /* training: which frames */
    TBG_STREAM_PRIOR = 6,      /* training and sampling: latent points */
    TBG_STREAM_TIME = 7,       /* training: t */
    TBG_STREAM_PATH = 8,       /* training: path noise */
    TBG_STREAM_BOOTSTRAP = 9,  /* ensemble: resampling */
    TBG_STREAM_BUILD = 10,     /* molecule: start geometry */
    TBG_STREAM_PROBE = 11,     /* divergence estimators */
    TBG_STREAM_REFINE = 12,    /* Metropolis refinement */
    TBG_STREAM_SMOOTHING = 13, /* training: noise of the smoothed data */
    TBG_STREAM_ANNEAL = 14,    /* taking that noise off */
    TBG_STREAM_BRANCH = 15,    /* taking more of it off by the network */
    TBG_STREAM_TEST = 255
};
/* Make a stream from a purpose and a 56-bit index (for example the sample number). */
#define TBG_STREAM(purpose, index) (((uint64_t)(purpose) << 56) | ((uint64_t)(index)&0xffffffffffffffULL))

/* Four uniform 32-bit words at an address. out: [4]. */
void tbg_random_words(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);

/* n uniform numbers in the open interval (0, 1), 52 bits each; number i of the call has address first + i,
 * two numbers per Philox block, so any split into calls gives the same values. out: [n]. */
void tbg_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, size_t n, double *out);

/* n standard normal numbers (Box-Muller on 52-bit uniforms); number i has address first + i. out: [n]. */
void tbg_random_normal(uint64_t seed, uint64_t stream, uint64_t first, size_t n, double *out);

/* Uniform integer in [0, n), n > 0, at one address (bias below n / 2^64). */
uint64_t tbg_random_below(uint64_t seed, uint64_t stream, uint64_t counter, uint64_t n);
#endif
