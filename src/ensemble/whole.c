/* whole.c: a reference that is kept as a few hundred frames (DATA.nc) and what all its frames gave
 * (DATA.json): dF with errors, histograms of torsions and energies, energies as quantiles of blocks in time,
 * TICA. What is read back is checked as any foreign file; a DATA.json that is none of these is no error (tbg
 * simulate writes its diagnostics under the same name). */
#include "ensemble/whole.h"
#include "base/memory.h"
#include "ensemble/json.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIND "tbg-reference"
enum { BINS = 72, MAP = 36, ENERGY_BINS = 60, PAIRS_MOST = 16, FILE_LIMIT = 64 << 20, TICA_FRAMES = 50000 };

void tbg_whole_free(tbg_whole *w) {
    if (!w)
        return;
    free(w->energy);
    tbg_tica_free(&w->tica);
    free(w);
}

/* ---- figures ---- */

tbg_dF tbg_reference_dF_of(const char *name, double p, double inefficiency, long n) {
    tbg_dF d = {.reliable = 1, .bootstrap_error = NAN}; /* its error is that of correlated frames */
    snprintf(d.name, sizeof d.name, "%s", name);
    d.dF = tbg_dF_of_p(p, sqrt(p * (1 - p) * inefficiency / (double)n));
    d.low = d.dF.value - 1.96 * d.dF.error;
    d.high = d.dF.value + 1.96 * d.dF.error;
    for (int which = 0; which < 2; which++) {
        double weight = which == TBG_STATE_INSIDE ? p : 1 - p, n_state = weight * (double)n;
        d.state[which] = (tbg_state){lround(n_state), n_state / inefficiency, weight, NAN};
        d.reliable &= d.state[which].n_effective >= TBG_STATE_LEAST;
    }
    return d;
}

double tbg_reference_angle(const tbg_reference *r, long i, const int atoms[4]) {
    const float *frame = r->positions + (size_t)i * (size_t)r->n_atoms * 3;
    static const int four[4] = {0, 1, 2, 3};
    double x[12];
    for (int k = 0; k < 4; k++)
        for (int c = 0; c < 3; c++)
            x[3 * k + c] = frame[3 * atoms[k] + c];
    return tbg_dihedral(x, four);
}

void tbg_reference_side(const tbg_reference *r, const int atoms[4], double *side) {
    for (long i = 0; i < r->n; i++) {
        double phi = tbg_reference_angle(r, i, atoms);
        side[i] = phi > 0 && phi < 2;
    }
}

/* The inefficiency that the scatter of the runs' populations asks for: runs that disagree by more than
 * correlation within them explains have not seen everything. 0 for a single run. */
static double between_runs(const tbg_reference *r, const double *side, double p) {
    double square = 0;
    int runs = r->n_parts;
    if (runs < 2 || !(p > 0 && p < 1))
        return 0;
    for (int k = 0; k < runs; k++) {
        double sum = 0, n = (double)(r->part[k + 1] - r->part[k]);
        for (long i = r->part[k]; i < r->part[k + 1]; i++)
            sum += side[i];
        square += pow(n / (double)r->n * (sum / n - p), 2);
    }
    return square * runs / (runs - 1) * (double)r->n / (p * (1 - p));
}

