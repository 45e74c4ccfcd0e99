/* run_state.c: the state of a simulation in one file, written beside the target and renamed
 * (DATA.nc.checkpoint while unfinished, DATA.nc.state afterwards), and the file of frames that grows next to
 * it. Refuses truncated or corrupt files (checksum) and those of another run (identity). Made for the machine
 * that wrote it: byte order and layout are the processor's. */
#include "base/memory.h"
#include "base/progress.h"
#include "dynamics/simulation.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "tbg-run1"
#define CHECKPOINT_LIMIT ((size_t)1 << 32)

/* FNV-1a, 64 bits. */
static uint64_t hash(uint64_t h, const void *data, size_t size) {
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * 0x100000001b3ULL;
    return h;
}

static uint64_t system_hash(const tbg_system *s) {
    uint64_t h = 0xcbf29ce484222325ULL;
    size_t n = (size_t)s->n_atoms;
    const double *per_atom[] = {s->mass, s->charge, s->sigma, s->epsilon, s->gb_radius, s->gb_screen};
    for (int i = 0; i < 6; i++)
        if (per_atom[i])
            h = hash(h, per_atom[i], n * sizeof(double));
    for (int i = 0; i < s->n_bonds; i++)
        h = hash(h, (int[]){s->bonds[i].i, s->bonds[i].j}, 2 * sizeof(int));
    for (int i = 0; i < s->n_torsions; i++)
        h = hash(h, &s->torsions[i].barrier, sizeof(double));
    return hash(h, &s->cutoff, sizeof s->cutoff);
}

char *tbg_simulation_identity(const tbg_simulation *s) {
    const tbg_simulation_options *o = &s->options;
    char *text = tbg_realloc(NULL, 1024, 1);
    if (!text)
        return NULL;
    int length = snprintf(
        text, 1024,
        "system %s with %d atoms (%016llx)\ntemperature %.17g K\nmax-temperature %.17g K\nreplicas %d\n"
        "exchange-rate %.17g\nruns %d\ntimestep %.17g ps\nfriction %.17g /ps\nequilibrate %.17g ps\n"
        "save-every %.17g ps\nexchange-every %.17g ps\nseed %llu\nsame-start %d\n",
        s->system->forcefield, s->system->n_atoms, (unsigned long long)system_hash(s->system), o->temperature,
        o->replicas == 1 ? o->temperature : o->max_temperature, o->replicas,
        o->replicas ? 0.0 : o->exchange_rate, o->runs, o->timestep, o->friction, o->equilibrate,
        o->save_every, o->exchange_every, (unsigned long long)o->seed, o->same_start);
    if (o->flatten) /* other runs keep the identity they had before there was this */
        snprintf(text + length, (size_t)(1024 - length), "flatten phi in %.17g ps, up to %.17g kT\n",
                 o->flatten_time, o->flatten_cap);
    return text;
}

/* The file: header, identity, then the arrays of walk(), then the hash of all that. */
typedef struct {
    char magic[8];
    int32_t n_atoms, runs, replicas, n_blocks, distinct_starts, identity_size;
    int64_t step, n_frames, rounds, file_size;
    double heat_capacity, start_energy, start_rms_force;
} header;

typedef struct {
    void *data;
    size_t size;
} piece;

enum { LEVEL = 1, X = 9, PIECES = 15 }; /* the first two: what also reopen() looks at */
static size_t pieces_of(const tbg_simulation *s, const header *h, piece out[PIECES]) {
    const tbg_lanes *l = s->lanes;
    const tbg_exchange *e = &s->exchange;
    size_t k = (size_t)h->replicas, r = (size_t)h->runs, n = (size_t)h->n_atoms;
    size_t state = (size_t)h->n_blocks * n * 3 * TBG_LANES * sizeof(float),
           pairs = r * (k - 1) * sizeof(int64_t);
    piece all[PIECES] = {{e->temperatures, k * 8}, {e->level, r * k * 4},     {e->end, r * k * 4},
                         {e->attempts, pairs},     {e->accepts, pairs},       {e->round_trips, r * 8},
                         {s->start, n * 24},       {s->potential_sum, k * 8}, {s->kinetic_sum, k * 8},
                         {l ? l->x : NULL, state}, {l ? l->v : NULL, state}};
    tbg_flatten *f = s->flatten;
    if (f) {
        size_t m = (size_t)f->n;
        all[11] = (piece){f->series, (TBG_FLATTEN_STAGES + 1) * m * TBG_FLATTEN_SERIES * 8};
        all[12] = (piece){f->samples, (size_t)tbg_flatten_samples_at(f, h->runs, h->step) * m * 8};
        all[13] = (piece){f->core, r * k * m * 4};
        all[14] = (piece){f->crossings, r * m * 8};
    }
    size_t total = 0;
    for (int i = 0; i < PIECES; i++)
        total += all[i].size;
    memcpy(out, all, sizeof all);
    return total;
}

