/* weights.c: frames of dynamics under a known bias, whose weights lead back to the unbiased ensemble. Refuses
 * weights that are no numbers. */
#include "tbg/file.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int tbg_trajectory_weights(const tbg_trajectory *t, const char *path, double **weight) {
    const double *log_weight = tbg_trajectory_extra(t, "log_weight");
    double most = -INFINITY, least = INFINITY;
    *weight = NULL;
    if (!log_weight || !t->n_frames || tbg_trajectory_extra(t, "log_q"))
        return TBG_OK;
    for (int64_t i = 0; i < t->n_frames; i++) {
        if (isnan(log_weight[i]) || log_weight[i] == INFINITY)
            return tbg_fail(TBG_INPUT, "%s: frame %lld: log_weight is %g", path, (long long)i, log_weight[i]);
        most = fmax(most, log_weight[i]);
        least = fmin(least, log_weight[i]);
    }
    if (!isfinite(most))
        return tbg_fail(TBG_INPUT, "%s: no frame has a weight", path);
    if (most == least)
        return TBG_OK;
    double *w = *weight = TBG_NEW(double, t->n_frames);
    if (!w)
        return TBG_FAILED;
    for (int64_t i = 0; i < t->n_frames; i++)
        w[i] = exp(log_weight[i] - most);
    return TBG_OK;
}

void tbg_weights_draw(int64_t n, const double *weight, int64_t m, int64_t *index) {
    double sum = 0, done = n ? weight[0] : 0;
    for (int64_t i = 0; i < n; i++)
        sum += weight[i];
    for (int64_t k = 0, i = 0; k < m; k++) {
        double at = ((double)k + 0.5) / (double)m * sum;
        while (i < n - 1 && done < at)
            done += weight[++i];
        index[k] = i;
    }
}

int tbg_trajectory_unweight(tbg_trajectory *t, const char *path, int *drawn) {
    double *weight;
    if (drawn)
        *drawn = 0;
    TBG_TRY(tbg_trajectory_weights(t, path, &weight));
    if (!weight)
        return TBG_OK;
    size_t n = (size_t)t->n_frames, frame = (size_t)t->n_atoms * 3;
    int64_t *index = TBG_NEW(int64_t, n);
    float *positions = tbg_alloc(n, frame * sizeof *positions);
    double *column = TBG_NEW(double, n);
    int status = index && positions && column ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        tbg_weights_draw(t->n_frames, weight, t->n_frames, index);
        for (size_t k = 0; k < n; k++)
            memcpy(positions + k * frame, t->positions + (size_t)index[k] * frame, frame * sizeof *positions);
        free(t->positions);
        t->positions = positions;
        positions = NULL;
        for (int e = 0; e < t->n_extra; e++) {
            int is_weight = !strcmp(t->extra_names[e], "log_weight");
            for (size_t k = 0; k < n; k++)
                column[k] = is_weight ? 0 : t->extra[e][index[k]];
            memcpy(t->extra[e], column, n * sizeof *column);
        }
        for (size_t k = 0; k < n && t->time; k++)
            column[k] = t->time[index[k]];
        if (t->time)
            memcpy(t->time, column, n * sizeof *column);
        if (drawn)
            *drawn = 1;
    }
    free(weight);
    free(index);
    free(positions);
    free(column);
    return status;
}
