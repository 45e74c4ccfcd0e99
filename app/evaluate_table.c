/* evaluate_table.c: `tbg evaluate` of many peptides: one row each, the last line mean +- standard deviation
 * over them. As aligned text, as Markdown, as a JSON array. */
#include "app.h"
#include "base/memory.h"
#include "evaluate.h"
#include "tbg/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Column of a table: heading and digits after the point. The value and error of a row come from fill(). */
typedef struct {
    const char *heading;
    int digits;
} column;
enum { N_WEIGHTS = 9, N_DISTANCES = 13, N_COLUMNS = N_WEIGHTS + N_DISTANCES };
static const column columns[N_COLUMNS] = {
    {"n", 0},
    {"valid %", 1},
    {"ESS %", 2},
    {"per gen. %", 2},
    {"clipped %", 2},
    {"k-hat", 2},
    {"NLL", 1},
    {"NLL publ.", 1},
    {"s/sample", 3},
    {"E W1 before", 2},
    {"after", 2},
    {"E W2 before", 2},
    {"after", 2},
    {"torus W2 before", 3},
    {"after", 3},
    {"TICA W2 before", 3},
    {"after", 3},
    {"dF", 2},
    {"dF reference", 2},
    {"off by", 2},
    {"unweighted", 2},
    {"off by", 2},
};

typedef struct {
    char name[64];
    int failed, unreliable, unreliable_reference;
    double value[N_COLUMNS], error[N_COLUMNS]; /* NAN: none */
} row;

struct app_table {
    int n, room;
    row *rows;
};

static void set(row *r, int at, double value, double error) {
    r->value[at] = value;
    r->error[at] = error;
}

/* The first phi that can leave its state; several: the others are in the JSON. */
static int first_phi(const tbg_ensemble_summary *s) {
    for (int k = 0; k < s->n_dF; k++)
        if (!s->dF[k].out_of_reach)
            return k;
    return s->n_dF ? 0 : -1;
}

static void fill(row *r, const tbg_ensemble *e, const tbg_ensemble_summary *s, const tbg_evaluation *v) {
    int c = 0, k = first_phi(s);
    const tbg_spread *d = v ? v->spread : NULL;
    snprintf(r->name, sizeof r->name, "%.63s", e->info.sequence);
    set(r, c++, (double)s->n_generated, NAN);
    set(r, c++, s->n_generated ? 100.0 * (double)s->n_valid / (double)s->n_generated : NAN, NAN);
    set(r, c++, 100 * s->ess_raw.value, 100 * s->ess_raw.error);
    set(r, c++, 100 * s->ess_raw_per_generated, NAN);
    set(r, c++, 100 * s->ess_clipped, 100 * s->ess_clipped_spread.error);
    set(r, c++, s->pareto_k, s->pareto_k_spread.error);
    set(r, c++, s->nll_mean, s->nll_spread.error);
    set(r, c++, s->nll_published, NAN);
    double seconds = e->info.seconds_flow + (isfinite(e->info.seconds_energy) ? e->info.seconds_energy : 0);
    set(r, c++, s->n_generated ? seconds / (double)s->n_generated : NAN, NAN);
    if (v) {
        set(r, c++, v->energy_w1_proposal, d[TBG_ENERGY_W1_PROPOSAL].error);
        set(r, c++, v->energy_w1, d[TBG_ENERGY_W1].error);
        set(r, c++, v->energy_w2_proposal, d[TBG_ENERGY_W2_PROPOSAL].error);
        set(r, c++, v->energy_w2, d[TBG_ENERGY_W2].error);
        set(r, c++, v->torus_w2_proposal, d[TBG_TORUS_W2_PROPOSAL].error);
        set(r, c++, v->torus_w2, d[TBG_TORUS_W2].error);
        set(r, c++, v->tica_w2_proposal, d[TBG_TICA_W2_PROPOSAL].error);
        set(r, c++, v->tica_w2, d[TBG_TICA_W2].error);
    }
    c = N_WEIGHTS + 8;
    if (k < 0)
        return;
    double dF = s->dF[k].dF.value;
    r->unreliable = s->weighted && !s->dF[k].reliable && !s->dF[k].out_of_reach;
    set(r, c++, dF, s->dF[k].dF.error);
    if (v && k < v->n_dF) {
        double reference = v->dF_reference[k].dF.value;
        r->unreliable_reference = !v->dF_reference[k].reliable && !s->dF[k].out_of_reach;
        set(r, c++, reference, v->dF_reference[k].dF.error);
        set(r, c++, fabs(dF - reference), NAN);
        set(r, c++, v->dF_proposal[k], NAN);
        set(r, c++, fabs(v->dF_proposal[k] - reference), NAN);
    }
}

app_table *app_table_create(int room) {
    app_table *t = TBG_NEW(app_table, 1);
    if (t && !(t->rows = TBG_NEW(row, room))) {
        free(t);
        return NULL;
    }
    if (t)
        t->room = room;
    return t;
}

void app_table_free(app_table *t) {
    if (t)
        free(t->rows);
    free(t);
}

static row *new_row(app_table *t) {
    row *r = &t->rows[t->n < t->room ? t->n++ : t->n - 1];
    *r = (row){0};
    for (int c = 0; c < N_COLUMNS; c++)
        r->value[c] = r->error[c] = NAN;
    return r;
}

