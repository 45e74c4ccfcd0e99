/* group_step.h: Langevin steps and replica exchange by a group of threads, shared by the device
 * (cuda_dynamics.cu) and its emulation on the host (tests/dynamics/test_group.c). The scheme, the addresses
 * of the random numbers and the order of exchanges are those of integrator.h and exchange.h: the same seed
 * gives the same noise as on the processor. */
#ifndef TBG_DYNAMICS_GROUP_STEP_H
#define TBG_DYNAMICS_GROUP_STEP_H
#include "dynamics/normal_series.h"
#include "energy/group_both.h"
#include "tbg/random.h"

/* A conformation: what stays the same, and where its state is. */
typedef struct {
    int32_t system; /* index of its layout */
    int32_t number; /* lane within its simulation: part of the random numbers' address */
    int32_t run;    /* index of its run */
    int64_t at;     /* of its first coordinate in x and v */
    uint64_t seed;
} tbg_group_lane;

/* A ladder of replicas: lanes first .. first + n_replicas - 1. */
typedef struct {
    int32_t first, n_replicas, number; /* number: the run within its simulation */
    int32_t at_pair;                   /* of its n_replicas - 1 counters in attempts and accepts */
    int64_t at_temperature;            /* of its ladder in temperatures */
    uint64_t seed;
} tbg_group_run;

typedef struct {
    float half_step, step, keep, noise2; /* dt/2, dt, a = exp(-friction dt), (1 - a^2) k; ps, kJ/mol/K */
    int stochastic;
} tbg_group_constants;

/* Philox-4x32-10. */
TBG_HD void tbg_group_words(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t w[4]) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32), k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0, w[1] = c1, w[2] = c2, w[3] = c3;
}

TBG_HD int32_t tbg_bits_of(float x) {
#ifdef __CUDACC__
    return __float_as_int(x);
#else
    union {
        float f;
        int32_t i;
    } u = {x};
    return u.i;
#endif
}
TBG_HD float tbg_float_of(int32_t bits) {
#ifdef __CUDACC__
    return __int_as_float(bits);
#else
    union {
        int32_t i;
        float f;
    } u = {bits};
    return u.f;
#endif
}

TBG_DEFINE_NORMAL_SERIES(TBG_HD, tbg_group_log1p, tbg_group_turn, float)

/* As integrator_simd.c, so that a number differs by no more than rounding. */
TBG_HD float tbg_group_radius(uint32_t word) {
    float u = ((float)(int32_t)(word >> 1) + 0.5f) * 0x1p-31f;
    int32_t bits = tbg_bits_of(u), e = (bits - 0x3f3504f3) >> 23;
    float f = tbg_float_of(bits - e * (1 << 23)) - 1.0f;
    float t = ((float)e * 0.69314718f + tbg_group_log1p(f)) * -2.0f;
    return sqrtf(t > 0 ? t : 0.0f);
}

TBG_HD void tbg_group_direction(uint32_t word, float *a, float *b) {
    float y = (float)(int32_t)(word << 2) * (float)(0.78539816339744831 * 0x1p-31), s, c;
    tbg_group_turn(y, &s, &c);
    c = word >> 31 ? -c : c;
    int exchange = word >> 30 & 1;
    *a = exchange ? s : c;
    *b = exchange ? c : s;
}

TBG_HD void tbg_group_normals(uint64_t seed, int lane, uint64_t counter, float out[4]) {
    uint32_t w[4];
    tbg_group_words(seed, TBG_STREAM(TBG_STREAM_LANGEVIN, lane), counter, w);
    for (int k = 0; k < 4; k += 2) {
        float r = tbg_group_radius(w[k]), a, b;
        tbg_group_direction(w[k + 1], &a, &b);
        out[k] = r * a;
        out[k + 1] = r * b;
    }
}

/* One step after the forces: a thread takes quartets of components. */
TBG_HD void tbg_group_move(const gf_group *c, int t, const tbg_group_constants *k, const tbg_group_lane *lane,
                           float temperature, int64_t step, float *v) {
    const int n = 3 * c->s->n_atoms, quartets = (n + 3) / 4;
    const float *inverse = c->r + c->s->r_atom + TBG_GROUP_INV_MASS * c->s->n_atoms,
                *inverse_root = c->r + c->s->r_atom + TBG_GROUP_INV_ROOT_MASS * c->s->n_atoms;
    const float sigma = sqrtf(k->noise2 * temperature);
    for (int q = t; q < quartets; q += TBG_GROUP) {
        float xi[4];
        if (k->stochastic)
            tbg_group_normals(lane->seed, lane->number, (uint64_t)step * (uint64_t)quartets + (uint64_t)q,
                              xi);
        for (int m = 0; m < 4; m++) {
            int j = 4 * q + m, atom = j / 3;
            if (j >= n)
                break;
            float before = v[j] + c->f[j] * (k->step * inverse[atom]);
            float after = k->stochastic ? before * k->keep + sigma * inverse_root[atom] * xi[m] : before;
            c->x[j] += (before + after) * k->half_step;
            v[j] = after;
        }
    }
}

TBG_HD void tbg_group_copy(int t, int n, const float *from, float *to) {
    for (int j = t; j < n; j += TBG_GROUP)
        to[j] = from[j];
}

