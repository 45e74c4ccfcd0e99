/* scaling.c: how the cost of a velocity and of an exact divergence grows with the number of atoms.
 *
 * usage: bench_scaling [H L SECONDS [SEQ...]]; one thread, processor time, best of several repeats (so that a
 * busy machine disturbs little), improved field with element features, fresh weights. Ends with the exponents
 * of a fit in logarithms. */
#include "base/memory.h"
#include "tbg/network.h"
#include "tbg/random.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one velocity [0] and one divergence [1]. */
static int measure(const char *sequence, int hidden, int layers, double seconds, int *n_atoms,
                   double best[2]) {
    tbg_molecule *molecule = NULL;
    tbg_system *system = NULL;
    tbg_model *model = NULL;
    tbg_conditioning *conditioning = NULL;
    tbg_session *session = NULL;
    tbg_network_spec spec;
    double *x = NULL, t = 0.5, divergence;
    int status = tbg_network_preset("improved-ad", &spec);
    spec.hidden = hidden;
    spec.layers = layers;
    spec.scale = 6;
    spec.features = TBG_FEATURES_ELEMENT;
    spec.n_features = tbg_feature_set_width(spec.features);
    if (!status)
        status = tbg_molecule_load(sequence, &molecule);
    if (!status)
        status = tbg_system_create(molecule, "amber14-obc1", -1, &system);
    if (!status)
        status = tbg_model_create(&spec, 1, &model);
    if (!status)
        status = tbg_conditioning_create(&spec, molecule, system, 310, &conditioning);
    if (!status)
        status = tbg_session_create(model, NULL, molecule->n_atoms, 1, &session);
    size_t n3 = status ? 0 : 3 * (size_t)molecule->n_atoms;
    if (!status && !(x = TBG_NEW(double, 2 * n3)))
        status = TBG_FAILED;
    if (!status) {
        *n_atoms = molecule->n_atoms;
        tbg_random_normal(1, TBG_STREAM(TBG_STREAM_TEST, 0), 0, n3, x);
    }
    const tbg_conditioning *c = conditioning;
    for (int what = 0; what < 2 && !status; what++) {
        double start = processor_seconds();
        best[what] = INFINITY;
        for (int k = 0; k < 3 || processor_seconds() - start < seconds; k++) {
            int repeats = what ? 1 : 10;
            double begin = processor_seconds();
            for (int r = 0; r < repeats && !status; r++)
                status = what ? tbg_network_divergence(session, 1, &c, &t, x, x + n3, &divergence)
                              : tbg_network_velocity(session, 1, &c, &t, x, x + n3);
            best[what] = fmin(best[what], (processor_seconds() - begin) / repeats);
        }
    }
    free(x);
    tbg_session_free(session);
    tbg_conditioning_free(conditioning);
    tbg_model_free(model);
    tbg_system_free(system);
    tbg_molecule_free(molecule);
    return status;
}

int main(int argc, char **argv) {
    static const char *const usual[] = {"AG",    "AA",      "KS",         "WW",
                                        "AAAAA", "AAAAAAA", "AAAAAAAAAA", "KAEGLTSVFA"};
    int hidden = argc > 1 ? atoi(argv[1]) : 64, layers = argc > 2 ? atoi(argv[2]) : 5;
    double seconds = argc > 3 ? atof(argv[3]) : 1, sx = 0, sxx = 0, sy[2] = {0}, sxy[2] = {0};
    int n = argc > 4 ? argc - 4 : (int)(sizeof usual / sizeof *usual);
    printf("| molecule | atoms | velocities / s | divergences / s | a divergence in velocities | sample (94, "
           "51), s |\n"
           "|---|---|---|---|---|---|\n");
    for (int i = 0; i < n; i++) {
        const char *sequence = argc > 4 ? argv[4 + i] : usual[i];
        int atoms = 0;
        double best[2];
        if (measure(sequence, hidden, layers, seconds, &atoms, best)) {
            fprintf(stderr, "bench_scaling: %s\n", tbg_message());
            return 1;
        }
        printf("| %s | %d | %.4g | %.3g | %.1f | %.3g |\n", sequence, atoms, 1 / best[0], 1 / best[1],
               best[1] / best[0], 94 * best[0] + 51 * best[1]);
        fflush(stdout);
        double lx = log(atoms);
        sx += lx;
        sxx += lx * lx;
        for (int w = 0; w < 2; w++) {
            sy[w] += log(best[w]);
            sxy[w] += lx * log(best[w]);
        }
    }
    if (n > 1)
        printf("exponents: velocity %.2f, divergence %.2f\n", (n * sxy[0] - sx * sy[0]) / (n * sxx - sx * sx),
               (n * sxy[1] - sx * sy[1]) / (n * sxx - sx * sx));
    return 0;
}
