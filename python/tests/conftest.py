"""Services for the tests, and the checks that nothing of them is left.

The tests judge from outside: by the service's own log, by /proc, and by the kernel's table of semaphore sets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procref

# Only type checkers read it.
collect_ignore = ["test_types.py"]

SERVER = Path(__file__).with_name("server.py")


def wait_until(condition: Callable[[], object], what: str, limit: float = 20) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Returns True if a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def semaphore_sets() -> set[int]:
    """Returns the keys of all semaphore sets."""
    lines = Path("/proc/sysvipc/sem").read_text().splitlines()[1:]
    return {int(line.split()[0]) & 0xFFFFFFFF for line in lines}


class World:
    """A runtime directory with one service, whose log tells what has happened to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime_dir = directory / "runtime"
        self.log = directory / "events"
        self.children: list[subprocess.Popen[str]] = []

    def start(self, delay: float = 0) -> list[str]:
        return [sys.executable, "-S", str(SERVER), "{port}", str(self.log), str(delay)]

    def service(self, name: str = "server", delay: float = 0, **settings: Any) -> procref.Service:
        settings.setdefault("ready", "log:ready to accept")
        settings.setdefault("runtime_dir", self.runtime_dir)
        return procref.Service(name, self.start(delay), **settings)

    def events(self) -> list[tuple[str, int]]:
        try:
            lines = self.log.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(event, int(pid)) for event, pid in (line.split() for line in lines)]

    def count(self, event: str) -> int:
        return sum(event == it for it, _ in self.events())

    def python(self, code: str, *options: str, **settings: Any) -> subprocess.Popen[str]:
        """Runs a program that has `world` already, as a client of the same service."""
        head = (
            "import signal, sys\n"
            # A runner in the background may ignore the signal.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"sys.path.insert(0, {str(SERVER.parent)!r})\n"
            "from pathlib import Path\n"
            "import procref\n"
            "from conftest import World\n"
            f"world = World(Path({str(self.directory)!r}))\n"
        )
        settings.setdefault("stdout", subprocess.PIPE)
        settings.setdefault("stderr", subprocess.PIPE)
        command = [sys.executable, *options, "-c", head + code]
        child = subprocess.Popen(command, text=True, **settings)
        self.children.append(child)
        return child

    def run(self, code: str, *options: str) -> subprocess.CompletedProcess[str]:
        child = self.python(code, *options)
        output, errors = child.communicate(timeout=60)
        return subprocess.CompletedProcess(child.args, child.returncode, output, errors)

    def check_nothing_is_left(self, limit: float = 20) -> None:
        service = self.service()
        key = int(service.kernel_object, 16)
        pids = [pid for event, pid in self.events() if event == "started"]
        wait_until(lambda: not any(map(is_alive, pids)), f"a server of {pids} runs", limit)
        wait_until(lambda: key not in semaphore_sets(), "the semaphore set is left", limit)

        def files() -> list[str]:
            found = self.runtime_dir.glob("*") if self.runtime_dir.exists() else ()
            return [file.name for file in found if file.name != "projects"]

        wait_until(lambda: not files(), f"files are left: {files()}", limit)

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()
    world.check_nothing_is_left()


@pytest.fixture(autouse=True)
def _no_outer_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PROCREF_") and not name.startswith("PROCREF_TEST_"):
            monkeypatch.delenv(name)
