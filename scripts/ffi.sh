#!/usr/bin/env bash
# Checks the C library: the header, the symbols, and programs in C, C++, Python and Ruby that use it, also under valgrind
# and with the address sanitizer. The programs use the libraries in target/debug.
#
#     scripts/ffi.sh [TEST...]       the names of tests, such as Library
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# A command for the whole workspace, so that nothing is compiled with other features.
cargo build --locked --workspace --lib --bin procref
cargo run --quiet --locked --manifest-path crates/procref-ffi/header/Cargo.toml --target-dir target -- --check

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
scripts/install-ffi.sh "$scratch" target/debug
export PKG_CONFIG_PATH=$scratch/lib/pkgconfig LD_LIBRARY_PATH=$scratch/lib
PROCREF_PREFIX=$scratch python3 crates/procref-ffi/tests/test_abi.py "$@"
(($#)) || scripts/docs-commands.py docs/c.md
