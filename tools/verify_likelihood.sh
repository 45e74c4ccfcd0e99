#!/bin/sh
# verify_likelihood.sh [MODEL [SEQ [N [SECONDS [N_DOUBLE]]]]]: log q and weights of the default settings against
# dopri5 in t at tolerance 1e-8 with the divergence at every stage, on N samples (or as many as SECONDS allow), and
# the double-precision reference network on N_DOUBLE of them. docs/flow.md has the result for the shipped model.
set -eu
cd "$(dirname "$0")/.."
[ -d build ] || cmake -S . -B build -G Ninja >/dev/null
ninja -C build bench_likelihood >/dev/null
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} exec build/bench_likelihood "$@"
