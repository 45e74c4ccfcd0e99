/* test_states.c: the diagnosis of each state of phi: what k-hat and bootstrap of the whole ensemble overlook.
 */
#include "tbg_test.h"
#include "ensemble/fixture.h"
#include <jansson.h>

/* The first `left` of n samples at phi = 1, the others at -1.2; log weights 0. */
static tbg_ensemble *two_states(const tbg_molecule *m, long n, long left) {
    tbg_ensemble *e;
    assert_ok(tbg_ensemble_create(m, n, &e));
    for (long i = 0; i < n; i++) {
        synthetic_positions(m, i < left ? 1 : -1.2, e->positions + i * m->n_atoms * 3);
        e->reduced_energy[i] = -20;
        e->log_q[i] = 20;
    }
    e->info.temperature = 300;
    return e;
}

static void weigh(tbg_ensemble *e, long i, double log_weight) {
    e->log_q[i] = 20 - log_weight;
}

static void summarise(tbg_ensemble *e, tbg_ensemble_summary *s) {
    tbg_ensemble_weigh(e);
    assert_ok(tbg_ensemble_summarise(e, 200, s));
    assert_int_equal(s->n_dF, 1);
}

static void sound(void **state) {
    (void)state;
    tbg_ensemble *e = synthetic_ensemble(molecule, 1000);
    tbg_ensemble_summary s;
    assert_ok(tbg_ensemble_summarise(e, 200, &s));
    const tbg_state *in = &s.dF[0].state[TBG_STATE_INSIDE], *out = &s.dF[0].state[TBG_STATE_ELSEWHERE];
    assert_int_equal(in->n, 300);
    assert_int_equal(out->n, 700);
    CLOSE(in->n_effective, 300, 1e-9); /* equal weights within each */
    CLOSE(out->n_effective, 700, 1e-9);
    CLOSE(in->weight, 0.1, 1e-12);
    CLOSE(out->weight, 0.9, 1e-12);
    assert_true(fabs(in->pareto_k) < 0.5);
    assert_true(s.dF[0].reliable);
    CLOSE(s.dF[0].dF.error, s.dF[0].bootstrap_error, 0);
    char remark[160] = "x";
    tbg_dF_remark(&s.dF[0], remark, sizeof remark);
    assert_string_equal(remark, "");
    assert_null(strstr(s.advice, "phi1"));
    tbg_ensemble_free(e);
}

/* As measured for alanine dipeptide: the whole looks well, the rare state hangs on a few samples. */
static void rare_state(void **state) {
    (void)state;
    enum { N = 4000, LEFT = 100 };
    tbg_ensemble *e = two_states(molecule, N, LEFT);
    tbg_ensemble_summary s;
    for (long i = 0; i < LEFT; i++)
        weigh(e, i, i < 4 ? 0 : -8); /* four samples, and dust */
    summarise(e, &s);
    double dust = exp(-8), sum = 4 + 96 * dust, square = 4 + 96 * dust * dust;
    const tbg_dF *d = &s.dF[0];
    assert_true(s.pareto_k <= s.pareto_k_limit && s.n_effective > 3000);
    assert_int_equal(d->state[TBG_STATE_INSIDE].n, LEFT);
    CLOSE(d->state[TBG_STATE_INSIDE].n_effective, sum * sum / square, 1e-9);
    CLOSE(d->state[TBG_STATE_INSIDE].weight, sum / (sum + N - LEFT), 1e-12);
    CLOSE(d->state[TBG_STATE_ELSEWHERE].n_effective, N - LEFT, 1e-6);
    assert_false(d->reliable);
    /* The error holds the whole shift from 39 : 1 to what the weights say. */
    double shift = log((N - LEFT) / sum) - log((double)(N - LEFT) / LEFT);
    CLOSE(d->dF.error, hypot(d->bootstrap_error, shift), 1e-9);
    assert_true(d->bootstrap_error < 1 && d->dF.error > 3);
    assert_non_null(
        strstr(s.advice, "phi1: the state 0 < phi < 2 is worth 4 independent samples (100 drawn)"));
    assert_non_null(strstr(s.advice, "--refine"));
    assert_non_null(strstr(s.advice, "25 times"));
    char *text;
    assert_ok(tbg_ensemble_summary_json(e, &s, &text));
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *dF, *in;
    dF = json_object_get(json_object_get(j, "dF"), "phi1");
    assert_true(json_is_false(json_object_get(dF, "reliable")));
    CLOSE(json_number_value(json_object_get(dF, "error")), d->dF.error, 1e-8);
    CLOSE(json_number_value(json_object_get(dF, "bootstrap_error")), d->bootstrap_error, 1e-8);
    in = json_object_get(json_object_get(json_object_get(j, "states"), "phi1"), "0 < phi < 2");
    assert_int_equal(json_integer_value(json_object_get(in, "n")), LEFT);
    CLOSE(json_number_value(json_object_get(in, "n_effective")), sum * sum / square, 1e-8);
    json_decref(j);
    free(text);
    tbg_ensemble_free(e);
}

