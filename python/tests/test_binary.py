"""The command line in the wheel, in each layout in which it may be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import procref
import pytest

FIND = "import procref; print(procref.find_binary())"


def find(python: str, *options: str, **env: str) -> Path:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept["PATH"] = "/nonexistent"
    command = [python, *options, "-c", FIND]
    done = subprocess.run(command, env=kept | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def copy_package(target: Path, scripts: Path) -> Path:
    """Copies the installed package as pip would install it there. Returns the path of the command line."""
    package = Path(procref.__file__).parent
    shutil.copytree(package, target / "procref", ignore=shutil.ignore_patterns("_native*", "__pycache__"))
    scripts.mkdir(parents=True, exist_ok=True)
    binary = scripts / "procref"
    # A small program in its place is enough.
    binary.write_text("#!/bin/sh\necho procref\n")
    binary.chmod(0o755)
    return binary


def test_command_line_is_installed_beside_the_interpreter() -> None:
    binary = Path(procref.find_binary())
    assert binary == Path(sys.prefix) / "bin" / "procref"
    for command in ([str(binary), "--version"], [sys.executable, "-m", "procref", "--version"]):
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert output.strip() == f"procref {procref.__version__}"


def test_command_line_is_found_in_a_target_directory(tmp_path: Path) -> None:
    binary = copy_package(tmp_path / "target", tmp_path / "target" / "bin")
    assert find(bare_python(), "-S", PYTHONPATH=str(tmp_path / "target")) == binary


def test_command_line_is_found_in_a_prefix(tmp_path: Path) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / "prefix" / "lib" / version / "site-packages"
    binary = copy_package(site, tmp_path / "prefix" / "bin")
    assert find(bare_python(), "-S", PYTHONPATH=str(site)) == binary


def test_command_line_is_found_in_the_user_scheme(tmp_path: Path) -> None:
    binary = copy_package(tmp_path / "elsewhere", tmp_path / "base" / "bin")
    found = find(bare_python(), PYTHONPATH=str(tmp_path / "elsewhere"), PYTHONUSERBASE=str(tmp_path / "base"))
    assert found == binary


def test_command_line_is_found_on_the_path(tmp_path: Path) -> None:
    binary = copy_package(tmp_path / "elsewhere", tmp_path / "programs")
    path = f"/nonexistent:{tmp_path / 'programs'}"
    assert find(bare_python(), "-S", PYTHONPATH=str(tmp_path / "elsewhere"), PATH=path) == binary


def test_missing_command_line_names_the_places(tmp_path: Path) -> None:
    binary = copy_package(tmp_path / "elsewhere", tmp_path / "programs")
    binary.chmod(0o644)
    env = {"PYTHONPATH": str(tmp_path / "elsewhere"), "PATH": str(tmp_path / "programs"), "PYTHONUSERBASE": str(tmp_path)}
    done = subprocess.run([bare_python(), "-S", "-c", FIND], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FileNotFoundError: the command line `procref` was not found at " in done.stderr
    assert str(binary) in done.stderr and "install the package `procref` again" in done.stderr


def bare_python() -> str:
    """Returns the interpreter outside of the virtual environment."""
    python = getattr(sys, "_base_executable", sys.executable)
    if Path(python).parent == Path(sys.prefix) / "bin":
        pytest.skip("this Python runs outside of a virtual environment")
    return str(python)


def test_wheel_contains_exactly_the_package() -> None:
    wheel = os.environ.get("PROCREF_TEST_WHEEL")
    if wheel is None:
        pytest.skip("PROCREF_TEST_WHEEL names no wheel")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert b"procref=procref.pytest.plugin" in opened.read(entry_points).replace(b" ", b"")
        mode = opened.getinfo(f"procref-{procref.__version__}.data/scripts/procref").external_attr >> 16
    assert mode & 0o111 == 0o111
    info = f"procref-{procref.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == {
        "procref/__init__.py",
        "procref/__main__.py",
        "procref/_binary.py",
        "procref/_errors.py",
        "procref/_native.abi3.so",
        "procref/_native.pyi",
        "procref/_project.py",
        "procref/aio.py",
        "procref/py.typed",
        "procref/pytest/__init__.py",
        "procref/pytest/hooks.py",
        "procref/pytest/plugin.py",
        "procref/pytest/postgres.py",
        "procref/pytest/services.py",
        f"procref-{procref.__version__}.data/scripts/procref",
    }
    licenses = {name[len(info) :] for name in names if "licenses" in name}
    assert licenses == {"licenses/LICENSE-APACHE", "licenses/LICENSE-MIT"}
