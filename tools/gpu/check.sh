#!/bin/bash
# On a machine with a GPU, nvcc, gcc and make: builds what the CUDA tests and benchmark need, tests, measures; a short
# table at the end. Results also go to $OUT (default: gpu-results/). Meant to take under five minutes.
# A test that is skipped for want of a device counts as failed.
# peer: the same network in PyTorch with torch.compile and bf16 on the same card, where python3 has torch; ratios after bench.
# usage: tools/gpu/check.sh [build|test|sanitize|bench|peer ...]   (default: build test bench)
set -u
cd "$(dirname "$0")/../.." || exit 1
out=${OUT:-gpu-results}
build=${TBG_GPU_BUILD:-/tmp/tbg-gpu}
export PATH=$PATH:/usr/local/cuda/bin TBG_SHOW_ERRORS=1
mkdir -p "$out"
[ $# -gt 0 ] || set -- build test bench
failed=0
rows=()
step() { # step NAME SECONDS COMMAND...
    local name=$1 limit=$2 begin=$SECONDS status
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    status=$?
    [ $status -eq 0 ] || failed=1
    [ $status -eq 0 ] || tail -25 "$out/$name.log"
    case $status in 0) word=passed ;; 77) word=skipped ;; 124) word='out of time' ;; *) word="failed ($status)" ;; esac
    rows+=("$(printf '%-18s %-12s %5d s' "$name" "$word" $((SECONDS - begin)))")
}
{ nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no GPU"; nvcc --version |
    tail -2; } 2>&1 | tee "$out/machine.txt"
for what in "$@"; do
    case $what in
    build) step build 280 make -C tools/gpu -j"$(nproc)" BUILD="$build" ;;
    test)
        step emulation 60 "$build/test_cuda_emulation"
        step correctness 120 "$build/test_cuda"
        step emulated-steps 60 "$build/test_device_steps"
        step steps 60 "$build/test_cuda_steps"
        ;;
    sanitize)
        for tool in memcheck racecheck initcheck synccheck; do
            step "$tool" 250 compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/test_cuda"
        done
        ;;
    bench)
        step bench 120 "$build/bench_cuda"
        cat "$out/bench.log"
        ;;
    peer)
        for shape in "22 64 5 2048" "36 128 9 1024"; do
            read -r atoms hidden layers batch <<<"$shape"
            step "peer-$hidden" 100 python3 bench/pytorch_peer.py --device "${PEER_DEVICE:-cuda}" --compile --bf16 --seconds 3 \
                --atoms "$atoms" --hidden "$hidden" --layers "$layers" --batch "$batch"
            [ ! -s "$out/bench.log" ] || python3 tools/gpu/ratios.py "$out/bench.log" "$out/peer-$hidden.log" "$hidden" | tee -a "$out/ratios.txt"
        done
        ;;
    *) echo "unknown step $what" >&2 && exit 2 ;;
    esac
done
grep -h -A3 'Compiling entry' "$out/build.log" 2>/dev/null | grep -E 'entry|spill|registers' >"$out/registers.txt"
printf '%s\n' "${rows[@]}" | tee "$out/table.txt"
exit $failed
