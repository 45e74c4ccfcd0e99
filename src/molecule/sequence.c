/* sequence.c: parses a peptide's sequence; refuses residues without a template and misplaced caps, with the
 * reason. */
#include "molecule/sequence.h"
#include "molecule/refused.h"
#include "tbg/status.h"

#include <ctype.h>
#include <string.h>

static int add_word(const char *sequence, int position, const char *word, size_t length,
                    tbg_sequence_residue *out) {
    char name[4] = "";
    out->histidine = TBG_HIE;
    if (length == 1) {
        out->t = tbg_template_by_letter(word[0]);
        if (out->t)
            return TBG_OK;
        if (islower((unsigned char)word[0]))
            return tbg_fail(TBG_INPUT,
                            "sequence %.60s: position %d: write '%c' as a capital (D residues, sometimes "
                            "written small, are not supported)",
                            sequence, position, word[0]);
        return tbg_fail(TBG_INPUT, "sequence %.60s: position %d: '%c' is no amino acid", sequence, position,
                        isprint((unsigned char)word[0]) ? word[0] : '?');
    }
    if (length == 3)
        for (int i = 0; i < 3; i++)
            name[i] = (char)toupper((unsigned char)word[i]);
    const char *canonical = tbg_residue_canonical(name), *why = tbg_residue_refused(name);
    if (!canonical)
        return tbg_fail(TBG_INPUT, "sequence %.60s: position %d: '%.*s': %s", sequence, position,
                        length < 20 ? (int)length : 20, word,
                        why ? why : "not one of the 20 amino acids or the caps ACE, NME");
    out->t = tbg_template_by_name(canonical);
    if (!strcmp(name, "HID") || !strcmp(name, "HSD"))
        out->histidine = TBG_HID;
    if (!strcmp(name, "HIP") || !strcmp(name, "HSP"))
        out->histidine = TBG_HIP;
    return TBG_OK;
}

int tbg_sequence_parse(const char *sequence, int *n, tbg_sequence_residue *residues) {
    *n = 0;
    int words = strchr(sequence, '-') != NULL;
    if (!*sequence)
        return tbg_fail(TBG_INPUT, "the sequence is empty");
    for (const char *p = sequence; *p || (words && p > sequence && p[-1] == '-');) {
        size_t length = words ? strcspn(p, "-") : 1;
        if (*n == TBG_MAX_SEQUENCE)
            return tbg_fail(TBG_INPUT, "sequence %.60s...: longer than %d residues", sequence,
                            TBG_MAX_SEQUENCE);
        if (!length)
            return tbg_fail(TBG_INPUT, "sequence %.60s: position %d is empty", sequence, *n + 1);
        TBG_TRY(add_word(sequence, *n + 1, p, length, &residues[*n]));
        ++*n;
        p += length;
        if (words && *p == '-')
            p++;
    }
    int amino = 0;
    for (int i = 0; i < *n; i++) {
        amino += residues[i].t->letter != 0;
        if (!strcmp(residues[i].t->name, "ACE") && i)
            return tbg_fail(TBG_INPUT, "sequence %.60s: position %d: the cap ACE belongs to the beginning",
                            sequence, i + 1);
        if (!strcmp(residues[i].t->name, "NME") && i != *n - 1)
            return tbg_fail(TBG_INPUT, "sequence %.60s: position %d: the cap NME belongs to the end",
                            sequence, i + 1);
    }
    if (!amino && *n < 2)
        return tbg_fail(TBG_INPUT, "sequence %.60s: nothing but a cap", sequence);
    return TBG_OK;
}
