/* terms.c: typed atoms and the bond graph -> a system's tables of terms.
 *
 * Terms agree one by one with the lists that OpenMM 7.7's ForceField.createSystem makes (tests/forcefield),
 * including where that depends on the order of atoms; what is peculiar there is marked "OpenMM 7.7". Index
 * letters: i, j, k, l atoms. Refuses bonds and angles without parameters; torsions without parameters are
 * none, as in the format. */
#include "base/memory.h"
#include "forcefield/parameters.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const tbg_parameters *p;
    const tbg_molecule *m;
    const tbg_typed_atom *typed;
    tbg_system *s;
    int *first, *neighbour; /* neighbours of i, ascending: neighbour[first[i] .. first[i + 1] - 1] */
    int capacity;           /* of s->torsions */
} builder;

static const char *residue_name(const builder *b, int i) {
    return b->m->residues[b->m->atoms[i].residue].name;
}

static int graph(builder *b) {
    const tbg_molecule *m = b->m;
    b->first = TBG_NEW(int, m->n_atoms + 2);
    b->neighbour = TBG_NEW(int, 2 * (size_t)m->n_bonds);
    int *filled = TBG_NEW(int, m->n_atoms);
    if (!b->first || !b->neighbour || !filled) {
        free(filled);
        return TBG_FAILED;
    }
    for (int k = 0; k < m->n_bonds; k++)
        for (int e = 0; e < 2; e++)
            b->first[m->bonds[k][e] + 1]++;
    for (int i = 0; i < m->n_atoms; i++)
        b->first[i + 1] += b->first[i];
    for (int k = 0; k < m->n_bonds; k++)
        for (int e = 0; e < 2; e++) { /* insertion keeps each atom's part ascending */
            int i = m->bonds[k][e], j = m->bonds[k][1 - e], *list = b->neighbour + b->first[i];
            int n = filled[i]++;
            for (; n > 0 && list[n - 1] > j; n--)
                list[n] = list[n - 1];
            list[n] = j;
        }
    free(filled);
    return TBG_OK;
}

static int make_bonds(builder *b) {
    const tbg_parameters *p = b->p;
    tbg_system *s = b->s;
    s->bonds = TBG_NEW(tbg_bond_term, b->m->n_bonds);
    if (!s->bonds)
        return TBG_FAILED;
    for (int n = 0; n < b->m->n_bonds; n++) {
        int i = b->m->bonds[n][0], j = b->m->bonds[n][1], ti = b->typed[i].type, tj = b->typed[j].type, k = 0;
        for (; k < p->n_bonds; k++) {
            const tbg_selector *q = p->bonds[k].atom;
            if ((tbg_selects(p, q[0], ti) && tbg_selects(p, q[1], tj)) ||
                (tbg_selects(p, q[1], ti) && tbg_selects(p, q[0], tj)))
                break;
        }
        if (k == p->n_bonds)
            return tbg_fail(TBG_INPUT, "no parameters for the bond %s %s - %s %s", residue_name(b, i),
                            b->m->atoms[i].name, residue_name(b, j), b->m->atoms[j].name);
        if (p->bonds[k].k != 0)
            s->bonds[s->n_bonds++] = (tbg_bond_term){i, j, p->bonds[k].length, p->bonds[k].k};
    }
    return TBG_OK;
}

