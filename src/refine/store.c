/* store.c: chains on disk, so that an interrupted refinement goes on where it stopped. One safetensors file;
 * the proposals are not in it. */
#include "base/hash.h"
#include "base/memory.h"
#include "refine/chain.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TENSORS = 12 };

typedef struct {
    const char *name;
    tbg_dtype dtype;
    size_t n; /* elements used */
    void *data;
} piece;

/* Everything a run consists of after r->done cycles. */
static void pieces(const tbg_refine *r, double seconds[2], piece p[N_TENSORS]) {
    size_t replicas = (size_t)r->chains * (size_t)r->levels, seen = replicas * (size_t)r->done,
           frames = (size_t)r->chains * (size_t)r->done, size = r->target.size;
    const piece all[N_TENSORS] = {
        {"states", TBG_F64, replicas * size, r->states},
        {"u", TBG_F64, replicas, r->u},
        {"log_q", TBG_F64, replicas, r->log_q},
        {"ancestor", TBG_I64, replicas, r->ancestor},
        {"seen_log_w", TBG_F64, seen, r->seen_log_w},
        {"seen_mark", TBG_I32, seen, r->seen_mark},
        {"frames", TBG_F64, frames * size, r->frames},
        {"frame_u", TBG_F64, frames, r->frame_u},
        {"frame_log_q", TBG_F64, frames, r->frame_log_q},
        {"frame_ancestor", TBG_I64, frames, r->frame_ancestor},
        {"counts", TBG_I64, sizeof r->counts / sizeof(int64_t), (void *)&r->counts},
        {"seconds", TBG_F64, 2, seconds},
    };
    memcpy(p, all, sizeof all);
}

/* Of what the proposals weigh: another set of them must not be taken for this one. */
static uint64_t proposals_hash(const tbg_refine *r) {
    return tbg_hash(TBG_HASH_START, r->proposal_log_w, (size_t)r->proposals.n * sizeof(double));
}

static void identity(const tbg_refine *r, const char *settings, char *text, size_t size) {
    const tbg_refine_options *o = &r->options;
    snprintf(text, size,
             "%s, %ld proposals %016llx, %d chains, %d a move, %d levels%s, %.17g and %.17g ps, %.17g ps a "
             "step, friction %.17g, %.17g K, seed %llu",
             settings, r->proposals.n, (unsigned long long)proposals_hash(r), r->chains, r->K, r->levels,
             o->within ? " within states" : "", o->time, o->level_time, o->timestep, o->friction,
             o->temperature, (unsigned long long)o->seed);
}

int tbg_refine_save(const tbg_refine *r, const char *settings, const char *path) {
    double seconds[2] = {r->seconds_dynamics, r->seconds_density};
    char text[4096], done[32], names[N_TENSORS][32];
    piece p[N_TENSORS];
    tbg_tensor tensors[N_TENSORS];
    pieces(r, seconds, p);
    for (int i = 0; i < N_TENSORS; i++) {
        snprintf(names[i], sizeof names[i], "%s", p[i].name);
        tensors[i] = (tbg_tensor){.name = names[i],
                                  .dtype = p[i].dtype,
                                  .rank = 1,
                                  .shape = {(int64_t)p[i].n},
                                  .n = p[i].n,
                                  .data = p[i].data};
    }
    identity(r, settings, text, sizeof text);
    snprintf(done, sizeof done, "%ld", r->done);
    const char *const keys[] = {"cycles", "settings"}, *const values[] = {done, text};
    return tbg_tensors_write(path, N_TENSORS, tensors, 2, keys, values);
}

static int foreign(const char *path, const char *why) {
    return tbg_fail(TBG_INPUT, "%s: %s; remove it to refine anew from the same proposals", path, why);
}

/* All that a hostile file could say is checked before anything changes. */
static int check(const tbg_refine *r, const tbg_tensors *f, const piece p[N_TENSORS], const char *path) {
    for (int i = 0; i < N_TENSORS; i++) {
        const tbg_tensor *t = tbg_tensors_find(f, p[i].name);
        if (!t || t->dtype != p[i].dtype || t->n != p[i].n)
            return foreign(path, "not what the same chains would have saved");
    }
    const double *u = tbg_tensors_find(f, "u")->data, *log_q = tbg_tensors_find(f, "log_q")->data,
                 *x = tbg_tensors_find(f, "states")->data;
    const int64_t *ancestor = tbg_tensors_find(f, "ancestor")->data;
    for (size_t i = 0; i < p[1].n; i++)
        if (!isfinite(u[i]) || !isfinite(log_q[i]) || ancestor[i] < 0 || ancestor[i] >= r->proposals.n)
            return foreign(path, "a chain has no weight");
    for (size_t i = 0; i < p[0].n; i++)
        if (!isfinite(x[i]))
            return foreign(path, "a position is not finite");
    return TBG_OK;
}

int tbg_refine_load(tbg_refine *r, const char *settings, const char *path) {
    tbg_tensors *f;
    TBG_TRY(tbg_tensors_read(path, &f));
    char text[4096];
    identity(r, settings, text, sizeof text);
    const char *saved = tbg_tensors_metadata(f, "settings"), *cycles = tbg_tensors_metadata(f, "cycles");
    long done = cycles ? strtol(cycles, NULL, 10) : -1, before = r->done;
    int status = TBG_OK;
    if (!saved || strcmp(saved, text))
        status = foreign(path, "made with other settings or proposals");
    else if (done < 0 || done > r->cycles)
        status = foreign(path, "more cycles than there are proposals for");
    double seconds[2];
    piece p[N_TENSORS];
    if (!status) {
        r->done = done;
        pieces(r, seconds, p);
        status = check(r, f, p, path);
        r->done = status ? before : done;
    }
    for (int i = 0; i < N_TENSORS && !status; i++)
        memcpy(p[i].data, tbg_tensors_find(f, p[i].name)->data, p[i].n * tbg_dtype_size(p[i].dtype));
    if (!status) {
        r->seconds_dynamics = seconds[0];
        r->seconds_density = seconds[1];
    }
    tbg_tensors_free(f);
    return status;
}
