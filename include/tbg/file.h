/* file.h: bytes in, checked structures out. Every reader refuses truncated, corrupt or foreign files with
 * TBG_INPUT and a message that names the file; every writer writes beside the target and renames. */
#ifndef TBG_FILE_H
#define TBG_FILE_H
#include <stddef.h>
#include <stdint.h>

/* ---- whole files ---- */
/* Read a file into memory with a trailing 0 byte. *data: freed by the caller. limit: bytes, refuses larger
 * files. */
int tbg_file_read(const char *path, size_t limit, char **data, size_t *size);
/* Write to path.tmp-PID, fsync, rename. */
int tbg_file_write(const char *path, const void *data, size_t size);
int tbg_make_directory(const char *path); /* with parents; exists already: fine */

/* SHA-256 of a file: 64 hex digits and a 0. */
int tbg_file_sha256(const char *path, char hex[65]);
/* Compare a file with the SHA256SUMS (sha256sum's format) beside it. No such list, or no line for this file:
 * fine. *listed: 1 if it was compared, or NULL. errors: TBG_INPUT: the file is not the one listed; the list
 * is malformed (with its line). */
int tbg_file_verify(const char *path, int *listed);

/* ---- safetensors ---- */
typedef enum { TBG_F64, TBG_F32, TBG_I64, TBG_I32, TBG_U8, TBG_BF16, TBG_F16 } tbg_dtype;
size_t tbg_dtype_size(tbg_dtype dtype);
typedef struct {
    char *name;
    tbg_dtype dtype;
    int rank;
    int64_t shape[8];
    size_t n;         /* number of elements */
    const void *data; /* little-endian, aligned to 8 bytes in memory */
} tbg_tensor;
typedef struct {
    int n;
    tbg_tensor *tensors;
    int n_metadata;
    char **keys, **values; /* [n_metadata] strings of __metadata__ */
    char *path;            /* for messages */
    void *storage;
} tbg_tensors;
int tbg_tensors_read(const char *path, tbg_tensors **out);
void tbg_tensors_free(tbg_tensors *tensors);
const tbg_tensor *tbg_tensors_find(const tbg_tensors *tensors, const char *name); /* NULL if absent */
const char *tbg_tensors_metadata(const tbg_tensors *tensors, const char *key);    /* NULL if absent */
/* Find and check dtype F32 or F64 and shape (-1 in shape: any); values converted to a fresh double array that
 * the caller frees. TBG_INPUT with file and tensor named otherwise. */
int tbg_tensors_doubles(const tbg_tensors *tensors, const char *name, int rank, const int64_t *shape,
                        double **out);
/* Write. tensors: n entries (name, dtype, rank, shape, data used). keys/values: metadata. Keys are written
 * sorted, so equal content gives equal bytes. */
int tbg_tensors_write(const char *path, int n, const tbg_tensor *tensors, int n_metadata,
                      const char *const *keys, const char *const *values);

/* ---- trajectories: AMBER NetCDF convention 1.0 (64-bit offset NetCDF-3, Angstrom, float coordinates) ----
 */
typedef struct tbg_trajectory_writer tbg_trajectory_writer;
typedef struct {
    int n_atoms;
    const char *title;
    const char *topology_pdb; /* PDB text kept as global attribute tbg_topology, or NULL */
    const char *forcefield;   /* global attribute tbg_forcefield, or NULL */
    double temperature;       /* K, global attribute tbg_temperature; 0: left out */
    int n_extra;              /* further double variables, one value per frame (dimension frame) */
    const char *const *extra_names, *const *extra_units;
    const char *metadata_json; /* global attribute tbg_metadata, or NULL */
} tbg_trajectory_header;
/* The file appears at path.tmp-PID and is renamed on close; with append = 1 an existing file of the same
 * shape at `path` is continued in place instead (frames already there are kept; *n_frames: how many, or
 * NULL). */
int tbg_trajectory_create(const char *path, const tbg_trajectory_header *header, int append,
                          int64_t *n_frames, tbg_trajectory_writer **out);
/* Append n frames. positions: [n][n_atoms][3] nm; time: [n] ps or NULL; extra: [n][n_extra] or NULL. */
int tbg_trajectory_append(tbg_trajectory_writer *w, int n, const double *positions, const double *time,
                          const double *extra);
