/* cmd_bench.c: tbg bench: what this machine does per second with one molecule: training, sampling, energies,
 * dynamics.
 *
 * Every figure is the best of several short repeats, so that a busy machine disturbs little; operations are
 * counted as useful ones of the algorithm (no padding, no recomputation). */
#include "app.h"
#include "subject.h"
#include "base/memory.h"
#include "base/progress.h"
#include "dynamics/source.h"
#include "network/kernels.h"
#include "tbg/denoise.h"
#include "tbg/dynamics.h"
#include "tbg/energy.h"
#include "tbg/flow.h"
#include "tbg/network.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <jansson.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef TBG_HAVE_OPENBLAS
#include <cblas.h>
#endif

static const char description[] = "Measure this machine: molecules trained, velocities, exact divergences "
                                  "and weighted samples per second of the\n"
                                  "network, energies and dynamics steps per second of the force field, and "
                                  "the rate of the network's products beside\n"
                                  "the machine's best matrix product. SEQ: a sequence or PDB file; alanine "
                                  "dipeptide (ACE-ALA-NME) by default. Without\n"
                                  "--model a fresh network is measured and a weighted sample is taken to "
                                  "cost the velocities and divergences\n"
                                  "that trained ones do, and an energy, as in the estimate that tbg sample "
                                  "begins with; with --model samples are drawn.";

enum { BATCH = 16 };

typedef struct {
    const char *model_path, *forcefield;
    int64_t hidden, layers, threads;
    double seconds;
    int json;
} settings;

typedef struct {
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_engine *engine;
    tbg_model *model;
    tbg_conditioning *conditioning;
    tbg_session *session;
    tbg_lanes *lanes;
    tbg_source_owner *source_owner;
    int threads, n, batch, conformations;
    const tbg_conditioning **molecules;
    double *t, *x, *v, *target, *weight, *loss, *positions, *energies;
    float *gradient;
} bench;

static int train(bench *b) {
    return tbg_network_loss(b->session, b->batch, b->molecules, b->t, b->x, b->target, b->weight, b->loss,
                            b->gradient);
}
static int energies(bench *b) {
    return tbg_engine_evaluate(b->engine, b->conformations, b->positions, b->energies, NULL, NULL);
}
static int dynamics(bench *b) {
    tbg_lanes_advance(b->lanes, 20);
    return TBG_OK;
}

/* Best rate of `work` calls' items in about `seconds`, at least three repeats of a warm start. */
static int measure(bench *b, int (*work)(bench *), double items, double seconds, double *rate) {
    *rate = 0;
    TBG_TRY(work(b));
    double start = tbg_seconds();
    for (int repeat = 0; repeat < 3 || tbg_seconds() - start < seconds; repeat++) {
        double a = tbg_seconds();
        TBG_TRY(work(b));
        double here = items / (tbg_seconds() - a);
        *rate = here > *rate ? here : *rate;
        if (tbg_interrupted())
            return tbg_fail(TBG_FAILED, "interrupted");
    }
    return TBG_OK;
}

/* Useful operations (a multiply and an add are two) of one velocity. */
static double velocity_operations(const tbg_network_spec *s, int n) {
    double H = s->hidden, N = n, E = N * (N - 1), k = 1 + tbg_edge_feature_count(s) + 1 + s->attention;
    return s->layers * (E * (4 * H * H + 2 * H * k) + N * 4 * H * H) + (s->layers - 1) * N * 6 * H * H;
}

/* Of one divergence: the velocity, the vectors that all directions share, then products per direction: one
 * per edge in the middle layers, a third of that in the second layer and in the last but one
 * (src/network/cpu_opening_simd.c, cpu_closing_simd.c), and the nodes' products. */
static double divergence_operations(const tbg_network_spec *s, int n) {
    const double H2 = (double)s->hidden * s->hidden, N = n, E = N * (N - 1), L = s->layers;
    double sum = velocity_operations(s, n) + E * H2 * 6 * L; /* q and p of every layer */
    if (L > 1)
        sum += E * H2 * 4; /* first layer's products, W1 in the last */
    if (L > 3)
        sum += (E + 3 * N) * H2 * (4 + 4) + 2 * E * E / (N - 1) * H2 + 6 * E * H2 + 3 * N * N * 6 * H2;
    else if (L > 1)
        sum += 3 * N * N * 4 * H2;
    const double middle = L > 4 ? L - 4 : 0;
    sum += 3 * N * middle * (2 * E + 10 * N) * H2;
    if (L > 2)
        sum += 2 * E * (N + 2) * H2 + 12 * N * N * H2 + 6 * (E + 3 * N) * H2;
    return sum;
}

