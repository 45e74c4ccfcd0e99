/* trajectory.c: AMBER NetCDF trajectories, convention 1.0 (https://ambermd.org/netcdf/nctraj.xhtml): Angstrom
 * and picoseconds in the file, nm here. Owns both directions and the refusal of other conventions, units and
 * values that are not finite. libnetcdf is not thread-safe: one thread at a time may be in this file. */
#include "tbg/file.h"
#include "base/memory.h"
#include "file/netcdf_header.h"
#include "file/writer.h"
#include "tbg/status.h"

#include <limits.h>
#include <math.h>
#include <netcdf.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define ATOMS_LIMIT 10000000
#define ATTRIBUTE_LIMIT ((size_t)64 << 20)
#define EXTRA_LIMIT 64
#define BLOCK_BYTES ((size_t)4 << 20)

struct tbg_trajectory_writer {
    int nc, n_atoms, n_extra, in_place;
    int time, coordinates, extra[EXTRA_LIMIT];
    int64_t n_frames;
    char *path, *temporary;
    float *block; /* [block_frames][n_atoms][3] Angstrom */
    int block_frames;
};

/* libnetcdf takes some names for addresses on the network; a leading ./ keeps them files. */
static char *plain_path(const char *path) {
    size_t size = strlen(path) + 3;
    char *plain = tbg_realloc(NULL, size, 1);
    if (plain)
        snprintf(plain, size, "%s%s", *path == '/' ? "" : "./", path);
    return plain;
}

#define NC(call)                                                                                             \
    do {                                                                                                     \
        int nc_status_ = (call);                                                                             \
        if (nc_status_ != NC_NOERR)                                                                          \
            return tbg_fail(TBG_FAILED, "%s: %s", path, nc_strerror(nc_status_));                            \
    } while (0)

/* A text attribute in fresh memory; NULL if it is absent or not text. */
static int get_text(const char *path, int nc, int variable, const char *name, char **text) {
    nc_type type;
    size_t length;
    *text = NULL;
    if (nc_inq_att(nc, variable, name, &type, &length) != NC_NOERR || type != NC_CHAR)
        return TBG_OK;
    if (length > ATTRIBUTE_LIMIT)
        return tbg_fail(TBG_INPUT, "%s: attribute %s of %zu bytes is too long", path, name, length);
    char *value = tbg_realloc(NULL, length + 1, 1);
    if (!value)
        return TBG_FAILED;
    value[length] = 0;
    int status = length ? nc_get_att_text(nc, variable, name, value) : NC_NOERR;
    if (status != NC_NOERR) {
        free(value);
        return tbg_fail(TBG_INPUT, "%s: attribute %s: %s", path, name, nc_strerror(status));
    }
    *text = value;
    return TBG_OK;
}

static int has_word(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || strchr(" ,", at[-1])) && (!at[n] || strchr(" ,", at[n])))
            return 1;
    return 0;
}

/* Is `variable` a number per frame? */
static int per_frame(int nc, int variable, int frame) {
    int rank, dimension[NC_MAX_VAR_DIMS];
    nc_type type;
    return nc_inq_varndims(nc, variable, &rank) == NC_NOERR && rank == 1 &&
           nc_inq_vardimid(nc, variable, dimension) == NC_NOERR && dimension[0] == frame &&
           nc_inq_vartype(nc, variable, &type) == NC_NOERR && (type == NC_DOUBLE || type == NC_FLOAT);
}

typedef struct {
    int nc, coordinates, time, n_extra, extra[EXTRA_LIMIT]; /* time: -1 if absent */
    int64_t n_frames;
    int n_atoms;
    double scale; /* file unit -> nm */
} layout;

static int check_units(const char *path, int nc, int variable, const char *name, const char *const *allowed) {
    char *units;
    TBG_TRY(get_text(path, nc, variable, "units", &units));
    int known = !units; /* the convention has one unit only, some writers leave it out */
    for (; *allowed && !known; allowed++)
        known = !strcasecmp(units, *allowed);
    int status = known ? TBG_OK
                       : tbg_fail(TBG_INPUT, "%s: %s in '%.40s': not the unit of AMBER trajectories", path,
                                  name, units);
    free(units);
    return status;
}

