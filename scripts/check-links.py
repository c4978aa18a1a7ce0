#!/usr/bin/env python3
"""Checks the links of the pages and of the crates' documentation.

- In every page (`*.md`), the files and headings that links, images and `<img>` refer to must exist. Code is ignored.
- In `docs/images`, every picture must be well-formed, have a title and a description, refer to nothing outside itself,
  and be shown by a page.
- In the HTML that `cargo doc` has written, files and anchors must exist. This includes links that are written as URLs,
  which rustdoc does not check.

The script ignores links to other hosts.

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
REDIRECT = re.compile(r'<meta http-equiv="refresh" content="0;URL=([^"]+)"')
FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[ \t]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)


def prose(page):
    """The text of a page without code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page):
    """The anchors of a page's headings, as GitHub forms them."""
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
        # rustdoc checks the pages that are part of a crate's documentation.
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
    return broken, f"{count} links between pages are valid", shown


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
    return broken, f"{count} pictures are well-formed, described and shown"


class Html(html.parser.HTMLParser):
    """The links and the anchors of an HTML page."""

    # The documentation of other crates' traits begins here. Its links are not checked.
    FOREIGN = '<h2 id="blanket-implementations"'

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        # An item of a private module has a page that redirects to the page of its public name, and keeps the anchor.
        redirect = REDIRECT.search(path.read_text())
        self.redirect = redirect and redirect[1]
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
            if target.suffix == ".html" and target.exists() and read(target).redirect:
                target = (target.parent / read(target).redirect).resolve()
            if not target.exists():
                broken.append(f"{page}: {link} does not exist")
            # The anchors of source pages are line ranges, which a script on the page handles.
            elif anchor and target.suffix == ".html" and directory / "src" not in target.parents:
                if not {anchor, urllib.parse.unquote(anchor)} & read(target).ids:
                    broken.append(f"{page}: {link} has no such anchor")
    if count == 0:
        broken.append(f"no links found in {directory}: run cargo doc first")
    return broken, f"{count} links of the crates' documentation are valid"


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
