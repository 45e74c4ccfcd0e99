/* synthetic.h: alanine dipeptide with chosen phi, and ensembles of it with known answers. */
#ifndef TBG_TESTS_SYNTHETIC_H
#define TBG_TESTS_SYNTHETIC_H
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tbg/ensemble.h"
#include "tbg/file.h"

/* The molecule's own positions with phi turned to `phi`: everything beyond CA moves about the axis N-CA. */
static inline void synthetic_positions(const tbg_molecule *m, double phi, double *x) {
    int n = tbg_molecule_find(m, 1, "N"), h = tbg_molecule_find(m, 1, "H"),
        ca = tbg_molecule_find(m, 1, "CA"), count;
    memcpy(x, m->positions, (size_t)m->n_atoms * 3 * sizeof *x);
    tbg_torsion *torsions;
    assert_ok(tbg_backbone_torsions(m, &count, &torsions));
    int t = 0;
    while (strcmp(torsions[t].name, "phi1"))
        t++;
    double angle = phi - tbg_dihedral(x, torsions[t].atoms), axis[3], length = 0;
    for (int c = 0; c < 3; c++)
        length += pow(axis[c] = x[3 * ca + c] - x[3 * n + c], 2);
    for (int c = 0; c < 3; c++)
        axis[c] /= sqrt(length);
    for (int i = 0; i < m->n_atoms; i++) {
        if (m->atoms[i].residue < 1 || i == n || i == h || i == ca)
            continue;
        double r[3], dot = 0;
        for (int c = 0; c < 3; c++)
            dot += (r[c] = x[3 * i + c] - x[3 * n + c]) * axis[c];
        for (int c = 0; c < 3; c++) {
            int p = (c + 1) % 3, q = (c + 2) % 3;
            double cross = axis[p] * r[q] - axis[q] * r[p];
            x[3 * i + c] =
                x[3 * n + c] + r[c] * cos(angle) + cross * sin(angle) + axis[c] * dot * (1 - cos(angle));
        }
    }
    assert_true(fabs(tbg_dihedral(x, torsions[t].atoms) - phi) < 1e-9);
    free(torsions);
}

/* n samples, three in ten at phi = 1, the others at -1.2; weights that make it one in ten. */
static inline tbg_ensemble *synthetic_ensemble(const tbg_molecule *m, long n) {
    tbg_ensemble *e;
    assert_ok(tbg_ensemble_create(m, n, &e));
    for (long i = 0; i < n; i++) {
        int left = i % 10 < 3;
        synthetic_positions(m, left ? 1 : -1.2, e->positions + i * m->n_atoms * 3);
        e->reduced_energy[i] = -20 + 0.01 * (double)i;
        /* odds go from 3:7 to 1:9, a factor 7/27 */
        e->log_q[i] = -e->reduced_energy[i] - (left ? log(7.0 / 27) : 0) + 5;
    }
    strcpy(e->info.forcefield, "amber99sbildn-obc");
    strcpy(e->info.model, "m.tbg");
    e->info.temperature = 300;
    e->info.seed = 11;
    tbg_ensemble_weigh(e);
    return e;
}

/* A trajectory of amber99sbildn-obc at 300 K whose frames have the number of their run. */
static inline tbg_trajectory_writer *synthetic_writer(const tbg_molecule *m, const char *path,
                                                      const char *metadata) {
    const char *names[] = {"run"}, *units[] = {"1"};
    tbg_trajectory_header header = {.n_atoms = m->n_atoms,
                                    .forcefield = "amber99sbildn-obc",
                                    .temperature = 300,
                                    .n_extra = 1,
                                    .extra_names = names,
                                    .extra_units = units,
                                    .metadata_json = metadata};
    tbg_trajectory_writer *w;
    assert_ok(tbg_trajectory_create(path, &header, 0, NULL, &w));
    return w;
}

/* `runs` runs of n frames, 1 ps apart, one in ten at phi = 1, after `bad` frames that all are; the
 * diagnostics say so. */
static inline void synthetic_trajectory(const tbg_molecule *m, const char *path, int runs, int bad, int n) {
    char diagnostics[1000];
    int at = snprintf(diagnostics, sizeof diagnostics,
                      "{\"frames\": %d, \"frames_per_run\": %d, \"equilibration\": {\"runs\": [",
                      runs * (bad + n), bad + n);
    for (int r = 0; r < runs; r++)
        at += snprintf(diagnostics + at, sizeof diagnostics - (size_t)at, "%s{\"frames_to_drop\": %d}",
                       r ? ", " : "", bad);
    snprintf(diagnostics + at, sizeof diagnostics - (size_t)at, "]}}");
    tbg_trajectory_writer *w = synthetic_writer(m, path, diagnostics);
    double *x = malloc((size_t)m->n_atoms * 3 * sizeof *x);
    for (int r = 0; r < runs; r++)
        for (int i = 0; i < bad + n; i++) {
            double time = i + 1, run = r;
            synthetic_positions(m, i < bad || (i - bad) % 10 == 3 ? 1 : -1.2, x);
            assert_ok(tbg_trajectory_append(w, 1, x, &time, &run));
        }
    assert_ok(tbg_trajectory_close(w));
    free(x);
}
#endif
