/* simulate_list.c: tbg simulate --list: a data set of many molecules, resumable at any moment. */
#include "app.h"
#include "base/memory.h"
#include "base/progress.h"
#include "dynamics/cuda.h"
#include "simulate.h"
#include "tbg/status.h"

#include <errno.h>
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, MOST = 100000 };

typedef struct {
    int n;
    char (*names)[64];
    tbg_molecule **molecules; /* on a device: [n], and so the others */
    tbg_system **systems;
    tbg_simulation **simulations;
} work;

static void work_free(work *w) {
    for (int k = 0; k < w->n; k++) {
        if (w->simulations)
            tbg_simulation_free(w->simulations[k]);
        if (w->systems)
            tbg_system_free(w->systems[k]);
        if (w->molecules)
            tbg_molecule_free(w->molecules[k]);
    }
    free(w->names);
    free(w->molecules);
    free(w->systems);
    free(w->simulations);
}

static int take_names(const json_t *array, const char *list, work *w) {
    size_t n = json_array_size(array);
    if (!json_is_array(array) || n < 1 || n > MOST)
        return tbg_fail(TBG_INPUT, "--list %s: no array of sequences is there", list);
    w->names = tbg_alloc(n, sizeof *w->names);
    if (!w->names)
        return TBG_FAILED;
    for (size_t k = 0; k < n; k++) {
        const char *name = json_string_value(json_array_get(array, k));
        if (!name || !*name || strlen(name) >= sizeof *w->names || strchr(name, '/') || name[0] == '.')
            return tbg_fail(TBG_INPUT, "--list %s: entry %zu is not a sequence", list, k + 1);
        for (int m = 0; m < w->n; m++)
            if (!strcmp(w->names[m], name))
                return tbg_fail(TBG_INPUT, "--list %s: %s is there twice", list, name);
        strcpy(w->names[w->n++], name);
    }
    return TBG_OK;
}

