/* memory.c: checked allocation and the arena. */
#include "base/memory.h"
#include "tbg/status.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *tbg_alloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - 64) {
        tbg_fail(TBG_FAILED, "out of memory: %zu elements of %zu bytes", n, size);
        return NULL;
    }
    bytes = (bytes + 63) / 64 * 64;
    void *block = aligned_alloc(64, bytes ? bytes : 64);
    if (!block) {
        tbg_fail(TBG_FAILED, "out of memory: %zu bytes", bytes);
        return NULL;
    }
    return memset(block, 0, bytes ? bytes : 64);
}

void *tbg_realloc(void *old, size_t n, size_t size) {
    size_t bytes;
    void *block = __builtin_mul_overflow(n, size, &bytes) ? NULL : realloc(old, bytes ? bytes : 1);
    if (!block)
        tbg_fail(TBG_FAILED, "out of memory: %zu elements of %zu bytes", n, size);
    return block;
}

char *tbg_strdup(const char *text) {
    char *copy = strdup(text);
    if (!copy)
        tbg_fail(TBG_FAILED, "out of memory");
    return copy;
}

void *tbg_arena_take(tbg_arena *arena, size_t n, size_t size) {
    size_t bytes = (n * size + 63) / 64 * 64;
    void *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used += bytes;
    return arena->base && arena->used > arena->size ? NULL : piece;
}
