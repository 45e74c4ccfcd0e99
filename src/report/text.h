/* text.h: a growing text, for floor 10 only. A failed allocation is remembered; every later call does
 * nothing. */
#ifndef TBG_REPORT_TEXT_H
#define TBG_REPORT_TEXT_H
#include <stddef.h>

typedef struct {
    char *data;
    size_t n, capacity;
    int failed;
} tbg_text;

void tbg_text_add(tbg_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tbg_text_escape(tbg_text *t,
                     const char *plain); /* & < > " ' become entities; control characters a space */
/* A number with `digits` significant ones, a typographic minus, "-" where it is not finite. */
void tbg_text_number(tbg_text *t, double x, int digits);
#endif