int tbg_reference_dF(const tbg_reference *r, const tbg_molecule *molecule, int *n_dF, tbg_dF *dF,
                     double *inefficiency) {
    int n;
    tbg_torsion *torsions;
    if (r->weighted) {
        *n_dF = r->n_dF;
        memcpy(dF, r->dF, (size_t)r->n_dF * sizeof *dF);
        memcpy(inefficiency, r->inefficiency, (size_t)r->n_dF * sizeof *inefficiency);
        return TBG_OK;
    }
    *n_dF = 0;
    TBG_TRY(tbg_backbone_torsions(molecule, &n, &torsions));
    double *side = TBG_NEW(double, r->n);
    int status = side ? TBG_OK : TBG_FAILED;
    for (int t = 0; t < n && status == TBG_OK && *n_dF < TBG_TORSIONS_MOST; t++) {
        double p = 0;
        if (strncmp(torsions[t].name, "phi", 3))
            continue;
        tbg_reference_side(r, torsions[t].atoms, side);
        for (long i = 0; i < r->n; i++)
            p += side[i];
        status = tbg_statistical_inefficiency(r->n_parts, r->part, side, &inefficiency[*n_dF]);
        inefficiency[*n_dF] = fmax(inefficiency[*n_dF], between_runs(r, side, p / (double)r->n));
        dF[*n_dF] = tbg_reference_dF_of(torsions[t].name, p / (double)r->n, inefficiency[*n_dF], r->n);
        ++*n_dF;
    }
    free(side);
    free(torsions);
    return status;
}

int tbg_reference_tica(const tbg_reference *r, const tbg_featurizer *f, double lag, double *actual,
                       tbg_tica *tica) {
    int size = tbg_featurizer_size(f), n_parts = r->n_parts;
    long stride = (r->n - 1) / TICA_FRAMES + 1, n = 0, longest = 0;
    double interval = r->interval > 0 ? r->interval : 1;
    long *part = TBG_NEW(long, n_parts + 1);
    if (!part)
        return TBG_FAILED;
    for (int p = 0; p < n_parts; p++) {
        long length = (r->part[p + 1] - r->part[p] - 1) / stride + 1;
        part[p + 1] = part[p] + length;
        longest = length > longest ? length : longest;
    }
    n = part[n_parts];
    long frames = lround(lag / (interval * (double)stride));
    if (frames < 1)
        frames = 1;
    if (frames > longest / 2)
        frames = longest / 10 > 0 ? longest / 10 : 1;
    *actual = (double)frames * interval * (double)stride;
    double *features = tbg_alloc((size_t)n, (size_t)size * sizeof *features),
           *x = TBG_NEW(double, r->n_atoms * 3);
    int status = features && x ? TBG_OK : TBG_FAILED;
    for (int p = 0; p < n_parts && status == TBG_OK; p++)
        for (long k = part[p]; k < part[p + 1]; k++) {
            const float *frame =
                r->positions + (size_t)(r->part[p] + (k - part[p]) * stride) * (size_t)r->n_atoms * 3;
            for (int c = 0; c < r->n_atoms * 3; c++)
                x[c] = frame[c];
            tbg_featurize(f, x, features + (size_t)k * (size_t)size);
        }
    if (status == TBG_OK)
        status = tbg_tica_fit(n_parts, part, size, features, frames, tica);
    free(features);
    free(x);
    free(part);
    return status;
}

/* ---- writing ---- */

static int bin_of(double a, int n) {
    int bin = (int)floor((a + M_PI) / (2 * M_PI) * n);
    return bin < 0 ? 0 : bin >= n ? n - 1 : bin;
}

static json_t *integers(int n, const long *x) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer((json_int_t)x[i]));
    return list;
}

static json_t *reals(long n, const double *x) {
    json_t *list = json_array();
    for (long i = 0; i < n; i++)
        json_array_append_new(list, tbg_ensemble_json_real(x[i]));
    return list;
}

static int put_dF(const tbg_reference *r, const tbg_molecule *molecule, json_t *o) {
    tbg_dF *dF = TBG_NEW(tbg_dF, TBG_TORSIONS_MOST);
    double inefficiency[TBG_TORSIONS_MOST];
    int n = 0, status = dF ? tbg_reference_dF(r, molecule, &n, dF, inefficiency) : TBG_FAILED;
    json_t *all = json_object();
    for (int k = 0; k < n; k++)
        json_object_set_new(all, dF[k].name,
                            json_pack("{s:o, s:o, s:o, s:o, s:b}", "value",
                                      tbg_ensemble_json_real(dF[k].dF.value), "error",
                                      tbg_ensemble_json_real(dF[k].dF.error), "population",
                                      json_real(dF[k].state[TBG_STATE_INSIDE].weight), "inefficiency_frames",
                                      json_real(inefficiency[k]), "reliable", dF[k].reliable));
    json_object_set_new(o, "dF", all);
    free(dF);
    return status;
}

