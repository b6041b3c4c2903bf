#!/usr/bin/env bash
# Builds the firmware of all boards, or of those that are named: target/firmware/TARGET/release/BOARD
#
#   device/firmware/build.sh [BOARD...]
set -euo pipefail
cd "$(dirname "$0")"
. ./toolchain.sh

target_of() {
    case $1 in
        emcraft-sf2 | lm3s6965evb) echo thumbv7m-none-eabi ;;
        *)
            echo "build: there is no board $1" >&2
            return 1
            ;;
    esac
}

[ $# -gt 0 ] || set -- emcraft-sf2 lm3s6965evb
for board in "$@"; do
    target=$(target_of "$board")
    cross_cargo "$target" build --quiet --release --package "firmware-$board"
    echo "build: target/firmware/$target/release/$board"
done
