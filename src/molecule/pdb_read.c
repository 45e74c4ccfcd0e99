/* pdb_read.c: PDB text -> molecule. Owns the fixed columns, alternate locations, chains, and the check that
 * every residue is complete. Keeps the file's atom order; refuses what the templates do not know, naming line
 * and residue. Waters are left out and counted; of several models the first is read. */
#include "molecule/refused.h"
#include "molecule/templates.h"
#include "base/memory.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RAW (8 * TBG_MAX_ATOMS) /* atoms in the file, alternate locations included */
#define MAX_RAW_RESIDUE 256         /* the same in one residue */
#define PEPTIDE_LIMIT 0.25          /* nm; a longer C-N bond is a gap in the chain */

typedef struct {
    int line, serial, number, part; /* part: how many TER records came before */
    char name[8], residue[8], chain, insertion, alternate, element[3];
    double x[3], occupancy;
} raw_atom;

typedef struct {
    int line, a, b; /* serial numbers */
} raw_bond;

typedef struct {
    const char *name; /* of the file, for messages */
    raw_atom *atoms;
    raw_bond *conect;
    int n, capacity, n_conect, conect_capacity, n_waters;
} raw_file;

/* Columns first..last (from 1) of a line without the blanks around. out: [last - first + 2]. */
static void columns(const char *line, size_t length, int first, int last, char *out) {
    size_t from = (size_t)first - 1, to = (size_t)last < length ? (size_t)last : length, n = 0;
    while (from < to && (line[from] == ' ' || line[from] == '\t'))
        from++;
    while (to > from && (line[to - 1] == ' ' || line[to - 1] == '\t'))
        to--;
    for (; from < to; from++)
        out[n++] = line[from];
    out[n] = 0;
}

static int number(const char *text, double *value) {
    if (!text[0] || text[strspn(text, "0123456789+-.eE")])
        return 0;
    char *end;
    *value = strtod(text, &end);
    return !*end && isfinite(*value);
}

static int integer(const char *text, int *value) {
    char *end;
    if (!text[0] || text[strspn(text, "0123456789+-")])
        return 0;
    long v = strtol(text, &end, 10);
    *value = (int)v;
    return !*end && v > -10000000 && v < 10000000;
}

static int is_water(const char *residue) {
    static const char *const WATERS[] = {"HOH", "WAT",  "H2O", "DOD",  "SOL",
                                         "TIP", "TIP3", "TP3", "TIP4", "SPC"};
    for (size_t i = 0; i < sizeof WATERS / sizeof WATERS[0]; i++)
        if (!strcmp(residue, WATERS[i]))
            return 1;
    return 0;
}

/* Make every byte of a name printable, so that messages and files stay text. */
static int printable(const char *text) {
    for (; *text; text++)
        if (*text < 33 || *text > 126)
            return 0;
    return 1;
}

static int parse_atom(raw_file *f, const char *line, size_t length, int line_number, int part) {
    if (length < 54)
        return tbg_fail(TBG_INPUT, "%s: line %d ends within the coordinates", f->name, line_number);
    raw_atom a = {.line = line_number, .part = part, .occupancy = 1};
    char text[16];
    columns(line, length, 13, 16, a.name);
    columns(line, length, 18, 21, a.residue); /* a fourth letter is not standard, but written by some */
    a.alternate = line[16];
    a.chain = line[21];
    a.insertion = line[26];
    if (!a.name[0] || !printable(a.name) || !printable(a.residue) || a.chain < 32 || a.chain > 126 ||
        a.insertion < 32 || a.insertion > 126)
        return tbg_fail(TBG_INPUT, "%s: line %d is no atom record (names expected in columns 13 to 27)",
                        f->name, line_number);
    if (is_water(a.residue)) {
        f->n_waters += a.name[0] == 'O';
        return TBG_OK;
    }
    columns(line, length, 7, 11, text);
    if (!integer(text, &a.serial))
        a.serial = -1;
    columns(line, length, 23, 26, text);
    if (!integer(text, &a.number))
        return tbg_fail(TBG_INPUT, "%s: line %d: residue number '%s' is none", f->name, line_number, text);
    for (int k = 0; k < 3; k++) {
        columns(line, length, 31 + 8 * k, 38 + 8 * k, text);
        if (!number(text, &a.x[k]) || fabs(a.x[k]) > 1e5)
            return tbg_fail(TBG_INPUT,
                            "%s: line %d: coordinate '%s' of atom %s of residue %s %d is no usable number",
                            f->name, line_number, text, a.name, a.residue, a.number);
        a.x[k] /= 10; /* Angstrom to nm */
    }
    columns(line, length, 55, 60, text);
    if (text[0] && !number(text, &a.occupancy))
        return tbg_fail(TBG_INPUT, "%s: line %d: occupancy '%s' is no number", f->name, line_number, text);
    columns(line, length, 77, 78, a.element);
    if (f->n == MAX_RAW)
        return tbg_fail(TBG_INPUT, "%s: line %d: more than %d atoms", f->name, line_number, MAX_RAW);
    if (f->n == f->capacity) {
        int capacity = f->capacity ? 2 * f->capacity : 256;
        raw_atom *atoms = tbg_realloc(f->atoms, (size_t)capacity, sizeof *atoms);
        if (!atoms)
            return TBG_FAILED;
        f->atoms = atoms;
        f->capacity = capacity;
    }
    f->atoms[f->n++] = a;
    return TBG_OK;
}

