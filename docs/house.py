"""Draws the rooms of inference/ and the imports between them, and lists their files in docs/house.md.

    python docs/house.py           writes docs/house.svg and the list in docs/house.md
    python docs/house.py --check   changes nothing; exits with 1 if one of the two is out of date

The order of the rooms is the order in which they may import: a file imports from its own room and from rooms above it.
"""

import ast
import re
import sys
import textwrap
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
INFERENCE = HERE.parent / "inference"
PICTURE, PAGE = HERE / "house.svg", HERE / "house.md"
BEGIN, END = "<!-- files: written by docs/house.py -->", "<!-- end of files -->"

ORDER = (
    "distributions",
    "runtime",
    "inputs",
    "streaming",
    "storage",
    "capture",
    "pair",
    "updates",
    "preflight",
    "estimators",
    "objective",
    "planning",
    "posterior",
    "predictive",
    "tables",
    "exact",
    "gaussian",
    "importance",
    "mcmc",
    "convergence",
    "stepping",
    "variational",
    "evaluation",
    "calibration",
)

# Pixels.
MARGIN, WIDTH, HEIGHT, GAP = 24, 640, 84, 20
RAIL, TOP = 25, 64  # the distance between two vertical lines; the height of the title
HEAD = 6.4  # the distance between two arrowheads
COLOURS = (
    *("#1f6fb2", "#c2410c", "#15803d", "#7b3294", "#a16207", "#0f766e", "#be185d", "#4338ca", "#b91c1c", "#57534e"),
    *("#0369a1", "#4d7c0f", "#9f1239", "#0e7490", "#6d28d9"),
    *("#854d0e", "#166534", "#1e40af"),
)


def rooms() -> list[str]:
    """The rooms that exist, in their order. Raises ValueError for a folder of inference/ that ORDER does not name."""
    there = {path.parent.name for path in INFERENCE.glob("*/__init__.py")}
    if strange := sorted(there - set(ORDER)):
        raise ValueError(
            f"inference/{strange[0]}/ has no place in the order of rooms: add it to ORDER in docs/house.py"
        )
    return [room for room in ORDER if room in there]


def files(room: str) -> list[Path]:
    """The files of a room in the order in which its docstring lists them, and any others after these by name."""
    listed = re.findall(r"^    ([\w.]+\.\w+)", docstring(INFERENCE / room / "__init__.py"), flags=re.MULTILINE)
    there = {path.name: path for path in sorted(INFERENCE.glob(f"{room}/[!_]*.*")) if path.is_file()}
    order = [name for name in listed if name in there]
    return [there[name] for name in order + [name for name in there if name not in order]]


def imports(path: Path) -> list[tuple[int, str]]:
    """(leading dots, module) of each relative import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(n.level, n.module or "") for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]


def imported(room: str) -> list[str]:
    """The other rooms that files of `room` import from, in their order."""
    found = {n.split(".")[0] for path in INFERENCE.glob(f"{room}/*.py") for dots, n in imports(path) if dots == 2}
    return [other for other in ORDER if other in found]


def docstring(path: Path) -> str:
    """The docstring of a Python file; of a C++ file its first comment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    return "\n".join(line.removeprefix("//").strip() for line in text.split("\n\n")[0].splitlines())


def sentence(path: Path) -> str:
    """The first paragraph of a file's docstring in one line."""
    return " ".join(docstring(path).split("\n\n")[0].split())


def picture() -> str:
    """The SVG: a box for each room; a line of its own colour runs from each room to those that it imports from."""
    names = rooms()
    at = {name: TOP + i * (HEIGHT + GAP) for i, name in enumerate(names)}
    needs = {name: imported(name) for name in names}
    importers = [name for name in names if needs[name]]
    rail = {name: MARGIN + WIDTH + 34 + RAIL * i for i, name in enumerate(importers)}
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(importers)}
    edge, wide = MARGIN + WIDTH, MARGIN + WIDTH + 34 + RAIL * len(importers) + MARGIN
    tall = TOP + len(names) * (HEIGHT + GAP) + 8
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}" '
        f'font-family="Helvetica, Arial, sans-serif">',
        "<title>The rooms of inference/ and the imports between them</title>",
        f'<rect width="{wide}" height="{tall}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="28" font-size="19" font-weight="bold" fill="#1c1917">The rooms of inference/</text>',
        f'<text x="{MARGIN}" y="49" font-size="13.5" fill="#57534e">A line leaves each room at the dot and ends in an '
        "arrow at every room that it imports from. All arrows point up.</text>",
    ]
    for name in importers:
        x, foot = rail[name], at[name] + HEIGHT - 7
        before = importers[: importers.index(name)]
        heads = {other: at[other] + 7 + HEAD * sum(other in needs[b] for b in before) for other in needs[name]}
        lines = [f"M{edge} {foot}H{x}V{min(heads.values()):.1f}", *(f"M{x} {y:.1f}H{edge + 8}" for y in heads.values())]
        out.append(f'<path d="{"".join(lines)}" fill="none" stroke="{colour[name]}" stroke-width="1.6"/>')
        out.append(f'<circle cx="{edge}" cy="{foot}" r="4.5" fill="{colour[name]}"/>')
        arrows = "".join(f"M{edge} {y:.1f}l9 -3.6v7.2z" for y in heads.values())
        out.append(f'<path d="{arrows}" fill="{colour[name]}"/>')
    for number, name in enumerate(names, start=1):
        y, tone = at[name], colour.get(name, "#57534e")
        out.append(
            f'<rect x="{MARGIN}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="#fafaf9" stroke="{tone}" '
            f'stroke-width="1.6"/>'
        )
        out.append(
            f'<text x="{MARGIN + 14}" y="{y + 27}" font-size="17" font-weight="bold" fill="{tone}">'
            f"{number}. {name}</text>"
        )
        for i, line in enumerate(textwrap.wrap(sentence(INFERENCE / name / "__init__.py"), 86)[:2]):
            out.append(
                f'<text x="{MARGIN + 14}" y="{y + 49 + 18 * i}" font-size="13.5" fill="#292524">{escape(line)}</text>'
            )
    # Dots and arrows stand on the border of the boxes, so they are drawn once more, above them.
    out += [part for part in out if part.startswith("<circle")]
    return "\n".join([*out, "</svg>"]) + "\n"


def listing() -> str:
    """The list of the page: each room, what it imports from, and its files with the first sentence of each."""
    out = []
    for number, room in enumerate(rooms(), start=1):
        others = imported(room)
        out += [f"### {number}. `{room}`", "", sentence(INFERENCE / room / "__init__.py")]
        out += [f"Imports from: {', '.join(f'`{other}`' for other in others) or 'no other room'}.", ""]
        out += [f"- `{path.name}`: {sentence(path)}" for path in files(room)]
        out += [""]
    return "\n".join(out)


def page() -> str:
    """docs/house.md with the list brought up to date."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{listing()}\n{END}{rest.split(END)[1]}"


def outdated() -> list[Path]:
    """Which of the picture and the page differ from what this program would write."""
    wanted = {PICTURE: picture(), PAGE: page()}
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        stale = outdated()
        for path in stale:
            print(f"docs/{path.name} is out of date: run python docs/house.py")
        sys.exit(bool(stale))
    PAGE.write_text(page(), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
