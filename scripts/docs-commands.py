#!/usr/bin/env python3
"""Runs the commands of the pages in docs/cli as they are written there.

A page is executed from top to bottom, in a directory of its own, on a machine's corner of its own: home,
runtime directory, Python environment. Of its code blocks these count, by what stands behind the language:

    ```toml file=procref.toml     is written to that file
    ```sh run                     is run by bash, and has to succeed
    ```sh hold                    is run in a terminal of its own until the page is over, and then gets a
                                  Ctrl-C; it has to succeed, too
    ```text output                is what the block before has printed, line by line; `...` in it stands
                                  for anything

At the end of a page no service may be left, and no file in the runtime directory.

    scripts/docs-commands.py [PAGE...]
"""

import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROCREF = ROOT / "target/debug/procref"

# Longer than anything takes, the installation of Python packages included.
PATIENCE = 300

NEXTEST = subprocess.run(["cargo", "nextest", "--version"], capture_output=True)

FENCE = re.compile(r"^```(\w+) +(file=\S+|run|hold|output)\s*$")


class Block:
    def __init__(self, line, kind, text):
        self.line, self.kind, self.text = line, kind, text


def blocks_of(page):
    """The blocks of a page that count."""
    blocks, current = [], None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if current is not None:
            if line == "```":
                blocks.append(current)
                current = None
            else:
                current.text += line + "\n"
        elif match := FENCE.match(line):
            current = Block(number, match[2], "")
    if current is not None:
        raise Failure(current.line, "the block has no end")
    return blocks


class Failure(Exception):
    def __init__(self, line, what):
        super().__init__(what)
        self.line = line


class Terminal:
    """A pseudo-terminal in which a command runs until it is interrupted."""

    def __init__(self, block, corner):
        self.block = block
        self.said = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # In the background of a script Ctrl-C is ignored, and what is ignored stays ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(corner.work)
            os.execvpe("bash", ["bash", "-euo", "pipefail", "-c", block.text], corner.env)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            try:
                said = os.read(self.fd, 4096)
            except OSError:
                return
            if not said:
                return
            self.said += said

    def wait_for_word(self):
        """Whoever holds a service says so."""
        deadline = time.monotonic() + PATIENCE
        while not self.said.strip():
            if time.monotonic() > deadline or not self.reader.is_alive():
                raise Failure(self.block.line, f"it says nothing: {self.said!r}")
            time.sleep(0.01)

    def interrupt(self):
        os.write(self.fd, b"\x03")
        _, status = os.waitpid(self.pid, 0)
        self.reader.join(PATIENCE)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, 130, -2):
            raise Failure(self.block.line, f"it ended with {code}: {self.said.decode()}")


class Corner:
    """What a page has of the machine."""

    def __init__(self, dir):
        self.work, self.run = dir / "work", dir / "run"
        for made in [self.work, self.run, dir / "home"]:
            made.mkdir(mode=0o700)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROCREF")}
        inherited.pop("XDG_CONFIG_HOME", None)
        home = pathlib.Path.home()
        self.env = inherited | {
            "HOME": str(dir / "home"),
            "XDG_RUNTIME_DIR": str(self.run),
            "PATH": f"{PROCREF.parent}:{os.environ['PATH']}",
            # Rust and its packages are the machine's.
            "CARGO_HOME": os.environ.get("CARGO_HOME", str(home / ".cargo")),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(home / ".rustup")),
            "PYENV_ROOT": os.environ.get("PYENV_ROOT", str(home / ".pyenv")),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(home / ".cache/pip")),
        }
        self.env.pop("CARGO_TARGET_DIR", None)

    def sh(self, block):
        stand_in(block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.work,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode != 0:
            raise Failure(block.line, f"it failed with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def services(self):
        listed = subprocess.run(
            [PROCREF, "ps", "--all", "--json"], cwd=self.work, env=self.env, stdout=subprocess.PIPE, check=True
        )
        return json.loads(listed.stdout)["services"]

    def stop_services(self):
        """A page that has failed leaves nothing, either."""
        for service in self.services():
            where = ["--no-config", "--runtime-dir", service["runtime_dir"]]
            subprocess.run([PROCREF, *where, "stop", "--force", service["name"]], env=self.env)

    def left(self):
        """Files in the runtime directories, and services."""
        files = [
            str(path)
            for path in self.run.rglob("*")
            if not path.is_dir() and path.name != "project"
        ]
        return files + [json.dumps(service) for service in self.services()]

    def check_nothing_left(self):
        deadline = time.monotonic() + 30
        while left := self.left():
            if time.monotonic() > deadline:
                raise Failure(0, "there is something left:\n" + "\n".join(left))
            time.sleep(0.05)


def stand_in(block):
    """What is said loudly: `cargo nextest` is not installed everywhere, and takes long to compile."""
    if "cargo nextest" in block.text and NEXTEST.returncode != 0:
        print("*** cargo-nextest is not installed (https://nexte.st): cargo test stands in for it. ***", file=sys.stderr)
        block.text = block.text.replace("cargo nextest run", "cargo test")


def check_output(block, printed):
    parts = [re.escape(part) for part in block.text.split("...")]
    if not re.fullmatch(".*".join(parts), printed):
        raise Failure(block.line, f"the block before has printed:\n{printed}")


def run(page):
    with tempfile.TemporaryDirectory(prefix="procref-docs-") as dir:
        corner = Corner(pathlib.Path(dir))
        try:
            return play(page, corner)
        except BaseException:
            corner.stop_services()
            raise


def play(page, corner):
    terminals, printed, ran = [], "", 0
    try:
        for block in blocks_of(page):
            if block.kind.startswith("file="):
                file = corner.work / block.kind.removeprefix("file=")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text)
            elif block.kind == "run":
                printed = corner.sh(block)
                ran += 1
            elif block.kind == "hold":
                terminals.append(Terminal(block, corner))
                terminals[-1].wait_for_word()
                ran += 1
            else:
                check_output(block, printed)
    finally:
        for terminal in reversed(terminals):
            terminal.interrupt()
    if ran == 0:
        raise Failure(0, "nothing on it is run: the check is broken")
    corner.check_nothing_left()
    return ran


def main():
    given = [pathlib.Path(page).resolve() for page in sys.argv[1:]]
    pages = given or sorted((ROOT / "docs/cli").glob("*.md"))
    if not PROCREF.exists():
        sys.exit(f"{PROCREF} is not there: run `cargo build --bin procref`")
    for page in pages:
        begun = time.monotonic()
        shown = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
        try:
            ran = run(page)
        except Failure as failure:
            sys.exit(f"{shown}:{failure.line}: {failure}")
        print(f"{shown}: {ran} blocks run as written, {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
