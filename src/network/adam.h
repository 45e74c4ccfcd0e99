/* adam.h: what a step of Adam, AdamW or SOAP is made with, on processors and devices. Read by nvcc too: plain
 * data only. */
#ifndef TBG_NETWORK_ADAM_H
#define TBG_NETWORK_ADAM_H

typedef struct {
    float lr, beta1, beta2, epsilon, decay, l2, ema, c1, c2, gradient_scale;
} tbg_adam_constants; /* decay: decoupled, times lr already; c1, c2: 1 / bias corrections; ema: 1 - decay */

#define TBG_SOAP_ROUNDING                                                                                    \
    1e-6                    /* of the gradient's norm: what is smaller in rotated coordinates is rounding */
#define TBG_SOAP_SHIFT 1e-8 /* of the mean eigenvalue: basis vectors without gradient stay where they are */
#endif
