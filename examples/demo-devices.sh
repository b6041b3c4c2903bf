#!/usr/bin/env bash
# "All my devices may switch this light": a board with a light and a board with a button know each other by the list of my
# devices. Then the one with the button is lost.
set -euo pipefail
cd "$(dirname "$0")/.."
. examples/show.sh
target=${CARGO_TARGET_DIR:-$PWD/target}/debug
scratch=$(mktemp -d)
cd "$scratch"
export COMMISSIONER_STATE_DIR=$scratch/state PATH=$target:$PATH
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

wait_for() { # file, text, and how many lines of it
    for _ in $(seq 1000); do
        if [ "$(grep -c "$2" "$1")" -ge "$3" ]; then return; fi
        sleep 0.02
    done
    echo "demo: waited in vain for \"$2\" in $1" >&2
    exit 1
}
start() { # name, arguments: sets the variable NAME to the address
    device-sim --udp 127.0.0.1:0 --flash "$1.flash" --id "urn:dev:ops:32473-demo-$1" "${@:2}" >"$1" 2>&1 &
    wait_for "$1" commissioning-report 1
    printf -v "$1" '%s' "$(sed -n 's/.* at udp://p' "$1")"
}
pressed=0
press() {
    printf '\033[36m(the button is pressed)\033[0m\n'
    kill -USR1 "$button_pid"
    pressed=$((pressed + 1))
    wait_for button 'the light at' "$pressed"
    grep 'the light at' button | tail -n 1
}

say "Two boards on one network: a light, and a button that switches it. Each makes its own key."
start light
start button --switches "$light"
button_pid=$!
run commissioner init
run commissioner commission "udp:$light"
run commissioner commission "udp:$button"

say "The button does not know the light yet, and the light would not obey it."
press

say "My devices learn of each other: a signed list, which each of them keeps in flash."
run commissioner distribute "udp:$light" "udp:$button"
run commissioner devices
press
press

say "Anyone may look at the light."
run commissioner get /led --plain "udp:$light"

say "The button is lost. It is revoked, and the light is told. Nobody touches the button."
run commissioner revoke urn:dev:ops:32473-demo-button
run commissioner distribute "udp:$light"
press
