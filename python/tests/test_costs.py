"""Costs. The limits are those for an optimized build on an idle machine, times ten: a test build is slower."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import procref
from conftest import World


def least(call: Callable[[], object], times: int) -> float:
    """Returns the shortest time of a call in seconds. Other processes can only make a call slower."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return min(took)


def report(name: str, seconds: float, limit: float) -> None:
    print(f"{name}: {seconds * 1e6:.1f} µs")
    assert seconds < limit


def test_import_takes_little() -> None:
    code = (
        "import time; begun = time.perf_counter(); import procref; package = time.perf_counter(); import procref._native;"
        "print(package - begun, time.perf_counter() - package)"
    )

    def run() -> tuple[float, ...]:
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        return tuple(map(float, output.split()))

    package, native = (min(times) for times in zip(*(run() for _ in range(5)), strict=True))
    report("import procref", package, 0.005)
    # The test build has its debug information.
    report("import of the extension", native, 0.05)


def test_another_handle_takes_little(world: World) -> None:
    service = world.service()
    with service.acquire():
        handles: list[procref.Handle] = []
        report("another handle", least(lambda: handles.append(service.acquire()), 200), 150e-6)
        report("its release", least(lambda: handles.pop().release(), 200), 300e-6)


def test_join_by_another_process_takes_little(world: World) -> None:
    code = """
import time
took = []
for _ in range(20):
    service = world.service()
    begun = time.perf_counter()
    handle = service.acquire()
    took.append(time.perf_counter() - begun)
    handle.release()
print(took[0], min(took))
"""
    with world.service().acquire():
        done = world.run(code)
    assert done.returncode == 0, done.stderr
    first, shortest = map(float, done.stdout.split())
    report("join by a fresh process", first, 0.01)
    report("join again", shortest, 0.001)
