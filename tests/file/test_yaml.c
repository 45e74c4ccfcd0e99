/* test_yaml.c: typed reads with lines in messages; hostile documents. */
#include "tbg_test.h"
#include "file/temporary.h"
#include "tbg/file.h"

static int parse(const char *text, tbg_yaml **out) {
    return tbg_yaml_parse(text, strlen(text), "c.yaml", out);
}

static void typed_reads(void **state) {
    (void)state;
    tbg_yaml *y;
    assert_ok(parse("# comment\nname: 'AC'\nsteps: 1e5\nrate: 5.0e-4\nresume: Yes\nlist: [1, two, {a: 3}]\n"
                    "model:\n  hidden: 64\n  layers: -3\nnothing:\nwrong: 3x\n",
                    &y));
    double rate = 1, other = 2;
    int64_t steps = 0, hidden = 0;
    int resume = 0;
    char name[4] = "";
    assert_ok(tbg_yaml_double(y, "rate", 0, 1, &rate));
    assert_true(rate == 5e-4);
    assert_ok(tbg_yaml_double(y, "absent", 0, 1, &other));
    assert_true(other == 2);
    assert_ok(tbg_yaml_int64(y, "steps", 1, 1000000, &steps));
    assert_int_equal(steps, 100000);
    assert_ok(tbg_yaml_bool(y, "resume", &resume));
    assert_int_equal(resume, 1);
    assert_ok(tbg_yaml_string(y, "name", name, sizeof name));
    assert_string_equal(name, "AC");
    assert_int_equal(tbg_yaml_string(y, "name", name, 2), TBG_INPUT);
    const tbg_yaml *model = tbg_yaml_get(y, "model"), *list = tbg_yaml_get(y, "list");
    assert_ok(tbg_yaml_int64(model, "hidden", 1, 4096, &hidden));
    assert_int_equal(hidden, 64);
    assert_int_equal(tbg_yaml_int64(model, "layers", 1, 64, &hidden), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "c.yaml:9: layers: -3"));
    assert_int_equal(tbg_yaml_int64(y, "wrong", 1, 64, &hidden), TBG_INPUT);
    assert_int_equal(tbg_yaml_double(y, "wrong", 1, 64, &rate), TBG_INPUT);
    assert_int_equal(tbg_yaml_bool(y, "wrong", &resume), TBG_INPUT);
    assert_int_equal(tbg_yaml_double(y, "nothing", 1, 64, &rate), TBG_INPUT);
    assert_int_equal(tbg_yaml_int64(y, "nothing", 1, 64, &hidden), TBG_INPUT);
    assert_int_equal(tbg_yaml_double(y, "model", 1, 64, &rate), TBG_INPUT);
    assert_int_equal(tbg_yaml_double(list, "model", 1, 64, &rate), TBG_INPUT);
    assert_int_equal(hidden, 64);
    assert_int_equal(tbg_yaml_size(list), 3);
    assert_string_equal(tbg_yaml_text(tbg_yaml_item(list, 1)), "two");
    assert_int_equal(tbg_yaml_line(tbg_yaml_item(list, 2)), 6);
    assert_null(tbg_yaml_item(list, 3));
    assert_null(tbg_yaml_item(list, -1));
    assert_null(tbg_yaml_text(list));
    assert_string_equal(tbg_yaml_key(y, 0), "name");
    assert_null(tbg_yaml_key(list, 0));
    assert_ok(tbg_yaml_only(model, (const char *[]){"hidden", "layers", NULL}));
    assert_int_equal(tbg_yaml_only(model, (const char *[]){"hidden", "layer", NULL}), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "c.yaml:9: unknown key 'layers'; known here: hidden, layer"));
    assert_int_equal(tbg_yaml_only(list, (const char *[]){"hidden", NULL}), TBG_INPUT);
    tbg_yaml_free(y);
    assert_ok(parse("a: nan\nb: .inf\nc: 1e999\nd: 9223372036854775807\ne: 9223372036854775808\nf: 0.5", &y));
    for (int i = 0; i < 3; i++)
        assert_int_equal(tbg_yaml_double(y, tbg_yaml_key(y, i), -INFINITY, INFINITY, &rate), TBG_INPUT);
    assert_ok(tbg_yaml_int64(y, "d", 0, INT64_MAX, &hidden));
    assert_int_equal(hidden, INT64_MAX);
    assert_int_equal(tbg_yaml_int64(y, "e", INT64_MIN, INT64_MAX, &hidden), TBG_INPUT);
    assert_int_equal(tbg_yaml_int64(y, "f", 0, 2, &hidden), TBG_INPUT);
    tbg_yaml_free(y);
}

