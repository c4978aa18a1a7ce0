#!/usr/bin/env bash
# Checks the crate procref-etcd: formatting, the model of the link, links on a real etcd of one or three members on the
# loopback interface, and the command line with them. Needs protoc with its include files (Debian: protobuf-compiler, libprotobuf-dev).
#
#     scripts/etcd.sh [TEST...]       the names of tests, such as g10
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ -z ${PROCREF_TEST_ETCD:-} ]] && ! command -v etcd >/dev/null; then
    # Unpacked and not installed, because the package starts a server. `_apt` must be able to write there.
    chmod 755 "$scratch"
    (cd "$scratch" && apt-get download -q etcd-server && dpkg -x etcd-server_*.deb .)
    export PROCREF_TEST_ETCD=$scratch/usr/bin/etcd
fi

crate=(--locked --manifest-path crates/procref-etcd/Cargo.toml --target-dir target/etcd)
cargo fmt --manifest-path crates/procref-etcd/Cargo.toml --check
cargo test "${crate[@]}" --lib --bins --test access --test etcd --test link -- "$@"
cargo test "${crate[@]}" --doc -- "$@"
# Last, because the tests beside this script compile it, too, and hold the lock of target/ for so long.
cargo build --locked --bin procref
PROCREF_TEST_PROCREF=$PWD/target/debug/procref cargo test "${crate[@]}" --test command_line -- "$@"
