#!/usr/bin/env bash
# Fuzzes the parsers: `scripts/fuzz.sh [--seconds N | --runs N] [TARGET…]`.
#
# The script replays each target's corpus, and then mutates its inputs, guided by coverage: for N seconds (default: 60),
# or for N runs that are the same every time. With --seconds, new inputs go to target/fuzz/corpus. Inputs that fail go to
# fuzz/artifacts. The script needs a C++ compiler. A stable Rust compiler is enough: it accepts the flags that
# `cargo fuzz run --sanitizer none` passes to rustc.
#
# With --seconds, everything is optimized and instrumented. With --runs, only procref's crates are instrumented, and
# nothing is optimized, because a short run spends most of its time compiling.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit=(-max_total_time=60)
is_short=no
targets=()
while (($# > 0)); do
    case $1 in
    --seconds) limit=(-max_total_time="${2:?}") && is_short=no && shift 2 ;;
    --runs) limit=(-runs="${2:?}" -seed=1) && is_short=yes && shift 2 ;;
    -*) printf 'fuzz.sh: unknown option %s\n' "$1" >&2 && exit 2 ;;
    *) targets+=("$1") && shift ;;
    esac
done
all=(fuzz/fuzz_targets/*.rs)
all=("${all[@]##*/}")
all=("${all[@]%.rs}")
((${#targets[@]} > 0)) || targets=("${all[@]}")

flags=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1
)
build=(cargo build --locked --manifest-path fuzz/Cargo.toml)
if [[ $is_short == yes ]]; then
    # In the directory of all other builds, whose dependencies this one takes.
    PROCREF_FUZZ_FLAGS=${flags[*]} RUSTC_WRAPPER=$PWD/scripts/fuzz-rustc.sh "${build[@]}" --target-dir target
    programs=target/debug
else
    # With --target, Cargo builds build scripts and macros without the flags.
    host=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS=${flags[*]} "${build[@]}" --release --target-dir target/fuzz --target "$host"
    programs=target/fuzz/$host/release
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
log=$scratch/libfuzzer.log

found_in=target/fuzz/corpus
same_addresses=()
if [[ $is_short == yes ]]; then
    # libFuzzer mutates by addresses of the program, and by all inputs that it has. So both are the same in every run.
    found_in=$scratch
    if setarch --addr-no-randomize true 2>/dev/null; then
        same_addresses=(setarch --addr-no-randomize)
    else
        printf 'fuzz.sh: this machine does not permit fixed addresses (setarch), so the inputs differ from run to run\n' >&2
    fi
fi
for target in "${targets[@]}"; do
    [[ -e fuzz/fuzz_targets/$target.rs ]] || {
        printf 'fuzz.sh: there is no target %s. The targets are: %s\n' "$target" "${all[*]}" >&2
        exit 2
    }
    found=$found_in/$target
    mkdir -p "$found" "fuzz/artifacts/$target"
    printf '\n--> %s  (%d s)\n' "$target" "$SECONDS"
    # An input that takes ten seconds or half a gigabyte is a fault, too.
    "${same_addresses[@]}" "$programs/$target" "${limit[@]}" -timeout=10 -rss_limit_mb=512 -max_len=8192 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 \
        "$found" "fuzz/corpus/$target" 2>&1 | tee "$log"
    # Without instrumentation, libFuzzer would run all inputs and learn nothing from them.
    grep -q '^INFO: Loaded [0-9]* modules *([1-9][0-9]* inline 8-bit counters)' "$log" || {
        printf 'fuzz.sh: %s is not instrumented\n' "$target" >&2
        exit 1
    }
done
