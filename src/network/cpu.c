/* cpu.c: the "cpu" backend. Placeholder that forwards to the reference until the fast one takes its place. */
#include "network/kernels.h"

static int create(const tbg_model *model, int max_atoms, int threads, void **state) {
    return tbg_network_reference.create(model, max_atoms, threads, state);
}
static void destroy(void *state) {
    tbg_network_reference.destroy(state);
}
static int refresh(void *state) {
    return tbg_network_reference.refresh(state);
}
static int velocity(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                    const double *x, double *v) {
    return tbg_network_reference.velocity(state, n, molecule, t, x, v);
}
static int divergence(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                      const double *x, double *v, double *divergence_out) {
    return tbg_network_reference.divergence(state, n, molecule, t, x, v, divergence_out);
}
static int tangent(void *state, int n, const tbg_conditioning *const *molecule, const double *t,
                   const double *x, const double *x_dot, double *v, double *v_dot) {
    return tbg_network_reference.tangent(state, n, molecule, t, x, x_dot, v, v_dot);
}
static int loss(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
                const double *target, const double *weight, double *loss_out, float *gradient) {
    return tbg_network_reference.loss(state, n, molecule, t, x, target, weight, loss_out, gradient);
}
static int vjp(void *state, int n, const tbg_conditioning *const *molecule, const double *t, const double *x,
               const double *dv, double *dx, double *gradient) {
    return tbg_network_reference.vjp(state, n, molecule, t, x, dv, dx, gradient);
}

const tbg_network_kernels tbg_network_cpu = {"cpu",      create,  destroy, refresh, velocity,
                                             divergence, tangent, loss,    vjp};
