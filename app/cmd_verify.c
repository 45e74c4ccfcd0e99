/* cmd_verify.c: tbg verify. */
#include "app.h"
#include <stdio.h>

int cmd_verify(int argc, char **argv) {
    (void)argc;
    fprintf(stderr, "tbg %s: not part of this build yet\n", argv[0]);
    return 1;
}
