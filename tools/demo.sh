#!/bin/sh
# demo.sh: the main job on a shipped model, called by ./run demo after the build: from a sequence to a weighted ensemble and
# a report. Options go to `tbg sample`.
#   ./run demo                    alanine dipeptide, by the model of its own
#   ./run demo GN                 a dipeptide that no weight has seen, by the small transferable model
#   ./run demo AT -n 1000
set -eu
cd "$(dirname "$0")/.."
peptide=ACE-ALA-NME
case ${1:-} in
'' | -*) ;;
*) peptide=$1 && shift ;;
esac
case $peptide in
ACE-ALA-NME) model=models/ad-improved.safetensors number=1000 ;;
*) model=models/tbg-improved-small.safetensors number=500 ;;
esac
reference=data/reference/$peptide.nc
out=out/demo
rm -rf "$out"
echo "run: $peptide, $number weighted samples from $model (minutes)" >&2
build/tbg sample "$peptide" --model "$model" -n "$number" --seed 1 --tolerance 0.3 -o "$out" "$@"
if [ -f "$reference" ]; then
    echo "run: comparing with $reference (our own replica exchange)" >&2
    build/tbg evaluate "$out" --reference "$reference"
    build/tbg report "$out" --reference "$reference"
fi
echo "report: $PWD/$out/report.html"
