"""Every S-th frame of an AMBER NetCDF trajectory, attributes kept: thin_trajectory.py IN.nc OUT.nc S (needs scipy)."""
import sys
from scipy.io import netcdf_file
a=netcdf_file(sys.argv[1],'r',mmap=False); b=netcdf_file(sys.argv[2],'w',version=2); s=int(sys.argv[3])
for k,v in a._attributes.items(): setattr(b,k,v)
for d,n in a.dimensions.items(): b.createDimension(d,n)
for k,v in a.variables.items():
    w=b.createVariable(k,v.typecode(),v.dimensions)
    for q,z in v._attributes.items(): setattr(w,q,z)
for k,v in a.variables.items():
    d=v.data[::s] if v.dimensions and v.dimensions[0]=='frame' else v.data
    b.variables[k][:]=d
b.close()
