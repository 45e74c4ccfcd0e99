/* writer.h: a file written beside its target and renamed when it is whole; for floor 1 only. */
#ifndef TBG_FILE_WRITER_H
#define TBG_FILE_WRITER_H
#include <stdio.h>

typedef struct {
    FILE *file;
    char *temporary, *path; /* "path.tmp-PID" and the target */
} tbg_file_writer;

/* "path.tmp-PID" in fresh memory; NULL (message stored) if there is none. */
char *tbg_file_temporary(const char *path);
/* fsync the folder that holds `path`, so that a rename survives a power cut; failures are ignored. */
void tbg_file_sync_folder(const char *path);

int tbg_file_writer_open(const char *path, tbg_file_writer *w);
int tbg_file_writer_put(tbg_file_writer *w, const void *data, size_t size); /* after a failure: call abort */
int tbg_file_writer_close(tbg_file_writer *w);  /* flush, fsync, rename; releases w */
void tbg_file_writer_abort(tbg_file_writer *w); /* removes the temporary file; releases w */
#endif