static int put_torsions(const tbg_reference *r, const tbg_molecule *molecule, json_t *o) {
    int n, pair[PAIRS_MOST][2];
    tbg_torsion *torsions;
    TBG_TRY(tbg_backbone_torsions(molecule, &n, &torsions));
    json_t *all = json_object(), *maps = json_array();
    for (int t = 0; t < n; t++) {
        long count[BINS] = {0};
        for (long i = 0; i < r->n; i++)
            count[bin_of(tbg_reference_angle(r, i, torsions[t].atoms), BINS)]++;
        json_object_set_new(all, torsions[t].name, integers(BINS, count));
    }
    int pairs = tbg_ramachandran_pairs(n, torsions, pair, PAIRS_MOST);
    for (int k = 0; k < pairs; k++) {
        static long count[MAP * MAP]; /* one caller at a time */
        memset(count, 0, sizeof count);
        const tbg_torsion *phi = &torsions[pair[k][0]], *psi = &torsions[pair[k][1]];
        for (long i = 0; i < r->n; i++)
            count[bin_of(tbg_reference_angle(r, i, psi->atoms), MAP) * MAP +
                  bin_of(tbg_reference_angle(r, i, phi->atoms), MAP)]++;
        json_array_append_new(maps, json_pack("{s:s, s:s, s:i, s:o}", "phi", phi->name, "psi", psi->name,
                                              "bins", MAP, "counts", integers(MAP * MAP, count)));
    }
    json_object_set_new(o, "torsions_5_degrees", all);
    json_object_set_new(o, "ramachandran", maps);
    free(torsions);
    return TBG_OK;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_at(long n, const double *sorted, double p) {
    double at = p * (double)n - 0.5;
    long i = at < 0 ? 0 : (long)at;
    return i + 1 < n ? sorted[i] + fmax(0, at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* U/kT of frames in order of time: blocks of them, each as its quantiles; and a histogram. */
static int put_energies(long n, const double *u, json_t *o) {
    double low = INFINITY, high = -INFINITY, mean = 0, square = 0;
    double *block = TBG_NEW(double, n / TBG_BLOCKS + 1);
    if (!block)
        return TBG_FAILED;
    json_t *blocks = json_array();
    for (long i = 0; i < n; i++) {
        low = fmin(low, u[i]);
        high = fmax(high, u[i]);
        mean += u[i] / (double)n;
    }
    long count[ENERGY_BINS] = {0};
    double width = high > low ? (high - low) / ENERGY_BINS : 1;
    for (long i = 0; i < n; i++) {
        int bin = (int)((u[i] - low) / width);
        count[bin < 0 ? 0 : bin >= ENERGY_BINS ? ENERGY_BINS - 1 : bin]++;
        square += (u[i] - mean) * (u[i] - mean) / (double)n;
    }
    for (long b = 0; b < TBG_BLOCKS; b++) {
        long first = b * n / TBG_BLOCKS, m = (b + 1) * n / TBG_BLOCKS - first;
        double quantile[TBG_QUANTILES];
        memcpy(block, u + first, (size_t)m * sizeof *block);
        qsort(block, (size_t)m, sizeof *block, compare_doubles);
        /* Each block at other places within the hundredths, alike in both halves: together they resolve the
         * tails twenty times as finely. */
        double offset = ((double)(b * 11 % TBG_BLOCKS) + 0.5) / TBG_BLOCKS;
        for (int q = 0; q < TBG_QUANTILES; q++)
            quantile[q] = round(quantile_at(m, block, (q + offset) / TBG_QUANTILES) * 1e4) / 1e4;
        json_array_append_new(blocks, reals(TBG_QUANTILES, quantile));
    }
    json_object_set_new(o, "energy",
                        json_pack("{s:s, s:f, s:f, s:{s:f, s:f, s:o}, s:o}", "unit", "kT", "mean", mean,
                                  "standard_deviation", sqrt(square), "histogram", "low", low, "width", width,
                                  "counts", integers(ENERGY_BINS, count), "block_quantiles", blocks));
    free(block);
    return TBG_OK;
}

static int put_tica(const tbg_reference *r, const tbg_molecule *molecule, double lag, json_t *o) {
    tbg_featurizer *f;
    tbg_tica tica = {0};
    double actual;
    TBG_TRY(tbg_featurizer_create(molecule, &f));
    if (tbg_reference_tica(r, f, lag, &actual, &tica) == TBG_OK) { /* too short a run has none */
        json_t *vectors = json_array();
        for (int k = 0; k < tica.n_components; k++)
            json_array_append_new(vectors,
                                  reals(tica.n_features, tica.vectors + (size_t)k * (size_t)tica.n_features));
        json_object_set_new(o, "tica",
                            json_pack("{s:f, s:o, s:o, s:o}", "lag_ps", actual, "values",
                                      reals(tica.n_components, tica.values), "mean",
                                      reals(tica.n_features, tica.mean), "vectors", vectors));
    }
    tbg_tica_free(&tica);
    tbg_featurizer_free(f);
    return TBG_OK;
}

/* Which frames to keep: spread evenly over all, so many of each run as its share. */
static long kept_frame(const tbg_reference *r, long k, long most) {
    return (long)(((double)k + 0.5) * (double)r->n / (double)most);
}

static int write_frames(const tbg_reference *r, const tbg_molecule *molecule, long n, const char *path) {
    static const char *const names[] = {"run"}, *const units[] = {"1"};
    char *pdb = NULL, title[192], sequence[96];
    tbg_molecule_sequence(molecule, sequence, sizeof sequence);
    snprintf(title, sizeof title, "%s, %ld of %ld frames", sequence, n, r->n);
    TBG_TRY(tbg_molecule_format_pdb(molecule, NULL, &pdb));
    tbg_trajectory_header header = {.n_atoms = r->n_atoms,
                                    .title = title,
                                    .topology_pdb = pdb,
                                    .forcefield = r->forcefield,
                                    .temperature = r->temperature,
                                    .n_extra = 1,
                                    .extra_names = names,
                                    .extra_units = units};
    tbg_trajectory_writer *w = NULL;
    double *x = TBG_NEW(double, r->n_atoms * 3);
    int status = x ? tbg_trajectory_create(path, &header, 0, NULL, &w) : TBG_FAILED;
    for (long k = 0, p = 0; k < n && status == TBG_OK; k++) {
        long i = kept_frame(r, k, n);
        while (i >= r->part[p + 1])
            p++;
        double time = (double)(i - r->part[p] + 1) * (r->interval > 0 ? r->interval : 1), run = (double)p;
        for (int c = 0; c < r->n_atoms * 3; c++)
            x[c] = r->positions[(size_t)i * (size_t)r->n_atoms * 3 + (size_t)c];
        status = tbg_trajectory_append(w, 1, x, &time, &run);
    }
    free(x);
    free(pdb);
    if (w && status == TBG_OK)
        return tbg_trajectory_close(w);
    if (w)
        tbg_trajectory_abort(w);
    return status;
}

int tbg_whole_path(const char *trajectory, char *path, size_t size) {
    size_t n = strlen(trajectory);
    if (n < 4 || strcmp(trajectory + n - 3, ".nc") || n + 3 > size)
        return tbg_fail(TBG_INPUT, "%.200s: the name of a reference ends in .nc", trajectory);
    snprintf(path, size, "%.*s.json", (int)(n - 3), trajectory);
    return TBG_OK;
}

long tbg_reference_frames_within(const tbg_reference *r, const tbg_molecule *molecule, long bytes) {
    char *pdb = NULL;
    if (tbg_molecule_format_pdb(molecule, NULL, &pdb) != TBG_OK)
        return 0;
    long head = 2048 + (long)strlen(pdb), each = 12 * (long)r->n_atoms + 4 + 8; /* coordinates, time, run */
    free(pdb);
    long n = (bytes - head) / each;
    return n < 0 ? 0 : n > r->n ? r->n : n;
}

int tbg_reference_store(const tbg_reference *r, const tbg_molecule *molecule, long n_kept, double lag,
                        const char *trajectory) {
    char path[4096], sequence[256];
    TBG_TRY(tbg_whole_path(trajectory, path, sizeof path));
    if (n_kept < 1 || n_kept > r->n)
        return tbg_fail(TBG_INPUT, "%ld frames of %ld are to be kept", n_kept, r->n);
    if (r->n < TBG_BLOCKS)
        return tbg_fail(TBG_INPUT, "a reference of %ld frames: at least %d are needed", r->n, TBG_BLOCKS);
    tbg_molecule_sequence(molecule, sequence, sizeof sequence);
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:s?, s:o, s:i, s:I, s:i, s:o, s:I}", "kind", KIND, "version", TBG_VERSION,
                  "sequence", sequence, "forcefield", r->forcefield, "temperature_k",
                  r->temperature > 0 ? json_real(r->temperature) : json_null(), "atoms", r->n_atoms, "frames",
                  (json_int_t)r->n, "runs", r->n_parts, "interval_ps",
                  r->interval > 0 ? json_real(r->interval) : json_null(), "frames_kept", (json_int_t)n_kept);
    if (o && r->weighted)
        json_object_set_new(o, "effective_frames", json_real(r->effective_frames));
    int status = o ? put_dF(r, molecule, o) : tbg_fail(TBG_FAILED, "out of memory");
    if (status == TBG_OK)
        status = put_torsions(r, molecule, o);
    long finite = 0;
    for (long i = 0; i < r->n_energy; i++)
        finite += isfinite(r->reduced_energy[i]) != 0;
    if (status == TBG_OK && finite >= TBG_BLOCKS && finite == r->n_energy)
        status = put_energies(r->n_energy, r->reduced_energy, o);
    if (status == TBG_OK)
        status = put_tica(r, molecule, lag, o);
    char *text = status == TBG_OK ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(8)) : NULL;
    if (status == TBG_OK && !text)
        status = tbg_fail(TBG_FAILED, "out of memory");
    json_decref(o);
    if (status == TBG_OK)
        status = write_frames(r, molecule, n_kept, trajectory);
    if (status == TBG_OK)
        status = tbg_file_write(path, text, strlen(text));
    free(text);
    return status;
}

