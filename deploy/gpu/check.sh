#!/usr/bin/env bash
# Everything that has to be seen on a GPU, in one go: what is there, the bits, every operation, the reference numbers,
# benchmarks; a short table last. NOT YET RUN on a machine with a GPU.
#
#   deploy/gpu/check.sh                      on this machine
#   deploy/gpu/check.sh --host user@machine  on that one, over ssh: carries the program and what it needs
#
# Options: --talkoot PROGRAM (built here in release profile when left out), --oracle DIR and --peer torch_step.py
# (from ../shared when they are there), --device cuda:N, --presets "small 1b 4b", --iters N.
# Exit code 0 when all checks passed; benchmarks that don't fit into memory are no failure.
set -uo pipefail

host="" talkoot="" oracle="" peer="" device=cuda:0 presets="small 1b 4b" iters=5 here=""
while [ $# -gt 0 ]; do
    case $1 in
        --host) host=$2 ;;
        --talkoot) talkoot=$2 ;;
        --oracle) oracle=$2 ;;
        --peer) peer=$2 ;;
        --device) device=$2 ;;
        --presets) presets=$2 ;;
        --iters) iters=$2 ;;
        *) echo "check.sh: $1 is no option; see the head of this file" >&2; exit 2 ;;
    esac
    shift 2 || { echo "check.sh: an option lacks its value" >&2; exit 2; }
done

# beside the sources, not on the machine that was carried to
if [ -n "$(dirname "$0")" ] && [ -f "$(dirname "$0")/../../Cargo.toml" ]; then
    here=$(cd "$(dirname "$0")/../.." && pwd)
    if [ -z "$talkoot" ]; then
        (cd "$here" && cargo build --release --bin talkoot) || exit 1
        talkoot=${CARGO_TARGET_DIR:-$here/target}/release/talkoot
    fi
    [ -n "$oracle" ] || [ ! -d "$here/../shared/oracle" ] || oracle=$here/../shared/oracle
    [ -n "$peer" ] || [ ! -f "$here/../shared/bench/torch_step.py" ] || peer=$here/../shared/bench/torch_step.py
fi

if [ -n "$host" ]; then
    folder=$(ssh "$host" mktemp -d) || exit 1
    scp -q "$talkoot" "$0" "$host:$folder/" || exit 1
    options=(--talkoot "$folder/$(basename "$talkoot")" --device "$device" --presets "'$presets'" --iters "$iters")
    if [ -n "$oracle" ]; then
        scp -qr "$oracle" "$host:$folder/oracle" && options+=(--oracle "$folder/oracle")
    fi
    if [ -n "$peer" ]; then
        scp -q "$peer" "$host:$folder/" && options+=(--peer "$folder/$(basename "$peer")")
    fi
    ssh "$host" bash "$folder/$(basename "$0")" "${options[@]}"
    status=$?
    ssh "$host" rm -rf "$folder"
    exit $status
fi

[ -x "$talkoot" ] || { echo "check.sh: no program: give it with --talkoot" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
table=$scratch/table

# Runs a check under a name, and notes what became of it.
check() {
    local name=$1
    shift
    echo
    echo "== $name"
    if "$@" 2>&1 | tee "$scratch/last"; then
        printf '%-34s ok\n' "$name" >>"$table"
    else
        printf '%-34s FAILED: %s\n' "$name" "$(tail -n 1 "$scratch/last")" >>"$table"
        failed=1
    fi
}

# A number of a JSON object on standard input.
field() {
    sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" | tail -n 1
}

# Most MiB of the GPU's memory in use while a command runs, into the file $1.
watching() {
    local to=$1 watcher
    shift
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i "${device#cuda:}" -lms 200 >"$to" 2>/dev/null &
    watcher=$!
    "$@"
    local status=$?
    kill "$watcher" 2>/dev/null
    wait "$watcher" 2>/dev/null
    return $status
}

measure() {
    local name=$1
    shift
    echo
    echo "== $name"
    if watching "$scratch/memory" "$@" >"$scratch/last" 2>"$scratch/error"; then
        local peak
        peak=$(sort -n "$scratch/memory" 2>/dev/null | tail -n 1)
        printf '%-34s %10s s %12s tokens/s %8s MiB\n' "$name" "$(field median_s <"$scratch/last")" \
            "$(field tokens_per_s <"$scratch/last")" "${peak:-?}" >>"$table"
        cat "$scratch/last"
    else
        printf '%-34s did not run: %s\n' "$name" "$(tail -n 1 "$scratch/error")" >>"$table"
        tail -n 3 "$scratch/error"
    fi
}

check "what is there" "$talkoot" doctor --device "$device"
check "bits" "$talkoot" bench bits --device "$device"
check "bits, everything kept" "$talkoot" bench bits --device "$device" --no-checkpoint
check "every operation" "$talkoot" bench device --device "$device"
if [ -n "$oracle" ]; then
    check "reference numbers" "$talkoot" model check --oracle "$oracle" --device "$device"
fi
for preset in $presets; do
    measure "$preset, exact class" \
        "$talkoot" bench step --device "$device" --preset "$preset" --case packed8k --iters "$iters" --json
    if [ -n "$peer" ] && python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
        measure "$preset, PyTorch bf16" \
            python3 "$peer" --device "$device" --dtype bf16 --preset "$preset" --case packed8k --iters "$iters"
        measure "$preset, PyTorch bf16 compiled" \
            python3 "$peer" --device "$device" --dtype bf16 --compile --preset "$preset" --case packed8k --iters "$iters"
    fi
done

echo
echo "== table"
cat "$table"
exit $failed