static int make_angles(builder *b) {
    const tbg_parameters *p = b->p;
    tbg_system *s = b->s;
    size_t capacity = 0;
    for (int j = 0; j < s->n_atoms; j++) {
        size_t n = (size_t)(b->first[j + 1] - b->first[j]);
        capacity += n * (n > 0 ? n - 1 : 0) / 2;
    }
    s->angles = TBG_NEW(tbg_angle_term, capacity);
    if (!s->angles)
        return TBG_FAILED;
    for (int j = 0; j < s->n_atoms; j++)
        for (int u = b->first[j]; u < b->first[j + 1]; u++)
            for (int v = u + 1; v < b->first[j + 1]; v++) {
                int i = b->neighbour[u], k = b->neighbour[v], q = 0;
                int ti = b->typed[i].type, tj = b->typed[j].type, tk = b->typed[k].type;
                for (; q < p->n_angles; q++) {
                    const tbg_selector *a = p->angles[q].atom;
                    if (tbg_selects(p, a[1], tj) && ((tbg_selects(p, a[0], ti) && tbg_selects(p, a[2], tk)) ||
                                                     (tbg_selects(p, a[2], ti) && tbg_selects(p, a[0], tk))))
                        break;
                }
                if (q == p->n_angles)
                    return tbg_fail(TBG_INPUT, "no parameters for the angle %s - %s - %s of residue %s",
                                    b->m->atoms[i].name, b->m->atoms[j].name, b->m->atoms[k].name,
                                    residue_name(b, j));
                if (p->angles[q].k != 0)
                    s->angles[s->n_angles++] = (tbg_angle_term){i, j, k, p->angles[q].angle, p->angles[q].k};
            }
    return TBG_OK;
}

static int add_torsions(builder *b, const int atoms[4], const tbg_torsion_parameter *q) {
    tbg_system *s = b->s;
    for (int t = 0; t < q->n; t++) {
        if (q->k[t] == 0)
            continue;
        if (s->n_torsions == b->capacity) {
            int capacity = b->capacity ? 2 * b->capacity : 256;
            tbg_torsion_term *grown = tbg_realloc(s->torsions, (size_t)capacity, sizeof *grown);
            if (!grown)
                return TBG_FAILED;
            s->torsions = grown;
            b->capacity = capacity;
        }
        s->torsions[s->n_torsions++] = (tbg_torsion_term){atoms[0],          atoms[1],    atoms[2], atoms[3],
                                                          q->periodicity[t], q->phase[t], q->k[t]};
    }
    return TBG_OK;
}

/* The first parameter without wildcards that fits in either direction, else the first with. */
static const tbg_torsion_parameter *find_proper(const tbg_parameters *p, const int type[4]) {
    const tbg_torsion_parameter *found = NULL;
    for (int q = 0; q < p->n_propers; q++) {
        const tbg_torsion_parameter *t = &p->propers[q];
        const tbg_selector *a = t->atom;
        if (found && t->wildcard)
            continue;
        int forward = tbg_selects(p, a[1], type[1]) && tbg_selects(p, a[2], type[2]) &&
                      tbg_selects(p, a[0], type[0]) && tbg_selects(p, a[3], type[3]);
        int backward = tbg_selects(p, a[2], type[1]) && tbg_selects(p, a[1], type[2]) &&
                       tbg_selects(p, a[3], type[0]) && tbg_selects(p, a[0], type[3]);
        if (forward || backward) {
            found = t;
            if (!t->wildcard)
                break;
        }
    }
    return found;
}

static int make_propers(builder *b) {
    for (int k = 0; k < b->m->n_bonds; k++) {
        int j = b->m->bonds[k][0], l = b->m->bonds[k][1];
        for (int u = b->first[j]; u < b->first[j + 1]; u++)
            for (int v = b->first[l]; v < b->first[l + 1]; v++) {
                int atoms[4] = {b->neighbour[u], j, l, b->neighbour[v]}, type[4];
                if (atoms[0] == l || atoms[3] == j || atoms[0] == atoms[3])
                    continue;
                for (int a = 0; a < 4; a++)
                    type[a] = b->typed[atoms[a]].type;
                const tbg_torsion_parameter *found = find_proper(b->p, type);
                if (found)
                    TBG_TRY(add_torsions(b, atoms, found));
            }
    }
    return TBG_OK;
}

/* Where an atom stands for AMBER's order of outer atoms: by residue, then by place in the residue's template.
 */
