/* graph.c: neighbour lists, shortest bond paths, symmetry classes by colour refinement. */
#include "molecule/graph.h"
#include "base/memory.h"
#include "tbg/molecule.h"
#include "tbg/status.h"

#include <stdlib.h>
#include <string.h>

void tbg_graph_neighbours(int n_atoms, int n_bonds, const int (*bonds)[2], int *start, int *list) {
    memset(start, 0, ((size_t)n_atoms + 1) * sizeof *start);
    for (int b = 0; b < n_bonds; b++)
        for (int k = 0; k < 2; k++)
            start[bonds[b][k] + 1]++;
    for (int i = 0; i < n_atoms; i++)
        start[i + 1] += start[i];
    for (int b = 0; b < n_bonds; b++)
        for (int k = 0; k < 2; k++)
            list[start[bonds[b][k]]++] = bonds[b][!k];
    for (int i = n_atoms; i > 0; i--)
        start[i] = start[i - 1];
    start[0] = 0;
}

/* A bijection of 64-bit words that mixes well (the finaliser of splitmix64). */
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* One round: an atom's class becomes a function of its class and the multiset of its neighbours' classes; a
 * sum of mixed words stands for the multiset. */
static void refine(int n, const int *start, const int *list, const uint64_t *now, uint64_t *next) {
    for (int i = 0; i < n; i++) {
        uint64_t sum = 0;
        for (int k = start[i]; k < start[i + 1]; k++)
            sum += mix(now[list[k]]);
        next[i] = mix(now[i] ^ mix(sum));
    }
}

void tbg_graph_classes(int n, const int *elements, const int *start, const int *list, int rounds,
                       uint64_t *out, uint64_t *scratch) {
    for (int i = 0; i < n; i++)
        out[i] = (uint64_t)elements[i];
    for (int r = 0; r < rounds; r++) {
        refine(n, start, list, out, scratch);
        memcpy(out, scratch, (size_t)n * sizeof *out);
    }
}

int tbg_compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int tbg_graph_rounds(int n, const int *elements, const int *start, const int *list, uint64_t *out,
                     uint64_t *scratch, uint64_t *sort) {
    tbg_graph_classes(n, elements, start, list, 0, out, scratch);
    for (int rounds = 0, before = 0;; rounds++) {
        int classes = n > 0;
        memcpy(sort, out, (size_t)n * sizeof *sort);
        qsort(sort, (size_t)n, sizeof *sort, tbg_compare_u64);
        for (int i = 1; i < n; i++)
            classes += sort[i] != sort[i - 1];
        if (classes <= before)
            return rounds;
        before = classes;
        refine(n, start, list, out, scratch);
        memcpy(out, scratch, (size_t)n * sizeof *out);
    }
}

int tbg_bond_distances(int n_atoms, int n_bonds, const int (*bonds)[2], unsigned char *distance) {
    for (int b = 0; b < n_bonds; b++)
        for (int k = 0; k < 2; k++)
            if (bonds[b][k] < 0 || bonds[b][k] >= n_atoms)
                return tbg_fail(TBG_INPUT, "bond %d names atom %d of %d", b, bonds[b][k], n_atoms);
    int *start = TBG_NEW(int, (size_t)n_atoms + 1), *list = TBG_NEW(int, 2 * (size_t)n_bonds),
        *queue = TBG_NEW(int, n_atoms);
    int status = start && list && queue ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        tbg_graph_neighbours(n_atoms, n_bonds, bonds, start, list);
        memset(distance, 255, (size_t)n_atoms * (size_t)n_atoms);
        for (int i = 0; i < n_atoms; i++) {
            unsigned char *d = distance + (size_t)i * (size_t)n_atoms;
            int head = 0, tail = 0;
            d[i] = 0;
            queue[tail++] = i;
            while (head < tail) {
                int a = queue[head++];
                if (d[a] == 254) /* a longer path counts as none */
                    continue;
                for (int k = start[a]; k < start[a + 1]; k++)
                    if (d[list[k]] == 255) {
                        d[list[k]] = (unsigned char)(d[a] + 1);
                        queue[tail++] = list[k];
                    }
            }
        }
    }
    free(start);
    free(list);
    free(queue);
    return status;
}
