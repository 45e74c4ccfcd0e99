/* subject.c: opening a model for a molecule. Refuses models that were never trained and those that leave
 * force field or temperature open where the caller does, too. */
#include "subject.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "tbg/file.h"
#include "tbg/status.h"
#include "tbg/training.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void subject_defaults(subject_settings *s) {
    tbg_flow_options flow;
    tbg_flow_defaults(&flow);
    *s = (subject_settings){.solver = tbg_solver_name(flow.solver),
                            .steps = flow.steps,
                            .tolerance = flow.tolerance,
                            .solver_tolerance = flow.solver_tolerance,
                            .temperature = NAN,
                            .smoothing = NAN,
                            .anneal_from = NAN,
                            .branches = -1,
                            .branch_steps = -1};
}

const char *subject_refused(const subject_settings *s) {
    return s->threads < 0 || s->threads > 4096 ? "--threads must be 0 (all) to 4096"
           : s->steps < 1 || s->steps > 100000 ? "--steps must be 1 to 100,000"
                                               : NULL;
}

int subject_threads(const subject_settings *s) {
    return s->threads ? (int)s->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int subject_flow(const subject_settings *s, tbg_flow_options *flow) {
    flow->tolerance = s->tolerance;
    flow->solver_tolerance = s->solver_tolerance;
    flow->steps = (int)s->steps;
    TBG_TRY(tbg_solver_parse(s->solver, &flow->solver));
    return tbg_flow_check(flow);
}

/* Whether the priors of the training were drawn independently of the data, as branches need it. */
static int independent_priors(const tbg_model *model) {
    json_t *root = model->training_json ? json_loads(model->training_json, 0, NULL) : NULL;
    json_t *config = json_object_get(root, "config");
    int independent = json_is_false(json_object_get(config, "align")) &&
                      json_is_false(json_object_get(config, "transport"));
    json_decref(root);
    return independent;
}

int subject_denoising(const subject_settings *s, const tbg_model *model, int with_branches,
                      tbg_denoise_options *denoise, tbg_flow_options *flow) {
    const double own = model->spec.smoothing;
    tbg_denoise_options *o = denoise;
    tbg_denoise_defaults(o);
    if (s->branches < -1 || s->branches > TBG_BRANCHES_MOST || s->branch_steps < -1 ||
        s->branch_steps > TBG_BRANCH_STEPS_MOST)
        return tbg_fail(TBG_INPUT,
                        "--branches 0 to %d and --branch-steps 1 to %d are possible (-1: the usual)",
                        TBG_BRANCHES_MOST, TBG_BRANCH_STEPS_MOST);
    if (s->anneal_stages < 0 || s->anneal_stages > 100000 || s->anneal_steps < 0 || s->anneal_steps > 1000 ||
        s->anneal_replicas < 0 || s->anneal_replicas > 1024)
        return tbg_fail(TBG_INPUT,
                        "--anneal-stages must be 0 (the usual ones) to 100,000, --anneal-steps 0 to "
                        "1000, --anneal-replicas 0 to 1024");
    if (s->branches >= 0)
        o->branches = (int)s->branches;
    else if (!with_branches || !independent_priors(model))
        o->branches = 0;
    if (s->branch_steps >= 0)
        o->steps = (int)s->branch_steps;
    if (!o->branches) {
        o->smoothing = own;
        tbg_anneal_defaults(&o->anneal);
    }
    if (!isnan(s->smoothing))
        o->smoothing = s->smoothing;
    if (!(o->smoothing >= own * (1 - 1e-9) && o->smoothing <= 10))
        return tbg_fail(TBG_INPUT, "--smoothing %g nm: the model's own %g to 10 is possible", o->smoothing,
                        own);
    o->anneal.smoothing = !o->branches ? o->smoothing : own > 0 ? 1.2 * own : 0.025;
    if (!o->branches && !isnan(s->anneal_from))
        return tbg_fail(TBG_INPUT,
                        "--anneal-from %g nm: without branches the annealing begins at --smoothing",
                        s->anneal_from);
    if (!isnan(s->anneal_from))
        o->anneal.smoothing = s->anneal_from;
    if (s->anneal_stages)
        o->anneal.stages = (int)s->anneal_stages;
    if (s->anneal_steps)
        o->anneal.steps = (int)s->anneal_steps;
    if (s->anneal_replicas)
        o->anneal.replicas = (int)s->anneal_replicas;
    flow->last_time = tbg_flow_last_time(model->spec.scale, own, o->smoothing);
    return tbg_flow_check(flow);
}

subject_request subject_ask(const subject_settings *s, const char *what, int energies, const char *misfit) {
    return (subject_request){.what = what,
                             .model = s->model,
                             .forcefield = s->forcefield,
                             .temperature = s->temperature,
                             .backend = s->backend,
                             .engine = s->engine,
                             .threads = (int)s->threads,
                             .energies = energies,
                             .misfit = misfit};
}

/* Whether the model in `path` was trained for such molecules; if not, why. */
static int covers(const char *path, const tbg_molecule *molecule, size_t size, char *why, int *fits) {
    tbg_model *model;
    int transfer;
    TBG_TRY(tbg_model_read(path, &model));
    *fits = model->forcefield &&
            !tbg_scope_warnings(model, molecule, model->forcefield, model->temperature, size, why, &transfer);
    tbg_model_free(model);
    why[strcspn(why, "\n")] = 0;
    return TBG_OK;
}

int subject_choose(const char *command, const char *what, subject_settings *s, char *path, size_t size) {
    char list[PATH_MAX], *text, *at = NULL, why[1024] = "", *line;
    tbg_molecule *molecule;
    int fits = 0;
    if (s->model)
        return TBG_OK;
    TBG_TRY(tbg_molecule_load(what, &molecule));
    int status = tbg_shipped_path("models", "shipped.txt", list, sizeof list);
    if (!status)
        status = tbg_file_read(list, 1 << 16, &text, NULL);
    if (status) {
        tbg_molecule_free(molecule);
        return tbg_fail_in(status, "without --model");
    }
    for (line = strtok_r(text, "\n", &at); line && !status && !fits; line = strtok_r(NULL, "\n", &at)) {
        if (*line == '#')
            continue;
        status = tbg_shipped_path("models", line, path, size);
        if (!status)
            status = covers(path, molecule, sizeof why, why, &fits);
    }
    free(text);
    tbg_molecule_free(molecule);
    if (status)
        return status;
    if (!fits)
        return tbg_fail(TBG_INPUT, "no shipped model was trained for %s%s%s%s: name one by --model", what,
                        *why ? " (" : "", why, *why ? ")" : "");
    fprintf(stderr, "tbg %s: without --model: %s\n", command, path);
    s->model = path;
    return TBG_OK;
}

int subject_load(const subject_request *q, subject *s) {
    TBG_TRY(tbg_model_read(q->model, &s->model));
    if (!(s->model->spec.scale > 0))
        return tbg_fail(TBG_INPUT, "%s: the model's scale is not set; it was never trained", q->model);
    return tbg_molecule_load(q->what, &s->molecule);
}

int subject_prepare(const subject_request *q, subject *s) {
    const tbg_network_spec *spec = &s->model->spec;
    s->forcefield = q->forcefield ? q->forcefield : s->model->forcefield;
    s->temperature = isnan(q->temperature) ? s->model->temperature : q->temperature;
    if (!s->forcefield)
        return tbg_fail(TBG_INPUT, "%s does not name its force field: give --forcefield", q->model);
    if (!(s->temperature > 0 && s->temperature < 1e5))
        return tbg_fail(TBG_INPUT, "%s does not name its temperature: give --temperature (K)", q->model);
    TBG_TRY(tbg_system_create(s->molecule, s->forcefield, -1, &s->system));
    /* The network sees bond widths of the force field and temperature it was trained with. */
    s->model_system = s->system;
    if (s->model->forcefield && strcmp(s->model->forcefield, s->forcefield)) {
        s->model_system = NULL;
        TBG_TRY(tbg_system_create(s->molecule, s->model->forcefield, -1, &s->model_system));
    }
    double trained_at = s->model->temperature > 0 ? s->model->temperature : s->temperature;
    int status = tbg_conditioning_create(spec, s->molecule, s->model_system, trained_at, &s->conditioning);
    if (status)
        return tbg_fail_in(status, "%s %s %s", q->what, q->misfit, q->model);
    TBG_TRY(tbg_session_create(s->model, q->backend, s->molecule->n_atoms, q->threads, &s->session));
    return q->energies ? tbg_engine_create(q->engine, s->molecule, s->system, q->threads, &s->engine)
                       : TBG_OK;
}

int subject_energy_seconds(const subject *s, int n, double *seconds) {
    const size_t n3 = 3 * (size_t)s->molecule->n_atoms;
    double *x = TBG_NEW(double, (size_t)n *n3), *energy = TBG_NEW(double, n);
    int status = x && energy ? TBG_OK : TBG_FAILED;
    for (int i = 0; i < n && !status; i++)
        memcpy(x + (size_t)i * n3, s->molecule->positions, n3 * sizeof *x);
    double start = tbg_seconds();
    if (!status)
        status = tbg_engine_evaluate(s->engine, n, x, energy, NULL, NULL);
    *seconds = (tbg_seconds() - start) / n;
    free(x);
    free(energy);
    return status;
}

void subject_warn(const subject *s, const char *command, size_t size, char *warnings) {
    char sequence[1024];
    int transfer;
    tbg_molecule_sequence(s->molecule, sequence, sizeof sequence);
    tbg_scope_warnings(s->model, s->molecule, s->forcefield, s->temperature, size, warnings, &transfer);
    if (transfer > 1)
        fprintf(stderr, "tbg %s: %s is not among the %d molecules that the model was trained on (transfer)\n",
                command, sequence, transfer);
    for (const char *line = warnings; *line;) {
        size_t n = strcspn(line, "\n");
        fprintf(stderr, "tbg %s: warning: %.*s\n", command, (int)n, line);
        line += n + (line[n] == '\n');
    }
}

void subject_close(subject *s) {
    tbg_engine_free(s->engine);
    tbg_session_free(s->session);
    tbg_conditioning_free(s->conditioning);
    if (s->model_system != s->system)
        tbg_system_free(s->model_system);
    tbg_system_free(s->system);
    tbg_molecule_free(s->molecule);
    tbg_model_free(s->model);
}
