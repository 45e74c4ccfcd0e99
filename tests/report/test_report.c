/* test_report.c: the page for every kind of ensemble: self-contained, escaped, without broken numbers. */
#include "tbg_test.h"
#include "ensemble/fixture.h"
#include <ctype.h>
#include "tbg/report.h"

/* Every opened element is closed in order; "nan" and "inf" stand in no attribute. */
static void check_markup(const char *html) {
    char stack[64][32];
    int depth = 0;
    for (const char *c = strchr(html, '<'); c; c = strchr(c + 1, '<')) {
        const char *end = strchr(c, '>');
        assert_non_null(end);
        for (const char *a = c + 1; a < end; a++)
            if (isdigit((unsigned char)a[-1]) || strchr(" \"MLHVh,", a[-1]))
                if (!strncasecmp(a, "nan", 3) || !strncasecmp(a, "inf", 3) || !strncmp(a, "-nan", 4) ||
                    !strncmp(a, "-inf", 4))
                    fail_msg("not a number: %.80s", c);
        if (c[1] == '!' || end[-1] == '/' || !strncmp(c, "<meta", 5))
            continue;
        char name[32] = "";
        sscanf(c + 1 + (c[1] == '/'), "%31[a-zA-Z0-9]", name);
        if (c[1] == '/') {
            if (!depth || strcmp(stack[depth - 1], name))
                fail_msg("</%s> closes <%s>", name, depth ? stack[depth - 1] : "");
            depth--;
        } else {
            assert_true(depth < 64);
            strcpy(stack[depth++], name);
        }
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(html, "http"));
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<img"));
    assert_null(strstr(html, "url(/"));
}

static char *page(const tbg_ensemble *e, const tbg_reference *r, const tbg_evaluation *v) {
    tbg_ensemble_summary s;
    char *html;
    assert_ok(tbg_ensemble_summarise(e, 10, &s));
    assert_ok(tbg_report_write(e, &s, r, v, temporary_path("r.html")));
    assert_ok(tbg_file_read(temporary_path("r.html"), 1 << 24, &html, NULL));
    check_markup(html);
    return html;
}

static void kinds(void **state) {
    (void)state;
    tbg_ensemble *e = synthetic_ensemble(molecule, 300);
    strcpy(e->info.model, "<script>alert('x')</script>&\x01");
    char *html = page(e, NULL, NULL);
    assert_non_null(strstr(html, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp; "));
    assert_non_null(strstr(html, "Ramachandran"));
    assert_null(strstr(html, "reference dynamics"));
    assert_null(strstr(html, "Distance to the reference"));
    free(html);

    const char *path = temporary_path("ref.nc");
    tbg_reference *r;
    tbg_ensemble_summary s;
    tbg_evaluation v;
    synthetic_trajectory(molecule, path, 1, 0, 100);
    assert_ok(tbg_reference_read(1, &path, molecule, 0, &r));
    assert_ok(tbg_ensemble_summarise(e, 10, &s));
    assert_ok(tbg_ensemble_evaluate(e, &s, r, 50, 5, 0, &v));
    html = page(e, r, &v);
    assert_non_null(strstr(html, "Distance to the reference"));
    assert_non_null(strstr(html, "reference dynamics"));
    free(html);
    /* One weight is everything; energies up to 1e30; no weights; nothing valid; nothing at all. */
    e->log_weight[7] = 1e4;
    for (int i = 20; i < 40; i++)
        e->reduced_energy[i] = pow(10, i - 9);
    html = page(e, r, &v);
    assert_non_null(strstr(html, "Do not trust"));
    free(html);
    e->weighted = 0;
    tbg_ensemble_weigh(e);
    html = page(e, r, NULL);
    assert_non_null(strstr(html, "Unweighted"));
    assert_null(strstr(html, "Energies and weights"));
    free(html);
    for (long i = 1; i < e->n; i++)
        e->verdict[i] = TBG_TOPOLOGY;
    e->weighted = 1;
    tbg_ensemble_weigh(e);
    free(page(e, r, NULL)); /* one valid sample */
    e->verdict[0] = TBG_TOPOLOGY;
    tbg_ensemble_weigh(e);
    free(page(e, r, NULL));
    tbg_ensemble_free(e);
    assert_ok(tbg_ensemble_create(molecule, 0, &e));
    free(page(e, NULL, NULL));
    tbg_molecule *other;
    assert_ok(tbg_molecule_from_sequence("AG", &other));
    tbg_ensemble *f;
    assert_ok(tbg_ensemble_create(other, 3, &f));
    assert_ok(tbg_ensemble_summarise(f, 10, &s));
    assert_int_equal(tbg_report_write(f, &s, r, NULL, temporary_path("x.html")), TBG_INPUT);
    tbg_ensemble_free(f);
    tbg_ensemble_free(e);
    tbg_molecule_free(other);
    tbg_reference_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kinds)};
    return cmocka_run_group_tests_name("report", tests, setup, teardown);
}