static int corrupt(const tbg_simulation *s, const char *path) {
    return path == s->state_path
               ? tbg_fail(TBG_INPUT,
                          "%s: not a complete state of this program; %s cannot be continued without it", path,
                          s->path)
               : tbg_fail(TBG_INPUT,
                          "%s: not a complete checkpoint of this program; remove it and %s to start over",
                          path, s->frames_path);
}

/* First line in which two identities differ. */
static int different(const char *path, const char *there, const char *here) {
    while (*there && *here) {
        int n = (int)strcspn(there, "\n"), m = (int)strcspn(here, "\n");
        if (n != m || strncmp(there, here, (size_t)n))
            return tbg_fail(TBG_INPUT, "%s: is of another run: there %.*s, here %.*s", path, n, there, m,
                            here);
        there += n + (there[n] == '\n');
        here += m + (here[m] == '\n');
    }
    if (*there || *here)
        return tbg_fail(TBG_INPUT, "%s: is of another run: %s %.*s", path, *there ? "there" : "only here",
                        (int)strcspn(*there ? there : here, "\n"), *there ? there : here);
    return TBG_OK;
}

/* The whole file, checked: size, checksum, identity. path: s->checkpoint_path or s->state_path. */
static int load(const tbg_simulation *s, const char *path, char **data, header *h) {
    size_t size;
    TBG_TRY(tbg_file_read(path, CHECKPOINT_LIMIT, data, &size));
    uint64_t sum;
    int good = size >= sizeof *h + sizeof sum;
    if (good) {
        memcpy(h, *data, sizeof *h);
        memcpy(&sum, *data + size - sizeof sum, sizeof sum);
        good = !memcmp(h->magic, MAGIC, 8) && h->file_size == (int64_t)size && h->runs > 0 &&
               h->replicas > 0 && h->n_atoms > 0 && h->identity_size > 0 &&
               (size_t)h->identity_size < size - sizeof *h - sizeof sum && h->n_frames >= 0 && h->step >= 0 &&
               hash(0xcbf29ce484222325ULL, *data, size - sizeof sum) == sum;
    }
    int status = good ? TBG_OK : corrupt(s, path);
    if (good && (*data)[sizeof *h + (size_t)h->identity_size - 1])
        status = corrupt(s, path);
    char *identity = status == TBG_OK ? tbg_simulation_identity(s) : NULL;
    if (status == TBG_OK)
        status = identity ? different(path, *data + sizeof *h, identity) : TBG_FAILED;
    free(identity);
    piece pieces[PIECES];
    if (status == TBG_OK &&
        (h->n_atoms != s->system->n_atoms || h->runs != s->options.runs || h->replicas > 1024 ||
         h->n_blocks != (h->runs * h->replicas + TBG_LANES - 1) / TBG_LANES ||
         sizeof *h + (size_t)h->identity_size + pieces_of(s, h, pieces) + sizeof sum != size))
        status = corrupt(s, path);
    if (status != TBG_OK) {
        free(*data);
        *data = NULL;
    }
    return status;
}

/* The file to read: of a run in work, or of one that is complete and stays so. */
static const char *state_of(const tbg_simulation *s) {
    return s->finished ? s->state_path : s->checkpoint_path;
}