static int parse_conect(raw_file *f, const char *line, size_t length, int line_number) {
    int serials[5] = {0};
    for (int k = 0; k < 5; k++) {
        char text[8];
        columns(line, length, 7 + 5 * k, 11 + 5 * k, text);
        if (!text[0])
            continue;
        if (!integer(text, &serials[k]))
            return tbg_fail(TBG_INPUT, "%s: line %d: CONECT needs atom numbers, not '%s'", f->name,
                            line_number, text);
        if (!k || !serials[k])
            continue;
        if (f->n_conect == f->conect_capacity) {
            if (f->n_conect > 4 * MAX_RAW)
                return tbg_fail(TBG_INPUT, "%s: line %d: too many CONECT records", f->name, line_number);
            int capacity = f->conect_capacity ? 2 * f->conect_capacity : 64;
            raw_bond *bonds = tbg_realloc(f->conect, (size_t)capacity, sizeof *bonds);
            if (!bonds)
                return TBG_FAILED;
            f->conect = bonds;
            f->conect_capacity = capacity;
        }
        f->conect[f->n_conect++] = (raw_bond){line_number, serials[0], serials[k]};
    }
    return TBG_OK;
}

static int is_record(const char *line, size_t length, const char *record) {
    size_t n = strlen(record);
    return length >= n && !memcmp(line, record, n) && (length == n || n == 6 || line[n] == ' ');
}

static int parse_lines(raw_file *f, const char *text, size_t length) {
    int line_number = 0, part = 0, model_done = 0;
    if (memchr(text, 0, length))
        return tbg_fail(TBG_INPUT, "%s: not a text file", f->name);
    for (size_t at = 0; at < length;) {
        const char *line = text + at, *end = memchr(line, '\n', length - at);
        size_t n = end ? (size_t)(end - line) : length - at;
        at += n + 1;
        line_number++;
        if (n && line[n - 1] == '\r')
            n--;
        if (is_record(line, n, "ATOM  ") || is_record(line, n, "HETATM")) {
            if (!model_done)
                TBG_TRY(parse_atom(f, line, n, line_number, part));
        } else if (is_record(line, n, "TER"))
            part++;
        else if (is_record(line, n, "ENDMDL"))
            model_done = f->n > 0;
        else if (is_record(line, n, "CONECT"))
            TBG_TRY(parse_conect(f, line, n, line_number));
        else if (is_record(line, n, "END"))
            break;
    }
    if (!f->n)
        return tbg_fail(TBG_INPUT, "%s: no ATOM records (is it a PDB file?)", f->name);
    return TBG_OK;
}

static int same_residue(const raw_atom *a, const raw_atom *b) {
    return a->number == b->number && a->chain == b->chain && a->insertion == b->insertion &&
           a->part == b->part;
}

/* Keep the atoms of one chain; refuse a file with several unless one was chosen. */
static int choose_chain(raw_file *f, char chain) {
    if (chain) {
        int n = 0;
        for (int i = 0; i < f->n; i++)
            if (f->atoms[i].chain == chain)
                f->atoms[n++] = f->atoms[i];
        if (!n)
            return tbg_fail(TBG_INPUT, "%s: no chain '%c'", f->name, chain);
        f->n = n;
    }
    char chains[128] = "";
    int n_chains = 0, breaks = 0;
    for (int i = 0; i < f->n; i++) {
        char c = f->atoms[i].chain;
        if (!memchr(chains, c, (size_t)n_chains))
            chains[n_chains++] = c;
        if (i && f->atoms[i].part != f->atoms[i - 1].part && c == f->atoms[i - 1].chain && !breaks)
            breaks = f->atoms[i].line;
    }
    chains[n_chains] = 0;
    if (n_chains > 1)
        return tbg_fail(TBG_INPUT, "%s: holds %d chains ('%s'), one is needed: choose with FILE.pdb:%c",
                        f->name, n_chains, chains, chains[0]);
    if (breaks)
        return tbg_fail(TBG_INPUT,
                        "%s: line %d: residue %s %d begins a second chain after TER; one chain is needed",
                        f->name, breaks, f->atoms[0].residue, f->atoms[0].number);
    return TBG_OK;
}

