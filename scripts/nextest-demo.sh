#!/usr/bin/env bash
# Forty tests, each a process of its own, share one Redis: run to the end,
# interrupted, and killed. Judged from outside: by Redis's own log, ps, the
# runtime directory and the kernel's table of semaphore sets.
#
# With cargo-nextest installed that is the runner. Without, xargs stands in: also
# one process per test, eight at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/outside.sh
cd demo/nextest

dir=$(mktemp -d)
export PROCREF_RUNTIME_DIR=$dir/run CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target}/demo
runner=
finish() {
    # If something went wrong: what was started here, and nothing else.
    [[ -z $runner ]] || kill -9 "${started[@]}" 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT

if cargo nextest --version >/dev/null 2>&1; then
    echo "runner: $(cargo nextest --version | head -n 1)"
    cargo nextest run --no-run 2>&1 | tail -n 1
    run_tests() {
        exec cargo nextest run --test-threads 8 --no-fail-fast --status-level none --final-status-level fail
    }
else
    echo 'runner: xargs, because cargo-nextest is not installed (cargo install cargo-nextest --locked)'
    program=$(cargo test --no-run --test forty 2>&1 | sed -n 's/.*(\(.*\)).*/\1/p' | tail -n 1)
    [[ -x $program ]] || fail 'the tests were not built'
    export program
    run_tests() {
        "$program" --list --format terse | sed 's/: test$//' | xargs -P 8 -n 1 "$program" --quiet --exact
    }
fi

# All processes below one, itself included.
family() {
    local child
    echo "$1"
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        family "$child"
    done
}

nothing_is_left() {
    set_is_gone "$set" && is_over "$redis" && [[ -z $(ls -A "$PROCREF_RUNTIME_DIR") ]] &&
        [[ -z $(supervisors_of 'nextest demo') ]]
}
one_life() {
    until_true "everything is gone $1" 60 nothing_is_left
    (($(lines_with 'Ready to accept connections' "$DEMO_REDIS_LOG") == 1)) || fail "not one start: $(<"$DEMO_REDIS_LOG")"
    (($(lines_with 'Received SIGTERM' "$DEMO_REDIS_LOG") == 1)) || fail "not asked once: $(<"$DEMO_REDIS_LOG")"
    (($(lines_with 'ready to exit, bye bye' "$DEMO_REDIS_LOG") == 1)) || fail "no orderly end: $(<"$DEMO_REDIS_LOG")"
}

# Starts the tests, and waits until eight of them are in the middle.
begin() {
    scene=$dir/$1
    mkdir "$scene"
    export DEMO_HOLD=$scene DEMO_REDIS_LOG=$scene/redis.log
    # A shell has what it puts into the background ignore SIGINT.
    env --default-signal=INT setsid bash -c "$(declare -f run_tests); run_tests" >"$scene/output" 2>&1 &
    runner=$!
    started=("$runner")
    eight_hold() { [[ $(find "$scene" -name 'holding-*' -size +0 | wc -l) -ge 8 ]]; }
    until_true 'eight tests hold Redis' 60 eight_hold
    read -r pid <"$(find "$scene" -name 'holding-*' -size +0 | head -n 1)"
    redis=$(identity_of "$pid") || fail "Redis, pid $pid, is not there"
    set=$(set_of_pid "$pid") || fail "no semaphore set names pid $pid"
    mapfile -t started < <(family "$runner")
}

begin 'to-the-end'
touch "$scene/go"
wait "$runner" || { cat "$scene/output" >&2; fail 'tests failed'; }
runner=
one_life 'after the run'
echo 'run to the end: one start, one stop, nothing left'

begin 'interrupted'
kill -INT "${started[@]:0:1}"
# A terminal sends it to everybody in the foreground; nextest tells its tests itself.
for pid in "${started[@]:1}"; do kill -INT "$pid" 2>/dev/null || true; done
wait "$runner" || true
runner=
one_life 'after SIGINT'
echo "interrupted (SIGINT) with ${#started[@]} processes: one start, one stop, nothing left"

begin 'killed'
kill -9 "${started[@]}" 2>/dev/null || true
wait "$runner" 2>/dev/null || true
runner=
one_life 'after SIGKILL'
echo "runner and tests killed (SIGKILL), ${#started[@]} processes at once: one start, one stop, nothing left"
