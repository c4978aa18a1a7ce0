#!/usr/bin/env python3
"""Checks every dependency of the workspace, its tests included, against deny.toml. What Cargo has fetched once is enough
for that: nobody else is asked.

- Its licence: an expression that what `[licenses] allow` lists can satisfy.
- Its source: a registry of `[sources] allow-registry`, or this project.
- The oldest Rust that it needs: not newer than the workspace's `rust-version`.

    scripts/check-dependencies.py
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKEN = re.compile(r"\s*([()]|[^\s()]+)")


class Malformed(Exception):
    pass


def satisfied(expression, allowed):
    """Whether a licence expression (SPDX; also the older `A/B`) can be met by what is allowed."""
    tokens = TOKEN.findall(expression.replace("/", " OR "))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            right = both()
            value = value or right
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            right = one()
            value = value and right
        return value

    def one():
        if not tokens:
            raise Malformed(expression)
        token = tokens.pop(0)
        if token == "(":
            value = either()
            if not tokens or tokens.pop(0) != ")":
                raise Malformed(expression)
            return value
        if token in (")", "AND", "OR", "WITH"):
            raise Malformed(expression)
        if tokens and tokens[0] == "WITH":
            # With an exception it is another licence, to be allowed by its whole name.
            if len(tokens) < 2:
                raise Malformed(expression)
            token = f"{token} WITH {tokens[1]}"
            del tokens[:2]
        return token in allowed

    value = either()
    if tokens:
        raise Malformed(expression)
    return value


def test_expressions():
    """The check of licences has to be able to fail."""
    allowed = {"MIT", "ISC"}
    for expression, expected in [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT/Apache-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", False),
        ("(Apache-2.0 OR MIT) AND ISC", True),
        ("GPL-3.0-only OR MIT AND ISC", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("Apache-2.0 WITH LLVM-exception OR MIT", True),
    ]:
        if satisfied(expression, allowed) != expected:
            raise AssertionError(f"{expression} is misread")
    for expression in ["", "MIT OR", "(MIT", "MIT ISC", "AND"]:
        try:
            satisfied(expression, allowed)
        except Malformed:
            continue
        raise AssertionError(f"{expression!r} was taken for an expression")


def version(text):
    """For comparisons: 1.85 and 1.85.0 are the same."""
    numbers = [int(it) for it in text.split("-")[0].split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def metadata():
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{sys.argv[0]}: cargo metadata has failed")
    return json.loads(done.stdout)


def main():
    if len(sys.argv) > 1:
        print(__doc__, file=sys.stderr)
        return 2
    test_expressions()
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    oldest = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    allowed = set(policy["licenses"]["allow"])
    sources = {f"registry+{it}" for it in policy["sources"]["allow-registry"]}
    data = metadata()
    ours = set(data["workspace_members"])
    wrong, used = [], set()
    for package in data["packages"]:
        if package["id"] in ours:
            continue
        name = f"{package['name']} {package['version']}"
        licence = package["license"] or ""
        used.add(licence)
        try:
            if not satisfied(licence, allowed):
                wrong.append(f"{name}: its licence is {licence}, which deny.toml does not allow")
        except Malformed:
            wrong.append(f"{name}: cannot read its licence: {licence!r}")
        if package["source"] not in sources:
            wrong.append(f"{name}: comes from {package['source']}")
        if version(package["rust_version"] or "1.0") > version(oldest):
            wrong.append(f"{name}: needs Rust {package['rust_version']}, and we support {oldest}")
    for line in wrong:
        print(line, file=sys.stderr)
    count = len(data["packages"]) - len(ours)
    if count == 0:
        print("no dependencies found: the check is broken", file=sys.stderr)
        return 1
    if not wrong:
        print(f"{count} dependencies: {len(used)} licence expressions, all allowed; all for Rust {oldest}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
