/* build.c: sequence -> molecule. Owns the placing of atoms by internal coordinates and the search over
 * torsions for a start geometry without clashes. The same sequence always gives the same structure. */
#include "molecule/sequence.h"
#include "molecule/templates.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PHI, PSI, OMEGA, CHI, N_TORSIONS = CHI + TBG_MAX_CHI }; /* per residue */

/* How one atom is placed. Indices of atoms, -1 for the first three. */
typedef struct {
    int parent, grand, great, torsion; /* torsion: index into builder.torsions, -1 for none */
    double length, angle, dihedral;    /* nm, rad, rad */
} placement;

typedef struct {
    tbg_molecule *m;
    tbg_sequence_residue *sequence; /* [n_residues] */
    placement *places;              /* [n_atoms] */
    int *order;                     /* [n_atoms] every atom after those that place it; residue by residue */
    double *torsions;               /* [n_residues * N_TORSIONS] rad */
    unsigned char *distance;        /* [n_atoms * n_atoms] bonds between atoms */
} builder;

static int add_atoms(builder *b, int n_residues) {
    tbg_molecule *m = b->m;
    m->residues = TBG_NEW(tbg_residue, n_residues);
    m->atoms = TBG_NEW(tbg_atom, n_residues * TBG_MAX_RESIDUE_ATOMS);
    b->places = TBG_NEW(placement, n_residues * TBG_MAX_RESIDUE_ATOMS);
    if (!m->residues || !m->atoms || !b->places)
        return TBG_FAILED;
    for (int r = 0; r < n_residues; r++) {
        tbg_template_atom rows[TBG_MAX_RESIDUE_ATOMS];
        int n =
            tbg_template_rows(b->sequence[r].t, r == 0, r == n_residues - 1, b->sequence[r].histidine, rows);
        tbg_residue *residue = &m->residues[m->n_residues++];
        *residue =
            (tbg_residue){.number = r + 1, .chain = 'A', .insertion = ' ', .first = m->n_atoms, .n = n};
        strcpy(residue->name, b->sequence[r].t->name);
        for (int i = 0; i < n; i++) {
            tbg_atom *a = &m->atoms[m->n_atoms++];
            memcpy(a->name, rows[i].name, sizeof rows[i].name);
            a->element = tbg_element_of_name(a->name);
            a->residue = r;
        }
    }
    return TBG_OK;
}

/* Atom that a row refers to. The methyl of ACE stands for the alpha carbon, its first hydrogen for N. */
static int refer(const tbg_molecule *m, int r, const char *name) {
    if (!name[0])
        return -1;
    int before = name[0] == '-';
    r -= before;
    name += before;
    if (!strcmp(m->residues[r].name, "ACE"))
        name = !strcmp(name, "CA") ? "CH3" : !strcmp(name, "N") ? "H1" : name;
    return tbg_molecule_find(m, r, name);
}

static int plan(builder *b) {
    tbg_molecule *m = b->m;
    b->order = TBG_NEW(int, m->n_atoms);
    unsigned char *placed = TBG_NEW(unsigned char, m->n_atoms);
    int done = 0;
    for (int r = 0; r < m->n_residues && b->order && placed; r++) {
        tbg_template_atom rows[TBG_MAX_RESIDUE_ATOMS];
        int n = tbg_template_rows(b->sequence[r].t, r == 0, r == m->n_residues - 1, b->sequence[r].histidine,
                                  rows);
        int first = m->residues[r].first;
        for (int i = 0; i < n; i++) {
            int base = r * N_TORSIONS, chi = rows[i].chi;
            b->places[first + i] = (placement){
                .parent = refer(m, r, rows[i].parent),
                .grand = refer(m, r, rows[i].grand),
                .great = refer(m, r, rows[i].great),
                .torsion = chi > 0                 ? base + CHI + chi - 1
                           : chi == TBG_PHI        ? base + PHI
                           : chi == TBG_PSI        ? base + PSI
                           : chi == TBG_OMEGA      ? base + OMEGA
                           : chi == TBG_PSI_BEFORE ? base - N_TORSIONS + PSI
                                                   : -1,
                .length = rows[i].length,
                .angle = rows[i].angle * M_PI / 180,
                .dihedral = rows[i].dihedral * M_PI / 180,
            };
        }
        for (int progress = 1; progress;) {
            progress = 0;
            for (int i = first; i < first + n; i++) {
                const placement *p = &b->places[i];
                if (placed[i] || (p->parent >= 0 && !placed[p->parent]) ||
                    (p->grand >= 0 && !placed[p->grand]) || (p->great >= 0 && !placed[p->great]))
                    continue;
                placed[i] = 1;
                b->order[done++] = i;
                progress = 1;
            }
        }
    }
    int status = !b->order || !placed ? TBG_FAILED
                 : done == m->n_atoms
                     ? TBG_OK
                     : tbg_fail(TBG_FAILED, "residue templates refer to each other in a circle");
    free(placed);
    return status;
}

