/* memory.h: allocation below app/. Sizes are checked for overflow; failure returns NULL and stores a message.
 */
#ifndef TBG_BASE_MEMORY_H
#define TBG_BASE_MEMORY_H
#include <stddef.h>

/* Zeroed, 64-byte aligned array of n elements of `size` bytes; NULL (message stored) if there is no memory or
 * the product overflows; a unique pointer for n = 0. Release with free(). */
void *tbg_alloc(size_t n, size_t size);
/* Like realloc for n elements (alignment of malloc); the old block survives a failure. */
void *tbg_realloc(void *old, size_t n, size_t size);
char *tbg_strdup(const char *text);
#define TBG_NEW(type, n) ((type *)tbg_alloc((size_t)(n), sizeof(type)))

/* Arena: one block carved up in order; used for sessions' scratch. Pieces are 64-byte aligned. With base NULL
 * it only measures, so the same carving function gives the size and then the pointers. */
typedef struct {
    char *base;
    size_t used, size;
} tbg_arena;
void *tbg_arena_take(tbg_arena *arena, size_t n, size_t size);
#define TBG_TAKE(arena, type, n) ((type *)tbg_arena_take((arena), (size_t)(n), sizeof(type)))
#endif
