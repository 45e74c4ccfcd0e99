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
/* A readable file of what is shipped. kind "data": in $TBG_DATA if that is set; "models": in $TBG_MODELS, or
 * beside $TBG_DATA; otherwise in the folder of that name beside the program, in ../share/tbg of it, or in the
 * source tree. path: [size]. TBG_INPUT if there is none. */
int tbg_shipped_path(const char *kind, const char *name, char *path, size_t size);
#endif
