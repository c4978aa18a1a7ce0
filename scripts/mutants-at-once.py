#!/usr/bin/env python3
"""Tests many mutants of the code that are compiled into one program. An environment variable selects the mutant.

    scripts/mutants-at-once.py [--limit SCHEDULES] unit FILE...
    scripts/mutants-at-once.py [--missed OUTPUT] TEST[,TEST...] FILE...

For example:

    scripts/mutants-at-once.py unit crates/procref/src/engine/*.rs | tee found
    scripts/mutants-at-once.py --missed found pin,stop crates/procref/src/engine/*.rs

Compiling a mutant takes a minute, and there are hundreds of mutants. So the script compiles all of them at once, each
behind a switch: a negated condition, `&&` and `||` exchanged, a statement omitted, a function that returns at once. It
then runs the tests with each mutant until a test fails: either the library's unit tests, including the model with
`--limit` schedules per scenario (default: 2000), or tests of the testkit, which take longer. A test that hangs counts as
failed. `--missed` repeats only the mutants that an earlier run has printed as missed, for the same unchanged files.

scripts/mutants.sh runs cargo-mutants, which knows more kinds of mutants. This script has the same requirements except
cargo-mutants. It prints the result of each mutant, and the numbers at the end.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "target/mutants-at-once"
# The variable is read at the start, because the first use may be in a supervisor, which has no environment and no heap.
SWITCH = """
#[allow(unsafe_code)]
pub(crate) mod mutant {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CHOSEN: AtomicU32 = AtomicU32::new(u32::MAX);
    #[used]
    #[unsafe(link_section = ".init_array")]
    static CHOOSE: extern "C" fn() = choose;
    extern "C" fn choose() {
        if let Some(chosen) = std::env::var("PROCREF_MUTANT").ok().and_then(|it| it.parse().ok()) {
            CHOSEN.store(chosen, Ordering::Relaxed);
        }
    }
    pub(crate) fn on(number: u32) -> bool {
        CHOSEN.load(Ordering::Relaxed) == number
    }
    pub(crate) fn flip(number: u32, condition: bool) -> bool {
        condition != on(number)
    }
}
"""
STATEMENT = re.compile(r"^(\s+)(?!let |return|use |const |static |break|continue|async |fn |type |pub|mod |crash::point|tracing)([a-z_*].*;)$")
CONDITION = re.compile(r"^(\s*(?:\} else )?(?:if|while) )(?!let )(.*)( \{)$")
BINDING = re.compile(r"^(\s+let \w+ = )(.*)(;)$")
FUNCTION = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:async )?fn (\w+)")
SIGNATURE = re.compile(r"^.*?\)(?: -> (?P<type>[^()]*(?:\(\))?[^()]*))?(?: where .*)? \{$")
VALUES = [
    (r"", [""]),
    (r"bool", ["true", "false"]),
    (r"Option<.*>", ["None"]),
    (r"(?:io::)?(?:Result|Step)<\(\)(?:, \w+)?>", ["Ok(())"]),
    (r"(?:io::)?(?:Result|Step)<bool(?:, \w+)?>", ["Ok(true)", "Ok(false)"]),
    (r"(?:io::)?(?:Result|Step)<Option<.*>>", ["Ok(None)"]),
]


def balanced(text):
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))


def filters(line):
    """The positions of the conditions in `.filter(|it| condition)` in a line."""
    for found in re.finditer(r"\.(?:filter|is_some_and|is_none_or)\(\|[^|]*\| ", line):
        depth, end = 1, found.end()
        while end < len(line) and depth:
            depth += {"(": 1, ")": -1}.get(line[end], 0)
            end += 1
        if depth == 0:
            yield found.end(), end - 1


def swapped(condition):
    """The condition with `&&` and `||` exchanged, if it has only one of them outside parentheses."""
    depth, found = 0, []
    for place, letter in enumerate(condition):
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(letter, 0)
        if depth == 0 and condition[place : place + 4] in (" && ", " || "):
            found.append(place)
    if len({condition[place : place + 4] for place in found}) != 1 or condition.startswith("|"):
        return None
    other = {" && ": " || ", " || ": " && "}[condition[found[0] : found[0] + 4]]
    for place in found:
        condition = condition[:place] + other + condition[place + 4 :]
    return condition


def values(signature):
    """The values that a function with this signature can return at once."""
    found = SIGNATURE.match(re.sub(r"\s+", " ", signature))
    kind = (found["type"] or "").strip() if found else "?"
    return next((some for pattern, some in VALUES if re.fullmatch(pattern, kind)), [])


class Mutants:
    def __init__(self, left_out):
        self.left_out = left_out
        self.all = {}

    def new(self, file, line, what):
        """Returns the number of a new mutant, or None if the mutant is known not to compile."""
        key = f"{file}:{line}: {what}"
        if key in self.left_out:
            return None
        self.all[len(self.all) + 1] = key
        return len(self.all)

    def instrument(self, file, text):
        lines, out, signature = text.split("\n"), [], ""
        for index, line in enumerate(lines):
            if "#[cfg(test)]" in line:
                out += lines[index:]
                break
            out.append(self.changed(file, index + 1, line, lines[index - 1].strip()))
            begun = FUNCTION.match(line)
            if begun:
                name, signature = begun[1], ""
            elif not signature:
                continue
            signature += line + " "
            if line.endswith("{"):
                for value in values(signature.strip()):
                    mutant = self.new(file, index + 1, f"{name} returns {value}".strip())
                    if mutant:
                        out[-1] += f" if crate::mutant::on({mutant}) {{ return {value}; }}"
            if line.endswith(("{", ";", "}")):
                signature = ""
        return "\n".join(out)

    def switched(self, file, number, condition, turned=True):
        other, it = swapped(condition), condition
        if other:
            mutant = self.new(file, number, f"{other} instead of {condition}")
            if mutant:
                it = f"(if crate::mutant::on({mutant}) {{ {other} }} else {{ {condition} }})"
        if turned:
            mutant = self.new(file, number, f"not ({condition})")
            if mutant:
                it = f"crate::mutant::flip({mutant}, {it})"
        return it

    def changed(self, file, number, line, before):
        found = CONDITION.match(line)
        if found and balanced(found[2]):
            return f"{found[1]}{self.switched(file, number, found[2])}{found[3]}"
        found = STATEMENT.match(line)
        begins = before == "" or before.endswith((";", "{", "}")) or before.startswith("//")
        if found and balanced(found[2]) and begins:
            mutant = self.new(file, number, f"without {found[2]}")
            if mutant:
                return f"{found[1]}if !crate::mutant::on({mutant}) {{ {found[2]} }}"
            return line
        found = BINDING.match(line)
        if found and balanced(found[2]) and swapped(found[2]):
            return f"{found[1]}{self.switched(file, number, found[2], turned=False)}{found[3]}"
        for start, end in reversed(list(filters(line))):
            line = f"{line[:start]}{self.switched(file, number, line[start:end])}{line[end:]}"
        return line


def write(path, text):
    """Writes a file if its content has changed, so that Cargo does not compile unchanged files again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != text:
        path.write_bytes(text)


