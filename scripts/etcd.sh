#!/usr/bin/env bash
# Checks the crate procref-etcd: formatting, the model of the link, links on a real etcd of one or three members on the
# loopback interface, `procref-etcd serve`, the example of the fencing token, the command line with them, and the unit for
# systemd. Needs protoc with its include files (Debian: protobuf-compiler, libprotobuf-dev).
#
#     scripts/etcd.sh [TEST...]       the names of tests, such as g10
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PROCREF_TEST_ETCD=$(scripts/etcd-program.sh)
export PROCREF_TEST_ETCD
crate=(--locked --manifest-path crates/procref-etcd/Cargo.toml --target-dir target/etcd)
cargo fmt --manifest-path crates/procref-etcd/Cargo.toml --check
# A test runs the example, and the next command does not build it.
cargo build "${crate[@]}" --example fenced_store
# scripts/etcd-hosts.sh runs the test program `hosts`.
cargo test "${crate[@]}" --lib --bins --test access --test etcd --test fence --test link --test serve --test slow -- \
    "$@"
cargo test "${crate[@]}" --doc -- "$@"
# Last, because the tests beside this script compile it, too, and hold the lock of target/ for so long.
cargo build --locked --bin procref
PROCREF_TEST_PROCREF=$PWD/target/debug/procref cargo test "${crate[@]}" --test command_line -- "$@"

if command -v systemd-analyze >/dev/null; then
    units=$(mktemp -d)
    trap 'rm -rf "$units"' EXIT
    unit=$units/procref-etcd-serve@model.service
    sed "s|/usr/local/bin/procref-etcd|$PWD/target/etcd/debug/procref-etcd|" \
        crates/procref-etcd/procref-etcd-serve@.service >"$unit"
    # An unknown key is only a warning, and units of the system may have warnings, too.
    warnings=$(systemd-analyze verify "$unit" 2>&1)
    if grep -F "$unit" <<<"$warnings"; then
        exit 1
    fi
else
    echo 'NOT CHECKED: the unit for systemd, because there is no systemd-analyze'
fi
