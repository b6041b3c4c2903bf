#!/usr/bin/env bash
# One cable, two ways in: a simulated device at the USB host of a real Linux kernel, which runs in an emulator, is found
# without being told where, and becomes one of "my devices". Nothing of this machine's own USB is touched.
set -euo pipefail
cd "$(dirname "$0")/.."
. examples/show.sh
target=${CARGO_TARGET_DIR:-$PWD/target}/debug

if [ -z "${USB_GUEST:-}" ]; then
    echo "Booting a Linux guest ..."
    exec tests/usb/run.sh env CARGO_TARGET_DIR="${target%/debug}" "$PWD/examples/demo-usb.sh"
fi

# From here on in the guest, whose files are ours and cannot be changed.
cd "$(mktemp -d)"
export COMMISSIONER_STATE_DIR=./state PATH=$target:$PATH

wait_for() { # a command that is to succeed, in half a minute
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "demo: waited in vain for: $*" >&2
    exit 1
}

say "A board with blank flash is plugged in. It makes its own key."
device-sim --usb vhci --flash flash --id urn:dev:ops:32473-demo-0024be >console 2>&1 &
device=$!
trap 'kill "$device"' EXIT
wait_for test -e /dev/ttyACM0
wait_for test -e /sys/class/net/usb0
run lsusb -d 1209:
run ip link set dev usb0 up

say "On the host: an issuer key, a station key and an empty registry."
run commissioner init

say "What is plugged in, and does it answer? Both ways to it are found, and they are one device."
run commissioner discover

say "Make it mine. There is one device, so there is nothing to name."
run commissioner commission

say "My devices."
run commissioner devices

say "What the device holds, read as its owner: over the network, and over the serial port."
run commissioner get /comm/owner
run commissioner get /comm/owner serial:/dev/ttyACM0