/* The template's reason for lacking an atom that the file has. */
static const char *hint(const char *residue, const char *atom) {
    if (!strcmp(atom, "HXT") || !strcmp(atom, "HO") || !strcmp(atom, "HOXT"))
        return "; a neutral C-terminus is not supported, only COO- or the cap NME";
    if ((!strcmp(residue, "ASP") && !strncmp(atom, "HD", 2)) ||
        (!strcmp(residue, "GLU") && !strncmp(atom, "HE", 2)))
        return "; the protonated acid is not supported";
    if (!strcmp(atom, "OXT") || !strcmp(atom, "H2") || !strcmp(atom, "H3"))
        return "; only the ends of a chain have it";
    return "";
}

static const char *missing_hint(const char *residue, const char *atom, int last) {
    if (!strcmp(atom, "OXT"))
        return " (the chain must end in COO- or the cap NME)";
    if (!strcmp(atom, "H2") || !strcmp(atom, "H3"))
        return " (the chain must begin with NH3+ or the cap ACE)";
    if (!strcmp(residue, "CYS") && !strcmp(atom, "HG"))
        return " (disulfide bridges are not supported)";
    if (!strcmp(residue, "LYS") && !strncmp(atom, "HZ", 2))
        return " (neutral LYS is not supported)";
    (void)last;
    return atom[0] == 'H' ? " (add the hydrogens first, for example with OpenMM's Modeller or pdb2pqr)" : "";
}

/* Atoms first .. first + n - 1 of the file become residue r of the molecule, appended at m->n_atoms. lines:
 * [n_atoms] of the kept atoms, serials likewise. */
