/* figures.c: what the chains say, how sure one can be of it, and in plain words whether to believe it. Owns
 * the burn-in and the judgement; the statistics are those of src/ensemble. */
#include "base/memory.h"
#include "refine/chain.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { U = -1, BURN_IN_STEPS = 20 };
#define FEW_MOVES 10    /* accepted proposals per chain */
#define MANY_STARTS 0.1 /* of the frames */
#define FEW_VISITS 10   /* independent entries into a state */
#define FEW_BRIDGE 10   /* samples that carry the bridge's weakest step */

static int marked(const tbg_refine *r, int k, long t, int c) {
    size_t at = ((size_t)t * (size_t)r->levels + (size_t)r->levels - 1) * (size_t)r->chains + (size_t)c;
    return r->seen_mark[at] >> k & 1;
}

/* Series of u (k = U) or of a mark from cycle `first` on, chain after chain. */
static void series(const tbg_refine *r, int k, long first, double *x) {
    for (int c = 0; c < r->chains; c++)
        for (long t = first; t < r->done; t++)
            *x++ = k == U ? r->frame_u[(size_t)t * (size_t)r->chains + (size_t)c] : marked(r, k, t, c);
}

/* Mean, spread between chains as an error of the mean, statistical inefficiency in cycles (NaN for a constant
 * series). x, part: scratch. */
static int look(const tbg_refine *r, int k, long first, double *x, long *part, double *mean, double *spread,
                double *inefficiency) {
    long length = r->done - first, n = length * r->chains;
    double square = 0;
    series(r, k, first, x);
    *mean = 0;
    int constant = 1;
    for (long i = 0; i < n; i++) {
        *mean += x[i] / (double)n;
        constant &= x[i] == x[0];
    }
    for (int c = 0; c < r->chains; c++) {
        double own = 0;
        part[c] = c * length;
        for (long t = 0; t < length; t++)
            own += x[c * length + t] / (double)length;
        square += (own - *mean) * (own - *mean);
    }
    part[r->chains] = n;
    *spread = r->chains > 1 ? sqrt(square / (r->chains - 1) / r->chains) : 0;
    TBG_TRY(tbg_statistical_inefficiency(r->chains, part, x, inefficiency));
    if (constant)
        *inefficiency = NAN;
    return TBG_OK;
}

/* The start that leaves the most effective samples of the worst series (Chodera, J. Chem. Theory Comput. 12,
 * 1799 (2016)), among twentieths of the run up to its half; at least one cycle. last: series U .. last count.
 */
