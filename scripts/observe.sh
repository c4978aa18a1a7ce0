# Functions that observe a service from outside, without procref. Other scripts source this file.

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# Repeats a command until it succeeds: `until_true CONDITION SECONDS COMMAND…`.
until_true() {
    local condition=$1 end=$((SECONDS + $2))
    shift 2
    until "$@"; do
        ((SECONDS < end)) || fail "timeout while waiting for: $condition"
        sleep 0.01
    done
}

# Prints the number of lines of a file that contain a text, and 0 if the file does not exist.
lines_with() {
    if [[ -e $2 ]]; then
        grep -cF -- "$1" "$2" || true
    else
        echo 0
    fi
}

# Prints `pid:start` of a live process. The start time is part of it, because the kernel reuses pids. A zombie is not
# alive.
identity_of() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The name in parentheses may contain any character, also a parenthesis.
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != [ZX] ]] || return 1
    printf '%s:%s\n' "$1" "${fields[19]}"
}

is_gone() {
    [[ $(identity_of "${1%:*}") != "$1" ]]
}

# Prints the pids of all processes of a session, without zombies.
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

# Prints the pids of the supervisors of all services with this name.
supervisors_of() {
    local file words
    for file in /proc/[0-9]*/cmdline; do
        # A process may exit before its file is read. A zombie has no command line.
        { mapfile -d '' -t words <"$file"; } 2>/dev/null || continue
        if [[ ${words[0]-} == "procref: $1" ]]; then
            file=${file#/proc/}
            printf '%s\n' "${file%/*}"
        fi
    done
}

# Prints the id of the semaphore set whose slots for the instance's pid (docs/design.md) contain this pid:
# `set_of_pid PID SINCE`. SINCE is a time in seconds before the set was created. Without it, reading all sets of a busy
# machine could take longer than the set exists.
set_of_pid() {
    local id
    # Other sets may disappear before they are read.
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
