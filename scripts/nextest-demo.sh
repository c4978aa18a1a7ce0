#!/usr/bin/env bash
# Forty tests, each a process of its own, share one Redis: run to the end,
# interrupted, and killed. Judged from outside: by Redis's own log, ps, the
# runtime directory and the kernel's table of semaphore sets.
#
# With cargo-nextest installed that is the runner. Without, xargs stands in: also
# one process per test, eight at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../demo/nextest"

dir=$(mktemp -d)
export PROCREF_RUNTIME_DIR=$dir/run CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target}/demo
runner=
fail() {
    printf 'nextest-demo: %s\n' "$1" >&2
    [[ ! -s $DEMO_REDIS_LOG ]] || sed 's/^/  redis: /' "$DEMO_REDIS_LOG" >&2
    exit 1
}
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

# Waits up to ten seconds for a condition.
await() {
    local what=$1 tries=1000
    shift
    until "$@"; do
        ((tries-- > 0)) || fail "waited in vain: $what"
        sleep 0.01
    done
}

log_lines() {
    grep -c -- "$1" "$DEMO_REDIS_LOG" 2>/dev/null || true
}
nothing_is_left() {
    local key=$1 pid=$2
    [[ -z $(ls -A "$PROCREF_RUNTIME_DIR") ]] &&
        [[ ! -d /proc/$pid || $(sed -n 's/^State:\t\(.\).*/\1/p' /proc/"$pid"/status 2>/dev/null) == Z ]] &&
        ! ipcs -s | grep -q "^$key " &&
        ! ps -eo args= | grep -q '^procref: nextest demo$'
}
one_life() {
    [[ $(log_lines 'Ready to accept connections') == 1 ]] || fail 'Redis was not started exactly once'
    [[ $(log_lines 'Received SIGTERM') == 1 ]] || fail 'Redis was not asked exactly once to stop'
    [[ $(log_lines 'ready to exit, bye bye') == 1 ]] || fail 'Redis was not stopped in an orderly way'
}

# Starts the tests, and waits until eight of them are in the middle.
begin() {
    scene=$dir/$1
    mkdir "$scene"
    export DEMO_HOLD=$scene DEMO_REDIS_LOG=$scene/redis.log
    setsid bash -c "$(declare -f run_tests); run_tests" >"$scene/output" 2>&1 &
    runner=$!
    started=("$runner")
    eight_hold() { [[ $(find "$scene" -name 'holding-*' -size +0 | wc -l) -ge 8 ]]; }
    await 'eight tests hold Redis' eight_hold
    read -r redis key <"$(find "$scene" -name 'holding-*' -size +0 | head -n 1)"
    mapfile -t started < <(family "$runner")
    ipcs -s | grep -q "^$key " || fail 'there is no semaphore set to count with'
}

begin 'to-the-end'
touch "$scene/go"
wait "$runner" || { cat "$scene/output" >&2; fail 'tests failed'; }
runner=
await 'everything is gone after the run' nothing_is_left "$key" "$redis"
one_life
echo 'run to the end: one start, one stop, nothing left'

begin 'interrupted'
kill -INT "${started[@]:0:1}"
# A terminal sends it to everybody in the foreground; nextest tells its tests itself.
for pid in "${started[@]:1}"; do kill -INT "$pid" 2>/dev/null || true; done
wait "$runner" || true
runner=
await 'everything is gone after SIGINT' nothing_is_left "$key" "$redis"
one_life
echo "interrupted (SIGINT) with ${#started[@]} processes: one start, one stop, nothing left"

begin 'killed'
kill -9 "${started[@]}" 2>/dev/null || true
wait "$runner" 2>/dev/null || true
runner=
await 'everything is gone after SIGKILL' nothing_is_left "$key" "$redis"
one_life
echo "runner and tests killed (SIGKILL), ${#started[@]} processes at once: one start, one stop, nothing left"
