"""Runs the commands in the files for editors, GitHub Actions, GitLab CI and direnv. scripts/integrations.sh starts this script.

A server on this machine stands in for the releases: it has an archive with the program in target/debug.
"""

import contextlib
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
import xml.etree.ElementTree

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
INTEGRATIONS = ROOT / "integrations"
PROCREF = ROOT / "target/debug/procref"
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
TARGET = f"{os.uname().machine}-unknown-linux-musl"
TIMEOUT = 120

CONFIG = """
[services.redis]
start = "redis-server --bind 127.0.0.1 --port {port} --save ''"
ready = "log:Ready to accept connections"
export = { REDIS_URL = "redis://127.0.0.1:{port}" }
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(directory):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=directory))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def create_releases(directory):
    """A copy of the releases, with the archive that the release workflow makes, and of the repository's files."""
    out = directory / f"v{VERSION}"
    archive = [sys.executable, ROOT / "scripts/release-archive.py", "--target", TARGET, "--program", PROCREF]
    subprocess.run([*archive, "--out", out], check=True, stdout=subprocess.DEVNULL)
    (out / "integrations").mkdir()
    shutil.copy(INTEGRATIONS / "install.sh", out / "integrations")
    # A release whose archive is not the one of the sum.
    broken = directory / "v9.9.9"
    broken.mkdir()
    name = f"procref-9.9.9-{TARGET}.tgz"
    (broken / name).write_text("something else")
    (broken / f"{name}.sha256").write_text(f"{'0' * 64}  {name}\n")


