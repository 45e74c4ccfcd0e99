#!/bin/sh
# demo.sh: the main job on a shipped model, called by ./run demo after the build: from a sequence to a weighted ensemble and
# a report. Options go to `tbg sample`.
#   ./run demo                    GN, a dipeptide that no weight has seen, by the transferable model
#   ./run demo AT -n 500          another one
#   ./run demo ACE-ALA-NME        alanine dipeptide, by the model of its own
set -eu
cd "$(dirname "$0")/.."
peptide=GN
case ${1:-} in
'' | -*) ;;
*) peptide=$1 && shift ;;
esac
reference=data/reference/$peptide.nc
out=out/demo
rm -rf "$out"
echo "run: $peptide, weighted samples by a shipped model (minutes)" >&2
build/tbg sample "$peptide" -n 128 --seed 1 --tolerance 0.3 -o "$out" "$@"
if [ -f "$reference" ]; then
    echo "run: comparing with $reference (our own replica exchange)" >&2
    build/tbg evaluate "$out" --reference "$reference"
    build/tbg report "$out" --reference "$reference"
fi
echo "report: $PWD/$out/report.html"
