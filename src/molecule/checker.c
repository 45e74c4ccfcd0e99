/* checker.c: is a configuration the molecule it should be? Owns the bond graph inferred from distances, the
 * matching of an isomorphic graph, and the verdict on chirality. Hostile geometry costs bounded time: a wrong
 * number of bonds is refused at once, and the search for a matching has a limit. */
#include "base/memory.h"
#include "molecule/graph.h"
#include "tbg/molecule.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_LIMIT 100000 /* candidate assignments tried before a matching is given up */

struct tbg_checker {
    int n_atoms, n_bonds, rounds;
    int *elements;         /* [n_atoms] */
    unsigned char *kind;   /* [n_atoms] 0 H, 1 S, 2 C, 3 other */
    unsigned char *bonded; /* [n_atoms][n_atoms] */
    int *start, *list;     /* neighbours */
    uint64_t *class;       /* [n_atoms] symmetry classes */
    uint64_t *sorted;      /* [n_atoms] the same, ascending */
    int *order;            /* [n_atoms] order of matching: each atom but the first has an earlier neighbour */
    int *before;           /* [n_atoms] that neighbour, by place in order; -1 if none */
    tbg_stereo stereo;
    int mirror; /* 0: an inverted molecule is wrong */
};

/* Squared cutoffs in nm^2 by kinds: 0.14 with H, else 0.22 with S, else 0.18 with C, else not bonded. */
static double cutoff2(int a, int b) {
    int least = a < b ? a : b;
    static const double CUTOFF[4] = {0.14, 0.22, 0.18, 0};
    return CUTOFF[least] * CUTOFF[least];
}

void tbg_checker_free(tbg_checker *c) {
    if (!c)
        return;
    free(c->elements);
    free(c->kind);
    free(c->bonded);
    free(c->start);
    free(c->list);
    free(c->class);
    free(c->sorted);
    free(c->order);
    free(c->before);
    tbg_stereo_free(&c->stereo);
    free(c);
}

/* Breadth-first from the first atom of each component, so that a matching grows along bonds. place: [n]
 * scratch. */
static void matching_order(tbg_checker *c, int *place) {
    int done = 0;
    for (int i = 0; i < c->n_atoms; i++)
        place[i] = -1;
    for (int root = 0; root < c->n_atoms; root++) {
        if (place[root] >= 0)
            continue;
        place[root] = done;
        c->before[done] = -1;
        c->order[done++] = root;
        for (int head = done - 1; head < done; head++) {
            int a = c->order[head];
            for (int k = c->start[a]; k < c->start[a + 1]; k++) {
                int b = c->list[k];
                if (place[b] >= 0)
                    continue;
                place[b] = done;
                c->before[done] = head;
                c->order[done++] = b;
            }
        }
    }
}

int tbg_checker_create(const tbg_molecule *m, tbg_checker **out) {
    *out = NULL;
    tbg_checker *c = TBG_NEW(tbg_checker, 1);
    if (!c)
        return TBG_FAILED;
    size_t n = (size_t)m->n_atoms, b = (size_t)m->n_bonds;
    c->mirror = 1;
    c->n_atoms = m->n_atoms;
    c->n_bonds = m->n_bonds;
    c->elements = TBG_NEW(int, n);
    c->kind = TBG_NEW(unsigned char, n);
    c->bonded = tbg_alloc(n, n);
    c->start = TBG_NEW(int, n + 1);
    c->list = TBG_NEW(int, 2 * b);
    c->class = TBG_NEW(uint64_t, n);
    c->sorted = TBG_NEW(uint64_t, n);
    c->order = TBG_NEW(int, n);
    c->before = TBG_NEW(int, n);
    int *place = TBG_NEW(int, n);
    uint64_t *scratch = TBG_NEW(uint64_t, n);
    int status = c->elements && c->kind && c->bonded && c->start && c->list && c->class && c->sorted &&
                         c->order && c->before && place && scratch
                     ? TBG_OK
                     : TBG_FAILED;
    if (status == TBG_OK) {
        for (size_t i = 0; i < n; i++) {
            int e = c->elements[i] = m->atoms[i].element;
            c->kind[i] = e == 1 ? 0 : e == 16 ? 1 : e == 6 ? 2 : 3;
        }
        for (size_t k = 0; k < b; k++) {
            size_t i = (size_t)m->bonds[k][0], j = (size_t)m->bonds[k][1];
            c->bonded[i * n + j] = c->bonded[j * n + i] = 1;
        }
        tbg_graph_neighbours(m->n_atoms, m->n_bonds, (const int(*)[2])m->bonds, c->start, c->list);
        c->rounds =
            tbg_graph_rounds(m->n_atoms, c->elements, c->start, c->list, c->class, scratch, c->sorted);
        matching_order(c, place);
        status = tbg_stereo_find(m, &c->stereo);
    }
    if (status == TBG_OK) {
        tbg_graph_classes(c->n_atoms, c->elements, c->start, c->list, c->rounds, c->class, scratch);
        memcpy(c->sorted, c->class, n * sizeof *c->sorted);
        qsort(c->sorted, n, sizeof *c->sorted, tbg_compare_u64);
    }
    free(place);
    free(scratch);
    if (status != TBG_OK) {
        tbg_checker_free(c);
        return status;
    }
    *out = c;
    return TBG_OK;
}

