#!/bin/sh
# make_dataset.sh [SET [OPTION...]]: the data set of the dipeptides under SET (train, val, test; default train) of
# configs/splits.json into runs/data/dipeptides/: 310 K, amber14-obc1 with its usual cutoff, no constraints, four runs of
# 12.5 ns in a ladder of eight temperatures: 50 ns a peptide at 310 K. On a CUDA device all peptides in one launch, else
# one after the other. Stop it at any moment; the same command goes on. SHA256SUMS is checked at the start and covers every
# finished peptide. OPTIONs are passed on to `tbg simulate` and may replace those below; TBG, SPLITS and OUT replace paths.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
set_name=${1:-train}
[ $# -eq 0 ] || shift
tbg=${TBG:-$here/build/tbg}
splits=${SPLITS:-$here/configs/splits.json}
out=${OUT:-$here/runs/data/dipeptides}
mkdir -p "$out"

check() { # every file that the list names is there and unchanged
    [ ! -s "$out/SHA256SUMS" ] || (cd "$out" && sha256sum --quiet -c SHA256SUMS)
}
record() { # add what is finished and not yet in the list
    (
        cd "$out"
        touch SHA256SUMS
        for file in *.nc; do
            [ -e "$file" ] || continue
            [ ! -e "$file.checkpoint" ] || continue
            grep -q "  $file\$" SHA256SUMS || sha256sum "$file" >>SHA256SUMS
        done
    )
}

check || { echo "make_dataset.sh: remove the files that differ, and their lines of $out/SHA256SUMS" >&2; exit 1; }
status=0
"$tbg" simulate --list "$splits:$set_name" -o "$out" --device auto --forcefield amber14-obc1 --temperature 310 \
    --time 12.5 --runs 4 --replicas 8 --max-temperature 600 --save-every 5 --equilibrate 0.1 "$@" || status=$?
record
exit $status
