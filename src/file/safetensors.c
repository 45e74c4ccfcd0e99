/* safetensors.c: reading and writing of safetensors files. Owns the check of every claim in the header
 * against the file: sizes, ranges that overlap or leave gaps, types, shapes whose product overflows. Refuses
 * element types that nothing here uses (bool, 8- and 16-bit integers but bytes). */
#include "tbg/file.h"
#include "base/memory.h"
#include "file/writer.h"
#include "tbg/status.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used in place, as little-endian");

#define HEADER_LIMIT (100u << 20) /* bytes of JSON; the public library's limit */
#define METADATA "__metadata__"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [TBG_F64] = {"F64", 8}, [TBG_F32] = {"F32", 4},   [TBG_I64] = {"I64", 8}, [TBG_I32] = {"I32", 4},
    [TBG_U8] = {"U8", 1},   [TBG_BF16] = {"BF16", 2}, [TBG_F16] = {"F16", 2}};
#define N_DTYPES ((int)(sizeof dtypes / sizeof *dtypes))

size_t tbg_dtype_size(tbg_dtype dtype) {
    return (int)dtype >= 0 && (int)dtype < N_DTYPES ? dtypes[dtype].size : 0;
}

void tbg_tensors_free(tbg_tensors *tensors) {
    if (!tensors)
        return;
    for (int i = 0; i < tensors->n; i++)
        free(tensors->tensors[i].name);
    for (int i = 0; i < tensors->n_metadata; i++) {
        free(tensors->keys[i]);
        free(tensors->values[i]);
    }
    free(tensors->tensors);
    free(tensors->keys);
    free(tensors->values);
    free(tensors->path);
    free(tensors->storage);
    free(tensors);
}

/* Exactly `size` bytes at `offset`. */
static int read_exactly(int fd, const char *path, void *data, size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (char *)data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tbg_fail(TBG_FAILED, "%s: %s", path, strerror(errno));
        if (n == 0)
            return tbg_fail(TBG_INPUT, "%s: truncated", path);
        done += (size_t)n;
    }
    return TBG_OK;
}

typedef struct {
    uint64_t begin, end; /* bytes in the data part */
    int tensor;
} range;

static int compare_ranges(const void *a, const void *b) {
    const range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* One header entry into tensor t and its byte range r. */
static int parse_tensor(const char *path, const char *name, const json_t *entry, uint64_t data_size,
                        tbg_tensor *t, range *r) {
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) ||
        json_array_size(offsets) != 2)
        return tbg_fail(TBG_INPUT, "%s: tensor %s: needs dtype, shape and two data_offsets", path, name);
    int type = 0;
    while (type < N_DTYPES && strcmp(dtypes[type].name, json_string_value(dtype)))
        type++;
    if (type == N_DTYPES)
        return tbg_fail(TBG_INPUT, "%s: tensor %s: type '%.32s' is not supported", path, name,
                        json_string_value(dtype));
    t->dtype = (tbg_dtype)type;
    if (json_array_size(shape) > sizeof t->shape / sizeof *t->shape)
        return tbg_fail(TBG_INPUT, "%s: tensor %s: more than 8 dimensions", path, name);
    t->rank = (int)json_array_size(shape);
    t->n = 1;
    int empty = 0;
    for (int i = 0; i < t->rank; i++) {
        const json_t *length = json_array_get(shape, (size_t)i);
        if (!json_is_integer(length) || json_integer_value(length) < 0)
            return tbg_fail(TBG_INPUT, "%s: tensor %s: dimension %d is not a whole number >= 0", path, name,
                            i);
        t->shape[i] = json_integer_value(length);
        empty |= t->shape[i] == 0;
        if (__builtin_mul_overflow(t->n, empty ? 1 : (size_t)t->shape[i], &t->n))
            return tbg_fail(TBG_INPUT, "%s: tensor %s: shape overflows", path, name);
    }
    if (empty)
        t->n = 0;
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    size_t bytes;
    if (!json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin) || (uint64_t)json_integer_value(end) > data_size)
        return tbg_fail(TBG_INPUT,
                        "%s: tensor %s: data_offsets outside the file's %llu bytes of data (truncated?)",
                        path, name, (unsigned long long)data_size);
    r->begin = (uint64_t)json_integer_value(begin);
    r->end = (uint64_t)json_integer_value(end);
    if (__builtin_mul_overflow(t->n, dtypes[type].size, &bytes) || bytes != r->end - r->begin)
        return tbg_fail(TBG_INPUT, "%s: tensor %s: data_offsets and shape disagree", path, name);
    return (t->name = tbg_strdup(name)) ? TBG_OK : TBG_FAILED;
}

