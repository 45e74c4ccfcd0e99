/* refused.c: residue names that are synonyms, and those that are known but not supported. */
#include "molecule/refused.h"
#include "molecule/templates.h"

#include <string.h>

static const char *const SYNONYMS[][2] = {{"HID", "HIS"}, {"HIE", "HIS"}, {"HIP", "HIS"},
                                          {"HSD", "HIS"}, {"HSE", "HIS"}, {"HSP", "HIS"},
                                          {"HSH", "HIS"}, {"HIH", "HIS"}, {"NMA", "NME"}};

static const char *const REFUSED[][2] = {
    {"CYX", "disulfide bridges are not supported; use CYS"},
    {"CYM", "deprotonated CYS is not supported; use CYS"},
    {"ASH", "protonated ASP is not supported; use ASP"},
    {"GLH", "protonated GLU is not supported; use GLU"},
    {"LYN", "neutral LYS is not supported; use LYS"},
    {"ARN", "neutral ARG is not supported; use ARG"},
    {"TYM", "deprotonated TYR is not supported; use TYR"},
    {"MSE", "selenomethionine is not supported; MET is"},
    {"HYP", "hydroxyproline is not supported"},
    {"SEP", "phosphorylated residues are not supported"},
    {"TPO", "phosphorylated residues are not supported"},
    {"PTR", "phosphorylated residues are not supported"},
    {"NH2", "the cap NH2 is not supported; NME is"},
    {"NHE", "the cap NHE is not supported; NME is"},
    {"FOR", "the cap FOR is not supported; ACE is"},
    {"ASX", "an ambiguous residue; say ASP or ASN"},
    {"GLX", "an ambiguous residue; say GLU or GLN"},
    {"UNK", "an unknown residue"},
};

const char *tbg_residue_canonical(const char *name) {
    for (size_t i = 0; i < sizeof SYNONYMS / sizeof SYNONYMS[0]; i++)
        if (!strcmp(SYNONYMS[i][0], name))
            return SYNONYMS[i][1];
    const tbg_template *t = tbg_template_by_name(name);
    return t ? t->name : NULL;
}

const char *tbg_residue_refused(const char *name) {
    for (size_t i = 0; i < sizeof REFUSED / sizeof REFUSED[0]; i++)
        if (!strcmp(REFUSED[i][0], name))
            return REFUSED[i][1];
    return NULL;
}
