/* verify_network.c: network vector files against the reference and the fast backend.
 *
 * Tolerances. Reference: 1e-8 of max(|value|, largest / 1000) for values stored as double, 1e-5 for those
 * stored as float32; gradients, which the file has as float32, 1e-5 of max(|value|, largest of the tensor /
 * 1e6). Fast backend, single precision: 1e-3 of the largest value of the quantity (of the tensor, for
 * gradients). */
#include "base/memory.h"
#include "network/vector_file.h"
#include "tbg/flow.h"
#include "tbg/status.h"
#include "verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const tbg_conditioning **molecule;
    double *v, *divergence, *weight, *loss, *gradient_double;
    float *gradient;
} buffers;

static double largest(size_t n, const double *x) {
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

static void compare(const tbg_vector_file *f, verify_report *report, const char *quantity, const char *by,
                    int fast, int rank, const int64_t *shape, const double *got, const double *want) {
    size_t n = 1;
    for (int a = 0; a < rank; a++)
        n *= (size_t)shape[a];
    verify_worst worst = {0};
    verify_fold(&worst, NULL, n, rank, shape, got, want, largest(n, want) * (fast ? 1 : 1e-3));
    const tbg_tensor *stored = tbg_tensors_find(f->file, quantity);
    verify_row(report, quantity, by, &worst, fast ? 1e-3 : stored && stored->dtype == TBG_F64 ? 1e-8 : 1e-5);
}

static int flow(const tbg_vector_file *f, tbg_session *s, const char *by, int fast, verify_report *report) {
    tbg_flow_options o;
    tbg_flow_defaults(&o);
    o.solver = TBG_SOLVER_RK4;
    o.steps = f->flow_steps;
    o.most_steps = 1000000;
    size_t n3 = 3 * (size_t)f->n_atoms;
    double *x = TBG_NEW(double, 2 * n3), *want = x + n3;
    if (!x)
        return TBG_FAILED;
    const tbg_conditioning *c = f->conditioning;
    tbg_flow_result result;
    int status = tbg_flow_forward(s, &o, 1, &c, f->latent, x, &result);
    if (!status) {
        /* The flow puts the centre at 0; the file's sample keeps that of its latent point. */
        double centre[3] = {0};
        for (size_t k = 0; k < n3; k++)
            centre[k % 3] += f->latent[k] / f->n_atoms;
        for (size_t k = 0; k < n3; k++)
            x[k] += centre[k % 3];
        memcpy(want, f->sample, n3 * sizeof *want);
        compare(f, report, "sample", by, fast, 3, (const int64_t[]){1, f->n_atoms, 3}, x, want);
        compare(f, report, "log_det", by, fast, 1, (const int64_t[]){1}, &result.log_det, &f->log_det);
    }
    free(x);
    return status;
}

static int by_backend(const tbg_vector_file *f, const char *backend, int threads, const buffers *B,
                      verify_report *report) {
    tbg_session *s;
    int fast = strcmp(backend, "reference") != 0, n = f->n_samples;
    TBG_TRY(tbg_session_create(f->model, backend, f->n_atoms, threads, &s));
    const char *by = tbg_session_backend(s);
    const int64_t shape[3] = {n, f->n_atoms, 3}, one = 1;
    int status = tbg_network_velocity(s, n, B->molecule, f->t, f->x, B->v);
    if (!status) {
        compare(f, report, "velocity", by, fast, 3, shape, B->v, f->velocity);
        status = tbg_network_divergence(s, n, B->molecule, f->t, f->x, NULL, B->divergence);
    }
    if (!status) {
        compare(f, report, "divergence", by, fast, 1, shape, B->divergence, f->divergence);
        status = tbg_network_loss(s, n, B->molecule, f->t, f->x, f->target, B->weight, B->loss, B->gradient);
    }
    if (!status) {
        double mean = 0;
        for (int b = 0; b < n; b++)
            mean += B->loss[b] / n;
        compare(f, report, "loss", by, fast, 1, &one, &mean, &f->loss);
        size_t np = f->model->n_parameters;
        double most = largest(np, f->gradient);
        for (size_t k = 0; k < np; k++)
            B->gradient_double[k] = B->gradient[k];
        verify_worst worst = {0};
        for (int k = 0; k < f->model->n_tensors; k++) {
            const tbg_parameter *p = &f->model->tensors[k];
            size_t count = (size_t)p->rows * (size_t)p->columns;
            const double *want = f->gradient + p->offset;
            double scale = largest(count, want),
                   floor = fast ? fmax(scale, 1e-3 * most) : fmax(1e-6 * scale, 1e-12 * most);
            verify_fold(&worst, p->name, count, p->rank, (const int64_t[]){p->rows, p->columns},
                        B->gradient_double + p->offset, want, floor);
        }
        verify_row(report, "gradient", by, &worst, fast ? 1e-3 : 1e-5);
    }
    if (!status && f->flow_steps)
        status = flow(f, s, by, fast, report);
    tbg_session_free(s);
    return status;
}

int verify_network(tbg_tensors *tensors, int threads, verify_report *report) {
    tbg_vector_file *f;
    TBG_TRY(tbg_vector_file_from(tensors, &f));
    size_t n = (size_t)f->n_samples, np = f->model->n_parameters;
    buffers B = {.molecule = TBG_NEW(const tbg_conditioning *, n),
                 .v = TBG_NEW(double, n * 3 * (size_t)f->n_atoms),
                 .divergence = TBG_NEW(double, n),
                 .weight = TBG_NEW(double, n),
                 .loss = TBG_NEW(double, n),
                 .gradient_double = TBG_NEW(double, np),
                 .gradient = TBG_NEW(float, np)};
    int status = B.molecule && B.v && B.divergence && B.weight && B.loss && B.gradient_double && B.gradient
                     ? TBG_OK
                     : TBG_FAILED;
    for (size_t b = 0; b < n && !status; b++) {
        B.molecule[b] = f->conditioning;
        B.weight[b] = 1.0 / (double)n;
    }
    if (!status)
        printf("  network: %d atoms, %d channels, %d layers, %zu parameters, %zu samples\n", f->n_atoms,
               f->model->spec.hidden, f->model->spec.layers, np, n);
    if (!status)
        status = by_backend(f, "reference", threads, &B, report);
    if (!status)
        status = by_backend(f, "cpu", threads, &B, report);
    free(B.molecule);
    free(B.v);
    free(B.divergence);
    free(B.weight);
    free(B.loss);
    free(B.gradient_double);
    free(B.gradient);
    tbg_vector_file_free(f);
    return status;
}
