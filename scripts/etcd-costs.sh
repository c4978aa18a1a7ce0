#!/usr/bin/env bash
# Prints what a link costs beside bare requests to the same etcd of three members and beside a local service, and what 100
# links cost these members. Takes about 3 minutes after the build. On a busy machine the times mean little. Needs protoc
# with its include files (Debian: protobuf-compiler, libprotobuf-dev).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PROCREF_TEST_ETCD=$(scripts/etcd-program.sh)
cargo build --locked --release --bin procref
export PROCREF_TEST_ETCD PROCREF_TEST_PROCREF=$PWD/target/release/procref
cargo test --locked --release --manifest-path crates/procref-etcd/Cargo.toml --target-dir target/etcd --test costs -- \
    --ignored --nocapture
