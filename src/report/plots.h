/* plots.h: the plots of the report, each a complete <svg> or nothing; for floor 10 only. */
#ifndef TBG_REPORT_PLOTS_H
#define TBG_REPORT_PLOTS_H
#include "report/text.h"
#include "tbg/ensemble.h"

/* What all plots draw from; reference may be NULL. */
typedef struct {
    const tbg_ensemble *ensemble;
    const tbg_ensemble_summary *summary;
    const tbg_selection *selection;
    const tbg_reference *reference;
    int n_torsions;
    const tbg_torsion *torsions;
} tbg_plot_data;

#define TBG_COLOUR_MODEL "#d97706"
#define TBG_COLOUR_WEIGHTED "#1d4ed8"
#define TBG_COLOUR_REFERENCE "#111827"

/* phi, psi: indices into torsions. */
int tbg_plot_ramachandran(tbg_text *t, const tbg_plot_data *d, int phi, int psi);
int tbg_plot_free_energy(tbg_text *t, const tbg_plot_data *d, int torsion);
/* *beyond: part of the model's samples above the right edge. */
int tbg_plot_energies(tbg_text *t, const tbg_plot_data *d, double *beyond);
int tbg_plot_log_weights(tbg_text *t, const tbg_plot_data *d);
int tbg_plot_sorted_weights(tbg_text *t, const tbg_plot_data *d);
/* Kish sample size of the first k samples over k: steps down betray single large weights. */
int tbg_plot_running_ess(tbg_text *t, const tbg_plot_data *d);
/* Greek letter and number of a torsion's name ("phi1" -> φ₁ with entities). out: [32]. */
const char *tbg_plot_symbol(const char *name, int alone, char *out);
#endif
