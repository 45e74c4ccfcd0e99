/* sample_store.c: finished chunks of `tbg sample` on disk, so that work done is never lost. */
#include "base/memory.h"
#include "sample.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_COLUMNS = 9 };
static const char *const column_names[N_COLUMNS] = {"log_q",         "reduced_energy", "error",
                                                    "verdict",       "velocities",     "divergences",
                                                    "back_position", "back_log_q",     "anneal_error"};

static double *column(const sample_table *t, int k) {
    double *const columns[N_COLUMNS] = {t->log_q,         t->reduced_energy, t->error,
                                        t->verdict,       t->velocities,     t->divergences,
                                        t->back_position, t->back_log_q,     t->anneal_error};
    return columns[k];
}

int sample_table_create(long n, int n_atoms, sample_table *t) {
    *t = (sample_table){.n = n, .n_atoms = n_atoms};
    double **const columns[N_COLUMNS] = {&t->log_q,         &t->reduced_energy, &t->error,
                                         &t->verdict,       &t->velocities,     &t->divergences,
                                         &t->back_position, &t->back_log_q,     &t->anneal_error};
    t->have = TBG_NEW(unsigned char, n);
    t->positions = tbg_alloc((size_t)n, 3 * (size_t)n_atoms * sizeof(double));
    int good = t->have && t->positions;
    for (int k = 0; k < N_COLUMNS && good; k++) {
        *columns[k] = TBG_NEW(double, n);
        good = *columns[k] != NULL;
        for (long i = 0; i < n && good; i++)
            (*columns[k])[i] = NAN;
    }
    if (!good)
        sample_table_free(t);
    return good ? TBG_OK : TBG_FAILED;
}

void sample_table_free(sample_table *t) {
    for (int k = 0; k < N_COLUMNS; k++)
        free(column(t, k));
    free(t->have);
    free(t->positions);
    *t = (sample_table){0};
}

static int folder_of(const char *directory, char *path, size_t size) {
    return snprintf(path, size, "%s/partial", directory) < (int)size - 64
               ? TBG_OK
               : tbg_fail(TBG_INPUT, "%s: the path is too long", directory);
}

static int is_chunk(const char *name) {
    size_t n = strlen(name);
    return n > 18 && !strncmp(name, "chunk-", 6) && !strcmp(name + n - 12, ".safetensors");
}

/* Calls use(path) for every chunk; stops at the first failure. */
static int for_each(const char *directory, int (*use)(const char *path, void *with), void *with) {
    char folder[3072], path[4096];
    TBG_TRY(folder_of(directory, folder, sizeof folder));
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT ? TBG_OK : tbg_fail(TBG_FAILED, "%s: %s", folder, strerror(errno));
    int status = TBG_OK;
    for (struct dirent *e; !status && (e = readdir(d));)
        if (is_chunk(e->d_name) && snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path)
            status = use(path, with);
    closedir(d);
    return status;
}

static int count(const char *path, void *with) {
    (void)path;
    ++*(int *)with;
    return TBG_OK;
}

int sample_store_exists(const char *directory) {
    int n = 0;
    return for_each(directory, count, &n) == TBG_OK && n > 0;
}

int sample_store_write(const char *directory, const char *settings, const sample_table *t, long first, long n,
                       double seconds_flow, double seconds_energy) {
    char path[4096], number[3][40];
    TBG_TRY(folder_of(directory, path, sizeof path));
    TBG_TRY(tbg_make_directory(path));
    size_t length = strlen(path), n3 = 3 * (size_t)t->n_atoms;
    snprintf(path + length, sizeof path - length, "/chunk-%010ld.safetensors", first);
    tbg_tensor tensors[N_COLUMNS + 1];
    char names[N_COLUMNS][32], positions[] = "positions";
    for (int k = 0; k < N_COLUMNS; k++) {
        snprintf(names[k], sizeof names[k], "%s", column_names[k]);
        tensors[k] = (tbg_tensor){.name = names[k],
                                  .dtype = TBG_F64,
                                  .rank = 1,
                                  .shape = {n},
                                  .n = (size_t)n,
                                  .data = column(t, k) + first};
    }
    tensors[N_COLUMNS] = (tbg_tensor){.name = positions,
                                      .dtype = TBG_F64,
                                      .rank = 3,
                                      .shape = {n, t->n_atoms, 3},
                                      .n = (size_t)n * n3,
                                      .data = t->positions + (size_t)first * n3};
    snprintf(number[0], sizeof number[0], "%ld", first);
    snprintf(number[1], sizeof number[1], "%.17g", seconds_flow);
    snprintf(number[2], sizeof number[2], "%.17g", seconds_energy);
    const char *const keys[] = {"settings", "first", "seconds_flow", "seconds_energy"};
    const char *const values[] = {settings, number[0], number[1], number[2]};
    return tbg_tensors_write(path, N_COLUMNS + 1, tensors, 4, keys, values);
}

