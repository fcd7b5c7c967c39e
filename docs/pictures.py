"""Runs the code of every card of docs/gallery.md, draws its picture, and writes how many seconds the code took.

    python docs/pictures.py                  all cards: docs/pictures/NAME.svg, docs/pictures/seconds.csv
    python docs/pictures.py vae regression   these cards only

What the code of a card uses is in docs/cards.py, and pictures by hand are in docs/drawings.py. Seconds: CPU time of one
thread; the cache of compiled steps is empty.
"""

import csv
import os
import re
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import matplotlib

DOCS = Path(__file__).parent
PICTURES, PAGE = DOCS / "pictures", DOCS / "gallery.md"
SECONDS = PICTURES / "seconds.csv"
SIZE = (3.75, 2.5)  # inches: 360 by 240 pixels on the page, so that 9 points are 12 pixels
LETTERS = 48  # of a headline in a line
STYLE = {
    "axes.titlesize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "legend.fontsize": 9,
    "svg.hashsalt": "credo",
}
WARM = """
pair = credo.load("coin_toss")
credo.plots.belief(credo.fit(pair.model, pair.guide, torch.ones(3), steps=60, progress=False), "p")
"""


def blocks() -> dict[str, str]:
    """{name of a picture: the Python of its card, "" if there is none}, in the order of the page."""
    page = PAGE.read_text(encoding="utf-8")
    cards = re.findall(r"^::::\{grid-item-card\}.*?^::::$", page, flags=re.MULTILINE | re.DOTALL)
    found = {}
    for card in cards:
        if picture := re.search(r"\]\(pictures/(\w+)\.svg\)", card):
            found[picture[1]] = "".join(re.findall(r"^```python\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL))
    return found


def draw(name: str, block: str, out: Path = PICTURES) -> float:
    """Runs the block of a card and writes its picture, `out/name.svg`; returns the CPU seconds of the block."""
    import cards
    import drawings
    import torch
    from matplotlib import pyplot

    import credo

    pyplot.close("all")
    names = getattr(cards, name, dict)() | {"credo": credo, "torch": torch}
    start = time.process_time()
    exec(block, names)
    seconds = time.process_time() - start
    if drawing := getattr(drawings, f"draw_{name}", None):
        drawing(names)
    figure = pyplot.gcf()
    figure.set_size_inches(SIZE)
    figure.set_layout_engine("constrained")
    for ax in figure.axes:
        ax.set_title(textwrap.fill(" ".join(ax.get_title().split()), LETTERS))
    figure.savefig(out / f"{name}.svg", metadata={"Date": None}, facecolor="white")
    return seconds


def seconds() -> dict[str, float]:
    """{name of a picture: CPU seconds of its block}, as this program measured them last."""
    with SECONDS.open(newline="") as file:
        return {row["card"]: float(row["seconds"]) for row in csv.DictReader(file)}


def told(seconds: float) -> str:
    """The seconds as a card tells them: two digits, such as 0.31 s, 4.2 s or 38 s."""
    return f"{seconds:.{0 if seconds >= 9.95 else 1 if seconds >= 0.995 else 2}f} s"


def with_seconds(page: str, measured: dict[str, float]) -> str:
    """The page with the seconds in the footer of each card: the first words of it."""
    for name, value in measured.items():
        card = rf"(\]\(pictures/{name}\.svg\)(?:(?!^::::$).)*?^:::\{{card-footer\}}\n)[\d.]+ s"
        page = re.sub(card, rf"\g<1>{told(value)}", page, flags=re.MULTILINE | re.DOTALL)
    return page


def main(wanted: list[str]) -> None:
    """Draws these cards, or all of them, and writes their seconds."""
    import torch

    matplotlib.use("svg")
    matplotlib.rcParams.update(STYLE)
    torch.set_num_threads(1)
    known = blocks()
    if unknown := set(wanted) - known.keys():
        sys.exit(f"no such card: {', '.join(sorted(unknown))}; the gallery has {', '.join(known)}")
    PICTURES.mkdir(exist_ok=True)
    draw("warm", WARM, Path(os.environ["CREDO_CACHE"]))  # before any clock runs, so that no import is counted
    for name in wanted or known:
        took = draw(name, known[name])
        measured = (seconds() if SECONDS.exists() else {}) | {name: took}
        print(f"{name}: {told(took)}", flush=True)
        lines = [f"{name},{measured[name]:.3g}\n" for name, block in known.items() if block and name in measured]
        SECONDS.write_text("card,seconds\n" + "".join(lines))
        PAGE.write_text(with_seconds(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CREDO_CACHE"] = cache
        main(sys.argv[1:])