static double gemm_peak(int threads) {
    double best = tbg_network_gemm_gflops(threads);
#ifdef TBG_HAVE_OPENBLAS
    enum { M = 512 }; /* short enough to fit between two interruptions of a busy machine */
    float *a = TBG_NEW(float, 3 * M * M);
    if (!a)
        return best;
    for (int i = 0; i < 2 * M * M; i++)
        a[i] = 1e-3f * (float)(i % 13);
    openblas_set_num_threads(threads);
    for (int k = 0; k < 32; k++) {
        double start = tbg_seconds();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, M, M, 1, a, M, a + M * M, M, 0,
                    a + 2 * M * M, M);
        double rate = 2e-9 * M * M * M / (tbg_seconds() - start);
        best = rate > best ? rate : best;
    }
    free(a);
#endif
    return best;
}

static int make_model(const settings *o, bench *b) {
    if (o->model_path)
        return tbg_model_read(o->model_path, &b->model);
    tbg_network_spec spec;
    TBG_TRY(tbg_network_preset("improved-ad", &spec));
    spec.hidden = (int)o->hidden;
    spec.layers = (int)o->layers;
    spec.scale = 7;
    tbg_conditioning *probe;
    if (tbg_conditioning_create(&spec, b->molecule, b->system, 300, &probe) != TBG_OK) {
        spec.features = TBG_FEATURES_ELEMENT;
        spec.n_features = tbg_feature_set_width(spec.features);
    } else
        tbg_conditioning_free(probe);
    return tbg_model_create(&spec, 1, &b->model);
}

static int prepare(const settings *o, const char *what, bench *b) {
    TBG_TRY(tbg_molecule_load(what, &b->molecule));
    const char *forcefield = o->forcefield;
    if (o->model_path)
        TBG_TRY(make_model(o, b));
    if (!forcefield)
        forcefield = b->model && b->model->forcefield ? b->model->forcefield : "amber99sbildn-obc";
    TBG_TRY(tbg_system_create(b->molecule, forcefield, -1, &b->system));
    if (!b->model)
        TBG_TRY(make_model(o, b));
    const double scale = b->model->spec.scale;
    b->threads = o->threads ? (int)o->threads : omp_get_max_threads();
    b->n = b->molecule->n_atoms;
    b->batch = BATCH * b->threads;
    b->conformations = 512 * b->threads;
    TBG_TRY(tbg_conditioning_create(&b->model->spec, b->molecule, b->system, 300, &b->conditioning));
    TBG_TRY(tbg_session_create(b->model, NULL, b->n, b->threads, &b->session));
    TBG_TRY(tbg_engine_create("native", b->molecule, b->system, b->threads, &b->engine));

    const size_t B = (size_t)b->batch, n3 = 3 * (size_t)b->n, C = (size_t)b->conformations;
    b->molecules = TBG_NEW(const tbg_conditioning *, B);
    b->t = TBG_NEW(double, B);
    b->weight = TBG_NEW(double, B);
    b->loss = TBG_NEW(double, B);
    b->x = TBG_NEW(double, B *n3);
    b->v = TBG_NEW(double, B *n3);
    b->target = TBG_NEW(double, B *n3);
    b->gradient = TBG_NEW(float, b->model->n_parameters);
    b->positions = TBG_NEW(double, C *n3);
    b->energies = TBG_NEW(double, C);
    if (!b->molecules || !b->t || !b->weight || !b->loss || !b->x || !b->v || !b->target || !b->gradient ||
        !b->positions || !b->energies)
        return TBG_FAILED;
    const double *start = (const double *)b->molecule->positions;
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 0), 0, B * n3, b->target);
    tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 1), 0, C * n3, b->positions);
    for (size_t i = 0; i < C * n3; i++)
        b->positions[i] = start[i % n3] + 0.002 * b->positions[i];
    for (size_t k = 0; k < B; k++) {
        b->molecules[k] = b->conditioning;
        b->t[k] = ((double)k + 0.5) / (double)B;
        b->weight[k] = 1.0 / (double)B;
        for (size_t i = 0; i < n3; i++)
            b->x[k * n3 + i] = b->t[k] * scale * start[i] + (1 - b->t[k]) * b->target[k * n3 + i];
    }
    tbg_force_source source;
    TBG_TRY(tbg_force_source_create(b->system, &source, &b->source_owner));
    TBG_TRY(tbg_lanes_create(&source, b->system->mass, 128 * b->threads, 5e-4, 1, 1, b->threads, &b->lanes));
    TBG_TRY(tbg_minimize(b->system, (double *)b->molecule->positions, 10, 500, NULL));
    for (int lane = 0; lane < b->lanes->n_lanes; lane++) {
        tbg_lanes_set_positions(b->lanes, lane, start);
        b->lanes->temperature[lane] = 300;
        tbg_lanes_draw_velocities(b->lanes, lane, 0);
    }
    tbg_lanes_fill(b->lanes);
    return TBG_OK;
}

