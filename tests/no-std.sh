#!/usr/bin/env bash
# Builds the device's crates for thumbv6m-none-eabi, a target with neither std nor alloc, to show that they need none.
#
# Takes the installed rustup target; else tries to add it; else Debian's rustc-web with its own sources, which
# works where targets cannot be downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."
target=thumbv6m-none-eabi
packages=(--package cbor-schemas --package device-protocol --package device --package device-board)
say() { echo "no-std: $*"; }

if rustup target list --installed 2>/dev/null | grep -qx "$target" || rustup target add "$target" >/dev/null 2>&1; then
    cargo build --quiet --release --target "$target" "${packages[@]}"
    say "device crates built for $target (rustup)"
    exit 0
fi
if [ ! -x /usr/bin/cargo ] || [ ! -d /usr/share/cargo ] && [ ! -x /usr/bin/rustc ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing Debian's rustc-web, cargo-web, rust-web-src, lld-22"
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
            rustc-web cargo-web rust-web-src lld-22 >/dev/null || true
    fi
fi
if [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ]; then
    env PATH=/usr/bin:/bin CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/no-std \
        /usr/bin/cargo build --quiet --release -Zbuild-std=core,alloc --target "$target" "${packages[@]}"
    say "device crates built for $target (Debian's $(/usr/bin/rustc --version | cut -d' ' -f2))"
    exit 0
fi
say "LEFT OUT: no toolchain for $target here. Run: rustup target add $target"
