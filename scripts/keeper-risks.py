#!/usr/bin/env python3
"""Checks what a keeper needs of its system: keeper-risks.py PROCREF.

Each check runs the program PROCREF in processes that are killed, and prints a line. On macOS every service has a keeper.
On Linux this script selects it. Exits with 1 after a check that failed.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

PROCREF = os.path.realpath(sys.argv[1])
# A client, which prints its pid and waits.
CLIENT = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
# A service that forks twice. The last process has its own session, and prints its pid to a file.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1] + '.new', 'w') as file:
            file.write(str(os.getpid()))
        os.rename(sys.argv[1] + '.new', sys.argv[1])
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""
MANY = 150
ROUNDS = 20
# The longest wait for an event of another process.
LIMIT = 60


class Scene:
    """A runtime directory with one service, and its clients."""

    def __init__(self, start="sleep 1000"):
        # The path is short, because the socket of a keeper stands in the directory.
        self.dir = tempfile.TemporaryDirectory(prefix="pk", dir="/tmp")
        self.start = start
        self.env = dict(os.environ, PROCREF_RUNTIME_DIR=self.dir.name, PROCREF_KERNEL="keeper")
        self.clients = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.kill()
            client.wait()
        self.procref("stop", "s", check=False)
        self.dir.cleanup()

    def procref(self, *arguments, check=True):
        command = [PROCREF, "--no-config", *arguments]
        return subprocess.run(command, env=self.env, check=check, capture_output=True, text=True).stdout

    def open_client(self, before=None):
        """Starts a client. Returns before the client has the service."""
        command = [PROCREF, "--no-config", "--quiet", "run", "s", "--start", self.start, "--ready", "started"]
        command += ["--", sys.executable, "-c", CLIENT]
        pipe = subprocess.PIPE
        client = subprocess.Popen(command, env=self.env, stdin=pipe, stdout=pipe, preexec_fn=before)
        self.clients.append(client)
        return client

    def client(self):
        """Starts a client, and returns it when it has the service."""
        client = self.open_client()
        expect(int(client.stdout.readline()), client.pid, "the pid of the program that `run` executes")
        return client

    def kill(self, client):
        """Kills a client, and returns when the kernel has reaped it."""
        self.clients.remove(client)
        client.kill()
        client.wait()

    def status(self):
        return json.loads(self.procref("status", "s", "--json"))

    def wait_stopped(self):
        self.procref("wait", "s", "--stopped", "--allow-unknown", "--timeout", f"{LIMIT}s")


def expect(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} and not {expected!r}")


def exists(pid):
    """Returns True if the process exists. A zombie that its parent has not reaped does not count."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_for(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {LIMIT} s for {what}")
        time.sleep(0.01)


def check_start():
    """A program becomes a keeper before its `main`, and counts a client that executes another program."""
    with Scene() as scene:
        client = scene.client()
        status = scene.status()
        expect(status["clients"], 1, "the clients after `execve`")
        expect([it["pid"] for it in status["holders"]], [client.pid], "the holders")
        keeper, service = status["supervisor"], status["pid"]
        scene.kill(client)
        scene.wait_stopped()
        wait_for("the keeper to exit", lambda: not exists(keeper))
        expect(exists(service), False, "the service after its last client was killed")
        expect(os.path.exists(status["kernel_object"]), False, "the keeper's file")


def check_order():
    """The count does not contain a client whose exit another process has waited for."""
    with Scene() as scene:
        scene.client()
        for _ in range(ROUNDS):
            scene.kill(scene.client())
            expect(scene.status()["clients"], 1, "the clients after `waitpid`")
    return f"{ROUNDS} rounds"


def check_killed_keeper():
    """A killed keeper loses no client, and its successor stops the service after the last one."""
    with Scene() as scene:
        clients = [scene.client() for _ in range(5)]
        keeper = scene.status()["supervisor"]
        os.kill(keeper, signal.SIGKILL)
        wait_for("the keeper to be gone", lambda: not exists(keeper))
        expect(scene.status()["clients"], 5, "the clients after the keeper was killed")
        for client in clients[1:]:
            scene.kill(client)
        # The next client starts the service again, with a supervisor in the successor.
        scene.client()
        expect(scene.status()["clients"], 2, "the clients of the successor")
        for client in list(scene.clients):
            scene.kill(client)
        scene.wait_stopped()


def check_many():
    """A keeper serves more clients than its starter may open files, and notices that all are killed at once."""

    def limit_files():
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))

    with Scene() as scene:
        for _ in range(MANY):
            scene.open_client(before=limit_files)
        for client in scene.clients:
            expect(int(client.stdout.readline()), client.pid, "the pid of a client")
        status = scene.status()
        expect(status["clients"], MANY, "the clients")
        for client in scene.clients:
            client.kill()
        scene.wait_stopped()
        expect(exists(status["pid"]), False, "the service after all clients were killed")
    return f"{MANY} clients"


def check_daemon():
    """The processes of a service are stopped with it, also one that has forked twice and has its own session."""
    with tempfile.TemporaryDirectory(prefix="pk", dir="/tmp") as files:
        program, pid = f"{files}/daemon.py", f"{files}/pid"
        with open(program, "w", encoding="utf-8") as file:
            file.write(DAEMON)
        with Scene(f"{sys.executable} {program} {pid}") as scene:
            client = scene.client()
            wait_for("the process of the service", lambda: os.path.exists(pid))
            with open(pid, encoding="utf-8") as file:
                daemon = int(file.read())
            expect(exists(daemon), True, "the process")
            scene.kill(client)
            scene.wait_stopped()
            wait_for("the process to exit", lambda: not exists(daemon))


failed = 0
for check in (check_start, check_order, check_killed_keeper, check_many, check_daemon):
    begun = time.monotonic()
    try:
        detail = check()
    except (AssertionError, OSError, ValueError, subprocess.CalledProcessError) as error:
        failed += 1
        print(f"FAILED: {check.__doc__} {error} {getattr(error, 'stderr', '') or ''}", flush=True)
    else:
        seconds = time.monotonic() - begun
        print(f"ok: {check.__doc__} ({f'{detail}, ' if detail else ''}{seconds:.1f} s)", flush=True)
sys.exit(failed > 0)
