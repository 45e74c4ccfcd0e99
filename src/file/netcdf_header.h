/* netcdf_header.h: a look at a classic NetCDF header before libnetcdf gets the file; for floor 1 only. */
#ifndef TBG_FILE_NETCDF_HEADER_H
#define TBG_FILE_NETCDF_HEADER_H

/* Check that every count, length, identifier and offset in the header lies inside the file and that the file
 * holds all records it claims. errors: TBG_INPUT: HDF5 or foreign files, truncated or corrupt ones. */
int tbg_netcdf_check(const char *path);
#endif
