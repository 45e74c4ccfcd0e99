/* scope.c: what a model was trained for, from the sequences its file names, and by name what of a molecule
 * lies outside. Networks answer to anything they can represent; this is where a user hears that they are
 * guessing.
 *
 * Model files written before this existed have all that is needed (`molecules`, `training`.data); what a file
 * does not tell is unknown, which is a warning too. The text comes from outside and may be anything. */
#include "base/hash.h"
#include "tbg/training.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where in the chain, as chemistry sees it: residues beside caps are bonded on both sides. */
enum { ALONE, FIRST, INNER, LAST, N_PLACES };
static const char *const places[N_PLACES] = {"as a single amino acid", "at a free N-terminus",
                                             "inside a chain", "at a free C-terminus"};

enum { WORD = 8, WORDS_MOST = 64, RESIDUES_MOST = 256, DEPTH_MOST = 8, KNOWN_MOST = 4096 };
typedef struct {
    int n_molecules, least, most, listed; /* residues without caps; listed: the molecule itself is there */
    int n_words;
    char words[WORDS_MOST][WORD];   /* "A", "HID" */
    unsigned char seen[WORDS_MOST]; /* bit of each place */
    int any[N_PLACES], cap[2];      /* ACE, NME */
    char only[64];                  /* the last molecule */
    uint64_t known[KNOWN_MOST];     /* their hashes: those of a first training and of the next count once */
} scope;

/* A sequence taken apart. */
typedef struct {
    int n, place[RESIDUES_MOST], cap[2];
    char word[RESIDUES_MOST][WORD];
} chain;

static void add_word(chain *c, const char *word, size_t length) {
    static const char *const names =
                                 "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP "
                                 "TYR VAL ",
                             *const letters = "ARNDCQEGHILKMFPSTWYV";
    char copy[WORD + 1];
    if (!length || length >= WORD || c->n == RESIDUES_MOST)
        return;
    memcpy(copy, word, length);
    copy[length] = 0;
    if (!strcmp(copy, "ACE") || !strcmp(copy, "NME")) {
        c->cap[copy[0] == 'N'] = 1;
        return;
    }
    copy[length] = ' ';
    copy[length + 1] = 0;
    const char *at = length == 3 ? strstr(names, copy) : NULL;
    copy[length] = 0;
    if (at)
        snprintf(copy, sizeof copy, "%c", letters[(at - names) / 4]);
    memcpy(c->word[c->n++], copy, strlen(copy) + 1);
}

static void take_apart(const char *sequence, size_t length, chain *c) {
    int words = memchr(sequence, '-', length) != NULL;
    *c = (chain){0};
    for (size_t at = 0, n; at < length; at += n) {
        for (n = 1; words && at + n < length && sequence[at + n] != '-';)
            n++;
        int dash = sequence[at] == '-';
        add_word(c, sequence + at + dash, n - (size_t)dash);
    }
    for (int i = 0; i < c->n; i++) {
        int first = i == 0 && !c->cap[0], last = i == c->n - 1 && !c->cap[1];
        c->place[i] = first && last ? ALONE : first ? FIRST : last ? LAST : INNER;
    }
}

static int find_word(const scope *s, const char *word) {
    for (int k = 0; k < s->n_words; k++)
        if (!strcmp(s->words[k], word))
            return k;
    return -1;
}

/* Whether the sequence is new; beyond KNOWN_MOST all are. */
static int is_new(scope *s, const char *sequence, size_t length) {
    const uint64_t h = tbg_hash(TBG_HASH_START, sequence, length);
    for (int k = 0; k < s->n_molecules && k < KNOWN_MOST; k++)
        if (s->known[k] == h)
            return 0;
    if (s->n_molecules < KNOWN_MOST)
        s->known[s->n_molecules] = h;
    return 1;
}

/* itself: sequence of the molecule to be sampled, or NULL. */
static void add_sequence(scope *s, const char *sequence, size_t length, const char *itself) {
    chain c;
    take_apart(sequence, length, &c);
    if ((!c.n && !c.cap[0] && !c.cap[1]) || !is_new(s, sequence, length))
        return;
    s->least = s->n_molecules && s->least < c.n ? s->least : c.n;
    s->most = s->most > c.n ? s->most : c.n;
    s->n_molecules++;
    snprintf(s->only, sizeof s->only, "%.*s", (int)(length < 63 ? length : 63), sequence);
    s->listed |= itself && strlen(itself) == length && !memcmp(itself, sequence, length);
    for (int e = 0; e < 2; e++)
        s->cap[e] |= c.cap[e];
    for (int i = 0; i < c.n; i++) {
        int k = find_word(s, c.word[i]);
        if (k < 0 && s->n_words < WORDS_MOST)
            memcpy(s->words[k = s->n_words++], c.word[i], WORD);
        if (k >= 0)
            s->seen[k] |= (unsigned char)(1 << c.place[i]);
        s->any[c.place[i]] = 1;
    }
}

/* The data of a training story, and of those it began from. */
static void add_story(scope *s, const json_t *story, const char *itself, int depth) {
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(story, "data"), i, entry) {
        const char *sequence = json_string_value(json_object_get(entry, "sequence"));
        if (sequence)
            add_sequence(s, sequence, strlen(sequence), itself);
    }
    const json_t *before = json_object_get(story, "initial_training");
    if (before && depth < DEPTH_MOST)
        add_story(s, before, itself, depth + 1);
}