static int comes_after(const builder *b, int i, int j) {
    int ri = b->m->atoms[i].residue, rj = b->m->atoms[j].residue;
    return ri != rj ? ri > rj : b->typed[i].template_index > b->typed[j].template_index;
}

static void swap(int *i, int *j) {
    int k = *i;
    *i = *j;
    *j = k;
}

/* Order of the atoms of an improper torsion about atoms[0] whose outer atoms fit the parameter as `outer`. */
static void order_improper(const builder *b, const tbg_torsion_parameter *q, int centre, const int outer[3],
                           int out[4]) {
    int i = outer[0], j = outer[1], k = outer[2];
    const tbg_atom *atoms = b->m->atoms;
    if (q->ordering == TBG_ORDER_AMBER) {
        /* Equal atoms are put in ascending order pair by pair: equal by type if the parameter names every
         * type, by element if it has wildcards; the first two then in any case. Types are those the parameter
         * was matched with, which stay in place while atoms are swapped (OpenMM 7.7). */
        int ti = b->typed[i].type, tj = b->typed[j].type, tk = b->typed[k].type;
        if (q->wildcard) {
            ti = atoms[i].element;
            tj = atoms[j].element;
            tk = atoms[k].element;
        }
        if (ti == tk && comes_after(b, i, k))
            swap(&i, &k);
        if (tj == tk && comes_after(b, j, k))
            swap(&j, &k);
        if ((q->wildcard || ti == tj) && comes_after(b, i, j))
            swap(&i, &j);
    } else if (q->ordering == TBG_ORDER_DEFAULT || q->wildcard) {
        /* Older rule: by index for equal elements, otherwise carbon first, then the heavier one last. */
        int ei = atoms[i].element, ej = atoms[j].element;
        if ((ei == ej && i > j) ||
            (ei != ej && ei != 6 && (ej == 6 || tbg_element_mass(ei) < tbg_element_mass(ej))))
            swap(&i, &j);
    } else { /* CHARMM without wildcards: the file's own order, centre first */
        memcpy(out, (int[4]){centre, i, j, k}, 4 * sizeof *out);
        return;
    }
    memcpy(out, (int[4]){i, j, centre, k}, 4 * sizeof *out);
}

/* The parameter for an improper torsion about atoms[0] and the order of its atoms: the last one without
 * wildcards that fits, else the first with; for each the first permutation of the outer atoms that fits. NULL
 * if there is none. */
static const tbg_torsion_parameter *find_improper(const builder *b, const int atoms[4], int ordered[4]) {
    static const int permutation[6][3] = {{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}};
    const tbg_parameters *p = b->p;
    const tbg_torsion_parameter *found = NULL;
    for (int q = 0; q < p->n_impropers; q++) {
        const tbg_torsion_parameter *t = &p->impropers[q];
        if ((found && t->wildcard) || !tbg_selects(p, t->atom[0], b->typed[atoms[0]].type))
            continue;
        for (int c = 0; c < 6; c++) {
            int outer[3], fits = 1;
            for (int a = 0; a < 3; a++) {
                outer[a] = atoms[permutation[c][a]];
                fits &= tbg_selects(p, t->atom[a + 1], b->typed[outer[a]].type);
            }
            if (fits) {
                order_improper(b, t, atoms[0], outer, ordered);
                found = t;
                break;
            }
        }
    }
    return found;
}

typedef struct {
    int type[4], position[4]; /* signature; which of the four atoms stands at each place */
    const tbg_torsion_parameter *parameter;
} improper_order;

/* OpenMM 7.7 keeps, for each sequence of types (centre, then neighbours by index), the order of positions
 * found at the first such torsion, and uses it again without looking at atoms. That differs from a fresh
 * search in rings. */
