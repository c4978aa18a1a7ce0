#!/usr/bin/env python3
"""Records a session with procref in a terminal, as docs/images/session.svg.

The script types the commands below into bash in a pseudo-terminal, waits for the effect of each, and draws the output.
Pauses between commands are long enough for a reader. The picture omits bash's message that a job was killed, because bash
prints it at varying prompts. The script needs `redis-server` and `redis-cli`.

    scripts/session-svg.py            record, and write the picture
    scripts/session-svg.py --check    record, and compare with the present picture, ignoring numbers
"""

import html
import json
import os
import pathlib
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import fcntl
import termios

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROCREF = ROOT / "target/debug/procref"
PICTURE = ROOT / "docs/images/session.svg"

# `procref ps` shows the directory of the project, so its name is short.
PROJECT = pathlib.Path("/tmp/app")
CONFIG = """\
[services.redis]
start = "redis-server --bind 127.0.0.1 --port {port} --save ''"
ready = "log:Ready to accept connections"
export = { REDIS_URL = "redis://127.0.0.1:{port}" }
"""

# The typed lines, and the number of clients to wait for before the next line.
SESSION = [
    ("cat procref.toml", None),
    ("procref run redis -- sleep 600 &          # the first client: Redis is started", 1),
    ("procref run redis -- sh -c 'redis-cli -u $REDIS_URL ping'   # another joins", 1),
    ("procref run redis -- sleep 600 &", 2),
    ("procref ps", 2),
    ("kill -9 %1 %2; wait                       # no client is left to stop it", None),
    ("procref wait redis --stopped              # but its supervisor does", None),
    ("procref ps", None),
]

TIMEOUT = 30.0
COLUMNS, ROWS = 86, 50
PROMPT = "$ "

NOTICE = re.compile(r"^\[\d+\][-+ ] +Killed .*\r\n", re.MULTILINE)

# Pauses in seconds: before a command, and before its output.
READING, TYPED = 1.6, 0.7

COLOURS = {
    "31": "#ff7b72",
    "32": "#7ee787",
    "33": "#e3b341",
    "34": "#79c0ff",
    "35": "#d2a8ff",
    "36": "#76e3ea",
    "9": "#7ee787",
    "10": "#7ee787",
    "11": "#e3b341",
}
FOREGROUND, BACKGROUND, FAINT, ACCENT = "#e6edf3", "#0d1117", "#9198a1", "#79c0ff"


class Failure(Exception):
    pass


