"""Real sessions of pytest in real projects, judged from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import World, is_alive, semaphore_sets, wait_until

import procref

PROCREF_TOML = """
[services.server]
start = {start}
ready = "log:ready to accept"
export = {{ SERVER_URL = "server://127.0.0.1:{{port}}" }}
"""

CONFTEST = """
import procref.pytest

server = procref.pytest.service("server")
"""

TESTS = """
import socket
import time

import pytest

@pytest.mark.parametrize("number", range({count}))
def test_asks(server, number):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        assert int(connection.recv(100)) == server.pid
    time.sleep({pause})
"""


class Project(World):
    """A project with tests that use the server."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.root = directory / "project"
        self.root.mkdir()
        self.write("pytest.ini", "[pytest]\nprocref_linger = 500ms\n")
        self.write("procref.toml", PROCREF_TOML.format(start=json.dumps(self.start())))
        self.write("conftest.py", CONFTEST)
        self.write("test_server.py", TESTS.format(count=8, pause=0))
        self.key = int(self.described().kernel_object, 16)

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PROCREF_"))}
        return kept | {"PROCREF_RUNTIME_DIR": str(self.runtime_dir), "PYTHONDONTWRITEBYTECODE": "1"}

    def begin(self, *arguments: str, cwd: Path | None = None, python: str = sys.executable) -> subprocess.Popen[str]:
        """Starts pytest in a process group of its own."""
        # A runner in the background may ignore SIGINT, and children inherit that.
        run = "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code = run + "sys.exit(pytest.main(sys.argv[1:]))"
        child = subprocess.Popen(
            [python, "-c", code, "-p", "no:cacheprovider", *arguments],
            cwd=cwd or self.root,
            env=self.env(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def pytest(self, *arguments: str, cwd: Path | None = None, python: str = sys.executable) -> tuple[int, str]:
        child = self.begin(*arguments, cwd=cwd, python=python)
        output, _ = child.communicate(timeout=120)
        return child.returncode, output

    def described(self) -> procref.Service:
        """The service, as a client that is no test finds it."""
        os.environ["PROCREF_RUNTIME_DIR"] = str(self.runtime_dir)
        try:
            return procref.load(self.root / "procref.toml")["server"]
        finally:
            del os.environ["PROCREF_RUNTIME_DIR"]

    def check_one_run(self, starts: int = 1) -> None:
        """Each start of the server was followed by an orderly end, and nothing is left."""
        wait_until(lambda: self.count("started") == self.count("stopped"), f"the stop: {self.events()}")
        assert self.count("started") == starts
        self.check_nothing_is_left()

    def check_nothing_is_left(self, limit: float = 20) -> None:
        pids = [pid for _, pid in self.events()]
        wait_until(lambda: not any(map(is_alive, pids)), "the server runs", limit)
        wait_until(lambda: self.key not in semaphore_sets(), "the semaphore set is left", limit)

    def written(self) -> set[str]:
        """The files below the project's root."""
        return {str(file.relative_to(self.root)) for file in self.root.rglob("*")}

    def kill_group(self, child: subprocess.Popen[str], number: signal.Signals) -> None:
        # `begin` has made the child the leader of its own group.
        os.killpg(child.pid, number)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    for child in project.children:
        if child.poll() is None:
            project.kill_group(child, signal.SIGKILL)
    project.close()
    project.check_nothing_is_left()
