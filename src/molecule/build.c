/* build.c: sequence -> molecule. */
#include "tbg/molecule.h"
#include "tbg/status.h"

int tbg_molecule_from_sequence(const char *sequence, tbg_molecule **out) {
    *out = NULL;
    return tbg_fail(TBG_FAILED, "building from the sequence %s is not part of this build yet", sequence);
}
