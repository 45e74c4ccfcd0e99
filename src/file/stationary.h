/* stationary.h: the stationary part of what `tbg simulate` wrote. Its diagnostics (attribute tbg_metadata,
 * the text of DATA.json) say how many frames at the start of each run are not (`frames_to_drop`). */
#ifndef TBG_FILE_STATIONARY_H
#define TBG_FILE_STATIONARY_H
#include "tbg/file.h"

/* tbg_trajectory_read without those frames: of the frames from `first` on that are left, every stride-th, at
 * most `limit`. The file is read as it is if it says nothing, or says it of other runs and frames than it
 * holds (somebody took some out). *dropped: frames left out, or NULL. errors: as tbg_trajectory_read. */
int tbg_trajectory_read_stationary(const char *path, int64_t first, int64_t stride, int64_t limit,
                                   int64_t *dropped, tbg_trajectory **out);
#endif
