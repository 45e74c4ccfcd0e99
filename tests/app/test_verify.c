/* test_verify.c: `tbg verify` accepts the shared vectors and refuses any with one altered number. */
#include "tbg/file.h"
#include "tbg_test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/tbg-test-verify-XXXXXX";

static int verify(const char *path) {
    char command[2048];
    snprintf(command, sizeof command, "%s verify --threads 1 '%s' >%s/out.txt 2>&1", TBG_PROGRAM, path,
             folder);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void accepts(void **state) {
    (void)state;
    assert_int_equal(verify(TBG_SHARED_DIR "/vectors/egnn_tiny.safetensors"), 0);
    assert_int_equal(verify(TBG_SHARED_DIR "/vectors/egnn_tiny_no_attention_no_tanh.safetensors"), 0);
    assert_int_equal(verify(TBG_SHARED_DIR "/vectors/energies/AC.safetensors"), 0);
    assert_int_equal(verify(TBG_SHARED_DIR "/vectors/energies/alanine_dipeptide.safetensors"), 0);
    /* Both back ends and every quantity are there. */
    char *text;
    size_t size;
    char path[256];
    snprintf(path, sizeof path, "%s/out.txt", folder);
    assert_ok(tbg_file_read(path, 1 << 20, &text, &size));
    const char *const words[] = {"GBSAOBCForce", "forces", "reference", "native", "ok"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        assert_non_null(strstr(text, words[i]));
    free(text);
}

/* Write `file` to `path` with element `at` of tensor k moved by a hundredth of itself and of the tensor. */
static void write_altered(const tbg_tensors *file, int k, size_t at, const char *path) {
    tbg_tensor *copy = malloc((size_t)file->n * sizeof *copy);
    memcpy(copy, file->tensors, (size_t)file->n * sizeof *copy);
    size_t bytes = copy[k].n * tbg_dtype_size(copy[k].dtype);
    void *data = aligned_alloc(8, (bytes + 7) / 8 * 8);
    memcpy(data, copy[k].data, bytes);
    double mean = 0, value;
    for (size_t i = 0; i < copy[k].n; i++)
        mean += fabs(copy[k].dtype == TBG_F64 ? ((double *)data)[i] : ((float *)data)[i]) / (double)copy[k].n;
    value = copy[k].dtype == TBG_F64 ? ((double *)data)[at] : ((float *)data)[at];
    value += copysign(0.01 * (fabs(value) + mean), value) + (mean == 0 ? 1e-3 : 0);
    if (copy[k].dtype == TBG_F64)
        ((double *)data)[at] = value;
    else
        ((float *)data)[at] = (float)value;
    copy[k].data = data;
    assert_ok(tbg_tensors_write(path, file->n, copy, file->n_metadata, (const char *const *)file->keys,
                                (const char *const *)file->values));
    free(data);
    free(copy);
}

/* v does not depend on the output embedding nor on the last layer's node update: nothing in the file tells
 * whether those weights are right. */
static int is_unused(const char *name, const char *last_layer) {
    return !strncmp(name, "param.egnn.embedding_out", 24) ||
           (!strncmp(name, "param.", 6) && strstr(name, last_layer) && strstr(name, "node_mlp"));
}

static void refuses_altered(const char *source, const char *path, const char *last_layer) {
    tbg_tensors *file;
    assert_ok(tbg_tensors_read(source, &file));
    for (int k = 0; k < file->n; k++) {
        size_t n = file->tensors[k].n;
        int want = is_unused(file->tensors[k].name, last_layer) ? 0 : 1;
        write_altered(file, k, (size_t)k * 7919 % n, path);
        int got = verify(path);
        if (got != want)
            fail_msg("%s altered in %s: exit code %d, not %d", source, file->tensors[k].name, got, want);
    }
    tbg_tensors_free(file);
}

static void refuses_altered_network(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/tiny.safetensors", folder);
    refuses_altered(TBG_SHARED_DIR "/vectors/egnn_tiny.safetensors", path, "gcl_1");
    unlink(path);
}

static void refuses_altered_energies(void **state) {
    (void)state;
    char path[256], pdb[256], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/AC.safetensors", folder);
    snprintf(pdb, sizeof pdb, "%s/AC.pdb", folder);
    assert_ok(tbg_file_read(TBG_SHARED_DIR "/vectors/energies/AC.pdb", 1 << 20, &text, &size));
    assert_ok(tbg_file_write(pdb, text, size));
    refuses_altered(TBG_SHARED_DIR "/vectors/energies/AC.safetensors", path, "none");
    unlink(pdb);
    assert_int_equal(verify(path), 2); /* no PDB file */
    free(text);
    unlink(path);
}

static void refuses_unusable(void **state) {
    (void)state;
    char path[256], *data;
    size_t size;
    snprintf(path, sizeof path, "%s/cut.safetensors", folder);
    assert_int_equal(verify(path), 2);
    assert_ok(tbg_file_read(TBG_SHARED_DIR "/vectors/egnn_tiny.safetensors", 1 << 26, &data, &size));
    assert_ok(tbg_file_write(path, data, size - 8));
    assert_int_equal(verify(path), 2);
    assert_ok(tbg_file_write(path, "not a file of numbers", 21));
    assert_int_equal(verify(path), 2);
    /* A layer more than there are weights; then another temperature of NaN among the values. */
    char *layers = memmem(data, size, "\"layers\":\"2\"", 12);
    if (!layers)
        layers = memmem(data, size, "\"layers\": \"2\"", 13);
    assert_non_null(layers);
    *(char *)memchr(layers, '2', 13) = '3';
    assert_ok(tbg_file_write(path, data, size));
    assert_int_equal(verify(path), 2);
    free(data);
    tbg_tensors *file;
    assert_ok(tbg_tensors_read(TBG_SHARED_DIR "/vectors/egnn_tiny.safetensors", &file));
    for (int k = 0; k < file->n; k++)
        if (!strcmp(file->tensors[k].name, "velocity")) {
            double *values = malloc(file->tensors[k].n * sizeof *values);
            memcpy(values, file->tensors[k].data, file->tensors[k].n * sizeof *values);
            values[3] = NAN;
            file->tensors[k].data = values;
            assert_ok(tbg_tensors_write(path, file->n, file->tensors, file->n_metadata,
                                        (const char *const *)file->keys, (const char *const *)file->values));
            free(values);
        }
    tbg_tensors_free(file);
    assert_int_equal(verify(path), 2);
    unlink(path);
}

static int start(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : 1;
}
static int stop(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/out.txt", folder);
    unlink(path);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(accepts), cmocka_unit_test(refuses_altered_network),
                                       cmocka_unit_test(refuses_altered_energies),
                                       cmocka_unit_test(refuses_unusable)};
    return cmocka_run_group_tests_name("verify", tests, start, stop);
}
