/* cmd_build.c: tbg build. */
#include "app.h"
#include "tbg/molecule.h"
#include "tbg/status.h"

#include <stdio.h>

int cmd_build(int argc, char **argv) {
    const char *output = NULL, *sequence;
    const app_option options[] = {{"output", 'o', APP_STRING, &output, "FILE", "PDB file to write"}, {0}};
    int n = app_parse(
        "build",
        "Builds an all-atom start structure: L residues, hydrogens, N-terminal NH3+ and C-terminal COO- "
        "unless capped.\nSEQ is one-letter (AC) or words with dashes (ALA-CYS, ACE-A-NME; HID, HIE, HIP "
        "choose HIS's hydrogens).",
        options, argc, argv, &sequence, 1, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!output) {
        fprintf(stderr, "tbg build: -o FILE is missing\n");
        return 2;
    }
    tbg_molecule *m;
    int status = tbg_molecule_from_sequence(sequence, &m);
    if (status != TBG_OK)
        return app_fail("build", status);
    status = tbg_molecule_write_pdb(m, NULL, output);
    if (status == TBG_OK)
        fprintf(stderr, "%s: %d atoms, %d residues\n", output, m->n_atoms, m->n_residues);
    tbg_molecule_free(m);
    return status == TBG_OK ? 0 : app_fail("build", status);
}
