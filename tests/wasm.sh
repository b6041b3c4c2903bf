#!/usr/bin/env bash
# Checks that packages build for a browser: they have no operating system below them, no clock and no threads.
#
#   tests/wasm.sh PACKAGE...
set -euo pipefail
cd "$(dirname "$0")/.."
. device/firmware/toolchain.sh

packages=()
for package in "$@"; do packages+=(--package "$package"); done
status=0
cross_cargo wasm32-unknown-unknown check --quiet "${packages[@]}" || status=$?
if [ "$status" = 3 ]; then
    echo "check: no compiler for wasm32-unknown-unknown, so whether $* build for a browser was NOT checked"
    exit
fi
exit "$status"
