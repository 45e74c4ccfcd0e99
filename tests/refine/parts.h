/* parts.h: what a refinement of alanine dipeptide is made of, small: a random network of one layer, crude
 * settings. */
#ifndef TBG_TESTS_REFINE_PARTS_H
#define TBG_TESTS_REFINE_PARTS_H
#include "tbg_test.h"
#include "tbg/denoise.h"
#include "tbg/refine.h"

typedef struct {
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_model *model;
    tbg_conditioning *conditioning;
    tbg_session *session;
    tbg_engine *engine;
    tbg_flow_options flow;
    tbg_refine_options options;
    tbg_denoise_options denoise; /* without branches: the annealing */
} parts;

/* smoothing: nm of the model, 0: none; the annealing is of the same. */
static inline parts make_parts(double smoothing) {
    parts p;
    tbg_network_spec spec;
    assert_ok(tbg_molecule_from_sequence("ACE-A-NME", &p.molecule));
    assert_ok(tbg_system_create(p.molecule, "amber99sbildn-obc", -1, &p.system));
    assert_ok(tbg_network_preset("improved-ad", &spec));
    spec.hidden = 8;
    spec.layers = 1;
    spec.scale = 6;
    spec.smoothing = smoothing;
    assert_ok(tbg_model_create(&spec, 4, &p.model));
    assert_ok(tbg_conditioning_create(&spec, p.molecule, p.system, 300, &p.conditioning));
    assert_ok(tbg_session_create(p.model, "cpu", 22, 1, &p.session));
    assert_ok(tbg_engine_create("native", p.molecule, p.system, 1, &p.engine));
    tbg_flow_defaults(&p.flow);
    p.flow.solver = TBG_SOLVER_FIXED;
    p.flow.steps = 8;
    p.flow.tolerance = 50;
    tbg_refine_defaults("amber99sbildn-obc", &p.options);
    p.options.chains = 5;
    p.options.time = 0.1;
    tbg_denoise_defaults(&p.denoise);
    p.denoise.branches = 0;
    p.denoise.smoothing = p.denoise.anneal.smoothing = smoothing;
    p.denoise.anneal.replicas = 2;
    p.denoise.anneal.stages = 2;
    return p;
}

/* NULL: there is no noise. */
static inline tbg_denoiser *make_denoiser(const parts *p) {
    tbg_denoiser *d = NULL;
    if (p->denoise.smoothing > 0)
        assert_ok(
            tbg_denoiser_create(p->session, p->conditioning, p->engine, 22, &p->denoise, NULL, NULL, &d));
    return d;
}

static inline void free_parts(parts *p) {
    tbg_engine_free(p->engine);
    tbg_session_free(p->session);
    tbg_conditioning_free(p->conditioning);
    tbg_model_free(p->model);
    tbg_system_free(p->system);
    tbg_molecule_free(p->molecule);
}
#endif
