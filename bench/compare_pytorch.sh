#!/bin/sh
# compare_pytorch.sh: tbg bench against bench/pytorch_peer.py on this machine, in one run; prints ratios.
# Usage: bench/compare_pytorch.sh [HIDDEN [LAYERS [THREADS]]]; TBG names the program, VECTORS a vector file for the peer's check.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tbg=${TBG:-$here/../build/tbg}
hidden=${1:-64} layers=${2:-5} threads=${3:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$tbg" bench --hidden "$hidden" --layers "$layers" --threads "$threads" --json > "$work/tbg.json"
python3 "$here/pytorch_peer.py" --hidden "$hidden" --layers "$layers" --threads "$threads" \
    ${VECTORS:+--vectors "$VECTORS"} > "$work/peer.json"
python3 - "$work" <<'EOF'
import json, sys
ours, peer = (json.load(open(f"{sys.argv[1]}/{k}.json")) for k in ("tbg", "peer"))
print(f"H {ours['hidden']}, L {ours['layers']}, {ours['atoms']} atoms, {ours['threads']} threads, {ours['backend']}; PyTorch {peer['torch']}")
for key in ("train_molecules_per_s", "velocities_per_s", "exact_divergences_per_s"):
    print(f"{key:26} tbg {ours[key]:10.4g}   PyTorch {peer[key]:10.4g}   ratio {ours[key] / peer[key]:6.1f}")
print(f"{'against reverse passes':26} tbg {ours['exact_divergences_per_s']:10.4g}   PyTorch "
      f"{peer['divergences_per_s_reverse']:10.4g}   ratio {ours['exact_divergences_per_s'] / peer['divergences_per_s_reverse']:6.1f}")
EOF
