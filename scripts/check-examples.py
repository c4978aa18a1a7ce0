#!/usr/bin/env python3
"""Checks that every public item has an example that compiles.

The script reads the HTML that `cargo doc` has written, because it contains exactly the public items, re-exports included.
A type, trait, function or module needs its own example. A method needs one, too, unless an example on the page of its
type uses the method. `cargo test --doc` compiles the examples. So an example that is not compiled (`ignore`, `text`,
`compile_fail`) does not count.

    scripts/check-examples.py target/doc/procref target/doc/procref_config
"""

import html.parser
import pathlib
import re
import sys

# Items that need no example.
EXEMPT = {"type.Result.html"}
ITEM = re.compile(r"^(struct|enum|trait|fn|type|macro|constant)\.\w+\.html$")
FEWEST = 80


class Page(html.parser.HTMLParser):
    """The documentation of an item: whether the item and each method have an example, and the code of all examples."""

    VOID = {"img", "br", "hr", "input", "meta", "link", "wbr", "source"}

    def __init__(self, path):
        super().__init__()
        self.own, self.methods, self.code = False, {}, ""
        self.stack = []  # (tag, the part of the page that it begins: "docblock", "foreign", "example", "code" or None)
        self.method, self.depth_of_code = None, None
        self.feed(path.read_text())

    def inside(self, part):
        return any(begins == part for _, begins in self.stack)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        classes = (attributes.get("class") or "").split()
        begins = None
        identity = attributes.get("id") or ""
        if identity in ("trait-implementations-list", "synthetic-implementations-list", "blanket-implementations-list"):
            begins = "foreign"
        elif "docblock" in classes and not self.inside("docblock"):
            begins = "docblock"
        elif "example-wrap" in classes and not {"ignore", "compile_fail"} & set(classes):
            begins = "example"
        elif tag == "pre" and "rust" in classes and self.inside("example") and not self.inside("foreign"):
            begins = "code"
            if self.method is None:
                self.own = True
            else:
                self.methods[self.method] = True
            self.code += "\n"
        elif tag == "section" and re.match(r"(ty)?method\.", identity) and not self.inside("foreign"):
            self.method = identity.partition(".")[2]
            self.methods[self.method] = False
        elif tag == "section" or identity in ("implementations", "implementors", "required-methods"):
            self.method = None if "method" not in classes else self.method
        if tag not in self.VOID:
            self.stack.append((tag, begins))

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.inside("code"):
            self.code += data


def main():
    roots = [pathlib.Path(root) for root in sys.argv[1:]]
    if not roots or not all(root.is_dir() for root in roots):
        print(__doc__, file=sys.stderr)
        return 2
    problems, count = 0, 0
    for root in roots:
        missing, found = check(root)
        for line in missing:
            print(line, file=sys.stderr)
        problems += len(missing)
        count += found
    if count < FEWEST:
        print(f"only {count} public items found in {sys.argv[1:]}: the check is broken", file=sys.stderr)
        return 1
    if problems:
        print(f"{problems} of {count} public items are without an example", file=sys.stderr)
        return 1
    print(f"all {count} public items have an example")
    return 0


def check(root):
    """Returns a line for each item of a crate that has no example, and the number of the items."""
    missing, count, pages, code = [], 0, {}, ""
    for path in sorted(root.rglob("*.html")):
        if path.name in EXEMPT or not (ITEM.match(path.name) or path.name == "index.html"):
            continue
        page = Page(path)
        # The page of a private module only redirects to the page where its items are re-exported.
        if "Redirection" in path.read_text()[:500]:
            continue
        pages[path] = page
        code += page.code
    for path, page in pages.items():
        name = str(path.relative_to(root)).removesuffix(".html")
        count += 1
        if not page.own:
            missing.append(f"{name}: has no example")
        for method, has_example in page.methods.items():
            count += 1
            used = re.compile(rf"(\.|::){re.escape(method)}\b")
            if not (has_example or used.search(page.code)):
                elsewhere = " (but the example of another item uses it)" if used.search(code) else ""
                missing.append(f"{name}: no example of `{method}`{elsewhere}")
    return missing, count


if __name__ == "__main__":
    sys.exit(main())
