/* xml.c: reads parameter files in OpenMM's XML format with expat.
 *
 * Owns: AtomTypes, Residues, HarmonicBondForce, HarmonicAngleForce, PeriodicTorsionForce, NonbondedForce,
 * GBSAOBCForce. Refuses, with file and line: other forces, scripts (OpenMM runs Python there), includes,
 * virtual sites, numbers that are none. Skips what only describes: Info, Patches, AllowPatch (a patched
 * residue then finds no template). */
#include "base/memory.h"
#include "forcefield/parameters.h"
#include "tbg/status.h"

#include <errno.h>
#include <expat.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static unsigned hash_text(const char *text) {
    unsigned h = 2166136261u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

static int names_grow(tbg_names *names) {
    int size = names->table_size ? 2 * names->table_size : 1024;
    int *table = TBG_NEW(int, size);
    char **text = tbg_realloc(names->text, (size_t)size / 2, sizeof *text);
    if (text)
        names->text = text;
    if (!table || !text) {
        free(table);
        return -1;
    }
    for (int i = 0; i < names->n; i++) {
        unsigned slot = hash_text(names->text[i]) & (unsigned)(size - 1);
        while (table[slot])
            slot = (slot + 1) & (unsigned)(size - 1);
        table[slot] = i + 1;
    }
    free(names->table);
    names->table = table;
    names->table_size = size;
    names->capacity = size / 2;
    return 0;
}

int tbg_names_intern(tbg_names *names, const char *text) {
    if (!names->table_size) {
        if (names_grow(names) || tbg_names_intern(names, "") != 0)
            return -1;
    }
    unsigned mask = (unsigned)names->table_size - 1, slot = hash_text(text) & mask;
    for (; names->table[slot]; slot = (slot + 1) & mask)
        if (!strcmp(names->text[names->table[slot] - 1], text))
            return names->table[slot] - 1;
    if (names->n == names->capacity)
        return names_grow(names) ? -1 : tbg_names_intern(names, text);
    char *copy = tbg_strdup(text);
    if (!copy)
        return -1;
    names->text[names->n] = copy;
    names->table[slot] = ++names->n;
    return names->n - 1;
}

/* ---- parsing ---- */

typedef enum {
    IN_DOCUMENT,
    IN_FORCEFIELD,
    IN_TYPES,
    IN_RESIDUES,
    IN_RESIDUE,
    IN_BONDS,
    IN_ANGLES,
    IN_TORSIONS,
    IN_NONBONDED,
    IN_GB,
    IN_LEAF
} place;

typedef struct {
    XML_Parser xml;
    const char *path;
    tbg_parameters *p;
    place stack[8];
    int depth, skip; /* skip > 0: inside an element that is passed over */
    int status, ordering;
} reader;

static void stop(reader *r, int status) {
    if (r->status == TBG_OK) {
        r->status =
            tbg_fail_in(status, "%s: line %lu", r->path, (unsigned long)XML_GetCurrentLineNumber(r->xml));
        XML_StopParser(r->xml, XML_FALSE);
    }
}

/* The first refusal counts; later ones in the same element follow from it. */
#define REFUSE(r, ...)                                                                                       \
    ((r)->status == TBG_OK ? (tbg_fail(TBG_INPUT, __VA_ARGS__), stop(r, TBG_INPUT)) : (void)0)

static const char *attribute(const XML_Char **attributes, const char *name) {
    for (; *attributes; attributes += 2)
        if (!strcmp(attributes[0], name))
            return attributes[1];
    return NULL;
}

/* A finite number; `missing` if the attribute is absent and missing is not Inf. */
static double number(reader *r, const char *element, const XML_Char **attributes, const char *name,
                     double missing) {
    const char *text = attribute(attributes, name);
    if (!text) {
        if (isinf(missing))
            REFUSE(r, "<%s> without %s", element, name);
        return missing;
    }
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value)) {
        REFUSE(r, "<%s>: %s=\"%.40s\" is no finite number", element, name, text);
        return 0;
    }
    return value;
}
#define REQUIRED INFINITY

static int intern(reader *r, const char *text) {
    int name = tbg_names_intern(&r->p->names, text);
    if (name < 0)
        stop(r, TBG_FAILED);
    return name;
}

