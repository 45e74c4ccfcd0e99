/* config_data.c: the part of a training configuration that lists data sets: single entries, or a directory
 * with one trajectory a molecule. Refuses lists without files to back them. */
#include "base/memory.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SETS 1000000

/* Path as given if it exists, otherwise beside the configuration. Freed by the caller; NULL: no memory. */
static char *beside(const char *configuration, const char *path) {
    const char *slash = strrchr(configuration, '/');
    if (path[0] == '/' || !slash || access(path, F_OK) == 0)
        return tbg_strdup(path);
    size_t folder = (size_t)(slash - configuration) + 1;
    char *joined = tbg_alloc(folder + strlen(path) + 1, 1);
    if (!joined)
        return NULL;
    memcpy(joined, configuration, folder);
    strcpy(joined + folder, path);
    if (access(joined, F_OK) == 0)
        return joined;
    strcpy(joined, path);
    return joined;
}

void tbg_config_sets_free(int n, tbg_training_set *sets) {
    for (int i = 0; i < n; i++) {
        free(sets[i].molecule);
        free(sets[i].trajectory);
    }
    free(sets);
}

typedef struct {
    int n, capacity;
    tbg_training_set *sets;
} list;

/* Takes molecule and trajectory over, also when it fails. */
static int add(list *l, const tbg_training_set *usual, char *molecule, char *trajectory) {
    if (l->n == l->capacity && trajectory) {
        int capacity = l->capacity ? 2 * l->capacity : 16;
        tbg_training_set *more =
            l->n < MAX_SETS ? tbg_realloc(l->sets, (size_t)capacity, sizeof *more) : NULL;
        if (more) {
            l->sets = more;
            l->capacity = capacity;
        }
    }
    if (!trajectory || l->n == l->capacity) {
        free(molecule);
        free(trajectory);
        return tbg_fail(TBG_FAILED, "out of memory for the list of data sets");
    }
    l->sets[l->n] = *usual;
    l->sets[l->n].molecule = molecule;
    l->sets[l->n++].trajectory = trajectory;
    return TBG_OK;
}

static int common(const tbg_yaml *node, tbg_training_set *set) {
    TBG_TRY(tbg_yaml_int64(node, "burn_in", 0, INT64_MAX / 4, &set->burn_in));
    TBG_TRY(tbg_yaml_int64(node, "stride", 1, INT64_MAX / 4, &set->stride));
    TBG_TRY(tbg_yaml_int64(node, "frames", 0, INT64_MAX / 4, &set->frames));
    return tbg_yaml_double(node, "weight", 1e-12, 1e12, &set->weight);
}

static int single(const tbg_yaml *node, const char *configuration, const tbg_training_set *usual, list *l) {
    static const char *const keys[] = {"molecule", "trajectory", "burn_in", "stride",
                                       "frames",   "weight",     NULL};
    TBG_TRY(tbg_yaml_only(node, keys));
    tbg_training_set set = *usual;
    set.line = tbg_yaml_line(node);
    TBG_TRY(common(node, &set));
    const char *trajectory = tbg_yaml_text(tbg_yaml_get(node, "trajectory"));
    const tbg_yaml *molecule_node = tbg_yaml_get(node, "molecule");
    const char *molecule = molecule_node ? tbg_yaml_text(molecule_node) : NULL;
    if (!trajectory || !*trajectory)
        return tbg_fail(TBG_INPUT, "%s:%d: a data set needs 'trajectory: FILE.nc'", configuration, set.line);
    if (molecule_node && (!molecule || !*molecule))
        return tbg_fail(TBG_INPUT, "%s:%d: 'molecule' needs a sequence or a PDB file", configuration,
                        set.line);
    return add(l, &set, molecule ? beside(configuration, molecule) : NULL, beside(configuration, trajectory));
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* DIRECTORY/NAME.nc; missing files are an error, or left out with skip. */
static int add_named(list *l, const tbg_training_set *usual, const char *configuration, const char *directory,
                     const char *name, int skip) {
    if (strchr(name, '/') || !*name || strlen(name) > 200)
        return tbg_fail(TBG_INPUT, "%s:%d: '%s' is no sequence", configuration, usual->line, name);
    char *path = tbg_alloc(strlen(directory) + strlen(name) + 5, 1);
    if (!path)
        return TBG_FAILED;
    strcat(strcat(strcat(strcpy(path, directory), "/"), name), ".nc");
    if (access(path, R_OK)) {
        int status =
            skip ? TBG_OK
                 : tbg_fail(TBG_INPUT, "%s:%d: %s is not there ('missing: skip' leaves such molecules out)",
                            configuration, usual->line, path);
        free(path);
        return status;
    }
    return add(l, usual, tbg_strdup(name), path);
}

static int add_split(list *l, const tbg_training_set *usual, const char *configuration, const char *directory,
                     const char *file, const char *split, int skip) {
    char *path = beside(configuration, file);
    if (!path)
        return TBG_FAILED;
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error), *names = json_object_get(root, split), *name;
    int status = TBG_OK;
    size_t i;
    if (!root)
        status = tbg_fail(TBG_INPUT, "%s: line %d: %s", path, error.line, error.text);
    else if (!json_is_array(names))
        status = tbg_fail(TBG_INPUT, "%s: no list '%s'", path, split);
    json_array_foreach(names, i, name) {
        if (status == TBG_OK && !json_is_string(name))
            status = tbg_fail(TBG_INPUT, "%s: list '%s', entry %zu: not a sequence", path, split, i);
        if (status == TBG_OK)
            status = add_named(l, usual, configuration, directory, json_string_value(name), skip);
    }
    json_decref(root);
    free(path);
    return status;
}