static void find_scope(const tbg_model *model, const char *itself, scope *s) {
    *s = (scope){0};
    json_t *story = model->training_json ? json_loads(model->training_json, 0, NULL) : NULL;
    if (model->molecules && *model->molecules) {
        for (const char *at = model->molecules; *at;) {
            size_t n = strcspn(at, ",");
            add_sequence(s, at, n, itself);
            at += n + (at[n] == ',');
        }
        if (story) /* fine-tuned: the list above names the last data only */
            add_story(s, json_object_get(story, "initial_training"), itself, 1);
    } else if (story)
        add_story(s, story, itself, 0);
    json_decref(story);
}

/* ---- warnings ---- */

typedef struct {
    char *text;
    size_t n, size;
} lines;

static void warn(lines *l, const char *format, ...) {
    va_list arguments;
    size_t room = l->n < l->size ? l->size - l->n : 0;
    va_start(arguments, format);
    int n = vsnprintf(l->text + l->n, room, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n + 2 > room) {
        l->text[l->n] = 0; /* a line that does not fit is left out whole */
        return;
    }
    l->n += (size_t)n;
    l->text[l->n++] = '\n';
    l->text[l->n] = 0;
}

static void warn_residues(const scope *s, const chain *c, lines *l) {
    int no_place[N_PLACES] = {0};
    for (int e = 0; e < 2; e++)
        if (c->cap[e] && !s->cap[e])
            warn(l, "the cap %s occurs in none of the training molecules", e ? "NME" : "ACE");
    for (int i = 0; i < c->n; i++) {
        int k = find_word(s, c->word[i]), place = c->place[i], said = 0;
        for (int j = 0; j < i; j++)
            said |= !strcmp(c->word[j], c->word[i]) && (k < 0 || c->place[j] == place);
        if (said)
            continue;
        if (k < 0)
            warn(l, "residue %s occurs in none of the training molecules", c->word[i]);
        else if (!s->any[place]) {
            if (!no_place[place]++)
                warn(l, "the training molecules have no residue %s", places[place]);
        } else if (!(s->seen[k] >> place & 1))
            warn(l, "residue %s never occurs %s in the training molecules", c->word[i], places[place]);
    }
}

static void warn_molecule(const scope *s, const char *sequence, lines *l) {
    chain c;
    if (!s->n_molecules) {
        warn(l, "the model does not tell what it was trained on");
        return;
    }
    if (s->listed)
        return;
    if (s->n_molecules == 1) {
        warn(l, "the model was trained on %s only, not on %s", s->only, sequence);
        return;
    }
    take_apart(sequence, strlen(sequence), &c);
    if (c.n > s->most || c.n < s->least) {
        char range[32];
        snprintf(range, sizeof range, s->least == s->most ? "%d" : "%d to %d", s->least, s->most);
        warn(l, "%s has %d residue%s without caps; the training molecules have %s", sequence, c.n,
             c.n == 1 ? "" : "s", range);
    }
    warn_residues(s, &c, l);
}

int tbg_scope_warnings(const tbg_model *model, const tbg_molecule *molecule, const char *forcefield,
                       double temperature, size_t size, char *text, int *transfer) {
    char sequence[1024];
    scope s;
    lines l = {text, 0, size};
    *text = 0;
    tbg_molecule_sequence(molecule, sequence, sizeof sequence);
    find_scope(model, sequence, &s);
    *transfer = s.listed ? 0 : s.n_molecules;
    warn_molecule(&s, sequence, &l);
    if (!model->forcefield)
        warn(&l, "the model does not tell the force field it was trained for; weights will be for %s",
             forcefield);
    else if (strcmp(model->forcefield, forcefield))
        warn(&l, "the model was trained for the force field %s; weights will be for %s", model->forcefield,
             forcefield);
    if (!(model->temperature > 0))
        warn(&l, "the model does not tell the temperature it was trained at; weights will be for %g K",
             temperature);
    else if (fabs(model->temperature - temperature) > 1e-6)
        warn(&l, "the model was trained at %g K; weights will be for %g K", model->temperature, temperature);
    return (int)l.n;
}

/* ---- JSON ---- */

int tbg_scope_json(const tbg_model *model, char **text) {
    static const char *const keys[N_PLACES] = {"residues_alone", "residues_n_terminal", "residues_inner",
                                               "residues_c_terminal"};
    scope s;
    find_scope(model, NULL, &s);
    json_t *o = json_object(), *caps = json_array();
    json_object_set_new(o, "molecules", json_integer(s.n_molecules));
    if (s.n_molecules) {
        json_object_set_new(o, "residues_least", json_integer(s.least));
        json_object_set_new(o, "residues_most", json_integer(s.most));
    }
    for (int e = 0; e < 2; e++)
        if (s.cap[e])
            json_array_append_new(caps, json_string(e ? "NME" : "ACE"));
    json_object_set_new(o, "caps", caps);
    for (int place = 0; place < N_PLACES; place++) {
        char list[WORDS_MOST * (WORD + 1) + 1] = "";
        for (int k = 0; k < s.n_words; k++)
            if (s.seen[k] >> place & 1) {
                strcat(list, *list ? " " : "");
                strcat(list, s.words[k]);
            }
        json_t *value = *list ? json_string(list) : NULL;
        if (value)
            json_object_set_new(o, keys[place], value);
    }
    *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return *text ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
}
