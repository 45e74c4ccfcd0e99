/* cpu_pack.c: weights from the published order into the layout of the fast CPU kernels, gradients back.
 *
 * Owns: tbg_cpu_net and the list of maps between the two. Refuses: arithmetic. */
#include "base/memory.h"
#include "network/cpu.h"
#include "tbg/status.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const tbg_model *model;
    tbg_cpu_map *maps;
    int n, most, missing;
} map_list;

static tbg_cpu_map *add(map_list *list, int layer, const char *name, size_t to, int K, int C) {
    char full[96];
    static tbg_cpu_map nowhere;
    if (layer < 0)
        snprintf(full, sizeof full, "egnn.%s", name);
    else
        snprintf(full, sizeof full, "egnn.gcl_%d.%s", layer, name);
    const tbg_parameter *p = tbg_model_tensor(list->model, full);
    if (!p || list->n == list->most) {
        list->missing = 1;
        return &nowhere;
    }
    tbg_cpu_map *m = &list->maps[list->n++];
    *m = (tbg_cpu_map){.from = p->offset,
                       .stride = p->columns,
                       .rows = p->rows,
                       .columns = p->columns,
                       .to = to,
                       .K = K,
                       .C = C,
                       .to_t = -1,
                       .to_rows = -1};
    if (p->rank == 1)
        m->stride = m->columns = 1;
    return m;
}

/* A row vector [1][H] or bias [H], laid out along the channels. */
static void add_vector(map_list *list, int layer, const char *name, size_t to, int C) {
    tbg_cpu_map *m = add(list, layer, name, to, 1, C);
    m->rows *= m->columns;
    m->columns = m->stride = 1;
}

static void add_matrix(map_list *list, int layer, const char *name, size_t to, size_t to_t, int hp) {
    tbg_cpu_map *m = add(list, layer, name, to, hp, hp);
    m->to_t = (long)to_t;
    m->Kt = m->Ct = hp;
}

static size_t take(size_t *used, size_t n) {
    size_t at = *used;
    *used += (n + 15) / 16 * 16;
    return at;
}

static void map_layer(map_list *list, const tbg_cpu_net *net, int l) {
    const tbg_cpu_layer *a = &net->layer[l];
    const tbg_cpu_layer_t *t = &net->layer_t[l];
    const int H = net->hidden, hp = net->hp;
    for (int half = 0; half < 2; half++) {
        tbg_cpu_map *m = add(list, l, "edge_mlp.0.weight", a->w1, hp, 2 * hp);
        m->from += (size_t)(half * H);
        m->columns = H;
        m->c0 = half * hp;
        m->to_t = (long)t->w1;
        m->Kt = 2 * hp;
        m->Ct = hp;
        m->kt0 = half * hp;
    }
    tbg_cpu_map *m = add(list, l, "edge_mlp.0.weight", a->we, net->ke, hp);
    m->from += (size_t)(2 * H);
    m->columns = net->ke;
    m->to_rows = (long)((size_t)l * (size_t)net->ke * (size_t)hp);
    add_vector(list, l, "edge_mlp.0.bias", a->b1, hp);
    add_matrix(list, l, "edge_mlp.2.weight", a->w2, t->w2, hp);
    add_vector(list, l, "edge_mlp.2.bias", a->b2, hp);
    if (net->spec.attention) {
        add_vector(list, l, "att_mlp.0.weight", a->wa, hp);
        add_vector(list, l, "att_mlp.0.bias", a->scalars, 16);
    }
    add_matrix(list, l, "coord_mlp.0.weight", a->w3, t->w3, hp);
    add_vector(list, l, "coord_mlp.0.bias", a->b3, hp);
    add_vector(list, l, "coord_mlp.2.weight", a->wc, hp);
    if (net->spec.harmonic_term) {
        add_vector(list, l, "harmonic_gate.weight", a->wg, hp);
        add_vector(list, l, "harmonic_gate.bias", a->scalars + 1, 16);
        list->maps[list->n - 1].plain = 1;
    }
    for (int half = 0; half < 2; half++) {
        m = add(list, l, "node_mlp.0.weight", a->w4, 2 * hp, hp);
        m->from += (size_t)(half * H);
        m->columns = H;
        m->k0 = half * hp;
        m->to_t = (long)t->w4;
        m->Kt = hp;
        m->Ct = 2 * hp;
        m->ct0 = half * hp;
    }
    add_vector(list, l, "node_mlp.0.bias", a->b4, hp);
    add_matrix(list, l, "node_mlp.2.weight", a->w5, t->w5, hp);
    add_vector(list, l, "node_mlp.2.bias", a->b5, hp);
}