def environment(scratch, **variables):
    """The environment of a machine on which procref is not installed, with a runtime directory of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PROCREF")}
    run = scratch / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    return kept | {"PROCREF_RUNTIME_DIR": str(run)} | variables


def sh(script, env, cwd, shell="bash"):
    return subprocess.run(
        [shell, "-e", "-c", script], env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        stdin=subprocess.DEVNULL, timeout=TIMEOUT,
    )  # fmt: skip


def check(condition, message):
    if not condition:
        sys.exit(f"check-integrations.py: {message}")


def check_success(done, what):
    check(done.returncode == 0, f"{what} failed with {done.returncode}:\n{done.stdout}")


def check_github_action(scratch, releases):
    """Runs the step as the runner does, and a client with the PATH that the step has left."""
    (step,) = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    for version, installed in [("", True), (VERSION, True), ("9.9.9", False), ("9.9.8", False), ("main", False)]:
        temp = scratch / f"github-{version}"
        temp.mkdir()
        path, output = temp / "path", temp / "output"
        env = environment(
            scratch, VERSION=version, GITHUB_ACTION_PATH=str(ROOT), RUNNER_TEMP=str(temp), GITHUB_PATH=str(path),
            GITHUB_OUTPUT=str(output), PROCREF_RELEASES=releases,
        )  # fmt: skip
        done = sh(step["run"], env, scratch)
        if not installed:
            check(done.returncode != 0 and not path.exists(), f"version {version} was installed:\n{done.stdout}")
            expected = {"9.9.9": "SHA-256", "9.9.8": "could not download", "main": "is not a version"}[version]
            check(expected in done.stdout, f"version {version}: {done.stdout}")
            continue
        check_success(done, "action.yml")
        check(output.read_text() == f"version={VERSION}\n", f"output: {output.read_text()}")
        env["PATH"] = f"{path.read_text().strip()}:{env['PATH']}"
        done = sh("command -v procref; procref run redis -- sh -c 'redis-cli -u $REDIS_URL ping'", env, scratch)
        check_success(done, "a client after action.yml")
        check(str(temp) in done.stdout and "PONG" in done.stdout, done.stdout)


def check_gitlab_template(scratch, releases):
    """Runs the lines before the script in one shell, as the runner does."""
    job = yaml.safe_load((INTEGRATIONS / "gitlab/procref.gitlab-ci.yml").read_text())[".procref"]
    check(job["variables"]["PROCREF_VERSION"] == VERSION, f"the GitLab template does not install {VERSION}")
    variables = job["variables"] | {"PROCREF_SOURCE": releases, "PROCREF_CONFIG": str(scratch / "procref.toml")}
    env = environment(scratch, PROCREF_RELEASES=releases, **variables)
    # Jobs may run side by side on this machine, unlike in containers.
    lines = [line.replace("/tmp/", f"{scratch}/") for line in job["before_script"]]
    for shell in ["bash", "sh"]:
        script = "\n".join([*lines, "command -v procref", "procref run redis -- sh -c 'redis-cli -u $REDIS_URL ping'"])
        done = sh(script, env, scratch, shell)
        check_success(done, "the GitLab template")
        check(f"{scratch}/procref/bin/procref" in done.stdout and "PONG" in done.stdout, done.stdout)


def check_versions():
    """The examples name the version of the checkout."""
    for file in [ROOT / "docs/cli/ci.md", INTEGRATIONS / "gitlab/procref.gitlab-ci.yml"]:
        versions = re.findall(r"procref[@/]v([\d.]+\d)", file.read_text())
        check(versions and set(versions) == {VERSION}, f"{file.name} names the versions {versions}, not {VERSION}")


def check_vscode(scratch, env):
    tasks = {task["label"]: task for task in json.loads((INTEGRATIONS / "vscode/tasks.json").read_text())["tasks"]}
    for task in tasks.values():
        for name in task.get("dependsOn", []):
            check(name in tasks, f"tasks.json: there is no task {name}")
    hold = tasks["hold redis"]
    pattern = re.compile(hold["problemMatcher"]["background"]["endsPattern"])
    with hold_redis([hold["command"], *hold["args"]], env, scratch) as line:
        check(pattern.search(line), f"tasks.json: the pattern of `hold redis` does not match {line!r}")
        check_success(sh(tasks["variables of redis"]["command"], env, scratch), "`variables of redis`")
    check("REDIS_URL=" in (scratch / ".env").read_text(), ".env does not have the variable")
    check_success(run_command([tasks["test"]["command"], *tasks["test"]["args"]], env, scratch), "the task `test`")

    launch = json.loads((INTEGRATIONS / "vscode/launch.json").read_text())["configurations"]
    for configuration in launch:
        program = configuration["program"].replace("${workspaceFolder}", str(scratch))
        if "preLaunchTask" in configuration:
            # A debugger starts this program.
            check(configuration["preLaunchTask"] in tasks, "launch.json: the task does not exist")
            continue
        if "python" in configuration:
            runtime = configuration["python"]
        else:
            runtime = [configuration["runtimeExecutable"], *configuration["runtimeArgs"]]
        done = run_command([*runtime, program], env, scratch)
        check_success(done, configuration["name"])
        check(done.stdout.startswith("redis://127.0.0.1:"), done.stdout)


@contextlib.contextmanager
def hold_redis(command, env, cwd):
    """Runs a command that holds Redis, and stops it as an editor does. The value is the line that the command prints."""
    with subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running.stdout.readline()
        finally:
            running.terminate()
    check(running.returncode == 0, f"{command} exited with {running.returncode}")


def run_command(command, env, cwd):
    return subprocess.run(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT
    )


def check_jetbrains(scratch, env):
    for file in sorted((INTEGRATIONS / "jetbrains").glob("*.xml")):
        options = xml.etree.ElementTree.parse(file).findall("configuration/option")
        values = {option.get("name"): option.get("value") for option in options}
        command = [values["INTERPRETER_PATH"], "-c", values["SCRIPT_TEXT"]]
        if "hold" in values["SCRIPT_TEXT"]:
            with hold_redis(command, env, scratch) as line:
                check(line.startswith("redis: pid "), f"{file.name} did not start Redis")
        else:
            check_success(run_command(command, env, scratch), file.name)


def check_direnv(scratch, env):
    """The page docs/cli/direnv.md runs what succeeds. These are the failures, and a shell that is killed."""
    home = scratch / "home"
    library = home / ".config/direnv/lib"
    library.mkdir(parents=True)
    shutil.copy(INTEGRATIONS / "direnv/procref.sh", library)
    env = {name: value for name, value in env.items() if not name.startswith(("DIRENV_", "XDG_"))} | {"HOME": str(home)}
    for names, expected, variables in [
        ("redis", "", "redis://"),
        ("nonsense redis", "service nonsense was not started", "redis://"),
        ("", "the name of a service is missing", "[]"),
    ]:
        (scratch / ".envrc").write_text(f"use procref {names}\n")
        check_success(sh("direnv allow", env, scratch), "direnv allow")
        # The program is killed, so it cannot release the service.
        done = sh("direnv exec . bash -c 'echo [$REDIS_URL]; kill -KILL $$'", env, scratch)
        check(expected in done.stdout and variables in done.stdout, f"`use procref {names}`: {done.stdout}")
        check_nothing_left(scratch, env)


def check_nothing_left(scratch, env):
    subprocess.run([PROCREF, "wait", "redis", "--stopped", "--timeout", "30s"], env=env, cwd=scratch, check=True)
    left = [
        path.name
        for path in (scratch / "run").rglob("*")
        if not path.is_dir() and path.name != "project" and ".kept.log" not in path.name
    ]
    check(not left, f"leftovers: {left}")


def main():
    check_versions()
    with tempfile.TemporaryDirectory(prefix="procref-integrations-") as name:
        scratch = pathlib.Path(name)
        (scratch / "procref.toml").write_text(CONFIG)
        (scratch / "package.json").write_text(json.dumps({"scripts": {"test": 'test -n "$REDIS_URL"'}}))
        (scratch / "main.mjs").write_text("console.log(process.env.REDIS_URL);\n")
        (scratch / "main.py").write_text("import os\n\nprint(os.environ['REDIS_URL'])\n")
        releases = scratch / "releases"
        create_releases(releases)
        with serve(releases) as url:
            check_github_action(scratch, url)
            check_gitlab_template(scratch, url)
        env = environment(scratch, PATH=f"{PROCREF.parent}:{os.environ['PATH']}")
        check_vscode(scratch, env)
        check_jetbrains(scratch, env)
        check_nothing_left(scratch, env)
        check_direnv(scratch, env)
    print("the commands for GitHub Actions, GitLab CI, VS Code, JetBrains and direnv work")


if __name__ == "__main__":
    main()
