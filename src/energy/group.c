/* group.c: see group.h. Refuses what the batched engine refuses. */
#include "energy/group.h"
#include "base/memory.h"
#include "energy/batch_layout.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- slots: which slot of the scratch holds a force on which atom ---- */

/* Calls visit for every (stage, slot, atom, negative) in a fixed order. Slots: a bond and a 1-4 pair have one
 * (its force on i; j gets the opposite), an angle three, a torsion four. */
typedef void visitor(void *state, int stage, int slot, int atom, int negative);
static void walk_slots(const tbg_group_layout *s, const int32_t *ints, visitor *visit, void *state,
                       int slots[2]) {
    int slot = 0;
    for (int t = 0; t < s->n_bonds + s->n_pairs14; t++, slot++)
        for (int e = 0; e < 2; e++)
            visit(state, 0, slot,
                  ints[(t < s->n_bonds ? s->i_bond + 2 * t : s->i_pair14 + 2 * (t - s->n_bonds)) + e], e);
    for (int t = 0; t < 3 * s->n_angles; t++, slot++)
        visit(state, 0, slot, ints[s->i_angle + t], 0);
    slots[0] = slot;
    slot = 0;
    for (int t = 0; t < 4 * s->n_cosines; t++, slot++)
        visit(state, 1, slot, ints[s->i_cosine + t], 0);
    for (int t = 0; t < 4 * s->n_waves; t++, slot++)
        visit(state, 1, slot, ints[s->i_wave + t], 0);
    slots[1] = slot;
}

typedef struct {
    int n_atoms;
    int32_t *row, *entry; /* row: [stages][n_atoms + 1]; entry NULL: count only */
} entries;

static void visit_entry(void *state, int stage, int slot, int atom, int negative) {
    entries *e = state;
    int32_t *row = e->row + stage * (e->n_atoms + 1);
    if (e->entry)
        e->entry[row[atom]++] = 2 * slot + negative;
    else
        row[atom]++;
}

/* ---- the tables ---- */

static int count_kind(const tbg_batch_system *b, int kind) {
    int n = 0;
    for (int i = 0; i < b->n_atoms; i++)
        n += b->row[3 * i + kind + 1] - b->row[3 * i + kind];
    return n;
}

static void plan(const tbg_batch_system *b, tbg_group_layout *s) {
    int n = b->n_atoms, i = 0, r = 0;
    s->n_atoms = n;
    s->gb = b->gb;
    s->cut = b->cut;
    s->n_bonds = b->n_bonds;
    s->n_pairs14 = count_kind(b, TBG_PAIR_14);
    s->n_angles = b->n_angles;
    s->n_cosines = b->n_cosines;
    s->n_waves = b->n_waves;
    s->words = (n + 31) / 32;
    s->i_bond = i, i += 2 * s->n_bonds;
    s->i_pair14 = i, i += 2 * s->n_pairs14;
    s->i_angle = i, i += 3 * s->n_angles;
    s->i_cosine = i, i += 4 * s->n_cosines;
    s->i_wave = i, i += 4 * s->n_waves;
    s->i_row = i, i += TBG_GROUP_STAGES * (n + 1);
    s->i_entry = i, i += 2 * (s->n_bonds + s->n_pairs14) + 3 * s->n_angles + 4 * (s->n_cosines + s->n_waves);
    s->i_plain = i, i += n * s->words;
    s->r_bond = r, r += 2 * s->n_bonds;
    s->r_pair14 = r, r += 3 * s->n_pairs14;
    s->r_angle = r, r += 2 * s->n_angles;
    s->r_cosine = r, r += 5 * s->n_cosines;
    s->r_wave = r, r += 13 * s->n_waves;
    s->r_atom = r, r += TBG_GROUP_ATOM_REALS * n;
    s->r_scalar = r, r += TBG_GROUP_SCALARS;
    s->n_ints = i;
    s->n_reals = r;
}

static void fill_pairs(const tbg_batch_system *b, tbg_group_system *g) {
    const tbg_group_layout *s = &g->layout;
    int t = 0;
    for (int i = 0; i < b->n_atoms; i++) {
        for (int p = b->row[3 * i + TBG_PAIR_PLAIN]; p < b->row[3 * i + TBG_PAIR_PLAIN + 1]; p++) {
            int j = b->partner[p];
            g->ints[s->i_plain + i * s->words + j / 32] |= (int32_t)(1u << j % 32);
            g->ints[s->i_plain + j * s->words + i / 32] |= (int32_t)(1u << i % 32);
        }
        for (int p = b->row[3 * i + TBG_PAIR_14]; p < b->row[3 * i + TBG_PAIR_14 + 1]; p++, t++) {
            const double *q = b->p64 + b->at_pair + TBG_PAIR_REALS * (size_t)p;
            g->ints[s->i_pair14 + 2 * t] = i;
            g->ints[s->i_pair14 + 2 * t + 1] = b->partner[p];
            g->r64[s->r_pair14 + 3 * t] = q[TBG_PAIR_A12];
            g->r64[s->r_pair14 + 3 * t + 1] = q[TBG_PAIR_B6];
            g->r64[s->r_pair14 + 3 * t + 2] = q[TBG_PAIR_KQQ];
        }
    }
}

