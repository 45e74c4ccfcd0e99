/* test_trajectory.c: AMBER NetCDF there and back, continued files, other conventions, hostile files. */
#include "tbg_test.h"
#include "file/temporary.h"
#include <netcdf.h>
#include "tbg/file.h"

enum { ATOMS = 4, FRAMES = 3000 };
static const char *const extra_names[] = {"log_weight", "valid"};
static const char *const extra_units[] = {"1", "1"};
static const tbg_trajectory_header header = {.n_atoms = ATOMS,
                                             .title = "four atoms",
                                             .topology_pdb = "ATOM ...\nEND\n",
                                             .forcefield = "amber14-obc1",
                                             .temperature = 310,
                                             .n_extra = 2,
                                             .extra_names = extra_names,
                                             .extra_units = extra_units,
                                             .metadata_json = "{\"seed\": 7}"};

static double place(int frame, int i) {
    return sin(frame * 0.1 + i) + 0.01 * i;
}

static void fill(int first, int n, double *x, double *time, double *extra) {
    for (int f = 0; f < n; f++) {
        for (int i = 0; i < ATOMS * 3; i++)
            x[f * ATOMS * 3 + i] = place(first + f, i);
        time[f] = 0.5 * (first + f);
        extra[2 * f] = first + f == 5 ? -INFINITY : -1.0 / 3 * (first + f);
        extra[2 * f + 1] = first + f != 5;
    }
}

static void check(const tbg_trajectory *t, int64_t n, int64_t first, int64_t stride) {
    assert_int_equal(t->n_atoms, ATOMS);
    assert_int_equal(t->n_frames, n);
    const double *weight = tbg_trajectory_extra(t, "log_weight"), *valid = tbg_trajectory_extra(t, "valid");
    assert_non_null(weight);
    assert_null(tbg_trajectory_extra(t, "other"));
    for (int64_t f = 0; f < n; f++) {
        int64_t frame = first + f * stride;
        for (int i = 0; i < ATOMS * 3; i++)
            if (!(fabs(t->positions[f * ATOMS * 3 + i] - place((int)frame, i)) <= 2e-7))
                fail_msg("frame %d value %d: %.9g, %.9g", (int)frame, i, t->positions[f * ATOMS * 3 + i],
                         place((int)frame, i));
        assert_true(t->time[f] == 0.5 * (double)frame);
        assert_true(weight[f] == (frame == 5 ? -INFINITY : -1.0 / 3 * (double)frame));
        assert_true(valid[f] == (frame != 5));
    }
}

static void write_frames(const char *path, int append, int first, int n, int64_t expected) {
    static double x[FRAMES * ATOMS * 3], time[FRAMES], extra[FRAMES * 2];
    tbg_trajectory_writer *w;
    int64_t there = -1;
    fill(first, n, x, time, extra);
    assert_ok(tbg_trajectory_create(path, &header, append, &there, &w));
    assert_int_equal(there, expected);
    int half = n / 2;
    assert_ok(tbg_trajectory_append(w, half, x, time, extra));
    assert_ok(tbg_trajectory_sync(w));
    assert_ok(tbg_trajectory_append(w, n - half, x + half * ATOMS * 3, time + half, extra + 2 * half));
    assert_ok(tbg_trajectory_close(w));
}

static void there_and_back(void **state) {
    (void)state;
    const char *path = temporary_path("a.nc");
    write_frames(path, 0, 0, FRAMES, 0);
    tbg_trajectory *t;
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
    check(t, FRAMES, 0, 1);
    assert_string_equal(t->topology_pdb, header.topology_pdb);
    assert_string_equal(t->forcefield, header.forcefield);
    assert_string_equal(t->metadata_json, header.metadata_json);
    assert_string_equal(t->title, header.title);
    assert_true(t->temperature == 310);
    tbg_trajectory_free(t);
    static const int64_t cases[][4] = {/* first, stride, limit, frames */
                                       {7, 13, 0, 231}, {2999, 5, 0, 1}, {3000, 1, 0, 0}, {0, 3000, 0, 1},
                                       {0, 2999, 0, 2}, {4, 1, 3, 3},    {1, 7, 20, 20},  {1 << 30, 1, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_ok(tbg_trajectory_read(path, cases[i][0], cases[i][1], cases[i][2], &t));
        check(t, cases[i][3], cases[i][0], cases[i][1]);
        tbg_trajectory_free(t);
    }
    assert_int_equal(tbg_trajectory_read(path, -1, 1, 0, &t), TBG_INPUT);
    assert_int_equal(tbg_trajectory_read(path, 0, 0, 0, &t), TBG_INPUT);
    int64_t n;
    double *x;
    assert_ok(tbg_frames_read(path, ATOMS, &n, &x));
    assert_int_equal(n, FRAMES);
    assert_true(fabs(x[FRAMES * ATOMS * 3 - 1] - place(FRAMES - 1, ATOMS * 3 - 1)) < 2e-7);
    free(x);
    assert_int_equal(tbg_frames_read(path, ATOMS + 1, &n, &x), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "4 atoms, 5 expected"));
}

