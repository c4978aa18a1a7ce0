#!/usr/bin/env python3
"""Checks what a start of the command line costs, in instructions and system calls.

Both are the same on a slow, a busy and a fast machine. The limits are for the build of the tests, which is not
optimized, and are a fifth or more above the counts of 2026-11. The script needs valgrind and strace.

    scripts/start-cost.py [PROGRAM]    the default is target/debug/procref
"""

import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Before clap got the arguments of one command only, this was 7,450,000, and `run` took 7,300,000 and 466 calls.
VERSION_INSTRUCTIONS = 2_000_000
# From the start, with a service that is running, until the client cannot be executed.
RUN_INSTRUCTIONS = 6_800_000
# The same, until the client is executed.
RUN_CALLS = 310
# A check of the namespaces of this process reads this file once. They are checked for the runtime directory and for the
# service.
RUN_VIEWS = 2
VIEW = '"/proc/self/status"'

CONFIG = """\
[services.db]
start = ["sleep", "600"]
ready = "started"
"""


def fail(text):
    sys.exit(f"start-cost.py: {text}")


class Sandbox:
    """A project with a service that is running."""

    def __init__(self, program, scratch):
        self.program = program
        # The number of system calls depends on the depth of the directories.
        self.project = pathlib.Path(scratch)
        (self.project / "procref.toml").write_text(CONFIG)
        kept = {"PATH", "LANG", "LD_LIBRARY_PATH"}
        self.env = {name: value for name, value in os.environ.items() if name in kept}
        self.env["PROCREF_RUNTIME_DIR"] = str(self.project / "run")
        self.env["HOME"] = str(self.project)

    def __enter__(self):
        self.execute([self.program, "pin", "db"])
        return self

    def __exit__(self, *_):
        self.execute([self.program, "unpin", "db"])
        self.execute([self.program, "wait", "db", "--stopped", "--timeout", "30s"])

    def execute(self, command, expected=0):
        done = subprocess.run(
            command, cwd=self.project, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        )
        if done.returncode != expected:
            fail(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def instructions(self, words, expected=0):
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        done = self.execute([*valgrind, self.program, *words], expected)
        found = re.search(r"Collected : (\d+)", done.stderr)
        return int(found[1]) if found else fail(f"callgrind printed no count:\n{done.stderr}")

    def calls(self, words):
        """Returns the system calls up to the last `execve`, which is that of the client."""
        trace = self.project / "trace"
        self.execute(["strace", "-f", "-o", trace, self.program, *words])
        lines = [re.sub(r"^\d+ +", "", line) for line in trace.read_text().splitlines()]
        last = max(at for at, line in enumerate(lines) if line.startswith("execve("))
        # Only a build with debug assertions checks a descriptor before it closes it.
        return [line for line in lines[1:last] if "F_GETFD" not in line]


def main():
    program = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/procref").resolve()
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch, Sandbox(program, scratch) as sandbox:
        calls = sandbox.calls(["run", "db", "--", "/bin/true"])
        counts = [
            ("procref --version", "instructions", sandbox.instructions(["--version"]), VERSION_INSTRUCTIONS),
            (
                "procref run, with the service running",
                "instructions",
                sandbox.instructions(["run", "db", "--", "/nonexistent/client"], expected=127),
                RUN_INSTRUCTIONS,
            ),
            ("procref run, with the service running", "system calls", len(calls), RUN_CALLS),
            (
                "procref run, with the service running",
                "reads of the namespaces",
                sum(VIEW in line for line in calls),
                RUN_VIEWS,
            ),
        ]
    for command, unit, count, limit in counts:
        print(f"{command}: {count:,} {unit} (limit {limit:,})")
    if any(count > limit for _, _, count, limit in counts):
        names = collections.Counter(line.split("(", 1)[0] for line in calls)
        print("system calls of procref run:", ", ".join(f"{name} {count}" for name, count in names.most_common()))
        fail("a start costs more than its limit (callgrind_annotate shows the functions)")


if __name__ == "__main__":
    main()
