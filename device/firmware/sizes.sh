#!/usr/bin/env bash
# What the firmware of each board takes, beside what it took at the last release (sizes.csv): flash, and RAM without the stack.
#
#   device/firmware/sizes.sh             prints both
#   device/firmware/sizes.sh --release   writes sizes.csv anew, once all are built
set -euo pipefail
cd "$(dirname "$0")"
images=../../target/firmware

# name,flash,ram in bytes, of whatever `build.sh` has built.
measure() {
    local image name tool ram flash
    for image in $(grep -v '^#' sizes.csv | cut -d, -f1); do
        case $image in
            atmega*) name=$images/avr-none/release/$image.elf tool=avr-size ram=$((0x800000)) ;;
            *) name=$(find "$images" -path "$images/thumb*/release/$image") tool=arm-none-eabi-size ram=$((0x20000000)) ;;
        esac
        if [ ! -e "$name" ]; then
            echo "sizes: $image is not built; make firmware builds it" >&2
            continue
        fi
        # Code, constants and variables with a value; and all that has an address in RAM.
        flash=$("$tool" --format=berkeley "$name" | awk 'NR == 2 { print $1 + $2 }')
        ram=$("$tool" --format=sysv "$name" | awk -v ram="$ram" '$3 >= ram { bytes += $2 } END { print bytes }')
        echo "$image,$flash,$ram"
    done
}

if [ "${1:-}" = --release ]; then
    { grep '^#' sizes.csv && measure; } >"$images/sizes.csv"
    [ "$(wc -l <"$images/sizes.csv")" = "$(wc -l <sizes.csv)" ] && cp "$images/sizes.csv" sizes.csv
    exit
fi
measure | awk -F, -v OFS=, '
    function change(before, now) { return sprintf("%9s %9d %+7d", before, now, now - before) }
    BEGIN { printf "%-20s %27s %27s\n", "firmware", "flash before, now", "RAM before, now" }
    /^#/ { next }
    FILENAME == "sizes.csv" { flash[$1] = $2; ram[$1] = $3; next }
    { printf "%-20s %s %s\n", $1, change(flash[$1], $2), change(ram[$1], $3) }' sizes.csv -
