#!/usr/bin/env bash
# Does what a newcomer does, in an empty home on a machine with only Rust and a C compiler: installs procref as README.md
# says, makes the first own service, and makes mistakes. Prints the times, and checks the text and the exit code of each
# error.
#
#     scripts/newcomer.sh
#
# `cargo install` compiles into target/newcomer, without most optimizations: 80 s of one processor. The sources of the
# dependencies are those that Cargo has already downloaded.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout=$PWD

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

if [[ ${1-} != inside ]]; then
    scratch=$(mktemp -d -p /var/tmp)
    trap 'rm -rf "$scratch"' EXIT
    mkdir -m 700 "$scratch/home" "$scratch/run"
    # The sources of the packages are shared, under the same path in each run, so that nothing is compiled a second time.
    env -i PATH="$PATH" HOME="$scratch/home" XDG_RUNTIME_DIR="$scratch/run" TERM=dumb LANG=C.UTF-8 \
        RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" \
        CARGO_INSTALL_ROOT="$scratch/home/.cargo" CARGO_NET_OFFLINE=true CARGO_INCREMENTAL=0 \
        CARGO_TARGET_DIR="$(realpath -m "${CARGO_TARGET_DIR:-target}")/newcomer" \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        scripts/bare-machine.sh bash scripts/newcomer.sh inside
    left=$(find "$scratch/run" -type f -o -type s)
    [[ -z $left ]] || fail "leftovers: $left"
    exit
fi

# --- install -------------------------------------------------------------------

