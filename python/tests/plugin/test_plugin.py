"""The fixtures, the marker, the hook, the options and the reports of the plugin."""

from __future__ import annotations

import json
import re

import pytest
from conftest import is_alive, wait_until

from plugin.conftest import PROCREF_TOML, Project

import procref


def test_fixture_procref_service_returns_a_handle(project: Project) -> None:
    project.write("conftest.py", "")
    project.write(
        "test_server.py",
        "import os\n"
        "def test_handle(procref_service):\n"
        "    server = procref_service('server')\n"
        "    assert server is procref_service('server')\n"
        "    assert server.env['SERVER_URL'] == f'server://127.0.0.1:{server.port}'\n"
        "    assert 'SERVER_URL' not in os.environ\n",
    )
    code, output = project.pytest("-q")
    assert code == 0, output
    project.check_one_run()


def test_fixture_procref_project_is_the_file(project: Project) -> None:
    project.write(
        "test_server.py",
        "def test_project(procref_project):\n"
        f"    assert str(procref_project.file) == {str(project.root / 'procref.toml')!r}\n"
        "    assert list(procref_project) == ['server'] and len(procref_project) == 1\n"
        "    assert 'server' in procref_project and 'other' not in procref_project\n"
        "    assert procref_project['server'].status().state == 'absent'\n",
    )
    code, output = project.pytest("-q")
    assert code == 0, output
    assert project.events() == []


def test_fixture_procref_space_is_unique_to_run_and_worker(project: Project) -> None:
    spaces = project.directory / "spaces"
    project.write(
        "test_server.py",
        "import pathlib, pytest\n"
        "@pytest.mark.parametrize('number', range(6))\n"
        "def test_space(procref_space, number):\n"
        f"    (pathlib.Path({str(spaces)!r}) / procref_space).touch()\n",
    )
    spaces.mkdir()
    for arguments in (["-n", "2", "--dist", "each"], ["-n", "2", "--dist", "each"], ["-p", "no:xdist"]):
        code, output = project.pytest("-q", *arguments)
        assert code == 0, output
    names = sorted(file.name for file in spaces.iterdir())
    assert len(names) == 5
    assert sorted(name.partition("_")[2] for name in names) == ["gw0", "gw0", "gw1", "gw1", "main"]
    for name in names:
        assert re.fullmatch("[a-z][a-z0-9_]{,19}", name)


def test_factory_describes_a_service_without_a_file(project: Project) -> None:
    (project.root / "procref.toml").unlink()
    start = project.start()
    project.write(
        "conftest.py",
        "import procref.pytest\n"
        f"other = procref.pytest.service('server', {start!r}, ready='log:ready to accept', linger=0.1,\n"
        "    on_ready=lambda info: print('prepared', info.port))\n",
    )
    project.write("test_server.py", "def test_other(other):\n    assert other.port\n    assert 0\n")
    code, output = project.pytest("-v", "-n", "2")
    assert code == 1 and "prepared " in output and "procref: server started in " in output, output
    # The same name in another project is another service.
    assert str(project.runtime_dir) in output
    wait_until(lambda: project.count("stopped") == 1, "the stop")


def test_factory_with_settings_needs_start() -> None:
    import procref.pytest

    with pytest.raises(TypeError, match="linger.*no `start`"):
        procref.pytest.service("server", linger=1)


def test_marker_acquires_before_the_fixtures(project: Project) -> None:
    project.write("conftest.py", "")
    project.write(
        "test_server.py",
        "import pytest, procref\n"
        "@pytest.fixture\n"
        "def state(procref_project):\n"
        "    return procref_project['server'].status().state\n"
        "@pytest.mark.procref('server')\n"
        "def test_marked(state):\n"
        "    assert state == 'ready'\n",
    )
    code, output = project.pytest("-q", "--strict-markers")
    assert code == 0, output
    project.check_one_run()


def test_marker_without_names_is_an_error(project: Project) -> None:
    project.write("test_server.py", "import pytest\n@pytest.mark.procref\ndef test_marked(): pass\n")
    code, output = project.pytest("-q")
    assert code == 1 and "@pytest.mark.procref('pg')" in output, output


