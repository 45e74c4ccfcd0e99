/* app.h: what the subcommands share: the table of commands and a declarative option parser. */
#ifndef TBG_APP_H
#define TBG_APP_H
#include <stddef.h>
#include <stdint.h>

typedef enum { APP_FLAG, APP_INT, APP_DOUBLE, APP_STRING } app_type;

/* One option. `value` points to int (APP_FLAG), int64_t (APP_INT), double (APP_DOUBLE) or const char *
 * (APP_STRING); what it holds before parsing is the default that the help shows. */
typedef struct {
    const char *name; /* long name without dashes; NULL ends the list */
    char letter;      /* short form or 0 */
    app_type type;
    void *value;
    const char *argument; /* placeholder in the help: "NS", "FILE"; NULL for flags */
    const char *help;
} app_option;

typedef struct {
    const char *name, *usage, *summary; /* "simulate", "SEQ|FILE.pdb --time NS -o DATA.nc", one line */
    int (*run)(int argc, char **argv);
} app_command;

extern const app_command app_commands[]; /* ends with a NULL name */

/* Parse argv[1..] of a subcommand: options anywhere, "--" ends them, "--name=value" works. Positional
 * arguments are collected in order into positional (at most `most`). description: paragraph for --help,
 * printed with usage and the options' live defaults. Returns the number of positional arguments; -1 when help
 * was printed (return 0 from the command); -2 on wrong usage after saying why (return 2). */
int app_parse(const char *command, const char *description, const app_option *options, int argc, char **argv,
              const char **positional, int least, int most);

/* Print "tbg COMMAND: message" for the stored failure and return the exit code. */
int app_fail(const char *command, int status);

/* Before the work: can a file be made at the path, that `option` gives? */
int app_check_output(const char *option, const char *path);

/* "3.2 s", "40 s", "12 min", "5.0 h". */
void app_duration(double seconds, char *text, size_t size);

int cmd_build(int argc, char **argv);
int cmd_energy(int argc, char **argv);
int cmd_simulate(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_sample(int argc, char **argv);
int cmd_density(int argc, char **argv);
int cmd_evaluate(int argc, char **argv);
int cmd_reference(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_reweight(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_info(int argc, char **argv);
#endif
