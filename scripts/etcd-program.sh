#!/usr/bin/env bash
# Prints the path of a program etcd: $PROCREF_TEST_ETCD, an installed one, or that of Debian's package, which is unpacked
# below target/ and not installed, because its installation starts a server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -n ${PROCREF_TEST_ETCD:-} ]]; then
    printf '%s\n' "$PROCREF_TEST_ETCD"
    exit
fi
command -v etcd && exit
dir=$PWD/target/etcd-server
if [[ ! -x $dir/usr/bin/etcd ]]; then
    mkdir -p target
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    (cd "$scratch" && apt-get download -q etcd-server && dpkg -x etcd-server_*.deb unpacked) >&2
    rm -rf "$dir"
    mv "$scratch/unpacked" "$dir"
fi
printf '%s\n' "$dir/usr/bin/etcd"