static int parse_metadata(const json_t *metadata, tbg_tensors *out) {
    if (!metadata)
        return TBG_OK;
    if (!json_is_object(metadata))
        return tbg_fail(TBG_INPUT, "%s: " METADATA " is not an object", out->path);
    size_t n = json_object_size(metadata);
    out->keys = TBG_NEW(char *, n);
    out->values = TBG_NEW(char *, n);
    if (!out->keys || !out->values)
        return TBG_FAILED;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return tbg_fail(TBG_INPUT, "%s: " METADATA " %.64s is not a string", out->path, key);
        int i = out->n_metadata++;
        if (!(out->keys[i] = tbg_strdup(key)) || !(out->values[i] = tbg_strdup(json_string_value(value))))
            return TBG_FAILED;
    }
    return TBG_OK;
}

/* Header and data of an open file of known size. ranges: [entries] scratch. */
static int load(int fd, uint64_t data_at, uint64_t data_size, const json_t *header, range *ranges,
                tbg_tensors *out) {
    const char *path = out->path, *name;
    json_t *entry;
    json_object_foreach((json_t *)header, name, entry) {
        if (!strcmp(name, METADATA))
            continue;
        int i = out->n++;
        ranges[i].tensor = i;
        TBG_TRY(parse_tensor(path, name, entry, data_size, &out->tensors[i], &ranges[i]));
    }
    TBG_TRY(parse_metadata(json_object_get(header, METADATA), out));
    qsort(ranges, (size_t)out->n, sizeof *ranges, compare_ranges);
    uint64_t at = 0;
    size_t storage = 0;
    for (int i = 0; i < out->n; i++) {
        if (ranges[i].begin != at)
            return tbg_fail(TBG_INPUT, "%s: tensor %s: data %s", path, out->tensors[ranges[i].tensor].name,
                            ranges[i].begin < at ? "overlap another tensor" : "leave a gap");
        at = ranges[i].end;
        storage += (size_t)(ranges[i].end - ranges[i].begin + 7) / 8 * 8;
    }
    if (at != data_size)
        return tbg_fail(TBG_INPUT, "%s: %llu bytes after the last tensor", path,
                        (unsigned long long)(data_size - at));
    /* Each tensor is read to an aligned place, wherever the file has it. */
    char *data = out->storage = tbg_alloc(storage, 1);
    if (!data)
        return TBG_FAILED;
    for (int i = 0; i < out->n; i++) {
        size_t bytes = (size_t)(ranges[i].end - ranges[i].begin);
        TBG_TRY(read_exactly(fd, path, data, bytes, data_at + ranges[i].begin));
        out->tensors[ranges[i].tensor].data = data;
        data += (bytes + 7) / 8 * 8;
    }
    return TBG_OK;
}

static int read_open(int fd, const char *path, tbg_tensors *out) {
    struct stat info;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        return tbg_fail(TBG_INPUT, "%s: not a regular file", path);
    uint64_t size = (uint64_t)info.st_size, header_size = 0;
    if (size < 8)
        return tbg_fail(TBG_INPUT, "%s: %llu bytes are too few for a safetensors file", path,
                        (unsigned long long)size);
    TBG_TRY(read_exactly(fd, path, &header_size, 8, 0));
    if (header_size < 2 || header_size > HEADER_LIMIT || header_size > size - 8)
        return tbg_fail(
            TBG_INPUT,
            "%s: not a safetensors file, or truncated (header of %llu bytes claimed, file has %llu)", path,
            (unsigned long long)header_size, (unsigned long long)size);
    char *text = tbg_alloc(header_size, 1);
    if (!text)
        return TBG_FAILED;
    int status = read_exactly(fd, path, text, header_size, 8);
    json_error_t error;
    json_t *header = status == TBG_OK ? json_loadb(text, header_size, JSON_REJECT_DUPLICATES, &error) : NULL;
    free(text);
    if (status != TBG_OK)
        return status;
    range *ranges = NULL;
    if (!json_is_object(header))
        status = tbg_fail(TBG_INPUT, "%s: corrupt header: %s", path, header ? "not an object" : error.text);
    else {
        ranges = TBG_NEW(range, json_object_size(header));
        out->tensors = TBG_NEW(tbg_tensor, json_object_size(header));
        status = ranges && out->tensors
                     ? load(fd, 8 + header_size, size - 8 - header_size, header, ranges, out)
                     : TBG_FAILED;
    }
    free(ranges);
    json_decref(header);
    return status;
}

