"""What all plots share: colours, the size of text, headlines, new Axes, and the names of things side by side."""

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PRIOR, FIT, EXACT, POINTS = "0.6", "#1f6fb2", "black", ("#d1495b", "#edae49", "#66a182")
SERIES = (FIT, *POINTS, "#7b5ea7", "#8c6d46", "#4d4d4d", "#b279a2")  # colours of several things side by side
SMALL = 9  # points: the smallest text that can be read in a picture of 6 by 4 inches
LETTERS = 12.5  # of a headline in an inch
WIDEST = 36  # characters of a name that an axis shows


def axes(ax: "Axes | None", size: tuple[float, float] = (6, 4)) -> "Axes":
    """The Axes that the caller gave, or those of a new figure of this size in inches; ValueError for anything else."""
    from matplotlib.axes import Axes

    if isinstance(ax, Axes):
        return ax
    if ax is not None:
        raise ValueError(
            f"ax: got {type(ax).__name__}, wanted one matplotlib Axes, such as matplotlib.pyplot.subplots()[1]; "
            f"several things to draw side by side go into one list or dictionary"
        )
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def empty_figure(figure: "Figure | None", size: tuple[float, float]) -> "Figure":
    """The Figure (or SubFigure) that the caller gave, or a new one of this size in inches; ValueError otherwise."""
    from matplotlib.figure import FigureBase

    if isinstance(figure, FigureBase):
        return figure
    if figure is not None:
        raise ValueError(f"figure: got {type(figure).__name__}, wanted a matplotlib Figure or SubFigure")
    from matplotlib import pyplot

    return pyplot.figure(figsize=size, layout="constrained")


def side_by_side(name: str, given: Any, one: str = "fit") -> dict[str, Any]:
    """{label: thing} of a mapping, of a list, or of one thing alone; ValueError if there is none, or too many.

    name: of the plot, for the error. one: the label of a thing that has none.
    """
    if isinstance(given, Mapping):
        found = {str(label): value for label, value in given.items()}
    elif isinstance(given, list | tuple):
        found = {f"{one} {i}": value for i, value in enumerate(given, 1)} if len(given) != 1 else {one: given[0]}
    else:
        found = {one: given}
    if not 0 < len(found) <= len(SERIES):
        raise ValueError(f"{name}: got {len(found)} to draw, wanted 1 to {len(SERIES)}, one for each colour")
    return found


def legend(ax: "Axes", **where: Any) -> None:
    """A legend in small text, without a frame, on a ground that hides what lies behind its words."""
    ax.legend(framealpha=0.75, edgecolor="none", fontsize=SMALL, **{"handlelength": 1.5, **where})


def headline(ax: "Axes", words: str) -> None:
    """Sets the title of an Axes, what the picture shows, in as many lines as its width asks for."""
    inches = ax.bbox.width / ax.get_figure(root=True).dpi  # type: ignore[union-attr]  # an Axes has a Figure
    ax.set_title(lines(words, inches), fontsize=SMALL + 2)


def lines(words: str, inches: float) -> str:
    """A headline in as few lines as fit into a width, all of similar length; a number stays with its unit."""
    for together in (" %", " ±", "± ", " nats", "−ELBO "):
        words = words.replace(together, together.replace(" ", "\u00a0"))
    letters = max(20, round(LETTERS * inches))
    tried = [textwrap.wrap(words, width, break_on_hyphens=False) for width in range(letters, letters // 2, -1)]
    return "\n".join([each for each in tried if len(each) == len(tried[0])][-1])


def plus_minus(mean: float, sd: float) -> str:
    """A mean ± an sd, both to the second digit of the sd; the mean alone where the sd is no positive number."""
    if not (math.isfinite(sd) and sd > 0):
        return f"{mean:.4g}"
    digits = 1 - math.floor(math.log10(sd))
    if digits > 6:
        return f"{mean:.4g} ± {sd:.2g}"
    digits = max(0, digits)
    return f"{mean:,.{digits}f} ± {sd:,.{digits}f}".replace("-", "−")


def thousands(*ticks: "Axis") -> None:
    """Numbers at ticks with commas and without an offset."""
    for axis in ticks:
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))


def shortened(name: str, letters: int = WIDEST) -> str:
    """The name, without its middle if it is longer than so many letters."""
    half = letters // 2
    return name if len(name) <= letters else f"{name[: half - 1]}…{name[-half:]}"
