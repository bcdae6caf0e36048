#!/usr/bin/env python3
"""Our training step beside PyTorch's, in turn, on the same machine.

    cargo build --release
    pip install torch numpy safetensors
    python benches/step.py --peer PATH/torch_step.py [--rounds 3] [--threads 1 2] [--cases image448 packed1024]

The peer is any program that takes --preset, --case, --threads, --iters, --warmup and prints one JSON object with
`median_s`, `min_s` and `peak_bytes`. In every round each program runs once, one after the other; what counts is the
ratio of a round, and of all rounds the median. Prints a Markdown table, and with --json one object a line.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

OURS = {
    "exact": ["--no-checkpoint"],
    "exact, checkpointing": [],
    "gemm crate": ["--no-checkpoint", "--products", "gemm"],
}


def run(command):
    environment = dict(os.environ, OMP_WAIT_POLICY="passive")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--talkoot", default="target/release/talkoot")
    parser.add_argument("--peer", required=True)
    parser.add_argument("--preset", default="mid")
    parser.add_argument("--cases", nargs="+", default=["image448", "packed1024"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iters", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print("| case | threads | ours | step, s | PyTorch, s | ratio | least to most | memory above state, MiB | PyTorch, MiB | ratio |")
        print("|---|---:|---|---:|---:|---:|---|---:|---:|---:|")
    for case in options.cases:
        for threads in options.threads:
            common = ["--preset", options.preset, "--case", case, "--iters", str(options.iters), "--warmup", str(options.warmup)]
            rounds = []
            for _ in range(options.rounds):
                figures = {"peer": run([sys.executable, options.peer, *common, "--threads", str(threads)])}
                for name, flags in OURS.items():
                    figures[name] = run([options.talkoot, "--threads", str(threads), "bench", "step", "--json", *common, *flags])
                rounds.append(figures)
            for name in OURS:
                report(options, case, threads, name, rounds)


def report(options, case, threads, name, rounds):
    middle = statistics.median
    ratios = [figures[name]["median_s"] / figures["peer"]["median_s"] for figures in rounds]
    state = rounds[0][name]["state_bytes"]
    above = middle(figures[name]["peak_bytes"] - state for figures in rounds)
    peer_above = middle(figures["peer"]["peak_bytes"] - state for figures in rounds)
    row = {
        "case": case,
        "threads": threads,
        "ours": name,
        "median_s": middle(figures[name]["median_s"] for figures in rounds),
        "peer_median_s": middle(figures["peer"]["median_s"] for figures in rounds),
        "ratio": middle(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "above_state_bytes": above,
        "peer_above_state_bytes": peer_above,
    }
    if options.json:
        print(json.dumps(row), flush=True)
        return
    mib = 1 << 20
    print(
        f"| {case} | {threads} | {name} | {row['median_s']:.3f} | {row['peer_median_s']:.3f} | {row['ratio']:.2f} "
        f"| {row['least']:.2f} to {row['most']:.2f} | {above / mib:.0f} | {peer_above / mib:.0f} | {above / peer_above:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
