#!/usr/bin/env bash
# Packs every package that can be published, as `cargo publish` would: whether its dependencies have versions, and whether
# it brings its README. What is packed is not built here: it is built and tested where it lies.
set -euo pipefail
cd "$(dirname "$0")/.."
# `publish` is a list of registries, an empty one for false.
packages=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c '
import json, sys
print(*(package["name"] for package in json.load(sys.stdin)["packages"] if package["publish"] != []))')
for package in $packages; do
    cargo package --quiet --package "$package" --allow-dirty --no-verify
    cargo package --quiet --package "$package" --allow-dirty --list | grep -qx README.md || {
        echo "check: the package $package has no README.md; write one beside its Cargo.toml" >&2
        exit 1
    }
done