/* ---- reading ---- */

/* n finite numbers of an array. */
static int take_reals(const json_t *list, long n, double *out) {
    if (!json_is_array(list) || (long)json_array_size(list) != n)
        return 0;
    for (long i = 0; i < n; i++) {
        const json_t *x = json_array_get(list, (size_t)i);
        if (!json_is_number(x) || !isfinite(out[i] = json_number_value(x)))
            return 0;
    }
    return 1;
}

/* least: smallest inefficiency that can be: only a bias makes frames worth more than independent ones. */
static int take_dF(const json_t *all, double least, tbg_whole *w) {
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)all, name, entry) {
        const json_t *p = json_object_get(entry, "population"),
                     *g = json_object_get(entry, "inefficiency_frames");
        double population = json_number_value(p), inefficiency = json_number_value(g);
        if (!json_is_number(p) || !json_is_number(g) || !(population >= 0 && population <= 1) ||
            !(inefficiency >= least && isfinite(inefficiency)) || strlen(name) >= sizeof w->dF[0].name ||
            w->n_dF == TBG_TORSIONS_MOST)
            return 0;
        w->inefficiency[w->n_dF] = inefficiency;
        w->dF[w->n_dF++] = tbg_reference_dF_of(name, population, inefficiency, w->n);
    }
    return 1;
}

