/* sha256.c: SHA-256 (FIPS 180-4) of files, and lists of such sums as sha256sum writes them. Owns the refusal
 * of files that are not what the SHA256SUMS beside them says. */
#include "base/memory.h"
#include "base/path.h"
#include "tbg/file.h"
#include "tbg/status.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_LIMIT ((size_t)64 << 20)
#define PIECE ((size_t)1 << 20)

/* Fractions of the cube roots of the first 64 primes. */
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

/* One block of 64 bytes. */
static void compress(uint32_t h[8], const unsigned char *block) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]),
                 majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + choice +
                      round_constants[i] + w[i];
        uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        h[i] += s[i];
}

/* The last, incomplete block with its padding and the length in bits. */
static void finish(uint32_t h[8], const unsigned char *rest, size_t n, uint64_t bytes, char hex[65]) {
    unsigned char last[128] = {0};
    size_t size = n < 56 ? 64 : 128;
    memcpy(last, rest, n);
    last[n] = 0x80;
    for (int i = 0; i < 8; i++)
        last[size - 1 - (size_t)i] = (unsigned char)(bytes * 8 >> 8 * i);
    for (size_t at = 0; at < size; at += 64)
        compress(h, last + at);
    for (int i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", h[i]);
}

int tbg_file_sha256(const char *path, char hex[65]) {
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    FILE *file = fopen(path, "rb");
    if (!file)
        return tbg_fail(TBG_INPUT, "%s: %s", path, strerror(errno));
    unsigned char *piece = tbg_alloc(PIECE, 1);
    uint64_t bytes = 0;
    size_t n = PIECE;
    while (piece && n == PIECE) {
        n = fread(piece, 1, PIECE, file);
        bytes += n;
        for (size_t at = 0; at + 64 <= n; at += 64)
            compress(h, piece + at);
    }
    int status = !piece ? TBG_FAILED : TBG_OK;
    if (piece && ferror(file))
        status = tbg_fail(TBG_FAILED, "%s: cannot be read: %s", path, strerror(errno));
    if (status == TBG_OK)
        finish(h, piece + n / 64 * 64, n % 64, bytes, hex);
    free(piece);
    fclose(file);
    return status;
}

/* The line of `name` in a list: 64 hex digits, a space, a space or '*', the name. *sum: NULL if it is not
 * there. */
static int find_sum(const char *list, const char *text, const char *name, const char **sum) {
    *sum = NULL;
    for (int line = 1; *text; line++) {
        size_t length = strcspn(text, "\n");
        if (strspn(text, "0123456789abcdef") != 64 || text[64] != ' ' ||
            (text[65] != ' ' && text[65] != '*') || length < 67)
            return tbg_fail(TBG_INPUT, "%s:%d: not a line of sha256sum", list, line);
        if (length - 66 == strlen(name) && !memcmp(text + 66, name, length - 66))
            *sum = text;
        text += length + (text[length] == '\n');
    }
    return TBG_OK;
}

int tbg_file_verify(const char *path, int *listed) {
    const char *name = tbg_path_name(path), *sum;
    int folder = (int)(name - path);
    size_t size = (size_t)folder + sizeof "SHA256SUMS";
    char *list = tbg_alloc(size, 1), *text = NULL, hex[65];
    if (listed)
        *listed = 0;
    if (!list)
        return TBG_FAILED;
    snprintf(list, size, "%.*sSHA256SUMS", folder, path);
    int status = access(list, F_OK) ? TBG_OK : tbg_file_read(list, LIST_LIMIT, &text, NULL);
    if (text)
        status = find_sum(list, text, name, &sum);
    if (text && status == TBG_OK && sum) {
        status = tbg_file_sha256(path, hex);
        if (status == TBG_OK && memcmp(hex, sum, 64))
            status = tbg_fail(TBG_INPUT,
                              "%s: is not the file that %s lists: its SHA-256 is %.16s..., there %.16s...",
                              path, list, hex, sum);
        if (status == TBG_OK && listed)
            *listed = 1;
    }
    free(text);
    free(list);
    return status;
}
