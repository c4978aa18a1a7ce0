"""The library inside a process that is not its own: no threads and little memory are left of a start."""

from __future__ import annotations

import sys
from pathlib import Path

import procref
from conftest import World


def test_start_leaves_no_thread(world: World) -> None:
    """Python warns about a fork while the process has other threads."""
    code = """
from pathlib import Path
counts = []
for _ in range(5):
    with world.service().acquire():
        counts.append(len(list(Path("/proc/self/task").iterdir())))
print(min(counts))
"""
    # On a busy machine, a thread may need longer to exit than the acquire waits for it. So the smallest count decides.
    done = world.run(code)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_supervisor_keeps_little_memory_of_the_interpreter(world: World) -> None:
    code = """
import asyncio, ctypes, decimal, json, sqlite3, ssl
ballast = bytearray(50 << 20)
handle = world.service().acquire()
supervisor = world.service().status().supervisor
for pid in (supervisor, "self"):
    sums = dict.fromkeys(("Rss", "Anonymous", "Private_Dirty", "Private_Clean", "extension"), 0)
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        field, *values = line.split()
        if not field.endswith(":"):
            name = line
        elif field[:-1] in sums:
            sums[field[:-1]] += int(values[0])
            if field == "Anonymous:" and "/procref/_native" in name:
                sums["extension"] += int(values[0])
    print(*sums.values())
handle.release()
"""
    done = world.run(code)
    assert done.returncode == 0, done.stderr
    (rss, anonymous, dirty, clean, extension), (_, interpreter, _, _, _) = (
        map(int, line.split()) for line in done.stdout.splitlines()
    )
    print(f"supervisor: {rss} KiB resident, {anonymous} anonymous ({extension} of the extension), {dirty + clean} private")
    assert interpreter > 50 << 10
    # The relocated tables of the extension grow with its code. The supervisor needs them, and shares them.
    assert extension > 0 and anonymous - extension <= 256
    assert dirty + clean <= 512


def test_service_reports_its_port_and_metadata(world: World) -> None:
    """The service binds a free port by itself, and reports it."""
    server = world.directory / "notifying.py"
    server.write_text(
        "import os, signal, socket\n"
        f"log = open({str(world.log)!r}, 'a', buffering=1)\n"
        "print('started', os.getpid(), file=log)\n"
        "def stop(*_):\n"
        "    print('stopped', os.getpid(), file=log)\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "port = listener.getsockname()[1]\n"
        "notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "address = os.environ['NOTIFY_SOCKET']\n"
        "notify.connect(address.replace('@', '\\0', 1))\n"
        "notify.send(f'PROCREF_PORT={port}\\nPROCREF_META_token=secret\\nREADY=1'.encode())\n"
        "while True:\n"
        "    connection, _ = listener.accept()\n"
        "    connection.sendall(str(os.getpid()).encode())\n"
        "    connection.close()\n"
    )
    start = [sys.executable, "-S", str(server)]
    seen: list[procref.Info] = []
    service = procref.Service("server", start, ready="notify", runtime_dir=world.runtime_dir, on_ready=seen.append)
    with service.acquire() as handle:
        import socket

        with socket.create_connection(("127.0.0.1", handle.port)) as connection:
            assert int(connection.recv(100)) == handle.pid
        assert dict(handle.info.metadata) == {"token": "secret"}
        assert handle.env["PROCREF_META_TOKEN"] == "secret"
        assert seen == [handle.info]
        joined = service.try_join()
        assert joined is not None and joined.info == handle.info
        joined.release()
        assert Path(f"/proc/{handle.pid}").exists()
