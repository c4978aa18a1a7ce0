#!/usr/bin/env bash
# Runs many copies of the example `redis` at once, and judges from outside: by Redis's own log, /proc
# and the kernel's table of semaphores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/outside.sh

copies=12
redis=$(command -v redis-server) || fail 'please install redis-server (without its service)'
cargo build --quiet --example redis
example=${CARGO_TARGET_DIR:-target}/debug/examples/redis

scratch=$(mktemp -d)
clients=()
finish() {
    # Only ours, and only those that the shell has not yet waited for.
    ((${#clients[@]} == 0)) || kill -KILL "${clients[@]}" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

mkdir -m 700 "$scratch/run" "$scratch/bin"
export PROCREF_RUNTIME_DIR=$scratch/run
log=$scratch/redis.log
# The example's server, made to keep a log of its own.
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

# Starts all the copies; they stay until descriptor 9 is closed.
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
    (($(sort -u "$scratch"/answer-* | wc -l) == 1)) || fail 'the copies did not all get the same server'
    local pid
    pid=$(sed -n 's/.*, pid=\([0-9]*\), just started$/\1/p' "$log")
    server=$(identity_of "$pid") || fail "its log does not name one server that lives: '$pid'"
    set=$(set_of_pid "$pid" "$begun") || fail "no semaphore set names pid $pid"
}

# Once nobody holds it.
nothing_is_left() {
    until_true 'the end of the semaphore set' 20 set_is_gone "$set"
    is_over "$server" || fail "the server, pid ${server%:*}, is still there"
    (($(lines_with 'just started' "$log") == 1)) || fail "not one start: $(<"$log")"
    (($(lines_with 'ready to exit, bye bye' "$log") == 1)) || fail "no orderly end: $(<"$log")"
    [[ -z $(ls -A "$PROCREF_RUNTIME_DIR") ]] || fail "left behind: $(ls -A "$PROCREF_RUNTIME_DIR")"
}

start_all
exec 9>&-
wait "${clients[@]}"
clients=()
nothing_is_left
echo "$copies copies let go of one Redis: one start, one orderly end, nothing left"

start_all
kill -KILL "${clients[@]}"
exec 9>&-
wait "${clients[@]}" 2>/dev/null || true
clients=()
nothing_is_left
echo "$copies copies were killed at once: one start, one orderly end, nothing left"