static void continued(void **state) {
    (void)state;
    const char *path = temporary_path("c.nc");
    write_frames(path, 1, 0, 11, 0);
    write_frames(path, 1, 11, 20, 11);
    tbg_trajectory *t;
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
    check(t, 31, 0, 1);
    tbg_trajectory_free(t);
    /* Others cannot continue it, and a refused attempt changes nothing. */
    tbg_trajectory_header other[] = {header, header, header, header};
    other[0].n_atoms = 5;
    other[1].n_extra = 1;
    other[2].forcefield = "amber99sbildn-obc";
    other[3].temperature = 300;
    tbg_trajectory_writer *w;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(tbg_trajectory_create(path, &other[i], 1, NULL, &w), TBG_INPUT);
        assert_null(w);
    }
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
    check(t, 31, 0, 1);
    tbg_trajectory_free(t);
    /* Abort leaves no trace of a new file; an old one under that name stays. */
    assert_ok(tbg_trajectory_create(path, &header, 0, NULL, &w));
    tbg_trajectory_abort(w);
    assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
    check(t, 31, 0, 1);
    tbg_trajectory_free(t);
    /* Not finite: refused by name. */
    double x[ATOMS * 3] = {[7] = NAN};
    assert_ok(tbg_trajectory_create(temporary_path("n.nc"), &header, 0, NULL, &w));
    assert_int_equal(tbg_trajectory_append(w, 1, x, NULL, NULL), TBG_FAILED);
    assert_non_null(strstr(tbg_message(), "atom 2"));
    tbg_trajectory_abort(w);
    assert_true(access(temporary_path("n.nc"), F_OK) != 0);
    assert_int_equal(tbg_trajectory_create(temporary_path("no/such/folder.nc"), &header, 0, NULL, &w),
                     TBG_FAILED);
}

/* A small file by libnetcdf itself, with one thing different. */
static void write_other(const char *path, int mode, const char *conventions, const char *units, int three,
                        float value, nc_type type) {
    int nc, frame, spatial, atom, x;
    assert_ok(nc_create(path, NC_CLOBBER | mode, &nc));
    if (conventions)
        assert_ok(nc_put_att_text(nc, NC_GLOBAL, "Conventions", strlen(conventions), conventions));
    assert_ok(nc_def_dim(nc, "frame", NC_UNLIMITED, &frame));
    assert_ok(nc_def_dim(nc, "atom", 2, &atom));
    assert_ok(nc_def_dim(nc, "spatial", (size_t)three, &spatial));
    assert_ok(nc_def_var(nc, "coordinates", type, 3, (int[]){frame, atom, spatial}, &x));
    if (units)
        assert_ok(nc_put_att_text(nc, x, "units", strlen(units), units));
    assert_ok(nc_enddef(nc));
    float values[8] = {10, 20, 30, 40, 50, value, 0, 0};
    if (type == NC_CHAR)
        assert_ok(nc_put_vara_text(nc, x, (size_t[]){0, 0, 0}, (size_t[]){1, 2, (size_t)three}, "abcdefgh"));
    else
        assert_ok(nc_put_vara_float(nc, x, (size_t[]){0, 0, 0}, (size_t[]){1, 2, (size_t)three}, values));
    assert_ok(nc_close(nc));
}