def copied(copy):
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for file in filter(None, kept.stdout.split("\0")):
        if (ROOT / file).is_file():
            yield file, (ROOT / file).read_bytes()


def build(files, tests):
    """Returns the test programs and the mutants, without the mutants that do not compile."""
    copy, known = PLACE / "copy", PLACE / "left-out.json"
    left_out = set(json.loads(known.read_text())) if known.exists() else set()
    if tests == ["unit"]:
        package = ["-p", "procref", "--lib", "--release"]
    else:
        # These tests run no model, which needs optimization.
        package = ["-p", "procref-testkit", *(part for test in tests for part in ("--test", test))]
    target = {"CARGO_TARGET_DIR": str(PLACE), "CARGO_PROFILE_RELEASE_DEBUG": "0"}
    command = ["cargo", "test", *package, "--no-run", "--message-format", "json"]
    for _ in range(12):
        mutants = Mutants(left_out)
        for file, text in copied(copy):
            if file == "crates/procref/src/lib.rs":
                text += SWITCH.encode()
            if file in files:
                text = mutants.instrument(file, text.decode()).encode()
            write(copy / file, text)
        built = subprocess.run(command, cwd=copy, env=os.environ | target, stdout=subprocess.PIPE, text=True)
        messages = [json.loads(line) for line in built.stdout.splitlines()]
        if built.returncode == 0:
            known.write_text(json.dumps(sorted(left_out)))
            mine = [m for m in messages if m.get("executable") and m["profile"]["test"]]
            return {m["target"]["name"]: m["executable"] for m in mine}, mutants
        wrong = set()
        for message in messages:
            spans = (message.get("message") or {}).get("spans", [])
            if (message.get("message") or {}).get("level") == "error":
                wrong |= {(span["file_name"], span["line_start"]) for span in spans}
        broken = {key for key in mutants.all.values() if tuple(place(key)) in wrong}
        if not broken:
            told = [m["message"]["rendered"] for m in messages if (m.get("message") or {}).get("level") == "error"]
            sys.exit("".join(told) + "mutants-at-once.py: the code does not compile without the mutants either")
        left_out |= broken
    sys.exit("mutants-at-once.py: the code does not compile")


