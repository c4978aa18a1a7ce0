#!/usr/bin/env bash
# Builds procref for Windows and runs its tests under Wine: on Debian, with nothing but its own packages.
# Where a distribution has not got them it says so, and ends with 3.
#
#     scripts/windows.sh                  all tests
#     scripts/windows.sh check            only builds, with all features and with none
#     scripts/windows.sh lib [FILTER]     the library's own tests, those whose names contain FILTER
#     scripts/windows.sh guarantees [..]  the tests with several processes
#     scripts/windows.sh storm [OPTIONS]  a storm: --processes, --seconds, --kill-rate, --doomed, --seed, --kind
#     scripts/windows.sh cli [FILTER]     the command line's
#
# What it makes is in target/windows, Wine's own directory included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
out=$root/target/windows
triple=x86_64-pc-windows-gnu

say() {
    printf '%s\n' "$*" >&2
}

# --- what is needed -----------------------------------------------------------

packages=(rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64-win32 wine64)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
    say "installing: ${missing[*]}"
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    for package in "${missing[@]}"; do
        apt-cache show "$package" >/dev/null 2>&1 || { say "there is no package $package here"; exit 3; }
    done
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# Debian's compiler, and not rustup's: it has the source of the standard library for -Zbuild-std beside it,
# so that nothing else is downloaded.
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$out
unset RUSTFLAGS RUSTC_WRAPPER RUSTUP_TOOLCHAIN CARGO
export CARGO_TERM_PROGRESS_WHEN=never
# Wine reads a program whole each time one begins, and most of it would be for debuggers.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=symbols
cargo=/usr/bin/cargo
build=(-Zbuild-std=std,panic_unwind --target "$triple" --locked)

# rustc wants two objects linked that Debian does not have. They register frames for unwinding on 32-bit Windows,
# and are empty on this one.
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
[[ -x $wine ]] || { say "wine64 was installed, and is not to be found"; exit 1; }
export WINEPREFIX=$out/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml='
# No display is needed, and none is to be opened.
unset DISPLAY WAYLAND_DISPLAY

# Debian's wine64 is linked to 0x7d000000. Its heap begins at random in the gigabyte above that, and in one process of some
# thousands it lies on 0x7ffe0000, where Wine has to put what Windows has there. That process dies before it has
# begun, and whoever wanted to create it is told "Internal error" (1359). So nothing is put at random.
fixed=(setarch "$(uname -m)" --addr-no-randomize)
if ! "${fixed[@]}" true 2>/dev/null; then
    say 'addresses are random here: a process in some thousands fails to start, with OS error 1359'
    fixed=()
fi

# Wine 8 lacks bcryptprimitives.dll, from which Rust's standard library has its random numbers. Beside the
# programs, Windows would look for it there, too; this one is for Wine alone, and never shipped.
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

# Wine's server ends by itself when the last program has; this waits for that, so that nothing is left. But whoever is
# killed while creating a process leaves, under Wine, one that has not begun and never will, which its server waits for.
# Such a one is told by its environment to be of this directory.
finish() {
    local server=${wine%/*}/wineserver environment pid
    [[ -x $server ]] || server=/usr/lib/wine/wineserver64
    timeout 20 "$server" -w 2>/dev/null || "$server" -k 2>/dev/null || true
    for environment in /proc/[0-9]*/environ; do
        pid=${environment//[!0-9]/}
        # This script has that environment as well, and so have the programs that it runs.
        [[ $(readlink "/proc/$pid/exe" || true) == *wine* ]] || continue
        if grep -qzxF "WINEPREFIX=$WINEPREFIX" "$environment" 2>/dev/null; then
            say "ending what has never begun, or never ended: $pid, $(tr '\0' ' ' <"/proc/$pid/cmdline")"
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
}

prefix() {
    if [[ ! -e $WINEPREFIX/system.reg ]]; then
        say 'making a directory for Wine'
        mkdir -p "$WINEPREFIX"
        timeout 300 "${fixed[@]}" "$wine" wineboot --init >/dev/null 2>&1 || { say 'wineboot failed'; exit 1; }
    fi
    # Windows can be made without a display if nothing is to draw them. Wine's server writes this down when it
    # ends, and reads it when it begins.
    if ! grep -qs '^"Graphics"="null"' "$WINEPREFIX/user.reg"; then
        timeout 60 "${fixed[@]}" "$wine" reg add 'HKCU\Software\Wine\Drivers' /v Graphics /d null /f >/dev/null ||
            { say 'could not write to the registry'; exit 1; }
        finish
    fi
}

# The tests with several processes: those of the testkit that do not begin by saying that they are for Linux.
guarantees=()
for path in crates/procref-{testkit,storm}/tests/*.rs crates/procref-testkit/tests/*/main.rs; do
    name=${path#crates/procref-*/tests/}
    name=${name%/main.rs}
    grep -q '^#!\[cfg(target_os = "linux")\]' "$path" || guarantees+=(--test "${name%.rs}")
done

# Builds test programs in one go, because what it takes is mostly the standard library and dependencies, and runs
# them. Before -- are cargo's arguments, after it those of each program.
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
        { say "$expected test programs were expected, and not ${#programs[@]}"; exit 1; }
    prefix
    for program in "${programs[@]}"; do run "$program" "$@"; done
    finish
}

run() {
    local program=$1
    shift
    say "running ${program##*/}"
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
    run_tests 2 -p procref-cli --lib --test windows -- --test-threads 2 "$@"
    ;;
all)
    run_tests $((4 + ${#guarantees[@]} / 2)) -p procref -p procref-cli -p procref-testkit -p procref-storm \
        --lib --test windows "${guarantees[@]}" -- --test-threads 2
    ;;
*)
    say "usage: scripts/windows.sh [check | lib [FILTER] | guarantees [FILTER] | storm [OPTIONS] | cli [FILTER]]"
    exit 2
    ;;
esac
