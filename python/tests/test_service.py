from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import procref
import pytest
from conftest import World, is_alive, semaphore_sets, wait_until


def test_service_starts_once_and_stops_after_its_last_client(world: World) -> None:
    service = world.service()
    assert world.events() == []
    first = service.acquire()
    second = world.service().acquire()
    child = world.python("h = world.service().acquire(); print(h.pid, flush=True); sys.stdin.read()", stdin=-1)
    assert child.stdout is not None
    assert int(child.stdout.readline()) == first.pid == second.pid
    assert service.status().clients == 2
    assert int(service.kernel_object, 16) in semaphore_sets()
    first.release()
    second.release()
    assert is_alive(first.pid)
    child.send_signal(signal.SIGKILL)
    assert service.wait_stopped(20)
    assert world.events() == [("started", first.pid), ("stopped", first.pid)]


def test_release_waits_for_the_stop_if_it_is_the_last(world: World) -> None:
    service = world.service()
    with service.acquire() as handle:
        assert is_alive(handle.pid)
    assert world.events() == [("started", handle.pid), ("stopped", handle.pid)]
    assert not is_alive(handle.pid)
    assert service.status().state == "absent"
    handle.release()
    assert handle.released


def test_release_does_not_wait_for_a_lingering_service(world: World) -> None:
    service = world.service(linger=60)
    with service.acquire() as handle:
        pass
    # The time begins when the supervisor has noticed that no client is left.
    wait_until(lambda: service.status().linger_left is not None, "the time begins")
    status = service.status()
    assert (status.state, status.clients, status.linger) == ("ready", 0, 60)
    assert status.linger_left is not None and 40 < status.linger_left <= 60
    assert service.stop() is True
    assert not is_alive(handle.pid)
    assert service.stop() is False


