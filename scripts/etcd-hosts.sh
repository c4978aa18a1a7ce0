#!/usr/bin/env bash
# Checks links on three hosts and an etcd of three members, each in a network namespace that the tests make: networks are
# cut, and members, links and fuses killed and suspended. Then many clients start at once, and there is a short storm.
# Needs root or sudo, ip (Debian: iproute2), strace, and protoc with its include files (protobuf-compiler,
# libprotobuf-dev).
#
#     scripts/etcd-hosts.sh [ARGUMENT...]       arguments of the test program, such as g10 or --ignored
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A test program that was killed leaves its namespaces. The number in the name is its pid.
if command -v ip >/dev/null && ((EUID == 0)); then
    for space in $(ip netns list | sed -n 's/^\(procref-test-[^ ]*\).*/\1/p'); do
        pid=${space#procref-test-}
        [[ -d /proc/${pid%%-*} ]] || ip netns delete "$space"
    done
fi

PROCREF_TEST_ETCD=$(scripts/etcd-program.sh)
cargo build --locked --bin procref
export PROCREF_TEST_ETCD PROCREF_TEST_PROCREF=$PWD/target/debug/procref
crate=(--locked --manifest-path crates/procref-etcd/Cargo.toml --target-dir target/etcd)
((EUID == 0)) || crate+=(--config 'target."cfg(unix)".runner = ["sudo", "--preserve-env"]')
# The tests mostly wait, but more of them at once would delay renewals on a small machine.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-6}
cargo test "${crate[@]}" --test hosts -- "$@"
