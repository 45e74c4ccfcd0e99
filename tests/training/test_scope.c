/* test_scope.c: what a model was not trained for, by name; models of older programs; hostile stories. */
#include "tbg_test.h"
#include "tbg/training.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static tbg_model model; /* only its story is looked at */

static int warnings(const char *sequence, const char *forcefield, double temperature, char *text,
                    size_t size) {
    tbg_molecule *m;
    int transfer;
    assert_ok(tbg_molecule_from_sequence(sequence, &m));
    int n = tbg_scope_warnings(&model, m, forcefield, temperature, size, text, &transfer);
    assert_int_equal(n, strlen(text));
    tbg_molecule_free(m);
    return transfer;
}

/* The warnings are exactly these lines. */
static void expect(const char *sequence, const char *forcefield, double temperature, const char *lines) {
    char text[2048];
    warnings(sequence, forcefield, temperature, text, sizeof text);
    if (strcmp(text, lines))
        fail_msg("%s:\n%s\nwant\n%s", sequence, text, lines);
}

static void dipeptides(void **state) {
    (void)state;
    char molecules[] = "AC,AP,KW,CA,WK", ff[] = "amber14-obc1", text[2048];
    model = (tbg_model){.molecules = molecules, .forcefield = ff, .temperature = 310};
    expect("AC", ff, 310, "");
    expect("AW", ff, 310, ""); /* both seen at these ends, never together */
    assert_int_equal(warnings("AC", ff, 310, text, sizeof text), 0);
    assert_int_equal(warnings("CK", ff, 310, text, sizeof text), 5); /* transfer, nothing unusual */
    assert_string_equal(text, "");
    expect("PA", ff, 310, "residue P never occurs at a free N-terminus in the training molecules\n");
    expect("GA", ff, 310, "residue G occurs in none of the training molecules\n");
    expect("GG", ff, 310, "residue G occurs in none of the training molecules\n");
    expect("HID-A", ff, 310, "residue HID occurs in none of the training molecules\n");
    expect("ACA", ff, 310,
           "ACA has 3 residues without caps; the training molecules have 2\n"
           "the training molecules have no residue inside a chain\n");
    expect("ACE-A-C", ff, 310,
           "the cap ACE occurs in none of the training molecules\n"
           "the training molecules have no residue inside a chain\n");
    expect("AC", "amber99sbildn-obc", 310,
           "the model was trained for the force field amber14-obc1; weights will be for amber99sbildn-obc\n");
    expect("AC", ff, 300, "the model was trained at 310 K; weights will be for 300 K\n");
    char *json;
    assert_ok(tbg_scope_json(&model, &json));
    json_t *j = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "molecules")), 5);
    assert_int_equal(json_integer_value(json_object_get(j, "residues_most")), 2);
    assert_string_equal(json_string_value(json_object_get(j, "residues_n_terminal")), "A C K W");
    assert_string_equal(json_string_value(json_object_get(j, "residues_c_terminal")), "A C P K W");
    assert_null(json_object_get(j, "residues_inner"));
    json_decref(j);
    free(json);
}

static void one_molecule(void **state) {
    (void)state;
    char molecules[] = "ACE-A-NME", ff[] = "amber99sbildn-obc";
    model = (tbg_model){.molecules = molecules, .forcefield = ff, .temperature = 300};
    expect("ACE-ALA-NME", ff, 300, "");
    expect("ACE-G-NME", ff, 300, "the model was trained on ACE-A-NME only, not on ACE-G-NME\n");
}

/* Files without `molecules`: the data of the training story, and of what it began from. */
static void stories(void **state) {
    (void)state;
    char ff[] = "amber14-obc1", fine_tuned[] = "KS", text[2048];
    char before[] = "{\"data\": [{\"sequence\": \"AC\"}, {\"sequence\": \"CA\"}, {\"x\": 3}, 7]}";
    char after[] = "{\"data\": [{\"sequence\": \"KS\"}], \"initial_training\": {\"data\": [{\"sequence\": "
                   "\"AC\"}, {\"sequence\": \"CA\"}]}}";
    model = (tbg_model){.forcefield = ff, .temperature = 310, .training_json = before};
    expect("AC", ff, 310, "");
    assert_int_equal(warnings("AA", ff, 310, text, sizeof text), 2);
    assert_string_equal(text, "");
    model =
        (tbg_model){.forcefield = ff, .temperature = 310, .training_json = after, .molecules = fine_tuned};
    expect("KS", ff, 310, "");
    expect("AC", ff, 310, "");
    assert_int_equal(warnings("AS", ff, 310, text, sizeof text), 3);
    assert_string_equal(text, "");
    expect("SA", ff, 310, "residue S never occurs at a free N-terminus in the training molecules\n");
    char again[] =
        "{\"initial_training\": {\"data\": [{\"sequence\": \"AC\"}, {\"sequence\": \"KS\"}]}}"; /* counts once
                                                                                                 */
    model.training_json = again;
    assert_int_equal(warnings("AS", ff, 310, text, sizeof text), 2);
}

static void unknown(void **state) {
    (void)state;
    model = (tbg_model){0};
    expect("AC", "amber14-obc1", 310,
           "the model does not tell what it was trained on\n"
           "the model does not tell the force field it was trained for; weights will be for amber14-obc1\n"
           "the model does not tell the temperature it was trained at; weights will be for 310 K\n");
    /* Lines that do not fit are left out whole. */
    char small[60];
    warnings("AC", "amber14-obc1", 310, small, sizeof small);
    assert_string_equal(small, "the model does not tell what it was trained on\n");
    warnings("AC", "amber14-obc1", 310, small, 1);
    assert_string_equal(small, "");
}

static void hostile(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        ",",
                                        ",,,-,--,-",
                                        "ACE-NME",
                                        "-",
                                        "ABCDEFGHIJKLMNOPQRSTUVWXYZ-X",
                                        "\xff\xfe-\xff",
                                        "A-LA -N  -E A",
                                        "{",
                                        "[]",
                                        "{\"data\": 3, \"initial_training\": [1]}"};
    char text[2048], *json, longest[9000];
    memset(longest, 'A', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    for (size_t i = 0; i <= sizeof texts / sizeof *texts; i++)
        for (int k = 0; k < 2; k++) {
            char *copy = strdup(i < sizeof texts / sizeof *texts ? texts[i] : longest);
            model = (tbg_model){.molecules = k ? copy : NULL, .training_json = k ? NULL : copy};
            warnings("AC", "amber14-obc1", 310, text, sizeof text);
            assert_true(*text);
            assert_ok(tbg_scope_json(&model, &json));
            free(json);
            free(copy);
        }
    /* More different words than there is room for. */
    char words[4000] = "";
    for (int i = 0; i < 500; i++)
        sprintf(words + strlen(words), "%sQ%d", i ? "-" : "", i);
    model = (tbg_model){.molecules = words};
    warnings("AC", "amber14-obc1", 310, text, sizeof text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(dipeptides), cmocka_unit_test(one_molecule),
                                       cmocka_unit_test(stories), cmocka_unit_test(unknown),
                                       cmocka_unit_test(hostile)};
    return cmocka_run_group_tests_name("scope", tests, NULL, NULL);
}