static int take_energies(const json_t *energy, tbg_whole *w) {
    const json_t *blocks = json_object_get(energy, "block_quantiles");
    if (!energy)
        return 1;
    if (json_array_size(blocks) != TBG_BLOCKS || !(w->energy = TBG_NEW(double, TBG_BLOCKS *TBG_QUANTILES)))
        return 0;
    for (size_t b = 0; b < TBG_BLOCKS; b++)
        if (!take_reals(json_array_get(blocks, b), TBG_QUANTILES, w->energy + b * TBG_QUANTILES))
            return 0;
    return 1;
}

static int take_tica(const json_t *tica, const tbg_molecule *molecule, tbg_whole *w) {
    if (!tica)
        return 1;
    tbg_featurizer *f;
    if (tbg_featurizer_create(molecule, &f) != TBG_OK)
        return 0;
    int n = tbg_featurizer_size(f);
    const json_t *vectors = json_object_get(tica, "vectors");
    size_t components = json_array_size(vectors);
    tbg_featurizer_free(f);
    w->tica_lag = json_number_value(json_object_get(tica, "lag_ps"));
    if (components < 1 || components > 2 || !(w->tica_lag > 0))
        return 0;
    w->tica.n_features = n;
    w->tica.mean = TBG_NEW(double, n);
    w->tica.vectors = TBG_NEW(double, 2 * (size_t)n);
    if (!w->tica.mean || !w->tica.vectors || !take_reals(json_object_get(tica, "mean"), n, w->tica.mean) ||
        !take_reals(json_object_get(tica, "values"), (long)components, w->tica.values))
        return 0;
    for (size_t k = 0; k < components; k++)
        if (!take_reals(json_array_get(vectors, k), n, w->tica.vectors + k * (size_t)n))
            return 0;
    w->tica.n_components = (int)components;
    return 1;
}

