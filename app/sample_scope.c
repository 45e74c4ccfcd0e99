/* sample_scope.c: what a model was trained for against what it is used for; the settings that decide a
 * result. */
#include "sample.h"
#include "tbg/status.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Next residue of a sequence like "AC" or "ACE-A-NME" at *p, as one letter or a word; 0 at the end (',' or
 * 0). */
static size_t next_residue(const char **p, const char *end, int words, const char **residue) {
    while (*p < end && **p == '-')
        ++*p;
    if (*p >= end)
        return 0;
    *residue = *p;
    size_t n = 1;
    while (words && *p + n < end && (*p)[n] != '-')
        n++;
    *p += n;
    return n;
}

static const char *end_of(const char *sequence) {
    return sequence + strcspn(sequence, ",");
}

static int is_words(const char *sequence, const char *end) {
    return memchr(sequence, '-', (size_t)(end - sequence)) != NULL;
}

static int has_residue(const char *list, const char *residue, size_t length) {
    for (const char *s = list; *s;) {
        const char *end = end_of(s), *p = s, *r;
        int words = is_words(s, end);
        for (size_t n; (n = next_residue(&p, end, words, &r));)
            if (n == length && !memcmp(r, residue, n))
                return 1;
        s = *end ? end + 1 : end;
    }
    return 0;
}

static int residues_of(const char *sequence) {
    const char *end = end_of(sequence), *p = sequence, *r;
    int n = 0, words = is_words(sequence, end);
    while (next_residue(&p, end, words, &r))
        n++;
    return n;
}

static void warn_molecule(const char *list, const char *sequence) {
    int known = 0, molecules = 0, least = 1000000, most = 0;
    for (const char *s = list; *s;) {
        const char *end = end_of(s);
        known |= strlen(sequence) == (size_t)(end - s) && !memcmp(s, sequence, (size_t)(end - s));
        int n = residues_of(s);
        least = n < least ? n : least;
        most = n > most ? n : most;
        molecules++;
        s = *end ? end + 1 : end;
    }
    if (known || !molecules)
        return;
    if (molecules == 1) {
        fprintf(stderr, "tbg sample: warning: the model was trained on %s only, not on %s\n", list, sequence);
        return;
    }
    fprintf(stderr, "tbg sample: %s is not among the %d molecules that the model was trained on (transfer)\n",
            sequence, molecules);
    const char *end = end_of(sequence), *p = sequence, *r;
    int words = is_words(sequence, end), n = residues_of(sequence);
    for (size_t length; (length = next_residue(&p, end, words, &r));)
        if (!has_residue(list, r, length))
            fprintf(stderr, "tbg sample: warning: residue %.*s occurs in none of the training molecules\n",
                    (int)length, r);
    if (n < least || n > most)
        fprintf(
            stderr,
            "tbg sample: warning: %s has %d residues (caps counted); the training molecules have %d to %d\n",
            sequence, n, least, most);
}

void sample_warn(const tbg_model *model, const tbg_molecule *molecule, const char *forcefield,
                 double temperature) {
    char sequence[1024];
    tbg_molecule_sequence(molecule, sequence, sizeof sequence);
    if (model->molecules && *model->molecules)
        warn_molecule(model->molecules, sequence);
    else
        fprintf(stderr, "tbg sample: warning: the model does not tell what it was trained on\n");
    if (model->forcefield && strcmp(model->forcefield, forcefield))
        fprintf(stderr,
                "tbg sample: warning: the model was trained for the force field %s; weights will be for %s\n",
                model->forcefield, forcefield);
    if (model->temperature > 0 && fabs(model->temperature - temperature) > 1e-6)
        fprintf(stderr, "tbg sample: warning: the model was trained at %g K; weights will be for %g K\n",
                model->temperature, temperature);
}

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211ULL;
    return h;
}

int sample_settings(const tbg_model *model, const tbg_molecule *molecule, const char *forcefield,
                    double temperature, const char *engine, const char *backend, uint64_t seed,
                    const tbg_flow_options *flow, char **text) {
    char sequence[1024];
    tbg_molecule_sequence(molecule, sequence, sizeof sequence);
    uint64_t h = hash(14695981039346656037ULL, model->values, model->n_parameters * sizeof(float));
    h = hash(h, &model->spec.scale, sizeof model->spec.scale);
    h = hash(h, &model->spec.graded_d, sizeof model->spec.graded_d);
    for (int i = 0; i < molecule->n_atoms; i++) /* their order matters, positions do not */
        h = hash(h, molecule->atoms[i].name, strlen(molecule->atoms[i].name) + 1);
    int n = asprintf(text,
                     "molecule %s, force field %s, %.17g K, seed %" PRIu64 ", model %016" PRIx64
                     ", %s, energies by %s, "
                     "solver %s %.17g %d, log q %d %.17g %d, d %.17g",
                     sequence, forcefield, temperature, seed, h, backend, engine,
                     tbg_solver_name(flow->solver), flow->solver_tolerance, flow->steps, flow->weights,
                     flow->tolerance, flow->most_refinements, flow->graded_d);
    return n < 0 ? tbg_fail(TBG_FAILED, "out of memory") : TBG_OK;
}