int tbg_cpu_net_create(const tbg_model *model, const tbg_cpu_table *table, tbg_cpu_net **out,
                       tbg_cpu_map **maps, int *n_maps) {
    const tbg_network_spec *spec = &model->spec;
    const int hp = (spec->hidden + table->width - 1) / table->width * table->width, L = spec->layers;
    const size_t h = (size_t)hp;
    tbg_cpu_net *net = TBG_NEW(tbg_cpu_net, 1);
    if (!net)
        return TBG_FAILED;
    net->spec = *spec;
    net->hidden = spec->hidden;
    net->layers = L;
    net->hp = hp;
    net->width = table->width;
    net->panel = table->panel;
    net->n_edge = tbg_edge_feature_count(spec);
    net->ke = net->n_edge + 1;
    net->n_in = spec->n_features + tbg_network_time_features(spec);
    net->tile = 96;
    net->range = spec->tanh ? (float)(spec->coords_range / L) : 1.0f;
    net->layer = TBG_NEW(tbg_cpu_layer, L);
    net->layer_t = TBG_NEW(tbg_cpu_layer_t, L);
    map_list list = {.model = model, .most = 32 * L + 2};
    list.maps = TBG_NEW(tbg_cpu_map, list.most);
    if (!net->layer || !net->layer_t || !list.maps)
        goto failed;
    size_t used = 0, used_t = 0;
    net->embedding = take(&used, (size_t)net->n_in * h);
    net->embedding_bias = take(&used, h);
    net->zero = take(&used, 2 * h);
    add(&list, -1, "embedding.weight", net->embedding, net->n_in, hp)->plain = 1;
    add_vector(&list, -1, "embedding.bias", net->embedding_bias, hp);
    for (int l = 0; l < L; l++) {
        tbg_cpu_layer *a = &net->layer[l];
        tbg_cpu_layer_t *t = &net->layer_t[l];
        a->w1 = take(&used, 2 * h * h);
        a->b1 = take(&used, 2 * h); /* second half stays 0: B has no bias */
        a->we = take(&used, (size_t)net->ke * h);
        a->w2 = take(&used, h * h);
        a->b2 = take(&used, h);
        a->wa = take(&used, h);
        a->w3 = take(&used, h * h);
        a->b3 = take(&used, h);
        a->wc = take(&used, h);
        a->wg = take(&used, h);
        a->w4 = take(&used, 2 * h * h);
        a->b4 = take(&used, h);
        a->w5 = take(&used, h * h);
        a->b5 = take(&used, h);
        a->scalars = take(&used, 16);
        t->w1 = take(&used_t, 2 * h * h);
        t->w2 = take(&used_t, h * h);
        t->w3 = take(&used_t, h * h);
        t->w4 = take(&used_t, 2 * h * h);
        t->w5 = take(&used_t, h * h);
        map_layer(&list, net, l);
    }
    net->n_packed = used;
    net->n_transposed = used_t;
    net->w = TBG_NEW(float, used);
    net->wt = TBG_NEW(float, used_t);
    net->we_rows = TBG_NEW(float, (size_t)L *(size_t)net->ke *h);
    if (!net->w || !net->wt || !net->we_rows)
        goto failed;
    if (list.missing) {
        free(list.maps);
        tbg_cpu_net_free(net);
        return tbg_fail(TBG_FAILED, "the model's parameter table lacks a tensor of its specification");
    }
    *out = net;
    *maps = list.maps;
    *n_maps = list.n;
    return TBG_OK;
failed:
    free(list.maps);
    tbg_cpu_net_free(net);
    return TBG_FAILED;
}

void tbg_cpu_net_free(tbg_cpu_net *net) {
    if (!net)
        return;
    free(net->layer);
    free(net->layer_t);
    free(net->w);
    free(net->wt);
    free(net->we_rows);
    free(net);
}

void tbg_cpu_net_pack(tbg_cpu_net *net, const tbg_cpu_map *maps, int n_maps, const float *values) {
    const int width = net->width, panel = net->panel;
    for (int q = 0; q < n_maps; q++) {
        const tbg_cpu_map *m = &maps[q];
        for (int o = 0; o < m->rows; o++)
            for (int i = 0; i < m->columns; i++) {
                float v = values[m->from + (size_t)o * (size_t)m->stride + (size_t)i];
                int k = m->k0 + i, c = m->c0 + o;
                size_t plain = (size_t)k * (size_t)m->C + (size_t)c;
                int as_rows = m->plain || m->K == 1;
                net->w[m->to +
                       (as_rows ? plain : tbg_cpu_pack_index(width, panel, m->K, m->C / width, k, c))] = v;
                if (m->to_t >= 0)
                    net->wt[(size_t)m->to_t + tbg_cpu_pack_index(width, panel, m->Kt, m->Ct / width,
                                                                 m->kt0 + o, m->ct0 + i)] = v;
                if (m->to_rows >= 0)
                    net->we_rows[(size_t)m->to_rows + plain] = v;
            }
    }
}

void tbg_cpu_net_unpack(const tbg_cpu_net *net, const tbg_cpu_map *maps, int n_maps, const float *packed,
                        float *values) {
    (void)net;
    for (int q = 0; q < n_maps; q++) {
        const tbg_cpu_map *m = &maps[q];
        for (int o = 0; o < m->rows; o++)
            for (int i = 0; i < m->columns; i++)
                values[m->from + (size_t)o * (size_t)m->stride + (size_t)i] =
                    packed[m->to + (size_t)(m->k0 + i) * (size_t)m->C + (size_t)(m->c0 + o)];
    }
}