int tbg_run_state_peek(const tbg_simulation *s, int *found, tbg_simulation_plan *plan) {
    char *data;
    header h;
    const char *path = state_of(s);
    *found = !access(path, F_OK);
    if (!*found)
        return TBG_OK;
    TBG_TRY(load(s, path, &data, &h));
    plan->replicas = h.replicas;
    plan->first_step = h.step;
    plan->distinct_starts = h.distinct_starts;
    plan->heat_capacity = h.heat_capacity;
    plan->start_energy = h.start_energy;
    plan->start_rms_force = h.start_rms_force;
    free(data);
    return TBG_OK;
}

int tbg_run_state_read(tbg_simulation *s) {
    char *data;
    header h;
    TBG_TRY(load(s, state_of(s), &data, &h));
    if (h.replicas != s->exchange.n_replicas || h.n_blocks != s->lanes->n_blocks) {
        free(data);
        return corrupt(s, state_of(s));
    }
    piece pieces[PIECES];
    pieces_of(s, &h, pieces);
    const char *at = data + sizeof h + h.identity_size;
    for (int i = 0; i < PIECES; i++) {
        if (pieces[i].size)
            memcpy(pieces[i].data, at, pieces[i].size);
        at += pieces[i].size;
    }
    s->lanes->step = h.step;
    s->n_frames = h.n_frames;
    s->exchange.rounds = h.rounds;
    free(data);
    for (int l = 0; l < h.runs * h.replicas; l++) {
        if (s->exchange.level[l] < 0 || s->exchange.level[l] >= h.replicas)
            return corrupt(s, state_of(s));
        s->lanes->temperature[l] = s->exchange.temperatures[s->exchange.level[l]];
    }
    for (int l = h.runs * h.replicas; l < h.n_blocks * TBG_LANES; l++)
        s->lanes->temperature[l] = s->exchange.temperatures[0];
    return TBG_OK;
}

int tbg_run_state_write(tbg_simulation *s) {
    /* Frames first: a checkpoint never counts frames that are not on the disk. */
    if (fflush(s->frames) || fsync(fileno(s->frames)))
        return tbg_fail(TBG_FAILED, "%s: cannot be written: %s", s->frames_path, strerror(errno));
    char *identity = tbg_simulation_identity(s);
    if (!identity)
        return TBG_FAILED;
    header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, MAGIC, 8);
    h.n_atoms = s->system->n_atoms;
    h.runs = s->exchange.n_runs;
    h.replicas = s->exchange.n_replicas;
    h.n_blocks = s->lanes->n_blocks;
    h.distinct_starts = s->plan.distinct_starts;
    h.identity_size = (int32_t)strlen(identity) + 1;
    h.step = s->lanes->step;
    h.n_frames = s->n_frames;
    h.rounds = s->exchange.rounds;
    h.heat_capacity = s->plan.heat_capacity;
    h.start_energy = s->plan.start_energy;
    h.start_rms_force = s->plan.start_rms_force;
    piece pieces[PIECES];
    uint64_t sum = 0;
    size_t size = sizeof h + (size_t)h.identity_size + pieces_of(s, &h, pieces) + sizeof sum;
    h.file_size = (int64_t)size;
    char *data = tbg_alloc(size, 1);
    if (!data) {
        free(identity);
        return TBG_FAILED;
    }
    memcpy(data, &h, sizeof h);
    memcpy(data + sizeof h, identity, (size_t)h.identity_size);
    free(identity);
    char *at = data + sizeof h + h.identity_size;
    for (int i = 0; i < PIECES; i++) {
        if (pieces[i].size)
            memcpy(at, pieces[i].data, pieces[i].size);
        at += pieces[i].size;
    }
    sum = hash(0xcbf29ce484222325ULL, data, size - sizeof sum);
    memcpy(at, &sum, sizeof sum);
    int status = tbg_file_write(s->checkpoint_path, data, size);
    free(data);
    s->last_checkpoint = tbg_seconds();
    return status;
}

/* ---- finished runs ---- */

/* The value a trajectory gives back: Angstrom there, nm here, both single precision. Diagnostics see the same
 * frames whether or not they have been through the file. (Of these two roundings a second application changes
 * nothing.) */
static float stored(double x) {
    return (float)((double)(float)(x * 10) * 0.1);
}

