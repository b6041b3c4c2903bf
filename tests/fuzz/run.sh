#!/usr/bin/env bash
# Runs each fuzz target for some seconds with cargo-fuzz. It needs unstable options of the compiler: a nightly toolchain has
# them, and where there is none, the usual one is told to allow them. No sanitizer: our crates forbid unsafe code, and with
# one, building SQLite takes longer than all the rest.
#
#   tests/fuzz/run.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
fuzz=tests/fuzz/cargo-fuzz

cargo=(cargo +nightly)
if ! "${cargo[@]}" --version >/dev/null 2>&1; then
    cargo=(env RUSTC_BOOTSTRAP=1 cargo)
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing. Install with: cargo install cargo-fuzz" >&2
    exit 1
fi
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $("${cargo[@]}" fuzz list --fuzz-dir "$fuzz")
fi
cargo run --quiet --package fuzzing --bin fuzz-seeds -- "$fuzz/corpus"
for target in "$@"; do
    echo "fuzz: $target, $seconds s"
    "${cargo[@]}" fuzz run --sanitizer none --fuzz-dir "$fuzz" "$target" -- -max_total_time="$seconds" -max_len=8192 -print_final_stats=1
done