/* Where everything lies in an open file. */
static int find_layout(const char *path, layout *l) {
    static const char *const lengths[] = {"angstrom", "angstroms", NULL};
    static const char *const times[] = {"picosecond", "picoseconds", "ps", NULL};
    int nc = l->nc, frame, atom, rank, dimension[NC_MAX_VAR_DIMS];
    char *conventions;
    TBG_TRY(get_text(path, nc, NC_GLOBAL, "Conventions", &conventions));
    int amber = conventions && has_word(conventions, "AMBER");
    free(conventions);
    if (!amber)
        return tbg_fail(TBG_INPUT, "%s: NetCDF, but not an AMBER trajectory (attribute Conventions)", path);
    if (nc_inq_dimid(nc, "frame", &frame) || nc_inq_dimid(nc, "atom", &atom) ||
        nc_inq_varid(nc, "coordinates", &l->coordinates))
        return tbg_fail(TBG_INPUT, "%s: needs dimensions frame and atom and a variable coordinates", path);
    size_t n_frames, n_atoms, three = 0;
    nc_type type;
    NC(nc_inq_dimlen(nc, frame, &n_frames));
    NC(nc_inq_dimlen(nc, atom, &n_atoms));
    NC(nc_inq_varndims(nc, l->coordinates, &rank));
    NC(nc_inq_vardimid(nc, l->coordinates, dimension));
    NC(nc_inq_vartype(nc, l->coordinates, &type));
    if (rank == 3)
        NC(nc_inq_dimlen(nc, dimension[2], &three));
    if (rank != 3 || dimension[0] != frame || dimension[1] != atom || three != 3 ||
        (type != NC_FLOAT && type != NC_DOUBLE))
        return tbg_fail(TBG_INPUT, "%s: coordinates are not numbers [frame][atom][3]", path);
    if (n_atoms < 1 || n_atoms > ATOMS_LIMIT)
        return tbg_fail(TBG_INPUT, "%s: %zu atoms", path, n_atoms);
    l->n_frames = (int64_t)n_frames;
    l->n_atoms = (int)n_atoms;
    TBG_TRY(check_units(path, nc, l->coordinates, "coordinates", lengths));
    double factor = 1;
    size_t length;
    if (nc_inq_att(nc, l->coordinates, "scale_factor", &type, &length) == NC_NOERR &&
        (length != 1 || nc_get_att_double(nc, l->coordinates, "scale_factor", &factor) || !isfinite(factor) ||
         factor == 0))
        return tbg_fail(TBG_INPUT, "%s: coordinates have a scale_factor that is no number", path);
    l->scale = factor / 10;
    l->time = -1;
    int time;
    if (nc_inq_varid(nc, "time", &time) == NC_NOERR) {
        if (!per_frame(nc, time, frame))
            return tbg_fail(TBG_INPUT, "%s: time is not a number per frame", path);
        TBG_TRY(check_units(path, nc, time, "time", times));
        l->time = time;
    }
    int n_variables;
    NC(nc_inq_nvars(nc, &n_variables));
    for (int v = 0; v < n_variables && l->n_extra < EXTRA_LIMIT; v++)
        if (v != l->time && v != l->coordinates && per_frame(nc, v, frame))
            l->extra[l->n_extra++] = v;
    return TBG_OK;
}

/* Opens, after the header was found sound. The caller closes l->nc also after a failure, unless it is -1. */
static int open_layout(const char *path, int mode, layout *l) {
    *l = (layout){.nc = -1};
    TBG_TRY(tbg_netcdf_check(path));
    char *plain = plain_path(path);
    if (!plain)
        return TBG_FAILED;
    int nc, status = nc_open(plain, mode, &nc);
    free(plain);
    if (status != NC_NOERR)
        return tbg_fail(TBG_INPUT, "%s: %s", path, nc_strerror(status));
    l->nc = nc;
    return find_layout(path, l);
}

