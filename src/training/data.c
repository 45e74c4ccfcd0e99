/* data.c: trajectories in memory, checked against their molecules; held-out parts; resampling weights; the
 * unit scale.
 *
 * Positions stay in single precision and nm as the files hold them; centring and scaling happen per batch.
 * Refuses trajectories of another molecule, force field or temperature than the configuration says. */
#include "base/memory.h"
#include "base/path.h"
#include "file/stationary.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void free_molecule(tbg_data_molecule *m) {
    if (!m->borrowed) {
        tbg_molecule_free(m->molecule);
        tbg_system_free(m->system);
    }
    tbg_conditioning_free(m->conditioning);
    free(m->group);
    for (int i = 0; i < m->n_files; i++)
        free(m->files[i].path);
    free(m->files);
    free(m->positions);
    free(m->cumulative);
}

void tbg_data_free(tbg_data *data) {
    for (int i = 0; i < data->n; i++)
        free_molecule(&data->molecules[i]);
    free(data->molecules);
    memset(data, 0, sizeof *data);
}

static int checksum_file(const char *path, uint64_t *sum) {
    FILE *file = fopen(path, "rb");
    unsigned char *buffer = file ? tbg_alloc(1 << 20, 1) : NULL;
    uint64_t hash = 0xcbf29ce484222325ULL;
    if (!file)
        return tbg_fail(TBG_INPUT, "%s: cannot open", path);
    for (size_t n; buffer && (n = fread(buffer, 1, 1 << 20, file)) > 0;)
        for (size_t i = 0; i < n; i++)
            hash = (hash ^ buffer[i]) * 0x100000001b3ULL;
    int bad = !buffer || ferror(file);
    fclose(file);
    free(buffer);
    *sum = hash;
    return bad ? tbg_fail(TBG_FAILED, "%s: cannot read", path) : TBG_OK;
}

static int same_atoms(const char *path, const tbg_molecule *given, const tbg_molecule *stored) {
    if (given->n_atoms != stored->n_atoms)
        return tbg_fail(TBG_INPUT, "%s: holds %d atoms, the molecule has %d", path, stored->n_atoms,
                        given->n_atoms);
    for (int i = 0; i < given->n_atoms; i++) {
        const tbg_atom *a = &given->atoms[i], *b = &stored->atoms[i];
        const char *ra = given->residues[a->residue].name, *rb = stored->residues[b->residue].name;
        if (strcmp(a->name, b->name) || a->element != b->element || strcmp(ra, rb))
            return tbg_fail(TBG_INPUT, "%s: atom %d is %s of %s, in the molecule it is %s of %s", path, i + 1,
                            b->name, rb, a->name, ra);
    }
    return TBG_OK;
}

/* What the files say against what the configuration says; an open question is answered by the first file. */
static int agree(const char *path, const tbg_trajectory *t, char *forcefield, double *temperature) {
    if (t->forcefield && *t->forcefield) {
        if (!*forcefield)
            snprintf(forcefield, 32, "%s", t->forcefield);
        else if (strcmp(forcefield, t->forcefield))
            return tbg_fail(TBG_INPUT, "%s: made with force field %s, the training is for %s", path,
                            t->forcefield, forcefield);
    }
    if (t->temperature > 0) {
        if (!(*temperature > 0))
            *temperature = t->temperature;
        else if (fabs(*temperature - t->temperature) > 0.5)
            return tbg_fail(TBG_INPUT, "%s: made at %g K, the training is for %g K", path, t->temperature,
                            *temperature);
    }
    return TBG_OK;
}

static int append(tbg_data_molecule *m, const float *frames, int64_t n) {
    size_t frame = (size_t)m->n_atoms * 3, total;
    if (__builtin_add_overflow((size_t)m->n_frames, (size_t)n, &total))
        return tbg_fail(TBG_FAILED, "too many frames");
    size_t elements;
    if (__builtin_mul_overflow(total, frame, &elements))
        return tbg_fail(TBG_FAILED, "too many frames");
    float *more = tbg_realloc(m->positions, elements, sizeof *more);
    if (!more)
        return TBG_FAILED;
    m->positions = more;
    memcpy(more + (size_t)m->n_frames * frame, frames, (size_t)n * frame * sizeof *frames);
    m->n_frames += n;
    return TBG_OK;
}