/* Walk all pairs. *equal: the inferred graph is the molecule's. Returns the number of bonds, or -1 once there
 * are too many. bonds: [n_bonds] filled where not NULL. */
static int infer(const tbg_checker *c, const double *x, int *equal, int (*bonds)[2]) {
    int n = c->n_atoms, found = 0, same = 1;
    double cut[4][4];
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++)
            cut[a][b] = cutoff2(a, b);
    for (int i = 0; i < n; i++) {
        const unsigned char *row = c->bonded + (size_t)i * (size_t)n;
        const double *ci = cut[c->kind[i]];
        for (int j = i + 1; j < n; j++) {
            double dx = x[3 * i] - x[3 * j], dy = x[3 * i + 1] - x[3 * j + 1],
                   dz = x[3 * i + 2] - x[3 * j + 2];
            int bond = dx * dx + dy * dy + dz * dz < ci[c->kind[j]];
            same &= bond == row[j];
            if (!bond)
                continue;
            if (found == c->n_bonds)
                return -1;
            if (bonds) {
                bonds[found][0] = i;
                bonds[found][1] = j;
            }
            found++;
        }
    }
    *equal = same;
    return found;
}

typedef struct {
    const tbg_checker *c;
    const int *start, *list; /* neighbours in the sample */
    const uint64_t *class;   /* of the sample's atoms */
    int *image;              /* [n] sample atom of a reference atom, -1 */
    int *owner;              /* [n] reference atom of a sample atom, -1 */
    int *next;               /* [n] next candidate at each depth */
} matcher;

static int bonded_in_sample(const matcher *s, int a, int b) {
    for (int k = s->start[a]; k < s->start[a + 1]; k++)
        if (s->list[k] == b)
            return 1;
    return 0;
}

/* May reference atom r be sample atom a? All bonds of r to atoms already matched must be there; as both
 * graphs have the same degrees (equal classes) nothing else needs a look. */
static int fits(const matcher *s, int r, int a) {
    const tbg_checker *c = s->c;
    if (s->owner[a] >= 0 || s->class[a] != c->class[r])
        return 0;
    for (int k = c->start[r]; k < c->start[r + 1]; k++) {
        int image = s->image[c->list[k]];
        if (image >= 0 && !bonded_in_sample(s, a, image))
            return 0;
    }
    return 1;
}

/* Candidate number k of the atom at `depth`: its own number first, so that symmetric atoms keep their places,
 * then the neighbours of its predecessor's image (or every atom). -1 when there are no more. */
static int candidate(const matcher *s, int depth, int k) {
    int r = s->c->order[depth], before = s->c->before[depth];
    if (!k--)
        return r;
    if (before < 0)
        return k < s->c->n_atoms ? k : -1;
    int a = s->image[s->c->order[before]];
    return k < s->start[a + 1] - s->start[a] ? s->list[s->start[a] + k] : -1;
}

