#!/usr/bin/env bash
# Builds the firmware of all boards, or of those that are named: target/firmware/TARGET/release/BOARD
#
#   device/firmware/build.sh [--check] [BOARD...]
#
# --check looks at format and lints instead.
set -euo pipefail
cd "$(dirname "$0")"
. ./toolchain.sh

targets_of() {
    case $1 in
        atmega1284p) echo avr-none ;;
        emcraft-sf2) echo thumbv7m-none-eabi ;;
        # For measuring, with each of the processors.
        lm3s6965evb) echo thumbv6m-none-eabi thumbv7m-none-eabi thumbv7em-none-eabihf ;;
        nrf52840-dk | nucleo-l476rg) echo thumbv7em-none-eabihf ;;
        rpi-pico) echo thumbv6m-none-eabi ;;
        *)
            echo "build: there is no board $1" >&2
            return 1
            ;;
    esac
}

build() { # board, target
    local board=$1 target=$2 packages image
    # What the boards share is not for an AVR.
    packages=(--package "firmware-$board")
    [ "$target" = avr-none ] || packages+=(--package firmware)
    if [ "$check" ]; then
        cross_cargo "$target" clippy --quiet --release "${packages[@]}" -- -D warnings
        return
    fi
    cross_cargo "$target" build --quiet --release --package "firmware-$board"
    for image in "$board" "$board-curve" "$board-edhoc" "$board-usb"; do
        # Some have more than one: for a USB socket of their own, with EDHOC where that is a choice, or the curve alone.
        if [ "$image" = "$board" ] || grep -q "\"$image\"" "$board/Cargo.toml"; then
            [ "$target" = avr-none ] && image=$image.elf
            echo "build: target/firmware/$target/release/$image"
        fi
    done
}

check=
if [ "${1:-}" = --check ]; then
    check=yes
    shift
    cargo fmt --all --check
fi
[ $# -gt 0 ] || set -- atmega1284p emcraft-sf2 lm3s6965evb nrf52840-dk nucleo-l476rg rpi-pico
for board in "$@"; do
    targets=$(targets_of "$board")
    for target in $targets; do
        build "$board" "$target"
    done
done