int tbg_tensors_read(const char *path, tbg_tensors **out) {
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return tbg_fail(TBG_INPUT, "%s: %s", path, strerror(errno));
    tbg_tensors *t = TBG_NEW(tbg_tensors, 1);
    int status = t && (t->path = tbg_strdup(path)) ? read_open(fd, path, t) : TBG_FAILED;
    close(fd);
    if (status != TBG_OK) {
        tbg_tensors_free(t);
        return status;
    }
    *out = t;
    return TBG_OK;
}

const tbg_tensor *tbg_tensors_find(const tbg_tensors *tensors, const char *name) {
    for (int i = 0; i < tensors->n; i++)
        if (!strcmp(tensors->tensors[i].name, name))
            return &tensors->tensors[i];
    return NULL;
}

const char *tbg_tensors_metadata(const tbg_tensors *tensors, const char *key) {
    for (int i = 0; i < tensors->n_metadata; i++)
        if (!strcmp(tensors->keys[i], key))
            return tensors->values[i];
    return NULL;
}

static void print_shape(char *text, size_t size, int rank, const int64_t *shape) {
    size_t at = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && at < size; i++)
        at += (size_t)(shape[i] < 0
                           ? snprintf(text + at, size - at, "%s*", i ? ", " : "")
                           : snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)shape[i]));
    if (at < size)
        snprintf(text + at, size - at, "]");
}

int tbg_tensors_doubles(const tbg_tensors *tensors, const char *name, int rank, const int64_t *shape,
                        double **out) {
    *out = NULL;
    const tbg_tensor *t = tbg_tensors_find(tensors, name);
    if (!t)
        return tbg_fail(TBG_INPUT, "%s: there is no tensor %s", tensors->path, name);
    if (t->dtype != TBG_F64 && t->dtype != TBG_F32)
        return tbg_fail(TBG_INPUT, "%s: tensor %s: type is %s, F32 or F64 needed", tensors->path, name,
                        dtypes[t->dtype].name);
    int same = t->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = shape[i] < 0 || shape[i] == t->shape[i];
    if (!same) {
        char has[200], needs[200];
        print_shape(has, sizeof has, t->rank, t->shape);
        print_shape(needs, sizeof needs, rank, shape);
        return tbg_fail(TBG_INPUT, "%s: tensor %s: shape is %s, %s needed", tensors->path, name, has, needs);
    }
    double *values = TBG_NEW(double, t->n);
    if (!values)
        return TBG_FAILED;
    const float *narrow = t->data;
    if (t->dtype == TBG_F64 && t->n)
        memcpy(values, t->data, t->n * sizeof *values);
    else
        for (size_t i = 0; i < t->n; i++)
            values[i] = narrow[i];
    *out = values;
    return TBG_OK;
}

/* ---- writing ---- */

/* Wide types first, then by name: every tensor is then aligned in the file too. */
static int compare_placement(const void *a, const void *b) {
    const tbg_tensor *x = *(const tbg_tensor *const *)a, *y = *(const tbg_tensor *const *)b;
    size_t wide_x = tbg_dtype_size(x->dtype), wide_y = tbg_dtype_size(y->dtype);
    return wide_x != wide_y ? (wide_x > wide_y ? -1 : 1) : strcmp(x->name, y->name);
}

