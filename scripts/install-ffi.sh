#!/usr/bin/env bash
# Installs the C library: the header, the shared and the static library, and the file for pkg-config.
#
#     cargo build --release --package procref-ffi
#     scripts/install-ffi.sh PREFIX [BUILT]
#
# BUILT is the directory with the libraries. The default is target/release.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

(($# == 1 || $# == 2)) || {
    printf 'usage: %s PREFIX [BUILT]\n' "${0##*/}" >&2
    exit 2
}
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
built=${2:-$root/target/release}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
abi=$(sed -n 's/^#define PROCREF_ABI_VERSION //p' "$root/crates/procref-ffi/include/procref.h")

install -D -m 644 "$root/crates/procref-ffi/include/procref.h" "$prefix/include/procref.h"
install -D -m 644 "$built/libprocref_ffi.a" "$prefix/lib/libprocref.a"
install -D -m 755 "$built/libprocref_ffi.so" "$prefix/lib/libprocref.so.$abi.$version"
ln -sf "libprocref.so.$abi.$version" "$prefix/lib/libprocref.so.$abi"
ln -sf "libprocref.so.$abi" "$prefix/lib/libprocref.so"
mkdir -p "$prefix/lib/pkgconfig"
sed -e "s|@prefix@|$prefix|" -e "s|@version@|$version|" "$root/crates/procref-ffi/procref.pc.in" \
    >"$prefix/lib/pkgconfig/procref.pc"
case $prefix in
# Programs find a library there only through the cache of the dynamic linker.
/usr | /usr/local) ldconfig ;;
esac
