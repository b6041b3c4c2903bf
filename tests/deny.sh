#!/usr/bin/env bash
# Licences, sources and duplicate versions of the dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --log-level error check bans licenses sources
else
    echo "check: cargo-deny is not installed, licences and sources were NOT checked (cargo install cargo-deny)"
fi
