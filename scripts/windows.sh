#!/usr/bin/env bash
# Builds procref for Windows with Debian's packages, and runs its tests under Wine. Exits with 3 if the distribution does
# not have these packages.
#
#     scripts/windows.sh                  all tests
#     scripts/windows.sh check            only builds, with all features and with none
#     scripts/windows.sh lib [FILTER]     the library's own tests whose names contain FILTER
#     scripts/windows.sh guarantees [..]  the tests with several processes
#     scripts/windows.sh storm [OPTIONS]  a storm: --processes, --seconds, --kill-rate, --doomed, --seed, --kind
#     scripts/windows.sh cli [FILTER]     the tests of the command line
#
# All files are in target/windows, including Wine's own directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
out=$root/target/windows
triple=x86_64-pc-windows-gnu

print() {
    printf '%s\n' "$*" >&2
}

# --- programs that the script needs -------------------------------------------

packages=(rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64-win32 wine64)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
    print "installing: ${missing[*]}"
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    for package in "${missing[@]}"; do
        apt-cache show "$package" >/dev/null 2>&1 || { print "there is no package $package here"; exit 3; }
    done
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# Debian's compiler, not rustup's: Debian also packages the source of the standard library for -Zbuild-std, so that the
# script downloads nothing else.
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$out
unset RUSTFLAGS RUSTC_WRAPPER RUSTUP_TOOLCHAIN CARGO
export CARGO_TERM_PROGRESS_WHEN=never
# Wine reads the whole file of each program that it starts, and most of it would be debug information.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=symbols
cargo=/usr/bin/cargo
# Cargo.toml optimizes the library for the model, which does not run here.
build=(-Zbuild-std=std,panic_unwind --target "$triple" --locked --config profile.dev.package.procref.opt-level=0)

# rustc links two objects that Debian does not have. They register frames for unwinding on 32-bit Windows, and are empty
# on 64-bit Windows.
linker=$out/linker
mkdir -p "$out"
cat >"$linker" <<'END'
#!/usr/bin/env bash
arguments=()
for argument; do
    [[ $argument == rsbegin.o || $argument == rsend.o ]] || arguments+=("$argument")
done
exec x86_64-w64-mingw32-gcc "${arguments[@]}"
END
chmod +x "$linker"
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$linker

wine=$(command -v wine64 || true)
[[ -n $wine ]] || wine=/usr/lib/wine/wine64
[[ -x $wine ]] || { print "wine64 is installed, but its program does not exist"; exit 1; }
export WINEPREFIX=$out/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml='
# The tests need no display, and must not open one.
unset DISPLAY WAYLAND_DISPLAY

# Debian's wine64 is linked to 0x7d000000. Its heap begins at a random address in the gigabyte above. In one of some
# thousand processes it covers 0x7ffe0000, where Wine must place a page that Windows has there. Such a process dies before
# it starts, and its creation fails with "Internal error" (1359). So the script disables random addresses.
fixed=(setarch "$(uname -m)" --addr-no-randomize)
if ! "${fixed[@]}" true 2>/dev/null; then
    print 'addresses stay random here: one of some thousand processes fails to start, with OS error 1359'
    fixed=()
fi

# Wine 8 lacks bcryptprimitives.dll, from which Rust's standard library takes random numbers. Wine, like Windows, loads a
# library from the directory of the program. This one is only for Wine and is never shipped.
random_numbers() {
    local dll=$out/bcryptprimitives.dll
    if [[ ! -e $dll ]]; then
        mkdir -p "$out"
        printf '%s\n' \
            '__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *, unsigned long);' \
            '__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *to, unsigned long long length)' \
            '{' \
            '    return SystemFunction036(to, (unsigned long)length);' \
            '}' >"$out/prng.c"
        x86_64-w64-mingw32-gcc -shared -O2 -o "$dll" "$out/prng.c" -ladvapi32
    fi
    mkdir -p "$1"
    cp -u "$dll" "$1/"
}

