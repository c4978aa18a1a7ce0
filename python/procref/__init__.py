"""Share one background service between many processes.

The first process that acquires a service starts it, the others join it, and the last one stops it. The kernel counts the
processes, so a process that is killed releases its reference, too.

    import procref

    redis = procref.Service("redis", ["redis-server", "--port", "{port}", "--save", ""])
    with redis.acquire() as handle:
        print(handle.port)
"""

from __future__ import annotations

from procref._binary import find_binary
from procref._errors import (
    ConfigError,
    Dead,
    Error,
    Held,
    Mismatch,
    StartError,
    Timeout,
    Unsupported,
)

# Type checkers treat this name as true. The module `typing` would take most of the time of the import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from procref._native import Handle, Holder, Info, Service, Status, __version__
    from procref._project import Project, load

__all__ = [
    "ConfigError",
    "Dead",
    "Error",
    "Handle",
    "Held",
    "Holder",
    "Info",
    "Mismatch",
    "Project",
    "Service",
    "StartError",
    "Status",
    "Timeout",
    "Unsupported",
    "__version__",
    "find_binary",
    "load",
]


def __getattr__(name: str) -> object:
    """Imports the extension at its first use. pytest imports this package in each run, because it contains a plugin."""
    if name in ("Project", "load"):
        from procref import _project as module
    elif name in __all__:
        from procref import _native as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module 'procref' has no attribute {name!r}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
