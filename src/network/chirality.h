/* chirality.h: the one term of the field that knows left from right. See chirality.c. */
#ifndef TBG_NETWORK_CHIRALITY_H
#define TBG_NETWORK_CHIRALITY_H
#include "tbg/network.h"

enum { TBG_CHIRALITY_INPUTS = 5, TBG_CHIRALITY_HIDDEN = 16 };

/* Weights of the term in a model; values inside model->values. */
typedef struct {
    const float *w, *b, *o; /* [HIDDEN][INPUTS], [HIDDEN], [HIDDEN] */
    size_t at_w, at_b, at_o;
    double graded_d;
} tbg_chirality;
/* 0: the model has no such term. */
int tbg_chirality_of(const tbg_model *model, tbg_chirality *term);

/* Centres of a molecule from its stereochemistry and the pair distances in c (bond_class 1 and 2 filled). */
int tbg_chirality_centres(const tbg_molecule *molecule, tbg_conditioning *c);

/* All of one configuration, [n_atoms][3], scaled; they add to what is there. */
void tbg_chirality_velocity(const tbg_chirality *term, const tbg_conditioning *c, double t, const double *x,
                            double *v);
double tbg_chirality_divergence(const tbg_chirality *term, const tbg_conditioning *c, double t,
                                const double *x);
void tbg_chirality_tangent(const tbg_chirality *term, const tbg_conditioning *c, double t, const double *x,
                           const double *x_dot, double *v_dot);
/* From dv: dx and the gradient [n_parameters of the model], either NULL: not wanted. */
void tbg_chirality_reverse(const tbg_chirality *term, const tbg_conditioning *c, double t, const double *x,
                           const double *dv, double *dx, double *gradient);
#endif
