#!/bin/bash
# Data, training and a first judgement in one command, on a machine with or without a GPU: makes what is missing of the
# data set by our own dynamics, trains CONFIG for MINUTES (from the checkpoint in $OUT/run or $START if there is one),
# samples peptides of the validation set with the result, and leaves in $OUT: weights, checkpoint with the optimiser's
# state, log.jsonl, validation.md, a log of each step. Meant for `tools/gpu/prepare.sh --programs BUILD` carried along.
# usage: tools/gpu/train.sh CONFIG.yaml MINUTES [data|train|evaluate ...]     (default: all three)
# NS, PS         production time per replica, ns (0.3), and time between frames, ps (0.2); FLATTEN_PS: to find the bias along phi (100)
# SPLITS         file of the sets (configs/splits.json); TRAIN, VAL its keys (train, val); VALIDATE: how many of VAL (16)
# SAMPLES        weighted samples of each of the peptides in PEPTIDES (the first three of those validated on), 64
# DEVICE         of dynamics: cuda, cpu or auto (auto); MODEL_BACKEND, ENGINE: of the network and of the samples' energies: cuda where
#                nvidia-smi finds a device, else the processor's; START: a checkpoint
set -u
cd "$(dirname "$0")/../.." || exit 1
[ $# -ge 2 ] || { sed -n 's/^# usage: //p' "$0" >&2; exit 2; }
config=$1 minutes=$2
shift 2
[ $# -gt 0 ] || set -- data train evaluate
out=${OUT:-gpu-results}
carry=$PWD/gpu-carry/bin
if [ -z "${TBG:-}" ] && [ -x "$carry/tbg" ]; then
    TBG=$carry/tbg
    export LD_LIBRARY_PATH=$carry/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
tbg=${TBG:-build/tbg}
export TBG_DATA=${TBG_DATA:-$PWD/data}
data=runs/data/dipeptides
mkdir -p "$out/run" "$data"
if nvidia-smi -L >/dev/null 2>&1; then
    MODEL_BACKEND=${MODEL_BACKEND:-cuda} ENGINE=${ENGINE:-cuda}
fi
failed=0
step() { # step NAME COMMAND...
    local name=$1 begin=$SECONDS status
    shift
    "$@" >"$out/$name.log" 2>&1
    status=$?
    [ $status -eq 0 ] || { failed=1; tail -5 "$out/$name.log"; }
    printf '%-10s %-8s %5d s\n' "$name" "$([ $status -eq 0 ] && echo done || echo "exit $status")" $((SECONDS - begin))
}
make_data() {
    local splits=${SPLITS:-configs/splits.json} train=${TRAIN:-train} val=${VAL:-val}
    # every k-th of the validation peptides: a list of its own, since `tbg simulate --list` takes a whole key
    tr -d ' \n' <"$splits" | sed -n "s/.*\"$val\":\\[\\([^]]*\\)\\].*/\\1/p" | tr , '\n' |
        awk -v want="${VALIDATE:-16}" '{line[NR] = $0} END {step = NR > want ? NR / want : 1; printf "{\"val\": ["
            for (i = 1; i <= NR && n < want; i += step) printf "%s%s", n++ ? ", " : "", line[int(i)]; print "]}"}' >"$out/val.json"
    for list in "$splits:$train" "$out/val.json:val"; do
        "$tbg" simulate --list "$list" -o "$data" --device "${DEVICE:-auto}" --forcefield amber14-obc1 --temperature 310 \
            --time "${NS:-0.3}" --runs 4 --replicas 4 --max-temperature 450 --timestep 1 --save-every "${PS:-0.2}" \
            --exchange-every 0.1 --equilibrate 0.06 --flatten phi --flatten-time "${FLATTEN_PS:-100}" -q || return
    done
}
train() {
    [ -z "${START:-}" ] || [ -e "$out/run/checkpoint.safetensors" ] || cp "$START" "$out/run/checkpoint.safetensors" || return
    "$tbg" train "$config" -o "$out/run" --minutes "$minutes" --resume ${MODEL_BACKEND:+--backend "$MODEL_BACKEND"}
}
evaluate() {
    local peptide folders=
    rm -rf runs/validation
    for peptide in ${PEPTIDES:-$(sed 's/[^A-Z ]//g' "$out/val.json" | awk '{print $1, $2, $3}')}; do
        "$tbg" sample "$peptide" --model "$out/run/last.safetensors" -n "${SAMPLES:-64}" --tolerance 0.3 \
            ${MODEL_BACKEND:+--backend "$MODEL_BACKEND"} ${ENGINE:+--engine "$ENGINE"} -o "runs/validation/$peptide" || return
        folders="$folders runs/validation/$peptide"
    done
    # shellcheck disable=SC2086
    "$tbg" evaluate $folders --reference "$data" --markdown >"$out/validation.md" && cat "$out/validation.md"
}
for what in "$@"; do
    case $what in
    data) step data make_data ;;
    train) step train train ;;
    evaluate) step evaluate evaluate ;;
    *) echo "train.sh: unknown step '$what'" >&2; exit 2 ;;
    esac
done
tail -n 1 "$out/run/log.jsonl" 2>/dev/null
exit $failed
