/* path.c: names of files taken apart and put together; where shipped files are. */
#include "base/path.h"
#include "tbg/status.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* Whether FOLDER BELOW/NAME can be read. */
static int readable(const char *folder, const char *below, const char *name, char *path, size_t size) {
    int length = snprintf(path, size, "%s%s/%s", folder, below, name);
    return length >= 0 && (size_t)length < size && access(path, R_OK) == 0;
}

int tbg_shipped_path(const char *kind, const char *name, char *path, size_t size) {
    const char *data = getenv("TBG_DATA"), *models = getenv("TBG_MODELS");
    int model = !strcmp(kind, "models");
    const char *set = model && models && *models ? models : data && *data ? data : NULL;
    if (set) {
        if (readable(set, model && set == data ? "/../models" : "", name, path, size))
            return TBG_OK;
        return tbg_fail(TBG_INPUT, "no readable file %s %s %s (%s)", name,
                        model && set == data ? "beside" : "in", set == data ? "TBG_DATA" : "TBG_MODELS", set);
    }
    char program[PATH_MAX] = "", folder[PATH_MAX] = "", below[3][64];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n > 0) {
        program[n] = 0;
        TBG_TRY(tbg_path_folder(program, folder, sizeof folder));
    }
    snprintf(below[0], sizeof below[0], "/%s", kind);
    snprintf(below[1], sizeof below[1], "/../share/tbg/%s", kind);
    snprintf(below[2], sizeof below[2], "/%s", kind);
    for (int k = 0; k < 3; k++)
        if (readable(k < 2 ? folder : TBG_SOURCE_DIR, below[k], name, path, size))
            return TBG_OK;
    return tbg_fail(TBG_INPUT, "%s not found; set %s to the folder that holds it", name,
                    model ? "TBG_MODELS" : "TBG_DATA");
}
