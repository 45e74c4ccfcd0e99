/* toy.h: two atoms whose energy is a double well of their distance r: Z(y) is an integral over r, x given y
 * can be drawn exactly, and the annealing has something to do: the harmonic approximation is poor. */
#ifndef TBG_TESTS_ANNEAL_TOY_H
#define TBG_TESTS_ANNEAL_TOY_H
#include "energy/engine.h"
#include "tbg/anneal.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOY_MIDDLE 0.15 /* nm, between the wells */
#define TOY_WELL 0.012  /* from there to the wells */
#define TOY_BARRIER 0.3 /* kT */
#define TOY_TILT 0.1    /* kT, half of the difference between the wells */
#define TOY_SMOOTHING 0.02
#define TOY_KT (TBG_BOLTZMANN * 300)

static double toy_distance(const double *x) {
    return sqrt(pow(x[0] - x[3], 2) + pow(x[1] - x[4], 2) + pow(x[2] - x[5], 2));
}

/* Reduced; *slope: du/dr. */
static double toy_energy(double r, double *slope) {
    double t = (r - TOY_MIDDLE) / TOY_WELL;
    if (slope)
        *slope = (4 * TOY_BARRIER * t * (t * t - 1) - TOY_TILT) / TOY_WELL;
    return TOY_BARRIER * (t * t - 1) * (t * t - 1) - TOY_TILT * t;
}

static int toy_evaluate(tbg_engine *engine, long n, const double *x, double *energies, double *forces,
                        double *components) {
    (void)engine;
    (void)components;
    for (long i = 0; i < n; i++, x += 6) {
        double r = toy_distance(x), slope;
        energies[i] = TOY_KT * toy_energy(r, &slope);
        for (int d = 0; d < 3 && forces; d++) {
            double f = -TOY_KT * slope * (x[d] - x[3 + d]) / r;
            forces[6 * i + d] = f;
            forces[6 * i + 3 + d] = -f;
        }
    }
    return TBG_OK;
}

static inline tbg_engine toy_engine(void) {
    return (tbg_engine){.name = "toy", .n_atoms = 2, .threads = 1, .evaluate = toy_evaluate};
}

static inline tbg_anneal_options toy_anneal(int replicas, int stages, int steps) {
    tbg_anneal_options o;
    tbg_anneal_defaults(&o);
    o.smoothing = TOY_SMOOTHING;
    o.temperature = 300;
    o.replicas = replicas;
    o.stages = stages;
    o.steps = steps;
    o.threads = 1;
    return o;
}

/* Z of a y whose atoms are d apart, of noise s per coordinate, where only r from low to high counts. The
 * density of r where x1 - x2 is normal around a vector of length d; times exp(-u), integrated. mean: of r
 * given y, or NULL. */
static inline double toy_integral(double d, double s, double low, double high, double *mean) {
    const double variance = 2 * s * s, h = 1e-5;
    double sum = 0, first = 0;
    for (double r = low + 0.5 * h; r < fmin(high, d + 0.4); r += h) {
        double w = h * exp(-toy_energy(r, NULL)) * r / d / sqrt(2 * M_PI * variance) *
                   (exp(-0.5 * (r - d) * (r - d) / variance) - exp(-0.5 * (r + d) * (r + d) / variance));
        sum += w;
        first += w * r;
    }
    if (mean)
        *mean = first / sum;
    return sum;
}

static inline double toy_z(double d) {
    return toy_integral(d, TOY_SMOOTHING, 0, INFINITY, NULL);
}

/* Configurations and what is said of them. */
typedef struct {
    long n;
    double *x, *y;
    uint64_t *number;
    tbg_anneal_result *result;
} toy_set;
static inline toy_set toy_make_set(long n) {
    toy_set s = {n, calloc((size_t)n * 6, sizeof(double)), calloc((size_t)n * 6, sizeof(double)),
                 calloc((size_t)n, sizeof(uint64_t)), calloc((size_t)n, sizeof(tbg_anneal_result))};
    assert_true(s.x && s.y && s.number && s.result);
    for (long i = 0; i < n; i++)
        s.number[i] = (uint64_t)(7 * i + 1000000);
    return s;
}
static inline void toy_drop_set(toy_set s) {
    free(s.x);
    free(s.y);
    free(s.number);
    free(s.result);
}

/* x given y by rejection; its mean removed. */
static inline void toy_draw(uint64_t number, const double *y, double *x) {
    const double least = -1.2 * TOY_TILT; /* below the minimum of u */
    for (uint64_t attempt = 0;; attempt++) {
        double z[6], uniform;
        tbg_random_normal(21, TBG_STREAM(TBG_STREAM_TEST, number), 16 * attempt, 6, z);
        tbg_random_uniform(21, TBG_STREAM(TBG_STREAM_TEST, number), 16 * attempt + 8, 1, &uniform);
        for (int k = 0; k < 6; k++)
            x[k] = y[k] + TOY_SMOOTHING * z[k];
        if (uniform < exp(least - toy_energy(toy_distance(x), NULL)))
            break;
    }
    for (int d = 0; d < 3; d++) {
        double mean = 0.5 * (x[d] + x[3 + d]);
        x[d] -= mean;
        x[3 + d] -= mean;
    }
}

/* Two atoms at a distance, the direction by number, the mean 0. */
static inline void toy_place(uint64_t number, double r, double *x) {
    double z[3], length;
    tbg_random_normal(22, TBG_STREAM(TBG_STREAM_TEST, number), 0, 3, z);
    length = sqrt(z[0] * z[0] + z[1] * z[1] + z[2] * z[2]);
    for (int d = 0; d < 3; d++) {
        x[d] = 0.5 * r * z[d] / length;
        x[3 + d] = -x[d];
    }
}
#endif