/* The molecule of a set, known after its first file at the latest. */
static int identify(tbg_data_molecule *m, const tbg_training_set *set, const char *path,
                    const tbg_trajectory *t) {
    tbg_molecule *stored = NULL;
    int status = TBG_OK;
    if (!m->molecule && set->molecule)
        TBG_TRY(tbg_molecule_load(set->molecule, &m->molecule));
    if (t->topology_pdb && *t->topology_pdb)
        status = tbg_molecule_parse_pdb(t->topology_pdb, strlen(t->topology_pdb), path, &stored);
    else if (!m->molecule)
        return tbg_fail(TBG_INPUT, "%s: holds no topology; say which 'molecule' it is", path);
    if (status == TBG_OK && !m->molecule) {
        m->molecule = stored;
        stored = NULL;
    } else if (status == TBG_OK && stored)
        status = same_atoms(path, m->molecule, stored);
    tbg_molecule_free(stored);
    if (status == TBG_OK && m->molecule->n_atoms != t->n_atoms)
        status = tbg_fail(TBG_INPUT, "%s: holds %d atoms, the molecule has %d", path, t->n_atoms,
                          m->molecule->n_atoms);
    if (status == TBG_OK) {
        m->n_atoms = m->molecule->n_atoms;
        tbg_molecule_sequence(m->molecule, m->sequence, sizeof m->sequence);
    }
    return status;
}

static int load_file(const tbg_training_set *set, const char *path, double fraction, int64_t gap,
                     tbg_data_molecule *m, tbg_data_molecule *held, char *forcefield, double *temperature) {
    tbg_trajectory *t = NULL;
    TBG_TRY(tbg_file_verify(path, NULL));
    int64_t not_stationary;
    TBG_TRY(
        tbg_trajectory_read_stationary(path, set->burn_in, set->stride, set->frames, &not_stationary, &t));
    int drawn = tbg_trajectory_unweight(t, path, NULL); /* of a biased run: training knows equal frames */
    if (drawn != TBG_OK) {
        tbg_trajectory_free(t);
        return drawn;
    }
    int64_t n = t->n_frames, hold = held ? (int64_t)(fraction * (double)n) : 0,
            use = n - hold - (hold ? gap : 0);
    size_t frame = (size_t)t->n_atoms * 3;
    int status = identify(m, set, path, t);
    if (status == TBG_OK)
        status = agree(path, t, forcefield, temperature);
    if (status == TBG_OK && (use < 1 || (held && hold < 1)))
        status = tbg_fail(TBG_INPUT,
                          "%s: %lld frames are too few (burn_in %lld, not stationary %lld, stride %lld, held "
                          "out %lld, gap %lld)",
                          path, (long long)n, (long long)set->burn_in, (long long)not_stationary,
                          (long long)set->stride, (long long)hold, (long long)(hold ? gap : 0));
    if (status == TBG_OK)
        status = append(m, t->positions, use);
    if (status == TBG_OK && held) {
        held->n_atoms = m->n_atoms;
        status = append(held, t->positions + (size_t)(n - hold) * frame, hold);
    }
    tbg_trajectory_free(t);
    tbg_data_file *file = &m->files[m->n_files];
    if (status == TBG_OK && !(file->path = tbg_strdup(path)))
        status = TBG_FAILED;
    if (status != TBG_OK)
        return status;
    m->n_files++;
    file->frames = use;
    file->held_out = hold;
    return checksum_file(path, &file->checksum);
}

static int load_set(const tbg_training_set *set, double fraction, int64_t gap, tbg_data_molecule *m,
                    tbg_data_molecule *held, char *forcefield, double *temperature) {
    glob_t found = {0};
    int status = TBG_OK;
    if (glob(set->trajectory, 0, NULL, &found) || !found.gl_pathc)
        status = tbg_fail(TBG_INPUT, "line %d: no file %s", set->line, set->trajectory);
    if (status == TBG_OK && !(m->files = TBG_NEW(tbg_data_file, found.gl_pathc)))
        status = TBG_FAILED;
    for (size_t i = 0; i < found.gl_pathc && status == TBG_OK; i++) /* glob sorts */
        status = load_file(set, found.gl_pathv[i], fraction, gap, m, held, forcefield, temperature);
    globfree(&found);
    m->weight = set->weight;
    return status;
}

