"""Pictures as SVG files: small, sharp at any size, and readable on light and dark pages."""

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.9, 2.9  # inches; SMALL text is 11 pixels high on a phone of 390 pixels and 15 beside another picture
SIZE = 9  # points of all text except for headlines
CROWD = 3000  # points of a line or a scatter plot, above which they are pixels
SHARPNESS = 220  # pixels an inch of what is drawn as pixels
DARK = {  # {colour on white paper: colour where the reader prefers dark}
    "#ffffff": "#211f1c",
    "#000000": "#e9e5db",
    "#262626": "#d9d5cb",
    "#595959": "#aaa69c",
    "#666666": "#a5a198",
    "#737373": "#a09c93",
    "#1f6fb2": "#63a9e0",
    "#e0e0e0": "#45413a",
}


class Picture(NamedTuple):
    """A picture of the page: the name of its file, its headline, and one sentence that says what is drawn."""

    file: str
    headline: str
    sentence: str


def drawing() -> AbstractContextManager[Any]:
    """Settings of matplotlib in which a figure of WIDTH by HEIGHT has text that can be read."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "font.size": SIZE,
            "axes.labelsize": SIZE,
            "xtick.labelsize": SIZE,
            "ytick.labelsize": SIZE,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )


def save(figure: "Figure", path: Path, headline: str = "", sentence: str = "") -> None:
    """Writes a figure as SVG: text as text, images and crowds of points as pixels, colours for light and dark.

    The same figure makes the same file. headline, sentence: the title and the description inside of the file.
    """
    import matplotlib

    for ax in figure.axes:
        for artist in (*ax.lines, *ax.collections):
            artist.set_rasterized(_points(artist) > CROWD)
    said = {key: words for key, words in (("Title", headline), ("Description", sentence)) if words}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "credo"}):
        figure.savefig(path, format="svg", dpi=SHARPNESS, metadata={**said, "Date": None, "Creator": None})
    text = re.sub(
        r' d="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), path.read_text(encoding="utf-8")
    )
    before, style, after = text.partition("</style>")
    path.write_text(f"{before}\n{_dark()}  {style}{after}", encoding="utf-8")


def size(path: Path) -> tuple[float, float] | None:
    """(width, height) of a picture that `save` wrote, in points; None if there is no such file."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.parse(path).getroot()
        return float(root.attrib["width"].removesuffix("pt")), float(root.attrib["height"].removesuffix("pt"))
    except (OSError, ElementTree.ParseError, KeyError, ValueError):
        return None


def _points(artist: Any) -> int:
    """How many points a line has, or how many markers or paths a collection."""
    if hasattr(artist, "get_xdata"):
        return len(artist.get_xdata())
    return max(len(artist.get_offsets()), len(artist.get_paths()))


def _dark() -> str:
    """Style that swaps the colours of DARK where the reader prefers dark."""
    rules = [
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important }}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    ]
    black = 'text:not([style*="fill:"]), use:not([style*="fill:"]), :not(defs) > path:not([style*="fill:"])'
    text = f"{black} {{ fill: {DARK['#000000']} }}"  # matplotlib does not write that a shape is black
    return "@media (prefers-color-scheme: dark) {\n" + "\n".join([*rules, text]) + "\n}\n"