static void subtract(const double *a, const double *b, double *c) {
    for (int k = 0; k < 3; k++)
        c[k] = a[k] - b[k];
}

static void cross(const double *a, const double *b, double *c) {
    for (int k = 0; k < 3; k++)
        c[k] = a[(k + 1) % 3] * b[(k + 2) % 3] - a[(k + 2) % 3] * b[(k + 1) % 3];
}

static void normalise(double *a) {
    double s = sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]);
    for (int k = 0; k < 3; k++)
        a[k] /= s;
}

static void place(builder *b, int i) {
    const placement *p = &b->places[i];
    double(*x)[3] = b->m->positions;
    double c = p->length * cos(p->angle), s = p->length * sin(p->angle);
    if (p->parent < 0) {
        memset(x[i], 0, sizeof x[i]);
    } else if (p->grand < 0) {
        memcpy(x[i], x[p->parent], sizeof x[i]);
        x[i][0] += p->length;
    } else if (p->great < 0) { /* parent lies on the x axis from grand */
        memcpy(x[i], x[p->parent], sizeof x[i]);
        x[i][0] += x[p->grand][0] < x[p->parent][0] ? -c : c;
        x[i][1] += s;
    } else {
        double ab[3], bc[3], n[3], m[3];
        double phi = p->dihedral + (p->torsion >= 0 ? b->torsions[p->torsion] : 0);
        subtract(x[p->grand], x[p->great], ab);
        subtract(x[p->parent], x[p->grand], bc);
        normalise(bc);
        cross(ab, bc, n);
        normalise(n);
        cross(n, bc, m);
        for (int k = 0; k < 3; k++)
            x[i][k] = x[p->parent][k] - c * bc[k] + s * (cos(phi) * m[k] + sin(phi) * n[k]);
    }
}

/* Shortest comfortable distance of two atoms four or more bonds apart, nm. */
static double contact(int a, int b) {
    if (a == 1 && b == 1)
        return 0.20;
    if (a == 1 || b == 1) {
        int heavy = a == 1 ? b : a;
        return heavy == 16 ? 0.26 : heavy == 6 ? 0.24 : 0.21;
    }
    return a == 16 || b == 16 ? 0.33 : 0.29;
}

/* Sum of squared overlaps of residue r's atoms with each other and with all residues before, nm^2. */
static double overlap(const builder *b, int r, double limit) {
    const tbg_molecule *m = b->m;
    double sum = 0;
    int first = m->residues[r].first, end = first + m->residues[r].n;
    for (int i = first; i < end && sum < limit; i++)
        for (int j = 0; j < i; j++) {
            double c = contact(m->atoms[i].element, m->atoms[j].element), d[3];
            subtract(m->positions[i], m->positions[j], d);
            double r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            if (r2 < c * c && b->distance[(size_t)i * (size_t)m->n_atoms + (size_t)j] > 3)
                sum += (c - sqrt(r2)) * (c - sqrt(r2));
        }
    return sum;
}

static void place_residue(builder *b, int r) {
    int first = b->m->residues[r].first;
    for (int k = first; k < first + b->m->residues[r].n; k++)
        place(b, b->order[k]);
}

/* Backbone choices, the most extended first; phi of PRO is its ring's. Degrees. */
static const double BACKBONE[][2] = {{-120, 130}, {-140, 155}, {-75, 145}, {-100, 110}, {-155, 170},
                                     {-90, 70},   {-65, -40},  {-95, 0},   {60, 45}};
