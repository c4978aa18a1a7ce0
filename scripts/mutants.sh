#!/usr/bin/env bash
# Changes the code in one place at a time, and lists the changes that no test notices:
#   scripts/mutants.sh unit FILE…              with the library's unit tests
#   scripts/mutants.sh TEST[,TEST…] FILE…      with tests of the testkit, which take longer
# for example
#   scripts/mutants.sh unit crates/procref/src/kernel/semset/set.rs
#   scripts/mutants.sh pin,g9_callback_failures crates/procref/src/engine/pin.rs
#
# The script needs cargo-mutants (cargo install cargo-mutants --locked), and root or user namespaces. Broken code may
# signal any process and remove any semaphore set, so it runs in separate namespaces. The results are in
# target/mutants/mutants.out, above all missed.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# >= 2)) || {
    sed -n '2,/^set/ { s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}" >&2
    exit 2
}
cargo mutants --version >/dev/null 2>&1 || {
    echo 'mutants.sh: cargo-mutants is missing: cargo install cargo-mutants --locked' >&2
    exit 1
}
tests=$1
shift
options=()
for file in "$@"; do
    [[ -e $file ]] || {
        printf 'mutants.sh: %s does not exist\n' "$file" >&2
        exit 2
    }
    options+=(--file "$file")
done
if [[ $tests == unit ]]; then
    options+=(--test-package procref --timeout 30)
    arguments=(--lib)
else
    # A mutant that hangs counts as found.
    options+=(--test-package procref-testkit --timeout 60)
    arguments=()
    for test in ${tests//,/ }; do
        arguments+=(--test "$test")
    done
fi

user=()
((EUID == 0)) || user=(--user --map-root-user)
mkdir -p target/mutants
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
TMPDIR=$scratch CARGO_PROFILE_DEV_DEBUG=0 nice unshare "${user[@]}" --fork --pid --mount-proc --ipc --kill-child \
    cargo mutants --jobs 1 --no-shuffle --output target/mutants "${options[@]}" -- "${arguments[@]}"
