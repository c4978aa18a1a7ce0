#!/usr/bin/env python3
"""Many breaks of the code in one program, which an environment variable chooses from:
    scripts/mutants-at-once.py [--limit SCHEDULES] FILE...
for example
    scripts/mutants-at-once.py crates/procref/src/service/*.rs

A mutant that has to be compiled takes a minute, and there are hundreds. So all are compiled at once, each
behind a switch: a condition turned round, a statement left out. Every one is then tried against the
library's unit tests, the model included, with so many schedules a scenario (default: 2000). For what
cargo-mutants does beyond that there is scripts/mutants.sh.

Needs what that needs, but for cargo-mutants. Prints what nothing has noticed, and ends with a count.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SWITCH = """
pub(crate) mod mutant {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<u32>> = OnceLock::new();
    pub(crate) fn on(number: u32) -> bool {
        let read = || std::env::var("PROCREF_MUTANT").ok()?.parse().ok();
        *CHOSEN.get_or_init(read) == Some(number)
    }
    pub(crate) fn flip(number: u32, condition: bool) -> bool {
        condition != on(number)
    }
}
"""
STATEMENT = re.compile(r"^(\s+)(?!let |return|use |const |static |break|continue|async |fn |type |pub|mod |crash::point|tracing)([a-z_*].*;)$")
CONDITION = re.compile(r"^(\s*(?:\} else )?(?:if|while) )(?!let )(.*)( \{)$")


def balanced(text):
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))


def filters(line):
    """The places of the conditions of `.filter(|it| condition)` in a line."""
    for found in re.finditer(r"\.(?:filter|is_some_and|is_none_or)\(\|[^|]*\| ", line):
        depth, end = 1, found.end()
        while end < len(line) and depth:
            depth += {"(": 1, ")": -1}.get(line[end], 0)
            end += 1
        if depth == 0:
            yield found.end(), end - 1


class Mutants:
    def __init__(self, left_out):
        self.left_out = left_out
        self.all = {}

    def new(self, file, line, what):
        """None where it does not compile."""
        key = f"{file}:{line}: {what}"
        if key in self.left_out:
            return None
        self.all[len(self.all) + 1] = key
        return len(self.all)

    def instrument(self, file, text):
        lines, out = text.split("\n"), []
        for index, line in enumerate(lines):
            if "#[cfg(test)]" in line:
                out += lines[index:]
                break
            out.append(self.changed(file, index + 1, line, lines[index - 1].strip()))
        return "\n".join(out)

    def changed(self, file, number, line, before):
        found = CONDITION.match(line)
        if found and balanced(found[2]):
            mutant = self.new(file, number, f"not ({found[2]})")
            if mutant:
                return f"{found[1]}crate::mutant::flip({mutant}, {found[2]}){found[3]}"
            return line
        found = STATEMENT.match(line)
        begins = before == "" or before.endswith((";", "{", "}")) or before.startswith("//")
        if found and balanced(found[2]) and begins:
            mutant = self.new(file, number, f"without {found[2]}")
            if mutant:
                return f"{found[1]}if !crate::mutant::on({mutant}) {{ {found[2]} }}"
            return line
        for start, end in reversed(list(filters(line))):
            mutant = self.new(file, number, f"not ({line[start:end]})")
            if mutant:
                line = f"{line[:start]}crate::mutant::flip({mutant}, {line[start:end]}){line[end:]}"
        return line


def build(files, copy, left_out):
    """Returns the program and its mutants; what does not compile is left out."""
    for _ in range(12):
        mutants = Mutants(left_out)
        for file in files:
            text = (ROOT / file).read_text()
            (copy / file).write_text(mutants.instrument(file, text))
        command = ["cargo", "test", "--release", "-p", "procref", "--lib", "--no-run", "--message-format", "json"]
        target = {"CARGO_TARGET_DIR": str(ROOT / "target/mutants-at-once"), "CARGO_PROFILE_RELEASE_DEBUG": "0"}
        built = subprocess.run(command, cwd=copy, env=os.environ | target, stdout=subprocess.PIPE, text=True)
        messages = [json.loads(line) for line in built.stdout.splitlines()]
        if built.returncode == 0:
            program = [m["executable"] for m in messages if m.get("executable")][-1]
            return program, mutants
        wrong = set()
        for message in messages:
            spans = (message.get("message") or {}).get("spans", [])
            if (message.get("message") or {}).get("level") == "error":
                wrong |= {(span["file_name"], span["line_start"]) for span in spans}
        broken = {key for key in mutants.all.values() if tuple(place(key)) in wrong}
        if not broken:
            told = [m["message"]["rendered"] for m in messages if (m.get("message") or {}).get("level") == "error"]
            sys.exit("".join(told) + "mutants-at-once.py: it does not compile, whatever is left out")
        left_out |= broken
    sys.exit("mutants-at-once.py: it does not compile")


def place(key):
    file, line, _ = key.split(":", 2)
    return file, int(line)


def holds(program, number, limit):
    """Whether all tests pass. In namespaces: broken code may signal any process."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["unshare", *user, "--fork", "--pid", "--mount-proc", "--ipc", "--kill-child"]
    # Not as one of the first processes of the namespace: their pids mean something to the tests.
    shell = ["sh", "-c", 'for _ in 1 2 3 4 5 6 7 8 9; do true & wait; done; "$0" "$@"; exit $?']
    command = [*spaces, *shell, program, "--skip", "every_planted", "--skip", "at_random"]
    setting = {"PROCREF_MUTANT": str(number), "PROCREF_MODEL_LIMIT": str(limit)}
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT / "crates/procref",
            env=os.environ | setting,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        for file in filter(None, kept.stdout.split("\0")):
            if (ROOT / file).is_file():
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, copy / file)
        library = copy / "crates/procref/src/lib.rs"
        library.write_text(library.read_text() + SWITCH)
        left_out = set()
        program, mutants = build(options.files, copy, left_out)
        if not holds(program, 0, options.limit):
            sys.exit("mutants-at-once.py: the tests fail without any mutant")
        missed = []
        for number, key in mutants.all.items():
            if holds(program, number, options.limit):
                missed.append(key)
                print(f"missed   {key}", flush=True)
            else:
                print(f"detected {key}", flush=True)
        print(f"{len(mutants.all)} mutants, {len(missed)} missed; {len(left_out)} more do not compile")


if __name__ == "__main__":
    main()
