#!/usr/bin/env bash
# Runs a command in the guest that prepare.sh made, as root, in this directory, with our files under it (read-only), and
# returns its exit code, 100 at most: 124 if the time was up, 125 if the guest went down before the command ended.
#
#   tests/usb/run.sh COMMAND ARGUMENT...       USB_GUEST_SECONDS=300 is the time that it has,
#                                              USB_GUEST_KERNEL=ipv6.disable=1 what its kernel is told
set -euo pipefail
guest=$(dirname "$0")/../../target/usb-guest
[ -e "$guest/made-of" ] || { echo "usb: there is no guest; run tests/usb/prepare.sh" >&2 && exit 125; }

printf -v job '%q ' "$@"
printf -v job 'cd %q && exec %s' "$PWD" "$job"
code=0
timeout "${USB_GUEST_SECONDS:-300}" qemu-system-x86_64 -accel tcg,thread=multi -machine pc -cpu max -smp 2 -m 1024 \
    -nodefaults -display none -no-reboot -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=1 \
    -kernel "$guest/vmlinux" -initrd "$guest/initrd.gz" \
    -append "console=ttyS0 panic=-1 quiet loglevel=3 ${USB_GUEST_KERNEL:-} job=$(base64 -w0 <<<"$job")" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap </dev/null || code=$?
case $code in
    124) echo "usb: the guest's time was up" >&2 && exit 124 ;;
    *[02468] | 1) echo "usb: the guest went down (QEMU's exit code $code)" >&2 && exit 125 ;;
    *) exit $((code / 2 - 1)) ;; # the guest's word, by the debug exit
esac
