/* optimizer.c: state of Adam, AdamW and SOAP (whose bases soap.c owns), the exponential moving average of the
 * weights, gradient norm and learning-rate schedule. Owns no random numbers and no time. Moments are single
 * precision, corrections computed in double. */
#include "base/memory.h"
#include "base/simd.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORTH_THREADS 64 /* blocks; below, waking threads up costs more than it saves */
#define BLOCK 8192       /* parameters per unit of work; fixes the order of the norm's partial sums */

TBG_SIMD_DECLARE(const tbg_optimizer_kernels, tbg_optimizer_kernels);

static const tbg_optimizer_kernels *kernels(void) {
    return TBG_SIMD_PICK(tbg_optimizer_kernels, tbg_simd_level());
}

int tbg_optimizer_create(size_t n, const float *weights, int ema, tbg_optimizer *o) {
    memset(o, 0, sizeof *o);
    o->n = n;
    o->m = TBG_NEW(float, n);
    o->v = TBG_NEW(float, n);
    o->ema = ema ? TBG_NEW(float, n) : NULL;
    o->partial = TBG_NEW(double, n / BLOCK + 1);
    if (!o->m || !o->v || (ema && !o->ema) || !o->partial) {
        tbg_optimizer_free(o);
        return TBG_FAILED;
    }
    if (ema)
        memcpy(o->ema, weights, n * sizeof *weights);
    return TBG_OK;
}

int tbg_optimizer_use_soap(tbg_optimizer *o, int n_tensors, const tbg_parameter *tensors, int every,
                           int threads) {
    return tbg_soap_create(n_tensors, tensors, every, threads, &o->soap);
}

void tbg_optimizer_free(tbg_optimizer *o) {
    tbg_soap_free(o->soap);
    free(o->m);
    free(o->v);
    free(o->ema);
    free(o->partial);
    memset(o, 0, sizeof *o);
}

double tbg_optimizer_norm(tbg_optimizer *o, const float *gradient, int threads) {
    const tbg_optimizer_kernels *table = kernels();
    long blocks = (long)((o->n + BLOCK - 1) / BLOCK);
#pragma omp parallel for num_threads(threads) if (threads > 1 && blocks >= WORTH_THREADS) schedule(static)
    for (long i = 0; i < blocks; i++) {
        size_t first = (size_t)i * BLOCK, n = o->n - first < BLOCK ? o->n - first : BLOCK;
        o->partial[i] = table->sum_squares(n, gradient + first);
    }
    double sum = 0;
    for (long i = 0; i < blocks; i++)
        sum += o->partial[i];
    return sqrt(sum);
}

tbg_adam_constants tbg_optimizer_next(tbg_optimizer *o, const tbg_optimizer_step *s) {
    o->steps++;
    double k = (double)o->steps;
    return (tbg_adam_constants){
        .lr = (float)s->learning_rate,
        .beta1 = (float)s->beta1,
        .beta2 = (float)s->beta2,
        .epsilon = (float)s->epsilon,
        .decay = s->decoupled ? (float)(s->learning_rate * s->weight_decay) : 0,
        .l2 = s->decoupled ? 0 : (float)s->weight_decay,
        .ema = (float)(1 - tbg_ema_decay(s->ema, o->steps)),
        .c1 = (float)(1 / (1 - pow(s->beta1, k))),
        .c2 = (float)(1 / (1 - pow(s->beta2, k))),
        .gradient_scale = (float)s->gradient_scale,
    };
}

void tbg_optimizer_update(tbg_optimizer *o, const tbg_optimizer_step *s, float *weights,
                          const float *gradient, int threads) {
    const tbg_optimizer_kernels *table = kernels();
    const tbg_adam_constants c = tbg_optimizer_next(o, s);
    if (o->soap) {
        tbg_soap_update(o->soap, o, &c, weights, gradient, threads);
        return;
    }
    long blocks = (long)((o->n + BLOCK - 1) / BLOCK);
#pragma omp parallel for num_threads(threads) if (threads > 1 && blocks >= WORTH_THREADS) schedule(static)
    for (long i = 0; i < blocks; i++) {
        size_t first = (size_t)i * BLOCK, n = o->n - first < BLOCK ? o->n - first : BLOCK;
        table->update(n, &c, weights + first, o->m + first, o->v + first, o->ema ? o->ema + first : NULL,
                      gradient + first);
    }
}

int tbg_optimizer_update_on(tbg_optimizer *o, const tbg_optimizer_step *s, tbg_session *session) {
    const tbg_adam_constants c = tbg_optimizer_next(o, s);
    const int every = o->soap ? tbg_soap_every(o->soap) : 0;
    return tbg_session_step(session, &c, every && o->steps % every == 0);
}

int tbg_optimizer_ready(const tbg_optimizer *o, int n_tensors, const double *squares) {
    for (int i = 0; o->soap && i < n_tensors; i++)
        if (squares[i] > 0 && tbg_soap_wants_bases(o->soap, i))
            return 0;
    return 1;
}

tbg_optimizer_arrays tbg_optimizer_arrays_of(const tbg_optimizer *o) {
    tbg_optimizer_arrays a = {.m = o->m, .v = o->v, .ema = o->ema};
    if (o->soap) {
        a.rotated = tbg_soap_rotated(o->soap);
        a.bases = tbg_soap_state(o->soap, &a.n_bases);
    }
    return a;
}

double tbg_ema_decay(double decay, int64_t steps) {
    double warm = (double)steps / ((double)steps + 9);
    return warm < decay ? warm : decay;
}

double tbg_learning_rate(const tbg_training_config *config, int64_t iteration, int64_t iterations,
                         double iterations_per_epoch) {
    double rate = config->learning_rate, k = (double)iteration;
    if (config->rate == TBG_RATE_STEPS) {
        for (int i = 0; i < config->n_steps; i++) {
            const tbg_rate_step *step = &config->steps[i];
            if (k >= (step->epochs ? step->at * iterations_per_epoch : step->at))
                rate = step->learning_rate;
        }
        return rate;
    }
    double warmup = config->warmup < 1 ? config->warmup * (double)iterations : config->warmup;
    if (k < warmup)
        return rate * (k + 1) / (warmup + 1);
    if (config->rate == TBG_RATE_CONSTANT)
        return rate;
    double left = (double)iterations - warmup, done = left > 0 ? (k - warmup) / left : 1;
    if (done > 1)
        done = 1;
    return config->final_learning_rate + (rate - config->final_learning_rate) * 0.5 * (1 + cos(M_PI * done));
}
