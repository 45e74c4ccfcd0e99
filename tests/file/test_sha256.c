/* test_sha256.c: the published test vectors, every length around the block size against sha256sum, lists. */
#include "tbg_test.h"
#include "temporary.h"
#include "tbg/file.h"

static char path[300], list[300];

static void put(const char *file, const void *data, size_t size) {
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

static void known_answers(void **state) {
    (void)state;
    char hex[65], *million = malloc(1 << 21);
    memset(million, 'a', 1 << 21);
    const struct {
        const char *text;
        size_t size;
        const char *sum;
    } cases[] = {{"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                 {"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                 {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
                 {million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(path, cases[i].text, cases[i].size);
        assert_ok(tbg_file_sha256(path, hex));
        assert_string_equal(hex, cases[i].sum);
    }
    /* padding and pieces: as sha256sum says */
    const size_t sizes[] = {55, 63, 64, 65, 119, 120, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 1 << 21};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char command[700];
        put(path, million, sizes[i]);
        assert_ok(tbg_file_sha256(path, hex));
        snprintf(command, sizeof command, "test \"$(sha256sum <%s)\" = '%s  -'", path, hex);
        assert_int_equal(system(command), 0);
    }
    free(million);
    assert_int_equal(tbg_file_sha256("/nonexistent/file", hex), TBG_INPUT);
}

static void lists(void **state) {
    (void)state;
    static const char good[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    char text[600];
    int listed;
    unlink(list);
    put(path, "abc", 3);
    assert_ok(tbg_file_verify(path, &listed)); /* no list */
    assert_int_equal(listed, 0);
    snprintf(text, sizeof text, "%s  other\n", good);
    put(list, text, strlen(text));
    assert_ok(tbg_file_verify(path, &listed)); /* not in it */
    assert_int_equal(listed, 0);
    snprintf(text, sizeof text, "%064d  other\n%s *data", 0, good); /* no newline at the end, binary mark */
    put(list, text, strlen(text));
    assert_ok(tbg_file_verify(path, &listed));
    assert_int_equal(listed, 1);
    put(path, "abd", 3);
    assert_int_equal(tbg_file_verify(path, &listed), TBG_INPUT);
    assert_int_equal(listed, 0);
    assert_non_null(strstr(tbg_message(), "SHA256SUMS"));
    put(path, "abc", 3);
    const char *const bad[] = {"\n",         "abc",           "%s",         "%s ", "%s  ", "%s   \n",
                               "%s\tdata\n", "%.63s  data\n", "x%s  data\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, bad[i], good);
        put(list, text, strlen(text));
        int status = tbg_file_verify(path, &listed);
        if (status != TBG_INPUT && i != 5) /* 5: a name that is a space */
            fail_msg("list '%s' passes", text);
        assert_int_equal(listed, 0);
    }
    snprintf(text, sizeof text, "%s  data\nrubbish\n", good);
    put(list, text, strlen(text));
    assert_int_equal(tbg_file_verify(path, NULL), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), ":2:"));
    put(list, "", 0);
    assert_ok(tbg_file_verify(path, NULL));
}

static int set_up(void **state) {
    int status = temporary_setup(state);
    snprintf(path, sizeof path, "%s/data", temporary_folder);
    snprintf(list, sizeof list, "%s/SHA256SUMS", temporary_folder);
    return status;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answers), cmocka_unit_test(lists)};
    return cmocka_run_group_tests_name("sha256", tests, set_up, temporary_teardown);
}