# Waits until Wine's server exits, which it does after the last program. A program that is killed while it creates a process
# leaves, under Wine, a process that never starts, and the server waits for it. The environment of such a process names this
# script's Wine directory.
finish() {
    local server=${wine%/*}/wineserver environment pid
    [[ -x $server ]] || server=/usr/lib/wine/wineserver64
    timeout 20 "$server" -w 2>/dev/null || "$server" -k 2>/dev/null || true
    for environment in /proc/[0-9]*/environ; do
        pid=${environment//[!0-9]/}
        # This script and the programs that it runs have the same environment.
        [[ $(readlink "/proc/$pid/exe" || true) == *wine* ]] || continue
        if grep -qzxF "WINEPREFIX=$WINEPREFIX" "$environment" 2>/dev/null; then
            print "killing a process that never started, or never exited: $pid, $(tr '\0' ' ' <"/proc/$pid/cmdline")"
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
}

prefix() {
    if [[ ! -e $WINEPREFIX/system.reg ]]; then
        print 'creating the directory for Wine'
        mkdir -p "$WINEPREFIX"
        timeout 300 "${fixed[@]}" "$wine" wineboot --init >/dev/null 2>&1 || { print 'wineboot failed'; exit 1; }
    fi
    # With this setting, programs can create windows without a display. Wine's server writes the registry when it exits,
    # and reads it when it starts.
    if ! grep -qs '^"Graphics"="null"' "$WINEPREFIX/user.reg"; then
        timeout 60 "${fixed[@]}" "$wine" reg add 'HKCU\Software\Wine\Drivers' /v Graphics /d null /f >/dev/null ||
            { print 'could not write to the registry'; exit 1; }
        finish
    fi
}

# The tests with several processes: all test files of the testkit and the storm that are not only for Linux.
guarantees=()
for path in crates/procref-{testkit,storm}/tests/*.rs crates/procref-testkit/tests/*/main.rs; do
    name=${path#crates/procref-*/tests/}
    name=${name%/main.rs}
    grep -q '^#!\[cfg(target_os = "linux")\]' "$path" || guarantees+=(--test "${name%.rs}")
done

# Builds all test programs with one command, because most of the time goes to the standard library and the dependencies, and
# runs them: `run_tests COUNT CARGO_ARGUMENT… -- TEST_ARGUMENT…`.
run_tests() {
    local arguments=() programs=() expected=$1
    shift
    while [[ $1 != -- ]]; do
        arguments+=("$1")
        shift
    done
    shift
    random_numbers "$out/$triple/debug/deps"
    random_numbers "$out/$triple/debug"
    mapfile -t programs < <("$cargo" test "${build[@]}" --no-run --message-format=json "${arguments[@]}" |
        sed -n 's/.*"executable":"\([^"]*\/deps\/[^"]*\.exe\)".*/\1/p')
    ((${#programs[@]} == expected)) ||
        { print "expected $expected test programs, not ${#programs[@]}"; exit 1; }
    prefix
    for program in "${programs[@]}"; do run "$program" "$@"; done
    finish
}

run() {
    local program=$1
    shift
    print "running ${program##*/}"
    timeout 900 "${fixed[@]}" "$wine" "$program" "$@"
}

what=${1:-all}
(($#)) && shift
case $what in
check)
    "$cargo" build "${build[@]}" -p procref --all-features
    "$cargo" build "${build[@]}" -p procref --no-default-features
    ;;
lib)
    run_tests 1 -p procref --lib --features crash-points -- "$@"
    ;;
guarantees)
    run_tests $((1 + ${#guarantees[@]} / 2)) -p procref-testkit -p procref-storm --lib "${guarantees[@]}" -- \
        --test-threads 2 "$@"
    ;;
storm)
    random_numbers "$out/$triple/debug"
    "$cargo" build "${build[@]}" -p procref-testkit -p procref-storm --bins
    prefix
    run "$out/$triple/debug/storm.exe" "$@"
    finish
    ;;
cli)
    run_tests 3 -p procref-config -p procref-cli --lib --test windows -- --test-threads 2 "$@"
    ;;
all)
    run_tests $((5 + ${#guarantees[@]} / 2)) -p procref -p procref-config -p procref-cli -p procref-testkit -p procref-storm \
        --lib --test windows "${guarantees[@]}" -- --test-threads 2
    ;;
*)
    print "usage: scripts/windows.sh [check | lib [FILTER] | guarantees [FILTER] | storm [OPTIONS] | cli [FILTER]]"
    exit 2
    ;;
esac