/* A state that was read: where its arrays lie. */
typedef struct {
    header h;
    const char *level, *x;
} ending;

static int foreign(const tbg_simulation *s) {
    return tbg_fail(TBG_INPUT, "%s: its frames are not those of %s, so it cannot be continued", s->path,
                    s->state_path);
}

/* The conformation at the lowest temperature of a run, as a trajectory gives it back, is `x`. */
static int ends_with(const ending *e, int run, const float *x) {
    for (int32_t lane = run * e->h.replicas; lane < (run + 1) * e->h.replicas; lane++) {
        int32_t level;
        memcpy(&level, e->level + (size_t)lane * sizeof level, sizeof level);
        for (size_t j = 0; !level && j < 3 * (size_t)e->h.n_atoms; j++) {
            size_t at =
                ((size_t)(lane / TBG_LANES) * 3 * (size_t)e->h.n_atoms + j) * TBG_LANES + lane % TBG_LANES;
            float value;
            memcpy(&value, e->x + at * sizeof value, sizeof value);
            if (!(stored((double)value) == x[j]))
                return 0;
        }
        if (!level)
            return 1;
    }
    return 0;
}

/* Frames of one run, from number `first` of that run on, back to records. */
static int put_back(tbg_simulation *s, FILE *out, const tbg_trajectory *t, const ending *e, int run,
                    int64_t first) {
    const double *of_run = tbg_trajectory_extra(t, "run"),
                 *energy = tbg_trajectory_extra(t, "potential_energy");
    size_t n = 3 * (size_t)e->h.n_atoms;
    if (t->n_atoms != e->h.n_atoms || !of_run || !energy)
        return foreign(s);
    for (int64_t i = 0; i < t->n_frames; i++) {
        const float *x = t->positions + (size_t)i * n;
        if (of_run[i] != run || (first + i == e->h.n_frames - 1 && !ends_with(e, run, x)))
            return foreign(s);
        off_t at = (off_t)(((first + i) * e->h.runs + run) * (int64_t)s->record_size);
        memcpy(s->record, &energy[i], sizeof(double));
        memcpy(s->record + sizeof(double), x, n * sizeof *x);
        if (pwrite(fileno(out), s->record, s->record_size, at) != (ssize_t)s->record_size)
            return tbg_fail(TBG_FAILED, "%s: cannot be written: %s", s->frames_path, strerror(errno));
    }
    return TBG_OK;
}

/* The whole trajectory, a piece at a time. */
static int put_back_all(tbg_simulation *s, FILE *out, const ending *e) {
    enum { PIECE = 2000 };
    tbg_trajectory *t;
    for (int run = 0; run < e->h.runs; run++)
        for (int64_t first = 0; first < e->h.n_frames; first += PIECE) {
            int64_t left = e->h.n_frames - first, m = left < PIECE ? left : PIECE;
            TBG_TRY(tbg_trajectory_read(s->path, run * e->h.n_frames + first, 1, m, &t));
            int status = t->n_frames == m ? put_back(s, out, t, e, run, first) : foreign(s);
            tbg_trajectory_free(t);
            TBG_TRY(status);
        }
    TBG_TRY(tbg_trajectory_read(s->path, e->h.runs * e->h.n_frames, 1, 1, &t));
    int beyond = t->n_frames > 0;
    tbg_trajectory_free(t);
    if (beyond)
        return foreign(s);
    return fflush(out) || fsync(fileno(out))
               ? tbg_fail(TBG_FAILED, "%s: cannot be written: %s", s->frames_path, strerror(errno))
               : TBG_OK;
}

static int reopen(tbg_simulation *s, const ending *e) {
    FILE *out = fopen(s->frames_path, "w+b");
    if (!out)
        return tbg_fail(TBG_INPUT, "%s: cannot be opened: %s", s->frames_path, strerror(errno));
    int status = put_back_all(s, out, e);
    fclose(out);
    /* From here on an unfinished run is there; before, the finished one is. */
    if (status == TBG_OK && rename(s->state_path, s->checkpoint_path))
        status = tbg_fail(TBG_FAILED, "%s: cannot be written: %s", s->checkpoint_path, strerror(errno));
    if (status != TBG_OK)
        unlink(s->frames_path);
    return status;
}

