#!/usr/bin/env bash
# Looks for input that procref does not stand: scripts/fuzz.sh [--seconds N | --runs N] [TARGET...]
#
# Replays each target's corpus, then tries what it makes of it, guided by what is covered, for so many
# seconds (default: 60) or, from the same seed every time, so many runs. Needs a C++ compiler, and
# nothing else: the flags below are what `cargo fuzz run --sanitizer none` gives rustc, and the stable
# compiler takes them. What is found is kept in fuzz/artifacts; new inputs in target/fuzz/corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit=(-max_total_time=60)
targets=()
while (($# > 0)); do
    case $1 in
    --seconds) limit=(-max_total_time="${2:?}") && shift 2 ;;
    --runs) limit=(-runs="${2:?}" -seed=1) && shift 2 ;;
    -*) printf 'fuzz.sh: unknown option %s\n' "$1" >&2 && exit 2 ;;
    *) targets+=("$1") && shift ;;
    esac
done
all=(fuzz/fuzz_targets/*.rs)
all=("${all[@]##*/}")
all=("${all[@]%.rs}")
((${#targets[@]} > 0)) || targets=("${all[@]}")

host=$(rustc -vV | sed -n 's/^host: //p')
flags=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1
)
# With --target build scripts and macros are built without the flags.
RUSTFLAGS=${flags[*]} cargo build --release --locked --manifest-path fuzz/Cargo.toml \
    --target-dir target/fuzz --target "$host"

for target in "${targets[@]}"; do
    [[ -e fuzz/fuzz_targets/$target.rs ]] || {
        printf 'fuzz.sh: no target %s; there are: %s\n' "$target" "${all[*]}" >&2
        exit 2
    }
    found=target/fuzz/corpus/$target
    mkdir -p "$found" "fuzz/artifacts/$target"
    printf '\n--> %s  (%d s)\n' "$target" "$SECONDS"
    # Ten seconds for one input, or half a gigabyte, are a defect, too.
    "target/fuzz/$host/release/$target" "${limit[@]}" -timeout=10 -rss_limit_mb=512 -max_len=8192 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 \
        "$found" "fuzz/corpus/$target"
done