void app_table_add(app_table *t, const tbg_ensemble *e, const tbg_ensemble_summary *s,
                   const tbg_evaluation *v) {
    fill(new_row(t), e, s, v);
}

void app_table_add_failed(app_table *t, const char *directory) {
    row *r = new_row(t);
    const char *slash = strrchr(directory, '/');
    r->failed = 1;
    snprintf(r->name, sizeof r->name, "%.63s", slash && slash[1] ? slash + 1 : directory);
}

int app_table_mean(const app_table *t, int c, double *mean, double *deviation) {
    int n = 0;
    double sum = 0, square = 0;
    for (int i = 0; i < t->n; i++)
        if (isfinite(t->rows[i].value[c])) {
            sum += t->rows[i].value[c];
            n++;
        }
    *mean = n ? sum / n : NAN;
    for (int i = 0; i < t->n; i++)
        if (isfinite(t->rows[i].value[c]))
            square += pow(t->rows[i].value[c] - *mean, 2);
    *deviation = n > 1 ? sqrt(square / (n - 1)) : NAN;
    return n;
}

/* ---- text ---- */

static void cell(const row *r, int c, int markdown, char *text, size_t size) {
    const char *between = markdown ? " \u00b1 " : " +- ",
               *mark =
                   (r->unreliable && c == N_WEIGHTS + 8) || (r->unreliable_reference && c == N_WEIGHTS + 9)
                       ? " (!)"
                       : "";
    if (isnan(r->value[c]))
        snprintf(text, size, "-");
    else if (isinf(r->value[c]))
        snprintf(text, size, "%s%s", r->value[c] > 0 ? "inf" : "-inf", mark);
    else if (isfinite(r->error[c]))
        snprintf(text, size, "%.*f%s%.*f%s", columns[c].digits, r->value[c], between, columns[c].digits,
                 r->error[c], mark);
    else
        snprintf(text, size, "%.*f%s", columns[c].digits, r->value[c], mark);
}

enum { CELL = 48 };

/* Characters, not bytes. */
static int width_of(const char *text) {
    int n = 0;
    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

static void put(const char *text, int width, int left) {
    int pad = width - width_of(text);
    if (left)
        printf("%s%*s", text, pad > 0 ? pad : 0, "");
    else
        printf("%*s%s", pad > 0 ? pad : 0, "", text);
}

/* Columns first .. end - 1 of all rows. */
static void print_block(const app_table *t, int first, int end, int markdown) {
    char text[CELL];
    int width[N_COLUMNS + 1] = {8};
    row last;
    memset(&last, 0, sizeof last);
    strcpy(last.name, "mean");
    for (int c = 0; c < N_COLUMNS; c++)
        app_table_mean(t, c, &last.value[c], &last.error[c]);
    last.value[0] = last.error[0] = NAN; /* of sample numbers it says nothing */
    for (int i = 0; i <= t->n; i++) {
        const row *r = i < t->n ? &t->rows[i] : &last;
        if (width_of(r->name) > width[0])
            width[0] = width_of(r->name);
        for (int c = first; c < end; c++) {
            cell(r, c, markdown, text, sizeof text);
            int w = width_of(text), h = width_of(columns[c].heading);
            w = w > h ? w : h;
            width[c + 1] = width[c + 1] > w ? width[c + 1] : w;
        }
    }
    for (int i = -1; i <= t->n; i++) {
        const row *r = i < 0 ? NULL : i < t->n ? &t->rows[i] : &last;
        if (markdown)
            fputs("| ", stdout);
        put(r ? r->name : "peptide", width[0], 1);
        for (int c = first; c < end; c++) {
            if (r)
                cell(r, c, markdown, text, sizeof text);
            else
                snprintf(text, sizeof text, "%s", columns[c].heading);
            fputs(markdown ? " | " : "  ", stdout);
            put(text, width[c + 1], 0);
        }
        puts(markdown ? " |" : r && r->failed ? "  failed" : "");
        if (markdown && i < 0) {
            fputs("|---", stdout);
            for (int c = first; c < end; c++)
                fputs("|---:", stdout);
            puts("|");
        }
    }
}

void app_table_print(const app_table *t, int markdown) {
    int unreliable = 0, several = t->n > 1;
    print_block(t, 0, N_WEIGHTS, markdown);
    puts("");
    print_block(t, N_WEIGHTS, N_WEIGHTS + 8, markdown);
    puts("");
    print_block(t, N_WEIGHTS + 8, N_COLUMNS, markdown);
    for (int i = 0; i < t->n; i++)
        unreliable += t->rows[i].unreliable + t->rows[i].unreliable_reference;
    printf("\nErrors of rows are one standard error by resampling%s. Energies and dF in kT, torsions in rad; "
           "NLL in "
           "Angstrom,\n'publ.' without the prior's constant; ESS per valid sample, 'clipped' without the "
           "largest 0.2 %% of "
           "weights.\n",
           several ? "; those of the mean the standard deviation over peptides" : "");
    if (unreliable)
        printf("(!) Not to be trusted: a state of phi is worth fewer than %d independent samples or frames, "
               "or has weights of "
               "too heavy a tail.\n",
               TBG_STATE_LEAST);
}
