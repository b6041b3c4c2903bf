#!/usr/bin/env bash
# Packs all packages that can be published, as `cargo publish` would, each with those of ours that it depends on: whether
# dependencies have versions, and whether each brings its README. What is packed is not built here: it is built and tested
# where it lies. `--verify` builds it from the packages, too, as a stranger would.
set -euo pipefail
cd "$(dirname "$0")/.."
verify=--no-verify
[ "${1:-}" != --verify ] || verify=
# `publish` is a list of registries, an empty one for false.
packages=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c '
import json, sys
print(*(package["name"] for package in json.load(sys.stdin)["packages"] if package["publish"] != []))')
cargo package --quiet --allow-dirty $verify $(printf -- '--package %s ' $packages)
for package in $packages; do
    cargo package --quiet --package "$package" --allow-dirty --list | grep -qx README.md || {
        echo "check: the package $package has no README.md; write one beside its Cargo.toml" >&2
        exit 1
    }
done