static int add_folder(list *l, const tbg_training_set *usual, const char *configuration,
                      const char *directory) {
    DIR *folder = opendir(directory);
    if (!folder)
        return tbg_fail(TBG_INPUT, "%s:%d: cannot open directory %s", configuration, usual->line, directory);
    char **names = NULL;
    size_t n = 0;
    int status = TBG_OK;
    for (struct dirent *entry; status == TBG_OK && (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (length < 4 || entry->d_name[0] == '.' || strcmp(entry->d_name + length - 3, ".nc"))
            continue;
        char **more = tbg_realloc(names, n + 1, sizeof *names),
             *name = more ? tbg_strdup(entry->d_name) : NULL;
        if (more)
            names = more;
        if (!name) {
            status = TBG_FAILED;
            break;
        }
        name[length - 3] = 0;
        names[n++] = name;
    }
    closedir(folder);
    if (n)
        qsort(names, n, sizeof *names, compare_names); /* the order of a folder is not defined */
    for (size_t i = 0; i < n; i++) {
        if (status == TBG_OK)
            status = add_named(l, usual, configuration, directory, names[i], 0);
        free(names[i]);
    }
    free(names);
    return status;
}

static int from_directory(const tbg_yaml *node, const char *configuration, const tbg_training_set *usual,
                          list *l) {
    char given[1024] = "", split_file[1024] = "", split[64] = "train", missing[16] = "refuse";
    TBG_TRY(tbg_yaml_string(node, "directory", given, sizeof given));
    TBG_TRY(tbg_yaml_string(node, "split_file", split_file, sizeof split_file));
    TBG_TRY(tbg_yaml_string(node, "split", split, sizeof split));
    TBG_TRY(tbg_yaml_string(node, "missing", missing, sizeof missing));
    tbg_training_set set = *usual;
    set.line = tbg_yaml_line(tbg_yaml_get(node, "directory"));
    int skip = !strcmp(missing, "skip");
    if (!skip && strcmp(missing, "refuse"))
        return tbg_fail(TBG_INPUT, "%s:%d: 'missing' is 'refuse' or 'skip', not '%s'", configuration,
                        tbg_yaml_line(tbg_yaml_get(node, "missing")), missing);
    char *directory = beside(configuration, given);
    if (!directory)
        return TBG_FAILED;
    const tbg_yaml *sequences = tbg_yaml_get(node, "sequences");
    int status = TBG_OK;
    if (sequences)
        for (int i = 0; i < tbg_yaml_size(sequences) && status == TBG_OK; i++) {
            const char *name = tbg_yaml_text(tbg_yaml_item(sequences, i));
            status = name ? add_named(l, &set, configuration, directory, name, skip)
                          : tbg_fail(TBG_INPUT, "%s:%d: 'sequences' is a list of sequences", configuration,
                                     tbg_yaml_line(sequences));
        }
    else if (*split_file)
        status = add_split(l, &set, configuration, directory, split_file, split, skip);
    else
        status = add_folder(l, &set, configuration, directory);
    free(directory);
    return status;
}

int tbg_config_sets(const tbg_yaml *node, const char *configuration, int *n, tbg_training_set **sets) {
    list l = {0};
    tbg_training_set usual = {.stride = 1, .weight = 1, .line = tbg_yaml_line(node)};
    int status = common(node, &usual);
    const tbg_yaml *entries = tbg_yaml_get(node, "sets"), *directory = tbg_yaml_get(node, "directory");
    const char *const only_directory[] = {"sequences", "split_file", "split", "missing"};
    if (status == TBG_OK && entries &&
        (tbg_yaml_text(entries) || tbg_yaml_size(entries) < 1 || tbg_yaml_key(entries, 0)))
        status = tbg_fail(TBG_INPUT, "%s:%d: 'sets' is a list of {molecule, trajectory}", configuration,
                          tbg_yaml_line(entries));
    for (int i = 0; entries && status == TBG_OK && i < tbg_yaml_size(entries); i++)
        status = single(tbg_yaml_item(entries, i), configuration, &usual, &l);
    if (status == TBG_OK && directory)
        status = from_directory(node, configuration, &usual, &l);
    for (int i = 0; !directory && i < 4 && status == TBG_OK; i++)
        if (tbg_yaml_get(node, only_directory[i]))
            status = tbg_fail(TBG_INPUT, "%s:%d: '%s' needs 'directory'", configuration,
                              tbg_yaml_line(tbg_yaml_get(node, only_directory[i])), only_directory[i]);
    if (status == TBG_OK && !l.n)
        status = tbg_fail(TBG_INPUT, "%s:%d: no data: give 'sets' or 'directory' with trajectories in it",
                          configuration, tbg_yaml_line(node));
    if (status != TBG_OK) {
        tbg_config_sets_free(l.n, l.sets);
        return status;
    }
    *n = l.n;
    *sets = l.sets;
    return TBG_OK;
}