int tbg_run_state_reopen(tbg_simulation *s) {
    /* A state whose trajectory was removed is of no use: then the run starts over. */
    if (!access(s->checkpoint_path, F_OK) || access(s->path, F_OK))
        return TBG_OK;
    if (access(s->state_path, F_OK))
        return tbg_fail(
            TBG_INPUT,
            "%s: complete, but %s, from which it could go on, is not there (runs made before that file was "
            "kept cannot be continued)",
            s->path, s->state_path);
    char *data;
    ending e;
    TBG_TRY(load(s, s->state_path, &data, &e.h));
    piece pieces[PIECES];
    pieces_of(s, &e.h, pieces);
    const char *at = data + sizeof e.h + e.h.identity_size;
    for (int i = 0; i < PIECES; i++) {
        if (i == LEVEL)
            e.level = at;
        if (i == X)
            e.x = at;
        at += pieces[i].size;
    }
    int status = TBG_OK;
    if (e.h.step >= s->plan.total_steps)
        s->finished = 1;
    else
        status = reopen(s, &e);
    free(data);
    return status;
}

int tbg_run_state_close(tbg_simulation *s) {
    TBG_TRY(tbg_run_state_write(s));
    if (rename(s->checkpoint_path, s->state_path))
        return tbg_fail(TBG_FAILED, "%s: cannot be written: %s", s->state_path, strerror(errno));
    unlink(s->frames_path);
    return TBG_OK;
}

/* ---- frames ---- */

int tbg_frames_open(tbg_simulation *s, int resume) {
    int64_t bytes = s->n_frames * s->options.runs * (int64_t)s->record_size;
    s->frames = fopen(s->frames_path, resume ? "r+b" : "w+b");
    struct stat info;
    if (!s->frames || fstat(fileno(s->frames), &info))
        return tbg_fail(TBG_INPUT, "%s: cannot be opened: %s", s->frames_path, strerror(errno));
    if (info.st_size < bytes)
        return tbg_fail(TBG_INPUT,
                        "%s: has %lld bytes, the checkpoint counts %lld; it belongs to another run",
                        s->frames_path, (long long)info.st_size, (long long)bytes);
    if (ftruncate(fileno(s->frames), bytes) || fseeko(s->frames, bytes, SEEK_SET))
        return tbg_fail(TBG_FAILED, "%s: %s", s->frames_path, strerror(errno));
    return TBG_OK;
}

int tbg_frames_append(tbg_simulation *s) {
    size_t n = 3 * (size_t)s->lanes->n_atoms;
    for (int run = 0; run < s->exchange.n_runs; run++) {
        int lane = tbg_exchange_lane(&s->exchange, run, 0);
        tbg_lanes_get_positions(s->lanes, lane, s->record_x);
        double energy = s->lanes->energy[lane] - tbg_flatten_energy(s->flatten, s->record_x);
        memcpy(s->record, &energy, sizeof(double));
        for (size_t j = 0; j < n; j++) {
            float x = stored(s->record_x[j]);
            memcpy(s->record + sizeof(double) + j * sizeof x, &x, sizeof x);
        }
        if (fwrite(s->record, s->record_size, 1, s->frames) != 1)
            return tbg_fail(TBG_FAILED, "%s: cannot be written: %s", s->frames_path, strerror(errno));
    }
    s->n_frames++;
    return TBG_OK;
}

int tbg_frames_get(const tbg_simulation *s, int64_t instant, int run, double *energy, double *positions) {
    off_t at = (off_t)((instant * s->exchange.n_runs + run) * (int64_t)s->record_size);
    if (pread(fileno(s->frames), s->record, s->record_size, at) != (ssize_t)s->record_size)
        return tbg_fail(TBG_FAILED, "%s: cannot be read", s->frames_path);
    memcpy(energy, s->record, sizeof *energy);
    for (size_t j = 0; j < 3 * (size_t)s->lanes->n_atoms; j++) {
        float x;
        memcpy(&x, s->record + sizeof(double) + j * sizeof x, sizeof x);
        positions[j] = (double)x;
    }
    return TBG_OK;
}
