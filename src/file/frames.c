/* frames.c: frames as doubles from either kind of file, told apart by content. */
#include "tbg/file.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int from_trajectory(const char *path, int n_atoms, int64_t *n_frames, double **positions) {
    tbg_trajectory *t;
    TBG_TRY(tbg_trajectory_read(path, 0, 1, 0, &t));
    int status = TBG_OK;
    if (t->n_atoms != n_atoms)
        status = tbg_fail(TBG_INPUT, "%s: frames of %d atoms, %d expected", path, t->n_atoms, n_atoms);
    else {
        size_t n = (size_t)t->n_frames * (size_t)n_atoms * 3;
        if ((*positions = TBG_NEW(double, n))) {
            for (size_t i = 0; i < n; i++)
                (*positions)[i] = t->positions[i];
            *n_frames = t->n_frames;
        } else
            status = TBG_FAILED;
    }
    tbg_trajectory_free(t);
    return status;
}

static int from_tensors(const char *path, int n_atoms, int64_t *n_frames, double **positions) {
    tbg_tensors *t;
    TBG_TRY(tbg_tensors_read(path, &t));
    const tbg_tensor *p = tbg_tensors_find(t, "positions");
    int status = TBG_OK;
    if (p && p->rank == 3 && p->shape[2] == 3 && p->shape[1] != n_atoms)
        status = tbg_fail(TBG_INPUT, "%s: frames of %lld atoms, %d expected", path, (long long)p->shape[1],
                          n_atoms);
    if (status == TBG_OK)
        status = tbg_tensors_doubles(t, "positions", 3, (const int64_t[]){-1, n_atoms, 3}, positions);
    if (status == TBG_OK) {
        *n_frames = p->shape[0];
        for (size_t i = 0; i < p->n && status == TBG_OK; i++)
            if (!isfinite((*positions)[i]))
                status = tbg_fail(TBG_INPUT, "%s: frame %zu, atom %zu: position is not finite", path,
                                  i / (3 * (size_t)n_atoms), i / 3 % (size_t)n_atoms);
        if (status != TBG_OK) {
            free(*positions);
            *positions = NULL;
        }
    }
    tbg_tensors_free(t);
    return status;
}

int tbg_frames_read(const char *path, int n_atoms, int64_t *n_frames, double **positions) {
    *positions = NULL;
    *n_frames = 0;
    if (n_atoms <= 0)
        return tbg_fail(TBG_INPUT, "%s: frames of %d atoms asked for", path, n_atoms);
    unsigned char magic[8] = {0};
    FILE *file = fopen(path, "rbe");
    if (!file)
        return tbg_fail(TBG_INPUT, "%s: %s", path, strerror(errno));
    size_t got = fread(magic, 1, sizeof magic, file);
    fclose(file);
    /* HDF5 goes to the trajectory reader as well, which says what is wrong with it. */
    int netcdf = got == 8 && (!memcmp(magic, "CDF", 3) || !memcmp(magic, "\x89HDF", 4));
    return netcdf ? from_trajectory(path, n_atoms, n_frames, positions)
                  : from_tensors(path, n_atoms, n_frames, positions);
}
