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
bin=$scratch/venv/bin

environment() {
    "$2" -m venv "$scratch/$1"
    "$scratch/$1/bin/pip" install "${@:3}"
}

echo "-- the source distribution and the wheel"
environment venv python3 'maturin>=1.9,<2' 'pytest>=9,<10' 'pytest-xdist>=3,<4' 'pytest-timeout>=2,<3' 'mypy>=2,<3'
(cd python && PATH=$bin:$PATH "$bin/python" -c "import build_backend; build_backend.build_sdist('$scratch')")
sources=$scratch/procref-$version
tar -xzf "$sources.tar.gz" -C "$scratch"
grep -q "^Version: $version$" "$sources/PKG-INFO"
# The program is compiled already. Cargo finds everything in the source distribution that it is built from.
cargo metadata --locked --offline --format-version 1 --manifest-path "$sources/Cargo.toml" >/dev/null
# Without its debug information, the program is a tenth as large.
cp target/debug/procref "$scratch/procref"
strip "$scratch/procref"
# `--no-build-isolation`: the frontend would download maturin once more.
PATH=$bin:$PATH PROCREF_BUILT_BINARY=$scratch/procref \
    MATURIN_PEP517_ARGS="--profile dev --locked --target-dir $PWD/target" \
    "$bin/pip" wheel --no-deps --no-build-isolation --wheel-dir "$scratch/wheels" "$sources.tar.gz"
wheel=$(echo "$scratch"/wheels/procref-*.whl)
"$bin/pip" install "$wheel[postgres]" 'psycopg[binary]'

echo "-- types"
"$bin/mypy" --config-file python/pyproject.toml python/tests/test_types.py
# The directory python/procref would hide the installed package.
(cd "$scratch" && "$bin/python" -m mypy.stubtest procref)

echo "-- tests"
# pytest-forked does not work with pytest 9.
environment forked python3 "$wheel" 'pytest>=8,<9' 'pytest-xdist>=3,<4' 'pytest-forked>=1.7,<2'
options=(-n 4 -q -p no:cacheprovider --timeout 120 --basetemp "$scratch/t" -c python/pyproject.toml)
PROCREF_TEST_WHEEL=$wheel PROCREF_TEST_FORKED=$scratch/forked/bin/python \
    "$bin/pytest" "${options[@]}" "${@:-python/tests}"
(($# == 0)) || exit 0

# Prints the path of an interpreter. pyenv's own programs refuse versions that are not selected.
python_of() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

own=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for other in 3.10 3.11 3.12 3.13 3.14; do
    [[ $other != "$own" ]] || continue
    python=$(python_of "$other")
    if [[ -z $python ]]; then
        echo "-- NOT TESTED with Python $other, which is not installed"
        continue
    fi
    echo "-- Python $other: fork, exit, asyncio, and a session of pytest 8"
    environment "$other" "$python" "$wheel" 'pytest>=8,<9' 'pytest-xdist>=3,<4' 'pytest-timeout>=2,<3'
    "$scratch/$other/bin/pytest" "${options[@]}" python/tests/test_{fork,exit,asyncio}.py \
        'python/tests/plugin/test_sessions.py::test_session_starts_the_service_once[-n 4]'
done