typedef struct {
    const char *settings;
    sample_table *t;
    long found;
} reading;

/* Name the first item in which two settings differ. */
static int other_settings(const char *path, const char *saved, const char *now) {
    /* Settings are a list with commas: show from the item in which they differ. */
    const char *a = saved, *b = now;
    for (size_t i = 0; saved[i] && saved[i] == now[i]; i++)
        if (saved[i] == ',') {
            a = saved + i + 1;
            b = now + i + 1;
        }
    return tbg_fail(TBG_INPUT,
                    "%s: was made with other settings (there '%.*s', now '%.*s'): choose another -o, "
                    "or remove the folder 'partial'",
                    path, (int)strcspn(a, ","), a, (int)strcspn(b, ","), b);
}

static int read_chunk(const char *path, void *with) {
    reading *r = with;
    sample_table *t = r->t;
    tbg_tensors *f;
    TBG_TRY(tbg_tensors_read(path, &f));
    const char *settings = tbg_tensors_metadata(f, "settings"), *text = tbg_tensors_metadata(f, "first");
    const char *flow = tbg_tensors_metadata(f, "seconds_flow"),
               *energy = tbg_tensors_metadata(f, "seconds_energy");
    const tbg_tensor *any = tbg_tensors_find(f, "log_q");
    int64_t first = text ? strtoll(text, NULL, 10) : -1, n = any && any->rank == 1 ? any->shape[0] : -1;
    int status = TBG_OK;
    if (!settings || !flow || !energy || first < 0 || n < 0)
        status = tbg_fail(TBG_INPUT, "%s: not a chunk of tbg sample; remove it to go on without", path);
    else if (strcmp(settings, r->settings))
        status = other_settings(path, settings, r->settings);
    double *values[N_COLUMNS + 1] = {0};
    for (int k = 0; k <= N_COLUMNS && !status; k++)
        status = k < N_COLUMNS ? tbg_tensors_doubles(f, column_names[k], 1, &n, &values[k])
                               : tbg_tensors_doubles(f, "positions", 3, (const int64_t[]){n, t->n_atoms, 3},
                                                     &values[k]);
    size_t n3 = 3 * (size_t)t->n_atoms;
    for (int64_t i = 0; i < n && !status && first + i < t->n; i++) {
        long s = (long)(first + i);
        r->found += !t->have[s];
        t->have[s] = 1;
        for (int k = 0; k < N_COLUMNS; k++)
            column(t, k)[s] = values[k][i];
        memcpy(t->positions + (size_t)s * n3, values[N_COLUMNS] + (size_t)i * n3, n3 * sizeof(double));
        if (!(t->verdict[s] >= TBG_VALID && t->verdict[s] <= TBG_NOT_FINITE))
            status =
                tbg_fail(TBG_INPUT, "%s: sample %lld has no verdict; remove the file to go on without it",
                         path, (long long)i);
    }
    if (!status) {
        t->seconds_flow += strtod(flow, NULL);
        t->seconds_energy += strtod(energy, NULL);
    }
    for (int k = 0; k <= N_COLUMNS; k++)
        free(values[k]);
    tbg_tensors_free(f);
    return status;
}

int sample_store_read(const char *directory, const char *settings, sample_table *t, long *n) {
    reading r = {settings, t, 0};
    int status = for_each(directory, read_chunk, &r);
    *n = r.found;
    return status;
}

static int remove_chunk(const char *path, void *with) {
    (void)with;
    return unlink(path) ? tbg_fail(TBG_FAILED, "%s: %s", path, strerror(errno)) : TBG_OK;
}

int sample_store_remove(const char *directory) {
    char folder[3072];
    TBG_TRY(for_each(directory, remove_chunk, NULL));
    TBG_TRY(folder_of(directory, folder, sizeof folder));
    rmdir(folder); /* stays if something else is in it */
    return TBG_OK;
}
