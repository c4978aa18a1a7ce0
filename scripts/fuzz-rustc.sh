#!/bin/sh
# The compiler for scripts/fuzz.sh: `fuzz-rustc.sh RUSTC ARGUMENT…`. Instruments procref's own crates for libFuzzer, and no
# dependency, so that the dependencies are those of all other builds.
case ${CARGO_PKG_NAME-} in
procref | procref-supervisor | procref-config | procref-fuzz)
    # shellcheck disable=SC2086 # These are several arguments.
    exec "$@" $PROCREF_FUZZ_FLAGS
    ;;
*)
    exec "$@"
    ;;
esac
