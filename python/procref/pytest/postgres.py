"""A PostgreSQL database for each test, or for each worker.

    # conftest.py
    import procref.pytest.postgres

    database = procref.pytest.postgres.database("pg", "schema.sql")

The schema is applied once, to a template. Each database is a copy of it. It is removed after its test. If the process is
killed, the next process that uses the server removes it.

This module needs psycopg, which `pip install "procref[postgres]"` installs, and PostgreSQL 14 or newer.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import pytest

if TYPE_CHECKING:
    import psycopg

    from procref import Handle

__all__ = ["Database", "database"]

_Path = str | os.PathLike[str]

_TEMPLATE = "procref_template_"
#: A template that is not complete. A process that was killed may leave it.
_UNFINISHED = "procref_unfinished"
_LOCK = "SELECT pg_advisory_lock(hashtext(%s))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext(%s))"


@dataclass(frozen=True)
class Database:
    """A database that no other test uses."""

    name: str
    #: A URL such as `postgresql://postgres@127.0.0.1:5432/NAME`.
    url: str

    def connect(self, **arguments: Any) -> psycopg.Connection[Any]:
        """Return a new connection. The arguments are those of `psycopg.connect`."""
        import psycopg

        return psycopg.connect(self.url, **arguments)


def database(
    service: str,
    schema: _Path | Iterable[_Path] | Callable[[str], object],
    *,
    files: Iterable[_Path] | None = None,
    variable: str = "DATABASE_URL",
    scope: Literal["function", "class", "module", "package", "session"] = "function",
) -> Any:
    """Return a fixture whose value is a new `Database` with the schema.

    ``schema`` is one SQL file or several, or a function that gets the URL of an empty database and applies the schema.
    The function needs ``files``: the files and directories on which the schema depends, such as the migrations. If their
    content changes, the schema is applied again. Relative paths are relative to pytest's root directory.

    The service exports the URL of the server as ``variable``. Without it, the user is ``postgres``, on 127.0.0.1.
    """
    if callable(schema):
        if files is None:
            raise TypeError("argument 'files': a schema that is a function needs the files on which it depends")
        own = list(files)
    elif files is not None:
        raise TypeError("argument 'files': only a schema that is a function has other files")
    else:
        own = [schema] if isinstance(schema, (str, os.PathLike)) else list(schema)
    apply = schema if callable(schema) else None

    @pytest.fixture(scope=scope)
    def fixture(pytestconfig: pytest.Config, _procref_postgres: Servers) -> Iterator[Database]:
        paths = [pytestconfig.rootpath / path for path in own]
        server = _procref_postgres.get(service, variable)
        with server.copy(server.template(paths, apply)) as copy:
            yield copy

    return fixture


class Servers:
    """The connections of this process, one for each service."""

    def __init__(self, acquire: Callable[[str], Handle], space: str) -> None:
        self._acquire = acquire
        self._space = space
        self._servers: dict[tuple[str, str], Server] = {}

    def get(self, service: str, variable: str) -> Server:
        key = service, variable
        if key not in self._servers:
            handle = self._acquire(service)
            url = handle.env.get(variable, f"postgresql://postgres@127.0.0.1:{handle.port}/postgres")
            self._servers[key] = Server(url, self._space)
        return self._servers[key]

    def close(self) -> None:
        for server in self._servers.values():
            server.connection.close()


class Server:
    """A connection to a server. Its locks are released if this process is killed."""

    def __init__(self, url: str, space: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            pytest.fail(
                f'procref: could not import psycopg: {error} (install it: pip install "procref[postgres]")', pytrace=False
            )
        self.connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        self._url = url
        self._space = space
        self._numbers = itertools.count()
        self._templates: dict[tuple[object, ...], str] = {}

    def database(self, name: str) -> Database:
        return Database(name, urlunsplit(urlsplit(self._url)._replace(path=f"/{quote(name)}")))

    def _execute(self, query: str, *arguments: str) -> list[str]:
        cursor = self.connection.execute(query.encode(), arguments or None)
        return [row[0] for row in cursor] if cursor.description else []

    def _names(self, pattern: str) -> list[str]:
        return self._execute("SELECT datname FROM pg_database WHERE datname LIKE %s", pattern)

    def template(self, paths: list[Path], apply: Callable[[str], object] | None) -> str:
        """Returns the name of the template with a schema. The first call creates the template if it does not exist."""
        key = apply, *paths
        if key not in self._templates:
            template = _TEMPLATE + digest(paths, apply)
            self._execute(_LOCK, _TEMPLATE)
            try:
                if not self._names(template):
                    self._create(template, paths, apply)
                # As long as this process lives, no other process removes the template.
                self._execute("SELECT pg_advisory_lock_shared(hashtext(%s))", template)
                self._remove_leftovers(template)
            finally:
                self._execute(_UNLOCK, _TEMPLATE)
            self._templates[key] = template
        return self._templates[key]

    def _create(self, template: str, paths: list[Path], apply: Callable[[str], object] | None) -> None:
        import psycopg

        self._execute(f"DROP DATABASE IF EXISTS {_UNFINISHED} WITH (FORCE)")
        self._execute(f"CREATE DATABASE {_UNFINISHED}")
        new = self.database(_UNFINISHED)
        if apply is not None:
            apply(new.url)
        else:
            with new.connect(autocommit=True) as connection:
                for path in paths:
                    try:
                        connection.execute(path.read_bytes())
                    except psycopg.Error as error:
                        pytest.fail(f"procref: could not apply {path}: {error}", pytrace=False)
        # The function may have left connections in a pool. PostgreSQL renames no database that is in use.
        self._execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", _UNFINISHED)
        self._execute(f"ALTER DATABASE {_UNFINISHED} RENAME TO {template}")

    def _remove_leftovers(self, template: str) -> None:
        """Removes the databases and the templates that no living process has locked."""
        found = self._names(r"procref\_r%") + self._names(_TEMPLATE.replace("_", r"\_") + "%")
        own = {template, *self._templates.values()}
        for name in found:
            if name in own or name.startswith(f"procref_{self._space}_"):
                continue
            (locked,) = self._execute("SELECT pg_try_advisory_lock(hashtext(%s))", name)
            if locked:
                self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                self._execute(_UNLOCK, name)

    @contextmanager
    def copy(self, template: str) -> Iterator[Database]:
        """Creates a copy of the template, and removes it at the end."""
        name = f"procref_{self._space}_{next(self._numbers)}"
        # Before the database exists, so that no other process sees it without the lock.
        self._execute(_LOCK, name)
        try:
            # pytest-forked runs each test in a process that counts from 0. One that was killed has left this name.
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            yield self.database(name)
        finally:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            self._execute(_UNLOCK, name)


def digest(paths: list[Path], apply: Callable[[str], object] | None) -> str:
    """Returns a digest of the function's name, and of the names and the content of files, in directories too."""
    name = getattr(apply, "__qualname__", type(apply).__qualname__)
    total = hashlib.sha256(f"{name}\0".encode())
    for path in paths:
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in below:
            if file.is_dir() or "__pycache__" in file.parts:
                continue
            content = file.read_bytes()
            name = file.relative_to(path).as_posix() if file != path else path.name
            total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()[:16]