static void fill_terms(const tbg_batch_system *b, tbg_group_system *g) {
    const tbg_group_layout *s = &g->layout;
    memcpy(g->ints + s->i_bond, b->bonds, 2 * (size_t)s->n_bonds * sizeof(int));
    memcpy(g->ints + s->i_angle, b->angles, 3 * (size_t)s->n_angles * sizeof(int));
    memcpy(g->ints + s->i_cosine, b->cosines, 4 * (size_t)s->n_cosines * sizeof(int));
    memcpy(g->ints + s->i_wave, b->waves, 4 * (size_t)s->n_waves * sizeof(int));
    memcpy(g->r64 + s->r_bond, b->p64 + b->at_bond, 2 * (size_t)s->n_bonds * sizeof(double));
    memcpy(g->r64 + s->r_angle, b->p64 + b->at_angle, 2 * (size_t)s->n_angles * sizeof(double));
    for (int t = 0; t < s->n_cosines; t++)
        memcpy(g->r64 + s->r_cosine + 5 * t, b->p64 + b->at_cosine + TBG_TORSION_COS * (size_t)t,
               5 * sizeof(double));
    for (int t = 0; t < s->n_waves; t++)
        memcpy(g->r64 + s->r_wave + 13 * t, b->p64 + b->at_wave + TBG_TORSION_WAVE * (size_t)t,
               13 * sizeof(double));
}

static void fill_atoms(const tbg_system *system, const tbg_batch_system *b, tbg_group_system *g) {
    const tbg_group_layout *s = &g->layout;
    int n = s->n_atoms;
    double *atom = g->r64 + s->r_atom, *scalar = g->r64 + s->r_scalar;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < TBG_ATOM_REALS; k++)
            atom[k * n + i] = b->p64[b->at_atom + TBG_ATOM_REALS * (size_t)i + (size_t)k];
        atom[TBG_GROUP_HALF_SIGMA * n + i] = system->sigma[i] / 2;
        atom[TBG_GROUP_ROOT24 * n + i] = sqrt(24 * system->epsilon[i]);
        atom[TBG_GROUP_CHARGE * n + i] = system->charge[i];
        atom[TBG_GROUP_INV_ROOT_MASS * n + i] = 1 / sqrt(system->mass[i]);
        atom[TBG_GROUP_INV_MASS * n + i] = 1 / system->mass[i];
    }
    const double *from = b->p64 + b->at_scalar;
    scalar[TBG_GROUP_CUTOFF2] = from[TBG_SCALAR_CUTOFF2];
    scalar[TBG_GROUP_SHIFT] = from[TBG_SCALAR_SHIFT];
    scalar[TBG_GROUP_ALPHA] = from[TBG_SCALAR_ALPHA];
    scalar[TBG_GROUP_BETA] = from[TBG_SCALAR_BETA];
    scalar[TBG_GROUP_GAMMA] = from[TBG_SCALAR_GAMMA];
    scalar[TBG_GROUP_COULOMB] = system->coulomb;
    scalar[TBG_GROUP_GB_COULOMB] =
        system->gb ? -system->gb_coulomb * (1 / system->gb_solute - 1 / system->gb_solvent) : 0;
}

static void fill_entries(tbg_group_system *g) {
    tbg_group_layout *s = &g->layout;
    int n = s->n_atoms, slots[2], at = 0;
    entries e = {n, g->ints + s->i_row, NULL};
    walk_slots(s, g->ints, visit_entry, &e, slots);
    for (int k = 0; k < TBG_GROUP_STAGES * (n + 1); k++) { /* counts to first places */
        int count = e.row[k];
        e.row[k] = at;
        at += count;
    }
    e.entry = g->ints + s->i_entry;
    walk_slots(s, g->ints, visit_entry, &e, slots); /* moves every first place to the next atom's */
    for (int stage = 0; stage < TBG_GROUP_STAGES; stage++) {
        int32_t *row = e.row + stage * (n + 1);
        memmove(row + 1, row, (size_t)n * sizeof *row);
        row[0] = stage ? g->ints[s->i_row + n] : 0;
    }
    /* The scratch also holds partial sums of pairs (four reals for every part of an atom) and, for energies,
     * TBG_E_N doubles a thread. */
    int scratch = 3 * (slots[0] > slots[1] ? slots[0] : slots[1]);
    if (scratch < 4 * TBG_GROUP_PARTS * n)
        scratch = 4 * TBG_GROUP_PARTS * n;
    if (scratch < 2 * TBG_E_N * TBG_GROUP)
        scratch = 2 * TBG_E_N * TBG_GROUP;
    s->scratch = (scratch + 3) / 4 * 4;
}

int tbg_group_system_create(const tbg_system *system, tbg_group_system **out) {
    *out = NULL;
    tbg_batch_system *b;
    TBG_TRY(tbg_batch_system_create(system, &b));
    tbg_group_system *g = TBG_NEW(tbg_group_system, 1);
    if (g) {
        plan(b, &g->layout);
        g->ints = TBG_NEW(int32_t, g->layout.n_ints);
        g->r64 = TBG_NEW(double, g->layout.n_reals);
        g->r32 = TBG_NEW(float, g->layout.n_reals);
    }
    if (!g || !g->ints || !g->r64 || !g->r32) {
        tbg_group_system_free(g);
        tbg_batch_system_free(b);
        return TBG_FAILED;
    }
    fill_terms(b, g);
    fill_pairs(b, g);
    fill_atoms(system, b, g);
    fill_entries(g);
    tbg_batch_system_free(b);
    for (int k = 0; k < g->layout.n_reals; k++) {
        if (!isfinite(g->r64[k])) {
            tbg_group_system_free(g);
            return tbg_fail(TBG_INPUT, "the system has a parameter that is not finite");
        }
        g->r32[k] = (float)g->r64[k];
    }
    *out = g;
    return TBG_OK;
}

void tbg_group_system_free(tbg_group_system *g) {
    if (!g)
        return;
    free(g->ints);
    free(g->r64);
    free(g->r32);
    free(g);
}
