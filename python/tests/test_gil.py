"""Every call that can wait lets other threads run."""

from __future__ import annotations

import threading
import time

from conftest import World


class Ticks:
    """A thread that counts while another one waits."""

    def __init__(self) -> None:
        self.count = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(0.001):
            self.count += 1

    def __enter__(self) -> Ticks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def test_gil_is_released_while_a_service_starts(world: World) -> None:
    with Ticks() as ticks:
        handle = world.service(delay=1).acquire()
    handle.release()
    assert ticks.count > 100


def test_gil_is_released_while_a_call_waits(world: World) -> None:
    service = world.service()
    with service.acquire() as handle:
        for wait in (handle.wait_dead, service.wait_stopped):
            with Ticks() as ticks:
                assert wait(0.5) is False
            assert ticks.count > 50, wait


def test_threads_acquire_side_by_side(world: World) -> None:
    services = [world.service(name, delay=0.5) for name in ("one", "two", "server")]
    handles = []

    def acquire(service: object) -> None:
        handles.append(service.acquire())  # type: ignore[attr-defined]

    begun = time.monotonic()
    threads = [threading.Thread(target=acquire, args=(service,)) for service in services * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handles) == 6 and len({handle.pid for handle in handles}) == 3
    assert world.count("started") == 3
    assert time.monotonic() - begun < 15
    for handle in handles:
        handle.release()


def test_release_ends_the_reference_when_another_thread_waits_with_it(world: World) -> None:
    service = world.service()
    handle = service.acquire()
    waited = threading.Thread(target=handle.wait_dead, args=(0.3,))
    waited.start()
    time.sleep(0.1)
    handle.release()
    waited.join()
    assert service.wait_stopped(20)