static int burn_in(const tbg_refine *r, int last, double *x, long *part, long *out) {
    double best = -1;
    long chosen = r->done > 1;
    *out = chosen;
    for (int s = 0; s <= BURN_IN_STEPS / 2; s++) {
        long first = r->done * s / BURN_IN_STEPS;
        first = first < *out ? *out : first; /* cycle 0 is the way down from a raw proposal */
        double worst = INFINITY, mean, spread, g;
        for (int k = U; k <= last; k++) {
            TBG_TRY(look(r, k, first, x, part, &mean, &spread, &g));
            if (isfinite(g))
                worst = fmin(worst, (double)((r->done - first) * r->chains) / g);
        }
        if (isfinite(worst) && worst > best) {
            best = worst;
            chosen = first;
        }
    }
    *out = chosen;
    return TBG_OK;
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int is_start(const tbg_refine *r, int c, int64_t ancestor) {
    for (int l = 0; l < r->levels; l++)
        if (r->start[(size_t)l * (size_t)r->chains + (size_t)c] == ancestor)
            return 1;
    return 0;
}

/* Independent visits to both states after burn-in: pairs of an ancestor and a state, each once however often
 * it comes up the levels, without those that a chain began with (its starts, in the states where they were).
 * key: scratch, [done]. */
static void visits(const tbg_refine *r, int k, long first, int64_t *key, long count[2]) {
    count[0] = count[1] = 0;
    for (int c = 0; c < r->chains; c++) {
        long n = 0;
        for (long t = first; t < r->done; t++) {
            int64_t ancestor = r->frame_ancestor[(size_t)t * (size_t)r->chains + (size_t)c];
            int in = marked(r, k, t, c);
            if (!is_start(r, c, ancestor) || (r->proposal_mark[ancestor] >> k & 1) != (uint32_t)in)
                key[n++] = 2 * ancestor + in;
        }
        qsort(key, (size_t)n, sizeof *key, compare);
        for (long i = 0; i < n; i++)
            if (!i || key[i] != key[i - 1])
                count[key[i] & 1]++;
    }
}

/* The bridge and its error by the jackknife over groups of chains and their proposals. */
static int bridge(const tbg_refine *r, int k, long first, tbg_refine_mark *m) {
    int groups = tbg_refine_groups(r);
    double mean = 0, square = 0, *each = TBG_NEW(double, groups);
    if (!each)
        return TBG_FAILED;
    int status = tbg_refine_bridge(r, k, first, -1, &m->bridge.value, &m->bridge_effective);
    for (int g = 0; g < groups && !status; g++) {
        status = tbg_refine_bridge(r, k, first, g, &each[g], NULL);
        mean += each[g] / groups;
    }
    for (int g = 0; g < groups; g++)
        square += (each[g] - mean) * (each[g] - mean);
    free(each);
    /* Not a number where a state vanishes with one group: then the error is unknown. */
    m->bridge.error = groups > 2 ? sqrt(square * (groups - 1) / groups) : NAN;
    return status;
}

static int mark_figures(const tbg_refine *r, int k, tbg_refine_summary *s, double *x, long *part,
                        int64_t *key) {
    tbg_refine_mark *m = &s->marks[k];
    double spread, n = (double)((r->done - s->burn_in) * r->chains);
    snprintf(m->name, sizeof m->name, "%s", r->target.mark_names[k]);
    TBG_TRY(look(r, k, s->burn_in, x, part, &m->p, &spread, &m->inefficiency));
    m->effective = n / m->inefficiency;
    m->dF = tbg_dF_of_p(m->p, fmax(sqrt(m->p * (1 - m->p) / m->effective), spread));
    visits(r, k, s->burn_in, key, m->visits);
    TBG_TRY(bridge(r, k, s->bridge_burn_in, m));
    if (s->within) { /* counting says how many chains began there */
        m->dF = m->bridge;
        m->p = 1 / (1 + exp(m->bridge.value));
        m->inefficiency = m->effective = NAN;
    }
    return TBG_OK;
}

/* Mean energy with the bridge's populations; error from the spread between the chains of each state. */
static int energy_within(const tbg_refine *r, tbg_refine_summary *s) {
    double *p = TBG_NEW(double, r->n_states), length = (double)(r->done - s->burn_in), square = 0;
    int status = p ? tbg_refine_populations(r, s->bridge_burn_in, p) : TBG_FAILED;
    s->u_mean = 0;
    for (int i = 0; i < r->n_states && !status; i++) {
        double mean = 0, spread = 0, n = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int c = i; c < r->chains; c += r->n_states) {
                double own = 0;
                for (long t = s->burn_in; t < r->done; t++)
                    own += r->frame_u[t * r->chains + c] / length;
                if (pass)
                    spread += (own - mean / n) * (own - mean / n);
                else {
                    mean += own;
                    n++;
                }
            }
        s->u_mean += p[i] * mean / n;
        square += p[i] * p[i] * spread / (n - 1) / n;
    }
    s->u_error = sqrt(square);
    free(p);
    return status;
}

/* ---- words ---- */

