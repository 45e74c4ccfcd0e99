#!/bin/sh
# sample_peptides.sh MODEL [N [OPTION...]]: N (default 1000) weighted samples of each test peptide of the public evaluation
# (configs/splits.json names 100 test peptides; these 16 cover all residues), one folder a peptide under OUT
# (default runs/results/MODEL's name). Stop it at any moment; the same command goes on. PEPTIDES="KS AG" replaces the
# list, TBG the program. OPTIONs are passed on to `tbg sample`. Then:
#   tbg evaluate OUT/* --reference data/reference --markdown
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || { echo "usage: sample_peptides.sh MODEL [N [OPTION...]]" >&2; exit 2; }
model=$1
number=${2:-1000}
shift
[ $# -eq 0 ] || shift
tbg=${TBG:-$here/build/tbg}
out=${OUT:-$here/runs/results/$(basename "$model" .safetensors)}
for peptide in ${PEPTIDES:-KS KG AT GN LW KQ NY IM TD HT NF RL ET AC GP RV}; do
    [ ! -s "$out/$peptide/summary.json" ] || continue
    echo "$peptide" >&2
    "$tbg" sample "$peptide" --model "$model" -n "$number" --seed 1 --resume -o "$out/$peptide" "$@"
done
