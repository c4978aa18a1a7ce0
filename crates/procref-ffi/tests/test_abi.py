#!/usr/bin/env python3
"""Tests the installed C library from outside. scripts/ffi.sh installs it and runs this.

The service writes each start and each orderly end to a log, so a test sees how often it was started and stopped. After each
test, no process, file or semaphore set of the service may be left.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PREFIX = pathlib.Path(os.environ["PROCREF_PREFIX"])
BIN = PREFIX / "test-programs"
SERVICE = HERE / "service.py"
PROCREF = HERE.parent.parent.parent / "target/debug/procref"
TIMEOUT = 30

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wstrict-prototypes", "-Werror"]


def pkg_config(*arguments):
    return subprocess.check_output(["pkg-config", *arguments, "procref"], text=True).split()


def compile_program(name, source, compiler="cc", standard="-std=c11", flags=(), libraries=None):
    program = BIN / name
    warnings = [it for it in WARNINGS if compiler == "cc" or it != "-Wstrict-prototypes"]
    command = [compiler, standard, "-g", *warnings, *flags, *pkg_config("--cflags"), "-o", program, HERE / source]
    subprocess.run([*command, *(pkg_config("--libs") if libraries is None else libraries), "-pthread"], check=True)
    return program


def setUpModule():
    BIN.mkdir()
    compile_program("shared", "c/client.c")
    private = [it for it in pkg_config("--static", "--libs") if it != "-lprocref"]
    compile_program("static", "c/client.c", libraries=["-Wl,-Bstatic", "-L", PREFIX / "lib", "-lprocref", "-Wl,-Bdynamic", *private])
    compile_program("asan", "c/client.c", flags=["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
    compile_program("cplusplus", "c/client.cpp", compiler="c++", standard="-std=c++17")
    compile_program("plugin", "c/plugin.c", standard="-std=gnu11", libraries=["-ldl"])


def wait_until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {TIMEOUT} s: {what}")
        time.sleep(0.01)


class Case(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="procref-ffi-")
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)
        (self.dir / "run").mkdir(mode=0o700)

    def log(self):
        log = self.dir / "log"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def pids(self):
        """The processes of this test's service, and its supervisors, by a path that their command lines contain."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if os.fsencode(str(self.dir)) in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                pass  # The process has exited.
        return found

    def check_lives(self, count):
        """The service was started `count` times, and stopped in order each time. Nothing is left."""
        wait_until(lambda: self.log().count("stop") == count, f"{count} orderly ends: {self.log()}")
        self.assertEqual(self.log(), ["start", "stop"] * count)
        self.check_nothing_left()

    def check_nothing_left(self):
        wait_until(lambda: not self.pids(), f"the end of the processes {self.pids()}")
        files = lambda: [it for it in (self.dir / "run").rglob("*") if it.is_file() and ".kept.log" not in it.name and it.name != "project"]
        wait_until(lambda: not files(), f"the removal of {files()}")

    def start(self, *command, **options):
        process = subprocess.Popen(
            [*command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def run_program(self, *command, timeout=TIMEOUT, **options):
        process = self.start(*command, **options)
        out, err = process.communicate(timeout=timeout)
        self.assertEqual(process.returncode, 0, out + err)
        return out


class Library(Case):
    def test_symbols_are_those_of_the_header(self):
        listed = subprocess.check_output(["nm", "-D", "--defined-only", PREFIX / "lib/libprocref.so"], text=True)
        exported = {line.split()[-1].split("@")[0] for line in listed.splitlines()}
        header = (PREFIX / "include/procref.h").read_text()
        code = "\n".join(line for line in header.splitlines() if not line.lstrip().startswith("//"))
        declared = set(re.findall(r"\b(procref_\w+)\(", code))
        self.assertGreater(len(declared), 20)
        self.assertEqual(exported, declared)

    def test_library_names_its_interface(self):
        dynamic = subprocess.check_output(["readelf", "-d", PREFIX / "lib/libprocref.so"], text=True)
        abi = re.search(r"#define PROCREF_ABI_VERSION (\d+)", (PREFIX / "include/procref.h").read_text())[1]
        self.assertIn(f"Library soname: [libprocref.so.{abi}]", dynamic)
        self.assertIn("NODELETE", dynamic)


class Programs(Case):
    def client(self, test, build="shared", wrapper=()):
        return [*wrapper, BIN / build, test, self.dir, SERVICE]

    def test_client_calls_every_function(self):
        for lives, build in enumerate(["shared", "static", "asan"], 1):
            self.run_program(*self.client("every_function", build))
            # The program stops the service once with `force`.
            self.check_lives(2 * lives)

    def test_client_may_ignore_sigchld(self):
        # Then the kernel reaps the children of the client, also those of procref.
        ignore = ["bash", "-c", 'trap "" CHLD; exec "$@"', "bash"]
        self.run_program(*self.client("every_function", wrapper=ignore))
        self.check_lives(2)

    def test_mistake_is_an_error_and_no_crash(self):
        for lives, build in enumerate(["shared", "static", "asan"], 1):
            self.run_program(*self.client("mistakes", build))
            self.check_lives(2 * lives)

    def test_forked_child_owns_no_reference(self):
        for lives, build in enumerate(["shared", "static", "asan"], 1):
            self.run_program(*self.client("forked", build))
            self.check_lives(lives)

    def test_threads_share_all_objects(self):
        for lives, build in enumerate(["shared", "static", "asan"], 1):
            self.run_program(*self.client("threads", build))
            self.check_lives(lives)

    def test_valgrind_reports_no_error(self):
        # The supervisor begins as a copy of this process, and unmaps what belongs to the parent: its allocations are no leaks.
        valgrind = ["valgrind", "--quiet", "--child-silent-after-fork=yes", "--error-exitcode=99"]
        valgrind += ["--leak-check=full", "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]
        tests = [(2, "every_function"), (4, "mistakes"), (5, "threads"), (6, "forked")]
        for lives, test in tests:
            self.run_program(*self.client(test, wrapper=valgrind), timeout=600)
            self.check_lives(lives)

    def test_project_service_has_its_dependency(self):
        config = f"""
[services.db]
start = ["python3", "{SERVICE}", "{self.dir}/db.log", "{{port}}"]

[services.web]
start = ["python3", "{SERVICE}", "{self.dir}/log", "{{port}}"]
depends-on = ["db"]
export = {{ WEB_URL = "http://127.0.0.1:{{port}}/?db={{db.port}}" }}
"""
        (self.dir / "procref.toml").write_text(config)
        run = os.environ | {"PROCREF_RUNTIME_DIR": str(self.dir / "run"), "PROCREF_BINARY": str(PROCREF)}
        for lives, build in enumerate(["shared", "static", "asan"], 1):
            self.run_program(*self.client("project", build), env=run)
            self.check_lives(lives)
            db = (self.dir / "db.log").read_text().splitlines()
            self.assertEqual([line.split()[0] for line in db], ["start", "stop"] * lives)

    def test_ctrl_c_cancels_a_start(self):
        for build in ["shared", "asan"]:
            process = self.start(*self.client("interrupt", build))
            wait_until(lambda: self.log()[-1:] == ["start"], "the start of the service")
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
            self.assertEqual((process.returncode, out), (0, "acquiring\ncancelled\n"), err)
            self.assertLess(time.monotonic() - begun, 10)
            self.check_nothing_left()

    def test_ctrl_c_cancels_the_wait_for_another_start(self):
        starter = self.start(*self.client("interrupt"))
        wait_until(lambda: self.log()[-1:] == ["start"], "the start of the service")
        waiter = self.start(*self.client("interrupt"))
        self.assertEqual(waiter.stdout.readline(), "acquiring\n")
        stat = pathlib.Path(f"/proc/{waiter.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", "the wait for the other start")
        waiter.send_signal(signal.SIGINT)
        self.assertEqual(waiter.stdout.readline(), "cancelled\n")
        self.assertIsNone(starter.poll())
        self.assertEqual(self.log(), ["start"])
        starter.send_signal(signal.SIGINT)
        for client in [starter, waiter]:
            _, err = client.communicate(timeout=TIMEOUT)
            self.assertEqual(client.returncode, 0, err)
        self.check_nothing_left()

    def test_exception_in_a_callback_ends_the_process(self):
        client = self.start(BIN / "cplusplus", self.dir, SERVICE, "throw")
        _, err = client.communicate(timeout=TIMEOUT)
        self.assertEqual(client.returncode, -signal.SIGABRT, err)
        wait_until(lambda: self.log() == ["start", "stop"], f"the end of the service: {self.log()}")
        self.check_nothing_left()

    def test_programs_share_one_service(self):
        holders = [self.start(*self.client("hold", build)) for build in ["shared", "static"]]
        instances = {holder.stdout.readline() for holder in holders}
        self.assertEqual(len(instances), 1, instances)
        for holder in holders:
            self.assertEqual(self.log(), ["start"])
            holder.communicate(timeout=TIMEOUT)
            self.assertEqual(holder.returncode, 0)
        self.check_lives(1)

    def test_service_is_stopped_after_its_clients_are_killed(self):
        holders = [self.start(*self.client("hold", build)) for build in ["shared", "static"]]
        for holder in holders:
            holder.stdout.readline()
        for holder in holders:
            holder.kill()
        self.check_lives(1)

    def test_cplusplus_program_owns_objects(self):
        self.run_program(BIN / "cplusplus", self.dir, SERVICE)
        self.check_lives(1)


class Languages(Case):
    """Programs that load the library while they run. Each one prints the pid of the service."""

    def check_program(self, *command):
        pid = int(self.run_program(*command, PREFIX / "lib/libprocref.so", self.dir, SERVICE))
        self.check_lives(1)
        self.assertIn(f"start {pid}\n", (self.dir / "log").read_text())

    def test_plugin_loads_and_unloads_the_library(self):
        self.check_program(BIN / "plugin")

    def test_python_calls_the_library(self):
        self.check_program(sys.executable, HERE / "client.py")

    def test_ruby_calls_the_library(self):
        self.check_program("ruby", HERE / "client.rb")


if __name__ == "__main__":
    unittest.main(verbosity=2)
