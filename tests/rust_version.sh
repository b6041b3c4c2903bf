#!/usr/bin/env bash
# Whether what we depend on asks for a newer Rust than our own `rust-version` promises. What our code itself takes of the
# standard library is looked at by clippy (incompatible_msrv, one of its defaults).
set -euo pipefail
cd "$(dirname "$0")/.."
for workspace in Cargo.toml device/firmware/Cargo.toml; do
    cargo metadata --locked --format-version 1 --manifest-path "$workspace" | python3 -c '
import json, sys

def version(text):
    return [int(part) for part in text.split(".")]

metadata = json.load(sys.stdin)
packages = [package for package in metadata["packages"] if package["rust_version"]]
ours = [package["rust_version"] for package in packages if package["id"] in metadata["workspace_members"]]
promised = min(ours, key=version)
newer = [package for package in packages if version(package["rust_version"]) > version(promised) + [0]]
for package in newer:
    asks = "{name} {version} asks for Rust {rust_version}".format(**package)
    print(f"check: {asks}, and rust-version in {sys.argv[1]} is {promised}: raise it, or take an older version")
sys.exit(bool(newer))' "$workspace"
done
