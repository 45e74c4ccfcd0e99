/* features.h: node features of a molecule, for this floor only. */
#ifndef TBG_NETWORK_FEATURES_H
#define TBG_NETWORK_FEATURES_H
#include "tbg/network.h"

/* features: [n_atoms][tbg_feature_set_width(set)], assigned. errors: TBG_INPUT if the molecule does not fit.
 */
int tbg_node_features(tbg_feature_set set, const tbg_molecule *molecule, double *features);
/* Empty conditioning: all features and classes 0. */
int tbg_conditioning_allocate(int n_atoms, int n_features, tbg_conditioning **out);
#endif
