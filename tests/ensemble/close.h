/* close.h: two numbers within an absolute tolerance; NaN fails. */
#ifndef TBG_TESTS_CLOSE_H
#define TBG_TESTS_CLOSE_H
#include <math.h>

#define CLOSE(got, want, tolerance)                                                                          \
    do {                                                                                                     \
        double got_ = (got), want_ = (want);                                                                 \
        if (!(fabs(got_ - want_) <= (tolerance)))                                                            \
            fail_msg("%s = %.17g, want %.17g", #got, got_, want_);                                           \
    } while (0)
#endif
