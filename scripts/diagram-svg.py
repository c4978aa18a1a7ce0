#!/usr/bin/env python3
"""Draws docs/images/lifecycle.svg: the states of a service and the transitions between them.

    scripts/diagram-svg.py            write the picture
    scripts/diagram-svg.py --check    fail if the present picture is different
"""

import html
import pathlib
import sys
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/lifecycle.svg"

WIDTH, HEIGHT = 920, 440
LINE = 16


@dataclass
class State:
    """A box with its center at (x, y). The box shows the name and, below it, the notes."""

    x: int
    y: int
    name: str
    notes: list[str]
    kind: str
    width: int = 150
    height: int = 64

    left = property(lambda self: self.x - self.width // 2)
    right = property(lambda self: self.x + self.width // 2)
    top = property(lambda self: self.y - self.height // 2)
    bottom = property(lambda self: self.y + self.height // 2)


ABSENT = State(110, 105, "not running", ["no process, no file,", "no kernel object"], "quiet")
STARTING = State(450, 105, "starting", ["one process starts it,", "the others wait"], "busy")
READY = State(800, 105, "ready", ["the kernel counts", "its clients"], "good")
WARM = State(800, 340, "lingering", ["no client holds it,", "for the linger time"], "quiet")
STOPPING = State(450, 340, "stopping", ["SIGTERM, and SIGKILL", "after the stop timeout"], "busy")
DEAD = State(450, 226, "dead", ["clients still hold it"], "bad", height=50)
STATES = [ABSENT, STARTING, READY, WARM, STOPPING, DEAD]

# For each arrow: the path, the position of the text, its alignment, and its lines.
ARROWS = [
    (f"M{ABSENT.right} 94 H{STARTING.left}", 280, 66, "middle", ["first acquire: lock and", "reference in one step"]),
    (f"M{STARTING.left} 117 H{ABSENT.right}", 280, 137, "middle", ["the start fails (if its", "starter dies, the next", "process takes over)"]),
    (f"M{STARTING.right} 105 H{READY.left}", 625, 79, "middle", ["alive, healthy,", "on_ready is done"]),
    (f"M840 {READY.top} C840 28 760 28 760 {READY.top}", 800, 31, "middle", ["acquire +1, release or death −1"]),
    (f"M{READY.x + 40} {READY.bottom} V{WARM.top}", 848, 218, "start", ["last client", "leaves,", "linger"]),
    (f"M{READY.x - 35} {WARM.top} V{READY.bottom}", 773, 226, "start", ["acquire"]),
    (f"M{READY.left + 20} {READY.bottom} C745 270 660 328 {STOPPING.right} 328", 675, 252, "end", ["last client leaves or", "is killed, no linger"]),
    (f"M{WARM.left} 352 H{STOPPING.right}", 625, 372, "middle", ["the linger time has passed"]),
    (f"M{READY.left} 125 C650 130 600 215 {DEAD.right} 222", 612, 160, "end", ["its process dies"]),
    (f"M{DEAD.x} {DEAD.top} V{STARTING.bottom}", 442, 174, "end", ["next acquire"]),
    (f"M{STOPPING.left} 340 C190 340 110 290 {ABSENT.x} {ABSENT.bottom}", 310, 278, "middle", ["its process has exited; record and", "kernel object are removed"]),
]

FOOT = [
    "Each acquire and each release is one atomic operation on a System V semaphore set. A process that starts, recovers or",
    "stops the service also holds a lock. When a process ends, the kernel takes back its references and its lock.",
]

STYLE = """\
text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif; fill: #1f2328 }
.name { font-weight: 700; font-size: 15px }
.note, .foot { fill: #59636e; font-size: 12px }
.panel { fill: #ffffff; stroke: #d1d9e0 }
.state { stroke-width: 1.5 }
.quiet { fill: #f6f8fa; stroke: #818b98 }
.busy { fill: #fff8c5; stroke: #9a6700 }
.good { fill: #dafbe1; stroke: #1a7f37 }
.bad { fill: #ffebe9; stroke: #cf222e }
.arrow { fill: none; stroke: #59636e; stroke-width: 1.5; marker-end: url(#head) }
.head { fill: #59636e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.note, .foot { fill: #9198a1 }
.panel { fill: #0d1117; stroke: #3d444d }
.quiet { fill: #151b23; stroke: #9198a1 }
.busy { fill: #272115; stroke: #d29922 }
.good { fill: #12261e; stroke: #3fb950 }
.bad { fill: #25171c; stroke: #f85149 }
.arrow { stroke: #9198a1 }
.head { fill: #9198a1 }
}
"""


def text(x, y, words, kind=None, anchor="middle"):
    cls = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{cls}>{html.escape(words, quote=False)}</text>'


def draw():
    parts = []
    for path, x, y, anchor, lines in ARROWS:
        parts.append(f'<path class="arrow" d="{path}"/>')
        parts += [text(x, y + LINE * index, line, anchor=anchor) for index, line in enumerate(lines)]
    for state in STATES:
        parts.append(
            f'<rect class="state {state.kind}" x="{state.left}" y="{state.top}" '
            f'width="{state.width}" height="{state.height}" rx="9"/>'
        )
        parts.append(text(state.x, state.top + 20, state.name, "name"))
        for index, note in enumerate(state.notes):
            parts.append(text(state.x, state.top + 37 + (LINE - 1) * index, note, "note"))
    foot = HEIGHT - 18 - LINE * (len(FOOT) - 1)
    parts += [text(24, foot + LINE * index, line, "foot", "start") for index, line in enumerate(FOOT)]
    description = "; ".join(f"{state.name}: {' '.join(state.notes)}" for state in STATES)
    body = "\n".join(parts)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title desc">
<title id="title">The states of a service, from the first acquire to the last release</title>
<desc id="desc">Drawn by scripts/diagram-svg.py. {html.escape(description, quote=False)}.</desc>
<style>
{STYLE}</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path class="head" d="M0 0 L10 5 L0 10 z"/></marker></defs>
<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="9"/>
{body}
</svg>
"""


def main():
    if sys.argv[1:] == ["--check"]:
        if PICTURE.read_text() != draw():
            print(f"{PICTURE.relative_to(ROOT)} is not what {sys.argv[0]} draws: run the script", file=sys.stderr)
            return 1
    elif sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    else:
        PICTURE.write_text(draw())
        print(f"written: {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