/* Just above and below the limit, on either side of phi. */
static void limit(void **state) {
    (void)state;
    tbg_ensemble_summary s;
    for (int inside = 0; inside < 2; inside++)
        for (long few = TBG_STATE_LEAST - 1; few <= TBG_STATE_LEAST; few++) {
            tbg_ensemble *e = two_states(molecule, 2000, inside ? few : 2000 - few);
            summarise(e, &s);
            const tbg_state *poor = &s.dF[0].state[inside ? TBG_STATE_INSIDE : TBG_STATE_ELSEWHERE];
            assert_int_equal(poor->n, few);
            assert_true(isnan(poor->pareto_k)); /* no tail to speak of */
            assert_int_equal(s.dF[0].reliable, few >= TBG_STATE_LEAST);
            assert_int_equal(strstr(s.advice, inside ? "0 < phi < 2" : "outside 0 to 2") != NULL,
                             few < TBG_STATE_LEAST);
            tbg_ensemble_free(e);
        }
}

/* Worth enough samples, but with a tail of shape 0.85 the large weights are still to come; all below those of
 * the other state, so that the whole does not show it. */
static void heavy_tail(void **state) {
    (void)state;
    enum { N = 8000, LEFT = 1000 };
    tbg_ensemble *e = two_states(molecule, N, LEFT);
    tbg_ensemble_summary s;
    for (long i = 0; i < LEFT; i++)
        weigh(e, i, -9 - 0.85 * log((double)(i * 617 % LEFT + 0.5) / LEFT));
    summarise(e, &s);
    const tbg_state *in = &s.dF[0].state[TBG_STATE_INSIDE];
    assert_true(s.pareto_k <= s.pareto_k_limit);
    assert_true(in->n_effective > TBG_STATE_LEAST && fabs(in->pareto_k - 0.85) < 0.1);
    assert_false(s.dF[0].reliable);
    assert_non_null(
        strstr(s.advice, "phi1: the weights of the 1000 samples of the state 0 < phi < 2 have k-hat 0."));
    tbg_ensemble_free(e);
}

static void nothing_there(void **state) {
    (void)state;
    tbg_ensemble *e = two_states(molecule, 500, 0);
    tbg_ensemble_summary s;
    summarise(e, &s);
    assert_true(s.dF[0].dF.value == INFINITY && !s.dF[0].reliable && !isfinite(s.dF[0].dF.error));
    assert_non_null(strstr(s.advice, "phi1: the state 0 < phi < 2 has no sample"));
    char *text;
    assert_ok(tbg_ensemble_summary_json(e, &s, &text));
    free(text);
    e->weighted = 0; /* no weights, no Boltzmann average */
    summarise(e, &s);
    assert_false(s.dF[0].reliable);
    tbg_ensemble_free(e);
    /* Proline's phi cannot get there: no remark, though its dF is not a number. */
    tbg_molecule *other;
    assert_ok(tbg_molecule_from_sequence("GP", &other));
    assert_ok(tbg_ensemble_create(other, 300, &e));
    for (long i = 0; i < e->n; i++) {
        memcpy(e->positions + i * e->n_atoms * 3, other->positions, (size_t)e->n_atoms * 3 * sizeof(double));
        e->reduced_energy[i] = e->log_q[i] = 0;
    }
    tbg_torsion *t;
    int n, phi = -1;
    assert_ok(tbg_backbone_torsions(other, &n, &t));
    for (int k = 0; k < n; k++)
        if (!strncmp(t[k].name, "phi", 3))
            phi = k;
    double angle = tbg_dihedral(e->positions, t[phi].atoms);
    assert_true(angle < 0 || angle > 2);
    free(t);
    summarise(e, &s);
    assert_true(s.dF[0].out_of_reach && !s.dF[0].reliable);
    assert_null(strstr(s.advice, "phi2"));
    tbg_ensemble_free(e);
    tbg_molecule_free(other);
}

/* If the weights fail as a whole, no free energy is reliable, whatever its states look like. */
static void whole_fails(void **state) {
    (void)state;
    tbg_ensemble *e = two_states(molecule, 1000, 300);
    tbg_ensemble_summary s;
    for (long i = 0; i < 1000; i++)
        weigh(e, i, -1.3 * log((double)((i * 617) % 1000 + 0.5) / 1000));
    summarise(e, &s);
    assert_true(s.pareto_k > s.pareto_k_limit && strstr(s.advice, "Do not trust"));
    assert_false(s.dF[0].reliable);
    tbg_ensemble_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sound),         cmocka_unit_test(rare_state),
                                       cmocka_unit_test(limit),         cmocka_unit_test(heavy_tail),
                                       cmocka_unit_test(nothing_there), cmocka_unit_test(whole_fails)};
    return cmocka_run_group_tests_name("states", tests, setup, teardown);
}
