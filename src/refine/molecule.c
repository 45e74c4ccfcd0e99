/* molecule.c: the target that `tbg sample --refine` works on: positions of a molecule, Langevin dynamics in
 * the batched engine, energies, and the flow's density of given positions. Owns what counts as a valid state.
 */
#include "base/memory.h"
#include "dynamics/source.h"
#include "refine/chain.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPLICA_BITS = 20 }; /* of a number, the rest is the cycle */

typedef struct {
    const tbg_molecule *molecule;
    const tbg_conditioning *conditioning;
    tbg_session *session;
    tbg_engine *engine;
    tbg_flow_options flow;
    double kT, scale;
    int levels, chains, n_marks;
    int64_t steps[TBG_REFINE_LEVELS];
    tbg_torsion *torsions; /* [n_marks] phi */
    tbg_checker *checker;
    tbg_force_source source;
    tbg_source_owner *source_owner;
    tbg_lanes *lanes[TBG_REFINE_LEVELS];
    tbg_denoiser *denoiser; /* NULL: the flow ends without noise */
    uint64_t denoise_seed;
    /* Scratch for all replicas. */
    const tbg_conditioning **list;
    double *checked, *nm, *x,
        *z; /* nm, of x: those that are valid; x: scaled, what the flow's density is of */
    unsigned char *valid;
    tbg_flow_result *result;
    uint64_t *number;
    tbg_anneal_result *annealed;
} molecule_target;

/* Fresh velocities at the start of every stretch make the kernel of the positions reversible: the chains'
 * moves, and going back after a stretch that ends outside, rely on that. */
static int dynamics(void *self, int level, int64_t cycle, int n, double *states) {
    molecule_target *m = self;
    tbg_lanes *lanes = m->lanes[level];
    size_t size = 3 * (size_t)m->molecule->n_atoms;
    for (int c = 0; c < n; c++) {
        tbg_lanes_set_positions(lanes, c, states + (size_t)c * size);
        tbg_lanes_draw_velocities(lanes, c, (uint64_t)cycle);
    }
    tbg_lanes_center(lanes);
    tbg_lanes_fill(lanes);
    lanes->step = cycle * m->steps[level];
    tbg_lanes_advance(lanes, m->steps[level]);
    tbg_lanes_center(lanes);
    for (int c = 0; c < n; c++)
        tbg_lanes_get_positions(lanes, c, states + (size_t)c * size);
    return TBG_OK;
}

/* Nothing to relabel and nothing to mirror: dynamics must not turn a molecule into its mirror image, and a
 * relabelled configuration has another density. */
static int is_valid(const molecule_target *m, const double *x, double *copy) {
    size_t size = 3 * (size_t)m->molecule->n_atoms;
    for (size_t k = 0; k < size; k++)
        if (!(fabs(x[k]) < 1e6))
            return 0;
    memcpy(copy, x, size * sizeof(double));
    return tbg_check(m->checker, copy) == TBG_VALID && !memcmp(copy, x, size * sizeof(double));
}

/* What the flow's density is asked of, and of smoothed models the estimates of Z there. */
static int smooth(molecule_target *m, int some) {
    const size_t all = 3 * (size_t)m->molecule->n_atoms * (size_t)some;
    const double *from = m->nm;
    if (m->denoiser) {
        from = m->checked;
        TBG_TRY(
            tbg_denoise_given(m->denoiser, m->denoise_seed, some, m->number, m->nm, m->checked, m->annealed));
    }
    for (size_t k = 0; k < all; k++)
        m->x[k] = from[k] * m->scale;
    return TBG_OK;
}

static int weigh(void *self, int64_t cycle, int n, const double *states, double *u, double *log_q) {
    molecule_target *m = self;
    size_t size = 3 * (size_t)m->molecule->n_atoms;
    int some = 0;
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < n; i++)
        m->valid[i] = (unsigned char)is_valid(m, states + (size_t)i * size, m->checked + (size_t)i * size);
    TBG_TRY(tbg_engine_evaluate(m->engine, n, states, u, NULL, NULL));
    for (int i = 0; i < n; i++) {
        u[i] = m->valid[i] ? u[i] / m->kT : INFINITY;
        log_q[i] = NAN;
        if (!isfinite(u[i]))
            continue;
        memcpy(m->nm + (size_t)some * size, states + (size_t)i * size, size * sizeof *states);
        m->number[some] = (uint64_t)cycle << REPLICA_BITS | (uint64_t)i;
        m->list[some++] = m->conditioning;
    }
    TBG_TRY(smooth(m, some));
    TBG_TRY(tbg_flow_density(m->session, &m->flow, some, m->list, m->x, m->z, m->result));
    double per_nm = 3.0 * (m->molecule->n_atoms - 1) * log(m->scale);
    for (int i = 0, s = 0; i < n; i++)
        if (isfinite(u[i])) {
            if (!m->result[s].status)
                log_q[i] = m->result[s].log_q + per_nm;
            if (m->denoiser)
                log_q[i] -= m->annealed[s].log_z + m->annealed[s].u;
            s++;
        }
    return TBG_OK;
}

static uint32_t mark(void *self, const double *state) {
    const molecule_target *m = self;
    uint32_t bits = 0;
    for (int k = 0; k < m->n_marks; k++) {
        double phi = tbg_dihedral(state, m->torsions[k].atoms);
        bits |= (uint32_t)(phi > 0 && phi < 2) << k;
    }
    return bits;
}

