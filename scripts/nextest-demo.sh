#!/usr/bin/env bash
# Runs the forty tests of demo/nextest, which share one Redis: to their end, interrupted in the middle,
# and killed in the middle, runner and all. Judges from outside: by Redis's own log, /proc and the
# kernel's table of semaphores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/outside.sh

demo=$PWD/demo/nextest
manifest=$demo/Cargo.toml
tests=40
# Everybody who connects: each test, the one look whether it is ready, the one migration, and we.
connections=$((tests + 3))
# The server has to be told to stop so soon after the linger is over, in ms.
limit=100
linger=$(sed -n 's/.*\.linger(Duration::from_secs(\([0-9]*\))).*/\1000/p' "$demo/src/lib.rs")
[[ $linger == [1-9]*000 ]] || fail "no linger found in $demo/src/lib.rs"

command -v redis-server >/dev/null || fail 'please install redis-server (without its service)'
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# In Redis's log and here.
export TZ=UTC

scratch=$(mktemp -d)
runner=
finish() {
    # A session that we have made; nobody else is in it.
    [[ -z $runner ]] || kill_session
    rm -rf "$scratch"
}
trap finish EXIT

if cargo nextest --version >/dev/null 2>&1; then
    kind='cargo nextest'
    cargo nextest run --manifest-path "$manifest" --no-run
    run=(cargo nextest run --manifest-path "$manifest" --test-threads 4 --no-fail-fast)
else
    # What matters of it: a process for each test, several at once.
    kind='a stand-in (xargs)'
    printf '\n*** cargo-nextest is not installed (https://nexte.st): xargs stands in for it. ***\n\n' >&2
    cargo test --manifest-path "$manifest" --test forty --no-run 2>"$scratch/built" ||
        fail "the tests do not compile: $(<"$scratch/built")"
    executable=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$scratch/built")
    "$executable" --list --format terse | sed -n 's/: test$//p' >"$scratch/list"
    (($(wc -l <"$scratch/list") == tests)) || fail "there are not $tests tests"
    run=(xargs --arg-file "$scratch/list" --max-procs 4 --max-args 1 "$executable" --exact)
fi

# Starts the tests in a session of their own, which is what tells them from everybody else.
start() {
    export PROCREF_RUNTIME_DIR=$scratch/$1
    log=$PROCREF_RUNTIME_DIR/demo-redis.log
    mkdir -m 700 "$PROCREF_RUNTIME_DIR"
    begun=$(date +%s)
    supervisors_of demo-redis | sort >"$scratch/supervisors"
    # Scripts have Ctrl-C ignored in what they start in the background.
    env --default-signal=INT setsid "${run[@]}" >"$scratch/output" 2>&1 &
    runner=$!
}

session_is_empty() {
    [[ -z $(processes_of_session "$runner") ]]
}

# All of it at once, the runner too; and those that were just being started.
kill_session() {
    local pids
    while mapfile -t pids < <(processes_of_session "$runner") && ((${#pids[@]} > 0)); do
        kill -KILL "${pids[@]}" 2>/dev/null || true
    done
}

ten_are_done() {
    (($(lines_with 'Client closed connection' "$log") >= 12))
}

# Until ten tests are over. Then nobody can write, so that the run is in its middle for as long as we
# look: a command to Redis, `client pause`, which `resume` takes back.
reach_the_middle() {
    until_true 'ten tests' 60 ten_are_done
    (($(lines_with 'just started' "$log") == 1)) || fail "not one start: $(<"$log")"
    local pid port
    pid=$(sed -n 's/.*, pid=\([0-9]*\), just started$/\1/p' "$log")
    port=$(sed -n 's/.* port=\([0-9]*\)\.$/\1/p' "$log")
    exec 8<>"/dev/tcp/127.0.0.1/$port"
    ask_redis 'client pause 60000 write'
    server=$(identity_of "$pid") || fail "Redis's log does not name one server that lives: '$pid'"
    set=$(set_of_pid "$pid" "$begun") || fail "no semaphore set names pid $pid"
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

# When the last line that contains a text was written, in ms since the epoch.
time_of() {
    local line
    line=$(grep -F -- "$1" "$log" | tail -n 1)
    [[ $line =~ ^[0-9]+:M\ (.{20,24}\.[0-9]{3})\  ]] || fail "no time in Redis's log of: $1"
    date -d "${BASH_REMATCH[1]}" +%s%3N
}

# What must be so after each run.
judge() {
    until_true 'the end of the tests' 60 session_is_empty
    local status=0
    wait "$runner" || status=$?
    runner=
    until_true 'the end of the semaphore set' $((linger / 1000 + 20)) set_is_gone "$set"
    until_true 'the end of the supervisor' 5 no_new_supervisor
    is_over "$server" || fail "the server, pid ${server%:*}, is still there"
    [[ $(ls -A "$PROCREF_RUNTIME_DIR") == demo-redis.log ]] ||
        fail "beside the log there is left: $(ls -A "$PROCREF_RUNTIME_DIR")"
    (($(lines_with 'just started' "$log") == 1)) || fail "not one start: $(<"$log")"
    (($(lines_with 'ready to exit, bye bye' "$log") == 1)) || fail "no orderly end: $(<"$log")"

    # A test hangs up right before it lets go, or in the moment in which it is killed.
    local late connected
    late=$(($(time_of 'User requested shutdown') - $(time_of 'Client closed connection') - linger))
    ((late >= -20)) || fail "stopped $((-late)) ms before the linger was over"
    ((late <= limit)) || fail "stopped $late ms after the linger was over, not within $limit"
    connected=$(lines_with 'Accepted ' "$log")
    if [[ $1 == whole ]]; then
        ((status == 0)) || fail "the tests failed: $(<"$scratch/output")"
        ((connected == connections)) || fail "$connected connections, not $connections"
    else
        ((status != 0 && connected < connections)) ||
            fail "all tests were over before they could be $1: $connected connections"
    fi
    printf '%-12s  %2d connections, one start, one orderly end %d ms after a linger of %d ms, nothing left\n' \
        "$1:" "$connected" "$late" "$linger"
}

echo "$tests tests, run by $kind"
start whole
reach_the_middle
ask_redis 'client unpause'
exec 8>&-
judge whole

start interrupted
reach_the_middle
exec 8>&-
# As a terminal does it.
kill -INT -- "-$runner"
judge interrupted

start killed
reach_the_middle
exec 8>&-
kill_session
judge killed
