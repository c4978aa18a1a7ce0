"""The plugin for pytest.

It starts nothing at import, at collection, or in the controller of pytest-xdist. No teardown is needed: the kernel
releases what a killed process held.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procref.pytest import hooks
from procref.pytest.services import LINGER, Services, Used, find_file, seconds

if TYPE_CHECKING:
    from procref import Handle, Project
    from procref.pytest.postgres import Servers

_SERVICES = pytest.StashKey[Services]()
#: What the workers have used, in the controller.
_REPORTED = pytest.StashKey[list[Used]]()

_LOG_LINES = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("procref", "services that the test processes share (procref)")
    group.addoption(
        "--procref-keep",
        nargs="?",
        const="10m",
        type=_time,
        metavar="TIME",
        help="keep the services that this run starts for TIME after the last test (10m without a value)",
    )
    group.addoption("--procref-config", metavar="FILE", help="read the services from FILE")
    group.addoption(
        "--procref-log-lines",
        type=_lines,
        metavar="N",
        help="add the last N lines of a service's log to the report of a failed test (20; 0 adds none)",
    )
    parser.addini("procref_linger", "how long a service is kept without clients", default=LINGER)
    parser.addini("procref_config", "the file that describes the services", default="")
    parser.addini("procref_log_lines", "like --procref-log-lines", default=str(_LOG_LINES))


def _time(text: str) -> str:
    try:
        seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} (write --procref-keep=10m, or the option after the paths)") from None
    return text


def _lines(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "procref(name, ...): acquire these services of procref.toml before the fixtures of the test"
    )
    option = config.getoption("procref_config")
    if option:
        # The workers of pytest-xdist get the options, but may have another working directory.
        config.option.procref_config = str(config.invocation_params.dir / option)
    try:
        seconds(config.getini("procref_linger"))
        _lines(config.getini("procref_log_lines"))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise pytest.UsageError(f"the settings of procref: {error}") from None


def services_of(config: pytest.Config) -> Services:
    """Returns the services that this process holds."""
    if _SERVICES not in config.stash:
        keep: str | None = config.getoption("procref_keep")
        config.stash[_SERVICES] = Services(config, seconds(keep or config.getini("procref_linger")))
    return config.stash[_SERVICES]


@pytest.fixture(scope="session")
def procref_service(pytestconfig: pytest.Config) -> Callable[[str], Handle]:
    """Return the handle of a service in procref.toml: `procref_service("pg")`. The first call acquires it."""
    return services_of(pytestconfig).acquire


@pytest.fixture(scope="session")
def procref_project(pytestconfig: pytest.Config) -> Project:
    """Return the services of procref.toml, as `procref.load` does."""
    return services_of(pytestconfig).project()


@pytest.fixture(scope="session")
def procref_space(pytestconfig: pytest.Config) -> str:
    """Return a name for this run and this worker: for a database, a key prefix, a directory.

    It has at most 20 characters of `[a-z0-9_]`, and begins with a letter.
    """
    worker: dict[str, str] = getattr(pytestconfig, "workerinput", {})
    run = worker.get("testrunuid") or secrets.token_hex(16)
    digest = hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"r{digest}_{worker.get('workerid', 'main')}"


@pytest.fixture(scope="session")
def _procref_postgres(procref_service: Callable[[str], Handle], procref_space: str) -> Iterator[Servers]:
    # Only tests that use a database import this module.
    from procref.pytest.postgres import Servers

    servers = Servers(procref_service, procref_space)
    yield servers
    servers.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("setupplan", False):
        return
    for marker in item.iter_markers("procref"):
        if not marker.args or marker.kwargs:
            pytest.fail("the marker procref takes the names of services: @pytest.mark.procref('pg')", pytrace=False)
        for name in marker.args:
            services_of(item.config).acquire(name)


# The new style of wrappers needs a newer pluggy than pytest 7 does.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed and _SERVICES in item.config.stash and _uses_services(item):
        option: int | None = item.config.getoption("procref_log_lines")
        count = int(item.config.getini("procref_log_lines")) if option is None else option
        if count:
            report.sections.extend(services_of(item.config).log_lines(count))


def _uses_services(item: pytest.Item) -> bool:
    names: list[str] = getattr(item, "fixturenames", [])
    return "procref_service" in names or item.get_closest_marker("procref") is not None


# After the fixtures of the session, which may use the services until then.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if _SERVICES not in config.stash:
        return
    services = services_of(config)
    services.release()
    output: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if output is not None:
        # pytest-xdist passes this on to the controller.
        output["procref"] = [asdict(used) for used in services.used]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    output = getattr(node, "workeroutput", {}).get("procref", [])
    node.config.stash.setdefault(_REPORTED, []).extend(Used(**used) for used in output)


def pytest_report_header(config: pytest.Config) -> str | None:
    file = find_file(config)
    if file is None:
        return None
    names = f" ({', '.join(found)})" if (found := _names(file)) else ""
    try:
        shown = file.relative_to(config.rootpath)
    except ValueError:
        shown = file
    return f"procref: {shown}{names}"


def _names(file: Path) -> list[str]:
    """Returns the names of the services in a file. A file with errors has none here: a test that uses it reports them."""
    try:
        # Python 3.10 does not have this module.
        import tomllib

        services = tomllib.loads(file.read_text(encoding="utf-8")).get("services", {})
        return list(services)
    except (ImportError, OSError, ValueError, TypeError):
        return []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    used: list[Used] = []
    if _REPORTED in config.stash:
        reported: list[Used] = config.stash[_REPORTED]
        used.extend(reported)
    if _SERVICES in config.stash:
        used.extend(services_of(config).used)
    keep: str | None = config.getoption("procref_keep")
    for name in dict.fromkeys(one.name for one in used):
        own = [one for one in used if one.name == name]
        if terminalreporter.verbosity > 0:
            terminalreporter.write_line(_summary(name, own))
        if keep:
            stop = f"procref stop {name}"
            terminalreporter.write_line(f"procref: {name} stays for {keep} after its last client; to stop it: {stop}")


def _summary(name: str, used: list[Used]) -> str:
    times = [one.started for one in used if one.started is not None]
    started = " and ".join(f"{time:.2f} s" for time in times)
    how = f"started in {started}" if started else "was running"
    processes = "1 process" if len(used) == 1 else f"{len(used)} processes"
    return f"procref: {name} {how}, used by {processes} (in {used[0].runtime_dir})"