static void say(tbg_refine_summary *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(tbg_refine_summary *s, const char *format, ...) {
    size_t at = strlen(s->advice);
    va_list list;
    va_start(list, format);
    if (at + 1 < sizeof s->advice)
        vsnprintf(s->advice + at, sizeof s->advice - at, format, list);
    va_end(list);
}

static void advise_within(tbg_refine_summary *s) {
    s->converged = 1;
    for (int k = 0; k < s->n_marks; k++) {
        const tbg_refine_mark *m = &s->marks[k];
        if (isfinite(m->bridge.value) && isfinite(m->bridge.error) && m->bridge_effective >= FEW_BRIDGE)
            continue;
        s->converged = 0;
        say(s,
            "%s: dF rests on %.0f samples (at least %d are wanted): do not trust it. More proposals (-n), a "
            "better "
            "model, or --refine-levels help. ",
            m->name, m->bridge_effective, FEW_BRIDGE);
    }
    say(s,
        "Chains kept to the %d state%s that they began in; the populations of the states come from "
        "acceptance ratios "
        "with the flow, frames carry them as weights.",
        s->states, s->states == 1 ? "" : "s");
}

static void advise(tbg_refine_summary *s) {
    if (s->within) {
        advise_within(s);
        return;
    }
    double per_chain = s->turnover;
    s->converged = per_chain >= FEW_MOVES;
    if (per_chain < FEW_MOVES)
        say(s,
            "Not converged: each chain took %.1f new proposals (at least %d are wanted), so what the frames "
            "show "
            "depends on where the chains began. ",
            per_chain, FEW_MOVES);
    if (s->from_start > MANY_STARTS) {
        s->converged = 0;
        say(s, "%.0f %% of the frames still descend from where their chains began. ", 100 * s->from_start);
    }
    for (int k = 0; k < s->n_marks; k++) {
        const tbg_refine_mark *m = &s->marks[k];
        long least = m->visits[0] < m->visits[1] ? m->visits[0] : m->visits[1];
        const char *state = m->visits[1] <= m->visits[0] ? "0 < phi < 2" : "the rest";
        if (least < FEW_VISITS) {
            s->converged = 0;
            say(s,
                "%s: %s was entered %ld time%s (at least %d are wanted): do not trust its population in the "
                "frames, "
                "nor its error. ",
                m->name, state, least, least == 1 ? "" : "s", FEW_VISITS);
        }
        if (!isfinite(m->bridge.value) || !(m->bridge_effective >= FEW_BRIDGE))
            say(s, "%s: the bridge rests on %.0f samples, too few. ", m->name, m->bridge_effective);
        else if (isfinite(m->bridge.error) && least >= FEW_VISITS &&
                 fabs(m->dF.value - m->bridge.value) > 3 * hypot(m->dF.error, m->bridge.error)) {
            s->converged = 0;
            say(s, "%s: populations and bridge disagree by more than three standard errors. ", m->name);
        }
    }
    if (s->converged)
        say(s, "The chains mixed: %.0f new proposals each, %.0f independent frames by the energy. ",
            per_chain, s->u_effective);
    else
        say(s, "More proposals (-n), a better model, or --refine-levels help. ");
    size_t n = strlen(s->advice);
    if (n)
        s->advice[n - 1] = 0;
}

static double fraction(int64_t part, int64_t whole) {
    return whole ? (double)part / (double)whole : NAN;
}

int tbg_refine_summarise(const tbg_refine *r, tbg_refine_summary *s) {
    *s = (tbg_refine_summary){.chains = r->chains,
                              .levels = r->levels,
                              .proposals = r->K,
                              .within = r->options.within,
                              .states = r->n_states,
                              .cycles = r->done,
                              .used = r->done * r->chains * r->K,
                              .n_proposals = r->proposals.n,
                              .n_marks = r->target.n_marks,
                              .seconds_dynamics = r->seconds_dynamics,
                              .seconds_density = r->seconds_density};
    if (r->done < 1)
        return tbg_fail(TBG_FAILED, "refine: no cycle was finished");
    double *x = TBG_NEW(double, (size_t)r->done *(size_t)r->chains), spread;
    long *part = TBG_NEW(long, r->chains + 1);
    int64_t *key = TBG_NEW(int64_t, r->done);
    int status = x && part && key ? TBG_OK : TBG_FAILED;
    if (!status)
        status = burn_in(r, s->within ? U : s->n_marks - 1, x, part, &s->burn_in);
    if (!status)
        status = burn_in(r, U, x, part, &s->bridge_burn_in);
    s->frames = (r->done - s->burn_in) * r->chains;
    if (!status)
        status = look(r, U, s->burn_in, x, part, &s->u_mean, &spread, &s->u_inefficiency);
    if (!status) {
        double square = 0;
        for (long i = 0; i < s->frames; i++)
            square += (x[i] - s->u_mean) * (x[i] - s->u_mean) / (double)s->frames;
        s->u_effective = (double)s->frames / s->u_inefficiency;
        s->u_error = fmax(sqrt(square / s->u_effective), spread);
    }
    for (int k = 0; k < s->n_marks && !status; k++)
        status = mark_figures(r, k, s, x, part, key);
    if (!status && s->within)
        status = energy_within(r, s);
    free(key);
    free(x);
    free(part);
    TBG_TRY(status);
    s->acceptance = fraction(r->counts.taken, r->counts.moves);
    s->rejected = fraction(r->counts.outside, r->counts.stretches);
    for (int l = 0; l < r->levels; l++) {
        s->dynamics_acceptance[l] = fraction(r->counts.dynamics_taken[l], r->counts.dynamics[l]);
        s->exchange_acceptance[l] = fraction(r->counts.exchanges_taken[l], r->counts.exchanges[l]);
    }
    long news = 0;
    for (long t = 1; t < r->done; t++)
        for (int c = 0; c < r->chains; c++) {
            const int64_t *now = r->frame_ancestor + t * r->chains + c;
            news += *now != *(now - r->chains);
        }
    s->turnover = (double)news / r->chains;
    for (long t = s->burn_in; t < r->done; t++)
        for (int c = 0; c < r->chains; c++)
            s->from_start += is_start(r, c, r->frame_ancestor[t * r->chains + c]) / (double)s->frames;
    advise(s);
    return TBG_OK;
}

/* ---- JSON ---- */

static json_t *real(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *mark_json(const tbg_refine_mark *m) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:[I, I], s:o, s:o, s:o}", "value", real(m->dF.value),
                     "error", real(m->dF.error), "population", real(m->p), "inefficiency",
                     real(m->inefficiency), "effective_samples", real(m->effective), "visits",
                     (json_int_t)m->visits[0], (json_int_t)m->visits[1], "bridge", real(m->bridge.value),
                     "bridge_error", real(m->bridge.error), "bridge_effective_samples",
                     real(m->bridge_effective));
}

