"""One start and one orderly end, however a session of pytest runs and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import is_alive, wait_until

from plugin.conftest import TESTS, Project


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-p", "no:xdist"),
        ("-n", "4"),
        ("-n", "3", "--dist", "loadfile"),
        ("-n", "3", "--dist", "loadscope"),
        ("-n", "3", "--dist", "worksteal"),
        ("-n", "2", "--dist", "each", "--tx", "2*popen"),
        ("-n", "2", "--maxfail", "1"),
    ],
    ids=" ".join,
)
def test_session_starts_the_service_once(project: Project, arguments: tuple[str, ...]) -> None:
    before = project.written()
    code, output = project.pytest("-q", *arguments)
    assert code == 0, output
    project.check_one_run()
    assert project.written() == before


def test_session_that_runs_no_test_starts_nothing(project: Project) -> None:
    project.write("test_marked.py", "import pytest\n@pytest.mark.procref('server')\ndef test_marked(): pass\n")
    ways = ["--collect-only"], ["--collect-only", "-n", "2"], ["--setup-plan"], ["--fixtures"], ["--help"], ["--markers"]
    for arguments in ways:
        code, output = project.pytest(*arguments)
        assert code == 0, output
    assert project.events() == []


def test_session_without_users_needs_nothing(project: Project) -> None:
    """Neither a broken file, nor a missing one, fails a run in which no test uses a service."""
    project.write("conftest.py", "")
    project.write("test_server.py", "def test_plain(): pass\n")
    for text in ("[services.server\n", "[services.server]\nstrat = 1\n", "services = 3\n", "\0"):
        project.write("procref.toml", text)
        for arguments in (["-q"], ["-q", "-n", "2"], ["-v"]):
            code, output = project.pytest(*arguments)
            assert code == 0, output
    (project.root / "procref.toml").unlink()
    code, output = project.pytest()
    assert code == 0 and "procref:" not in output, output


def test_session_imports_the_extension_only_for_a_service(project: Project) -> None:
    project.write("conftest.py", "")
    project.write("test_server.py", "import sys\ndef test_plain(): assert 'procref._native' not in sys.modules\n")
    code, output = project.pytest("-v")
    assert code == 0, output


def test_session_that_fails_at_the_first_test_stops_the_service(project: Project) -> None:
    project.write("test_server.py", TESTS.format(count=8, pause=0.1).replace("assert int", "assert not int"))
    code, output = project.pytest("-q", "-x", "-n", "3")
    assert code in (1, 2), output
    project.check_one_run()


def start_long_session(project: Project, *arguments: str) -> subprocess.Popen[str]:
    project.write("test_server.py", TESTS.format(count=300, pause=0.1))
    child = project.begin("-q", "-n", "3", *arguments)
    service = project.described()
    wait_until(lambda: service.status().clients == 3, "three workers use the server", 60)
    return child


def workers(child: subprocess.Popen[str]) -> list[int]:
    text = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda it: it.name)
@pytest.mark.parametrize("target", ["group", "controller"])
def test_session_that_is_ended_by_a_signal_stops_the_service(
    project: Project, number: signal.Signals, target: str
) -> None:
    child = start_long_session(project)
    own = workers(child)
    if target == "group":
        project.kill_group(child, number)
    else:
        child.send_signal(number)
    child.communicate(timeout=60)
    wait_until(lambda: not any(map(is_alive, own)), "the workers exit", 60)
    ended = time.monotonic()
    wait_until(lambda: project.count("stopped") == 1, "the stop")
    assert time.monotonic() - ended < 5
    project.check_one_run()


def test_session_whose_worker_kills_itself_keeps_the_service(project: Project) -> None:
    project.write("test_crash.py", "import os\ndef test_crash(server): os.kill(os.getpid(), 9)\n")
    code, output = project.pytest("-q", "-n", "2")
    assert code == 1 and "crashed" in output and "8 passed" in output, output
    project.check_one_run()


def test_sessions_at_once_share_the_service(project: Project) -> None:
    go = project.directory / "go"
    project.write(
        "test_server.py",
        "import os, time, pytest\n"
        "@pytest.mark.parametrize('number', range(2))\n"
        "def test_waits(server, number):\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n",
    )
    sessions = [project.begin("-q", "-n", "2") for _ in range(2)]
    service = project.described()
    wait_until(lambda: service.status().clients == 4, "the workers of both sessions use the server", 60)
    go.touch()
    for session in sessions:
        output, _ = session.communicate(timeout=120)
        assert session.returncode == 0, output
    project.check_one_run()


def test_session_from_another_directory_finds_the_service(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for arguments in ([], ["-n", "2"]):
        code, output = project.pytest("-q", *arguments, str(project.root), cwd=other)
        assert code == 0, output
    assert project.count("started") in (1, 2)
    project.check_one_run(project.count("started"))


def test_lingering_bridges_the_gaps_between_forked_tests(project: Project) -> None:
    python = os.environ.get("PROCREF_TEST_FORKED")
    if python is None:
        pytest.skip("PROCREF_TEST_FORKED names no Python with pytest-forked")
    project.write("pytest.ini", "[pytest]\n")
    code, output = project.pytest("-q", "--forked", python=python)
    assert code == 0 and "8 passed" in output, output
    project.check_one_run()
    # Without it, each test starts the server.
    project.write("pytest.ini", "[pytest]\nprocref_linger = 0s\n")
    code, output = project.pytest("-q", "--forked", python=python)
    assert code == 0, output
    project.check_one_run(starts=9)
