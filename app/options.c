/* options.c: the declarative option parser of app.h. */
#include "app.h"
#include "base/path.h"
#include "tbg/status.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const app_command *find_command(const char *name) {
    for (const app_command *c = app_commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

static void print_help(const char *command, const char *description, const app_option *options) {
    const app_command *c = find_command(command);
    printf("usage: tbg %s %s\n\n%s\n\noptions:\n", command, c ? c->usage : "", description);
    for (const app_option *o = options; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ',
                 o->letter ? ", " : "  ", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        printf("  %-28s %s", left, o->help);
        if (o->type == APP_INT)
            printf(" [%lld]", (long long)*(int64_t *)o->value);
        else if (o->type == APP_DOUBLE && !isnan(*(double *)o->value))
            printf(" [%g]", *(double *)o->value);
        else if (o->type == APP_STRING && *(const char **)o->value)
            printf(" [%s]", *(const char **)o->value);
        putchar('\n');
    }
    puts("  -h, --help                   this text");
}

static int set(const char *command, const app_option *o, const char *text) {
    char *end = NULL;
    errno = 0;
    if (o->type == APP_INT) {
        double value = strtod(text, &end); /* so that 1e5 works */
        if (!*text || *end || errno || value != floor(value) || fabs(value) > 0x1p53) {
            fprintf(stderr, "tbg %s: --%s needs a whole number, not '%s'\n", command, o->name, text);
            return -2;
        }
        char *integer_end = NULL;
        long long whole = strtoll(text, &integer_end, 10);
        *(int64_t *)o->value = *integer_end ? (int64_t)value : whole;
    } else if (o->type == APP_DOUBLE) {
        double value = strtod(text, &end);
        if (!*text || *end || errno || !isfinite(value)) {
            fprintf(stderr, "tbg %s: --%s needs a number, not '%s'\n", command, o->name, text);
            return -2;
        }
        *(double *)o->value = value;
    } else
        *(const char **)o->value = text;
    return 0;
}

int app_parse(const char *command, const char *description, const app_option *options, int argc, char **argv,
              const char **positional, int least, int most) {
    int n = 0, only_positional = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (only_positional || a[0] != '-' || !a[1]) {
            if (n == most) {
                fprintf(stderr, "tbg %s: unexpected argument '%s'; see 'tbg %s --help'\n", command, a,
                        command);
                return -2;
            }
            positional[n++] = a;
            continue;
        }
        if (!strcmp(a, "--")) {
            only_positional = 1;
            continue;
        }
        if (!strcmp(a, "-h") || !strcmp(a, "--help")) {
            print_help(command, description, options);
            return -1;
        }
        const app_option *o = options;
        const char *value = NULL;
        for (; o->name; o++) {
            size_t length = strlen(o->name);
            if (a[1] == '-' && !strncmp(a + 2, o->name, length) && (!a[2 + length] || a[2 + length] == '=')) {
                value = a[2 + length] ? a + 3 + length : NULL;
                break;
            }
            if (a[1] != '-' && o->letter && a[1] == o->letter) {
                value = a[2] ? a + 2 : NULL;
                break;
            }
        }
        if (!o->name || (o->type == APP_FLAG && value)) {
            fprintf(stderr, "tbg %s: unknown option '%s'; see 'tbg %s --help'\n", command, a, command);
            return -2;
        }
        if (o->type == APP_FLAG) {
            *(int *)o->value = 1;
            continue;
        }
        if (!value && ++i < argc)
            value = argv[i];
        if (!value) {
            fprintf(stderr, "tbg %s: --%s needs %s\n", command, o->name,
                    o->argument ? o->argument : "a value");
            return -2;
        }
        if (set(command, o, value))
            return -2;
    }
    if (n < least) {
        const app_command *c = find_command(command);
        fprintf(stderr, "tbg %s: missing argument; usage: tbg %s %s\n", command, command, c ? c->usage : "");
        return -2;
    }
    return n;
}

int app_fail(const char *command, int status) {
    fprintf(stderr, "tbg %s: %s\n", command, tbg_message());
    return status == TBG_INPUT ? 2 : 1;
}

int app_check_output(const char *option, const char *path) {
    char folder[4096];
    TBG_TRY(tbg_path_folder(path, folder, sizeof folder));
    return access(folder, W_OK) ? tbg_fail(TBG_INPUT, "%s %s: can't write in folder %s", option, path, folder)
                                : TBG_OK;
}

void app_duration(double seconds, char *text, size_t size) {
    if (seconds < 100)
        snprintf(text, size, seconds < 10 ? "%.2g s" : "%.0f s", seconds);
    else if (seconds < 6000)
        snprintf(text, size, "%.0f min", seconds / 60);
    else
        snprintf(text, size, "%.1f h", seconds / 3600);
}
