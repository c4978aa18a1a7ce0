#!/usr/bin/env bash
# bare-machine.sh COMMAND ARGUMENT…: runs a command as on a machine that has only Rust and a C compiler.
#
# PATH has the programs of the packages that every Debian or Ubuntu system has (those that are essential or of the
# priority "required"), a C compiler and Rust. Every other installed program is hidden.
set -euo pipefail

command -v dpkg-query >/dev/null || {
    echo 'bare-machine.sh: the list of programs that every system has needs dpkg' >&2
    exit 1
}
# Not in /tmp, which some tests replace. Other users must be able to read the directory, because tests run programs as
# other users.
bin=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$bin"' EXIT
chmod 755 "$bin"

link() {
    [[ -e $bin/${1##*/} ]] || ln -s "$1" "$bin"
}

mapfile -t packages < <(
    dpkg-query --show --showformat '${binary:Package} ${Essential} ${Priority}\n' |
        sed -n 's/^\([^ ]*\) \(yes .*\|[^ ]* required\)$/\1/p'
)
((${#packages[@]} > 20)) || {
    echo 'bare-machine.sh: dpkg knows no packages that every system has' >&2
    exit 1
}
while read -r file; do
    # A package may name /bin/sh, and the file may be in /usr/bin.
    if [[ -f $file && -x $file ]]; then
        link "$file"
    fi
done < <(dpkg-query --listfiles "${packages[@]}" | sed -n '/^\(\/usr\)\?\/s\?bin\/[^/]*$/p')
# `awk` and others are links that a package makes when it is installed.
for file in /etc/alternatives/*; do
    target=$(readlink -f "$file")
    if [[ -e $bin/${target##*/} && -x $target ]]; then
        ln -sf "$target" "$bin/${file##*/}"
    fi
done
for program in cc gcc ar as ld sh bash; do
    [[ -e $bin/$program ]] || link "$(command -v "$program")"
done
for program in cargo rustc rustdoc rustup; do
    ! path=$(command -v "$program") || link "$path"
done

PATH=$bin "$@"
