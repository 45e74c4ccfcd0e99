/* cpu_work.c: the scratch of one thread and what goes into it before the layers run.
 *
 * Owns: allocation by level (forward, reverse, tangents) and the inputs of one configuration, in double.
 * Refuses: layers. */
#include "base/memory.h"
#include "network/cpu.h"
#include "tbg/schedule.h"
#include "tbg/status.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t tbg_cpu_most_stored = (size_t)192 << 20;

static void carve(const tbg_cpu_net *net, int max_atoms, int level, tbg_cpu_work *w, tbg_arena *arena) {
    const size_t N = (size_t)max_atoms, hp = (size_t)net->hp, L = (size_t)net->layers, ke = (size_t)net->ke;
    const size_t E = (N * (N - 1) + 127) / 64 * 64, tile = (size_t)net->tile;
    const size_t stored = level & TBG_CPU_REVERSE ? (w->keep ? L : 1)
                          : level                 ? 1
                                                  : 0,
                 sheets = stored ? stored : 1;
    w->max_atoms = max_atoms;
    w->capacity = (int)E;
    w->receiver = TBG_TAKE(arena, int, E);
    w->sender = TBG_TAKE(arena, int, E);
    w->harmonic = TBG_TAKE(arena, int, E);
    w->harmonic_of = TBG_TAKE(arena, int, E);
    w->x = TBG_TAKE(arena, double, (L + 1) * 3 * N);
    w->inputs = TBG_TAKE(arena, double, N *(size_t)net->n_in);
    w->ha = TBG_TAKE(arena, float, L *N * 2 * hp);
    w->ab = TBG_TAKE(arena, float, N * 2 * hp);
    w->pre4 = TBG_TAKE(arena, float, L *N *hp);
    w->node = TBG_TAKE(arena, float, N *hp);
    w->features = TBG_TAKE(arena, float, E *ke);
    w->push = TBG_TAKE(arena, float, 3 * E);
    w->d = TBG_TAKE(arena, float, 3 * E);
    w->r2 = TBG_TAKE(arena, float, E);
    w->scale = TBG_TAKE(arena, float, E);
    w->gate = TBG_TAKE(arena, float, sheets *E);
    w->s = TBG_TAKE(arena, float, sheets *E);
    w->g = TBG_TAKE(arena, float, sheets *E);
    w->z = TBG_TAKE(arena, float, E);
    w->t1 = TBG_TAKE(arena, float, tile *hp);
    w->t2 = TBG_TAKE(arena, float, tile *hp);
    w->t3 = TBG_TAKE(arena, float, tile *hp);
    if (!level)
        return;
    w->t4 = TBG_TAKE(arena, float, tile *hp);
    w->feature_slope = TBG_TAKE(arena, float, E *ke);
    w->push_rho = TBG_TAKE(arena, float, E);
    w->push_slope = TBG_TAKE(arena, float, E);
    w->unit = TBG_TAKE(arena, float, 3 * E);
    w->inverse_r = TBG_TAKE(arena, float, E);
    w->pre1 = TBG_TAKE(arena, float, stored *E *hp);
    w->pre2 = TBG_TAKE(arena, float, stored *E *hp);
    w->pre3 = TBG_TAKE(arena, float, stored *E *hp);
    w->dnode = TBG_TAKE(arena, float, N *hp);
    w->ds = TBG_TAKE(arena, float, E);
    if (level & TBG_CPU_TANGENT) {
        const size_t blocks = (3 * N + TBG_CPU_BLOCK - 1) / TBG_CPU_BLOCK, D = TBG_CPU_BLOCK;
        w->a2 = TBG_TAKE(arena, float, E *hp);
        w->p = TBG_TAKE(arena, float, E *hp);
        w->qh = TBG_TAKE(arena, float, net->spec.harmonic_term ? E *hp : 1);
        w->sigma = TBG_TAKE(arena, float, E);
        w->gamma = TBG_TAKE(arena, float, E);
        w->x_dot = TBG_TAKE(arena, float, blocks *N * 3 * TBG_CPU_BLOCK_PADDED);
        w->h_dot = TBG_TAKE(arena, float, blocks *N *D *hp);
        w->ab_dot = TBG_TAKE(arena, float, N *D * 2 * hp);
        w->sum_dot = TBG_TAKE(arena, float, N *D *hp);
        w->rows = TBG_TAKE(arena, float, (tile > D ? tile : D) * hp);
        if (L > 2) {
            for (int k = 0; k < 6; k++)
                w->last_shelves[k] = TBG_TAKE(arena, float, E *hp);
            w->last_scalars = TBG_TAKE(arena, float, 8 * E);
            w->own = TBG_TAKE(arena, float, 3 * N * hp);
            w->own_mu = TBG_TAKE(arena, float, 3 * N * hp);
        }
        if (L > 3) {
            w->pair_ab = TBG_TAKE(arena, float, E * 2 * hp);
            w->own_ab = TBG_TAKE(arena, float, 3 * N * 2 * hp);
            w->operator= TBG_TAKE(arena, float, 3 * hp * hp);
        }
        w->moves = TBG_TAKE(arena, float, N * 3 * TBG_CPU_BLOCK_PADDED);
        w->v_dot = TBG_TAKE(arena, double, 3 * N);
    }
    if (!(level & TBG_CPU_REVERSE))
        return;
    w->dx = TBG_TAKE(arena, double, 3 * N);
    w->dx_input = TBG_TAKE(arena, double, 3 * N);
    w->dg = TBG_TAKE(arena, float, E);
    w->dr2 = TBG_TAKE(arena, float, E);
    w->dh = TBG_TAKE(arena, float, N *hp);
    w->dha = TBG_TAKE(arena, float, N * 2 * hp);
    w->dab = TBG_TAKE(arena, float, N * 2 * hp);
    w->dnode = TBG_TAKE(arena, float, N *hp);
    w->dfeatures = TBG_TAKE(arena, float, E *ke);
}