int tbg_refine_json(const tbg_refine_summary *s, char **text) {
    json_t *j = json_object(), *marks = json_object(), *dynamics = json_array(), *exchanges = json_array();
    const struct {
        const char *name;
        long value;
    } counts[] = {{"chains", s->chains},
                  {"levels", s->levels},
                  {"states", s->states},
                  {"proposals_per_move", s->proposals},
                  {"cycles", s->cycles},
                  {"burn_in", s->burn_in},
                  {"bridge_burn_in", s->bridge_burn_in},
                  {"proposals_used", s->used},
                  {"proposals", s->n_proposals},
                  {"frames", s->frames}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(j, counts[i].name, json_integer(counts[i].value));
    const struct {
        const char *name;
        double value;
    } figures[] = {{"acceptance", s->acceptance},
                   {"new_proposals_per_chain", s->turnover},
                   {"from_start", s->from_start},
                   {"dynamics_outside", s->rejected},
                   {"energy_mean", s->u_mean},
                   {"energy_error", s->u_error},
                   {"energy_inefficiency", s->u_inefficiency},
                   {"energy_effective_samples", s->u_effective},
                   {"seconds_dynamics", s->seconds_dynamics},
                   {"seconds_density", s->seconds_density}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        json_object_set_new(j, figures[i].name, real(figures[i].value));
    for (int l = 0; l < s->levels; l++) {
        json_array_append_new(dynamics, real(s->dynamics_acceptance[l]));
        if (l + 1 < s->levels)
            json_array_append_new(exchanges, real(s->exchange_acceptance[l]));
    }
    json_object_set_new(j, "dynamics_acceptance", dynamics);
    json_object_set_new(j, "exchange_acceptance", exchanges);
    for (int k = 0; k < s->n_marks; k++)
        json_object_set_new(marks, s->marks[k].name, mark_json(&s->marks[k]));
    json_object_set_new(j, "dF", marks);
    json_object_set_new(j, "within_states", json_boolean(s->within));
    json_object_set_new(j, "converged", json_boolean(s->converged));
    json_object_set_new(j, "advice", json_string(s->advice));
    *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    json_decref(j);
    return *text ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
}

/* ---- frames ---- */

int tbg_refine_ensemble(const tbg_refine *r, const tbg_refine_summary *s, const tbg_molecule *molecule,
                        const tbg_ensemble_info *info, tbg_ensemble **out) {
    tbg_ensemble *e;
    *out = NULL;
    if (r->target.size != 3 * (size_t)molecule->n_atoms)
        return tbg_fail(TBG_INPUT, "refine: frames of %zu numbers, molecule of %d atoms", r->target.size,
                        molecule->n_atoms);
    double *p = TBG_NEW(double, r->n_states);
    int status = p && s->within ? tbg_refine_populations(r, s->bridge_burn_in, p) : p ? TBG_OK : TBG_FAILED;
    for (int i = 0; i < r->n_states && !status; i++) { /* weights of the mean 1 */
        long n = (r->chains - i + r->n_states - 1) / r->n_states * (r->done - s->burn_in);
        p[i] = s->within ? log(p[i] / (double)n * (double)s->frames) : 0;
    }
    if (!status)
        status = tbg_ensemble_create(molecule, s->frames, &e);
    if (status) {
        free(p);
        return status;
    }
    e->info = *info;
    tbg_ensemble_chains *chains = &e->info.chains;
    chains->inefficiency = fmax(s->u_inefficiency, 1);
    chains->converged = s->converged;
    chains->n_errors = s->n_marks;
    snprintf(chains->advice, sizeof chains->advice, "%s", s->advice);
    for (int i = 0; i < s->n_marks; i++) {
        chains->inefficiency = fmax(chains->inefficiency, s->marks[i].inefficiency);
        chains->dF_error[i] = s->marks[i].dF.error;
    }
    size_t size = r->target.size, k = 0;
    for (int c = 0; c < r->chains; c++)
        for (long t = s->burn_in; t < r->done; t++, k++) {
            size_t at = (size_t)t * (size_t)r->chains + (size_t)c;
            memcpy(e->positions + k * size, r->frames + at * size, size * sizeof(double));
            e->reduced_energy[k] = r->frame_u[at];
            e->log_q[k] = r->frame_log_q[at];
            e->verdict[k] = TBG_VALID;
            e->log_weight[k] = p[c % r->n_states];
        }
    free(p);
    *out = e;
    return TBG_OK;
}
