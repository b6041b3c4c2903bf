#!/usr/bin/env bash
# Runs each fuzz target for some seconds with cargo-fuzz, on a nightly toolchain.
#
#   tests/fuzz/run.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
fuzz=tests/fuzz/cargo-fuzz

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: no nightly toolchain. Install with: rustup toolchain install nightly" >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing. Install with: cargo install cargo-fuzz" >&2
    exit 1
fi
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $(cargo +nightly fuzz list --fuzz-dir "$fuzz")
fi
cargo run --quiet --package fuzzing --bin fuzz-seeds -- "$fuzz/corpus"
for target in "$@"; do
    echo "fuzz: $target, $seconds s"
    cargo +nightly fuzz run --fuzz-dir "$fuzz" "$target" -- -max_total_time="$seconds" -max_len=1400 -print_final_stats=1
done