/* ---- writing ---- */

static int put_text(const char *path, int nc, int variable, const char *name, const char *text) {
    if (text)
        NC(nc_put_att_text(nc, variable, name, strlen(text), text));
    return TBG_OK;
}

static int define(tbg_trajectory_writer *w, const tbg_trajectory_header *h) {
    const char *path = w->path;
    int nc = w->nc, frame, spatial, atom, spatial_variable;
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "Conventions", "AMBER"));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "ConventionVersion", "1.0"));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "application", "tbg"));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "program", "tbg"));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "programVersion", TBG_VERSION));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "title", h->title));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "tbg_topology", h->topology_pdb));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "tbg_forcefield", h->forcefield));
    TBG_TRY(put_text(path, nc, NC_GLOBAL, "tbg_metadata", h->metadata_json));
    if (h->temperature > 0)
        NC(nc_put_att_double(nc, NC_GLOBAL, "tbg_temperature", NC_DOUBLE, 1, &h->temperature));
    NC(nc_def_dim(nc, "frame", NC_UNLIMITED, &frame));
    NC(nc_def_dim(nc, "spatial", 3, &spatial));
    NC(nc_def_dim(nc, "atom", (size_t)h->n_atoms, &atom));
    NC(nc_def_var(nc, "spatial", NC_CHAR, 1, &spatial, &spatial_variable));
    NC(nc_def_var(nc, "time", NC_FLOAT, 1, &frame, &w->time));
    TBG_TRY(put_text(path, nc, w->time, "units", "picosecond"));
    NC(nc_def_var(nc, "coordinates", NC_FLOAT, 3, (int[]){frame, atom, spatial}, &w->coordinates));
    TBG_TRY(put_text(path, nc, w->coordinates, "units", "angstrom"));
    for (int i = 0; i < h->n_extra; i++) {
        NC(nc_def_var(nc, h->extra_names[i], NC_DOUBLE, 1, &frame, &w->extra[i]));
        if (h->extra_units)
            TBG_TRY(put_text(path, nc, w->extra[i], "units", h->extra_units[i]));
    }
    int before;
    NC(nc_set_fill(nc, NC_NOFILL, &before)); /* every value of a frame is written */
    NC(nc_enddef(nc));
    NC(nc_put_var_text(nc, spatial_variable, "xyz"));
    return TBG_OK;
}

/* Is the file at path one that header h continues? */
static int match(tbg_trajectory_writer *w, const tbg_trajectory_header *h, const layout *l) {
    const char *path = w->path;
    if (l->n_atoms != h->n_atoms)
        return tbg_fail(TBG_INPUT, "%s: cannot be continued: %d atoms there, %d here", path, l->n_atoms,
                        h->n_atoms);
    if (l->n_extra != h->n_extra || l->time < 0 || fabs(l->scale * 10 - 1) > 0)
        return tbg_fail(TBG_INPUT, "%s: cannot be continued: other variables there", path);
    for (int i = 0; i < h->n_extra; i++) {
        int there = 0;
        if (nc_inq_varid(l->nc, h->extra_names[i], &w->extra[i]) == NC_NOERR)
            for (int k = 0; k < l->n_extra; k++)
                there |= l->extra[k] == w->extra[i];
        if (!there)
            return tbg_fail(TBG_INPUT, "%s: cannot be continued: no variable %s there", path,
                            h->extra_names[i]);
    }
    char *forcefield;
    TBG_TRY(get_text(path, l->nc, NC_GLOBAL, "tbg_forcefield", &forcefield));
    int other = forcefield && h->forcefield && strcmp(forcefield, h->forcefield);
    if (other)
        tbg_fail(TBG_INPUT, "%s: cannot be continued: force field %s there, %s here", path, forcefield,
                 h->forcefield);
    free(forcefield);
    if (other)
        return TBG_INPUT;
    double temperature;
    if (h->temperature > 0 &&
        nc_get_att_double(l->nc, NC_GLOBAL, "tbg_temperature", &temperature) == NC_NOERR &&
        temperature != h->temperature)
        return tbg_fail(TBG_INPUT, "%s: cannot be continued: %g K there, %g K here", path, temperature,
                        h->temperature);
    w->time = l->time;
    w->coordinates = l->coordinates;
    w->n_frames = l->n_frames;
    return TBG_OK;
}

