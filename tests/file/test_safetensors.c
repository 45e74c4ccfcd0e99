/* test_safetensors.c: whole files; safetensors there and back; hostile headers. */
#include "tbg_test.h"
#include "file/temporary.h"
#include <sys/stat.h>
#include "tbg/file.h"

static void whole_files(void **state) {
    (void)state;
    char *data;
    size_t size;
    const char *path = temporary_path("deep/er/file");
    assert_int_equal(tbg_file_write(path, "abc", 3), TBG_FAILED); /* no such folder: nothing appears */
    assert_ok(tbg_make_directory(temporary_path("deep/er//")));
    assert_ok(tbg_make_directory(temporary_path("deep")));
    assert_ok(tbg_file_write(path, "abc", 3));
    assert_ok(tbg_file_write(path, "de\0f", 4));
    assert_ok(tbg_file_read(path, 4, &data, &size));
    assert_int_equal(size, 4);
    assert_memory_equal(data, "de\0f", 5);
    free(data);
    assert_int_equal(tbg_file_read(path, 3, &data, &size), TBG_INPUT);
    assert_null(data);
    assert_int_equal(tbg_file_read(temporary_path("deep"), 100, &data, &size), TBG_INPUT);
    assert_int_equal(tbg_file_read(temporary_path("absent"), 100, &data, &size), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "absent"));
    assert_ok(mkfifo(temporary_path("pipe"), 0600));
    assert_int_equal(tbg_file_read(temporary_path("pipe"), 100, &data, &size), TBG_INPUT);
    assert_int_equal(tbg_make_directory(temporary_path("deep/er/file/x")), TBG_FAILED);
    assert_int_equal(tbg_make_directory(""), TBG_INPUT);
}

static void there_and_back(void **state) {
    (void)state;
    double d[6] = {1, -2, 3.5, 1e300, -0.0, 6};
    float f[2] = {1.5f, -2};
    int64_t big[1] = {INT64_MIN};
    uint8_t bytes[3] = {1, 2, 255};
    tbg_tensor t[] = {{.name = "z", .dtype = TBG_U8, .rank = 1, .shape = {3}, .data = bytes},
                      {.name = "b.\"quoted\"", .dtype = TBG_F32, .rank = 1, .shape = {2}, .data = f},
                      {.name = "a", .dtype = TBG_F64, .rank = 2, .shape = {2, 3}, .data = d},
                      {.name = "scalar", .dtype = TBG_I64, .rank = 0, .data = big},
                      {.name = "empty", .dtype = TBG_F32, .rank = 2, .shape = {0, 7}, .data = NULL}};
    const char *keys[] = {"q", "model"}, *values[] = {"1", "AC \xc3\xa9"};
    assert_ok(tbg_tensors_write(temporary_path("t.st"), 5, t, 2, keys, values));
    tbg_tensors *back;
    assert_ok(tbg_tensors_read(temporary_path("t.st"), &back));
    assert_int_equal(back->n, 5);
    assert_string_equal(tbg_tensors_metadata(back, "model"), values[1]);
    assert_null(tbg_tensors_metadata(back, "none"));
    assert_null(tbg_tensors_find(back, "none"));
    const tbg_tensor *a = tbg_tensors_find(back, "a");
    assert_int_equal(a->n, 6);
    assert_int_equal((uintptr_t)a->data % 8, 0);
    assert_memory_equal(a->data, d, sizeof d);
    assert_memory_equal(tbg_tensors_find(back, "z")->data, bytes, 3);
    assert_memory_equal(tbg_tensors_find(back, "scalar")->data, big, 8);
    assert_int_equal(tbg_tensors_find(back, "empty")->n, 0);
    double *wide;
    assert_ok(tbg_tensors_doubles(back, "b.\"quoted\"", 1, (int64_t[]){-1}, &wide));
    assert_true(wide[0] == 1.5 && wide[1] == -2);
    free(wide);
    assert_int_equal(tbg_tensors_doubles(back, "a", 2, (int64_t[]){3, 2}, &wide), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "[2, 3]"));
    assert_null(wide);
    assert_int_equal(tbg_tensors_doubles(back, "z", 1, (int64_t[]){3}, &wide), TBG_INPUT);
    assert_int_equal(tbg_tensors_doubles(back, "y", 1, (int64_t[]){3}, &wide), TBG_INPUT);
    tbg_tensors_free(back);

    /* Another order, same bytes. */
    tbg_tensor s[] = {t[3], t[1], t[4], t[0], t[2]};
    const char *keys2[] = {"model", "q"}, *values2[] = {"AC \xc3\xa9", "1"};
    assert_ok(tbg_tensors_write(temporary_path("s.st"), 5, s, 2, keys2, values2));
    char *one, *two;
    size_t n1, n2;
    assert_ok(tbg_file_read(temporary_path("t.st"), 1 << 20, &one, &n1));
    assert_ok(tbg_file_read(temporary_path("s.st"), 1 << 20, &two, &n2));
    assert_int_equal(n1, n2);
    assert_memory_equal(one, two, n1);

    /* Cut anywhere: an error, never a crash. */
    for (size_t n = 0; n < n1; n++) {
        assert_ok(temporary_write(temporary_path("cut.st"), one, n));
        assert_int_equal(tbg_tensors_read(temporary_path("cut.st"), &back), TBG_INPUT);
        assert_null(back);
    }
    /* Any byte of the header changed: an error or a sound structure. */
    for (size_t i = 0; i < n1 - 100; i++) {
        one[i] ^= (char)(1 << i % 8);
        assert_ok(temporary_write(temporary_path("cut.st"), one, n1));
        if (tbg_tensors_read(temporary_path("cut.st"), &back) == TBG_OK) {
            size_t sum = 0;
            for (int k = 0; k < back->n; k++)
                for (size_t b = 0; b < back->tensors[k].n * tbg_dtype_size(back->tensors[k].dtype); b++)
                    sum += ((const unsigned char *)back->tensors[k].data)[b];
            assert_true(sum < SIZE_MAX);
        }
        tbg_tensors_free(back);
        one[i] ^= (char)(1 << i % 8);
    }
    free(one);
    free(two);
    tbg_tensor twice[] = {t[0], t[0]};
    assert_int_equal(tbg_tensors_write(temporary_path("no.st"), 2, twice, 0, NULL, NULL), TBG_INPUT);
    assert_true(access(temporary_path("no.st"), F_OK) != 0);
}

