#!/usr/bin/env bash
# The product in a minute: a simulated device at the end of a serial line (a pty) becomes one of "my devices", loses its
# flash, and is recognised as the same device with a new key.
set -euo pipefail
cd "$(dirname "$0")/.."
. examples/show.sh
target=${CARGO_TARGET_DIR:-target}/debug
scratch=$(mktemp -d)
export COMMISSIONER_STATE_DIR=$scratch/state
device=""
stop_device() {
    if [ -n "$device" ]; then
        kill "$device" 2>/dev/null || true
        wait "$device" 2>/dev/null || true
        device=""
    fi
}
trap 'stop_device; rm -rf "$scratch"' EXIT

expect() { # exit code, then a command of which that is demanded
    local want=$1 code
    shift
    printf '\033[36m$ commissioner %s\033[0m\n' "$(printf '%s' "$*" | sed "s#$scratch#.#g")"
    code=0
    "$target/commissioner" "$@" >"$scratch/output" 2>&1 || code=$?
    sed "s#$scratch#.#g" "$scratch/output"
    [ "$code" -eq 0 ] || echo "(exit code $code)"
    if [ "$code" -ne "$want" ]; then
        echo "demo: expected exit code $want" >&2
        exit 1
    fi
}
start_device() { # flash image
    "$target/device-sim" --pty "$scratch/port" --flash "$scratch/$1" --id urn:dev:ops:32473-demo-0024be >"$scratch/console" &
    device=$!
    for _ in $(seq 500); do
        grep -q commissioning-report "$scratch/console" && [ -e "$scratch/port" ] && break
        sleep 0.02
    done
    sed -n 1,2p "$scratch/console" | cut -c1-100 | sed 's/^/  /'
}

say "A board with blank flash starts. It makes its own key, and says so on its console."
start_device flash-1

say "On the host: an issuer key, a station key and an empty registry."
expect 0 init

say "Who is at the other end of the cable?"
expect 0 discover "serial:$scratch/port"

say "Make it mine: EDHOC proves its key, a certificate about that key is signed, sent and confirmed by a receipt."
expect 0 commission "serial:$scratch/port"

say "It is one of my devices now. Nobody typed a name or pasted a key."
expect 0 devices

say "Again: there is nothing to do, and nothing is changed."
expect 0 commission "serial:$scratch/port"

say "What the device holds, read under EDHOC and OSCORE as its owner."
expect 0 get /comm/owner "serial:$scratch/port"

say "The board is reflashed: its storage is blank again, so it makes another key."
stop_device
start_device flash-2

say "The same ID with another key might be a stranger who claims it. So the commissioner stops."
expect 6 commission "serial:$scratch/port"

say "It was me. The new key becomes the active one, and the old key is revoked, not deleted."
expect 0 commission "serial:$scratch/port" --accept-new-key

say "My devices, with revoked keys."
expect 0 devices --all

say "Everything known about it."
expect 0 show urn:dev:ops:32473-demo
