#!/usr/bin/env bash
# Compiles what is published with the oldest Rust that is supported: what dependencies say of themselves is not always so.
#
# Takes a toolchain of that version from rustup, or Debian's compiler in /usr/bin if it is one. Where there is none it
# says so, and ends with 3.
#
#     scripts/oldest-rust.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# Whether a compiler is of that version, whatever its last number.
is_oldest() {
    [[ $("$@" --version 2>/dev/null | cut -d ' ' -f 2) == "$oldest".* ]]
}

if is_oldest rustup run "$oldest" rustc; then
    cargo=(rustup run "$oldest" cargo)
elif is_oldest /usr/bin/rustc && is_oldest /usr/bin/cargo; then
    cargo=(env RUSTC=/usr/bin/rustc /usr/bin/cargo)
else
    printf 'there is no Rust %s here: rustup toolchain install %s --profile minimal\n' "$oldest" "$oldest" >&2
    exit 3
fi

"${cargo[@]}" --version
# Nobody debugs what is only compiled.
export CARGO_PROFILE_DEV_DEBUG=0
check=("${cargo[@]}" check --locked --target-dir target/oldest)
# Without the library's `tokio` feature, which the command line has no use for, and with it.
"${check[@]}" --package procref-cli
"${check[@]}" --package procref