static int start(tbg_trajectory_writer *w, const tbg_trajectory_header *h, int append) {
    const char *path = w->path;
    if (append && !access(path, F_OK)) {
        layout l;
        w->in_place = 1;
        int status = open_layout(path, NC_WRITE, &l);
        w->nc = l.nc;
        return status == TBG_OK ? match(w, h, &l) : status;
    }
    char *plain = plain_path(w->temporary);
    if (!plain)
        return TBG_FAILED;
    int nc, nc_status = nc_create(plain, NC_CLOBBER | NC_64BIT_OFFSET, &nc);
    free(plain);
    if (nc_status != NC_NOERR)
        return tbg_fail(TBG_FAILED, "%s: cannot be written: %s", path, nc_strerror(nc_status));
    w->nc = nc;
    TBG_TRY(define(w, h));
    if (!append)
        return TBG_OK;
    /* A run that means to be continued leaves its file where the next run looks for it. */
    NC(nc_sync(nc));
    if (rename(w->temporary, path))
        return tbg_fail(TBG_FAILED, "%s: cannot be written", path);
    w->in_place = 1;
    return TBG_OK;
}

int tbg_trajectory_create(const char *path, const tbg_trajectory_header *header, int append,
                          int64_t *n_frames, tbg_trajectory_writer **out) {
    *out = NULL;
    if (header->n_atoms < 1 || header->n_atoms > ATOMS_LIMIT || header->n_extra < 0 ||
        header->n_extra > EXTRA_LIMIT)
        return tbg_fail(TBG_INPUT, "%s: a trajectory of %d atoms and %d extra variables cannot be written",
                        path, header->n_atoms, header->n_extra);
    tbg_trajectory_writer *w = TBG_NEW(tbg_trajectory_writer, 1);
    if (!w)
        return TBG_FAILED;
    w->nc = -1;
    w->n_atoms = header->n_atoms;
    w->n_extra = header->n_extra;
    size_t frame_bytes = (size_t)w->n_atoms * 3 * sizeof(float);
    w->block_frames = frame_bytes > BLOCK_BYTES ? 1 : (int)(BLOCK_BYTES / frame_bytes);
    if (w->block_frames > 1024)
        w->block_frames = 1024;
    w->block = tbg_alloc((size_t)w->block_frames, frame_bytes);
    w->path = tbg_strdup(path);
    w->temporary = tbg_file_temporary(path);
    int status = w->block && w->path && w->temporary ? start(w, header, append) : TBG_FAILED;
    if (status != TBG_OK) {
        tbg_trajectory_abort(w);
        return status;
    }
    if (n_frames)
        *n_frames = w->n_frames;
    *out = w;
    return TBG_OK;
}

int tbg_trajectory_append(tbg_trajectory_writer *w, int n, const double *positions, const double *time,
                          const double *extra) {
    const char *path = w->path;
    size_t per = (size_t)w->n_atoms * 3;
    for (int done = 0; done < n;) {
        int m = n - done < w->block_frames ? n - done : w->block_frames;
        const double *x = positions + (size_t)done * per;
        float instant[1024];
        double column[1024];
        for (size_t i = 0; i < (size_t)m * per; i++) {
            w->block[i] = (float)(x[i] * 10);
            if (!isfinite(w->block[i]))
                return tbg_fail(TBG_FAILED, "%s: frame %lld, atom %zu: position is not finite", path,
                                (long long)w->n_frames + (long long)(i / per), i / 3 % (size_t)w->n_atoms);
        }
        size_t at[3] = {(size_t)w->n_frames, 0, 0}, count[3] = {(size_t)m, (size_t)w->n_atoms, 3};
        for (int i = 0; i < m; i++)
            instant[i] = (float)(time ? time[done + i] : (double)(w->n_frames + i));
        NC(nc_put_vara_float(w->nc, w->coordinates, at, count, w->block));
        NC(nc_put_vara_float(w->nc, w->time, at, count, instant));
        for (int k = 0; k < w->n_extra; k++) {
            for (int i = 0; i < m; i++)
                column[i] = extra ? extra[(size_t)(done + i) * (size_t)w->n_extra + (size_t)k] : NAN;
            NC(nc_put_vara_double(w->nc, w->extra[k], at, count, column));
        }
        w->n_frames += m;
        done += m;
    }
    return TBG_OK;
}

