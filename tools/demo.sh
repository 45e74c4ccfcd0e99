#!/bin/sh
# demo.sh: the main job on a shipped model, called by ./run demo after the build.
# Options are passed on to `tbg sample` (for example: ./run demo -n 5000).
set -eu
cd "$(dirname "$0")/.."
model=models/ad-improved.safetensors
reference=data/reference/ACE-ALA-NME.nc
out=out/demo
rm -rf "$out"
echo "run: alanine dipeptide, 2,000 weighted samples from $model" >&2
build/tbg sample ACE-ALA-NME --model "$model" -n 2000 --seed 1 --tolerance 0.05 -o "$out" "$@"
if [ -f "$reference" ]; then
    echo "run: comparing with $reference (our own replica exchange)" >&2
    build/tbg evaluate "$out" --reference "$reference"
    build/tbg report "$out" --reference "$reference"
fi
echo "report: $PWD/$out/report.html"
