# What anybody on the machine can see of a service, without asking procref. To be
# sourced by the other scripts.

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# Looks until a command succeeds: `until_true WHAT SECONDS COMMAND...`.
until_true() {
    local what=$1 end=$((SECONDS + $2))
    shift 2
    until "$@"; do
        ((SECONDS < end)) || fail "waited in vain for: $what"
        sleep 0.01
    done
}

# How many lines of a file contain a text; 0 if there is no such file.
lines_with() {
    if [[ -e $2 ]]; then
        grep -cF -- "$1" "$2" || true
    else
        echo 0
    fi
}

# `pid:start` of a process that lives (a zombie does not): one run of it, because a pid
# alone could be somebody else's by now.
identity_of() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The name in parentheses may hold anything, also a parenthesis.
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != [ZX] ]] || return 1
    printf '%s:%s\n' "$1" "${fields[19]}"
}

is_over() {
    [[ $(identity_of "${1%:*}") != "$1" ]]
}

# The pids of all processes of a session, but for zombies.
processes_of_session() {
    local stat line fields
    for stat in /proc/[0-9]*/stat; do
        { line=$(<"$stat"); } 2>/dev/null || continue
        read -ra fields <<<"${line##*) }"
        if [[ ${fields[3]} == "$1" && ${fields[0]} != [ZX] ]]; then
            printf '%s\n' "${line%% *}"
        fi
    done
}

# The pids of the supervisors of the services of a name.
supervisors_of() {
    local file words
    for file in /proc/[0-9]*/cmdline; do
        # A process may end while we look at it; a zombie has no command line.
        { mapfile -d '' -t words <"$file"; } 2>/dev/null || continue
        if [[ ${words[0]-} == "procref: $1" ]]; then
            file=${file#/proc/}
            printf '%s\n' "${file%/*}"
        fi
    done
}

# The id of the semaphore set whose slots for the instance's pid (docs/design.md) name this one:
# `set_of_pid PID SINCE`, where SINCE is a time in seconds at which it did not exist yet. Without that
# a look at each set of a busy machine could take longer than the set exists.
set_of_pid() {
    local id
    # Sets of other services may be removed meanwhile.
    for id in $(awk -v since="$2" '$4 == 130 && $10 >= since { print $2 }' /proc/sysvipc/sem); do
        if ipcs -s -i "$id" 2>/dev/null | awk -v pid="$1" '
            $1 == 14 { low = $2 }
            $1 == 15 { high = $2 }
            END { exit !(low + 32768 * high == pid) }'; then
            printf '%s\n' "$id"
            return
        fi
    done
    return 1
}

set_is_gone() {
    ! awk '{ print $2 }' /proc/sysvipc/sem | grep -Fxq -- "$1"
}
