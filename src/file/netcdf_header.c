/* netcdf_header.c: walks the header of a classic NetCDF file (versions 1, 2 and 5). libnetcdf trusts lengths
 * in headers and reads missing data as zeros; a trajectory cut short must be an error instead. Owns no data;
 * reads the header only. */
#include "file/netcdf_header.h"
#include "tbg/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIMENSIONS_LIMIT 256
#define LIST_LIMIT 4096
#define NAME_LIMIT 256

typedef struct {
    FILE *file;
    const char *path;
    uint64_t size, at; /* bytes */
    int version;
    uint64_t dimensions[DIMENSIONS_LIMIT];
    uint64_t n_dimensions, n_records;
    int n_record_variables;
    uint64_t record_size, one_record_size; /* padded sum; unpadded size of the last record variable */
    uint64_t record_end;                   /* largest begin + size of a record variable's first record */
} walker;

static int corrupt(const walker *w, const char *what) {
    return tbg_fail(TBG_INPUT, "%s: truncated or corrupt NetCDF header (%s at byte %llu)", w->path, what,
                    (unsigned long long)w->at);
}

static int take(walker *w, void *data, size_t n) {
    if (n > w->size - w->at || fread(data, 1, n, w->file) != n)
        return corrupt(w, "end of file");
    w->at += n;
    return TBG_OK;
}

static int skip(walker *w, uint64_t n) {
    if (n > w->size - w->at || fseeko(w->file, (off_t)n, SEEK_CUR))
        return corrupt(w, "length beyond the end of the file");
    w->at += n;
    return TBG_OK;
}

static int take_big_endian(walker *w, int bytes, uint64_t *value) {
    unsigned char b[8];
    TBG_TRY(take(w, b, (size_t)bytes));
    *value = 0;
    for (int i = 0; i < bytes; i++)
        *value = *value << 8 | b[i];
    return TBG_OK;
}

static int take_word(walker *w, uint64_t *value) {
    return take_big_endian(w, 4, value);
}

/* A count or length: 4 bytes, 8 in version 5. */
static int take_count(walker *w, uint64_t *value) {
    return take_big_endian(w, w->version == 5 ? 8 : 4, value);
}

static int skip_name(walker *w) {
    uint64_t n;
    TBG_TRY(take_count(w, &n));
    if (n == 0 || n > NAME_LIMIT)
        return corrupt(w, "name of impossible length");
    char name[NAME_LIMIT + 4];
    TBG_TRY(take(w, name, (size_t)(n + 3) / 4 * 4));
    return memchr(name, 0, (size_t)n) ? corrupt(w, "zero byte in a name") : TBG_OK;
}

/* Head of a list: its tag, or two zeros if it is absent. */
static int take_list(walker *w, uint64_t tag, uint64_t *n) {
    uint64_t got;
    TBG_TRY(take_word(w, &got));
    TBG_TRY(take_count(w, n));
    if (!(got == tag || (got == 0 && *n == 0)) || *n > LIST_LIMIT)
        return corrupt(w, "list of unknown kind or impossible length");
    return TBG_OK;
}

static int type_size(const walker *w, uint64_t type) {
    static const int sizes[] = {0, 1, 1, 2, 4, 4, 8, 1, 2, 4, 8, 8};
    return type >= 1 && type <= (w->version == 5 ? 11u : 6u) ? sizes[type] : 0;
}

static int skip_attributes(walker *w) {
    uint64_t n, type, length, bytes;
    TBG_TRY(take_list(w, 0x0c, &n));
    for (uint64_t i = 0; i < n; i++) {
        TBG_TRY(skip_name(w));
        TBG_TRY(take_word(w, &type));
        TBG_TRY(take_count(w, &length));
        if (!type_size(w, type))
            return corrupt(w, "attribute of unknown type");
        if (__builtin_mul_overflow(length, (uint64_t)type_size(w, type), &bytes) || bytes > w->size)
            return corrupt(w, "attribute beyond the end of the file");
        TBG_TRY(skip(w, (bytes + 3) / 4 * 4));
    }
    return TBG_OK;
}

