#!/usr/bin/env python3
"""Checks that every place names the same repository, homepage and place to report problems.

`[workspace.package]` in Cargo.toml sets them. The published crates must inherit them, and every other address of the
repository in a file of the project must begin with them.

    scripts/check-address.py
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# An address of any copy of this repository on a hosting site.
ADDRESS = re.compile(r"https?://(?:www\.)?(?:github|gitlab|codeberg)\.(?:com|org)/[\w.-]+/procref(?![\w-])")
# Files in which an address must appear: a reader looks for it there.
NAMED_IN = ["README.md", "SECURITY.md", "CONTRIBUTING.md"]


def run(*command):
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def main():
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    repository, homepage = package["repository"], package["homepage"]
    wrong = []

    metadata = json.loads(run("cargo", "metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"))
    published = [package for package in metadata["packages"] if package["publish"] is None]
    for package in published:
        if (package["repository"], package["homepage"]) != (repository, homepage):
            wrong.append(f"{package['name']}: does not inherit `repository` and `homepage`")

    found = {}
    for name in run("git", "ls-files", "-z").split("\0"):
        path = ROOT / name
        if not name or not path.is_file() or path.is_symlink():
            continue
        text = path.read_bytes().decode(errors="replace")
        for match in ADDRESS.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.setdefault(name, line)
            if match[0] not in (repository, homepage):
                wrong.append(f"{name}:{line}: {match[0]} is not {repository}, which Cargo.toml sets")
    wrong += [f"{name}: does not name {repository}" for name in NAMED_IN if name not in found]

    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"{len(published)} crates and {len(found)} files name {repository}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