mapfile -t commands < <(sed -n '/^```sh install$/,/^```$/ { /^cargo /p }' README.md)
[[ ${#commands[@]} -eq 1 && ${commands[0]} == 'cargo install '* ]] || fail "README.md has no command that installs"
echo "$ ${commands[0]}"
bash -euo pipefail -c "${commands[0]} --quiet"
printf 'compiled and installed after %d s\n' "$SECONDS"
PATH=$HOME/.cargo/bin:$PATH
[[ $(command -v procref) == "$HOME/.cargo/bin/procref" ]] || fail 'procref is not in the home'

procref demo >"$HOME/demo" || fail "the demo failed: $(<"$HOME/demo")"
printf 'demo: %s\n' "$(tail -n 1 "$HOME/demo")"

# --- the errors -----------------------------------------------------------------

errors=0

# Runs a command that must fail with this code and print these texts: `refused CODE TEXT… -- COMMAND…`.
refused() {
    local code=$1 printed status=0 texts=() text
    shift
    while [[ $1 != -- ]]; do
        texts+=("$1")
        shift
    done
    shift
    printed=$("$@" 2>&1 </dev/null) || status=$?
    errors=$((errors + 1))
    printf '%3d  [%3d] %s\n' "$errors" "$status" "${*//$'\n'/ }"
    ((status == code)) || fail "the exit code is $status, not $code: $printed"
    for text in "${texts[@]}"; do
        [[ $printed == *"$text"* ]] || fail "'$text' is not in: $printed"
    done
}

# --- the first own service ---------------------------------------------------------

begun=$SECONDS
mkdir "$HOME/app"
cd "$HOME/app"

refused 125 'there is no procref.toml in' '`procref init --recipe redis` writes one' '`--start COMMAND`' -- \
    procref run redis -- true
procref --quiet init --recipe redis
# This machine has no Redis.
refused 125 'could not start `redis-server`: not found in the PATH' '(install it, or name its path)' -- \
    procref run redis -- redis-cli -p {port} ping
refused 1 'redis  start  redis-server  not found' '1 program not found' -- procref check
rm procref.toml

cat >server.rs <<'END'
use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").expect("a port").parse().expect("a number");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    println!("ready");
    for connection in listener.incoming() {
        write!(connection?, "{}", std::process::id())?;
    }
    Ok(())
}
END
rustc server.rs
procref --quiet init
refused 125 'could not start `python3`: not found in the PATH' -- procref run web -- true
# The newcomer changes two lines of the example.
sed -i 's|^start = .*|start = "./server"\nport = "auto"|; s|^ready = .*|ready = "tcp"|; s|^linger = .*|linger = "0s"|' procref.toml
procref --quiet check >/dev/null
cat >client.sh <<'END'
exec 3<>"/dev/tcp/127.0.0.1/$PROCREF_PORT"
cat <&3
END
procref run web -- bash -c 'bash client.sh >first; procref run web -- bash client.sh >second; kill -0 "$(<first)"'
[[ -n $(<first) && $(<first) == "$(<second)" ]] || fail 'two clients got two servers'
procref wait web --stopped --timeout 20s
! kill -0 "$(<first)" 2>/dev/null || fail 'the server has outlived its clients'
# A client that is killed counts no longer.
{ procref run web -- bash -c 'bash client.sh >third; kill -KILL $$'; } 2>/dev/null || true
procref wait web --stopped --timeout 20s
! kill -0 "$(<third)" 2>/dev/null || fail 'the server has outlived a client that was killed'
seconds=$((SECONDS - begun))
printf 'first own service after %d s, in addition to the time of the compiler\n' "$seconds"
((seconds < 180)) || fail 'the first own service takes longer than three minutes'

# --- mistakes on the command line -----------------------------------------------------

refused 2 "'procref run NAME -- COMMAND' starts a service for one program" -- procref up web
refused 2 "'procref run NAME -- COMMAND' starts a service" "'procref pin NAME' keeps it running" -- procref start web
refused 2 "'procref stop NAME' stops a service" -- procref down
refused 2 "'procref run NAME -- COMMAND' runs a program" -- procref exec web true
refused 2 "'procref run NAME -- sh' runs a shell" -- procref shell web
refused 2 "'procref ps' lists the services" -- procref ls
refused 2 "a similar subcommand exists: 'run'" -- procref rum web
refused 125 "write '--' before the client: 'procref run web -- true'" -- procref run web true
refused 125 'no service `wep` in' 'did you mean `web`?' -- procref run wep -- true
refused 3 'no service `wep` in' 'did you mean `web`?' -- procref status wep
refused 125 'could be a placeholder or program text' '`{web.port}`' '--fill' '--no-fill' -- procref run web -- echo {port}
refused 125 'no shell reads the command' "sh -c '...'" -- procref run db --start 'sleep 9 | cat' -- true
refused 125 'time unit needed' '500ms, 2s' -- procref run db --start 'sleep 9' --linger 5 -- true
refused 2 'the file exists' '`procref init RECIPE` adds a service' -- procref init
refused 2 "invalid value 'mysql'" 'mariadb' 'postgres' -- procref init mysql
refused 3 'service `web` is not running' -- procref env web
refused 3 'no service `webb` in' 'did you mean `web`?' -- procref connect webb
refused 5 'service `web` was not ready within 10ms' -- procref wait web --timeout 10ms
refused 1 'for process 999999999: no such process' -- procref hold web --for-pid 999999999

# --- mistakes around clients -----------------------------------------------------------

refused 127 'could not execute the client `no-such-client`' -- procref run web -- no-such-client
refused 126 'could not execute the client `./client.sh`' -- procref run web -- ./client.sh
refused 127 '`-- env A=1 true`' -- procref run web -- A=1 true
refused 127 'without quotes' -- procref run web -- 'ls -l'
refused 127 '`cd` is a shell command' -- procref run web -- cd /
refused 7 -- procref run web -c 'exit 7'
refused 4 'service `web`' '1 client' '--force' -- procref run web -- procref stop web
refused 4 'service `web`' '1 client' '--force' -- procref run web -- procref restart web

# --- mistakes in the file ---------------------------------------------------------------

cp procref.toml web.toml
cat >procref.toml <<'END'
[services.a]
strat = "./server"
start = "cd / && ./server"
[services.b]
start = "./server"
linger = 5
depends-on = ["c"]
END
refused 2 'procref.toml:2:1: service `a`: unknown key `strat`; did you mean `start`?' \
    'procref.toml:3:9: service `a`: `start`: no shell reads the command' \
    'procref.toml:6:10: service `b`: `linger`' 'such as "5s"' \
    'procref.toml:7:15: service `b`: unknown service `c` in `depends-on`; available: `a` and `b`' \
    '4 errors in the configuration; no service was started' -- procref check
refused 125 '4 errors in the configuration; no service was started' -- procref run b -- true
printf '[services.a]\nstart = "x"\ndepends-on = "b"\n[services.b]\nstart = "x"\ndepends-on = "a"\n' >procref.toml
refused 2 'cycle' -- procref check
printf '[services.a]\nstart = "x"\nenv = { A = "${NO_SUCH_VARIABLE}" }\n' >procref.toml
refused 125 'the variable `NO_SUCH_VARIABLE` is not set (set it, or write a default' -- procref run a -- true
printf '[services.a\n' >procref.toml
refused 2 'procref.toml:1:12: invalid TOML' -- procref check

cat >procref.toml <<'END'
[services.fails]
start = ["sh", "-c", "echo no such table; exit 3"]
ready = "started"
[services.late]
start = ["sleep", "600"]
port = "auto"
start-timeout = "200ms"
[services.filled]
start = "./server"
port = "auto"
data = "data"
init = "true"
[services.init]
start = "./server"
port = "auto"
data = "new"
init = "sh -c 'echo no space; exit 2'"
[services.daemon]
start = "sh -c 'sleep 0.01 & exit 0'"
port = "auto"
[services.root]
start = ["sh", "-c", "echo initdb: error: cannot be run as root; exit 1"]
ready = "started"
[services.one]
start = "./server"
port = "auto"
export = { URL = "{port}" }
[services.two]
start = "./server"
port = "auto"
export = { URL = "{port}" }
[services.first]
start = "./server"
port = "auto"
data = "shared"
[services.second]
start = "./server"
port = "auto"
data = "shared"
start-timeout = "300ms"
[services.user]
start = "./server"
port = "auto"
user = "no-such-user"
[services.itself]
start = "procref run itself -- true"
ready = "started"
END
mkdir data
touch data/mine
refused 125 'service `fails`: `sh` exited with status 3' 'no such table' -- procref run fails -- true
[[ $(procref logs fails) == 'no such table' ]] || fail 'the log of the failed start is not shown'
refused 125 'service `late`' 'not ready within 200ms' -- procref run late -- true
refused 5 'service `late`' 'not ready within 200ms' -- procref pin late
refused 125 'service `filled`' 'it has entries that `init` did not create' '`touch ' -- procref run filled -- true
refused 125 'service `init`: `init` failed with exit status: 2' 'no space' -- procref run init -- true
refused 125 'service `daemon`' 'exited with status 0' 'foreground' -- procref run daemon -- true
refused 125 '`URL`' '`one`' '`two`' -- procref run one two -- true
refused 125 'service `one`' 'fingerprint "1"' 'needs "2"' -- \
    procref run one --fingerprint 1 -- procref run one --fingerprint 2 -- true
refused 125 'service `second`: not ready within 300ms while waiting for process' 'which uses the data directory' \
    'or set another `data` for this service' -- procref run first -- procref run second -- true
refused 125 'service `itself`' -- procref run itself -- true
if ((EUID == 0)); then
    refused 125 'this server refuses to run as root: add `user = "postgres"`' -- procref run root -- true
    refused 125 'could not run it as user `no-such-user` (`user`): there is no such user' -- procref run user -- true
fi
refused 125 'service `taken`: could not bind 127.0.0.1:' 'stop the process that listens there' -- \
    procref run one -c 'procref run taken --start ./server --port "$PROCREF_PORT" -- true'
chmod o+w procref.toml
refused 125 'all users can write to it' 'run `chmod o-w ' -- procref run one -- true
chmod o-w procref.toml

procref --quiet stop --all
procref gc --all >/dev/null 2>&1
printf '%d errors, each with its text and exit code, after %d s\n' "$errors" "$SECONDS"
