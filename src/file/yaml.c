/* yaml.c: YAML configurations as a tree whose nodes know their line. Refuses what a configuration does not
 * need and a hostile one abuses: anchors and aliases, tags, several documents, duplicate keys, deep nesting,
 * large files. */
#include "tbg/file.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#define SIZE_LIMIT (1u << 20)
#define DEPTH_LIMIT 32
#define CHILDREN_LIMIT 4096

enum { SCALAR, SEQUENCE, MAPPING };
struct tbg_yaml {
    int kind, line, n, capacity;
    const char *file; /* the root's copy */
    char *text;       /* scalar; for the root also see `name` */
    char *name;       /* root: owns the file name */
    char **keys;      /* mapping: [n] */
    tbg_yaml **items; /* [n] */
};

void tbg_yaml_free(tbg_yaml *node) {
    if (!node)
        return;
    for (int i = 0; i < node->n; i++) {
        if (node->keys)
            free(node->keys[i]);
        tbg_yaml_free(node->items[i]);
    }
    free(node->keys);
    free(node->items);
    free(node->text);
    free(node->name);
    free(node);
}

typedef struct {
    yaml_parser_t parser;
    const char *file;
} reader;

static int next_event(reader *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event))
        return TBG_OK;
    memset(event, 0, sizeof *event);
    return tbg_fail(TBG_INPUT, "%s:%zu: %s", r->file, r->parser.problem_mark.line + 1,
                    r->parser.problem ? r->parser.problem : "not readable as YAML");
}

static int line_of(const yaml_event_t *event) {
    return (int)event->start_mark.line + 1;
}

/* Room for one more child. */
static int grow(tbg_yaml *node) {
    if (node->n < node->capacity)
        return TBG_OK;
    if (node->n >= CHILDREN_LIMIT)
        return tbg_fail(TBG_INPUT, "%s:%d: more than %d entries", node->file, node->line, CHILDREN_LIMIT);
    int capacity = node->capacity ? 2 * node->capacity : 8;
    tbg_yaml **items = tbg_realloc(node->items, (size_t)capacity, sizeof *items);
    if (!items)
        return TBG_FAILED;
    node->items = items;
    if (node->kind == MAPPING) {
        char **keys = tbg_realloc(node->keys, (size_t)capacity, sizeof *keys);
        if (!keys)
            return TBG_FAILED;
        node->keys = keys;
    }
    node->capacity = capacity;
    return TBG_OK;
}

static char *copy_scalar(const reader *r, const yaml_event_t *event) {
    const char *value = (const char *)event->data.scalar.value;
    if (strlen(value) != event->data.scalar.length) {
        tbg_fail(TBG_INPUT, "%s:%d: a text holds a zero byte", r->file, line_of(event));
        return NULL;
    }
    return tbg_strdup(value);
}

static int build(reader *r, const yaml_event_t *event, int depth, tbg_yaml **out);

/* Children of *node until the end event; depth is bounded, so is the recursion. */
static int build_children(reader *r, tbg_yaml *node, int depth) {
    for (;;) {
        yaml_event_t event;
        TBG_TRY(next_event(r, &event));
        if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return TBG_OK;
        }
        int status = grow(node);
        char *key = NULL;
        if (status == TBG_OK && node->kind == MAPPING) {
            int line = line_of(&event);
            if (event.type != YAML_SCALAR_EVENT)
                status = tbg_fail(TBG_INPUT, "%s:%d: a key must be a plain text", r->file, line);
            else if (!(key = copy_scalar(r, &event)))
                status = TBG_INPUT;
            for (int i = 0; status == TBG_OK && i < node->n; i++)
                if (!strcmp(node->keys[i], key))
                    status = tbg_fail(TBG_INPUT, "%s:%d: key '%.100s' is there twice", r->file, line, key);
            yaml_event_delete(&event);
            if (status == TBG_OK)
                status = next_event(r, &event);
            else
                event.type = YAML_NO_EVENT;
        }
        tbg_yaml *child = NULL;
        if (status == TBG_OK)
            status = build(r, &event, depth + 1, &child);
        yaml_event_delete(&event);
        if (status != TBG_OK) {
            free(key);
            return status;
        }
        if (node->kind == MAPPING)
            node->keys[node->n] = key;
        node->items[node->n++] = child;
    }
}

