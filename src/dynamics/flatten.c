/* flatten.c: see flatten.h. Owns the bias along torsions: which ones, how it is found, the system with it,
 * and the walkers' crossings. Refuses nothing: options are checked in simulation.c. */
#include "dynamics/flatten.h"
#include "base/memory.h"
#include "dynamics/simulation.h"
#include "dynamics/starts.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_PS 0.2
#define BINS 72
#define KERNEL 1.5 /* bins: standard deviation of the density's smoothing */

/* ---- the series ---- */

double tbg_flatten_series_value(const double *series, double phi) {
    double sum = 0;
    for (int n = 1; n <= TBG_FLATTEN_HARMONICS; n++)
        sum += series[n - 1] * cos(n * phi) + series[TBG_FLATTEN_HARMONICS + n - 1] * sin(n * phi);
    return sum;
}

/* A torsion term k (1 + cos(n phi - phase)) has the constant k besides. */
static double constant(const double *series) {
    double sum = 0;
    for (int n = 0; n < TBG_FLATTEN_HARMONICS; n++)
        sum += hypot(series[n], series[TBG_FLATTEN_HARMONICS + n]);
    return sum;
}

static double *series_of(const tbg_flatten *f, int stage, int torsion) {
    return f->series + ((size_t)stage * (size_t)f->n + (size_t)torsion) * TBG_FLATTEN_SERIES;
}

double tbg_flatten_energy(const tbg_flatten *f, const double *positions) {
    double sum = 0;
    for (int t = 0; f && t < f->n; t++) {
        const double *series = series_of(f, f->stage, t);
        sum += tbg_flatten_series_value(series, tbg_dihedral(positions, f->torsions[t].atoms)) +
               constant(series);
    }
    return sum;
}

double tbg_flatten_highest(const tbg_flatten *f) {
    double sum = 0;
    for (int t = 0; f && t < f->n; t++) {
        const double *series = series_of(f, f->stage, t);
        double most = -INFINITY;
        for (int b = 0; b < 10 * BINS; b++)
            most = fmax(most, tbg_flatten_series_value(series, 2 * M_PI * b / (10 * BINS)));
        sum += most + constant(series);
    }
    return sum;
}

/* ---- finding it ---- */

/* Weights by which samples of all stages together represent the unbiased ensemble: 1 / sum_s N_s exp(f_s -
 * V_s/kT), f_s the stages' free energies, by iteration of their equations. reduced: [total][n_stages] V/kT;
 * weight: [total] out. */
static void stage_weights(int64_t total, int n_stages, const double *reduced, const int64_t *count,
                          double *weight) {
    double f[TBG_FLATTEN_STAGES + 1] = {0}, change = 1;
    for (int round = 0; round < 500 && change > 1e-5; round++) {
        double sum[TBG_FLATTEN_STAGES + 1] = {0};
        for (int64_t i = 0; i < total; i++) {
            double factor[TBG_FLATTEN_STAGES + 1], mixture = 0;
            for (int s = 0; s < n_stages; s++) {
                factor[s] = exp(-reduced[i * n_stages + s]);
                mixture += (double)count[s] * exp(f[s]) * factor[s];
            }
            weight[i] = 1 / mixture;
            for (int s = 0; s < n_stages; s++)
                sum[s] += factor[s] * weight[i];
        }
        change = 0;
        for (int s = n_stages - 1; s >= 0; s--) {
            double next = log(sum[0] / sum[s]);
            change = fmax(change, fabs(next - f[s]));
            f[s] = next;
        }
    }
}

/* Density in bins of 5 degrees, smoothed, its largest value 1. */
static void density(int64_t total, int n, int torsion, const double *phi, const double *weight,
                    double smooth[BINS]) {
    double h[BINS] = {0}, most = 0;
    for (int64_t i = 0; i < total; i++) {
        int bin = (int)floor((phi[i * n + torsion] + M_PI) / (2 * M_PI) * BINS);
        h[bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin] += weight[i];
    }
    for (int b = 0; b < BINS; b++) {
        smooth[b] = 0;
        for (int d = -6; d <= 6; d++)
            smooth[b] += h[(b + d + BINS) % BINS] * exp(-d * d / (2 * KERNEL * KERNEL));
        most = fmax(most, smooth[b]);
    }
    for (int b = 0; b < BINS; b++)
        smooth[b] /= most;
}