static void other_writers(void **state) {
    (void)state;
    const char *path = temporary_path("o.nc");
    tbg_trajectory *t;
    const int modes[] = {0, NC_64BIT_OFFSET, NC_64BIT_DATA};
    for (int i = 0; i < 3; i++) {
        write_other(path, modes[i], "CF-1.0 AMBER", i == 1 ? NULL : "angstrom", 3, 60,
                    i ? NC_DOUBLE : NC_FLOAT);
        assert_ok(tbg_trajectory_read(path, 0, 1, 0, &t));
        assert_int_equal(t->n_frames, 1);
        assert_true(fabs(t->positions[5] - 6) < 1e-6);
        assert_null(t->time);
        assert_true(t->temperature == 0);
        tbg_trajectory_free(t);
    }
    write_other(path, 0, NULL, "angstrom", 3, 60, NC_FLOAT);
    assert_int_equal(tbg_trajectory_read(path, 0, 1, 0, &t), TBG_INPUT);
    write_other(path, 0, "AMBERRESTART", "angstrom", 3, 60, NC_FLOAT);
    assert_int_equal(tbg_trajectory_read(path, 0, 1, 0, &t), TBG_INPUT);
    write_other(path, 0, "AMBER", "nanometer", 3, 60, NC_FLOAT);
    assert_int_equal(tbg_trajectory_read(path, 0, 1, 0, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "nanometer"));
    write_other(path, 0, "AMBER", "angstrom", 4, 60, NC_FLOAT);
    assert_int_equal(tbg_trajectory_read(path, 0, 1, 0, &t), TBG_INPUT);
    write_other(path, 0, "AMBER", "angstrom", 3, 60, NC_CHAR);
    assert_int_equal(tbg_trajectory_read(path, 0, 1, 0, &t), TBG_INPUT);
    write_other(path, 0, "AMBER", "angstrom", 3, NAN, NC_FLOAT);
    assert_int_equal(tbg_trajectory_read(path, 0, 1, 0, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "frame 0, atom 1"));
    write_other(path, NC_NETCDF4, "AMBER", "angstrom", 3, 60, NC_FLOAT);
    assert_int_equal(tbg_trajectory_read(path, 0, 1, 0, &t), TBG_INPUT);
    assert_non_null(strstr(tbg_message(), "HDF5"));
    assert_int_equal(tbg_trajectory_read(temporary_folder, 0, 1, 0, &t), TBG_INPUT);
    assert_int_equal(tbg_trajectory_read("https://example.invalid/a.nc", 0, 1, 0, &t), TBG_INPUT);
}

static void hostile(void **state) {
    (void)state;
    write_frames(temporary_path("h.nc"), 0, 0, 6, 0);
    char *data;
    size_t size;
    tbg_trajectory *t;
    assert_ok(tbg_file_read(temporary_path("h.nc"), 1 << 20, &data, &size));
    /* Cut anywhere: always an error, the data part included. */
    for (size_t n = 0; n < size; n++) {
        assert_ok(temporary_write(temporary_path("x.nc"), data, n));
        if (tbg_trajectory_read(temporary_path("x.nc"), 0, 1, 0, &t) != TBG_INPUT)
            fail_msg("accepted %zu of %zu bytes", n, size);
        assert_null(t);
    }
    /* Every byte of the header changed in three ways: an error or a sound structure, and quickly so. */
    size_t header_size = size - 6 * (ATOMS * 12 + 4 + 16);
    static const unsigned char masks[] = {0x01, 0x80, 0xff};
    for (size_t i = 0; i < header_size; i++)
        for (int m = 0; m < 3; m++) {
            char kept = data[i];
            data[i] = (char)(data[i] ^ masks[m]);
            assert_ok(temporary_write(temporary_path("x.nc"), data, size));
            int status = tbg_trajectory_read(temporary_path("x.nc"), 0, 1, 0, &t);
            assert_true(status == TBG_OK ? t != NULL && t->n_frames <= 6 * 4 : t == NULL);
            tbg_trajectory_free(t);
            data[i] = kept;
        }
    /* Number of frames claimed: huge, or never written. */
    static const unsigned char claims[][4] = {
        {0, 0, 0, 7}, {0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff}};
    for (int i = 0; i < 3; i++) {
        memcpy(data + 4, claims[i], 4);
        assert_ok(temporary_write(temporary_path("x.nc"), data, size));
        assert_int_equal(tbg_trajectory_read(temporary_path("x.nc"), 0, 1, 0, &t), TBG_INPUT);
        tbg_trajectory_writer *w;
        assert_int_equal(tbg_trajectory_create(temporary_path("x.nc"), &header, 1, NULL, &w), TBG_INPUT);
    }
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(continued),
                                       cmocka_unit_test(other_writers), cmocka_unit_test(hostile)};
    return cmocka_run_group_tests_name("trajectory", tests, temporary_setup, temporary_teardown);
}