static int load_sets(const char *name, int n, const tbg_training_set *sets, double fraction, int64_t gap,
                     tbg_data *data, tbg_data *held, char *forcefield, double *temperature) {
    data->molecules = TBG_NEW(tbg_data_molecule, n);
    if (held)
        held->molecules = TBG_NEW(tbg_data_molecule, n);
    if (!data->molecules || (held && !held->molecules))
        return TBG_FAILED;
    for (int i = 0; i < n; i++) {
        tbg_data_molecule *m = &data->molecules[data->n++], *h = held ? &held->molecules[held->n++] : NULL;
        if (h)
            h->borrowed = 1;
        int status = load_set(&sets[i], fraction, gap, m, h, forcefield, temperature);
        if (status != TBG_OK)
            return tbg_fail_in(status, "%s", name);
        if (h) {
            h->molecule = m->molecule;
            h->weight = m->weight;
            memcpy(h->sequence, m->sequence, sizeof h->sequence);
        }
    }
    return TBG_OK;
}

static void summarise(tbg_data *data) {
    for (int i = 0; i < data->n; i++) {
        data->n_frames += data->molecules[i].n_frames;
        data->total_weight += data->molecules[i].weight;
        if (data->molecules[i].n_atoms > data->max_atoms)
            data->max_atoms = data->molecules[i].n_atoms;
    }
}

/* ---- resampling ---- */

double tbg_bias_density(double phi) {
    double i0 = 0, term = 1, kappa = 10; /* modified Bessel function I0(10) by its series */
    for (int k = 1; k < 60; k++) {
        i0 += term;
        term *= kappa * kappa / 4 / ((double)k * k);
    }
    return exp(kappa * cos(phi - 1)) / (2 * M_PI * i0);
}

double tbg_bias_balance(int64_t n, const double *phi) {
    double n_in = 0, n_out = 0, f_in = 0, f_out = 0;
    for (int64_t i = 0; i < n; i++) {
        double f = tbg_bias_density(phi[i]);
        if (phi[i] > 0 && phi[i] < 2) {
            n_in++;
            f_in += f;
        } else {
            n_out++;
            f_out += f;
        }
    }
    return f_in > f_out && n_out > n_in ? (n_out - n_in) / (f_in - f_out) : 0;
}

static int bias_molecule(const tbg_training_config *c, tbg_data_molecule *m) {
    tbg_torsion *torsions = NULL;
    int n = 0, found = -1;
    TBG_TRY(tbg_backbone_torsions(m->molecule, &n, &torsions));
    for (int i = 0; i < n && found < 0; i++)
        if (!strncmp(torsions[i].name, "phi", 3))
            found = i;
    double *phi = found >= 0 ? TBG_NEW(double, m->n_frames) : NULL, *x = TBG_NEW(double, 3 * m->n_atoms);
    m->cumulative = found >= 0 ? TBG_NEW(double, m->n_frames) : NULL;
    int status = found < 0 ? TBG_OK : phi && x && m->cumulative ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK && found >= 0) {
        for (int64_t f = 0; f < m->n_frames; f++) {
            for (int k = 0; k < 3 * m->n_atoms; k++)
                x[k] = m->positions[(size_t)f * 3 * (size_t)m->n_atoms + (size_t)k];
            phi[f] = tbg_dihedral(x, torsions[found].atoms);
        }
        m->bias = c->bias == TBG_BIAS_FIXED ? c->bias_strength : tbg_bias_balance(m->n_frames, phi);
        double sum = 0;
        for (int64_t f = 0; f < m->n_frames; f++)
            m->cumulative[f] = sum += m->bias * tbg_bias_density(phi[f]) + 1;
    }
    free(torsions);
    free(phi);
    free(x);
    return status;
}