static int read_list(const char *list, work *w) {
    char file[PATH_SIZE];
    const char *colon = strrchr(list, ':');
    if (!colon || colon == list || !colon[1] || (size_t)(colon - list) >= sizeof file)
        return tbg_fail(TBG_INPUT, "--list needs FILE.json:KEY, not '%s'", list);
    snprintf(file, sizeof file, "%.*s", (int)(colon - list), list);
    json_error_t error;
    json_t *root = json_load_file(file, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return tbg_fail(TBG_INPUT, "%s, line %d: %s", file, error.line, error.text);
    int status = take_names(json_object_get(root, colon + 1), list, w);
    json_decref(root);
    return status;
}

/* complete: or NULL. */
static int output_of(const char *directory, const char *name, char path[PATH_SIZE], int *complete) {
    char checkpoint[PATH_SIZE + 16];
    if (snprintf(path, PATH_SIZE, "%s/%s.nc", directory, name) >= PATH_SIZE)
        return tbg_fail(TBG_INPUT, "%s: the path is too long", directory);
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", path);
    if (complete)
        *complete = !access(path, F_OK) && access(checkpoint, F_OK);
    return TBG_OK;
}

/* Names of what there is to do to the front, in order. */
static int drop_finished(const simulate_request *request, work *w, const char *directory) {
    int left = 0;
    for (int k = 0; k < w->n; k++) {
        char path[PATH_SIZE];
        int complete = 0;
        TBG_TRY(output_of(directory, w->names[k], path, &complete));
        if (!complete || request->resume)
            memmove(w->names[left++], w->names[k], sizeof *w->names);
    }
    w->n = left;
    return TBG_OK;
}

/* ---- one after the other ---- */

static int one_by_one(const simulate_request *request, const work *w, const char *directory) {
    simulate_request r = *request;
    r.resume = 1;
    for (int k = 0; k < w->n; k++) {
        char path[PATH_SIZE];
        TBG_TRY(output_of(directory, w->names[k], path, NULL));
        fprintf(stderr, "%d of %d: ", k + 1, w->n);
        int status = simulate_one(&r, w->names[k], path);
        if (status != TBG_OK)
            return tbg_fail_in(status, "%s", w->names[k]);
    }
    return TBG_OK;
}

/* ---- side by side: a thread a molecule, so that none waits for the others of its molecule ---- */

typedef struct {
    simulate_request request;
    const work *w;
    const char *directory;
    int finished, status; /* the first that failed: its status and words */
    char message[2048];
    double steps, start; /* steps of all conformations so far */
    tbg_progress bar;
} crew;

static void say_result(const char *diagnostics, const char *name, int n_atoms, int finished, int of) {
    json_t *root = json_loads(diagnostics, 0, NULL), *item;
    size_t i;
    fprintf(stderr, "%d of %d: %s, %d atoms", finished, of, name, n_atoms);
    json_array_foreach(json_object_get(root, "phi"), i, item) {
        const json_t *value = json_object_get(item, "delta_f_kt"), *error = json_object_get(item, "error_kt");
        if (json_is_number(value) && json_is_number(error))
            fprintf(stderr, "; %s: dF(0 < phi < 2) %.2f +- %.2f kT, %.0f independent samples",
                    json_string_value(json_object_get(item, "name")), json_number_value(value),
                    json_number_value(error), json_number_value(json_object_get(item, "effective_samples")));
    }
    fputc('\n', stderr);
    json_decref(root);
}

static int advance_one(crew *c, tbg_simulation *s, int *done) {
    int64_t before = tbg_simulation_step(s);
    const int lanes = tbg_simulation_plan_of(s)->lanes;
    *done = 0;
    while (!*done && !tbg_interrupted()) {
        int stop;
        TBG_TRY(tbg_simulation_advance(s, done));
        int64_t step = tbg_simulation_step(s);
#pragma omp critical(simulate_list)
        {
            c->steps += (double)(step - before) * lanes;
            double rate = c->steps / (tbg_seconds() - c->start);
            char note[128];
            snprintf(note, sizeof note, "%.4g steps/s, %.4g ns/day in all", rate,
                     rate * c->request.options.timestep / 1000 * 86400);
            tbg_progress_update(&c->bar, c->finished, note);
            stop = c->status;
        }
        before = step;
        if (stop)
            break;
    }
    return TBG_OK;
}

/* Files are read and written by one thread at a time: netCDF knows no others. */
static int one_of_many(crew *c, const char *name) {
    tbg_molecule *molecule = NULL;
    tbg_system *system = NULL;
    tbg_simulation *s = NULL;
    char path[PATH_SIZE], *diagnostics = NULL;
    int done = 0, status = output_of(c->directory, name, path, NULL);
    if (status == TBG_OK)
        status = tbg_molecule_load(name, &molecule);
#pragma omp critical(simulate_list_files)
    {
        if (status == TBG_OK)
            status = tbg_system_create(molecule, c->request.forcefield, c->request.cutoff, &system);
        if (status == TBG_OK)
            status = tbg_simulation_create(molecule, system, path, &c->request.options, 1, &s);
    }
    if (status == TBG_OK)
        status = advance_one(c, s, &done);
    if (status == TBG_OK)
        status = tbg_simulation_save(s);
#pragma omp critical(simulate_list_files)
    if (status == TBG_OK)
        status = tbg_simulation_finish(s, &diagnostics);
#pragma omp critical(simulate_list)
    {
        if (status != TBG_OK && !c->status) {
            c->status = tbg_fail_in(status, "%s", name);
            snprintf(c->message, sizeof c->message, "%s", tbg_message());
        }
        if (status == TBG_OK && done)
            say_result(diagnostics, name, molecule->n_atoms, ++c->finished, c->w->n);
        if (status == TBG_OK && c->request.json)
            puts(diagnostics);
    }
    free(diagnostics);
    tbg_simulation_free(s);
    tbg_system_free(system);
    tbg_molecule_free(molecule);
    return status;
}

static int side_by_side(const simulate_request *request, const work *w, const char *directory, int workers) {
    crew c = {.request = *request, .w = w, .directory = directory, .start = tbg_seconds()};
    c.request.options.threads = 1;
    fprintf(stderr, "%d molecules, %d at a time, %s, %d run%s of %d temperature%s each\n", w->n, workers,
            request->forcefield, request->options.runs, request->options.runs == 1 ? "" : "s",
            request->options.replicas, request->options.replicas == 1 ? "" : "s");
    tbg_progress_start(&c.bar, "simulate", "molecules", w->n);
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers)
    for (int k = 0; k < w->n; k++) {
        int stop;
#pragma omp critical(simulate_list)
        stop = c.status || tbg_interrupted();
        if (!stop)
            one_of_many(&c, w->names[k]);
    }
    tbg_progress_end(&c.bar, c.finished);
    if (c.status)
        return tbg_fail(c.status, "%s", c.message);
    if (tbg_interrupted() && c.finished < w->n)
        return tbg_fail(TBG_FAILED, "interrupted: saved; the same command goes on from here");
    return TBG_OK;
}

