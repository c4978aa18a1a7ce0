"""Garbage collection, and the exit of the interpreter."""

from __future__ import annotations

import gc
import signal
import time

import procref
import pytest
from conftest import World, is_alive, wait_until


def test_collected_handle_warns_and_is_released(world: World) -> None:
    service = world.service()
    handle = service.acquire()
    pid = handle.pid
    with pytest.warns(ResourceWarning, match=f'unreleased <procref.Handle "server", pid={pid}>'):
        del handle
        gc.collect()
    assert service.wait_stopped(20)
    assert not is_alive(pid)


def test_collected_handle_does_not_wait(world: World) -> None:
    start = ["sh", "-c", f"trap 'sleep 2; exit' TERM; echo started $$ >>{world.log}; echo ready; while :; do sleep 0.1; done"]
    handle = procref.Service("server", start, ready="log:ready", runtime_dir=world.runtime_dir).acquire()
    begun = time.monotonic()
    with pytest.warns(ResourceWarning):
        del handle
    assert time.monotonic() - begun < 0.5


def test_collected_handle_keeps_the_exception_that_is_raised(world: World) -> None:
    def fail() -> None:
        handle = world.service().acquire()
        raise KeyError(handle.pid)

    with pytest.warns(ResourceWarning):
        try:
            fail()
        except KeyError as error:
            assert isinstance(error.args[0], int)
        gc.collect()


def test_warning_as_an_error_does_not_keep_the_reference(world: World) -> None:
    done = world.run("service = world.service(); service.acquire(); print(service.wait_stopped(20))", "-W", "error")
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "ResourceWarning: unreleased" in done.stderr


def test_exit_with_a_held_handle_neither_waits_nor_warns(world: World) -> None:
    start = f"['sh', '-c', \"trap 'sleep 2; exit' TERM; echo started $$ >>{world.log}; echo ready; while :; do sleep 0.1; done\"]"
    code = f"""
import time, atexit
handle = procref.Service("server", {start}, ready="log:ready", runtime_dir=world.runtime_dir).acquire()
print(time.monotonic(), flush=True)
"""
    child = world.python(code, "-W", "error")
    output, errors = child.communicate(timeout=20)
    ended = time.monotonic()
    assert (child.returncode, errors) == (0, "")
    assert ended - float(output) < 1.5


def test_exit_calls_no_callback(world: World) -> None:
    code = """
import threading, time
service = world.service(delay=0.5, on_ready=lambda info: print("called"))
thread = threading.Thread(target=service.acquire, daemon=True)
thread.start()
while not world.count("started"):
    time.sleep(0.01)
"""
    done = world.run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_exit_while_an_asyncio_call_waits(world: World) -> None:
    code = """
from procref.aio import AsyncAcquire
import time
pending = world.service(delay=60)._start_acquire(lambda handle, error: print("called"))
while not world.count("started"):
    time.sleep(0.01)
"""
    begun = time.monotonic()
    done = world.run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - begun < 20


def test_killed_process_leaves_nothing(world: World) -> None:
    child = world.python("h = world.service().acquire(); print(h.pid, flush=True); sys.stdin.read()", stdin=-1)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    wait_until(lambda: ("stopped", pid) in world.events(), "the stop")
    world.check_nothing_is_left()


def test_subinterpreter_is_refused() -> None:
    try:
        import _interpreters as interpreters
    except ImportError:
        interpreters = pytest.importorskip("_xxsubinterpreters")
    import procref._native

    assert procref._native.__version__
    interpreter = interpreters.create()
    try:
        code = (
            "try:\n    import procref._native\nexcept ImportError as error:\n    assert 'subinterpreters' in str(error), error\n"
            "else:\n    raise AssertionError('imported')\n"
        )
        failed = interpreters.run_string(interpreter, code)
        assert failed is None, failed
    finally:
        interpreters.destroy(interpreter)
