"""The exceptions of procref."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


class Error(Exception):
    """An error of procref. All other exceptions of procref are derived from it."""


class StartError(Error):
    """The service could not be started.

    An exception of ``on_ready`` is the ``__cause__``.
    """

    #: How the program exited: its code, or the negative number of a signal. None if it did not exit.
    exit_status: int | None = None
    #: The last lines of the program's output.
    log_tail: str = ""
    #: The file with the output, or None.
    log: Path | None = None


class Timeout(Error, TimeoutError):
    """A time limit expired."""

    #: The process that blocked the operation, or None.
    holder: int | None = None


class Held(Error):
    """The service was not stopped, because processes hold it."""

    #: The pids of these processes.
    holders: tuple[int, ...] = ()


class Mismatch(Error):
    """The running instance has another fingerprint than this client."""

    #: The fingerprint of the running instance, or None.
    running: str | None = None
    #: The fingerprint of this client.
    wanted: str | None = None


class ConfigError(Error):
    """An argument, or a setting in a ``procref.toml``, cannot be used."""

    #: Each problem, as one text with its argument or with its file and line.
    problems: tuple[str, ...] = ()


class Dead(Error):
    """The service has exited while this process was acquiring it."""


class Unsupported(Error):
    """This machine, or this process, lacks something that procref needs."""