void tbg_refine_molecule_free(tbg_refine_target *target) {
    molecule_target *m = target->self;
    if (!m)
        return;
    for (int l = 0; l < m->levels; l++)
        tbg_lanes_free(m->lanes[l]);
    tbg_force_source_free(m->source_owner);
    tbg_checker_free(m->checker);
    free(m->torsions);
    free(m->list);
    free(m->checked);
    free(m->nm);
    free(m->x);
    free(m->z);
    free(m->number);
    free(m->annealed);
    free(m->valid);
    free(m->result);
    free(m);
    *target = (tbg_refine_target){0};
}

static int make_lanes(molecule_target *m, const tbg_system *system, const tbg_refine_options *o) {
    for (int l = 0; l < m->levels; l++) {
        uint32_t w[4]; /* levels must not share noise */
        tbg_random_words(o->seed, TBG_STREAM(TBG_STREAM_REFINE, (uint64_t)1 << 40), (uint64_t)l, w);
        m->steps[l] = llround(fmax((l + 1 < m->levels ? o->level_time : o->time) / o->timestep, 1));
        TBG_TRY(tbg_lanes_create(&m->source, system->mass, m->chains, o->timestep, o->friction,
                                 (uint64_t)w[1] << 32 | w[0], o->threads, &m->lanes[l]));
        for (int c = 0; c < m->chains; c++)
            m->lanes[l]->temperature[c] = o->temperature;
    }
    return TBG_OK;
}

static int set_up(molecule_target *m, const tbg_system *system, const tbg_refine_options *o,
                  tbg_refine_target *out) {
    int n;
    size_t replicas = (size_t)m->chains * (size_t)m->levels, size = 3 * (size_t)m->molecule->n_atoms;
    TBG_TRY(tbg_checker_create(m->molecule, &m->checker));
    TBG_TRY(tbg_backbone_torsions(m->molecule, &n, &m->torsions));
    for (int t = 0; t < n; t++)
        if (!strncmp(m->torsions[t].name, "phi", 3) && m->n_marks < TBG_TORSIONS_MOST)
            m->torsions[m->n_marks++] = m->torsions[t];
    TBG_TRY(tbg_force_source_create(system, &m->source, &m->source_owner));
    TBG_TRY(make_lanes(m, system, o));
    m->list = TBG_NEW(const tbg_conditioning *, replicas);
    m->checked = tbg_alloc(replicas, size * sizeof(double));
    m->nm = tbg_alloc(replicas, size * sizeof(double));
    m->x = tbg_alloc(replicas, size * sizeof(double));
    m->z = tbg_alloc(replicas, size * sizeof(double));
    m->valid = TBG_NEW(unsigned char, replicas);
    m->result = TBG_NEW(tbg_flow_result, replicas);
    m->number = TBG_NEW(uint64_t, replicas);
    m->annealed = TBG_NEW(tbg_anneal_result, replicas);
    if (!m->list || !m->checked || !m->nm || !m->x || !m->z || !m->valid || !m->result || !m->number ||
        !m->annealed)
        return TBG_FAILED;
    *out = (tbg_refine_target){
        .size = size, .n_marks = m->n_marks, .self = m, .dynamics = dynamics, .weigh = weigh, .mark = mark};
    for (int k = 0; k < m->n_marks; k++)
        snprintf(out->mark_names[k], sizeof out->mark_names[k], "%s", m->torsions[k].name);
    return TBG_OK;
}

int tbg_refine_molecule_create(const tbg_molecule *molecule, const tbg_system *system,
                               const tbg_conditioning *conditioning, tbg_session *session,
                               const tbg_flow_options *flow, tbg_engine *engine, tbg_denoiser *denoiser,
                               const tbg_refine_options *options, long n_proposals, tbg_refine_target *out) {
    *out = (tbg_refine_target){0};
    TBG_TRY(tbg_refine_check(options));
    if (!flow->weights)
        return tbg_fail(TBG_INPUT, "refine: proposals without log q cannot be weighed");
    if (!strcmp(tbg_engine_name(engine), "xtb") || !strcmp(system->forcefield, "gfn2-xtb"))
        return tbg_fail(TBG_INPUT, "refine: there is no dynamics with %s; choose a classical force field",
                        system->forcefield);
    const tbg_network_spec *spec = &tbg_session_model(session)->spec;
    const double smoothing = denoiser ? tbg_denoiser_options(denoiser)->smoothing : 0;
    if ((spec->smoothing > 0 || flow->last_time < 1) && !denoiser)
        return tbg_fail(TBG_INPUT, "refine: a flow that ends at noise needs the annealing that takes it off");
    if (denoiser &&
        fabs(flow->last_time - tbg_flow_last_time(spec->scale, spec->smoothing, smoothing)) > 1e-12)
        return tbg_fail(TBG_INPUT, "refine: the flow does not end where the annealing begins, at %g nm",
                        smoothing);
    molecule_target *m = TBG_NEW(molecule_target, 1);
    if (!m)
        return TBG_FAILED;
    if (denoiser) {
        uint32_t w[4]; /* the proposals have their numbers of the other seed */
        tbg_random_words(options->seed, TBG_STREAM(TBG_STREAM_REFINE, ((uint64_t)1 << 40) + 1), 0, w);
        m->denoiser = denoiser;
        m->denoise_seed = (uint64_t)w[1] << 32 | w[0];
    }
    m->molecule = molecule;
    m->conditioning = conditioning;
    m->session = session;
    m->engine = engine;
    m->flow = *flow;
    m->kT = TBG_BOLTZMANN * options->temperature;
    m->scale = tbg_session_model(session)->spec.scale;
    m->levels = options->levels;
    m->chains = tbg_refine_chains(options, n_proposals);
    int status = set_up(m, system, options, out);
    if (status) {
        out->self = m;
        tbg_refine_molecule_free(out);
    }
    return status;
}
