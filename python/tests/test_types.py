"""A program that uses the whole interface, for type checkers: `mypy --strict` checks it. It is never executed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import procref
import procref.pytest

REDIS = procref.Service(
    "redis",
    ["redis-server", Path("redis.conf"), "--port", "{port}"],
    port="auto",
    ready="log:Ready",
    env={"LANG": "C"},
    cwd=Path("."),
    log="redis.log",
    stop_signal=15,
    grace=5,
    linger=0.5,
    start_timeout=10,
    wait_timeout=20,
    fingerprint="v1",
    mismatch="join",
    on_ready=print,
    health=lambda info: info.port > 0,
    project=Path("."),
    runtime_dir="run",
)


def use() -> None:
    with REDIS.acquire() as handle:
        port: int = handle.port
        env: dict[str, str] = handle.env
        metadata: Mapping[str, str] = handle.info.metadata
        dead: bool = handle.wait_dead(1)
        current: procref.Info | None = handle.current()
        handle.pin()
        print(port, env, metadata, dead, current, handle.generation, handle.pid, handle.released)
    joined: procref.Handle | None = REDIS.try_join()
    status: procref.Status = REDIS.status()
    pids: list[int] = [holder.pid for holder in status.holders]
    log: Path | None = status.log
    print(joined, pids, log, REDIS.stop(force=True), REDIS.unpin(), REDIS.wait_stopped(1), REDIS.runtime_dir)


async def use_async() -> None:
    async with REDIS.acquire_async() as handle:
        print(handle.port)
    handle = await asyncio.wait_for(wait(), 5)
    await handle.release_async()


async def wait() -> procref.Handle:
    return await REDIS.acquire_async()


def handle_errors() -> None:
    try:
        use()
    except procref.StartError as error:
        status: int | None = error.exit_status
        print(status, error.log_tail, error.log)
    except procref.Timeout as error:
        timeout: TimeoutError = error
        print(timeout, error.holder)
    except procref.Held as error:
        print(sum(error.holders))
    except procref.Mismatch as error:
        print(error.running, error.wanted)
    except procref.ConfigError as error:
        print("\n".join(error.problems))
    except (procref.Dead, procref.Unsupported) as error:
        base: procref.Error = error
        print(base)


def use_project() -> None:
    project: procref.Project = procref.load()
    services: Mapping[str, procref.Service] = project
    service = project.service("pg", linger=2, on_ready=lambda name, info: print(name, info.port))
    print(services, service.name, project.file.parent, procref.find_binary(), procref.__version__)


pg = procref.pytest.service("pg")


def use_fixtures(pg: procref.Handle, procref_service: Callable[[str], procref.Handle], procref_space: str) -> None:
    """What a test of a user gets."""
    print(pg.port, procref_service("pg").port, procref_space.upper())


def wrong() -> None:
    procref.Service("redis", 3)  # type: ignore[arg-type]
    procref.Service("redis", "x", port="some")  # type: ignore[arg-type]
    procref.Service("redis", "x", unknown=1)  # type: ignore[call-arg]
    REDIS.acquire().port = 3  # type: ignore[misc]
