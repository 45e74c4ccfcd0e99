/* bench/energy.c: how fast the batched energies are, on one core: evaluations a second, nanoseconds a pair,
 * the share of the machine's peak, on every instruction set; and, where Debian's OpenMM for Python is there,
 * how many times faster than OpenMM on the same molecule in the same run (bench/openmm_peer.py): force
 * evaluations against its evaluations, dynamics against its dynamics (64 conformations here, one there). At
 * the end, through the engine and on all threads, energies of 10,000 conformations of a dipeptide, and of 50
 * each of 200 dipeptides in one call (wall clock).
 *
 * usage: bench_energy [--no-peer] [SEQUENCE FORCEFIELD]...
 * Times are processor time of the one thread, the best of many short stretches: other work on the machine
 * disturbs them little. */
#include "base/memory.h"
#include "base/progress.h"
#include "base/simd.h"
#include "dynamics/source.h"
#include "energy/batch_layout.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Floating-point operations of one lane, counted in batch_kernel.h (a multiply-add is two, an estimate of 1/x
 * or 1/sqrt(x) one), energy and forces; what pairs whose spheres overlap take besides is left out. */
enum {
    FLOPS_DISTANCE = 16,    /* d, r^2, 1/r, 1/r^2 */
    FLOPS_PLAIN = 8,        /* Lennard-Jones and Coulomb */
    FLOPS_APPLY = 12,       /* forces of a pair on two atoms */
    FLOPS_GB = 55 + 40 + 8, /* two integrals; energy and derivatives; chain rule */
    FLOPS_BOND = 32,
    FLOPS_ANGLE = 135,
    FLOPS_TORSION = 190
};

static double flops(const tbg_batch_system *b) {
    double plain = 0, all = b->n_pairs;
    for (int i = 0; i < b->n_atoms; i++)
        plain += b->row[3 * i + 2] - b->row[3 * i];
    return plain * FLOPS_PLAIN + all * (FLOPS_DISTANCE + FLOPS_APPLY + (b->gb ? FLOPS_GB : 0)) +
           b->n_bonds * FLOPS_BOND + b->n_angles * FLOPS_ANGLE + (b->n_cosines + b->n_waves) * FLOPS_TORSION;
}

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- peak: independent multiply-adds in registers ---- */
#define PEAK(name, set, bytes)                                                                               \
    __attribute__((target(set), noinline)) static double name(long n) {                                      \
        typedef float vec __attribute__((vector_size(bytes)));                                               \
        vec m = (vec){0} + 0.999f, c = (vec){0} + 0.001f, a0 = c, a1 = c + 1, a2 = c + 2, a3 = c + 3,        \
            a4 = c + 4, a5 = c + 5, a6 = c + 6, a7 = c + 7, a8 = c + 8, a9 = c + 9;                          \
        for (long r = 0; r < n; r++) {                                                                       \
            a0 = a0 * m + c, a1 = a1 * m + c, a2 = a2 * m + c, a3 = a3 * m + c, a4 = a4 * m + c;             \
            a5 = a5 * m + c, a6 = a6 * m + c, a7 = a7 * m + c, a8 = a8 * m + c, a9 = a9 * m + c;             \
        }                                                                                                    \
        vec sum = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)) + (a8 + a9);                             \
        volatile float sink = sum[0];                                                                        \
        (void)sink;                                                                                          \
        return 20.0 * (bytes) / 4 * (double)n;                                                               \
    }
#if defined(__x86_64__)
PEAK(peak_base, "sse2", 16)
PEAK(peak_avx2, "avx2,fma", 32)
PEAK(peak_avx512, "avx512f", 64)
#else
PEAK(peak_base, "arch=armv8-a", 16)
#define peak_avx2 peak_base
#define peak_avx512 peak_base
#endif

static double peak_gflops(int level) {
    double (*run)(long) = level == TBG_SIMD_AVX512 ? peak_avx512
                          : level == TBG_SIMD_AVX2 ? peak_avx2
                                                   : peak_base;
    double best = 0;
    for (int k = 0; k < 20; k++) {
        double t = processor_seconds(), done = run(200000);
        t = processor_seconds() - t;
        best = done / t > best ? done / t : best;
    }
    return best * 1e-9;
}

/* ---- kernels ---- */

typedef struct {
    const tbg_batch_system *s;
    float *x, *f;
    double *xd, *fd, energy[TBG_LANES];
    void *workspace;
} job;

static void energy_forces(job *j) {
    tbg_batch_evaluate(j->s, j->x, j->f, j->energy, NULL, j->workspace);
}
static void forces_only(job *j) {
    tbg_batch_evaluate(j->s, j->x, j->f, NULL, NULL, j->workspace);
}
static void energy_only(job *j) {
    tbg_batch_evaluate(j->s, j->x, NULL, j->energy, NULL, j->workspace);
}
static void double_forces(job *j) {
    tbg_batch_evaluate_double(j->s, j->xd, j->fd, j->energy, NULL, j->workspace);
}
static void double_energy(job *j) {
    tbg_batch_evaluate_double(j->s, j->xd, NULL, j->energy, NULL, j->workspace);
}