static int add_entry(const char *path, json_t *header, const tbg_tensor *t, uint64_t *at) {
    size_t n = 1, bytes, item = tbg_dtype_size(t->dtype);
    if (!item || t->rank < 0 || t->rank > 8 || !strcmp(t->name, METADATA) || json_object_get(header, t->name))
        return tbg_fail(TBG_INPUT, "%s: tensor %s: type, rank or name (twice?) cannot be written", path,
                        t->name);
    json_t *shape = json_array();
    int bad = !shape;
    for (int i = 0; !bad && i < t->rank; i++)
        bad = t->shape[i] < 0 || __builtin_mul_overflow(n, (size_t)t->shape[i], &n) ||
              json_array_append_new(shape, json_integer(t->shape[i]));
    bad = bad || __builtin_mul_overflow(n, item, &bytes) || bytes > INT64_MAX - *at;
    if (bad) {
        json_decref(shape);
        return tbg_fail(TBG_INPUT, "%s: tensor %s: shape cannot be written", path, t->name);
    }
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[t->dtype].name, "shape", shape,
                              "data_offsets", (json_int_t)*at, (json_int_t)(*at + bytes));
    if (!entry || json_object_set_new(header, t->name, entry))
        return tbg_fail(TBG_FAILED, "%s: tensor name '%s' is not UTF-8, or out of memory", path, t->name);
    *at += bytes;
    return TBG_OK;
}

static int make_header(const char *path, int n, const tbg_tensor **order, int n_metadata,
                       const char *const *keys, const char *const *values, json_t *header) {
    uint64_t at = 0;
    for (int i = 0; i < n; i++)
        TBG_TRY(add_entry(path, header, order[i], &at));
    if (!n_metadata)
        return TBG_OK;
    json_t *metadata = json_object();
    if (!metadata || json_object_set_new(header, METADATA, metadata))
        return tbg_fail(TBG_FAILED, "%s: out of memory", path);
    for (int i = 0; i < n_metadata; i++) {
        if (json_object_get(metadata, keys[i]))
            return tbg_fail(TBG_INPUT, "%s: metadata %s is given twice", path, keys[i]);
        if (json_object_set_new(metadata, keys[i], json_string(values[i])))
            return tbg_fail(TBG_INPUT, "%s: metadata %s is not UTF-8", path, keys[i]);
    }
    return TBG_OK;
}

int tbg_tensors_write(const char *path, int n, const tbg_tensor *tensors, int n_metadata,
                      const char *const *keys, const char *const *values) {
    const tbg_tensor **order = TBG_NEW(const tbg_tensor *, n);
    json_t *header = json_object();
    char *text = NULL;
    int status = order && header ? TBG_OK : tbg_fail(TBG_FAILED, "%s: out of memory", path);
    if (status == TBG_OK) {
        for (int i = 0; i < n; i++)
            order[i] = &tensors[i];
        qsort(order, (size_t)n, sizeof *order, compare_placement);
        status = make_header(path, n, order, n_metadata, keys, values, header);
    }
    if (status == TBG_OK && !(text = json_dumps(header, JSON_COMPACT | JSON_SORT_KEYS)))
        status = tbg_fail(TBG_FAILED, "%s: out of memory", path);
    json_decref(header);
    if (status == TBG_OK) {
        tbg_file_writer w;
        uint64_t length = strlen(text), padded = (length + 7) / 8 * 8;
        status = tbg_file_writer_open(path, &w);
        if (status == TBG_OK) {
            status = tbg_file_writer_put(&w, &padded, 8);
            if (status == TBG_OK)
                status = tbg_file_writer_put(&w, text, length);
            if (status == TBG_OK)
                status = tbg_file_writer_put(&w, "       ", padded - length);
            for (int i = 0; status == TBG_OK && i < n; i++) {
                size_t bytes = tbg_dtype_size(order[i]->dtype);
                for (int k = 0; k < order[i]->rank; k++)
                    bytes *= (size_t)order[i]->shape[k];
                status = tbg_file_writer_put(&w, order[i]->data, bytes);
            }
            if (status == TBG_OK)
                status = tbg_file_writer_close(&w);
            else
                tbg_file_writer_abort(&w);
        }
    }
    free(text);
    free(order);
    return status;
}