static void release(bench *b) {
    tbg_lanes_free(b->lanes);
    tbg_force_source_free(b->source_owner);
    tbg_engine_free(b->engine);
    tbg_session_free(b->session);
    tbg_conditioning_free(b->conditioning);
    tbg_model_free(b->model);
    tbg_system_free(b->system);
    tbg_molecule_free(b->molecule);
    free(b->molecules);
    free(b->t);
    free(b->weight);
    free(b->loss);
    free(b->x);
    free(b->v);
    free(b->target);
    free(b->gradient);
    free(b->positions);
    free(b->energies);
}

/* Of n samples of a flow that ends at noise, in place, as tbg sample does. */
static int take_noise_off(bench *b, const tbg_denoise_options *denoise, int n) {
    tbg_denoise_options o = *denoise;
    tbg_denoiser *denoiser;
    o.anneal.threads = b->threads;
    if (b->model->temperature > 0)
        o.anneal.temperature = b->model->temperature;
    TBG_TRY(tbg_denoiser_create(b->session, b->conditioning, b->engine, b->n, &o, NULL, NULL, &denoiser));
    tbg_anneal_result *result = TBG_NEW(tbg_anneal_result, n);
    int status = result ? tbg_denoise(denoiser, 1, n, 0, b->v, b->v, result) : TBG_FAILED;
    free(result);
    tbg_denoiser_free(denoiser);
    return status;
}

/* Draw samples of a trained model and take their energies. */
static int sample_rate(bench *b, double *rate, double *n_velocities, double *n_divergences) {
    tbg_flow_options options;
    tbg_denoise_options denoise;
    subject_settings usual;
    subject_defaults(&usual);
    tbg_flow_defaults(&options);
    TBG_TRY(subject_denoising(&usual, b->model, 1, &denoise, &options));
    int n = 8 * b->threads;
    tbg_flow_result *result = TBG_NEW(tbg_flow_result, n);
    if (!result)
        return TBG_FAILED;
    double start = tbg_seconds();
    int status = tbg_flow_sample(b->session, &options, n, b->molecules, 1, 0, NULL, b->v, result);
    *n_velocities = *n_divergences = 0;
    for (int k = 0; k < n && !status; k++) {
        *n_velocities += (double)result[k].velocities / n;
        *n_divergences += (double)result[k].divergences / n;
        for (int i = 0; i < 3 * b->n; i++)
            b->v[3 * k * b->n + i] /= b->model->spec.scale;
    }
    if (!status && denoise.smoothing > 0)
        status = take_noise_off(b, &denoise, n);
    if (!status)
        status = tbg_engine_evaluate(b->engine, n, b->v, b->energies, NULL, NULL);
    *rate = n / (tbg_seconds() - start);
    free(result);
    return status;
}

static int run(const settings *o, const char *what, bench *b, json_t **out) {
    double rate[5], gemm, samples, per_sample[2];
    tbg_flow_options flow;
    tbg_flow_speed speed;
    tbg_flow_defaults(&flow);
    tbg_flow_typical(&flow, &per_sample[0], &per_sample[1]);
    TBG_TRY(prepare(o, what, b));
    gemm = gemm_peak(b->threads);
    TBG_TRY(measure(b, train, b->batch, o->seconds, &rate[0]));
    TBG_TRY(tbg_flow_measure(b->session, b->conditioning, b->threads, 1, o->seconds, &speed));
    rate[1] = speed.velocities;
    rate[2] = speed.divergences;
    TBG_TRY(measure(b, energies, b->conformations, o->seconds, &rate[3]));
    TBG_TRY(measure(b, dynamics, 20.0 * b->lanes->n_lanes, o->seconds, &rate[4]));
    if (o->model_path)
        TBG_TRY(sample_rate(b, &samples, &per_sample[0], &per_sample[1]));
    else
        samples = 1 / (tbg_flow_seconds(&flow, &speed) + 1 / rate[3]);
    const tbg_network_spec *s = &b->model->spec;
    char sequence[256];
    tbg_molecule_sequence(b->molecule, sequence, sizeof sequence);
    *out =
        json_pack("{ss ss si si si ss si sb sf sf sf sf sf sf sf sf sf sf sf sf}", "molecule", sequence,
                  "forcefield", b->system->forcefield, "atoms", b->n, "hidden", s->hidden, "layers",
                  s->layers, "backend", tbg_session_backend(b->session), "threads", b->threads,
                  "weighted_samples_drawn", o->model_path != NULL, "velocities_per_sample", per_sample[0],
                  "divergences_per_sample", per_sample[1], "train_molecules_per_s", rate[0],
                  "velocities_per_s", rate[1], "exact_divergences_per_s", rate[2], "weighted_samples_per_s",
                  samples, "energies_per_s", rate[3], "dynamics_steps_per_s", rate[4], "gemm_gflops", gemm,
                  "train_gflops", 3e-9 * rate[0] * velocity_operations(s, b->n), "velocity_gflops",
                  1e-9 * rate[1] * velocity_operations(s, b->n), "divergence_gflops",
                  1e-9 * rate[2] * divergence_operations(s, b->n));
    return *out ? TBG_OK : tbg_fail(TBG_FAILED, "out of memory");
}

