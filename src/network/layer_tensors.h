/* layer_tensors.h: the tensors of a layer, in the order in which backends that keep the published layout list
 * their offsets. */
#ifndef TBG_NETWORK_LAYER_TENSORS_H
#define TBG_NETWORK_LAYER_TENSORS_H
#include "tbg/network.h"

#include <stdio.h>

/* X(field, name): W and b of the edge MLP (1, 2), attention (a), coordinates (3, c), harmonic gate (g), node
 * MLP (4, 5). */
#define TBG_LAYER_TENSORS(X)                                                                                 \
    X(w1, "edge_mlp.0.weight")                                                                               \
    X(b1, "edge_mlp.0.bias")                                                                                 \
    X(w2, "edge_mlp.2.weight")                                                                               \
    X(b2, "edge_mlp.2.bias")                                                                                 \
    X(wa, "att_mlp.0.weight")                                                                                \
    X(ba, "att_mlp.0.bias")                                                                                  \
    X(w3, "coord_mlp.0.weight")                                                                              \
    X(b3, "coord_mlp.0.bias")                                                                                \
    X(wc, "coord_mlp.2.weight")                                                                              \
    X(wg, "harmonic_gate.weight")                                                                            \
    X(bg, "harmonic_gate.bias")                                                                              \
    X(w4, "node_mlp.0.weight")                                                                               \
    X(b4, "node_mlp.0.bias")                                                                                 \
    X(w5, "node_mlp.2.weight")                                                                               \
    X(b5, "node_mlp.2.bias")

/* Where a tensor begins among the parameters; layer -1: outside the layers. 0 for parts that are switched
 * off, which are never looked at. */
static inline size_t tbg_layer_tensor(const tbg_model *model, int layer, const char *name) {
    char full[96];
    if (layer < 0)
        snprintf(full, sizeof full, "egnn.%s", name);
    else
        snprintf(full, sizeof full, "egnn.gcl_%d.%s", layer, name);
    const tbg_parameter *p = tbg_model_tensor(model, full);
    return p ? p->offset : 0;
}
#endif