/* Seconds per block. */
static double best_time(void (*run)(job *), job *j) {
    double best = 1e9;
    int repeats = 1;
    for (int k = 0; k < 60; k++) {
        double t = processor_seconds();
        for (int r = 0; r < repeats; r++)
            run(j);
        t = processor_seconds() - t;
        if (t < 1e-3 && k < 20) {
            repeats *= 2;
            continue;
        }
        if (t / repeats < best)
            best = t / repeats;
    }
    return best;
}

static double measure(const tbg_system *system, const tbg_molecule *molecule, int level, double peak) {
    static const struct {
        const char *name;
        void (*run)(job *);
    } kinds[] = {{"float, energy + forces", energy_forces},
                 {"float, forces", forces_only},
                 {"float, energy", energy_only},
                 {"double, energy + forces", double_forces},
                 {"double, energy", double_energy}};
    setenv("TBG_SIMD", tbg_simd_name(level), 1);
    tbg_batch_system *b;
    if (tbg_batch_system_create(system, &b) != TBG_OK) {
        fprintf(stderr, "%s\n", tbg_message());
        exit(1);
    }
    size_t n = 3 * (size_t)system->n_atoms * TBG_LANES;
    job j = {.s = b,
             .x = TBG_NEW(float, n),
             .f = TBG_NEW(float, n),
             .xd = TBG_NEW(double, n),
             .fd = TBG_NEW(double, n)};
    j.workspace = tbg_alloc(tbg_batch_workspace_size(b), 1);
    tbg_random_normal(1, 2, 0, n, j.xd);
    for (size_t k = 0; k < n; k++)
        j.x[k] =
            (float)(j.xd[k] = molecule->positions[k / TBG_LANES / 3][k / TBG_LANES % 3] + 0.004 * j.xd[k]);
    double fastest = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        double t = best_time(kinds[k].run, &j);
        printf("  %-7s %-24s %10.0f /s  %7.2f ns/pair", tbg_simd_name(level), kinds[k].name, TBG_LANES / t,
               1e9 * t / TBG_LANES / b->n_pairs);
        if (k == 0)
            printf("  %6.1f GFLOP/s, %2.0f %% of %.0f", flops(b) * TBG_LANES / t * 1e-9,
                   100e-9 * flops(b) * TBG_LANES / t / peak, peak);
        printf("\n");
        if (k == 1)
            fastest = TBG_LANES / t;
    }
    free(j.x);
    free(j.f);
    free(j.xd);
    free(j.fd);
    free(j.workspace);
    tbg_batch_system_free(b);
    unsetenv("TBG_SIMD");
    return fastest;
}

/* Langevin steps a second, all lanes together, as `tbg simulate` does them. */
static double dynamics(const tbg_system *system, const tbg_molecule *molecule) {
    enum { LANES = 4 * TBG_LANES, STEPS = 200 };
    tbg_force_source source;
    tbg_source_owner *owner;
    tbg_lanes *lanes;
    if (tbg_force_source_create(system, &source, &owner) != TBG_OK ||
        tbg_lanes_create(&source, system->mass, LANES, 0.0005, 1, 1, 1, &lanes) != TBG_OK) {
        fprintf(stderr, "bench_energy: %s\n", tbg_message());
        exit(1);
    }
    for (int l = 0; l < LANES; l++) {
        lanes->temperature[l] = 300;
        tbg_lanes_set_positions(lanes, l, molecule->positions[0]);
        tbg_lanes_draw_velocities(lanes, l, 0);
    }
    double best = 0;
    for (int k = 0; k < 20; k++) {
        double t = processor_seconds();
        tbg_lanes_advance(lanes, STEPS);
        t = processor_seconds() - t;
        best = LANES * STEPS / t > best ? LANES * STEPS / t : best;
    }
    tbg_lanes_free(lanes);
    tbg_force_source_free(owner);
    printf("  %-7s %-24s %10.0f /s\n", tbg_simd_name(tbg_simd_level()), "float, dynamics", best);
    return best;
}

