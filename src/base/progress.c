/* progress.c: progress display, clock, and the interrupt flag that long loops look at. */
#include "base/progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int silent;
static volatile sig_atomic_t interrupted;

double tbg_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void tbg_progress_silence(int on) {
    silent = on;
}

void tbg_progress_start(tbg_progress *p, const char *label, const char *unit, double total) {
    memset(p, 0, sizeof *p);
    p->label = label;
    p->unit = unit;
    p->total = total;
    p->start = tbg_seconds();
    p->last = p->start;
    p->quiet = silent;
}

static void print(const tbg_progress *p, double done, const char *note, int last) {
    double elapsed = tbg_seconds() - p->start, rate = elapsed > 0 ? done / elapsed : 0;
    int terminal = isatty(STDERR_FILENO);
    if (terminal)
        fputs("\r\033[K", stderr);
    if (p->total > 0) {
        double fraction = done / p->total, left = rate > 0 ? (p->total - done) / rate : 0;
        if (terminal) {
            char bar[25];
            for (int i = 0; i < 24; i++)
                bar[i] = i < (int)(24 * fraction) ? '#' : '.';
            bar[24] = 0;
            fprintf(stderr, "[%s] ", bar);
        }
        fprintf(stderr, "%s %.0f/%.0f %s, %.3g/s", p->label, done, p->total, p->unit, rate);
        if (!last)
            fprintf(stderr, ", %.0f s left", left);
        else
            fprintf(stderr, ", %.1f s", elapsed);
    } else
        fprintf(stderr, "%s %.0f %s, %.3g/s, %.0f s", p->label, done, p->unit, rate, elapsed);
    if (note)
        fprintf(stderr, "  %s", note);
    if (!terminal || last)
        fputc('\n', stderr);
    fflush(stderr);
}

void tbg_progress_update(tbg_progress *p, double done, const char *note) {
    double now = tbg_seconds(), interval = isatty(STDERR_FILENO) ? 0.2 : 30.0;
    if (p->quiet || now - p->last < interval)
        return;
    p->last = now;
    print(p, done, note, 0);
}

void tbg_progress_end(tbg_progress *p, double done) {
    if (!p->quiet)
        print(p, done, NULL, 1);
}

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

void tbg_catch_interrupts(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESETHAND; /* a second Ctrl-C ends the program at once */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int tbg_interrupted(void) {
    return interrupted;
}
