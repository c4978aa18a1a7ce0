#!/usr/bin/env bash
# Tests the Python package: builds the wheel with the program in target/debug, installs it in new environments, and runs
# the tests of python/tests there. The tools come from PyPI.
#
#     scripts/python.sh [ARGUMENT OF PYTEST...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

[[ -x target/debug/procref ]] || fail 'target/debug/procref does not exist: run `cargo build --bin procref`'
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
[[ $(sed -n 's/^version = "\(.*\)"/\1/p' python/Cargo.toml) == "$version" ]] ||
    fail "python/Cargo.toml does not have the version $version of Cargo.toml"

export CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_INCREMENTAL=0
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A new process group for each run of pytest would not get Ctrl-C, and the tests start their own.
bin=$scratch/venv/bin

environment() {
    "$2" -m venv "$scratch/$1"
    "$scratch/$1/bin/pip" install "${@:3}"
}

echo "-- the wheel"
environment venv python3 'maturin>=1.9,<2' 'pytest>=9,<10' 'pytest-xdist>=3,<4' 'pytest-timeout>=2,<3' 'mypy>=2,<3'
# The frontend would download maturin once more without `--no-build-isolation`. The program without its debug information
# is a tenth as large.
cp target/debug/procref "$scratch/procref"
strip "$scratch/procref"
PATH=$bin:$PATH PROCREF_BUILT_BINARY=$scratch/procref \
    MATURIN_PEP517_ARGS="--profile dev --locked --target-dir $PWD/target" \
    "$bin/pip" wheel --no-deps --no-build-isolation --wheel-dir "$scratch/wheels" ./python
wheel=$(echo "$scratch"/wheels/procref-*.whl)
"$bin/pip" install "$wheel"

echo "-- the source distribution"
# Compiling it would take minutes. Cargo finds everything in it that both programs are built from.
(cd python && PATH=$bin:$PATH "$bin/python" -c "import build_backend; print(build_backend.build_sdist('$scratch'))")
tar -xzf "$scratch/procref-$version.tar.gz" -C "$scratch"
for manifest in Cargo.toml python/Cargo.toml; do
    cargo metadata --locked --offline --format-version 1 --manifest-path "$scratch/procref-$version/$manifest" >/dev/null
done
grep -q "^Version: $version$" "$scratch/procref-$version/PKG-INFO"

echo "-- types"
"$bin/mypy" --config-file python/pyproject.toml python/tests/test_types.py
# The directory python/procref would hide the installed package.
(cd "$scratch" && "$bin/python" -m mypy.stubtest procref)

echo "-- tests"
# pytest-forked does not work with pytest 9.
environment forked python3 "$wheel" 'pytest>=8,<9' 'pytest-xdist>=3,<4' 'pytest-forked>=1.7,<2'
run=("$bin/pytest" -n 4 -q -p no:cacheprovider --timeout 120 -c python/pyproject.toml)
PROCREF_TEST_WHEEL=$wheel PROCREF_TEST_FORKED=$scratch/forked/bin/python "${run[@]}" "${@:-python/tests}"
(($# == 0)) || exit 0

own=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for other in 3.10 3.11 3.12 3.13 3.14; do
    [[ $other != "$own" ]] || continue
    if ! "python$other" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "-- NOT TESTED with Python $other, which is not installed"
        continue
    fi
    echo "-- Python $other: fork, exit, asyncio, and sessions of pytest 8"
    environment "$other" "python$other" "$wheel" 'pytest>=8,<9' 'pytest-xdist>=3,<4' 'pytest-timeout>=2,<3'
    "$scratch/$other/bin/pytest" -n 4 -q -p no:cacheprovider --timeout 120 -c python/pyproject.toml \
        python/tests/test_fork.py python/tests/test_exit.py python/tests/test_asyncio.py \
        python/tests/plugin/test_sessions.py -k 'not signal and not session or once'
done
