"""Runs the command line: ``python -m procref``."""

from __future__ import annotations

import os
import sys

from procref._binary import find_binary


def main() -> None:
    binary = find_binary()
    arguments = [binary, *sys.argv[1:]]
    if os.name == "nt":
        import subprocess

        sys.exit(subprocess.call(arguments))
    os.execv(binary, arguments)


if __name__ == "__main__":
    main()