int tbg_flatten_fit(int n, int n_stages, const double *series, const int64_t *count, const double *phi,
                    double kT, double cap, double *out) {
    int64_t total = 0;
    for (int s = 0; s < n_stages; s++)
        total += count[s];
    double *reduced = tbg_alloc((size_t)total, (size_t)n_stages * sizeof *reduced),
           *weight = TBG_NEW(double, total);
    if (!reduced || !weight) {
        free(reduced);
        free(weight);
        return TBG_FAILED;
    }
    for (int64_t i = 0; i < total; i++)
        for (int s = 0; s < n_stages; s++)
            for (int t = 0; t < n; t++)
                reduced[i * n_stages + s] +=
                    tbg_flatten_series_value(
                        series + ((size_t)s * (size_t)n + (size_t)t) * TBG_FLATTEN_SERIES, phi[i * n + t]) /
                    kT;
    stage_weights(total, n_stages, reduced, count, weight);
    for (int t = 0; t < n; t++) {
        double p[BINS], *a = out + (size_t)t * TBG_FLATTEN_SERIES, *b = a + TBG_FLATTEN_HARMONICS;
        memset(a, 0, TBG_FLATTEN_SERIES * sizeof *a);
        density(total, n, t, phi, weight, p);
        for (int k = 0; k < BINS; k++) {
            double at = (k + 0.5) / BINS * 2 * M_PI - M_PI, v = kT * log(p[k] + exp(-cap));
            for (int m = 1; m <= TBG_FLATTEN_HARMONICS; m++) {
                a[m - 1] += 2.0 / BINS * v * cos(m * at);
                b[m - 1] += 2.0 / BINS * v * sin(m * at);
            }
        }
    }
    free(reduced);
    free(weight);
    return TBG_OK;
}

/* ---- in a simulation ---- */

int64_t tbg_flatten_samples_at(const tbg_flatten *f, int runs, int64_t step) {
    return f->n && step < TBG_FLATTEN_STAGES * f->stage_steps ? step / f->sample_steps * runs : 0;
}

static int choose_torsions(const tbg_molecule *m, tbg_flatten *f) {
    int count;
    tbg_torsion *all;
    TBG_TRY(tbg_backbone_torsions(m, &count, &all));
    f->torsions = TBG_NEW(tbg_torsion, count);
    f->skipped = TBG_NEW(tbg_torsion, count);
    int status = f->torsions && f->skipped ? TBG_OK : TBG_FAILED;
    for (int t = 0; t < count && status == TBG_OK; t++) {
        int ring = 0;
        if (strncmp(all[t].name, "phi", 3))
            continue;
        status = tbg_start_in_ring(m, all[t].atoms[1], all[t].atoms[2], &ring);
        if (ring)
            f->skipped[f->n_skipped++] = all[t];
        else
            f->torsions[f->n++] = all[t];
    }
    free(all);
    return status;
}

int tbg_flatten_create(tbg_simulation *s) {
    const tbg_simulation_options *o = &s->options;
    tbg_simulation_plan *p = &s->plan;
    tbg_flatten *f = s->flatten = TBG_NEW(tbg_flatten, 1);
    if (!f)
        return TBG_FAILED;
    TBG_TRY(choose_torsions(s->molecule, f));
    int64_t every = llround(SAMPLE_PS / o->timestep / (double)p->exchange_steps);
    f->sample_steps = p->exchange_steps * (every > 1 ? every : 1);
    f->stage_steps =
        (int64_t)ceil(o->flatten_time / TBG_FLATTEN_STAGES / o->timestep / (double)f->sample_steps - 1e-9) *
        f->sample_steps;
    f->kT = TBG_BOLTZMANN * o->temperature;
    f->cap = o->flatten_cap;
    p->flatten_steps = TBG_FLATTEN_STAGES * f->stage_steps;
    p->flattened = f->n;
    p->not_flattened = f->n_skipped;
    size_t n = (size_t)f->n, samples = (size_t)(p->flatten_steps / f->sample_steps) * (size_t)o->runs;
    f->series = tbg_alloc((TBG_FLATTEN_STAGES + 1) * n, TBG_FLATTEN_SERIES * sizeof *f->series);
    f->samples = tbg_alloc(samples, n * sizeof *f->samples);
    f->crossings = tbg_alloc((size_t)o->runs, n * sizeof *f->crossings);
    f->biased = *s->system;
    f->biased.n_torsions = s->system->n_torsions + f->n * TBG_FLATTEN_HARMONICS;
    f->biased.torsions = TBG_NEW(tbg_torsion_term, f->biased.n_torsions);
    if (!f->series || !f->samples || !f->crossings || !f->biased.torsions)
        return TBG_FAILED;
    memcpy(f->biased.torsions, s->system->torsions, (size_t)s->system->n_torsions * sizeof(tbg_torsion_term));
    return TBG_OK;
}

