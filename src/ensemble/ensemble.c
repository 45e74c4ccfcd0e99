/* ensemble.c: the ensemble itself: verdicts, weights, the selection of samples that count. */
#include "tbg/ensemble.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

int tbg_ensemble_create(const tbg_molecule *molecule, long n, tbg_ensemble **out) {
    *out = NULL;
    if (n < 0 || n > INT_MAX)
        return tbg_fail(TBG_INPUT, "an ensemble of %ld samples", n);
    tbg_ensemble *e = TBG_NEW(tbg_ensemble, 1);
    if (!e)
        return TBG_FAILED;
    e->n = n;
    e->n_atoms = molecule->n_atoms;
    e->weighted = 1;
    e->molecule = molecule;
    e->positions = tbg_alloc((size_t)n, (size_t)molecule->n_atoms * 3 * sizeof(double));
    e->log_q = TBG_NEW(double, n);
    e->reduced_energy = TBG_NEW(double, n);
    e->log_weight = TBG_NEW(double, n);
    e->verdict = TBG_NEW(unsigned char, n);
    if (!e->positions || !e->log_q || !e->reduced_energy || !e->log_weight || !e->verdict) {
        tbg_ensemble_free(e);
        return TBG_FAILED;
    }
    for (long i = 0; i < n; i++)
        e->log_q[i] = e->reduced_energy[i] = NAN;
    e->info.anneal_error = NAN;
    e->info.forward_backward_position = e->info.forward_backward_log_q = NAN;
    e->info.seconds_flow = e->info.seconds_energy = e->info.evaluations = NAN;
    tbg_molecule_sequence(molecule, e->info.sequence, sizeof e->info.sequence);
    *out = e;
    return TBG_OK;
}

void tbg_ensemble_free(tbg_ensemble *e) {
    if (!e)
        return;
    free(e->positions);
    free(e->log_q);
    free(e->reduced_energy);
    free(e->log_weight);
    free(e->verdict);
    tbg_molecule_free(e->owned);
    free(e);
}

int tbg_ensemble_is_valid(const tbg_ensemble *e, long i) {
    return (e->verdict[i] == TBG_VALID || e->verdict[i] == TBG_MIRRORED) &&
           (!e->weighted || (isfinite(e->reduced_energy[i]) && isfinite(e->log_q[i])));
}

void tbg_ensemble_weigh(tbg_ensemble *e) {
    for (long i = 0; i < e->n; i++)
        e->log_weight[i] = !tbg_ensemble_is_valid(e, i) ? -INFINITY
                           : e->weighted                ? -e->reduced_energy[i] - e->log_q[i]
                                                        : 0;
}

int tbg_ensemble_select(const tbg_ensemble *e, tbg_selection *out) {
    *out = (tbg_selection){0};
    out->index = TBG_NEW(long, e->n);
    out->weight = TBG_NEW(double, e->n);
    if (!out->index || !out->weight) {
        tbg_selection_free(out);
        return TBG_FAILED;
    }
    double total = tbg_log_sum_exp(e->n, e->log_weight);
    for (long i = 0; i < e->n; i++)
        if (isfinite(e->log_weight[i])) {
            out->index[out->n] = i;
            out->weight[out->n++] = exp(e->log_weight[i] - total);
        }
    return TBG_OK;
}

void tbg_selection_free(tbg_selection *s) {
    free(s->index);
    free(s->weight);
    *s = (tbg_selection){0};
}
