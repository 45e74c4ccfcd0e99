/* vectors.h: the energy vectors of the shared folder: molecule, system, frames and what OpenMM says of them.
 */
#ifndef TBG_TESTS_ENERGY_VECTORS_H
#define TBG_TESTS_ENERGY_VECTORS_H
#include "tbg/energy.h"
#include "tbg/file.h"
#include "tbg_test.h"

#include <stdlib.h>
#include <string.h>

static const char *const vector_names[] = {
    "AC", "DE", "FG", "GP", "HI", "KL", "LT", "MN", "PQ", "RS", "TV", "WY", "alanine_dipeptide"};
enum { N_VECTORS = sizeof vector_names / sizeof *vector_names };

typedef struct {
    tbg_molecule *molecule;
    tbg_system *system;
    tbg_tensors *tensors;
    long n;                                 /* frames */
    double *positions;                      /* [n][n_atoms][3] */
    double *energies, *components, *forces; /* [n], [n][TBG_E_N], [n][n_atoms][3] */
} vector_set;

static inline vector_set load_vector(const char *name) {
    vector_set v = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/vectors/energies/%s.pdb", TBG_SHARED_DIR, name);
    assert_ok(tbg_molecule_read_pdb(path, &v.molecule));
    snprintf(path, sizeof path, "%s/vectors/energies/%s.safetensors", TBG_SHARED_DIR, name);
    assert_ok(tbg_tensors_read(path, &v.tensors));
    assert_ok(tbg_system_create(v.molecule, tbg_tensors_metadata(v.tensors, "forcefield"), -1, &v.system));
    int64_t any[3] = {-1, v.molecule->n_atoms, 3};
    assert_ok(tbg_tensors_doubles(v.tensors, "positions", 3, any, &v.positions));
    assert_ok(tbg_tensors_doubles(v.tensors, "forces", 3, any, &v.forces));
    assert_ok(tbg_tensors_doubles(v.tensors, "energy", 1, any, &v.energies));
    v.n = (long)tbg_tensors_find(v.tensors, "energy")->n;
    v.components = malloc((size_t)v.n * TBG_E_N * sizeof(double));
    for (int e = 0; e < TBG_E_N; e++) {
        double *column;
        char key[64];
        snprintf(key, sizeof key, "energy.%s", tbg_energy_component_name(v.system, e));
        int64_t shape = v.n;
        assert_ok(tbg_tensors_doubles(v.tensors, key, 1, &shape, &column));
        for (long c = 0; c < v.n; c++)
            v.components[c * TBG_E_N + e] = column[c];
        free(column);
    }
    return v;
}

static inline void free_vector(vector_set *v) {
    free(v->positions);
    free(v->energies);
    free(v->components);
    free(v->forces);
    tbg_tensors_free(v->tensors);
    tbg_system_free(v->system);
    tbg_molecule_free(v->molecule);
}
#endif
