"""Rates of bench_cuda over those of bench/pytorch_peer.py on the same card: ratios.py BENCH.log PEER.log HIDDEN."""
import json
import re
import sys

bench, peer, hidden = open(sys.argv[1]).read(), json.load(open(sys.argv[2])), sys.argv[3]
block = next(b for b in re.split(r"\n(?=cuda/)", bench) if f", H {hidden}, " in b and "/tensor" in b)
print(block.splitlines()[0])
for ours, theirs in (("gradient", "train_molecules_per_s"), ("velocity", "velocities_per_s"), ("divergence", "exact_divergences_per_s")):
    rate = float(re.search(rf"{ours} .* ms +([0-9.]+) a second", block)[1])
    print(f"{ours:12} tbg {rate:12.1f} a second   PyTorch {peer[theirs]:12.1f}   ratio {rate / peer[theirs]:8.1f}")
