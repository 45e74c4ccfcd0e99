#!/bin/sh
# Collects into gpu-carry/ (git ignores it) what a bare GPU machine lacks, so that it can travel with the working tree:
#   include/, lib/   headers and libraries of jansson, cmocka and Random123, for tools/gpu/Makefile
#   bin/, bin/lib/   programs of a build folder with the libraries they need, for training there (--programs BUILD)
# usage: tools/gpu/prepare.sh [--programs BUILD]
set -eu
cd "$(dirname "$0")/../.."
programs=
[ "${1:-}" = --programs ] && programs=${2:?a build folder}
rm -rf gpu-carry
mkdir -p gpu-carry/include gpu-carry/lib
missing=
for header in jansson.h jansson_config.h cmocka.h cmocka_pbc.h cmocka_version.h Random123; do
    for folder in /usr/include "/usr/include/$(uname -m)-linux-gnu"; do
        [ ! -e "$folder/$header" ] || cp -rL "$folder/$header" gpu-carry/include/
    done
done
for library in libjansson.so.4 libcmocka.so.0; do
    path=$(ldconfig -p 2>/dev/null | sed -n "s/^.*$library .*=> //p" | head -1)
    [ -n "$path" ] && cp -L "$path" gpu-carry/lib/ || missing=yes
done
[ -e gpu-carry/include/jansson.h ] && [ -e gpu-carry/include/cmocka.h ] &&
    [ -e gpu-carry/include/Random123/philox.h ] || missing=yes
if [ -n "$missing" ]; then # not installed here: unpack the packages instead
    folder=$(mktemp -d)
    (cd "$folder" && apt-get download libjansson-dev libjansson4 libcmocka-dev libcmocka0 librandom123-dev &&
        for file in *.deb; do dpkg -x "$file" .; done)
    cp -rL "$folder"/usr/include/* gpu-carry/include/
    for library in libjansson.so.4 libcmocka.so.0; do
        cp -L "$(find "$folder" -name "$library" | head -1)" gpu-carry/lib/
    done
    rm -rf "$folder"
fi
if [ -n "$programs" ]; then
    mkdir -p gpu-carry/bin/lib
    for name in tbg network_test_cuda bench_cuda; do
        [ ! -x "$programs/$name" ] || cp "$programs/$name" gpu-carry/bin/
    done
    # The C library, its loader and the compiler's own stay the machine's.
    for name in gpu-carry/bin/*; do [ -d "$name" ] || ldd "$name"; done | sed -n 's/^.*=> \(\/[^ ]*\) .*$/\1/p' | sort -u |
        grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*|libcuda)\.so' |
        while read -r path; do cp -L "$path" gpu-carry/bin/lib/; done
    strip --strip-debug gpu-carry/bin/lib/* gpu-carry/bin/tbg 2>/dev/null || true
fi
size=$(du -sm gpu-carry | cut -f1)
echo "gpu-carry: $size MiB"
[ "$size" -lt 60 ] || { echo "gpu-carry is too large to travel (60 MiB): leave --programs out" >&2; exit 1; }
