"""asyncio without a runtime of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings

import procref
import pytest
from conftest import World, is_alive, wait_until


async def tick(counted: list[int]) -> None:
    while True:
        await asyncio.sleep(0.001)
        counted[0] += 1


def test_asyncio_loop_continues_while_a_service_starts(world: World) -> None:
    async def main() -> None:
        counted = [0]
        ticking = asyncio.create_task(tick(counted))
        async with world.service(delay=1).acquire_async() as handle:
            assert counted[0] > 100
            assert is_alive(handle.pid)
        ticking.cancel()

    asyncio.run(main())
    assert [event for event, _ in world.events()] == ["started", "stopped"]


def test_asyncio_await_returns_a_handle(world: World) -> None:
    async def main() -> None:
        handle = await world.service().acquire_async()
        again = await world.service().acquire_async()
        assert handle.pid == again.pid
        await handle.release_async()
        assert is_alive(handle.pid)
        await again.release_async()
        await again.release_async()
        assert not is_alive(handle.pid)

    asyncio.run(main())


def test_asyncio_error_is_raised_in_the_task(world: World) -> None:
    async def main() -> None:
        service = procref.Service("server", ["sh", "-c", "exit 3"], runtime_dir=world.runtime_dir)
        with pytest.raises(procref.StartError, match="exited with status 3"):
            await service.acquire_async()

    asyncio.run(main())


def test_asyncio_cancellation_releases_everything(world: World) -> None:
    async def main() -> None:
        task = asyncio.create_task(acquire())
        while not world.count("started"):
            await asyncio.sleep(0.01)
        task.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < 0.5
        await asyncio.to_thread(world.check_nothing_is_left)

    async def acquire() -> procref.Handle:
        return await world.service(delay=60).acquire_async()

    asyncio.run(main())


def test_asyncio_timeout_cancels_the_acquire(world: World) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(acquire(), 0.3)

    async def acquire() -> procref.Handle:
        return await world.service(delay=60).acquire_async()

    asyncio.run(main())
    world.check_nothing_is_left()


def test_asyncio_handle_that_arrives_after_the_cancellation_is_released(world: World) -> None:
    """The loop is blocked while the service becomes ready, so the result waits in the loop's queue."""

    async def main() -> None:
        task = asyncio.create_task(acquire())
        while not world.count("started"):
            await asyncio.sleep(0.005)
        wait_until(lambda: world.service().status().state == "ready", "the start")
        # The binding's thread has finished, and its result waits for the loop.
        wait_until(lambda: all("procref" not in name for name in thread_names()), "the thread")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(world.check_nothing_is_left)

    async def acquire() -> procref.Handle:
        return await world.service(delay=0.2).acquire_async()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()


def thread_names() -> list[str]:
    import pathlib

    return [task.read_text() for task in pathlib.Path("/proc/self/task").glob("*/comm")]


def test_asyncio_result_for_a_closed_loop_is_released(world: World) -> None:
    loop = asyncio.new_event_loop()
    entered = threading.Event()

    async def acquire() -> None:
        entered.set()
        await world.service(delay=0.3).acquire_async()

    task = loop.create_task(acquire())
    while not entered.is_set() or not world.count("started"):
        loop.run_until_complete(asyncio.sleep(0.01))
    # The program stops the loop without cancelling the task.
    loop.close()
    wait_until(lambda: world.count("stopped"), "the stop")
    world.check_nothing_is_left()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_asyncio_on_ready_runs_on_the_thread_of_the_acquire(world: World) -> None:
    threads = []

    async def main() -> None:
        service = world.service(on_ready=lambda info: threads.append(threading.get_ident()))
        async with service.acquire_async():
            pass

    asyncio.run(main())
    assert len(threads) == 1 and threads[0] != threading.get_ident()


def test_asyncio_acquires_side_by_side(world: World) -> None:
    async def main() -> None:
        services = [world.service(name, delay=0.5) for name in ("one", "two", "server")]
        handles = await asyncio.gather(*(service.acquire_async() for service in services * 2))
        assert len({handle.pid for handle in handles}) == 3
        await asyncio.gather(*(handle.release_async() for handle in handles))

    asyncio.run(main())
    assert world.count("started") == world.count("stopped") == 3
