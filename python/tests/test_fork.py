"""fork, spawn and forkserver."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable

import procref
import pytest
from conftest import World, is_alive, wait_until


def in_child(call: Callable[[], object]) -> None:
    """Calls a function in a forked child, and fails if it raises."""
    with warnings.catch_warnings():
        # Python warns if the process has had threads, such as those of an earlier test.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            call()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_fork_copies_no_reference(world: World) -> None:
    service = world.service()
    handle = service.acquire()

    def child() -> None:
        for call in (handle.pin, handle.current):
            with pytest.raises(procref.Error, match="forked child"):
                call()
        handle.release()
        assert handle.released
        handle.release()
        assert service.status().clients == 1

    in_child(child)
    assert not handle.released
    assert service.status().clients == 1 and is_alive(handle.pid)
    assert handle.current() == handle.info
    handle.release()


def test_fork_child_drops_its_copy_silently(world: World) -> None:
    code = """
import os
service = world.service()
handles = [service.acquire()]
if os.fork() == 0:
    handles.clear()
    os._exit(service.status().clients)
print(os.waitstatus_to_exitcode(os.wait()[1]))
handles.pop().release()
"""
    # Python warns if helper threads of the start still run, which is another test's subject.
    done = world.run(code, "-W", "ignore::DeprecationWarning", "-W", "error::ResourceWarning")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_fork_child_acquires_its_own_reference(world: World) -> None:
    service = world.service()
    with service.acquire() as handle:

        def child() -> None:
            with service.acquire() as own:
                assert own.pid == handle.pid
                assert service.status().clients == 2
            assert service.status().clients == 1

        in_child(child)
        assert service.status().clients == 1


def test_fork_child_that_starts_the_service(world: World) -> None:
    service = world.service()
    in_child(lambda: service.acquire().release())
    assert [event for event, _ in world.events()] == ["started", "stopped"]


def work(directory: str, barrier: object) -> int:
    from pathlib import Path

    with World(Path(directory)).service().acquire() as handle:
        barrier.wait(60)  # type: ignore[attr-defined]
        return handle.pid


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_share_one_service(world: World, method: str) -> None:
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with context.Manager() as manager:
            barrier = manager.Barrier(4)
            with context.Pool(4) as pool:
                pids = pool.starmap(work, [(str(world.directory), barrier)] * 4, chunksize=1)
    assert len(set(pids)) == 1
    assert world.count("started") == 1
    wait_until(lambda: world.count("stopped") == 1, "the stop")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python warns since 3.12")
def test_fork_after_an_acquire_does_not_warn(world: World) -> None:
    code = """
import os, time
handle = world.service().acquire()
time.sleep(0.2)
if os.fork() == 0:
    os._exit(0)
os.wait()
handle.release()
"""
    done = world.run(code, "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
