/* group_both.h: group_kernel.h in float (gf_*) and in double (gd_*). */
#ifndef TBG_ENERGY_GROUP_BOTH_H
#define TBG_ENERGY_GROUP_BOTH_H
#include "energy/group.h"

#define REAL float
#define F(name) gf_##name
#define RSQRT tbg_rsqrt_f32
#define ATANH_REST tbg_atanh_rest_f32
#define EXP expf
#define LOG logf
#define ATAN2 atan2f
#include "energy/group_kernel.h"
#undef REAL
#undef F
#undef RSQRT
#undef ATANH_REST
#undef EXP
#undef LOG
#undef ATAN2

#define REAL double
#define F(name) gd_##name
#define RSQRT tbg_rsqrt_f64
#define ATANH_REST tbg_atanh_rest_f64
#define EXP exp
#define LOG log
#define ATAN2 atan2
#include "energy/group_kernel.h"
#undef REAL
#undef F
#undef RSQRT
#undef ATANH_REST
#undef EXP
#undef LOG
#undef ATAN2
#endif
