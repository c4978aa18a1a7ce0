#!/usr/bin/env bash
# Runs the tests again and again on a busy machine: `scripts/soak.sh [ROUNDS]` (50).
# A test that only passes on an idle machine, or now and then, fails here. Each
# round is judged from outside, too: no semaphore set and no process may be left.
#
# All of it runs in pid and IPC namespaces of its own, so that nothing else on the
# machine is reached, or counted.
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
    # unshare ignores Ctrl-C and SIGTERM while it waits, and so does the first process of a namespace.
    unshare "${as_root[@]}" --fork --kill-child --pid --mount-proc --ipc \
        env PROCREF_SOAK_INSIDE=1 "$PWD/scripts/soak.sh" "$rounds" &
    inside=$!
    trap 'kill -KILL "$inside" 2>/dev/null' EXIT
    wait "$inside"
    exit
fi

logs=$(mktemp -d)
printf 'the output of failed rounds will be in %s\n' "$logs"

# One more than there are processors, each less important than the tests.
load=()
for ((i = 0; i <= $(nproc); i++)); do
    nice bash -c 'while :; do :; done' &
    load+=($!)
done

# What is alive beside this script, its load, and the two that look.
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
    complaint=
    cargo test --workspace --lib --bins --tests --no-fail-fast >"$log" 2>&1 || complaint='tests failed'
    sets=$(ipcs -s | grep -c '^0x' || true)
    ((sets == 0)) || complaint+="${complaint:+, }$sets semaphore sets are left"
    left=$(others)
    [[ -z $left ]] || complaint+="${complaint:+, }processes are left: $left"
    passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")
    printf 'round %d of %d: %d passed, %d s%s\n' "$round" "$rounds" "$passed" $((SECONDS - begun)) \
        "${complaint:+: $complaint}"
    if [[ -z $complaint ]]; then
        rm "$log"
    else
        failed=$((failed + 1))
        grep -E '^test .* FAILED$|^---- ' "$log" | sort -u || true
    fi
done

kill "${load[@]}"
printf '%d of %d rounds failed\n' "$failed" "$rounds"
((failed == 0))
