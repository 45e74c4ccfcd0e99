/* ahead.c: the batch after the present one, filled by a thread of its own while a device computes.
 *
 * A batch is a function of its address, so that being early changes nothing; a batch that was filled for
 * another address, or whose filling failed, is filled again when it is asked for. */
#include "base/memory.h"
#include "tbg/status.h"
#include "training/internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct tbg_ahead {
    const tbg_batch_recipe *recipe;
    const tbg_data *data;
    int threads, running, status;
    uint64_t address; /* of `next`, while running or after it */
    tbg_training_batch next;
    pthread_t thread;
};

int tbg_ahead_create(const tbg_batch_recipe *recipe, const tbg_data *data, int n, int threads,
                     tbg_ahead **out) {
    *out = NULL;
    tbg_ahead *a = TBG_NEW(tbg_ahead, 1);
    if (!a)
        return TBG_FAILED;
    a->recipe = recipe;
    a->data = data;
    a->threads = threads;
    a->status = TBG_FAILED; /* nothing is there */
    int status = tbg_training_batch_create(n, data->max_atoms, &a->next);
    if (status == TBG_OK)
        *out = a;
    else
        free(a);
    return status;
}

static void wait_for(tbg_ahead *a) {
    if (a->running)
        pthread_join(a->thread, NULL);
    a->running = 0;
}

void tbg_ahead_free(tbg_ahead *a) {
    if (!a)
        return;
    wait_for(a);
    tbg_training_batch_free(&a->next);
    free(a);
}

static void *fill(void *argument) {
    tbg_ahead *a = argument;
    a->status = tbg_training_batch_fill(a->recipe, a->data, a->address, a->threads, &a->next);
    return NULL;
}

void tbg_ahead_start(tbg_ahead *a, uint64_t address) {
    wait_for(a);
    a->address = address;
    a->status = TBG_FAILED;
    a->running = !pthread_create(&a->thread, NULL, fill, a); /* no thread: filled when asked for */
}

int tbg_ahead_take(tbg_ahead *a, uint64_t address, tbg_training_batch *batch) {
    wait_for(a);
    if (a->status != TBG_OK || a->address != address)
        return tbg_training_batch_fill(a->recipe, a->data, address, a->threads, batch);
    tbg_training_batch full = a->next;
    a->next = *batch;
    *batch = full;
    a->status = TBG_FAILED;
    return TBG_OK;
}
