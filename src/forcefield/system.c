/* system.c: named force fields, where their files are, and the life of a tbg_system. */
#include "tbg/system.h"
#include "base/memory.h"
#include "base/path.h"
#include "forcefield/parameters.h"
#include "tbg/status.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* files: separated by commas; "obc1" is no file but OpenMM's implicit/obc1.xml, whose radii follow from the
 * elements. */
static const struct {
    const char *name, *files;
    double cutoff, temperature;
} forcefields[] = {
    {"amber14-obc1", "protein.ff14SB.xml,obc1", 2.0, 310},
    {"amber99sbildn-obc", "amber99sbildn.xml,amber99_obc.xml", 0, 300},
    {"gfn2-xtb", "", 0, 300},
    {"none", "", 0, 300}, /* masses only: for a serialized OpenMM System that is evaluated instead */
};
enum { N_FORCEFIELDS = sizeof forcefields / sizeof *forcefields };

const char *const *tbg_forcefield_names(void) {
    static const char *const names[] = {"amber14-obc1", "amber99sbildn-obc", "gfn2-xtb", NULL};
    return names;
}

double tbg_forcefield_temperature(const char *name) {
    for (int f = 0; f < N_FORCEFIELDS; f++)
        if (!strcmp(forcefields[f].name, name))
            return forcefields[f].temperature;
    return 300;
}

/* Read a list of files into p. named: they are in the data folder, otherwise paths. */
static int read_files(const char *files, int named, tbg_parameters *p) {
    int obc1 = 0;
    for (const char *at = files; *at;) {
        size_t length = strcspn(at, ",");
        char item[PATH_MAX], path[PATH_MAX];
        if (length == 0 || length >= sizeof item)
            return tbg_fail(TBG_INPUT, "force field '%.60s': empty or overlong file name in the list", files);
        memcpy(item, at, length);
        item[length] = 0;
        if (!strcmp(item, "obc1"))
            obc1 = 1;
        else {
            if (named)
                TBG_TRY(tbg_shipped_path("data", item, path, sizeof path));
            TBG_TRY(tbg_parameters_read(named ? path : item, p));
        }
        at += length;
        at += *at == ',';
    }
    if (obc1 && p->gb_model != TBG_GB_NONE)
        return tbg_fail(TBG_INPUT, "force field '%.60s': obc1 and a file with <GBSAOBCForce>; choose one",
                        files);
    if (obc1)
        p->gb_model = TBG_GB_OBC1;
    return tbg_parameters_resolve(p);
}

static int allocate(const tbg_molecule *molecule, tbg_system *s) {
    size_t n = (size_t)molecule->n_atoms;
    double **arrays[] = {&s->mass, &s->charge, &s->sigma, &s->epsilon, &s->gb_radius, &s->gb_screen};
    for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++)
        if (!(*arrays[a] = TBG_NEW(double, n)))
            return TBG_FAILED;
    return TBG_OK;
}

static int fill(const tbg_molecule *molecule, const char *files, int named, tbg_system *s) {
    TBG_TRY(allocate(molecule, s));
    if (!*files) { /* quantum chemistry: masses only */
        for (int i = 0; i < s->n_atoms; i++)
            s->mass[i] = tbg_element_mass(molecule->atoms[i].element);
        return TBG_OK;
    }
    tbg_parameters p = {0};
    tbg_typed_atom *typed = TBG_NEW(tbg_typed_atom, s->n_atoms);
    int status = typed ? read_files(files, named, &p) : TBG_FAILED;
    if (!status)
        status = tbg_match_residues(&p, molecule, typed);
    if (!status)
        status = tbg_make_terms(&p, molecule, typed, s);
    tbg_parameters_free(&p);
    free(typed);
    return status;
}

int tbg_system_create(const tbg_molecule *molecule, const char *forcefield, double cutoff, tbg_system **out) {
    *out = NULL;
    int f = 0;
    while (f < N_FORCEFIELDS && strcmp(forcefields[f].name, forcefield))
        f++;
    int named = f < N_FORCEFIELDS;
    if (!named && !strstr(forcefield, ".xml"))
        return tbg_fail(
            TBG_INPUT,
            "unknown force field '%s': amber14-obc1, amber99sbildn-obc, gfn2-xtb, or parameter files "
            "FILE.xml,FILE.xml,...",
            forcefield);
    if (!isfinite(cutoff) || (cutoff > 0 && cutoff < 0.3))
        return tbg_fail(TBG_INPUT, "a cutoff of %g nm: 0 (none) or at least 0.3", cutoff);
    if (molecule->n_atoms < 1)
        return tbg_fail(TBG_INPUT, "a molecule without atoms");
    tbg_system *s = TBG_NEW(tbg_system, 1);
    if (!s)
        return TBG_FAILED;
    const char *stem = named ? forcefield : tbg_path_name(forcefield);
    snprintf(s->forcefield, sizeof s->forcefield, "%.*s", named ? 31 : (int)strcspn(stem, "."), stem);
    s->n_atoms = molecule->n_atoms;
    s->degrees_of_freedom = 3 * s->n_atoms;
    s->cutoff = cutoff >= 0 ? cutoff : named ? forcefields[f].cutoff : 0;
    int status = fill(molecule, named ? forcefields[f].files : forcefield, named, s);
    if (status != TBG_OK) {
        tbg_system_free(s);
        return named ? tbg_fail_in(status, "force field %s", forcefield) : status;
    }
    *out = s;
    return TBG_OK;
}

void tbg_system_free(tbg_system *s) {
    if (!s)
        return;
    free(s->mass);
    free(s->bonds);
    free(s->angles);
    free(s->torsions);
    free(s->pairs14);
    free(s->charge);
    free(s->sigma);
    free(s->epsilon);
    free(s->pairs);
    free(s->gb_radius);
    free(s->gb_screen);
    free(s);
}
