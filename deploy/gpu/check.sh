#!/usr/bin/env bash
# Everything that has to be seen on a GPU, in one go: what is there, the bits, every operation, the reference numbers,
# benchmarks; a short table last. NOT YET RUN on a machine with a GPU.
#
#   deploy/gpu/check.sh                      on this machine
#   deploy/gpu/check.sh --host user@machine  on that one, over ssh: carries the program and what it needs
#
# Options: --talkoot PROGRAM (built here in release profile when left out), --oracle DIR and --peer torch_step.py
# (from ../shared when they are there), --device cuda:N, --presets "small 1b 4b", --iters N, --limit SECONDS of a part.
# Whatever fails, the rest goes on, and the table says what failed and why. MFU is the model's own operations, nothing that
# is computed again, over the fastest bf16 product seen on this GPU, ours or PyTorch's.
# Exit code 0 when all checks passed; benchmarks that don't fit into memory are no failure.
set -uo pipefail

host="" talkoot="" oracle="" peer="" device=cuda:0 presets="small 1b 4b" iters=5 limit=1200 here=""
while [ $# -gt 0 ]; do
    case $1 in
        --host) host=$2 ;;
        --talkoot) talkoot=$2 ;;
        --oracle) oracle=$2 ;;
        --peer) peer=$2 ;;
        --device) device=$2 ;;
        --presets) presets=$2 ;;
        --iters) iters=$2 ;;
        --limit) limit=$2 ;;
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
    options=(--talkoot "$folder/$(basename "$talkoot")" --device "$device" --presets "'$presets'" --iters "$iters" --limit "$limit")
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
checks=$scratch/checks table=$scratch/table peak=0 flops=0 torch=""

# Runs a command, which a part that hangs must not stop the others from following.
limited() {
    if command -v timeout >/dev/null; then timeout "$limit" "$@"; else "$@"; fi
}

# Why a part failed: its status in words, and the last line that it said.
reason() {
    local last
    last=$(grep -v '^[[:space:]]*$' "$2" 2>/dev/null | tail -n 1 | cut -c1-140)
    case $1 in
        124) echo "took more than $limit s" ;;
        137) echo "killed, for want of memory perhaps" ;;
        *) echo "${last:-it said nothing, status $1}" ;;
    esac
}

# Runs a check under a name, and notes what became of it.
check() {
    local name=$1 status
    shift
    echo
    echo "== $name"
    limited "$@" >"$scratch/last" 2>&1
    status=$?
    cat "$scratch/last"
    if [ $status -eq 0 ]; then
        printf '%-30s ok\n' "$name" >>"$checks"
    else
        printf '%-30s FAILED: %s\n' "$name" "$(reason $status "$scratch/last")" >>"$checks"
        failed=1
    fi
}

# A number of a line of JSON.
field() {
    sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" <<<"$2" | tail -n 1
}

# A row of the table: name, seconds, tokens a second, bytes, model FLOPs.
row() {
    awk -v name="$1" -v s="$2" -v tokens="$3" -v bytes="$4" -v flops="$5" -v peak="$peak" 'BEGIN {
        mfu = peak > 0 && s > 0 && flops > 0 ? sprintf("%.1f %%", 100 * flops / s / peak) : "?"
        printf "%-30s %10.4f %12.1f %10.0f %9s\n", name, s, tokens, bytes / 1048576, mfu
    }' >>"$table"
}

missed() {
    printf '%-30s did not run: %s\n' "$1" "$2" >>"$table"
}

# Our steps of a preset in both classes.
ours() {
    local preset=$1 line status class seen=""
    echo
    echo "== $preset"
    limited "$talkoot" bench device --speed --device "$device" --presets "$preset" --iters "$iters" \
        --peak "$(awk -v p="$peak" 'BEGIN { print p / 1e12 }')" --json >"$scratch/last" 2>"$scratch/error"
    status=$?
    cat "$scratch/last" "$scratch/error"
    while IFS= read -r line; do
        class=$(sed -n 's/.*"class":"\([a-z]*\)".*/\1/p' <<<"$line")
        if [ -n "$class" ]; then
            peak=$(field peak_flops "$line")
            flops=$(field model_flops "$line")
            row "$preset, class $class" "$(field median_s "$line")" "$(field tokens_per_s "$line")" \
                "$(field gpu_bytes "$line")" "$flops"
            seen=yes
        elif grep -q '"failed"' <<<"$line"; then
            missed "$(sed -n 's/.*"failed":"\([^"]*\)".*/\1/p' <<<"$line")" \
                "$(sed -n 's/.*"why":"\([^"]*\)".*/\1/p' <<<"$line" | cut -c1-140)"
            seen=yes
        fi
    done <"$scratch/last"
    [ -n "$seen" ] || missed "$preset" "$(reason $status "$scratch/error")"
}

# PyTorch's steps of a preset.
peers() {
    local preset=$1 name=$2 line status
    shift 2
    echo
    echo "== $preset, $name"
    limited python3 "$peer" --device "$device" --dtype bf16 --preset "$preset" --case packed8k --iters "$iters" "$@" \
        >"$scratch/last" 2>"$scratch/error"
    status=$?
    cat "$scratch/last"
    tail -n 3 "$scratch/error"
    line=$(tail -n 1 "$scratch/last")
    if [ $status -eq 0 ] && [ -n "$(field median_s "$line")" ]; then
        row "$preset, $name" "$(field median_s "$line")" "$(field tokens_per_s "$line")" \
            "$(field peak_bytes "$line")" "$flops"
    else
        missed "$preset, $name" "$(reason $status "$scratch/error")"
    fi
}

check "what is there" "$talkoot" doctor --device "$device"
check "bits" "$talkoot" bench bits --device "$device"
check "bits, everything kept" "$talkoot" bench bits --device "$device" --no-checkpoint
check "bits, all GPUs as one" "$talkoot" bench bits --device cuda:all
check "every operation" "$talkoot" bench device --device "$device"
if [ -n "$oracle" ]; then
    check "reference numbers" "$talkoot" model check --oracle "$oracle" --device "$device"
fi

if [ -n "$peer" ]; then
    if python3 -c 'import torch; assert torch.cuda.is_available(), "torch finds no GPU"' >"$scratch/error" 2>&1; then
        torch=yes
        # the fastest of some bf16 products of 8192 x 8192, in operations a second
        peak=$(limited python3 - "$device" 2>"$scratch/error" <<'PEAK'
import sys, time, torch
n, device = 8192, sys.argv[1]
a, b = (torch.ones(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
least = float("inf")
for _ in range(10):
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    a @ b
    torch.cuda.synchronize(device)
    least = min(least, time.perf_counter() - start)
print(2 * n**3 / least)
PEAK
        ) || { peak=0; missed "bf16 peak by PyTorch" "$(reason 1 "$scratch/error")"; }
    else
        missed "PyTorch" "$(reason 1 "$scratch/error")"
    fi
fi
for preset in $presets; do
    flops=0
    ours "$preset"
    if [ -n "$torch" ]; then
        peers "$preset" "PyTorch bf16"
        peers "$preset" "PyTorch bf16 compiled" --compile
    fi
done

echo
echo "== checks"
cat "$checks"
echo
echo "== packed8k, bf16 peak $(awk -v p="$peak" 'BEGIN { printf "%.1f", p / 1e12 }') TFLOP/s"
printf '%-30s %10s %12s %10s %9s\n' "" "s a step" "tokens/s" "MiB" "MFU"
cat "$table" 2>/dev/null
exit $failed
