/* cmd_energy.c: tbg energy. */
#include "app.h"
#include <stdio.h>

int cmd_energy(int argc, char **argv) {
    (void)argc;
    fprintf(stderr, "tbg %s: not part of this build yet\n", argv[0]);
    return 1;
}
