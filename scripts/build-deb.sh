#!/usr/bin/env bash
# Makes a Debian package of a program that is already built: with its manual pages, its completions and its license.
#
#     scripts/build-deb.sh PROGRAM [DIRECTORY]
#
# The package depends on the oldest C library that has all symbols of the program. A static program depends on nothing, so
# its package can be installed on every Debian and Ubuntu.
set -euo pipefail
program=$(realpath "${1:?usage: build-deb.sh PROGRAM [DIRECTORY]}")
out=$(realpath "${2:-.}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

setting() {
    sed -n "/^\[workspace.package\]/,/^\[/ s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml
}
version=$(setting version)
homepage=$(setting homepage)
repository=$(setting repository)
architecture=$(dpkg --print-architecture)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
umask 022
doc=$root/usr/share/doc/procref
mkdir -p "$root/DEBIAN" "$root/usr/bin" "$doc" "$root/usr/share/man/man1" "$root/usr/share/man/man5" \
    "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
    "$root/usr/share/fish/vendor_completions.d"

strip --strip-all -o "$root/usr/bin/procref" "$program"
chmod 755 "$root/usr/bin/procref"
"$program" completions bash >"$root/usr/share/bash-completion/completions/procref"
"$program" completions zsh >"$root/usr/share/zsh/vendor-completions/_procref"
"$program" completions fish >"$root/usr/share/fish/vendor_completions.d/procref.fish"

"$program" man --out "$scratch/man"
for page in "$scratch/man"/*.[15]; do
    gzip --best --no-name <"$page" >"$root/usr/share/man/man${page##*.}/${page##*/}.gz"
done
gzip --best --no-name <CHANGELOG.md >"$doc/changelog.gz"
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nSource: %s\n\n' "$repository"
    printf 'Files: *\nCopyright: the procref authors\nLicense: MIT or Apache-2.0\n'
    printf ' On Debian systems, the text of Apache-2.0 is in /usr/share/common-licenses/Apache-2.0.\n .\n'
    sed 's/^$/./; s/^/ /' LICENSE-MIT
} >"$doc/copyright"

# The newest version of the C library whose symbols the program uses. A static program uses none.
glibc=$(objdump -T "$program" 2>/dev/null | sed -n 's/.*(\?GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -n 1)
depends=
[[ -z $glibc ]] || depends="Depends: libc6 (>= $glibc), libgcc-s1"
size=$(du --apparent-size -sk "$root/usr" | cut -f 1)
grep -v '^$' >"$root/DEBIAN/control" <<END
Package: procref
Version: $version
Architecture: $architecture
Maintainer: The procref authors
Installed-Size: $size
$depends
Section: utils
Priority: optional
Homepage: $homepage
Bugs: $repository/issues
Description: share one background service between many processes
 The first process that acquires a service starts it, the others join it, and
 the last one stops it. The kernel counts the processes, so a process that dies
 for any reason releases its reference. There is no daemon.
END
package=$out/procref_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >"$scratch/built" || fail "$(<"$scratch/built")"
printf '%s: %d KiB\n' "$package" $(($(stat -c %s "$package") / 1024))