/* Selector from "class" or "type" plus a suffix ("" or "1".."4"). */
static tbg_selector selector(reader *r, const char *element, const XML_Char **attributes,
                             const char *suffix) {
    tbg_selector s = {TBG_ANY, 0};
    char by_class[8], by_type[8];
    snprintf(by_class, sizeof by_class, "class%s", suffix);
    snprintf(by_type, sizeof by_type, "type%s", suffix);
    const char *class_ = attribute(attributes, by_class), *type = attribute(attributes, by_type);
    if ((class_ != NULL) == (type != NULL)) {
        REFUSE(r, "<%s> needs either %s or %s", element, by_class, by_type);
        return s;
    }
    const char *text = class_ ? class_ : type;
    if (*text) {
        s.kind = class_ ? TBG_CLASS : TBG_TYPE;
        s.name = intern(r, text);
    }
    return s;
}

/* One more element at the end of an array whose capacity doubles at powers of two; NULL after stopping the
 * parser. */
static void *append(reader *r, void *array, int *n, size_t size) {
    char **base = array;
    if (*n == 0 || (*n & (*n - 1)) == 0) {
        char *grown = *n >= 1 << 24 ? NULL : tbg_realloc(*base, *n ? 2 * (size_t)*n : 1, size);
        if (!grown) {
            if (*n >= 1 << 24)
                REFUSE(r, "too many elements");
            else
                stop(r, TBG_FAILED);
            return NULL;
        }
        *base = grown;
    }
    char *element = *base + (size_t)(*n)++ * size;
    memset(element, 0, size);
    return element;
}
#define APPEND(r, array, n) append(r, &(array), &(n), sizeof *(array))

static int element_number(const char *symbol) {
    for (int z = 1; z <= 118; z++) {
        const char *known = tbg_element_symbol(z);
        if (known && *known && !strcmp(known, symbol))
            return z;
    }
    return 0;
}

static void read_type(reader *r, const XML_Char **a) {
    const char *name = attribute(a, "name"), *class_ = attribute(a, "class"),
               *symbol = attribute(a, "element");
    if (!name || !class_) {
        REFUSE(r, "<Type> without name or class");
        return;
    }
    tbg_atom_type *type = APPEND(r, r->p->types, r->p->n_types);
    if (!type)
        return;
    type->name = intern(r, name);
    type->class_ = intern(r, class_);
    type->element = symbol ? element_number(symbol) : 0;
    type->mass = number(r, "Type", a, "mass", REQUIRED);
    if (!(type->mass >= 0))
        REFUSE(r, "type %s: mass %g", name, type->mass);
}

static int template_atom(reader *r, const tbg_ff_residue *t, const XML_Char **a, const char *by_name,
                         const char *by_index) {
    const char *name = attribute(a, by_name), *index = attribute(a, by_index);
    if (name)
        for (int i = 0; i < t->n_atoms; i++)
            if (!strcmp(t->atoms[i].name, name))
                return i;
    if (!name && index) {
        char *end;
        long i = strtol(index, &end, 10);
        if (end != index && !*end && i >= 0 && i < t->n_atoms)
            return (int)i;
    }
    REFUSE(r, "residue %s: bond to unknown atom %.16s", t->name, name ? name : index ? index : "(none)");
    return 0;
}

static void read_residue_part(reader *r, const char *element, const XML_Char **a) {
    tbg_ff_residue *t = &r->p->templates[r->p->n_templates - 1];
    if (!strcmp(element, "Atom")) {
        const char *name = attribute(a, "name"), *type = attribute(a, "type");
        if (!name || !type || strlen(name) >= sizeof t->atoms->name) {
            REFUSE(r, "residue %s: <Atom> without name or type, or name too long", t->name);
            return;
        }
        for (int i = 0; i < t->n_atoms; i++)
            if (!strcmp(t->atoms[i].name, name)) {
                REFUSE(r, "residue %s: two atoms %s", t->name, name);
                return;
            }
        if (t->n_atoms >= 1000) {
            REFUSE(r, "residue %s: too many atoms", t->name);
            return;
        }
        tbg_ff_atom *atom = APPEND(r, t->atoms, t->n_atoms);
        if (!atom)
            return;
        strcpy(atom->name, name);
        atom->type_name = intern(r, type);
        atom->charge = number(r, "Atom", a, "charge", NAN);
    } else if (!strcmp(element, "Bond")) {
        int i = template_atom(r, t, a, "atomName1", "from"), j = template_atom(r, t, a, "atomName2", "to");
        int *bond = APPEND(r, t->bonds, t->n_bonds);
        if (bond) {
            bond[0] = i;
            bond[1] = j;
        }
    } else if (!strcmp(element, "ExternalBond")) {
        int i = template_atom(r, t, a, "atomName", "from");
        int *external = APPEND(r, t->externals, t->n_externals);
        if (external)
            *external = i;
    } else if (strcmp(element, "AllowPatch"))
        REFUSE(r, "residue %s: <%s> is not supported", t->name, element);
}

