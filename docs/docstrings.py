"""Docstrings of credo, which are plain prose, as pages of the reference.

    x: shape (N,), ...        becomes a line of the list of arguments, or an attribute of a class
    Returns ... Raises ...    fields with these names, as has Source: ...
    an indented block         a formula, set as it is written
    `credo.fit`, `fit.plan`   links to the entries of these names; other `code` is code

A docstring opens with its summary, then has paragraphs, and ends with an example (`>>> `). Lines that belong to the
line above are indented, or go on without a full stop. Sphinx calls `process` and `shorten` as it builds the reference.
"""

import inspect
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from public_names import fields_of, known_to, public

RESULTS = {  # how docstrings and pages call an object, and its class
    "fit": "credo.Fit",
    "exact": "credo.Exact",
    "posterior": "credo.Exact",
    "plan": "credo.Plan",
    "svi": "credo.SVI",
    "calibration": "credo.Calibration",
    "pair": "credo.Pair",
    "error": "credo.UnreliableReference",
}
MADE_BY_HAND = ("credo.SVI", "credo.Reference")  # classes that a user calls: all others are returned by a function
FIELDS = ("Returns", "Columns", "Raises", "Warns", "Source")
NAMES = r"\*{0,2}[a-z_]\w*(?:, \*{0,2}[a-z_]\w*)*"
ENTRY = re.compile(rf"({NAMES}): ")
FIELD = re.compile(rf"({'|'.join(FIELDS)})(?:: | )")
SENTENCE = (".", ")", "`", ";")  # what the line above an entry ends with


class Item(NamedTuple):
    """A paragraph, or what follows a label: the names of arguments, or one of FIELDS."""

    label: str
    text: str


def items(lines: list[str], known: Iterable[str]) -> list[Item]:
    """The paragraphs, arguments and fields of lines without a blank one between them."""
    known = set(known)
    found: list[list[str]] = []  # label, text
    before = ""
    for line in lines:
        text, hangs = line.strip(), line.startswith(" ")
        entry, field = ENTRY.match(text), FIELD.match(text)
        ends = not before or before.rstrip().endswith(SENTENCE)
        named = entry is not None and (_are(entry[1], known) or not hangs) and ends
        if named and entry is not None:
            found.append([entry[1], text[entry.end() :]])
        elif field is not None and ends and not hangs:
            found.append([field[1], text[field.end() :]])
        elif not found or (not hangs and (before.startswith(" ") or _is_new(found[-1][0], before, text))):
            found.append(["", text])
        else:
            found[-1][1] += " " + text
        before = line
    return [item for label, text in found for item in _parts(label, text, known)]


def _are(names: str, known: set[str]) -> bool:
    return all(name.lstrip("*") in known for name in names.split(", "))


def _is_new(label: str, before: str, text: str) -> bool:
    """Whether this line starts a paragraph: the one above ends that of an argument, or ends well before the margin."""
    ends = before.endswith(".") and text[0].isupper()
    return ends and (label not in ("", *FIELDS) or len(before) + len(text.split(" ")[0]) < 100)


def _parts(label: str, text: str, known: set[str]) -> list[Item]:
    """The items of a text that names further arguments or fields after a full stop or a semicolon."""
    for found in re.finditer(rf"[.;] (?=({NAMES}): |(?:Raises|Warns|Returns) |Source: )", text):
        rest = text[found.end() :]
        if found[1] is not None and not _are(found[1], known):
            continue
        if found[1] is None and found[0][0] == ";":
            continue
        start = ENTRY.match(rest) if found[1] is not None else FIELD.match(rest)
        if start is not None:
            return [Item(label, text[: found.start()] + "."), *_parts(start[1], rest[start.end() :], known)]
    return [Item(label, text)]


