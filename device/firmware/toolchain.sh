# To be sourced. Finds a compiler for a target without an operating system:
#
#   cross_cargo TARGET COMMAND ARGUMENT...    cargo COMMAND --target TARGET ARGUMENT..., with
#
# the installed rustup target; else what `rustup target add` brings; else Debian's rustc-web, which builds `core` from its
# own sources where targets cannot be downloaded. For an AVR, rustup has no target: its sources of `core` are built, which
# `rustup component add rust-src` brings. Returns 3, and says what to do, if there is none of these.

cross_cargo() {
    local target=$1 command=$2
    shift 2
    # Everything to be small, for 128 KiB of flash. A panic has nobody to tell its message.
    local -x CARGO_TARGET_AVR_NONE_RUSTFLAGS="-C target-cpu=atmega1284p --cfg aes_compact -Z unstable-options -C panic=immediate-abort"
    [ "$target" != avr-none ] || local -x CARGO_PROFILE_RELEASE_OPT_LEVEL=z
    c_compiler "$target" || return
    if [ "$target" = avr-none ]; then
        if rustup component add rust-src >/dev/null 2>&1; then
            # Building `core` takes features of cargo that are not stable yet; so do the interrupts of an AVR.
            RUSTC_BOOTSTRAP=1 cargo "$command" -Zbuild-std=core --target "$target" "$@"
            return
        fi
    elif rustup target list --installed 2>/dev/null | grep -qx "$target" || rustup target add "$target" >/dev/null 2>&1; then
        cargo "$command" --target "$target" "$@"
        return
    fi
    if ! debian_toolchain && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "toolchain: installing Debian's rustc-web, cargo-web, rust-web-src, lld-22" >&2
        apt-get -o DPkg::Lock::Timeout=300 update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
                rustc-web cargo-web rust-web-src lld-22 >/dev/null || true
    fi
    if ! debian_toolchain; then
        echo "toolchain: no compiler for $target here. Run: rustup target add $target (for avr-none: rustup component add rust-src)" >&2
        return 3
    fi
    # Not rustup's cargo and rustc, which may come first in PATH; and Debian's rustc has no linker of its own.
    local linker
    linker=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER=/usr/lib/llvm-22/bin/ld.lld
    [ "$target" = avr-none ] && linker=CARGO_TARGET_AVR_NONE_LINKER=avr-gcc
    if [ "$command" = clippy ] && [ ! -x /usr/bin/cargo-clippy ]; then
        echo "toolchain: no clippy for $target here: its lints are left out" >&2
        return
    fi
    env -u RUSTUP_TOOLCHAIN PATH=/usr/bin:/bin "$linker" CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTC_BOOTSTRAP=1 \
        /usr/bin/cargo "$command" -Zbuild-std=core,alloc --target "$target" "$@"
}

# The compiler of P-256 for a Cortex-M: what CC or CC_TARGET names, or Debian's.
c_compiler() {
    local named=CC_${1//-/_}
    if [[ $1 != thumb* ]] || [ "${!named:-${CC:-}}" ] || command -v arm-none-eabi-gcc >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "toolchain: installing gcc-arm-none-eabi" >&2
        apt-get -o DPkg::Lock::Timeout=300 update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
                gcc-arm-none-eabi >/dev/null && return
    fi
    echo "toolchain: no C compiler for $1 here. Run: sudo apt-get install gcc-arm-none-eabi; or name one in $named; or leave" \
        "the feature of edhoc-oscore out of the board's Cargo.toml, for P-256 in Rust" >&2
    return 3
}

debian_toolchain() {
    [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -x /usr/lib/llvm-22/bin/ld.lld ] &&
        dpkg -s rust-web-src >/dev/null 2>&1
}
