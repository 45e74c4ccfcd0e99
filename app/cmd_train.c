/* cmd_train.c: tbg train: resolve a configuration, show it, train, say how it ended. */
#include "app.h"
#include "tbg/status.h"
#include "tbg/training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void report(const tbg_training_result *r, const char *directory) {
    static const char *const ends[] = {"finished", "time is up", "interrupted"};
    fprintf(stderr, "%s at iteration %lld of %lld: %lld molecules in %.0f s", ends[r->end],
            (long long)r->iteration, (long long)r->iterations, (long long)r->molecules, r->seconds);
    if (isfinite(r->molecules_per_s))
        fprintf(stderr, " (%.0f/s, %.1f %% of the time in the network)", r->molecules_per_s,
                100 * r->network_share);
    fprintf(stderr, "; loss %.4g", r->loss);
    if (isfinite(r->best_loss))
        fprintf(stderr, ", validation %.4g, best %.4g at iteration %lld", r->validation_loss, r->best_loss,
                (long long)r->best_iteration);
    if (r->skipped)
        fprintf(stderr, "; %lld steps without a finite gradient were skipped", (long long)r->skipped);
    fprintf(stderr, "\n%s/last.safetensors holds the weights%s\n", directory,
            r->end == TBG_RUN_FINISHED ? "" : "; --resume goes on from here");
}

int cmd_train(int argc, char **argv) {
    const char *file = NULL, *directory = NULL, *backend = NULL;
    int resume = 0, dry = 0;
    int64_t threads = 0, iterations = 0;
    double minutes = 0;
    app_option options[] = {
        {"output", 'o', APP_STRING, &directory, "DIR", "folder of the run (log, checkpoint, models)"},
        {"resume", 0, APP_FLAG, &resume, NULL, "go on from the folder's checkpoint, if there is one"},
        {"minutes", 0, APP_DOUBLE, &minutes, "M", "stop with a checkpoint after M minutes, 0: no limit"},
        {"iterations", 0, APP_INT, &iterations, "N", "length of the training, 0: the configuration's"},
        {"threads", 0, APP_INT, &threads, "N", "threads, 0: the configuration's, or all cores"},
        {"backend", 0, APP_STRING, &backend, "NAME", "reference, cpu or cuda (default: the configuration's)"},
        {"dry-run", 0, APP_FLAG, &dry, NULL, "load and check everything, print the resolved run and stop"},
        {0}};
    int n = app_parse(
        "train",
        "Trains a model by flow matching as a YAML file says (docs/training.md, configs/*.yaml). Ctrl-C "
        "saves "
        "a checkpoint and ends the run; the same command with --resume continues it as if nothing had "
        "happened.",
        options, argc, argv, &file, 1, 1);
    if (n < 0)
        return n == -1 ? 0 : 2;
    if (!directory) {
        fprintf(stderr, "tbg train: -o DIR is needed\n");
        return 2;
    }
    if (minutes < 0 || iterations < 0 || threads < 0 || threads > 4096) {
        fprintf(stderr,
                "tbg train: --minutes, --iterations and --threads are not negative (threads up to 4096)\n");
        return 2;
    }
    tbg_training_config *config = NULL;
    tbg_trainer *trainer = NULL;
    char *text = NULL;
    tbg_training_options o = {.directory = directory,
                              .resume = resume,
                              .minutes = minutes,
                              .threads = (int)threads,
                              .backend = backend,
                              .iterations = iterations};
    tbg_training_result result;
    int status = tbg_training_config_read(file, &config);
    if (status == TBG_OK)
        status = tbg_trainer_create(config, &o, &trainer);
    if (status == TBG_OK)
        status = tbg_trainer_describe(trainer, &text);
    if (status == TBG_OK) {
        if (dry)
            puts(text);
        else
            fprintf(stderr, "%s\n", text);
    }
    if (status == TBG_OK && !dry) {
        status = tbg_trainer_run(trainer, &result);
        if (status == TBG_OK)
            report(&result, directory);
    }
    free(text);
    tbg_trainer_free(trainer);
    tbg_training_config_free(config);
    return status == TBG_OK ? 0 : app_fail("train", status);
}