static void read_residue(reader *r, const XML_Char **a) {
    const char *name = attribute(a, "name");
    tbg_ff_residue *t;
    if (!name || strlen(name) >= sizeof t->name) {
        REFUSE(r, "<Residue> without name, or name too long");
        return;
    }
    t = APPEND(r, r->p->templates, r->p->n_templates);
    if (!t)
        return;
    strcpy(t->name, name);
    t->line = (int)XML_GetCurrentLineNumber(r->xml);
}

static void read_torsion(reader *r, const char *element, const XML_Char **a) {
    int proper = !strcmp(element, "Proper");
    if (!proper && strcmp(element, "Improper")) {
        REFUSE(r, "<%s> among torsions is not supported", element);
        return;
    }
    tbg_torsion_parameter *t =
        proper ? APPEND(r, r->p->propers, r->p->n_propers) : APPEND(r, r->p->impropers, r->p->n_impropers);
    if (!t)
        return;
    for (int i = 0; i < 4; i++) {
        char suffix[2] = {(char)('1' + i), 0};
        t->atom[i] = selector(r, element, a, suffix);
        t->wildcard |= t->atom[i].kind == TBG_ANY;
    }
    t->ordering = r->ordering;
    for (int i = 1;; i++) {
        char phase[12], k[12], periodicity[16];
        snprintf(phase, sizeof phase, "phase%d", i);
        snprintf(k, sizeof k, "k%d", i);
        snprintf(periodicity, sizeof periodicity, "periodicity%d", i);
        if (!attribute(a, phase))
            break;
        if (i > 6) {
            REFUSE(r, "<%s> with more than 6 terms", element);
            break;
        }
        double n = number(r, element, a, periodicity, REQUIRED);
        if (!(n >= 1 && n <= 12) || n != floor(n)) {
            REFUSE(r, "<%s>: %s is not a whole number from 1 to 12", element, periodicity);
            break;
        }
        t->periodicity[t->n] = (int)n;
        t->phase[t->n] = number(r, element, a, phase, REQUIRED);
        t->k[t->n++] = number(r, element, a, k, REQUIRED);
    }
    if (!t->n)
        REFUSE(r, "<%s> without phase1", element);
}

static void read_nonbonded(reader *r, const char *element, const XML_Char **a) {
    if (!strcmp(element, "UseAttributeFromResidue")) {
        const char *name = attribute(a, "name");
        if (!name || strcmp(name, "charge"))
            REFUSE(r, "<UseAttributeFromResidue name=\"%.16s\"/> is not supported", name ? name : "");
        else
            r->p->charge_from_residue = 1;
        return;
    }
    tbg_nonbonded_parameter *atom = APPEND(r, r->p->nonbonded, r->p->n_nonbonded);
    if (!atom)
        return;
    atom->atom = selector(r, element, a, "");
    atom->charge = number(r, element, a, "charge", NAN);
    atom->sigma = number(r, element, a, "sigma", REQUIRED);
    atom->epsilon = number(r, element, a, "epsilon", REQUIRED);
    if (!(atom->sigma >= 0 && atom->epsilon >= 0))
        REFUSE(r, "<%s>: negative sigma or epsilon", element);
}

/* Both 1-4 scales of a <NonbondedForce>; all files must agree. */
static void read_scales(reader *r, const XML_Char **a) {
    double coulomb = number(r, "NonbondedForce", a, "coulomb14scale", REQUIRED);
    double lj = number(r, "NonbondedForce", a, "lj14scale", REQUIRED);
    if (!isnan(r->p->coulomb14) && (fabs(coulomb - r->p->coulomb14) > 1e-5 || fabs(lj - r->p->lj14) > 1e-5))
        REFUSE(r, "<NonbondedForce>: other 1-4 scales than in an earlier file");
    if (isnan(r->p->coulomb14)) {
        r->p->coulomb14 = coulomb;
        r->p->lj14 = lj;
    }
}

