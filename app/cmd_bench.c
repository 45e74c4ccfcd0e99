/* cmd_bench.c: tbg bench. */
#include "app.h"
#include <stdio.h>

int cmd_bench(int argc, char **argv) {
    (void)argc;
    fprintf(stderr, "tbg %s: not part of this build yet\n", argv[0]);
    return 1;
}
