/* cpu.h: what the rooms of the fast CPU network share: packed weights, the scratch of one thread, and the
 * table of kernels that each instruction set fills.
 *
 * Owns: layouts. Refuses: arithmetic (cpu_*_simd.c) and the public interface (cpu.c).
 * Index letters: i receiver, j sender, e ordered pair (i, j != i) sorted by i then j, c channel, k input
 * channel or edge feature, l layer. HP: H rounded up to the vector width, extra channels are zero everywhere.
 * Gradients: those of parameters accumulate, those of activations are assigned. */
#ifndef TBG_NETWORK_CPU_H
#define TBG_NETWORK_CPU_H
#include "tbg/network.h"
#include "network/kernels.h"
#include <stddef.h>

/* Offsets of one layer's tensors. The same table serves the packed weights and the gradient: equal sizes;
 * weights [k][c] lie in panels (tbg_cpu_pack_index), gradients lie row-major [k][c]. */
typedef struct {
    size_t w1; /* [HP][2 HP]: h -> A | B */
    size_t b1; /* [HP] */
    size_t we; /* [1 + n_edge][HP]: r_ij, edge features; row-major, one panel sequence */
    size_t w2, b2, wa, w3, b3, wc, wg;
    size_t w4, b4, w5, b5; /* w4: [2 HP][HP] from h | aggregated m */
    size_t scalars;        /* [16]: ba, bg */
} tbg_cpu_layer;

/* Offsets into the transposed weights, needed by reverse mode only; panels too. */
typedef struct {
    size_t w1, w2, w3, w4, w5; /* [2HP][HP], [HP][HP], [HP][HP], [HP][2HP], [HP][HP] */
} tbg_cpu_layer_t;

typedef struct {
    tbg_network_spec spec;
    int hidden, layers, hp, width, panel; /* H, L, HP, floats per vector, vectors per full panel */
    int n_edge, ke;                       /* edge features; 1 + n_edge */
    int n_in;                             /* node inputs, time included */
    int tile;                             /* edges per tile */
    float range;                          /* factor of s */
    size_t embedding, embedding_bias, zero, n_packed, n_transposed; /* zero: [2 HP] zeros */
    tbg_cpu_layer *layer;                                           /* [L] */
    tbg_cpu_layer_t *layer_t;                                       /* [L] */
    float *w, *wt;                                                  /* packed, transposed */
    float *we_rows; /* [L][ke][HP] row-major copy of we, for reverse mode */
} tbg_cpu_net;

/* Directions of one block of the divergence: x, y, z of eight atoms; padded to whole vectors. */
enum { TBG_CPU_BLOCK = 24, TBG_CPU_BLOCK_PADDED = 32 };

/* Scratch of one thread. Arrays over edges have room for max_edges rounded up to 64. */
typedef struct {
    int max_atoms, capacity; /* capacity: edges, rounded up */
    int n, n_edges;          /* of the molecule in work */
    int listed;              /* n for which receiver and sender are filled */
    int keep; /* 1: every layer's activations are stored, 0: one layer's, recomputed in reverse */
    int n_harmonic;
    int *receiver, *sender;      /* [E] */
    int *harmonic, *harmonic_of; /* [E] edges with a harmonic term, ascending; [E] place in that list or -1 */
    double *x;                   /* [L + 1][3][N] */
    double *inputs;              /* [N][n_in] node inputs */
    double *dx, *dx_input;       /* [3][N] */
    float *ha;                   /* [L][N][2 HP]: h | aggregated m */
    float *ab;                   /* [N][2 HP]: A | B */
    float *pre4;                 /* [L][N][HP] */
    float *node;                 /* [N][HP] */
    float *features;             /* [E][ke] */
    float *feature_slope;        /* [E][ke]: d feature / d input distance; 0 for the first */
    float *push; /* [3][E]: rho_ij (x_i - x_j)/r_ij of the input positions; 0 where there is none */
    float *push_rho, *push_slope; /* [E]: rho, d rho / d r */
    float *unit, *inverse_r;      /* [3][E] (x_i - x_j)/r_ij of the input, [E] 1/r */
    float *d, *r2, *scale;     /* [3][E] x_i - x_j of the layer, [E] r_ij, [E] 1 / (sqrt(r_ij + 1e-8) + 1) */
    float *gate, *s, *g;       /* [L][E] attention, tanh, harmonic gate */
    float *z, *ds, *dg, *dr2;  /* [E] */
    float *pre1, *pre2, *pre3; /* [L or 1][E][HP] */
    float *t1, *t2, *t3, *t4;  /* [tile][HP] */
    float *dh, *dha, *dab, *dnode; /* [N][HP], [N][2HP], [N][2HP], [N][HP] */
    float *dfeatures;              /* [E][ke] */
    /* Tangents, one layer at a time: what all directions share of an edge, [E][HP] each; pre1, pre2 and pre3
     * are overwritten by the slopes d1, gate * d2 and by q. */
    float *a2, *p,
        *qh; /* silu(pre2); d gate / d y1; d harmonic gate / d y1 [n_harmonic] (y1: first activation) */
    float *sigma, *gamma;    /* [E] rates of s and of the harmonic gate with r in the first layer */
    float *x_dot;            /* [blocks][N][3][TBG_CPU_BLOCK_PADDED] */
    float *h_dot;            /* [blocks][N][TBG_CPU_BLOCK][HP] */
    float *ab_dot, *sum_dot; /* [N][TBG_CPU_BLOCK][2 HP], [N][TBG_CPU_BLOCK][HP] */
    float *rows;             /* [TBG_CPU_BLOCK or tile][HP] */
    /* The same of the last layer beside the one before it, and the covectors that reverse mode takes through
     * both (cpu_closing_simd.c). */
    float *last_shelves[6];  /* pre1, pre2, pre3, a2, p, qh */
    float *last_scalars;     /* [8][E]: gate, s, g, d (3), r2, scale */
    float *own, *own_mu;     /* [3 N][HP] */
    float *pair_ab, *own_ab; /* [E][2 HP], [3 N][2 HP] of the second layer (cpu_opening_simd.c) */
    float *operator;         /* [3][HP][HP] */
    float *moves;            /* [N][3][TBG_CPU_BLOCK_PADDED] */
    double *v_dot;           /* [N][3] */
    void *block;
    int level; /* what the block has room for: bits TBG_CPU_* */
} tbg_cpu_work;

