/* progress.h: what a person sees of long work. On a terminal a bar with rate and time left, rewritten in
 * place; elsewhere a plain line now and then. Everything goes to stderr. */
#ifndef TBG_BASE_PROGRESS_H
#define TBG_BASE_PROGRESS_H

typedef struct {
    const char *label, *unit;
    double total, start, last;
    int quiet;
} tbg_progress;

double tbg_seconds(void); /* monotonic clock, s */

/* label, unit: kept by pointer. total: amount of work, <= 0 if unknown. */
void tbg_progress_start(tbg_progress *p, const char *label, const char *unit, double total);
void tbg_progress_update(tbg_progress *p, double done, const char *note); /* note: extra text or NULL */
void tbg_progress_end(tbg_progress *p, double done);
void tbg_progress_silence(int silent); /* 1: nothing is printed from now on (tests, --quiet) */

/* Set by SIGINT and SIGTERM once tbg_catch_interrupts() was called: long loops look at it, save and return.
 */
void tbg_catch_interrupts(void);
int tbg_interrupted(void);
#endif