static int add_residue(const raw_file *f, tbg_molecule *m, int first, int n, int is_first, int is_last,
                       int *lines, int *serials) {
    raw_atom *a = &f->atoms[first];
    tbg_residue *r = &m->residues[m->n_residues];
    char residue[8];
    const tbg_template *t = NULL;
    strcpy(residue, a->residue);
    const char *canonical = tbg_residue_canonical(residue), *why = tbg_residue_refused(residue);
    if (canonical)
        t = tbg_template_by_name(canonical);
    if (!t)
        return tbg_fail(TBG_INPUT, "%s: line %d: residue %s %d: %s", f->name, a->line, residue, a->number,
                        why ? why : "not one of the 20 amino acids or the caps ACE, NME");
    if (!strcmp(t->name, "ACE") && !is_first)
        return tbg_fail(TBG_INPUT, "%s: line %d: cap ACE %d is not at the beginning of the chain", f->name,
                        a->line, a->number);
    if (!strcmp(t->name, "NME") && !is_last)
        return tbg_fail(TBG_INPUT, "%s: line %d: cap NME %d is not at the end of the chain", f->name, a->line,
                        a->number);
    if (n > MAX_RAW_RESIDUE)
        return tbg_fail(TBG_INPUT, "%s: line %d: residue %s %d has %d atoms", f->name, a->line, residue,
                        a->number, n);

    /* Names, with all hydrogens of HIS allowed at first. */
    tbg_template_atom rows[TBG_MAX_RESIDUE_ATOMS];
    int n_rows = tbg_template_rows(t, is_first, is_last, TBG_HIP, rows);
    int kept[MAX_RAW_RESIDUE], n_kept = 0, row_of[MAX_RAW_RESIDUE], used[TBG_MAX_RESIDUE_ATOMS] = {0};
    for (int i = 0; i < n; i++) {
        if (strcmp(a[i].residue, residue))
            return tbg_fail(TBG_INPUT, "%s: line %d: residue %d is both %s and %s: keep one", f->name,
                            a[i].line, a->number, residue, a[i].residue);
        char name[8];
        tbg_template_alias(t, n_rows, rows, a[i].name, name);
        int row = 0;
        while (row < n_rows && strcmp(rows[row].name, name))
            row++;
        if (row == n_rows)
            return tbg_fail(TBG_INPUT, "%s: line %d: residue %s %d has no atom %s here%s", f->name, a[i].line,
                            t->name, a->number, a[i].name, hint(t->name, name));
        int before = 0;
        while (before < n_kept && row_of[before] != row)
            before++;
        if (before == n_kept) {
            used[row] = 1;
            row_of[n_kept] = row;
            kept[n_kept++] = i;
        } else if (a[kept[before]].alternate == a[i].alternate)
            return tbg_fail(TBG_INPUT, "%s: line %d: atom %s of residue %s %d is there twice (also line %d)",
                            f->name, a[i].line, a[i].name, t->name, a->number, a[kept[before]].line);
        else if (a[i].occupancy > a[kept[before]].occupancy)
            kept[before] = i;
    }
    int heavy = 0, hydrogens = 0, d = 0, e = 0;
    for (int i = 0; i < n_kept; i++) {
        const char *name = rows[row_of[i]].name;
        d |= !strcmp(name, "HD1");
        e |= !strcmp(name, "HE2");
        *(name[0] == 'H' ? &hydrogens : &heavy) += 1;
    }
    for (int row = 0; row < n_rows; row++) {
        const char *name = rows[row].name;
        if (used[row] || (t->letter == 'H' && ((!strcmp(name, "HD1") && e) || (!strcmp(name, "HE2") && d))))
            continue;
        return tbg_fail(TBG_INPUT, "%s: line %d: residue %s %d lacks atom %s%s", f->name, a->line, t->name,
                        a->number, name, missing_hint(t->name, name, is_last));
    }

    *r = (tbg_residue){
        .number = a->number, .chain = a->chain, .insertion = a->insertion, .first = m->n_atoms, .n = n_kept};
    strcpy(r->name, t->name);
    for (int i = 0; i < n_kept; i++) {
        const raw_atom *from = &a[kept[i]];
        tbg_atom *to = &m->atoms[m->n_atoms];
        memcpy(to->name, rows[row_of[i]].name, sizeof rows[0].name);
        to->element = tbg_element_of_name(to->name);
        to->residue = m->n_residues;
        if (from->element[0] && strcasecmp(from->element, tbg_element_symbol(to->element)))
            return tbg_fail(TBG_INPUT, "%s: line %d: atom %s of residue %s %d is of element %s, not %s",
                            f->name, from->line, from->name, t->name, a->number,
                            tbg_element_symbol(to->element), from->element);
        lines[m->n_atoms] = from->line;
        serials[m->n_atoms] = from->serial;
        memcpy(m->positions[m->n_atoms++], from->x, sizeof from->x);
    }
    m->n_residues++;
    return TBG_OK;
}

static double distance(const tbg_molecule *m, int i, int j) {
    double s = 0;
    for (int k = 0; k < 3; k++)
        s += (m->positions[i][k] - m->positions[j][k]) * (m->positions[i][k] - m->positions[j][k]);
    return sqrt(s);
}

static int check_chain(const raw_file *f, const tbg_molecule *m, const int *lines) {
    for (int r = 1; r < m->n_residues; r++) {
        int c = tbg_molecule_find(m, r - 1, "C"), n = tbg_molecule_find(m, r, "N");
        double length = distance(m, c, n);
        if (!(length <= PEPTIDE_LIMIT))
            return tbg_fail(
                TBG_INPUT,
                "%s: line %d: the chain is broken between residues %s %d and %s %d: C-N is %.2f nm long",
                f->name, lines[n], m->residues[r - 1].name, m->residues[r - 1].number, m->residues[r].name,
                m->residues[r].number, length);
    }
    return TBG_OK;
}

typedef struct {
    int serial, atom;
} serial_atom;

static int by_serial(const void *a, const void *b) {
    const serial_atom *p = a, *q = b;
    return (p->serial > q->serial) - (p->serial < q->serial);
}

