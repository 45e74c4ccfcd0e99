#!/bin/sh
# compare_pytorch.sh: our network against bench/pytorch_peer.py on this machine, in one run; prints ratios.
# Usage: bench/compare_pytorch.sh [HIDDEN [LAYERS [THREADS]]]; BUILD names the build folder, VECTORS a vector file for the peer's check.
# One thread (the default): both in processor time, so that a busy machine gives the same ratios as a quiet one. More threads: wall
# clock, on a quiet machine only (PyTorch's threads wait for each other and lose far more to other processes than ours).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../build}
hidden=${1:-64} layers=${2:-5} threads=${3:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "$threads" = 1 ]; then
    "$build/bench_network" 22 "$hidden" "$layers" > "$work/ours"
else
    "$build/tbg" bench --hidden "$hidden" --layers "$layers" --threads "$threads" --json > "$work/ours"
fi
OMP_NUM_THREADS=$threads python3 "$here/pytorch_peer.py" --hidden "$hidden" --layers "$layers" --threads "$threads" --seconds 4 \
    ${VECTORS:+--vectors "$VECTORS"} > "$work/peer"
python3 - "$work" <<'EOF'
import json, re, sys
text, peer = open(f"{sys.argv[1]}/ours").read(), json.load(open(f"{sys.argv[1]}/peer"))
keys = ("train_molecules_per_s", "velocities_per_s", "exact_divergences_per_s")
if text.lstrip().startswith("{"):
    ours = json.loads(text)
else:
    ours = dict(zip(keys, (float(re.search(rf"([0-9.]+) {what}/s", text)[1]) for what in ("trained", "velocities", "divergences"))))
print(f"PyTorch {peer['torch']}, {peer['threads']} thread(s)")
for key in keys:
    print(f"{key:26} tbg {ours[key]:10.4g}   PyTorch {peer[key]:10.4g}   ratio {ours[key] / peer[key]:6.1f}")
EOF
