/* grow.c: a wider or deeper network with the same field, from a trained one.
 *
 * What is there keeps its place among channels and layers and hears nothing of what is new: its weights on
 * new channels are 0. What is new starts as in an untrained network, and hears everything; a new layer passes
 * positions and channels on as they are. So the field is the same, and the first gradient already reaches the
 * weights on new channels (Chen, Goodfellow and Shlens, "Net2Net", ICLR 2016, double channels instead). */
#include "base/memory.h"
#include "network/kernels.h"
#include "tbg/status.h"

#include <stdlib.h>
#include <string.h>

/* Where column c of a tensor with `old` channels is with `new` ones: edge and node networks see two blocks of
 * channels and then what is no channel. */
static size_t moved(const tbg_parameter *p, int c, int old, int new) {
    if (c < old || !strcmp(p->name, "egnn.embedding.weight"))
        return (size_t)c;
    return (size_t)(c < 2 * old ? c - old + new : c - 2 * old + 2 * new);
}

static void settle(const tbg_model *model, const tbg_parameter *from, tbg_model *grown,
                   const tbg_parameter *to) {
    for (int r = 0; r < from->rows; r++) {
        float *row = grown->values + to->offset + (size_t)r * (size_t)to->columns;
        memset(row, 0, (size_t)to->columns * sizeof *row);
        for (int c = 0; c < from->columns; c++)
            row[moved(from, c, model->spec.hidden, grown->spec.hidden)] =
                model->values[from->offset + (size_t)r * (size_t)from->columns + (size_t)c];
    }
}

/* Whether a tensor of a new layer has to be 0 for the layer to change nothing. */
static int silenced(const char *name) {
    return strstr(name, ".coord_mlp.2.") || strstr(name, ".harmonic_gate.") || strstr(name, ".node_mlp.2.");
}

int tbg_model_grow(const tbg_model *model, int hidden, int layers, uint64_t seed, tbg_model **out) {
    tbg_network_spec spec = model->spec;
    if (hidden < spec.hidden || layers < spec.layers)
        return tbg_fail(TBG_INPUT, "a network of %d channels and %d layers can't become one of %d and %d",
                        spec.hidden, spec.layers, hidden, layers);
    spec.coords_range *= (double)layers / spec.layers; /* a layer's share of it stays the same */
    spec.hidden = hidden;
    spec.layers = layers;
    tbg_model *grown;
    TBG_TRY(tbg_model_create(&spec, seed, &grown));
    for (int k = 0; k < grown->n_tensors; k++) {
        const tbg_parameter *to = &grown->tensors[k], *from = tbg_model_tensor(model, to->name);
        if (from)
            settle(model, from, grown, to);
        else if (silenced(to->name))
            memset(grown->values + to->offset, 0,
                   (size_t)to->rows * (size_t)to->columns * sizeof *grown->values);
    }
    int status = tbg_model_copy_story(model, grown);
    if (status) {
        tbg_model_free(grown);
        return status;
    }
    *out = grown;
    return TBG_OK;
}
