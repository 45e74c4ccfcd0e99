/* fixture.h: alanine dipeptide and a folder, for the whole of a test program. */
#ifndef TBG_TESTS_FIXTURE_H
#define TBG_TESTS_FIXTURE_H
#include "ensemble/close.h"
#include "ensemble/synthetic.h"
#include "file/temporary.h"

static tbg_molecule *molecule;

static int setup(void **state) {
    return temporary_setup(state) || tbg_molecule_from_sequence("ACE-A-NME", &molecule);
}

static int teardown(void **state) {
    tbg_molecule_free(molecule);
    return temporary_teardown(state);
}
#endif
