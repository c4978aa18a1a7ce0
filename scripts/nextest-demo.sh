#!/usr/bin/env bash
# Runs the forty tests of demo/nextest, which share one Redis: once completely, once interrupted in the middle, and once
# killed in the middle together with the runner. Checks the result from outside: by Redis's own log, /proc and the kernel's
# table of semaphores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/observe.sh

demo=$PWD/demo/nextest
manifest=$demo/Cargo.toml
tests=40
# The connections: one for each test, one to check readiness, one for the migration, and one for this script.
connections=$((tests + 3))
# Longest time in ms from the end of the linger time to the stop signal.
limit=100
tracked=$(git status --porcelain demo/nextest)
linger=$(sed -n 's/.*\.linger(Duration::from_secs(\([0-9]*\))).*/\1000/p' "$demo/src/lib.rs")
[[ $linger == [1-9]*000 ]] || fail "no linger found in $demo/src/lib.rs"

redis=$(command -v redis-server) || fail 'please install redis-server (without its service)'
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# For the times in Redis's log and in this script.
export TZ=UTC

scratch=$(mktemp -d)
runner=
finish() {
    # The session is this script's own. It contains only the runner and the tests.
    [[ -z $runner ]] || kill_session
    rm -rf "$scratch"
}
trap finish EXIT
mkdir "$scratch/bin"
touch "$scratch/bin/redis-server"
chmod 700 "$scratch/bin/redis-server"
PATH=$scratch/bin:$PATH

if cargo nextest --version >/dev/null 2>&1; then
    kind='cargo nextest'
    cargo nextest run --manifest-path "$manifest" --no-run
    run=(cargo nextest run --manifest-path "$manifest" --test-threads 4 --no-fail-fast)
else
    # As nextest does: one process for each test, several at once.
    kind='xargs'
    printf '\n*** cargo-nextest is not installed (https://nexte.st): xargs replaces it. ***\n\n' >&2
    cargo test --manifest-path "$manifest" --test forty --no-run 2>"$scratch/built" ||
        fail "the tests do not compile: $(<"$scratch/built")"
    executable=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$scratch/built")
    "$executable" --list --format terse | sed -n 's/: test$//p' >"$scratch/list"
    (($(wc -l <"$scratch/list") == tests)) || fail "there are not $tests tests"
    run=(xargs --arg-file "$scratch/list" --max-procs 4 --max-args 1 "$executable" --exact)
fi

# Starts the tests in a separate session, which identifies their processes.
start() {
    export PROCREF_RUNTIME_DIR=$scratch/$1
    log=$scratch/$1.log
    mkdir -m 700 "$PROCREF_RUNTIME_DIR"
    # The demo's server with its own log, because the demo leaves none.
    printf '#!/bin/sh\nexec %q "$@" --logfile %q\n' "$redis" "$log" >"$scratch/bin/redis-server"
    begun=$(date +%s)
    supervisors_of demo-redis | sort >"$scratch/supervisors"
    # A script starts background processes with SIGINT ignored.
    env --default-signal=INT setsid "${run[@]}" >"$scratch/output" 2>&1 &
    runner=$!
}

session_is_empty() {
    [[ -z $(processes_of_session "$runner") ]]
}

# Kills the runner and the tests at once, and repeats this for processes that were just being started.
kill_session() {
    local pids
    while mapfile -t pids < <(processes_of_session "$runner") && ((${#pids[@]} > 0)); do
        kill -KILL "${pids[@]}" 2>/dev/null || true
    done
}

ten_have_finished() {
    (($(lines_with 'Client closed connection' "$log") >= 12))
}

# Waits until ten tests have finished, and then blocks all writes by Redis's command `client pause`, so that the run stays
# in its middle. `client unpause` ends that.
reach_the_middle() {
    until_true 'ten tests' 60 ten_have_finished
    (($(lines_with 'just started' "$log") == 1)) || fail "expected one start: $(<"$log")"
    local pid port
    pid=$(sed -n 's/.*, pid=\([0-9]*\), just started$/\1/p' "$log")
    port=$(sed -n 's/.* port=\([0-9]*\)\.$/\1/p' "$log")
    exec 8<>"/dev/tcp/127.0.0.1/$port"
    ask_redis 'client pause 60000 write'
    server=$(identity_of "$pid") || fail "Redis's log does not name one live server: '$pid'"
    set=$(set_of_pid "$pid" "$begun") || fail "no semaphore set contains pid $pid"
}

ask_redis() {
    local answer
    printf '%s\r\n' "$1" >&8
    read -r -t 30 -u 8 answer || fail "Redis does not answer '$1'"
    [[ $answer == +OK* ]] || fail "Redis answers '$1' with '$answer'"
}

no_new_supervisor() {
    [[ -z $(supervisors_of demo-redis | sort | comm -13 "$scratch/supervisors" -) ]]
}

# Prints the time of the last line that contains a text, in ms since the epoch.
time_of() {
    local line
    line=$(grep -F -- "$1" "$log" | tail -n 1)
    [[ $line =~ ^[0-9]+:M\ (.{20,24}\.[0-9]{3})\  ]] || fail "no time in Redis's log of: $1"
    date -d "${BASH_REMATCH[1]}" +%s%3N
}

# Checks the conditions that must hold after each run.
check() {
    until_true 'the end of the tests' 60 session_is_empty
    local status=0
    wait "$runner" || status=$?
    runner=
    until_true 'the end of the semaphore set' $((linger / 1000 + 20)) set_is_gone "$set"
    until_true 'the end of the supervisor' 5 no_new_supervisor
    is_gone "$server" || fail "the server, pid ${server%:*}, is still there"
    [[ -z $(ls -A "$PROCREF_RUNTIME_DIR") ]] || fail "leftovers: $(ls -A "$PROCREF_RUNTIME_DIR")"
    [[ $(git status --porcelain demo/nextest) == "$tracked" ]] ||
        fail "the demo has changed its directory: $(git status --porcelain demo/nextest)"
    (($(lines_with 'just started' "$log") == 1)) || fail "expected one start: $(<"$log")"
    (($(lines_with 'ready to exit, bye bye' "$log") == 1)) || fail "expected one orderly stop: $(<"$log")"

    # A test closes its connection right before it releases the service, or when it is killed.
    local late connected
    late=$(($(time_of 'User requested shutdown') - $(time_of 'Client closed connection') - linger))
    ((late >= -20)) || fail "stopped $((-late)) ms before the end of the linger time"
    ((late <= limit)) || fail "stopped $late ms after the end of the linger time, not within $limit"
    connected=$(lines_with 'Accepted ' "$log")
    if [[ $1 == whole ]]; then
        ((status == 0)) || fail "the tests failed: $(<"$scratch/output")"
        ((connected == connections)) || fail "$connected connections, not $connections"
    else
        ((status != 0 && connected < connections)) ||
            fail "all tests had finished before they could be $1: $connected connections"
    fi
    printf '%-12s  %2d connections, one start, one orderly stop %d ms after a linger time of %d ms, nothing left\n' \
        "$1:" "$connected" "$late" "$linger"
}

echo "$tests tests, run by $kind"
start whole
reach_the_middle
ask_redis 'client unpause'
exec 8>&-
check whole

start interrupted
reach_the_middle
exec 8>&-
# A terminal does the same.
kill -INT -- "-$runner"
check interrupted

start killed
reach_the_middle
exec 8>&-
kill_session
check killed
