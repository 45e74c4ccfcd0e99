/* path.c: names of files taken apart and put together. */
#include "base/path.h"
#include "tbg/status.h"

#include <stdio.h>
#include <string.h>

static int check(int length, size_t size, const char *of) {
    return length >= 0 && (size_t)length < size ? TBG_OK
                                                : tbg_fail(TBG_INPUT, "%s: the path is too long", of);
}

const char *tbg_path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int tbg_path_join(const char *folder, const char *name, char *path, size_t size) {
    return check(snprintf(path, size, "%s/%s", folder, name), size, folder);
}

int tbg_path_folder(const char *path, char *folder, size_t size) {
    const char *slash = strrchr(path, '/');
    int length = slash == path ? 1 : slash ? (int)(slash - path) : 1;
    return check(snprintf(folder, size, "%.*s", length, slash ? path : "."), size, path);
}