int tbg_cpu_work_ensure(const tbg_cpu_net *net, int max_atoms, int level, tbg_cpu_work *work) {
    if (work->block && (work->level & level) == level)
        return TBG_OK;
    level |= work->block ? work->level : 0;
    tbg_cpu_work next = {.level = level};
    const size_t N = (size_t)max_atoms;
    const size_t all = (size_t)net->layers * 3 * N * N * (size_t)net->hp * sizeof(float);
    next.keep = all <= tbg_cpu_most_stored;
    tbg_arena arena = {NULL, 0, 0};
    carve(net, max_atoms, level, &next, &arena);
    next.block = tbg_alloc(arena.used, 1);
    if (!next.block)
        return TBG_FAILED;
    arena = (tbg_arena){next.block, 0, arena.used};
    carve(net, max_atoms, level, &next, &arena);
    free(work->block);
    *work = next;
    return TBG_OK;
}

void tbg_cpu_work_release(tbg_cpu_work *work) {
    free(work->block);
    work->block = NULL;
}

static void list_edges(tbg_cpu_work *work, int n) {
    if (work->listed == n)
        return;
    int e = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (j != i) {
                work->receiver[e] = i;
                work->sender[e++] = j;
            }
    work->listed = n;
}

void tbg_cpu_work_load(const tbg_cpu_net *net, tbg_cpu_work *work, const tbg_conditioning *molecule, double t,
                       const double *x, int slopes) {
    const tbg_network_spec *spec = &net->spec;
    const int n = molecule->n_atoms, ke = net->ke, nf = spec->n_features;
    const size_t E = (size_t)work->capacity;
    work->n = n;
    work->n_edges = n * (n - 1);
    list_edges(work, n);
    double u = spec->time_u ? tbg_u_of_time(spec->graded_d, t) : 0;
    for (int i = 0; i < n; i++) {
        double *in = work->inputs + (size_t)i * (size_t)net->n_in;
        memcpy(in, molecule->node_features + (size_t)i * (size_t)nf, sizeof(double) * (size_t)nf);
        in[nf] = t;
        if (spec->time_u)
            in[nf + 1] = u;
        for (int a = 0; a < 3; a++)
            work->x[a * n + i] = x[3 * i + a];
    }
    /* Both directions of a pair share their features. Unbonded pairs have the squared distance and nothing
     * else unless the radial basis is on. */
    const int d0 = spec->edge_features & TBG_EDGE_D0, radial = spec->edge_features & TBG_EDGE_RADIAL;
    double value[64], slope[64];
    int n_harmonic = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            if (i == j)
                continue;
            size_t e = (size_t)(i * (n - 1) + (j > i ? j - 1 : j)), at = e * (size_t)ke;
            size_t ij = (size_t)i * (size_t)n + (size_t)j;
            int class = molecule->bond_class[ij],
                harmonic = spec->harmonic_term && (class == 1 || class == 2);
            work->harmonic_of[e] = harmonic ? n_harmonic : -1;
            if (i < j || harmonic || slopes) {
                double dx = x[3 * i] - x[3 * j], dy = x[3 * i + 1] - x[3 * j + 1],
                       dz = x[3 * i + 2] - x[3 * j + 2];
                double r2 = dx * dx + dy * dy + dz * dz;
                double r = class || radial || slopes ? sqrt(r2) : 0;
                if (class || radial) {
                    if (i < j)
                        tbg_edge_features(spec, t, r, class, molecule->pair_mean[ij],
                                          molecule->pair_width[ij], value, slope);
                } else if (i < j) {
                    memset(value, 0, sizeof(double) * (size_t)net->n_edge);
                    memset(slope, 0, sizeof(double) * (size_t)net->n_edge);
                    if (d0) {
                        value[0] = r2;
                        slope[0] = 2 * r;
                    }
                }
                double inverse = r > 0 ? 1 / r : 0;
                if (slopes) {
                    work->inverse_r[e] = (float)inverse;
                    work->unit[e] = (float)(dx * inverse);
                    work->unit[E + e] = (float)(dy * inverse);
                    work->unit[2 * E + e] = (float)(dz * inverse);
                }
                if (harmonic) {
                    double rho, rho_slope;
                    tbg_harmonic_rate(spec, t, r, molecule->pair_mean[ij], molecule->pair_width[ij], &rho,
                                      &rho_slope);
                    work->push[e] = (float)(rho * dx * inverse);
                    work->push[E + e] = (float)(rho * dy * inverse);
                    work->push[2 * E + e] = (float)(rho * dz * inverse);
                    if (slopes) {
                        work->push_rho[e] = (float)rho;
                        work->push_slope[e] = (float)rho_slope;
                    }
                    work->harmonic[n_harmonic++] = (int)e;
                }
            }
            if (i < j) {
                size_t back = (size_t)(j * (n - 1) + i) * (size_t)ke;
                for (int k = 1; k < ke; k++)
                    work->features[at + (size_t)k] = work->features[back + (size_t)k] = (float)value[k - 1];
                if (slopes) {
                    work->feature_slope[at] = work->feature_slope[back] = 0;
                    for (int k = 1; k < ke; k++)
                        work->feature_slope[at + (size_t)k] = work->feature_slope[back + (size_t)k] =
                            (float)slope[k - 1];
                }
            }
        }
    work->n_harmonic = n_harmonic;
}