static int make_impropers(builder *b) {
    size_t n_cached = 0, capacity = 0;
    for (int i = 0; i < b->s->n_atoms; i++) {
        size_t n = (size_t)(b->first[i + 1] - b->first[i]);
        capacity += n < 3 ? 0 : n * (n - 1) * (n - 2) / 6;
    }
    improper_order *cache = TBG_NEW(improper_order, capacity);
    if (!cache)
        return TBG_FAILED;
    int status = TBG_OK;
    for (int i = 0; i < b->s->n_atoms; i++)
        for (int u = b->first[i]; u < b->first[i + 1]; u++)
            for (int v = u + 1; v < b->first[i + 1]; v++)
                for (int w = v + 1; w < b->first[i + 1] && !status; w++) {
                    int atoms[4] = {i, b->neighbour[u], b->neighbour[v], b->neighbour[w]}, ordered[4];
                    int type[4];
                    for (int a = 0; a < 4; a++)
                        type[a] = b->typed[atoms[a]].type;
                    improper_order *known = NULL;
                    for (size_t c = 0; c < n_cached && !known; c++)
                        if (!memcmp(cache[c].type, type, sizeof type))
                            known = &cache[c];
                    if (!known) {
                        known = &cache[n_cached++];
                        memcpy(known->type, type, sizeof type);
                        known->parameter = find_improper(b, atoms, ordered);
                        for (int a = 0; known->parameter && a < 4; a++)
                            for (int c = 0; c < 4; c++)
                                if (atoms[c] == ordered[a])
                                    known->position[a] = c;
                    }
                    for (int a = 0; a < 4; a++)
                        ordered[a] = atoms[known->position[a]];
                    if (known->parameter)
                        status = add_torsions(b, ordered, known->parameter);
                }
    free(cache);
    return status;
}

static int make_nonbonded(builder *b) {
    const tbg_parameters *p = b->p;
    tbg_system *s = b->s;
    int n = s->n_atoms;
    for (int i = 0; i < n; i++) {
        const tbg_nonbonded_parameter *found = NULL;
        for (int q = 0; q < p->n_nonbonded; q++)
            if (tbg_selects(p, p->nonbonded[q].atom, b->typed[i].type))
                found = &p->nonbonded[q];
        double charge = !found ? NAN : p->charge_from_residue ? b->typed[i].charge : found->charge;
        if (!found || isnan(charge))
            return tbg_fail(TBG_INPUT, "atom %s of residue %s (type %s) has no %s", b->m->atoms[i].name,
                            residue_name(b, i), p->names.text[p->types[b->typed[i].type].name],
                            found ? "charge" : "nonbonded parameters");
        s->charge[i] = charge;
        s->sigma[i] = found->sigma;
        s->epsilon[i] = found->epsilon;
        s->mass[i] = p->types[b->typed[i].type].mass;
    }
    unsigned char *distance = TBG_NEW(unsigned char, (size_t)n *(size_t)n);
    if (!distance)
        return TBG_FAILED;
    int status = tbg_bond_distances(n, b->m->n_bonds, (const int(*)[2])b->m->bonds, distance);
    size_t n14 = 0, n_far = 0;
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t j = i + 1; j < (size_t)n; j++) {
            n14 += distance[i * n + j] == 3;
            n_far += distance[i * n + j] > 3;
        }
    s->pairs14 = TBG_NEW(tbg_pair_term, n14);
    s->pairs = (int(*)[2])TBG_NEW(int, 2 * n_far);
    if (!status && (!s->pairs14 || !s->pairs))
        status = TBG_FAILED;
    for (int i = 0; i < n && !status; i++)
        for (int j = i + 1; j < n; j++) {
            int d = distance[(size_t)i * n + j];
            if (d == 3)
                s->pairs14[s->n_pairs14++] = (tbg_pair_term){i, j, p->coulomb14 * s->charge[i] * s->charge[j],
                                                             0.5 * (s->sigma[i] + s->sigma[j]),
                                                             p->lj14 * sqrt(s->epsilon[i] * s->epsilon[j])};
            else if (d > 3) {
                s->pairs[s->n_pairs][0] = i;
                s->pairs[s->n_pairs++][1] = j;
            }
        }
    free(distance);
    return status;
}

