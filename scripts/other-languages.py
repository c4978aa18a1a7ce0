#!/usr/bin/env python3
"""Runs each example of docs/cli/other-languages.md twice at the same time, kills one of the two, and watches from outside.

The examples write to Redis. The script holds Redis first and pauses its writes, so that both runs of an example wait in
their tests. Then the script releases Redis, kills the processes of one run, and lets the other one continue. Redis's own
log must show one start and one orderly end, and nothing may be left.

    scripts/other-languages.py [HEADING...]     such as Go or Java
"""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/cli/other-languages.md"
PROCREF = ROOT / "target/debug/procref"
TIMEOUT = 120

specification = importlib.util.spec_from_file_location("docs_commands", ROOT / "scripts/docs-commands.py")
docs = importlib.util.module_from_spec(specification)
specification.loader.exec_module(docs)


def wait_until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not (result := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"not within {TIMEOUT} s: {what}")
        time.sleep(0.02)
    return result


def headings_of(page):
    """The line number of each heading, with its text."""
    lines = enumerate(page.read_text().splitlines(), 1)
    return [(number, line.removeprefix("## ")) for number, line in lines if line.startswith("## ")]


def examples():
    """The command of each example, by its heading, and all files of the page."""
    headings, commands, files = headings_of(PAGE), {}, {}
    for block in docs.blocks_of(PAGE):
        heading = [text for number, text in headings if number < block.line][-1:]
        if block.kind.startswith("file="):
            files[block.kind.removeprefix("file=")] = block.text
        elif block.kind == "run":
            commands[heading[0]] = block.text
    return commands, files


class Example:
    def __init__(self, sandbox, files):
        self.sandbox = sandbox
        for name, text in files.items():
            if name == "procref.toml":
                # The log that the test reads. It has all runs of Redis.
                text = text.replace("[services.redis]", '[services.redis]\nlog = "redis.log"')
            file = sandbox.work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def start(self, command):
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.sandbox.work,
            env=self.sandbox.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A separate process group, so that the script finds all processes of a run.
            start_new_session=True,
        )

    def status(self):
        done = subprocess.run(
            [PROCREF, "status", "redis", "--json"],
            cwd=self.sandbox.work,
            env=self.sandbox.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return json.loads(done.stdout)

    def clients(self):
        return self.status()["clients"]

    def has_joined(self, run, number):
        if os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            sys.exit(f"the run has exited before it was killed:\n{run.stdout.read()}")
        return self.clients() >= number

    def kill(self, run):
        """Kills the processes of a run, except `procref hold`, which must notice that by itself."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                group = int((path / "stat").read_text().rpartition(")")[2].split()[2])
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # The process has exited.
            if group == run.pid and words[:2] != [b"procref", b"hold"]:
                os.kill(int(path.name), signal.SIGKILL)

    def redis_cli(self, port, *words):
        subprocess.run(["redis-cli", "-p", str(port), *words], check=True, stdout=subprocess.DEVNULL)

    def run(self, command):
        holder = subprocess.Popen(
            [PROCREF, "hold", "redis", "--stdin", "--json"],
            cwd=self.sandbox.work,
            env=self.sandbox.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        runs = []
        try:
            port = json.loads(holder.stdout.readline())["port"]
            self.redis_cli(port, "client", "pause", str(TIMEOUT * 1000), "write")
            for number in (2, 3):
                runs.append(self.start(command))
                wait_until(lambda: self.has_joined(runs[-1], number), f"client {number}")
            holder.communicate(timeout=TIMEOUT)
            wait_until(lambda: self.clients() == 2, "two clients")

            self.kill(runs[0])
            wait_until(lambda: self.clients() == 1, "one client after the kill")
            self.redis_cli(port, "client", "unpause")
            printed, _ = runs[1].communicate(timeout=TIMEOUT)
            if runs[1].returncode != 0:
                sys.exit(f"the second run failed with {runs[1].returncode}:\n{printed}")
        finally:
            if holder.returncode is None:
                holder.kill()
                holder.wait()
            for run in runs:
                # Until it is waited for, the number of the group belongs to the run.
                if run.returncode is None:
                    os.killpg(run.pid, signal.SIGKILL)
                    run.wait()
        self.check()

    def check(self):
        log = self.sandbox.work / "redis.log"
        wait_until(lambda: self.status()["state"] == "absent", "the end of Redis")
        text = log.read_text()
        starts, ends = text.count("Ready to accept connections"), text.count("Redis is now ready to exit, bye bye")
        if (starts, ends) != (1, 1):
            sys.exit(f"{starts} starts and {ends} orderly ends, not one of each:\n{text}")
        self.sandbox.check_nothing_left()


def main():
    commands, files = examples()
    wanted = sys.argv[1:] or list(commands)
    for heading in wanted:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="procref-languages-") as dir:
            sandbox = docs.Sandbox(pathlib.Path(dir))
            try:
                Example(sandbox, files).run(commands[heading])
            except BaseException:
                sandbox.stop_services()
                raise
        print(f"{heading}: one start, one orderly end, nothing left; {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
