/* tbg_test.h: cmocka with what it needs before it, and the comparator. Tests print nothing but what failed.
 */
#ifndef TBG_TEST_H
#define TBG_TEST_H
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "compare.h"
#include "tbg/status.h"

/* Fail with the library's message when a call does. */
#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        int status_ = (call);                                                                                \
        if (status_ != TBG_OK)                                                                               \
            fail_msg("%s: status %d: %s", #call, status_, tbg_message());                                    \
    } while (0)
#endif
