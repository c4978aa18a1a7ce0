"""Finds the command line ``procref``, which the package contains."""

from __future__ import annotations

import os
import sys
import sysconfig

_NAME = "procref.exe" if os.name == "nt" else "procref"


def find_binary() -> str:
    """Return the path of the command line ``procref`` that was installed with this package.

    Raise `FileNotFoundError` if there is none.
    """
    tried = []
    for directory in _directories():
        path = os.path.join(directory, _NAME)
        if path in tried:
            continue
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
        tried.append(path)
    raise FileNotFoundError(
        "the command line `procref` was not found at " + ", ".join(tried) + " (install the package `procref` again)"
    )


def _directories() -> list[str]:
    scripts = os.path.basename(sysconfig.get_path("scripts"))
    package = os.path.dirname(os.path.abspath(__file__))
    above = os.path.dirname(package)
    found = [
        # The directory of the running interpreter, which is that of its virtual environment.
        sysconfig.get_path("scripts"),
        # `pip install` outside of the virtual environment that runs.
        sysconfig.get_path("scripts", vars={"base": sys.base_prefix}),
        # `pip install --target DIRECTORY`.
        os.path.join(above, "bin"),
    ]
    # `pip install --prefix DIRECTORY`: DIRECTORY/lib/python3.X/site-packages/procref on Unix, and
    # DIRECTORY/Lib/site-packages/procref on Windows.
    levels = 2 if os.name == "nt" else 3
    prefix = above
    for _ in range(levels):
        prefix = os.path.dirname(prefix)
    found.append(os.path.join(prefix, scripts))
    # `pip install --user`.
    found.append(sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")))
    # A build with an isolated environment has only the directory of its programs.
    found.extend(filter(None, os.environ.get("PATH", "").split(os.pathsep)))
    return found
