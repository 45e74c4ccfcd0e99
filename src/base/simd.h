/* simd.h: names and run-time choice of the instruction set for *_simd.c files.
 *
 * A file *_simd.c is compiled once per set with TBG_ARCH defined; it exports its function table under
 * TBG_SIMD_NAME(table), e.g. tbg_batch_table_avx2. Elsewhere, TBG_SIMD_DECLARE declares all of them and
 * TBG_SIMD_PICK chooses by tbg_simd_level(). */
#ifndef TBG_BASE_SIMD_H
#define TBG_BASE_SIMD_H

enum { TBG_SIMD_BASE = 0, TBG_SIMD_AVX2 = 1, TBG_SIMD_AVX512 = 2 };

/* Best set that this build has, this processor supports, and TBG_SIMD in the environment ("base", "avx2",
 * "avx512") allows. */
int tbg_simd_level(void);
const char *tbg_simd_name(int level);

#define TBG_SIMD_PASTE2(name, arch) name##_##arch
#define TBG_SIMD_PASTE(name, arch) TBG_SIMD_PASTE2(name, arch)
#ifdef TBG_ARCH
#define TBG_SIMD_NAME(name) TBG_SIMD_PASTE(name, TBG_ARCH)
#endif

#if defined(TBG_HAVE_SIMD_AVX512)
#define TBG_SIMD_DECLARE(type, name) extern type name##_base, name##_avx2, name##_avx512
#define TBG_SIMD_PICK(name, level)                                                                           \
    ((level) == TBG_SIMD_AVX512 ? &name##_avx512 : (level) == TBG_SIMD_AVX2 ? &name##_avx2 : &name##_base)
#else
#define TBG_SIMD_DECLARE(type, name) extern type name##_base
#define TBG_SIMD_PICK(name, level) ((void)(level), &name##_base)
#endif

#endif
