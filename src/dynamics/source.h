/* source.h: a system's forces as a force source. */
#ifndef TBG_DYNAMICS_SOURCE_H
#define TBG_DYNAMICS_SOURCE_H
#include "dynamics/integrator.h"

/* Over the native batched engine. *owned: release with tbg_force_source_free when the lanes are gone. */
typedef struct tbg_source_owner tbg_source_owner;
int tbg_force_source_create(const tbg_system *system, tbg_force_source *source, tbg_source_owner **owned);
void tbg_force_source_free(tbg_source_owner *owned);
#endif
