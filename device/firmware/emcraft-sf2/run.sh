#!/usr/bin/env bash
# The runner of `cargo run` in this folder: "flashes" the emulated board with the firmware $1, commissions what starts, and
# shows its log until Ctrl-C. For a real board it would be one line:
#
#   commissioner run --link serial:/dev/ttyACM0 -- probe-rs run --chip nRF52840_xxAA "$1"
set -euo pipefail
cd "$(dirname "$0")/../../.."
cargo build --quiet --package commissioner-cli --package device-sim --target-dir target
export COMMISSIONER_STATE_DIR=${COMMISSIONER_STATE_DIR:-target/emulated/state}
mkdir -p target/emulated
[ -e "$COMMISSIONER_STATE_DIR" ] || target/debug/commissioner init
exec target/debug/commissioner run --link serial:target/emulated/port -- \
    target/debug/device-emulator --pty target/emulated/port --flash target/emulated/flash "$1"