typedef struct {
    const char *name;
    int width, panel;
    /* From x(0), inputs and features in `work` to x(L). store: activations of the layers are kept (see keep).
     */
    void (*forward)(const tbg_cpu_net *net, tbg_cpu_work *work, int store);
    /* From dx = gradient with respect to x(L): parameters accumulate in gradient (layout of net->layer; NULL:
     * none), dx becomes that of x(0). want_input: also dfeatures and the harmonic term's share in dx_input.
     */
    void (*backward)(const tbg_cpu_net *net, tbg_cpu_work *work, float *gradient, int want_input);
    /* Trace of d x(L) / d x(0) - 1 from x(0), inputs, features and their slopes; x(L) too. */
    double (*divergence)(const tbg_cpu_net *net, tbg_cpu_work *work);
    /* One direction, given in x_dot [N][3] (double); v_dot: d (x(L) - x(0)), [N][3]. */
    void (*tangent)(const tbg_cpu_net *net, tbg_cpu_work *work, const double *x_dot, double *v_dot);
    double (*gemm_rate)(void); /* Gflop/s of the micro-kernel, one thread */
} tbg_cpu_table;

/* Place of element (k, c) in a [K][C] matrix packed in panels. vectors: C / width. */
static inline size_t tbg_cpu_pack_index(int width, int panel, int K, int vectors, int k, int c) {
    int first = c / width / panel * panel, size = panel;
    while (first + size > vectors) {
        size /= 2;
        if (first + size <= c / width)
            first += size;
    }
    return ((size_t)K * (size_t)first + (size_t)k * (size_t)size) * (size_t)width +
           (size_t)(c - first * width);
}

/* ---- cpu_pack.c ---- */
/* Where W[out][in] of a published tensor lies: weight (k0 + in, c0 + out) of a packed [K][C] matrix, and
 * (kt0 + out, ct0 + in) of a transposed one. */
typedef struct {
    size_t from;
    int stride, rows, columns;
    size_t to;
    int K, C, k0, c0, plain;
    long to_t; /* -1: no transposed copy */
    int Kt, Ct, kt0, ct0;
    long to_rows; /* second copy, row-major [K][HP]; -1: none */
} tbg_cpu_map;
int tbg_cpu_net_create(const tbg_model *model, const tbg_cpu_table *table, tbg_cpu_net **net,
                       tbg_cpu_map **maps, int *n_maps);
void tbg_cpu_net_free(tbg_cpu_net *net);
void tbg_cpu_net_pack(tbg_cpu_net *net, const tbg_cpu_map *maps, int n_maps, const float *values);
/* values: published order, assigned where a map leads. packed: a gradient in the layout of net->layer. */
void tbg_cpu_net_unpack(const tbg_cpu_net *net, const tbg_cpu_map *maps, int n_maps, const float *packed,
                        float *values);

/* ---- cpu_work.c ---- */
/* Activations of all layers are stored for reverse mode up to this many bytes per thread; beyond, layers run
 * again. A variable for tests. */
extern size_t tbg_cpu_most_stored;
enum { TBG_CPU_FORWARD = 0, TBG_CPU_REVERSE = 1, TBG_CPU_TANGENT = 2 }; /* bits */
/* Room for one thread: grows to what `level` needs; keeps what it has. */
int tbg_cpu_work_ensure(const tbg_cpu_net *net, int max_atoms, int level, tbg_cpu_work *work);
void tbg_cpu_work_release(tbg_cpu_work *work);
/* Inputs of one configuration: node inputs, edge features, harmonic pairs, x(0). slopes: derivatives too. */
void tbg_cpu_work_load(const tbg_cpu_net *net, tbg_cpu_work *work, const tbg_conditioning *molecule, double t,
                       const double *x, int slopes);
#endif
