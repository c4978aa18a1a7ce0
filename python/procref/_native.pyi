from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, final

from procref.aio import AsyncAcquire

__all__ = ["Handle", "Holder", "Info", "Pending", "ProjectFile", "Service", "Status", "__version__"]

__version__: str

@final
class Info:
    """An instance of a service: its process, its port, and what its starter told all clients about it."""

    __match_args__ = ("pid", "port", "metadata")
    @property
    def pid(self) -> int:
        """The process id."""
    @property
    def port(self) -> int:
        """The port, or 0 if the service has none."""
    @property
    def metadata(self) -> MappingProxyType[str, str]:
        """The metadata that the service or its starter has set."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Holder:
    """A process that holds a service."""

    @property
    def pid(self) -> int:
        """The process id."""
    @property
    def command(self) -> str | None:
        """The command line, or None if it cannot be read."""
    @property
    def since(self) -> float:
        """The time at which the process was started, in seconds since 1970."""
    @property
    def suspended(self) -> bool:
        """True if the process is suspended."""

@final
class Status:
    """The status of a service at one moment."""

    @property
    def state(self) -> str:
        """The state: "absent", "starting", "ready", "stopping" or "dead"."""
    @property
    def clients(self) -> int:
        """The number of processes that hold the service."""
    @property
    def holders(self) -> list[Holder]:
        """The processes that hold the service, ordered by pid. The list has at most 100 processes."""
    @property
    def unknown_holders(self) -> int:
        """The number of clients that `holders` does not list."""
    @property
    def generation(self) -> int:
        """The number of the last instance, or 0."""
    @property
    def info(self) -> Info | None:
        """The instance, or None."""
    @property
    def started_at(self) -> float | None:
        """The time at which the instance was started, in seconds since 1970 as `time.time()` returns it, or None."""
    @property
    def uptime(self) -> float | None:
        """The age of the instance in seconds, or None."""
    @property
    def linger(self) -> float:
        """The time in seconds for which the service is kept after its last client."""
    @property
    def linger_left(self) -> float | None:
        """The rest of this time in seconds, or None if the service has clients, is pinned, or does not linger."""
    @property
    def supervisor(self) -> int | None:
        """The pid of the process that stops the service after its last client, or None."""
    @property
    def transition(self) -> int | None:
        """The pid of the process that is starting or stopping the service, or None."""
    @property
    def pinned(self) -> bool:
        """True if the service is pinned."""
    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the instance, or None."""
    @property
    def command_line(self) -> list[str]:
        """The program and its arguments, as the starter has set them."""
    @property
    def log(self) -> Path | None:
        """The path of the file with the service's output, or None."""
    @property
    def exit_status(self) -> int | None:
        """The exit status of a service that has exited by itself, as `subprocess` gives it: the code, or the negative
        number of a signal. None if it runs."""

@final
class Service:
    """A service that many processes share."""

    def __new__(
        cls,
        name: str,
        start: str | Sequence[str | PathLike[str]],
        *,
        port: int | Literal["auto"] | None = None,
        ready: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | PathLike[str] | None = None,
        log: str | PathLike[str] | None = None,
        stop_signal: int | str = "SIGTERM",
        grace: float = 10.0,
        linger: float = 0.0,
        start_timeout: float = 60.0,
        wait_timeout: float | None = None,
        fingerprint: str | None = None,
        mismatch: Literal["refuse", "join", "separate"] = "refuse",
        on_ready: Callable[[Info], object] | None = None,
        health: Callable[[Info], bool] | None = None,
        project: str | PathLike[str] | None = None,
        runtime_dir: str | PathLike[str] | None = None,
    ) -> Service: ...
    @property
    def name(self) -> str:
        """The name of the service."""
    @property
    def runtime_dir(self) -> Path:
        """The runtime directory, as an absolute path. Processes that share it share services."""
    @property
    def kernel_object(self) -> str:
        """The name of the kernel object that counts the clients, as `ipcs -s` prints it."""
    def acquire(self) -> Handle:
        """Take a reference to the service, and start the service if it does not run."""
    def acquire_async(self) -> AsyncAcquire:
        """Like `acquire`, for asyncio: `await` the result, or use it in `async with`."""
    def try_join(self) -> Handle | None:
        """Take a reference if the service runs and is healthy. Return None otherwise. Never starts the service."""
    def status(self) -> Status:
        """Return the status of the service. Changes nothing."""
    def stop(self, *, force: bool = False) -> bool:
        """Stop the service if no process holds it. Return True if it ran."""
    def unpin(self) -> bool:
        """End a pin, so that the service stops after its last client. Return True if it was pinned."""
    def wait_stopped(self, timeout: float | None = None) -> bool:
        """Wait until the service has stopped. Return False if it has not within `timeout` seconds."""
    def _start_acquire(self, done: Callable[[Handle, BaseException | None], None]) -> Pending: ...

@final
class Handle:
    """A reference to a running service. The service runs while any process holds one."""

    @property
    def info(self) -> Info:
        """The instance at the time of the acquire."""
    @property
    def pid(self) -> int:
        """The process id of the service."""
    @property
    def port(self) -> int:
        """The port of the service, or 0 if it has none."""
    @property
    def generation(self) -> int:
        """The number of the instance. It counts up from 1 while the service is in use."""
    @property
    def env(self) -> dict[str, str]:
        """The variables that the command line passes to a client. Nothing sets them in `os.environ`."""
    @property
    def released(self) -> bool:
        """True after `release`."""
    def release(self) -> None:
        """Release the reference. If it was the last one, wait until the service has stopped.

        Does nothing if the handle was released before, and in a forked child."""
    async def release_async(self) -> None:
        """Like `release`, for asyncio."""
    def current(self) -> Info | None:
        """Return the instance that serves now, or None if it is dead and not replaced yet."""
    def wait_dead(self, timeout: float | None = None) -> bool:
        """Wait until the instance of this handle is dead. Return False if it lives after `timeout` seconds."""
    def pin(self) -> None:
        """Keep the service after its last client, until `Service.unpin`."""
    def __enter__(self) -> Handle: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...
    def _start_release(self, done: Callable[[None, BaseException | None], None]) -> Pending: ...

@final
class Pending:
    """A call that a thread makes for asyncio."""

    def cancel(self) -> None:
        """Cancels the call. The thread drops the future, which releases everything that it held."""

@final
class ProjectFile:
    """The services that apply to a directory."""

    def __new__(cls, path: str | PathLike[str] | None, helper: str | PathLike[str]) -> ProjectFile: ...
    @property
    def file(self) -> Path:
        """The absolute path of the file."""
    @property
    def names(self) -> list[str]:
        """The names of the services."""
    def service(self, name: str, linger: float | None, on_ready: Callable[[str, Info], object] | None) -> Service:
        """Returns a service."""
