#!/usr/bin/env bash
# Checks procref for macOS on a machine without macOS: the lints, the symbols that are linked, and the sizes and numbers of
# Apple's headers. Nothing is run. Exits with 3 if rustup cannot install the targets.
#
#     scripts/macos.sh           all checks
#     scripts/macos.sh lint      only the lints, and the types of the tests
#
# All files are in target/macos, including zig from PyPI, which contains Apple's headers and lists of symbols.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$PWD/target/macos
targets=(aarch64-apple-darwin x86_64-apple-darwin)
# The crates that are ported.
crates=(procref-supervisor procref procref-config procref-cli)

rustup target add "${targets[@]}" || {
    echo "rustup cannot install ${targets[*]}" >&2
    exit 3
}
export CARGO_TARGET_DIR=$out CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0

packages=()
for crate in "${crates[@]}"; do
    packages+=(--package "$crate")
done
cargo clippy --locked "${targets[@]/#/--target=}" "${packages[@]}" -- -D warnings
# The tests compile, too. Some of their parts are only used by tests for Linux, so warnings are no errors here.
cargo check --quiet --locked --target "${targets[0]}" --package procref --package procref-config --package procref-cli \
    --lib --tests --features procref/crash-points
[[ ${1:-all} == all ]] || exit 0

export ZIG=$out/zig/ziglang/zig
[[ -x $ZIG ]] || python3 -m venv "$out/venv"
[[ -x $ZIG ]] || "$out/venv/bin/pip" install --quiet --no-deps --target "$out/zig" ziglang==0.17.1
for target in "${targets[@]}"; do
    "$ZIG" cc -target "${target%-apple-darwin}-macos" -c scripts/macos/abi.c -o "$out/abi.o"
done
echo 'the sizes and numbers are those of the headers'

# A symbol that Apple's libraries do not have is an error of the linker. One processor is enough for that.
export CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER=$PWD/scripts/macos/link
# rustc searches for an SDK and warns if there is none. zig needs none.
export SDKROOT=/
cargo build --locked --target "${targets[0]}" --package procref --package procref-cli --no-default-features \
    --example redis --bin procref
# The function that makes a program a keeper runs before `main` only if it is in this section.
for program in examples/redis procref; do
    python3 scripts/macos/check-constructor.py "$out/${targets[0]}/debug/$program"
done
