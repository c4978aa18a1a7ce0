#!/usr/bin/env bash
# Creates the packages that would be published, checks their contents, and builds them from the packages alone. The
# verification of `cargo package` would take longer, because it compiles all dependencies again.
#
#     scripts/check-packages.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Uncommitted changes are part of the packages, so that the script can run before a commit.
published=(procref-supervisor procref-winsys procref procref-config procref-cli)
flags=(--offline --locked --allow-dirty --no-verify --target-dir "$scratch/target")
for package in "${published[@]}"; do
    flags+=(--package "$package")
done
cargo package "${flags[@]}" 2>"$scratch/output" || {
    cat "$scratch/output" >&2
    fail 'cargo package failed'
}
# The command line's tests need the testkit, which is not published.
if grep '^warning' "$scratch/output" | grep -v '^warning: ignoring test `[a-z_]*` as `tests/'; then
    fail 'cargo package printed warnings'
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
for package in "${published[@]}"; do
    archive=$scratch/target/package/$package-$version.crate
    [[ -f $archive ]] || fail "$package $version was not packaged"
    # Give the files the current time (-m). In every package they have the same time, so that Cargo would treat changed
    # files as those that it has already compiled.
    tar -xzmf "$archive" -C "$scratch"
    contents=$scratch/$package-$version
    for file in README.md LICENSE-MIT LICENSE-APACHE Cargo.lock; do
        [[ -s $contents/$file ]] || fail "$package: $file is missing"
    done
    # Any other file is in the package by mistake.
    stray=$(cd "$contents" && find . -type f -not -name '*.rs' \
        -not -path './recipes/*.toml' -not -path './src/guide.md' \
        -not -name Cargo.toml -not -name Cargo.toml.orig -not -name Cargo.lock -not -name .cargo_vcs_info.json \
        -not -name README.md -not -name 'LICENSE-*')
    [[ -z $stray ]] || fail "$package: unexpected files: $stray"
    printf '%s %s: %d files, %d KiB compressed\n' "$package" "$version" \
        "$(find "$contents" -type f | wc -l)" "$(($(stat -c %s "$archive") / 1024))"
done
for recipe in crates/procref-config/recipes/*.toml; do
    [[ -f $scratch/procref-config-$version/recipes/${recipe##*/} ]] || fail "procref-config: $recipe is missing"
done

# README.md states how many crates are compiled.
crates() {
    cargo tree --offline --locked --edges normal,build --prefix none "$@" | sed 's/ (\*)$//' | sort -u | wc -l
}
check_crates() {
    local row=$1 count
    shift
    count=$(crates "$@")
    grep -qF "| $row | $count |" README.md || fail "'$row' has $count crates: change the table in README.md"
}
check_crates 'the command line, from source' --package procref-cli
check_crates 'the library' --package procref
check_crates 'the library without `tokio`' --package procref --no-default-features

# The packages replace the registry, which does not have this version yet.
patches=()
for package in procref-supervisor procref-winsys procref procref-config; do
    patches+=(--config "patch.crates-io.$package.path=\"$scratch/$package-$version\"")
done
# In target/, the dependencies are already compiled.
cd "$scratch/procref-$version"
cargo check --offline --target-dir "$root/target" --all-targets "${patches[@]:0:4}"
cd "$scratch/procref-cli-$version"
cargo build --offline --target-dir "$root/target" "${patches[@]}"
printed=$("$root/target/debug/procref" --version)
[[ $printed == "procref $version" ]] || fail "the command line built from its package prints the version '$printed'"
printf 'both build from their packages: %s\n' "$printed"