static int build(reader *r, const yaml_event_t *event, int depth, tbg_yaml **out) {
    int line = line_of(event);
    const yaml_char_t *anchor = NULL, *tag = NULL;
    tbg_yaml *node = TBG_NEW(tbg_yaml, 1);
    if (!node)
        return TBG_FAILED;
    node->line = line;
    node->file = r->file;
    int status = TBG_OK;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        node->kind = SCALAR;
        if (!(node->text = copy_scalar(r, event)))
            status = TBG_INPUT;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        node->kind = SEQUENCE;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        node->kind = MAPPING;
    } else
        status = tbg_fail(TBG_INPUT, "%s:%d: aliases are not supported: write the value out", r->file, line);
    if (status == TBG_OK && anchor)
        status = tbg_fail(TBG_INPUT, "%s:%d: anchors are not supported: write the value out", r->file, line);
    if (status == TBG_OK && tag)
        status = tbg_fail(TBG_INPUT, "%s:%d: tags are not supported", r->file, line);
    if (status == TBG_OK && depth > DEPTH_LIMIT)
        status = tbg_fail(TBG_INPUT, "%s:%d: nested more than %d levels deep", r->file, line, DEPTH_LIMIT);
    if (status == TBG_OK && node->kind != SCALAR)
        status = build_children(r, node, depth);
    if (status != TBG_OK) {
        tbg_yaml_free(node);
        return status;
    }
    *out = node;
    return TBG_OK;
}

/* Stream start, one document, stream end. */
static int read_document(reader *r, tbg_yaml **out) {
    for (;;) {
        yaml_event_t event;
        TBG_TRY(next_event(r, &event));
        int type = event.type, status = TBG_OK;
        if (type == YAML_DOCUMENT_START_EVENT && *out)
            status = tbg_fail(TBG_INPUT, "%s:%d: a second document", r->file, line_of(&event));
        else if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT ||
                 type == YAML_MAPPING_START_EVENT || type == YAML_ALIAS_EVENT)
            status = build(r, &event, 0, out);
        yaml_event_delete(&event);
        if (status != TBG_OK || type == YAML_STREAM_END_EVENT)
            return status;
    }
}

