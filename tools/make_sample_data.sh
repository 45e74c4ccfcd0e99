#!/bin/sh
# make_sample_data.sh [DIR]: the three training peptides of data/sample (tests, first experiments), as
# tools/make_dataset.sh makes the whole set but short: two runs of 120 frames, 2.5 ps apart, in a ladder of eight
# temperatures. About a minute of one core. The same machine and build give the same bytes.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$here/data/sample}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo '{"sample": ["CA", "GG", "GH"]}' >"$work/list.json"
SPLITS=$work/list.json OUT=$work/data "$here/tools/make_dataset.sh" sample --device cpu --time 0.3 --runs 2 --save-every 2.5
mkdir -p "$out"
cp "$work"/data/*.nc "$work/data/SHA256SUMS" "$out"
