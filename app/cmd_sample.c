/* cmd_sample.c: tbg sample. */
#include "app.h"
#include <stdio.h>

int cmd_sample(int argc, char **argv) {
    (void)argc;
    fprintf(stderr, "tbg %s: not part of this build yet\n", argv[0]);
    return 1;
}
