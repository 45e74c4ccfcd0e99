/* sequence.h: a peptide's sequence as text. Inside floor 2 only. */
#ifndef TBG_MOLECULE_SEQUENCE_H
#define TBG_MOLECULE_SEQUENCE_H
#include "molecule/templates.h"

#define TBG_MAX_SEQUENCE 200 /* residues, caps included */

typedef struct {
    const tbg_template *t;
    int histidine; /* TBG_HIE, TBG_HID, TBG_HIP */
} tbg_sequence_residue;

/* "AC": one letter each; with dashes, words of one or three letters: "ALA-CYS", "ACE-A-NME". Without a dash
 * all letters are one-letter codes, so "ALA" is Ala-Leu-Ala. residues: [TBG_MAX_SEQUENCE]. errors: TBG_INPUT,
 * naming the position. */
int tbg_sequence_parse(const char *sequence, int *n, tbg_sequence_residue *residues);
#endif