int tbg_trajectory_sync(tbg_trajectory_writer *w) {
    const char *path = w->path;
    NC(nc_sync(w->nc));
    return TBG_OK;
}

static void release(tbg_trajectory_writer *w) {
    free(w->path);
    free(w->temporary);
    free(w->block);
    free(w);
}

int tbg_trajectory_close(tbg_trajectory_writer *w) {
    int nc_status = nc_close(w->nc), status = TBG_OK;
    w->nc = -1;
    if (nc_status != NC_NOERR)
        status = tbg_fail(TBG_FAILED, "%s: cannot be written: %s", w->path, nc_strerror(nc_status));
    else if (!w->in_place && rename(w->temporary, w->path))
        status = tbg_fail(TBG_FAILED, "%s: cannot be written", w->path);
    if (status != TBG_OK) {
        tbg_trajectory_abort(w);
        return status;
    }
    tbg_file_sync_folder(w->path);
    release(w);
    return TBG_OK;
}

void tbg_trajectory_abort(tbg_trajectory_writer *w) {
    if (!w)
        return;
    if (w->nc >= 0)
        nc_close(w->nc);
    if (!w->in_place && w->temporary)
        unlink(w->temporary);
    release(w);
}

/* ---- reading ---- */

void tbg_trajectory_free(tbg_trajectory *t) {
    if (!t)
        return;
    for (int i = 0; i < t->n_extra; i++) {
        free(t->extra_names[i]);
        free(t->extra[i]);
    }
    free(t->extra_names);
    free(t->extra);
    free(t->positions);
    free(t->time);
    free(t->topology_pdb);
    free(t->forcefield);
    free(t->metadata_json);
    free(t->title);
    free(t);
}

/* One number per frame for the chosen frames. */
static int read_column(const char *path, int nc, int variable, int64_t first, int64_t stride, int64_t n,
                       double **out) {
    double *column = *out = TBG_NEW(double, n);
    if (!column)
        return TBG_FAILED;
    if (!n)
        return TBG_OK;
    size_t at = (size_t)first, count = (size_t)n;
    ptrdiff_t step = (ptrdiff_t)stride;
    int status = stride == 1 ? nc_get_vara_double(nc, variable, &at, &count, column)
                             : nc_get_vars_double(nc, variable, &at, &count, &step, column);
    return status == NC_NOERR ? TBG_OK : tbg_fail(TBG_INPUT, "%s: %s", path, nc_strerror(status));
}

static int read_coordinates(const char *path, const layout *l, int64_t first, int64_t stride,
                            tbg_trajectory *t) {
    size_t per = (size_t)l->n_atoms * 3;
    t->positions = tbg_alloc((size_t)t->n_frames, per * sizeof(float));
    if (!t->positions)
        return TBG_FAILED;
    int64_t most = stride == 1 ? (int64_t)(BLOCK_BYTES / (per * sizeof(float))) + 1 : 1;
    for (int64_t done = 0; done < t->n_frames;) {
        int64_t m = t->n_frames - done < most ? t->n_frames - done : most;
        size_t at[3] = {(size_t)(first + done * stride), 0, 0}, count[3] = {(size_t)m, (size_t)l->n_atoms, 3};
        float *x = t->positions + (size_t)done * per;
        int status = nc_get_vara_float(l->nc, l->coordinates, at, count, x);
        if (status != NC_NOERR)
            return tbg_fail(TBG_INPUT, "%s: frame %zu: %s", path, at[0], nc_strerror(status));
        for (size_t i = 0; i < (size_t)m * per; i++) {
            x[i] = (float)(x[i] * l->scale);
            if (!isfinite(x[i]))
                return tbg_fail(TBG_INPUT, "%s: frame %zu, atom %zu: position is not finite", path,
                                at[0] + i / per * (size_t)stride, i / 3 % (size_t)l->n_atoms);
        }
        done += m;
    }
    return TBG_OK;
}

