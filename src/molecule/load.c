/* load.c: molecules from files or whatever the user named. */
#include "tbg/file.h"
#include "tbg/molecule.h"
#include "tbg/status.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define PDB_LIMIT ((size_t)64 << 20) /* bytes */

static int read_chain(const char *path, char chain, tbg_molecule **out) {
    char *data;
    size_t size;
    *out = NULL;
    TBG_TRY(tbg_file_read(path, PDB_LIMIT, &data, &size));
    int status = tbg_molecule_parse_pdb_chain(data, size, path, chain, out);
    free(data);
    return status;
}

int tbg_molecule_read_pdb(const char *path, tbg_molecule **out) {
    return read_chain(path, 0, out);
}

/* A folder is no molecule: one named after its sequence must not stand in the sequence's way. */
static int is_file(const char *path) {
    struct stat s;
    return !stat(path, &s) && !S_ISDIR(s.st_mode);
}

int tbg_molecule_load(const char *what, tbg_molecule **out) {
    *out = NULL;
    size_t length = strlen(what);
    if (is_file(what))
        return tbg_molecule_read_pdb(what, out);
    if (length > 2 && what[length - 2] == ':') {
        char *path = strndup(what, length - 2);
        if (!path)
            return tbg_fail(TBG_FAILED, "no memory");
        int there = is_file(path), status = there ? read_chain(path, what[length - 1], out) : TBG_OK;
        free(path);
        if (there)
            return status;
    }
    const char *dot = strrchr(what, '.');
    if (strchr(what, '/') || (dot && (!strcasecmp(dot, ".pdb") || !strcasecmp(dot, ".ent"))))
        return tbg_fail(TBG_INPUT, "%s: no such file", what);
    return tbg_molecule_from_sequence(what, out);
}
