/* kernels.h: one table of network operations per backend; reference fills it first, faster ones take its
 * place. Signatures are those of network.h with the backend's own state in place of the session. */
#ifndef TBG_NETWORK_KERNELS_H
#define TBG_NETWORK_KERNELS_H
#include "network/update.h"

typedef struct {
    int (*gradient)(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, const double *target, const double *weight, double *loss,
                    double *squares);
    int (*fetch_gradient)(void *state, float *gradient);
    int (*place)(void *state, const tbg_optimizer_arrays *arrays);
    int (*step)(void *state, const tbg_adam_constants *constants, int refine);
    int (*fetch)(void *state, float *weights, const tbg_optimizer_arrays *arrays);
} tbg_network_update;

typedef struct {
    const char *name;
    int (*create)(const tbg_model *model, int max_atoms, int threads, void **state);
    void (*destroy)(void *state);
    int (*refresh)(void *state);
    int (*velocity)(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, double *v);
    int (*divergence)(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v, double *divergence);
    int (*tangent)(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                   const double *x, const double *x_dot, double *v, double *v_dot);
    int (*loss)(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
                const double *target, const double *weight, double *loss, float *gradient);
    int (*vjp)(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
               const double *dv, double *dx, double *gradient);
    const char *(*describe)(const void *state); /* name with the instruction set or device, or NULL: `name` */
    const tbg_network_update *update;           /* steps on a device, update.h; NULL: it has none */
    int (*drift)(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                 const double *x, double *v); /* a faster and rougher velocity; NULL: it has none */
    int batch;                                /* configurations of a call that keep it busy; 0: 64 */
} tbg_network_kernels;

extern const tbg_network_kernels tbg_network_reference;      /* reference.c */
extern const tbg_network_kernels tbg_network_cpu;            /* cpu.c, over cpu_simd.c */
extern const tbg_network_kernels tbg_network_cuda;           /* cuda.c */
extern const tbg_network_kernels tbg_network_cuda_emulation; /* the same on the host, for tests: slow */

/* Force field, temperature, training and molecules of one model given to another, which has none yet. */
int tbg_model_copy_story(const tbg_model *from, tbg_model *to);

/* Quantities of one molecule and time that all backends need, in double: time features appended to node
 * features, edge features and harmonic pairs of given positions. Definitions in edges.c, tangents beside
 * them. */
int tbg_network_time_features(const tbg_network_spec *spec); /* 1 or 2 (time_u) */
int tbg_edge_feature_count(const tbg_network_spec *spec);
/* Edge features e_k of one pair and their derivative with respect to the input distance r.
 * bond_class, mean, width: of the pair. e, de_dr: [tbg_edge_feature_count]. */
void tbg_edge_features(const tbg_network_spec *spec, double t, double r, int bond_class, double mean,
                       double width, double *e, double *de_dr);
/* Analytic rate of a harmonic pair and its derivative with respect to r (clamped to +-8: derivative 0 there).
 */
void tbg_harmonic_rate(const tbg_network_spec *spec, double t, double r, double mean, double width,
                       double *rho, double *drho_dr);

/* Single-precision matrix product at its best, Gflop/s summed over threads (0: all): what velocities and
 * gradients are measured against. */
double tbg_network_gemm_gflops(int threads);
#endif