/* ---- the peer: prints lines "platform what per-second" ---- */
static void compare(const tbg_molecule *molecule, const char *forcefield, double ours, double steps) {
    char path[] = "/tmp/tbg-bench-XXXXXX.pdb", command[1024];
    int fd = mkstemps(path, 4);
    if (fd < 0 || tbg_molecule_write_pdb(molecule, NULL, path) != TBG_OK)
        return;
    snprintf(command, sizeof command, "/usr/bin/python3 %s/bench/openmm_peer.py %s %s 2>/dev/null",
             TBG_SOURCE_DIR, path, forcefield);
    FILE *peer = popen(command, "r");
    char platform[64], what[64];
    double rate;
    while (peer && fscanf(peer, "%63s %63s %lf", platform, what, &rate) == 3) {
        int moves = !strcmp(what, "dynamics");
        printf("  OpenMM %-10s %-18s %9.0f /s, %s here: %6.0f times\n", platform, what, rate,
               moves ? "dynamics" : "float forces", (moves ? steps : ours) / rate);
    }
    if (peer)
        pclose(peer);
    remove(path);
}

static int run(const char *sequence, const char *forcefield, int peer) {
    tbg_molecule *molecule;
    tbg_system *system;
    if (tbg_molecule_from_sequence(sequence, &molecule) != TBG_OK ||
        tbg_system_create(molecule, forcefield, -1, &system) != TBG_OK) {
        fprintf(stderr, "bench_energy: %s\n", tbg_message());
        return 1;
    }
    printf("%s, %s, %d atoms, %d pairs\n", sequence, forcefield, system->n_atoms,
           system->n_atoms * (system->n_atoms - 1) / 2);
    double ours = 0;
    for (int level = tbg_simd_level(), l = level; l >= 0; l--) {
        double rate = measure(system, molecule, l, peak_gflops(l));
        ours = l == level ? rate : ours;
    }
    double steps = dynamics(system, molecule);
    if (peer)
        compare(molecule, forcefield, ours, steps);
    tbg_system_free(system);
    tbg_molecule_free(molecule);
    return 0;
}

/* `each` conformations of each of n dipeptides in one call; the time by the wall clock. */
static int together(int n, int each) {
    static const char letters[] = "ACDEFGHIKLMNPQRSTVWY";
    tbg_molecule **molecules = TBG_NEW(tbg_molecule *, n);
    tbg_system **systems = TBG_NEW(tbg_system *, n);
    tbg_energy_task *tasks = TBG_NEW(tbg_energy_task, n);
    double *x = NULL, *energies = TBG_NEW(double, (size_t)n *(size_t)each), best = 1e9;
    size_t total = 0;
    if (!molecules || !systems || !tasks || !energies)
        return 1;
    for (int k = 0; k < n; k++) {
        char sequence[3] = {letters[n > 1 ? k % 20 : 9], letters[n > 1 ? k / 20 % 20 : 16], 0};
        if (tbg_molecule_from_sequence(sequence, &molecules[k]) != TBG_OK ||
            tbg_system_create(molecules[k], "amber14-obc1", -1, &systems[k]) != TBG_OK ||
            tbg_engine_create("native", molecules[k], systems[k], 0, &tasks[k].engine) != TBG_OK) {
            fprintf(stderr, "bench_energy: %s\n", tbg_message());
            return 1;
        }
        total += 3 * (size_t)molecules[k]->n_atoms * (size_t)each;
    }
    x = TBG_NEW(double, total);
    if (!x)
        return 1;
    tbg_random_normal(1, 3, 0, total, x);
    double *at = x;
    for (int k = 0; k < n; k++) {
        size_t size = 3 * (size_t)molecules[k]->n_atoms;
        tasks[k].n = each;
        tasks[k].positions = at;
        tasks[k].energies = energies + (size_t)k * (size_t)each;
        for (int c = 0; c < each; c++)
            for (size_t d = 0; d < size; d++, at++)
                *at = molecules[k]->positions[d / 3][d % 3] + 0.004 * *at;
    }
    for (int r = 0; r < 5; r++) {
        double t = tbg_seconds();
        if (tbg_energies(n, tasks, 0) != TBG_OK)
            return 1;
        t = tbg_seconds() - t;
        best = t < best ? t : best;
    }
    printf("%d dipeptides x %d conformations, one call, all threads: %.4f s\n", n, each, best);
    for (int k = 0; k < n; k++) {
        tbg_engine_free(tasks[k].engine);
        tbg_system_free(systems[k]);
        tbg_molecule_free(molecules[k]);
    }
    free(molecules);
    free(systems);
    free(tasks);
    free(energies);
    free(x);
    return 0;
}

int main(int argc, char **argv) {
    int peer = 1, first = 1, status = 0;
    if (argc > 1 && !strcmp(argv[1], "--no-peer"))
        peer = 0, first = 2;
    if (first >= argc) {
        status |= run("ACE-ALA-NME", "amber99sbildn-obc", peer);
        status |= run("AC", "amber14-obc1", peer);
        status |= run("LT", "amber14-obc1", peer);
        status |= run("WR", "amber14-obc1", peer);
        status |= together(1, 10000);
        status |= together(200, 50);
    }
    for (int a = first; a + 1 < argc; a += 2)
        status |= run(argv[a], argv[a + 1], peer);
    return status;
}