class Terminal:
    """A bash in a pseudo-terminal. `text` is its output."""

    def __init__(self, directory, environment):
        self.text = ""
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.chdir(directory)
            shell = ["bash", "--noprofile", "--norc", "--noediting", "-i"]
            os.execvpe(shell[0], shell, environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def until(self, condition, holds):
        """Reads until `holds` returns true."""
        end = time.monotonic() + TIMEOUT
        while not holds():
            left = end - time.monotonic()
            if left <= 0:
                raise Failure(f"waited {TIMEOUT:.0f} s for {condition}; the terminal shows:\n{self.text}")
            # The condition may depend on more than the terminal, so check it at intervals.
            if select.select([self.fd], [], [], min(left, 0.02))[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode()
                except OSError:
                    raise Failure(f"the shell has exited:\n{self.text}") from None

    def prompt(self):
        self.until("a prompt", lambda: self.text.endswith(PROMPT))

    def type(self, line):
        """Types a line, and returns the output before the next prompt."""
        begin = len(self.text)
        os.write(self.fd, (line + "\n").encode())
        echo = line + "\r\n"
        self.until(f"the echo of {line!r}", lambda: self.text.startswith(echo, begin))
        begin += len(echo)
        self.until("a prompt", lambda: self.text.endswith(PROMPT) and len(self.text) > begin)
        return self.text[begin : -len(PROMPT)]

    def close(self):
        """Closes the terminal, which sends SIGHUP to its programs."""
        os.close(self.fd)
        os.waitpid(self.process, 0)


def clients(environment):
    status = subprocess.run(
        [PROCREF, "status", "redis", "--json"], cwd=PROJECT, env=environment, capture_output=True
    )
    return json.loads(status.stdout)["clients"] if status.stdout else 0


def record():
    """Returns pairs of a command and its output, escape sequences included."""
    if not PROCREF.exists():
        raise Failure(f"{PROCREF} is missing: cargo build --bin procref")
    for program in ("redis-server", "redis-cli"):
        if not shutil.which(program):
            raise Failure(f"{program} is missing")
    try:
        PROJECT.mkdir()
    except FileExistsError:
        raise Failure(f"{PROJECT} exists, and is not this script's") from None
    terminal = None
    try:
        with tempfile.TemporaryDirectory() as home:
            (PROJECT / "procref.toml").write_text(CONFIG)
            environment = {
                "PATH": f"{PROCREF.parent}:{os.environ['PATH']}",
                "HOME": home,
                "PROCREF_RUNTIME_DIR": f"{home}/run",
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "PS1": PROMPT,
            }
            terminal = Terminal(PROJECT, environment)
            terminal.prompt()
            session = []
            for line, expected in SESSION:
                output = NOTICE.sub("", terminal.type(line))
                if expected is not None:
                    terminal.until(f"{expected} clients", lambda: clients(environment) == expected)
                session.append((line, output))
            return session
    finally:
        if terminal:
            terminal.close()
        shutil.rmtree(PROJECT)


ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


def spans(line):
    """The pieces of a line, as (style, text)."""
    bold, faint, colour = False, False, None
    pieces = ESCAPE.split(line)
    for index, piece in enumerate(pieces):
        if index % 2:
            codes = piece.split(";")
            while codes:
                code = codes.pop(0)
                match code:
                    case "" | "0":
                        bold, faint, colour = False, False, None
                    case "1":
                        bold = True
                    case "2":
                        faint = True
                    case "22":
                        bold, faint = False, False
                    case "39":
                        colour = None
                    case "38" if codes[:1] == ["5"]:
                        colour = COLOURS[codes[1]]
                        codes = codes[2:]
                    case _:
                        colour = COLOURS[code]
        elif "\x1b" in piece or any(ord(it) < 32 for it in piece):
            raise Failure(f"cannot draw {piece!r}")
        elif piece:
            style = f'fill="{colour or (FAINT if faint else FOREGROUND)}"'
            yield style + (' font-weight="700"' if bold else ""), piece


def plain(session):
    """What a reader sees, as text."""
    lines = []
    for command, output in session:
        lines.append(PROMPT + command)
        lines += ESCAPE.sub("", output).replace("\r\n", "\n").splitlines()
    return lines


WIDTH, LINE, CHARACTER, MARGIN, BAR = 780, 19, 8.43, 22, 34


def draw(session):
    height = BAR + MARGIN + LINE * (len(plain(session)) + 1)
    body, y, clock = [], BAR + MARGIN, 0.0

    def text(pieces, at):
        nonlocal y
        inner = "".join(f"<tspan {style}>{html.escape(it, quote=False)}</tspan>" for style, it in pieces)
        body.append(f'<text x="{MARGIN}" y="{y}" style="animation-delay:{at:.1f}s">{inner}</text>')
        y += LINE

    for command, output in session:
        clock += READING
        typed, hash_sign, comment = command.partition("  # ")
        pieces = [(f'fill="{ACCENT}"', PROMPT), (f'fill="{FOREGROUND}" font-weight="700"', typed)]
        if hash_sign:
            pieces.append((f'fill="{FAINT}"', hash_sign + comment))
        text(pieces, clock)
        clock += TYPED
        for line in output.replace("\r\n", "\n").splitlines():
            text(spans(line), clock)
            clock += 0.05
    told = " ".join(line for line in plain(session) if line.startswith(PROMPT))
    dots = "".join(
        f'<circle cx="{20 + 18 * index}" cy="17" r="5.5" fill="{colour}"/>'
        for index, colour in enumerate(("#ff7b72", "#e3b341", "#7ee787"))
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title desc">
<title id="title">A terminal session: two programs share one Redis, are killed, and Redis is stopped</title>
<desc id="desc">Recorded by scripts/session-svg.py; the pauses between commands are longer than they were. The commands: {html.escape(told, quote=False)}</desc>
<style>
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace; white-space: pre; animation: appear 0.01s steps(1) backwards }}
@keyframes appear {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}
@media (prefers-reduced-motion: reduce) {{ text {{ animation: none }} }}
</style>
<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="9" fill="{BACKGROUND}" stroke="#57606a"/>
{dots}
<g xml:space="preserve">
{chr(10).join(body)}
</g>
</svg>
"""


NUMBER = re.compile(r"\d+(\.\d+)?")


def shown(picture):
    """The lines of a picture, without the numbers that differ from one run to the next."""
    tree = xml.etree.ElementTree.parse(picture)
    texts = tree.iter("{http://www.w3.org/2000/svg}text")
    lines = ("".join(text.itertext()) for text in texts)
    return [blurred(line) for line in lines]


def blurred(line):
    return " ".join(NUMBER.sub("N", line).split())


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        print(__doc__, file=sys.stderr)
        return 2
    session = record()
    if check:
        now = [blurred(line) for line in plain(session)]
        if now != shown(PICTURE):
            print("\n".join(now))
            raise Failure(f"the session above differs from {PICTURE}: record it again")
        print(f"{PICTURE.relative_to(ROOT)} matches the session: {len(now)} lines")
    else:
        PICTURE.write_text(draw(session))
        print("\n".join(plain(session)))
        print(f"\nwritten: {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"{sys.argv[0]}: {failure}", file=sys.stderr)
        sys.exit(1)