def test_release_does_not_wait_for_the_next_client(world: World) -> None:
    # The server takes a while to stop, and the child acquires the service in this time.
    service = procref.Service(
        "server",
        ["sh", "-c", f"trap 'sleep 1; exit' TERM; echo started $$ >>{world.log}; echo ready; while :; do sleep 0.1; done"],
        ready="log:ready",
        runtime_dir=world.runtime_dir,
    )
    handle = service.acquire()
    child = world.python(
        "s = procref.Service('server', ['sleep', '60'], ready='started', runtime_dir=world.runtime_dir)\n"
        "sys.stdin.readline(); h = s.acquire(); print('acquired', flush=True); sys.stdin.readline()",
        stdin=-1,
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    # The child joins now, or starts the service again while this process waits for the stop.
    begun = time.monotonic()
    handle.release()
    assert child.stdout.readline() == "acquired\n"
    assert time.monotonic() - begun < 10
    assert service.status().clients == 1
    child.stdin.write("\n")
    child.stdin.close()
    assert child.wait(20) == 0


def test_handle_describes_the_instance(world: World) -> None:
    service = world.service("my server", port="auto")
    with service.acquire() as handle:
        assert handle.info == procref.Service.status(service).info
        assert (handle.pid, handle.port) == (handle.info.pid, handle.info.port)
        assert handle.generation == 1 and handle.released is False
        assert handle.current() == handle.info
        assert dict(handle.info.metadata) == {}
        env = handle.env
        assert env["PROCREF_NAME"] == "my server" and env["PROCREF_PORT"] == str(handle.port)
        assert env["PROCREF_PID"] == str(handle.pid) and env["PROCREF_DIR"] == str(service.runtime_dir)
        match handle.info:
            case procref.Info(pid, port):
                assert (pid, port) == (handle.pid, handle.port)
        assert Path(f"/proc/{handle.pid}/environ").read_bytes().count(b"PORT=%d\0" % handle.port) >= 1
    assert "PROCREF_PORT" not in os.environ


def test_status_describes_the_service(world: World) -> None:
    service = world.service(fingerprint="v1", linger=1)
    absent = service.status()
    assert (absent.state, absent.clients, absent.info, absent.log, absent.uptime) == ("absent", 0, None, None, None)
    with service.acquire() as handle:
        status = service.status()
        assert (status.state, status.clients, status.generation) == ("ready", 1, 1)
        assert [holder.pid for holder in status.holders] == [os.getpid()]
        assert status.holders[0].command is not None and not status.holders[0].suspended
        assert status.started_at is not None and abs(status.started_at - time.time()) < 20
        assert status.uptime is not None and status.uptime < 20
        assert status.supervisor is not None and is_alive(status.supervisor)
        assert (status.fingerprint, status.pinned, status.exit_status) == ("v1", False, None)
        assert str(world.log) in status.command_line
        assert status.log is not None and "ready to accept" in status.log.read_text()
        os.kill(handle.pid, signal.SIGKILL)
        assert handle.wait_dead(20)
        wait_until(lambda: service.status().exit_status is not None, "the exit status")
        assert service.status().exit_status == -signal.SIGKILL
        assert service.status().state == "dead"
        assert handle.current() is None


def test_try_join_never_starts(world: World) -> None:
    service = world.service()
    assert service.try_join() is None
    assert world.events() == []
    with service.acquire() as handle:
        joined = service.try_join()
        assert joined is not None and joined.pid == handle.pid
        joined.release()


def test_pin_keeps_the_service_until_unpin(world: World) -> None:
    service = world.service()
    with service.acquire() as handle:
        handle.pin()
    assert service.status().pinned and is_alive(handle.pid)
    assert service.wait_stopped(timeout=0.05) is False
    assert service.unpin() is True
    assert service.wait_stopped(20)
    assert service.unpin() is False


def test_force_stop_ends_a_held_service(world: World) -> None:
    service = world.service()
    with service.acquire() as handle:
        with pytest.raises(procref.Held) as refused:
            service.stop()
        assert list(refused.value.holders) == [os.getpid()]
        assert handle.wait_dead(0) is False
        assert service.stop(force=True) is True
        assert handle.wait_dead() is True


def test_released_handle_is_an_error(world: World) -> None:
    handle = world.service().acquire()
    handle.release()
    for call in (handle.current, handle.pin, handle.wait_dead):
        with pytest.raises(procref.Error, match="service `server`: the handle was released"):
            call()


def test_on_ready_runs_once_for_each_instance(world: World) -> None:
    seen: list[procref.Info] = []
    service = world.service(on_ready=seen.append)
    with service.acquire() as handle, world.service(on_ready=seen.append).acquire():
        assert seen == [handle.info]
    with service.acquire():
        assert len(seen) == 2


def test_on_ready_that_raises_is_the_cause(world: World) -> None:
    def migrate(info: procref.Info) -> None:
        raise ValueError("migration 7 failed")

    with pytest.raises(procref.StartError, match="`on_ready` failed: ValueError: migration 7 failed") as failed:
        world.service(on_ready=migrate).acquire()
    assert isinstance(failed.value.__cause__, ValueError)
    world.check_nothing_is_left()


def test_on_ready_that_exits_is_no_ordinary_error(world: World) -> None:
    def leave(info: procref.Info) -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit) as left:
        world.service(on_ready=leave).acquire()
    assert left.value.code == 7


def test_on_ready_that_acquires_its_own_service_is_an_error(world: World) -> None:
    def migrate(info: procref.Info) -> None:
        world.service().acquire()

    with pytest.raises(procref.StartError, match="its own callback acquires it, and would wait for itself"):
        world.service(on_ready=migrate).acquire()
    world.check_nothing_is_left()


def test_health_decides_whether_to_restart(world: World) -> None:
    healthy = True
    service = world.service(health=lambda info: healthy)
    with service.acquire() as first:
        assert service.try_join() is not None
        healthy = False
        assert service.try_join() is None
    assert first.pid


def test_start_that_fails_has_the_output(world: World) -> None:
    service = procref.Service("server", ["sh", "-c", "echo no such table; exit 3"], runtime_dir=world.runtime_dir)
    with pytest.raises(procref.StartError, match="exited with status 3") as failed:
        service.acquire()
    assert (failed.value.exit_status, failed.value.log_tail) == (3, "no such table")
    killed = procref.Service("server", ["sh", "-c", "kill -9 $$"], runtime_dir=world.runtime_dir)
    with pytest.raises(procref.StartError) as failed:
        killed.acquire()
    assert failed.value.exit_status == -9
    missing = procref.Service("server", ["no-such-program"], runtime_dir=world.runtime_dir)
    with pytest.raises(procref.StartError, match="no-such-program") as failed:
        missing.acquire()
    assert failed.value.exit_status is None and failed.value.log_tail == ""
    slow = world.service(delay=60, start_timeout=0.2)
    with pytest.raises(procref.StartError, match="was not ready within 200ms"):
        slow.acquire()


