/* states.c: whether the free-energy difference of a phi torsion can be trusted. The k-hat and the bootstrap
 * of a whole ensemble do not notice a rare state whose weight rests on five samples: each state is looked at
 * by itself. */
#include "ensemble/states.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void diagnose(const tbg_ensemble *e, const tbg_selection *s, const short *bin, int which,
                     double *inside, double *scratch, tbg_state *out) {
    *out = (tbg_state){.pareto_k = NAN};
    for (long i = 0; i < s->n; i++)
        if (bin[i] == which) {
            inside[out->n++] = e->log_weight[s->index[i]];
            out->weight += s->weight[i];
        }
    out->n_effective = tbg_effective_size(out->n, inside);
    if (e->info.chains.inefficiency > 0) /* frames of chains: correlated, of equal weight */
        out->n_effective = (double)out->n / e->info.chains.inefficiency;
    else if (e->weighted && out->n >= TBG_STATE_TAIL)
        out->pareto_k = tbg_pareto_k(out->n, inside, scratch);
}

/* Few samples, or weights among which larger ones are still to come. */
static int is_poor(const tbg_state *s) {
    return !(s->n_effective >= TBG_STATE_LEAST) || s->pareto_k > TBG_STATE_K;
}

int tbg_states_diagnose(const tbg_ensemble *e, const tbg_selection *s, const short *bin, int trusted,
                        tbg_dF *d) {
    double *scratch = tbg_alloc(2 * (size_t)s->n, sizeof *scratch);
    if (!scratch)
        return TBG_FAILED;
    for (int which = 0; which < 2; which++)
        diagnose(e, s, bin, which, scratch, scratch + s->n, &d->state[which]);
    free(scratch);
    d->bootstrap_error = d->dF.error;
    d->reliable = e->weighted && trusted && !is_poor(&d->state[0]) && !is_poor(&d->state[1]);
    double before = log((double)d->state[0].n) - log((double)d->state[1].n);
    if (e->weighted && !d->reliable && isfinite(d->dF.value) &&
        !(e->info.chains.inefficiency > 0)) { /* both states have samples */
        d->dF.error = hypot(isfinite(d->dF.error) ? d->dF.error : 0, d->dF.value - before);
        d->low = d->dF.value - 1.96 * d->dF.error;
        d->high = d->dF.value + 1.96 * d->dF.error;
    }
    return TBG_OK;
}

void tbg_dF_remark(const tbg_dF *d, char *text, size_t size) {
    const char *names[] = {"phi outside 0 to 2", "0 < phi < 2"};
    const tbg_state *a = &d->state[TBG_STATE_ELSEWHERE], *b = &d->state[TBG_STATE_INSIDE];
    *text = 0;
    int poor = is_poor(a) || is_poor(b);
    if (!poor || (d->out_of_reach && !b->n && !is_poor(a)))
        return;
    int worse = !is_poor(a)   ? TBG_STATE_INSIDE
                : !is_poor(b) ? TBG_STATE_ELSEWHERE
                              : b->n_effective <= a->n_effective;
    const tbg_state *s = &d->state[worse];
    if (!s->n)
        snprintf(text, size, "the state %s has no sample", names[worse]);
    else if (!(s->n_effective >= TBG_STATE_LEAST))
        snprintf(text, size, "the state %s is worth %.*f independent sample%s (%ld drawn)", names[worse],
                 s->n_effective < 1.95 ? 1 : 0, s->n_effective, s->n_effective == 1 ? "" : "s", s->n);
    else
        snprintf(text, size, "the weights of the %ld samples of the state %s have k-hat %.2f (limit %.1f)",
                 s->n, names[worse], s->pareto_k, TBG_STATE_K);
}

double tbg_states_more(const tbg_dF *d) {
    double least = fmin(d->state[0].n_effective, d->state[1].n_effective);
    return least > 0 ? fmax(2, ceil(5 * TBG_STATE_LEAST / least)) : INFINITY;
}

json_t *tbg_states_json(int n, const tbg_dF *dF) {
    static const char *const names[] = {"elsewhere", "0 < phi < 2"};
    json_t *all = json_object();
    for (int k = 0; k < n; k++) {
        json_t *both = json_object();
        for (int which = 0; which < 2; which++) {
            const tbg_state *s = &dF[k].state[which];
            json_object_set_new(both, names[which],
                                json_pack("{s:I, s:o, s:o, s:o}", "n", (json_int_t)s->n, "n_effective",
                                          tbg_ensemble_json_real(s->n_effective), "weight",
                                          tbg_ensemble_json_real(s->weight), "pareto_k",
                                          tbg_ensemble_json_real(s->pareto_k)));
        }
        json_object_set_new(all, dF[k].name, both);
    }
    return all;
}