static int read_open(const char *path, const layout *l, int64_t first, int64_t stride, int64_t limit,
                     tbg_trajectory *t) {
    int nc = l->nc;
    t->n_atoms = l->n_atoms;
    t->n_frames = first < l->n_frames ? (l->n_frames - first - 1) / stride + 1 : 0;
    if (limit > 0 && t->n_frames > limit)
        t->n_frames = limit;
    TBG_TRY(get_text(path, nc, NC_GLOBAL, "title", &t->title));
    TBG_TRY(get_text(path, nc, NC_GLOBAL, "tbg_topology", &t->topology_pdb));
    TBG_TRY(get_text(path, nc, NC_GLOBAL, "tbg_forcefield", &t->forcefield));
    TBG_TRY(get_text(path, nc, NC_GLOBAL, "tbg_metadata", &t->metadata_json));
    nc_type type;
    size_t length;
    double temperature;
    if (nc_inq_att(nc, NC_GLOBAL, "tbg_temperature", &type, &length) == NC_NOERR && length == 1 &&
        nc_get_att_double(nc, NC_GLOBAL, "tbg_temperature", &temperature) == NC_NOERR &&
        isfinite(temperature) && temperature > 0)
        t->temperature = temperature;
    TBG_TRY(read_coordinates(path, l, first, stride, t));
    if (l->time >= 0)
        TBG_TRY(read_column(path, nc, l->time, first, stride, t->n_frames, &t->time));
    t->extra_names = TBG_NEW(char *, l->n_extra);
    t->extra = TBG_NEW(double *, l->n_extra);
    if (!t->extra_names || !t->extra)
        return TBG_FAILED;
    for (int i = 0; i < l->n_extra; i++) {
        char name[NC_MAX_NAME + 1];
        NC(nc_inq_varname(nc, l->extra[i], name));
        t->n_extra++;
        if (!(t->extra_names[i] = tbg_strdup(name)))
            return TBG_FAILED;
        TBG_TRY(read_column(path, nc, l->extra[i], first, stride, t->n_frames, &t->extra[i]));
    }
    return TBG_OK;
}

int tbg_trajectory_read(const char *path, int64_t first, int64_t stride, int64_t limit,
                        tbg_trajectory **out) {
    *out = NULL;
    if (first < 0 || stride < 1 || limit < 0)
        return tbg_fail(TBG_INPUT, "%s: first frame %lld, stride %lld and limit %lld make no sense", path,
                        (long long)first, (long long)stride, (long long)limit);
    layout l;
    tbg_trajectory *t = TBG_NEW(tbg_trajectory, 1);
    int status = t ? open_layout(path, NC_NOWRITE, &l) : TBG_FAILED;
    if (status == TBG_OK)
        status = read_open(path, &l, first, stride, limit, t);
    if (t && l.nc >= 0)
        nc_close(l.nc);
    if (status != TBG_OK) {
        tbg_trajectory_free(t);
        return status;
    }
    *out = t;
    return TBG_OK;
}

const double *tbg_trajectory_extra(const tbg_trajectory *trajectory, const char *name) {
    for (int i = 0; i < trajectory->n_extra; i++)
        if (!strcmp(trajectory->extra_names[i], name))
            return trajectory->extra[i];
    return NULL;
}
