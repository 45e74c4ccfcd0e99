/* refused.h: residue names of PDB files and sequences: synonyms, and why some are refused. Inside floor 2
 * only. */
#ifndef TBG_MOLECULE_REFUSED_H
#define TBG_MOLECULE_REFUSED_H

/* The template's name for a residue name ("HSD" -> "HIS", "NMA" -> "NME"), or NULL if there is no template.
 */
const char *tbg_residue_canonical(const char *name);
/* Why a residue that others know is refused here, or NULL. */
const char *tbg_residue_refused(const char *name);
#endif
