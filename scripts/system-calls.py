#!/usr/bin/env python3
"""Counts the system calls of the steps that clients make most often, and fails if there are more than before.

usage: scripts/system-calls.py PROCREF-BENCH

The counts do not depend on the load of the machine, unlike times. Needs strace(1).
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time

# The largest number of calls of each step. A kernel without some call may need fewer. If a change adds a call, state the
# reason in docs/benchmarks.md.
EXPECTED = {
    ("callback", "first attach"): 14,
    ("callback", "attach and detach again"): 7,
    ("callback", "death of the last client to the stop signal"): 12,
    ("command", "first attach"): 16,
    ("command", "attach and detach again"): 9,
    ("command", "death of the last client to the stop signal"): 7,
}
AGAIN = 50


class Client:
    """A client of the benchmark, which reads commands from its standard input."""

    def __init__(self, bench, contender, site, trace=None):
        strace = ["strace", "-o", trace] if trace else []
        self.process = subprocess.Popen(
            [*strace, bench, "client", contender, site],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.expect("ready")

    def expect(self, begin):
        line = self.process.stdout.readline()
        if not line.startswith(begin):
            sys.exit(f"a client of the benchmark printed {line!r}")

    def run(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        self.expect("ok")

    def finish(self):
        self.process.stdin.close()
        self.process.wait()


def is_of_procref(call):
    # The benchmark reads its processor time. In a build for debugging, the standard library checks each descriptor that
    # it closes.
    return not (call.startswith("clock_gettime") or "F_GETFD" in call)


def calls_of_commands(trace):
    """Returns the system calls between each command that a client reads and its answer."""
    with open(trace, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    commands, current = [], None
    for line in lines:
        if re.match(r'read\(0, "[a-z]', line):
            current = []
        elif line.startswith('write(1, "ok'):
            commands.append(current)
            current = None
        elif current is not None:
            current.append(line)
    return [[call for call in calls if is_of_procref(call)] for calls in commands]


def supervisor_of(client):
    """Returns the supervisor whose title names the service of this directory."""
    name = "-".join(client.split("/")[:-3:-1])
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                if file.read().strip("\0") == f"procref: {name}":
                    return int(pid)
        except OSError:
            pass
    sys.exit(f"no supervisor of {name}")


def until(event, condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"timed out: {event}")
        time.sleep(0.01)


def is_traced_and_asleep(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = file.read()
    return "TracerPid:\t0\n" not in status and "State:\tS" in status


def crash(bench, contender, site, trace):
    """Returns the system calls of the supervisor from the death of the last client to the stop signal."""
    holder = Client(bench, contender, site)
    holder.run("attach")
    supervisor = supervisor_of(site)
    strace = subprocess.Popen(
        ["strace", "-f", "-o", trace, "-p", str(supervisor)], stderr=subprocess.DEVNULL
    )
    until("the supervisor is traced, and sleeps", lambda: is_traced_and_asleep(supervisor))
    holder.process.send_signal(signal.SIGKILL)
    holder.process.wait()
    strace.wait(timeout=60)
    with open(trace, encoding="utf-8", errors="replace") as file:
        calls = [line.split(maxsplit=1)[1] for line in file.read().splitlines()]
    woken = max(i for i, call in enumerate(calls) if call.startswith("semtimedop") and "tv_sec" in call)
    stopped = next(i for i, call in enumerate(calls) if "SIGTERM" in call and "(" in call)
    return [call for call in calls[woken + 1 : stopped + 1] if is_of_procref(call)]


def main():
    bench = os.path.abspath(sys.argv[1])
    found = {}
    for contender in ("callback", "command"):
        with tempfile.TemporaryDirectory() as scratch:
            site, trace = f"{scratch}/site", f"{scratch}/trace"
            os.mkdir(site)
            holder = Client(bench, contender, site)
            holder.run("attach")
            client = Client(bench, contender, site, trace)
            for command in ("attach", "detach", "repeat 2", f"repeat {AGAIN}"):
                client.run(command)
            client.finish()
            holder.finish()
            first, _, _, again = calls_of_commands(trace)
            found[contender, "first attach"] = first
            # A client checks the size of the log once per second, so a few pairs have more calls than the others.
            found[contender, "attach and detach again"] = again[: len(again) // AGAIN]
            site = f"{scratch}/crash"
            os.mkdir(site)
            calls = crash(bench, contender, site, f"{scratch}/crash-trace")
            found[contender, "death of the last client to the stop signal"] = calls
    failed = False
    for (contender, step), calls in found.items():
        expected = EXPECTED[contender, step]
        print(f"{contender}, {step}: {len(calls)} system calls")
        if len(calls) > expected:
            failed = True
            print(f"  expected {expected} or fewer; the calls are:")
            for call in calls:
                print(f"    {call[:150]}")
    if failed:
        sys.exit("A step makes more system calls than before.")


if __name__ == "__main__":
    main()
