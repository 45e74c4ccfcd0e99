/* graph.h: neighbour lists and symmetry classes of molecular graphs. Inside floor 2 only. */
#ifndef TBG_MOLECULE_GRAPH_H
#define TBG_MOLECULE_GRAPH_H
#include <stdint.h>

/* Neighbour lists in compressed rows: those of atom i are list[start[i]] .. list[start[i + 1] - 1], ascending
 * where the bonds are sorted. start: [n_atoms + 1]; list: [2 * n_bonds]. */
void tbg_graph_neighbours(int n_atoms, int n_bonds, const int (*bonds)[2], int *start, int *list);

/* Classes of atoms by their environment: after `rounds` of refinement, equal numbers mean environments that
 * are equal as far as bonds and elements reach. The numbers do not depend on the order of atoms. elements,
 * out, scratch: [n]. */
void tbg_graph_classes(int n, const int *elements, const int *start, const int *list, int rounds,
                       uint64_t *out, uint64_t *scratch);
/* Rounds after which the number of different classes no longer grows. sort: [n]. */
int tbg_graph_rounds(int n, const int *elements, const int *start, const int *list, uint64_t *out,
                     uint64_t *scratch, uint64_t *sort);
int tbg_compare_u64(const void *a, const void *b); /* for qsort */
#endif
