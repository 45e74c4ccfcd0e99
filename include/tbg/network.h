/* network.h: the vector field v(t, x; molecule), an E(3)-equivariant graph network (SPEC 2.1, 2.4).
 *
 * Model (immutable, shared) against session (scratch, one user at a time, parallel inside). Positions here
 * are in scaled units: x_scaled = scale * x_nm. Index letters: i receiving atom, j sending atom, c channel
 * (0..H-1), k edge feature, l layer. */
#ifndef TBG_NETWORK_H
#define TBG_NETWORK_H
#include "tbg/molecule.h"
#include "tbg/system.h"
#include "tbg/file.h"
#include <stdint.h>

/* Node features: what the network sees of an atom (one-hot blocks; time is appended). */
typedef enum {
    TBG_FEATURES_RAW = 0,         /* given from outside (vector files) */
    TBG_FEATURES_ELEMENT = 1,     /* 5: H C N O S: "TBG" */
    TBG_FEATURES_BACKBONE = 2,    /* 13: "TBG + backbone" */
    TBG_FEATURES_FULL = 3,        /* 76: residue position 2, residue type 20, atom name 54: "TBG + full" */
    TBG_FEATURES_AD_BACKBONE = 4, /* 9: alanine dipeptide "BG + backbone" */
    TBG_FEATURES_AD_FULL = 5      /* 21: alanine dipeptide "TBG + full" */
} tbg_feature_set;
/* "element", "element+backbone", "full", "ad-backbone", "ad-full" */
const char *tbg_feature_set_name(tbg_feature_set set);
int tbg_feature_set_parse(const char *name, tbg_feature_set *set);
int tbg_feature_set_width(tbg_feature_set set); /* one-hot size; 0 for raw features */

/* Edge features, in this order where their bit is set. All but r_ij of the layer depend on the input
 * positions, t and the molecule only, so they are computed once per call. r: input distance of the pair
 * (scaled), m and w: mean distance and thermal width of 1-2 and 1-3 pairs from the force field (scaled). */
enum {
    TBG_EDGE_D0 = 1,     /* 1: r^2 (the published field has this one only) */
    TBG_EDGE_BONDED = 2, /* 5: flags 1-2, 1-3, 1-4; m; tanh(3 (r - m)); the last two 0 for other pairs */
    TBG_EDGE_RATE = 4,   /* 1: tanh(rho), rho the analytic rate of a harmonic pair (SPEC 2.4); else 0 */
    TBG_EDGE_RADIAL = 8, /* 12: Gaussian radial basis of r / (1 + r) */
    TBG_EDGE_SHELL = 16  /* 0: the rate, here and in the harmonic term, is that of a pair whose direction is
                            unknown: it vanishes with r: no source where two atoms meet */
};

/* The word of bit 1 << k in configurations and descriptions: "d0", "bonded", "rate", "radial", "shell"; NULL
 * beyond. */
const char *tbg_edge_word(int k);

typedef struct {
    int hidden, layers; /* H, L */
    tbg_feature_set features;
    int n_features;      /* one-hot size, without time */
    int time_u;          /* 0: last node input is t (published); 1: the last two are t and u(t) */
    int edge_features;   /* bits TBG_EDGE_*; the published field: TBG_EDGE_D0 */
    int harmonic_term;   /* 1: each layer adds sum_j g_ij rho_ij (x_i - x_j)/r_ij of the input positions over
                            1-2 and 1-3 pairs, g_ij = wg . m_ij + bg, wg and bg start at 0 */
    int tanh, attention; /* published: 1, 1 */
    double coords_range; /* published: 15; s_ij = tanh(..) * coords_range / L */
    double scale;        /* scaled units per nm */
    double graded_d;     /* graded time, 0: uniform */
    double smoothing;    /* nm: the flow is that of positions + smoothing * normal numbers (mean-free), not of
                            the positions    themselves; anneal.h takes the noise off by the force field. 0: of
                            the    positions */
    int virtual_sites;   /* 1: a site beside every centre of fixed handedness is an atom more, whose own
                            velocity is   ignored: the field tells left from right and commutes with proper
                            rotations only */
} tbg_network_spec;

/* The published models and the improved field as presets: "bg-backbone", "ad-full", "tbg", "tbg-backbone",
 * "tbg-full", "improved-ad" (ad-full features, D0|BONDED|RATE, harmonic term, t and u, d = 0.02). Scale as
 * published (nm x 10, x 30; improved: 0, to be set from data). */
int tbg_network_preset(const char *name, tbg_network_spec *spec);
int tbg_network_spec_check(const tbg_network_spec *spec);

/* One entry per tensor, in file order; published names ("egnn.embedding.weight",
 * "egnn.gcl_0.edge_mlp.0.weight", ...). Weight matrices are [out][in], row-major. Additional ones:
 * "egnn.gcl_K.harmonic_gate.weight" [1][H] and ".bias" [1]. edge_mlp.0 input order: h_i, h_j, r_ij, edge
 * features. */
typedef struct {
    char name[64];
    int rows, columns; /* bias: rows x 1 with rank 1 */
    int rank;
    size_t offset; /* into the flat parameter vector */
} tbg_parameter;

