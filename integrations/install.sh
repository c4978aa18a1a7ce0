#!/bin/sh
# Installs the program of a release, after a check of its SHA-256 sum. Works on Linux (x86_64 and aarch64), and in a shell of
# MSYS2 or Git on Windows (x86_64).
#
#     install.sh VERSION DIRECTORY
#
# PROCREF_RELEASES is the address of the releases, for a mirror.
set -eu

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

[ $# -eq 2 ] || fail 'usage: install.sh VERSION DIRECTORY'
version=$1
directory=$2
case $version in
[0-9]*) ;;
*) fail "'$version' is not a version such as 0.2.0" ;;
esac
releases=${PROCREF_RELEASES:-https://github.com/putao520/procref/releases/download}

program=procref
case "$(uname -s) $(uname -m)" in
'Linux x86_64') target=x86_64-unknown-linux-musl suffix=tgz ;;
'Linux aarch64') target=aarch64-unknown-linux-musl suffix=tgz ;;
'MINGW'*' x86_64' | 'MSYS'*' x86_64') target=x86_64-pc-windows-msvc suffix=zip program=procref.exe ;;
*) fail "there is no release for $(uname -s) on $(uname -m) (build it: cargo install --locked procref-cli)" ;;
esac

name=procref-$version-$target
url=$releases/v$version/$name.$suffix
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

download() {
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
    elif command -v wget >/dev/null; then
        wget -q -O "$2" "$1"
    else
        fail 'neither curl nor wget is installed'
    fi || fail "could not download $1 (is $version a released version?)"
}
download "$url" "$scratch/$name.$suffix"
download "$url.sha256" "$scratch/sum"
(cd "$scratch" && sha256sum -c sum >/dev/null) || fail "$url does not have the published SHA-256 sum (try again, or report it)"

case $suffix in
tgz) tar -xzf "$scratch/$name.tgz" -C "$scratch" ;;
zip) unzip -q "$scratch/$name.zip" -d "$scratch" ;;
esac
mkdir -p "$directory"
# The program may be running, so it is replaced and not written to.
cp "$scratch/$name/$program" "$directory/.$program.new"
chmod 755 "$directory/.$program.new"
mv -f "$directory/.$program.new" "$directory/$program"
"$directory/$program" --version