void tbg_flatten_free(tbg_flatten *f) {
    if (!f)
        return;
    free(f->torsions);
    free(f->skipped);
    free(f->series);
    free(f->samples);
    free(f->core);
    free(f->crossings);
    free(f->biased.torsions); /* the rest is the caller's */
    free(f);
}

/* The series of f->stage becomes torsion terms, and these the source of forces. */
static int apply(tbg_simulation *s) {
    tbg_flatten *f = s->flatten;
    tbg_torsion_term *term = f->biased.torsions + s->system->n_torsions;
    for (int t = 0; t < f->n; t++)
        for (int m = 0; m < TBG_FLATTEN_HARMONICS; m++) {
            const int *i = f->torsions[t].atoms;
            double a = series_of(f, f->stage, t)[m], b = series_of(f, f->stage, t)[TBG_FLATTEN_HARMONICS + m];
            *term++ = (tbg_torsion_term){.i = i[0],
                                         .j = i[1],
                                         .k = i[2],
                                         .l = i[3],
                                         .periodicity = m + 1,
                                         .phase = atan2(b, a),
                                         .barrier = hypot(a, b)};
        }
    tbg_force_source source;
    tbg_source_owner *owner;
    TBG_TRY(tbg_force_source_create(&f->biased, &source, &owner));
    tbg_force_source_free(s->source_owner);
    s->source_owner = owner;
    s->source = s->lanes->source = source; /* its workspace does not depend on torsions */
    return TBG_OK;
}

int tbg_flatten_resume(tbg_simulation *s) {
    tbg_flatten *f = s->flatten;
    int64_t stage = s->lanes->step / f->stage_steps;
    f->stage = stage < TBG_FLATTEN_STAGES ? (int)stage : TBG_FLATTEN_STAGES;
    f->n_samples = tbg_flatten_samples_at(f, s->exchange.n_runs, s->lanes->step);
    return f->n && f->stage ? apply(s) : TBG_OK;
}

/* The next bias, from the later half of the stages so far: what runs remember of their starts is left behind.
 */
static int next_stage(tbg_simulation *s) {
    tbg_flatten *f = s->flatten;
    int first = (f->stage + 1) / 2, n_stages = f->stage + 1 - first;
    int64_t count[TBG_FLATTEN_STAGES], each = f->stage_steps / f->sample_steps * s->exchange.n_runs;
    for (int k = 0; k < n_stages; k++)
        count[k] = each;
    TBG_TRY(tbg_flatten_fit(f->n, n_stages, series_of(f, first, 0), count,
                            f->samples + (size_t)(first * each) * (size_t)f->n, f->kT, f->cap,
                            series_of(f, f->stage + 1, 0)));
    f->stage++;
    if (f->stage == TBG_FLATTEN_STAGES)
        f->n_samples = 0;
    return apply(s);
}

int tbg_flatten_sample(tbg_simulation *s) {
    tbg_flatten *f = s->flatten;
    if (!f->n)
        return TBG_OK;
    for (int run = 0; run < s->exchange.n_runs; run++) {
        tbg_lanes_get_positions(s->lanes, tbg_exchange_lane(&s->exchange, run, 0), s->record_x);
        for (int t = 0; t < f->n; t++)
            f->samples[f->n_samples * f->n + t] = tbg_dihedral(s->record_x, f->torsions[t].atoms);
        f->n_samples++;
    }
    return s->lanes->step % f->stage_steps ? TBG_OK : next_stage(s);
}

/* Basins are told apart by their inner parts, so that trembling on a barrier is no crossing. */
static int core_of(double phi) {
    return phi > 0.5 && phi < 1.5 ? 1 : phi > -2.6 && phi < -0.9 ? 2 : 0;
}

void tbg_flatten_watch(tbg_simulation *s) {
    tbg_flatten *f = s->flatten;
    for (int lane = 0; lane < s->lanes->n_lanes && f->n; lane++) {
        tbg_lanes_get_positions(s->lanes, lane, s->record_x);
        for (int t = 0; t < f->n; t++) {
            int32_t *last = &f->core[lane * f->n + t],
                    now = core_of(tbg_dihedral(s->record_x, f->torsions[t].atoms));
            if (now && *last && now != *last)
                f->crossings[lane / s->exchange.n_replicas * f->n + t]++;
            if (now)
                *last = now;
        }
    }
}
