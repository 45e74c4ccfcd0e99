/* test_cmd_energy.c: tbg energy as a user runs it: the JSON contract, the forces file, exit codes, refusals.
 */
#include "vectors.h"
#include "../file/temporary.h"

#include <jansson.h>
#include <sys/wait.h>

#define ENERGIES TBG_SHARED_DIR "/vectors/energies/"

static char *contents(const char *name) {
    char *data;
    assert_ok(tbg_file_read(temporary_path(name), 1 << 24, &data, NULL));
    return data;
}

/* Exit code of "tbg energy ARGUMENTS"; stdout and stderr go to files `out` and `err`. */
static int run(const char *arguments) {
    char command[2048];
    snprintf(command, sizeof command, "cd %s && '%s' energy %s >out 2>err", temporary_folder, TBG_PROGRAM,
             arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void refused(const char *arguments, const char *part) {
    assert_int_equal(run(arguments), 2);
    char *out = contents("out"), *err = contents("err");
    if (*out || !strstr(err, part))
        fail_msg("tbg energy %s: '%s' expected in: %s%s", arguments, part, err, out);
    free(out);
    free(err);
}

static json_t *output(void) {
    json_error_t error;
    char *text = contents("out");
    json_t *root = json_loads(text, 0, &error);
    if (!root)
        fail_msg("not JSON (%s): %.200s", error.text, text);
    free(text);
    return root;
}

/* tolerance: relative, to 10 kJ/mol at least. */
static void check_vector(const char *name, const char *engine, double tolerance) {
    vector_set v = load_vector(name);
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "%s%s.pdb %s%s.safetensors --forcefield %s --json%s%s", ENERGIES,
             name, ENERGIES, name, v.system->forcefield, engine ? " --engine " : "", engine ? engine : "");
    assert_int_equal(run(arguments), 0);
    json_t *root = output(), *energies = json_object_get(root, "energies_kj_mol");
    json_t *components = json_object_get(root, "components_kj_mol");
    assert_int_equal(json_array_size(energies), v.n);
    assert_int_equal(json_object_size(components), TBG_E_N);
    for (long c = 0; c < v.n; c++) {
        double sum = 0;
        for (int e = 0; e < TBG_E_N; e++) {
            double value = json_real_value(json_array_get(
                json_object_get(components, tbg_energy_component_name(v.system, e)), (size_t)c));
            assert_true(compare_error(value, v.components[c * TBG_E_N + e], 10) <= tolerance);
            sum += value;
        }
        double energy = json_real_value(json_array_get(energies, (size_t)c));
        assert_true(compare_error(energy, v.energies[c], 10) <= tolerance);
        assert_true(compare_error(energy, sum, 10) <= 1e-6);
    }
    json_decref(root);
    free_vector(&v);
}

static void json_contract(void **state) {
    (void)state;
    check_vector("WY", "reference", 1e-11);
    check_vector("alanine_dipeptide", "reference", 1e-11);
    check_vector("WY", NULL, 1e-10);
    check_vector("alanine_dipeptide", "native", 1e-10);
}

static void own_coordinates_and_table(void **state) {
    (void)state;
    assert_int_equal(run(ENERGIES "AC.pdb --forcefield amber14-obc1 --json"), 0);
    json_t *root = output();
    assert_int_equal(json_array_size(json_object_get(root, "energies_kj_mol")), 1);
    double energy = json_real_value(json_array_get(json_object_get(root, "energies_kj_mol"), 0));
    assert_true(fabs(energy - -547.2) < 0.1); /* the PDB file rounds frame 0 to 0.0001 nm */
    json_decref(root);
    assert_int_equal(run(ENERGIES "AC.pdb --forcefield amber14-obc1"), 0);
    char *text = contents("out");
    assert_non_null(strstr(text, "CustomGBForce"));
    assert_non_null(strstr(text, "-547.1"));
    free(text);
    /* another cutoff gives another energy; the usual one by number gives the same */
    double other[3];
    static const char *const cutoffs[] = {"0", "0.5", "2.0"};
    for (int k = 0; k < 3; k++) {
        char arguments[512];
        snprintf(arguments, sizeof arguments, "%sAC.pdb -f amber14-obc1 --json --cutoff %s", ENERGIES,
                 cutoffs[k]);
        assert_int_equal(run(arguments), 0);
        root = output();
        other[k] = json_real_value(json_array_get(json_object_get(root, "energies_kj_mol"), 0));
        json_decref(root);
    }
    assert_true(other[2] == energy && fabs(other[1] - energy) > 1 && other[0] != energy);
}

static void forces_file(void **state) {
    (void)state;
    vector_set v = load_vector("GP");
    size_t n = (size_t)v.n * 3 * (size_t)v.system->n_atoms;
    assert_int_equal(
        run(ENERGIES "GP.pdb " ENERGIES "GP.safetensors -f amber14-obc1 -e reference --forces f.safetensors"),
        0);
    tbg_tensors *t;
    double *forces, *energy;
    int64_t shape[3] = {v.n, v.system->n_atoms, 3};
    assert_ok(tbg_tensors_read(temporary_path("f.safetensors"), &t));
    assert_ok(tbg_tensors_doubles(t, "forces", 3, shape, &forces));
    assert_ok(tbg_tensors_doubles(t, "energy", 1, shape, &energy));
    assert_true(compare_arrays("forces", n, forces, v.forces, 1e-3, 1e-9) <= 1e-9);
    assert_true(compare_arrays("energy", (size_t)v.n, energy, v.energies, 1e-3, 1e-11) <= 1e-11);
    assert_string_equal(tbg_tensors_metadata(t, "forcefield"), "amber14-obc1");
    free(forces);
    free(energy);
    tbg_tensors_free(t);
    /* what it wrote it reads as frames again */
    assert_int_equal(run(ENERGIES "GP.pdb f.safetensors -f amber14-obc1 --json"), 0);
    json_decref(output());
    free_vector(&v);
}

static void trajectory_frames(void **state) {
    (void)state;
    vector_set v = load_vector("alanine_dipeptide");
    tbg_trajectory_header header = {.n_atoms = v.system->n_atoms, .title = "test"};
    tbg_trajectory_writer *w;
    assert_ok(tbg_trajectory_create(temporary_path("x.nc"), &header, 0, NULL, &w));
    assert_ok(tbg_trajectory_append(w, (int)v.n, v.positions, NULL, NULL));
    assert_ok(tbg_trajectory_close(w));
    assert_int_equal(run(ENERGIES "alanine_dipeptide.pdb x.nc -f amber99sbildn-obc -e reference --json"), 0);
    json_t *root = output();
    for (long c = 0; c < v.n; c++) /* float coordinates in Angstrom */
        assert_true(compare_error(
                        json_real_value(json_array_get(json_object_get(root, "energies_kj_mol"), (size_t)c)),
                        v.energies[c], 10) <= 1e-4);
    json_decref(root);
    free_vector(&v);
}

static void write_frames(const char *name, int n, const vector_set *v, size_t spoil, double value) {
    int64_t atoms = v->system->n_atoms;
    tbg_tensor t = {.name = "positions",
                    .dtype = TBG_F64,
                    .rank = 3,
                    .shape = {n, atoms, 3},
                    .n = (size_t)(n * atoms * 3)};
    double *x = malloc(t.n * sizeof *x + 1);
    memcpy(x, v->positions, t.n * sizeof *x);
    if (t.n)
        x[spoil] = value;
    t.data = x;
    assert_ok(tbg_tensors_write(temporary_path(name), 1, &t, 0, NULL, NULL));
    free(x);
}

static void bad_input(void **state) {
    (void)state;
    vector_set v = load_vector("AC");
    refused("", "missing argument");
    refused(ENERGIES "AC.pdb", "--forcefield");
    refused(ENERGIES "AC.pdb --forcefield", "--forcefield");
    refused(ENERGIES "AC.pdb -f amber12", "amber12");
    refused(ENERGIES "AC.pdb -f amber14-obc1 -e gromacs", "gromacs");
    refused(ENERGIES "AC.pdb -f amber14-obc1 -e xtb", "gfn2-xtb");
    refused(ENERGIES "AC.pdb -f amber14-obc1 --cutoff nan", "cutoff");
    refused(ENERGIES "AC.pdb -f amber14-obc1 --cutoff 0.001", "cutoff");
    refused(ENERGIES "AC.pdb -f amber14-obc1 --threads -3", "threads");
    refused(ENERGIES "AC.pdb -f amber14-obc1 --system x.xml", "--system");
    refused(ENERGIES "AC.pdb " ENERGIES "DE.safetensors -f amber14-obc1", "30 atoms, 24 expected");
    refused(ENERGIES "AC.pdb missing.nc -f amber14-obc1", "missing.nc");
    refused("missing.pdb -f amber14-obc1", "missing.pdb");
    refused(ENERGIES "AC.pdb " ENERGIES "AC.pdb -f amber14-obc1", "AC.pdb");
    refused(ENERGIES "AC.pdb a b -f amber14-obc1", "unexpected argument 'b'");
    write_frames("nan.safetensors", 2, &v, 24 * 3 + 5, NAN);
    refused(ENERGIES "AC.pdb nan.safetensors -f amber14-obc1", "nan.safetensors");
    write_frames("none.safetensors", 0, &v, 0, 0);
    refused(ENERGIES "AC.pdb none.safetensors -f amber14-obc1", "none.safetensors");
    refused(ENERGIES "AC.pdb -f amber14-obc1 --forces no/such/f.safetensors", "no/such");
    free_vector(&v);
}

/* Two atoms in one place: that frame has no energy, the others keep theirs, and JSON stays JSON. */
static void overlapping_frame(void **state) {
    (void)state;
    vector_set v = load_vector("AC");
    size_t size = 24 * 3;
    int i = v.system->pairs[0][0], j = v.system->pairs[0][1];
    memcpy(v.positions + size + 3 * i, v.positions + size + 3 * j, 3 * sizeof(double));
    write_frames("clash.safetensors", 3, &v, 0, v.positions[0]);
    static const char *const engines[] = {"reference", "native"};
    for (int e = 0; e < 2; e++) {
        char arguments[512];
        snprintf(arguments, sizeof arguments, "%sAC.pdb clash.safetensors -f amber14-obc1 --json -e %s",
                 ENERGIES, engines[e]);
        assert_int_equal(run(arguments), 0);
        json_t *root = output(), *energies = json_object_get(root, "energies_kj_mol");
        json_t *clash = json_array_get(energies, 1);
        assert_true(json_is_null(clash) || json_real_value(clash) > 1e6);
        assert_true(compare_error(json_real_value(json_array_get(energies, 0)), v.energies[0], 10) <= 1e-10);
        assert_true(compare_error(json_real_value(json_array_get(energies, 2)), v.energies[2], 10) <= 1e-10);
        json_decref(root);
    }
    free_vector(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_contract), cmocka_unit_test(own_coordinates_and_table),
        cmocka_unit_test(forces_file),   cmocka_unit_test(trajectory_frames),
        cmocka_unit_test(bad_input),     cmocka_unit_test(overlapping_frame),
    };
    return cmocka_run_group_tests(tests, temporary_setup, temporary_teardown);
}