def groups(lines: list[str]) -> list[list[str]]:
    """The lines between blank ones."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [group for group in found if group]


def rest(lines: list[str], known: list[str], attributes: dict[str, str] | None, links: dict[str, str]) -> list[str]:
    """A docstring as reST. known: its arguments. attributes: {name: type} of a class, or None. links: {code: name}."""
    lead, notes, example = [], [], []
    fields: dict[str, list[str]] = {}
    arguments: list[Item] = []
    members: list[Item] = []
    for group in groups(lines):
        place = notes if arguments or fields or members else lead
        if group[0].startswith(">>>"):
            example += [*group, ""]
        elif all(line.startswith(" ") for line in group):
            place += [".. code-block:: text", "", *("    " + line for line in group), ""]
        else:
            for item in items(group, [*known, *(attributes or {})]):
                if not item.label:
                    place = notes if arguments or fields or members else lead
                    place += [inline(item.text, links), ""]
                elif item.label in FIELDS:
                    fields.setdefault(item.label, []).append(inline(sentence(item.text), links))
                else:
                    of_class = attributes is not None and not _are(item.label, set(known) - set(attributes))
                    (members if of_class else arguments).append(item)
    out = [*lead]
    if arguments:
        out.append(":Arguments:" if known else ":Columns:")
        for item in arguments:
            names = ", ".join(f"``{name}``" for name in item.label.split(", "))
            out += [f"    {names}", f"        {inline(sentence(item.text), links)}"]
    out += [f":{label}: {' '.join(texts)}" for label, texts in fields.items()]
    out += ["", *notes]
    for item in members:
        out += _attribute(item, attributes or {}, links)
    return [*out, *([".. rubric:: Example", "", *example] if example else [])]


def sentence(text: str) -> str:
    """Text that starts with a capital letter, unless it starts with code or a symbol."""
    word = re.match(r"(a|[a-z]{2,})(?=[ ,;]|\.(?: |$))", text)
    return text[:1].upper() + text[1:] if word and word[0] != "log" else text


def _attribute(item: Item, attributes: dict[str, str], links: dict[str, str]) -> list[str]:
    names = item.label.split(", ")
    types = {attributes.get(name, "") for name in names}
    kind = [f"   :type: {types.pop()}"] if len(types) == 1 and "" not in types else []
    signatures = [f".. py:attribute:: {names[0]}", *(f"                  {name}" for name in names[1:])]
    return [*signatures, *kind, "", f"   {inline(sentence(item.text), links)}", ""]


def inline(text: str, links: dict[str, str]) -> str:
    """Text with its `code` as code or as a link, and with nothing else that reST would read as markup."""
    pieces = re.split(r"`([^`]+)`", text)
    for i, piece in enumerate(pieces):
        if i % 2:
            target = target_of(piece, links)
            pieces[i] = f":py:obj:`{piece} <{target}>`" if target else f"``{piece}``"
        else:
            escaped = re.sub(r"([\\*|])", r"\\\1", piece)
            pieces[i] = re.sub(r"_(?!\w)", r"\\_", escaped)
    # Markup must end at a space or a full stop; an escaped space shows nothing.
    joined = "".join(
        piece if i % 2 == 0 else ("\\ " if pieces[i - 1][-1:].isalnum() else "") + piece + _after(pieces[i + 1])
        for i, piece in enumerate(pieces)
    )
    return joined.strip()


def _after(following: str) -> str:
    return "\\ " if following[:1].isalnum() else ""


def target_of(code: str, links: dict[str, str]) -> str | None:
    """The entry that code such as `credo.fit`, `Fit`, `fit.corrected(n)` speaks of; None for other code."""
    name = re.sub(r"\(.*\)$", "", code.lstrip("."))
    first, dot, member = name.partition(".")
    if dot and first in RESULTS:
        name = f"{RESULTS[first]}.{member}"
    return links.get(name)


def links() -> dict[str, str]:
    """{code: full name} of all entries: `credo.fit`, `Fit`, `credo.Fit.sample`."""
    found = {}
    for name, value in public().items():
        found[name] = name
        if inspect.isclass(value):
            found[name.rpartition(".")[2]] = name
            found |= {f"{name}.{part}": f"{name}.{part}" for part in documented(value)}
    return found


def documented(value: type) -> set[str]:
    """The attributes and methods of a class that its docstring or a docstring of their own describes."""
    own = {n for n, v in vars(value).items() if not n.startswith("_") and _has_docstring(v)}
    attributes = fields_of(value)
    lines = inspect.cleandoc(value.__doc__ or "").splitlines()
    found = (item.label for group in groups(lines) for item in items(group, attributes))
    return own | {name for label in found for name in label.split(", ") if name and name not in FIELDS}


def _has_docstring(value: Any) -> bool:
    functions = (property, classmethod, staticmethod)
    return (inspect.isfunction(value) or isinstance(value, functions) or hasattr(value, "attrname")) and bool(
        inspect.getdoc(value)
    )


_LINKS: dict[str, str] = {}


def process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """For autodoc-process-docstring: writes the reST of a docstring in its place."""
    if not name.startswith("credo"):
        return
    if not _LINKS:
        _LINKS.update(links())
    near = {n.rpartition(".")[2]: n for n in _LINKS if n.rpartition(".")[0] == name.rpartition(".")[0]}
    is_class = inspect.isclass(value)
    known = [] if is_class and name not in MADE_BY_HAND else known_to(value)
    lines[:] = rest(lines, known, fields_of(value) if is_class else None, near | _LINKS)


def shorten(app: Any, what: str, name: str, value: Any, options: Any, signature: Any, returns: Any) -> Any:
    """For autodoc-process-signature: a class that is only ever returned has no signature."""
    if signature and what in ("class", "exception") and name not in MADE_BY_HAND:
        return "", None
    return None


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