static place start_section(reader *r, const char *element, const XML_Char **a) {
    if (!strcmp(element, "AtomTypes"))
        return IN_TYPES;
    if (!strcmp(element, "Residues"))
        return IN_RESIDUES;
    if (!strcmp(element, "HarmonicBondForce"))
        return IN_BONDS;
    if (!strcmp(element, "HarmonicAngleForce"))
        return IN_ANGLES;
    if (!strcmp(element, "NonbondedForce")) {
        read_scales(r, a);
        return IN_NONBONDED;
    }
    if (!strcmp(element, "GBSAOBCForce")) {
        r->p->gb_model = TBG_GB_OBC2;
        return IN_GB;
    }
    if (!strcmp(element, "PeriodicTorsionForce")) {
        const char *ordering = attribute(a, "ordering");
        if (!ordering || !strcmp(ordering, "default"))
            r->ordering = TBG_ORDER_DEFAULT;
        else if (!strcmp(ordering, "amber"))
            r->ordering = TBG_ORDER_AMBER;
        else if (!strcmp(ordering, "charmm"))
            r->ordering = TBG_ORDER_CHARMM;
        else
            REFUSE(r, "<PeriodicTorsionForce ordering=\"%.16s\"> is not supported", ordering);
        return IN_TORSIONS;
    }
    if (!strcmp(element, "Info") || !strcmp(element, "Patches")) {
        r->skip = 1;
        return IN_LEAF;
    }
    if (!strcmp(element, "Script") || !strcmp(element, "InitializationScript"))
        REFUSE(
            r,
            "<%s>: scripts are not run; for OpenMM's implicit/obc1.xml put the word obc1 in the list instead",
            element);
    else if (!strcmp(element, "Include"))
        REFUSE(r, "<Include> is not supported; list the files, separated by commas");
    else
        REFUSE(r, "<%s> is not supported", element);
    return IN_LEAF;
}

static void XMLCALL start_element(void *data, const XML_Char *element, const XML_Char **a) {
    reader *r = data;
    if (r->status)
        return;
    if (r->skip) {
        r->skip++;
        return;
    }
    place here = r->depth ? r->stack[r->depth - 1] : IN_DOCUMENT, next = IN_LEAF;
    switch (here) {
    case IN_DOCUMENT:
        if (strcmp(element, "ForceField"))
            REFUSE(r, "<%.40s> is not OpenMM's <ForceField>", element);
        next = IN_FORCEFIELD;
        break;
    case IN_FORCEFIELD:
        next = start_section(r, element, a);
        break;
    case IN_TYPES:
        read_type(r, a);
        break;
    case IN_RESIDUES:
        read_residue(r, a);
        next = IN_RESIDUE;
        break;
    case IN_RESIDUE:
        read_residue_part(r, element, a);
        break;
    case IN_BONDS: {
        tbg_bond_parameter *b = APPEND(r, r->p->bonds, r->p->n_bonds);
        if (!b)
            return;
        b->atom[0] = selector(r, element, a, "1");
        b->atom[1] = selector(r, element, a, "2");
        b->length = number(r, element, a, "length", REQUIRED);
        b->k = number(r, element, a, "k", REQUIRED);
        break;
    }
    case IN_ANGLES: {
        tbg_angle_parameter *b = APPEND(r, r->p->angles, r->p->n_angles);
        if (!b)
            return;
        b->atom[0] = selector(r, element, a, "1");
        b->atom[1] = selector(r, element, a, "2");
        b->atom[2] = selector(r, element, a, "3");
        b->angle = number(r, element, a, "angle", REQUIRED);
        b->k = number(r, element, a, "k", REQUIRED);
        break;
    }
    case IN_TORSIONS:
        read_torsion(r, element, a);
        break;
    case IN_NONBONDED:
        read_nonbonded(r, element, a);
        break;
    case IN_GB: {
        tbg_gb_parameter *g = APPEND(r, r->p->gb, r->p->n_gb);
        if (!g)
            return;
        g->atom = selector(r, element, a, "");
        g->charge = number(r, element, a, "charge", REQUIRED);
        g->radius = number(r, element, a, "radius", REQUIRED);
        g->scale = number(r, element, a, "scale", REQUIRED);
        if (!(g->radius > 0.009 && g->scale >= 0))
            REFUSE(r, "<%s>: generalised Born radius of %g nm or scale of %g", element, g->radius, g->scale);
        break;
    }
    case IN_LEAF:
        REFUSE(r, "unexpected <%.40s>", element);
        break;
    }
    if (r->status || r->skip)
        return;
    r->stack[r->depth++] = next; /* IN_LEAF allows no children, so the depth stays below 5 */
}