/* CONECT records between atoms that were kept must be bonds of the templates. */
static int check_conect(const raw_file *f, const tbg_molecule *m, const int *serials) {
    if (!f->n_conect)
        return TBG_OK;
    serial_atom *table = TBG_NEW(serial_atom, m->n_atoms);
    if (!table)
        return TBG_FAILED;
    int status = TBG_OK;
    for (int i = 0; i < m->n_atoms; i++)
        table[i] = (serial_atom){serials[i], i};
    qsort(table, (size_t)m->n_atoms, sizeof *table, by_serial);
    for (int i = 1; i < m->n_atoms; i++)
        if (table[i].serial ==
            table[i - 1].serial) { /* numbers without meaning: files cut and pasted together */
            free(table);
            return TBG_OK;
        }
    for (int i = 0; i < f->n_conect && status == TBG_OK; i++) {
        serial_atom ka = {f->conect[i].a, 0}, kb = {f->conect[i].b, 0};
        const serial_atom *a = bsearch(&ka, table, (size_t)m->n_atoms, sizeof *table, by_serial);
        const serial_atom *b = bsearch(&kb, table, (size_t)m->n_atoms, sizeof *table, by_serial);
        if (!a || !b)
            continue;
        int found = 0;
        for (int k = 0; k < m->n_bonds; k++)
            found |= (m->bonds[k][0] == a->atom && m->bonds[k][1] == b->atom) ||
                     (m->bonds[k][0] == b->atom && m->bonds[k][1] == a->atom);
        if (!found) {
            const tbg_atom *p = &m->atoms[a->atom], *q = &m->atoms[b->atom];
            const tbg_residue *rp = &m->residues[p->residue], *rq = &m->residues[q->residue];
            status =
                tbg_fail(TBG_INPUT, "%s: line %d: CONECT bonds %s of %s %d to %s of %s %d, which %s", f->name,
                         f->conect[i].line, p->name, rp->name, rp->number, q->name, rq->name, rq->number,
                         p->element == 16 && q->element == 16 ? "would be a disulfide bridge: not supported"
                                                              : "the residue templates do not");
        }
    }
    free(table);
    return status;
}

static int assemble(const raw_file *f, tbg_molecule *m, int *lines, int *serials) {
    for (int first = 0, n; first < f->n; first += n) {
        n = 1;
        while (first + n < f->n && same_residue(&f->atoms[first], &f->atoms[first + n]))
            n++;
        if (m->n_atoms + n > TBG_MAX_ATOMS + MAX_RAW_RESIDUE)
            return tbg_fail(TBG_INPUT, "%s: line %d: more than %d atoms", f->name, f->atoms[first].line,
                            TBG_MAX_ATOMS);
        TBG_TRY(add_residue(f, m, first, n, first == 0, first + n == f->n, lines, serials));
    }
    if (m->n_residues == 1 && !tbg_template_by_name(m->residues[0].name)->letter)
        return tbg_fail(TBG_INPUT, "%s: holds nothing but a cap", f->name);
    TBG_TRY(check_chain(f, m, lines));
    TBG_TRY(tbg_molecule_bond(m));
    return check_conect(f, m, serials);
}

int tbg_molecule_parse_pdb_chain(const char *text, size_t length, const char *name, char chain,
                                 tbg_molecule **out) {
    *out = NULL;
    raw_file f = {.name = name};
    int status = parse_lines(&f, text, length), hydrogens = 0;
    if (status == TBG_OK)
        status = choose_chain(&f, chain);
    for (int i = 0; i < f.n; i++) {
        const char *n = f.atoms[i].name;
        hydrogens += n[0] == 'H' || (n[0] >= '1' && n[0] <= '9' && n[1] == 'H');
    }
    if (status == TBG_OK && !hydrogens)
        status = tbg_fail(TBG_INPUT,
                          "%s: has no hydrogens: add them first, for example with OpenMM's Modeller or "
                          "pdb2pqr",
                          name);
    tbg_molecule *m = NULL;
    int *lines = NULL, *serials = NULL;
    if (status == TBG_OK) {
        m = TBG_NEW(tbg_molecule, 1);
        lines = TBG_NEW(int, f.n);
        serials = TBG_NEW(int, f.n);
        status = m && lines && serials ? TBG_OK : TBG_FAILED;
    }
    if (status == TBG_OK) {
        m->atoms = TBG_NEW(tbg_atom, f.n);
        m->residues = TBG_NEW(tbg_residue, f.n);
        m->positions = tbg_alloc((size_t)f.n, sizeof *m->positions);
        m->n_waters = f.n_waters;
        status = m->atoms && m->residues && m->positions ? assemble(&f, m, lines, serials) : TBG_FAILED;
    }
    free(lines);
    free(serials);
    free(f.atoms);
    free(f.conect);
    if (status != TBG_OK) {
        tbg_molecule_free(m);
        return status;
    }
    *out = m;
    return TBG_OK;
}

int tbg_molecule_parse_pdb(const char *text, size_t length, const char *name, tbg_molecule **out) {
    return tbg_molecule_parse_pdb_chain(text, length, name, 0, out);
}