static void refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "# only a comment\n",
        "a: 1\na: 2\n",
        "a: {b: 1, b: 2}\n",
        "a: &x 1\nb: *x\n",
        "b: *x\n",
        "a: !!int 3\n",
        "? [1, 2]\n: 3\n",
        "a: 1\n---\nb: 2\n",
        "a: [1, 2\n",
        "a: 'x\n",
        "a: \"\\x00\"\n",
        "\ta: 1\n",
        "a: b: c\n",
        "\xff\xfe\x00\xd8 a: 1\n",
        "a: \x01\n",
        "%YAML 9.9\n---\na: 1\n",
        "- &a [*a]\n",
        "a: }\n",
        "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tbg_yaml *y;
        if (parse(bad[i], &y) != TBG_INPUT)
            fail_msg("accepted: %s", bad[i]);
        assert_null(y);
        assert_non_null(strstr(tbg_message(), "c.yaml"));
    }
    enum { N = 200000 };
    char *text = malloc(2 * 1024 * 1024);
    tbg_yaml *y;
    memset(text, '[', N);
    assert_int_equal(tbg_yaml_parse(text, N, "deep.yaml", &y), TBG_INPUT);
    for (int i = 0; i < N / 2; i++)
        memcpy(text + 2 * i, "- ", 2);
    assert_int_equal(tbg_yaml_parse(text, N, "deep.yaml", &y), TBG_INPUT);
    for (int i = 0; i < N / 4; i++)
        memcpy(text + 4 * i, "{a: ", 4);
    assert_int_equal(tbg_yaml_parse(text, N, "deep.yaml", &y), TBG_INPUT);
    for (int i = 0; i < N / 4; i++)
        memcpy(text + 4 * i, "- 1\n", 4);
    assert_int_equal(tbg_yaml_parse(text, N, "long.yaml", &y), TBG_INPUT);
    memset(text, 'a', 2 * 1024 * 1024);
    assert_int_equal(tbg_yaml_parse(text, 2 * 1024 * 1024, "big.yaml", &y), TBG_INPUT);
    assert_ok(tbg_file_write(temporary_path("big.yaml"), text, 2 * 1024 * 1024));
    assert_int_equal(tbg_yaml_read(temporary_path("big.yaml"), &y), TBG_INPUT);
    free(text);
    assert_int_equal(tbg_yaml_read(temporary_path("none.yaml"), &y), TBG_INPUT);
    assert_ok(tbg_file_write(temporary_path("a.yaml"), "a: 1\n", 5));
    assert_ok(tbg_yaml_read(temporary_path("a.yaml"), &y));
    tbg_yaml_free(y);
    tbg_yaml_free(NULL);
    /* Cut and changed anywhere. */
    static const char good[] =
        "model: {hidden: 64, list: [1, 'a b', \"c\\n\"]}\nrest: |\n  text\n  more\nend: ~\n";
    char copy[sizeof good];
    for (size_t i = 0; i < sizeof good - 1; i++)
        for (int c = 1; c < 256; c++) {
            memcpy(copy, good, sizeof good);
            copy[i] = (char)c;
            tbg_yaml_parse(copy, c == 1 ? i : sizeof good - 1, "x", &y);
            tbg_yaml_free(y);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(typed_reads), cmocka_unit_test(refused)};
    return cmocka_run_group_tests_name("yaml", tests, temporary_setup, temporary_teardown);
}
