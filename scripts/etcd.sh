#!/usr/bin/env bash
# Checks the crate procref-etcd: formatting, the model of the link, links on a real etcd of one or three members on the
# loopback interface, and the command line with them. Needs protoc with its include files (Debian: protobuf-compiler,
# libprotobuf-dev).
#
#     scripts/etcd.sh [TEST...]       the names of tests, such as g10
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PROCREF_TEST_ETCD=$(scripts/etcd-program.sh)
export PROCREF_TEST_ETCD
crate=(--locked --manifest-path crates/procref-etcd/Cargo.toml --target-dir target/etcd)
cargo fmt --manifest-path crates/procref-etcd/Cargo.toml --check
# scripts/etcd-hosts.sh runs the test program `hosts`.
cargo test "${crate[@]}" --lib --bins --test access --test etcd --test link -- "$@"
cargo test "${crate[@]}" --doc -- "$@"
# Last, because the tests beside this script compile it, too, and hold the lock of target/ for so long.
cargo build --locked --bin procref
PROCREF_TEST_PROCREF=$PWD/target/debug/procref cargo test "${crate[@]}" --test command_line -- "$@"
