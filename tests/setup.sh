#!/usr/bin/env bash
# Makes sure that what the build and the tests need is there: installs it where that is possible without asking
# (as root, with apt-get), else says exactly what is missing.
#
#   tests/setup.sh build   what building needs
#   tests/setup.sh all     ... and what the tests need: an emulator, and independent peers in target/peers
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # command, Debian package
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: no cargo found. Install a Rust toolchain (1.94 or newer) from https://rustup.rs, then run this again." >&2
    exit 1
fi
need cc gcc # SQLite is built from source
if [ "${1:-all}" = all ]; then
    need python3 python3
    need qemu-system-arm qemu-system-arm
    need arm-none-eabi-objdump binutils-arm-none-eabi
    need arm-none-eabi-gcc gcc-arm-none-eabi
    need setpriv util-linux
    need softhsm2-util softhsm2
    need avr-gcc gcc-avr
    [ -e /usr/lib/avr/include/avr/io.h ] || missing+=(avr-libc)
    [ -e /usr/include/simavr/sim_avr.h ] || missing+=(libsimavr-dev)
    if command -v python3 >/dev/null 2>&1 && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=(python3-venv)
    fi
fi

if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "setup: installing ${missing[*]}"
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "setup: missing: ${missing[*]}. Install with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi

if [ "${1:-all}" = all ]; then
    for component in rustfmt clippy; do
        if ! cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
            rustup component add "$component" || {
                echo "setup: cargo ${component/rustfmt/fmt} is missing. Install with: rustup component add $component" >&2
                exit 1
            }
        fi
    done
    # Without the guest, its tests are left out. The line is repeated at the end of `make test`.
    tests/usb/prepare.sh || echo "setup: the tests at a real USB host stack are left out"
    # What puts an ATmega at the end of a line.
    simavr=target/simavr/board
    if [ ! "$simavr" -nt device/sim/simavr/board.c ]; then
        mkdir -p target/simavr
        cc -O2 -Wall -I/usr/include/simavr device/sim/simavr/board.c -o "$simavr" -lsimavr
    fi
    peers=target/peers
    if ! cmp -s tests/peers/requirements.txt "$peers/installed"; then
        echo "setup: independent peers (aiocoap, pycose) into $peers"
        rm -rf "$peers"
        mkdir -p target
        python3 -m venv "$peers"
        "$peers/bin/pip" install --quiet --disable-pip-version-check --requirement tests/peers/requirements.txt
        cp tests/peers/requirements.txt "$peers/installed"
    fi
fi
