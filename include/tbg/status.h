/* status.h: how functions of libtbg report failure.
 *
 * Every function that can fail returns int: TBG_OK (0), or one of the codes below, after storing a message
 * for the calling thread with tbg_fail(). The message names the file, line, atom or option, and says what to
 * do. Below app/ nothing prints to stdout and nothing exits. */
#ifndef TBG_STATUS_H
#define TBG_STATUS_H

enum {
    TBG_OK = 0,
    TBG_FAILED = 1, /* the work failed: no memory, disk full, no convergence, no device */
    TBG_INPUT = 2   /* bad input or usage: refused before work starts */
};

/* Store a printf-style message for this thread and return `status` (so that `return tbg_fail(...)` reads
 * well). status: TBG_FAILED or TBG_INPUT. */
int tbg_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Put "prefix: " in front of the stored message (for example the file name a lower floor does not know) and
 * return `status`. */
int tbg_fail_in(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The message of the last failure in this thread; "" if there was none. Owned by the library, valid until the
 * next tbg_fail in the same thread. */
const char *tbg_message(void);

/* Propagate a failure. */
#define TBG_TRY(call)                                                                                        \
    do {                                                                                                     \
        int tbg_try_status_ = (call);                                                                        \
        if (tbg_try_status_ != TBG_OK)                                                                       \
            return tbg_try_status_;                                                                          \
    } while (0)

#endif
