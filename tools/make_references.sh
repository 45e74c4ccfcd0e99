#!/bin/sh
# make_references.sh [OPTION...]: reference ensembles of the 16 test peptides of the public evaluation, kept small. Dynamics by
# tools/make_dataset.sh into runs/data/references/ (amber14-obc1, 310 K, four runs of 25 ns in a ladder of eight temperatures,
# phi flattened: docs/dynamics.md), then of every finished peptide data/reference/SEQ.nc (at most 148 kB of frames) and
# SEQ.json (dF with errors, histograms, energies and TICA of all frames; tbg reference --help), and SHA256SUMS of these. Stop
# it at any moment; the same command goes on, and makes again what was simulated for longer since. OPTIONs are passed on to
# `tbg simulate` (--time 50 --resume: longer; --flatten none: without a bias). PEPTIDES="KS AG" replaces the list; TBG, OUT (dynamics)
# and KEEP (what is kept) replace paths.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
export TBG="${TBG:-$here/build/tbg}"
export OUT="${OUT:-$here/runs/data/references}"
keep=${KEEP:-$here/data/reference}
peptides=${PEPTIDES:-KS KG AT GN LW KQ NY IM TD HT NF RL ET AC GP RV}
mkdir -p "$OUT" "$keep"

list=
for peptide in $peptides; do
    list="$list${list:+, }\"$peptide\""
done
printf '{"references": [%s]}\n' "$list" >"$OUT/list.json"

status=0
SPLITS="$OUT/list.json" "$here/tools/make_dataset.sh" references --time 25 --flatten phi "$@" || status=$?

for peptide in $peptides; do
    from=$OUT/$peptide.nc
    [ -e "$from" ] && [ ! -e "$from.checkpoint" ] || continue
    [ ! -e "$keep/$peptide.json" ] || [ "$from" -nt "$keep/$peptide.json" ] || continue
    "$TBG" reference "$from" -o "$keep/$peptide.nc"
done
(
    cd "$keep"
    set -- *.nc *.json
    for file; do
        [ ! -e "$file" ] || sha256sum "$file"
    done >SHA256SUMS.new
    mv SHA256SUMS.new SHA256SUMS
)
exit $status