/* Threads 0, 1, 2 take an axis each. */
TBG_HD void tbg_group_center(const gf_group *c, int t) {
    if (t >= 3)
        return;
    double centre = 0;
    for (int i = 0; i < c->s->n_atoms; i++)
        centre += (double)c->x[3 * i + t];
    for (int i = 0; i < c->s->n_atoms; i++)
        c->x[3 * i + t] -= (float)(centre / c->s->n_atoms);
}

TBG_HD void tbg_group_post_total(int t, const double *components, double *total) {
    if (t == 0) {
        double sum = 0;
        for (int k = 0; k < TBG_E_N; k++)
            sum += components[k];
        *total = sum;
    }
}

/* n_steps steps of one conformation. memory: tbg_group_dynamics_reals floats, 8-byte aligned. x, v: its
 * state. center: afterwards put the centroid to the origin; energy: or NULL, then that of the last positions.
 * components: [TBG_E_N] of memory that the group shares, used with energy. */
TBG_HD void tbg_group_advance(gf_group *c, float *memory, const tbg_group_constants *k,
                              const tbg_group_lane *lane, float temperature, int64_t step, int64_t n_steps,
                              int center, float *x, float *v, double *energy, double *components) {
    float *own_v = gf_carve(c, memory);
    const int n = 3 * c->s->n_atoms;
    TBG_EACH(c, t, tbg_group_copy(t, n, x, c->x); tbg_group_copy(t, n, v, own_v));
    for (int64_t m = 0; m < n_steps; m++) {
        gf_evaluate(c, 0, 1, components);
        TBG_EACH(c, t, tbg_group_move(c, t, k, lane, temperature, step + m, own_v));
    }
    if (center)
        TBG_EACH(c, t, tbg_group_center(c, t));
    if (energy) {
        gf_evaluate(c, 1, 0, components);
        TBG_EACH(c, t, tbg_group_post_total(t, components, energy));
    }
    TBG_EACH(c, t, tbg_group_copy(t, n, c->x, x); tbg_group_copy(t, n, own_v, v));
}

/* ---- replica exchange: one thread a run (exchange.c), then all scale velocities ---- */

typedef struct {
    const double *temperatures;                /* ladders of all simulations */
    const double *energy;                      /* [lanes] kJ/mol */
    int32_t *level, *end;                      /* [lanes] */
    double *factor;                            /* [lanes] out: by which velocities are to be multiplied */
    int64_t *attempts, *accepts, *round_trips; /* [pairs], [pairs], [runs] */
} tbg_group_exchange;

TBG_HD void tbg_group_arrive(const tbg_group_exchange *e, const tbg_group_run *r, int run, int lane) {
    if (r->n_replicas < 2)
        return;
    if (e->level[lane] == r->n_replicas - 1 && e->end[lane] == 1)
        e->end[lane] = 2;
    else if (e->level[lane] == 0) {
        if (e->end[lane] == 2)
            e->round_trips[run]++;
        e->end[lane] = 1;
    }
}

/* As tbg_random_uniform(seed, stream, number, 1, .). */
TBG_HD double tbg_group_uniform(uint64_t seed, uint64_t stream, uint64_t number) {
    uint32_t w[4];
    tbg_group_words(seed, stream, number >> 1, w);
    int k = (int)(number & 1);
    uint64_t bits = ((uint64_t)w[2 * k + 1] << 32 | w[2 * k]) >> 12;
    return ((double)bits + 0.5) * 0x1p-52;
}

TBG_HD void tbg_group_exchange_run(const tbg_group_exchange *e, const tbg_group_run *r, int run,
                                   int64_t round) {
    const double *T = e->temperatures + r->at_temperature;
    for (int low = (int)(round & 1); low + 1 < r->n_replicas; low += 2) {
        int a = -1, b = -1;
        for (int l = r->first; l < r->first + r->n_replicas; l++) {
            a = e->level[l] == low ? l : a;
            b = e->level[l] == low + 1 ? l : b;
        }
        double exponent =
            (1 / (TBG_BOLTZMANN * T[low]) - 1 / (TBG_BOLTZMANN * T[low + 1])) * (e->energy[a] - e->energy[b]);
        double u = tbg_group_uniform(
            r->seed, TBG_STREAM(TBG_STREAM_EXCHANGE, (int64_t)r->number * (r->n_replicas - 1) + low),
            (uint64_t)round);
        e->attempts[r->at_pair + low]++;
        if (!(u < exp(exponent)))
            continue;
        e->accepts[r->at_pair + low]++;
        e->level[a] = low + 1;
        e->factor[a] = sqrt(T[low + 1] / T[low]);
        tbg_group_arrive(e, r, run, a);
        e->level[b] = low;
        e->factor[b] = sqrt(T[low] / T[low + 1]);
        tbg_group_arrive(e, r, run, b);
    }
}

TBG_HD void tbg_group_reset_run(const tbg_group_exchange *e, const tbg_group_run *r, int run) {
    for (int k = 0; k + 1 < r->n_replicas; k++)
        e->attempts[r->at_pair + k] = e->accepts[r->at_pair + k] = 0;
    e->round_trips[run] = 0;
    for (int l = r->first; l < r->first + r->n_replicas; l++) {
        e->end[l] = 0;
        tbg_group_arrive(e, r, run, l);
    }
}

static inline size_t tbg_group_dynamics_reals(const tbg_group_layout *s) {
    return (tbg_group_reals(s) + 3 * (size_t)s->n_atoms + 3) / 4 * 4;
}
#endif
