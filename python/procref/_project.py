"""The services of a ``procref.toml``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from procref import _native
from procref._binary import find_binary
from procref._native import Info, Service


class Project(Mapping[str, Service]):
    """The services of a ``procref.toml``, by their names."""

    def __init__(self, native: _native.ProjectFile) -> None:
        self._native = native

    @property
    def file(self) -> Path:
        """The absolute path of the file."""
        return self._native.file

    def service(
        self,
        name: str,
        *,
        linger: float | None = None,
        on_ready: Callable[[str, Info], object] | None = None,
    ) -> Service:
        """Return a service. Its ``acquire`` also acquires the services that it depends on.

        ``linger`` is the least time in seconds for which the services are kept after their last client. ``on_ready`` is
        called with the name and the instance of each service that the acquire starts, before any client uses it.

        Raise `KeyError` if no file describes the service.
        """
        return self._native.service(name, linger, on_ready)

    def __getitem__(self, name: str) -> Service:
        return self.service(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._native.names)

    def __len__(self) -> int:
        return len(self._native.names)

    def __contains__(self, name: object) -> bool:
        return name in self._native.names

    def __repr__(self) -> str:
        return f"<procref.Project {str(self.file)!r}: {', '.join(self)}>"


def load(path: str | os.PathLike[str] | None = None) -> Project:
    """Read a ``procref.toml`` and the user's file.

    Without a path, read the nearest ``procref.toml`` in the working directory or above it, as the command line does.

    Raise `ConfigError` with all problems of the files, or if there is no file.
    """
    try:
        helper = find_binary()
    except FileNotFoundError:
        # It is needed for services with `data`, `depends-on` or `user` only.
        helper = "procref"
    return Project(_native.ProjectFile(path, helper))
