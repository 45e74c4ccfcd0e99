/* text.c: a growing text. */
#include "report/text.h"
#include "base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int reserve(tbg_text *t, size_t more) {
    if (t->failed)
        return 0;
    if (t->n + more + 1 <= t->capacity)
        return 1;
    size_t capacity = 2 * t->capacity + more + 4096;
    char *data = tbg_realloc(t->data, capacity, 1);
    if (!data) {
        t->failed = 1;
        return 0;
    }
    t->data = data;
    t->capacity = capacity;
    return 1;
}

void tbg_text_add(tbg_text *t, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    if (n < 0)
        t->failed = 1;
    else if (reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->n, (size_t)n + 1, format, again);
        t->n += (size_t)n;
    }
    va_end(again);
    va_end(arguments);
}

void tbg_text_escape(tbg_text *t, const char *plain) {
    for (const unsigned char *c = (const unsigned char *)plain; *c; c++) {
        const char *entity = *c == '&'              ? "&amp;"
                             : *c == '<'            ? "&lt;"
                             : *c == '>'            ? "&gt;"
                             : *c == '"'            ? "&quot;"
                             : *c == '\''           ? "&#39;"
                             : *c < 32 || *c == 127 ? " "
                                                    : NULL;
        if (entity)
            tbg_text_add(t, "%s", entity);
        else
            tbg_text_add(t, "%c", *c);
    }
}

void tbg_text_number(tbg_text *t, double x, int digits) {
    if (!isfinite(x)) {
        tbg_text_add(t, "%s",
                     isnan(x) ? "\xe2\x80\x93"
                     : x > 0  ? "\xe2\x88\x9e"
                              : "\xe2\x88\x92\xe2\x88\x9e");
        return;
    }
    char plain[64];
    double size = fabs(x);
    /* Whole numbers in full, the rest with the digits asked for; exponents only where they are needed. */
    if (size >= 1e7 || (size > 0 && size < 1e-4))
        snprintf(plain, sizeof plain, "%.*e", digits - 1, size);
    else if (size == floor(size))
        snprintf(plain, sizeof plain, "%.0f", size);
    else {
        int before = size >= 1 ? (int)floor(log10(size)) + 1 : 0, leading = 0;
        if (size > 0 && size < 1)
            leading = (int)floor(-log10(size));
        int after = digits - before + leading;
        snprintf(plain, sizeof plain, "%.*f", after > 0 ? after : 0, size);
    }
    char *e = strchr(plain, 'e');
    if (x < 0 && strspn(plain, "0.") != strlen(plain))
        tbg_text_add(t, "\xe2\x88\x92");
    if (!e) {
        tbg_text_add(t, "%s", plain);
        return;
    }
    *e = 0;
    int power = 0;
    sscanf(e + 1, "%d", &power);
    tbg_text_add(t, "%s&thinsp;\xc3\x97&thinsp;10<sup>%s%d</sup>", plain, power < 0 ? "\xe2\x88\x92" : "",
                 power < 0 ? -power : power);
}