def place(key):
    file, line, _ = key.split(":", 2)
    return file, int(line)


def failure(program, number, limit, seconds):
    """Returns the failed test, or None. The tests run in namespaces, because broken code may signal any process."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["unshare", *user, "--fork", "--pid", "--mount-proc", "--ipc", "--kill-child"]
    # The first pids of a namespace have a meaning in the tests, so the tests must not get them.
    shell = ["sh", "-c", 'for _ in 1 2 3 4 5 6 7 8 9; do true & wait; done; "$0" "$@"; exit $?']
    command = [*spaces, *shell, program, "--skip", "every_planted"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.chmod(scratch, 0o755)
        setting = {"PROCREF_MUTANT": str(number), "PROCREF_MODEL_LIMIT": str(limit), "TMPDIR": scratch}
        begun = subprocess.Popen(
            command,
            cwd=PLACE / "copy/crates" / ("procref" if "/procref-" in program else "procref-testkit"),
            env=os.environ | setting,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        late = threading.Timer(seconds, begun.kill)
        late.start()
        failed = None
        for line in begun.stdout:
            if line.startswith("test ") and line.endswith("FAILED\n"):
                failed = line.split()[1]
                break
        begun.send_signal(signal.SIGKILL if failed else 0)
        ended = begun.wait()
        begun.stdout.close()
        in_time = late.is_alive()
        late.cancel()
    if failed or ended == 0:
        return failed
    return "aborts" if in_time else "hangs"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--missed", type=Path)
    parser.add_argument("tests")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    programs, mutants = build(options.files, options.tests.split(","))
    chosen = mutants.all
    if options.missed:
        missed = set(re.findall(r"^missed +(.*)$", options.missed.read_text(), re.MULTILINE))
        chosen = {number: key for number, key in chosen.items() if key in missed}
        if len(chosen) != len(missed):
            print(f"{len(missed) - len(chosen)} of {options.missed} are of other files", file=sys.stderr)
    seconds = {}
    for name, program in list(programs.items()):
        begun = time.monotonic()
        failed = failure(program, 0, options.limit, 600)
        if failed:
            sys.exit(f"mutants-at-once.py: {name} fails without any mutant: {failed}")
        seconds[name] = time.monotonic() - begun
    # The fastest program first. If a program takes much longer than without a mutant, it counts as hanging.
    quickest = sorted(programs, key=seconds.__getitem__)
    print("# " + ", ".join(f"{name} {seconds[name]:.1f} s" for name in quickest), file=sys.stderr)
    missed = 0
    for number, key in chosen.items():
        by = None
        for name in quickest:
            failed = failure(programs[name], number, options.limit, 30 + 3 * seconds[name])
            by = by or failed and f"{name}: {failed}"
            if by:
                break
        missed += not by
        print(f"detected {key}   [{by}]" if by else f"missed   {key}", flush=True)
    print(f"{len(chosen)} mutants, {missed} missed; {len(mutants.left_out)} more do not compile")


if __name__ == "__main__":
    main()
