/* weighted.c: a reference from dynamics under a known bias (tbg simulate --flatten): free energies and their
 * errors by the frames' weights, then frames of equal weight drawn from it, so that nothing after it needs to
 * know. */
#include "base/memory.h"
#include "ensemble/whole.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* p = sum w side / sum w and its variance: correlation within the runs by the statistical inefficiency of w
 * (side - p), or the scatter between the runs where that is larger. z: [n] scratch. */
static int population(const tbg_reference *r, const double *weight, const double *side, double *z, double *p,
                      double *variance) {
    double total = 0, within = 0, between = 0, g;
    *p = 0;
    for (long i = 0; i < r->n; i++) {
        total += weight[i];
        *p += weight[i] * side[i];
    }
    *p /= total;
    for (long i = 0; i < r->n; i++) {
        z[i] = weight[i] * (side[i] - *p) / total;
        within += z[i] * z[i];
    }
    TBG_TRY(tbg_statistical_inefficiency(r->n_parts, r->part, z, &g));
    for (int k = 0; k < r->n_parts; k++) {
        double of_run = 0; /* share of the run x (its population - p) */
        for (long i = r->part[k]; i < r->part[k + 1]; i++)
            of_run += z[i];
        between += of_run * of_run;
    }
    if (r->n_parts > 1)
        between *= (double)r->n_parts / (r->n_parts - 1);
    *variance = fmax(within * g, r->n_parts > 1 ? between : 0);
    return TBG_OK;
}

static int free_energies(tbg_reference *r, const tbg_molecule *molecule, const double *weight) {
    int n;
    tbg_torsion *torsions;
    TBG_TRY(tbg_backbone_torsions(molecule, &n, &torsions));
    double *side = TBG_NEW(double, r->n), *z = TBG_NEW(double, r->n);
    int status = side && z ? TBG_OK : TBG_FAILED;
    r->n_dF = 0;
    for (int t = 0; t < n && status == TBG_OK && r->n_dF < TBG_TORSIONS_MOST; t++) {
        double p, variance;
        if (strncmp(torsions[t].name, "phi", 3))
            continue;
        tbg_reference_side(r, torsions[t].atoms, side);
        if ((status = population(r, weight, side, z, &p, &variance)) != TBG_OK)
            break;
        r->inefficiency[r->n_dF] = p > 0 && p < 1 ? (double)r->n * variance / (p * (1 - p)) : 1;
        r->dF[r->n_dF] = tbg_reference_dF_of(torsions[t].name, p, r->inefficiency[r->n_dF], r->n);
        ++r->n_dF;
    }
    free(side);
    free(z);
    free(torsions);
    return status;
}

/* As many frames as there are, each as often as its weight says; a run's share changes with its weight. */
static int draw(tbg_reference *r, const double *weight) {
    size_t frame = (size_t)r->n_atoms * 3;
    int64_t *index = TBG_NEW(int64_t, r->n);
    float *positions = tbg_alloc((size_t)r->n, frame * sizeof *positions);
    if (!index || !positions) {
        free(index);
        free(positions);
        return TBG_FAILED;
    }
    tbg_weights_draw(r->n, weight, r->n, index);
    int parts = 0;
    for (long k = 0, p = 0; k < r->n; k++) {
        memcpy(positions + (size_t)k * frame, r->positions + (size_t)index[k] * frame,
               frame * sizeof *positions);
        int of_next = 0; /* a run without a draw leaves no part */
        while (index[k] >= r->part[p + 1]) {
            p++;
            of_next = 1;
        }
        if (of_next && k)
            r->part[++parts] = k;
    }
    r->n_parts = parts + 1;
    r->part[r->n_parts] = r->n;
    free(index);
    free(r->positions);
    r->positions = positions;
    return TBG_OK;
}

int tbg_reference_unweight(tbg_reference *r, const tbg_molecule *molecule, const double *weight) {
    double sum = 0, square = 0;
    for (long i = 0; i < r->n; i++) {
        sum += weight[i];
        square += weight[i] * weight[i];
    }
    if (!(sum > 0))
        return tbg_fail(TBG_INPUT, "no frame after the burn-in has a weight");
    r->weighted = 1;
    r->effective_frames = sum * sum / square;
    TBG_TRY(free_energies(r, molecule, weight));
    return draw(r, weight);
}
