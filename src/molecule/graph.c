/* graph.c: shortest bond paths. */
#include "base/memory.h"
#include "tbg/molecule.h"
#include "tbg/status.h"

#include <stdlib.h>
#include <string.h>

/* Neighbour lists in compressed rows: of atom i, list[start[i]] .. list[start[i + 1] - 1]. start: [n_atoms +
 * 1]. */
static void neighbours(int n_atoms, int n_bonds, const int (*bonds)[2], int *start, int *list) {
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

int tbg_bond_distances(int n_atoms, int n_bonds, const int (*bonds)[2], unsigned char *distance) {
    for (int b = 0; b < n_bonds; b++)
        for (int k = 0; k < 2; k++)
            if (bonds[b][k] < 0 || bonds[b][k] >= n_atoms)
                return tbg_fail(TBG_INPUT, "bond %d names atom %d of %d", b, bonds[b][k], n_atoms);
    int *start = TBG_NEW(int, n_atoms + 1), *list = TBG_NEW(int, 2 * (size_t)n_bonds),
        *queue = TBG_NEW(int, n_atoms);
    int status = start && list && queue ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        neighbours(n_atoms, n_bonds, bonds, start, list);
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
