#!/usr/bin/env bash
# Repeats the tests on a busy machine: `scripts/soak.sh [ROUNDS]` (default: 50). This finds tests that pass only on an idle
# machine, or only sometimes. After each round, no semaphore set and no process may be left.
#
# The tests run in separate pid and IPC namespaces, so that they neither reach nor count other objects of the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-50}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || {
    printf 'usage: %s [ROUNDS]\n' "${0##*/}" >&2
    exit 2
}

if [[ ${PROCREF_SOAK_INSIDE:-} != 1 ]]; then
    cargo test --workspace --lib --bins --tests --no-run
    as_root=()
    ((EUID == 0)) || as_root=(--map-root-user)
    # `unshare` ignores Ctrl-C and SIGTERM while it waits, and so does the first process of a namespace. A script starts
    # background processes with SIGINT and SIGQUIT ignored, and tests send these signals.
    unshare "${as_root[@]}" --fork --kill-child --pid --mount-proc --ipc \
        env --default-signal=INT,QUIT PROCREF_SOAK_INSIDE=1 "$PWD/scripts/soak.sh" "$rounds" &
    inside=$!
    trap 'kill -KILL "$inside" 2>/dev/null' EXIT
    wait "$inside"
    exit
fi

logs=$(mktemp -d)
printf 'the output of failed rounds will be in %s\n' "$logs"

# One busy process more than there are processors, each with a lower priority than the tests.
load=()
for ((i = 0; i <= $(nproc); i++)); do
    nice bash -c 'while :; do :; done' &
    load+=($!)
done

# Prints the live processes, without this script, its load, and the subshell that lists them.
others() {
    local file pid state
    for file in /proc/[0-9]*/stat; do
        { pid=$(<"$file"); } 2>/dev/null || continue
        state=${pid##*) }
        pid=${pid%% *}
        [[ ${state%% *} == Z || $pid == 1 || $pid == "$BASHPID" || " ${load[*]} " == *" $pid "* ]] ||
            printf '%s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
    done
}

failed=0
for ((round = 1; round <= rounds; round++)); do
    begun=$SECONDS
    log=$logs/round-$round
    problem=
    cargo test --workspace --lib --bins --tests --no-fail-fast >"$log" 2>&1 || problem='tests failed'
    sets=$(ipcs -s | grep -c '^0x' || true)
    ((sets == 0)) || problem+="${problem:+, }$sets semaphore sets are left"
    left=$(others)
    [[ -z $left ]] || problem+="${problem:+, }processes are left: $left"
    passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")
    printf 'round %d of %d: %d passed, %d s%s\n' "$round" "$rounds" "$passed" $((SECONDS - begun)) \
        "${problem:+: $problem}"
    if [[ -z $problem ]]; then
        rm "$log"
    else
        failed=$((failed + 1))
        grep -E '^test .* FAILED$|^---- ' "$log" | sort -u || true
    fi
done

kill "${load[@]}"
printf '%d of %d rounds failed\n' "$failed" "$rounds"
((failed == 0))
