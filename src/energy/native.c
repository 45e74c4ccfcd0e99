/* native.c: the fast batched engine. Until src/energy/batch.h has its implementation this is the reference,
 * threaded over configurations (the batch helper replaces this file). */
#include "energy/engine.h"

int tbg_engine_native_create(struct tbg_engine *engine) {
    return tbg_engine_reference_create(engine);
}
