#!/usr/bin/env bash
# Makes the packages that would be published, looks at what is in them, and builds them from nothing but that, the
# command line with the library's package. What `cargo package` does by itself takes longer, because it builds all
# dependencies once more.
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

# Not committed changes are packaged as they are: this is for looking before committing, too.
published=(procref-supervisor procref-winsys procref procref-cli)
flags=(--offline --locked --allow-dirty --no-verify --target-dir "$scratch/target")
for package in "${published[@]}"; do
    flags+=(--package "$package")
done
cargo package "${flags[@]}" 2>"$scratch/said" || {
    cat "$scratch/said" >&2
    fail 'cargo package has failed'
}
# The command line's tests need the testkit, which is not published.
if grep '^warning' "$scratch/said" | grep -v '^warning: ignoring test `[a-z_]*` as `tests/'; then
    fail 'cargo package has complaints'
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
for package in "${published[@]}"; do
    archive=$scratch/target/package/$package-$version.crate
    [[ -f $archive ]] || fail "$package $version was not packaged"
    # As files of now (-m): in a package they are all of one day, and Cargo would take them for what it has compiled
    # last time, whatever is in them.
    tar -xzmf "$archive" -C "$scratch"
    contents=$scratch/$package-$version
    for file in README.md LICENSE-MIT LICENSE-APACHE Cargo.lock; do
        [[ -s $contents/$file ]] || fail "$package: $file is missing"
    done
    # Whatever is neither a source nor one of these has got in by mistake.
    stray=$(cd "$contents" && find . -type f -not -name '*.rs' \
        -not -path './recipes/*.toml' -not -path './src/guide.md' \
        -not -name Cargo.toml -not -name Cargo.toml.orig -not -name Cargo.lock -not -name .cargo_vcs_info.json \
        -not -name README.md -not -name 'LICENSE-*')
    [[ -z $stray ]] || fail "$package: what are these for? $stray"
    printf '%s %s: %d files, %d KiB compressed\n' "$package" "$version" \
        "$(find "$contents" -type f | wc -l)" "$(($(stat -c %s "$archive") / 1024))"
done
for recipe in crates/procref-cli/recipes/*.toml; do
    [[ -f $scratch/procref-cli-$version/recipes/${recipe##*/} ]] || fail "procref-cli: $recipe is missing"
done

# The packages stand in for the registry, where they will be.
patches=()
for package in procref-supervisor procref-winsys procref; do
    patches+=(--config "patch.crates-io.$package.path=\"$scratch/$package-$version\"")
done
# The dependencies are those that the tests have built.
cd "$scratch/procref-$version"
cargo check --offline --target-dir "$root/target" --all-targets "${patches[@]:0:4}"
cd "$scratch/procref-cli-$version"
cargo build --offline --target-dir "$root/target" "${patches[@]}"
said=$("$root/target/debug/procref" --version)
[[ $said == "procref $version" ]] || fail "the command line built from its package calls itself '$said'"
printf 'both build from their packages: %s\n' "$said"
