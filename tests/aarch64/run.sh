#!/usr/bin/env bash
# The bits of the exact class on a processor with another instruction set: 64-bit ARM, imitated by qemu.
#
#     tests/aarch64/run.sh [words that cargo test takes]
#
# Builds the trainer's own tests for ARM and runs them: hashes, products, codec, moments, snapshots. Needs
# `rustup target add aarch64-unknown-linux-gnu` and the packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user.
set -euo pipefail
cd "$(dirname "$0")/../.."

for needed in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$needed" >/dev/null || { echo "$needed is missing; the head of $0 names the packages"; exit 2; }
done

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
cargo test --target aarch64-unknown-linux-gnu --package talkoot-trainer --lib "$@"