int tbg_yaml_parse(const char *text, size_t size, const char *name, tbg_yaml **out) {
    *out = NULL;
    if (size > SIZE_LIMIT)
        return tbg_fail(TBG_INPUT, "%s: %zu bytes are too many for a configuration", name, size);
    char *file = tbg_strdup(name);
    reader r = {.file = file};
    if (!file || !yaml_parser_initialize(&r.parser)) {
        free(file);
        return tbg_fail(TBG_FAILED, "%s: out of memory", name);
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    tbg_yaml *root = NULL;
    int status = read_document(&r, &root);
    yaml_parser_delete(&r.parser);
    if (status == TBG_OK && !root)
        status = tbg_fail(TBG_INPUT, "%s: empty", name);
    if (status != TBG_OK) {
        tbg_yaml_free(root);
        free(file);
        return status;
    }
    root->name = file;
    *out = root;
    return TBG_OK;
}

int tbg_yaml_read(const char *path, tbg_yaml **out) {
    *out = NULL;
    char *text;
    size_t size;
    TBG_TRY(tbg_file_read(path, SIZE_LIMIT, &text, &size));
    int status = tbg_yaml_parse(text, size, path, out);
    free(text);
    return status;
}

/* ---- access ---- */

const tbg_yaml *tbg_yaml_get(const tbg_yaml *node, const char *key) {
    for (int i = 0; node && node->kind == MAPPING && i < node->n; i++)
        if (!strcmp(node->keys[i], key))
            return node->items[i];
    return NULL;
}

int tbg_yaml_size(const tbg_yaml *node) {
    return node ? node->n : 0;
}

const tbg_yaml *tbg_yaml_item(const tbg_yaml *node, int i) {
    return node && i >= 0 && i < node->n ? node->items[i] : NULL;
}

const char *tbg_yaml_key(const tbg_yaml *node, int i) {
    return node && node->kind == MAPPING && i >= 0 && i < node->n ? node->keys[i] : NULL;
}

const char *tbg_yaml_text(const tbg_yaml *node) {
    return node && node->kind == SCALAR ? node->text : NULL;
}

int tbg_yaml_line(const tbg_yaml *node) {
    return node ? node->line : 0;
}

/* The text of node[key]: *text NULL if the key is absent. */
static int find_text(const tbg_yaml *node, const char *key, const char **text, const tbg_yaml **item) {
    *text = NULL;
    if (node && node->kind != MAPPING)
        return tbg_fail(TBG_INPUT, "%s:%d: a mapping with '%s' was expected here", node->file, node->line,
                        key);
    *item = tbg_yaml_get(node, key);
    if (*item && !(*text = tbg_yaml_text(*item)))
        return tbg_fail(TBG_INPUT, "%s:%d: %s: one value was expected", (*item)->file, (*item)->line, key);
    return TBG_OK;
}

int tbg_yaml_double(const tbg_yaml *node, const char *key, double minimum, double maximum, double *value) {
    const char *text;
    const tbg_yaml *item;
    TBG_TRY(find_text(node, key, &text, &item));
    if (!text)
        return TBG_OK;
    char *end;
    double got = strtod(text, &end);
    if (!*text || *end || !isfinite(got))
        return tbg_fail(TBG_INPUT, "%s:%d: %s: '%.60s' is not a number", item->file, item->line, key, text);
    if (!(got >= minimum && got <= maximum))
        return tbg_fail(TBG_INPUT, "%s:%d: %s: %g is not between %g and %g", item->file, item->line, key, got,
                        minimum, maximum);
    *value = got;
    return TBG_OK;
}

int tbg_yaml_int64(const tbg_yaml *node, const char *key, int64_t minimum, int64_t maximum, int64_t *value) {
    const char *text;
    const tbg_yaml *item;
    TBG_TRY(find_text(node, key, &text, &item));
    if (!text)
        return TBG_OK;
    char *end;
    errno = 0;
    long long got = strtoll(text, &end, 10);
    int bad = !*text || *end || errno;
    if (bad && *text) { /* 1e5 is a whole number too */
        double real = strtod(text, &end);
        bad = *end || !(fabs(real) <= 0x1p53) || real != floor(real);
        got = bad ? 0 : (long long)real;
    }
    if (bad)
        return tbg_fail(TBG_INPUT, "%s:%d: %s: '%.60s' is not a whole number", item->file, item->line, key,
                        text);
    if (got < minimum || got > maximum)
        return tbg_fail(TBG_INPUT, "%s:%d: %s: %lld is not between %lld and %lld", item->file, item->line,
                        key, got, (long long)minimum, (long long)maximum);
    *value = got;
    return TBG_OK;
}

int tbg_yaml_bool(const tbg_yaml *node, const char *key, int *value) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    const char *text;
    const tbg_yaml *item;
    TBG_TRY(find_text(node, key, &text, &item));
    if (!text)
        return TBG_OK;
    for (int i = 0; i < 6; i++)
        if (!strcasecmp(text, words[i])) {
            *value = i & 1;
            return TBG_OK;
        }
    return tbg_fail(TBG_INPUT, "%s:%d: %s: '%.60s' is neither true nor false", item->file, item->line, key,
                    text);
}

int tbg_yaml_string(const tbg_yaml *node, const char *key, char *value, size_t size) {
    const char *text;
    const tbg_yaml *item;
    TBG_TRY(find_text(node, key, &text, &item));
    if (!text)
        return TBG_OK;
    if (strlen(text) >= size)
        return tbg_fail(TBG_INPUT, "%s:%d: %s: text is longer than %zu bytes", item->file, item->line, key,
                        size - 1);
    strcpy(value, text);
    return TBG_OK;
}

int tbg_yaml_only(const tbg_yaml *node, const char *const *allowed) {
    if (!node)
        return TBG_OK;
    if (node->kind != MAPPING)
        return tbg_fail(TBG_INPUT, "%s:%d: a mapping was expected here", node->file, node->line);
    for (int i = 0; i < node->n; i++) {
        int known = 0;
        for (const char *const *a = allowed; *a && !known; a++)
            known = !strcmp(*a, node->keys[i]);
        if (known)
            continue;
        char list[600] = "";
        for (const char *const *a = allowed; *a; a++) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", *a);
        }
        return tbg_fail(TBG_INPUT, "%s:%d: unknown key '%.60s'; known here: %s", node->file,
                        node->items[i]->line, node->keys[i], list);
    }
    return TBG_OK;
}
