"""Calls for asyncio.

A thread of the extension polls each call, and passes the result to the event loop. Other event loops, such as Trio's, run
the blocking calls in their own threads, as ``asyncio.to_thread`` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, TypeVar

from procref._native import Handle, Pending, Service

__all__ = ["AsyncAcquire"]

_T = TypeVar("_T")


async def _run(
    start: Callable[[Callable[[_T, BaseException | None], None]], Pending],
    discard: Callable[[_T], None],
) -> _T:
    """Runs a call of the extension. ``discard`` gets a result that arrives after the cancellation."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def arrived(result: _T, error: BaseException | None) -> None:
        if future.done():
            if error is None:
                discard(result)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def done(result: _T, error: BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(arrived, result, error)
        except RuntimeError:
            # The loop is closed, so no task waits any more.
            if error is None:
                discard(result)

    pending = start(done)
    try:
        return await future
    except asyncio.CancelledError:
        pending.cancel()
        if future.done() and not future.cancelled() and future.exception() is None:
            # The task was cancelled after the result had arrived.
            discard(future.result())
        raise


def _release_soon(handle: Handle) -> None:
    handle._start_release(lambda _result, _error: None)


async def _release(handle: Handle) -> None:
    await _run(handle._start_release, lambda _result: None)


class AsyncAcquire:
    """An acquire: ``await`` it for the handle, or use it in ``async with``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._handle: Handle | None = None

    def __await__(self) -> Generator[Any, None, Handle]:
        return _run(self._service._start_acquire, _release_soon).__await__()

    async def __aenter__(self) -> Handle:
        self._handle = await self
        return self._handle

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            await _release(handle)