/* ---- all together on a device ---- */

static int create_all(const simulate_request *r, work *w, const char *directory, int *n) {
    w->molecules = TBG_NEW(tbg_molecule *, w->n);
    w->systems = TBG_NEW(tbg_system *, w->n);
    w->simulations = TBG_NEW(tbg_simulation *, w->n);
    if (!w->molecules || !w->systems || !w->simulations)
        return TBG_FAILED;
    *n = 0;
    for (int k = 0; k < w->n && !tbg_interrupted(); k++) {
        char path[PATH_SIZE];
        int m = *n;
        TBG_TRY(output_of(directory, w->names[k], path, NULL));
        int status = tbg_molecule_load(w->names[k], &w->molecules[m]);
        if (status == TBG_OK)
            status = tbg_system_create(w->molecules[m], r->forcefield, r->cutoff, &w->systems[m]);
        if (status == TBG_OK)
            status = tbg_simulation_create(w->molecules[m], w->systems[m], path, &r->options, 1,
                                           &w->simulations[m]);
        if (status != TBG_OK)
            return tbg_fail_in(status, "%s", w->names[k]);
        ++*n;
    }
    return TBG_OK;
}

static int advance_all(tbg_simulation_batch *batch, double timestep, int *done) {
    tbg_progress bar;
    int64_t total, first = tbg_simulation_batch_steps(batch, &total), step = first;
    double start = tbg_seconds();
    tbg_progress_start(&bar, "simulate", "steps", (double)(total - first));
    *done = 0;
    while (!*done && !tbg_interrupted()) {
        TBG_TRY(tbg_simulation_batch_advance(batch, done));
        step = tbg_simulation_batch_steps(batch, &total);
        double rate = (double)(step - first) / (tbg_seconds() - start);
        char note[128];
        snprintf(note, sizeof note, "%.4g steps/s, %.4g ns/day in all", rate, rate * timestep / 1000 * 86400);
        tbg_progress_update(&bar, (double)(step - first), note);
    }
    tbg_progress_end(&bar, (double)(step - first));
    fprintf(stderr, "%.4g steps/s summed over all conformations\n",
            (double)(step - first) / (tbg_seconds() - start));
    return TBG_OK;
}

static int together(const simulate_request *r, work *w, const char *directory) {
    char name[256];
    int n, done = 0, lanes = 0;
    TBG_TRY(tbg_cuda_device(name, sizeof name));
    TBG_TRY(create_all(r, w, directory, &n));
    if (tbg_interrupted())
        return tbg_fail(TBG_FAILED, "interrupted before the start");
    if (!n)
        return TBG_OK;
    for (int k = 0; k < n; k++)
        lanes += tbg_simulation_plan_of(w->simulations[k])->lanes;
    fprintf(stderr, "%d molecules, %d conformations together on %s\n", n, lanes, name);
    tbg_simulation_batch *batch;
    TBG_TRY(tbg_simulation_batch_create(n, w->simulations, &batch));
    int status = advance_all(batch, r->options.timestep, &done);
    tbg_simulation_batch_free(batch);
    if (status != TBG_OK)
        return status; /* the checkpoints of the last minute are there */
    for (int k = 0; k < n && status == TBG_OK; k++)
        status =
            done ? tbg_simulation_finish(w->simulations[k], NULL) : tbg_simulation_save(w->simulations[k]);
    if (status == TBG_OK && !done)
        status = tbg_fail(TBG_FAILED, "interrupted: saved; the same command goes on from here");
    return status;
}

int simulate_list(const simulate_request *r, const char *list, const char *directory) {
    work w = {0};
    int status = read_list(list, &w);
    if (status == TBG_OK && mkdir(directory, 0777) && errno != EEXIST)
        status = tbg_fail(TBG_INPUT, "%s: %s", directory, strerror(errno));
    if (status == TBG_OK)
        status = drop_finished(r, &w, directory);
    int threads = r->options.threads > 0 ? r->options.threads : omp_get_max_threads(),
        workers = threads < w.n ? threads : w.n;
    if (status == TBG_OK)
        status = r->cuda       ? together(r, &w, directory)
                 : workers > 1 ? side_by_side(r, &w, directory, workers)
                               : one_by_one(r, &w, directory);
    work_free(&w);
    return status;
}
