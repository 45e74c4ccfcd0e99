/* cmd_build.c: tbg build. */
#include "app.h"
#include <stdio.h>

int cmd_build(int argc, char **argv) {
    (void)argc;
    fprintf(stderr, "tbg %s: not part of this build yet\n", argv[0]);
    return 1;
}