static const double PROLINE[][2] = {{-70, 145}, {-70, 120}, {-70, 165}, {-70, -35}, {-70, 70}};
static const double STAGGERED[] = {-62, 180, 62}, PLANAR[] = {90, -60, 0, 60}, FLIP[] = {0, 180};
#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* Choose the torsions of residue r, all residues before being placed: the first choice without overlap, else
 * the one with the least. */
static void search_residue(builder *b, int r) {
    const tbg_template *t = b->sequence[r].t;
    int n_chi = (int)strlen(t->kinds), total = 1, sizes[TBG_MAX_CHI];
    const double *values[TBG_MAX_CHI];
    for (int k = 0; k < n_chi; k++) {
        values[k] = t->kinds[k] == 's' ? STAGGERED : t->kinds[k] == 'p' ? PLANAR : FLIP;
        sizes[k] = t->kinds[k] == 's' ? COUNT(STAGGERED) : t->kinds[k] == 'p' ? COUNT(PLANAR) : COUNT(FLIP);
        total *= sizes[k];
    }
    const double(*backbone)[2] = t->letter == 'P' ? PROLINE : BACKBONE;
    int n_backbone = t->letter == 'P' ? COUNT(PROLINE) : COUNT(BACKBONE);
    double *torsion = &b->torsions[r * N_TORSIONS], best[N_TORSIONS] = {0}, least = INFINITY;
    for (int choice = 0; choice < n_backbone * total && least > 0; choice++) {
        int rest = choice % total;
        torsion[PHI] = backbone[choice / total][0] * M_PI / 180;
        torsion[PSI] = backbone[choice / total][1] * M_PI / 180;
        torsion[OMEGA] = M_PI;
        for (int k = 0; k < n_chi; k++) {
            torsion[CHI + k] = values[k][rest % sizes[k]] * M_PI / 180;
            rest /= sizes[k];
        }
        place_residue(b, r);
        double sum = overlap(b, r, least);
        if (sum < least) {
            least = sum;
            memcpy(best, torsion, sizeof best);
        }
    }
    memcpy(torsion, best, sizeof best);
    place_residue(b, r);
}

static void centre(tbg_molecule *m) {
    for (int k = 0; k < 3; k++) {
        double mean = 0;
        for (int i = 0; i < m->n_atoms; i++)
            mean += m->positions[i][k] / m->n_atoms;
        for (int i = 0; i < m->n_atoms; i++)
            m->positions[i][k] -= mean;
    }
}

static int build(builder *b, int n_residues) {
    TBG_TRY(add_atoms(b, n_residues));
    tbg_molecule *m = b->m;
    m->positions = tbg_alloc((size_t)m->n_atoms, sizeof *m->positions);
    b->torsions = TBG_NEW(double, n_residues *N_TORSIONS);
    b->distance = tbg_alloc((size_t)m->n_atoms, (size_t)m->n_atoms);
    if (!m->positions || !b->torsions || !b->distance)
        return TBG_FAILED;
    TBG_TRY(tbg_molecule_bond(m));
    TBG_TRY(tbg_bond_distances(m->n_atoms, m->n_bonds, m->bonds, b->distance));
    TBG_TRY(plan(b));
    for (int r = 0; r < n_residues; r++)
        search_residue(b, r);
    centre(m);
    return TBG_OK;
}

int tbg_molecule_from_sequence(const char *sequence, tbg_molecule **out) {
    *out = NULL;
    builder b = {0};
    int n, status;
    b.sequence = TBG_NEW(tbg_sequence_residue, TBG_MAX_SEQUENCE);
    b.m = TBG_NEW(tbg_molecule, 1);
    status = b.sequence && b.m ? tbg_sequence_parse(sequence, &n, b.sequence) : TBG_FAILED;
    if (status == TBG_OK)
        status = build(&b, n);
    free(b.sequence);
    free(b.places);
    free(b.order);
    free(b.torsions);
    free(b.distance);
    if (status != TBG_OK) {
        tbg_molecule_free(b.m);
        return status;
    }
    *out = b.m;
    return TBG_OK;
}