int tbg_whole_read(const char *trajectory, const tbg_molecule *molecule, tbg_whole **out) {
    char path[4096], *text = NULL, sequence[256];
    *out = NULL;
    size_t size;
    if (tbg_whole_path(trajectory, path, sizeof path) != TBG_OK || access(path, R_OK))
        return TBG_OK;
    TBG_TRY(tbg_file_read(path, FILE_LIMIT, &text, &size));
    json_t *o = json_loadb(text, size, 0, NULL);
    free(text);
    if (!o)
        return tbg_fail(TBG_INPUT, "%s: not JSON; it may hold figures of all frames of %s", path, trajectory);
    const char *kind = json_string_value(json_object_get(o, "kind"));
    if (!kind || strcmp(kind, KIND)) {
        json_decref(o);
        return TBG_OK;
    }
    tbg_whole *w = TBG_NEW(tbg_whole, 1);
    if (!w) {
        json_decref(o);
        return TBG_FAILED;
    }
    const char *name = json_string_value(json_object_get(o, "sequence")),
               *forcefield = json_string_value(json_object_get(o, "forcefield"));
    tbg_molecule_sequence(molecule, sequence, sizeof sequence);
    w->n = (long)json_integer_value(json_object_get(o, "frames"));
    w->temperature = json_number_value(json_object_get(o, "temperature_k"));
    snprintf(w->forcefield, sizeof w->forcefield, "%s", forcefield ? forcefield : "");
    int status = TBG_OK;
    if (!name || strcmp(name, sequence))
        status = tbg_fail(TBG_INPUT, "%s: of another molecule: %.60s there, %s in the ensemble", path,
                          name ? name : "none", sequence);
    else if (w->n < 1 ||
             !take_dF(json_object_get(o, "dF"), json_object_get(o, "effective_frames") ? 1e-9 : 1, w) ||
             !take_energies(json_object_get(o, "energy"), w) ||
             !take_tica(json_object_get(o, "tica"), molecule, w))
        status = tbg_fail(TBG_INPUT, "%s: damaged: not what tbg reference writes", path);
    json_decref(o);
    if (status != TBG_OK) {
        tbg_whole_free(w);
        return status;
    }
    *out = w;
    return TBG_OK;
}