static double number(const json_t *root, const char *key) {
    return json_number_value(json_object_get(root, key));
}

static void print_table(const json_t *r) {
    printf("%s, %d atoms, %s; network H %d, L %d, %s, %d threads\n",
           json_string_value(json_object_get(r, "molecule")), (int)number(r, "atoms"),
           json_string_value(json_object_get(r, "forcefield")), (int)number(r, "hidden"),
           (int)number(r, "layers"), json_string_value(json_object_get(r, "backend")),
           (int)number(r, "threads"));
    const double peak = number(r, "gemm_gflops");
    static const char *const rows[][3] = {
        {"train_molecules_per_s", "molecules trained", "train_gflops"},
        {"velocities_per_s", "velocities", "velocity_gflops"},
        {"exact_divergences_per_s", "exact divergences", "divergence_gflops"},
        {"weighted_samples_per_s", "weighted samples", NULL},
        {"energies_per_s", "energies", NULL},
        {"dynamics_steps_per_s", "dynamics steps", NULL},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        printf("  %-20s %12.4g /s", rows[k][1], number(r, rows[k][0]));
        if (rows[k][2])
            printf("   %7.1f Gflop/s, %3.0f %% of the best matrix product", number(r, rows[k][2]),
                   100 * number(r, rows[k][2]) / peak);
        putchar('\n');
    }
    printf("  %-20s %12.4g Gflop/s\n", "matrix product", peak);
    char text[32];
    app_duration(1000 / number(r, "weighted_samples_per_s"), text, sizeof text);
    printf("a weighted sample: %.0f velocities and %.0f divergences (%s); 1,000 samples take about %s\n",
           number(r, "velocities_per_sample"), number(r, "divergences_per_sample"),
           json_is_true(json_object_get(r, "weighted_samples_drawn")) ? "drawn" : "assumed", text);
}

int cmd_bench(int argc, char **argv) {
    settings o = {.hidden = 64, .layers = 5, .seconds = 1.5};
    const app_option options[] = {
        {"model", 'm', APP_STRING, &o.model_path, "FILE", "trained model (else a fresh one)"},
        {"hidden", 'H', APP_INT, &o.hidden, "H", "channels of the fresh model"},
        {"layers", 'L', APP_INT, &o.layers, "L", "layers of the fresh model"},
        {"forcefield", 'f', APP_STRING, &o.forcefield, "NAME", "the model's, or amber99sbildn-obc"},
        {"threads", 't', APP_INT, &o.threads, "T", "0: all"},
        {"seconds", 's', APP_DOUBLE, &o.seconds, "S", "time for each figure"},
        {"json", 'j', APP_FLAG, &o.json, NULL, "one JSON object on stdout"},
        {0},
    };
    const char *what[1] = {"ACE-ALA-NME"};
    int n = app_parse("bench", description, options, argc, argv, what, 0, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (o.threads < 0 || o.threads > 1024 || !(o.seconds >= 0 && o.seconds <= 600) || o.hidden < 1 ||
        o.hidden > 512 || o.layers < 1 || o.layers > 64) {
        fprintf(stderr,
                "tbg bench: --threads 0 to 1024, --seconds 0 to 600, --hidden 1 to 512, --layers 1 to 64\n");
        return 2;
    }
    bench b = {0};
    json_t *out = NULL;
    int status = run(&o, n ? what[0] : "ACE-ALA-NME", &b, &out);
    if (!status && o.json) {
        json_dumpf(out, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else if (!status)
        print_table(out);
    json_decref(out);
    release(&b);
    return status ? app_fail("bench", status) : 0;
}
