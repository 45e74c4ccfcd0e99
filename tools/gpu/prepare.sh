#!/bin/sh
# Collects into gpu-carry/ (git ignores it) what a bare GPU machine lacks, so that it can travel with the working tree:
#   include/, lib/   headers and libraries of jansson, cmocka and Random123, for tools/gpu/Makefile
# Built programs are the task of pack.sh.
# usage: tools/gpu/prepare.sh
set -eu
cd "$(dirname "$0")/../.."
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
echo "gpu-carry: $(du -sm gpu-carry | cut -f1) MiB"