static int read_header(const char *header, size_t data) {
    static char buffer[1 << 20];
    uint64_t n = strlen(header);
    memcpy(buffer, &n, 8);
    memcpy(buffer + 8, header, n);
    memset(buffer + 8 + n, 1, data);
    assert_ok(temporary_write(temporary_path("h.st"), buffer, 8 + n + data));
    tbg_tensors *t;
    int status = tbg_tensors_read(temporary_path("h.st"), &t);
    assert_true((status == TBG_OK) == (t != NULL));
    if (status != TBG_OK)
        assert_non_null(strstr(tbg_message(), "h.st"));
    tbg_tensors_free(t);
    return status;
}

static void hostile_headers(void **state) {
    (void)state;
#define T(dtype, shape, begin, end)                                                                          \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
    assert_ok(read_header("{\"a\":" T("F32", "[2]", "0", "8") "}   ", 8));
    assert_ok(read_header("{}", 0));
    /* An odd offset is legal: the reader aligns. */
    assert_ok(read_header("{\"a\":" T("U8", "[3]", "0", "3") ",\"b\":" T("F64", "[1]", "3", "11") "}", 11));
    static const struct {
        const char *header;
        size_t data;
    } bad[] = {
        {"{\"a\":" T("F32", "[2]", "0", "8") "}", 7},
        {"{\"a\":" T("F32", "[2]", "0", "8") "}", 9},
        {"{\"a\":" T("F32", "[3]", "0", "8") "}", 8},
        {"{\"a\":" T("F32", "[-2]", "0", "8") "}", 8},
        {"{\"a\":" T("F32", "[2.0]", "0", "8") "}", 8},
        {"{\"a\":" T("F32", "[2]", "8", "0") "}", 8},
        {"{\"a\":" T("F32", "[2]", "-8", "0") "}", 8},
        {"{\"a\":" T("F31", "[2]", "0", "8") "}", 8},
        {"{\"a\":" T("BOOL", "[8]", "0", "8") "}", 8},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,2]", "0", "8") "}", 8},
        {"{\"a\":" T("F32", "[4611686018427387905,4]", "0", "16") "}", 16}, /* product wraps to 4 */
        {"{\"a\":" T("F32", "[4611686018427387904]", "0", "0") "}", 0},     /* bytes wrap to 0 */
        {"{\"a\":" T("F32", "[99999999999999999999]", "0", "8") "}", 8},
        {"{\"a\":" T("F32", "[2]", "0", "9223372036854775807") "}", 8},
        {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "4", "12") "}", 12},  /* overlap */
        {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "0", "8") "}", 8},    /* same place */
        {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[1]", "12", "16") "}", 16}, /* gap */
        {"{\"a\":" T("F32", "[2]", "0", "8") ",\"a\":" T("F32", "[2]", "8", "16") "}", 16},  /* twice */
        {"{\"a\":" T("F32", "2", "0", "8") "}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8},
        {"{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8},
        {"{\"a\":[]}", 0},
        {"{\"__metadata__\":{\"a\":1}}", 0},
        {"{\"__metadata__\":[]}", 0},
        {"[]", 0},
        {"{", 0},
        {"  ", 0},
        {"{\"a\":\"\\ud800\"}", 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (read_header(bad[i].header, bad[i].data) != TBG_INPUT)
            fail_msg("accepted: %s", bad[i].header);
    static char deep[400001];
    memset(deep, '[', 400000);
    assert_int_equal(read_header(deep, 0), TBG_INPUT);
    uint64_t claims[] = {0, 1, 9, 1ull << 40, UINT64_MAX, UINT64_MAX - 7, INT64_MAX};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        char file[16] = "________{}";
        memcpy(file, &claims[i], 8);
        tbg_tensors *t;
        assert_ok(temporary_write(temporary_path("h.st"), file, 10));
        assert_int_equal(tbg_tensors_read(temporary_path("h.st"), &t), TBG_INPUT);
    }
    tbg_tensors *t;
    assert_int_equal(tbg_tensors_read(temporary_folder, &t), TBG_INPUT);
}

/* A file that another program wrote: node_features, x and t of the reference vectors. */
static void reads_public_writer(void **state) {
    (void)state;
    const char *path = TBG_SHARED_DIR "/vectors/egnn_tiny.safetensors";
    if (access(path, R_OK))
        skip();
    tbg_tensors *t;
    assert_ok(tbg_tensors_read(path, &t));
    assert_string_equal(tbg_tensors_metadata(t, "n_atoms"), "5");
    double *x;
    assert_ok(tbg_tensors_doubles(t, "param.egnn.embedding.weight", 2, (int64_t[]){8, 7}, &x));
    free(x);
    tbg_tensors_free(t);
}

static void frames_from_tensors(void **state) {
    (void)state;
    float x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    tbg_tensor t = {.name = "positions", .dtype = TBG_F32, .rank = 3, .shape = {2, 2, 3}, .data = x};
    assert_ok(tbg_tensors_write(temporary_path("f.st"), 1, &t, 0, NULL, NULL));
    int64_t n;
    double *positions;
    assert_ok(tbg_frames_read(temporary_path("f.st"), 2, &n, &positions));
    assert_int_equal(n, 2);
    assert_true(positions[11] == 11);
    free(positions);
    assert_int_equal(tbg_frames_read(temporary_path("f.st"), 3, &n, &positions), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "2 atoms, 3 expected"));
    x[7] = NAN;
    assert_ok(tbg_tensors_write(temporary_path("f.st"), 1, &t, 0, NULL, NULL));
    assert_int_equal(tbg_frames_read(temporary_path("f.st"), 2, &n, &positions), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "frame 1, atom 0"));
    assert_null(positions);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_files), cmocka_unit_test(there_and_back), cmocka_unit_test(hostile_headers),
        cmocka_unit_test(reads_public_writer), cmocka_unit_test(frames_from_tensors)};
    return cmocka_run_group_tests_name("safetensors", tests, temporary_setup, temporary_teardown);
}
