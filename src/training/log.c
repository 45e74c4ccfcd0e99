/* log.c: log.jsonl, one JSON object a line, appended. */
#include "base/memory.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int tbg_log_append(const char *path, json_t *line) {
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(8)) : NULL;
    json_decref(line);
    if (!text)
        return tbg_fail(TBG_FAILED, "out of memory");
    FILE *file = fopen(path, "a");
    int bad = !file || fprintf(file, "%s\n", text) < 0;
    if (file && fclose(file))
        bad = 1;
    free(text);
    return bad ? tbg_fail(TBG_FAILED, "%s: cannot write: %s", path, strerror(errno)) : TBG_OK;
}

int tbg_log_trim(const char *path, int64_t iteration) {
    char *text = NULL;
    size_t size = 0, kept = 0;
    if (access(path, F_OK))
        return TBG_OK;
    TBG_TRY(tbg_file_read(path, (size_t)1 << 32, &text, &size));
    for (size_t at = 0; at < size;) {
        char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - (text + at)) + 1 : size - at;
        json_t *line = json_loadb(text + at, length, 0, NULL);
        const json_t *k = json_object_get(line, "iteration");
        if (end && json_is_integer(k) && json_integer_value(k) <= iteration) {
            memmove(text + kept, text + at, length);
            kept += length;
        }
        json_decref(line);
        at += length;
    }
    int status = kept == size ? TBG_OK : tbg_file_write(path, text, kept);
    free(text);
    return status;
}
