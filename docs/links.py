"""Links that the site makes of what pages and notebooks say.

Notebooks and some pages link to files of the repository, as a reader of the repository needs it: `../docs/x.md`,
`../CONTRIBUTING.md`. On the site these are pages. Code that names an entry of the reference, such as `credo.fit` or
`fit.corrected(n)`, becomes a link to it.
"""

import re
from typing import Any

from docstrings import links, target_of
from docutils import nodes
from sphinx import addnodes

PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}  # {file at the root: its page}
FILE = re.compile(r"\]\(((?:\.\./)+)(docs/[^)]+|" + "|".join(map(re.escape, PAGES)) + r")\)")


def to_pages(docname: str, text: str) -> str:
    """The text of a page or a notebook, with the pages of the site in the place of files of the repository."""
    up = "../" * docname.count("/")

    def page(found: re.Match[str]) -> str:
        target = found[2].removeprefix("docs/")
        return f"]({up}{PAGES.get(target, target)})"

    return FILE.sub(page, text)


def to_entries(doctree: nodes.document, docname: str, entries: dict[str, str]) -> None:
    """Makes links of the code in the prose of a page that names an entry of the reference. entries: {code: name}."""
    for code in list(doctree.findall(nodes.literal)):
        target = target_of(code.astext(), entries)
        if target is None or _within_link(code):
            continue
        kind = {"refdomain": "py", "reftype": "obj", "reftarget": target, "refdoc": docname}
        link = addnodes.pending_xref("", **kind, refexplicit=True, refwarn=False)
        code.replace_self(link)
        link += code


def _within_link(node: nodes.Node) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, nodes.reference | nodes.title | addnodes.pending_xref | addnodes.desc_signature):
            return True
        parent = parent.parent
    return False


def setup(app: Any) -> dict[str, bool]:
    entries = links()

    def read(app: Any, docname: str, source: list[str]) -> None:
        source[0] = to_pages(docname, source[0])

    def linked(app: Any, doctree: nodes.document) -> None:
        to_entries(doctree, app.env.docname, entries)

    app.connect("source-read", read)
    app.connect("doctree-read", linked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
