#!/usr/bin/env bash
# Runs many copies of the example `redis` at once, and checks the result from outside: by Redis's own log, /proc and the
# kernel's table of semaphores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/observe.sh

copies=12
redis=$(command -v redis-server) || fail 'please install redis-server (without its service)'
cargo build --quiet --example redis
example=${CARGO_TARGET_DIR:-target}/debug/examples/redis

scratch=$(mktemp -d)
clients=()
finish() {
    # Only clients that the shell has not waited for: their pids cannot be reused.
    ((${#clients[@]} == 0)) || kill -KILL "${clients[@]}" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

mkdir -m 700 "$scratch/run" "$scratch/bin"
export PROCREF_RUNTIME_DIR=$scratch/run
log=$scratch/redis.log
# The example's server with its own log.
printf '#!/bin/sh\nexec %q "$@" --logfile %q\n' "$redis" "$log" >"$scratch/bin/redis-server"
chmod 700 "$scratch/bin/redis-server"
PATH=$scratch/bin:$PATH
mkfifo "$scratch/orders"

answers() {
    cat "$scratch"/answer-* 2>/dev/null | grep -c '^PONG from process' || true
}
all_answered() {
    (($(answers) == copies))
}

# Starts all copies. They exit when descriptor 9 is closed.
start_all() {
    rm -f "$scratch"/answer-* "$log"
    begun=$(date +%s)
    exec 9<>"$scratch/orders"
    local number
    for ((number = 0; number < copies; number++)); do
        "$example" <"$scratch/orders" >"$scratch/answer-$number" 9>&- &
        clients+=($!)
    done
    until_true "$copies answers" 60 all_answered
    (($(sort -u "$scratch"/answer-* | wc -l) == 1)) || fail 'the copies got different servers'
    local pid
    pid=$(sed -n 's/.*, pid=\([0-9]*\), just started$/\1/p' "$log")
    server=$(identity_of "$pid") || fail "Redis's log does not name one live server: '$pid'"
    set=$(set_of_pid "$pid" "$begun") || fail "no semaphore set contains pid $pid"
}

# Checks that the server and its set are gone after the last copy has exited.
check_nothing_left() {
    until_true 'the end of the semaphore set' 20 set_is_gone "$set"
    is_gone "$server" || fail "the server, pid ${server%:*}, is still there"
    (($(lines_with 'just started' "$log") == 1)) || fail "expected one start: $(<"$log")"
    (($(lines_with 'ready to exit, bye bye' "$log") == 1)) || fail "expected one orderly stop: $(<"$log")"
    [[ -z $(ls -A "$PROCREF_RUNTIME_DIR") ]] || fail "leftovers: $(ls -A "$PROCREF_RUNTIME_DIR")"
}

start_all
exec 9>&-
wait "${clients[@]}"
clients=()
check_nothing_left
echo "$copies copies released one Redis: one start, one orderly stop, nothing left"

start_all
kill -KILL "${clients[@]}"
exec 9>&-
wait "${clients[@]}" 2>/dev/null || true
clients=()
check_nothing_left
echo "$copies copies were killed at once: one start, one orderly stop, nothing left"
