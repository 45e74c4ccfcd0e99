/* status.c: the per-thread failure message. */
#include "tbg/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[2048];

int tbg_fail(int status, const char *format, ...) {
    char next[sizeof message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(next, sizeof next, format, arguments); /* arguments may include tbg_message() itself */
    va_end(arguments);
    memcpy(message, next, sizeof message);
    return status;
}

int tbg_fail_in(int status, const char *format, ...) {
    char next[sizeof message];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(next, sizeof next, format, arguments);
    va_end(arguments);
    if (n >= 0 && (size_t)n < sizeof next)
        snprintf(next + n, sizeof next - (size_t)n, ": %s", message);
    memcpy(message, next, sizeof message);
    return status;
}

const char *tbg_message(void) {
    return message;
}