int tbg_data_load(const tbg_training_config *c, tbg_data *training, tbg_data *validation, char *forcefield,
                  double *temperature) {
    memset(training, 0, sizeof *training);
    memset(validation, 0, sizeof *validation);
    snprintf(forcefield, 32, "%s", c->forcefield);
    *temperature = c->temperature;
    int hold = !c->n_validation_sets && c->validation_fraction > 0;
    TBG_TRY(load_sets(c->name, c->n_sets, c->sets, c->validation_fraction, c->validation_gap, training,
                      hold ? validation : NULL, forcefield, temperature));
    if (c->n_validation_sets)
        TBG_TRY(load_sets(c->name, c->n_validation_sets, c->validation_sets, 0, 0, validation, NULL,
                          forcefield, temperature));
    if (!(*temperature > 0) && *forcefield)
        *temperature = tbg_forcefield_temperature(forcefield);
    summarise(training);
    summarise(validation);
    if (c->bias != TBG_BIAS_NONE)
        for (int i = 0; i < training->n; i++)
            TBG_TRY(bias_molecule(c, &training->molecules[i]));
    return TBG_OK;
}

double tbg_data_unit_scale(const tbg_data *data) {
    double variance = 0;
    for (int i = 0; i < data->n; i++) {
        const tbg_data_molecule *m = &data->molecules[i];
        int64_t used = m->n_frames < 10000 ? m->n_frames : 10000;
        double sum = 0;
        for (int64_t k = 0; k < used; k++) {
            const float *x = m->positions + (size_t)(k * m->n_frames / used) * 3 * (size_t)m->n_atoms;
            double mean[3] = {0}, square = 0;
            for (int a = 0; a < m->n_atoms; a++)
                for (int d = 0; d < 3; d++) {
                    mean[d] += x[3 * a + d];
                    square += (double)x[3 * a + d] * x[3 * a + d];
                }
            for (int d = 0; d < 3; d++)
                square -= mean[d] * mean[d] / m->n_atoms;
            sum += square;
        }
        variance += sum / ((double)used * 3 * m->n_atoms);
    }
    return 1 / sqrt(variance / data->n);
}

int tbg_data_condition(tbg_data *data, const tbg_network_spec *spec, const char *forcefield,
                       double temperature) {
    int needs = spec->harmonic_term || (spec->edge_features & (TBG_EDGE_BONDED | TBG_EDGE_RATE));
    if (needs && !*forcefield)
        return tbg_fail(TBG_INPUT, "the network uses bond lengths of a force field: set data: forcefield");
    if (needs && !(temperature > 0))
        return tbg_fail(TBG_INPUT, "the network uses thermal widths: set data: temperature");
    for (int i = 0; i < data->n; i++) {
        tbg_data_molecule *m = &data->molecules[i];
        int status =
            needs && !m->borrowed ? tbg_system_create(m->molecule, forcefield, -1, &m->system) : TBG_OK;
        if (status == TBG_OK)
            status = tbg_conditioning_create(spec, m->molecule, m->system, temperature, &m->conditioning);
        if (status != TBG_OK)
            return tbg_fail_in(status, "%s", m->sequence);
        m->group = TBG_NEW(int, m->n_atoms);
        if (!m->group)
            return TBG_FAILED;
        tbg_interchangeable(m->conditioning, m->group);
    }
    return TBG_OK;
}

json_t *tbg_data_json(const tbg_data *data) {
    json_t *list = json_array();
    for (int i = 0; i < data->n; i++) {
        const tbg_data_molecule *m = &data->molecules[i];
        json_t *files = json_array();
        for (int j = 0; j < m->n_files; j++) {
            const char *path = m->files[j].path;
            char sum[24];
            snprintf(sum, sizeof sum, "%016llx", (unsigned long long)m->files[j].checksum);
            json_array_append_new(files, json_pack("{s:s, s:I, s:I, s:s}", "file", tbg_path_name(path),
                                                   "frames", (json_int_t)m->files[j].frames, "held_out",
                                                   (json_int_t)m->files[j].held_out, "fnv1a64", sum));
        }
        json_array_append_new(list, json_pack("{s:s, s:i, s:I, s:f, s:f, s:o}", "sequence", m->sequence,
                                              "atoms", m->n_atoms, "frames", (json_int_t)m->n_frames,
                                              "phi_bias", m->bias, "weight", m->weight, "files", files));
    }
    return list;
}
