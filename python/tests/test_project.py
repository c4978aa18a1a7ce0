"""Services that a procref.toml describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import procref
import pytest
from conftest import World, is_alive, wait_until


@pytest.fixture
def file(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PROCREF_RUNTIME_DIR", str(world.runtime_dir))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(world.directory))
    start = json.dumps(world.start())
    file = world.directory / "procref.toml"
    file.write_text(
        f"[services.server]\nstart = {start}\nready = 'log:ready to accept'\nexport = {{ URL = 'x://{{port}}' }}\n"
        "[services.web]\nstart = 'sleep 60'\nready = 'started'\ndepends-on = ['server']\n"
    )
    yield file
    pids = [pid for _, pid in world.events()]
    wait_until(lambda: not any(map(is_alive, pids)), "the server runs")


def test_load_reads_the_nearest_file(world: World, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = file.parent / "src" / "app"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    project = procref.load()
    assert project.file == file
    assert list(project) == ["server", "web"] and len(project) == 2
    assert "server" in project and "other" not in project and 3 not in project
    assert repr(project) == f"<procref.Project {str(file)!r}: server, web>"
    with pytest.raises(KeyError):
        project["other"]
    with pytest.raises(TypeError, match="argument 'name': expected a str, found 3"):
        project[3]  # type: ignore[index]


def test_load_without_a_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(procref.ConfigError, match="no procref.toml in .* or above it"):
        procref.load()
    with pytest.raises(procref.ConfigError, match="missing.toml"):
        procref.load(tmp_path / "missing.toml")
    with pytest.raises(TypeError, match="argument 'path': expected a str or an os.PathLike, found 3"):
        procref.load(3)  # type: ignore[arg-type]


def test_problems_of_a_file_have_their_lines(file: Path) -> None:
    file.write_text("[services.server]\nstrat = 'x'\nlinger = 5\n[services.web]\n")
    with pytest.raises(procref.ConfigError) as refused:
        procref.load(file)
    assert [problem.split(": ")[0] for problem in refused.value.problems][:2] == [f"{file}:2:1", f"{file}:3:10"]
    assert str(refused.value).splitlines() == list(refused.value.problems)


def test_project_service_has_the_env_of_the_command_line(world: World, file: Path) -> None:
    service = procref.load(file)["server"]
    with service.acquire() as handle:
        assert handle.env["URL"] == f"x://{handle.port}"
        assert handle.env["PROCREF_PORT_SERVER"] == str(handle.port)
        assert service.status().clients == 1
    assert [event for event, _ in world.events()] == ["started", "stopped"]


def test_project_service_acquires_its_dependencies(world: World, file: Path) -> None:
    seen: list[tuple[str, int]] = []
    project = procref.load(file)
    web = project.service("web", on_ready=lambda name, info: seen.append((name, info.pid)))
    with web.acquire() as handle:
        server = project["server"].status()
        assert server.info is not None and server.state == "ready"
        assert seen == [("server", server.info.pid), ("web", handle.pid)]
        assert handle.env["URL"] == f"x://{server.info.port}"
    wait_until(lambda: world.count("stopped") == 1, "the stop")


def test_project_service_is_shared_with_the_command_line(world: World, file: Path) -> None:
    import subprocess

    with procref.load(file)["server"].acquire() as handle:
        command = [procref.find_binary(), "run", "server", "--", "sh", "-c", "echo $PROCREF_PID $URL"]
        output = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True).stdout
        assert output == f"{handle.pid} x://{handle.port}\n"
    assert world.count("started") == 1


def test_project_service_that_fails_is_a_start_error(world: World, file: Path) -> None:
    file.write_text("[services.server]\nstart = \"sh -c 'echo no such table; exit 3'\"\n")
    with pytest.raises(procref.StartError, match="no such table") as failed:
        procref.load(file)["server"].acquire()
    assert (failed.value.exit_status, failed.value.log_tail) == (3, "no such table")


def test_project_on_ready_that_raises_is_the_cause(world: World, file: Path) -> None:
    def migrate(name: str, info: procref.Info) -> None:
        raise ValueError("migration 7 failed")

    with pytest.raises(procref.StartError) as failed:
        procref.load(file).service("server", on_ready=migrate).acquire()
    assert isinstance(failed.value.__cause__, ValueError)


def test_project_linger_is_the_longer_one(world: World, file: Path) -> None:
    project = procref.load(file)
    with project.service("server", linger=30).acquire():
        assert project["server"].status().linger == 30
    assert project["server"].stop()
    file.write_text(file.read_text().replace("[services.web]", "linger = '1m'\n[services.web]"))
    project = procref.load(file)
    with project.service("server", linger=30).acquire():
        assert project["server"].status().linger == 60
    assert project["server"].stop()
