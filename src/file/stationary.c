/* stationary.c: reads a trajectory without the frames that its diagnostics call not stationary. The
 * diagnostics come from outside and may be anything; they count only where they are about these runs and
 * frames. */
#include "file/stationary.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t n_runs, per_run, *drop; /* [n_runs], or NULL: nothing to drop */
} diagnosis;

/* What the text says, if it is sound and there is something to drop. */
static int diagnose(const char *text, diagnosis *d) {
    *d = (diagnosis){0};
    json_t *o = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *list = json_object_get(json_object_get(o, "equilibration"), "runs");
    int64_t frames = json_integer_value(json_object_get(o, "frames")), most = 0;
    int status = TBG_OK, sound = 1;
    d->n_runs = (int64_t)json_array_size(list);
    d->per_run = json_integer_value(json_object_get(o, "frames_per_run"));
    if (d->n_runs > 0 && d->per_run > 0 && frames / d->n_runs == d->per_run && frames % d->n_runs == 0 &&
        !(d->drop = TBG_NEW(int64_t, d->n_runs)))
        status = TBG_FAILED;
    for (int64_t r = 0; d->drop && r < d->n_runs; r++) {
        const json_t *drop = json_object_get(json_array_get(list, (size_t)r), "frames_to_drop");
        d->drop[r] = json_integer_value(drop);
        sound = sound && json_is_integer(drop) && d->drop[r] >= 0 && d->drop[r] < d->per_run;
        most = d->drop[r] > most ? d->drop[r] : most;
    }
    json_decref(o);
    if (!sound || most == 0) {
        free(d->drop);
        d->drop = NULL;
    }
    return status;
}

/* Are these the runs that were diagnosed, whole? */
static int about(const diagnosis *d, const tbg_trajectory *t) {
    const double *run = tbg_trajectory_extra(t, "run");
    if (t->n_frames % d->per_run || t->n_frames / d->per_run != d->n_runs || (!run && d->n_runs > 1))
        return 0;
    for (int64_t k = 0; run && k < t->n_frames; k++)
        if (run[k] != (double)(k / d->per_run))
            return 0;
    return 1;
}

static void move(tbg_trajectory *t, int64_t from, int64_t to) {
    const size_t frame = 3 * (size_t)t->n_atoms;
    memmove(t->positions + (size_t)to * frame, t->positions + (size_t)from * frame, frame * sizeof(float));
    if (t->time)
        t->time[to] = t->time[from];
    for (int e = 0; e < t->n_extra; e++)
        t->extra[e][to] = t->extra[e][from];
}

/* Returns how many frames from `first` on are dropped. */
static int64_t drop(const diagnosis *d, int64_t first, int64_t stride, int64_t limit, tbg_trajectory *t) {
    int64_t kept = 0, seen = 0, dropped = 0;
    for (int64_t k = first; k < t->n_frames; k++)
        if (k % d->per_run < d->drop[k / d->per_run])
            dropped++;
        else if (seen++ % stride == 0 && (!limit || kept < limit))
            move(t, k, kept++);
    t->n_frames = kept;
    return dropped;
}

int tbg_trajectory_read_stationary(const char *path, int64_t first, int64_t stride, int64_t limit,
                                   int64_t *dropped, tbg_trajectory **out) {
    tbg_trajectory *t;
    diagnosis d = {0};
    int64_t left_out = 0;
    *out = NULL;
    if (dropped)
        *dropped = 0;
    if (first >= 0 && stride >= 1 && limit >= 0) { /* else: the reader says what is wrong */
        TBG_TRY(tbg_trajectory_read(path, 0, 1, 1, &t));
        int status = diagnose(t->metadata_json, &d);
        tbg_trajectory_free(t);
        TBG_TRY(status);
    }
    int status = d.drop ? tbg_trajectory_read(path, 0, 1, 0, &t) : TBG_OK;
    if (status == TBG_OK && d.drop && about(&d, t))
        left_out = drop(&d, first, stride, limit, t);
    else if (status == TBG_OK) {
        if (d.drop)
            tbg_trajectory_free(t);
        status = tbg_trajectory_read(path, first, stride, limit, &t);
    }
    free(d.drop);
    TBG_TRY(status);
    if (dropped)
        *dropped = left_out;
    *out = t;
    return TBG_OK;
}