static int walk_variable(walker *w) {
    uint64_t n, dimension, type, claimed, begin, bytes = 1;
    int record = 0;
    TBG_TRY(skip_name(w));
    TBG_TRY(take_count(w, &n));
    if (n > DIMENSIONS_LIMIT)
        return corrupt(w, "variable of too many dimensions");
    for (uint64_t i = 0; i < n; i++) {
        TBG_TRY(take_count(w, &dimension));
        if (dimension >= w->n_dimensions)
            return corrupt(w, "unknown dimension");
        uint64_t length = w->dimensions[dimension];
        if (!length && i)
            return corrupt(w, "record dimension is not the first");
        record |= !length;
        if (length && __builtin_mul_overflow(bytes, length, &bytes))
            return corrupt(w, "variable's size overflows");
    }
    TBG_TRY(skip_attributes(w));
    TBG_TRY(take_word(w, &type));
    TBG_TRY(take_count(w, &claimed));
    TBG_TRY(take_big_endian(w, w->version == 1 ? 4 : 8, &begin));
    if (!type_size(w, type))
        return corrupt(w, "variable of unknown type");
    if (__builtin_mul_overflow(bytes, (uint64_t)type_size(w, type), &bytes) || bytes > INT64_MAX - 3 ||
        begin > INT64_MAX - bytes)
        return corrupt(w, "variable's size overflows");
    if (!record)
        return begin + bytes > w->size ? corrupt(w, "variable beyond the end of the file") : TBG_OK;
    w->n_record_variables++;
    w->one_record_size = bytes;
    if (__builtin_add_overflow(w->record_size, (bytes + 3) / 4 * 4, &w->record_size))
        return corrupt(w, "record's size overflows");
    if (begin + bytes > w->record_end)
        w->record_end = begin + bytes;
    return TBG_OK;
}

static int walk(walker *w) {
    unsigned char magic[4];
    uint64_t n;
    if (w->size < 32)
        return tbg_fail(TBG_INPUT, "%s: %llu bytes are too few for a NetCDF trajectory", w->path,
                        (unsigned long long)w->size);
    TBG_TRY(take(w, magic, 4));
    w->version = magic[3];
    if (!memcmp(magic, "\x89HDF", 4))
        return tbg_fail(TBG_INPUT,
                        "%s: HDF5, but AMBER trajectories are classic NetCDF (nccopy -k nc6 converts)",
                        w->path);
    if (memcmp(magic, "CDF", 3) || (w->version != 1 && w->version != 2 && w->version != 5))
        return tbg_fail(TBG_INPUT, "%s: not a NetCDF file", w->path);
    TBG_TRY(take_count(w, &w->n_records));
    if (w->n_records == (w->version == 5 ? UINT64_MAX : UINT32_MAX))
        return tbg_fail(TBG_INPUT,
                        "%s: NetCDF file without its number of records (its writer did not finish)", w->path);
    TBG_TRY(take_list(w, 0x0a, &w->n_dimensions));
    if (w->n_dimensions > DIMENSIONS_LIMIT)
        return corrupt(w, "too many dimensions");
    int records = 0;
    for (uint64_t i = 0; i < w->n_dimensions; i++) {
        TBG_TRY(skip_name(w));
        TBG_TRY(take_count(w, &w->dimensions[i]));
        records += w->dimensions[i] == 0;
        if (w->dimensions[i] > INT64_MAX)
            return corrupt(w, "dimension of impossible length");
    }
    if (records > 1)
        return corrupt(w, "two record dimensions");
    TBG_TRY(skip_attributes(w));
    TBG_TRY(take_list(w, 0x0b, &n));
    for (uint64_t i = 0; i < n; i++)
        TBG_TRY(walk_variable(w));
    /* A single record variable is packed without padding. */
    uint64_t stride = w->n_record_variables == 1 ? w->one_record_size : w->record_size, last, end;
    if (!w->n_record_variables || !w->n_records)
        return TBG_OK;
    if (__builtin_mul_overflow(stride, w->n_records - 1, &last) ||
        __builtin_add_overflow(last, w->record_end, &end) || end > w->size)
        return tbg_fail(TBG_INPUT, "%s: truncated: %llu frames claimed need more than the file's %llu bytes",
                        w->path, (unsigned long long)w->n_records, (unsigned long long)w->size);
    return TBG_OK;
}

int tbg_netcdf_check(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return tbg_fail(TBG_INPUT, "%s: %s", path, strerror(errno));
    struct stat info;
    walker w = {.path = path};
    if (fstat(fd, &info) || !S_ISREG(info.st_mode) || !(w.file = fdopen(fd, "rb"))) {
        close(fd);
        return tbg_fail(TBG_INPUT, "%s: not a regular file", path);
    }
    w.size = (uint64_t)info.st_size;
    int status = walk(&w);
    fclose(w.file);
    return status;
}
