/* main.c: picks the subcommand. */
#include "app.h"
#include "base/progress.h"

#include <stdio.h>
#include <string.h>

const app_command app_commands[] = {
    {"build", "SEQ -o FILE.pdb", "all-atom start structure from a sequence", cmd_build},
    {"energy", "FILE.pdb [FRAMES] --forcefield NAME", "energies and forces of many conformations",
     cmd_energy},
    {"simulate", "SEQ|FILE.pdb|--list FILE:KEY --forcefield NAME --time NS -o DATA.nc",
     "Langevin dynamics and replica exchange", cmd_simulate},
    {"train", "CONFIG.yaml [--resume] -o DIR", "train a model by flow matching", cmd_train},
    {"sample", "SEQ|FILE.pdb --model FILE -n N -o DIR", "weighted equilibrium ensemble from a model",
     cmd_sample},
    {"density", "SEQ|FILE.pdb FRAMES --model FILE [-o OUT.nc]",
     "log density of given conformations by a model", cmd_density},
    {"evaluate", "DIR... --reference DATA.nc|DIR", "compare ensembles with references", cmd_evaluate},
    {"reference", "DATA.nc... -o REF.nc", "a small reference with the figures of all frames", cmd_reference},
    {"reweight", "DIR -o DIR2 [--forcefield NAME]", "the same samples by another force field or temperature",
     cmd_reweight},
    {"report", "DIR", "self-contained HTML report of an ensemble", cmd_report},
    {"verify", "FILE.safetensors...", "recompute what a vector file states", cmd_verify},
    {"bench", "[SEQ]", "this machine's figures", cmd_bench},
    {"info", "[MODEL|DATA]", "what this build and machine can do; what a file holds", cmd_info},
    {0}};

static void print_usage(FILE *out) {
    fprintf(out, "tbg " TBG_VERSION
                 ": weighted equilibrium ensembles of peptides from a transferable Boltzmann generator\n\n"
                 "usage: tbg COMMAND [options]        tbg COMMAND --help for each\n\n");
    for (const app_command *c = app_commands; c->name; c++)
        fprintf(out, "  %-9s %s\n", c->name, c->summary);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_usage(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("tbg " TBG_VERSION);
        return 0;
    }
    tbg_catch_interrupts();
    for (const app_command *c = app_commands; c->name; c++)
        if (!strcmp(argv[1], c->name))
            return c->run(argc - 1, argv + 1);
    fprintf(stderr, "tbg: unknown command '%s'; 'tbg help' lists them\n", argv[1]);
    return 2;
}
