#!/usr/bin/env python3
"""Runs the commands of README.md, of docs/python.md and of the pages in docs/cli as they are written there.

The script executes each page from top to bottom, with a separate working directory, home, runtime directory and Python
environment. It uses the code blocks that have one of these words after the language:

    ```toml file=procref.toml     the script writes the block to that file
    <!-- file=src/main.rs -->     the same for the next block, if rustdoc compiles it, too: rustdoc refuses other words
    ```sh run                     bash runs the block, which must succeed
    ```sh hold                    bash runs the block in a separate terminal until the end of the page, and then gets a
                                  Ctrl-C; the block must succeed, too
    ```text output                the previous block must have printed this; `...` matches any text

At the end of a page, no service and no file in the runtime directory may be left, except the logs of the last runs.

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

# Longer than any block takes, the installation of Python packages included.
TIMEOUT = 300

NEXTEST = subprocess.run(["cargo", "nextest", "--version"], capture_output=True)

FENCE = re.compile(r"^```(\w+) +(file=\S+|run|hold|output)\s*$")
COMMENT = re.compile(r"^<!-- (file=\S+) -->$")


class Block:
    def __init__(self, line, kind, text):
        self.line, self.kind, self.text = line, kind, text


def blocks_of(page):
    """The blocks of a page that the script uses."""
    blocks, current, file = [], None, None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if current is not None:
            if line == "```":
                blocks.append(current)
                current = None
            else:
                current.text += line + "\n"
        elif match := FENCE.match(line):
            current = Block(number, match[2], "")
        elif file is not None and line.startswith("```"):
            current = Block(number, file, "")
        file = None
        if match := COMMENT.match(line):
            file = match[1]
    if current is not None:
        raise Failure(current.line, "the block is not closed")
    return blocks


class Failure(Exception):
    def __init__(self, line, reason):
        super().__init__(reason)
        self.line = line


class Terminal:
    """A pseudo-terminal in which a command runs until it is interrupted."""

    def __init__(self, block, sandbox):
        self.block = block
        self.output = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # A script in the background ignores Ctrl-C, and its children inherit that.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(sandbox.work)
            os.execvpe("bash", ["bash", "-euo", "pipefail", "-c", block.text], sandbox.env)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                return
            if not data:
                return
            self.output += data

    def wait_for_output(self):
        """Waits for the first output, which `hold` prints when it holds the service."""
        deadline = time.monotonic() + TIMEOUT
        while not self.output.strip():
            if time.monotonic() > deadline or not self.reader.is_alive():
                raise Failure(self.block.line, f"the command printed nothing: {self.output!r}")
            time.sleep(0.01)

    def interrupt(self):
        os.write(self.fd, b"\x03")
        _, status = os.waitpid(self.pid, 0)
        self.reader.join(TIMEOUT)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, 130, -2):
            raise Failure(self.block.line, f"the command exited with {code}: {self.output.decode()}")


class Sandbox:
    """The directories and the environment of a page."""

    def __init__(self, dir):
        self.work, self.run = dir / "work", dir / "run"
        for made in [self.run, dir / "home", dir / ".cargo"]:
            made.mkdir(mode=0o700)
        # As root, a page's server runs as another user, which must reach its data.
        dir.chmod(0o711)
        self.work.mkdir(mode=0o711)
        # README.md says that the project is beside the checkout.
        (dir / "procref").symlink_to(ROOT)
        # A project with the same dependencies as this one needs no second build of them.
        (dir / ".cargo/config.toml").write_text(f"[build]\ntarget-dir = '{ROOT}/target'\n")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROCREF")}
        inherited.pop("XDG_CONFIG_HOME", None)
        home = pathlib.Path.home()
        self.env = inherited | {
            "HOME": str(dir / "home"),
            "XDG_RUNTIME_DIR": str(self.run),
            "PATH": f"{PROCREF.parent}:{os.environ['PATH']}",
            # Rust and its packages are shared with the machine. A new version of a package is not downloaded.
            "CARGO_NET_OFFLINE": "true",
            "CARGO_HOME": os.environ.get("CARGO_HOME", str(home / ".cargo")),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(home / ".rustup")),
            "PYENV_ROOT": os.environ.get("PYENV_ROOT", str(home / ".pyenv")),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # The Python package is built from what is compiled already, and not with optimizations.
            "MATURIN_PEP517_ARGS": f"--profile dev --target-dir {ROOT}/target",
            "PROCREF_BUILT_BINARY": str(PROCREF),
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(home / ".cache/pip")),
            "npm_config_cache": os.environ.get("npm_config_cache", str(home / ".npm")),
            "npm_config_prefer_offline": "true",
            "npm_config_update_notifier": "false",
        }
        self.env.pop("CARGO_TARGET_DIR", None)

    def sh(self, block):
        replace_nextest(block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.work,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode != 0:
            raise Failure(block.line, f"the block failed with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def services(self):
        """The services that run or that a client holds."""
        listed = subprocess.run(
            [PROCREF, "ps", "--all", "--json"], cwd=self.work, env=self.env, stdout=subprocess.PIPE, check=True
        )
        services = json.loads(listed.stdout)["services"]
        return [service for service in services if service["state"] != "absent" or service["clients"]]

    def stop_services(self):
        """Cleans up after a page that has failed."""
        for service in self.services():
            where = ["--no-config", "--runtime-dir", service["runtime_dir"]]
            subprocess.run([PROCREF, *where, "stop", "--force", service["name"]], env=self.env)

    def leftovers(self):
        """The files in the runtime directories, except the logs of the last runs, and the services."""
        files = [
            str(path)
            for path in self.run.rglob("*")
            if not path.is_dir() and path.name != "project" and ".kept.log" not in path.name
        ]
        return files + [json.dumps(service) for service in self.services()]

    def check_nothing_left(self):
        deadline = time.monotonic() + 30
        while left := self.leftovers():
            if time.monotonic() > deadline:
                raise Failure(0, "leftovers:\n" + "\n".join(left))
            time.sleep(0.05)


def replace_nextest(block):
    """Replaces `cargo nextest` if it is not installed, with a message, because compiling it takes minutes."""
    if "cargo nextest" in block.text and NEXTEST.returncode != 0:
        print("*** cargo-nextest is not installed (https://nexte.st): cargo test replaces it. ***", file=sys.stderr)
        block.text = block.text.replace("cargo nextest run", "cargo test")


def check_output(block, printed):
    parts = [re.escape(part) for part in block.text.split("...")]
    if not re.fullmatch(".*".join(parts), printed):
        raise Failure(block.line, f"the previous block printed:\n{printed}")


def run(page):
    with tempfile.TemporaryDirectory(prefix="procref-docs-") as dir:
        sandbox = Sandbox(pathlib.Path(dir))
        try:
            return execute(page, sandbox)
        except BaseException:
            sandbox.stop_services()
            raise


def execute(page, sandbox):
    terminals, printed, ran = [], "", 0
    try:
        for block in blocks_of(page):
            if block.kind.startswith("file="):
                file = sandbox.work / block.kind.removeprefix("file=")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text)
            elif block.kind == "run":
                printed = sandbox.sh(block)
                ran += 1
            elif block.kind == "hold":
                terminals.append(Terminal(block, sandbox))
                terminals[-1].wait_for_output()
                ran += 1
            else:
                check_output(block, printed)
    finally:
        for terminal in reversed(terminals):
            terminal.interrupt()
    if ran == 0:
        raise Failure(0, "the page has no block to run: the check is broken")
    sandbox.check_nothing_left()
    return ran


def main():
    arguments = [pathlib.Path(page).resolve() for page in sys.argv[1:]]
    pages = arguments or [ROOT / "README.md", ROOT / "docs/python.md", *sorted((ROOT / "docs/cli").glob("*.md"))]
    if not PROCREF.exists():
        sys.exit(f"{PROCREF} does not exist: run `cargo build --bin procref`")
    for page in pages:
        begun = time.monotonic()
        shown = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
        try:
            ran = run(page)
        except Failure as failure:
            sys.exit(f"{shown}:{failure.line}: {failure}")
        print(f"{shown}: {ran} blocks executed, {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
