#!/usr/bin/env bash
# The tests that are too long for every change: they wait for time-outs, cut lines, kill and freeze members. Needs what
# `.ci/run` needs, and root for network namespaces; without it those tests say that they skip.
set -euo pipefail
cd "$(dirname "$0")/.."

# One at a time: the machine's processors are what the time-outs are measured against.
cargo test --test nat -- --ignored --test-threads 1
cargo test --test real_life -- --ignored --test-threads 1

# Every defence switched off in a copy of the tree, one at a time: its test has to fail. Needs Python 3.11 and one build.
python3 tests/defences/switch_off.py
