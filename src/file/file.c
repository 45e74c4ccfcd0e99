/* file.c: whole files and folders. Owns reading with a size limit and writing beside the target with a
 * rename; refuses what is not a regular file, so that a directory or a pipe is named as such. */
#include "tbg/file.h"
#include "base/memory.h"
#include "file/writer.h"
#include "tbg/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int tbg_file_read(const char *path, size_t limit, char **data, size_t *size) {
    *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not blocking: a FIFO must not hang us */
    if (fd < 0)
        return tbg_fail(TBG_INPUT, "%s: %s", path, strerror(errno));
    struct stat info;
    int status = TBG_OK;
    char *buffer = NULL;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        status = tbg_fail(TBG_INPUT, "%s: not a regular file", path);
    else if ((uint64_t)info.st_size > limit)
        status = tbg_fail(TBG_INPUT, "%s: %lld bytes are more than the %zu that are allowed here", path,
                          (long long)info.st_size, limit);
    else if (!(buffer = tbg_realloc(NULL, (size_t)info.st_size + 1, 1)))
        status = TBG_FAILED;
    size_t done = 0;
    while (status == TBG_OK && done < (size_t)info.st_size) {
        ssize_t n = read(fd, buffer + done, (size_t)info.st_size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = tbg_fail(TBG_FAILED, "%s: %s", path, strerror(errno));
        else if (n == 0)
            status = tbg_fail(TBG_FAILED, "%s: shrank while it was read", path);
        else
            done += (size_t)n;
    }
    close(fd);
    if (status != TBG_OK) {
        free(buffer);
        return status;
    }
    buffer[done] = 0;
    *data = buffer;
    if (size)
        *size = done;
    return TBG_OK;
}

char *tbg_file_temporary(const char *path) {
    size_t size = strlen(path) + 32;
    char *name = tbg_realloc(NULL, size, 1);
    if (name)
        snprintf(name, size, "%s.tmp-%ld", path, (long)getpid());
    return name;
}

void tbg_file_sync_folder(const char *path) {
    char *folder = strdup(path);
    if (!folder)
        return;
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0;
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

int tbg_file_writer_open(const char *path, tbg_file_writer *w) {
    *w = (tbg_file_writer){0};
    w->temporary = tbg_file_temporary(path);
    w->path = tbg_strdup(path);
    if (!w->temporary || !w->path) {
        tbg_file_writer_abort(w);
        return TBG_FAILED;
    }
    w->file = fopen(w->temporary, "wbe");
    if (!w->file) {
        int status = tbg_fail(TBG_FAILED, "%s: cannot be written: %s", path, strerror(errno));
        tbg_file_writer_abort(w);
        return status;
    }
    return TBG_OK;
}

int tbg_file_writer_put(tbg_file_writer *w, const void *data, size_t size) {
    if (size && fwrite(data, 1, size, w->file) != size)
        return tbg_fail(TBG_FAILED, "%s: cannot be written: %s", w->path, strerror(errno));
    return TBG_OK;
}

int tbg_file_writer_close(tbg_file_writer *w) {
    int bad = fflush(w->file) || fsync(fileno(w->file));
    int reason = errno;
    if (fclose(w->file) && !bad) {
        bad = 1;
        reason = errno;
    }
    w->file = NULL;
    if (!bad && rename(w->temporary, w->path)) {
        bad = 1;
        reason = errno;
    }
    if (bad) {
        int status = tbg_fail(TBG_FAILED, "%s: cannot be written: %s", w->path, strerror(reason));
        tbg_file_writer_abort(w);
        return status;
    }
    tbg_file_sync_folder(w->path);
    free(w->temporary);
    free(w->path);
    *w = (tbg_file_writer){0};
    return TBG_OK;
}

void tbg_file_writer_abort(tbg_file_writer *w) {
    if (w->file)
        fclose(w->file);
    if (w->temporary)
        unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    *w = (tbg_file_writer){0};
}

int tbg_file_write(const char *path, const void *data, size_t size) {
    tbg_file_writer w;
    TBG_TRY(tbg_file_writer_open(path, &w));
    int status = tbg_file_writer_put(&w, data, size);
    if (status != TBG_OK) {
        tbg_file_writer_abort(&w);
        return status;
    }
    return tbg_file_writer_close(&w);
}

int tbg_make_directory(const char *path) {
    char *part = tbg_strdup(path);
    if (!part)
        return TBG_FAILED;
    int status = *path ? TBG_OK : tbg_fail(TBG_INPUT, "empty folder name");
    for (char *at = part + 1; status == TBG_OK && *part; at++) {
        if (*at && *at != '/')
            continue;
        char kept = *at;
        *at = 0;
        struct stat info;
        if (mkdir(part, 0777) && !(errno == EEXIST && !stat(part, &info) && S_ISDIR(info.st_mode)))
            status = tbg_fail(TBG_FAILED, "%s: cannot make folder %s: %s", path, part, strerror(errno));
        *at = kept;
        if (!kept)
            break;
    }
    free(part);
    return status;
}