/* Backtracking search; 1 if a matching was found. */
static int match(matcher *s) {
    int n = s->c->n_atoms, depth = 0;
    long tried = 0;
    s->next[0] = 0;
    while (depth >= 0 && depth < n) {
        int r = s->c->order[depth], a;
        if (s->image[r] >= 0) { /* come back: undo */
            s->owner[s->image[r]] = -1;
            s->image[r] = -1;
        }
        while ((a = candidate(s, depth, s->next[depth]++)) >= 0) {
            if (++tried > SEARCH_LIMIT)
                return 0;
            if (fits(s, r, a))
                break;
        }
        if (a < 0) {
            depth--;
            continue;
        }
        s->image[r] = a;
        s->owner[a] = r;
        if (++depth < n)
            s->next[depth] = 0;
    }
    return depth == n;
}

/* The inferred graph differs: find a matching by elements and relabel. Returns TBG_VALID or TBG_TOPOLOGY. */
static int relabel(const tbg_checker *c, double *x) {
    size_t n = (size_t)c->n_atoms, b = (size_t)c->n_bonds;
    int verdict = TBG_TOPOLOGY, equal;
    int(*bonds)[2] = tbg_alloc(b, sizeof *bonds);
    int *start = TBG_NEW(int, n + 1), *list = TBG_NEW(int, 2 * b), *work = TBG_NEW(int, 3 * n);
    uint64_t *class = TBG_NEW(uint64_t, 2 * n);
    double *copy = TBG_NEW(double, 3 * n);
    if (!bonds || !start || !list || !work || !class || !copy || infer(c, x, &equal, bonds) != c->n_bonds)
        goto done;
    tbg_graph_neighbours(c->n_atoms, c->n_bonds, (const int(*)[2])bonds, start, list);
    tbg_graph_classes(c->n_atoms, c->elements, start, list, c->rounds, class, class + n);
    memcpy(class + n, class, n * sizeof *class);
    qsort(class + n, n, sizeof *class, tbg_compare_u64);
    if (memcmp(class + n, c->sorted, n * sizeof *class))
        goto done;
    matcher s = {c, start, list, class, work, work + n, work + 2 * n};
    for (size_t i = 0; i < 2 * n; i++)
        work[i] = -1;
    if (!match(&s))
        goto done;
    memcpy(copy, x, 3 * n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        memcpy(x + 3 * i, copy + 3 * s.image[i], 3 * sizeof *x);
    verdict = TBG_VALID;
done:
    free(bonds);
    free(start);
    free(list);
    free(work);
    free(class);
    free(copy);
    return verdict;
}

/* Signed volume of the tetrahedron of a centre's neighbours, times 6. */
static double volume(const double *x, const int atoms[5]) {
    double e[3][3];
    for (int k = 0; k < 3; k++)
        for (int a = 0; a < 3; a++)
            e[k][a] = x[3 * atoms[k + 1] + a] - x[3 * atoms[4] + a];
    return e[0][0] * (e[1][1] * e[2][2] - e[1][2] * e[2][1]) +
           e[0][1] * (e[1][2] * e[2][0] - e[1][0] * e[2][2]) +
           e[0][2] * (e[1][0] * e[2][1] - e[1][1] * e[2][0]);
}

void tbg_checker_set_mirror(tbg_checker *c, int mirror) {
    c->mirror = mirror;
}

int tbg_check(const tbg_checker *c, double *x) {
    int n = c->n_atoms, equal = 0;
    for (int i = 0; i < 3 * n; i++)
        if (!isfinite(x[i]))
            return TBG_NOT_FINITE;
    if (infer(c, x, &equal, NULL) != c->n_bonds || (!equal && relabel(c, x) != TBG_VALID))
        return TBG_TOPOLOGY;
    int right = 0, inverted = 0;
    for (int k = 0; k < c->stereo.n; k++) {
        double v = volume(x, c->stereo.atoms[k]) * c->stereo.sign[k];
        right += v > 0;
        inverted += v < 0;
    }
    if (right == c->stereo.n)
        return TBG_VALID;
    if (inverted < c->stereo.n || !c->mirror)
        return TBG_CHIRALITY;
    for (int a = 0; a < 3; a++) {
        double mean = 0;
        for (int i = 0; i < n; i++)
            mean += x[3 * i + a] / n;
        for (int i = 0; i < n; i++)
            x[3 * i + a] = 2 * mean - x[3 * i + a];
    }
    return TBG_MIRRORED;
}
