/* peptide.h: alanine dipeptide, its force field and a folder, for the whole of a test program; the files of
 * two runs. */
#ifndef TBG_TESTS_PEPTIDE_H
#define TBG_TESTS_PEPTIDE_H
#include "file/temporary.h"
#include "tbg/file.h"
#include "tbg/molecule.h"
#include "tbg/system.h"

static tbg_molecule *molecule;
static tbg_system *peptide;

static int peptide_setup(void **state) {
    return temporary_setup(state) || tbg_molecule_load("ACE-ALA-NME", &molecule) ||
           tbg_system_create(molecule, "amber99sbildn-obc", -1, &peptide);
}

static int peptide_teardown(void **state) {
    tbg_system_free(peptide);
    tbg_molecule_free(molecule);
    return temporary_teardown(state);
}

static void assert_same_files(const char *a, const char *b, int same) {
    char *x, *y;
    size_t n, m;
    assert_ok(tbg_file_read(a, 1 << 28, &x, &n));
    assert_ok(tbg_file_read(b, 1 << 28, &y, &m));
    if ((n == m && !memcmp(x, y, n)) != same)
        fail_msg("%s and %s", a, b);
    free(x);
    free(y);
}

/* All files of the finished runs NAME.nc in the folder. */
static void assert_same_run(const char *a, const char *b) {
    static const char *const suffixes[] = {".nc", ".json", ".pdb", ".nc.state"};
    for (int i = 0; i < 4; i++) {
        char x[64], y[64];
        snprintf(x, sizeof x, "%s%s", a, suffixes[i]);
        snprintf(y, sizeof y, "%s%s", b, suffixes[i]);
        assert_same_files(temporary_path(x), temporary_path(y), 1);
    }
}
#endif