int tbg_trajectory_sync(tbg_trajectory_writer *w);
int tbg_trajectory_close(tbg_trajectory_writer *w);  /* also renames; frees w in any case */
void tbg_trajectory_abort(tbg_trajectory_writer *w); /* removes the temporary file */

typedef struct {
    int n_atoms;
    int64_t n_frames;
    float *positions;                                        /* [n_frames][n_atoms][3] nm */
    double *time;                                            /* [n_frames] ps, or NULL */
    char *topology_pdb, *forcefield, *metadata_json, *title; /* or NULL */
    double temperature;                                      /* 0 if unknown */
    int n_extra;
    char **extra_names;
    double **extra; /* [n_extra][n_frames] */
} tbg_trajectory;
/* Read frames first, first + stride, ... (at most `limit`, 0: all). Checks the convention, units and finite
 * values. */
int tbg_trajectory_read(const char *path, int64_t first, int64_t stride, int64_t limit, tbg_trajectory **out);
void tbg_trajectory_free(tbg_trajectory *trajectory);
const double *tbg_trajectory_extra(const tbg_trajectory *trajectory, const char *name); /* NULL if absent */

/* Relative weights of the frames (largest 1) of a trajectory with a variable log_weight: dynamics under a
 * known bias (tbg simulate --flatten). *weight: [n_frames], freed by the caller; NULL where there is none,
 * where all frames weigh the same, or where there is log_q too: generated samples, whose weights are another
 * matter. path: for messages. errors: TBG_INPUT: a weight that is no number, or none that is finite. */
int tbg_trajectory_weights(const tbg_trajectory *trajectory, const char *path, double **weight);
/* m draws in proportion to the weights, systematic and in order (no random numbers). index: [m] ascending. */
void tbg_weights_draw(int64_t n, const double *weight, int64_t m, int64_t *index);
/* If frames have weights, replace them by as many drawn in proportion to these, in order: those that weigh
 * much are there several times; afterwards all weigh the same. *drawn: 1 if that was done, or NULL. */
int tbg_trajectory_unweight(tbg_trajectory *trajectory, const char *path, int *drawn);

/* Frames from a trajectory (.nc) or a .safetensors with `positions` [frames][atoms][3] in nm, as doubles.
 * n_atoms: expected, an error names both numbers. *positions: [*n_frames][n_atoms][3], freed by the caller.
 */
int tbg_frames_read(const char *path, int n_atoms, int64_t *n_frames, double **positions);

/* ---- YAML configurations ---- */
/* A parsed document: mappings, sequences, scalars, each with its line for messages. */
typedef struct tbg_yaml tbg_yaml;
int tbg_yaml_read(const char *path, tbg_yaml **out);
int tbg_yaml_parse(const char *text, size_t size, const char *name, tbg_yaml **out);
void tbg_yaml_free(tbg_yaml *root);
/* Child of a mapping, or NULL. */
const tbg_yaml *tbg_yaml_get(const tbg_yaml *node, const char *key);
int tbg_yaml_size(const tbg_yaml *node);                    /* children of a mapping or sequence */
const tbg_yaml *tbg_yaml_item(const tbg_yaml *node, int i); /* i-th value of a sequence or mapping */
const char *tbg_yaml_key(const tbg_yaml *node, int i);      /* i-th key of a mapping */
const char *tbg_yaml_text(const tbg_yaml *node);            /* scalar text, or NULL */
int tbg_yaml_line(const tbg_yaml *node);
/* Typed reads of node[key] into *value, which keeps its (default) value if the key is absent. Errors name
 * file, line and key. */
int tbg_yaml_double(const tbg_yaml *node, const char *key, double minimum, double maximum, double *value);
int tbg_yaml_int64(const tbg_yaml *node, const char *key, int64_t minimum, int64_t maximum, int64_t *value);
int tbg_yaml_bool(const tbg_yaml *node, const char *key, int *value);
int tbg_yaml_string(const tbg_yaml *node, const char *key, char *value, size_t size);
/* Refuse keys that are not in the NULL-terminated list (a misspelt option is an error, not a default). */
int tbg_yaml_only(const tbg_yaml *node, const char *const *allowed);
#endif