def test_hook_runs_once_for_each_instance(project: Project) -> None:
    log = project.directory / "migrated"
    hook = (
        "import os\n"
        "def pytest_procref_ready(name, info, config):\n"
        f"    with open({str(log)!r}, 'a') as file:\n"
        "        print(name, info.pid, os.getpid(), hasattr(config, 'workerinput'), file=file)\n"
    )
    project.write("conftest.py", "import procref.pytest\nserver = procref.pytest.service('server')\n" + hook)
    code, output = project.pytest("-q", "-n", "4")
    assert code == 0, output
    project.check_one_run()
    (line,) = log.read_text().splitlines()
    name, pid, worker, is_worker = line.split()
    assert (name, is_worker) == ("server", "True")
    assert ("started", int(pid)) in project.events()
    assert not is_alive(int(worker))


def test_hook_that_fails_shows_its_traceback(project: Project) -> None:
    hook = "def pytest_procref_ready(name, info):\n    raise ValueError('migration 7 failed')\n"
    project.write("conftest.py", "import procref.pytest\nserver = procref.pytest.service('server')\n" + hook)
    code, output = project.pytest("-q")
    assert code == 1 and "8 errors" in output, output
    assert "raise ValueError('migration 7 failed')" in output
    assert re.search("StartError: service `server`: .*: ValueError: migration 7 failed", output), output
    project.check_one_run()


def test_hook_is_called_for_dependencies(project: Project) -> None:
    project.write(
        "procref.toml",
        PROCREF_TOML.format(start=json.dumps(project.start())) + "linger = '100ms'\n"
        "[services.web]\nstart = 'sleep 60'\nready = 'started'\ndepends-on = ['server']\n",
    )
    project.write(
        "conftest.py",
        "import procref.pytest\nweb = procref.pytest.service('web')\n"
        "names = []\n"
        "def pytest_procref_ready(name): names.append(name)\n",
    )
    project.write(
        "test_server.py",
        "import conftest\n"
        "def test_web(web):\n"
        "    assert conftest.names == ['server', 'web']\n"
        "    assert web.env['SERVER_URL'] and web.env['PROCREF_NAME'] == 'web'\n",
    )
    code, output = project.pytest("-q")
    assert code == 0, output
    project.check_one_run()


def test_hook_that_exits_ends_the_session(project: Project) -> None:
    hook = "import pytest\ndef pytest_procref_ready(name):\n    pytest.exit('no license')\n"
    project.write("conftest.py", "import procref.pytest\nserver = procref.pytest.service('server')\n" + hook)
    code, output = project.pytest("-q")
    assert code == 2 and "Exit: no license" in output and "error" not in output, output
    project.check_one_run()


def test_failed_start_is_tried_once_in_each_process(project: Project) -> None:
    log = project.directory / "starts"
    # pytest repeats the error of a fixture of the session itself, so this fixture is one of the test.
    project.write(
        "conftest.py",
        "import pytest\n@pytest.fixture\ndef server(procref_service): return procref_service('server')\n",
    )
    project.write("procref.toml", f"[services.server]\nstart = \"sh -c 'echo x >>{log}; echo no such table; exit 3'\"\n")
    code, output = project.pytest("-q")
    assert code == 1 and "8 errors" in output, output
    assert log.read_text().count("x") == 1
    assert "exited with status 3" in output and "no such table" in output
    # The traceback would show the plugin, not the user's code.
    assert "services.py" not in output


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (None, "no procref.toml in"),
        ("[services.other]\nstart = 'sleep 60'\n", "has no service 'server' (it has: other)"),
        ("[services.server]\nstrat = 'sleep 60'\n", "procref.toml:2:"),
        ("[services.server\n", "procref.toml:1:"),
    ],
)
def test_error_of_the_file_is_short(project: Project, file: str | None, problem: str) -> None:
    (project.root / "procref.toml").unlink()
    if file is not None:
        project.write("procref.toml", file)
    code, output = project.pytest("-q")
    assert code == 1 and problem in output, output
    assert "services.py" not in output and "8 errors" in output


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=" ".join)
def test_report_of_a_failed_test_has_the_log(project: Project, arguments: tuple[str, ...]) -> None:
    project.write(
        "test_server.py",
        "def test_fails(server): assert 0\ndef test_without(): assert 0\ndef test_passes(server): pass\n",
    )
    code, output = project.pytest(*arguments)
    assert code == 1, output
    assert output.count("log of the service server (") == 1 and "ready to accept" in output
    code, output = project.pytest("--procref-log-lines=0", *arguments)
    assert code == 1 and "log of the service" not in output, output
    project.write("pytest.ini", "[pytest]\nprocref_log_lines = 0\n")
    code, output = project.pytest(*arguments)
    assert code == 1 and "log of the service" not in output, output


