# A library for direnv: `use procref NAME...` in an .envrc holds services and sets their variables.
#
# Copy this file to ~/.config/direnv/lib/procref.sh.

use_procref() {
    local pid service file
    (($#)) || log_error 'use procref: the name of a service is missing'
    # direnv is the parent of this script. A shell is the parent of `direnv export`, and `direnv exec` becomes the program.
    pid=$PPID
    case $(ps -o args= -p "$PPID") in
    *' export '*) pid=$(ps -o ppid= -p "$PPID") ;;
    esac
    if file=$(find_up procref.toml); then
        watch_file "$file"
    fi
    for service in "$@"; do
        # `hold` prints a line when the service is ready, and runs until the shell or the program has exited. direnv waits
        # until no process has its descriptor 3 open, so `hold` must not inherit it. Ctrl-C at the prompt must not end it.
        if read -r _ < <(trap '' INT; exec procref hold "$service" --for-pid $((pid)) 3>&-); then
            eval "$(procref env "$service")"
        else
            log_error "service $service was not started"
        fi
    done
}
