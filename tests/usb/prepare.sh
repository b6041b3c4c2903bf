#!/usr/bin/env bash
# Makes target/usb-guest: a Linux guest with a software USB host controller (vhci) and the drivers of serial and network
# functions. It is the kernel of this Debian's linux-image-amd64 and its modules, unpacked and never installed.
#
# Returns 3 and says why if that cannot be had here.
set -euo pipefail
cd "$(dirname "$0")/../.."
guest=target/usb-guest

left_out() {
    echo "usb: $1" >&2
    exit 3
}

# vhci_hcd is the host controller, cdc_acm and cdc_ncm are what it is for; 9p is how the guest sees our files, and nft_ct
# is what a firewall needs that lets in what was asked for.
modules=(virtio_pci 9pnet_virtio 9p vhci_hcd cdc_acm cdc_ncm nft_ct)
packages=(qemu-system-x86 busybox-static kmod cpio xz-utils usbutils usbip udev iproute2 nftables)

[ "$(uname -m)" = x86_64 ] || left_out "the guest's kernel is made for x86_64, and this is $(uname -m)"
command -v apt-get >/dev/null || left_out "the guest's kernel comes from Debian's packages, and there is no apt-get here"
missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    [ "$(id -u)" = 0 ] || left_out "missing: ${missing[*]}. Install with: sudo apt-get install ${missing[*]}"
    echo "usb: installing ${missing[*]}"
    apt-get -o DPkg::Lock::Timeout=300 update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null 2>&1 || left_out "these packages cannot be installed here: ${missing[*]}"
fi

# Made by these very files?
made_of=$(cat tests/usb/prepare.sh tests/usb/init | sha256sum)
if [ "$(cat "$guest/made-of" 2>/dev/null)" = "$made_of" ]; then
    exit 0
fi
image=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }')
[ -n "$image" ] || left_out "apt knows no package linux-image-amd64; run apt-get update, or use Debian"
echo "usb: unpacking $image"
rm -rf "$guest"
mkdir -p "$guest"
cd "$guest"
apt-get download -qq "$image" 2>/dev/null || left_out "$image cannot be downloaded"
dpkg-deb --extract "$image"_*.deb kernel
rm "$image"_*.deb
version=${image#linux-image-}

# The kernel without its wrapping, for an emulated processor takes long to decompress it.
offset=$(LC_ALL=C grep --text --byte-offset --only-matching --max-count=1 --perl-regexp '\xFD7zXZ\x00' "kernel/boot/vmlinuz-$version" |
    head -n 1 | cut -d: -f1)
[ -n "$offset" ] || left_out "$image is not compressed by xz"
# xz stops where the kernel ends, and complains of what follows.
tail -c "+$((offset + 1))" "kernel/boot/vmlinuz-$version" | xz --decompress --stdout --quiet --quiet >vmlinux || true
[ "$(head -c 4 vmlinux | od -An -tx1)" = " 7f 45 4c 46" ] || left_out "no kernel was found in $image"

mkdir -p initrd/{bin,dev,proc,sys,host,modules}
cp "$(command -v busybox)" initrd/bin/busybox
install -m 755 ../../tests/usb/init initrd/init
depmod --basedir kernel "$version"
modprobe() {
    PATH=$PATH:/sbin:/usr/sbin command modprobe "$@"
}
for module in "${modules[@]}"; do
    modprobe --dirname kernel --set-version "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r file; do
        cp "$file" initrd/modules/
        basename "$file" >>initrd/modules/order
    done
(cd initrd && find . | cpio --create --format newc --quiet) | gzip -1 >initrd.gz
rm -r initrd kernel
echo "$made_of" >made-of
