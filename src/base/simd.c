/* simd.c: which instruction set the *_simd.c tables are taken from. */
#include "base/simd.h"

#include <stdlib.h>
#include <string.h>

const char *tbg_simd_name(int level) {
    return level == TBG_SIMD_AVX512 ? "avx512" : level == TBG_SIMD_AVX2 ? "avx2" : "base";
}

int tbg_simd_level(void) {
    int level = TBG_SIMD_BASE;
#ifdef TBG_HAVE_SIMD_AVX512
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        level = TBG_SIMD_AVX2;
    if (level == TBG_SIMD_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        level = TBG_SIMD_AVX512;
#endif
    const char *wanted = getenv("TBG_SIMD");
    if (wanted)
        for (int l = TBG_SIMD_BASE; l < level; l++)
            if (strcmp(wanted, tbg_simd_name(l)) == 0)
                return l;
    return level;
}
