"""Builds the package: the extension module, and the command line, which the wheel contains, too.

maturin builds one of both only, so this module builds the command line and puts it into the directory from which maturin
takes files for the scripts of the wheel. maturin's source distribution would not contain the crate of the command line, so
this module makes that, too. All other work is maturin's.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import maturin
from maturin import get_requires_for_build_sdist, get_requires_for_build_wheel

__all__ = [
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_wheel",
]

_NAME = "procref.exe" if os.name == "nt" else "procref"
_HERE = Path(__file__).resolve().parent
_SCRIPTS = _HERE / "procref.data" / "scripts"
_ROOT = _HERE.parent

# What both programs are built from.
_SOURCES = ["Cargo.lock", "Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "crates", "python"]

# The frontend reads this file at the root of the source distribution.
_PYPROJECT = b"""\
[build-system]
requires = ["maturin>=1.9,<2"]
build-backend = "build_backend"
backend-path = ["python"]
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Builds the command line and the wheel."""
    _build_command_line()
    # maturin works in the directory of its pyproject.toml, which is not the root of a source distribution.
    os.chdir(_HERE)
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Writes the metadata of the wheel."""
    # maturin checks that the directory for scripts exists.
    _SCRIPTS.mkdir(parents=True, exist_ok=True)
    os.chdir(_HERE)
    return maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def build_sdist(sdist_directory, config_settings=None):
    """Packs the sources of both programs, from a checkout with git."""
    target = Path(sdist_directory).resolve()
    listed = subprocess.run(["git", "ls-files", "-z", *_SOURCES], cwd=_ROOT, check=True, stdout=subprocess.PIPE)
    with tempfile.TemporaryDirectory() as scratch:
        info = Path(scratch) / prepare_metadata_for_build_wheel(scratch, config_settings) / "METADATA"
        metadata = info.read_bytes()
    version = next(line[9:] for line in metadata.decode().splitlines() if line.startswith("Version: "))
    base = f"procref-{version}"
    with tarfile.open(target / f"{base}.tar.gz", "w:gz", dereference=True) as archive:
        for name in filter(None, listed.stdout.decode().split("\0")):
            archive.add(_ROOT / name, f"{base}/{name}")
        for name, content in (("pyproject.toml", _PYPROJECT), ("PKG-INFO", metadata)):
            member = tarfile.TarInfo(f"{base}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return f"{base}.tar.gz"


def _build_command_line() -> None:
    """Puts the command line into the directory for scripts.

    The variable `PROCREF_BUILT_BINARY` names one that is built already: for cross-compilation, or by the release workflow.
    """
    _SCRIPTS.mkdir(parents=True, exist_ok=True)
    built = os.environ.get("PROCREF_BUILT_BINARY")
    if built is None:
        command = ["cargo", "build", "--release", "--locked", "--package", "procref-cli", "--bin", "procref"]
        subprocess.run(command, cwd=_ROOT, check=True)
        built = os.path.join(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"), "release", _NAME)
    shutil.copy(built, _SCRIPTS / _NAME)