/* OBC1 as OpenMM's implicit/obc1.xml sets it up: mbondi2 radii by element and partner, screening by element.
 */
static void obc1_radius(const builder *b, int i, double *radius, double *screen) {
    switch (b->m->atoms[i].element) {
    case 1: {
        int partner = b->first[i + 1] > b->first[i] ? b->m->atoms[b->neighbour[b->first[i]]].element : 0;
        *radius = partner == 7 ? 0.13 : 0.12;
        *screen = 0.85;
        break;
    }
    case 6:
        *radius = 0.17, *screen = 0.72;
        break;
    case 7:
        *radius = 0.155, *screen = 0.79;
        break;
    case 8:
        *radius = 0.15, *screen = 0.85;
        break;
    case 9:
        *radius = 0.15, *screen = 0.88;
        break;
    case 15:
        *radius = 0.185, *screen = 0.86;
        break;
    case 16:
        *radius = 0.18, *screen = 0.96;
        break;
    case 17:
        *radius = 0.17, *screen = 0.8;
        break;
    default:
        *radius = 0.15, *screen = 0.8;
    }
}

static int make_gb(builder *b) {
    const tbg_parameters *p = b->p;
    tbg_system *s = b->s;
    s->gb = p->gb_model;
    s->gb_solute = 1;
    s->gb_offset = 0.009;
    s->gb_probe = 0.14;
    if (s->gb == TBG_GB_OBC1) {
        s->gb_coulomb = 138.935485;
        s->gb_solvent = 78.5;
        s->gb_alpha = 0.8;
        s->gb_beta = 0;
        s->gb_gamma = 2.909125;
        s->gb_surface = 28.3919551;
        for (int i = 0; i < s->n_atoms; i++)
            obc1_radius(b, i, &s->gb_radius[i], &s->gb_screen[i]);
    } else if (s->gb == TBG_GB_OBC2) { /* OpenMM's GBSAOBCForce and its defaults */
        s->gb_coulomb = s->coulomb;
        s->gb_solvent = 78.3;
        s->gb_alpha = 1;
        s->gb_beta = 0.8;
        s->gb_gamma = 4.85;
        s->gb_surface = 4 * 3.14159265358979323846 * 2.25936;
        for (int i = 0; i < s->n_atoms; i++) {
            const tbg_gb_parameter *found = NULL;
            for (int q = 0; q < p->n_gb; q++)
                if (tbg_selects(p, p->gb[q].atom, b->typed[i].type))
                    found = &p->gb[q];
            const char *type = p->names.text[p->types[b->typed[i].type].name];
            if (!found)
                return tbg_fail(TBG_INPUT,
                                "atom %s of residue %s (type %s) has no generalised Born parameters",
                                b->m->atoms[i].name, residue_name(b, i), type);
            if (!(fabs(found->charge - s->charge[i]) <= 1e-9))
                return tbg_fail(TBG_INPUT,
                                "atom type %s: charge %g for generalised Born, %g otherwise; they must agree",
                                type, found->charge, s->charge[i]);
            s->gb_radius[i] = found->radius;
            s->gb_screen[i] = found->scale;
        }
    }
    return TBG_OK;
}

int tbg_make_terms(const tbg_parameters *p, const tbg_molecule *molecule, const tbg_typed_atom *typed,
                   tbg_system *s) {
    builder b = {.p = p, .m = molecule, .typed = typed, .s = s};
    s->coulomb = 138.93545764438198; /* OpenMM's ONE_4PI_EPS0 */
    int status = graph(&b);
    if (!status)
        status = make_bonds(&b);
    if (!status)
        status = make_angles(&b);
    if (!status)
        status = make_propers(&b);
    if (!status)
        status = make_impropers(&b);
    if (!status)
        status = make_nonbonded(&b);
    if (!status)
        status = make_gb(&b);
    free(b.first);
    free(b.neighbour);
    return status;
}
