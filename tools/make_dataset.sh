#!/bin/sh
# make_dataset.sh [SET [OPTION...]]: the data set of the dipeptides under SET (train, val, test; default train) of
# configs/splits.json into runs/data/dipeptides/: 310 K, amber14-obc1 with its usual cutoff, no constraints, four runs of
# 12.5 ns in a ladder of eight temperatures: 50 ns a peptide at 310 K. On a CUDA device all peptides in one launch, else
# a thread a molecule. Stop it at any moment; the same command goes on. SHA256SUMS is checked at the start and covers every
# finished peptide. OPTIONs are passed on to `tbg simulate` and may replace those below (--time 25 --resume: longer); TBG, SPLITS and OUT replace paths.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
set_name=${1:-train}
[ $# -eq 0 ] || shift
tbg=${TBG:-$here/build/tbg}
splits=${SPLITS:-$here/configs/splits.json}
out=${OUT:-$here/runs/data/dipeptides}
mkdir -p "$out"

check() { # every finished file that the list names is there and unchanged
    [ -s "$out/SHA256SUMS" ] || return 0
    (
        cd "$out"
        while read -r sum file; do
            [ -e "$file.checkpoint" ] || printf '%s  %s\n' "$sum" "$file"
        done <SHA256SUMS | { sums=$(cat); [ -z "$sums" ] || printf '%s\n' "$sums" | sha256sum --quiet -c -; }
    )
}
record() { # add what is finished and not yet in the list, or was made longer (--resume) since it was written
    (
        cd "$out"
        [ -e SHA256SUMS ] || : >SHA256SUMS
        longer=$(find . -maxdepth 1 -name '*.nc' -newer SHA256SUMS)
        for file in *.nc; do
            [ -e "$file" ] || continue
            [ ! -e "$file.checkpoint" ] || continue
            if grep -q "  $file\$" SHA256SUMS; then
                printf '%s\n' "$longer" | grep -qxF "./$file" || continue
                grep -v "  $file\$" SHA256SUMS >SHA256SUMS.new || true
                mv SHA256SUMS.new SHA256SUMS
            fi
            sha256sum "$file" >>SHA256SUMS
        done
    )
}

check || { echo "make_dataset.sh: remove the files that differ, and their lines of $out/SHA256SUMS" >&2; exit 1; }
status=0
"$tbg" simulate --list "$splits:$set_name" -o "$out" --device auto --forcefield amber14-obc1 --temperature 310 \
    --time 12.5 --runs 4 --replicas 8 --max-temperature 600 --save-every 5 --equilibrate 0.1 "$@" || status=$?
record
exit $status
