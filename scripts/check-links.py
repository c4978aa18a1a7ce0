#!/usr/bin/env python3
"""Checks that what the pages and the crate's documentation refer to is there.

- In every page (`*.md`): files and headings that links, images and `<img>` point at. Code does not count.
- In `docs/images`: every picture is well-formed, has a title and a description, refers to nothing outside of
  itself, and is shown by some page.
- In the HTML that `cargo doc` has written: files and anchors, also of links that rustdoc itself does not check
  because they are written as URLs.

Pages on other hosts are not asked for.

    scripts/check-links.py              the pages and pictures
    scripts/check-links.py target/doc   the HTML in that directory, of this workspace's crates
"""

import html.parser
import pathlib
import re
import sys
import urllib.parse
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
SVG = "{http://www.w3.org/2000/svg}"

ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")
# [text](target), ![text](target "title"), [text]: target, <img src="target">, <source srcset="target">
LINKS = [
    re.compile(r"\]\(\s*<?([^\s()<>]*)"),
    re.compile(r"^ {0,3}\[[^\]]+\]:\s*(\S+)", re.MULTILINE),
    re.compile(r"<[^>]*\b(?:src|srcset|href)\s*=\s*[\"']([^\"'\s]+)"),
]
FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[ \t]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)


def prose(page):
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w -]", "", text).replace(" ", "-")
        number = 0
        while (name := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(name)
    return found


def pages():
    skipped = {"target", ".git", "artifacts"}
    for page in sorted(ROOT.rglob("*.md")):
        if not skipped & set(page.relative_to(ROOT).parts):
            yield page


def check_pages():
    broken, count, shown = [], 0, set()
    for page in pages():
        # A page of the crate's documentation is rustdoc's to check.
        if "src" in page.relative_to(ROOT).parts:
            continue
        text = CODE.sub("", prose(page))
        for pattern in LINKS:
            for link in pattern.findall(text):
                if not link or ELSEWHERE.match(link):
                    continue
                count += 1
                path, _, anchor = link.partition("#")
                target = page.parent / urllib.parse.unquote(path) if path else page
                shown.add(target.resolve())
                where = page.relative_to(ROOT)
                if not target.exists():
                    broken.append(f"{where}: {link} does not exist")
                elif ROOT not in target.resolve().parents:
                    broken.append(f"{where}: {link} is outside of the project")
                elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                    broken.append(f"{where}: {link} has no such heading")
    if count == 0:
        broken.append("no links found: the check is broken")
    return broken, f"{count} links between pages lead somewhere", shown


def check_pictures(shown):
    broken, count = [], 0
    for picture in sorted(IMAGES.rglob("*")) + sorted((ROOT / "docs").glob("*.svg")):
        where = picture.relative_to(ROOT)
        count += 1
        if picture.resolve() not in shown:
            broken.append(f"{where}: no page shows it")
        if picture.suffix != ".svg":
            continue
        try:
            tree = xml.etree.ElementTree.parse(picture).getroot()
        except xml.etree.ElementTree.ParseError as error:
            broken.append(f"{where}: {error}")
            continue
        for element in ("title", "desc"):
            if not (tree.findtext(SVG + element) or "").strip():
                broken.append(f"{where}: has no <{element}>")
        for element in tree.iter():
            for name, value in element.attrib.items():
                if name.endswith("href") and not value.startswith("#"):
                    broken.append(f"{where}: refers to {value}, which a page does not load")
    if count == 0:
        broken.append("no pictures found: the check is broken")
    return broken, f"{count} pictures are whole, described and shown"


class Html(html.parser.HTMLParser):
    """What an HTML page refers to, and what in it can be referred to."""

    # Here begins what other crates' traits say of themselves; that is theirs to check.
    FOREIGN = '<h2 id="blanket-implementations"'

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        own, _, foreign = path.read_text().partition(self.FOREIGN)
        self.feed(own)
        links, self.links = self.links, []
        self.feed(self.FOREIGN + foreign)
        self.links = links

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif name in ("href", "src") and value and tag != "link":
                self.links.append(value)


def check_html(directory):
    broken, count, seen = [], 0, {}

    def read(path):
        if path not in seen:
            seen[path] = Html(path)
        return seen[path]

    crates = [it.name.replace("-", "_") for it in (ROOT / "crates").iterdir()]
    for page in sorted(it for crate in crates for it in (directory / crate).rglob("*.html")):
        for link in read(page).links:
            if ELSEWHERE.match(link):
                continue
            count += 1
            path, _, anchor = link.partition("#")
            target = (page.parent / urllib.parse.unquote(path.partition("?")[0])).resolve() if path else page
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                broken.append(f"{page}: {link} does not exist")
            # The anchors of sources are ranges of lines, which a script there understands.
            elif anchor and target.suffix == ".html" and directory / "src" not in target.parents:
                if not {anchor, urllib.parse.unquote(anchor)} & read(target).ids:
                    broken.append(f"{page}: {link} has no such anchor")
    if count == 0:
        broken.append(f"no links found in {directory}: run cargo doc first")
    return broken, f"{count} links of the crates' documentation lead somewhere"


def main():
    if len(sys.argv) > 2 or any(it.startswith("-") for it in sys.argv[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    if len(sys.argv) == 2:
        results = [check_html(pathlib.Path(sys.argv[1]).resolve())]
    else:
        broken, summary, shown = check_pages()
        results = [(broken, summary), check_pictures(shown)]
    failed = False
    for broken, summary in results:
        for line in broken:
            print(line, file=sys.stderr)
        failed |= bool(broken)
        if not broken:
            print(summary)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
