/* hash.h: FNV-1a, 64 bits: to tell things apart, not to protect them. */
#ifndef TBG_BASE_HASH_H
#define TBG_BASE_HASH_H
#include <stddef.h>
#include <stdint.h>

#define TBG_HASH_START 14695981039346656037ULL
/* h: TBG_HASH_START, or the hash of what came before. */
static inline uint64_t tbg_hash(uint64_t h, const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211ULL;
    return h;
}
#endif
