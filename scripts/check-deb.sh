#!/usr/bin/env bash
# Makes the Debian package, installs it, checks its program, pages and completions, and removes it. Exits with 3 where a
# package `procref` is installed already, or without dpkg.
#
#     scripts/check-deb.sh [PROGRAM]
set -euo pipefail
program=$(realpath "${1:-target/debug/procref}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}
as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

command -v dpkg-deb >/dev/null || { echo 'no dpkg here' >&2; exit 3; }
if dpkg-query --status procref >/dev/null 2>&1 || [[ -e /usr/bin/procref ]]; then
    echo 'procref is installed on this machine' >&2
    exit 3
fi

scratch=$(mktemp -d)
finish() {
    ! dpkg-query --status procref >/dev/null 2>&1 || as_root dpkg --purge procref
    rm -rf "$scratch"
}
trap finish EXIT

scripts/build-deb.sh "$program" "$scratch"
package=$(echo "$scratch"/procref_*.deb)
[[ $(dpkg-deb --field "$package" Homepage) == http* ]] || fail 'the package names no homepage'
as_root dpkg --install "$package" >"$scratch/installed" || fail "$(<"$scratch/installed")"
dpkg --listfiles procref | sort >"$scratch/files"
for file in /usr/bin/procref /usr/share/man/man1/procref.1.gz /usr/share/man/man1/procref-run.1.gz \
    /usr/share/man/man5/procref.toml.5.gz /usr/share/bash-completion/completions/procref \
    /usr/share/zsh/vendor-completions/_procref /usr/share/fish/vendor_completions.d/procref.fish; do
    # A container's dpkg may be told to leave out documentation.
    [[ -s $file || $file == /usr/share/man/* ]] || fail "$file is missing"
    grep -qxF "$file" "$scratch/files" || fail "$file is not in the package"
done
[[ -z $(dpkg --verify procref | grep -v ' /usr/share/\(man\|doc\)/') ]] || fail "$(dpkg --verify procref)"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
printed=$(cd / && /usr/bin/procref --version)
[[ $printed == "procref $version" ]] || fail "the installed program prints the version '$printed'"
(cd / && PROCREF_RUNTIME_DIR=$scratch/run /usr/bin/procref run web --start 'sleep 60' --ready started -- true) ||
    fail 'the installed program does not run a client'

count=0
while read -r file; do
    [[ -d $file ]] || count=$((count + 1))
done <"$scratch/files"
as_root dpkg --purge procref >"$scratch/purged" || fail "$(<"$scratch/purged")"
while read -r file; do
    [[ ! -f $file ]] || fail "$file is still there after the package was removed"
done <"$scratch/files"
echo "$count files installed, checked and removed"
