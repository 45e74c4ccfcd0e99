/* path.h: names of files. */
#ifndef TBG_BASE_PATH_H
#define TBG_BASE_PATH_H
#include <stddef.h>

/* What follows the last slash. */
const char *tbg_path_name(const char *path);
/* FOLDER/NAME. path: [size]; TBG_INPUT if it is too long. */
int tbg_path_join(const char *folder, const char *name, char *path, size_t size);
/* The folder that holds the file, "." if none is named. folder: [size]; TBG_INPUT if it is too long. */
int tbg_path_folder(const char *path, char *folder, size_t size);
#endif
