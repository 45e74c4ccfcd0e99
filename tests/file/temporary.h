/* temporary.h: a folder of its own for each test program; removed at the end. */
#ifndef TBG_TESTS_TEMPORARY_H
#define TBG_TESTS_TEMPORARY_H
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char temporary_folder[200];

static int temporary_setup(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(temporary_folder, sizeof temporary_folder, "%.150s/tbg-test-XXXXXX",
             base && *base ? base : "/tmp");
    return mkdtemp(temporary_folder) ? 0 : -1;
}

static int temporary_remove(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static int temporary_teardown(void **state) {
    (void)state;
    return nftw(temporary_folder, temporary_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* Name of a file in the folder; valid until the eighth call after this one. */
static inline const char *temporary_path(const char *name) {
    static char ring[8][512];
    static int next;
    char *path = ring[next++ % 8];
    snprintf(path, sizeof ring[0], "%s/%s", temporary_folder, name);
    return path;
}

/* Plain write without the fsync of tbg_file_write, for loops over thousands of damaged files. */
static inline int temporary_write(const char *path, const void *data, size_t size) {
    remove(path); /* some file systems flush when a file is cut and rewritten */
    FILE *file = fopen(path, "wb");
    int bad = !file || (size && fwrite(data, 1, size, file) != size);
    return (file ? fclose(file) : 1) || bad;
}
#endif