typedef struct {
    tbg_network_spec spec;
    int n_tensors;
    tbg_parameter *tensors;
    size_t n_parameters;
    float *values;       /* [n_parameters] */
    char *forcefield;    /* "amber99sbildn-obc", or NULL */
    double temperature;  /* K the model was trained for, 0 if unknown */
    char *training_json; /* training configuration, data, seeds, steps, losses; or NULL */
    char *molecules;     /* comma-separated sequences it was trained on, or NULL */
} tbg_model;
int tbg_model_create(const tbg_network_spec *spec, uint64_t seed,
                     tbg_model **out); /* published initialisation */
int tbg_model_clone(const tbg_model *model, tbg_model **out);
/* A network of more channels or layers with the same field (grow.c), to train on; coords_range grows with the
 * layers. seed: of the weights that are new. errors: TBG_INPUT if either number is smaller than the model's.
 */
int tbg_model_grow(const tbg_model *model, int hidden, int layers, uint64_t seed, tbg_model **out);
void tbg_model_free(tbg_model *model);
int tbg_model_read(const char *path, tbg_model **out);
int tbg_model_write(const tbg_model *model, const char *path);
/* Fill the values from tensors named prefix + table name (for example "param." in vector files); all must be
 * there. */
int tbg_model_take_tensors(tbg_model *model, const tbg_tensors *file, const char *prefix);
const tbg_parameter *tbg_model_tensor(const tbg_model *model, const char *name); /* NULL if absent */

/* What the network sees of a molecule; immutable, shared. */
typedef struct tbg_conditioning {
    uint64_t serial; /* no other one of this process has it */
    int n_atoms, n_features;
    double *node_features;          /* [n_atoms][n_features] one-hot */
    unsigned char *bond_class;      /* [n_atoms][n_atoms] 1, 2, 3 for 1-2, 1-3, 1-4 pairs, else 0 */
    double *pair_mean, *pair_width; /* [n_atoms][n_atoms] scaled; 0 where bond_class is not 1 or 2 */
    int n_silent;                   /* this many last atoms are sites: losses leave them out */
    int n_sites;
    int (*sites)[5]; /* [n_sites] centre, a, b, d and hydrogen of src/network/sites.c */
    double site_length, site_round_off;
    struct tbg_conditioning *extended; /* the molecule with its sites as last atoms; NULL without sites */
} tbg_conditioning;
/* system: needed when the spec has BONDED or RATE edge features or the harmonic term, else may be NULL.
 * temperature: K, for the widths. errors: TBG_INPUT if the molecule does not fit the feature set (named). */
int tbg_conditioning_create(const tbg_network_spec *spec, const tbg_molecule *molecule,
                            const tbg_system *system, double temperature, tbg_conditioning **out);
/* From raw node features, [n_atoms][n_features]; no bonded information. */
int tbg_conditioning_from_features(int n_atoms, int n_features, const double *features,
                                   tbg_conditioning **out);
void tbg_conditioning_free(tbg_conditioning *conditioning);

/* ---- sessions ---- */
typedef struct tbg_session tbg_session;
/* backend: "reference" (double, plain C), "cpu" (fast, single precision), "cuda", or NULL for the best there
 * is. max_atoms: largest molecule it will see. threads: 0 for all. The session reads model->values at each
 * call of tbg_session_refresh (called once by create), so training updates them in place and refreshes. */
int tbg_session_create(const tbg_model *model, const char *backend, int max_atoms, int threads,
                       tbg_session **out);
void tbg_session_free(tbg_session *session);
int tbg_session_refresh(tbg_session *session);
const tbg_model *tbg_session_model(const tbg_session *session);
const char *tbg_session_backend(const tbg_session *session); /* for example "cpu/avx512" */
/* Configurations that a call should have to keep the backend busy: 64, or more on a device. */
int tbg_session_batch(const tbg_session *session);

/* All below: a ragged batch of n configurations; molecule: [n] (entries may repeat); t: [n]; x, v, ...:
 * concatenated [sum n_atoms][3], scaled units. Results do not depend on the number of threads. */

/* v: assigned. */
int tbg_network_velocity(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                         const double *x, double *v);
/* The velocity to whatever precision is fastest on the backend (CUDA: bf16 factors), for proposals: of one
 * configuration it is always the same on one machine and backend, and how good it is costs efficiency only.
 */
int tbg_network_drift(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v);
/* Velocity and exact divergence (trace of dv/dx over all 3 n_atoms directions). v: assigned or NULL.
 * divergence: [n]. */
int tbg_network_divergence(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                           const double *x, double *v, double *divergence);
/* Directional derivative: v_dot = (dv/dx) x_dot. */
int tbg_network_tangent(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                        const double *x, const double *x_dot, double *v, double *v_dot);
/* Flow-matching loss and its gradient. loss_b = |v_b - target_b|^2 / (3 n_atoms_b) (with virtual sites: v_b
 * before its mean over the atoms is taken off, which makes the loss larger by that of the mean); the gradient
 * is that of sum_b weight_b loss_b. weight: [n] (1/n for the mean). loss: [n]. gradient: [n_parameters],
 * assigned (float); NULL: losses only. */
int tbg_network_loss(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                     const double *x, const double *target, const double *weight, double *loss,
                     float *gradient);
/* Vector-Jacobian product: gradient of sum dv . v with respect to x (dx, assigned, or NULL) and the
 * parameters (gradient, assigned, double for the oracle's sake, or NULL). */
int tbg_network_vjp(tbg_session *s, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *dv, double *dx, double *gradient);
#endif