static void XMLCALL end_element(void *data, const XML_Char *element) {
    (void)element;
    reader *r = data;
    if (r->status)
        return;
    if (r->skip)
        r->skip--;
    else
        r->depth--;
}

int tbg_parameters_read(const char *path, tbg_parameters *p) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return tbg_fail(TBG_INPUT, "%s: %s", path, strerror(errno));
    reader r = {.path = path, .p = p};
    if (!p->names.n && tbg_names_intern(&p->names, "") < 0) {
        fclose(file);
        return TBG_FAILED;
    }
    if (!p->n_types)
        p->coulomb14 = p->lj14 = NAN;
    r.xml = XML_ParserCreate(NULL);
    char *buffer = tbg_alloc(65536, 1);
    if (!r.xml || !buffer)
        r.status = tbg_fail(TBG_FAILED, "no memory to read %s", path);
    else {
        XML_SetUserData(r.xml, &r);
        XML_SetElementHandler(r.xml, start_element, end_element);
    }
    size_t total = 0;
    for (int last = 0; !last && !r.status;) {
        size_t n = fread(buffer, 1, 65536, file);
        if ((total += n) > (size_t)256 << 20) {
            r.status = tbg_fail(TBG_INPUT, "%s: larger than 256 MiB", path);
            break;
        }
        last = n < 65536;
        if (ferror(file))
            r.status = tbg_fail(TBG_INPUT, "%s: %s", path, strerror(errno));
        else if (XML_Parse(r.xml, buffer, (int)n, last) != XML_STATUS_OK && !r.status)
            r.status =
                tbg_fail(TBG_INPUT, "%s: line %lu: %s", path, (unsigned long)XML_GetCurrentLineNumber(r.xml),
                         XML_ErrorString(XML_GetErrorCode(r.xml)));
    }
    free(buffer);
    if (r.xml)
        XML_ParserFree(r.xml);
    fclose(file);
    return r.status;
}

int tbg_parameters_resolve(tbg_parameters *p) {
    if (!p->n_types || !p->n_templates || !p->n_nonbonded)
        return tbg_fail(TBG_INPUT, "the force field's files hold no %s",
                        !p->n_types       ? "atom types"
                        : !p->n_templates ? "residues"
                                          : "nonbonded parameters");
    int *by_name = TBG_NEW(int, p->names.n); /* index + 1 of the type with that name */
    if (!by_name)
        return TBG_FAILED;
    int status = TBG_OK;
    for (int t = 0; t < p->n_types && !status; t++) {
        if (by_name[p->types[t].name])
            status = tbg_fail(TBG_INPUT, "the force field defines atom type '%s' twice",
                              p->names.text[p->types[t].name]);
        by_name[p->types[t].name] = t + 1;
    }
    for (int t = 0; t < p->n_templates && !status; t++)
        for (int a = 0; a < p->templates[t].n_atoms && !status; a++) {
            tbg_ff_atom *atom = &p->templates[t].atoms[a];
            atom->type = by_name[atom->type_name] - 1;
            if (atom->type < 0)
                status = tbg_fail(TBG_INPUT, "residue %s (line %d), atom %s: unknown atom type '%s'",
                                  p->templates[t].name, p->templates[t].line, atom->name,
                                  p->names.text[atom->type_name]);
        }
    free(by_name);
    return status;
}

void tbg_parameters_free(tbg_parameters *p) {
    for (int i = 0; i < p->names.n; i++)
        free(p->names.text[i]);
    free(p->names.text);
    free(p->names.table);
    for (int t = 0; t < p->n_templates; t++) {
        free(p->templates[t].atoms);
        free(p->templates[t].bonds);
        free(p->templates[t].externals);
    }
    free(p->types);
    free(p->templates);
    free(p->bonds);
    free(p->angles);
    free(p->propers);
    free(p->impropers);
    free(p->nonbonded);
    free(p->gb);
    memset(p, 0, sizeof *p);
}
