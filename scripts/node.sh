#!/usr/bin/env bash
# Tests the npm package: packs it with the program in target/debug, installs the archives in target/node, and runs the
# tests of node/test there. The test runners come from npm.
#
#     scripts/node.sh [TEST...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

[[ -x target/debug/procref ]] || fail 'target/debug/procref does not exist: run `cargo build --bin procref`'
(($(node -p 'parseInt(process.versions.node)') >= 20)) || fail "Node.js 20 or newer is needed: $(node --version)"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
[[ $(node -p 'require("./node/package.json").version') == "$version" ]] ||
    fail "node/package.json does not have the version $version of Cargo.toml"

here=$PWD/target/node
mkdir -p "$here/node_modules"
scripts/node-pack.mjs --out "$here/packs"
# Stand-ins, from which the tests see that npm installs only the package for its system.
scripts/node-pack.mjs --out "$here/packs-win32" --system win32-x64 --program scripts/node.sh
scripts/node-pack.mjs --out "$here/packs-arm64" --system linux-arm64 --program scripts/node.sh

# The versions of the test runners are exact. npm installs only what is missing.
node -e '
    const { devDependencies } = require(process.argv[1]);
    console.log(JSON.stringify({ private: true, devDependencies }));
' "$PWD/node/package.json" >"$here/package.json"
(cd "$here" && npm install --prefer-offline --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error)

# `npm install` would remove these again, because no dependency names them.
unpack() {
    rm -rf "$2"
    mkdir -p "$2"
    tar -xzf "$1" --strip-components 1 -C "$2"
}
unpack "$here/packs/procref-$version.tgz" "$here/node_modules/procref"
system=$(node -p '`${process.platform}-${process.arch}`')
unpack "$here/packs/procref-$system-$version.tgz" "$here/node_modules/@procref/$system"

# The tests import the installed package, not the directory node/.
rm -rf "$here/test"
cp -R node/test "$here/test"
cd "$here"
tests=("${@/#/test/}")
(($#)) || tests=(test/*.test.mjs)
# The tests wait most of the time.
node --test --test-timeout=120000 --test-concurrency=3 --test-reporter=spec "${tests[@]}"