def test_wait_that_takes_too_long_is_a_timeout(world: World) -> None:
    starter = world.python("world.service(delay=60).acquire()")
    wait_until(lambda: world.count("started"), "the start")
    with pytest.raises(procref.Timeout) as late:
        world.service(wait_timeout=0.2).acquire()
    assert isinstance(late.value, TimeoutError) and late.value.holder == starter.pid
    starter.kill()


def test_other_fingerprint_is_a_mismatch(world: World) -> None:
    with world.service(fingerprint="one").acquire() as handle:
        with pytest.raises(procref.Mismatch) as refused:
            world.service(fingerprint="two").acquire()
        assert (refused.value.running, refused.value.wanted) == ("one", "two")
        world.service(fingerprint="two", mismatch="join").acquire().release()
        separate = world.service(fingerprint="two", mismatch="separate")
        with separate.acquire() as other:
            assert other.pid != handle.pid


def test_start_may_be_one_text(world: World) -> None:
    words = " ".join(f"'{word}'" for word in world.start())
    service = procref.Service("server", words, ready="log:ready to accept", runtime_dir=world.runtime_dir)
    with service.acquire():
        assert world.count("started") == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", 3),
        ("start", 3),
        ("start", b"server"),
        ("start", ["server", 3]),
        ("start", "server \udcff"),
        ("port", "some"),
        ("port", 1.5),
        ("ready", 3),
        ("env", "A=1"),
        ("env", {"A": 1}),
        ("cwd", 3),
        ("log", b"x"),
        ("stop_signal", 1.5),
        ("grace", "10"),
        ("linger", "1s"),
        ("start_timeout", [1]),
        ("wait_timeout", "x"),
        ("fingerprint", 3),
        ("mismatch", 3),
        ("on_ready", "migrate"),
        ("health", True),
        ("project", 3),
        ("runtime_dir", 3),
    ],
)
def test_argument_of_wrong_type_is_named(setting: str, value: Any) -> None:
    settings = {"name": "server", "start": ["server"], setting: value}
    with pytest.raises(TypeError, match=f"argument '{setting}': expected .*, found "):
        procref.Service(**settings)


def test_unknown_argument_is_named() -> None:
    with pytest.raises(TypeError, match="'no_such'"):
        procref.Service("server", ["server"], no_such=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("name", "", "it is empty"),
        ("start", [], "start: it is empty"),
        ("start", "", "start: "),
        ("start", "server | tee log", "start: "),
        ("start", [""], "invalid start: the program is empty"),
        ("port", 0, "port: 0 is not a number from 1 to 65535"),
        ("port", 70000, "port: 70000"),
        ("ready", "postgres", "ready: "),
        ("ready", "log:(", "invalid ready: "),
        ("cwd", "", "invalid cwd: the path is empty"),
        ("stop_signal", "SIGFOO", "stop_signal: "),
        ("stop_signal", 99, "stop_signal: 99 is not a signal"),
        ("grace", -1, "grace: -1 is not a number of seconds, 0 or more"),
        ("linger", float("nan"), "linger: NaN"),
        ("linger", 1e9, "invalid linger: "),
        ("start_timeout", float("inf"), "start_timeout: inf"),
        ("fingerprint", "", "invalid fingerprint: "),
        ("mismatch", "ignore", "mismatch: "),
    ],
)
def test_invalid_argument_is_a_config_error(setting: str, value: Any, problem: str) -> None:
    settings = {"name": "server", "start": ["server"], setting: value}
    with pytest.raises(procref.ConfigError) as refused:
        procref.Service(**settings)
    assert problem in str(refused.value)
    assert list(refused.value.problems) == [str(refused.value)]
    assert "\n" not in str(refused.value)


def test_none_is_the_default_of_each_setting(world: World) -> None:
    import inspect

    names = [name for name in inspect.signature(procref.Service).parameters if name not in ("name", "start")]
    assert len(names) == 16
    procref.Service("server", ["server"], **dict.fromkeys(names))  # type: ignore[arg-type]


def test_texts_of_objects_name_them(world: World) -> None:
    service = world.service()
    assert repr(service) == f'<procref.Service "server" in "{world.runtime_dir}">'
    with service.acquire() as handle:
        assert repr(handle) == f'<procref.Handle "server", pid={handle.pid}, port={handle.port}>'
        assert repr(handle.info) == f"Info(pid={handle.pid}, port={handle.port}, metadata={{}})"
        assert repr(service.status()) == "<procref.Status ready, clients=1>"
    assert repr(handle).endswith(", released>")
