#!/bin/sh
# pack.sh FOLDER PROGRAM...: what a bare machine with a device and its driver, but without our libraries, needs to run built
# programs, as FOLDER.tar.xz (about 35 MB): the programs, the shared libraries they ask for (not the C library's or the
# driver's), parameter files and energy vectors. For example, with FOLDER=pack and build/bench_cuda_dynamics
# build/dynamics_test_cuda_dynamics, there:
#   tar xf pack.tar.xz -C /tmp && /tmp/pack/run dynamics_test_cuda_dynamics && /tmp/pack/run bench_cuda_dynamics LT 8192
# Tests look for the vectors at the path they were built with: run links it, if it may, to the copy.
set -eu
[ $# -ge 2 ] || { sed -n '2,7s/^# //p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=$1
shift
[ ! -e "$folder" ] || { echo "pack.sh: $folder is there already" >&2; exit 2; }
mkdir -p "$folder/bin" "$folder/lib" "$folder/shared/vectors"
for program in "$@"; do
    cp "$program" "$folder/bin/"
    ldd "$program" | awk '$3 ~ /^\// {print $3}' |
        grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|libcuda|ld-linux[^/]*)\.so' |
        while read -r library; do cp -Lu "$library" "$folder/lib/"; done
done
strip -g "$folder"/bin/* "$folder"/lib/* 2>/dev/null || true
cp -r "$here/data" "$folder/"
[ ! -d "$here/../shared/vectors/energies" ] || cp -r "$here/../shared/vectors/energies" "$folder/shared/vectors/"
cat >"$folder/run" <<END
#!/bin/sh
# Made by tools/gpu/pack.sh.
here=\$(cd "\$(dirname "\$0")" && pwd)
program=\$1
shift
shared=$here/../shared
[ -e "\$shared" ] || { mkdir -p "$here" && ln -s "\$here/shared" "\$shared"; } 2>/dev/null
TBG_DATA=\$here/data LD_LIBRARY_PATH=\$here/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH} exec "\$here/bin/\$program" "\$@"
END
chmod +x "$folder/run"
tar c -C "$(dirname "$folder")" "$(basename "$folder")" | xz -1 >"$folder.tar.xz"
rm -r "$folder"
ls -l "$folder.tar.xz"
