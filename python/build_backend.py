"""Builds the package: the extension module, and the command line, which the wheel contains, too.

maturin builds one of both only, so this module builds the command line and puts it into the directory from which maturin
takes files for the scripts of the wheel. All other work is maturin's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import maturin
from maturin import (
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

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


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Builds the command line and the wheel."""
    _build_command_line()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def _build_command_line() -> None:
    """Puts the command line into the directory for scripts.

    The variable `PROCREF_BUILT_BINARY` names one that is built already: for cross-compilation, or by the release workflow.
    """
    _SCRIPTS.mkdir(parents=True, exist_ok=True)
    built = os.environ.get("PROCREF_BUILT_BINARY")
    if built is None:
        root = _HERE.parent
        command = ["cargo", "build", "--release", "--locked", "--package", "procref-cli", "--bin", "procref"]
        subprocess.run(command, cwd=root, check=True)
        built = os.path.join(os.environ.get("CARGO_TARGET_DIR", root / "target"), "release", _NAME)
    shutil.copy(built, _SCRIPTS / _NAME)
