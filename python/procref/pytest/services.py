"""The services that one process of a test run uses."""

from __future__ import annotations

import os
import re
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from procref import Handle, Info, Project, Service

FILE_NAME = "procref.toml"

#: How long a service is kept without clients. It bridges the time between two workers, and between two tests of
#: pytest-forked.
LINGER = "2s"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """Parses a time such as ``500ms``, ``2s`` or ``1h 30m``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|[smhd])", text)
    if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*(ms|[smhd])", "", text).strip():
        raise ValueError(f"{text!r} is not a time; write a number and a unit: 500ms, 2s, 10m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def find_file(config: pytest.Config) -> Path | None:
    """Returns the file that describes the services, or None. Reads nothing."""
    option: str | None = config.getoption("procref_config")
    if option:
        # pytest_configure has made it absolute.
        return Path(option)
    setting: str = config.getini("procref_config")
    if setting:
        return (config.inipath.parent if config.inipath else config.rootpath) / setting
    variable = os.environ.get("PROCREF_CONFIG")
    if variable:
        return Path(variable)
    for directory in (config.rootpath, *config.rootpath.parents):
        if os.path.lexists(directory / FILE_NAME):
            return directory / FILE_NAME
    return None


@dataclass
class Used:
    """A service that this process uses."""

    name: str
    pid: int
    runtime_dir: str
    #: How long the acquire took, if this process has started the service.
    started: float | None


@dataclass
class Services:
    """The services that this process holds. The first use of a service acquires it."""

    config: pytest.Config
    linger: float
    handles: dict[str, Handle] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    used: list[Used] = field(default_factory=list)
    _project: Project | None = None
    _failed: dict[str, BaseException] = field(default_factory=dict)
    _started: set[str] = field(default_factory=set)

    def project(self) -> Project:
        if self._project is None:
            import procref

            file = find_file(self.config)
            if file is None:
                root = self.config.rootpath
                pytest.fail(
                    f"procref: no {FILE_NAME} in {root} or above it (write one with `procref init`, or name it by "
                    "--procref-config or by the setting procref_config)",
                    pytrace=False,
                )
            try:
                self._project = procref.load(file)
            except procref.Error as error:
                pytest.fail(f"procref: {error}", pytrace=False)
        return self._project

    def acquire(self, name: str, settings: dict[str, Any] | None = None) -> Handle:
        """Returns the handle of a service. The first call acquires it, and starts it if it does not run."""
        if name in self.handles:
            return self.handles[name]
        if name in self._failed:
            # Each test would wait as long as the first one.
            raise self._failed[name].with_traceback(None)
        import procref

        try:
            service = self._service(name, settings)
            begun = time.monotonic()
            handle = service.acquire()
        except procref.StartError as error:
            if isinstance(error.__cause__, pytest.exit.Exception):
                # The hook has called `pytest.exit`, which ends the session.
                raise error.__cause__ from None
            self._failed[name] = error
            if error.__cause__ is not None:
                raise
            self._failed[name] = pytest.fail.Exception(f"procref: {error}", pytrace=False)
            raise self._failed[name] from None
        except procref.Error as error:
            self._failed[name] = pytest.fail.Exception(f"procref: {error}", pytrace=False)
            raise self._failed[name] from None
        took = time.monotonic() - begun
        self.handles[name] = handle
        self.services[name] = service
        started = took if name in self._started else None
        self.used.append(Used(name, handle.pid, str(service.runtime_dir), started))
        return handle

    def _service(self, name: str, settings: dict[str, Any] | None) -> Service:
        import procref

        if settings is None:
            project = self.project()
            if name not in project:
                known = ", ".join(project) or "none"
                pytest.fail(f"procref: {project.file} has no service {name!r} (it has: {known})", pytrace=False)
            return project.service(name, linger=self.linger, on_ready=self._ready)
        settings = dict(settings)
        own = settings.pop("on_ready", None)

        def on_ready(info: Info) -> None:
            if own is not None:
                own(info)
            self._ready(name, info)

        settings["linger"] = max(self.linger, settings.get("linger") or 0)
        if settings.get("runtime_dir") is None and settings.get("project") is None:
            settings["project"] = self.config.rootpath
        return procref.Service(name, settings.pop("start"), on_ready=on_ready, **settings)

    def _ready(self, name: str, info: Info) -> None:
        self._started.add(name)
        self.config.hook.pytest_procref_ready(name=name, info=info, config=self.config)

    def release(self) -> None:
        """Releases all services, the last one first."""
        while self.handles:
            import procref

            name, handle = self.handles.popitem()
            try:
                handle.release()
            except procref.Error as error:
                # The tests have their results already.
                warnings.warn(f"procref: could not release {name}: {error}", stacklevel=1)

    def log_lines(self, count: int) -> list[tuple[str, str]]:
        """Returns the last lines of each service's log."""
        logs = []
        for name, service in self.services.items():
            log = service.status().log
            if log is None:
                continue
            try:
                lines = tail(log, count)
            except OSError as error:
                lines = f"could not read the log: {error}"
            if lines:
                logs.append((f"log of the service {name} ({log})", lines))
        return logs


def tail(file: Path, count: int) -> str:
    """Returns the last lines of a file, at most 64 KiB."""
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - (64 << 10)))
        text = opened.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-count:])
