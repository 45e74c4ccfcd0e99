/* cmd_build.c: tbg build: sequence -> minimised start structure. The same sequence gives the same file. */
#include "app.h"
#include "molecule/refused.h"
#include "tbg/dynamics.h"
#include "tbg/molecule.h"
#include "tbg/status.h"
#include "tbg/system.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1.0 /* rms force component, kJ/mol/nm */

/* Minimise in place. Positions that the force field would drive into another molecule are put back. */
static int minimise(tbg_molecule *m, const char *forcefield, tbg_minimum *minimum) {
    tbg_system *system;
    tbg_checker *checker = NULL;
    TBG_TRY(tbg_system_create(m, forcefield, -1, &system));
    if (!system->n_bonds) { /* quantum chemistry: its system carries elements only */
        tbg_system_free(system);
        return tbg_fail(TBG_INPUT, "%s has no table of terms to minimise; take a classical force field",
                        forcefield);
    }
    size_t size = sizeof *m->positions * (size_t)m->n_atoms;
    double *x = malloc(size);
    int status = x ? tbg_checker_create(m, &checker) : tbg_fail(TBG_FAILED, "no memory");
    if (status == TBG_OK) {
        memcpy(x, m->positions, size);
        status = tbg_minimize(system, x, TOLERANCE, 0, minimum);
    }
    if (status == TBG_OK && tbg_check(checker, x) != TBG_VALID)
        status = tbg_fail(TBG_FAILED, "minimisation with %s broke the molecule", forcefield);
    if (status == TBG_OK)
        memcpy(m->positions, x, size);
    tbg_checker_free(checker);
    tbg_system_free(system);
    free(x);
    return status;
}

int cmd_build(int argc, char **argv) {
    const char *output = NULL, *forcefield = "amber14-obc1", *sequence;
    int raw = 0;
    const app_option options[] = {
        {"output", 'o', APP_STRING, &output, "FILE", "PDB file to write"},
        {"forcefield", 0, APP_STRING, &forcefield, "NAME", "force field to minimise with"},
        {"no-minimize", 0, APP_FLAG, &raw, NULL, "keep the ideal geometry"},
        {0}};
    int n = app_parse(
        "build",
        "Builds an all-atom start structure: L residues, hydrogens, N-terminal NH3+ and C-terminal COO- "
        "unless capped;\nextended, without clashes, minimised. SEQ is one-letter (AC) or words with "
        "dashes (ALA-CYS, ACE-A-NME;\nHID, HIE, HIP choose HIS's hydrogens).",
        options, argc, argv, &sequence, 1, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!output) {
        fprintf(stderr, "tbg build: --output FILE is missing: where should the structure go?\n");
        return 2;
    }
    tbg_molecule *m;
    tbg_minimum minimum = {0};
    int status = tbg_molecule_from_sequence(sequence, &m);
    if (status != TBG_OK)
        return app_fail("build", status);
    if (strlen(sequence) == 3 &&
        tbg_residue_canonical(sequence)) /* "ALA" is Ala-Leu-Ala: rarely what was meant */
        fprintf(
            stderr,
            "tbg build: note: %s is read as three one-letter codes; a single residue is its letter alone\n",
            sequence);
    if (!raw)
        status = minimise(m, forcefield, &minimum);
    if (status != TBG_OK)
        tbg_fail_in(status, "%s (--no-minimize leaves the force field out)", sequence);
    else
        status = tbg_molecule_write_pdb(m, NULL, output);
    if (status == TBG_OK && raw)
        fprintf(stderr, "%s: %d atoms, %d residues, not minimised\n", output, m->n_atoms, m->n_residues);
    else if (status == TBG_OK)
        fprintf(
            stderr, "%s: %d atoms, %d residues; %s: %.3f kJ/mol after %d steps (rms force %.2g kJ/mol/nm)\n",
            output, m->n_atoms, m->n_residues, forcefield, minimum.energy, minimum.steps, minimum.rms_force);
    tbg_molecule_free(m);
    return status == TBG_OK ? 0 : app_fail("build", status);
}