def test_option_keep_prints_how_to_stop(project: Project) -> None:
    code, output = project.pytest("-q", "-n", "2", "--procref-keep")
    assert code == 0, output
    assert "procref: server stays for 10m after its last client; to stop it: procref stop server" in output
    service = project.described()
    assert (service.status().state, service.status().clients) == ("ready", 0)
    # The next run uses the same server.
    code, output = project.pytest("-v", "--procref-keep=1h")
    assert code == 0 and "procref: server was running, used by 1 process" in output, output
    assert service.stop() is True
    project.check_one_run()


def test_option_keep_rejects_a_path(project: Project) -> None:
    code, output = project.pytest("--procref-keep", "test_server.py")
    assert code == 4 and "'test_server.py' is not a time" in output, output


def test_linger_of_the_file_is_kept_if_it_is_longer(project: Project) -> None:
    text = PROCREF_TOML.format(start=json.dumps(project.start()))
    project.write("procref.toml", text + "linger = '1h'\n")
    code, output = project.pytest("-q")
    assert code == 0, output
    service = project.described()
    assert service.status().linger == 3600
    service.stop()


@pytest.mark.parametrize("how", ["option", "setting", "variable"])
def test_other_file_can_be_named(project: Project, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.root / "procref.toml").unlink()
    project.write("tests/services.toml", PROCREF_TOML.format(start=json.dumps(project.start())))
    project.write("tests/test_server.py", "def test_it(server): assert server.port\n")
    (project.root / "test_server.py").unlink()
    arguments = ["-n", "2"]
    cwd = project.root
    if how == "option":
        cwd = project.root / "tests"
        arguments += ["--procref-config=services.toml"]
    elif how == "setting":
        project.write("pytest.ini", "[pytest]\nprocref_config = tests/services.toml\n")
    else:
        kept = project.env()
        file = str(project.root / "tests/services.toml")
        monkeypatch.setattr(project, "env", lambda: kept | {"PROCREF_CONFIG": file})
    code, output = project.pytest(*arguments, cwd=cwd)
    assert code == 0 and "procref: tests/services.toml (server)" in output, output
    wait_until(lambda: project.count("stopped") == 1, "the stop")


def test_header_and_summary_name_the_services(project: Project) -> None:
    code, output = project.pytest("-n", "2", "-v", "--dist", "each")
    assert code == 0 and "procref: procref.toml (server)\n" in output, output
    summary = re.search(r"procref: server started in \d+\.\d\d s, used by 2 processes \(in (.*)\)\n", output)
    assert summary, output
    assert summary[1] == str(project.described().runtime_dir)
    code, output = project.pytest("-q")
    assert "procref:" not in output


@pytest.mark.parametrize(
    "setting", ["procref_linger = soon", "procref_linger = 2", "procref_log_lines = many", "procref_log_lines = -1"]
)
def test_invalid_setting_is_a_usage_error(project: Project, setting: str) -> None:
    project.write("pytest.ini", f"[pytest]\n{setting}\n")
    code, output = project.pytest()
    assert code == 4 and "the settings of procref: " in output, output
    assert "Traceback" not in output


def test_error_while_the_service_is_held_is_short(project: Project) -> None:
    project.write("procref.toml", PROCREF_TOML.format(start=json.dumps(project.start())) + "fingerprint = 'one'\n")
    with project.described().acquire():
        text = (project.root / "procref.toml").read_text()
        project.write("procref.toml", text.replace("'one'", "'two'"))
        code, output = project.pytest("-q")
        assert code == 1 and "runs fingerprint" in output or "'two'" in output or "two" in output, output
        assert "services.py" not in output
    assert procref.Mismatch
