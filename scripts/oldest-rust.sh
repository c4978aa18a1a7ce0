#!/usr/bin/env bash
# Checks that the published crates compile with the oldest supported Rust.
#
# First, no dependency may declare that it needs a newer Rust. Not all declarations are right, so the script then
# compiles the crates with rustup's toolchain of that version, or with Debian's compiler in /usr/bin. It exits with 3
# if neither is installed.
#
#     scripts/oldest-rust.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

cargo metadata --locked --format-version 1 --all-features | python3 -c '
import json, sys

def numbers(version):
    return [int(number) for number in version.split("-")[0].split(".")][:2]

packages = json.load(sys.stdin)["packages"]
newer = [p for p in packages if p["rust_version"] and numbers(p["rust_version"]) > numbers(sys.argv[1])]
for p in newer:
    version = p["version"]
    print("{} {} needs Rust {}".format(p["name"], version, p["rust_version"]), file=sys.stderr)
print("{} packages declare that they need at most Rust {}".format(len(packages) - len(newer), sys.argv[1]))
sys.exit(bool(newer))
' "$oldest"

# Returns 0 if the command prints this version, with any patch number.
is_oldest() {
    [[ $("$@" --version 2>/dev/null | cut -d ' ' -f 2) == "$oldest".* ]]
}

if is_oldest rustup run "$oldest" rustc; then
    cargo=(rustup run "$oldest" cargo)
elif is_oldest /usr/bin/rustc && is_oldest /usr/bin/cargo; then
    cargo=(env RUSTC=/usr/bin/rustc /usr/bin/cargo)
else
    printf 'Rust %s is not installed: rustup toolchain install %s --profile minimal\n' "$oldest" "$oldest" >&2
    exit 3
fi

"${cargo[@]}" --version
export CARGO_PROFILE_DEV_DEBUG=0
check=("${cargo[@]}" check --locked --target-dir target/oldest)
# The command line uses the library without its `tokio` feature. So check the library with it, too.
"${check[@]}" --package procref-cli
"${check[@]}" --package procref
"${check[@]}" --package procref-ffi
