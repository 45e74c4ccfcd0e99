/* batch_simd.c: the batched kernels of batch_kernel.h in float and in double, compiled once per instruction
 * set. */
#include "base/simd.h"
#include "energy/batch_layout.h"
#include "energy/vecmath.h"

#define REAL float
#define V vf
#define WIDTH TBG_VF_WIDTH
#define F(name) vf_##name
#define P(s) ((s)->p32)
#define HALF 0.5f
#define QUARTER 0.25f
#define ONE 1.0f
#define FAR 1e30f
#include "energy/batch_kernel.h"
#undef REAL
#undef V
#undef WIDTH
#undef F
#undef P
#undef HALF
#undef QUARTER
#undef ONE
#undef FAR

#define REAL double
#define V vd
#define WIDTH TBG_VD_WIDTH
#define F(name) vd_##name
#define P(s) ((s)->p64)
#define HALF 0.5
#define QUARTER 0.25
#define ONE 1.0
#define FAR 1e60
#include "energy/batch_kernel.h"

extern const tbg_batch_table TBG_SIMD_NAME(tbg_batch_table);
const tbg_batch_table TBG_SIMD_NAME(tbg_batch_table) = {
    .evaluate_f32 = vf_evaluate,
    .evaluate_f64 = vd_evaluate,
    .probe_f32 = vf_probe,
    .probe_f64 = vd_probe,
    .width_f32 = TBG_VF_WIDTH,
    .width_f64 = TBG_VD_WIDTH,
};
